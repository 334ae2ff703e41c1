//! Who may enter, who is held out, and the row of who may not.

use std::collections::BTreeMap;

use model::condition::PlaybookStanding;
use model::enrollment::HoldoutKind;
use model::id::bucket;
use model::playbook::Reenter;
use model::{DeliveryState, EnrollmentId, Gate, PlaybookName, ProfileNumber, Reason, StepId};

use super::conditions::{profile_is, stands};
use super::made::*;
use crate::{Standing, Version};

const NOON: &str = "2026-03-02T11:00:00Z";

fn standing(active: bool, ended_at: Option<&str>) -> Standing {
    Standing {
        playbook: PlaybookName::known("win_back"),
        active,
        reached_goal: false,
        ended_at: ended_at.map(at),
    }
}

#[test]
fn ids_are_those_of_playbook_person_and_trigger() {
    let made = Made::new();
    let advanced = made.enter(&version(vec![send("nudge")]), &Someone::new(7), NOON);
    let id = EnrollmentId::derive("acme", &PlaybookName::known("win_back"), ProfileNumber(7), "run1");
    assert_eq!(advanced.enrollment.id, id);
    assert_eq!(advanced.deliveries[0].id, model::DeliveryId::derive("acme", &id, &StepId::known("nudge"), 0));
    let again = made.enter(&version(vec![send("nudge")]), &Someone::new(7), "2026-03-02T11:00:01Z");
    assert_eq!(again.deliveries[0].id, advanced.deliveries[0].id, "the clock is not in it");
}

#[test]
fn who_may_come_in_again() {
    let made = Made::new();
    let month = Reenter::After(span("30d"));
    let (ended_30_days_ago, ended_just_later) = ("2026-01-31T11:00:00Z", "2026-01-31T11:00:01Z");
    let no = |reason| Some(reason);
    for (reenter, standing, refused) in [
        (month, None, None),
        (Reenter::Never, None, None),
        (month, Some(standing(false, Some(ended_30_days_ago))), None),
        (month, Some(standing(false, Some(ended_just_later))), no(Reason::EntryNotAgain)),
        (Reenter::Never, Some(standing(false, Some("2020-01-01T00:00:00Z"))), no(Reason::EntryNotAgain)),
        (Reenter::Always, Some(standing(false, Some(NOON))), None),
        (Reenter::Always, Some(standing(true, None)), no(Reason::EntryActive)),
        (month, Some(standing(true, None)), no(Reason::EntryActive)),
    ] {
        let mut book = playbook(vec![send("nudge")]);
        book.reenter = reenter;
        let mut someone = Someone::new(1);
        someone.standings = standing.clone().into_iter().collect();
        let version = Version::new(book);
        match refused {
            Some(reason) => {
                assert_eq!(made.refused(&version, &someone, NOON).reason, reason, "{reenter:?} {standing:?}")
            }
            None => assert_eq!(made.enter(&version, &someone, NOON).deliveries.len(), 1),
        }
    }
}

#[test]
fn the_filter_is_asked_on_entering_and_knows_other_playbooks() {
    let made = Made::new();
    let mut book = playbook(vec![send("nudge")]);
    book.filter = Some(stands("onboarding", PlaybookStanding::Active));
    let version = Version::new(book);
    let mut someone = Someone::new(1);
    assert_eq!(made.refused(&version, &someone, NOON).reason, Reason::EntryFilter);
    someone.standings =
        vec![Standing { playbook: PlaybookName::known("onboarding"), ..standing(true, None) }];
    assert_eq!(made.enter(&version, &someone, NOON).deliveries.len(), 1);
}

#[test]
fn the_row_of_who_is_refused_has_the_first_sends_traits_and_every_reason() {
    let made = Made::new();
    let mut book = playbook(vec![wait("pause", "1d"), send_for("nudge", "product")]);
    book.filter = Some(profile_is("plan", "team"));
    book.reenter = Reenter::Never;
    let mut someone = Someone::new(1);
    someone.standings = vec![standing(false, Some("2026-01-01T00:00:00Z"))];
    someone.profile = None;
    let row = made.refused(&Version::new(book), &someone, NOON);
    assert_eq!(
        (row.state, row.reason, row.step.as_str()),
        (DeliveryState::Skipped, Reason::SubjectMissing, "entry")
    );
    assert_eq!((row.traits.purpose.as_str(), row.template.as_str()), ("product", "nudge"));
    let failed: Vec<(Gate, Reason)> =
        row.gates.iter().filter_map(|record| Some((record.gate, record.reason?))).collect();
    let wanted = [
        (Gate::Identity, Reason::SubjectMissing),
        (Gate::Currency, Reason::EntryNotAgain),
        (Gate::Currency, Reason::EntryFilter),
    ];
    assert_eq!(failed, wanted);
}

#[test]
fn a_playbook_without_a_send_refuses_too() {
    let made = Made::new();
    let mut book = playbook(vec![]);
    book.filter = Some(profile_is("plan", "team"));
    let row = made.refused(&Version::new(book), &Someone::new(1), NOON);
    assert_eq!(row.traits.purpose.as_str(), "offers");
}

#[test]
fn holdouts_are_drawn_by_the_id_as_text_and_fixed() {
    let mut made = Made::new();
    made.policy.holdout = Some(global_holdout("50%", None));
    let mut book = playbook(vec![send("nudge")]);
    book.holdout = Some(own_holdout("50%"));
    let version = Version::new(book);
    let half = 1u64 << 63;
    for number in 1..200 {
        let mut someone = Someone::new(number);
        someone.number = ProfileNumber(number * 3);
        let id = format!("user-{number}");
        let wanted = if bucket(&["acme-2026", &id]) < half {
            Some(HoldoutKind::Global)
        } else if bucket(&["win_back", &id]) < half {
            Some(HoldoutKind::Playbook)
        } else {
            None
        };
        assert_eq!(made.enter(&version, &someone, NOON).enrollment.holdout, wanted, "{id}");
    }
}

#[test]
fn a_rotating_holdout_draws_others_in_the_next_period_and_leaves_those_under_way() {
    let mut made = Made::new();
    made.policy.holdout = Some(global_holdout("50%", Some("90d")));
    let version = version(vec![wait("pause", "200d"), send("nudge")]);
    let held = |now: &str| -> Vec<bool> {
        (1..200).map(|n| made.enter(&version, &Someone::new(n), now).enrollment.holdout.is_some()).collect()
    };
    // 1970-01-01 plus 228 times 90 days is 2026-03-08.
    assert_eq!(held("2026-03-01T00:00:00Z"), held("2026-03-07T23:59:59Z"));
    assert_ne!(held("2026-03-07T23:59:59Z"), held("2026-03-08T00:00:00Z"));
    let someone = (1..200)
        .map(Someone::new)
        .find(|one| made.enter(&version, one, "2026-03-01T00:00:00Z").enrollment.holdout.is_some());
    let someone = someone.unwrap();
    let before = made.enter(&version, &someone, "2026-03-01T00:00:00Z");
    let after = made.look(&version, &someone, &before, &[], "2026-09-17T00:00:00Z");
    assert_eq!(after.enrollment.holdout, Some(HoldoutKind::Global));
    assert_eq!(after.deliveries[0].state, DeliveryState::Withheld);
}

#[test]
fn the_share_that_is_held_out_is_the_share_asked_for() {
    let mut made = Made::new();
    made.policy.holdout = Some(global_holdout("5%", None));
    let version = version(vec![send("nudge")]);
    let held = (0..20_000)
        .filter(|n| made.enter(&version, &Someone::new(*n), NOON).enrollment.holdout.is_some())
        .count();
    assert!((880..=1_120).contains(&held), "{held} of 20,000");
}

#[test]
fn what_was_so_on_entering_is_kept_until_the_end() {
    let made = Made::new();
    let entry = BTreeMap::from([("sku".to_owned(), text("a7"))]);
    let someone = Someone::new(1);
    let version = version(vec![send("nudge")]);
    let entered = crate::enter(&made.world(), &version, &someone.person(), "run1", entry.clone(), at(NOON));
    let crate::Entered::Enrolled(advanced) = entered else { panic!() };
    assert_eq!(advanced.enrollment.entry, entry);
    let rows = [accepted(&advanced.deliveries[0])];
    let after = made.look(&version, &someone, &advanced, &rows, "2026-03-02T11:05:00Z");
    assert!(after.enrollment.entry.is_empty() && !after.enrollment.is_active());
}
