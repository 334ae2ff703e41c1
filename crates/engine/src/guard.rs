//! Guards: what stops a campaign before it does harm. Judged on counts of what happened; a small sample trips nothing.

use model::delivery::Tally;
use model::policy::Guards;
use model::{Reason, Refusal};

/// Fewer say nothing about bounces.
const BOUNCES_OF: u64 = 100;
/// Fewer say nothing about complaints but by their number.
const COMPLAINTS_OF: u64 = 1_000;
/// Of the first messages, so many: Gmail asks for less than 1 in 1,000, and looks away from 3 in 1,000 on.
const COMPLAINTS_FIRST: (u64, u64) = (3, 500);
/// Fewer say nothing about opt-outs.
const OPT_OUTS_OF: u64 = 500;
/// Fewer say nothing about failures, doubts and values that are missing.
const FAILURES_OF: u64 = 200;
/// So few say something only where it glares: a canary is no larger.
const FEW: u64 = 20;
/// So many doubts are too many, however many messages there were.
const DOUBTS_MAX: u64 = 50;

/// Whether a playbook goes on. A rate is judged by the lower end of its 95 % Wilson interval (Wilson 1927, JASA 22:209), so that chance
/// alone hardly ever stops anything; a sample as small as a canary by that of 99.9 %.
pub fn judge_playbook(guards: &Guards, tally: &Tally) -> Result<(), Refusal> {
    let tried = tally.accepted + tally.rejected + tally.in_doubt;
    let failed = (tally.rejected - tally.bounced.min(tally.rejected)) + tally.unmade;
    let refuse = |reason, saw| Err(Refusal { reason, saw });
    let exceeds = |part: u64, of: u64, at_least: u64, limit: model::duration::Share| {
        (of >= at_least && wilson_lower(part, of, Z_95) > limit.fraction())
            || (of >= FEW && wilson_lower(part, of, Z_999) > limit.fraction())
    };
    if exceeds(tally.bounced, tried, BOUNCES_OF, guards.bounced) {
        let saw = format!("{} of {tried} messages bounced, the guard is {}", tally.bounced, guards.bounced);
        return refuse(Reason::GuardBounces, saw);
    }
    let (first_complaints, first) = COMPLAINTS_FIRST;
    let many_of_the_first = tally.complained >= first_complaints && tally.accepted <= first;
    let complained = tally.accepted >= COMPLAINTS_OF
        && wilson_lower(tally.complained.min(tally.accepted), tally.accepted, Z_95)
            > guards.complained.fraction();
    if many_of_the_first || complained {
        let saw = format!(
            "{} of {} people report it as spam, the guard is {}",
            tally.complained, tally.accepted, guards.complained
        );
        return refuse(Reason::GuardComplaints, saw);
    }
    if exceeds(tally.unsubscribed, tally.accepted, OPT_OUTS_OF, guards.unsubscribed) {
        let saw = format!(
            "{} of {} people opted out, the guard is {}",
            tally.unsubscribed, tally.accepted, guards.unsubscribed
        );
        return refuse(Reason::GuardOptOuts, saw);
    }
    if exceeds(failed, tried + tally.unmade, FAILURES_OF, guards.failed) {
        let saw = format!(
            "{failed} of {} messages were refused or could not be made, the guard is {}",
            tried + tally.unmade,
            guards.failed
        );
        return refuse(Reason::GuardFailures, saw);
    }
    if exceeds(tally.fallback.min(tried), tried, FAILURES_OF, guards.fallback) {
        let saw = format!(
            "{} of {tried} messages say something in place of a value that is missing, the guard is {}",
            tally.fallback, guards.fallback
        );
        return refuse(Reason::GuardFallbacks, saw);
    }
    if tally.in_doubt > DOUBTS_MAX || exceeds(tally.in_doubt, tried, FAILURES_OF, guards.in_doubt) {
        let saw =
            format!("{} of {tried} messages are in doubt, the guard is {}", tally.in_doubt, guards.in_doubt);
        return refuse(Reason::GuardDoubts, saw);
    }
    Ok(())
}

/// Whether a segment grew as segments do. `recent` is how many were in it at its last good runs, in any order.
pub fn judge_growth(guards: &Guards, recent: &[u64], members: u64) -> Result<(), Refusal> {
    let mut recent = recent.to_vec();
    recent.sort_unstable();
    let Some(median) = recent.get(recent.len() / 2).copied() else { return Ok(()) };
    let most = median.saturating_mul(guards.growth_times).max(median.saturating_add(guards.growth_above));
    if members <= most {
        return Ok(());
    }
    let saw = format!(
        "{members} members, {median} in the middle of the last {} runs; the guard is {} times as many and {} more",
        recent.len(),
        guards.growth_times,
        guards.growth_above
    );
    Err(Refusal { reason: Reason::SegmentAnomaly, saw })
}

/// Two-sided 95 % and 99.9 % of the normal distribution.
const Z_95: f64 = 1.96;
const Z_999: f64 = 3.29;

/// The lower end of the Wilson interval of a rate.
#[expect(clippy::cast_precision_loss, reason = "counts are far below what a double holds exactly")]
fn wilson_lower(part: u64, of: u64, z: f64) -> f64 {
    let (n, p) = (of as f64, part as f64 / of as f64);
    let spread = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    (p + z * z / (2.0 * n) - spread) / (1.0 + z * z / n)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trips(tally: Tally) -> Option<Reason> {
        judge_playbook(&Guards::default(), &tally).err().map(|refusal| refusal.reason)
    }

    #[test]
    fn wilson_is_what_the_paper_says() {
        // 10 of 100: 0.0552 to 0.1744.
        assert!((wilson_lower(10, 100, Z_95) - 0.055_2).abs() < 0.000_1, "{}", wilson_lower(10, 100, Z_95));
        assert!(wilson_lower(0, 100, Z_95) < 1e-9);
    }

    #[test]
    fn each_guard_trips_on_its_incident() {
        let good = Tally { accepted: 1_000, ..Tally::default() };
        assert_eq!(trips(good), None);
        let bounces = Tally { rejected: 60, bounced: 60, ..good };
        assert_eq!(trips(bounces), Some(Reason::GuardBounces));
        assert_eq!(trips(Tally { unsubscribed: 30, ..good }), Some(Reason::GuardOptOuts));
        assert_eq!(trips(Tally { complained: 5, ..good }), Some(Reason::GuardComplaints));
        assert_eq!(trips(Tally { complained: 1, ..good }), None);
        assert_eq!(
            trips(Tally { accepted: 400, complained: 3, ..Tally::default() }),
            Some(Reason::GuardComplaints)
        );
        assert_eq!(trips(Tally { accepted: 10, complained: 1, ..Tally::default() }), None, "one in a test");
        assert_eq!(trips(Tally { rejected: 200, ..good }), Some(Reason::GuardFailures));
        assert_eq!(trips(Tally { unmade: 200, ..good }), Some(Reason::GuardFailures));
        assert_eq!(trips(Tally { fallback: 50, ..good }), Some(Reason::GuardFallbacks));
        assert_eq!(trips(Tally { fallback: 20, ..good }), None, "2 % is what it may be");
        assert_eq!(trips(Tally { in_doubt: 51, ..good }), Some(Reason::GuardDoubts));
        assert_eq!(trips(Tally { in_doubt: 30, ..good }), Some(Reason::GuardDoubts));
    }

    #[test]
    fn a_small_sample_trips_nothing() {
        assert_eq!(
            trips(Tally { accepted: 5, rejected: 5, bounced: 5, unmade: 5, ..Tally::default() }),
            None
        );
        assert_eq!(trips(Tally { accepted: 99, unsubscribed: 5, ..Tally::default() }), None);
        assert_eq!(trips(Tally { accepted: 199, fallback: 8, ..Tally::default() }), None);
        // 4 of 110 is more than 3 %, and may be chance.
        assert_eq!(trips(Tally { accepted: 106, rejected: 4, bounced: 4, ..Tally::default() }), None);
    }

    #[test]
    fn what_glares_trips_in_a_canary() {
        let canary = |rejected, bounced, unmade| Tally {
            accepted: 50 - rejected,
            rejected,
            bounced,
            unmade,
            ..Tally::default()
        };
        assert_eq!(
            trips(Tally { fallback: 10, ..canary(0, 0, 0) }),
            Some(Reason::GuardFallbacks),
            "a merge field that is missing for one in five"
        );
        assert_eq!(trips(Tally { fallback: 2, ..canary(0, 0, 0) }), None, "4 % may be chance");
        assert_eq!(trips(canary(50, 50, 0)), Some(Reason::GuardBounces));
        assert_eq!(trips(canary(8, 8, 0)), Some(Reason::GuardBounces));
        assert_eq!(trips(canary(20, 0, 0)), Some(Reason::GuardFailures));
        assert_eq!(trips(canary(0, 0, 50)), Some(Reason::GuardFailures));
        assert_eq!(trips(canary(2, 2, 0)), None, "4 % may be chance");
    }

    #[test]
    fn growth_is_judged_on_the_median_of_what_was() {
        let grows = |recent: &[u64], members| judge_growth(&Guards::default(), recent, members).is_err();
        assert!(!grows(&[], 1_000_000), "the first run");
        assert!(
            !grows(&[10, 10, 10], 1_010) && grows(&[10, 10, 10], 1_011),
            "1,000 more are nothing to a small one"
        );
        assert!(!grows(&[5_000, 4_000, 90_000], 15_000) && grows(&[5_000, 4_000, 90_000], 15_001));
    }

    /// A thousand weeks in which nothing is wrong, an hour at a time, as the window of a day moves over them: at most one in a hundred
    /// trips.
    #[test]
    fn quiet_weeks_are_left_alone() {
        // What looks drawn is derived (SplitMix64): of `of` messages, each of ten thousand with that chance.
        let mut state = 7_u64;
        let mut draw = |of_ten_thousand: u64, of: u64| {
            (0..of)
                .filter(|_| {
                    state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                    let mut z = state;
                    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                    (z ^ (z >> 31)) % 10_000 < of_ten_thousand
                })
                .count() as u64
        };
        let tripped = (0..1_000_u64)
            .filter(|week| {
                let size = 20 + week % 180;
                let hours: Vec<Tally> = (0..168_u64)
                    // A campaign sends on a few hours of the week.
                    .map(|hour| match (hour + week) % 12 {
                        0 => {
                            let bounced = draw(100, size);
                            let refused = draw(200, size);
                            Tally {
                                accepted: size - bounced - refused,
                                rejected: bounced + refused,
                                bounced,
                                in_doubt: draw(5, size),
                                unmade: draw(50, size),
                                unsubscribed: draw(50, size),
                                complained: draw(1, size),
                                fallback: draw(60, size),
                            }
                        }
                        _ => Tally::default(),
                    })
                    .collect();
                hours.windows(24).any(|day| {
                    let mut tally = Tally::default();
                    day.iter().for_each(|hour| tally.add(*hour));
                    trips(tally).is_some()
                })
            })
            .count();
        assert!(tripped <= 10, "{tripped} of 1,000 quiet weeks tripped");
    }
}
