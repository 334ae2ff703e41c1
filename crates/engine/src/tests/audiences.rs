//! Who may be in an audience, and that it becomes what it is to be whatever its destination says on the way.

use std::collections::{BTreeMap, BTreeSet};

use model::consent::ConsentStatus;
use model::duration::Share;
use model::id::IdentityHash;
use model::policy::{Channel, MessageClass, Permission, Traits};
use model::sync::{Entry, Has, Todo};
use model::{DestinationName, Reason, Value};
use proptest::prelude::*;

use super::made::*;
use crate::{Planned, judge_removal, may_be_member, plan_entries};

const NOON: &str = "2026-03-02T11:00:00Z";

fn ads(purpose: &str) -> Traits {
    Traits { channel: Channel::Ads, ..traits(purpose, MessageClass::Marketing) }
}

/// Why this person may not be in an audience for offers.
fn refusal(made: &Made, someone: &Someone) -> Option<Reason> {
    let meta = DestinationName::known("meta");
    may_be_member(&made.world(), &someone.person(), &meta, &ads("offers"), at(NOON))
        .err()
        .map(|refusal| refusal.reason)
}

#[test]
fn who_consents_to_ads_may_be_in_and_nobody_else() {
    let (made, mut someone) = (Made::new(), Someone::new(1));
    assert_eq!(refusal(&made, &someone), None);
    for (status, reason) in [
        (ConsentStatus::Withdrawn, Reason::ConsentWithdrawn),
        (ConsentStatus::Pending, Reason::ConsentPending),
        (ConsentStatus::Absent, Reason::ConsentAbsent),
    ] {
        someone.says(status);
        assert_eq!(refusal(&made, &someone), Some(reason));
    }
    let mut american = Made::new();
    american.policy.permission.insert(Channel::Ads, Permission::OptOut);
    assert_eq!(refusal(&american, &someone), None, "nothing was said, and that is enough there");
    someone.suppress(Reason::OptoutGlobal, None, false);
    assert_eq!(refusal(&american, &someone), Some(Reason::OptoutGlobal));
    let mut mailed = Someone::new(2);
    mailed.suppress(Reason::HardBounce, Some(Channel::Email), false);
    assert_eq!(refusal(&made, &mailed), None, "that mail bounces says nothing of ads");
}

#[test]
fn what_a_person_said_of_ads_counts_where_it_is_asked() {
    let made = Made::new();
    for (column, value, passes) in [
        ("ad_user_data", Value::Boolean(true), true),
        ("ad_user_data", Value::Integer(1), true),
        ("ad_user_data", text("granted"), true),
        ("ad_user_data", Value::Boolean(false), false),
        ("ad_user_data", Value::Missing, false),
        ("ad_user_data", text("perhaps"), false),
        ("ad_personalization", Value::Integer(0), false),
        ("gpc", Value::Boolean(true), false),
        ("gpc", text("1"), false),
        ("gpc", Value::Boolean(false), true),
        ("gpc", Value::Missing, true),
    ] {
        let mut someone = Someone::new(1);
        someone.set(column, value.clone());
        let expected = (!passes).then_some(Reason::AdsOptout);
        assert_eq!(refusal(&made, &someone), expected, "{column} is {value:?}");
    }
}

#[test]
fn the_global_holdout_is_in_no_audience() {
    let mut made = Made::new();
    made.policy.holdout = Some(global_holdout("100%", None));
    assert_eq!(refusal(&made, &Someone::new(1)), Some(Reason::GlobalHoldout));
}

#[test]
fn a_fifth_may_leave_and_one_more_waits_for_a_person() {
    let fifth = Share::parse("20%").unwrap();
    for (people, leaving, passes) in
        [(100, 20, true), (100, 21, false), (1, 1, true), (2, 2, false), (0, 0, true), (3, 1, true)]
    {
        assert_eq!(
            judge_removal(fifth, people, leaving, ("people", "removed")).is_ok(),
            passes,
            "{leaving} of {people}"
        );
    }
    let refusal = judge_removal(fifth, 10, 10, ("people", "removed")).unwrap_err();
    assert_eq!(refusal.reason, Reason::MassRemoval);
    assert_eq!(refusal.saw, "10 of 10 people would be removed, `guards.removal` lets 20% of them");
}

fn identity(name: &str) -> IdentityHash {
    IdentityHash::known(name)
}

fn entry(name: &str, todo: Todo, has: Has) -> Entry {
    Entry { identity: identity(name), todo, has, acknowledged_at: (has == Has::Yes).then(|| at(NOON)) }
}

#[test]
fn what_is_in_is_left_alone_until_it_is_to_be_renewed() {
    let entries = [entry("a", Todo::Nothing, Has::Yes)];
    assert_eq!(plan_entries(&entries, Ok(&identity("a")), None), []);
    assert_eq!(plan_entries(&entries, Ok(&identity("a")), Some(at(NOON))), []);
    let renewed = plan_entries(&entries, Ok(&identity("a")), Some(at("2026-03-03T11:00:00Z")));
    assert_eq!(renewed, [Planned::Put { identity: identity("a"), todo: Todo::Add, reason: Reason::OkDue }]);
}

#[test]
fn another_address_comes_in_before_the_old_one_goes() {
    let planned = plan_entries(&[entry("old", Todo::Nothing, Has::Yes)], Ok(&identity("new")), None);
    assert_eq!(
        planned,
        [
            Planned::Put { identity: identity("new"), todo: Todo::Add, reason: Reason::OkDue },
            Planned::Put { identity: identity("old"), todo: Todo::Remove, reason: Reason::OkDue },
        ]
    );
}

#[test]
fn who_says_no_goes_at_once_and_who_leaves_waits_for_the_guard() {
    for (reason, todo) in [
        (Reason::ConsentWithdrawn, Todo::OptOut),
        (Reason::Erased, Todo::OptOut),
        (Reason::AdsOptout, Todo::OptOut),
        (Reason::SegmentLeft, Todo::Leaves),
        (Reason::SubjectMissing, Todo::Leaves),
    ] {
        let entries = [entry("a", Todo::Nothing, Has::Yes), entry("b", Todo::Add, Has::Maybe)];
        let planned = plan_entries(&entries, Err(reason), None);
        let put = |name: &str| Planned::Put { identity: identity(name), todo, reason };
        assert_eq!(planned, [put("a"), put("b")]);
        let never_asked = plan_entries(&[entry("c", Todo::Add, Has::No)], Err(reason), None);
        assert_eq!(never_asked, [Planned::Forget { identity: identity("c") }]);
    }
}

/// One person's entries, and what the destination really has.
#[derive(Debug, Default)]
struct Audience {
    entries: BTreeMap<IdentityHash, Entry>,
    really: BTreeSet<IdentityHash>,
}

/// What a destination does with what is asked of it.
#[derive(Debug, Clone, Copy)]
enum Answer {
    Takes,
    TakesAndIsNotHeard,
    IsNotReached,
    Refuses,
}

impl Audience {
    fn plan(&mut self, wanted: Result<&IdentityHash, Reason>) {
        let before: Vec<Entry> = self.entries.values().cloned().collect();
        for planned in plan_entries(&before, wanted, None) {
            match planned {
                Planned::Forget { identity } => {
                    let gone = self.entries.remove(&identity).expect("only what is there is forgotten");
                    assert_eq!(gone.has, Has::No, "what a destination may have was forgotten");
                }
                Planned::Put { identity, todo, .. } => {
                    let new = Entry { identity: identity.clone(), todo, has: Has::No, acknowledged_at: None };
                    self.entries.entry(identity).or_insert(new).todo = todo;
                }
            }
        }
    }

    /// Everything that may be asked is asked, in the order in which it is; all get this answer.
    fn push(&mut self, answer: Answer) {
        for todo in [Todo::OptOut, Todo::Add, Todo::Remove, Todo::Leaves] {
            let is_replaced = self.entries.values().any(|entry| entry.todo == Todo::Add);
            let due: Vec<IdentityHash> = self
                .entries
                .values()
                .filter(|entry| entry.todo == todo && !(todo == Todo::Remove && is_replaced))
                .map(|entry| entry.identity.clone())
                .collect();
            for identity in due {
                self.ask(&identity, todo == Todo::Add, answer);
            }
        }
    }

    fn ask(&mut self, identity: &IdentityHash, adds: bool, answer: Answer) {
        if matches!(answer, Answer::Takes | Answer::TakesAndIsNotHeard) {
            if adds {
                self.really.insert(identity.clone())
            } else {
                self.really.remove(identity)
            };
        }
        let entry = self.entries.get_mut(identity).expect("what is asked is there");
        match (answer, adds) {
            (Answer::Takes, true) => {
                (entry.has, entry.todo, entry.acknowledged_at) = (Has::Yes, Todo::Nothing, Some(at(NOON)));
            }
            (Answer::Takes, false) => {
                self.entries.remove(identity);
            }
            (Answer::TakesAndIsNotHeard, _) => entry.has = Has::Maybe,
            (Answer::IsNotReached, _) => {}
            (Answer::Refuses, _) => entry.todo = Todo::Rejected,
        }
    }
}

fn wishes() -> impl Strategy<Value = Result<&'static str, Reason>> {
    prop_oneof![
        3 => prop_oneof![Just("a"), Just("b"), Just("c")].prop_map(Ok),
        1 => Just(Err(Reason::ConsentWithdrawn)),
        1 => Just(Err(Reason::SegmentLeft)),
    ]
}

fn answers() -> impl Strategy<Value = Answer> {
    prop_oneof![
        Just(Answer::Takes),
        Just(Answer::TakesAndIsNotHeard),
        Just(Answer::IsNotReached),
        Just(Answer::Refuses)
    ]
}

proptest! {
    #[test]
    fn an_audience_becomes_what_it_is_to_be_whatever_is_said_on_the_way(
        turns in proptest::collection::vec((wishes(), answers()), 1..12)
    ) {
        let mut audience = Audience::default();
        for (wish, answer) in &turns {
            let wanted = wish.map(identity);
            audience.plan(wanted.as_ref().map_err(|reason| *reason));
            audience.push(*answer);
            // Whatever the destination has, we know that it may.
            for name in &audience.really {
                prop_assert!(audience.entries.get(name).is_some_and(|entry| entry.has != Has::No), "{name} was forgotten");
            }
        }
        // Then it answers; what was to be done after something else takes a second turn.
        let wanted = turns.last().map_or(Err(Reason::SegmentLeft), |(wish, _)| *wish).map(identity);
        for _ in 0..2 {
            audience.plan(wanted.as_ref().map_err(|reason| *reason));
            audience.push(Answer::Takes);
        }
        let expected: BTreeSet<IdentityHash> = wanted.into_iter().collect();
        prop_assert_eq!(&audience.really, &expected);
        prop_assert!(audience.entries.values().all(|entry| entry.todo == Todo::Nothing && entry.has == Has::Yes));
    }
}
