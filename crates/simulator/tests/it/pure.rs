//! The pure depth.

use jiff::Timestamp;
use simulator::audit::{Broken, Promise};
use simulator::pure::{Played, Variant, play};
use simulator::trace::{Failure, Trace};

use crate::seeds::each;

const PEOPLE: usize = 14;
const DAYS: u64 = 45;

#[test]
fn a_season_of_campaigns_keeps_every_promise() {
    each(256, |seed| {
        play(seed, PEOPLE, DAYS, Variant::Plain, "pure::a_season_of_campaigns_keeps_every_promise")
            .map(|_| ())
    });
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    same(16, Variant::Plain, "pure::the_same_seed_gives_the_same_bytes");
}

#[test]
fn shuffled_people_get_the_same_decisions() {
    same(24, Variant::Shuffled, "pure::shuffled_people_get_the_same_decisions");
}

#[test]
fn a_stranger_changes_nothing_for_anybody_else() {
    same(24, Variant::Stranger, "pure::a_stranger_changes_nothing_for_anybody_else");
}

/// The worlds are not empty: what is promised was also put to the test.
#[test]
fn in_these_worlds_much_happens() {
    let (mut left, mut rows) = (0, 0);
    for seed in 0..16 {
        let played = play(seed, PEOPLE, DAYS, Variant::Plain, "pure::in_these_worlds_much_happens").unwrap();
        left += played.left;
        rows += played.rows;
    }
    assert!(left > 16 * 10 && rows > 16 * 40, "{left} messages, {rows} rows");
}

/// Plays each seed plainly and changed, and compares what was decided of the people that are in both.
fn same(seeds: u64, variant: Variant, test: &'static str) {
    each(seeds, |seed| {
        let plain = play(seed, PEOPLE, DAYS, Variant::Plain, test)?;
        let changed = play(seed, PEOPLE, DAYS, variant, test)?;
        match first_difference(&plain, &changed) {
            None => Ok(()),
            Some(saw) => {
                let broken = Broken { promise: Promise::ReplayEqual, at: Timestamp::UNIX_EPOCH, saw };
                Err(Failure { seed, broken, test, trace: Trace::default() })
            }
        }
    });
}

fn first_difference(plain: &Played, changed: &Played) -> Option<String> {
    let stranger = format!("p{PEOPLE:03} ");
    let mut others = changed.lines.iter().filter(|line| !line.starts_with(&stranger));
    let mut pairs = plain.lines.iter().map(|line| (Some(line), others.next()));
    let different = pairs.find(|(one, other)| one != other).map(|pair| format!("{pair:#?}"));
    drop(pairs);
    different.or_else(|| others.next().map(|line| format!("only there: {line}")))
}
