//! Conditions as files write them: `SUBJECT: TEST`, several of which must all hold, and `all`, `any`, `not`.

use jiff::{SignedDuration, Timestamp};
use model::condition::{Condition, PlaybookStanding, SegmentTest, StepOutcome, ValueOf, ValueTest};
use model::consent::ConsentStatus;
use model::name::{PlaybookName, PurposeName, SegmentName};
use model::{Channel, Value};
use serde_json::{Value as Json, json};

use crate::read::{Asking, Column, Cx, Mention, Mentioned, Named, Read, record};
use crate::schema::Schemas;
use crate::source::Span;
use crate::values::Positive;
use crate::yaml::{Key, Kind, Node};
use model::suggest::nearest;

/// Subjects that are known and not built yet.
const LATER: &[&str] = &["event", "owner", "score"];

impl Read for Condition {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let Kind::Map(entries) = &node.kind else {
            cx.wrong_kind(node, "a condition such as `{segment.at_risk: true}`");
            return None;
        };
        if entries.is_empty() {
            cx.mistake("E0105", node.place(), "a condition asks for something; this one is empty");
            return None;
        }
        let read: Vec<Option<Self>> = entries.iter().map(|(key, value)| entry(key, value, cx)).collect();
        let mut all: Vec<Self> = read.into_iter().collect::<Option<_>>()?;
        Some(if all.len() == 1 { all.remove(0) } else { Self::All(all) })
    }

    fn schema(schemas: &mut Schemas) -> Json {
        schemas.define("Condition", |schemas| {
            let this = json!({"$ref": "#/$defs/Condition"});
            let list = json!({"type": "array", "items": this, "minItems": 1});
            let words = |all: Vec<&str>| {
                let one = json!({"enum": all});
                let some = json!({"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]});
                json!({"anyOf": [some, {"type": "object", "properties": {"not": some}, "required": ["not"], "additionalProperties": false}]})
            };
            let consent = words(ConsentStatus::ALL.iter().map(|(word, _)| *word).collect());
            let playbook = words(PlaybookStanding::ALL.iter().map(|(word, _)| *word).collect());
            let step = words(StepOutcome::ALL.iter().map(|(word, _)| *word).collect());
            let duration = <SignedDuration as Read>::schema(schemas);
            let value = value_schema(schemas);
            json!({
                "description": "SUBJECT: TEST. Several in one map must all hold; `all`, `any` and `not` combine.",
                "type": "object",
                "minProperties": 1,
                "properties": {"all": list, "any": list, "not": this},
                "patternProperties": {
                    "^profile\\.": value,
                    "^account\\.": value,
                    "^entry\\.": value,
                    "^segment\\.": {"anyOf": [{"type": "boolean"}, {"type": "object", "properties": {"for": duration}, "required": ["for"], "additionalProperties": false}]},
                    "^consent\\.": consent,
                    "^playbook\\.": playbook,
                    "^step\\.": step,
                },
                "additionalProperties": false,
            })
        })
    }
}

fn entry(key: &Key, node: &Node, cx: &mut Cx<'_>) -> Option<Condition> {
    match key.text.as_str() {
        "all" => return list(node, cx).map(Condition::All),
        "any" => return list(node, cx).map(Condition::Any),
        "not" => return Condition::read(node, cx).map(|inner| Condition::Not(Box::new(inner))),
        _ => {}
    }
    let (kind, name) = key.text.split_once('.').unwrap_or((&key.text, ""));
    if LATER.contains(&kind) {
        cx.not_yet(key.span, format!("conditions on `{kind}` are"));
        return None;
    }
    let allowed = match cx.asking {
        Asking::People => &["profile", "account", "segment", "consent", "playbook"][..],
        Asking::Entering => &["profile", "account", "entry", "segment", "consent", "playbook"],
        Asking::UnderWay => &["profile", "account", "entry", "segment", "step", "consent", "playbook"],
    };
    if name.is_empty() || !allowed.contains(&kind) {
        unknown_subject(key, kind, name, allowed, cx);
        return None;
    }
    let span = Span {
        start: key.span.end.saturating_sub(u32::try_from(name.len()).unwrap_or(0)).max(key.span.start),
        ..key.span
    };
    match kind {
        "profile" => column(ValueOf::Profile(name.to_owned()), key.span, node, cx),
        "account" => column(ValueOf::Account(name.to_owned()), key.span, node, cx),
        "entry" => column(ValueOf::Entry(name.to_owned()), key.span, node, cx),
        "segment" => {
            cx.mention(Named::Segment, name, span);
            let test = segment_test(node, cx)?;
            Some(Condition::Segment { name: SegmentName::parse(name).ok()?, test })
        }
        "consent" => consent(name, key, span, node, cx),
        "playbook" => {
            cx.mention(Named::Playbook, name, span);
            let (any_of, negated) = words(node, "where a person stands", PlaybookStanding::ALL, &[], cx)?;
            let name = PlaybookName::parse(name).ok()?;
            Some(unless(negated, Condition::Playbook { name, any_of }))
        }
        _ => {
            let id = crate::steps::mention(name, span, cx);
            let (any_of, negated) = words(
                node,
                "how a step came out",
                StepOutcome::ALL,
                &["delivered", "opened", "clicked"],
                cx,
            )?;
            Some(unless(negated, Condition::Step { id, any_of }))
        }
    }
}

fn unknown_subject(key: &Key, kind: &str, name: &str, allowed: &[&str], cx: &mut Cx<'_>) {
    let meant = nearest(kind, allowed.iter().copied())
        .map(|meant| format!("{meant}.{}", if name.is_empty() { "NAME" } else { name }));
    let known = ["profile", "account", "entry", "segment", "step", "consent", "playbook"].contains(&kind);
    let message = match (known, name.is_empty()) {
        (true, true) => format!("`{kind}` of what?"),
        (true, false) => format!("`{kind}` cannot be asked about here"),
        (false, _) => format!("a condition cannot ask about `{}`", key.text),
    };
    let all = allowed.iter().map(|kind| format!("`{kind}.`")).collect::<Vec<_>>().join(", ");
    let mistake = cx.mistake("E0102", key.span, message);
    match meant {
        Some(meant) if !known => mistake.did_you_mean(Some(&meant)),
        _ if known && name.is_empty() => mistake.hint(format!("write `{kind}.NAME`")),
        _ => mistake.hint(format!("here a condition begins with one of {all}, or is `all`, `any` or `not`")),
    };
}

fn list(node: &Node, cx: &mut Cx<'_>) -> Option<Vec<Condition>> {
    let conditions = Vec::<Condition>::read(node, cx)?;
    if matches!(&node.kind, Kind::List(items) if items.is_empty()) {
        cx.mistake("E0105", node.place(), "a list of conditions has at least one");
        return None;
    }
    Some(conditions)
}

fn unless(negated: bool, condition: Condition) -> Condition {
    if negated { Condition::Not(Box::new(condition)) } else { condition }
}

fn segment_test(node: &Node, cx: &mut Cx<'_>) -> Option<SegmentTest> {
    if matches!(node.kind, Kind::Map(_)) {
        return Stay::read(node, cx).map(|stay| SegmentTest::MemberFor(stay.at_least.0));
    }
    bool::read(node, cx).map(|member| if member { SegmentTest::Member } else { SegmentTest::NotMember })
}

record! {
    /// In it at least that long.
    pub(crate) struct Stay ("`true`, `false` or `{for: 14d}`") {
        /// How long.
        "for" at_least: Positive,
    }
}

fn consent(name: &str, key: &Key, span: Span, node: &Node, cx: &mut Cx<'_>) -> Option<Condition> {
    let parts = name.split_once('.').filter(|(channel, purpose)| !channel.is_empty() && !purpose.is_empty());
    let Some((channel_word, purpose)) = parts else {
        cx.mistake("E0102", key.span, "consent is for a channel and a purpose")
            .hint("write `consent.CHANNEL.PURPOSE`, such as `consent.email.offers`");
        return None;
    };
    let purpose_at = Span { start: span.start + u32::try_from(channel_word.len() + 1).unwrap_or(0), ..span };
    cx.mention(Named::Purpose, purpose, purpose_at.max_in(span));
    let channel = Channel::parse(channel_word);
    if channel.is_none() {
        let meant = nearest(channel_word, Channel::ALL.iter().map(|(word, _)| *word));
        cx.mistake("E0105", span, format!("`{channel_word}` is not a channel")).did_you_mean(meant);
    }
    let (any_of, negated) = words(node, "a state of consent", ConsentStatus::ALL, &[], cx)?;
    Some(unless(
        negated,
        Condition::Consent { channel: channel?, purpose: PurposeName::parse(purpose).ok()?, any_of },
    ))
}

impl Span {
    /// The same place, kept within another.
    fn max_in(self, outer: Self) -> Self {
        Self { start: self.start.min(outer.end), ..self }
    }
}

/// A word, a list of them, or `{not: ...}` of either; true where it was `not`.
fn words<T: Copy>(
    node: &Node,
    expected: &str,
    all: &[(&'static str, T)],
    later: &[&str],
    cx: &mut Cx<'_>,
) -> Option<(Vec<T>, bool)> {
    match &node.kind {
        Kind::Scalar { .. } => cx.word(node, expected, all, later).map(|one| (vec![one], false)),
        Kind::List(items) => {
            let read: Vec<Option<T>> = items.iter().map(|item| cx.word(item, expected, all, later)).collect();
            if read.is_empty() {
                cx.mistake("E0105", node.place(), "the list is empty");
                return None;
            }
            read.into_iter().collect::<Option<_>>().map(|all| (all, false))
        }
        Kind::Map(_) => {
            let entries = cx.keys(node, &["not"], &[], expected)?;
            match entries {
                [(key, inner)] if key.text == "not" && !matches!(inner.kind, Kind::Map(_)) => {
                    words(inner, expected, all, later, cx).map(|(any_of, _)| (any_of, true))
                }
                [(key, inner)] if key.text == "not" => {
                    cx.wrong_kind(inner, expected);
                    None
                }
                _ => {
                    cx.missing(node, "not");
                    None
                }
            }
        }
    }
}

/// `profile.X`, `account.X` and `entry.X`.
fn column(of: ValueOf, span: Span, node: &Node, cx: &mut Cx<'_>) -> Option<Condition> {
    let mut values = Vec::new();
    let tests = value_tests(node, &mut values, cx);
    mention_column(&of, tests.clone().unwrap_or_default(), values, span, cx);
    let tests = tests?;
    Some(match of {
        ValueOf::Profile(attribute) => Condition::Profile { attribute, tests },
        ValueOf::Account(attribute) => Condition::Account { attribute, tests },
        ValueOf::Entry(column) => Condition::Entry { column, tests },
    })
}

fn mention_column(
    of: &ValueOf,
    tests: Vec<ValueTest>,
    values: Vec<(String, Span)>,
    span: Span,
    cx: &mut Cx<'_>,
) {
    let column = |name: &String| Column { name: name.clone(), tests, values };
    let what = match of {
        ValueOf::Profile(name) => Mentioned::Profile(column(name)),
        ValueOf::Account(name) => Mentioned::Account(column(name)),
        ValueOf::Entry(name) => Mentioned::Entry(column(name)),
    };
    cx.mentions.push(Mention { span, what });
}

/// A value (equal), a list (one of), or a map of tests that must all hold.
fn value_tests(node: &Node, values: &mut Vec<(String, Span)>, cx: &mut Cx<'_>) -> Option<Vec<ValueTest>> {
    let Kind::Map(_) = &node.kind else {
        return one_of(node, values, cx).map(|test| vec![test]);
    };
    let known: Vec<&str> = TESTS.iter().map(|(word, _)| *word).collect();
    let entries = cx.keys(node, &known, &[], "a value, a list or a map of tests")?;
    if entries.is_empty() {
        cx.mistake("E0105", node.place(), "no test is given");
        return None;
    }
    let read: Vec<Option<ValueTest>> =
        entries.iter().map(|(key, inner)| value_test(&key.text, inner, values, cx)).collect();
    read.into_iter().collect()
}

fn one_of(node: &Node, values: &mut Vec<(String, Span)>, cx: &mut Cx<'_>) -> Option<ValueTest> {
    let items = match &node.kind {
        Kind::List(items) => &items[..],
        Kind::Map(_) | Kind::Scalar { .. } => std::slice::from_ref(node),
    };
    let mut all = Vec::new();
    for item in items {
        match Value::read(item, cx)? {
            Value::Missing => {
                cx.mistake("E0104", item.place(), "nothing is equal to nothing")
                    .hint("write `{missing: true}`");
                return None;
            }
            Value::Json(_) => {
                cx.wrong_kind(item, "a single value");
                return None;
            }
            value => {
                values.push((value.to_string(), item.place()));
                all.push(value);
            }
        }
    }
    if all.is_empty() {
        cx.mistake("E0105", node.place(), "the list is empty");
        return None;
    }
    Some(ValueTest::OneOf(all))
}

/// The words for tests, with what they take.
const TESTS: &[(&str, Takes)] = &[
    ("of", Takes::List),
    ("not", Takes::Tests),
    ("over", Takes::Number),
    ("under", Takes::Number),
    ("at_least", Takes::Number),
    ("at_most", Takes::Number),
    ("has", Takes::Text),
    ("starts", Takes::Text),
    ("ends", Takes::Text),
    ("before", Takes::Time),
    ("after", Takes::Time),
    ("in_last", Takes::Duration),
    ("in_next", Takes::Duration),
    ("older_than", Takes::Duration),
    ("missing", Takes::Boolean),
    ("same_as", Takes::ValueOf),
];

#[derive(Debug, Clone, Copy)]
enum Takes {
    List,
    Tests,
    Number,
    Text,
    Time,
    Duration,
    Boolean,
    ValueOf,
}

fn value_test(
    word: &str,
    node: &Node,
    values: &mut Vec<(String, Span)>,
    cx: &mut Cx<'_>,
) -> Option<ValueTest> {
    Some(match word {
        "of" if !matches!(node.kind, Kind::List(_)) => {
            cx.wrong_kind(node, "a list of values");
            return None;
        }
        "of" => one_of(node, values, cx)?,
        "not" => ValueTest::Not(value_tests(node, values, cx)?),
        "over" => ValueTest::Over(number(node, cx)?),
        "under" => ValueTest::Under(number(node, cx)?),
        "at_least" => ValueTest::AtLeast(number(node, cx)?),
        "at_most" => ValueTest::AtMost(number(node, cx)?),
        "has" => ValueTest::Has(String::read(node, cx)?),
        "starts" => ValueTest::Starts(String::read(node, cx)?),
        "ends" => ValueTest::Ends(String::read(node, cx)?),
        "before" => ValueTest::Before(Timestamp::read(node, cx)?),
        "after" => ValueTest::After(Timestamp::read(node, cx)?),
        "in_last" => ValueTest::InLast(Positive::read(node, cx)?.0),
        "in_next" => ValueTest::InNext(Positive::read(node, cx)?.0),
        "older_than" => ValueTest::OlderThan(Positive::read(node, cx)?.0),
        "missing" => ValueTest::Missing(bool::read(node, cx)?),
        "same_as" => ValueTest::SameAs(value_of(node, &[], cx)?),
        // Unknown, which is reported.
        _ => return None,
    })
}

fn number(node: &Node, cx: &mut Cx<'_>) -> Option<f64> {
    let text = cx.text(node, "a number")?;
    match crate::values::by_look(&text.text, text.plain).as_number() {
        Some(number) => Some(number),
        None => {
            let message = format!("{} is not a number", text.shown());
            cx.mistake("E0105", text.span, message);
            None
        }
    }
}

/// `profile.X`, `account.X` or `entry.X`, as a value that is put to some tests.
pub(crate) fn value_of(node: &Node, tests: &[ValueTest], cx: &mut Cx<'_>) -> Option<ValueOf> {
    let text = cx.text(node, "a value such as `profile.trial_ends_at`")?;
    let of = match text.text.split_once('.') {
        Some(("profile", name)) if !name.is_empty() => Some(ValueOf::Profile(name.to_owned())),
        Some(("account", name)) if !name.is_empty() => Some(ValueOf::Account(name.to_owned())),
        Some(("entry", name)) if !name.is_empty() && cx.asking != Asking::People => {
            Some(ValueOf::Entry(name.to_owned()))
        }
        Some((kind, _)) if LATER.contains(&kind) => {
            cx.not_yet(text.span, format!("values of `{kind}` are"));
            return None;
        }
        _ => {
            let message = format!("{} is not a value of the person", text.shown());
            cx.mistake("E0105", text.span, message)
                .label("`profile.COLUMN`, `account.COLUMN` or, in playbooks, `entry.COLUMN`");
            None
        }
    };
    mention_column(of.as_ref()?, tests.to_vec(), Vec::new(), text.span, cx);
    of
}

/// What [`value_of`] takes, as JSON Schema.
pub(crate) fn value_of_schema() -> Json {
    json!({"type": "string", "pattern": "^(profile|account|entry)\\..+$"})
}

fn value_schema(schemas: &mut Schemas) -> Json {
    schemas.define("ValueTest", |schemas| {
        let single = json!({"type": ["string", "number", "boolean"]});
        let list = json!({"type": "array", "items": single, "minItems": 1});
        let text = crate::values::text_schema(schemas);
        let duration = <SignedDuration as Read>::schema(schemas);
        let tests: serde_json::Map<String, Json> = TESTS
            .iter()
            .map(|(word, takes)| {
                let schema = match takes {
                    Takes::List => list.clone(),
                    Takes::Tests => json!({"$ref": "#/$defs/ValueTest"}),
                    Takes::Number => json!({"type": "number"}),
                    Takes::Text => text.clone(),
                    Takes::Time => json!({"type": "string"}),
                    Takes::Duration => duration.clone(),
                    Takes::Boolean => json!({"type": "boolean"}),
                    Takes::ValueOf => value_of_schema(),
                };
                ((*word).to_owned(), schema)
            })
            .collect();
        json!({
            "description": "A value: equal; a list: one of; or a map of tests that must all hold.",
            "anyOf": [single, list, {"type": "object", "properties": tests, "minProperties": 1, "additionalProperties": false}],
        })
    })
}
