//! What the connector `postmark` takes.

use schemars::JsonSchema;
use serde::Deserialize;

/// Every setting once.
pub(super) const EXAMPLE: &str = r#"{
    "token": "correct-horse-battery", "message_stream": "broadcast", "webhook_username": "postmark",
    "webhook_password": "correct-horse", "base_url": "http://127.0.0.1:4010", "connections": 8
}"#;

/// Settings of a server at Postmark. There is no `Debug`: they hold a secret.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The server's token: `{env: NAME}`, not the text itself.
    #[schemars(extend("writeOnly" = true))]
    pub token: String,
    /// The message stream, as Postmark calls it: `broadcast` for marketing, `outbound` (unless given) for what people asked for.
    pub message_stream: Option<String>,
    /// The name in the address that Postmark's webhooks are given: `https://NAME:PASSWORD@mail.acme.example/in/DESTINATION`.
    pub webhook_username: Option<String>,
    /// The password in that address: `{env: NAME}`, not the text itself.
    #[schemars(extend("writeOnly" = true))]
    pub webhook_password: Option<String>,
    /// Another beginning of its addresses than `https://api.postmarkapp.com`: for tests against a server of one's own.
    pub base_url: Option<String>,
    /// How many messages at the same time, at most.
    #[serde(default = "crate::over_http::connections")]
    #[schemars(range(min = 1, max = 200))]
    pub connections: u16,
}
