//! What the connector `meta_ads` takes.

use schemars::JsonSchema;
use serde::Deserialize;

/// Every setting once.
pub(super) const EXAMPLE: &str = r#"{
    "token": "EAAB-correct-horse-battery", "ad_account": "act_1234567890", "app_secret": "a-secret-of-the-app",
    "identifiers": ["email", "phone"], "customer_file_source": "user_provided_only", "customer_consent": true,
    "version": "v26.0", "base_url": "http://127.0.0.1:4010", "connections": 2
}"#;

/// Settings of an ad account at Meta. There is no `Debug`: they hold secrets.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The access token of a system user with `ads_management`: `{env: NAME}`, not the text itself.
    #[schemars(extend("writeOnly" = true))]
    pub token: String,
    /// The number of the ad account, in quotes, with `act_` before it or without.
    pub ad_account: String,
    /// The secret of the app that the token was made for: `{env: NAME}`. With it each request proves that it comes from the app.
    #[schemars(extend("writeOnly" = true))]
    pub app_secret: Option<String>,
    /// Which columns Meta is told of people: `email`, `phone`, `first_name`, `last_name`, `city`, `state`, `postal_code` and `country`, all of
    /// them hashed, and `id`, which is not. No other leaves.
    #[serde(default = "identifiers")]
    pub identifiers: Vec<String>,
    /// Where you have your customers' data from, as Meta is told when an audience is made: `user_provided_only` (from themselves),
    /// `partner_provided_only` or `both_user_and_partner_provided`.
    #[serde(default)]
    pub customer_file_source: Source,
    /// `true` tells Meta with everybody who is added that they consented. Without it Meta is told nothing about consent.
    #[serde(default)]
    pub customer_consent: bool,
    /// The version of Meta's Graph API.
    #[serde(default = "version")]
    pub version: String,
    /// Another beginning of its addresses than `https://graph.facebook.com`: for tests against a server of one's own.
    pub base_url: Option<String>,
    /// How many changes at the same time, at most.
    #[serde(default = "connections")]
    #[schemars(range(min = 1, max = 200))]
    pub connections: u16,
}

fn identifiers() -> Vec<String> {
    vec!["email".to_owned(), "phone".to_owned()]
}

fn version() -> String {
    "v26.0".to_owned()
}

/// Meta works on one change of an audience after the other; more would only wait there.
fn connections() -> u16 {
    2
}

/// Where customers' data are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Source {
    /// From the customers themselves.
    #[default]
    UserProvidedOnly,
    /// From partners.
    PartnerProvidedOnly,
    /// From both.
    BothUserAndPartnerProvided,
}

impl Source {
    /// Meta's word.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::UserProvidedOnly => "USER_PROVIDED_ONLY",
            Self::PartnerProvidedOnly => "PARTNER_PROVIDED_ONLY",
            Self::BothUserAndPartnerProvided => "BOTH_USER_AND_PARTNER_PROVIDED",
        }
    }
}
