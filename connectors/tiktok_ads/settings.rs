//! What the connector `tiktok_ads` takes.

use schemars::JsonSchema;
use serde::Deserialize;

/// Every setting once.
pub(super) const EXAMPLE: &str = r#"{
    "token": "correct-horse-battery", "advertiser": "7000000000000000001", "identifiers": ["email", "phone"],
    "base_url": "http://127.0.0.1:4010", "connections": 2
}"#;

/// Settings of an ad account at TikTok. There is no `Debug`: they hold a secret.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The long-lived access token of an app with "Audience Management": `{env: NAME}`, not the text itself.
    #[schemars(extend("writeOnly" = true))]
    pub token: String,
    /// The number of the ad account ("advertiser ID"), in quotes.
    pub advertiser: String,
    /// Which columns TikTok is told of people, hashed: `email`, `phone`. No other leaves.
    #[serde(default = "identifiers")]
    pub identifiers: Vec<String>,
    /// Another beginning of its addresses than `https://business-api.tiktok.com`: for tests against a server of one's own.
    pub base_url: Option<String>,
    /// How many changes at the same time, at most.
    #[serde(default = "connections")]
    #[schemars(range(min = 1, max = 200))]
    pub connections: u16,
}

fn identifiers() -> Vec<String> {
    vec!["email".to_owned(), "phone".to_owned()]
}

/// An app may make 10 or 20 requests a second, for all its accounts.
fn connections() -> u16 {
    2
}
