//! Whether a condition holds for a person: the one evaluator for segments, branches, waits, goals, exits and quiet hours.
//!
//! A missing value fails every test but `missing: true` and `not`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use model::condition::{Condition, PlaybookStanding, SegmentTest, StepOutcome, ValueOf, ValueTest};
use model::{PlaybookName, StepId, Value};

use crate::time;
use crate::world::{Person, World};

static MISSING: Value = Value::Missing;

/// Whom a condition is asked about, and when.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// Memberships, and the zone of who has none.
    pub world: &'a World<'a>,
    /// Who.
    pub person: &'a Person<'a>,
    /// The columns kept from entering; `None` outside a playbook: all are missing.
    pub entry: Option<&'a BTreeMap<String, Value>>,
    /// How the earlier steps came out; `None` outside a playbook: none has.
    pub outcomes: Option<&'a BTreeMap<StepId, StepOutcome>>,
    /// When.
    pub now: Timestamp,
}

/// Whether a condition holds.
pub fn holds(condition: &Condition, on: &Subject<'_>) -> bool {
    match condition {
        Condition::All(inner) => inner.iter().all(|condition| holds(condition, on)),
        Condition::Any(inner) => inner.iter().any(|condition| holds(condition, on)),
        Condition::Not(inner) => !holds(inner, on),
        Condition::Profile { attribute, tests } => pass(tests, on.profile(attribute), on),
        Condition::Account { attribute, tests } => pass(tests, on.account(attribute), on),
        Condition::Entry { column, tests } => pass(tests, on.entry(column), on),
        Condition::Segment { name, test } => match test {
            SegmentTest::Member => on.world.memberships.contains(name, on.person.number),
            SegmentTest::NotMember => !on.world.memberships.contains(name, on.person.number),
            SegmentTest::MemberFor(at_least) => {
                on.world.memberships.contains_for(name, on.person.number, *at_least)
            }
        },
        Condition::Consent { channel, purpose, any_of } => {
            any_of.contains(&on.person.consents.status_of(*channel, purpose))
        }
        Condition::Playbook { name, any_of } => any_of.iter().any(|asked| on.stands(name, *asked)),
        Condition::Step { id, any_of } => {
            on.outcomes.and_then(|outcomes| outcomes.get(id)).is_some_and(|outcome| any_of.contains(outcome))
        }
    }
}

impl<'a> Subject<'a> {
    /// A value of the person; missing where there is none.
    pub(crate) fn value(&self, of: &ValueOf) -> &'a Value {
        match of {
            ValueOf::Profile(attribute) => self.profile(attribute),
            ValueOf::Account(attribute) => self.account(attribute),
            ValueOf::Entry(column) => self.entry(column),
        }
    }

    /// The instant a value stands for. What has no offset is local to the person; a date is its first instant there.
    pub(crate) fn instant(&self, value: &Value) -> Option<Timestamp> {
        if let Some(instant) = value.as_time() {
            return Some(instant);
        }
        let local = match value {
            Value::Date(date) => DateTime::from(*date),
            Value::Text(text) => {
                text.parse::<DateTime>().or_else(|_| text.parse::<Date>().map(DateTime::from)).ok()?
            }
            _ => return None,
        };
        Some(time::instant(local, &self.person.zone(self.world).zone, time::Fold::Earlier))
    }

    fn profile(&self, attribute: &str) -> &'a Value {
        self.person.profile.map_or(&MISSING, |profile| profile.attribute(attribute))
    }

    fn account(&self, attribute: &str) -> &'a Value {
        self.person.profile.map_or(&MISSING, |profile| profile.account_attribute(attribute))
    }

    fn entry(&self, column: &str) -> &'a Value {
        self.entry.and_then(|entry| entry.get(column)).unwrap_or(&MISSING)
    }

    fn stands(&self, playbook: &PlaybookName, asked: PlaybookStanding) -> bool {
        let standing = self.person.standing(playbook);
        match asked {
            PlaybookStanding::Never => standing.is_none(),
            PlaybookStanding::Active => standing.is_some_and(|standing| standing.active),
            PlaybookStanding::Finished => standing.is_some_and(|standing| !standing.active),
            PlaybookStanding::ReachedGoal => standing.is_some_and(|standing| standing.reached_goal),
        }
    }
}

fn pass(tests: &[ValueTest], value: &Value, on: &Subject<'_>) -> bool {
    tests.iter().all(|test| passes(test, value, on))
}

fn passes(test: &ValueTest, value: &Value, on: &Subject<'_>) -> bool {
    match test {
        ValueTest::Missing(wanted) => return value.is_missing() == *wanted,
        ValueTest::Not(inner) => return !pass(inner, value, on),
        _ if value.is_missing() => return false,
        _ => {}
    }
    let number = |fits: &dyn Fn(f64) -> bool| value.as_number().is_some_and(fits);
    let text = |fits: &dyn Fn(&str) -> bool| value.as_text().is_some_and(fits);
    let time = |fits: &dyn Fn(Timestamp) -> bool| on.instant(value).is_some_and(fits);
    match test {
        ValueTest::OneOf(values) => values.iter().any(|one| value.same_as(one)),
        ValueTest::SameAs(other) => value.same_as(on.value(other)),
        ValueTest::Over(bound) => number(&|number| number > *bound),
        ValueTest::Under(bound) => number(&|number| number < *bound),
        ValueTest::AtLeast(bound) => number(&|number| number >= *bound),
        ValueTest::AtMost(bound) => number(&|number| number <= *bound),
        ValueTest::Has(part) => text(&|text| text.contains(part.as_str())),
        ValueTest::Starts(part) => text(&|text| text.starts_with(part.as_str())),
        ValueTest::Ends(part) => text(&|text| text.ends_with(part.as_str())),
        ValueTest::Before(bound) => time(&|time| time < *bound),
        ValueTest::After(bound) => time(&|time| time > *bound),
        ValueTest::InLast(span) => time(&|time| time <= on.now && time >= time::minus(on.now, *span)),
        ValueTest::InNext(span) => time(&|time| time >= on.now && time <= time::plus(on.now, *span)),
        ValueTest::OlderThan(span) => time(&|time| time < time::minus(on.now, *span)),
        ValueTest::Missing(_) | ValueTest::Not(_) => false,
    }
}
