//! P13 and P16: caps and hourly limits hold under forty workers, whose messages were decided before there was any cap. Counted anew from
//! what the provider took, by arithmetic over the warehouse.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::nodes::Nodes;
use super::oracle::Found;
use super::provider::Provider;
use super::record::{Tally, try_seeds};
use super::stage::{Stage, Store};
use crate::support::{NOW, TEMPLATE};

const PEOPLE: usize = 1_200;
const ACCOUNTS: usize = 30;
/// Three people have an address together.
const ADDRESSES: usize = 400;
const PLAYBOOKS: [&str; 4] = ["one", "two", "three", "four"];

const DATA: &str = "profiles: {sql: \"select customer_id as id, email, timezone, locale, first_name, plan, account_id from customers\"}\n";
const PURPOSES: &str = "purposes:\n  tips: {title: Tips, class: lifecycle}\n";
const PER_PERSON: usize = 2;
const PER_ADDRESS: usize = 4;
const PER_ACCOUNT: usize = 45;
const PER_HOUR: usize = 150;

/// What is tried. One at a time: the row of an hour would keep those apart whom caps are to keep apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    Caps,
    Hour,
}

/// Everybody is to get four messages, and the destination cannot be used: they are decided, and wait. Then there are caps, and it can.
fn decided<'a>(store: &'a Store, seed: u64, port: u16, connections: usize, limit: Limit) -> Stage<'a> {
    let stage = Stage::set(store, seed, port, PEOPLE);
    let folder = &stage.folder;
    folder.sql(
        "warehouse.db",
        &format!(
            "alter table customers add column account_id integer;
             update customers set account_id = customer_id % {ACCOUNTS}, email = 'p' || (customer_id % {ADDRESSES}) || '@example.test',
                timezone = 'Europe/Berlin';"
        ),
    );
    std::fs::remove_file(folder.path().join("playbooks/hello.yml")).unwrap();
    folder.write("data.yml", DATA).write("policy.yml", PURPOSES);
    for name in PLAYBOOKS {
        // The same words would go to nobody twice in a day.
        let words = TEMPLATE.replacen("Hello", name, 1);
        assert_ne!(words, TEMPLATE);
        folder
            .write(&format!("playbooks/{name}.yml"), &playbook(name, ""))
            .write(&format!("templates/{name}.mjml"), &words);
    }
    let settings = folder.read("drumbeat.yml");
    // Outside production nothing goes to another machine.
    folder.write("drumbeat.yml", &settings.replace("host: 127.0.0.1", "host: mail.example.test"));
    let decided = folder.run(&["--now", NOW, "--output", "json", "run", "--once"]).json();
    assert_eq!(decided["deliveries"]["pending"], PEOPLE * PLAYBOOKS.len(), "{decided}");
    let caps = format!(
        "{PURPOSES}caps:\n  person:  {{max: {PER_PERSON}, per: 7d, on_hit: skip}}\n\
         \x20 mailbox: {{scope: address, max: {PER_ADDRESS}, per: 7d, on_hit: skip}}\n\
         \x20 company: {{scope: account, max: {PER_ACCOUNT}, per: 7d, on_hit: skip}}\n"
    );
    match limit {
        Limit::Caps => folder.write("policy.yml", &caps),
        Limit::Hour => folder
            .write("playbooks/four.yml", &playbook("four", &format!("limits: {{per_hour: {PER_HOUR}}}\n"))),
    };
    folder.write("drumbeat.yml", &settings.replace("connections: 4", &format!("connections: {connections}")));
    stage
}

fn playbook(template: &str, limits: &str) -> String {
    format!(
        "title: Tips\nowner: o@shop.test\nwhy: \"Test.\"\nenter: segment.everybody\nbackfill: all\npurpose: tips\n{limits}\
         steps:\n  - {{id: tip, send: {template}}}\n"
    )
}

/// Counts what the provider took in every way that is capped: what is too much, and what is not as much as it could be.
fn recount(stage: &Stage<'_>, provider: &Provider, limit: Limit) -> Vec<Found> {
    let rows = stage.ask(
        "select delivery.id || ' ' || profile.id || ' ' || playbook || ' ' || state from delivery join profile on profile.number = delivery.profile",
    );
    let (took, mut counted) = (provider.took(), BTreeMap::<(&str, String), usize>::new());
    let mut states = BTreeMap::<&str, usize>::new();
    for row in rows.lines() {
        let parts: Vec<&str> = row.split(' ').collect();
        let [delivery, id, playbook, state] = parts[..] else { panic!("{row}") };
        *states.entry(state).or_default() += 1;
        if !took.contains_key(delivery) {
            continue;
        }
        let id: usize = id.parse().unwrap();
        let units = [
            ("person", id.to_string()),
            ("address", (id % ADDRESSES).to_string()),
            ("account", (id % ACCOUNTS).to_string()),
            ("playbook", playbook.to_owned()),
        ];
        for unit in units {
            *counted.entry(unit).or_default() += 1;
        }
    }
    let largest =
        |unit: &str| counted.iter().filter(|((of, _), _)| *of == unit).map(|(_, count)| *count).max();
    let mut found = Vec::new();
    let mut expect = |unit: &str, counted: Option<usize>, most: usize| {
        if counted != Some(most) {
            found.push(Found::Otherwise(format!("{counted:?} by {unit}, and not {most}; {states:?}")));
        }
    };
    if limit == Limit::Hour {
        let four = counted.get(&("playbook", "four".to_owned())).copied();
        expect("playbook four", four, PER_HOUR - rejected(stage));
    } else {
        for (unit, most) in [("person", PER_PERSON), ("address", PER_ADDRESS), ("account", PER_ACCOUNT)] {
            expect(unit, largest(unit), most);
        }
    }
    expect("row", Some(states.values().sum()), PEOPLE * PLAYBOOKS.len());
    found
}

/// Tries of playbook four that the provider did not take: they were tried, and count.
fn rejected(stage: &Stage<'_>) -> usize {
    let tries = "select count(*) from attempt join delivery on delivery.id = attempt.delivery where playbook = 'four' and outcome = 'retry'";
    stage.ask(tries).parse().unwrap()
}

/// Forty workers of five nodes.
fn on_postgres(store: &Store, seed: u64, limit: Limit, tally: &mut Tally) {
    let provider = Provider::start(seed);
    let stage = decided(store, seed, provider.port, 8, limit);
    let mut nodes = Nodes::start(&stage, 5);
    let open = "select count(*) from delivery
        where state in ('leased', 'armed') or (state = 'pending' and playbook <> 'four' and reason <> 'fail.smtp_4xx')";
    let begun = Instant::now();
    while stage.psql(open) != "0" {
        assert!(begun.elapsed() < Duration::from_secs(120), "{}", nodes.log());
        provider.wait(u64::MAX, Duration::from_millis(200));
    }
    nodes.end();
    let found = recount(&stage, &provider, limit);
    tally.add(armed(&stage), &format!("seed {seed}"), &found);
}

/// One process, and 32 connections.
fn on_sqlite(store: &Store, seed: u64, limit: Limit, tally: &mut Tally) {
    let provider = Provider::start(seed);
    let stage = decided(store, seed, provider.port, 32, limit);
    let ran = stage.folder.run(&["--now", NOW, "--output", "json", "run", "--once"]);
    assert!([0, 5].contains(&ran.code), "{}", ran.err);
    let ran = ran.json();
    let mut found = recount(&stage, &provider, limit);
    if limit == Limit::Hour {
        assert_eq!(ran["waiting"][0]["whose"], "playbook four", "{ran}");
        assert_eq!(ran["waiting"][0]["reason"], "cap.playbook_volume", "{ran}");
        // The next hour has room again, for as many.
        let next = ["--now", "2026-03-02T10:00:00Z", "run", "--once"];
        stage.folder.run(&next);
        let four = "select count(*) from attempt join delivery on delivery.id = attempt.delivery where playbook = 'four'";
        let four = stage.ask(four);
        if four != (2 * PER_HOUR).to_string() {
            found.push(Found::Otherwise(format!("{four} of playbook four in two hours")));
        }
    }
    tally.add(armed(&stage), &format!("seed {seed}"), &found);
}

/// How often a message was armed.
fn armed(stage: &Stage<'_>) -> u64 {
    stage.ask("select count(*) from attempt").parse().unwrap()
}

#[test]
fn caps_hold_under_forty_workers() {
    try_seeds("P13", Store::postgres, 60, |store, seed, tally| on_postgres(store, seed, Limit::Caps, tally));
}

#[test]
fn an_hour_holds_under_forty_workers() {
    try_seeds("P16", Store::postgres, 60, |store, seed, tally| on_postgres(store, seed, Limit::Hour, tally));
}

#[test]
fn caps_hold_over_sqlite() {
    try_seeds("P13", Store::sqlite, 60, |store, seed, tally| on_sqlite(store, seed, Limit::Caps, tally));
}

#[test]
fn an_hour_holds_over_sqlite() {
    try_seeds("P16", Store::sqlite, 60, |store, seed, tally| on_sqlite(store, seed, Limit::Hour, tally));
}
