//! tests/NAME.yml as it is written, and what it comes to.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::consent::ConsentStatus;
use model::name::{PlaybookName, PurposeName, SegmentName, TemplateName};
use model::value::ValueType;
use model::{Channel, DeliveryState, Reason, StepId, Value};
use serde_json::{Value as Json, json};

use crate::read::{At, Cx, Given as Key, Named, Needed, Read, Record as _, record};
use crate::scenario::{Act, Expected, ExpectedRow, Given, GivenConsent, Scenario, Subject, Then};
use crate::schema::Schemas;
use crate::segment::top;
use crate::source::Span;
use crate::yaml::{Kind, Node};

record! {
    /// One scenario.
    pub(crate) struct RawScenario ("a scenario") {
        /// What it shows.
        "title" title: Needed<String>,
        /// A playbook that is tried.
        "playbook" playbook: Key<PlaybookName>,
        /// Or a segment.
        "segment" segment: Key<SegmentName>,
        /// When it begins.
        "start" start: Timestamp,
        /// Only what matters.
        "given" given: Option<RawGiven>,
        /// What happens, in order.
        "then" then: Option<Vec<Happening>>,
        /// What must come of it: rows, or `{members: [...]}`.
        "expect" expect: RawExpected,
        /// Whether holdouts and limits hold, too.
        "with_policy" with_policy: Option<bool>,
    }
    not_yet { "event", "list" }
}

record! {
    /// The world at the start.
    pub(crate) struct RawGiven ("a map of what is given") {
        /// People.
        "profiles" profiles: Option<Vec<Row>>,
        /// Their accounts, by `account_id`.
        "accounts" accounts: Option<Vec<Row>>,
        /// What they consented to.
        "consent" consent: Option<Vec<RawConsent>>,
        /// Who is in which segment.
        "segments" segments: Option<Members>,
        /// Rows of the warehouse's tables; the real SQL runs on them.
        "tables" tables: Option<Tables>,
    }
    not_yet { "owners", "events", "scores", "lookups", "arms" }
}

record! {
    /// What a person consented to.
    pub(crate) struct RawConsent ("a map with `profile`, `channel`, `purpose` and `status`") {
        /// Whose.
        "profile" profile: String,
        /// For which channel, or `*`.
        "channel" channel: OrAll<Channel>,
        /// For what, or `*`.
        "purpose" purpose: OrAll<PurposeName>,
        /// granted, withdrawn or pending.
        "status" status: ConsentStatus,
    }
}

record! {
    /// Something that happens to a person.
    pub(crate) struct RawThen ("a map with `at`, `profile` and what happens") {
        /// When: `+1d` from the start, or a time.
        "at" at: When,
        /// Who.
        "profile" profile: At<String>,
        /// Comes into a segment.
        "enters" enters: Key<SegmentName>,
        /// Leaves a segment.
        "leaves" leaves: Key<SegmentName>,
        /// Grants consent.
        "grants" grants: Key<PurposeName>,
        /// Withdraws consent.
        "withdraws" withdraws: Key<PurposeName>,
        /// The message of this step bounces.
        "bounces" bounces: Key<At<String>>,
        /// Columns change.
        "set" set: Key<Row>,
    }
    not_yet { "clicks", "opens", "event", "with" }
}

/// Something that happens, and whether it is something that is not built yet.
#[derive(Debug, Clone)]
pub(crate) struct Happening {
    fields: RawThen,
    later: bool,
}

impl Read for Happening {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let later = node.entries().iter().any(|(key, _)| RawThen::LATER.contains(&key.text.as_str()));
        RawThen::read(node, cx).map(|fields| Self { fields, later })
    }

    fn schema(schemas: &mut Schemas) -> Json {
        RawThen::schema(schemas)
    }
}

record! {
    /// A row of the log, or an exit.
    pub(crate) struct RawRow ("a map with `profile` and what is expected") {
        /// When: `+1d` from the start, or a time.
        "at" at: Option<When>,
        /// Who.
        "profile" profile: At<String>,
        /// The step.
        "step" step: Option<At<String>>,
        /// accepted, skipped, suppressed ...
        "state" state: Option<DeliveryState>,
        /// A reason code.
        "reason" reason: Option<Reason>,
        /// What was sent.
        "template" template: Option<TemplateName>,
        /// The subject, exactly.
        "subject" subject: Option<String>,
        /// Part of the text or the HTML.
        "contains" contains: Option<String>,
        /// finished, goal_reached, criteria_met, left, or a step's own word.
        "exit" exit: Option<String>,
    }
    not_yet { "arm" }
}

impl Read for ConsentStatus {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let words: Vec<(&'static str, Self)> =
            Self::ALL.iter().copied().filter(|(_, status)| *status != Self::Absent).collect();
        cx.word(node, "a state of consent", &words, &[])
    }

    fn schema(_schemas: &mut Schemas) -> Json {
        json!({"enum": ["granted", "withdrawn", "pending"]})
    }
}

/// States as the log shows them.
const SHOWN: &[(&str, DeliveryState)] = &[
    ("accepted", DeliveryState::Accepted),
    ("rejected", DeliveryState::Rejected),
    ("expired", DeliveryState::Expired),
    ("in_doubt", DeliveryState::InDoubt),
    ("cancelled", DeliveryState::Cancelled),
    ("pending", DeliveryState::Pending),
    ("suppressed", DeliveryState::Suppressed),
    ("skipped", DeliveryState::Skipped),
    ("withheld", DeliveryState::Withheld),
    ("deferred", DeliveryState::Deferred),
];

impl Read for DeliveryState {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        cx.word(node, "a state of the log", SHOWN, &[])
    }

    fn schema(_schemas: &mut Schemas) -> Json {
        json!({"enum": SHOWN.iter().map(|(word, _)| *word).collect::<Vec<_>>()})
    }
}

impl Read for Reason {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let words: Vec<(&'static str, Self)> =
            Self::ALL.iter().map(|reason| (reason.as_str(), *reason)).collect();
        let text = cx.text(node, "a reason code")?;
        if let Some((_, reason)) = words.iter().find(|(word, _)| *word == text.text) {
            return Some(*reason);
        }
        let meant = model::suggest::nearest(&text.text, words.iter().map(|(word, _)| *word));
        let message = format!("{} is not a reason code", text.shown());
        cx.mistake("E0105", text.span, message).did_you_mean(meant);
        None
    }

    fn schema(_schemas: &mut Schemas) -> Json {
        json!({"enum": Self::ALL.iter().map(|reason| reason.as_str()).collect::<Vec<_>>()})
    }
}

/// One, or `*` for all.
#[derive(Debug, Clone)]
pub(crate) struct OrAll<T>(Option<T>);

impl<T: Read> Read for OrAll<T> {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        if node.text() == Some("*") {
            return Some(Self(None));
        }
        T::read(node, cx).map(|one| Self(Some(one)))
    }

    fn schema(schemas: &mut Schemas) -> Json {
        let one = T::schema(schemas);
        json!({"anyOf": [{"const": "*"}, one]})
    }
}

/// A time, or `+1d` from the start.
#[derive(Debug, Clone, Copy)]
pub(crate) enum When {
    After(jiff::SignedDuration),
    Time(Timestamp),
}

impl Read for When {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        cx.parsed(node, "a time of the scenario", |text| {
            let expected = "`+1d` from the start, or RFC 3339 such as `2026-03-03T09:00:00Z`";
            match text.strip_prefix('+') {
                Some(after) => model::duration::parse_duration(after).map(Self::After).map_err(|_| expected),
                None => text.parse().map(Self::Time).map_err(|_| expected),
            }
        })
    }

    fn schema(_schemas: &mut Schemas) -> Json {
        json!({"type": "string"})
    }
}

impl When {
    fn from(self, start: Timestamp) -> Timestamp {
        match self {
            Self::After(after) => start.checked_add(after).unwrap_or(Timestamp::MAX),
            Self::Time(time) => time,
        }
    }
}

/// Values by column.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row(BTreeMap<String, Value>);

impl Read for Row {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let Kind::Map(entries) = &node.kind else {
            cx.wrong_kind(node, "a map from columns to values");
            return None;
        };
        let read = entries.iter().map(|(key, value)| Some((key.text.clone(), Value::read(value, cx)?)));
        read.collect::<Option<_>>().map(Self)
    }

    fn schema(_schemas: &mut Schemas) -> Json {
        json!({"type": "object"})
    }
}

/// People by segment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Members(BTreeMap<SegmentName, Vec<String>>);

impl Read for Members {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let Kind::Map(entries) = &node.kind else {
            cx.wrong_kind(node, "a map from segments to people");
            return None;
        };
        let mut members = BTreeMap::new();
        for (key, value) in entries {
            cx.mention(Named::Segment, &key.text, key.span);
            if let (Ok(name), Some(ids)) = (SegmentName::parse(&key.text), Vec::read(value, cx)) {
                members.insert(name, ids);
            }
        }
        Some(Self(members))
    }

    fn schema(schemas: &mut Schemas) -> Json {
        let ids = Vec::<String>::schema(schemas);
        json!({"type": "object", "additionalProperties": ids})
    }
}

/// Rows by table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tables(BTreeMap<String, Vec<BTreeMap<String, Value>>>);

impl Read for Tables {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let Kind::Map(entries) = &node.kind else {
            cx.wrong_kind(node, "a map from tables to rows");
            return None;
        };
        let mut tables = BTreeMap::new();
        for (key, value) in entries {
            if !model::name::is_name(&key.text.to_ascii_lowercase()) {
                cx.mistake("E0105", key.span, format!("`{}` is not the name of a table", key.text));
            }
            if let Some(rows) = Vec::<Row>::read(value, cx) {
                tables.insert(key.text.clone(), rows.into_iter().map(|row| row.0).collect());
            }
        }
        Some(Self(tables))
    }

    fn schema(_schemas: &mut Schemas) -> Json {
        json!({"type": "object", "additionalProperties": {"type": "array", "items": {"type": "object"}}})
    }
}

/// Rows, or members.
#[derive(Debug, Clone)]
pub(crate) enum RawExpected {
    Rows(Vec<(RawRow, Span)>),
    Members(Vec<String>),
}

record! {
    /// A segment's members, in any order.
    pub(crate) struct RawMembers ("a list of rows, or `{members: [...]}`") {
        /// Their ids.
        "members" members: Vec<String>,
    }
    not_yet { "rows" }
}

impl Read for RawExpected {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let Kind::List(items) = &node.kind else {
            return RawMembers::read(node, cx).map(|raw| Self::Members(raw.members));
        };
        Some(Self::Rows(items.iter().filter_map(|item| Some((RawRow::read(item, cx)?, item.span))).collect()))
    }

    fn schema(schemas: &mut Schemas) -> Json {
        let (row, members) = (RawRow::schema(schemas), RawMembers::schema(schemas));
        json!({"anyOf": [{"type": "array", "items": row}, members]})
    }
}

/// What data.yml declares of the columns of people and accounts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Types<'a> {
    pub(crate) profiles: Option<&'a BTreeMap<String, model::query::Column>>,
    pub(crate) accounts: Option<&'a BTreeMap<String, model::query::Column>>,
}

/// Reads a scenario's file. Columns of profiles and accounts are given the types that data.yml declares.
pub(crate) fn read(file: &str, node: &Node, types: Types<'_>, cx: &mut Cx<'_>) -> Option<Scenario> {
    let raw = RawScenario::read(node, cx)?;
    let subject = match (raw.playbook, raw.segment) {
        (Key::Right(name, _), Key::Absent) => Subject::Playbook(name),
        (Key::Absent, Key::Right(name, _)) => Subject::Segment(name),
        (Key::Absent, Key::Absent) => {
            if node.get("event").is_none() && node.get("list").is_none() {
                cx.mistake("E0103", top(node), "a scenario tries something: `playbook` or `segment`");
            }
            return None;
        }
        (Key::Right(..), Key::Right(_, at)) => {
            cx.mistake("E0108", at, "a scenario tries a playbook or a segment, not both");
            return None;
        }
        _ => return None,
    };
    let expect_at = node.get("expect").map_or(top(node), Node::place);
    let start = raw.start;
    let then = raw.then.unwrap_or_default();
    if let Subject::Playbook(name) = &subject {
        name_people_and_steps(name, raw.given.as_ref(), &then, &raw.expect, cx);
    }
    let expect = match (raw.expect, &subject) {
        (RawExpected::Members(members), Subject::Segment(_)) => Expected::Members(members),
        (RawExpected::Rows(rows), Subject::Playbook(_)) => {
            Expected::Rows(rows.into_iter().map(|(row, span)| expected_row(row, span, start, cx)).collect())
        }
        (RawExpected::Members(_), Subject::Playbook(_)) => {
            cx.mistake("E0108", expect_at, "a playbook's scenario expects a list of rows");
            return None;
        }
        (RawExpected::Rows(_), Subject::Segment(_)) => {
            cx.mistake("E0108", expect_at, "a segment's scenario expects `{members: [...]}`");
            return None;
        }
    };
    let then = then.into_iter().filter_map(|raw| happening(raw, start, types, cx)).collect();
    let given = raw.given.map(|given| given_world(given, node, types, cx)).unwrap_or_default();
    Some(Scenario {
        file: file.to_owned(),
        title: raw.title.0.unwrap_or_default(),
        subject,
        start,
        given,
        then,
        expect,
        with_policy: raw.with_policy.unwrap_or(false),
    })
}

/// Every profile that something happens to, or is expected of, is given; the steps are looked up when all files are read.
fn name_people_and_steps(
    playbook: &PlaybookName,
    given: Option<&RawGiven>,
    then: &[Happening],
    expect: &RawExpected,
    cx: &mut Cx<'_>,
) {
    let rows = match expect {
        RawExpected::Rows(rows) => &rows[..],
        RawExpected::Members(_) => &[],
    };
    let profiles = given.and_then(|given| given.profiles.as_ref()).into_iter().flatten();
    let ids: Vec<String> = profiles.filter_map(|row| row.0.get("id").map(Value::to_string)).collect();
    let named = then.iter().map(|then| &then.fields.profile).chain(rows.iter().map(|(row, _)| &row.profile));
    for profile in named.filter(|profile| !ids.contains(&profile.value)) {
        let meant = model::suggest::nearest(&profile.value, ids.iter().map(String::as_str));
        cx.mistake("E0201", profile.span, format!("no profile `{}` is given", profile.value))
            .did_you_mean(meant);
    }
    let steps = then
        .iter()
        .filter_map(|then| then.fields.bounces.right())
        .chain(rows.iter().filter_map(|(row, _)| row.step.as_ref()));
    cx.named_steps.extend(steps.map(|step| (playbook.clone(), step.value.clone(), step.span)));
}

fn expected_row(raw: RawRow, span: Span, start: Timestamp, cx: &Cx<'_>) -> ExpectedRow {
    ExpectedRow {
        place: cx.files.place(span),
        profile: raw.profile.value,
        at: raw.at.map(|at| at.from(start)),
        step: raw.step.map(|step| StepId::known(step.value)),
        state: raw.state,
        reason: raw.reason,
        template: raw.template,
        subject: raw.subject,
        contains: raw.contains,
        exit: raw.exit,
    }
}

fn happening(
    Happening { fields: raw, later }: Happening,
    start: Timestamp,
    types: Types<'_>,
    cx: &mut Cx<'_>,
) -> Option<Then> {
    let mut acts = Vec::new();
    let mut wrong = false;
    let mut take = |act: Option<Act>, there: bool| {
        wrong |= there && act.is_none();
        acts.extend(act);
    };
    take(raw.enters.right().cloned().map(Act::Enters), raw.enters.is_there());
    take(raw.leaves.right().cloned().map(Act::Leaves), raw.leaves.is_there());
    take(raw.grants.right().cloned().map(Act::Grants), raw.grants.is_there());
    take(raw.withdraws.right().cloned().map(Act::Withdraws), raw.withdraws.is_there());
    take(
        raw.bounces.right().cloned().map(|step| Act::Bounces(StepId::known(step.value))),
        raw.bounces.is_there(),
    );
    take(raw.set.right().cloned().map(|row| Act::Set(typed(row.0, types.profiles))), raw.set.is_there());
    if wrong {
        return None;
    }
    if acts.is_empty() && later {
        return None;
    }
    if acts.len() != 1 {
        cx.mistake("E0108", raw.profile.span, "one thing happens at a time")
            .hint("one of `enters`, `leaves`, `grants`, `withdraws`, `bounces`, `set`");
        return None;
    }
    Some(Then { at: raw.at.from(start), profile: raw.profile.value, act: acts.pop()? })
}

fn given_world(raw: RawGiven, node: &Node, types: Types<'_>, cx: &mut Cx<'_>) -> Given {
    let profiles = rows_by_id(raw.profiles, "profiles", types.profiles, node, cx);
    let accounts = rows_by_id(raw.accounts, "accounts", types.accounts, node, cx);
    let consent = raw.consent.unwrap_or_default().into_iter();
    Given {
        profiles,
        accounts,
        consent: consent
            .map(|row| GivenConsent {
                profile: row.profile,
                channel: row.channel.0,
                purpose: row.purpose.0,
                status: row.status,
            })
            .collect(),
        segments: raw.segments.unwrap_or_default().0,
        tables: raw.tables.unwrap_or_default().0,
    }
}

/// The rows given under a key, each of which has an `id`.
fn rows_by_id(
    rows: Option<Vec<Row>>,
    key: &str,
    types: Option<&BTreeMap<String, model::query::Column>>,
    node: &Node,
    cx: &mut Cx<'_>,
) -> Vec<BTreeMap<String, Value>> {
    let rows: Vec<_> = rows.unwrap_or_default().into_iter().map(|row| typed(row.0, types)).collect();
    if rows.iter().any(|row| row.get("id").is_none_or(Value::is_missing)) {
        let at = node.get("given").and_then(|given| given.get(key)).map_or(top(node), Node::place);
        cx.mistake("E0103", at, format!("every {} has an `id`", key.trim_end_matches('s')));
    }
    rows
}

/// Known columns are text; declared ones have the declared type, where the value can be read so.
fn typed(
    row: BTreeMap<String, Value>,
    types: Option<&BTreeMap<String, model::query::Column>>,
) -> BTreeMap<String, Value> {
    row.into_iter()
        .map(|(name, value)| {
            let known = ["id", "email", "phone", "timezone", "locale", "country"]
                .contains(&name.as_str())
                .then_some(ValueType::Text);
            let kind = types.and_then(|types| types.get(&name)?.kind).or(known);
            let value = kind.map_or_else(|| value.clone(), |kind| as_type(value.clone(), kind));
            (name, value)
        })
        .collect()
}

fn as_type(value: Value, kind: ValueType) -> Value {
    if value.is_missing() {
        return value;
    }
    let text = value.to_string();
    let read = match kind {
        ValueType::Text => Some(Value::Text(text)),
        ValueType::Integer => text.parse().ok().map(Value::Integer),
        ValueType::Number => text.parse().ok().map(Value::Number),
        ValueType::Boolean => match text.as_str() {
            "true" | "1" => Some(Value::Boolean(true)),
            "false" | "0" => Some(Value::Boolean(false)),
            _ => None,
        },
        ValueType::Date => text.parse().ok().map(Value::Date),
        ValueType::Time => text.parse().ok().map(Value::Time),
        ValueType::Json => None,
    };
    read.unwrap_or(value)
}
