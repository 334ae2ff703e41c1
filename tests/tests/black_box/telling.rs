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
