//! What the connector `pipedrive` takes.

use schemars::JsonSchema;
use serde::Deserialize;

/// Every setting once.
pub(super) const EXAMPLE: &str = r#"{
    "token": "f00dcorrecthorsebattery", "base_url": "http://127.0.0.1:4010", "connections": 2
}"#;

/// Settings of a company at Pipedrive. There is no `Debug`: they hold a secret.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The API token of a user: `{env: NAME}`, not the text itself.
    #[schemars(extend("writeOnly" = true))]
    pub token: String,
    /// Another beginning of its addresses than `https://api.pipedrive.com`: the company's own, or for tests against a server of one's own.
    pub base_url: Option<String>,
    /// How many conversations at the same time, at most.
    #[serde(default = "crate::over_http::connections")]
    #[schemars(range(min = 1, max = 200))]
    pub connections: u16,
}
