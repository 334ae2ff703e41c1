//! HTTP as connectors speak it: one request, one answer, and what an answer means where a provider says nothing else.

use std::fmt;
use std::sync::Arc;

use jiff::SignedDuration;
use model::{Reason, Secret};

use crate::exchange::Reply;
use crate::kind::Idempotency;
use crate::outcome::{Outcome, Schedule};
use crate::said::Said;

/// Of a body that answers, so much is kept.
pub const ANSWER_BYTES_MAX: usize = 2 * 1024 * 1024;

/// What is done with a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Asked for: changes nothing.
    Get,
    /// Given something.
    Post,
    /// Replaced.
    Put,
    /// Changed in part.
    Patch,
    /// Removed.
    Delete,
}

impl Method {
    /// As it stands in a request.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// One request. `Debug` shows neither secrets nor the body, and no query, which may name people.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// What is done.
    pub method: Method,
    /// With what: `https://host/path`. No name or address of a person stands in its path.
    pub url: String,
    /// Headers, their names in lower case.
    pub headers: Vec<(&'static str, HeaderText)>,
    /// The body; empty: none.
    pub body: Arc<[u8]>,
}

/// What a header says.
#[derive(Clone, PartialEq, Eq)]
pub enum HeaderText {
    /// May be shown.
    Plain(String),
    /// May not.
    Secret(Secret),
}

impl HeaderText {
    /// What is sent.
    pub fn reveal(&self) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::Secret(secret) => secret.reveal(),
        }
    }
}

impl fmt::Debug for HttpRequest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}, {} bytes", self.method.as_str(), self.shown_url(), self.body.len())
    }
}

impl HttpRequest {
    /// A request with a JSON body.
    pub fn json(method: Method, url: impl Into<String>, body: &serde_json::Value) -> Self {
        let headers = vec![
            ("accept", HeaderText::Plain("application/json".to_owned())),
            ("content-type", HeaderText::Plain("application/json".to_owned())),
        ];
        Self { method, url: url.into(), headers, body: Arc::from(body.to_string().into_bytes()) }
    }

    /// A question without a body, whose answer is JSON.
    pub fn get(url: impl Into<String>) -> Self {
        Self::json(Method::Get, url, &serde_json::Value::Null).without_body()
    }

    /// The same without a body, and without a header that speaks of one.
    #[must_use]
    pub fn without_body(mut self) -> Self {
        self.body = Arc::default();
        self.headers.retain(|(name, _)| *name != "content-type");
        self
    }

    /// The same with one header more.
    #[must_use]
    pub fn header(mut self, name: &'static str, text: impl Into<String>) -> Self {
        self.headers.push((name, HeaderText::Plain(text.into())));
        self
    }

    /// The same with one header more that is a secret.
    #[must_use]
    pub fn secret(mut self, name: &'static str, text: impl Into<String>) -> Self {
        self.headers.push((name, HeaderText::Secret(Secret::new(text.into()))));
        self
    }

    /// The URL without its query.
    pub fn shown_url(&self) -> &str {
        self.url.split(['?', '#']).next().unwrap_or_default()
    }
}

/// What came back. `Debug` shows the status only: bodies may name people.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpReply {
    /// Its status.
    pub status: u16,
    /// Headers that connectors ask for (see [`HEADERS_KEPT`]), their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The beginning of its body, at most [`ANSWER_BYTES_MAX`].
    pub body: Arc<[u8]>,
    /// Whether there was more of it.
    pub is_cut: bool,
}

/// Headers of answers that are kept.
pub const HEADERS_KEPT: &[&str] = &[
    "retry-after",
    "x-message-id",
    "x-ratelimit-reset",
    "x-amzn-errortype",
    "x-amzn-requestid",
    "x-business-use-case-usage",
    "location",
    "x-restli-id",
];

impl fmt::Debug for HttpReply {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "HttpReply({}, {} bytes)", self.status, self.body.len())
    }
}

impl HttpReply {
    /// A header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, text)| text.as_str())
    }

    /// The body as JSON; `Null` where it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// How long to wait, if the provider says so in seconds. (A date is no use without a clock.)
    pub fn retry_after(&self) -> Option<SignedDuration> {
        let seconds: u32 = self.header("retry-after")?.trim().parse().ok()?;
        Some(SignedDuration::from_secs(i64::from(seconds.min(24 * 3_600))))
    }

    /// What it says, for people: its status, and the message in its body as `message` finds it.
    pub fn said(&self, message: impl FnOnce(&serde_json::Value) -> Option<String>) -> String {
        match message(&self.json()).filter(|text| !text.trim().is_empty()) {
            Some(text) => format!("HTTP {}: {}", self.status, Said::of(&text)),
            None => format!("HTTP {}", self.status),
        }
    }
}

/// What a reply means by its status alone (RFC 9110, section 15), where the provider has no words of its own for it. `receipt` says what the
/// provider called what it took; `None`: a 2xx that shows nothing of the kind, which is not believed.
pub fn outcome(
    class: Idempotency,
    reply: &Reply,
    receipt: impl FnOnce(&HttpReply) -> Option<String>,
    message: impl FnOnce(&serde_json::Value) -> Option<String>,
) -> Outcome {
    let retry = |reason, after, slower, detail: String| Outcome::Retry {
        reason,
        after,
        schedule: Schedule::Connect,
        slower,
        detail,
    };
    let lost = |detail: String| match class.may_repeat() {
        true => retry(Reason::OutcomeUnknown, None, false, detail),
        false => Outcome::InDoubt { detail },
    };
    let reply = match reply {
        Reply::Http(reply) => reply,
        Reply::NotArmed => return Outcome::NotArmed,
        Reply::Failed { handed_over: true, text, .. } => return lost(text.to_string()),
        Reply::Failed { handed_over: false, kind, text } => return kind.before_hand_over(text),
        // What was not asked for.
        Reply::Smtp { .. } | Reply::Wrote => {
            let detail = "the driver answered with something else than HTTP".to_owned();
            return retry(Reason::FailInternal, None, false, detail);
        }
    };
    let after = reply.retry_after();
    match reply.status {
        200..300 => match receipt(reply) {
            Some(receipt) => Outcome::Accepted { receipt: Said::of(&receipt).to_string() },
            None => lost(format!("HTTP {}, and nothing in it says that it was taken", reply.status)),
        },
        429 => retry(Reason::Remote429, after, true, reply.said(message)),
        401 | 403 => Outcome::Halt { reason: Reason::FailAuth, detail: reply.said(message) },
        // "Later", and when: whoever says so has not taken it. Without a time it may be a gateway that lost sight of who did.
        503 if after.is_some() => retry(Reason::FailRemote5xx, after, false, reply.said(message)),
        408 | 425 | 500..600 if class.may_repeat() => {
            retry(Reason::FailRemote5xx, after, false, reply.said(message))
        }
        408 | 425 | 500..600 => lost(reply.said(message)),
        300..400 => Outcome::Halt {
            reason: Reason::FailRemote4xx,
            detail: format!("HTTP {}: the provider sends us elsewhere, which is not followed", reply.status),
        },
        400..500 => {
            Outcome::Rejected { reason: Reason::FailRemote4xx, bounce: None, detail: reply.said(message) }
        }
        _ => lost(format!("HTTP {}, which means nothing here", reply.status)),
    }
}

/// The body of a yes, which is one if `is_answer` knows it; otherwise what the reply means, as [`outcome`] says.
///
/// # Errors
/// What it means, if it is not such a yes.
pub fn answered(
    class: Idempotency,
    reply: &Reply,
    is_answer: impl FnOnce(&serde_json::Value) -> bool,
    message: impl FnOnce(&serde_json::Value) -> Option<String>,
) -> Result<serde_json::Value, Outcome> {
    let receipt = |answer: &HttpReply| is_answer(&answer.json()).then(String::new);
    match (outcome(class, reply, receipt, message), reply) {
        (Outcome::Accepted { .. }, Reply::Http(answer)) => Ok(answer.json()),
        (outcome, _) => Err(outcome),
    }
}

/// The beginning of URLs: what a setting `base_url` may say. `https://`, or `http://` to this machine; no name, no query.
pub fn base_url_mistake(url: &str) -> Option<&'static str> {
    let (rest, is_secure) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (rest, true),
        (None, Some(rest)) => (rest, false),
        (None, None) => return Some("expected a web address that begins with `https://`"),
    };
    if rest.contains(['@', '?', '#', ' ', '\\']) || rest.contains(char::is_control) {
        return Some("expected a web address without a name, a query or a fragment");
    }
    let Some((host, _)) = host_and_port(url) else { return Some("expected a web address with a host") };
    if !is_secure && !is_this_machine(&host) {
        return Some("`http://` would send everything in the clear; use `https://`");
    }
    None
}

/// Host and port of a URL; an IPv6 address without its brackets.
pub fn host_and_port(url: &str) -> Option<(String, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit('@').next()?;
    let default = if scheme.eq_ignore_ascii_case("http") { 80 } else { 443 };
    let (host, port) = match authority.strip_prefix('[') {
        Some(inside) => {
            let (host, rest) = inside.split_once(']')?;
            (host, rest.strip_prefix(':'))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().ok()?,
        None => default,
    };
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

/// Whether a host's name or address says "this machine".
pub fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_host_and_a_port() {
        for (url, expected) in [
            ("https://api.test/a", Some(("api.test", 443))),
            ("http://127.0.0.1:4010", Some(("127.0.0.1", 4010))),
            ("https://[::1]:8443/x", Some(("::1", 8443))),
            ("https://[::1]", Some(("::1", 443))),
            ("https://user:pass@api.test", Some(("api.test", 443))),
            ("https://api.test:x", None),
            ("https:///a", None),
            ("api.test", None),
        ] {
            assert_eq!(host_and_port(url), expected.map(|(host, port)| (host.to_owned(), port)), "{url}");
        }
    }

    #[test]
    fn a_base_is_secure_or_on_this_machine() {
        for good in [
            "https://api.test",
            "https://api.test/v1",
            "http://localhost:4010",
            "http://127.0.0.1",
            "http://[::1]:1",
        ] {
            assert_eq!(base_url_mistake(good), None, "{good}");
        }
        for bad in [
            "api.test",
            "ftp://api.test",
            "http://api.test",
            "http://localhost.api.test",
            "https://u:p@api.test",
            "https://",
            "https://api.test?x",
            "https://api.test#x",
            "https://api.test\\@evil.test",
            "https://a b",
            "http://127.0.0.1.nip.test",
        ] {
            assert!(base_url_mistake(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn a_status_means_what_it_means_and_a_lost_answer_what_its_class_allows() {
        let reply = |status| {
            let headers = vec![("retry-after".to_owned(), "7".to_owned())];
            Reply::Http(HttpReply {
                status,
                headers,
                body: Arc::from(&b"{\"m\":\"why\"}"[..]),
                is_cut: false,
            })
        };
        let judge = |class, status| {
            outcome(
                class,
                &reply(status),
                |_| Some("id".to_owned()),
                |body| body["m"].as_str().map(str::to_owned),
            )
        };
        for class in [
            Idempotency::Natural,
            Idempotency::Key,
            Idempotency::Lookup,
            Idempotency::Echo,
            Idempotency::Nothing,
        ] {
            assert_eq!(judge(class, 202), Outcome::Accepted { receipt: "id".to_owned() });
            assert!(matches!(judge(class, 401), Outcome::Halt { reason: Reason::FailAuth, .. }));
            assert!(matches!(judge(class, 302), Outcome::Halt { .. }));
            assert!(matches!(judge(class, 422), Outcome::Rejected { bounce: None, .. }));
            for status in [429, 503] {
                let Outcome::Retry { after, slower, detail, .. } = judge(class, status) else {
                    panic!("{status}")
                };
                assert_eq!((after, slower), (Some(SignedDuration::from_secs(7)), status == 429));
                assert_eq!(detail, format!("HTTP {status}: why"));
            }
            for status in [408, 500, 502, 504, 101, 999] {
                let again = matches!(judge(class, status), Outcome::Retry { .. });
                assert_eq!(again, class.may_repeat(), "{class:?} {status}");
            }
            let nothing = outcome(class, &reply(200), |_| None, |_| None);
            assert_eq!(matches!(nothing, Outcome::Retry { .. }), class.may_repeat(), "an empty yes");
        }
    }
}
