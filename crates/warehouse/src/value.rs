//! Values between a database and the model: what a column's type makes of what is stored, and how a time is bound.
//!
//! A value that cannot be read as the type it should have is `None` here: counted and taken for missing, never a crash.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use model::Value;
use model::settings::TimeEncoding;
use model::value::ValueType;

/// What a database handed over, in one of its own types.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    /// NULL.
    Null,
    /// A boolean; SQLite has none.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A number.
    Number(f64),
    /// Text.
    Text(String),
    /// A date; SQLite has none.
    Date(Date),
    /// An instant; SQLite has none.
    Time(Timestamp),
    /// JSON; SQLite has none.
    Json(serde_json::Value),
    /// What cannot be read at all: bytes, text that is not UTF-8, a time beyond the calendar.
    Unreadable,
}

impl Cell {
    /// The value as the type it should have, or as its own where none is asked for.
    pub(crate) fn read(self, wanted: Option<ValueType>, times: TimeEncoding) -> Option<Value> {
        let Some(wanted) = wanted else { return self.natural() };
        match self {
            Self::Null => Some(Value::Missing),
            Self::Unreadable => None,
            Self::Text(text) if text.trim().is_empty() && wanted != ValueType::Text => Some(Value::Missing),
            cell => match wanted {
                ValueType::Text => cell.natural().map(|value| Value::Text(value.to_string())),
                ValueType::Integer => cell.integer().map(Value::Integer),
                ValueType::Number => cell.number().map(Value::Number),
                ValueType::Boolean => cell.boolean().map(Value::Boolean),
                ValueType::Date => cell.date(times).map(Value::Date),
                ValueType::Time => cell.time(times).map(Value::Time),
                ValueType::Json => cell.json().map(Value::Json),
            },
        }
    }

    fn natural(self) -> Option<Value> {
        Some(match self {
            Self::Null => Value::Missing,
            Self::Boolean(boolean) => Value::Boolean(boolean),
            Self::Integer(integer) => Value::Integer(integer),
            Self::Number(number) if number.is_finite() => Value::Number(number),
            Self::Text(text) => Value::Text(text),
            Self::Date(date) => Value::Date(date),
            Self::Time(time) => Value::Time(time),
            Self::Json(json) => Value::Json(json),
            Self::Number(_) | Self::Unreadable => return None,
        })
    }

    fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(integer) => Some(*integer),
            Self::Boolean(boolean) => Some(i64::from(*boolean)),
            #[expect(
                clippy::cast_possible_truncation,
                reason = "whole and within 2^53: checked in the guard"
            )]
            Self::Number(number) if number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0 => {
                Some(*number as i64)
            }
            Self::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    fn number(&self) -> Option<f64> {
        let number = match self {
            #[expect(clippy::cast_precision_loss, reason = "declared a number: the nearest one is meant")]
            Self::Integer(integer) => *integer as f64,
            Self::Number(number) => *number,
            Self::Text(text) => text.trim().parse().ok()?,
            _ => return None,
        };
        number.is_finite().then_some(number)
    }

    fn boolean(&self) -> Option<bool> {
        match self {
            Self::Boolean(boolean) => Some(*boolean),
            Self::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
                "true" | "t" | "yes" | "y" | "1" => Some(true),
                "false" | "f" | "no" | "n" | "0" => Some(false),
                _ => None,
            },
            cell => match cell.integer() {
                Some(0) => Some(false),
                Some(1) => Some(true),
                _ => None,
            },
        }
    }

    fn date(&self, times: TimeEncoding) -> Option<Date> {
        match self {
            Self::Date(date) => Some(*date),
            Self::Text(text) if text.trim().len() == 10 && text.contains('-') => text.trim().parse().ok(),
            cell => cell.time(times).map(|time| TimeZone::UTC.to_datetime(time).date()),
        }
    }

    fn time(&self, times: TimeEncoding) -> Option<Timestamp> {
        match self {
            Self::Time(time) => Some(*time),
            Self::Date(date) => at_utc(date.at(0, 0, 0, 0)),
            Self::Text(text) => parse_time(text.trim()).or_else(|| unix(text.trim().parse().ok()?, times)),
            cell => unix(cell.number()?, times),
        }
    }

    fn json(self) -> Option<serde_json::Value> {
        match self {
            Self::Json(json) => Some(json),
            Self::Text(text) => serde_json::from_str(&text).ok(),
            Self::Integer(integer) => Some(integer.into()),
            Self::Number(number) => serde_json::Number::from_f64(number).map(Into::into),
            Self::Boolean(boolean) => Some(boolean.into()),
            Self::Null | Self::Date(_) | Self::Time(_) | Self::Unreadable => None,
        }
    }

    /// The encoding a stored time has, if it has any: for telling people that it is not the one they said.
    ///
    /// A text with an offset other than that of UTC has none: it does not sort among texts in UTC.
    pub(crate) fn encoding(&self) -> Option<TimeEncoding> {
        match self {
            Self::Integer(_) | Self::Number(_) => {
                // The year 5138 in seconds is 1973 in milliseconds: nobody's data holds both.
                self.number()
                    .map(|number| if number.abs() < 1e11 { TimeEncoding::Unix } else { TimeEncoding::UnixMs })
            }
            Self::Text(text) => {
                let civil = text.trim_end_matches('Z').trim_end_matches(":00").trim_end_matches("+00");
                let is_utc = is_civil(civil) || is_civil(text.trim_end_matches('Z'));
                match text.as_bytes().get(10) {
                    Some(b'T') if is_utc => Some(TimeEncoding::Rfc3339),
                    Some(b' ') if is_utc => Some(TimeEncoding::Sql),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// Whether a text is a time without an offset.
fn is_civil(text: &str) -> bool {
    text.parse::<Timestamp>().is_err() && text.parse::<DateTime>().is_ok()
}

fn at_utc(civil: DateTime) -> Option<Timestamp> {
    TimeZone::UTC.to_timestamp(civil).ok()
}

/// A time as text: RFC 3339, or without an offset and then in UTC, or a date and then its midnight in UTC.
fn parse_time(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    // Postgres and SQLite write the offset of UTC as `+00`, which RFC 3339 does not know.
    if let Some(Ok(time)) = text.strip_suffix("+00").map(|civil| format!("{civil}Z").parse()) {
        return Some(time);
    }
    is_civil(text).then(|| text.parse().ok().and_then(at_utc)).flatten()
}

fn unix(number: f64, times: TimeEncoding) -> Option<Timestamp> {
    let seconds = match times {
        TimeEncoding::Unix => number,
        TimeEncoding::UnixMs => number / 1_000.0,
        TimeEncoding::Rfc3339 | TimeEncoding::Sql => return None,
    };
    Timestamp::from_duration(SignedDuration::try_from_secs_f64(seconds).ok()?).ok()
}

/// A time as SQLite's columns hold it, and so as it is bound: text to the second, so that it sorts among such texts.
pub(crate) fn encode_time(time: Timestamp, times: TimeEncoding) -> Cell {
    let civil = TimeZone::UTC.to_datetime(time);
    match times {
        TimeEncoding::Rfc3339 => Cell::Text(civil.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        TimeEncoding::Sql => Cell::Text(civil.strftime("%Y-%m-%d %H:%M:%S").to_string()),
        TimeEncoding::Unix => Cell::Integer(time.as_second()),
        TimeEncoding::UnixMs => Cell::Integer(time.as_millisecond()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }

    fn time(text: &str) -> Value {
        Value::Time(text.parse().unwrap())
    }

    #[test]
    fn a_time_is_read_in_four_encodings() {
        use TimeEncoding::{Rfc3339, Sql, Unix, UnixMs};
        let nine = time("2026-01-05T09:00:00Z");
        for (cell, times) in [
            (text("2026-01-05T09:00:00Z"), Rfc3339),
            (text("2026-01-05T10:00:00+01:00"), Rfc3339),
            (text("2026-01-05 09:00:00"), Sql),
            (text("2026-01-05 09:00:00+00"), Sql),
            (text("2026-01-05T09:00"), Rfc3339),
            (Cell::Integer(1_767_603_600), Unix),
            (text("1767603600"), Unix),
            (Cell::Integer(1_767_603_600_000), UnixMs),
        ] {
            assert_eq!(cell.clone().read(Some(ValueType::Time), times), Some(nine.clone()), "{cell:?}");
        }
        for (cell, times) in
            [(Cell::Integer(1_767_603_600), Rfc3339), (text("soon"), Sql), (Cell::Number(f64::MAX), Unix)]
        {
            assert_eq!(cell.clone().read(Some(ValueType::Time), times), None, "{cell:?}");
        }
    }

    #[test]
    fn declared_types_win_over_the_databases_own() {
        let read = |cell: Cell, kind| cell.read(Some(kind), TimeEncoding::Rfc3339);
        assert_eq!(read(Cell::Integer(7), ValueType::Text), Some(Value::Text("7".to_owned())));
        assert_eq!(read(text(" 7 "), ValueType::Integer), Some(Value::Integer(7)));
        assert_eq!(read(Cell::Number(7.0), ValueType::Integer), Some(Value::Integer(7)));
        assert_eq!(read(Cell::Number(7.5), ValueType::Integer), None);
        assert_eq!(read(text("7.5"), ValueType::Number), Some(Value::Number(7.5)));
        assert_eq!(read(text("NaN"), ValueType::Number), None);
        assert_eq!(read(Cell::Integer(1), ValueType::Boolean), Some(Value::Boolean(true)));
        assert_eq!(read(Cell::Integer(2), ValueType::Boolean), None);
        assert_eq!(read(text("No"), ValueType::Boolean), Some(Value::Boolean(false)));
        assert_eq!(
            read(text("2026-01-05 23:30:00"), ValueType::Date),
            Some(Value::Date(jiff::civil::date(2026, 1, 5)))
        );
        assert_eq!(read(text("{\"a\": 1}"), ValueType::Json), Some(Value::Json(serde_json::json!({"a": 1}))));
        assert_eq!(read(text("{"), ValueType::Json), None);
        assert_eq!(read(text(""), ValueType::Time), Some(Value::Missing));
        assert_eq!(Cell::Number(f64::INFINITY).read(None, TimeEncoding::Sql), None);
    }

    #[test]
    fn a_bound_time_is_the_text_that_columns_hold() {
        let time: Timestamp = "2026-01-05T09:00:00.987Z".parse().unwrap();
        assert_eq!(encode_time(time, TimeEncoding::Rfc3339), text("2026-01-05T09:00:00Z"));
        assert_eq!(encode_time(time, TimeEncoding::Sql), text("2026-01-05 09:00:00"));
        assert_eq!(encode_time(time, TimeEncoding::Unix), Cell::Integer(1_767_603_600));
        assert_eq!(encode_time(time, TimeEncoding::UnixMs), Cell::Integer(1_767_603_600_987));
    }

    proptest! {
        #[test]
        fn what_is_bound_reads_back_and_is_recognised(seconds in 0i64..95_000_000_000, index in 0usize..4) {
            let times = [TimeEncoding::Rfc3339, TimeEncoding::Sql, TimeEncoding::Unix, TimeEncoding::UnixMs][index];
            let time = Timestamp::from_second(seconds).unwrap();
            let cell = encode_time(time, times);
            if times != TimeEncoding::UnixMs || seconds > 100_000_000 {
                prop_assert_eq!(cell.encoding(), Some(times));
            }
            prop_assert_eq!(cell.read(Some(ValueType::Time), times), Some(Value::Time(time)));
        }

        #[test]
        fn no_text_panics(given in ".{0,30}") {
            for (_, kind) in ValueType::ALL {
                let _ = text(&given).read(Some(*kind), TimeEncoding::Unix);
            }
            let _ = text(&given).encoding();
        }
    }
}
