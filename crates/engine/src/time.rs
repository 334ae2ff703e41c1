//! Civil time: quiet hours, send windows and the calendars of caps, in any zone, right across its changes of clock.
//!
//! An instant is a [`Timestamp`]; a wall clock is read only here. In a gap a civil time means the first valid instant after it.
//! In a fold it means two instants, and the caller says which: quiet hours begin at the earlier and end at the later, a send
//! window opens at the later and closes at the earlier, so that nothing goes at a time that is wrong on either reading.

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{SignedDuration, Span, Timestamp};
use model::duration::{CalendarUnit, Window};
use model::playbook::SendWindow;
use model::policy::QuietHours;

/// Which of the two instants of a civil time that comes twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fold {
    /// The first.
    Earlier,
    /// The second.
    Later,
}

/// Periods reach into the days after them, and a zone may skip a day: so many days around an instant are looked at.
const DAYS_BACK: i64 = 2;
/// A window that does not open within so many days never does.
const DAYS_AHEAD: i64 = 22;
/// So often quiet hours and windows may hand over to one another before it is called never.
const HANDOVERS_MAX: usize = 1_000;

/// The instant of a civil time in a zone.
pub fn instant(civil: DateTime, zone: &TimeZone, fold: Fold) -> Timestamp {
    match (zone.to_ambiguous_timestamp(civil).offset(), fold) {
        (AmbiguousOffset::Unambiguous { offset }, _) => read(offset, civil),
        (AmbiguousOffset::Fold { before, .. }, Fold::Earlier) => read(before, civil),
        (AmbiguousOffset::Fold { after, .. }, Fold::Later) => read(after, civil),
        (AmbiguousOffset::Gap { before, after }, _) => {
            // Read with the offset that follows, it lies before the change: the change is the next one there is.
            let early = read(after, civil);
            zone.following(early)
                .take(4)
                .map(|change| change.timestamp())
                .find(|change| zone.to_datetime(*change) > civil)
                .unwrap_or_else(|| read(before, civil))
        }
    }
}

fn read(offset: Offset, civil: DateTime) -> Timestamp {
    offset.to_timestamp(civil).unwrap_or(if civil.year() > 1970 { Timestamp::MAX } else { Timestamp::MIN })
}

/// Until when a rule of quiet hours forbids what would go at `at`; `None` where it does not. The end itself is free.
pub fn quiet_until(rule: &QuietHours, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let today = zone.to_datetime(at).date();
    days(today, -DAYS_BACK..=1)
        .filter(|date| begins_on(rule, *date))
        .map(|date| period(date, rule.hours, zone, Fold::Earlier, Fold::Later))
        .filter(|(begin, end)| *begin <= at && at < *end)
        .map(|(_, end)| end)
        .max()
}

/// When a send window lets something go that is ready at `at`: `at` itself where it is open. `None`: never.
pub fn window_opens_at(window: &SendWindow, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let today = zone.to_datetime(at).date();
    // The days of a window that is open all day follow on one another without a break.
    let (begin, end) =
        if window.hours.is_some() { (Fold::Later, Fold::Earlier) } else { (Fold::Earlier, Fold::Earlier) };
    days(today, -DAYS_BACK..=DAYS_AHEAD)
        .filter(|date| window.days.is_empty() || window.days.contains(&date.weekday()))
        .map(|date| period(date, window.hours, zone, begin, end))
        .filter(|(begin, end)| begin < end && at < *end)
        .map(|(begin, _)| begin.max(at))
        .min()
}

/// The first instant from `at` on at which no rule of quiet hours applies and the window is open. `None`: not before `limit`.
pub fn next_allowed(
    quiet: &[(&QuietHours, &TimeZone)],
    window: Option<(&SendWindow, &TimeZone)>,
    at: Timestamp,
    limit: Timestamp,
) -> Option<Timestamp> {
    let mut found = at;
    for _ in 0..HANDOVERS_MAX {
        let before = found;
        for (rule, zone) in quiet {
            found = quiet_until(rule, found, zone).unwrap_or(found);
        }
        if let Some((window, zone)) = window {
            found = window_opens_at(window, found, zone)?;
        }
        if found >= limit {
            return None;
        }
        if found == before {
            return Some(found);
        }
    }
    None
}

/// Where the window of a cap begins that ends at `at`: what happened at this instant counts for a calendar, and no more for a
/// rolling window (see [`counts`]).
pub fn window_start(per: Window, at: Timestamp, zone: &TimeZone) -> Timestamp {
    match per {
        Window::Rolling(duration) => minus(at, duration),
        Window::Calendar { count, unit } => {
            let first = back(unit_of(unit, zone.to_datetime(at).date()), unit, count.saturating_sub(1));
            instant(first.into(), zone, Fold::Earlier)
        }
    }
}

/// Whether something at `touch` lies in a cap's window that begins at `start`. What is still to come does, too.
pub fn counts(per: Window, start: Timestamp, touch: Timestamp) -> bool {
    match per {
        Window::Rolling(_) => touch > start,
        Window::Calendar { .. } => touch >= start,
    }
}

/// When a cap has room again, if nothing is added: the first instant after `at` at which fewer than `max` of the touches lie in its
/// window. `None`: never.
pub fn frees_at(
    per: Window,
    max: u32,
    touches: &[Timestamp],
    at: Timestamp,
    zone: &TimeZone,
) -> Option<Timestamp> {
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    if max == 0 {
        return None;
    }
    match per {
        Window::Rolling(duration) => {
            let mut touches = touches.to_vec();
            touches.sort_unstable();
            let oldest_in_the_way =
                touches.len().checked_sub(max).and_then(|position| touches.get(position))?;
            Some(plus(*oldest_in_the_way, duration))
        }
        Window::Calendar { unit, .. } => {
            let last = touches.iter().max()?;
            let mut next = at;
            while window_start(per, next, zone) <= *last {
                next = next_unit(unit, next, zone)?;
                let start = window_start(per, next, zone);
                if touches.iter().filter(|touch| counts(per, start, **touch)).count() < max {
                    return Some(next);
                }
            }
            Some(next)
        }
    }
}

/// The first instant of the unit of the calendar after the one that `at` lies in.
fn next_unit(unit: CalendarUnit, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let first = unit_of(unit, zone.to_datetime(at).date());
    let next: DateTime = match unit {
        CalendarUnit::Day => first.checked_add(Span::new().days(1)),
        CalendarUnit::Week => first.checked_add(Span::new().days(7)),
        CalendarUnit::Month => first.checked_add(Span::new().months(1)),
    }
    .ok()?
    .into();
    // Where a fold runs over midnight the day before comes again after the day has begun.
    [Fold::Earlier, Fold::Later].into_iter().map(|fold| instant(next, zone, fold)).find(|begin| *begin > at)
}

fn unit_of(unit: CalendarUnit, date: Date) -> Date {
    match unit {
        CalendarUnit::Day => date,
        CalendarUnit::Week => date.saturating_sub(Span::new().days(date.weekday().to_monday_zero_offset())),
        CalendarUnit::Month => date.first_of_month(),
    }
}

fn back(first: Date, unit: CalendarUnit, count: u32) -> Date {
    let count = i64::from(count);
    match unit {
        CalendarUnit::Day => first.saturating_sub(Span::new().days(count)),
        CalendarUnit::Week => first.saturating_sub(Span::new().weeks(count)),
        CalendarUnit::Month => first.saturating_sub(Span::new().months(count)),
    }
}

/// Whether a rule's period begins on a date: one of its days or one of its dates; all, where it has neither.
fn begins_on(rule: &QuietHours, date: Date) -> bool {
    let day: &dyn Fn(&Weekday) -> bool = &|day| *day == date.weekday();
    rule.days.is_empty() && rule.dates.is_empty() || rule.days.iter().any(day) || rule.dates.contains(&date)
}

/// The period that begins on a date: over midnight where the end is not after the beginning, the whole day without hours.
fn period(
    date: Date,
    hours: Option<(Time, Time)>,
    zone: &TimeZone,
    begin: Fold,
    end: Fold,
) -> (Timestamp, Timestamp) {
    let (from, to) = hours.unwrap_or((Time::midnight(), Time::midnight()));
    let last = if to > from { date } else { date.saturating_add(Span::new().days(1)) };
    (instant(date.to_datetime(from), zone, begin), instant(last.to_datetime(to), zone, end))
}

fn days(today: Date, range: std::ops::RangeInclusive<i64>) -> impl Iterator<Item = Date> {
    range.filter_map(move |days| today.checked_add(Span::new().days(days)).ok())
}

/// So long after, as far as time goes.
pub(crate) fn plus(at: Timestamp, duration: SignedDuration) -> Timestamp {
    at.checked_add(duration).unwrap_or(if duration.is_negative() { Timestamp::MIN } else { Timestamp::MAX })
}

/// So long before, as far as time goes.
pub(crate) fn minus(at: Timestamp, duration: SignedDuration) -> Timestamp {
    at.checked_sub(duration).unwrap_or(if duration.is_negative() { Timestamp::MAX } else { Timestamp::MIN })
}
