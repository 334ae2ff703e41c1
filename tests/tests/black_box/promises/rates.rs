//! P14: sending domains and groups of recipients are written to no faster than they may be, over all connections and nodes, and one that is full
//! keeps nobody else waiting. Counted by the provider, by its own clock.

use std::time::{Duration, Instant};

use super::nodes::Nodes;
use super::provider::Provider;
use super::stage::{Stage, Store};
use crate::support::{Folder, NOW};

/// So many rows are claimed at once.
const CLAIMED: usize = 250;
/// At gmail.com, who come first.
const GOOGLE: usize = 400;
/// At a domain of its own, after them.
const OTHERS: usize = 100;
const RATE: usize = 25;
const BURST: usize = 5;

/// Turns are taken a second ahead: so many may come late, and then together with those after them.
#[track_caller]
pub(super) fn no_window_has_more(times: &[Instant], rate: usize, burst: usize) {
    for (from, start) in times.iter().enumerate() {
        for seconds in 1..=3 {
            let end = *start + Duration::from_secs(seconds);
            let within = times[from..].iter().take_while(|time| **time < end).count();
            let most = rate * usize::try_from(seconds).unwrap() + burst + rate;
            assert!(within <= most, "{within} in {seconds} s, {most} at most");
        }
    }
}

/// Everybody may get a message, by a destination with these settings more.
fn set<'a>(store: &'a Store, seed: u64, port: u16, more: &str) -> Stage<'a> {
    let stage = Stage::set(store, seed, port, GOOGLE + OTHERS);
    let folder = &stage.folder;
    folder.sql(
        "warehouse.db",
        &format!(
            "update customers set timezone = 'Europe/Berlin', email = 'p' || customer_id ||
                case when customer_id <= {GOOGLE} then '@gmail.com' else '@acme.test' end;"
        ),
    );
    folder.write("policy.yml", "purposes:\n  offers: {title: Tips, class: lifecycle}\n");
    add(folder, "tls: none", &format!("tls: none, {more}"));
    stage
}

fn add(folder: &Folder, to: &str, more: &str) {
    let settings = folder.read("drumbeat.yml");
    assert!(settings.contains(to), "{settings}");
    folder.write("drumbeat.yml", &settings.replace(to, more));
}

fn run_once(stage: &Stage<'_>) -> serde_json::Value {
    let ran = stage.folder.run(&["--now", NOW, "--output", "json", "run", "--once"]);
    assert!([0, 5].contains(&ran.code), "{} {}", ran.out, ran.err);
    ran.json()
}

fn a_full_group_keeps_nobody_waiting(store: &Store) {
    let provider = Provider::start(1_400);
    let limits = format!("recipients: {{google: {{rate: {RATE}/s, burst: {BURST}}}}}");
    let stage = set(store, 1_400, provider.port, &limits);
    let ran = run_once(&stage);
    let (google, others) = (provider.times_at("gmail.com"), provider.times_at("acme.test"));
    no_window_has_more(&google, RATE, BURST);
    let last = others.last().unwrap();
    let before = google.iter().filter(|time| *time < last).count();
    assert!(before < GOOGLE - CLAIMED, "{before} went before the last of those who had nothing to wait for");
    // A provider that says "later", or nothing, is none of this test's matter; each of the others is there once.
    let (took, counted) = (provider.took(), &ran["deliveries"]);
    assert!(took.values().all(|times| *times == 1));
    assert!(took.len() >= (GOOGLE + OTHERS) * 9 / 10, "{}", took.len());
    assert_eq!(counted["accepted"].as_u64().unwrap() + provider.cut(), took.len() as u64, "{counted}");
    // Who waited for a turn was not tried for it.
    let tried = stage.ask("select count(*) from delivery where attempts > 1");
    assert_eq!(tried.trim(), "0");
    let untried = stage.ask("select count(*) from delivery where attempts = 0");
    assert_eq!(untried.trim(), "0", "nothing is left behind for want of a turn");
}

#[test]
fn a_full_group_keeps_nobody_waiting_over_sqlite() {
    let Some(store) = Store::sqlite() else { return };
    a_full_group_keeps_nobody_waiting(&store);
}

#[test]
fn a_full_group_keeps_nobody_waiting_over_postgres() {
    let Some(store) = Store::postgres() else { return };
    a_full_group_keeps_nobody_waiting(&store);
}

#[test]
fn nodes_share_the_rates_of_a_domain_and_of_its_recipients() {
    const GROUP: usize = 15;
    let Some(store) = Store::postgres() else { return };
    let provider = Provider::start(1);
    let groups =
        format!("recipients: {{google: {{rate: {GROUP}/s, burst: 1}}, other: {{rate: 100/s, burst: 20}}}}");
    let stage = set(&store, 1_401, provider.port, &groups);
    let throttle = format!("from: hello@shop.test, throttle: {{rate: {RATE}/s, burst: {BURST}}}");
    let settings = stage.folder.read("drumbeat.yml");
    let from = settings.split("from: ").nth(1).unwrap().split(',').next().unwrap();
    add(&stage.folder, &format!("from: {from}"), &throttle);
    let nodes = Nodes::start(&stage, 3);
    let begun = Instant::now();
    while provider.times().len() < 200 {
        assert!(begun.elapsed() < Duration::from_secs(120), "{}", stage.folder.read("nodes.log"));
        provider.wait(u64::MAX, Duration::from_millis(50));
    }
    drop(nodes);
    let mut all = provider.times();
    all.sort_unstable();
    no_window_has_more(&all, RATE, BURST);
    no_window_has_more(&provider.times_at("gmail.com"), GROUP, 1);
    assert!(!provider.times_at("acme.test").is_empty());
}

#[test]
fn the_rates_of_the_manual_pass_check() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let chapter = readme.split("## How fast\n").nth(1).unwrap();
    let example = chapter.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let folder = crate::support::project(1);
    let (before, _) = crate::support::SETTINGS.split_once("brands:\n").unwrap();
    folder.write("drumbeat.yml", &format!("{before}{example}"));
    folder.run(&["check"]).code(0);
}

/// A server that minds how fast a mailbox provider is written to slows down that, and not the others.
#[test]
fn slower_is_said_of_a_group_that_has_a_rate() {
    let Some(store) = Store::sqlite() else { return };
    let provider = Provider::minding_gmail();
    let limits = "throttle: {rate: 1000/s, burst: 100}, recipients: {google: {rate: 200/s, burst: 20}}";
    let stage = set(&store, 1_402, provider.port, limits);
    run_once(&stage);
    let shares = stage.ask("select name || ' ' || (share < 1000) from rate order by name");
    assert_eq!(shares.trim(), "destination.mail 0\nrecipients.mail.google 1");
    assert_eq!((provider.times_at("acme.test").len(), provider.times_at("gmail.com").len()), (OTHERS, 0));
}
