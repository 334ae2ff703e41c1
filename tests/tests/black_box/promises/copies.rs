//! P21 and P22: a damaged copy of the state is never taken for a good one, and a state that was put back sends nothing by itself.

use std::path::Path;
use std::time::{Duration, Instant};

use super::derived;
use super::nodes::Nodes;
use super::oracle::Found;
use super::provider::Provider;
use super::record::{Tally, try_seeds};
use super::stage::{Stage, Store};

const PEOPLE: usize = 600;
/// How long the mail server takes over a message: there are some left to go when the copy is made.
const TAKES: Duration = Duration::from_millis(40);
/// Bytes that are changed in a run: half of them in the copy, the others in its manifest.
const CHANGED: u64 = 24;
/// All is done by then.
const PATIENCE: Duration = Duration::from_secs(60);
const COPY: &str = "copy.db";

/// A copy that is made in the middle of delivering, after which all is delivered; how many messages it holds that have gone since.
fn copied<'a>(provider: &Provider, stage: &'a Stage<'a>, seed: u64) -> (Nodes<'a>, u64) {
    let mut nodes = Nodes::start(stage, 1);
    let before = 1 + usize::try_from(derived(seed, 100) % 60).unwrap();
    let there = provider.wait_for(before, PATIENCE);
    assert!(there >= before, "{there} messages: {}", nodes.log());
    stage.folder.run(&["--now", &nodes.now(), "backup", COPY]).code(0);
    let begun = Instant::now();
    while stage.ask("select count(*) from delivery") != PEOPLE.to_string()
        || stage.ask("select count(*) from delivery where state in ('pending', 'leased', 'armed')") != "0"
    {
        assert!(begun.elapsed() < PATIENCE, "{}", nodes.log());
        provider.wait(u64::MAX, Duration::from_millis(50));
    }
    nodes.end();
    let known = "select id from delivery where state = 'accepted'";
    let known = stage.folder.sql(COPY, known).lines().count() as u64;
    (nodes, provider.taken().len() as u64 - known)
}

/// P21, one seed: a copy is put back that knows nothing of what went since.
fn put_back(store: &Store, seed: u64, tally: &mut Tally) {
    let provider = Provider::slow(seed, TAKES);
    let stage = Stage::set(store, seed, provider.port, PEOPLE);
    let (mut nodes, since) = copied(&provider, &stage, seed);
    let went = provider.taken().len();
    let mut found = Vec::new();
    let restored = stage.folder.run(&["--now", &nodes.now(), "restore", COPY]);
    if restored.code != 0 {
        found.push(Found::DoesNotEnd(restored.err));
    }
    let ran = stage.folder.run(&["--now", &nodes.now(), "run", "--once"]);
    // What was under way when the copy was made is in doubt.
    if ![0, 5].contains(&ran.code) || !ran.err.contains("everything is halted") {
        found.push(Found::Otherwise(format!(
            "a run does not say that it is halted: {} {}",
            ran.code, ran.err
        )));
    }
    // And the daemon, which may be killed over it.
    nodes.again(0);
    nodes.public(0);
    for _ in 0..2 {
        provider.wait(u64::MAX, Duration::from_millis(700));
        nodes.kill(0);
        nodes.again(0);
    }
    nodes.public(0);
    provider.wait(u64::MAX, Duration::from_millis(700));
    nodes.end();
    let more = provider.taken().len() - went;
    if more > 0 {
        found.push(Found::Otherwise(format!("{more} messages went again, of {since}")));
    }
    tally.add(since, &format!("seed {seed}"), &found);
}

/// P22, one seed: the copy is good, and is not any more when any one bit of it is another.
fn damaged(store: &Store, seed: u64, tally: &mut Tally) {
    let provider = Provider::slow(seed, TAKES);
    let stage = Stage::set(store, seed, provider.port, PEOPLE);
    drop(copied(&provider, &stage, seed));
    let mut found = Vec::new();
    let verify = || stage.folder.run(&["backup", "--verify", COPY]);
    let good = verify();
    if good.code != 0 {
        found.push(Found::Otherwise(format!("a good copy is refused: {}", good.err)));
    }
    for change in 0..CHANGED {
        let file = stage.folder.path().join(if change % 2 == 0 {
            COPY.to_owned()
        } else {
            format!("{COPY}.manifest.json")
        });
        let (bytes, at) = flip(&file, derived(seed, 1_000 + change));
        // What refuses it is the check of a copy, not a mishap on the way.
        let said = verify();
        if said.code != 1 || !(said.err.contains("is not good") || said.err.contains("audit log")) {
            found.push(Found::Otherwise(format!(
                "{}, byte {at}: {} {}",
                file.display(),
                said.code,
                said.err
            )));
        }
        std::fs::write(&file, bytes).unwrap();
    }
    let restored = verify();
    if restored.code != 0 {
        found.push(Found::Otherwise(format!("the copy as it was is refused: {}", restored.err)));
    }
    tally.add(CHANGED, &format!("seed {seed}"), &found);
}

/// Changes one bit of a file; the file as it was, and the byte.
fn flip(file: &Path, which: u64) -> (Vec<u8>, usize) {
    let before = std::fs::read(file).unwrap();
    let (at, bit) = (usize::try_from(which / 8).unwrap() % before.len(), which % 8);
    let mut after = before.clone();
    after[at] ^= 1 << bit;
    std::fs::write(file, after).unwrap();
    (before, at)
}

#[test]
fn a_state_that_was_put_back_sends_nothing_by_itself() {
    try_seeds("P21", Store::sqlite, 30, put_back);
}

#[test]
fn a_damaged_copy_is_never_taken_for_a_good_one() {
    try_seeds("P22", Store::sqlite, 30, damaged);
}
