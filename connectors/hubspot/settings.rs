//! What the connector `hubspot` takes.

use schemars::JsonSchema;
use serde::Deserialize;

/// Every setting once.
pub(super) const EXAMPLE: &str = r#"{
    "token": "pat-eu1-correct-horse-battery", "version": "v3", "base_url": "http://127.0.0.1:4010", "connections": 4
}"#;

/// Settings of an account at HubSpot. There is no `Debug`: they hold a secret.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The access token of a private app: `{env: NAME}`, not the text itself. It begins with `pat-`.
    #[schemars(extend("writeOnly" = true))]
    pub token: String,
    /// The version of the API: `v3`, or a year and a month, such as `2026-03`.
    #[serde(default = "version")]
    pub version: String,
    /// Another beginning of its addresses than `https://api.hubapi.com`: for tests against a server of one's own.
    pub base_url: Option<String>,
    /// How many conversations at the same time, at most.
    #[serde(default = "crate::over_http::connections")]
    #[schemars(range(min = 1, max = 200))]
    pub connections: u16,
}

fn version() -> String {
    "v3".to_owned()
}
