//! Relations between runs that need no oracle: conservation, shuffled input, a stranger, priority, coarser ticks.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use model::condition::StepOutcome;
use model::consent::ConsentStatus;
use model::delivery::Delivery;
use model::enrollment::{Enrollment, Progress};
use model::playbook::{Action, Arm, Playbook, Reenter, Step, Wait};
use model::policy::{MessageClass, OnHit};
use model::{DeliveryId, DeliveryState, PlaybookName, ProfileNumber, Reason};
use proptest::prelude::*;

use super::conditions::{in_segment, profile_is, step_was};
use super::made::*;
use crate::{Cause, Entered, LastLook, Standing, Touch, Version, advance, enter};

/// A world with every rule there is, and a playbook with every kind of step.
fn made() -> Made {
    let mut made = Made::new();
    made.policy.caps = vec![cap("day", 1, "1 calendar day", OnHit::Defer), cap("week", 3, "7d", OnHit::Skip)];
    made.policy.quiet_hours = vec![nights("21:00", "08:00")];
    made.policy.holdout = Some(global_holdout("10%", Some("90d")));
    made
}

fn book() -> Playbook {
    let arm = |condition, steps| Arm { condition, steps };
    let offer = Step { condition: Some(step_was("reaction", StepOutcome::TimedOut)), ..send("offer") };
    let at_most = span("2d");
    let mut book = playbook(vec![
        send("nudge"),
        step("reaction", Action::Wait(Wait::Until { condition: in_segment("active"), at_most })),
        branch(
            "by_plan",
            vec![arm(Some(profile_is("plan", "team")), vec![send_for("team", "product"), wait("b", "1d")])],
        ),
        offer,
        send_for("receipt", "service"),
    ]);
    book.holdout = Some(own_holdout("20%"));
    book.filter = Some(model::condition::Condition::Not(Box::new(profile_is("plan", "none"))));
    book.reenter = Reenter::Never;
    book.window = Some(window("09:00", "17:00"));
    book
}

/// Somebody whose every trait depends on these numbers.
fn someone(number: u32, seed: u32) -> Someone {
    let mut one = Someone::new(number);
    let zones = ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", ""];
    one.set("timezone", text(zones[seed as usize % 5]));
    one.set("plan", text(["team", "trial", "none"][seed as usize / 5 % 3]));
    let said =
        [ConsentStatus::Granted, ConsentStatus::Granted, ConsentStatus::Withdrawn, ConsentStatus::Absent];
    one.says(said[seed as usize / 15 % 4]);
    match seed / 60 % 8 {
        0 => one.set("email", text("")),
        1 => one.set("email", text("broken@")),
        2 => one.profile = None,
        3 => one.suppress(Reason::HardBounce, None, false),
        4 => one.suppress(Reason::OptoutChannel, None, true),
        5 => {
            one.standings = vec![Standing {
                playbook: PlaybookName::known("win_back"),
                active: seed.is_multiple_of(2),
                reached_goal: false,
                ended_at: None,
            }];
        }
        _ => {}
    }
    for touch in 0..seed / 480 % 4 {
        one.touch(&format!("2026-03-0{}T10:00:00Z", 1 + touch), DeliveryState::Accepted);
    }
    one
}

fn decide_all(made: &Made, version: &Version, people: &[Someone]) -> BTreeMap<ProfileNumber, Entered> {
    let now = at("2026-03-04T11:00:00Z");
    people
        .iter()
        .map(|one| (one.number, enter(&made.world(), version, &one.person(), "run1", BTreeMap::new(), now)))
        .collect()
}

/// What became of one person: their last enrollment, and the last state of each row.
#[derive(Debug, Default, PartialEq)]
struct Story {
    enrollment: Option<Enrollment>,
    rows: BTreeMap<DeliveryId, Delivery>,
    /// When each step's message was armed.
    armed: Vec<(String, Timestamp)>,
}

/// Plays one person forward: looks every `tick` minutes, arms what the last look lets go, and has it accepted at once.
fn play(made: &Made, version: &Version, mut one: Someone, tick: i64, days: i64) -> Story {
    let mut now = at("2026-03-04T11:00:00Z");
    let end = now.checked_add(SignedDuration::from_hours(24 * days)).unwrap();
    let mut story = Story::default();
    match enter(&made.world(), version, &one.person(), "run1", BTreeMap::new(), now) {
        Entered::Refused(row) => {
            story.rows.insert(row.id.clone(), row);
            return story;
        }
        Entered::Enrolled(advanced) => {
            story.rows.extend(advanced.deliveries.into_iter().map(|row| (row.id.clone(), row)));
            story.enrollment = Some(advanced.enrollment);
        }
    }
    while now < end {
        let due: Vec<Delivery> = story
            .rows
            .values()
            .filter(|row| row.state == DeliveryState::Pending && row.due_at <= now)
            .cloned()
            .collect();
        for mut row in due {
            match made.last_look(&row, &one, &now.to_string()) {
                LastLook::Arm => {
                    story.armed.push((row.step.to_string(), now));
                    row = accepted(&row);
                }
                LastLook::Refuse { state, refusal } => row = settled(&row, state, refusal.reason),
                LastLook::Defer { wake_at, refusal } => {
                    row = Delivery {
                        due_at: wake_at,
                        ..settled(&row, DeliveryState::Deferred, refusal.reason)
                    };
                }
                LastLook::Hold { .. } => {}
            }
            if row.state.counts_when_deciding() {
                one.touches.push(Touch {
                    delivery: row.id.clone(),
                    at: now,
                    traits: row.traits.clone(),
                    state: row.state,
                    content: None,
                });
            }
            story.rows.insert(row.id.clone(), row);
        }
        now = now.checked_add(SignedDuration::from_mins(tick)).unwrap();
        let enrollment = story.enrollment.take().unwrap();
        let own: Vec<Delivery> = story.rows.values().cloned().collect();
        let advanced = advance(&made.world(), version, &one.person(), enrollment, &own, Cause::Look, now);
        for row in advanced.deliveries {
            if row.state == DeliveryState::Withheld {
                one.touches.push(Touch {
                    delivery: row.id.clone(),
                    at: now,
                    traits: row.traits.clone(),
                    state: row.state,
                    content: None,
                });
            }
            let before = story.rows.get(&row.id).map(|row| row.state);
            assert!(before.is_none_or(|state| state == DeliveryState::Deferred), "decided anew: {before:?}");
            story.rows.insert(row.id.clone(), row);
        }
        story.enrollment = Some(advanced.enrollment);
    }
    story
}

#[test]
fn everybody_ends_with_one_row_for_each_send_they_reached_or_one_that_says_why_not() {
    let (made, version) = (made(), Version::new(book()));
    let (mut enrolled, mut refused) = (0, 0);
    let mut states = BTreeMap::new();
    for number in 0..400 {
        let story = play(&made, &version, someone(number, number * 7), 30, 8);
        let steps: Vec<&str> = story.rows.values().map(|row| row.step.as_str()).collect();
        let distinct: BTreeSet<&str> = steps.iter().copied().collect();
        assert_eq!(steps.len(), distinct.len(), "one row a step: {steps:?}");
        for row in story.rows.values() {
            *states.entry((row.state, row.reason)).or_insert(0) += 1;
        }
        match story.enrollment {
            None => {
                refused += 1;
                assert_eq!(steps, ["entry"]);
            }
            Some(enrollment) => {
                enrolled += 1;
                assert!(matches!(enrollment.progress, Progress::Ended { .. }), "{:?}", enrollment.progress);
                let team = if distinct.contains("team") { 4 } else { 3 };
                assert_eq!(steps.len(), team, "nudge, offer, receipt, and team where it fits: {steps:?}");
                assert!(story.rows.values().all(|row| row.state.is_settled()));
            }
        }
    }
    assert_eq!(enrolled + refused, 400);
    assert!(enrolled > 150 && refused > 50 && states.len() > 8, "{enrolled} {refused} {states:?}");
}

#[test]
fn nothing_goes_at_night_out_of_the_window_without_consent_or_to_who_is_held_out() {
    let (made, version) = (made(), Version::new(book()));
    let mut gone = 0;
    for number in 0..1_200 {
        let one = someone(number, number * 11);
        let zone =
            one.profile.as_ref().and_then(model::profile::Profile::timezone).unwrap_or(made.zone.clone());
        let story = play(&made, &version, one.clone(), 30, 8);
        let mut days = BTreeSet::new();
        for (step, when) in story.armed.iter().filter(|(step, _)| step != "receipt") {
            gone += 1;
            let wall = zone.to_datetime(*when);
            assert!((9..17).contains(&wall.hour()), "{step} at {wall}");
            assert!(days.insert(wall.date()), "two on {wall}");
            let enrollment = story.enrollment.as_ref().unwrap();
            assert_eq!(enrollment.holdout, None);
            let allowed = if step == "team" { "product" } else { "offers" };
            let status =
                one.consents.status_of(model::policy::Channel::Email, &model::PurposeName::known(allowed));
            assert!(status == ConsentStatus::Granted || step == "team" && status == ConsentStatus::Absent);
        }
    }
    assert!(gone > 60, "{gone}");
}

#[test]
fn a_finer_tick_moves_nobody_who_has_no_cap_in_the_way() {
    let mut made = made();
    made.policy.caps.clear();
    let version = Version::new(book());
    for number in 0..120 {
        let one = someone(number, number * 13);
        let fine = play(&made, &version, one.clone(), 15, 8);
        let coarse = play(&made, &version, one, 60, 8);
        let names = |story: &Story| story.armed.iter().map(|(step, _)| step.clone()).collect::<Vec<_>>();
        assert_eq!(names(&fine), names(&coarse));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn shuffled_input_gives_the_same_decisions(seeds in prop::collection::vec(0u32..2_000, 1..40), turn in 0usize..40) {
        let (made, version) = (made(), Version::new(book()));
        let people: Vec<Someone> = seeds.iter().zip(0..).map(|(seed, number)| someone(number, *seed)).collect();
        let mut shuffled = people.clone();
        shuffled.rotate_left(turn % people.len());
        shuffled.reverse();
        for one in &mut shuffled {
            one.touches.reverse();
            one.suppressions.reverse();
            one.consents.states.reverse();
        }
        prop_assert_eq!(decide_all(&made, &version, &people), decide_all(&made, &version, &shuffled));
    }

    #[test]
    fn a_stranger_changes_nobody(seeds in prop::collection::vec(0u32..2_000, 1..20), stranger in 0u32..2_000) {
        let (made, version) = (made(), Version::new(book()));
        let mut people: Vec<Someone> = seeds.iter().zip(0..).map(|(seed, number)| someone(number, *seed)).collect();
        let before = decide_all(&made, &version, &people);
        people.insert(0, someone(99, stranger));
        let mut after = decide_all(&made, &version, &people);
        after.remove(&ProfileNumber(99));
        prop_assert_eq!(before, after);
    }

    #[test]
    fn priority_is_who_is_asked_first_and_nothing_else(seed in 0u32..2_000, priority in 0u8..=100) {
        let made = made();
        let strip = |mut entered: Entered| {
            match &mut entered {
                Entered::Enrolled(advanced) => advanced.deliveries.iter_mut().for_each(|row| row.priority = 0),
                Entered::Refused(row) => row.priority = 0,
            }
            entered
        };
        let decided = |priority: u8| {
            let version = Version::new(Playbook { priority, ..book() });
            let one = someone(1, seed);
            strip(enter(&made.world(), &version, &one.person(), "run1", BTreeMap::new(), at("2026-03-04T11:00:00Z")))
        };
        prop_assert_eq!(decided(50), decided(priority));
    }

    #[test]
    fn nobody_breaks_an_invariant_and_all_is_told(seed in any::<u32>(), minutes in 0i64..600_000, halted in any::<bool>()) {
        let mut made = made();
        made.halts.all = halted;
        let version = Version::new(book());
        let mut one = someone(1, seed);
        one.touches.push(Touch {
            delivery: DeliveryId::known("t"),
            at: at("2026-03-04T11:00:00Z"),
            traits: traits("offers", MessageClass::Marketing),
            state: DeliveryState::InDoubt,
            content: None,
        });
        let now = at("2026-03-01T00:00:00Z").checked_add(SignedDuration::from_mins(minutes)).unwrap();
        if let Entered::Enrolled(advanced) = enter(&made.world(), &version, &one.person(), "run1", BTreeMap::new(), now) {
            for row in &advanced.deliveries {
                prop_assert!(row.state != DeliveryState::Deferred || row.due_at > now);
                prop_assert!(row.gates.iter().any(|record| record.reason == Some(row.reason)) || row.reason == Reason::OkDue);
            }
            let rows = advanced.deliveries.clone();
            let again = advance(&made.world(), &version, &one.person(), advanced.enrollment.clone(), &rows, Cause::Look, now);
            prop_assert!(!again.changed && again.deliveries.is_empty(), "a second look at the same time finds nothing to do");
        }
    }
}
