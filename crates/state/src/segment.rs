//! Segments: runs, and the membership in force.
//!
//! A run is one row with the bitmaps of who came in and who left; every sixteenth good run also keeps all
//! members, so that any day's membership is read from one full bitmap and at most fifteen pairs of small
//! ones. A held run changes nothing but the history.

use jiff::{SignedDuration, Timestamp};
use model::{Reason, Refusal, SegmentName};
use roaring::RoaringBitmap;

use crate::db::binds;
use crate::dialect::Sql;
use crate::row;
use crate::{StateError, Tx};

/// Of so many good runs, one keeps all members.
const FULL_EVERY: i64 = 16;

/// One run of a segment.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentRun {
    /// Derived from segment, definition and time.
    pub id: String,
    /// Which segment.
    pub segment: SegmentName,
    /// Hash of what decides who is in it.
    pub definition: String,
    /// Of what time the answer is.
    pub as_of: Timestamp,
    /// Who is in it.
    pub members: RoaringBitmap,
    /// Who came in, against the membership in force.
    pub entered: RoaringBitmap,
    /// Who left, against the membership in force.
    pub left: RoaringBitmap,
    /// Rows the query gave.
    pub rows: u64,
    /// Rows of a person seen before.
    pub duplicates: u64,
    /// Rows without an id.
    pub missing_ids: u64,
    /// Why it does not count, if it does not.
    pub held: Option<Refusal>,
}

/// The membership in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Current {
    /// The run it comes from.
    pub run_id: String,
    /// Of that run.
    pub definition: String,
    /// Of that run.
    pub as_of: Timestamp,
    /// Who is in it.
    pub members: RoaringBitmap,
}

/// A run, without the people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSummary {
    /// Which run.
    pub id: String,
    /// Hash of what decides who is in it.
    pub definition: String,
    /// Of what time the answer is.
    pub as_of: Timestamp,
    /// How many are in it.
    pub members: u64,
    /// How many came in.
    pub entered: u64,
    /// How many left.
    pub left: u64,
    /// Rows the query gave.
    pub rows: u64,
    /// Rows of a person seen before.
    pub duplicates: u64,
    /// Rows without an id.
    pub missing_ids: u64,
    /// Why it does not count, if it does not.
    pub held: Option<Refusal>,
}

/// Keeps a run, and puts its membership in force unless it is held. `false`: it was kept before, and nothing
/// changed.
///
/// # Errors
/// [`StateError::Broken`] if members, entered and left of a good run do not agree with the membership in force.
pub async fn commit_run(tx: &mut Tx, run: &SegmentRun, now: Timestamp) -> Result<bool, StateError> {
    let segment = in_force(tx, &run.segment).await?;
    let good_n = run.held.is_none().then_some(segment.good_runs + 1);
    let full = good_n.is_some_and(|n| (n - 1) % FULL_EVERY == 0);
    let sql = Sql::same(
        "INSERT INTO segment_run (id, segment, definition, as_of_ms, recorded_at_ms, good_n, members, entered, leavers, rows_read,
            duplicates, missing_ids, held_reason, held_saw, entered_bits, leavers_bits, members_bits)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17) ON CONFLICT (id) DO NOTHING",
    );
    let binds = binds![
        run.id.as_str(),
        run.segment.as_str(),
        run.definition.as_str(),
        row::ms(run.as_of),
        row::ms(now),
        good_n,
        integer(run.members.len()),
        integer(run.entered.len()),
        integer(run.left.len()),
        integer(run.rows),
        integer(run.duplicates),
        integer(run.missing_ids),
        run.held.as_ref().map(|held| held.reason.as_str().to_owned()),
        run.held.as_ref().map(|held| held.saw.clone()),
        row::bits(&run.entered),
        row::bits(&run.left),
        full.then(|| row::bits(&run.members)),
    ];
    if tx.execute("keep a segment's run", &sql, binds).await? == 0 {
        return Ok(false);
    }
    if let Some(good_n) = good_n {
        if (&segment.members | &run.entered) - &run.left != run.members {
            return Err(StateError::Broken {
                what: "a segment's members are those before, and entered, less left",
            });
        }
        put_in_force(tx, run, good_n).await?;
    }
    Ok(true)
}

struct InForce {
    good_runs: i64,
    members: RoaringBitmap,
}

/// The segment's row, made if there is none.
async fn in_force(tx: &mut Tx, name: &SegmentName) -> Result<InForce, StateError> {
    let sql = Sql::same("INSERT INTO segment (name, good_runs) VALUES ($1, 0) ON CONFLICT (name) DO NOTHING");
    tx.execute("keep a segment", &sql, binds![name.as_str()]).await?;
    let sql = Sql {
        sqlite: "SELECT good_runs, members_bits FROM segment WHERE name = $1",
        postgres: "SELECT good_runs, members_bits FROM segment WHERE name = $1 FOR UPDATE",
    };
    let rows: Vec<(i64, Option<Vec<u8>>)> = tx.rows("read a segment", &sql, binds![name.as_str()]).await?;
    let (good_runs, bits) = rows.into_iter().next().unwrap_or((0, None));
    Ok(InForce { good_runs, members: bits.as_deref().map(row::bitmap).transpose()?.unwrap_or_default() })
}

async fn put_in_force(tx: &mut Tx, run: &SegmentRun, good_n: i64) -> Result<(), StateError> {
    let sql = Sql::same(
        "UPDATE segment SET run_id = $2, definition = $3, as_of_ms = $4, members_bits = $5, good_runs = $6 WHERE name = $1",
    );
    let binds = binds![
        run.segment.as_str(),
        run.id.as_str(),
        run.definition.as_str(),
        row::ms(run.as_of),
        row::bits(&run.members),
        good_n,
    ];
    tx.execute("put a membership in force", &sql, binds).await?;
    Ok(())
}

fn integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

type CurrentRow = (Option<String>, Option<String>, Option<i64>, Option<Vec<u8>>);

/// The membership in force; `None` before the first good run.
pub async fn current(tx: &mut Tx, name: &SegmentName) -> Result<Option<Current>, StateError> {
    let sql = Sql::same("SELECT run_id, definition, as_of_ms, members_bits FROM segment WHERE name = $1");
    let rows: Vec<CurrentRow> = tx.rows("read a segment", &sql, binds![name.as_str()]).await?;
    let Some((Some(run_id), Some(definition), Some(as_of), Some(bits))) = rows.into_iter().next() else {
        return Ok(None);
    };
    Ok(Some(Current { run_id, definition, as_of: row::time(as_of)?, members: row::bitmap(&bits)? }))
}

/// The last run, held or not.
pub async fn last_run(tx: &mut Tx, name: &SegmentName) -> Result<Option<RunSummary>, StateError> {
    Ok(history(tx, name, 1).await?.into_iter().next())
}

type SummaryRow = (String, String, i64, i64, i64, i64, i64, i64, i64, Option<String>, Option<String>);

/// The last runs, newest first.
pub async fn history(tx: &mut Tx, name: &SegmentName, limit: u32) -> Result<Vec<RunSummary>, StateError> {
    let sql = Sql::same(
        "SELECT id, definition, as_of_ms, members, entered, leavers, rows_read, duplicates, missing_ids, held_reason, held_saw
        FROM segment_run WHERE segment = $1 ORDER BY as_of_ms DESC, recorded_at_ms DESC, id LIMIT $2",
    );
    let rows: Vec<SummaryRow> = tx.rows("read a segment's runs", &sql, binds![name.as_str(), limit]).await?;
    rows.into_iter().map(summary).collect()
}

fn summary(read: SummaryRow) -> Result<RunSummary, StateError> {
    let (id, definition, as_of, members, entered, left, rows, duplicates, missing_ids, held_reason, held_saw) =
        read;
    let held = match held_reason {
        Some(code) => Some(Refusal {
            reason: row::word(Reason::parse(&code), "a reason")?,
            saw: held_saw.unwrap_or_default(),
        }),
        None => None,
    };
    Ok(RunSummary {
        id,
        definition,
        as_of: row::time(as_of)?,
        members: row::count(members),
        entered: row::count(entered),
        left: row::count(left),
        rows: row::count(rows),
        duplicates: row::count(duplicates),
        missing_ids: row::count(missing_ids),
        held,
    })
}

/// The last good run at a time, by its place among the good ones.
async fn good_at(tx: &mut Tx, name: &SegmentName, at: Timestamp) -> Result<Option<i64>, StateError> {
    let sql = Sql::same(
        "SELECT MAX(good_n) FROM segment_run WHERE segment = $1 AND good_n IS NOT NULL AND as_of_ms <= $2",
    );
    let rows: Vec<(Option<i64>,)> =
        tx.rows("read a segment's runs", &sql, binds![name.as_str(), row::ms(at)]).await?;
    Ok(rows.first().and_then(|(good_n,)| *good_n))
}

async fn members_after(tx: &mut Tx, name: &SegmentName, good_n: i64) -> Result<RoaringBitmap, StateError> {
    let sql = Sql::same(
        "SELECT good_n, members_bits FROM segment_run
        WHERE segment = $1 AND good_n <= $2 AND members_bits IS NOT NULL ORDER BY good_n DESC LIMIT 1",
    );
    let full: Vec<(i64, Vec<u8>)> = tx.rows("read a membership", &sql, binds![name.as_str(), good_n]).await?;
    let (full_n, bits) =
        full.into_iter().next().ok_or(StateError::Corrupt { what: "a segment's history" })?;
    let sql = Sql::same(
        "SELECT entered_bits, leavers_bits FROM segment_run WHERE segment = $1 AND good_n > $2 AND good_n <= $3 ORDER BY good_n",
    );
    let steps: Vec<(Vec<u8>, Vec<u8>)> =
        tx.rows("read a membership", &sql, binds![name.as_str(), full_n, good_n]).await?;
    let mut members = row::bitmap(&bits)?;
    for (entered, left) in steps {
        members |= row::bitmap(&entered)?;
        members -= row::bitmap(&left)?;
    }
    Ok(members)
}

/// Who was in it at a time, as the last good run before said; `None` before the first good run.
pub async fn members_at(
    tx: &mut Tx,
    name: &SegmentName,
    at: Timestamp,
) -> Result<Option<RoaringBitmap>, StateError> {
    match good_at(tx, name, at).await? {
        Some(good_n) => members_after(tx, name, good_n).await.map(Some),
        None => Ok(None),
    }
}

/// Who has been in it for so long, without a break that a run saw.
pub async fn members_for(
    tx: &mut Tx,
    name: &SegmentName,
    at_least: SignedDuration,
    now: Timestamp,
) -> Result<RoaringBitmap, StateError> {
    let since = now.checked_sub(at_least).unwrap_or(Timestamp::MIN);
    let Some(good_n) = good_at(tx, name, since).await? else { return Ok(RoaringBitmap::new()) };
    let mut members = members_after(tx, name, good_n).await?;
    let sql = Sql::same("SELECT leavers_bits FROM segment_run WHERE segment = $1 AND good_n > $2");
    let breaks: Vec<(Vec<u8>,)> = tx.rows("read a membership", &sql, binds![name.as_str(), good_n]).await?;
    for (left,) in breaks {
        members -= row::bitmap(&left)?;
    }
    Ok(members)
}

/// The due time that was last dealt with.
pub async fn last_due(tx: &mut Tx, name: &SegmentName) -> Result<Option<Timestamp>, StateError> {
    let sql = Sql::same("SELECT last_due_ms FROM segment WHERE name = $1");
    let rows: Vec<(Option<i64>,)> = tx.rows("read a segment", &sql, binds![name.as_str()]).await?;
    row::maybe_time(rows.first().and_then(|(due,)| *due))
}

/// Notes that a due time was dealt with.
pub async fn set_last_due(tx: &mut Tx, name: &SegmentName, due: Timestamp) -> Result<(), StateError> {
    let sql = Sql::same(
        "INSERT INTO segment (name, good_runs, last_due_ms) VALUES ($1, 0, $2)
        ON CONFLICT (name) DO UPDATE SET last_due_ms = excluded.last_due_ms",
    );
    tx.execute("note a segment's due time", &sql, binds![name.as_str(), row::ms(due)]).await?;
    Ok(())
}

/// The run that is in force of each segment, without the bitmap.
pub async fn runs_in_force(tx: &mut Tx) -> Result<Vec<(SegmentName, String)>, StateError> {
    let sql = Sql::same("SELECT name, run_id FROM segment WHERE run_id IS NOT NULL ORDER BY name");
    let rows: Vec<(String, String)> = tx.rows("read the runs in force", &sql, vec![]).await?;
    Ok(rows.into_iter().map(|(name, run_id)| (SegmentName::known(name), run_id)).collect())
}
