//! P25 and P27: what a person stops stands still within a second and stays so, and who is told to end leaves nothing in doubt.

use std::time::{Duration, Instant};

use super::derived;
use super::nodes::Nodes;
use super::oracle::{self, Bounds, Found, look};
use super::provider::Provider;
use super::record::{Tally, try_seeds};
use super::stage::{Stage, Store};

/// How long the mail server takes over a message: there is always one under way.
const TAKES: Duration = Duration::from_millis(40);
/// The same where all that is in hand is finished first.
const TAKES_LESS: Duration = Duration::from_millis(10);
/// A halt holds after so long.
const HALTED_BY: Duration = Duration::from_secs(1);
/// It is looked at for so long.
const WATCHED: Duration = Duration::from_millis(700);
/// How often everything is halted in a run, and how often processes are told to end.
const TIMES: u64 = 3;
/// A process that is told to end has ended by then.
const ENDED_BY: Duration = Duration::from_secs(30);
/// All is done by then.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is not armed yet, and could be at once.
const DUE: &str = "select count(*) from delivery where state in ('pending', 'leased')";
const ARMED_EVER: &str = "select count(*) from attempt";

fn count(stage: &Stage<'_>, sql: &str) -> u64 {
    stage.ask(sql).parse().unwrap()
}

/// Waits until everybody is decided, and some messages more are taken, or all are.
fn under_way(stage: &Stage<'_>, nodes: &Nodes<'_>, provider: &Provider, people: usize, more: usize) {
    let (begun, wanted) = (Instant::now(), provider.taken().len() + more);
    while stage.ask("select count(*) from delivery") != people.to_string() {
        assert!(begun.elapsed() < PATIENCE, "{}", nodes.log());
        provider.wait(u64::MAX, Duration::from_millis(20));
    }
    while provider.wait_for(wanted, Duration::from_millis(500)) < wanted && count(stage, DUE) > 0 {
        assert!(begun.elapsed() < PATIENCE, "{}", nodes.log());
    }
}

/// P25, one seed: halted in the middle of delivering, again and again, and killed while it is halted.
fn halted(store: &Store, seed: u64, (count_of_nodes, people): (usize, usize), tally: &mut Tally) {
    let provider = Provider::slow(seed, TAKES);
    let stage = Stage::set(store, seed, provider.port, people);
    let mut nodes = Nodes::start(&stage, count_of_nodes);
    nodes.all_answer();
    let (mut tries, mut found) = (0, Vec::new());
    for halt in 0..TIMES {
        let more = 1 + usize::try_from(derived(seed, 100 + halt) % 60).unwrap();
        under_way(&stage, &nodes, &provider, people, more);
        stage.folder.run(&["--now", &nodes.now(), "halt", "--reason", "an incident"]).code(0);
        provider.wait(u64::MAX, HALTED_BY);
        let (armed, due) = (count(&stage, ARMED_EVER), count(&stage, DUE));
        provider.wait(u64::MAX, WATCHED);
        let mut watched = vec![count(&stage, ARMED_EVER)];
        if derived(seed, 200 + halt) % 2 == 0 {
            for node in 0..nodes.count() {
                nodes.kill(node);
                nodes.again(node);
            }
            nodes.all_answer();
            provider.wait(u64::MAX, WATCHED);
            watched.push(count(&stage, ARMED_EVER));
        }
        if watched.iter().any(|later| *later != armed) {
            found.push(Found::Otherwise(format!("halt {halt}: {armed} were armed, and later {watched:?}")));
        }
        // Where nothing was left to go, nothing was tried.
        tries += u64::from(due > 0);
        stage.folder.run(&["--now", &nodes.now(), "halt", "--lift", "--reason", "it is over"]).code(0);
    }
    found.extend(all_is_done(&stage, nodes, &provider, people));
    tally.add(tries, &format!("seed {seed}"), &found);
}

/// Everybody has the message, once, and nobody had to guess.
fn all_is_done(stage: &Stage<'_>, mut nodes: Nodes<'_>, provider: &Provider, people: usize) -> Vec<Found> {
    let begun = Instant::now();
    while count(stage, "select count(*) from delivery where state in ('pending', 'leased', 'armed')") > 0 {
        if begun.elapsed() > PATIENCE {
            return vec![Found::DoesNotEnd(nodes.log())];
        }
        nodes.watch();
        provider.wait(u64::MAX, Duration::from_millis(100));
    }
    nodes.end();
    let bounds = Bounds { people, doubts: 0, poison: false, repeats: false };
    let mut found = look(&oracle::read(stage), &provider.took(), bounds);
    let verified = stage.folder.run(&["audit", "verify"]);
    if verified.code != 0 {
        found.push(Found::Audit(verified.err));
    }
    found
}

/// P27, one seed: told to end in the middle of delivering, again and again.
fn told_to_end(store: &Store, seed: u64, (count_of_nodes, people): (usize, usize), tally: &mut Tally) {
    let provider = Provider::slow(seed, TAKES_LESS);
    let stage = Stage::set(store, seed, provider.port, people);
    let mut nodes = Nodes::start(&stage, count_of_nodes);
    nodes.all_answer();
    let (mut tries, mut found) = (0, Vec::new());
    for time in 0..TIMES {
        let more = 1 + usize::try_from(derived(seed, 100 + time) % 60).unwrap();
        under_way(&stage, &nodes, &provider, people, more);
        tries += u64::from(count(&stage, DUE) > 0);
        let node = usize::try_from(derived(seed, 200 + time) % nodes.count() as u64).unwrap();
        let (took, code) = nodes.terminate(node);
        if code != Some(0) || took > ENDED_BY {
            found.push(Found::DoesNotEnd(format!(
                "SIGTERM ends it with {code:?} after {took:?}: {}",
                nodes.log()
            )));
        }
        let left = "select count(*) from delivery where state in ('leased', 'armed', 'in_doubt')";
        if nodes.count() == 1 && count(&stage, left) > 0 {
            found.push(Found::Otherwise(format!("SIGTERM {time} leaves {} open", count(&stage, left))));
        }
        nodes.again(node);
        nodes.all_answer();
    }
    found.extend(all_is_done(&stage, nodes, &provider, people));
    tally.add(tries, &format!("seed {seed}"), &found);
}

#[test]
fn a_halt_holds_after_a_second_over_sqlite() {
    try_seeds("P25", Store::sqlite, 60, |store, seed, tally| halted(store, seed, (1, 1_000), tally));
}

#[test]
fn a_halt_holds_after_a_second_over_postgres() {
    try_seeds("P25", Store::postgres, 60, |store, seed, tally| halted(store, seed, (5, 2_000), tally));
}

#[test]
fn who_is_told_to_end_leaves_nothing_in_doubt_over_sqlite() {
    try_seeds("P27", Store::sqlite, 60, |store, seed, tally| told_to_end(store, seed, (1, 3_000), tally));
}

#[test]
fn who_is_told_to_end_leaves_nothing_in_doubt_over_postgres() {
    try_seeds("P27", Store::postgres, 60, |store, seed, tally| told_to_end(store, seed, (3, 3_000), tally));
}
