//! What the connector `webhook` takes.

use schemars::JsonSchema;
use serde::Deserialize;

/// Every setting once.
pub(super) const EXAMPLE: &str = r#"{
    "url": "https://hooks.acme.example/messages", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "secret_before": "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "connections": 8, "private": true,
    "columns": ["email", "plan"]
}"#;

/// Settings of a receiver. There is no `Debug`: they hold secrets.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where messages are posted: `https://`, or `http://` to this machine.
    pub url: String,
    /// What they are signed with: `{env: NAME}`, whose text is `whsec_` and 24 to 64 bytes in base64.
    #[schemars(extend("writeOnly" = true))]
    pub secret: String,
    /// The secret before this one: while it is being replaced, messages are signed with both.
    #[schemars(extend("writeOnly" = true))]
    pub secret_before: Option<String>,
    /// How many messages at the same time, at most.
    #[serde(default = "crate::over_http::connections")]
    #[schemars(range(min = 1, max = 200))]
    pub connections: u16,
    /// The columns of `profiles` that members of audiences are told by, besides their id; `[email]` unless given.
    #[serde(default = "columns")]
    pub columns: Vec<String>,
    /// Whether the receiver may have an address that is not public: in your own network.
    #[serde(default)]
    pub private: bool,
}

fn columns() -> Vec<String> {
    vec!["email".to_owned()]
}
