//! What templates can do besides what the engine brings: `date`, `number`, `money`, `skip`; and how values are written out.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering as AtomicOrdering};

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use minijinja::value::{DynObject, Object, ObjectRepr, Rest, Value, ValueKind};
use minijinja::{AutoEscape, Error, ErrorKind, Output, State};

use crate::date::{Language, Pattern};
use crate::names;

/// How values are escaped in headers: not at all, and then checked as a whole.
pub(crate) const HEADER_ESCAPE: &str = "header";

/// Ends a message on purpose, or says what a filter cannot do; the text holds nothing about the person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    /// `skip("why")`.
    Skipped(String),
    /// A filter was given what it cannot write.
    Wrong(String),
}

impl fmt::Display for Stop {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skipped(why) | Self::Wrong(why) => out.write_str(why),
        }
    }
}

impl std::error::Error for Stop {}

fn wrong(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, "a filter was given what it cannot write")
        .with_source(Stop::Wrong(text.into()))
}

/// Who reads: language and zone.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) language: Language,
    pub(crate) zone: TimeZone,
}

impl Object for Reader {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
}

/// A time or a date, as templates compare and print it.
#[derive(Debug, Clone)]
pub(crate) struct Moment {
    what: Instant,
    zone: TimeZone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Instant {
    Time(Timestamp),
    Day(Date),
}

impl Moment {
    pub(crate) fn time(time: Timestamp, zone: &TimeZone) -> Self {
        Self { what: Instant::Time(time), zone: zone.clone() }
    }

    pub(crate) fn day(day: Date, zone: &TimeZone) -> Self {
        Self { what: Instant::Day(day), zone: zone.clone() }
    }

    /// A date is the instant at which it begins in the reader's zone.
    fn start(&self) -> Result<Zoned, jiff::Error> {
        match self.what {
            Instant::Time(time) => Ok(time.to_zoned(self.zone.clone())),
            Instant::Day(day) => day.to_zoned(self.zone.clone()),
        }
    }

    /// A text that means a time (RFC 3339, or without an offset in UTC, as SQLite writes it) or a date.
    fn parse(text: &str, zone: &TimeZone) -> Option<Self> {
        let text = text.trim();
        if let Ok(time) = text.parse::<Timestamp>() {
            return Some(Self::time(time, zone));
        }
        if text.len() <= 10 {
            return text.parse::<Date>().ok().map(|day| Self::day(day, zone));
        }
        let time = text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok()?;
        Some(Self::time(time.timestamp(), zone))
    }
}

impl Object for Moment {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<Ordering> {
        let other = other.downcast_ref::<Self>()?;
        // Dates without a beginning lie at the ends of the calendar.
        let at = |moment: &Self| moment.start().map_or(i128::MAX, |start| start.timestamp().as_nanosecond());
        Some(at(self).cmp(&at(other)))
    }

    fn render(self: &Arc<Self>, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what {
            Instant::Time(time) => fmt::Display::fmt(&time, out),
            Instant::Day(day) => fmt::Display::fmt(&day, out),
        }
    }
}

/// The reader of the message that is being made.
fn reader<T>(state: &State<'_, '_>, with: impl FnOnce(&Reader) -> T) -> Result<T, Error> {
    let value = state.lookup(names::READER);
    match value.as_ref().and_then(Value::downcast_object_ref::<Reader>) {
        Some(reader) => Ok(with(reader)),
        None => Err(wrong("there is no reader")),
    }
}

/// Whether a default stood in for a value that the reader's data lack, in any part of the message that is being made.
#[derive(Debug, Default)]
pub(crate) struct Fallback(AtomicBool);

impl Fallback {
    pub(crate) fn was_used(&self) -> bool {
        self.0.load(AtomicOrdering::Relaxed)
    }
}

impl Object for Fallback {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
}

/// `| default("there")`: the engine's own, and that it was needed is noted.
pub(crate) fn default(state: &State<'_, '_>, value: Value, args: Rest<Value>) -> Result<Value, Error> {
    if value.is_undefined() {
        let noted = state.lookup(names::FALLBACK);
        if let Some(noted) = noted.as_ref().and_then(Value::downcast_object_ref::<Fallback>) {
            noted.0.store(true, AtomicOrdering::Relaxed);
        }
    }
    minijinja::filters::default(state, &value, args)
}

/// The same for what is the same for all readers: nothing is missing in anybody's data.
pub(crate) fn preset(state: &State<'_, '_>, value: Value, args: Rest<Value>) -> Result<Value, Error> {
    minijinja::filters::default(state, &value, args)
}

/// The value, unless it is not there: then the error of the engine, which knows what it was called.
fn there(value: &Value) -> Result<&Value, Error> {
    if value.is_undefined() {
        value.get_attr("value")?;
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    Ok(value)
}

/// `| date("d MMMM yyyy")`.
pub(crate) fn date(state: &State<'_, '_>, value: Value, pattern: Option<String>) -> Result<String, Error> {
    let value = there(&value)?;
    let pattern = Pattern::parse(pattern.as_deref().unwrap_or("d MMMM yyyy"))
        .map_err(|error| wrong(error.to_string()))?;
    reader(state, |reader| {
        let moment = match (value.downcast_object_ref::<Moment>(), value.as_str()) {
            (Some(moment), _) => Some(moment.clone()),
            (None, Some(text)) => Moment::parse(text, &reader.zone),
            (None, None) => None,
        };
        let start = moment
            .and_then(|moment| moment.start().ok())
            .ok_or_else(|| wrong("`date` was given what is neither a time nor a date"))?;
        Ok(pattern.format(&start, reader.language))
    })?
}

/// `| number`, `| number(2)`.
pub(crate) fn number(state: &State<'_, '_>, value: Value, decimals: Option<u32>) -> Result<String, Error> {
    let amount = Decimal::of(there(&value)?).ok_or_else(|| wrong("`number` was given what is no number"))?;
    let amount = match decimals {
        Some(decimals) => amount.rounded(usize::try_from(decimals.min(10)).unwrap_or_default()),
        None => amount.rounded(3).trimmed(),
    };
    reader(state, |reader| amount.written(reader.language))
}

/// `| money("EUR")`.
pub(crate) fn money(state: &State<'_, '_>, value: Value, currency: String) -> Result<String, Error> {
    let amount = Decimal::of(there(&value)?).ok_or_else(|| wrong("`money` was given what is no number"))?;
    if !is_currency(&currency) {
        return Err(wrong("`money` takes a currency's three letters, such as `EUR`"));
    }
    let amount = amount.rounded(currency_decimals(&currency));
    reader(state, |reader| write_money(&amount, &currency, reader.language))
}

/// `skip("why")`.
pub(crate) fn skip(why: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, "skipped").with_source(Stop::Skipped(why)))
}

/// Whether it is the code of a currency, by its form.
pub(crate) fn is_currency(code: &str) -> bool {
    code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// Decimals of a currency's minor unit (ISO 4217).
fn currency_decimals(code: &str) -> usize {
    match code {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "VND"
        | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        _ => 2,
    }
}

fn write_money(amount: &Decimal, code: &str, language: Language) -> String {
    let symbol = match code {
        "EUR" => "€",
        "USD" => "$",
        "GBP" => "£",
        "JPY" => "¥",
        "INR" => "₹",
        "KRW" => "₩",
        "ILS" => "₪",
        "BRL" => "R$",
        other => other,
    };
    let sign = if amount.negative { "-" } else { "" };
    let digits = Decimal { negative: false, ..amount.clone() }.written(language);
    // Between sign and amount stands a no-break space, as CLDR has it.
    match language {
        Language::English if symbol != code => format!("{sign}{symbol}{digits}"),
        Language::English | Language::Portuguese => format!("{sign}{symbol}\u{a0}{digits}"),
        Language::Dutch => format!("{symbol}\u{a0}{sign}{digits}"),
        Language::German | Language::French | Language::Spanish | Language::Italian => {
            format!("{sign}{digits}\u{a0}{symbol}")
        }
    }
}

/// A number by its decimal digits, so that it is rounded as people round.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Decimal {
    negative: bool,
    /// At least one.
    whole: String,
    fraction: String,
}

impl Decimal {
    fn of(value: &Value) -> Option<Self> {
        if matches!(value.kind(), ValueKind::Number) {
            if let Ok(integer) = i128::try_from(value.clone()) {
                return Self::parse(&integer.to_string());
            }
            return Self::parse(
                &f64::try_from(value.clone()).ok().filter(|number| number.is_finite())?.to_string(),
            );
        }
        Self::parse(value.as_str()?.trim())
    }

    /// `-12`, `0.5`: digits, and at most one point between them.
    fn parse(text: &str) -> Option<Self> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let fits = !whole.is_empty()
            && all_digits(whole)
            && all_digits(fraction)
            && digits.len() <= 400
            && !digits.ends_with('.');
        let whole = whole.trim_start_matches('0');
        let whole = if whole.is_empty() { "0" } else { whole };
        fits.then(|| Self { negative, whole: whole.to_owned(), fraction: fraction.to_owned() })
    }

    /// With so many decimals, half away from zero.
    fn rounded(&self, decimals: usize) -> Self {
        let up = self.fraction.as_bytes().get(decimals).is_some_and(|digit| *digit >= b'5');
        let kept: String = self.fraction.chars().chain(std::iter::repeat('0')).take(decimals).collect();
        let mut digits: Vec<u8> = format!("0{}{kept}", self.whole).into_bytes();
        if up {
            for digit in digits.iter_mut().rev() {
                if *digit == b'9' {
                    *digit = b'0';
                } else {
                    *digit += 1;
                    break;
                }
            }
        }
        let digits: String = digits.into_iter().map(char::from).collect();
        let (whole, fraction) = digits.split_at(digits.len() - decimals);
        let whole = whole.trim_start_matches('0');
        let whole = if whole.is_empty() { "0" } else { whole };
        let nothing = whole == "0" && fraction.bytes().all(|digit| digit == b'0');
        Self { negative: self.negative && !nothing, whole: whole.to_owned(), fraction: fraction.to_owned() }
    }

    fn trimmed(mut self) -> Self {
        self.fraction.truncate(self.fraction.trim_end_matches('0').len());
        self
    }

    /// With the language's marks.
    fn written(&self, language: Language) -> String {
        let (group, point, least) = match language {
            Language::English => (',', '.', 4),
            Language::French => ('\u{202f}', ',', 4),
            Language::Spanish => ('.', ',', 5),
            Language::German | Language::Italian | Language::Dutch | Language::Portuguese => ('.', ',', 4),
        };
        let mut out = String::with_capacity(self.whole.len() * 2 + self.fraction.len() + 2);
        if self.negative {
            out.push('-');
        }
        for (position, digit) in self.whole.chars().enumerate() {
            if position > 0 && self.whole.len() >= least && (self.whole.len() - position).is_multiple_of(3) {
                out.push(group);
            }
            out.push(digit);
        }
        if !self.fraction.is_empty() {
            out.push(point);
            out.push_str(&self.fraction);
        }
        out
    }
}

/// Writes a value where `{{ }}` stands: as HTML, as text, or as part of a header. Lists and maps are not printed.
pub(crate) fn write(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    let html = matches!(state.auto_escape(), AutoEscape::Html);
    let header = matches!(state.auto_escape(), AutoEscape::Custom(_));
    if value.is_undefined() {
        // What an `if` without `else` leaves; a missing value has been refused before.
        return Ok(());
    }
    if let Some(text) = value.as_str() {
        return match (html && !value.is_safe(), header) {
            (true, _) => escape(out, text),
            (false, true) => out.write_str(text),
            (false, false) => clean(out, text),
        }
        .map_err(Error::from);
    }
    match value.kind() {
        ValueKind::Bool => out.write_str(if value.is_true() { "true" } else { "false" }).map_err(Error::from),
        ValueKind::Number | ValueKind::Plain => write!(out, "{value}").map_err(Error::from),
        ValueKind::None => Err(Error::from(ErrorKind::UndefinedError)),
        _ => Err(wrong("a list or a map cannot be printed; use `join`, or name one of its parts")),
    }
}

/// HTML: only what could end the text or the attribute it stands in is escaped, so that addresses stay readable.
fn escape(out: &mut Output<'_>, text: &str) -> fmt::Result {
    let mut kept_from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let entity = match byte {
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'&' => "&amp;",
            b'"' => "&quot;",
            b'\'' => "&#39;",
            0..=8 | 11 | 12 | 14..=31 | 127 => "",
            _ => continue,
        };
        out.write_str(&text[kept_from..at])?;
        out.write_str(entity)?;
        kept_from = at + 1;
    }
    out.write_str(&text[kept_from..])
}

/// Text without the control characters that no mail may hold.
fn clean(out: &mut Output<'_>, text: &str) -> fmt::Result {
    for part in text.split(|c: char| c.is_ascii_control() && !matches!(c, '\n' | '\r' | '\t')) {
        out.write_str(part)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_as_people_round_and_written_in_their_language() {
        let number = |text: &str, language, decimals: Option<usize>| {
            let decimal = Decimal::parse(text).unwrap();
            decimals
                .map_or_else(|| decimal.rounded(3).trimmed(), |decimals| decimal.rounded(decimals))
                .written(language)
        };
        for (text, language, decimals, expected) in [
            ("1234567.891", Language::English, None, "1,234,567.891"),
            ("1234567.8915", Language::German, None, "1.234.567,892"),
            ("999.9996", Language::English, None, "1,000"),
            ("1234", Language::Spanish, None, "1234"),
            ("12345", Language::Spanish, None, "12.345"),
            ("12345", Language::French, None, "12\u{202f}345"),
            ("2.675", Language::English, Some(2), "2.68"),
            ("-0.004", Language::English, Some(2), "0.00"),
            ("-0.005", Language::English, Some(2), "-0.01"),
            ("0099", Language::English, Some(0), "99"),
            ("99.5", Language::English, Some(0), "100"),
        ] {
            assert_eq!(number(text, language, decimals), expected, "{text}");
        }
        for text in ["", "-", ".", "1.", ".5", "1e5", "1,5", "--1", "NaN", "１"] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
    }

    #[test]
    fn money_is_written_as_its_readers_write_it() {
        let money = |text: &str, code: &str, locale: &str| {
            let amount = Decimal::parse(text).unwrap().rounded(currency_decimals(code));
            write_money(&amount, code, Language::of(locale)).replace('\u{a0}', " ")
        };
        for (text, code, locale, expected) in [
            ("8", "EUR", "en", "€8.00"),
            ("8", "USD", "en-US", "$8.00"),
            ("-1234.5", "USD", "en", "-$1,234.50"),
            ("8", "EUR", "de", "8,00 €"),
            ("1234.5", "CHF", "de", "1.234,50 CHF"),
            ("8", "CHF", "en", "CHF 8.00"),
            ("800.4", "JPY", "de", "800 ¥"),
            ("800.5", "JPY", "en", "¥801"),
            ("8", "EUR", "nl", "€ 8,00"),
            ("8", "EUR", "fr", "8,00 €"),
            ("8", "BRL", "pt", "R$ 8,00"),
            ("1.5", "KWD", "en", "KWD 1.500"),
        ] {
            assert_eq!(money(text, code, locale), expected);
        }
    }

    #[test]
    fn times_are_read_as_databases_write_them() {
        for (text, expected) in [
            ("2026-03-03T09:00:00Z", Some("2026-03-03T09:00:00Z")),
            ("2026-03-03 09:00:00", Some("2026-03-03T09:00:00Z")),
            ("2026-03-03", Some("2026-03-03")),
            ("next week", None),
            ("", None),
            ("99999999999", None),
        ] {
            let moment =
                Moment::parse(text, &TimeZone::UTC).map(|moment| Value::from_object(moment).to_string());
            assert_eq!(moment.as_deref(), expected, "{text}");
        }
    }
}
