//! Audiences as objects in a bucket: an object a change, through the API of Amazon S3
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>), which MinIO, Ceph, Cloudflare R2 and Google Cloud Storage speak, too.
//!
//! Class S: an object that is put again replaces itself. Not supported: Parquet, objects with everybody in them, buckets as host names.

mod settings;

use connector::http::outcome;
use connector::{
    AudienceKind, Audiences, Built, Change, Changed, Connector, Exchange, HttpReply, HttpRequest,
    Idempotency, Identifier, Kind, Member, Method, Opened, Outcome, Reach, Reply, Request, SettingsMistake,
    once, read_settings, schema_of, settled,
};
use jiff::Timestamp;
use model::Reason;
use model::id::sha256_hex;
use model::profile::Profile;
use model::settings::ConnectorSettings;
use serde_json::json;

pub use self::settings::{Format, Settings};
use crate::aws_sign::Credentials;
use crate::identifiers;
use crate::over_http::{Api, percent};

/// Audiences as objects in a bucket.
pub const KIND: Kind = Kind {
    name: "object_storage",
    messages: None,
    idempotency: Idempotency::Natural,
    audiences: Some(AudienceKind {
        identifiers: &[
            Identifier { column: "id", normaliser: "as it is/1", is_hashed: false },
            Identifier { column: "email", normaliser: "lower case/1", is_hashed: false },
        ],
        members_max: 10_000,
        bytes_max: 8 * 1024 * 1024,
        people_min: 0,
        renew_after: None,
    }),
    records: None,
    summary: "Audiences as objects in a bucket of S3, or of a service that speaks like it: who came and who left.",
    example: settings::EXAMPLE,
    schema: schema_of::<Settings>,
    build,
};

#[derive(Debug)]
struct Bucket {
    api: Api,
    bucket: String,
    credentials: Credentials,
    prefix: String,
    format: Format,
    columns: Vec<String>,
}

impl Connector for Bucket {
    fn audiences(&self) -> Option<&dyn Audiences> {
        Some(self)
    }

    fn reach(&self) -> Reach {
        self.api.reach.clone()
    }

    fn connections(&self) -> usize {
        self.api.connections
    }
}

impl Audiences for Bucket {
    fn member(&self, profile: &Profile) -> Option<Member> {
        identifiers::columns(profile, &self.columns)
    }

    fn open(&self, name: &str, _at: Timestamp) -> Box<dyn Exchange<Opened>> {
        settled(Opened::Found { id: name.to_owned() })
    }

    fn change(&self, change: &Change) -> Box<dyn Exchange<Changed>> {
        let (name, request) = self.put(change);
        once(Request::Http(request), move |reply| Changed::All(judge(&reply, name)))
    }
}

impl Bucket {
    /// Names sort by time; the key keeps apart what is put at once.
    fn put(&self, change: &Change) -> (String, HttpRequest) {
        let (stamp, verb) = (change.at.strftime("%Y%m%dT%H%M%SZ"), change.verb.as_str());
        let ending = match self.format {
            Format::Jsonl => "jsonl",
            Format::Csv => "csv",
        };
        let name = format!("{}{}/{stamp}-{verb}-{}.{ending}", self.prefix, change.audience, change.key);
        let path: Vec<String> = name.split('/').map(percent).collect();
        let url = format!("{}/{}/{}", self.api.base, percent(&self.bucket), path.join("/"));
        let (kind, body) = match self.format {
            Format::Jsonl => ("application/x-ndjson", lines(change)),
            Format::Csv => ("text/csv; charset=utf-8", self.csv(change)),
        };
        let request =
            HttpRequest { method: Method::Put, url, headers: Vec::new(), body: body.into_bytes().into() };
        let hash = sha256_hex(&request.body);
        let request = request.header("content-type", kind).header("x-amz-content-sha256", hash);
        (name, self.credentials.sign("s3", request, change.at))
    }

    fn csv(&self, change: &Change) -> String {
        let names = ["at", "do", "id"].into_iter().chain(self.columns.iter().map(String::as_str));
        let mut text = row(names.map(str::to_owned));
        for member in &*change.members {
            let known = ["id"].into_iter().chain(self.columns.iter().map(String::as_str));
            let values = known.map(|name| member.get(name).unwrap_or_default());
            text.push_str(&row([change.at.to_string(), change.verb.as_str().to_owned()]
                .into_iter()
                .chain(values)));
        }
        text
    }
}

fn lines(change: &Change) -> String {
    let line = |member: &Member| json!({ "at": change.at.to_string(), "do": change.verb.as_str(), "member": member.identifiers() });
    change.members.iter().map(|member| format!("{}\n", line(member))).collect()
}

/// A record of RFC 4180. What a spreadsheet would take for a formula is kept from it by an apostrophe.
fn row(values: impl Iterator<Item = String>) -> String {
    let field = |value: String| {
        let value = if value.starts_with(['=', '@', '+', '-']) { format!("'{value}") } else { value };
        format!("\"{}\"", value.replace('"', "\"\""))
    };
    values.map(field).collect::<Vec<_>>().join(",") + "\r\n"
}

/// Errors are XML: `<Error><Code>NoSuchBucket</Code><Message>...`.
fn judge(reply: &Reply, name: String) -> Outcome {
    let mut said = None;
    if let Reply::Http(answer) = reply
        && !(200..300).contains(&answer.status)
    {
        let code = code(answer);
        let detail = format!("HTTP {}: {}", answer.status, connector::Said::of(&code));
        match (answer.status, code.as_str()) {
            (404, _)
            | (301 | 307 | 400, "PermanentRedirect" | "AuthorizationHeaderMalformed" | "InvalidBucketName") =>
            {
                return Outcome::Halt { reason: Reason::FailRemote4xx, detail };
            }
            // A clock that is wrong, or a session that is over: it is not about this object.
            (400 | 403, _) => return Outcome::Halt { reason: Reason::FailAuth, detail },
            (_, _) => said = Some(code),
        }
    }
    outcome(KIND.idempotency, reply, |_: &HttpReply| Some(name), |_| said)
}

fn code(answer: &HttpReply) -> String {
    let text = String::from_utf8_lossy(&answer.body);
    let inner = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    inner.map(|(code, _)| code.to_owned()).unwrap_or_default()
}

fn build(settings: &ConnectorSettings) -> Built {
    let settings: Settings = read_settings(&KIND, settings)?;
    let mut mistakes = Vec::new();
    let own = format!("https://s3.{}.amazonaws.com", settings.region);
    let api = Api::of(&own, settings.base_url.as_deref(), settings.connections, &mut mistakes);
    let credentials = Credentials::of(
        &settings.region,
        &settings.access_key_id,
        &settings.secret_access_key,
        settings.session_token.as_deref(),
        &mut mistakes,
    );
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    // The rules of S3 for names of buckets, without those about the look of addresses.
    if !(3..=63).contains(&settings.bucket.len()) || !settings.bucket.chars().all(plain) {
        mistakes.push(SettingsMistake::new(
            "bucket",
            "expected 3 to 63 lower-case letters, digits, dots and dashes",
        ));
    }
    let is_relative = settings.prefix.split('/').any(|part| part == ".." || part == ".");
    if settings.prefix.starts_with('/') || is_relative || settings.prefix.len() > 512 {
        mistakes
            .push(SettingsMistake::new("prefix", "expected the beginning of a name, such as `drumbeat/`"));
    }
    match api {
        Some(api) if mistakes.is_empty() => Ok(Box::new(Bucket {
            api,
            bucket: settings.bucket,
            credentials,
            prefix: settings.prefix,
            format: settings.format,
            columns: settings.columns,
        })),
        _ => Err(mistakes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_spreadsheet_takes_for_a_formula_is_text() {
        let fields = ["=1+1", "a \"b\"", "", "x,y"].map(str::to_owned);
        assert_eq!(row(fields.into_iter()), "\"'=1+1\",\"a \"\"b\"\"\",\"\",\"x,y\"\r\n");
    }
}
