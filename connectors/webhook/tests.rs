//! The signature by the standard's vector; the manual by what is sent; and the trial by services that are right and wrong.

use connector::golden::{sample_change, sample_item};
use connector::{Row, Verb};

use super::trial::{Check, Part, Trial, checks};
use super::*;

const MANUAL: &str = include_str!("README.md");
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The vector of the specification's own libraries, which the manual repeats.
#[test]
fn a_signature_is_what_the_standards_library_makes() {
    let key = webhook_key(SECRET).unwrap();
    let signed = "msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{\"test\": 2432232314}";
    let signature = base64(&hmac_sha256(&key, signed.as_bytes()));
    assert_eq!(signature, "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    assert!(
        webhook_key("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").is_none() && webhook_key("whsec_c2hvcnQ=").is_none()
    );
    for word in [SECRET, signed, &format!("v1,{signature}")] {
        assert!(MANUAL.contains(word), "the manual does not repeat {word}");
    }
}

/// The manual's blocks of JSON, in their order.
fn examples() -> Vec<Value> {
    let blocks = MANUAL.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks
        .map(|block| serde_json::from_str(block).unwrap_or_else(|error| panic!("{error}: {block}")))
        .collect()
}

fn settings() -> ConnectorSettings {
    let settings = json!({ "url": "https://hooks.acme.test/in", "secret": SECRET });
    ConnectorSettings(settings.as_object().unwrap().clone())
}

#[test]
fn the_manual_shows_what_is_sent_and_what_is_understood() {
    let webhook = made(&settings()).unwrap();
    let item = sample_item();
    let change = sample_change(&webhook, Verb::Add, "drumbeat-mvzgc43vom");
    let row = |domain: &str, health: Value| Row {
        key: domain.to_owned(),
        id: None,
        fields: [("health".to_owned(), health)].into(),
        trace: String::new(),
    };
    let write = Write {
        object: Object {
            name: "company".to_owned(),
            key: "domain".to_owned(),
            fields: vec!["health".to_owned()],
        },
        is_unique: true,
        rows: [row("acme.test", json!(80)), row("beta.test", Value::Null)].into(),
        key: change.key.clone(),
        at: item.at,
    };
    let sent = [webhook.request(&item), webhook.change_request(&change), webhook.write_request(&write)];
    let sent = sent.map(|request| serde_json::from_slice::<Value>(&request.body).unwrap());
    let [message, audience, records, no_member, no_record, told] = &examples()[..] else {
        panic!("the manual has other examples: {:#?}", examples())
    };
    assert_eq!([message, audience, records], sent.each_ref());

    let answer = |body: &Value| {
        let body = body.to_string().into_bytes().into();
        Reply::Http(HttpReply { status: 200, headers: vec![], body, is_cut: false })
    };
    for (what, body) in [("member", no_member), ("record", no_record)] {
        let each = judge_each(&answer(body), what, 2).unwrap();
        assert!(matches!(each[..], [Outcome::Accepted { .. }, Outcome::Rejected { .. }]), "{each:?}");
    }

    let (body, at) = (told.to_string(), item.at);
    let signed = webhook.signed("evt_1", at, told);
    let headers = signed.headers.iter().map(|(name, text)| ((*name).to_owned(), text.reveal().to_owned()));
    let inbound = Inbound { headers: headers.collect(), body: body.into_bytes(), at };
    let Ok(Hearing::Told(heard)) = webhook.hear(&inbound, &[]) else { panic!("it is not heard") };
    assert_eq!(
        (heard[0].kind, heard[0].about.1.as_str()),
        (ToldKind::BouncedForGood, item.delivery.as_str())
    );
}

/// What a service finds in a request: the standard's rule, as `hear` follows it.
fn is_signed(webhook: &Webhook, request: &HttpRequest, now: Timestamp) -> bool {
    let headers = request.headers.iter().map(|(name, text)| ((*name).to_owned(), text.reveal().to_owned()));
    let inbound = Inbound { headers: headers.collect(), body: request.body.to_vec(), at: now };
    webhook.hear(&inbound, &[]).is_ok()
}

fn answered(status: u16, body: &str) -> Reply {
    Reply::Http(HttpReply { status, headers: vec![], body: body.as_bytes().into(), is_cut: false })
}

fn wrong(parts: &[Part], service: impl Fn(&HttpRequest, Timestamp) -> u16) -> Vec<&'static str> {
    let now = sample_item().at;
    let trial = Trial::new(&settings(), now).unwrap();
    let is_wrong =
        |check: &&Check| check.judge(&answered(service(&trial.request(check, now), now), "")).is_err();
    checks(parts).iter().filter(is_wrong).map(|check| check.name).collect()
}

#[test]
fn a_trial_finds_what_a_service_does_not_look_at() {
    let webhook = made(&settings()).unwrap();
    let right = |request: &HttpRequest, now| if is_signed(&webhook, request, now) { 204 } else { 401 };
    for parts in [Part::ALL, &[Part::Messages], &[Part::Audiences], &[Part::Records], &[]] {
        assert_eq!(wrong(parts, right), [""; 0], "{parts:?}");
        // It believes everybody.
        assert_eq!(
            wrong(parts, |_, _| 204),
            ["signature_wrong", "signature_missing", "timestamp_old", "body_changed", "id_changed"],
            "{parts:?}"
        );
        assert_eq!(wrong(parts, |_, _| 500).len(), checks(parts).len());
        assert_eq!(wrong(parts, |_, _| 429).len(), checks(parts).len());
    }
    // It forgets the time.
    let timeless = |request: &HttpRequest, now: Timestamp| {
        let long_ago = now - jiff::SignedDuration::from_mins(10);
        if is_signed(&webhook, request, now) || is_signed(&webhook, request, long_ago) { 200 } else { 400 }
    };
    assert_eq!(wrong(Part::ALL, timeless), ["timestamp_old"]);
    // It looks at the first signature only.
    let hasty = |request: &HttpRequest, now| {
        let two = |(name, text): &(&str, connector::http::HeaderText)| {
            *name == "webhook-signature" && text.reveal().contains(' ')
        };
        if request.headers.iter().any(two) { 401 } else { right(request, now) }
    };
    assert_eq!(wrong(Part::ALL, hasty), ["signature_second"]);
}

#[test]
fn an_event_keeps_its_id_within_a_trial_and_has_another_in_the_next() {
    let now = sample_item().at;
    let ids = |now| -> Vec<String> {
        let trial = Trial::new(&settings(), now).unwrap();
        let id = |check: &Check| {
            let request = trial.request(check, now);
            let (_, id) = request.headers.iter().find(|(name, _)| *name == "webhook-id").unwrap();
            id.reveal().to_owned()
        };
        checks(Part::ALL).iter().map(id).collect()
    };
    let (one, next) = (ids(now), ids(now + jiff::SignedDuration::from_millis(1)));
    assert!(one[0] == one[1] && one[2] == one[3] && one[3] != one[4] && one[6] == one[7], "{one:?}");
    assert!(one.iter().all(|id| !next.contains(id)), "{next:?}");
}

#[test]
fn places_that_are_not_there_are_found() {
    let checks = checks(Part::ALL);
    let check = |name: &str| checks.iter().find(|check| check.name == name).unwrap();
    let rejected = |name: &str, body: &str| check(name).rejected(&answered(200, body));
    assert_eq!(rejected("audience_added", r#"{"rejected": [{"member": 1, "why": "no"}]}"#), Ok(1));
    assert_eq!(rejected("records_written", r#"{"rejected": []}"#), Ok(0));
    assert_eq!(rejected("message_taken", r#"{"rejected": 7}"#), Ok(0));
    assert_eq!(rejected("audience_added", "thanks"), Ok(0));
    for (name, body) in [
        ("audience_added", r#"{"rejected": [{"member": 2}]}"#),
        ("audience_added", r#"{"rejected": [{"record": 1}]}"#),
        ("audience_removed", r#"{"rejected": [{"member": "c-7"}]}"#),
        ("records_written", r#"{"rejected": [1]}"#),
        ("records_written_again", r#"{"rejected": {"record": 1}}"#),
    ] {
        assert!(rejected(name, body).is_err_and(|why| why.starts_with(name)), "{body}");
    }
}
