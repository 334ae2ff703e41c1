//! P7: however many processes begin at the same instant, at the same time, there is one run of a segment and one delivery a person.

use std::process::{Child, Stdio};

use super::oracle::{self, Bounds, Found, look};
use super::provider::Provider;
use super::record::{Tally, try_seeds};
use super::stage::{Stage, Store};
use crate::support::Ran;

/// Days, each with a tick, and with as many people more.
const TICKS: usize = 4;
const PEOPLE_A_TICK: usize = 15;
/// Processes that begin together.
const RIVALS: usize = 4;

/// One seed: day after day, all begin at once.
fn one(store: &Store, seed: u64, tally: &mut Tally) {
    let people = TICKS * PEOPLE_A_TICK;
    let provider = Provider::start(seed);
    let stage = Stage::set(store, seed, provider.port, people);
    stage.folder.sql("warehouse.db", "update customers set active = 0");
    let mut found = Vec::new();
    for tick in 1..=TICKS {
        let known = tick * PEOPLE_A_TICK;
        stage
            .folder
            .sql("warehouse.db", &format!("update customers set active = 1 where customer_id <= {known}"));
        let now = format!("2026-03-{:02}T09:00:00Z", 1 + tick);
        let rivals: Vec<Child> = (0..RIVALS)
            .map(|_| {
                let mut command = stage.folder.command(&["--now", &now, "run", "--once"]);
                command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        let ran: Vec<Ran> =
            rivals.into_iter().map(|rival| rival.wait_with_output().unwrap().into()).collect();
        let is_refused = |one: &Ran| one.code == 1 && one.err.contains("has this state: stop it first");
        let is_done = |one: &Ran| matches!(one.code, 0 | 5);
        if !ran.iter().any(is_done) || !ran.iter().all(|one| is_done(one) || is_refused(one)) {
            found.push(Found::DoesNotEnd(format!("tick {tick}: {ran:?}")));
        }
        let runs = stage.ask("select count(*) from segment_run");
        if runs != tick.to_string() {
            found.push(Found::Otherwise(format!("{runs} runs of a segment after {tick} ticks")));
        }
        let rows = stage.ask("select count(*) from delivery");
        if rows != known.to_string() {
            found.push(Found::Otherwise(format!("{rows} deliveries of {known} people after {tick} ticks")));
        }
    }
    let bounds = Bounds { people, doubts: provider.cut(), poison: false, repeats: false };
    found.extend(look(&oracle::read(&stage), &provider.took(), bounds));
    tally.add(TICKS as u64, &format!("seed {seed}"), &found);
}

#[test]
fn whoever_else_begins_at_the_same_instant_a_tick_happens_once() {
    try_seeds("P7", Store::postgres, 30, one);
}
