//! The auditor's own reading of caps, quiet hours, windows and holdouts.
//!
//! Days are compared as dates and times as minutes of the local day; nothing here asks when a period begins as an instant.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use model::condition::{Condition, ValueTest};
use model::duration::{CalendarUnit, Window};
use model::enrollment::HoldoutKind;
use model::id::bucket;
use model::playbook::SendWindow;
use model::policy::{MessageClass, QuietHours, RuleZone, Scope, Traits};
use model::{PlaybookName, Value};

use super::Auditor;
use crate::rules::Rules;

/// The cap that has more than it allows in the window that ends at `at`, if one does.
pub(super) fn too_many(
    rules: &Rules,
    counted: &[(Timestamp, &Traits)],
    message: &Traits,
    at: Timestamp,
    own: &TimeZone,
) -> Option<String> {
    for cap in rules.policy.caps.iter().filter(|cap| covers(&cap.scope, message)) {
        let zone = if cap.zone == RuleZone::Profile { own } else { &rules.zone };
        let inside = |then: Timestamp| match cap.per {
            Window::Rolling(long) => at.duration_since(then) < long,
            Window::Calendar { count, unit } => {
                let first = first_day(zone.to_datetime(at).date(), i64::from(count), unit);
                zone.to_datetime(then).date() >= first
            }
        };
        let many =
            counted.iter().filter(|(then, traits)| covers(&cap.scope, traits) && inside(*then)).count();
        if many > usize::try_from(cap.max).unwrap_or(usize::MAX) {
            return Some(format!("{many} of {} in {}, cap {}", cap.max, cap.per, cap.name));
        }
    }
    None
}

/// The first day of so many calendar units, the last of which holds `today`.
fn first_day(today: Date, count: i64, unit: CalendarUnit) -> Date {
    let (begin, back) = match unit {
        CalendarUnit::Day => (today, Span::new().days(count - 1)),
        CalendarUnit::Week => {
            let since_monday = i64::from(today.weekday().to_monday_zero_offset());
            (today.saturating_sub(Span::new().days(since_monday)), Span::new().weeks(count - 1))
        }
        CalendarUnit::Month => (today.first_of_month(), Span::new().months(count - 1)),
    };
    begin.saturating_sub(back)
}

fn covers(scope: &Scope, message: &Traits) -> bool {
    fn names<T: PartialEq>(list: &[T], one: &T) -> bool {
        list.is_empty() || list.iter().any(|named| named == one)
    }
    message.class != MessageClass::Transactional
        && names(&scope.channel, &message.channel)
        && names(&scope.class, &message.class)
        && names(&scope.purpose, &message.purpose)
        && names(&scope.playbook, &message.playbook)
}

fn minute(time: Time) -> i32 {
    i32::from(time.hour()) * 60 + i32::from(time.minute())
}

impl Auditor<'_> {
    /// Which quiet hours, or which closed window, a message at `at` breaks.
    pub(super) fn quiet(
        &self,
        human: &str,
        traits: &Traits,
        window: Option<&SendWindow>,
        at: Timestamp,
    ) -> Option<String> {
        if traits.class == MessageClass::Transactional {
            return None;
        }
        let own = self.zone(human);
        for rule in self.rules.policy.quiet_hours.iter().filter(|rule| covers(&rule.scope, traits)) {
            let zone = if rule.zone == RuleZone::Profile { &own } else { &self.rules.zone };
            let local = zone.to_datetime(at);
            if self.is_for(rule, human) && is_quiet(rule, local) {
                return Some(format!("{local} is in {}", rule.name));
            }
        }
        let (window, local) = (window?, own.to_datetime(at));
        (!is_open(window, local)).then(|| format!("{local} is outside the window"))
    }

    /// Whether a rule is for this person. The rules here ask for one value of one column.
    fn is_for(&self, rule: &QuietHours, human: &str) -> bool {
        let Some(Condition::Profile { attribute, tests }) = &rule.filter else {
            return rule.filter.is_none();
        };
        let Some(ValueTest::OneOf(values)) = tests.first() else { return false };
        self.attribute(human, attribute).is_some_and(|is| values.contains(&Value::Text(is.to_owned())))
    }

    /// The holdout a person who entered then is in, drawn by hand.
    pub(super) fn draw(
        &self,
        human: &str,
        playbook: &PlaybookName,
        entered: Timestamp,
    ) -> Option<HoldoutKind> {
        if let Some(global) = &self.rules.policy.holdout {
            let period = global.rotate.map(|rotate| entered.as_second().div_euclid(rotate.as_secs()));
            let salt =
                period.map_or_else(|| global.salt.clone(), |period| format!("{}@{period}", global.salt));
            if global.share.holds(bucket(&[&salt, human])) {
                return Some(HoldoutKind::Global);
            }
        }
        let own = self.rules.playbooks.get(playbook)?.holdout.as_ref()?;
        own.share.holds(bucket(&[&own.salt, human])).then_some(HoldoutKind::Playbook)
    }
}

fn is_quiet(rule: &QuietHours, local: DateTime) -> bool {
    let begins = |date: Date| {
        let always = rule.days.is_empty() && rule.dates.is_empty();
        always || rule.days.contains(&date.weekday()) || rule.dates.contains(&date)
    };
    let (today, yesterday) = (local.date(), local.date().saturating_sub(Span::new().days(1)));
    let Some((from, to)) = rule.hours else { return begins(today) };
    let (now, from, to) = (minute(local.time()), minute(from), minute(to));
    if from < to {
        return begins(today) && from <= now && now < to;
    }
    begins(today) && from <= now || begins(yesterday) && now < to
}

fn is_open(window: &SendWindow, local: DateTime) -> bool {
    let (now, on_day) =
        (minute(local.time()), window.days.is_empty() || window.days.contains(&local.date().weekday()));
    on_day && window.hours.is_none_or(|(from, to)| minute(from) <= now && now < minute(to))
}

#[cfg(test)]
mod tests {
    use jiff::civil::{date, time};
    use model::QuietHoursName;

    use super::*;

    fn nights(from: i8, to: i8) -> QuietHours {
        QuietHours {
            name: QuietHoursName::known("nights"),
            scope: Scope::default(),
            hours: Some((time(from, 0, 0, 0), time(to, 0, 0, 0))),
            days: Vec::new(),
            dates: Vec::new(),
            zone: RuleZone::Profile,
            filter: None,
        }
    }

    #[test]
    fn a_night_belongs_to_the_evening_it_begins_in() {
        let day = date(2026, 3, 3);
        for (hour, quiet) in [(7, true), (8, false), (20, false), (21, true), (23, true), (0, true)] {
            assert_eq!(is_quiet(&nights(21, 8), day.at(hour, 0, 0, 0)), quiet, "{hour}");
        }
    }

    #[test]
    fn months_and_weeks_begin_at_their_first_day() {
        let wednesday = date(2026, 4, 1);
        assert_eq!(first_day(wednesday, 1, CalendarUnit::Week), date(2026, 3, 30));
        assert_eq!(first_day(wednesday, 2, CalendarUnit::Month), date(2026, 3, 1));
        assert_eq!(first_day(wednesday, 3, CalendarUnit::Day), date(2026, 3, 30));
    }
}
