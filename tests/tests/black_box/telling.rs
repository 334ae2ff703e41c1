//! What commands say of themselves: nothing that happened is silent, and nothing that is said is untrue.

use crate::support::{NOW, PLAYBOOK, outbox, project, reachable};

/// A first run after which nobody was decided says who was there already, and how to let them in.
#[test]
fn who_was_there_before_a_playbook_began_is_said() {
    let folder = project(30);
    folder.write("playbooks/hello.yml", &PLAYBOOK.replace("backfill: all\n", ""));
    let expected = "30 members of `everybody` were there before playbook `hello` began and are not entered: `backfill: none`; \
                    `backfill: all` in playbooks/hello.yml, written before its first run, lets them in";
    let plan = folder.run(&["--now", NOW, "plan"]).code(0);
    assert!(plan.out.contains(expected), "{}", plan.out);
    let json = folder.run(&["--now", NOW, "--output", "json", "plan"]).code(0).json();
    assert_eq!(json["playbooks"][0]["not_entered"], 30, "{json}");
    let run = folder.run(&["--now", NOW, "run", "--once"]).code(0);
    assert!(run.out.contains(expected), "{}", run.out);
    // It is so once, when the playbook begins.
    let again = folder.run(&["--now", "2026-03-02T11:00:00Z", "run", "--once"]).code(0);
    assert!(!again.out.contains("not entered"), "{}", again.out);
}

/// Messages by hour are what this plan would send and what waits, not what went out before.
#[test]
fn a_plan_does_not_count_what_was_sent_before() {
    let folder = project(40);
    folder.run(&["--now", NOW, "run", "--once"]).code(0);
    assert_eq!(outbox(&folder).len(), reachable(40).len());
    let deferred = folder.run(&["--output", "ndjson", "log", "--state", "deferred"]).code(0).lines().len();
    assert!(deferred > 0);
    // At the time of the run, before it, and after it.
    for now in [NOW, "2026-03-02T08:00:00Z", "2026-03-02T09:30:00Z"] {
        let plan = folder.run(&["--now", now, "--output", "json", "plan"]).code(0).json();
        let counted: u64 =
            plan["hours"].as_array().unwrap().iter().map(|hour| hour["messages"].as_u64().unwrap()).sum();
        assert_eq!(counted, deferred as u64, "{now}: {plan}");
    }
}

#[test]
fn rows_of_consent_that_make_no_sense_are_counted_by_what_is_wrong_with_them() {
    let folder = project(20);
    folder.sql(
        "warehouse.db",
        "insert into consents values(1,'email','offers',null,'2026-01-01T00:00:00Z','form'),(2,'email','offers',null,'2026-01-01T00:00:00Z','form'),\
         (3,'email',null,'granted','2026-01-01T00:00:00Z','form'),(4,'post','offers','granted','2026-01-01T00:00:00Z','form');",
    );
    let ran = folder.run(&["--now", NOW, "run", "--once"]).code(0);
    let expected = "4 rows of the consent query left out: column `channel` is not a channel or `*` in 1 row; \
                    column `purpose` is empty in 1 row; column `status` is empty in 2 rows";
    assert!(ran.err.contains(expected), "{}", ran.err);
}

#[test]
fn all_that_is_wrong_with_a_row_of_an_import_is_said() {
    let folder = project(5);
    folder.write("consents.csv", "profile,channel,purpose,status,changed_at\n1,post,ofers,granted,2026-01-01T00:00:00Z\n2,email,offers,maybe,yesterday\n");
    let ran = folder.run(&["consent", "import", "consents.csv"]).code(1);
    for line in [
        "consents.csv:2: `post` is no channel; `ofers` is no purpose",
        "consents.csv:3: `maybe` is no status: granted, withdrawn or pending; `yesterday` is no time in RFC 3339",
    ] {
        assert!(ran.err.contains(line), "{}", ran.err);
    }
}

#[test]
fn an_id_that_nobody_has_is_said_and_what_was_asked_is_done() {
    let folder = project(5);
    let withdraw = |id: &str| {
        folder.run(&["consent", "withdraw", id, "--purpose", "offers", "--source", "phone"]).code(0).err
    };
    assert!(!withdraw("3").contains("warning"), "{}", withdraw("3"));
    let warning = "warning: nobody in the warehouse has the id `stranger`";
    assert!(withdraw("stranger").contains(warning), "{}", withdraw("stranger"));
    let add = folder.run(&["suppress", "add", "--profile", "stranger", "--reason", "asked"]).code(0).err;
    assert!(add.contains("on the list") && add.contains(warning), "{add}");
    assert!(folder.run(&["suppress", "list"]).code(0).out.contains("profile stranger"));
    let export = folder.run(&["profile", "export", "stranger"]).code(0).json();
    assert_eq!(export["warning"], "nobody in the warehouse has this id now");
    // Not even a warehouse that is away keeps somebody from opting out.
    std::fs::rename(folder.path().join("warehouse.db"), folder.path().join("away.db")).unwrap();
    assert!(withdraw("4").contains("could not be asked"), "{}", withdraw("4"));
    std::fs::rename(folder.path().join("away.db"), folder.path().join("warehouse.db")).unwrap();
    let erase = folder.run(&["profile", "erase", "stranger", "--reason", "asked"]).code(0).err;
    assert!(erase.contains("erased") && erase.contains(warning), "{erase}");
}

/// Each environment is checked, and what is wrong in several is said once, with their names.
#[test]
fn every_environment_is_checked_at_once() {
    let folder = project(5);
    let settings = folder.read("drumbeat.yml");
    folder.write(
        "drumbeat.yml",
        &format!(
            "{settings}environments:\n  staging: {{}}\n  old: {{warehouse: {{url: \"sqlite://old.db\"}}}}\n  broken: {{timezone: Nowhere}}\n"
        ),
    );
    folder.sql("old.db", &crate::support::warehouse_sql(5).replace("plan text", "tier text"));
    folder.run(&["check"]).code(0);
    let all = folder.run(&["--env", "all", "check"]).code(1).err;
    assert!(all.contains("in environment `broken`: `Nowhere` is not"), "{all}");
    assert_eq!(
        all.matches("in environment `old`: the database refuses the query: no such column: plan").count(),
        2,
        "{all}"
    );
    let json = folder.run(&["--env", "all", "--output", "json", "check"]).code(1).json();
    assert!(
        json.as_array().unwrap().iter().any(|one| one["environments"] == serde_json::json!(["broken"])),
        "{json}"
    );
    // What is wrong everywhere is said once, and of no environment.
    folder.write("playbooks/hello.yml", &PLAYBOOK.replace("title:", "titel:"));
    let all = folder.run(&["--env", "all", "check"]).code(1).err;
    assert_eq!(all.matches("unknown key `titel`").count(), 1, "{all}");
    assert!(all.contains("error[E0102]: unknown key `titel`"), "{all}");
    folder.write("playbooks/hello.yml", PLAYBOOK).write("drumbeat.yml", &settings);
    folder.run(&["--env", "all", "check"]).code(0);
}

#[test]
fn a_history_has_every_change_and_the_log_the_last_of_each() {
    let folder = project(40);
    folder.run(&["--now", NOW, "run", "--once"]).code(0);
    folder.run(&["--now", "2026-03-02T20:00:00Z", "run", "--once"]).code(0);
    let latest = folder.run(&["--output", "ndjson", "log"]).code(0).lines();
    let history = folder.run(&["--output", "ndjson", "log", "--history"]).code(0).lines();
    assert!(history.len() > latest.len());
    for key in [
        "delivery",
        "profile",
        "playbook",
        "version",
        "step",
        "channel",
        "destination",
        "state",
        "reason",
        "decided_at",
        "settled_at",
        "receipt",
    ] {
        assert!(history.iter().all(|change| change.get(key).is_some()), "{key}");
    }
    for row in &latest {
        let of_row: Vec<_> = history.iter().filter(|change| change["delivery"] == row["delivery"]).collect();
        for key in ["state", "reason", "settled_at", "receipt"] {
            assert_eq!(of_row[0][key], row[key], "{key} of the newest change: {:?} {row}", of_row[0]);
        }
        if row["state"] == "accepted" {
            let states: Vec<_> = of_row.iter().map(|change| change["state"].as_str().unwrap()).collect();
            assert!(states.starts_with(&["accepted", "pending"]), "{states:?}");
        }
    }
    // Who slept was put off first, and that is in the history of a row that was accepted since.
    let deferred =
        folder.run(&["--output", "ndjson", "log", "--history", "--state", "deferred"]).code(0).lines();
    assert!(deferred.iter().any(|change| {
        latest.iter().any(|row| row["delivery"] == change["delivery"] && row["state"] == "accepted")
    }));
    let one = folder
        .run(&["--output", "ndjson", "log", "--history", "--profile", "1", "--limit", "1"])
        .code(0)
        .lines();
    assert_eq!((one.len(), &one[0]["profile"]), (1, &"1".into()));
    folder.run(&["log", "--history", "--export", "history.csv"]).code(0);
    assert_eq!(folder.read("history.csv").lines().count(), history.len() + 1);
    folder.run(&["log", "--limit", "0"]).code(2);
}

#[test]
fn what_is_one_object_is_no_csv_and_the_version_is_an_object() {
    let folder = project(5);
    let version = folder.run(&["--output", "json", "version"]).code(0).json();
    assert_eq!(version["name"], "drumbeat");
    assert!(version["version"].is_string());
    for command in [
        vec!["preview", "hello.hello", "--profile", "1"],
        vec!["plan"],
        vec!["run", "--once"],
        vec!["explain", "--profile", "1"],
    ] {
        let ran = folder.command(&command).args(["--output", "csv"]).output().unwrap();
        assert_eq!(ran.status.code(), Some(2), "{command:?}");
        assert!(ran.stdout.is_empty());
    }
    assert!(!folder.path().join("state.db").exists(), "nothing ran");
}

#[test]
fn a_template_is_previewed_by_its_full_name_too() {
    let folder = project(5);
    let preview = |what: &str| folder.run(&["--now", NOW, "preview", what, "--profile", "1"]).code(0).out;
    for what in ["hello", "template.hello"] {
        assert!(preview(what).contains("Hello Name1, plan team."), "{}", preview(what));
    }
}

#[test]
fn commands_that_are_shown_can_be_typed_in_a_folder_with_a_space() {
    let folder = project(5);
    let made = folder.run(&["init", "my project", "--warehouse", "sqlite://warehouse.db"]).code(0);
    assert!(made.err.contains("drumbeat -C 'my project' plan"), "{}", made.err);
    // What it made says on its first plan what it would do.
    let plan = folder.run(&["-C", "my project", "plan"]).code(0);
    assert!(plan.out.contains("welcome"), "{}", plan.out);
    let demo = folder.run(&["demo", "the demo"]).code(0);
    assert!(demo.err.contains("drumbeat -C 'the demo' test"), "{}", demo.err);
    assert!(folder.read("the demo/.gitignore").contains(".drumbeat/"));
}

#[test]
fn what_is_stopped_is_in_the_json_of_a_run_and_of_a_plan() {
    let folder = project(5);
    folder.run(&["--now", NOW, "run", "--once"]).code(0);
    folder.run(&["halt", "--scope", "destination.mail", "--reason", "a drill"]).code(0);
    folder.run(&["playbook", "pause", "hello"]).code(0);
    for command in [vec!["plan"], vec!["run", "--once"]] {
        let json = folder.command(&command).args(["--now", NOW, "--output", "json"]).output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
        let halt = &json["halts"][0];
        assert_eq!(
            (&halt["scope"], &halt["reason"]),
            (&"destination.mail".into(), &"a drill".into()),
            "{json}"
        );
        assert_eq!(halt["lifted_by"], "drumbeat halt --lift --scope destination.mail");
        assert_eq!(json["paused"], serde_json::json!(["hello"]));
    }
}
