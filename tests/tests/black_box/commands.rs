//! What a growth engineer types on their own data: the run, its second pass, the plan, the explanation, the log.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::{Folder, NOW, PLAYBOOK, outbox, project, reachable};

const PEOPLE: usize = 400;

#[test]
fn a_run_writes_to_exactly_those_who_may_be_written_to_and_accounts_for_everybody() {
    let folder = project(PEOPLE);
    let ran = folder.run(&["--now", NOW, "--output", "json", "run", "--once"]).code(0);
    let expected: BTreeSet<String> = reachable(PEOPLE).iter().map(ToString::to_string).collect();
    assert_eq!(ran.json()["deliveries"]["accepted"], expected.len());
    let log = folder.run(&["--output", "ndjson", "log", "--playbook", "hello"]).code(0).lines();
    let mut rows: BTreeMap<String, usize> = BTreeMap::new();
    for row in &log {
        *rows.entry(row["profile"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(rows.len(), PEOPLE, "everybody of the segment is in the log");
    assert!(rows.values().all(|count| *count == 1), "exactly once");
    let accepted: BTreeSet<String> = log
        .iter()
        .filter(|row| row["state"] == "accepted")
        .map(|row| row["profile"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(accepted, expected);
    assert_eq!(outbox(&folder).len(), expected.len());
    for row in &log {
        let n: usize = row["profile"].as_str().unwrap().parse().unwrap();
        let reason = row["reason"].as_str().unwrap();
        let why = if n % 10 == 0 {
            "addr.missing"
        } else if n % 7 == 0 {
            "consent.absent"
        } else if n % 11 == 0 {
            "consent.withdrawn"
        } else if n % 4 == 1 {
            "time.quiet_policy"
        } else {
            "ok.accepted"
        };
        assert_eq!(reason, why, "{row}");
    }
}

#[test]
fn a_second_pass_at_the_same_time_finds_nothing_to_do() {
    let folder = project(100);
    folder.run(&["--now", NOW, "run", "--once"]).code(0);
    let sent = outbox(&folder).len();
    let again = folder.run(&["--now", NOW, "--output", "json", "run", "--once"]).code(0).json();
    assert_eq!(again["decisions"]["touch"], 0);
    assert_eq!(again["deliveries"]["accepted"], 0);
    assert_eq!(again["segments"].as_array().unwrap().len(), 0);
    assert_eq!(outbox(&folder).len(), sent);
}

#[test]
fn what_the_plan_foretells_is_what_the_run_does_and_the_plan_writes_nothing() {
    let folder = project(200);
    let plan = folder.run(&["--now", NOW, "--output", "json", "plan"]).code(0).json();
    assert!(!folder.path().join("state.db").exists(), "a plan makes no state");
    assert!(!folder.path().join("outbox").exists(), "a plan sends nothing");
    let run = folder.run(&["--now", NOW, "--output", "json", "run", "--once"]).code(0).json();
    assert_eq!(plan["segments"], run["segments"]);
    assert_eq!(plan["decisions"], run["decisions"]);
    assert_eq!(plan["deliveries"]["accepted"], run["deliveries"]["accepted"]);
    // Two days later: the second step, planned on a state that is there.
    let later = "2026-03-04T09:30:00Z";
    let before = std::fs::read(folder.path().join("state.db")).unwrap();
    let plan = folder.run(&["--now", later, "--output", "json", "plan"]).code(0).json();
    assert_eq!(
        before,
        std::fs::read(folder.path().join("state.db")).unwrap(),
        "a plan leaves the state as it is"
    );
    let run = folder.run(&["--now", later, "--output", "json", "run", "--once"]).code(0).json();
    assert_eq!(plan["decisions"], run["decisions"]);
    assert_eq!(plan["deliveries"]["accepted"], run["deliveries"]["accepted"]);
    assert!(run["deliveries"]["accepted"].as_u64().unwrap() > 0);
}

#[test]
fn explain_agrees_with_the_log_for_a_hundred_people() {
    let folder = project(100);
    folder.run(&["--now", NOW, "run", "--once"]).code(0);
    let log = folder.run(&["--output", "ndjson", "log"]).code(0).lines();
    for row in log {
        let id = row["profile"].as_str().unwrap();
        let told = folder.run(&["--now", NOW, "--output", "json", "explain", "--profile", id]).code(0).json();
        let step = &told["recorded"][0]["steps"][0];
        for key in ["delivery", "state", "reason", "decided_at", "expires_at"] {
            assert_eq!(step[key], row[key], "{id}: {key}");
        }
        let gates: BTreeSet<&str> =
            step["gates"].as_array().unwrap().iter().map(|gate| gate["gate"].as_str().unwrap()).collect();
        for gate in ["system", "identity", "suppression", "consent", "currency", "cap", "time", "holdout"] {
            assert!(gates.contains(gate), "{id}: {gate} is missing in {gates:?}");
        }
    }
    let people = folder.run(&["--now", NOW, "explain", "--profile", "7"]).code(0);
    assert!(people.out.contains("NOT SENT") && people.out.contains("consent.absent"), "{}", people.out);
    folder.run(&["explain", "--profile", "nobody"]).code(1);
}

#[test]
fn segments_equal_plain_sql_and_remember_who_was_in_them() {
    let folder = project(50);
    folder.run(&["--now", NOW, "run", "--once"]).code(0);
    folder.sql("warehouse.db", "update customers set active = 0 where customer_id in (3, 5); insert into customers values(999,'x@example.test','Europe/Berlin','en','X','team',1);");
    folder.run(&["--now", "2026-03-02T10:30:00Z", "run", "--once"]).code(0);
    let members = |args: &[&str]| -> BTreeSet<String> {
        let rows = folder.run(args).code(0).lines();
        rows.iter().map(|row| row["profile"].as_str().unwrap().to_owned()).collect()
    };
    let plain: BTreeSet<String> = folder
        .sql("warehouse.db", "select customer_id from customers where active = 1;")
        .lines()
        .map(ToOwned::to_owned)
        .collect();
    assert_eq!(members(&["--output", "ndjson", "segment", "show", "everybody", "--members"]), plain);
    let before = members(&["--output", "ndjson", "segment", "show", "segment.everybody", "--at", NOW]);
    assert_eq!(before.len(), 50);
    assert!(before.contains("3") && !before.contains("999"));
}

#[test]
fn a_run_that_is_suddenly_empty_is_held_and_nobody_leaves() {
    let folder = project(50);
    folder.run(&["--now", NOW, "run", "--once"]).code(0);
    folder.sql("warehouse.db", "update customers set active = 0;");
    let held =
        folder.run(&["--now", "2026-03-02T10:30:00Z", "--output", "json", "run", "--once"]).code(3).json();
    assert_eq!(held["segments"][0]["held"]["reason"], "seg.empty_source");
    assert_eq!(held["segments"][0]["members"], 50);
    let exits = folder.run(&["--output", "ndjson", "log", "--reason", "seg.left"]).code(0);
    assert_eq!(exits.out, "");
}

#[test]
fn a_state_only_goes_forward_and_one_run_at_a_time_has_it() {
    let folder = project(10);
    folder.run(&["--now", NOW, "run", "--once"]).code(0);
    let back = folder.run(&["--now", "2026-03-01T09:00:00Z", "run", "--once"]).code(1);
    assert!(back.err.contains("lies before the last run"), "{}", back.err);
}

#[test]
fn the_audit_log_verifies_and_a_flipped_byte_is_named() {
    let folder = project(60);
    folder.run(&["--now", NOW, "run", "--once"]).code(0);
    let good = folder.run(&["--output", "json", "audit", "verify"]).code(0).json();
    assert_eq!(good["good"], true);
    assert!(good["entries"].as_u64().unwrap() >= 60, "{good}");
    assert_eq!(good["unsealed"], 0);
    let refused = std::process::Command::new("sqlite3")
        .arg(folder.path().join("state.db"))
        .arg("update audit_batch set payload = replace(payload, 'accepted', 'rejected');")
        .output()
        .unwrap();
    assert!(!refused.status.success(), "the database itself refuses to change the log");
    folder.sql("state.db", "pragma wal_checkpoint(truncate);");
    // Somebody with the file in their hands can do it all the same, and is found out.
    let mut bytes = std::fs::read(folder.path().join("state.db")).unwrap();
    let needle = b"\"outcome\":\"accepted\"";
    // Every place where it stands: old copies lie in free pages.
    let places: Vec<usize> = bytes
        .windows(needle.len())
        .enumerate()
        .filter(|(_, window)| window == needle)
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty(), "an attempt in the log");
    for at in places {
        bytes[at + needle.len() - 2] ^= 1;
    }
    std::fs::write(folder.path().join("state.db"), bytes).unwrap();
    let bad = folder.run(&["--output", "json", "audit", "verify"]).code(1).json();
    assert_eq!(bad["good"], false);
    assert!(bad["fault"]["entry"].is_u64(), "{bad}");
}

#[test]
fn operators_acts_take_effect_and_are_in_the_log() {
    let folder = project(40);
    folder.run(&["halt", "--reason", "a drill"]).code(0);
    let halted = folder.run(&["--now", NOW, "--output", "json", "run", "--once"]).json();
    assert_eq!(halted["deliveries"]["accepted"], 0);
    folder.run(&["halt", "--lift", "--reason", "over"]).code(0);
    folder.run(&["suppress", "add", "p2@example.test", "--reason", "asked by phone"]).code(0);
    folder
        .run(&["--now", NOW, "consent", "withdraw", "3", "--purpose", "offers", "--source", "phone"])
        .code(0);
    folder.run(&["--now", NOW, "run", "--once"]).code(0);
    let reason_of = |id: &str| {
        folder.run(&["--output", "ndjson", "log", "--profile", id]).code(0).lines()[0]["reason"].clone()
    };
    assert_eq!(reason_of("2"), "supp.manual");
    assert_eq!(reason_of("3"), "consent.withdrawn");
    let log = folder.run(&["audit", "export"]).code(0).out;
    for kind in ["halt", "halt_lifted", "suppression", "consent", "segment_run", "decision", "attempt"] {
        assert!(log.contains(&format!("\"kind\":\"{kind}\"")), "{kind}");
    }
    assert!(!log.contains("@example.test"), "no address is in the log");
    folder.run(&["profile", "erase", "6", "--reason", "asked"]).code(0);
    folder.run(&["--now", "2026-03-02T10:30:00Z", "run", "--once"]).code(0);
    folder.run(&["explain", "--profile", "6"]).code(1);
}

#[test]
fn the_log_is_exported_whole_and_a_spreadsheet_is_safe_with_it() {
    let folder = project(30);
    folder.run(&["--now", NOW, "run", "--once"]).code(0);
    folder.run(&["log", "--export", "log.csv"]).code(0);
    folder.run(&["log", "--export", "log.jsonl"]).code(0);
    assert_eq!(folder.read("log.csv").lines().count(), 31);
    assert_eq!(folder.read("log.jsonl").lines().count(), 30);
    folder.run(&["log", "--export", "log.xlsx"]).code(1);
    folder.run(&["log", "--state", "nonsense"]).code(1);
    folder.run(&["backup", "copy.db"]).code(0);
    assert_eq!(folder.sql("copy.db", "select count(*) from delivery;"), "30");
}

#[test]
fn a_playbook_in_production_waits_for_a_person() {
    let folder = project(20);
    let settings = folder.read("drumbeat.yml");
    folder.write(
        "drumbeat.yml",
        &format!("{settings}production: true\nkeys: {{root: {{env: DRUMBEAT_TEST_KEY}}}}\ndeliver: all\n"),
    );
    let run = |folder: &Folder, args: &[&str]| {
        let mut command = folder.command(args);
        command.env("DRUMBEAT_TEST_KEY", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=");
        crate::support::Ran::from(command.output().unwrap())
    };
    folder.run(&["run", "--once"]).code(78);
    run(&folder, &["--now", NOW, "run", "--once"]).code(78);
    let nothing = run(&folder, &["--output", "json", "run", "--once"]).code(0).json();
    assert_eq!(nothing["decisions"]["touch"], 0);
    assert_eq!(nothing["segments"][0]["members"], 20);
    run(&folder, &["playbook", "activate", "hello"]).code(0);
    run(&folder, &["--output", "json", "run", "--once"]).code(0);
    let log = run(&folder, &["--output", "ndjson", "log"]).code(0).lines();
    assert_eq!(log.len(), 20);
}

/// In production many people at the first run of a version are not let in by one person alone; and of those, the first messages go alone.
#[test]
fn a_large_first_run_waits_for_a_second_person_and_its_canary_goes_alone() {
    let people = 300;
    let folder = project(people);
    let settings = folder.read("drumbeat.yml");
    folder
        .write(
            "drumbeat.yml",
            &format!("{settings}production: true\nkeys: {{root: {{env: DRUMBEAT_TEST_KEY}}}}\ndeliver: all\n"),
        )
        .write(
            "policy.yml",
            "purposes:\n  offers: {title: Offers, class: lifecycle}\nguards: {first_run: 100, canary: {share: 1%, min: 20, soak: 1h}, per_hour: 200}\n",
        );
    let run = |args: &[&str]| {
        let mut command = folder.command(args);
        command
            .env("DRUMBEAT_TEST_KEY", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
            .env("DRUMBEAT_ACTOR", "ana");
        crate::support::Ran::from(command.output().unwrap())
    };
    let pass = |code| run(&["--output", "json", "run", "--once"]).code(code).json();
    run(&["playbook", "activate", "hello"]).code(0);
    let held = pass(3);
    assert_eq!(held["held"][0]["reason"], "approval.missing", "{held}");
    assert_eq!(held["decisions"]["touch"], 0);
    run(&["playbook", "approve", "hello"]).code(2);
    run(&["playbook", "approve", "hello", "--second", "ana"]).code(3);
    let said = run(&["playbook", "approve", "hello", "--second", "lena"]).code(0);
    assert!(said.err.contains("300 people may enter"), "{}", said.err);
    let reachable = people - people / 10;
    let canary = pass(0);
    assert_eq!(canary["decisions"]["touch"], reachable, "{canary}");
    assert_eq!((&canary["deliveries"]["accepted"], outbox(&folder).len()), (&20.into(), 20), "{canary}");
    assert_eq!(canary["waiting"][0]["reason"], "guard.canary_wait", "{canary}");
    assert_eq!(canary["waiting"][0]["whose"], "playbook hello");
    assert_eq!((&pass(0)["deliveries"]["accepted"], outbox(&folder).len()), (&0.into(), 20));
    // As if the hour were over: the others go, as many as the project's hour allows.
    folder.sql("state.db", "update canary set full_at_ms = full_at_ms - 3600000;");
    let rest = pass(0);
    assert_eq!((&rest["deliveries"]["accepted"], outbox(&folder).len()), (&180.into(), 200), "{rest}");
    assert_eq!(rest["waiting"][0]["reason"], "guard.hourly_budget", "{rest}");
    assert_eq!(rest["deliveries"]["pending"], reachable - 200);
    // What is small, or known, needs nobody.
    let audit = run(&["--output", "ndjson", "audit", "export"]).code(0);
    assert!(audit.out.contains("first_run_approved") && audit.out.contains("lena"), "{}", audit.out);
}

/// Rows that were due when their playbook was paused wait with it: they are not claimed and given back over and over.
#[test]
fn what_is_due_waits_while_its_playbook_is_paused_and_goes_when_it_goes_on() {
    let expected = reachable(30).len();
    for (stop, go) in [
        (vec!["playbook", "pause", "hello"], vec!["playbook", "resume", "hello"]),
        (
            vec!["halt", "--scope", "playbook.hello", "--reason", "a drill"],
            vec!["halt", "--scope", "playbook.hello", "--lift", "--reason", "over"],
        ),
    ] {
        let folder = project(30);
        // It dies with everything decided and nothing sent.
        let mut dying = folder.command(&["--now", NOW, "run", "--once"]);
        assert!(!dying.env("DRUMBEAT_FAILPOINT", "enter.after_commit").output().unwrap().status.success());
        folder.run(&stop).code(0);
        let waiting = folder.run(&["--now", NOW, "--output", "json", "run", "--once"]).code(0).json();
        assert_eq!(waiting["deliveries"]["pending"], expected, "{waiting}");
        assert!(outbox(&folder).is_empty());
        folder.run(&go).code(0);
        folder.run(&["--now", NOW, "run", "--once"]).code(0);
        assert_eq!(outbox(&folder).len(), expected);
    }
}

/// Everybody who enters has a row, also who is out again at once; and a pass that somebody stopped says so.
#[test]
fn who_is_out_at_once_is_in_the_log_and_a_halt_is_said() {
    let folder = project(30);
    let exits = PLAYBOOK.replace("steps:", "exit: {when: {profile.plan: team}}\nsteps:");
    folder.write("playbooks/hello.yml", &exits);
    folder.run(&["halt", "--reason", ""]).code(2);
    folder.run(&["halt", "--reason", "a drill"]).code(0);
    for command in [vec!["--now", NOW, "plan"], vec!["--now", NOW, "run", "--once"]] {
        let said = folder.run(&command).code(0).err;
        assert!(said.contains("everything is halted since") && said.contains("a drill"), "{said}");
    }
    folder.run(&["halt", "--lift"]).code(0);
    let run = folder.run(&["--now", NOW, "--output", "json", "run", "--once"]).code(0);
    assert!(!run.err.contains("halted"), "{}", run.err);
    assert_eq!(run.json()["decisions"]["skip"]["exit.criteria_met"], 30);
    let log = folder.run(&["--output", "ndjson", "log"]).code(0).lines();
    assert_eq!(log.len(), 30);
    assert!(log.iter().all(|row| row["step"] == "entry" && row["reason"] == "exit.criteria_met"));
}

/// Rows that cannot each be a person are counted and said, and the others are served.
#[test]
fn people_who_are_there_twice_or_without_an_id_are_said() {
    let folder = project(20);
    folder.write(
        "data.yml",
        "profiles: {sql: \"select customer_id as id, email, timezone, locale, first_name, plan from customers\n    \
         union all select 7, 'again@example.test', null, null, null, null union all select null, 'nobody@example.test', null, null, null, null\"}\n",
    );
    let run = folder.run(&["--now", NOW, "run", "--once"]).code(0);
    assert!(run.err.contains("20 people, 1 rows more with an id that another row has"), "{}", run.err);
    assert!(run.err.contains("and 1 without an id"), "{}", run.err);
    assert_eq!(outbox(&folder).len(), reachable(20).len());
}

/// Those under way stay on their version, and what that version waits for is still looked for when the files have another.
#[test]
fn who_waits_for_something_on_an_old_version_is_not_forgotten() {
    let folder = project(3);
    let until =
        PLAYBOOK.replace("wait: 2d", "{id: w, wait: {until: {profile.plan: business}, at_most: 30d}}");
    folder.write("playbooks/hello.yml", &until);
    folder.run(&["--now", NOW, "run", "--once"]).code(0);
    let sent = outbox(&folder).len();
    assert_eq!(sent, reachable(3).len());
    folder.write("playbooks/hello.yml", PLAYBOOK);
    folder.run(&["--now", "2026-03-03T09:00:00Z", "run", "--once"]).code(0);
    assert_eq!(outbox(&folder).len(), sent);
    folder.sql("warehouse.db", "update customers set plan = 'business'");
    folder.run(&["--now", "2026-03-04T09:00:00Z", "run", "--once"]).code(0);
    assert_eq!(
        outbox(&folder).len(),
        2 * sent,
        "the condition came to hold on a version that is not in the files"
    );
}

/// r03: a state put back from a copy does not send again what went out since, by itself: with `restore`, and where somebody copied the file.
#[test]
fn a_restored_state_sends_nothing_until_a_person_has_looked() {
    let folder = project(30);
    let settings = folder.read("drumbeat.yml");
    folder
        .write(
            "drumbeat.yml",
            &format!(
                "{settings}production: true\nkeys: {{root: {{env: DRUMBEAT_TEST_KEY}}}}\ndeliver: all\n"
            ),
        )
        .write("policy.yml", "purposes:\n  offers: {title: Offers, class: lifecycle}\n");
    let run = |args: &[&str]| {
        let mut command = folder.command(args);
        command.env("DRUMBEAT_TEST_KEY", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=");
        crate::support::Ran::from(command.output().unwrap())
    };
    run(&["run", "--once"]).code(0);
    let said = run(&["backup", "copy.db"]).code(0).err;
    assert!(said.contains("30 people, 0 deliveries"), "{said}");
    run(&["backup", "--verify", "copy.db"]).code(0);
    run(&["playbook", "activate", "hello"]).code(0);
    folder.sql("state.db", "delete from segment;");
    run(&["run", "--once"]).code(0);
    let went = outbox(&folder).len();
    assert_eq!(went, 27);
    let said = run(&["restore", "copy.db"]).code(0).err;
    assert!(said.contains("everything is halted") && said.contains("state.db.before-"), "{said}");
    run(&["playbook", "activate", "hello"]).code(0);
    let halted = run(&["run", "--once"]).code(0).err;
    assert!(halted.contains("restored from a backup of"), "{halted}");
    assert_eq!(outbox(&folder).len(), went, "sent again");
    run(&["audit", "verify"]).code(0);
    let put_aside = std::fs::read_dir(folder.path()).unwrap().filter(|entry| {
        entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("state.db.before-")
    });
    assert!(put_aside.count() >= 1);
    // Somebody changes a byte of a backup.
    let mut bytes = std::fs::read(folder.path().join("copy.db")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(folder.path().join("copy.db"), bytes).unwrap();
    let refused = run(&["restore", "copy.db"]).code(1).err;
    assert!(refused.contains("is not good"), "{refused}");
    // Or copies the file back by hand, behind a daemon that ran later.
    run(&["halt", "--lift", "--reason", "looked"]).code(0);
    folder.sql("state.db", "insert into meta values ('last_alive_ms', '1770000000000') on conflict (key) do update set value = '1770000000000';");
    folder.write(".drumbeat-last-alive", "1770000600000");
    let halted = run(&["run", "--once"]).code(0).err;
    assert!(halted.contains("put back from a copy"), "{halted}");
    assert_eq!(outbox(&folder).len(), went, "sent again");
}

#[test]
fn what_this_build_speaks_is_listed_described_and_tested() {
    let folder = Folder::empty();
    let listed = folder.run(&["--output", "ndjson", "connector", "list"]).code(0).lines();
    let names: Vec<&str> = listed.iter().map(|row| row["connector"].as_str().unwrap()).collect();
    assert!(names.contains(&"smtp") && names.contains(&"ses") && names.is_sorted(), "{names:?}");
    for name in &names {
        let described = folder.run(&["--output", "ndjson", "connector", "describe", name]).code(0);
        assert!(described.lines().iter().all(|row| !row["about"].as_str().unwrap().is_empty()), "{name}");
    }
    let tested = folder.run(&["connector", "test", "file"]).code(0);
    assert!(tested.err.contains("conforms"), "{}", tested.err);
    let unknown = folder.run(&["connector", "describe", "fax"]).code(1);
    assert!(
        unknown.err.contains("there is no connector `fax`") && unknown.err.contains("postmark"),
        "{}",
        unknown.err
    );
}
