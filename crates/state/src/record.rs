//! Records at destinations: what each sync wrote into them, as far as it was heard, and what is to be done.
//!
//! An entry is here before its destination is asked. What was written, and what stood there before, is noted in the transaction before it is
//! handed over, so that whatever gets lost afterwards, it is known what may stand there by our doing.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::fault::mutant;
use model::id::IdentityHash;
use model::sync::{Has, RecordEntry, RecordOf, RecordTodo, RecordsAt};
use model::{DestinationName, ProfileNumber, Reason, SyncName};

use crate::db::binds;
use crate::dialect::{Rows, Sql, each, page};
use crate::row;
use crate::{StateError, Tx};

/// What a sync keeps at one place, and how trying goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSet {
    /// Its number here.
    pub number: u32,
    /// Whose.
    pub sync: SyncName,
    /// Which records.
    pub at: RecordsAt,
    /// Nothing is tried before.
    pub due_at: Timestamp,
    /// Attempts that failed in a row.
    pub failures: u32,
    /// Since when all of it is undone, or being undone.
    pub reverted_at: Option<Timestamp>,
}

/// An entry, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordKey {
    /// Whose record.
    pub of: RecordOf,
    /// By which key.
    pub key: IdentityHash,
}

/// What is to be done about an entry; one that is not there is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// Which.
    pub key: RecordKey,
    /// What is to stand in it: its hash, and itself, sealed; `None`: what was to stand in it before.
    pub content: Option<(String, Vec<u8>)>,
    /// What.
    pub todo: RecordTodo,
    /// Why.
    pub reason: Reason,
}

/// An entry that something is to be done about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// Which.
    pub key: RecordKey,
    /// The hash of what is to stand in it.
    pub digest: String,
    /// What is to stand in it, sealed.
    pub sealed: Vec<u8>,
    /// What we wrote, sealed; empty: nothing yet.
    pub past: Vec<u8>,
    /// The provider's id.
    pub remote: Option<String>,
    /// Whether the destination has what was written last.
    pub has: Has,
    /// Since when it is to be done.
    pub since: Timestamp,
}

/// What came of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Which.
    pub key: RecordKey,
    /// What was to stand in it when it was asked, by its hash.
    pub digest: String,
    /// What we wrote, sealed; `None`: as it was noted before.
    pub past: Option<Vec<u8>>,
    /// The provider's id, if it said.
    pub remote: Option<String>,
    /// Whether the destination has it.
    pub has: Has,
    /// So many fields somebody else wrote.
    pub kept: u64,
    /// What is to be done now.
    pub todo: RecordTodo,
    /// Why.
    pub reason: Reason,
}

/// How many entries are in which way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordCounts {
    by_way: BTreeMap<(RecordTodo, Has), u64>,
    /// Records in which somebody else wrote a field.
    pub edited: u64,
}

impl RecordCounts {
    /// Those with this to do.
    pub fn todo(&self, todo: RecordTodo) -> u64 {
        self.by_way.iter().filter(|((known, _), _)| *known == todo).map(|(_, count)| count).sum()
    }

    /// Those of which the destination says so.
    pub fn has(&self, has: Has) -> u64 {
        self.by_way.iter().filter(|((_, known), _)| *known == has).map(|(_, count)| count).sum()
    }
}

type SetRow = (i64, String, String, String, String, i64, i64, Option<i64>);

/// All that syncs ever kept.
pub async fn all(tx: &mut Tx) -> Result<Vec<RecordSet>, StateError> {
    let sql = Sql::same(
        "SELECT number, sync, destination, object, key_field, due_at_ms, failures, reverted_at_ms FROM record_set ORDER BY number",
    );
    let rows: Vec<SetRow> = tx.rows("read sets of records", &sql, vec![]).await?;
    rows.into_iter()
        .map(|(number, sync, destination, object, key, due_at, failures, reverted_at)| {
            Ok(RecordSet {
                number: u32::try_from(number)
                    .map_err(|_| StateError::Corrupt { what: "a set of records" })?,
                sync: SyncName::known(sync),
                at: RecordsAt { destination: DestinationName::known(destination), object, key },
                due_at: row::time(due_at)?,
                failures: row::small(failures),
                reverted_at: row::maybe_time(reverted_at)?,
            })
        })
        .collect()
}

/// What a sync keeps at this place, if it ever ran.
pub async fn find(tx: &mut Tx, sync: &SyncName, at: &RecordsAt) -> Result<Option<RecordSet>, StateError> {
    Ok(all(tx).await?.into_iter().find(|set| set.sync == *sync && set.at == *at))
}

/// The same, made where it is not there.
pub async fn find_or_make(
    tx: &mut Tx,
    sync: &SyncName,
    at: &RecordsAt,
    now: Timestamp,
) -> Result<RecordSet, StateError> {
    if let Some(found) = find(tx, sync, at).await? {
        return Ok(found);
    }
    let sql = Sql::same("UPDATE counter SET value = value + 1 WHERE name = 'record_set'");
    tx.execute("number a set of records", &sql, vec![]).await?;
    let sql = Sql::same(
        "INSERT INTO record_set (number, sync, destination, object, key_field, due_at_ms, failures)
        SELECT value, $1, $2, $3, $4, $5, 0 FROM counter WHERE name = 'record_set'
        ON CONFLICT (sync, destination, object, key_field) DO NOTHING",
    );
    let binds =
        binds![sync.as_str(), at.destination.as_str(), at.object.as_str(), at.key.as_str(), row::ms(now)];
    tx.execute("keep a set of records", &sql, binds).await?;
    find(tx, sync, at).await?.ok_or(StateError::Corrupt { what: "a set of records" })
}

/// Says when a set may be tried again, and how often it failed in a row.
pub async fn try_at(tx: &mut Tx, set: u32, due_at: Timestamp, failures: u32) -> Result<(), StateError> {
    let sql = Sql::same("UPDATE record_set SET due_at_ms = $2, failures = $3 WHERE number = $1");
    let binds = binds![i64::from(set), row::ms(due_at), i64::from(failures)];
    tx.execute("pace a set of records", &sql, binds).await?;
    Ok(())
}

type EntryRow = (String, String, String, String, String, String);

/// The entries of these, in a set.
pub async fn entries(
    tx: &mut Tx,
    set: u32,
    of: &[RecordOf],
) -> Result<BTreeMap<RecordOf, Vec<RecordEntry>>, StateError> {
    const SQL: Sql = page!(
        "subject, key_hash, digest, todo, held, reason",
        "SELECT subject, key_hash, digest, todo, held, reason FROM",
        each,
        "CROSS JOIN record_entry
        WHERE record_entry.record_set = $2 AND record_entry.subject = each.value ->> 0"
    );
    let mut rows = Rows::new();
    for one in of {
        rows.row().text(&one.to_text());
    }
    let found: Vec<EntryRow> =
        tx.page("read entries of records", &SQL, binds![rows.finish(), i64::from(set)]).await?;
    let mut entries: BTreeMap<RecordOf, Vec<RecordEntry>> = BTreeMap::new();
    for (subject, key, digest, todo, has, reason) in found {
        entries.entry(of_subject(&subject)?).or_default().push(RecordEntry {
            key: IdentityHash::known(key),
            digest,
            todo: todo_of(&todo)?,
            has: row::word(Has::parse(&has), "an entry")?,
            reason: row::reason(&reason)?,
        });
    }
    Ok(entries)
}

fn of_subject(text: &str) -> Result<RecordOf, StateError> {
    row::word(RecordOf::parse(text), "whose a record is")
}

fn todo_of(text: &str) -> Result<RecordTodo, StateError> {
    row::word(RecordTodo::parse(text), "what is to be done about a record")
}

/// Everything that has an entry in a set, after one, in order.
pub async fn subjects(
    tx: &mut Tx,
    set: u32,
    after: Option<&RecordOf>,
    limit: u32,
) -> Result<Vec<RecordOf>, StateError> {
    const SQL: Sql = page!(
        "subject",
        "SELECT DISTINCT subject FROM record_entry WHERE record_set = $1 AND subject > $2 ORDER BY subject LIMIT $3"
    );
    let after = after.map(RecordOf::to_text).unwrap_or_default();
    let rows: Vec<(String,)> =
        tx.page("read whose records there are", &SQL, binds![i64::from(set), after, limit]).await?;
    let mut all = rows.into_iter().map(|(subject,)| of_subject(&subject)).collect::<Result<Vec<_>, _>>()?;
    all.sort_by_key(RecordOf::to_text);
    Ok(all)
}

/// Says what is to be done about entries, at most 1,000 at a time; whether the destination has them stays as it is.
pub async fn put(tx: &mut Tx, set: u32, puts: &[Put], now: Timestamp) -> Result<(), StateError> {
    if puts.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::new();
    for put in puts {
        let (digest, sealed) = match &put.content {
            Some((digest, sealed)) => (digest.as_str(), row::base64(sealed)),
            None => ("", String::new()),
        };
        rows.row()
            .text(&put.key.of.to_text())
            .text(put.key.key.as_str())
            .text(digest)
            .text(&sealed)
            .text(put.todo.as_str())
            .text(put.reason.as_str());
    }
    const SQL: Sql = each!(
        "INSERT INTO record_entry (record_set, subject, key_hash, digest, sealed, todo, reason, held, since_ms)
        SELECT $2, each.value ->> 0, each.value ->> 1, each.value ->> 2, each.value ->> 3, each.value ->> 4, each.value ->> 5, 'no', $3 FROM",
        "WHERE TRUE ON CONFLICT (record_set, subject, key_hash) DO UPDATE SET
            digest = CASE excluded.digest WHEN '' THEN record_entry.digest ELSE excluded.digest END,
            sealed = CASE excluded.sealed WHEN '' THEN record_entry.sealed ELSE excluded.sealed END,
            todo = excluded.todo, reason = excluded.reason, since_ms = excluded.since_ms"
    );
    tx.execute("keep entries of records", &SQL, binds![rows.finish(), i64::from(set), row::ms(now)]).await?;
    Ok(())
}

/// Forgets entries of which nothing was ever written.
pub async fn forget(tx: &mut Tx, set: u32, entries: &[RecordKey]) -> Result<(), StateError> {
    if entries.is_empty() {
        return Ok(());
    }
    const SQL: Sql = each!(
        "DELETE FROM record_entry WHERE held = 'no' AND record_set = $2 AND (subject, key_hash) IN (
            SELECT each.value ->> 0, each.value ->> 1 FROM",
        ")"
    );
    tx.execute("forget entries of records", &SQL, binds![keys(entries), i64::from(set)]).await?;
    Ok(())
}

fn keys(keys: &[RecordKey]) -> String {
    let mut rows = Rows::new();
    for key in keys {
        rows.row().text(&key.of.to_text()).text(key.key.as_str());
    }
    rows.finish()
}

/// Refuses what would write a record that another entry of the same set would write, too: nobody knows whose it is.
pub async fn refuse_rivals(tx: &mut Tx, set: u32) -> Result<u64, StateError> {
    if mutant("rivals_written") {
        return Ok(0);
    }
    let sql = Sql::same(
        "UPDATE record_entry SET todo = 'rejected', reason = 'crm.duplicate_record'
        WHERE record_set = $1 AND todo = 'write' AND EXISTS (
            SELECT 1 FROM record_entry AS other WHERE other.record_set = record_entry.record_set
                AND other.key_hash = record_entry.key_hash AND other.subject <> record_entry.subject
                AND other.todo NOT IN ('leaves', 'clear'))",
    );
    tx.execute("refuse records with the same key", &sql, binds![i64::from(set)]).await
}

/// Lets records be emptied, once it is known that not too many are.
pub async fn let_leave(tx: &mut Tx, set: u32) -> Result<u64, StateError> {
    let sql = Sql::same("UPDATE record_entry SET todo = 'clear' WHERE record_set = $1 AND todo = 'leaves'");
    tx.execute("let records be emptied", &sql, binds![i64::from(set)]).await
}

/// Takes what stands in records for unknown: all are read, and written where they differ.
pub async fn distrust(tx: &mut Tx, set: u32, now: Timestamp) -> Result<u64, StateError> {
    let sql = Sql::same("UPDATE record_set SET reverted_at_ms = NULL WHERE number = $1");
    tx.execute("take up a set of records again", &sql, binds![i64::from(set)]).await?;
    let sql = Sql::same(
        "UPDATE record_entry SET todo = 'write', since_ms = $2 WHERE record_set = $1 AND todo IN ('nothing', 'write', 'revert', 'rejected')
            AND reason NOT IN ('seg.left', 'id.subject_missing')",
    );
    tx.execute("distrust records", &sql, binds![i64::from(set), row::ms(now)]).await
}

/// Has all of it undone: what was never written is forgotten, and the set stands still from then on.
pub async fn revert(tx: &mut Tx, set: u32, now: Timestamp) -> Result<u64, StateError> {
    let sql = Sql::same(
        "UPDATE record_set SET reverted_at_ms = $2, due_at_ms = $2, failures = 0 WHERE number = $1",
    );
    tx.execute("undo a set of records", &sql, binds![i64::from(set), row::ms(now)]).await?;
    let sql = Sql::same("DELETE FROM record_entry WHERE record_set = $1 AND held = 'no'");
    tx.execute("forget what was never written", &sql, binds![i64::from(set)]).await?;
    let sql = Sql::same(
        "UPDATE record_entry SET todo = 'revert', reason = 'ok.due', since_ms = $2 WHERE record_set = $1",
    );
    tx.execute("undo records", &sql, binds![i64::from(set), row::ms(now)]).await
}

/// How many entries are in which way.
pub async fn counts(tx: &mut Tx, set: u32) -> Result<RecordCounts, StateError> {
    let sql = Sql::same(
        "SELECT todo, held, COUNT(*), SUM(CASE WHEN kept > 0 THEN 1 ELSE 0 END) FROM record_entry WHERE record_set = $1 GROUP BY todo, held",
    );
    let rows: Vec<(String, String, i64, i64)> =
        tx.rows("count entries of records", &sql, binds![i64::from(set)]).await?;
    let mut counts = RecordCounts::default();
    for (todo, has, count, edited) in rows {
        let way = (todo_of(&todo)?, row::word(Has::parse(&has), "an entry")?);
        counts.by_way.insert(way, row::count(count));
        counts.edited += row::count(edited);
    }
    Ok(counts)
}

/// How many records hold something of ours, and how many of them would be emptied.
pub async fn leaving(tx: &mut Tx, set: u32) -> Result<(u64, u64), StateError> {
    let counts = counts(tx, set).await?;
    let all = counts.has(Has::Yes) + counts.has(Has::Maybe);
    Ok((all, counts.todo(RecordTodo::Leaves)))
}

type WorkRow = (String, String, String, String, String, Option<String>, String, i64);

/// The next entries with this to do, in order.
pub async fn work(tx: &mut Tx, set: u32, todo: RecordTodo, limit: usize) -> Result<Vec<Work>, StateError> {
    const SQL: Sql = page!(
        "subject, key_hash, digest, sealed, past, remote, held, since_ms",
        "SELECT subject, key_hash, digest, sealed, past, remote, held, since_ms FROM record_entry
        WHERE record_set = $1 AND todo = $2 ORDER BY subject, key_hash LIMIT $3"
    );
    let binds = binds![i64::from(set), todo.as_str(), i64::try_from(limit).unwrap_or(1)];
    let mut rows: Vec<WorkRow> = tx.page("read what is to be done in records", &SQL, binds).await?;
    rows.sort_by(|one, other| (&one.0, &one.1).cmp(&(&other.0, &other.1)));
    rows.into_iter()
        .map(|(subject, key, digest, sealed, past, remote, has, since)| {
            Ok(Work {
                key: RecordKey { of: of_subject(&subject)?, key: IdentityHash::known(key) },
                digest,
                sealed: row::from_base64(&sealed, "a sealed record")?,
                past: row::from_base64(&past, "a sealed record")?,
                remote,
                has: row::word(Has::parse(&has), "an entry")?,
                since: row::time(since)?,
            })
        })
        .collect()
}

/// Notes what may stand in records from now on, in the transaction before it is handed over. What was forgotten or changed meanwhile is not among
/// those that are given back.
pub async fn hand_over(
    tx: &mut Tx,
    set: u32,
    todo: RecordTodo,
    entries: &[(RecordKey, String, Vec<u8>)],
) -> Result<Vec<RecordKey>, StateError> {
    let mut rows = Rows::new();
    for (key, digest, past) in entries {
        rows.row().text(&key.of.to_text()).text(key.key.as_str()).text(digest).text(&row::base64(past));
    }
    let rows = rows.finish();
    const SQL: Sql = each!(
        "UPDATE record_entry SET held = 'maybe', past = each.value ->> 3 FROM",
        "WHERE record_set = $2 AND subject = each.value ->> 0 AND key_hash = each.value ->> 1 AND digest = each.value ->> 2 AND todo = $3"
    );
    if !mutant("record_unnoted") {
        tx.execute("hand over records", &SQL, binds![rows.clone(), i64::from(set), todo.as_str()]).await?;
    }
    const STILL: Sql = page!(
        "subject, key_hash",
        "SELECT subject, key_hash FROM",
        each,
        "CROSS JOIN record_entry WHERE record_set = $2 AND subject = each.value ->> 0 AND key_hash = each.value ->> 1
            AND digest = each.value ->> 2 AND todo = $3"
    );
    let still: Vec<(String, String)> =
        tx.page("read records handed over", &STILL, binds![rows, i64::from(set), todo.as_str()]).await?;
    still
        .into_iter()
        .map(|(subject, key)| Ok(RecordKey { of: of_subject(&subject)?, key: IdentityHash::known(key) }))
        .collect()
}

/// Keeps what came of entries of which `asked` was to be done. Where something else is to be done by now, that stays to be done. What is
/// emptied or undone, and is to be nothing more, is forgotten.
pub async fn settle(
    tx: &mut Tx,
    set: u32,
    asked: RecordTodo,
    settled: &[Settled],
    now: Timestamp,
) -> Result<(), StateError> {
    let mut rows = Rows::new();
    for one in settled {
        rows.row()
            .text(&one.key.of.to_text())
            .text(one.key.key.as_str())
            .text(&one.digest)
            .maybe_text(one.past.as_ref().map(|past| row::base64(past)).as_deref())
            .maybe_text(one.remote.as_deref())
            .text(one.has.as_str())
            .integer(i64::try_from(one.kept).unwrap_or(i64::MAX))
            .text(one.todo.as_str())
            .text(one.reason.as_str());
    }
    const KEEP: Sql = each!(
        "UPDATE record_entry SET past = COALESCE(each.value ->> 3, past), remote = COALESCE(each.value ->> 4, remote), held = each.value ->> 5,
            kept = CAST(each.value ->> 6 AS BIGINT),
            reason = CASE WHEN todo = $3 AND digest = each.value ->> 2 THEN each.value ->> 8 ELSE reason END,
            since_ms = CASE WHEN todo = $3 AND digest = each.value ->> 2 AND each.value ->> 7 <> $3 THEN $4 ELSE since_ms END,
            todo = CASE WHEN todo = $3 AND digest = each.value ->> 2 THEN each.value ->> 7 ELSE todo END
        FROM",
        "WHERE record_set = $2 AND subject = each.value ->> 0 AND key_hash = each.value ->> 1"
    );
    let binds = binds![rows.finish(), i64::from(set), asked.as_str(), row::ms(now)];
    tx.execute("keep what came of records", &KEEP, binds).await?;
    if matches!(asked, RecordTodo::Clear | RecordTodo::Revert) {
        let gone: Vec<RecordKey> = settled.iter().map(|one| one.key.clone()).collect();
        const FORGET: Sql = each!(
            "DELETE FROM record_entry WHERE todo = 'nothing' AND held = 'no' AND record_set = $2 AND (subject, key_hash) IN (
                SELECT each.value ->> 0, each.value ->> 1 FROM",
            ")"
        );
        tx.execute("forget records that are undone", &FORGET, binds![keys(&gone), i64::from(set)]).await?;
    }
    Ok(())
}

/// An entry, as people look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Whose.
    pub key: RecordKey,
    /// Of which sync.
    pub sync: SyncName,
    /// Which records.
    pub at: RecordsAt,
    /// The provider's id.
    pub remote: Option<String>,
    /// What is to be done.
    pub todo: RecordTodo,
    /// Whether the destination has it.
    pub has: Has,
    /// So many fields somebody else wrote.
    pub kept: u64,
    /// Why.
    pub reason: Reason,
    /// Since when.
    pub since: Timestamp,
    /// What is to stand in it, sealed.
    pub sealed: Vec<u8>,
}

type ListedRow = (
    String,
    String,
    String,
    String,
    String,
    String,
    Option<String>,
    String,
    String,
    i64,
    String,
    i64,
    String,
);

fn read_listed(rows: Vec<ListedRow>) -> Result<Vec<Listed>, StateError> {
    rows.into_iter()
        .map(
            |(
                subject,
                key,
                sync,
                destination,
                object,
                key_field,
                remote,
                todo,
                has,
                kept,
                reason,
                since,
                sealed,
            )| {
                Ok(Listed {
                    key: RecordKey { of: of_subject(&subject)?, key: IdentityHash::known(key) },
                    sync: SyncName::known(sync),
                    at: RecordsAt {
                        destination: DestinationName::known(destination),
                        object,
                        key: key_field,
                    },
                    remote,
                    todo: todo_of(&todo)?,
                    has: row::word(Has::parse(&has), "an entry")?,
                    kept: row::count(kept),
                    reason: row::reason(&reason)?,
                    since: row::time(since)?,
                    sealed: row::from_base64(&sealed, "a sealed record")?,
                })
            },
        )
        .collect()
}

/// A page of a set's entries, in order.
pub async fn listed(
    tx: &mut Tx,
    set: u32,
    after: Option<&RecordKey>,
    limit: u32,
) -> Result<Vec<Listed>, StateError> {
    const SQL: Sql = page!(
        "subject, key_hash, sync, destination, object, key_field, remote, todo, held, kept, reason, since_ms, sealed",
        "SELECT subject, key_hash, sync, destination, object, key_field, remote, todo, held, kept, reason, since_ms, sealed
        FROM record_entry JOIN record_set ON record_set.number = record_entry.record_set
        WHERE record_set = $1 AND (subject > $2 OR (subject = $2 AND key_hash > $3)) ORDER BY subject, key_hash LIMIT $4"
    );
    let (subject, key) = after.map(|key| (key.of.to_text(), key.key.as_str().to_owned())).unwrap_or_default();
    let mut rows: Vec<ListedRow> =
        tx.page("list records", &SQL, binds![i64::from(set), subject, key, limit]).await?;
    rows.sort_by(|one, other| (&one.0, &one.1).cmp(&(&other.0, &other.1)));
    read_listed(rows)
}

/// All records of a person or an account.
pub async fn of(tx: &mut Tx, of: &RecordOf) -> Result<Vec<Listed>, StateError> {
    const SQL: Sql = page!(
        "subject, key_hash, sync, destination, object, key_field, remote, todo, held, kept, reason, since_ms, sealed",
        "SELECT subject, key_hash, sync, destination, object, key_field, remote, todo, held, kept, reason, since_ms, sealed
        FROM record_entry JOIN record_set ON record_set.number = record_entry.record_set WHERE subject = $1 ORDER BY sync, key_hash"
    );
    let rows: Vec<ListedRow> = tx.page("read somebody's records", &SQL, binds![of.to_text()]).await?;
    read_listed(rows)
}

/// Forgets what was written into an erased person's records, in the transaction in which they are erased: what a destination holds is erased there.
pub(crate) async fn erase(tx: &mut Tx, number: ProfileNumber) -> Result<(), StateError> {
    if mutant("record_unerased") {
        return Ok(());
    }
    let sql = Sql::same("DELETE FROM record_entry WHERE subject = $1");
    tx.execute("forget an erased person's records", &sql, binds![RecordOf::Profile(number).to_text()])
        .await?;
    Ok(())
}
