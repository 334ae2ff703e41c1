//! The composed depth.

use simulator::composed::{Faults, play};

use crate::seeds::each;

const PEOPLE: usize = 8;
const DAYS: u64 = 8;

#[test]
fn the_real_thing_keeps_every_promise_with_faults_and_crashes() {
    each(64, |seed| {
        let test = "composed::the_real_thing_keeps_every_promise_with_faults_and_crashes";
        let begun = std::time::Instant::now();
        let played = play(seed, PEOPLE, DAYS, Faults::Drawn, test);
        if let Ok(played) = &played {
            println!(
                "seed {seed} {:?} left {} crashes {} doubts {}",
                begun.elapsed(),
                played.left,
                played.crashes,
                played.doubts
            );
        }
        played.map(|_| ())
    });
}
