//! Syncs: when each last compared its audience with the people, and what it came to.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::{Reason, Refusal, SyncName};

use crate::db::binds;
use crate::dialect::Sql;
use crate::row;
use crate::{StateError, Tx};

/// The last time that a sync compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncRun {
    /// Of which sync.
    pub sync: SyncName,
    /// Hash of what decided.
    pub definition: String,
    /// When.
    pub as_of: Timestamp,
    /// So many people are to be in.
    pub wanted: u64,
    /// So many are not, of those who would be, and why.
    pub left_out: BTreeMap<Reason, u64>,
    /// Why those who leave are not removed, if they are not.
    pub held: Option<Refusal>,
}

type RunRow = (String, i64, Option<i64>, i64, String, Option<String>, Option<String>);

/// The last run of a sync, and the due time that was last dealt with.
pub async fn last_run(
    tx: &mut Tx,
    sync: &SyncName,
) -> Result<Option<(SyncRun, Option<Timestamp>)>, StateError> {
    let sql = Sql::same(
        "SELECT definition, as_of_ms, last_due_ms, wanted, left_out, held_reason, held_saw FROM sync WHERE name = $1",
    );
    let rows: Vec<RunRow> = tx.rows("read a sync", &sql, binds![sync.as_str()]).await?;
    let Some((definition, as_of, last_due, wanted, left_out, reason, saw)) = rows.into_iter().next() else {
        return Ok(None);
    };
    let by_code: BTreeMap<String, u64> =
        serde_json::from_str(&left_out).map_err(|_| StateError::Corrupt { what: "a sync" })?;
    let left_out = by_code
        .into_iter()
        .map(|(code, count)| Ok((row::reason(&code)?, count)))
        .collect::<Result<_, StateError>>()?;
    let held = match reason {
        Some(code) => Some(Refusal { reason: row::reason(&code)?, saw: saw.unwrap_or_default() }),
        None => None,
    };
    let run = SyncRun {
        sync: sync.clone(),
        definition,
        as_of: row::time(as_of)?,
        wanted: row::count(wanted),
        left_out,
        held,
    };
    Ok(Some((run, row::maybe_time(last_due)?)))
}

/// Keeps the last run of a sync; it was due by then.
pub async fn keep_run(tx: &mut Tx, run: &SyncRun) -> Result<(), StateError> {
    let left_out: BTreeMap<&str, u64> =
        run.left_out.iter().map(|(reason, count)| (reason.as_str(), *count)).collect();
    let left_out = serde_json::to_string(&left_out).map_err(|_| StateError::Corrupt { what: "a sync" })?;
    let sql = Sql::same(
        "INSERT INTO sync (name, definition, as_of_ms, last_due_ms, wanted, left_out, held_reason, held_saw)
        VALUES ($1, $2, $3, $3, $4, $5, $6, $7)
        ON CONFLICT (name) DO UPDATE SET definition = excluded.definition, as_of_ms = excluded.as_of_ms,
            last_due_ms = excluded.last_due_ms, wanted = excluded.wanted, left_out = excluded.left_out,
            held_reason = excluded.held_reason, held_saw = excluded.held_saw",
    );
    let binds = binds![
        run.sync.as_str(),
        run.definition.as_str(),
        row::ms(run.as_of),
        i64::try_from(run.wanted).unwrap_or(i64::MAX),
        left_out,
        run.held.as_ref().map(|held| held.reason.as_str().to_owned()),
        run.held.as_ref().map(|held| held.saw.clone()),
    ];
    tx.execute("keep a sync's run", &sql, binds).await?;
    Ok(())
}

/// Makes a sync due at once.
pub async fn make_due(tx: &mut Tx, sync: &SyncName) -> Result<(), StateError> {
    let sql = Sql::same("UPDATE sync SET last_due_ms = NULL WHERE name = $1");
    tx.execute("make a sync due", &sql, binds![sync.as_str()]).await?;
    Ok(())
}
