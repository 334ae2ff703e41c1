//! The one language of conditions.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::condition::{Condition, PlaybookStanding, SegmentTest, StepOutcome, ValueOf, ValueTest};
use model::consent::ConsentStatus;
use model::policy::Channel;
use model::{PlaybookName, PurposeName, SegmentName, StepId, Value};

use super::made::*;
use crate::{Standing, Subject, holds};

pub(crate) fn profile(attribute: &str, tests: Vec<ValueTest>) -> Condition {
    Condition::Profile { attribute: attribute.to_owned(), tests }
}

pub(crate) fn profile_is(attribute: &str, value: &str) -> Condition {
    profile(attribute, vec![ValueTest::OneOf(vec![text(value)])])
}

pub(crate) fn in_segment(name: &str) -> Condition {
    Condition::Segment { name: SegmentName::known(name), test: SegmentTest::Member }
}

pub(crate) fn stands(playbook: &str, standing: PlaybookStanding) -> Condition {
    Condition::Playbook { name: PlaybookName::known(playbook), any_of: vec![standing] }
}

pub(crate) fn step_was(id: &str, outcome: StepOutcome) -> Condition {
    Condition::Step { id: StepId::known(id), any_of: vec![outcome] }
}

fn asked(made: &Made, someone: &Someone, condition: &Condition) -> bool {
    let (world, person) = (made.world(), someone.person());
    let entry = BTreeMap::from([("sku".to_owned(), text("a7"))]);
    let outcomes = BTreeMap::from([(StepId::known("nudge"), StepOutcome::Accepted)]);
    let subject = Subject {
        world: &world,
        person: &person,
        entry: Some(&entry),
        outcomes: Some(&outcomes),
        now: at("2026-03-02T12:00:00Z"),
    };
    holds(condition, &subject)
}

#[test]
fn tests_of_values() {
    use ValueTest as T;
    let made = Made::new();
    let mut someone = Someone::new(1);
    for (name, value) in [
        ("plan", text("team")),
        ("seats", Value::Integer(7)),
        ("score", Value::Number(7.5)),
        ("active", Value::Boolean(true)),
        ("seen", Value::Time(at("2026-03-01T12:00:00Z"))),
        ("seen_text", text("2026-03-01T12:00:00Z")),
        ("trial_ends", text("2026-03-05")),
        ("trial_date", Value::Date("2026-03-05".parse().unwrap())),
        ("empty", text("")),
        ("sku", text("a7")),
    ] {
        someone.set(name, value);
    }
    let one_of = |values: &[Value]| T::OneOf(values.to_vec());
    let cases: Vec<(&str, T, bool)> = vec![
        ("plan", one_of(&[text("team")]), true),
        ("plan", one_of(&[text("trial"), text("team")]), true),
        ("plan", one_of(&[text("trial")]), false),
        ("plan", T::Not(vec![one_of(&[text("trial")])]), true),
        ("plan", T::Has("ea".to_owned()), true),
        ("plan", T::Starts("te".to_owned()), true),
        ("plan", T::Ends("te".to_owned()), false),
        ("plan", T::Over(1.0), false),
        ("seats", one_of(&[Value::Number(7.0)]), true),
        ("seats", T::Over(7.0), false),
        ("seats", T::AtLeast(7.0), true),
        ("score", T::Under(7.5), false),
        ("score", T::AtMost(7.5), true),
        ("active", one_of(&[Value::Boolean(true)]), true),
        ("seen", T::Before(at("2026-03-01T12:00:01Z")), true),
        ("seen", T::After(at("2026-03-01T12:00:00Z")), false),
        ("seen", T::InLast(span("1d")), true),
        ("seen", T::InLast(span("23h")), false),
        ("seen", T::OlderThan(span("1d")), false),
        ("seen", T::OlderThan(span("23h")), true),
        ("seen_text", T::InLast(span("1d")), true),
        ("seen", T::InNext(span("1d")), false),
        // Midnight in Berlin, three days less an hour from now.
        ("trial_ends", T::InNext(span("59h")), true),
        ("trial_ends", T::InNext(span("58h")), false),
        ("trial_date", T::InNext(span("59h")), true),
        ("trial_date", T::InNext(span("58h")), false),
        ("empty", T::Missing(true), true),
        ("empty", one_of(&[text("")]), false),
        ("nothing", T::Missing(true), true),
        ("nothing", T::Missing(false), false),
        ("nothing", T::Not(vec![one_of(&[text("x")])]), true),
        ("nothing", T::Under(5.0), false),
        ("nothing", T::OlderThan(span("1d")), false),
        ("sku", T::SameAs(ValueOf::Entry("sku".to_owned())), true),
        ("plan", T::SameAs(ValueOf::Entry("sku".to_owned())), false),
        ("nothing", T::SameAs(ValueOf::Entry("nothing".to_owned())), false),
    ];
    for (attribute, test, wanted) in cases {
        let condition = profile(attribute, vec![test]);
        assert_eq!(asked(&made, &someone, &condition), wanted, "{condition:?}");
    }
}

#[test]
fn an_account_is_asked_as_a_profile_is() {
    use ValueTest as T;
    let (made, mut someone) = (Made::new(), Someone::new(1));
    let one_of = |values: &[Value]| T::OneOf(values.to_vec());
    let account =
        |attribute: &str, test: T| Condition::Account { attribute: attribute.to_owned(), tests: vec![test] };
    let cases = [
        ("arr", T::Over(20_000.0), true),
        ("arr", T::AtMost(20_000.0), false),
        ("tier", one_of(&[text("gold"), text("tin")]), true),
        ("tier", T::Not(vec![one_of(&[text("gold")])]), false),
        ("tier", T::SameAs(ValueOf::Profile("plan".to_owned())), true),
        ("tier", T::SameAs(ValueOf::Entry("sku".to_owned())), false),
        ("renews", T::InNext(span("59h")), true),
        ("gone", T::Missing(true), true),
    ];
    someone.set("plan", text("gold"));
    // Nobody's account: every value is missing, and so is every test of it but two.
    for (attribute, test, _) in &cases {
        let missing = matches!(test, T::Missing(true) | T::Not(_));
        assert_eq!(asked(&made, &someone, &account(attribute, test.clone())), missing, "{test:?}");
    }
    let columns =
        [("arr", Value::Number(25_000.0)), ("tier", text("gold")), ("renews", text("2026-03-05 00:00:00"))];
    let columns = columns.map(|(name, value)| (name.to_owned(), value));
    someone.profile.as_mut().unwrap().account = Arc::new(columns.into());
    for (attribute, test, wanted) in cases {
        let condition = account(attribute, test);
        assert_eq!(asked(&made, &someone, &condition), wanted, "{condition:?}");
    }
    assert!(asked(&made, &someone, &profile("plan", vec![T::SameAs(ValueOf::Account("tier".to_owned()))])));
    let of_account = profile("plan", vec![T::Not(vec![T::SameAs(ValueOf::Account("tier".to_owned()))])]);
    assert!(of_account.reads_account() && account("arr", T::Over(1.0)).reads_account());
    assert!(!profile("plan", vec![T::SameAs(ValueOf::Entry("sku".to_owned()))]).reads_account());
    someone.profile = None;
    assert!(!asked(&made, &someone, &account("tier", one_of(&[text("gold")]))), "gone from the warehouse");
}

#[test]
fn all_any_and_not_combine() {
    let (made, someone) = (Made::new(), Someone::new(1));
    let yes = || profile("nothing", vec![ValueTest::Missing(true)]);
    let no = || Condition::Not(Box::new(yes()));
    for (condition, wanted) in [
        (Condition::All(vec![]), true),
        (Condition::Any(vec![]), false),
        (Condition::All(vec![yes(), no()]), false),
        (Condition::Any(vec![no(), yes()]), true),
        (Condition::Not(Box::new(Condition::Any(vec![]))), true),
    ] {
        assert_eq!(asked(&made, &someone, &condition), wanted, "{condition:?}");
    }
}

#[test]
fn segments_are_asked_for_membership_and_for_how_long() {
    let mut made = Made::new();
    made.put("at_risk", 1, 14 * 86_400);
    let someone = Someone::new(1);
    let segment = |name: &str, test| Condition::Segment { name: SegmentName::known(name), test };
    for (name, test, wanted) in [
        ("at_risk", SegmentTest::Member, true),
        ("at_risk", SegmentTest::NotMember, false),
        ("at_risk", SegmentTest::MemberFor(span("14d")), true),
        ("at_risk", SegmentTest::MemberFor(span("15d")), false),
        ("steady", SegmentTest::Member, false),
        ("steady", SegmentTest::NotMember, true),
        ("steady", SegmentTest::MemberFor(span("0s")), false),
    ] {
        assert_eq!(asked(&made, &someone, &segment(name, test)), wanted, "{name} {test:?}");
    }
}

#[test]
fn consent_steps_and_standings() {
    use PlaybookStanding::{Active, Finished, Never, ReachedGoal};
    let made = Made::new();
    let mut someone = Someone::new(1);
    let consent = |status| Condition::Consent {
        channel: Channel::Email,
        purpose: PurposeName::known("offers"),
        any_of: vec![status],
    };
    assert!(asked(&made, &someone, &consent(ConsentStatus::Granted)));
    someone.says(ConsentStatus::Absent);
    assert!(asked(&made, &someone, &consent(ConsentStatus::Absent)));
    assert!(asked(&made, &someone, &step_was("nudge", StepOutcome::Accepted)));
    assert!(!asked(&made, &someone, &step_was("nudge", StepOutcome::Skipped)));
    assert!(!asked(&made, &someone, &step_was("later", StepOutcome::Accepted)));
    let standing = |name: &str, active, reached_goal| Standing {
        playbook: PlaybookName::known(name),
        active,
        reached_goal,
        ended_at: (!active).then(|| at("2026-02-01T00:00:00Z")),
    };
    someone.standings =
        vec![standing("a", true, false), standing("b", false, false), standing("c", false, true)];
    for (name, holding) in
        [("a", vec![Active]), ("b", vec![Finished]), ("c", vec![Finished, ReachedGoal]), ("d", vec![Never])]
    {
        for asked_for in [Active, Finished, ReachedGoal, Never] {
            let wanted = holding.contains(&asked_for);
            assert_eq!(asked(&made, &someone, &stands(name, asked_for)), wanted, "{name} {asked_for:?}");
        }
    }
}
