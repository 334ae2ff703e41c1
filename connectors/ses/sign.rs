//! Signature Version 4 of AWS (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>): of a request without a
//! query.

use connector::HttpRequest;
use connector::http::HeaderText;
use jiff::Timestamp;

use crate::over_http::hmac_sha256;
use model::id::hex;

/// Whose signature.
pub(super) struct Key<'a> {
    pub(super) id: &'a str,
    pub(super) secret: &'a str,
    pub(super) session: Option<&'a str>,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

/// The request with the headers that sign it.
pub(super) fn signed(request: HttpRequest, key: &Key<'_>, at: Timestamp) -> HttpRequest {
    let (stamp, day) = (at.strftime("%Y%m%dT%H%M%SZ").to_string(), at.strftime("%Y%m%d").to_string());
    let authority = request.url.split('/').nth(2).unwrap_or_default().to_owned();
    let mut request = request.header("x-amz-date", stamp.as_str());
    if let Some(session) = key.session {
        request = request.secret("x-amz-security-token", session);
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
    let path = request.url.splitn(4, '/').nth(3).map_or_else(|| "/".to_owned(), |path| format!("/{path}"));
    let text = format!(
        "{}\n{path}\n\n{canonical}\n{names}\n{}",
        request.method.as_str(),
        model::id::sha256_hex(&request.body)
    );
    let scope = format!("{day}/{}/{}/aws4_request", key.region, key.service);
    let to_sign = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", model::id::sha256_hex(text.as_bytes()));
    let mut derived = hmac_sha256(format!("AWS4{}", key.secret).as_bytes(), day.as_bytes());
    for part in [key.region, key.service, "aws4_request"] {
        derived = hmac_sha256(&derived, part.as_bytes());
    }
    let signature = hex(&hmac_sha256(&derived, to_sign.as_bytes()));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        key.id
    );
    request.headers.push(("authorization", HeaderText::Plain(authorization)));
    request
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
        let key = Key {
            id: "AKIDEXAMPLE",
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            session,
            region: "us-east-1",
            service: "ses",
        };
        let at = "2026-11-22T10:11:12Z".parse().unwrap();
        let signed = signed(request, &key, at);
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
