//! What the connector `linkedin_ads` takes.

use schemars::JsonSchema;
use serde::Deserialize;

/// Every setting once.
pub(super) const EXAMPLE: &str = r#"{
    "token": "AQX-correct-horse-battery", "account": "512345678", "source_platform": "ACME", "version": "202604",
    "identifiers": ["email", "first_name", "last_name", "title", "company", "country"],
    "base_url": "http://127.0.0.1:4010", "connections": 4
}"#;

/// Settings of an account at LinkedIn. There is no `Debug`: they hold a secret.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The access token: `{env: NAME}`, not the text itself. With the right `rw_dmp_segments`. It is good for 60 days.
    #[schemars(extend("writeOnly" = true))]
    pub token: String,
    /// The account whose audiences these are: the digits of `urn:li:sponsoredAccount:512345678`.
    pub account: String,
    /// The name that LinkedIn gave to you as a partner, in capitals.
    pub source_platform: String,
    /// The version of the API, as year and month. LinkedIn serves each for about a year: then the destination is held until this names a newer one.
    #[serde(default = "version")]
    pub version: String,
    /// What people are known by: `email`, and in the clear `first_name`, `last_name`, `title`, `company`, `country`.
    #[serde(default = "email")]
    pub identifiers: Vec<Known>,
    /// Another beginning of its addresses than `https://api.linkedin.com`: for tests against a server of one's own.
    pub base_url: Option<String>,
    /// How many conversations at the same time, at most.
    #[serde(default = "crate::over_http::connections")]
    #[schemars(range(min = 1, max = 200))]
    pub connections: u16,
}

/// One thing that people are known by: a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// `email`, hashed.
    Email,
    /// `first_name`.
    FirstName,
    /// `last_name`.
    LastName,
    /// `title`: what somebody does.
    Title,
    /// `company`: for whom.
    Company,
    /// `country`, by its two letters.
    Country,
}

fn version() -> String {
    "202604".to_owned()
}

fn email() -> Vec<Known> {
    vec![Known::Email]
}
