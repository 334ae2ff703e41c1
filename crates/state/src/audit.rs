//! The audit log: entries in the transaction of what they record, the tree right after.
//!
//! A transaction's entries are one row of `audit_batch`, one canonical JSON text a line; each line is a leaf.
//! Nothing is numbered or chained there, so that writers do not wait for each other. [`seal`] takes batches
//! into the tree of RFC 6962, keeps the hash of each leaf and the root after each batch, and signs a C2SP
//! checkpoint; [`verify`] goes through all of it again. All three tables refuse update and delete.
//!
//! Deliberately absent: personal data (entries name people by number), inclusion proofs, and publishing of
//! checkpoints. Who can write to the database can still add entries before they are sealed, and cut off the
//! end of the log together with its checkpoints.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::Value;

use crate::db::binds;
use crate::dialect::{Sql, write_json_text};
use crate::row;
use crate::{StateError, Tx};

mod seal;
mod verify;

pub use seal::{Sealed, seal};
pub use verify::{Fault, Verified, verify};

/// What happened, for good. No personal data: people are numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// What kind of thing: `decision`, `attempt`, `consent`.
    pub kind: &'static str,
    /// When, in campaign time.
    pub at: Timestamp,
    /// An object.
    pub body: Value,
}

impl Entry {
    /// The entry as its leaf has it: `{"at":…,"body":…,"kind":…}`, with sorted keys and no white space, as
    /// RFC 8785 says (but for numbers that are not whole, which entries do not need).
    fn write(&self, out: &mut String) {
        out.push_str("{\"at\":\"");
        write!(out, "{}", self.at).ok();
        out.push_str("\",\"body\":");
        write_canonical(out, &self.body);
        out.push_str(",\"kind\":");
        write_json_text(out, self.kind);
        out.push('}');
    }
}

fn write_canonical(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Value::Number(number) => {
            write!(out, "{number}").ok();
        }
        Value::String(text) => write_json_text(out, text),
        Value::Array(values) => {
            out.push('[');
            for (place, value) in values.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                write_canonical(out, value);
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_unstable_by(|one, other| one.encode_utf16().cmp(other.encode_utf16()));
            out.push('{');
            for (place, key) in keys.into_iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                write_json_text(out, key);
                out.push(':');
                write_canonical(out, map.get(key).unwrap_or(&Value::Null));
            }
            out.push('}');
        }
    }
}

/// An entry read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptEntry {
    /// Its batch.
    pub batch: i64,
    /// Its place in the batch, from 0.
    pub line: u32,
    /// Its index in the tree; `None`: not sealed yet.
    pub index: Option<u64>,
    /// The entry, as its leaf has it.
    pub json: String,
}

/// Keeps entries, in the transaction of what they record: no audit, no change.
pub fn append(tx: &mut Tx, entries: &[Entry]) {
    if entries.is_empty() {
        return;
    }
    let mut payload = String::with_capacity(entries.len() * 256);
    for (place, entry) in entries.iter().enumerate() {
        if place > 0 {
            payload.push('\n');
        }
        entry.write(&mut payload);
    }
    let sql = Sql::same("INSERT INTO audit_batch (payload) VALUES ($1)");
    tx.later("keep audit entries", &sql, binds![payload]);
}

/// Entries in the order of their batches, from the batch after one: whole batches, until there are `limit`
/// entries.
pub async fn entries(tx: &mut Tx, after_batch: i64, limit: u32) -> Result<Vec<KeptEntry>, StateError> {
    let sql = Sql::same(
        "SELECT audit_batch.number, audit_batch.payload, audit_seal.first_index FROM audit_batch
        LEFT JOIN audit_seal ON audit_seal.batch = audit_batch.number
        WHERE audit_batch.number > $1 ORDER BY audit_batch.number LIMIT 1",
    );
    let mut kept = Vec::new();
    let mut after = after_batch;
    while kept.len() < usize::try_from(limit).unwrap_or(usize::MAX) {
        let batches: Vec<(i64, String, Option<i64>)> =
            tx.rows("read audit entries", &sql, binds![after]).await?;
        let Some((batch, payload, first)) = batches.into_iter().next() else { break };
        after = batch;
        kept.extend((0..).zip(payload.split('\n')).map(|(line, json)| KeptEntry {
            batch,
            line,
            index: first.map(|first| row::count(first) + u64::from(line)),
            json: json.to_owned(),
        }));
    }
    Ok(kept)
}

/// The last signed checkpoint, as a C2SP signed note; `None` before the first sealing.
pub async fn checkpoint(tx: &mut Tx) -> Result<Option<String>, StateError> {
    let sql = Sql::same("SELECT note FROM audit_checkpoint ORDER BY size DESC LIMIT 1");
    let notes: Vec<(String,)> = tx.rows("read the last checkpoint", &sql, vec![]).await?;
    Ok(notes.into_iter().next().map(|(note,)| note))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_written_in_one_way_only() {
        let body =
            serde_json::from_str(r#" {"b": [1, null, true], "a": "é\"\u0001\n", "c": {"z": -2, "y": {}}} "#)
                .unwrap();
        let entry = Entry { kind: "decision", at: Timestamp::from_millisecond(1_500).unwrap(), body };
        let mut written = String::new();
        entry.write(&mut written);
        assert_eq!(
            written,
            r#"{"at":"1970-01-01T00:00:01.5Z","body":{"a":"é\"\u0001\n","b":[1,null,true],"c":{"y":{},"z":-2}},"kind":"decision"}"#
        );
    }
}
