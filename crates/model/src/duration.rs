//! Durations, windows and shares as users write them: `90s 15m 12h 3d 2w`, `1 calendar day`, `5%`.

use std::fmt;

use jiff::SignedDuration;

/// Why a text is not a duration, a window or a share. The text says what was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DurationError(pub &'static str);

impl fmt::Display for DurationError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0)
    }
}

impl std::error::Error for DurationError {}

const EXPECTED_DURATION: &str = "a duration is a whole number and a unit: `90s`, `15m`, `12h`, `3d` or `2w`";
const EXPECTED_WINDOW: &str =
    "a window is a duration such as `7d`, or `1 calendar day`, `1 calendar week`, `1 calendar month`";
const EXPECTED_SHARE: &str = "a share is a percentage between 0% and 100%, such as `5%` or `0.5%`";

/// A duration of fixed length: a day is 24 hours, a week seven of them. At most 100 years.
pub fn parse_duration(text: &str) -> Result<SignedDuration, DurationError> {
    let error = || DurationError(EXPECTED_DURATION);
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
    let (digits, unit) = text.split_at(unit_at);
    let amount: i64 = digits.parse().map_err(|_| error())?;
    let unit_seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return Err(error()),
    };
    let seconds = amount
        .checked_mul(unit_seconds)
        .filter(|seconds| *seconds <= 100 * 366 * 86_400)
        .ok_or_else(error)?;
    Ok(SignedDuration::from_secs(seconds))
}

/// The duration as a user would write it, in the largest unit that fits without a remainder.
pub fn format_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    for (unit_seconds, unit) in [(604_800, "w"), (86_400, "d"), (3_600, "h"), (60, "m")] {
        if seconds != 0
            && seconds % unit_seconds == 0
            && (unit != "w" || seconds % 604_800 == 0 && seconds > 604_800)
        {
            return format!("{}{unit}", seconds / unit_seconds);
        }
    }
    format!("{seconds}s")
}

/// What a cap counts over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// The time before now.
    Rolling(SignedDuration),
    /// Whole units of the calendar in some zone, the present one being the last.
    Calendar {
        /// How many, at least one.
        count: u32,
        /// Of what.
        unit: CalendarUnit,
    },
}

/// A unit of the calendar. Weeks begin on Monday (ISO 8601).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CalendarUnit {
    /// Midnight to midnight: 23, 24 or 25 hours, or another length where the zone has it so.
    Day,
    /// Monday to Sunday.
    Week,
    /// The first to the last.
    Month,
}

impl Window {
    /// Reads `7d` or `1 calendar day|week|month`.
    pub fn parse(text: &str) -> Result<Self, DurationError> {
        let error = || DurationError(EXPECTED_WINDOW);
        let words: Vec<&str> = text.split_whitespace().collect();
        if let [count, "calendar", unit] = words[..] {
            let count = count.parse().ok().filter(|count| (1..=366).contains(count)).ok_or_else(error)?;
            let unit = match unit.trim_end_matches('s') {
                "day" => CalendarUnit::Day,
                "week" => CalendarUnit::Week,
                "month" => CalendarUnit::Month,
                _ => return Err(error()),
            };
            return Ok(Self::Calendar { count, unit });
        }
        parse_duration(text)
            .map_err(|_| error())
            .and_then(|duration| if duration.is_zero() { Err(error()) } else { Ok(Self::Rolling(duration)) })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rolling(duration) => out.write_str(&format_duration(*duration)),
            Self::Calendar { count, unit } => {
                let unit = match unit {
                    CalendarUnit::Day => "day",
                    CalendarUnit::Week => "week",
                    CalendarUnit::Month => "month",
                };
                write!(out, "{count} calendar {unit}")
            }
        }
    }
}

/// A share of a whole, in millionths, so that no decision rests on floating point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share {
    millionths: u32,
}

impl Share {
    /// Nothing.
    pub const NONE: Self = Self { millionths: 0 };

    /// So many hundredths.
    pub const fn percent(percent: u32) -> Self {
        Self::hundredths(percent * 100)
    }

    /// So many hundredths of a hundredth.
    pub const fn hundredths(hundredths: u32) -> Self {
        Self { millionths: hundredths * 100 }
    }

    /// As a number from 0 to 1.
    pub fn fraction(self) -> f64 {
        f64::from(self.millionths) / 1_000_000.0
    }

    /// Reads `5%` or `0.08%`; at most four decimals.
    pub fn parse(text: &str) -> Result<Self, DurationError> {
        let error = || DurationError(EXPECTED_SHARE);
        let number = text.trim().strip_suffix('%').ok_or_else(error)?.trim_end();
        let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || whole.len() > 3 || decimals.len() > 4 || !digits(whole) || !digits(decimals) {
            return Err(error());
        }
        let millionths: u32 = format!("{whole}{decimals:0<4}").parse().map_err(|_| error())?;
        if millionths > 1_000_000 { Err(error()) } else { Ok(Self { millionths }) }
    }

    /// Whether a bucket (see [`crate::id::bucket`]) lies in the first `self` of all buckets.
    pub fn holds(self, bucket: u64) -> bool {
        u128::from(bucket) * 1_000_000 < u128::from(self.millionths) << 64
    }

    /// This share of a number, rounded down.
    pub fn of(self, whole: u64) -> u64 {
        u64::try_from(u128::from(whole) * u128::from(self.millionths) / 1_000_000).unwrap_or(u64::MAX)
    }

    /// Whether `part` is more than this share of `whole`.
    pub fn is_exceeded_by(self, part: u64, whole: u64) -> bool {
        u128::from(part) * 1_000_000 > u128::from(whole) * u128::from(self.millionths)
    }

    /// Whether it is nothing.
    pub fn is_none(self) -> bool {
        self.millionths == 0
    }
}

impl fmt::Display for Share {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.millionths / 10_000, self.millionths % 10_000);
        if rest == 0 {
            write!(out, "{whole}%")
        } else {
            write!(out, "{whole}.{}%", format!("{rest:04}").trim_end_matches('0'))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        assert_eq!(parse_duration("90s"), Ok(SignedDuration::from_secs(90)));
        assert_eq!(parse_duration("2w"), Ok(SignedDuration::from_hours(336)));
        for wrong in ["", "3", "d", "3 d", "-3d", "3x", "3.5h", "99999999999999999999d", "9999999w", "3d "] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn windows_roll_or_follow_the_calendar() {
        assert_eq!(Window::parse("7d"), Ok(Window::Rolling(SignedDuration::from_hours(168))));
        assert_eq!(
            Window::parse("1 calendar day"),
            Ok(Window::Calendar { count: 1, unit: CalendarUnit::Day })
        );
        for wrong in ["0d", "calendar day", "0 calendar days", "1 calendar year", "1 day"] {
            assert!(Window::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn shares_hold_the_buckets_below_them() {
        let half = Share::parse("50%").unwrap();
        assert!(half.holds(u64::MAX / 2) && !half.holds(u64::MAX / 2 + 1));
        assert!(!Share::NONE.holds(0) && Share::parse("100%").unwrap().holds(u64::MAX));
        assert_eq!(Share::parse("0.08%").unwrap().to_string(), "0.08%");
        for wrong in ["5", "101%", "-1%", "5 percent", "%", "0.00001%"] {
            assert!(Share::parse(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(seconds in 0i64..3_000_000_000) {
            let duration = SignedDuration::from_secs(seconds);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
        #[test]
        fn no_text_panics(text in ".{0,20}") {
            // What reads as something is written as something that reads the same.
            if let Ok(share) = Share::parse(&text) {
                prop_assert_eq!(Share::parse(&share.to_string()), Ok(share));
            }
            prop_assert!(parse_duration(&text).is_err() || Window::parse(&text).is_ok() || text.starts_with('0'));
        }
    }
}
