//! syncs/NAME.yml.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use message::{FieldText, Fields};
use model::duration::Share;
use model::name::{AudienceName, DestinationName, NameError, PurposeName, SegmentName, SyncName};
use model::policy::{Guards, MessageClass, Policy};
use model::schedule::Schedule;
use model::sync::{AudienceAt, AudienceSync, Gone, OnEdit, RecordSync, RecordsAt, Sync, SyncFrom, SyncTo};
use serde_json::{Value as Json, json};

use crate::Can;
use crate::read::{At, Column, Cx, Given, Mention, Mentioned, Named, Needed, Read, record};
use crate::schema::Schemas;
use crate::segment::canonical;
use crate::source::Span;
use crate::values::{Some1, to_json};
use crate::yaml::{Kind, Node};

record! {
    /// An audience of people who consent, or fields of a CRM's records, kept equal to the warehouse.
    pub(crate) struct RawSync ("a sync") {
        /// What people call it.
        "title" title: Needed<String>,
        /// Whose it is.
        "owner" owner: Needed<String>,
        /// What it is for.
        "why" why: Needed<String>,
        /// Words to find it by.
        "tags" tags: Option<Some1<String>>,
        /// When what there is to be is compared with what there is: `15m`, `0 6 * * mon-fri`; 1h unless given.
        "schedule" schedule: Option<Schedule>,
        /// Of whom, or of what: `profiles`, `segment.NAME`, and for records also `accounts`.
        "from" from: Needed<At<RawFrom>>,
        /// Which audience. This or `record`.
        "audience" audience: Given<RawAudience>,
        /// Which records, and what is to stand in them. This or `audience`.
        "record" record: Given<RawRecord>,
        /// What the people in an audience consent to, on the channel `ads`.
        "purpose" purpose: Given<At<PurposeName>>,
        /// Its own, instead of the policy's.
        "guards" guards: Option<RawSyncGuards>,
    }
    not_yet { "expect", "extends" }
}

record! {
    /// An audience at a destination.
    pub(crate) struct RawAudience ("a map with `destination` and `name`") {
        /// Whose account it is in.
        "destination" destination: Needed<At<DestinationName>>,
        /// What it is called here. The provider sees a neutral name.
        "name" name: Needed<AudienceName>,
    }
}

record! {
    /// Records at a destination, one for each person or account, and what is to stand in them.
    pub(crate) struct RawRecord ("a map with `destination`, `object`, `match` and `fields`") {
        /// Whose account they are in.
        "destination" destination: Needed<At<DestinationName>>,
        /// What they are, in the provider's word: `contact`, `company`.
        "object" object: Needed<At<String>>,
        /// How the record is found: `{domain: "{{ account.domain }}"}`.
        "match" key: Needed<RawFields>,
        /// What is to stand in which of its fields. `{{ account.arr }}` alone stays a number; what is missing empties a field that we wrote.
        "fields" fields: Needed<RawFields>,
        /// What becomes of a field in which there is something that we did not write: `keep` (the default) or `overwrite`.
        "on_edit" on_edit: Option<OnEdit>,
        /// What becomes of the record of somebody who is no longer in `from`: `leave` (the default), or `clear`, which empties what we wrote.
        "gone" gone: Option<Gone>,
    }
}

record! {
    /// What stops a sync before it does harm.
    pub(crate) struct RawSyncGuards ("a map with `removal`") {
        /// Of those in the audience, so many may be removed in one sync, besides who opted out; of records, so many may be emptied.
        "removal" removal: Option<Share>,
    }
}

/// `profiles`, `accounts`, or `segment.NAME`.
#[derive(Debug, Clone)]
pub(crate) struct RawFrom(SyncFrom);

impl Read for RawFrom {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let text = cx.text(node, "`profiles`, `accounts` or `segment.NAME`")?;
        match text.text.split_once('.') {
            None if text.text == "profiles" => Some(Self(SyncFrom::Profiles)),
            None if text.text == "accounts" => Some(Self(SyncFrom::Accounts)),
            Some(("segment", name)) if !name.is_empty() => {
                let len = u32::try_from(name.len()).unwrap_or(0);
                let start = text.span.end.saturating_sub(len).max(text.span.start);
                cx.mention(Named::Segment, name, Span { start, ..text.span });
                SegmentName::parse(name).ok().map(|name| Self(SyncFrom::Segment(name)))
            }
            _ => {
                let message = format!("{} is nothing to keep anything equal to", text.shown());
                cx.mistake("E0105", text.span, message).label("`profiles`, `accounts` or `segment.NAME`");
                None
            }
        }
    }

    fn schema(_schemas: &mut Schemas) -> Json {
        json!({"type": "string", "pattern": "^(profiles|accounts|segment\\.[a-z][a-z0-9_]*)$"})
    }
}

impl Read for AudienceName {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        cx.parsed(node, "an audience's name", |text| {
            Self::parse(text).map_err(|NameError| "lower-case words joined by `_`, such as `power_users`")
        })
    }

    fn schema(_schemas: &mut Schemas) -> Json {
        json!({"type": "string", "pattern": "^[a-z][a-z0-9_]*$"})
    }
}

/// A field of a record, what is to stand in it, and where that is written.
#[derive(Debug, Clone)]
pub(crate) struct RawField {
    name: String,
    text: FieldText,
    name_at: Span,
    at: Span,
}

/// Fields by name, in their order.
#[derive(Debug, Clone)]
pub(crate) struct RawFields(Vec<RawField>);

impl Read for RawFields {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let Kind::Map(entries) = &node.kind else {
            cx.wrong_kind(node, "a map from fields to values");
            return None;
        };
        let mut fields = Vec::new();
        for (key, value) in entries {
            if !matches!(value.kind, Kind::Scalar { .. }) {
                cx.wrong_kind(value, "a text, a number, `true` or `false`");
                return None;
            }
            let text = match to_json(value) {
                Json::String(text) if text.contains("{{") || text.contains("{%") => FieldText::Template(text),
                value => FieldText::Constant(value),
            };
            fields.push(RawField { name: key.text.clone(), text, name_at: key.span, at: value.place() });
        }
        if fields.is_empty() {
            cx.wrong_kind(node, "a map from fields to values");
            return None;
        }
        Some(Self(fields))
    }

    fn schema(_schemas: &mut Schemas) -> Json {
        json!({"type": "object", "minProperties": 1, "additionalProperties": {"type": ["string", "number", "boolean", "null"]}})
    }
}

/// What makes the records of a sync, ready to be filled in.
#[derive(Debug, Clone)]
pub struct RecordTexts {
    /// The key, by the name of its field.
    pub key: Fields,
    /// The fields.
    pub fields: Fields,
}

/// All syncs, and what makes the records of those that keep them.
#[derive(Debug, Default)]
pub(crate) struct Syncs {
    pub(crate) all: BTreeMap<SyncName, Sync>,
    pub(crate) texts: BTreeMap<SyncName, RecordTexts>,
}

/// Reads all of them. What is kept has one sync; its destination has what it keeps; the purpose of an audience may be asked for on ads.
pub(crate) fn read_all(
    files: &[(String, Node)],
    abilities: &[(DestinationName, Can)],
    policy: Option<&Policy>,
    cx: &mut Cx<'_>,
) -> Syncs {
    let mut syncs = Syncs::default();
    for (name, node) in files {
        let around = Around { abilities, policy, syncs: &mut syncs };
        let Some(sync) = read(SyncName::known(name.as_str()), node, around, cx) else { continue };
        syncs.all.insert(sync.name.clone(), sync);
    }
    syncs
}

/// What is read beside the sync itself, and what it is checked against.
struct Around<'a> {
    abilities: &'a [(DestinationName, Can)],
    policy: Option<&'a Policy>,
    syncs: &'a mut Syncs,
}

fn read(name: SyncName, node: &Node, mut around: Around<'_>, cx: &mut Cx<'_>) -> Option<Sync> {
    let raw = RawSync::read(node, cx)?;
    let from = raw.from.0?;
    let (to, keys) = match (raw.audience, raw.record) {
        (Given::Right(_, at), Given::Right(..) | Given::Wrong) | (Given::Wrong, Given::Right(_, at)) => {
            cx.mistake("E0108", at, "a sync keeps an audience, or records").hint("make two of it");
            return None;
        }
        (Given::Right(raw_audience, _), Given::Absent) => {
            let Given::Right(purpose, _) = raw.purpose else {
                if !raw.purpose.is_there() {
                    cx.missing(node, "purpose");
                }
                return None;
            };
            (
                SyncTo::Audience(audience(raw_audience, purpose, &from, &around, cx)?),
                &["from", "audience", "purpose"][..],
            )
        }
        (Given::Absent, Given::Right(raw_record, _)) => {
            if let Given::Right(_, at) = raw.purpose {
                cx.mistake("E0108", at, "records have no purpose that anybody consents to")
                    .hint("a record is what is known of somebody, and no message; leave `purpose` away");
            }
            (
                SyncTo::Record(record_sync(&name, raw_record, &from.value.0, &mut around, cx)?),
                &["from", "record"][..],
            )
        }
        (Given::Absent, Given::Absent) => {
            cx.missing(node, "audience");
            return None;
        }
        (Given::Wrong, _) | (_, Given::Wrong) => return None,
    };
    let removal = raw.guards.and_then(|guards| guards.removal);
    let whole = around.policy.map_or_else(|| Guards::default().removal, |policy| policy.guards.removal);
    let what: Vec<String> = keys.iter().filter_map(|key| node.get(key).map(canonical)).collect();
    let what: Vec<&str> = what.iter().map(String::as_str).collect();
    Some(Sync {
        title: raw.title.0.unwrap_or_default(),
        owner: raw.owner.0.unwrap_or_default(),
        why: raw.why.0.unwrap_or_default(),
        tags: raw.tags.unwrap_or_default().0,
        schedule: raw.schedule.unwrap_or_else(|| Schedule::every(SignedDuration::from_hours(1))),
        from: from.value.0,
        to,
        removal: removal.unwrap_or(whole),
        definition: model::id::derive("sync", "", &[&[name.as_str()], &what[..]].concat()),
        name,
    })
}

/// What a destination can do, if it is one whose connector could be made out.
fn can(around: &Around<'_>, destination: &DestinationName) -> Option<Can> {
    around.abilities.iter().find(|(known, _)| known == destination).map(|(_, can)| *can)
}

fn audience(
    raw: RawAudience,
    purpose: At<PurposeName>,
    from: &At<RawFrom>,
    around: &Around<'_>,
    cx: &mut Cx<'_>,
) -> Option<AudienceSync> {
    let destination = raw.destination.0?;
    let at = AudienceAt { destination: destination.value, name: raw.name.0? };
    if from.value.0 == SyncFrom::Accounts {
        cx.mistake("E0108", from.span, "people are in an audience, and no accounts")
            .hint("write `profiles`, or a segment");
    }
    if can(around, &at.destination).is_some_and(|can| !can.audiences) {
        let message = format!("the destination `{}` has no audiences", at.destination);
        cx.mistake("E0204", destination.span, message)
            .hint("`drumbeat connector list` says which connectors have them");
    }
    let known = around.policy.and_then(|policy| policy.purposes.get(&purpose.value));
    if known.is_some_and(|purpose| purpose.class == MessageClass::Transactional) {
        cx.mistake("E0204", purpose.span, "nobody is put into an audience for a transactional purpose").hint(
            "that a person has bought something is no consent to ads: name a purpose of class marketing",
        );
    }
    let is_same = |sync: &&Sync| sync.audience().is_some_and(|audience| audience.at == at);
    if let Some(other) = around.syncs.all.values().find(is_same) {
        let message = format!("the audience `{}` is kept by syncs/{}.yml already", at.name, other.name);
        cx.mistake("E0204", destination.span, message)
            .hint("an audience has one sync; give this one another name, or a segment that joins both");
    }
    Some(AudienceSync { at, purpose: purpose.value })
}

fn record_sync(
    name: &SyncName,
    raw: RawRecord,
    from: &SyncFrom,
    around: &mut Around<'_>,
    cx: &mut Cx<'_>,
) -> Option<RecordSync> {
    let destination = raw.destination.0?;
    let object = raw.object.0?;
    let (RawFields(keys), RawFields(fields)) = (raw.key.0?, raw.fields.0?);
    let [key] = keys.as_slice() else {
        cx.not_yet(
            keys.get(1).map_or(destination.span, |second| second.name_at),
            "more than one field to match by are",
        );
        return None;
    };
    let at = RecordsAt { destination: destination.value, object: object.value, key: key.name.clone() };
    let on_edit = raw.on_edit.unwrap_or_default();
    let can = can(around, &at.destination);
    match can.map(|can| can.records) {
        Some(None) => {
            let message = format!("the destination `{}` has no records", at.destination);
            cx.mistake("E0204", destination.span, message)
                .hint("`drumbeat connector list` says which connectors have them");
        }
        Some(Some(false)) if on_edit == OnEdit::Keep => {
            let message = format!("the destination `{}` cannot say what a person has edited", at.destination);
            cx.mistake("E0204", destination.span, message).hint("write `on_edit: overwrite`");
        }
        _ => {}
    }
    for field in &fields {
        if field.name == key.name {
            cx.mistake("E0108", field.name_at, format!("`{}` is what the record is found by", field.name))
                .hint("it is written where a record is made, and never changed: leave it away here");
        }
        let is_same = |sync: &&Sync| {
            sync.record().is_some_and(|other| {
                (&other.at.destination, &other.at.object) == (&at.destination, &at.object)
                    && other.fields.contains(&field.name)
            })
        };
        if let Some(other) = around.syncs.all.values().find(is_same) {
            let message = format!("`{}` is written by syncs/{}.yml already", field.name, other.name);
            cx.mistake("E0204", field.name_at, message)
                .hint("a field has one sync, or the two would take turns");
        }
    }
    let roots: &[&str] = if *from == SyncFrom::Accounts { &["account"] } else { &["profile", "account"] };
    let compiled_key = compile(&keys, roots, cx);
    let compiled = compile(&fields, roots, cx);
    around.syncs.texts.insert(name.clone(), RecordTexts { key: compiled_key?, fields: compiled? });
    let fields = fields.into_iter().map(|field| field.name).collect();
    Some(RecordSync { at, fields, on_edit, gone: raw.gone.unwrap_or_default() })
}

/// Compiles fields; what they name of people and accounts is looked up with all else.
fn compile(fields: &[RawField], roots: &[&str], cx: &mut Cx<'_>) -> Option<Fields> {
    let at = |name: &str| fields.iter().find(|field| field.name == name).map(|field| field.at);
    let all: Vec<_> = fields.iter().map(|field| (field.name.clone(), field.text.clone())).collect();
    match Fields::compile(&all, roots) {
        Ok(compiled) => {
            for used in compiled.used() {
                let (Some(name), Some(span)) = (used.name.clone(), at(&used.file)) else { continue };
                let column = Column { name, tests: Vec::new(), values: Vec::new() };
                let what = match used.root.as_str() {
                    "profile" => Mentioned::Profile(column),
                    "account" => Mentioned::Account(column),
                    _ => continue,
                };
                cx.mentions.push(Mention { span, what });
            }
            Some(compiled)
        }
        Err(mistakes) => {
            for (field, mistake) in mistakes {
                let Some(span) = at(&field) else { continue };
                let shown = cx.mistake(mistake.code, span, mistake.message);
                if let Some(hint) = mistake.hint {
                    shown.hint(hint);
                }
            }
            None
        }
    }
}
