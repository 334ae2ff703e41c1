//! What the connector `resend` takes.

use schemars::JsonSchema;
use serde::Deserialize;

/// Every setting once.
pub(super) const EXAMPLE: &str = r#"{
    "token": "re_correct-horse-battery", "webhook_secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "base_url": "http://127.0.0.1:4010", "connections": 8
}"#;

/// Settings of an account at Resend. There is no `Debug`: they hold a secret.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The API key: `{env: NAME}`, not the text itself. "Sending access" is enough.
    #[schemars(extend("writeOnly" = true))]
    pub token: String,
    /// The signing secret of its webhook: `{env: NAME}`. Its events are told to `https://mail.acme.example/in/DESTINATION`.
    #[schemars(extend("writeOnly" = true))]
    pub webhook_secret: Option<String>,
    /// Another beginning of its addresses than `https://api.resend.com`: for tests against a server of one's own.
    pub base_url: Option<String>,
    /// How many messages at the same time, at most.
    #[serde(default = "crate::over_http::connections")]
    #[schemars(range(min = 1, max = 200))]
    pub connections: u16,
}
