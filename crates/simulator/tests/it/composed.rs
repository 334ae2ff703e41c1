//! The composed depth.

use jiff::Timestamp;
use model::DeliveryState;
use simulator::audit::{Broken, Promise};
use simulator::composed::{Faults, Played, play};
use simulator::trace::{Failure, Trace};

use crate::seeds::each;

const PEOPLE: usize = 7;
const DAYS: u64 = 6;

#[test]
fn the_real_thing_keeps_every_promise_among_faults() {
    each(64, |seed| {
        play(seed, PEOPLE, DAYS, Faults::Drawn, "composed::the_real_thing_keeps_every_promise_among_faults")
            .map(drop)
    });
}

#[test]
fn a_process_that_dies_anywhere_keeps_every_promise() {
    each(16, |seed| {
        play(
            seed,
            PEOPLE,
            DAYS,
            Faults::ManyCrashes,
            "composed::a_process_that_dies_anywhere_keeps_every_promise",
        )
        .map(drop)
    });
}

#[test]
fn the_same_seed_gives_the_same_log() {
    let test = "composed::the_same_seed_gives_the_same_log";
    each(6, |seed| {
        let one = play(seed, PEOPLE, DAYS, Faults::Steady, test)?;
        let other = play(seed, PEOPLE, DAYS, Faults::Steady, test)?;
        same(seed, test, &one.lines, &other.lines)?;
        same(seed, test, &one.audit, &other.audit)
    });
}

#[test]
fn dying_changes_nothing_but_doubts() {
    let test = "composed::dying_changes_nothing_but_doubts";
    each(8, |seed| {
        let alive = play(seed, PEOPLE, DAYS, Faults::SteadyAlive, test)?;
        let dying = play(seed, PEOPLE, DAYS, Faults::Steady, test)?;
        let told = |played: &Played| -> Vec<String> {
            let doubtful = |key: &String| dying.states.get(key) == Some(&DeliveryState::InDoubt);
            let states = played
                .states
                .iter()
                .map(|(key, state)| (key, if doubtful(key) { DeliveryState::InDoubt } else { *state }));
            states.map(|(key, state)| format!("{key} {}", state.as_str())).collect()
        };
        same(seed, test, &told(&alive), &told(&dying))
    });
}

/// The worlds are not empty: processes die, and doubts arise.
#[test]
fn in_these_worlds_much_happens() {
    let mut all = (0, 0, 0);
    for seed in 0..4 {
        let played =
            play(seed, PEOPLE, DAYS, Faults::ManyCrashes, "composed::in_these_worlds_much_happens").unwrap();
        all = (all.0 + played.left, all.1 + played.crashes, all.2 + played.states.len());
    }
    let (left, crashes, rows) = all;
    assert!(left > 20 && crashes > 10 && rows > 60, "{left} messages, {crashes} crashes, {rows} rows");
}

fn same(seed: u64, test: &'static str, one: &[String], other: &[String]) -> Result<(), Failure> {
    let pairs = || one.iter().map(Some).chain([None]).zip(other.iter().map(Some).chain([None]));
    let different = pairs().find(|(one, other)| one != other);
    match different {
        None if one.len() == other.len() => Ok(()),
        different => {
            let saw = different.map_or_else(|| "one is longer".to_owned(), |pair| format!("{pair:#?}"));
            let broken = Broken { promise: Promise::ReplayEqual, at: Timestamp::UNIX_EPOCH, saw };
            Err(Failure { seed, broken, test, trace: Trace::default() })
        }
    }
}
