//! P21: a state that is put back from a copy, and what the journal beside it knows of the time since.

use serde_json::Value;

use crate::support::{Folder, SETTINGS, outbox};

const SEGMENT: &str = "title: All\nowner: o@shop.test\nwhy: \"Test.\"\nsql: \"select id from people\"\n";
const PLAYBOOK: &str = "title: Hello\nowner: o@shop.test\nwhy: \"Test.\"\nenter: segment.all\nbackfill: all\npurpose: tips\nreenter: always\n\
steps:\n  - {id: hello, send: hello}\n  - wait: 1d\n  - {id: again, send: again}\n";
const TEMPLATE: &str = "---\nsubject: Hello\n---\n<p>Hello</p><p>{{ postal_address }} <a href=\"{{ unsubscribe_url }}\">Unsubscribe</a></p>\n";

/// A playbook that everybody in the warehouse enters, with a second message a day after the first.
fn shop() -> Folder {
    let folder = Folder::empty();
    folder
        .write(
            "drumbeat.yml",
            &format!("{SETTINGS}destinations:\n  mail: {{connector: file, path: outbox}}\n"),
        )
        .write("data.yml", "profiles: {sql: \"select id, email from people\"}\n")
        .write("policy.yml", "purposes: {tips: {title: Tips, class: lifecycle}}\n")
        .write("segments/all.yml", SEGMENT)
        .write("playbooks/hello.yml", PLAYBOOK)
        .write("templates/hello.html", TEMPLATE)
        .write("templates/again.html", &TEMPLATE.replace("Hello", "Again"));
    folder.sql("warehouse.db", "create table people(id text primary key, email text);");
    folder
}

fn people(folder: &Folder, numbers: std::ops::RangeInclusive<u32>) {
    let rows: Vec<String> = numbers.map(|n| format!("('p{n:02}', 'p{n:02}@c.test')")).collect();
    folder.sql("warehouse.db", &format!("insert into people values {};", rows.join(", ")));
}

fn run(folder: &Folder, at: &str) {
    folder.run(&["--now", &format!("2026-03-{at}:00Z"), "run", "--once"]).code(0);
}

fn reconcile(folder: &Folder, code: i32) -> Value {
    folder.run(&["--now", "2026-03-03T11:00:00Z", "--output", "json", "reconcile"]).code(code).json()
}

/// The deliveries that went to a person, as the provider counts them; and those that the log says were accepted.
fn went_and_logged(folder: &Folder, person: &str) -> (Vec<String>, Vec<String>) {
    let mine = |line: &&Value| line.to_string().contains(&format!("{person}@c.test"));
    let went = outbox(folder);
    let mut went: Vec<String> =
        went.iter().filter(mine).map(|line| line["delivery"].as_str().unwrap().to_owned()).collect();
    let log = folder.run(&["--output", "ndjson", "log", "--profile", person, "--state", "accepted"]).code(0);
    let mut logged: Vec<String> =
        log.lines().iter().map(|line| line["delivery"].as_str().unwrap().to_owned()).collect();
    went.sort();
    logged.sort();
    (went, logged)
}

/// Who came in since, who was let in anew by a halted pass and so has another number, who is gone, said no or was erased: nobody gets anything twice.
#[test]
fn what_went_out_since_a_backup_is_known_again_and_goes_to_nobody_twice() {
    let folder = shop();
    people(&folder, 1..=10);
    run(&folder, "02T09:00");
    folder.run(&["backup", "copy.db"]).code(0);
    people(&folder, 11..=15);
    run(&folder, "02T10:00");
    run(&folder, "03T10:00");
    assert_eq!(outbox(&folder).len(), 30);
    let now = ["--now", "2026-03-03T10:30:00Z"];
    let act = |args: &[&str]| folder.run(&[&now[..], args].concat()).code(0);
    act(&["consent", "withdraw", "p02", "--purpose", "tips", "--source", "call"]);
    act(&["suppress", "add", "p03@c.test", "--reason", "asked"]);
    act(&["suppress", "add", "--profile", "p05", "--reason", "a mistake"]);
    act(&["suppress", "remove", "--profile", "p05", "--reason", "it was one"]);
    act(&["profile", "erase", "p04", "--reason", "asked"]);
    folder.sql("warehouse.db", "delete from people where id = 'p11';");
    folder.run(&["--now", "2026-03-03T10:40:00Z", "restore", "copy.db"]).code(0);
    folder.run(&["--now", "2026-03-03T10:45:00Z", "run", "--once"]);
    assert_eq!(outbox(&folder).len(), 30, "sent while halted");

    let told = reconcile(&folder, 5);
    let count = |name: &str| told[name].as_u64().unwrap();
    assert_eq!((count("accepted"), count("in_doubt"), count("not_taken")), (18, 0, 0), "{told}");
    assert_eq!((count("to_strangers"), count("ended")), (2, 4), "p11 is in neither: {told}");
    assert_eq!((count("consents"), count("erased"), count("broken")), (1, 1, 0), "{told}");
    assert_eq!(reconcile(&folder, 5)["accepted"], 0, "a second time changes nothing");

    folder.run(&["--now", "2026-03-03T11:30:00Z", "halt", "--lift", "--reason", "reconciled"]).code(0);
    for at in ["03T12:00", "04T12:00", "05T12:00"] {
        run(&folder, at);
        assert_eq!(outbox(&folder).len(), 30, "{at}: sent again");
    }
    for person in ["p01", "p12", "p15"] {
        let (went, logged) = went_and_logged(&folder, person);
        assert_eq!(went.len(), 2, "{person}");
        assert_eq!(went, logged, "{person}: what the log says of whom");
    }
    let consent = folder.run(&["--output", "ndjson", "consent", "show", "p02"]).code(0).out;
    assert!(consent.contains("withdrawn"), "{consent}");
    let suppressed = folder.run(&["--output", "ndjson", "suppress", "list"]).code(0);
    assert!(suppressed.out.contains("asked"), "{}", suppressed.out);
    assert!(!suppressed.out.contains("a mistake"), "lifted, and stays so: {}", suppressed.out);
    folder.run(&["--now", "2026-03-05T13:00:00Z", "profile", "erase", "p04", "--reason", "again"]).code(1);
    folder.run(&["audit", "verify"]).code(0);
    // Who is new gets what is theirs, under a number that nobody had.
    people(&folder, 16..=16);
    run(&folder, "05T14:00");
    assert_eq!(outbox(&folder).len(), 31);
    assert_eq!(folder.sql("state.db", "select number > 15 from profile where id = 'p16';"), "1");
}

/// What was handed over when the process was killed is in doubt after a restore, too, and listed.
#[test]
fn what_nobody_knew_of_is_in_doubt_after_a_restore() {
    let folder = shop();
    people(&folder, 1..=3);
    run(&folder, "02T09:00");
    folder.run(&["backup", "copy.db"]).code(0);
    people(&folder, 4..=9);
    let mut killed = folder.command(&["--now", "2026-03-02T10:00:00Z", "run", "--once"]);
    killed.env("DRUMBEAT_FAILPOINT", "settle.before_commit");
    assert!(!killed.output().unwrap().status.success());
    let sent = outbox(&folder).len();
    assert!(sent > 3, "{sent}");
    folder.run(&["--now", "2026-03-03T10:40:00Z", "restore", "copy.db"]).code(0);
    let told = reconcile(&folder, 5);
    assert_eq!(told["accepted"], 0, "{told}");
    let in_doubt = folder.run(&["--output", "ndjson", "in-doubt", "list"]).lines();
    assert_eq!(told["in_doubt"], in_doubt.len(), "{told}");
    let is_listed = |line: &Value| in_doubt.iter().any(|doubt| doubt["delivery"] == line["delivery"]);
    assert!(outbox(&folder)[3..].iter().all(is_listed), "{in_doubt:?}");
}

/// A folder that is no journal is said, and a line that somebody changed is left out.
#[test]
fn a_journal_that_was_changed_is_not_believed() {
    let folder = shop();
    people(&folder, 1..=3);
    folder.run(&["--now", "2026-03-02T08:00:00Z", "run", "--once"]).code(0);
    let journal = folder.path().join("journal");
    let day = std::fs::read_dir(&journal).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(&day).unwrap();
    assert!(!text.contains("c.test") && !text.contains("p01"), "no address and no id: {text}");
    std::fs::write(&day, text.replacen("\"attempt\":1", "\"attempt\":7", 1)).unwrap();
    let ran = folder.run(&["--now", "2026-03-03T11:00:00Z", "reconcile"]).code(0);
    assert!(ran.err.contains("1 lines of it are torn or were changed"), "{}", ran.err);
    let missing = folder.run(&["reconcile", "--journal", "nowhere"]).code(1);
    assert!(missing.err.contains("there is no folder nowhere"), "{}", missing.err);
}
