//! How single values and small shapes are read: texts, numbers, durations, names, words, lists, maps of named things.

use jiff::SignedDuration;
use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use model::duration::{Share, Window, parse_duration};
use model::name::{
    BrandName, CapName, DestinationName, FreshName, PlaybookName, PurposeName, QuietHoursName,
    RecipientsName, SegmentName, TemplateName,
};
use model::policy::{CapUnit, Channel, Localized, MessageClass, OnHit, Permission, RuleZone};
use model::schedule::Schedule;
use model::settings::{Deliver, TimeEncoding};
use model::sync::{Gone, OnEdit};
use model::value::ValueType;
use model::{Secret, Value};
use serde_json::{Value as Json, json};

use crate::read::{Cx, Named, Read};
use crate::schema::Schemas;
use crate::source::Span;
use crate::yaml::{Kind, Node};
use model::suggest::nearest;

/// Any single value, where text is wanted.
pub(crate) fn text_schema(schemas: &mut Schemas) -> Json {
    schemas.single(json!({"type": ["string", "number", "boolean"]}))
}

fn pattern(schemas: &mut Schemas, pattern: &str) -> Json {
    schemas.single(json!({"type": "string", "pattern": pattern}))
}

impl Read for String {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let text = cx.text(node, "a text")?;
        if text.text.trim().is_empty() {
            cx.mistake("E0105", node.place(), "the text is empty");
            return None;
        }
        Some(text.text)
    }

    fn schema(schemas: &mut Schemas) -> Json {
        text_schema(schemas)
    }
}

impl Read for Secret {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        String::read(node, cx).map(Self::new)
    }

    fn schema(schemas: &mut Schemas) -> Json {
        text_schema(schemas)
    }
}

impl Read for bool {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let text = cx.text(node, "`true` or `false`")?;
        match text.text.as_str() {
            "true" if text.plain => Some(true),
            "false" if text.plain => Some(false),
            _ => {
                let message = format!("{} is not `true` or `false`", text.shown());
                cx.mistake("E0105", text.span, message);
                None
            }
        }
    }

    fn schema(schemas: &mut Schemas) -> Json {
        schemas.single(json!({"type": "boolean"}))
    }
}

/// A whole number between two bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Whole<const MIN: u64, const MAX: u64>(pub(crate) u64);

impl<const MIN: u64, const MAX: u64> Read for Whole<MIN, MAX> {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let expected = if MIN == MAX {
            format!("the number {MIN}")
        } else {
            format!("a whole number from {MIN} to {MAX}")
        };
        let text = cx.text(node, &expected)?;
        let number = text.text.parse().ok().filter(|number| text.plain && (MIN..=MAX).contains(number));
        if number.is_none() {
            let message = format!("{} is not {expected}", text.shown());
            cx.mistake("E0105", text.span, message);
        }
        number.map(Self)
    }

    fn schema(schemas: &mut Schemas) -> Json {
        schemas.single(json!({"type": "integer", "minimum": MIN, "maximum": MAX}))
    }
}

impl Read for SignedDuration {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        cx.parsed(node, "a duration", parse_duration)
    }

    fn schema(schemas: &mut Schemas) -> Json {
        pattern(schemas, "^[0-9]+[smhdw]$")
    }
}

/// A duration that is not zero.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Positive(pub(crate) SignedDuration);

impl Read for Positive {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let duration = SignedDuration::read(node, cx)?;
        if duration.is_zero() {
            cx.mistake("E0105", node.place(), "a duration of nothing makes no sense here");
            return None;
        }
        Some(Self(duration))
    }

    fn schema(schemas: &mut Schemas) -> Json {
        <SignedDuration as Read>::schema(schemas)
    }
}

impl Read for Window {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        cx.parsed(node, "a window", Self::parse)
    }

    fn schema(schemas: &mut Schemas) -> Json {
        pattern(schemas, "^([0-9]+[smhdw]|[0-9]+ +calendar +(days?|weeks?|months?))$")
    }
}

impl Read for Share {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        cx.parsed(node, "a share", Self::parse)
    }

    fn schema(schemas: &mut Schemas) -> Json {
        pattern(schemas, "^[0-9]{1,3}(\\.[0-9]{1,4})?%$")
    }
}

impl Read for Schedule {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        if let Some(after) = node.get("after") {
            cx.not_yet(after.place(), "a schedule `after` a freshness is");
            return None;
        }
        cx.parsed(node, "a schedule", Self::parse)
    }

    fn schema(schemas: &mut Schemas) -> Json {
        schemas.single(json!({"type": "string"}))
    }
}

impl Read for TimeZone {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let text = cx.text(node, "a time zone")?;
        let found = Self::get(text.text.trim()).ok().filter(|_| !text.text.trim().is_empty());
        if found.is_none() {
            let names: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
            let meant = nearest(&text.text, names.iter().map(String::as_str))
                .filter(|_| text.from.is_none())
                .map(str::to_owned);
            let message = format!("{} is not a time zone", text.shown());
            let mistake = cx.mistake("E0105", text.span, message);
            mistake
                .label("a name of the IANA database, such as `Europe/Berlin`")
                .did_you_mean(meant.as_deref());
        }
        found
    }

    fn schema(schemas: &mut Schemas) -> Json {
        schemas.single(json!({"type": "string"}))
    }
}

impl Read for Time {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        cx.parsed(node, "a time of day", |text| {
            let shape = text.len() == 5
                && text
                    .bytes()
                    .enumerate()
                    .all(|(at, byte)| if at == 2 { byte == b':' } else { byte.is_ascii_digit() });
            let time = shape
                .then(|| Self::new(text[..2].parse().ok()?, text[3..].parse().ok()?, 0, 0).ok())
                .flatten();
            time.ok_or("hours and minutes, such as `\"09:00\"`")
        })
    }

    fn schema(schemas: &mut Schemas) -> Json {
        pattern(schemas, "^[0-9]{2}:[0-9]{2}$")
    }
}

impl Read for Date {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        cx.parsed(node, "a date", |text| {
            text.parse::<Self>()
                .ok()
                .filter(|_| text.len() == 10)
                .ok_or("year, month and day, such as `2026-12-24`")
        })
    }

    fn schema(schemas: &mut Schemas) -> Json {
        pattern(schemas, "^[0-9]{4}-[0-9]{2}-[0-9]{2}$")
    }
}

impl Read for jiff::Timestamp {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        cx.parsed(node, "a time", |text| {
            text.parse::<Self>().map_err(|_| "RFC 3339 with an offset, such as `2026-03-02T09:00:00Z`")
        })
    }

    fn schema(schemas: &mut Schemas) -> Json {
        schemas.single(json!({"type": "string"}))
    }
}

/// Days of the week by name.
const WEEKDAYS: &[(&str, Weekday)] = &[
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

macro_rules! words {
    ($($type:ty, $expected:literal, $words:expr, [$($later:literal),*];)*) => { $(
        impl Read for $type {
            fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
                cx.word(node, $expected, $words, &[$($later),*])
            }

            fn schema(schemas: &mut Schemas) -> Json {
                let words: Vec<&str> = $words.iter().map(|(word, _)| *word).collect();
                schemas.single(json!({"enum": words}))
            }
        }
    )* };
}

words! {
    Channel, "a channel", Self::ALL, [];
    MessageClass, "a class", Self::ALL, [];
    Permission, "a permission", Self::ALL, ["double_opt_in"];
    RuleZone, "a zone for the calendar", Self::ALL, [];
    CapUnit, "whose messages a cap counts", Self::ALL, [];
    OnHit, "what happens then", Self::ALL, [];
    OnEdit, "what becomes of somebody else's value", Self::ALL, [];
    Gone, "what becomes of a record that is no longer asked for", Self::ALL, [];
    Deliver, "where messages may go", Self::ALL, [];
    TimeEncoding, "how times are held", Self::ALL, [];
    ValueType, "a type", Self::ALL, [];
    Weekday, "a day of the week", WEEKDAYS, [];
}

/// A name of a kind of thing.
pub(crate) trait NameOf: Sized + Ord + Clone {
    /// The kind.
    const KIND: Named;
    /// The name, if the text follows the rule.
    fn parse_name(text: &str) -> Result<Self, model::name::NameError>;
}

macro_rules! names {
    ($($type:ty = $kind:ident,)*) => { $(
        impl NameOf for $type {
            const KIND: Named = Named::$kind;

            fn parse_name(text: &str) -> Result<Self, model::name::NameError> {
                Self::parse(text)
            }
        }

        /// Where a name is used; that there is such a thing is looked up later.
        impl Read for $type {
            fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
                let text = cx.text(node, &format!("the name of a {}", Named::$kind.word()))?;
                cx.mention(Named::$kind, &text.text, text.span);
                // A text that follows no rule for names is the name of nothing: that is what the look-up will say.
                Self::parse(&text.text).ok()
            }

            fn schema(schemas: &mut Schemas) -> Json {
                pattern(schemas, "^[a-z][a-z0-9_]*$")
            }
        }
    )* };
}

names! {
    BrandName = Brand,
    CapName = Cap,
    DestinationName = Destination,
    FreshName = Fresh,
    PlaybookName = Playbook,
    PurposeName = Purpose,
    QuietHoursName = QuietHours,
    RecipientsName = Recipients,
    SegmentName = Segment,
    TemplateName = Template,
}

/// A name where a thing gets it; `None` if it follows no rule for names, which is reported.
pub(crate) fn new_name<N: NameOf>(text: &str, span: Span, cx: &mut Cx<'_>) -> Option<N> {
    cx.define(N::KIND, text);
    match N::parse_name(text) {
        Ok(name) => Some(name),
        Err(error) => {
            cx.mistake("E0105", span, format!("`{text}` is not a name")).label(error.to_string());
            None
        }
    }
}

/// A map from names to things, in the order of the file.
#[derive(Debug, Clone)]
pub(crate) struct Things<N, T>(pub(crate) Vec<Thing<N, T>>);

/// A thing with its name.
#[derive(Debug, Clone)]
pub(crate) struct Thing<N, T> {
    /// Its name.
    pub(crate) name: N,
    /// Where the name stands.
    pub(crate) span: Span,
    /// The thing.
    pub(crate) value: T,
}

impl<N, T> Default for Things<N, T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<N: NameOf, T: Read> Read for Things<N, T> {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let Kind::Map(entries) = &node.kind else {
            cx.wrong_kind(node, &format!("a map with a {} under each name", N::KIND.word()));
            return None;
        };
        let mut things = Vec::new();
        for (key, node) in entries {
            let name = new_name::<N>(&key.text, key.span, cx);
            let value = T::read(node, cx);
            if let (Some(name), Some(value)) = (name, value) {
                things.push(Thing { name, span: key.span, value });
            }
        }
        Some(Self(things))
    }

    fn schema(schemas: &mut Schemas) -> Json {
        let value = T::schema(schemas);
        json!({"type": "object", "propertyNames": {"pattern": "^[a-z][a-z0-9_]*$"}, "additionalProperties": value})
    }
}

impl<T: Read> Read for Vec<T> {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let Kind::List(items) = &node.kind else {
            cx.wrong_kind(node, "a list");
            return None;
        };
        Some(items.iter().filter_map(|item| T::read(item, cx)).collect())
    }

    fn schema(schemas: &mut Schemas) -> Json {
        let item = T::schema(schemas);
        json!({"type": "array", "items": item})
    }
}

/// One thing, or a list of them.
#[derive(Debug, Clone)]
pub(crate) struct Some1<T>(pub(crate) Vec<T>);

impl<T: Read> Read for Some1<T> {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        match &node.kind {
            Kind::List(_) => Vec::read(node, cx).map(Self),
            Kind::Map(_) | Kind::Scalar { .. } => T::read(node, cx).map(|one| Self(vec![one])),
        }
    }

    fn schema(schemas: &mut Schemas) -> Json {
        let item = T::schema(schemas);
        json!({"anyOf": [item, {"type": "array", "items": item}]})
    }
}

impl<T> Default for Some1<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl Read for Localized {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        if node.entries().is_empty() || crate::reference::is_reference(node) {
            return String::read(node, cx).map(|text| Self([(String::new(), text)].into()));
        }
        let mut texts = std::collections::BTreeMap::new();
        for (key, value) in node.entries() {
            if !is_locale(&key.text) {
                cx.mistake("E0105", key.span, format!("`{}` is not a language", key.text))
                    .label("a language such as `en` or `de-AT`");
            }
            if let Some(text) = String::read(value, cx) {
                texts.insert(key.text.clone(), text);
            }
        }
        Some(Self(texts))
    }

    fn schema(schemas: &mut Schemas) -> Json {
        let text = text_schema(schemas);
        json!({"anyOf": [text, {"type": "object", "additionalProperties": text, "propertyNames": {"pattern": "^[a-z]{2,3}([-_][A-Za-z0-9]{2,8})*$"}}]})
    }
}

/// Whether a text looks like a BCP 47 tag: a language, and perhaps more.
pub(crate) fn is_locale(text: &str) -> bool {
    let mut parts = text.split(['-', '_']);
    let language = parts.next().unwrap_or_default();
    (2..=3).contains(&language.len())
        && language.bytes().all(|byte| byte.is_ascii_lowercase())
        && parts.all(|part| {
            (2..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
}

/// A language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Locale(pub(crate) String);

impl Read for Locale {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        cx.parsed(node, "a language", |text| {
            if is_locale(text) {
                Ok(Self(text.to_owned()))
            } else {
                Err("a language such as `en` or `de-AT`")
            }
        })
    }

    fn schema(schemas: &mut Schemas) -> Json {
        pattern(schemas, "^[a-z]{2,3}([-_][A-Za-z0-9]{2,8})*$")
    }
}

impl Read for Value {
    /// A value whose type nobody said: by its look if it is plain, otherwise text. Lists and maps are JSON.
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        if cx.references && crate::reference::is_reference(node) {
            return cx.text(node, "a value").map(|text| by_look(&text.text, text.plain));
        }
        Some(match &node.kind {
            Kind::Scalar { .. } if node.is_null() => Self::Missing,
            Kind::Scalar { text, style } => by_look(text, *style == crate::yaml::Style::Plain),
            Kind::Map(_) | Kind::List(_) => Self::Json(to_json(node)),
        })
    }

    fn schema(_schemas: &mut Schemas) -> Json {
        json!({})
    }
}

/// Booleans, integers and decimal numbers as YAML 1.2 reads them; everything else is text.
pub(crate) fn by_look(text: &str, plain: bool) -> Value {
    let is_number =
        text.bytes().next().is_some_and(|first| first.is_ascii_digit() || b"+-.".contains(&first))
            && text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    match text {
        "true" if plain => Value::Boolean(true),
        "false" if plain => Value::Boolean(false),
        _ if plain && is_number => match (text.parse(), text.parse::<f64>()) {
            (Ok(integer), _) => Value::Integer(integer),
            (_, Ok(number)) if number.is_finite() => Value::Number(number),
            _ => Value::Text(text.to_owned()),
        },
        _ => Value::Text(text.to_owned()),
    }
}

/// A tree as JSON, single values by their look.
pub(crate) fn to_json(node: &Node) -> Json {
    match &node.kind {
        Kind::Scalar { .. } if node.is_null() => Json::Null,
        Kind::Scalar { text, style } => match by_look(text, *style == crate::yaml::Style::Plain) {
            Value::Boolean(boolean) => Json::from(boolean),
            Value::Integer(integer) => Json::from(integer),
            Value::Number(number) => Json::from(number),
            _ => Json::from(text.as_str()),
        },
        Kind::List(items) => items.iter().map(to_json).collect(),
        Kind::Map(entries) => entries.iter().map(|(key, value)| (key.text.clone(), to_json(value))).collect(),
    }
}
