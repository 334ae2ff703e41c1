//! Records: what a CRM keeps of people and companies, and how some of their fields are read and written.
//!
//! A record is found by a key, which is the value of one of its fields. What the daemon wants of a record is desired state: it reads what is
//! there, writes the fields that differ, and where an answer was lost it reads again. So nothing here needs to be asked only once, but the
//! making of a record whose key the provider does not hold unique: the daemon reads before it makes one again.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use model::Reason;
use serde_json::Value;

use crate::exchange::{Exchange, settled};
use crate::outcome::Outcome;

/// What a kind does with records.
#[derive(Debug, Clone, Copy)]
pub struct RecordKind {
    /// So many records at once, read and written.
    pub rows_max: usize,
    /// Whether what is there can be read. Where it cannot, nobody knows what a person has edited, and nothing can be taken back.
    pub reads: bool,
}

/// Which records, and what of them: `company` by `domain`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// What they are, in the provider's word or in a plain one that the connector's manual names.
    pub name: String,
    /// The field by which one is found.
    pub key: String,
    /// The fields that are read or written besides.
    pub fields: Vec<String>,
}

/// What a provider says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Described {
    /// It is there.
    Object {
        /// Whether no two records have the same key: such records are written by their key, which makes those that are not there.
        is_unique: bool,
        /// Of its fields, those that are not there or cannot be written, and why: for people.
        unusable: Vec<(String, &'static str)>,
    },
    /// It cannot be had now, or at all.
    Not(Outcome),
}

impl From<Outcome> for Described {
    fn from(outcome: Outcome) -> Self {
        Self::Not(outcome)
    }
}

/// A record as the provider has it. `Debug` shows its id only.
#[derive(Clone, PartialEq, Eq)]
pub struct Found {
    /// The provider's id.
    pub id: String,
    /// Its fields, those that were asked for; `Null`: empty.
    pub fields: BTreeMap<String, Value>,
}

impl std::fmt::Debug for Found {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Found({}, {} fields)", self.id, self.fields.len())
    }
}

/// What records are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Looked {
    /// Those of each key, in the order of the keys: none, one, or several where the key is not unique.
    Found(Vec<Vec<Found>>),
    /// It cannot be read now, or at all. A rejection: not so many at once; fewer are tried.
    Not(Outcome),
}

impl From<Outcome> for Looked {
    fn from(outcome: Outcome) -> Self {
        Self::Not(outcome)
    }
}

/// One record to be written.
#[derive(Clone, PartialEq, Eq)]
pub struct Row {
    /// The value of its key.
    pub key: String,
    /// The provider's id, where it was found; `None`: it is not there yet.
    pub id: Option<String>,
    /// What is to stand in it: a text, a number, a yes or no; `Null` empties a field. Dates are texts (`2026-03-02`), times in UTC (RFC 3339).
    pub fields: BTreeMap<String, Value>,
    /// The same for a repeat of the same write, and another one for each row: 16 letters of hexadecimal.
    pub trace: String,
}

impl std::fmt::Debug for Row {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Row({}, {} fields)", self.trace, self.fields.len())
    }
}

/// Records to be written in one request: all of them are there already, or none is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Of which object.
    pub object: Object,
    /// Whether its key is unique, as [`Described`] said.
    pub is_unique: bool,
    /// At least one, no more than the kind takes at once, each key once.
    pub rows: Arc<[Row]>,
    /// The same for a repeat of the same write: 16 letters of hexadecimal.
    pub key: String,
    /// When it is written.
    pub at: Timestamp,
}

/// What came of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrote {
    /// The same for all of them. Where all are rejected, one of them may be the cause: they are tried in halves.
    All(Outcome),
    /// One for each, in their order.
    Each(Vec<Written>),
}

impl From<Outcome> for Wrote {
    fn from(outcome: Outcome) -> Self {
        Self::All(outcome)
    }
}

/// What came of one row. `Debug` shows no values.
#[derive(Clone, PartialEq, Eq)]
pub struct Written {
    /// Whether it was taken; its receipt is the provider's id of the record.
    pub outcome: Outcome,
    /// What stands in its fields now, as far as the provider says: it may have written a number or a date in its own way.
    pub fields: BTreeMap<String, Value>,
}

impl std::fmt::Debug for Written {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Written({:?}, {} fields)", self.outcome, self.fields.len())
    }
}

impl From<Outcome> for Written {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, fields: BTreeMap::new() }
    }
}

/// What a connector does with records.
pub trait Records: Send + Sync {
    /// The conversation that learns whether an object and its fields are there. It changes nothing and arms nothing.
    fn describe(&self, object: &Object, at: Timestamp) -> Box<dyn Exchange<Described>>;
    /// The conversation that reads the records with these keys, each once and no more than the kind takes at once. It changes nothing and arms
    /// nothing. Only a kind that says that it reads is asked.
    fn read(
        &self,
        _object: &Object,
        _is_unique: bool,
        _keys: &[String],
        _at: Timestamp,
    ) -> Box<dyn Exchange<Looked>> {
        let detail = "this connector reads no records".to_owned();
        settled(Looked::Not(Outcome::Halt { reason: Reason::FailInternal, detail }))
    }
    /// The conversation that writes records. The same write gives the same conversation, every time.
    fn write(&self, write: &Write) -> Box<dyn Exchange<Wrote>>;
}

/// Records that were found, each with its key as the provider writes it, in the order of the keys that were asked for. Letters count the same
/// in upper and lower case, since CRMs keep addresses and domains in one of them.
pub fn in_order(keys: &[String], found: Vec<(String, Found)>) -> Vec<Vec<Found>> {
    let mut by_key: BTreeMap<String, Vec<Found>> = BTreeMap::new();
    for (key, record) in found {
        by_key.entry(same_key(&key)).or_default().push(record);
    }
    keys.iter().map(|key| by_key.get(&same_key(key)).cloned().unwrap_or_default()).collect()
}

/// A key as it is compared: two that become the same are of the same record.
pub fn same_key(key: &str) -> String {
    key.trim().to_lowercase()
}
