//! A provider that is down, refuses, or never answers: what waits, what is sent again, and what a person closes.

use serde_json::Value;

use crate::support::{Folder, NOW, Ran, Sink, free_port, project, reachable};

const PEOPLE: usize = 500;

/// A project whose mail goes to that port.
fn mailing(port: u16) -> Folder {
    let folder = project(PEOPLE);
    to(&folder, port);
    folder
}

fn to(folder: &Folder, port: u16) {
    let settings = folder.read("drumbeat.yml");
    let kept = settings.lines().filter(|line| !line.trim_start().starts_with("mail:"));
    let mut settings: String = kept.map(|line| format!("{line}\n")).collect();
    settings.push_str(&format!("  mail: {{connector: smtp, host: 127.0.0.1, port: {port}, tls: none}}\n"));
    folder.write("drumbeat.yml", &settings);
}

fn log(folder: &Folder, options: &[&str]) -> Vec<Value> {
    folder.run(&[&["--output", "ndjson", "log"], options].concat()).code(0).lines()
}

fn run(folder: &Folder, now: &str) -> Ran {
    folder.run(&["--now", now, "--output", "json", "run", "--once"])
}

#[test]
fn a_provider_that_is_down_burns_no_attempts() {
    let folder = mailing(free_port());
    let down = run(&folder, NOW).code(1);
    let halted = &down.json()["halted"][0];
    assert_eq!(halted["reason"], "guard.breaker_open", "{}", down.out);
    let tried = log(&folder, &["--reason", "fail.connect"]).len();
    assert!((10..=40).contains(&tried), "{tried} were tried");
    assert_eq!(log(&folder, &["--state", "pending"]).len(), reachable(PEOPLE).len());
    let Some(sink) = Sink::start(&[]) else { return };
    to(&folder, sink.port);
    let up = run(&folder, "2026-03-02T09:30:00Z").code(0);
    assert_eq!(up.json()["deliveries"]["accepted"], reachable(PEOPLE).len());
    assert_eq!(sink.messages().len(), reachable(PEOPLE).len());
}

#[test]
fn what_was_refused_goes_again_when_a_person_says_why() {
    let Some(refusing) = Sink::start(&["-f", "data"]) else { return };
    let folder = mailing(refusing.port);
    let refused = run(&folder, NOW).code(0);
    // Outside production a guard only says what it would do.
    assert_eq!(refused.json()["guards"][0]["reason"], "guard.failed_rate", "{}", refused.out);
    assert!(refused.err.contains("in production it would be halted"), "{}", refused.err);
    let rejected = log(&folder, &["--state", "rejected"]);
    assert_eq!(rejected.len(), reachable(PEOPLE).len());
    let later = "2026-03-02T09:30:00Z";
    let silent = folder.run(&["--now", later, "redrive", "--why", " "]).code(2);
    assert!(silent.err.contains("--why"), "{}", silent.err);
    let dry = folder.run(&["--now", later, "redrive", "--why", "x", "--dry-run"]).code(0);
    assert!(dry.err.contains("would be sent again"), "{}", dry.err);
    assert_eq!(log(&folder, &["--state", "rejected"]).len(), rejected.len(), "a dry run changes nothing");
    let Some(sink) = Sink::start(&[]) else { return };
    to(&folder, sink.port);
    // Nothing is decided any more: all that is due goes nevertheless, however long its turns take.
    let settings = folder.read("drumbeat.yml");
    folder
        .write("drumbeat.yml", &settings.replace("tls: none", "tls: none, throttle: {rate: 50/s, burst: 1}"));
    let one = rejected[0]["profile"].as_str().unwrap();
    let why = ["--why", "the provider had us on a list"];
    folder.run(&[&["--now", later, "redrive", "--profile", one], &why[..]].concat()).code(0);
    assert_eq!(run(&folder, later).code(0).json()["deliveries"]["accepted"], 1);
    let latest = "2026-03-02T09:40:00Z";
    let code = rejected[0]["reason"].as_str().unwrap();
    folder.run(&[&["--now", latest, "redrive", "--reason", code], &why[..]].concat()).code(0);
    // Who opted out meanwhile does not get it after all.
    let two = rejected[1]["profile"].as_str().unwrap();
    let asked = ["consent", "withdraw", two, "--purpose", "offers", "--source", "phone"];
    folder.run(&[&["--now", latest][..], &asked].concat()).code(0);
    assert_eq!(run(&folder, latest).code(0).json()["deliveries"]["accepted"], rejected.len() - 2);
    assert_eq!(sink.messages().len(), rejected.len() - 1);
    folder.run(&["audit", "verify"]).code(0);
    let again = folder.run(&[&["--now", latest, "redrive"], &why[..]].concat()).code(0);
    assert!(again.err.contains("nothing that was rejected fits"), "{}", again.err);
}

#[test]
fn doubts_are_shown_and_closed_together() {
    let Some(silent) = Sink::start(&["-q", "."]) else { return };
    let folder = mailing(silent.port);
    let doubtful = run(&folder, NOW);
    let doubts = folder.run(&["--output", "ndjson", "in-doubt", "list"]).code(5).lines();
    // The breaker opens after twenty.
    assert!((20..=40).contains(&doubts.len()), "{} {}", doubts.len(), doubtful.err);
    let one = doubts[0]["delivery"].as_str().unwrap();
    let shown = folder.run(&["--output", "ndjson", "in-doubt", "show", one]).code(5).lines();
    assert_eq!((&shown[0]["attempt"], &shown[0]["outcome"]), (&1.into(), &"in_doubt".into()));
    let later = "2026-03-02T09:30:00Z";
    let which = folder.run(&["in-doubt", "resolve", "--as", "resend", "--reason", "x"]).code(2);
    assert!(which.err.contains("name one delivery"), "{}", which.err);
    folder
        .run(&["in-doubt", "resolve", one, "--playbook", "hello", "--as", "resend", "--reason", "x"])
        .code(2);
    let all =
        ["in-doubt", "resolve", "--playbook", "hello", "--as", "accepted", "--reason", "they have them"];
    let closed = folder.run(&[&["--now", later][..], &all[..]].concat()).code(0);
    assert!(closed.err.contains(&format!("{} closed as accepted", doubts.len())), "{}", closed.err);
    folder.run(&["in-doubt", "list"]).code(0);
    assert_eq!(log(&folder, &["--state", "accepted"]).len(), doubts.len());
}
