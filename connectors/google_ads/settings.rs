//! What the connector `google_ads` takes.

use schemars::JsonSchema;
use serde::Deserialize;

/// Every setting once. The key was made for tests: it opens nothing.
pub(super) const EXAMPLE: &str = r#"{
    "client_email": "drumbeat@project.iam.gserviceaccount.com",
    "private_key": "This key is for tests: it opens nothing.\n-----BEGIN PRIVATE KEY-----\nMIIEvwIBADANBgkqhkiG9w0BAQEFAASCBKkwggSlAgEAAoIBAQDbdDmYiZK2QvS6\n1Bt5EMsK/sskDI4hDvef6H57G4vaBvPamxxeS2FZHc3VAGdCH5TKxcVvrwZNbRpV\nJvHwLYK02uQRCaYyccDDkAcOPu1bKH+g7m4Lf41KGL+qFQbPEZ/3AsWILj7QnTMM\npPTwNfqFxWfumHYr73Hj7VOkvDX4QYt2WG/lmrAtLA/AOCWlT9u+2DNh4PpzrTRa\nmEfLb7whxpA5WAXJvV1NS+zP6s6tcOcaVNB6o+KJ8MB7E0BAsbTBRuXJXOvgORLp\nQn4QccUp0gk7fU1oKbuZl2QPU57ZfQ9VNHUBgq6nDo8joe7Tn9yhPmICdfxuJRxK\nn2AlC6ZFAgMBAAECggEAW2U2L37sKRgNkFmR74O87CFdPPA1qTLwkhpjwqWgQvcu\nS9bZo7PFITY2aQU3++PnNePT7EV6XHiZxOjpTdvGWcfnv+jC3LNfUpMDPT2b4KEn\nNkDWd9dxYnCYMh97rHVsp5Tx61tHMd6mShfRItF4OooSVN4OKRIZ3pESisMPvwnX\njhgdzxHs96/fJVDCFnrhWewZbJAcHp2SveHDzPkQ+nvwykE9ouPWCVbzVAQHrUPq\nF5fWw9Y3F9MOeqs8QEIKWFR0NJEv67q93HmDf/9Ep7xgfkOvYMtEacTXOt9E3tuO\nLjRYmD3HzRA8u8UygOPOp62vBAtlu8o0ZyKqndCoqQKBgQD3TUfcAQ9nobB1PUdW\nb9XBrSb3B1n14nkttUVc+PmaKCA7eYEAvm3vwde3LwEhkvcTumDHtWODzGKc4aMg\nbNOT+hQ5pizScBzqxnys5sfUXVVjrAT+YQq45qsiYmDy2tI9k+zz35+giMHNDu/g\nNQzC+TmcuLX0xVXAWfhigfKxcwKBgQDjLDNWpzlwVfAH8Ek5ilUOEyRTluW0ksNZ\nNTxkG+TFoVzXXUgKuhI/QYkQGiM2Rg5hwgsMPnE1gintXttz9xM1omLIkOnJhGtg\n7P9U2nnkuj5nOCC1e7zo88dZS6RRtT3gugiUisg2B2ny1aq9F+JcKSZ+Br17Ft4t\nPLCnYUx7ZwKBgQCSZjiNID+LXOfGb/FkVS5YynWPtdVmv5x3F6GpaWbyAKEcNFDP\nLOyOC9X1BqmHw6XrEuGqOFJiOsOCFf1o+6PBLUF940cTiPVFcx1pifFwYZRkPfhy\n0uXzEfLrlwvHmQzvETwsHw0zjuITz6znsOAOKFYX1i05avzZsylcv4r5ywKBgQCM\n2AKcXuFFvIIs6dT8T7+cElIbYRrZcYSb8l2W05Rq0zh0bekUfXiCr2cDDLF4HMcd\n5OhklvIpcqH8ASueIjlOr3b/Upkfz3Gjjkxfl3SrUq0N4calvinJZBrcSgF+hxfu\nFGjtb33hwYb2f3Jz+jLlYL30tMkVX4AwG8iKfdClUQKBgQDwtk1bnIo1SCVz9UQv\nA17ms9uA3e4/xUnkQJk1jQhzJgdt6i1ZRItfIu5waeC63PDKSgka/4ErbLg5s3CC\ng74ljxYro7unXh6jTtCvXjSFSKWTrAMv7LKT/7rfXF1AerjwwbRWdYRW3EOv9w39\nHLPY0JcG/XFwlDtRo/g4tiOKuA==\n-----END PRIVATE KEY-----",
    "operating_account": "123-456-7890", "login_account": "987-654-3210", "identifiers": ["email", "phone", "address"],
    "token_url": "http://127.0.0.1:4010/token", "base_url": "http://127.0.0.1:4010", "connections": 8
}"#;

/// Settings of an account at Google Ads. There is no `Debug`: they hold a secret.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The service account: `client_email` in the file of its key.
    pub client_email: String,
    /// Its key: `private_key` in the same file, a text that begins with `-----BEGIN PRIVATE KEY-----`. As `{env: NAME}`, not the text itself.
    #[schemars(extend("writeOnly" = true))]
    pub private_key: String,
    /// The account at Google Ads whose audiences these are: ten digits, with dashes or without.
    pub operating_account: String,
    /// The account in which the service account is a user, where that is another: the manager account above it, as a rule.
    pub login_account: Option<String>,
    /// What people are known by: `email`, `phone`, and `address`, which is `first_name`, `last_name`, `country` and `postal_code` together.
    #[serde(default = "email_and_phone")]
    pub identifiers: Vec<Known>,
    /// Another address than `https://oauth2.googleapis.com/token` to get tokens from: for tests against a server of one's own.
    pub token_url: Option<String>,
    /// Another beginning of its addresses than `https://datamanager.googleapis.com`: for tests against a server of one's own.
    pub base_url: Option<String>,
    /// How many conversations at the same time, at most.
    #[serde(default = "crate::over_http::connections")]
    #[schemars(range(min = 1, max = 200))]
    pub connections: u16,
}

/// One thing that people are known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// The column `email`.
    Email,
    /// The column `phone`.
    Phone,
    /// The columns `first_name`, `last_name`, `country` and `postal_code`.
    Address,
}

fn email_and_phone() -> Vec<Known> {
    vec![Known::Email, Known::Phone]
}
