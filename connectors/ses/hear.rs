//! What SES tells by SNS (<https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html>): events of a configuration set, signed by
//! SNS. Everybody can have SNS sign something: only the topic of the settings is believed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use connector::feedback::{Hearing, Inbound, NotHeard, Told, ToldKind, read_echo};
use connector::http::host_and_port;
use connector::{HttpReply, HttpRequest};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm};
use serde_json::Value;
use webpki::EndEntityCert;
use webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA256;

use crate::over_http::text_at;

pub(super) fn hear(topic: &str, inbound: &Inbound, answers: &[HttpReply]) -> Result<Hearing, NotHeard> {
    let body: Value = serde_json::from_slice(&inbound.body).map_err(|_| NotHeard::Forged)?;
    let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
    let certificate_url = text("SigningCertURL");
    // Version 1 is SHA-1, which nobody should ask for any more.
    let is_certificate = is_of_sns(certificate_url)
        && certificate_url
            .split('/')
            .nth(3)
            .is_some_and(|path| path.starts_with("SimpleNotificationService-") && path.ends_with(".pem"))
        && certificate_url.split('/').count() == 4
        && !certificate_url.contains(['?', '#']);
    if text("TopicArn") != topic || text("SignatureVersion") != "2" || !is_certificate {
        return Err(NotHeard::Forged);
    }
    let Some((certificate, more)) = answers.split_first() else {
        return Ok(Hearing::Ask { request: HttpRequest::get(certificate_url), holds: true });
    };
    verify(&body, certificate)?;
    match text("Type") {
        "SubscriptionConfirmation" if more.is_empty() && is_of_sns(text("SubscribeURL")) => {
            Ok(Hearing::Ask { request: HttpRequest::get(text("SubscribeURL")), holds: false })
        }
        "Notification" => {
            let event: Value = serde_json::from_str(text("Message")).map_err(|_| NotHeard::Garbled)?;
            Ok(Hearing::Told(told(&event, text("MessageId"), inbound).into_iter().collect()))
        }
        _ => Ok(Hearing::nothing()),
    }
}

/// Whether an address is of SNS itself: `https://sns.REGION.amazonaws.com/`.
fn is_of_sns(url: &str) -> bool {
    let Some((host, 443)) = host_and_port(url) else { return false };
    let region = host.strip_prefix("sns.").and_then(|rest| {
        rest.strip_suffix(".amazonaws.com").or_else(|| rest.strip_suffix(".amazonaws.com.cn"))
    });
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    url.starts_with("https://sns.")
        && !url.contains(['@', '\\'])
        && region.is_some_and(|region| !region.is_empty() && region.chars().all(plain))
}

/// What is signed: these keys in this order, as far as they are there.
fn signed(body: &Value) -> String {
    let keys: &[&str] = match body["Type"].as_str() {
        Some("Notification") => &["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"],
        _ => &["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"],
    };
    keys.iter().filter_map(|key| Some(format!("{key}\n{}\n", body.get(*key)?.as_str()?))).collect()
}

fn verify(body: &Value, certificate: &HttpReply) -> Result<(), NotHeard> {
    if certificate.status != 200
        || !certificate.body.trim_ascii_start().starts_with(b"-----BEGIN CERTIFICATE-----")
    {
        return Err(NotHeard::NotNow);
    }
    let der = CertificateDer::from_pem_slice(&certificate.body).map_err(|_| NotHeard::NotNow)?;
    let certificate = EndEntityCert::try_from(&der).map_err(|_| NotHeard::NotNow)?;
    let signature =
        text_at(body, "/Signature").and_then(|text| STANDARD.decode(text).ok()).ok_or(NotHeard::Forged)?;
    let algorithm: &dyn SignatureVerificationAlgorithm = RSA_PKCS1_2048_8192_SHA256;
    certificate.verify_signature(algorithm, signed(body).as_bytes(), &signature).map_err(|_| NotHeard::Forged)
}

/// One event; `None`: it is none of ours, or says nothing that counts.
fn told(event: &Value, id: &str, inbound: &Inbound) -> Option<Told> {
    let text = |path: &str| text_at(event, path).unwrap_or_default();
    let kind = match text("/eventType").to_lowercase().as_str() {
        "send" => ToldKind::Accepted,
        "delivery" => ToldKind::Delivered,
        "bounce" if text("/bounce/bounceType") == "Permanent" => ToldKind::BouncedForGood,
        "bounce" | "reject" => ToldKind::Bounced,
        "complaint" => ToldKind::Complained,
        "subscription" => ToldKind::Unsubscribed,
        "open" => ToldKind::Opened,
        "click" => ToldKind::Clicked,
        _ => return None,
    };
    let about = read_echo(&text("/mail/tags/delivery/0"))?;
    let paths = [
        "/bounce/timestamp",
        "/complaint/timestamp",
        "/delivery/timestamp",
        "/open/timestamp",
        "/click/timestamp",
    ];
    let at = paths.iter().find_map(|path| text(path).parse().ok()).unwrap_or(inbound.at);
    Some(Told { about, proof: None, kind, at, event: id.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const TOPIC: &str = "arn:aws:sns:us-west-2:123456789012:MyTopic";
    const CERTIFICATE: &str = include_str!("test_certificate.pem");
    const MESSAGE: &str = include_str!("test_message.json");

    fn inbound(body: &str) -> Inbound {
        let at = "2026-01-27T15:00:00Z".parse().unwrap();
        Inbound { headers: Default::default(), body: body.as_bytes().to_vec(), at }
    }

    fn answer(body: &str) -> HttpReply {
        HttpReply { status: 200, headers: vec![], body: Arc::from(body.as_bytes()), is_cut: false }
    }

    /// A message that a key of a test signed, by the rule of the documentation.
    #[test]
    fn only_what_the_topic_signed_is_heard() {
        let Ok(Hearing::Ask { request, holds: true }) = hear(TOPIC, &inbound(MESSAGE), &[]) else { panic!() };
        assert_eq!(request.url, "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-test.pem");
        let heard = |topic: &str, body: &str| hear(topic, &inbound(body), &[answer(CERTIFICATE)]);
        // Theirs, and of no message of ours.
        assert_eq!(heard(TOPIC, MESSAGE), Ok(Hearing::nothing()));
        assert_eq!(heard("arn:aws:sns:us-west-2:1:Other", MESSAGE), Err(NotHeard::Forged));
        for (from, to) in [
            ("5.1.1", "5.1.2"),
            ("22b80b92", "22b80b93"),
            ("\"SignatureVersion\": \"2\"", "\"SignatureVersion\": \"1\""),
            (
                "https://sns.us-west-2.amazonaws.com/Simple",
                "https://sns.us-west-2.amazonaws.com.evil.test/Simple",
            ),
            ("SimpleNotificationService-test.pem", "?Action=Echo&x=SimpleNotificationService-test.pem"),
            ("SimpleNotificationService-test.pem", "other/SimpleNotificationService-test.pem"),
            ("\"Signature\": \"D94n", "\"Signature\": \"E94n"),
        ] {
            assert!(MESSAGE.contains(from), "{from}");
            assert_eq!(heard(TOPIC, &MESSAGE.replace(from, to)), Err(NotHeard::Forged), "{to}");
        }
        assert_eq!(hear(TOPIC, &inbound(MESSAGE), &[answer("no certificate")]), Err(NotHeard::NotNow));
        assert_eq!(heard(TOPIC, "{"), Err(NotHeard::Forged));
    }

    #[test]
    fn an_address_of_sns_is_no_other() {
        for (url, is) in [
            ("https://sns.eu-central-1.amazonaws.com/x.pem", true),
            ("https://sns.cn-north-1.amazonaws.com.cn/x.pem", true),
            ("http://sns.eu-central-1.amazonaws.com/x.pem", false),
            ("https://sns.eu-central-1.amazonaws.com:8443/x.pem", false),
            ("https://sns.evil.test/x.pem", false),
            ("https://sns.a.b.amazonaws.com/x.pem", false),
            ("https://sns..amazonaws.com/x.pem", false),
            ("https://sns.eu.amazonaws.com@evil.test/x.pem", false),
            ("https://evil.test/sns.eu.amazonaws.com", false),
            ("https://bucket.s3.amazonaws.com/x.pem", false),
        ] {
            assert_eq!(is_of_sns(url), is, "{url}");
        }
    }

    #[test]
    fn events_say_what_became_of_a_message() {
        let event = |kind: &str, more: &str| {
            let text = format!(
                r#"{{"eventType":"{kind}","mail":{{"tags":{{"delivery":["7-mvzgc43vom2tqmrtha3dkmjsgq2tmnzy"]}}}}{more}}}"#
            );
            told(&serde_json::from_str(&text).unwrap(), "m1", &inbound(""))
                .map(|told| (told.kind, told.about.0.0, told.event))
        };
        let kind = |kind| Some((kind, 7, "m1".to_owned()));
        assert_eq!(
            event("Bounce", r#","bounce":{"bounceType":"Permanent"}"#),
            kind(ToldKind::BouncedForGood)
        );
        assert_eq!(event("Bounce", r#","bounce":{"bounceType":"Transient"}"#), kind(ToldKind::Bounced));
        assert_eq!(event("Complaint", ""), kind(ToldKind::Complained));
        assert_eq!(event("Send", ""), kind(ToldKind::Accepted));
        assert_eq!(event("Rendering Failure", ""), None);
    }
}
