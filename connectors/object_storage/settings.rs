//! What the connector `object_storage` takes.

use schemars::JsonSchema;
use serde::Deserialize;

/// Every setting once.
pub(super) const EXAMPLE: &str = r#"{
    "bucket": "acme-audiences", "region": "eu-central-1", "access_key_id": "AKIDEXAMPLE",
    "secret_access_key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "session_token": "correct-horse-battery",
    "prefix": "drumbeat/", "format": "csv", "columns": ["email", "plan"], "base_url": "http://127.0.0.1:9000", "connections": 2
}"#;

/// Settings of a bucket. There is no `Debug`: they hold a secret.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The bucket.
    pub bucket: String,
    /// Its region, such as `eu-central-1`; what the service says where it has none, such as `us-east-1` or `auto`.
    pub region: String,
    /// The id of the access key. It may `s3:PutObject` below `prefix`, and needs nothing else.
    pub access_key_id: String,
    /// The access key itself: `{env: NAME}`, not the text.
    #[schemars(extend("writeOnly" = true))]
    pub secret_access_key: String,
    /// The token of a session, for keys that are lent.
    #[schemars(extend("writeOnly" = true))]
    pub session_token: Option<String>,
    /// What the names of objects begin with; nothing unless given.
    #[serde(default)]
    pub prefix: String,
    /// `jsonl`: a line of JSON for each who comes or leaves; or `csv`, with a header.
    #[serde(default)]
    pub format: Format,
    /// The columns of `profiles` that people are told by, besides their id; `[email]` unless given.
    #[serde(default = "crate::identifiers::default_columns")]
    pub columns: Vec<String>,
    /// Where the service is, if it is not AWS: MinIO, Ceph, R2, or `https://storage.googleapis.com` with an HMAC key. Buckets are named in the path.
    pub base_url: Option<String>,
    /// How many objects at the same time, at most.
    #[serde(default = "crate::over_http::connections")]
    #[schemars(range(min = 1, max = 200))]
    pub connections: u16,
}

/// How an object is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Format {
    /// A line of JSON each.
    #[default]
    Jsonl,
    /// Comma-separated values (RFC 4180).
    Csv,
}
