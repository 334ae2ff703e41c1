//! Schedules: every so long by the clock, or a cron expression in a zone.
//!
//! The `cron` crate parses and enumerates *civil* time (handed in as if it were UTC); jiff makes it an instant: in the gap of a
//! DST change the first valid instant after it, in the fold the earlier one. With `*` in the hour field the gap is skipped and the
//! fold runs twice. Weekdays are names, since crons disagree on their numbers, and do not stand together with a day of the month,
//! since crons disagree on that too.

use std::fmt;
use std::str::FromStr as _;

use chrono::{DateTime, Datelike as _, Timelike as _, Utc};
use jiff::civil;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use crate::duration::{format_duration, parse_duration};

/// When something runs.
#[derive(Clone)]
pub struct Schedule {
    text: String,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Every(SignedDuration),
    Cron { schedule: Box<cron::Schedule>, every_hour: bool },
}

/// Why a text is not a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleError(pub String);

impl fmt::Display for ScheduleError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for ScheduleError {}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, out)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

/// The end of 2023.
const BEFORE_A_LEAP_YEAR: Timestamp = Timestamp::constant(1_704_067_199, 0);

/// The duration that somebody wrote in several words: `1 hour`, `every 2 days`, `every week`.
fn meant_duration(fields: &[String]) -> Option<String> {
    let words = match fields {
        [every, rest @ ..] if every == "every" => rest,
        all => all,
    };
    let (count, unit) = match words {
        [unit] => ("1", unit),
        [count, unit] => (count.as_str(), unit),
        _ => return None,
    };
    let unit = match unit.trim_end_matches('s') {
        "" | "s" | "sec" | "second" => "s",
        "m" | "min" | "minute" => "m",
        "h" | "hr" | "hour" => "h",
        "d" | "day" => "d",
        "w" | "week" => "w",
        _ => return parse_duration(unit).ok().filter(|_| words.len() == 1).map(format_duration),
    };
    parse_duration(&format!("{count}{unit}")).ok().map(format_duration)
}

impl Schedule {
    /// Every so long, by the clock: `15m` is each quarter of an hour.
    pub fn every(duration: SignedDuration) -> Self {
        Self { text: format_duration(duration), kind: Kind::Every(duration) }
    }

    /// Reads a duration (`15m`) or a five-field cron expression (`0 6 * * mon-fri`).
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        let text = text.trim();
        if text.split_whitespace().count() == 1 {
            let duration = parse_duration(text).map_err(|_| {
                ScheduleError(
                    "a schedule is a duration such as `15m`, or five fields such as `0 6 * * mon-fri`"
                        .to_owned(),
                )
            })?;
            if duration < SignedDuration::from_secs(1) || duration > SignedDuration::from_hours(24 * 31) {
                return Err(ScheduleError("a schedule's duration lies between 1s and 31d".to_owned()));
            }
            return Ok(Self { text: text.to_owned(), kind: Kind::Every(duration) });
        }
        let fields: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
        let [_, hour, day, _, weekday] = &fields[..] else {
            return Err(ScheduleError(match meant_duration(&fields) {
                Some(duration) => format!("a duration is one word: `{duration}`"),
                None => format!(
                    "a schedule is a duration such as `15m`, or five fields such as `0 6 * * mon-fri`; this has {}",
                    fields.len()
                ),
            }));
        };
        if weekday.bytes().any(|byte| byte.is_ascii_digit()) {
            return Err(ScheduleError(
                "weekdays are names, such as `mon-fri`: crons disagree on their numbers".to_owned(),
            ));
        }
        if day != "*" && weekday != "*" {
            return Err(ScheduleError(
                "a day of the month and a weekday do not go together: crons disagree on what that means"
                    .to_owned(),
            ));
        }
        if let Some(odd) = text.chars().find(|c| "?LW#@".contains(*c)) {
            return Err(ScheduleError(format!("`{odd}` is not part of a five-field cron expression here")));
        }
        let schedule = cron::Schedule::from_str(&format!("0 {}", fields.join(" "))).map_err(|_| {
            ScheduleError("not a cron expression: minute, hour, day of the month, month, weekday".to_owned())
        })?;
        let every_hour = hour == "*" || hour.starts_with("*/");
        let schedule =
            Self { text: text.to_owned(), kind: Kind::Cron { schedule: Box::new(schedule), every_hour } };
        // Seen from before a leap year, so that its day counts.
        if schedule.next_after(BEFORE_A_LEAP_YEAR, &TimeZone::UTC).is_none() {
            return Err(ScheduleError("this never comes: no such month has such a day".to_owned()));
        }
        Ok(schedule)
    }

    /// The first time strictly after `after`; `None` if there is none within four years.
    pub fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match &self.kind {
            Kind::Every(duration) => next_multiple(duration.as_secs(), after, zone),
            Kind::Cron { schedule, every_hour } => next_civil(schedule, *every_hour, after, zone),
        }
    }

    /// The last time at or before `at` and strictly after `after`, if there is one.
    pub fn latest_between(&self, after: Timestamp, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        // A long absence is looked at from its end: two of the longest steps back are enough to find the last one.
        let from = after.max(at.checked_sub(SignedDuration::from_hours(24 * 366 * 4)).unwrap_or(after));
        let mut latest = None;
        let mut probe = from;
        if let Kind::Every(duration) = &self.kind {
            let skip = at.duration_since(from).as_secs().saturating_sub(2 * duration.as_secs() + 90_000);
            if skip > 0 {
                probe = from.checked_add(SignedDuration::from_secs(skip)).unwrap_or(from);
            }
        } else if at.duration_since(from) > SignedDuration::from_hours(48) {
            // Cron: day by day backwards until a day has one.
            let mut back = at;
            while back > from {
                let earlier = back.checked_sub(SignedDuration::from_hours(25)).unwrap_or(from).max(from);
                if self.next_after(earlier, zone).is_some_and(|next| next <= at) {
                    probe = earlier;
                    break;
                }
                back = earlier;
            }
            if back <= from {
                return None;
            }
        }
        while let Some(next) = self.next_after(probe, zone).filter(|next| *next <= at) {
            latest = Some(next);
            probe = next;
        }
        latest
    }
}

/// Counted in civil time from midnight of 1970, so that `1d` is local midnight: from one change of clocks to the
/// next, and at a change as a cron expression is.
fn next_multiple(step: i64, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    const HOUR: i64 = 3_600;
    let offset_at = |second| Some(i64::from(zone.to_offset(Timestamp::from_second(second).ok()?).seconds()));
    let next_from = |civil: i64| (civil + step - 1).div_euclid(step) * step;
    let mut from = after.as_second() + 1;
    loop {
        let offset = offset_at(from)?;
        if HOUR < step {
            // What the last change of clocks, at or before `from`, has skipped or repeats.
            let change = zone.preceding(Timestamp::from_second(from + 1).ok()?).next();
            if let Some(change) = change.map(|change| change.timestamp().as_second()) {
                let before = change + offset_at(change - 1)?;
                if change == from && next_from(before) < change + offset {
                    return Timestamp::from_second(change).ok();
                }
                from = from.max(before - offset);
            }
        }
        let next = next_from(from + offset) - offset;
        let change = zone.following(Timestamp::from_second(from).ok()?).next();
        match change.map(|change| change.timestamp().as_second()) {
            Some(change) if change <= next => from = change,
            _ => return Timestamp::from_second(next).ok(),
        }
    }
}

fn next_civil(
    schedule: &cron::Schedule,
    every_hour: bool,
    after: Timestamp,
    zone: &TimeZone,
) -> Option<Timestamp> {
    // Start an hour early in civil time, so that the second pass through a fold is seen too.
    let local = zone.to_datetime(after);
    let start = local.checked_sub(SignedDuration::from_hours(3)).unwrap_or(local);
    let mut best: Option<Timestamp> = None;
    for civil_time in schedule.after(&as_if_utc(start)?) {
        let civil_time = from_chrono(&civil_time)?;
        let ambiguous = zone.to_ambiguous_timestamp(civil_time);
        let instants: [Option<Timestamp>; 2] = match (ambiguous.offset(), every_hour) {
            (AmbiguousOffset::Unambiguous { .. }, _) => [ambiguous.compatible().ok(), None],
            (AmbiguousOffset::Gap { .. }, true) => [None, None],
            (AmbiguousOffset::Gap { .. }, false) => [first_after_gap(civil_time, zone), None],
            (AmbiguousOffset::Fold { .. }, true) => [ambiguous.earlier().ok(), ambiguous.later().ok()],
            (AmbiguousOffset::Fold { .. }, false) => [ambiguous.earlier().ok(), None],
        };
        best = instants.into_iter().flatten().filter(|instant| *instant > after).chain(best).min();
        // Once civil time is hours past the best instant, nothing earlier can follow.
        let settled = best.is_some_and(|best| {
            zone.to_datetime(best)
                .checked_add(SignedDuration::from_hours(3))
                .is_ok_and(|end| civil_time > end)
        });
        let too_far = local.checked_add(jiff::Span::new().years(4)).is_ok_and(|end| civil_time > end);
        if settled || too_far {
            break;
        }
    }
    best
}

/// The first valid instant after the gap that a civil time falls into.
fn first_after_gap(in_gap: civil::DateTime, zone: &TimeZone) -> Option<Timestamp> {
    let before = zone.to_ambiguous_timestamp(in_gap).earlier().ok()?;
    zone.following(before.checked_sub(SignedDuration::from_hours(26)).ok()?)
        .map(|transition| transition.timestamp())
        .find(|at| zone.to_datetime(*at) > in_gap)
}

fn as_if_utc(at: civil::DateTime) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(at.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second(), 0)
}

fn from_chrono(at: &DateTime<Utc>) -> Option<civil::DateTime> {
    let part = |number: u32| i8::try_from(number).ok();
    let year = i16::try_from(at.year()).ok()?;
    civil::DateTime::new(
        year,
        part(at.month())?,
        part(at.day())?,
        part(at.hour())?,
        part(at.minute())?,
        part(at.second())?,
        0,
    )
    .ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn next(schedule: &str, zone: &str, after: &str) -> String {
        let zone = TimeZone::get(zone).unwrap();
        Schedule::parse(schedule).unwrap().next_after(at(after), &zone).unwrap().to_string()
    }

    #[test]
    fn a_duration_goes_by_the_clock() {
        assert_eq!(next("15m", "Europe/Berlin", "2026-01-05T09:01:00Z"), "2026-01-05T09:15:00Z");
        assert_eq!(next("15m", "Europe/Berlin", "2026-01-05T09:15:00Z"), "2026-01-05T09:30:00Z");
        assert_eq!(next("1d", "Europe/Berlin", "2026-01-05T09:15:00Z"), "2026-01-05T23:00:00Z");
    }

    #[test]
    fn a_duration_goes_by_the_clock_on_both_sides_of_a_change_of_clocks() {
        // Local midnight after the change, asked for before it.
        assert_eq!(next("1d", "Europe/Berlin", "2026-03-29T00:30:00Z"), "2026-03-29T22:00:00Z");
        assert_eq!(next("1d", "Europe/Berlin", "2026-10-25T00:30:00Z"), "2026-10-25T23:00:00Z");
        // Two o'clock falls into the gap, and comes twice in the fold.
        assert_eq!(next("2h", "Europe/Berlin", "2026-03-29T00:30:00Z"), "2026-03-29T01:00:00Z");
        assert_eq!(next("2h", "Europe/Berlin", "2026-03-29T01:00:00Z"), "2026-03-29T02:00:00Z");
        assert_eq!(next("2h", "Europe/Berlin", "2026-10-25T00:00:00Z"), "2026-10-25T03:00:00Z");
        assert_eq!(next("30m", "Europe/Berlin", "2026-03-29T00:30:00Z"), "2026-03-29T01:00:00Z");
        assert_eq!(next("30m", "Europe/Berlin", "2026-10-25T00:30:00Z"), "2026-10-25T01:00:00Z");
        // Havana has no midnight on that day.
        assert_eq!(next("1d", "America/Havana", "2026-03-08T04:30:00Z"), "2026-03-08T05:00:00Z");
        assert_eq!(next("1d", "America/Havana", "2026-03-08T05:00:00Z"), "2026-03-09T04:00:00Z");
    }

    #[test]
    fn a_daily_time_in_the_gap_runs_at_the_first_valid_instant() {
        assert_eq!(next("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z"), "2026-03-29T01:00:00Z");
        assert_eq!(next("30 2 * * *", "Europe/Berlin", "2026-03-29T01:00:00Z"), "2026-03-30T00:30:00Z");
    }

    #[test]
    fn a_daily_time_in_the_fold_runs_once_and_early() {
        assert_eq!(next("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z"), "2026-10-25T00:30:00Z");
        assert_eq!(next("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00Z"), "2026-10-26T01:30:00Z");
    }

    #[test]
    fn an_hourly_time_skips_the_gap_and_runs_twice_in_the_fold() {
        assert_eq!(next("30 * * * *", "Europe/Berlin", "2026-03-29T00:30:00Z"), "2026-03-29T01:30:00Z");
        assert_eq!(next("30 * * * *", "Europe/Berlin", "2026-10-25T00:30:00Z"), "2026-10-25T01:30:00Z");
        assert_eq!(next("30 * * * *", "Europe/Berlin", "2026-10-25T01:30:00Z"), "2026-10-25T02:30:00Z");
    }

    #[test]
    fn a_duration_in_several_words_is_shown_in_one() {
        for (text, hint) in [
            ("1 hour", "a duration is one word: `1h`"),
            ("every 2 days", "a duration is one word: `2d`"),
            ("every week", "a duration is one word: `7d`"),
            ("every 90s", "a duration is one word: `90s`"),
            ("15 min", "a duration is one word: `15m`"),
            (
                "1 month",
                "a schedule is a duration such as `15m`, or five fields such as `0 6 * * mon-fri`; this has 2",
            ),
        ] {
            assert_eq!(Schedule::parse(text).unwrap_err().to_string(), hint, "{text}");
        }
    }

    #[test]
    fn a_schedule_that_never_comes_is_none() {
        for never in ["0 0 31 2 *", "0 0 30 feb *", "0 0 31 4,6 *"] {
            assert!(Schedule::parse(never).unwrap_err().to_string().contains("never comes"), "{never}");
        }
        assert_eq!(next("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z"), "2028-02-29T00:00:00Z");
    }

    #[test]
    fn weekdays_are_names_and_monday_is_monday() {
        assert_eq!(next("0 9 * * mon", "UTC", "2026-01-06T00:00:00Z"), "2026-01-12T09:00:00Z");
        for wrong in
            ["0 9 * * 1", "0 9 1 * mon", "0 9 * *", "61 9 * * *", "0 9 L * *", "x", "0 0 9 * * *", "0s", "*"]
        {
            assert!(Schedule::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_latest_missed_time_is_found_over_any_absence() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let found = |schedule: &str, after: &str, until: &str| {
            Schedule::parse(schedule)
                .unwrap()
                .latest_between(at(after), at(until), &zone)
                .map(|found| found.to_string())
        };
        assert_eq!(
            found("0 6 * * *", "2026-01-01T00:00:00Z", "2026-01-09T04:00:00Z"),
            Some("2026-01-08T05:00:00Z".to_owned())
        );
        assert_eq!(
            found("0 6 1 * *", "2025-01-01T00:00:00Z", "2026-01-09T04:00:00Z"),
            Some("2026-01-01T05:00:00Z".to_owned())
        );
        assert_eq!(
            found("15m", "2020-01-01T00:00:00Z", "2026-01-09T04:01:00Z"),
            Some("2026-01-09T04:00:00Z".to_owned())
        );
        assert_eq!(found("0 6 1 * *", "2026-01-02T00:00:00Z", "2026-01-09T04:00:00Z"), None);
    }

    proptest! {
        #[test]
        fn the_next_time_lies_ahead_and_the_one_after_further(second in 1_600_000_000i64..1_900_000_000, zone in 0usize..6, schedule in 0usize..10, near in proptest::bool::ANY, part in 0.0..1.0) {
            let zone = TimeZone::get(["Europe/Berlin", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Kolkata", "America/New_York", "America/Havana"][zone]).unwrap();
            let schedule = Schedule::parse(["30 2 * * *", "*/20 * * * *", "0 0 * * mon-fri", "15 1 1 * *", "6h", "0 9 * * *", "1d", "2h", "20m", "7d"][schedule]).unwrap();
            let mut second = second;
            if near && let Some(change) = zone.following(Timestamp::from_second(second).unwrap()).next() {
                // Within a day before a change of clocks, where it is asked for and may lie behind.
                second = change.timestamp().as_second() - second % 86_400;
            }
            let after = Timestamp::from_second(second).unwrap();
            let first = schedule.next_after(after, &zone).unwrap();
            let second = schedule.next_after(first, &zone).unwrap();
            prop_assert!(after < first && first < second);
            prop_assert_eq!(schedule.latest_between(after, first, &zone), Some(first));
            // Whoever asks later, but before it, hears the same.
            #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a part of it")]
            let later = after.as_second() + ((first.as_second() - after.as_second() - 1) as f64 * part) as i64;
            prop_assert_eq!(schedule.next_after(Timestamp::from_second(later).unwrap(), &zone), Some(first));
        }
    }
}
