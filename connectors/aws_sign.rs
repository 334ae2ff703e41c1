//! Signature Version 4 of AWS (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>): of a request without a
//! query. S3 wants the hash of the body as a header, too: whoever asks it adds that before.

use connector::http::HeaderText;
use connector::{HttpRequest, SettingsMistake};
use jiff::Timestamp;

use model::Secret;
use model::id::hex;

use crate::over_http::{hmac_sha256, secret_mistake};

/// An access key for a region, or one that is lent, with the token of its session.
#[derive(Debug)]
pub(crate) struct Credentials {
    region: String,
    id: String,
    key: Secret,
    session: Option<Secret>,
}

impl Credentials {
    /// Of the settings `region`, `access_key_id`, `secret_access_key` and `session_token`. What is wrong with them is added to `mistakes`.
    pub(crate) fn of(
        region: &str,
        id: &str,
        key: &str,
        session: Option<&str>,
        mistakes: &mut Vec<SettingsMistake>,
    ) -> Self {
        mistakes.extend(secret_mistake("access_key_id", id));
        mistakes.extend(secret_mistake("secret_access_key", key));
        mistakes.extend(session.and_then(|token| secret_mistake("session_token", token)));
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if region.is_empty() || !region.chars().all(plain) {
            mistakes.push(SettingsMistake::new("region", "expected a region, such as `eu-central-1`"));
        }
        Self {
            region: region.to_owned(),
            id: id.to_owned(),
            key: Secret::new(key),
            session: session.map(Secret::new),
        }
    }

    /// The request with the headers that sign it, for this service.
    pub(crate) fn sign(&self, service: &str, request: HttpRequest, at: Timestamp) -> HttpRequest {
        let (stamp, day) = (at.strftime("%Y%m%dT%H%M%SZ").to_string(), at.strftime("%Y%m%d").to_string());
        let authority = request.url.split('/').nth(2).unwrap_or_default().to_owned();
        let mut request = request.header("x-amz-date", stamp.as_str());
        if let Some(session) = &self.session {
            request = request.secret("x-amz-security-token", session.reveal());
        }
        let mut headers: Vec<(&str, &str)> = vec![("host", &authority)];
        headers.extend(
            request
                .headers
                .iter()
                .filter(|(name, _)| is_signed(name))
                .map(|(name, text)| (*name, text.reveal().trim())),
        );
        headers.sort_unstable();
        let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let canonical: String = headers.iter().map(|(name, text)| format!("{name}:{text}\n")).collect();
        let path =
            request.url.splitn(4, '/').nth(3).map_or_else(|| "/".to_owned(), |path| format!("/{path}"));
        let text = format!(
            "{}\n{path}\n\n{canonical}\n{names}\n{}",
            request.method.as_str(),
            model::id::sha256_hex(&request.body)
        );
        let scope = format!("{day}/{}/{}/aws4_request", self.region, service);
        let to_sign =
            format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", model::id::sha256_hex(text.as_bytes()));
        let mut derived = hmac_sha256(format!("AWS4{}", self.key.reveal()).as_bytes(), day.as_bytes());
        for part in [self.region.as_str(), service, "aws4_request"] {
            derived = hmac_sha256(&derived, part.as_bytes());
        }
        let signature = hex(&hmac_sha256(&derived, to_sign.as_bytes()));
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            self.id
        );
        request.headers.push(("authorization", HeaderText::Plain(authorization)));
        request
    }
}

fn is_signed(name: &str) -> bool {
    name == "content-type" || name.starts_with("x-amz-")
}

#[cfg(test)]
mod tests {
    use connector::Method;
    use serde_json::json;

    use super::*;

    fn authorization(session: Option<&str>) -> String {
        let body = json!({ "a": "b" });
        let request = HttpRequest::json(
            Method::Post,
            "https://email.us-east-1.amazonaws.com/v2/email/outbound-emails",
            &body,
        );
        let (id, secret) = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        let key = Credentials::of("us-east-1", id, secret, session, &mut Vec::new());
        let at = "2026-11-22T10:11:12Z".parse().unwrap();
        let signed = key.sign("ses", request, at);
        signed.headers.iter().find(|(name, _)| *name == "authorization").unwrap().1.reveal().to_owned()
    }

    /// Computed by botocore (`SigV4Auth`) for the same request.
    #[test]
    fn a_signature_is_what_the_official_library_makes() {
        assert_eq!(
            authorization(None),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261122/us-east-1/ses/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=fc758096e5cef378a2baf22fe2bc220a684cb288269ad2960829d5e27a69c27b"
        );
        assert_eq!(
            authorization(Some("token")),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261122/us-east-1/ses/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, Signature=f895636f062f65d76cec588ee153cb59735e57d0da0ba91706bac61124fc6d2f"
        );
    }
}
