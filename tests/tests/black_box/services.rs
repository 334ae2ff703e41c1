//! Services of one's own, as `connector test webhook --url` tries them: one that does what the manual says, one that believes everybody, one that
//! is not there, and the one that stands in the manual.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::providers::{Asked, Server};
use crate::support::{Folder, Ran, free_port, have, wait_for_port};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Whether a request is signed with the secret, and now.
fn is_ours(asked: &Asked) -> bool {
    let key = STANDARD.decode(SECRET.trim_start_matches("whsec_")).unwrap();
    let header = |name: &str| asked.headers.get(name).cloned().unwrap_or_default();
    let (id, stamp) = (header("webhook-id"), header("webhook-timestamp"));
    let signed = format!("{id}.{stamp}.{}", asked.body);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), signed.as_bytes());
    let right = format!("v1,{}", STANDARD.encode(tag));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    header("webhook-signature").split(' ').any(|given| given == right)
        && stamp.parse::<u64>().is_ok_and(|stamp| stamp.abs_diff(now) <= 300)
}

fn tried(port: u16, more: &[&str]) -> (Ran, Vec<(String, String)>) {
    let url = format!("http://127.0.0.1:{port}/in");
    let args = [&["--output", "ndjson", "connector", "test", "webhook", "--url", &url], more].concat();
    // No project is needed.
    let ran: Ran =
        Folder::empty().command(&args).env("DRUMBEAT_WEBHOOK_SECRET", SECRET).output().unwrap().into();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let rows = ran.lines().iter().map(|row| (text(row, "check"), text(row, "result"))).collect();
    (ran, rows)
}

fn of(rows: &[(String, String)], wanted: &str) -> Vec<String> {
    rows.iter().filter(|(_, result)| result == wanted).map(|(check, _)| check.clone()).collect()
}

#[test]
fn a_service_that_does_what_the_manual_says_passes() {
    let acted: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
    let acting = Arc::clone(&acted);
    let server = Server::start(move |asked, _| {
        if !is_ours(asked) {
            return Some((401, json!({})));
        }
        let event: Value = serde_json::from_str(&asked.body).unwrap();
        if event["type"] == "drumbeat.unknown" {
            return Some((422, json!({ "error": "unknown" })));
        }
        let (mut acted, id) = (acting.lock().unwrap(), asked.headers["webhook-id"].clone());
        if acted.iter().all(|(known, _)| *known != id) {
            acted.push((id, event.clone()));
        }
        let rejected =
            if event["data"]["do"] == "add" { json!([{ "member": 1, "why": "no" }]) } else { json!([]) };
        Some((200, json!({ "rejected": rejected })))
    });
    let (ran, rows) = tried(server.port, &[]);
    let ran = ran.code(0);
    assert_eq!((of(&rows, "ok").len(), rows.len()), (17, 17), "{}", ran.out);
    for said in ["ana@example.test", "made-up people", "does what it must"] {
        assert!(ran.err.contains(said), "{}", ran.err);
    }
    assert!(!(ran.out + &ran.err).contains(SECRET), "the secret is shown");
    let types: Vec<String> =
        acted.lock().unwrap().iter().map(|(_, event)| event["type"].as_str().unwrap().to_owned()).collect();
    // The last is the message of which the second signature was right.
    let expected =
        ["message.email", "audience.changed", "audience.changed", "records.changed", "message.email"];
    assert_eq!(types, expected, "each once");

    // Again, and less of it: other events.
    let (ran, rows) = tried(server.port, &["--only", "records"]);
    ran.code(0);
    assert!(
        rows.iter().all(|(check, _)| !check.starts_with("message") && !check.starts_with("audience")),
        "{rows:?}"
    );
    let ids: BTreeSet<String> = acted.lock().unwrap().iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(ids.len(), 7);
}

#[test]
fn a_service_that_believes_everybody_fails_and_is_told_by_whom() {
    let server = Server::start(|asked, _| {
        let is_audience = asked.body.contains("audience.changed");
        let rejected = if is_audience { json!([{ "member": 2 }]) } else { json!([]) };
        Some((200, json!({ "rejected": rejected })))
    });
    let (ran, rows) = tried(server.port, &[]);
    let ran = ran.code(1);
    let expected = [
        "signature_wrong",
        "signature_missing",
        "timestamp_old",
        "body_changed",
        "id_changed",
        "rejected_places",
    ];
    assert_eq!(of(&rows, "wrong"), expected, "{}", ran.out);
    assert!(ran.err.contains("6 answers are not what they must be"), "{}", ran.err);
}

#[test]
fn a_service_that_is_not_there_is_asked_once() {
    let (ran, rows) = tried(free_port(), &[]);
    let ran = ran.code(1);
    assert_eq!(of(&rows, "wrong"), ["message_taken", "answers_in_time"], "{}", ran.out);
    assert_eq!(of(&rows, "not tried").len(), 14, "{}", ran.out);
    let folder = Folder::empty();
    let typed =
        |name: &str, url: &str| folder.run(&["connector", "test", name, "--url", url, "--secret", SECRET]);
    assert!(typed("resend", "http://127.0.0.1:1/").code(2).err.contains("the protocol of `webhook`"));
    assert!(typed("webhook", "http://hooks.example.test/").code(2).err.contains("--url: "));
    // What clouds tell their machines is nobody's service.
    assert!(typed("webhook", "https://169.254.169.254/").code(1).err.contains("local link"));
}

/// Whoever copies it has a service.
#[test]
fn the_service_of_the_manual_passes() {
    if !have("python3", "DRUMBEAT_TEST_CONTRACTS") {
        return;
    }
    let manual = std::fs::read_to_string(tests::root().join("connectors/webhook/README.md")).unwrap();
    let program = manual.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    let (folder, port) = (Folder::empty(), free_port());
    folder.write("service.py", program);
    let mut service = Command::new("python3")
        .current_dir(folder.path())
        .args(["service.py", &port.to_string()])
        .env("WEBHOOK_SECRET", SECRET)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for_port(port);
    let (ran, rows) = tried(port, &[]);
    service.kill().unwrap();
    service.wait().unwrap();
    assert_eq!(of(&rows, "wrong"), [""; 0], "{}{}", ran.out, ran.err);
    ran.code(0);
}
