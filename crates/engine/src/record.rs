//! What is to be written into a record, so that nobody else's word is lost.
//!
//! A field is *ours* while what stands in it is what we wrote last, or may have written. With `on_edit: keep` one rule holds whatever happens: only a
//! field that is ours is changed, or one that is empty and never was. Somebody who empties a field of ours has edited it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use model::Reason;
use model::id::IdentityHash;
use model::sync::{Gone, Has, OnEdit, RecordEntry, RecordTodo};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A record's fields by name; `Null`: empty.
pub type FieldValues = BTreeMap<String, Value>;

/// What we did with a field.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FieldPast {
    /// What stood in it last that was not ours, as far as it was read; nothing is a value, too.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "something")]
    pub before: Option<Value>,
    /// What may stand in it by our doing: what we wrote last; and as long as no answer to a write came, what it was to replace, too, since the
    /// write may never have arrived.
    pub ours: Vec<Value>,
}

/// A value that is there: `null` is one.
fn something<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

impl FieldPast {
    /// Whether this may be what we wrote.
    fn is_ours(&self, value: &Value) -> bool {
        self.ours.iter().any(|own| is_same(own, value))
    }
}

/// What we did with the fields of a record.
pub type RecordPast = BTreeMap<String, FieldPast>;

/// What is to be written.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RowPlan {
    /// The fields that change.
    pub write: FieldValues,
    /// Those that would, and stay: somebody else wrote what stands in them.
    pub kept: Vec<String>,
}

/// What becomes of the entry of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlannedEntry {
    /// This is to be done about it; a new one where there was none.
    Put {
        /// By which key.
        key: IdentityHash,
        /// What.
        todo: RecordTodo,
        /// Why.
        reason: Reason,
        /// Whether what is to stand in it has changed.
        is_new: bool,
    },
    /// It is forgotten: nothing of it was ever written.
    Forget {
        /// By which key.
        key: IdentityHash,
    },
}

/// What a sync wants of somebody's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// That it holds something: its key, and what it is to hold, by their hashes.
    Record(&'a IdentityHash, &'a str),
    /// It is asked for, and cannot be made: what was written stays.
    Unmade(Reason),
    /// It is not asked for any more.
    Gone(Reason),
}

/// What is to become of somebody's entries. Only what changes is given. What may have been written is never forgotten; it is emptied where
/// `gone` says so, once it is known that not too many are.
pub fn plan_entries(entries: &[RecordEntry], wanted: Wanted<'_>, gone: Gone) -> Vec<PlannedEntry> {
    let mut planned = Vec::new();
    let key_wanted = match wanted {
        Wanted::Record(key, digest) => {
            let entry = entries.iter().find(|entry| entry.key == *key);
            let is_new = entry.is_none_or(|entry| entry.digest != digest);
            let is_done = entry.is_some_and(|entry| match entry.todo {
                RecordTodo::Write => true,
                RecordTodo::Nothing => {
                    entry.has == Has::Yes && matches!(entry.reason, Reason::OkApplied | Reason::HumanEditWins)
                }
                RecordTodo::Leaves | RecordTodo::Clear | RecordTodo::Revert | RecordTodo::Rejected => false,
            });
            if is_new || !is_done {
                let key = key.clone();
                planned.push(PlannedEntry::Put {
                    key,
                    todo: RecordTodo::Write,
                    reason: Reason::OkDue,
                    is_new,
                });
            }
            Some(key)
        }
        Wanted::Unmade(_) | Wanted::Gone(_) => None,
    };
    for entry in entries.iter().filter(|entry| Some(&entry.key) != key_wanted) {
        let key = entry.key.clone();
        let (todo, reason) = match wanted {
            Wanted::Unmade(reason) => (RecordTodo::Nothing, reason),
            Wanted::Gone(reason) if gone == Gone::Leave => (RecordTodo::Nothing, reason),
            Wanted::Record(..) if gone == Gone::Leave => (RecordTodo::Nothing, Reason::SegmentLeft),
            Wanted::Gone(reason) => (RecordTodo::Leaves, reason),
            // Another record holds it now. A key that is made in another way moves all of them at once.
            Wanted::Record(..) => (RecordTodo::Leaves, Reason::SegmentLeft),
        };
        if entry.has == Has::No {
            planned.push(PlannedEntry::Forget { key });
        } else if (entry.todo, entry.reason) != (todo, reason) && entry.todo != RecordTodo::Clear {
            planned.push(PlannedEntry::Put { key, todo, reason, is_new: false });
        }
    }
    planned
}

/// What stands in a record.
#[derive(Debug, Clone, Copy)]
pub enum Present<'a> {
    /// The destination cannot say.
    Unknown,
    /// There is no such record.
    Nothing,
    /// This.
    Fields(&'a FieldValues),
}

/// What is to be written so that a record holds what is `wanted`. A wanted field without a value empties one that is ours, and is nothing
/// otherwise: what we never wrote is not ours to empty.
pub fn plan_record(
    wanted: &FieldValues,
    past: &RecordPast,
    present: Present<'_>,
    on_edit: OnEdit,
) -> RowPlan {
    let mut plan = RowPlan::default();
    for (name, value) in wanted {
        let own = past.get(name).filter(|own| !own.ours.is_empty());
        if value.is_null() && own.is_none() {
            continue;
        }
        match present {
            Present::Unknown => {}
            // A record that is gone is made again, with all that is to stand in it.
            Present::Nothing if value.is_null() => continue,
            Present::Nothing => {}
            Present::Fields(fields) => {
                let stands = fields.get(name).unwrap_or(&Value::Null);
                if is_same(stands, value) {
                    continue;
                }
                let may_change = match own {
                    Some(own) => own.is_ours(stands),
                    None => is_empty(stands),
                };
                if !may_change && on_edit == OnEdit::Keep && !model::fault::mutant("edit_overwritten") {
                    plan.kept.push(name.clone());
                    continue;
                }
            }
        }
        plan.write.insert(name.clone(), value.clone());
    }
    plan
}

/// What is to be written so that nothing of ours is left: what stood there before, or nothing where `empties`. What somebody else wrote since stays.
pub fn plan_undo(past: &RecordPast, present: Present<'_>, empties: bool) -> RowPlan {
    let mut plan = RowPlan::default();
    for (name, own) in past.iter().filter(|(_, own)| !own.ours.is_empty()) {
        let before = match (empties, &own.before) {
            (true, _) => Value::Null,
            (false, Some(before)) => before.clone(),
            (false, None) => continue,
        };
        match present {
            Present::Nothing => continue,
            Present::Unknown => {}
            Present::Fields(fields) => {
                let stands = fields.get(name).unwrap_or(&Value::Null);
                if is_same(stands, &before) {
                    continue;
                }
                if !own.is_ours(stands) {
                    plan.kept.push(name.clone());
                    continue;
                }
            }
        }
        plan.write.insert(name.clone(), before);
    }
    plan
}

/// Takes for ours what stands there as it is wanted, whoever wrote it: from then on it changes with the warehouse. Whether anything was.
pub fn adopt(past: &mut RecordPast, wanted: &FieldValues, present: Present<'_>) -> bool {
    let Present::Fields(fields) = present else { return false };
    let mut is_any = false;
    for (name, value) in wanted.iter().filter(|(_, value)| !is_empty(value)) {
        let stands = fields.get(name).unwrap_or(&Value::Null);
        if is_same(stands, value) && !past.get(name).is_some_and(|own| own.is_ours(stands)) {
            past.insert(name.clone(), FieldPast { before: Some(stands.clone()), ours: vec![stands.clone()] });
            is_any = true;
        }
    }
    is_any
}

/// Notes, before they are handed over, that these values may be ours from now on.
pub fn hand_over(past: &mut RecordPast, write: &FieldValues, present: Present<'_>) {
    for (name, value) in write {
        let own = past.entry(name.clone()).or_default();
        let stands = match present {
            Present::Unknown => None,
            Present::Nothing => Some(&Value::Null),
            Present::Fields(fields) => Some(fields.get(name).unwrap_or(&Value::Null)),
        };
        if let Some(stands) = stands.filter(|stands| !own.is_ours(stands)) {
            own.before = Some(stands.clone());
            own.ours.push(stands.clone());
        }
        if !own.is_ours(value) {
            own.ours.push(value.clone());
        }
    }
}

/// Notes that these values were taken; `told` is what the destination says stands there now, which may be written in its own way.
pub fn taken(past: &mut RecordPast, write: &FieldValues, told: &FieldValues) {
    for (name, value) in write {
        past.entry(name.clone()).or_default().ours = vec![told.get(name).unwrap_or(value).clone()];
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        _ => false,
    }
}

/// Whether two values say the same: CRMs write numbers, times and yes or no in their own way, mostly as texts.
pub fn is_same(one: &Value, other: &Value) -> bool {
    if is_empty(one) || is_empty(other) {
        return is_empty(one) && is_empty(other);
    }
    if one == other {
        return true;
    }
    let (one, other) = (text_of(one), text_of(other));
    let (one, other) = (one.trim(), other.trim());
    if one == other {
        return true;
    }
    if let (Ok(one), Ok(other)) = (one.parse::<f64>(), other.parse::<f64>()) {
        return one == other;
    }
    matches!((instant(one), instant(other)), (Some(one), Some(other)) if one == other)
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The instant of a time, or of the beginning of a date in UTC.
fn instant(text: &str) -> Option<Timestamp> {
    if !text.starts_with(|first: char| first.is_ascii_digit()) || text.len() < 10 {
        return None;
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let day: Date = text.parse().ok().filter(|_| text.len() == 10)?;
    Some(day.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
}
