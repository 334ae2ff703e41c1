//! What the connector `ses` takes.

use schemars::JsonSchema;
use serde::Deserialize;

/// Every setting once.
pub(super) const EXAMPLE: &str = r#"{
    "region": "eu-central-1", "access_key_id": "AKIDEXAMPLE", "secret_access_key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    "session_token": "correct-horse-battery", "configuration_set": "campaigns",
    "webhook_topic": "arn:aws:sns:eu-central-1:123456789012:mail", "base_url": "http://127.0.0.1:4010", "connections": 8
}"#;

/// Settings of Amazon SES in a region. There is no `Debug`: they hold a secret.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The region, such as `eu-central-1`.
    pub region: String,
    /// The id of the access key. It may `ses:SendEmail`.
    pub access_key_id: String,
    /// The access key itself: `{env: NAME}`, not the text.
    #[schemars(extend("writeOnly" = true))]
    pub secret_access_key: String,
    /// The token of a session, for keys that are lent.
    #[schemars(extend("writeOnly" = true))]
    pub session_token: Option<String>,
    /// The configuration set, whose events tell what became of messages.
    pub configuration_set: Option<String>,
    /// The ARN of the SNS topic that the configuration set's events go to. It tells them to `https://mail.acme.example/in/DESTINATION`, signed
    /// with version 2.
    pub webhook_topic: Option<String>,
    /// Another beginning of its addresses than `https://email.REGION.amazonaws.com`: for tests against a server of one's own.
    pub base_url: Option<String>,
    /// How many messages at the same time, at most.
    #[serde(default = "crate::over_http::connections")]
    #[schemars(range(min = 1, max = 200))]
    pub connections: u16,
}
