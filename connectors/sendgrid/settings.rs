//! What the connector `sendgrid` takes.

use schemars::JsonSchema;
use serde::Deserialize;

/// Every setting once.
pub(super) const EXAMPLE: &str = r#"{
    "token": "SG.correct-horse-battery",
    "webhook_public_key": "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==", "base_url": "http://127.0.0.1:4010", "connections": 8
}"#;

/// Settings of an account at SendGrid. There is no `Debug`: they hold a secret.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The API key: `{env: NAME}`, not the text itself. "Mail Send" is enough.
    #[schemars(extend("writeOnly" = true))]
    pub token: String,
    /// The verification key of the signed event webhook, as SendGrid shows it. Its events are told to `https://mail.acme.example/in/DESTINATION`.
    pub webhook_public_key: Option<String>,
    /// Another beginning of its addresses than `https://api.sendgrid.com`: for tests against a server of one's own.
    pub base_url: Option<String>,
    /// How many messages at the same time, at most.
    #[serde(default = "crate::over_http::connections")]
    #[schemars(range(min = 1, max = 200))]
    pub connections: u16,
}
