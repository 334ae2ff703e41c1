//! Each mistake made on purpose: a clear error with its place, before anything runs.

use crate::support::{PLAYBOOK, SEGMENT, SETTINGS, TEMPLATE, project};

/// Writes one file of a good project anew, and expects `check` to point at a place in it and to say something.
#[track_caller]
fn mistake(file: &str, text: &str, place: &str, says: &[&str]) {
    let folder = project(5);
    folder.write(file, text);
    let ran = folder.run(&["check"]).code(1);
    assert!(ran.err.contains(&format!("--> {place}")), "no place {place} in:\n{}", ran.err);
    for part in says {
        assert!(ran.err.contains(part), "`{part}` is missing in:\n{}", ran.err);
    }
    assert!(ran.err.contains('^'), "no caret in:\n{}", ran.err);
    folder.run(&["run", "--once"]).code(78);
    assert!(!folder.path().join("outbox").exists(), "nothing ran");
}

#[test]
fn an_unknown_key() {
    mistake(
        "segments/everybody.yml",
        &SEGMENT.replace("owner:", "ownr:"),
        "segments/everybody.yml:2:1",
        &["ownr", "did you mean `owner`"],
    );
}

#[test]
fn a_wrong_duration() {
    mistake(
        "playbooks/hello.yml",
        &PLAYBOOK.replace("wait: 2d", "wait: 2 days"),
        "playbooks/hello.yml:9",
        &["duration"],
    );
}

#[test]
fn a_cycle_among_segments() {
    let folder = project(5);
    for (name, other) in [("a", "b"), ("b", "a")] {
        let text = format!("title: T\nowner: o@shop.test\nwhy: w\nwhere: {{segment.{other}: true}}\n");
        folder.write(&format!("segments/{name}.yml"), &text);
    }
    let ran = folder.run(&["check"]).code(1);
    assert!(
        ran.err.contains("a -> b -> a") || ran.err.contains("cycle") || ran.err.contains("circle"),
        "{}",
        ran.err
    );
}

#[test]
fn a_name_that_does_not_exist() {
    mistake(
        "playbooks/hello.yml",
        &PLAYBOOK.replace("segment.everybody", "segment.everybdy"),
        "playbooks/hello.yml:4",
        &["everybdy", "did you mean `everybody`"],
    );
    mistake(
        "playbooks/hello.yml",
        &PLAYBOOK.replace("send: hello", "send: helo"),
        "playbooks/hello.yml:8",
        &["helo", "did you mean `hello`"],
    );
    mistake(
        "playbooks/hello.yml",
        &PLAYBOOK.replace("purpose: offers", "purpose: ofers"),
        "playbooks/hello.yml:6",
        &["ofers", "did you mean `offers`"],
    );
}

#[test]
fn a_template_with_an_unknown_variable() {
    mistake(
        "templates/hello.mjml",
        &TEMPLATE.replace("profile.first_name", "profile.frist_name"),
        "templates/hello.mjml:2",
        &["frist_name", "did you mean `profile.first_name`"],
    );
    mistake(
        "templates/hello.mjml",
        &TEMPLATE.replace("entry.plan", "entry.paln"),
        "templates/hello.mjml:4",
        &["paln", "did you mean `entry.plan`"],
    );
    mistake(
        "templates/hello.mjml",
        &TEMPLATE.replace("profile.first_name", "profil.first_name"),
        "templates/hello.mjml:2",
        &["profil"],
    );
}

#[test]
fn sql_that_is_not_one_select() {
    let with =
        |sql: &str| SEGMENT.replace("select customer_id as id, plan from customers where active = 1", sql);
    mistake(
        "segments/everybody.yml",
        &with("delete from customers"),
        "segments/everybody.yml:4",
        &["SELECT"],
    );
    mistake(
        "segments/everybody.yml",
        &with("select 1 as id; drop table customers"),
        "segments/everybody.yml:4",
        &["one"],
    );
    mistake("segments/everybody.yml", &with("select id from"), "segments/everybody.yml:4", &[]);
    mistake(
        "segments/everybody.yml",
        &with("select customer_id as id from custmers"),
        "segments/everybody.yml:4",
        &["custmers"],
    );
}

#[test]
fn sql_that_reads_the_databases_clock() {
    for clock in ["current_timestamp", "datetime('now')", "date('now', '-3 days')"] {
        let sql = format!("select customer_id as id, plan from customers where {clock} > '2020'");
        let text = SEGMENT.replace("select customer_id as id, plan from customers where active = 1", &sql);
        mistake("segments/everybody.yml", &text, "segments/everybody.yml:4", &["clock", ":now"]);
    }
}

#[test]
fn a_key_that_is_not_built_yet_is_refused_with_not_yet() {
    for (key, text) in [("retention", "retention: {content: 13mo}\n"), ("governance", "governance: {}\n")] {
        let folder = project(5);
        folder.write("more.yml", text);
        let ran = folder.run(&["check"]).code(1);
        assert!(ran.err.contains("not yet") && ran.err.contains(key), "{}", ran.err);
    }
    mistake(
        "playbooks/hello.yml",
        &PLAYBOOK
            .replace("  - wait: 2d\n", "  - {id: x, record: {destination: crm, object: task, fields: {}}}\n"),
        "playbooks/hello.yml:9",
        &["not yet", "record"],
    );
}

#[test]
fn marketing_without_a_way_out() {
    mistake(
        "templates/hello.mjml",
        &TEMPLATE.replace("<a href=\"{{ unsubscribe_url }}\">Unsubscribe</a>", ""),
        "playbooks/hello.yml:8",
        &["unsubscribe_url"],
    );
}

#[test]
fn all_mistakes_are_told_at_once_and_secrets_are_not() {
    let folder = project(5);
    folder.write("drumbeat.yml", &format!("{SETTINGS}destinations:\n  mail: {{connector: smtp, host: x.test, password: hunter2, passwrd: hunter3}}\n"));
    folder.write("segments/everybody.yml", &SEGMENT.replace("owner:", "ownr:"));
    folder.write("playbooks/hello.yml", &PLAYBOOK.replace("wait: 2d", "wait: soon"));
    let ran = folder.run(&["check"]).code(1);
    for part in ["ownr", "soon", "passwrd"] {
        assert!(ran.err.contains(part), "`{part}` is missing in:\n{}", ran.err);
    }
    let json = folder.run(&["--output", "json", "check"]).code(1);
    assert!(json.json().as_array().is_some_and(|all| all.len() >= 3), "{}", json.out);
}

#[test]
fn a_warehouse_that_is_not_there() {
    let folder = project(5);
    std::fs::remove_file(folder.path().join("warehouse.db")).unwrap();
    folder.run(&["check"]).code(69);
    folder.run(&["check", "--offline"]).code(0);
    folder.run(&["run", "--once"]).code(69);
}

#[test]
fn reading_people_by_id_without_an_index_is_warned_about() {
    let folder = project(5);
    folder.sql(
        "warehouse.db",
        "create table c2 as select * from customers; drop table customers; alter table c2 rename to customers;\n\
         with recursive n(i) as (select 1000 union all select i + 1 from n where i < 30000) insert into customers select i, 'a'||i||'@example.test', 'UTC', 'en', 'A', 'team', 0 from n;",
    );
    let ran = folder.run(&["check"]).code(0);
    assert!(ran.err.contains("warning") && ran.err.contains("customer_id"), "{}", ran.err);
}

#[test]
fn times_that_are_held_otherwise_than_said_are_warned_about() {
    let folder = project(5);
    folder.sql("warehouse.db", "alter table customers add column seen_at text; update customers set seen_at = '2026-01-05 09:00:00';");
    folder.write(
        "segments/everybody.yml",
        &SEGMENT
            .replace("plan from customers", "plan, seen_at from customers")
            .replace("sql:", "columns: {seen_at: time}\nsql:"),
    );
    let ran = folder.run(&["check"]).code(0);
    assert!(ran.err.contains("seen_at") && ran.err.contains("sql"), "{}", ran.err);
}

#[test]
fn one_check_says_what_is_wrong_in_files_in_queries_and_in_columns() {
    let folder = project(5);
    // In a file; refused by the database; a column that is not there.
    folder.write("playbooks/hello.yml", &PLAYBOOK.replace("title:", "titel:"));
    folder.write("segments/gone.yml", &SEGMENT.replace("from customers", "from custmers"));
    folder.write("templates/hello.mjml", &TEMPLATE.replace("entry.plan", "entry.paln"));
    let ran = folder.run(&["check"]).code(1);
    let places: Vec<usize> =
        ["playbooks/hello.yml:1:1", "segments/gone.yml:4", "templates/hello.mjml:4", "error: 3 mistakes"]
            .iter()
            .map(|part| ran.err.find(part).unwrap_or_else(|| panic!("no {part} in:\n{}", ran.err)))
            .collect();
    assert!(places.is_sorted(), "{}", ran.err);
    // Without the warehouse, what the files say is said all the same.
    std::fs::remove_file(folder.path().join("warehouse.db")).unwrap();
    let ran = folder.run(&["check"]).code(1);
    assert!(ran.err.contains("titel") && ran.err.contains("cannot be reached"), "{}", ran.err);
}
