//! What the connector `salesforce` takes.

use schemars::JsonSchema;
use serde::Deserialize;

/// Every setting once. The key was made for tests: it opens nothing.
pub(super) const EXAMPLE: &str = r#"{
    "my_domain": "https://acme.my.salesforce.com", "client_id": "3MVG9.drumbeat", "client_secret": "7A9C-correct-horse-battery",
    "username": "drumbeat@acme.test", "audience": "https://test.salesforce.com",
    "private_key": "This key is for tests: it opens nothing.\n-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQCzOd9HQpNhAuHs\nz9c/cyYe74ibvDnmIb8uxxyXVwi1dDLrFjN2eWX5XXZ70Q7SbrdNwMJnWgRpguM8\na3FgnwYFat0vOC1m1OIRPsWzS6ENUc6Xr0a8ZAjfoVPhg6K162l2vVZVhmayiRA6\ngTwZE6jFpx47UGtRfnz7JvUt8ReKTI0mI9zfdgm6SyNPu/J+ZUEgTY1MPInO67sH\n68bk7yR00AwjciPYng2/PN2G7hYFq5qwekiDUrna4ZWEAd0R4euNL12jb1J/hYsa\nKVjtvvq1MROuUxoQpypg7jfeQqFeNfKIbwEMCu/OjkMm+vzHz9lMbrQp/uNV2TUn\nVBqSkHpdAgMBAAECggEAF64WzSCDvnaWCSbw5qY9LCsz3nfBIqHk07ZlFa3fLbJb\no+n8BLRHf+oUZImbrrwIJhLI3MTs/k/X3DzJ7x0zu3WCIeIHRaXs9KBZmLXuYocj\nh7EV5IBHF90F6y7sSaL//TtI8+XdHcu0RDadDScmzm6lNOsMMulGdBySmm5XUONR\nyLd2lnZZAzcx8uoyZA+rW+Vs6tBKsS8ZXfLTijwhAyLPYT33NOkQIF89kiiSlkRY\nJ8VbsKI0XevSOJtawEH2D4YaarA77JszRzGzkrxxywCofWTW8VcYy9k9FTbJBfdj\nRQtKEH+O/SyHfBzoGmvtPW4f5Wt+6GjFUckrBCdX9QKBgQDbOBbRMQUpttsdSgJQ\nneOAGniVE4dqXlzHFNtvgT9x8KB6Ny6cK2B+RHm0DwCxukRKE7w5YXey4+/p8JAX\n3WtTMTDVTkCWbtlbdRfa1FobRRPErShVk0MSZV14uVc0wNic8eOEos8kbYlaB78h\nYIHavsN8W6Sag3/+wQWlHY1+YwKBgQDRS///ppuzPGcH8NkjoOHMCJ4LSJtqjJ8U\nM/tlKinSSlzZBjYYKaPxDzmZehxgoh5d0wIDuHX5r7ehc8OBg3BY/PBulo9sIIuM\n2bGmph7++F1NK4X+dfCFhWyXVjy/4EHVDtOmZiuE/ljEFo9Pwplsds358NfOXitG\n8HohsOYgPwKBgFLCAPMmQ2G1E1EiUG9ou6rv01fMEJIaX4IUoKaer3nvMlYRIPp5\n8aqZZSyRgVyXChLBEozC+/I/1KGHXI5123+DkYDlUsK3xDyfnsrQ4ddro4PbLt/n\ngSmftMLPjVlv+BZ/xrma0QJai8C+LeyGx17yJ1B6NFDUlexxqBTmbDUrAoGBAJU3\nXfhiTDdpJPugVu7z0IeqzSK2TTeVsgSxWtYxTUfEBJYlu4NWjK9cb3BggsLSUlwK\nCDGm3VV6Va0h340CrKKFEtWFOhOY0GVG/0UUwpx9beeK1Ckq5KQND/KFZSJXPBgu\nTe8ggH5858RFYT84OjH+MbO0ZeeXc7tLz4cdm7P5AoGACEgVCUqFwgFQIyvgrpCx\njeq/6fy5+2KTRxJunieOwJWMBIDxx9QRuI64POd+Fkhw1MDiwIGpS9LlYlvOkCmw\nDlAfF8sIKv8aTlg7M+GuTwaF2Qf2HqsjKoh9phfEmhOHY3KTiQeWy4cBjLPX0oij\nG9IK0UWI3unE1MnaEqeb6c8=\n-----END PRIVATE KEY-----",
    "version": "67.0", "base_url": "http://127.0.0.1:4010", "connections": 4
}"#;

/// Settings of an org at Salesforce. There is no `Debug`: they hold secrets.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The org's own address: `https://acme.my.salesforce.com`; of a sandbox, `https://acme--dev.sandbox.my.salesforce.com`.
    pub my_domain: String,
    /// The consumer key of the app through which Drumbeat comes in.
    pub client_id: String,
    /// Its consumer secret: `{env: NAME}`, not the text itself. Not needed with a `private_key`, which goes before it.
    #[schemars(extend("writeOnly" = true))]
    pub client_secret: Option<String>,
    /// With a `private_key`: the user as whom Drumbeat comes in. With a `client_secret`, the app says who that is.
    pub username: Option<String>,
    /// Instead of a secret, the key whose certificate the app has: a text that begins with `-----BEGIN PRIVATE KEY-----`. As `{env: NAME}`, not the
    /// text itself.
    #[schemars(extend("writeOnly" = true))]
    pub private_key: Option<String>,
    /// With a `private_key`: for whom its statements are. `https://login.salesforce.com`, or of a sandbox `https://test.salesforce.com`.
    #[serde(default = "audience")]
    pub audience: String,
    /// The version of the API.
    #[serde(default = "version")]
    pub version: String,
    /// Another beginning of all addresses than `my_domain`: for tests against a server of one's own.
    pub base_url: Option<String>,
    /// How many conversations at the same time, at most.
    #[serde(default = "crate::over_http::connections")]
    #[schemars(range(min = 1, max = 200))]
    pub connections: u16,
}

fn audience() -> String {
    "https://login.salesforce.com".to_owned()
}

fn version() -> String {
    "67.0".to_owned()
}
