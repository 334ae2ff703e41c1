//! SIGKILL in the middle, and again: nothing twice, nothing lost, every doubt listed.

use std::collections::BTreeMap;

use crate::support::{Folder, NOW, SETTINGS, Sink, outbox, project, reachable};

const PEOPLE: usize = 300;

/// Runs with a failpoint until a run ends by itself; then every reachable person has the message exactly once, or is in doubt.
fn killed_at(failpoint: &str) {
    let folder = project(PEOPLE);
    let mut command = folder.command(&["--now", NOW, "run", "--once"]);
    command.env("DRUMBEAT_FAILPOINT", failpoint);
    let died = command.output().unwrap();
    assert!(
        !died.status.success(),
        "{failpoint} was never passed: {}",
        String::from_utf8_lossy(&died.stdout)
    );
    // `--now` shows the same time again: a crash is no reason to be asked for another one.
    let after = folder.run(&["--now", NOW, "--output", "json", "run", "--once"]);
    assert!(after.code == 0 || after.code == 5, "{failpoint}: {}", after.err);
    check(&folder, failpoint);
}

fn check(folder: &Folder, what: &str) {
    let mut sent: BTreeMap<String, usize> = BTreeMap::new();
    for line in outbox(folder) {
        *sent.entry(line["delivery"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert!(sent.values().all(|count| *count == 1), "{what}: sent twice");
    let log = folder.run(&["--output", "ndjson", "log", "--playbook", "hello"]).code(0).lines();
    assert_eq!(log.len(), PEOPLE, "{what}: everybody once");
    let in_doubt = log.iter().filter(|row| row["state"] == "in_doubt").count();
    let accepted = log.iter().filter(|row| row["state"] == "accepted").count();
    assert_eq!(accepted + in_doubt, reachable(PEOPLE).len(), "{what}: nobody is lost");
    assert!(in_doubt <= 64, "{what}: {in_doubt} in doubt");
    for row in &log {
        let was_sent = sent.contains_key(row["delivery"].as_str().unwrap());
        match row["state"].as_str().unwrap() {
            "accepted" => assert!(was_sent, "{what}: {row}"),
            "in_doubt" => {}
            _ => assert!(!was_sent, "{what}: {row}"),
        }
    }
    let listed = folder.run(&["--output", "ndjson", "in-doubt", "list"]).lines();
    assert_eq!(listed.len(), in_doubt, "{what}: every doubt is listed");
    folder.run(&["audit", "verify"]).code(0);
}

macro_rules! kills {
    ($($name:ident at $failpoint:literal)*) => { $(
        #[test]
        fn $name() {
            killed_at($failpoint);
        }
    )* };
}

kills! {
    killed_before_a_segment_is_committed at "segment.before_commit"
    killed_after_a_segment_is_committed at "segment.after_commit"
    killed_before_a_page_of_entries_is_committed at "enter.before_commit"
    killed_before_a_claim_is_committed at "claim.before_commit"
    killed_after_a_claim_is_committed at "claim.after_commit"
    killed_before_arming_is_committed at "arm.before_commit"
    killed_after_the_journal_is_written at "journal.after_append"
    killed_with_the_third_message_about_to_be_settled at "settle.before:3"
    killed_before_results_are_committed at "settle.before_commit:2"
    killed_after_results_are_committed at "settle.after_commit:2"
}

#[test]
fn entering_goes_on_after_the_last_page_that_was_committed() {
    killed_at("enter.after_commit");
}

#[test]
fn killed_at_any_moment_again_and_again() {
    let folder = project(PEOPLE);
    let mut finished = false;
    for n in 0..40u64 {
        let mut command = folder.command(&["--now", NOW, "run", "--once"]);
        // Other places each time: derived, not drawn.
        let points = [
            "enter.after_commit",
            "claim.after_commit",
            "arm.before_commit",
            "settle.before",
            "settle.before_commit",
            "settle.after_commit",
        ];
        let point = points[usize::try_from(n).unwrap() % points.len()];
        command.env("DRUMBEAT_FAILPOINT", format!("{point}:{}", 1 + (n * 7) % 5));
        if command.output().unwrap().status.code().is_some_and(|code| code == 0 || code == 5) {
            finished = true;
            break;
        }
    }
    if !finished {
        let last = folder.run(&["--now", NOW, "run", "--once"]);
        assert!(last.code == 0 || last.code == 5, "{}", last.err);
    }
    let mut sent: BTreeMap<String, usize> = BTreeMap::new();
    for line in outbox(&folder) {
        *sent.entry(line["delivery"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert!(sent.values().all(|count| *count == 1), "sent twice");
    let log = folder.run(&["--output", "ndjson", "log"]).code(0).lines();
    let settled = log.iter().filter(|row| row["state"] == "accepted" || row["state"] == "in_doubt").count();
    assert_eq!(settled, reachable(PEOPLE).len());
}

#[test]
fn who_a_process_dies_of_is_left_out_after_three_times_and_nobody_else_is() {
    let folder = project(PEOPLE);
    let poison = reachable(PEOPLE)[50].to_string();
    let run = || {
        let mut command = folder.command(&["--now", NOW, "--output", "json", "run", "--once"]);
        command.env("DRUMBEAT_POISON", &poison).output().unwrap()
    };
    for death in 1..=3 {
        assert!(!run().status.success(), "it does not die, for the {death}. time");
    }
    let last = run();
    let said = String::from_utf8_lossy(&last.stderr);
    assert_eq!(last.status.code(), Some(0), "{said}");
    assert!(said.contains("3 processes died with it in hand"), "{said}");
    check_all_but(&folder, &poison, "fail.poison");
    let explained = folder.run(&["--now", NOW, "explain", "--profile", &poison]).code(0);
    assert!(explained.out.contains("fail.poison"), "{}", explained.out);
}

#[test]
fn a_message_that_panics_keeps_nobody_else_waiting() {
    let folder = project(PEOPLE);
    let bad = reachable(PEOPLE)[50].to_string();
    let mut command = folder.command(&["--now", NOW, "run", "--once"]);
    let ran = command.env("DRUMBEAT_PANIC", &bad).output().unwrap();
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    check_all_but(&folder, &bad, "fail.internal");
}

/// Everybody reachable has the message once, but for one, who is rejected.
fn check_all_but(folder: &Folder, poison: &str, reason: &str) {
    let sent = outbox(folder);
    assert_eq!(sent.len(), reachable(PEOPLE).len() - 1);
    let rejected = folder.run(&["--output", "ndjson", "log", "--state", "rejected"]).code(0).lines();
    assert_eq!(rejected.len(), 1, "{rejected:?}");
    assert_eq!(rejected[0]["profile"], poison);
    assert_eq!(rejected[0]["reason"], reason);
    folder.run(&["audit", "verify"]).code(0);
}

#[test]
fn a_doubt_is_closed_by_a_person() {
    // Files may be written again; a mail may not.
    let Some(sink) = Sink::start(&[]) else { return };
    let folder = project(50);
    let mail = format!(
        "destinations:\n  mail: {{connector: smtp, host: 127.0.0.1, port: {}, tls: none}}\n",
        sink.port
    );
    folder.write("drumbeat.yml", &format!("{SETTINGS}{mail}"));
    let mut command = folder.command(&["--now", NOW, "run", "--once"]);
    command.env("DRUMBEAT_FAILPOINT", "settle.before:2");
    assert!(!command.output().unwrap().status.success());
    folder.run(&["--now", NOW, "run", "--once"]).code(5);
    let doubts = folder.run(&["--output", "ndjson", "in-doubt", "list"]).code(5).lines();
    assert!(!doubts.is_empty());
    for (position, doubt) in doubts.iter().enumerate() {
        let how = ["accepted", "not-accepted", "resend"][position % 3];
        let id = doubt["delivery"].as_str().unwrap();
        folder
            .run(&["--now", NOW, "in-doubt", "resolve", id, "--as", how, "--reason", "looked at the outbox"])
            .code(0);
    }
    folder.run(&["--output", "ndjson", "in-doubt", "list"]).code(0);
    folder.run(&["in-doubt", "resolve", "nonsense", "--as", "accepted", "--reason", "x"]).code(1);
    folder.run(&["--now", NOW, "run", "--once"]).code(0);
}
