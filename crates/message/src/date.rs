//! Dates for readers: a pattern of letters as CLDR has them, in the reader's language and zone.

use std::fmt;
use std::fmt::Write as _;

use jiff::Zoned;

/// What to write instead of a wrong pattern.
pub(crate) const HINT: &str = "letters are d dd EEE EEEE M MM MMM MMMM yy yyyy H HH h mm ss a; other words stand in quotes: \"d 'de' MMMM\"";

/// A language we have the words of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    English,
    German,
    French,
    Spanish,
    Italian,
    Dutch,
    Portuguese,
}

impl Language {
    /// The language of a locale; English where we have no words for it.
    pub(crate) fn of(locale: &str) -> Self {
        match crate::locale::language(&crate::locale::normal(locale)) {
            "de" => Self::German,
            "fr" => Self::French,
            "es" => Self::Spanish,
            "it" => Self::Italian,
            "nl" => Self::Dutch,
            "pt" => Self::Portuguese,
            _ => Self::English,
        }
    }

    fn months(self) -> [&'static str; 12] {
        match self {
            Self::English => [
                "January",
                "February",
                "March",
                "April",
                "May",
                "June",
                "July",
                "August",
                "September",
                "October",
                "November",
                "December",
            ],
            Self::German => [
                "Januar",
                "Februar",
                "März",
                "April",
                "Mai",
                "Juni",
                "Juli",
                "August",
                "September",
                "Oktober",
                "November",
                "Dezember",
            ],
            Self::French => [
                "janvier",
                "février",
                "mars",
                "avril",
                "mai",
                "juin",
                "juillet",
                "août",
                "septembre",
                "octobre",
                "novembre",
                "décembre",
            ],
            Self::Spanish => [
                "enero",
                "febrero",
                "marzo",
                "abril",
                "mayo",
                "junio",
                "julio",
                "agosto",
                "septiembre",
                "octubre",
                "noviembre",
                "diciembre",
            ],
            Self::Italian => [
                "gennaio",
                "febbraio",
                "marzo",
                "aprile",
                "maggio",
                "giugno",
                "luglio",
                "agosto",
                "settembre",
                "ottobre",
                "novembre",
                "dicembre",
            ],
            Self::Dutch => [
                "januari",
                "februari",
                "maart",
                "april",
                "mei",
                "juni",
                "juli",
                "augustus",
                "september",
                "oktober",
                "november",
                "december",
            ],
            Self::Portuguese => [
                "janeiro",
                "fevereiro",
                "março",
                "abril",
                "maio",
                "junho",
                "julho",
                "agosto",
                "setembro",
                "outubro",
                "novembro",
                "dezembro",
            ],
        }
    }

    fn short_months(self) -> [&'static str; 12] {
        match self {
            Self::English => {
                ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
            }
            Self::German => [
                "Jan.", "Feb.", "März", "Apr.", "Mai", "Juni", "Juli", "Aug.", "Sept.", "Okt.", "Nov.",
                "Dez.",
            ],
            Self::French => [
                "janv.", "févr.", "mars", "avr.", "mai", "juin", "juil.", "août", "sept.", "oct.", "nov.",
                "déc.",
            ],
            Self::Spanish => {
                ["ene", "feb", "mar", "abr", "may", "jun", "jul", "ago", "sept", "oct", "nov", "dic"]
            }
            Self::Italian => {
                ["gen", "feb", "mar", "apr", "mag", "giu", "lug", "ago", "set", "ott", "nov", "dic"]
            }
            Self::Dutch => {
                ["jan", "feb", "mrt", "apr", "mei", "jun", "jul", "aug", "sep", "okt", "nov", "dec"]
            }
            Self::Portuguese => [
                "jan.", "fev.", "mar.", "abr.", "mai.", "jun.", "jul.", "ago.", "set.", "out.", "nov.",
                "dez.",
            ],
        }
    }

    /// From Monday on.
    fn weekdays(self) -> [&'static str; 7] {
        match self {
            Self::English => ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"],
            Self::German => ["Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag", "Sonntag"],
            Self::French => ["lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi", "dimanche"],
            Self::Spanish => ["lunes", "martes", "miércoles", "jueves", "viernes", "sábado", "domingo"],
            Self::Italian => ["lunedì", "martedì", "mercoledì", "giovedì", "venerdì", "sabato", "domenica"],
            Self::Dutch => ["maandag", "dinsdag", "woensdag", "donderdag", "vrijdag", "zaterdag", "zondag"],
            Self::Portuguese => [
                "segunda-feira",
                "terça-feira",
                "quarta-feira",
                "quinta-feira",
                "sexta-feira",
                "sábado",
                "domingo",
            ],
        }
    }

    fn short_weekdays(self) -> [&'static str; 7] {
        match self {
            Self::English => ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"],
            Self::German => ["Mo.", "Di.", "Mi.", "Do.", "Fr.", "Sa.", "So."],
            Self::French => ["lun.", "mar.", "mer.", "jeu.", "ven.", "sam.", "dim."],
            Self::Spanish => ["lun", "mar", "mié", "jue", "vie", "sáb", "dom"],
            Self::Italian => ["lun", "mar", "mer", "gio", "ven", "sab", "dom"],
            Self::Dutch => ["ma", "di", "wo", "do", "vr", "za", "zo"],
            Self::Portuguese => ["seg.", "ter.", "qua.", "qui.", "sex.", "sáb.", "dom."],
        }
    }
}

/// Why a pattern is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PatternError(String);

impl fmt::Display for PatternError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for PatternError {}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Day { width: usize },
    Weekday { long: bool },
    MonthNumber { width: usize },
    Month { long: bool },
    Year { short: bool },
    Hour { width: usize, twelve: bool },
    Minute { width: usize },
    Second { width: usize },
    HalfDay,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    Field(Field),
    Literal(char),
}

/// A pattern, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern(Vec<Item>);

impl Pattern {
    /// Reads a pattern: letters are fields, what stands in `'quotes'` and what is no letter stands for itself.
    pub(crate) fn parse(pattern: &str) -> Result<Self, PatternError> {
        if pattern.len() > 100 {
            return Err(PatternError("a pattern of a date has at most 100 letters".to_owned()));
        }
        let mut items = Vec::new();
        let mut characters = pattern.chars().peekable();
        while let Some(c) = characters.next() {
            if c == '\'' {
                if characters.next_if_eq(&'\'').is_some() {
                    items.push(Item::Literal('\''));
                    continue;
                }
                loop {
                    match characters.next() {
                        Some('\'') if characters.next_if_eq(&'\'').is_some() => {
                            items.push(Item::Literal('\''))
                        }
                        Some('\'') => break,
                        Some(literal) => items.push(Item::Literal(literal)),
                        None => {
                            return Err(PatternError(
                                "a quote in the pattern of a date is not closed".to_owned(),
                            ));
                        }
                    }
                }
            } else if c.is_ascii_alphabetic() {
                let mut width = 1;
                while characters.next_if_eq(&c).is_some() {
                    width += 1;
                }
                items.push(Item::Field(field(c, width)?));
            } else {
                items.push(Item::Literal(c));
            }
        }
        Ok(Self(items))
    }

    /// The time as the pattern has it.
    pub(crate) fn format(&self, time: &Zoned, language: Language) -> String {
        let mut out = String::new();
        for item in &self.0 {
            match item {
                Item::Literal(c) => out.push(*c),
                Item::Field(field) => write_field(&mut out, *field, time, language),
            }
        }
        out
    }
}

fn field(letter: char, width: usize) -> Result<Field, PatternError> {
    Ok(match (letter, width) {
        ('d', 1 | 2) => Field::Day { width },
        ('E', 1..=4) => Field::Weekday { long: width == 4 },
        ('M' | 'L', 1 | 2) => Field::MonthNumber { width },
        ('M' | 'L', 3 | 4) => Field::Month { long: width == 4 },
        ('y', 1 | 4) => Field::Year { short: false },
        ('y', 2) => Field::Year { short: true },
        ('H', 1 | 2) => Field::Hour { width, twelve: false },
        ('h', 1 | 2) => Field::Hour { width, twelve: true },
        ('m', 1 | 2) => Field::Minute { width },
        ('s', 1 | 2) => Field::Second { width },
        ('a', 1) => Field::HalfDay,
        _ => {
            let written: String = std::iter::repeat_n(letter, width.min(8)).collect();
            return Err(PatternError(format!("`{written}` is not part of a date's pattern")));
        }
    })
}

fn write_field(out: &mut String, field: Field, time: &Zoned, language: Language) {
    let number = |out: &mut String, value: i8, width: usize| write!(out, "{value:0width$}");
    let index = |value: i8| usize::try_from(value - 1).unwrap_or_default();
    // Writing to a string cannot fail.
    let written = match field {
        Field::Day { width } => number(out, time.day(), width),
        Field::Weekday { long } => {
            let day = index(time.weekday().to_monday_one_offset());
            out.write_str(if long { language.weekdays()[day] } else { language.short_weekdays()[day] })
        }
        Field::MonthNumber { width } => number(out, time.month(), width),
        Field::Month { long } => {
            let month = index(time.month());
            out.write_str(if long { language.months()[month] } else { language.short_months()[month] })
        }
        Field::Year { short: false } => write!(out, "{}", time.year()),
        Field::Year { short: true } => write!(out, "{:02}", time.year().rem_euclid(100)),
        Field::Hour { width, twelve: false } => number(out, time.hour(), width),
        Field::Hour { width, twelve: true } => number(out, (time.hour() + 11) % 12 + 1, width),
        Field::Minute { width } => number(out, time.minute(), width),
        Field::Second { width } => number(out, time.second(), width),
        Field::HalfDay => out.write_str(if time.hour() < 12 { "AM" } else { "PM" }),
    };
    written.unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time() -> Zoned {
        "2026-03-03T00:05:09[Europe/Berlin]".parse().unwrap()
    }

    #[test]
    fn a_date_is_written_in_the_readers_language() {
        for (locale, pattern, expected) in [
            ("en", "d MMMM yyyy", "3 March 2026"),
            ("de", "EEEE, d. MMMM", "Dienstag, 3. März"),
            ("de-AT", "EEE dd.MM.yy", "Di. 03.03.26"),
            ("fr", "EEEE d MMMM", "mardi 3 mars"),
            ("es", "d 'de' MMMM 'de' yyyy", "3 de marzo de 2026"),
            ("it", "d MMM", "3 mar"),
            ("nl", "EEEE d MMMM", "dinsdag 3 maart"),
            ("pt", "d 'de' MMMM", "3 de março"),
            ("fi", "EEE d MMM", "Tue 3 Mar"),
            ("en", "HH:mm", "00:05"),
            ("en", "h:mm a", "12:05 AM"),
            ("en", "M/d/yy 'o''clock'", "3/3/26 o'clock"),
        ] {
            assert_eq!(
                Pattern::parse(pattern).unwrap().format(&time(), Language::of(locale)),
                expected,
                "{locale} {pattern}"
            );
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for pattern in ["YYYY", "dd MMMMM", "d of MMMM", "d 'de MMMM", "ddd", "z"] {
            assert!(Pattern::parse(pattern).is_err(), "{pattern}");
        }
        assert!(Pattern::parse(&"d ".repeat(51)).is_err());
    }
}
