//! Companies: a playbook that branches on the account of a person, a segment and a message that name it.

use std::collections::BTreeMap;

use crate::postgres::Cluster;
use crate::support::{Folder, NOW, POLICY, SEGMENT, SETTINGS, outbox, project, reachable, warehouse_sql};

const DATA: &str = "profiles: {sql: \"select customer_id as id, email, timezone, locale, first_name, plan, account_id from customers\"}\n\
accounts: {sql: \"select account_id as id, name, arr, tier from accounts\", columns: {arr: number}}\n";
const FIRMS: &str = "title: Firms\nowner: o@shop.test\nwhy: \"Test.\"\nwhere: {segment.everybody: true, account.name: {missing: false}}\n";
const BY_SIZE: &str = "title: By size\nowner: o@shop.test\nwhy: \"Test.\"\nenter: segment.everybody\nbackfill: all\npurpose: tips\n\
steps:\n  - id: size\n    branch:\n      - {if: {account.arr: {over: 20000}}, steps: [{id: large, send: large}]}\n      - {steps: [{id: small, send: small}]}\n\
\x20 - {id: gold, wait: {until: {account.tier: {of: [gold], same_as: account.tier}}, at_most: 30d}}\n\
\x20 - {id: thanks, if: {step.gold: met}, send: thanks}\n";
const BY_FIRM: &str = "title: By firm\nowner: o@shop.test\nwhy: \"Test.\"\nenter: segment.firms\nbackfill: all\npurpose: tips\nsteps:\n  - {id: firm, send: firm}\n";
const SCENARIO: &str = "title: The size of the company decides\nplaybook: by_size\nstart: 2026-03-03T09:00:00Z\ngiven:\n\
\x20 profiles:\n    - {id: ana, email: ana@example.test, account_id: 7}\n    - {id: bo, email: bo@example.test, account_id: 8}\n    - {id: cy, email: cy@example.test}\n\
\x20 accounts: [{id: 7, name: Acme, arr: 30000, tier: gold}]\n  segments: {everybody: [ana, bo, cy]}\nexpect:\n\
\x20 - {profile: ana, step: large, state: accepted, subject: Acme}\n  - {profile: ana, step: thanks, state: accepted}\n  - {profile: ana, exit: finished}\n\
\x20 - {profile: bo, step: small, state: accepted, subject: Nobody}\n  - {at: +30d, profile: bo, step: thanks, state: skipped}\n  - {at: +30d, profile: bo, exit: finished}\n\
\x20 - {profile: cy, step: small, state: accepted, subject: Nobody}\n  - {at: +30d, profile: cy, step: thanks, state: skipped}\n  - {at: +30d, profile: cy, exit: finished}\n";

fn template(subject: &str) -> String {
    format!(
        "---\nsubject: \"{subject}\"\n---\nHello. {{{{ postal_address }}}} [No more]({{{{ unsubscribe_url }}}})\n"
    )
}

/// A project that asks for accounts in every way there is.
fn companies(settings: &str) -> Folder {
    let folder = project(5);
    folder
        .write(
            "drumbeat.yml",
            &format!("{settings}destinations:\n  mail: {{connector: file, path: outbox}}\n"),
        )
        .write("data.yml", DATA)
        .write("segments/everybody.yml", SEGMENT)
        .write("segments/firms.yml", FIRMS)
        .write("playbooks/by_size.yml", BY_SIZE)
        .write("playbooks/by_firm.yml", BY_FIRM)
        .write("tests/by_size.yml", SCENARIO)
        .write("templates/large.md", &template("{{ account.name }}"))
        .write("templates/small.md", &template("{{ account.name | default('Nobody') }}"))
        .write("templates/firm.md", &template("{{ account.name }} {{ account.id }}"))
        .write("templates/thanks.md", &template("Thanks, {{ account.name }}"));
    std::fs::remove_file(folder.path().join("playbooks/hello.yml")).unwrap();
    folder
}

/// Five people: the first and the last of one company, the third of none, the fourth of one that is not there.
fn accounts_sql(id_type: &str, id: impl Fn(u32) -> String) -> String {
    let mut sql = format!(
        "alter table customers add column account_id {id_type};
         create table accounts(account_id {id_type} primary key, name text, arr double precision, tier text);\n"
    );
    for (number, name, arr, tier) in [(1, "Acme", 30_000, "gold"), (2, "Tiny", 10, "tin")] {
        sql.push_str(&format!("insert into accounts values('{}', '{name}', {arr}, '{tier}');\n", id(number)));
    }
    for (customer, account) in [(1, 1), (2, 2), (4, 99), (5, 1)] {
        sql.push_str(&format!(
            "update customers set account_id = '{}' where customer_id = {customer};\n",
            id(account)
        ));
    }
    sql
}

/// Subjects by step and address.
fn sent(folder: &Folder) -> BTreeMap<(String, String), String> {
    let text = |line: &serde_json::Value, key: &str| line[key].as_str().unwrap().to_owned();
    let lines = outbox(folder);
    lines.iter().map(|line| ((text(line, "step"), text(line, "to")), text(line, "subject"))).collect()
}

/// What holds of [`companies`] on any database.
#[track_caller]
fn holds(folder: &Folder, id: impl Fn(u32) -> String, change: impl Fn(&str)) {
    folder.run(&["check"]).code(0);
    folder.run(&["test"]).code(0);
    let plan = folder.run(&["--now", NOW, "--output", "json", "plan"]).code(0).json();
    let ran = folder.run(&["--now", NOW, "--output", "json", "run", "--once"]).code(0).json();
    assert_eq!(plan["decisions"], ran["decisions"]);
    let of = |step: &str, person: u32| (step.to_owned(), format!("p{person}@example.test"));
    let firm = |number: u32, name: &str| format!("{name} {}", id(number));
    let expected = [
        (of("large", 1), "Acme".to_owned()),
        (of("large", 5), "Acme".to_owned()),
        (of("small", 2), "Tiny".to_owned()),
        (of("small", 3), "Nobody".to_owned()),
        (of("small", 4), "Nobody".to_owned()),
        (of("firm", 1), firm(1, "Acme")),
        (of("firm", 5), firm(1, "Acme")),
        (of("firm", 2), firm(2, "Tiny")),
        (of("thanks", 1), "Thanks, Acme".to_owned()),
        (of("thanks", 5), "Thanks, Acme".to_owned()),
    ];
    assert_eq!(sent(folder), BTreeMap::from(expected.clone()));
    folder.run(&["--now", NOW, "explain", "--profile", "1"]).code(0);
    let shown = folder.run(&["--now", NOW, "preview", "by_size.large", "--profile", "1"]).code(0);
    assert!(shown.out.contains("Acme"), "{}", shown.out);

    // The files ask for accounts no more; the version that people are under way on still does.
    for gone in ["playbooks/by_firm.yml", "segments/firms.yml", "tests/by_size.yml"] {
        std::fs::remove_file(folder.path().join(gone)).unwrap();
    }
    let (head, _) = BY_SIZE.split_once("steps:").unwrap();
    let steps = "exit: {when: {profile.plan: none}}\nsteps: [{id: other, send: other}]\n";
    folder.write("playbooks/by_size.yml", &format!("{head}{steps}"));
    folder.write("templates/other.md", &template("Other"));
    change("update accounts set tier = 'gold' where name = 'Tiny';");
    folder.run(&["--now", "2026-03-03T09:00:00Z", "run", "--once"]).code(0);
    let thanked = [(of("thanks", 2), "Thanks, Tiny".to_owned())];
    assert_eq!(sent(folder), expected.into_iter().chain(thanked).collect());
}

#[test]
fn a_company_decides_on_sqlite() {
    let folder = companies(SETTINGS);
    let id = |number: u32| number.to_string();
    folder.sql("warehouse.db", &accounts_sql("integer", id));
    holds(&folder, id, |sql| drop(folder.sql("warehouse.db", sql)));
}

#[test]
fn a_company_decides_on_postgres() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.psql("postgres", "create database warehouse");
    let id = |number: u32| format!("a0eebc99-9c0b-4ef8-bb6d-{number:012}");
    let run = |sql: &str| drop(cluster.psql("warehouse", &format!("set search_path = app; {sql}")));
    cluster.psql("warehouse", "create schema app");
    run(&warehouse_sql(5));
    run("alter table consents alter column changed_at type timestamptz using changed_at::timestamptz;");
    run(&accounts_sql("uuid", id));
    let folder = companies(&SETTINGS.replace(
        "warehouse: {url: \"sqlite://warehouse.db\"}",
        &format!("warehouse: {{url: \"{}\", schema: app}}", cluster.url("warehouse")),
    ));
    holds(&folder, id, run);
}

#[test]
fn accounts_are_read_only_where_something_asks_for_them() {
    let folder = project(5);
    folder.sql("warehouse.db", &accounts_sql("integer", |number| number.to_string()));
    // The database prepares this, and fails when it runs it.
    let overflows =
        DATA.replace("select account_id as id,", "select abs(account_id - 9223372036854775807 - 3) as id,");
    folder.write("data.yml", &overflows);
    let ran = folder.run(&["--now", NOW, "--output", "json", "run", "--once"]).code(0).json();
    assert_eq!(ran["deliveries"]["accepted"], reachable(5).len());
    folder.write("templates/other.md", &template("Hello {{ account.name | default('you') }}"));
    folder.write(
        "playbooks/other.yml",
        &BY_FIRM.replace("segment.firms", "segment.everybody").replace("send: firm", "send: other"),
    );
    let later = "2026-03-03T09:00:00Z";
    let failed = folder.run(&["--now", later, "run", "--once"]);
    assert!(failed.code == 1 && failed.err.contains("overflow"), "{failed:?}");
}

#[test]
fn quiet_hours_may_be_those_of_a_company() {
    let folder = project(5);
    folder.sql("warehouse.db", &accounts_sql("integer", |number| number.to_string()));
    folder.write("data.yml", DATA);
    let mondays = "  mondays: {class: marketing, days: [mon], where: {account.tier: tin}}\n";
    folder.write("policy.yml", &format!("{POLICY}{mondays}"));
    folder.run(&["--now", NOW, "run", "--once"]).code(0);
    let log = folder.run(&["--output", "ndjson", "log", "--profile", "2"]).code(0).lines();
    assert_eq!(log.iter().map(|row| &row["reason"]).collect::<Vec<_>>(), ["time.quiet_policy"]);
    let others = reachable(5).into_iter().filter(|n| *n != 2).count();
    assert_eq!(outbox(&folder).len(), others, "the others are of another company, or of none");
    let told = folder.run(&["--now", NOW, "explain", "--profile", "2"]).code(0);
    assert!(told.out.contains("mondays"), "{}", told.out);
}

#[test]
fn a_segment_asks_for_the_accounts_of_more_people_than_a_page_holds() {
    let folder = companies(SETTINGS);
    for playbook in ["by_size", "by_firm"] {
        std::fs::remove_file(folder.path().join(format!("playbooks/{playbook}.yml"))).unwrap();
    }
    std::fs::remove_file(folder.path().join("tests/by_size.yml")).unwrap();
    folder.sql("warehouse.db", &accounts_sql("integer", |number| number.to_string()));
    folder.sql(
        "warehouse.db",
        "with recursive n(n) as (select 6 union all select n + 1 from n where n < 2600)
         insert into customers(customer_id, email, active, account_id) select n, n || '@example.test', 1, n % 3 + 1 from n;",
    );
    let ran = folder.run(&["--now", NOW, "--output", "json", "run", "--once"]).code(0).json();
    let members = |name: &str| {
        let segments = ran["segments"].as_array().unwrap();
        segments.iter().find(|segment| segment["name"] == name).unwrap()["members"].as_u64().unwrap()
    };
    // Of three companies the third is not there.
    let expected = 3 + (6..=2600).filter(|n| n % 3 != 2).count();
    assert_eq!((members("everybody"), members("firms")), (2600, u64::try_from(expected).unwrap()));
}

#[test]
fn reading_accounts_by_id_wants_an_index() {
    let folder = companies(SETTINGS);
    folder.sql(
        "warehouse.db",
        &accounts_sql("integer", |number| number.to_string()).replace(" primary key", ""),
    );
    folder.sql(
        "warehouse.db",
        "with recursive n(n) as (select 100 union all select n + 1 from n where n < 2000) insert into accounts select n, n, n, 'tin' from n",
    );
    let ran = folder.run(&["check"]).code(0);
    assert!(ran.err.contains("reading accounts by id reads all of `accounts`"), "{}", ran.err);
    assert!(ran.err.contains("--> data.yml:2:18"), "{}", ran.err);
    assert!(ran.err.contains("an index on accounts(account_id) would help"), "{}", ran.err);
}
