//! What the connector `mailgun` takes.

use schemars::JsonSchema;
use serde::Deserialize;

/// Every setting once.
pub(super) const EXAMPLE: &str = r#"{
    "domain": "mg.acme.example", "token": "key-correct-horse-battery", "webhook_signing_key": "correct-horse", "base_url": "http://127.0.0.1:4010", "connections": 8
}"#;

/// Settings of a domain at Mailgun. There is no `Debug`: they hold a secret.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The sending domain, as Mailgun knows it.
    pub domain: String,
    /// The domain's sending key: `{env: NAME}`, not the text itself.
    #[schemars(extend("writeOnly" = true))]
    pub token: String,
    /// The key that Mailgun signs its webhooks with: `{env: NAME}`. They are told to `https://mail.acme.example/in/DESTINATION`.
    #[schemars(extend("writeOnly" = true))]
    pub webhook_signing_key: Option<String>,
    /// Another beginning of its addresses than `https://api.mailgun.net`: for tests against a server of one's own.
    pub base_url: Option<String>,
    /// How many messages at the same time, at most.
    #[serde(default = "crate::over_http::connections")]
    #[schemars(range(min = 1, max = 200))]
    pub connections: u16,
}
