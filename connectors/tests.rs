//! Of single connectors: mistakes in settings, and how those who tell something are known.

use connector::feedback::{Hearing, Inbound, NotHeard, Told, ToldKind};
use connector::{Connector, HttpReply, Kind, Opened, Reply, Step};
use jiff::Timestamp;
use model::settings::ConnectorSettings;

/// How many calls it takes to find an audience, where each is answered with the same, and how that ends.
pub(crate) fn opened_by_the_same_answer(connector: &dyn Connector, body: &str) -> (u64, Opened) {
    let mut exchange = connector.audiences().unwrap().open("drumbeat-x", Timestamp::UNIX_EPOCH);
    let (mut reply, mut calls) = (None, 0);
    loop {
        match exchange.next(reply.take()) {
            Step::Done(ended) => return (calls, ended),
            Step::Call(call) => {
                assert!(!call.arms);
                calls += 1;
                let body = body.as_bytes().into();
                reply = Some(Reply::Http(HttpReply { status: 200, headers: vec![], body, is_cut: false }));
            }
        }
    }
}

/// The keys of the mistakes in settings, in order.
fn mistakes(kind: &Kind, settings: &str) -> Vec<String> {
    let settings = ConnectorSettings(serde_json::from_str(settings).unwrap());
    let mistakes = (kind.build)(&settings).err().unwrap_or_default();
    mistakes.into_iter().map(|mistake| format!("{}: {}", mistake.key, mistake.message)).collect()
}

#[test]
fn mistakes_in_settings_are_all_named_at_once() {
    assert_eq!(
        mistakes(&super::smtp::KIND, r#"{"hots": "a.test", "port": "x", "tls": "ssl", "connections": 3}"#),
        [
            "hots: connector `smtp` has no such setting; did you mean `host`?",
            "port: expected a whole number from 1 to 65535",
            "tls: expected one of none, starttls, implicit",
            "host: is missing: connector `smtp` needs it",
        ]
    );
    assert_eq!(mistakes(&super::file::KIND, "{}"), ["path: is missing: connector `file` needs it"]);
}

#[test]
fn a_password_goes_in_the_clear_within_this_machine_only() {
    let with = |host: &str, tls: &str| {
        mistakes(
            &super::smtp::KIND,
            &format!(r#"{{"host": "{host}", "tls": "{tls}", "username": "u", "password": "p"}}"#),
        )
    };
    for host in ["localhost", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
        assert_eq!(with(host, "none"), Vec::<String>::new(), "{host}");
    }
    for host in ["mail.example.test", "10.0.0.1", "localhost.example.test", "127.0.0.1.example.test"] {
        assert_eq!(with(host, "none").len(), 1, "{host}");
        assert_eq!(with(host, "starttls"), Vec::<String>::new(), "{host}");
    }
}

#[test]
fn settings_that_cannot_be_meant_are_refused() {
    for (settings, key) in [
        (r#"{"host": "https://a.test"}"#, "host"),
        (r#"{"host": "a.test:25"}"#, "host"),
        (r#"{"host": "a.test\r\nQUIT"}"#, "host"),
        (r#"{"host": "a.test", "hello": "a b"}"#, "hello"),
        (r#"{"host": "a.test", "port": 0}"#, "port"),
        (r#"{"host": "a.test", "connections": 0}"#, "connections"),
        (r#"{"host": "a.test", "messages_per_connection": 0}"#, "messages_per_connection"),
        (r#"{"host": "a.test", "username": "u"}"#, "password"),
        (r#"{"host": "a.test", "password": "p"}"#, "username"),
        (r#"{"host": "127.0.0.1", "tls": "none", "ca": "x.pem"}"#, "ca"),
    ] {
        let found = mistakes(&super::smtp::KIND, settings);
        assert!(found.len() == 1 && found[0].starts_with(&format!("{key}: ")), "{settings}: {found:?}");
    }
}

#[test]
fn the_port_follows_from_the_encryption() {
    for (tls, port) in [("none", 25), ("starttls", 587), ("implicit", 465)] {
        let settings = serde_json::json!({"host": "127.0.0.1", "tls": tls});
        let connector =
            (super::smtp::KIND.build)(&ConnectorSettings(settings.as_object().unwrap().clone())).unwrap();
        assert_eq!(connector.reach(), connector::Reach::Network { host: "127.0.0.1".to_owned(), port });
    }
}

/// A request as it comes in, at a time.
fn inbound(headers: &[(&str, &str)], body: &str, seconds: i64) -> Inbound {
    Inbound {
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        body: body.as_bytes().to_vec(),
        at: Timestamp::from_second(seconds).unwrap(),
    }
}

fn made(kind: &Kind, settings: &str) -> Box<dyn Connector> {
    (kind.build)(&ConnectorSettings(serde_json::from_str(settings).unwrap())).unwrap()
}

fn heard(connector: &dyn Connector, inbound: &Inbound) -> Result<Vec<Told>, NotHeard> {
    match connector.hear(inbound, &[])? {
        Hearing::Told(told) => Ok(told),
        Hearing::Ask { request, .. } => panic!("it asks {request:?}"),
    }
}

const ECHO: &str = "7-mvzgc43vom2tqmrtha3dkmjsgq2tmnzy";

/// The vectors of SendGrid's own libraries, and an event of ours.
#[test]
fn sendgrid_is_known_by_its_signature_over_every_byte() {
    let key = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==";
    let signature =
        "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM=";
    let body = "[{\"email\":\"hello@world.com\",\"event\":\"dropped\",\"reason\":\"Bounced Address\",\"sg_event_id\":\"ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA\",\"sg_message_id\":\"LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0\",\"smtp-id\":\"<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>\",\"timestamp\":1600112492}]\r\n";
    let connector =
        made(&super::sendgrid::KIND, &format!(r#"{{"token": "SG.t", "webhook_public_key": "{key}"}}"#));
    let headers = [
        ("x-twilio-email-event-webhook-signature", signature),
        ("x-twilio-email-event-webhook-timestamp", "1600112502"),
    ];
    assert_eq!(
        heard(&*connector, &inbound(&headers, body, 1_600_112_510)),
        Ok(vec![]),
        "theirs, and of no message of ours"
    );
    for (headers, body, seconds) in [
        (headers, body.trim_end(), 1_600_112_510),
        (headers, &body.replace("dropped", "droppef"), 1_600_112_510),
        (headers, body, 1_600_113_000),
        ([headers[0], ("x-twilio-email-event-webhook-timestamp", "1600112503")], body, 1_600_112_510),
        ([("x-twilio-email-event-webhook-signature", ""), headers[1]], body, 1_600_112_510),
    ] {
        assert_eq!(heard(&*connector, &inbound(&headers, body, seconds)), Err(NotHeard::Forged));
    }
    let deaf = made(&super::sendgrid::KIND, r#"{"token": "SG.t"}"#);
    assert_eq!(heard(&*deaf, &inbound(&headers, body, 1_600_112_510)), Err(NotHeard::NotSetUp));
}

#[test]
fn mailgun_is_known_by_its_signature_and_tells_what_became_of_a_message() {
    let connector = made(
        &super::mailgun::KIND,
        r#"{"domain": "mg.test", "token": "k", "webhook_signing_key": "key-signing"}"#,
    );
    let signature = r#"{"timestamp":"1731000000","token":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","signature":"662b94ffc73e14527ecaab42ffab0d33249e38381416b98967b7ca4dfae50880"}"#;
    let event = |event: &str, severity: &str, reason: &str| {
        format!(
            r#"{{"signature":{signature},"event-data":{{"event":"{event}","severity":"{severity}","reason":"{reason}","timestamp":1731000000.5,"user-variables":{{"delivery":"{ECHO}"}}}}}}"#
        )
    };
    let hears = |body: &str, seconds| heard(&*connector, &inbound(&[], body, seconds));
    for (body, kind) in [
        (event("delivered", "", ""), ToldKind::Delivered),
        (event("failed", "permanent", "bounce"), ToldKind::BouncedForGood),
        (event("failed", "permanent", "generic"), ToldKind::Bounced),
        (event("failed", "temporary", "bounce"), ToldKind::Bounced),
        (event("complained", "", ""), ToldKind::Complained),
        (event("unsubscribed", "", ""), ToldKind::Unsubscribed),
    ] {
        let told = hears(&body, 1_731_000_010).unwrap();
        assert_eq!(
            (told[0].kind, told[0].about.0.0, told[0].at.as_millisecond()),
            (kind, 7, 1_731_000_000_500)
        );
    }
    assert_eq!(hears(&event("stored", "", ""), 1_731_000_010), Ok(vec![]));
    assert_eq!(hears(&event("delivered", "", ""), 1_731_000_301), Err(NotHeard::Forged), "too old");
    assert_eq!(
        hears(&event("delivered", "", "").replace("662b", "662c"), 1_731_000_010),
        Err(NotHeard::Forged)
    );
    assert_eq!(hears("{", 1_731_000_010), Err(NotHeard::Forged));
}

#[test]
fn whoever_signs_as_the_standard_says_is_heard() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let key = super::over_http::webhook_key(secret).unwrap();
    let sign = |id: &str, stamp: &str, body: &str| {
        format!(
            "v1,{}",
            super::over_http::base64(&super::over_http::hmac_sha256(
                &key,
                format!("{id}.{stamp}.{body}").as_bytes()
            ))
        )
    };
    let hook = made(&super::webhook::KIND, &format!(r#"{{"url": "https://a.test", "secret": "{secret}"}}"#));
    let resend = made(&super::resend::KIND, &format!(r#"{{"token": "re", "webhook_secret": "{secret}"}}"#));
    let of_hook = format!(
        r#"{{"type":"message.bounced","timestamp":"2024-11-07T17:20:00Z","data":{{"echo":"{ECHO}","permanent":true}}}}"#
    );
    let of_resend = format!(
        r#"{{"type":"email.complained","created_at":"2024-11-07T17:20:00Z","data":{{"tags":{{"delivery":"{ECHO}"}}}}}}"#
    );
    for (connector, prefix, body, kind) in [
        (&hook, "webhook", of_hook, ToldKind::BouncedForGood),
        (&resend, "svix", of_resend, ToldKind::Complained),
    ] {
        let names = [format!("{prefix}-id"), format!("{prefix}-timestamp"), format!("{prefix}-signature")];
        let hears = |stamp: &str, signature: &str, body: &str| {
            let headers = [(&*names[0], "msg_1"), (&*names[1], stamp), (&*names[2], signature)];
            heard(&**connector, &inbound(&headers, body, 1_731_000_000))
        };
        let good = sign("msg_1", "1731000000", &body);
        let told = hears("1731000000", &format!("v1a,x {good}"), &body).unwrap();
        assert_eq!((told[0].kind, &*told[0].event), (kind, "msg_1"), "{prefix}");
        let late = sign("msg_1", "1730999000", &body);
        for (stamp, signature, body) in [
            ("1731000000", "", &*body),
            ("1731000000", "v1,", &*body),
            ("1731000001", &*good, &*body),
            ("1730999000", &*late, &*body),
            ("1731000000", &*good, &*body.replace("true", "null").replace("complained", "delivered")),
        ] {
            assert_eq!(hears(stamp, signature, body), Err(NotHeard::Forged), "{prefix} {stamp} {signature}");
        }
    }
}
