//! Playbooks: which version is active, whom it has dealt with, and the run it works through.

use jiff::Timestamp;
use model::PlaybookName;
use roaring::RoaringBitmap;

use crate::ask::Question;
use crate::db::binds;
use crate::dialect::{Sql, page};
use crate::row;
use crate::{StateError, Tx};

/// Whether a playbook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It does.
    Active,
    /// A person stopped it, for now.
    Paused,
    /// It is over, or its file is gone.
    Archived,
}

impl Status {
    const ALL: &[(&str, Self)] =
        &[("active", Self::Active), ("paused", Self::Paused), ("archived", Self::Archived)];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, status)| *status == self).map_or("", |(word, _)| word)
    }

    /// The status with that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == word).map(|(_, status)| *status)
    }
}

/// What is kept of a playbook.
#[derive(Debug, Clone, PartialEq)]
pub struct PlaybookState {
    /// Which.
    pub name: PlaybookName,
    /// Whether it runs.
    pub status: Status,
    /// The version new enrollments get.
    pub version: String,
    /// Since when it is active.
    pub activated_at: Timestamp,
    /// Those it has dealt with.
    pub seen: RoaringBitmap,
    /// The last run it has worked through to the end.
    pub applied_run: Option<String>,
    /// The run it works through.
    pub applying: Option<Applying>,
}

/// A run that is being worked through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applying {
    /// Which run.
    pub run_id: String,
    /// The last number that is done; 0 at the start.
    pub after: u32,
}

type PlaybookRow = (String, String, String, i64, Vec<u8>, Option<String>, Option<String>, Option<i64>);

fn read(row: PlaybookRow) -> Result<PlaybookState, StateError> {
    let (name, status, version, activated_at, seen, applied_run, applying_run, applying_after) = row;
    Ok(PlaybookState {
        name: PlaybookName::known(name),
        status: row::word(Status::parse(&status), "a playbook's status")?,
        version,
        activated_at: row::time(activated_at)?,
        seen: row::bitmap(&seen)?,
        applied_run,
        applying: applying_run
            .map(|run_id| Applying { run_id, after: row::small(applying_after.unwrap_or(0)) }),
    })
}

/// What is kept of a playbook; `None` before it was first saved.
pub async fn load(tx: &mut Tx, name: &PlaybookName) -> Result<Option<PlaybookState>, StateError> {
    let sql = Sql::same(
        "SELECT name, status, version, activated_at_ms, seen_bits, applied_run, applying_run, applying_after FROM playbook WHERE name = $1",
    );
    let rows: Vec<PlaybookRow> = tx.rows("read a playbook", &sql, binds![name.as_str()]).await?;
    rows.into_iter().next().map(read).transpose()
}

/// Of all playbooks, by name.
pub async fn all(tx: &mut Tx) -> Result<Vec<PlaybookState>, StateError> {
    let sql = Sql::same(
        "SELECT name, status, version, activated_at_ms, seen_bits, applied_run, applying_run, applying_after FROM playbook ORDER BY name",
    );
    let rows: Vec<PlaybookRow> = tx.rows("read the playbooks", &sql, vec![]).await?;
    rows.into_iter().map(read).collect()
}

/// How far a playbook is, without the bitmap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// Which.
    pub name: PlaybookName,
    /// Whether it runs.
    pub status: Status,
    /// The last run it has worked through to the end.
    pub applied_run: Option<String>,
    /// Whether it is working through one.
    pub is_applying: bool,
}

/// How far all playbooks are.
pub async fn reached(tx: &mut Tx) -> Result<Vec<Reached>, StateError> {
    let sql = Sql::same("SELECT name, status, applied_run, applying_run FROM playbook ORDER BY name");
    let rows: Vec<(String, String, Option<String>, Option<String>)> =
        tx.rows("read how far playbooks are", &sql, vec![]).await?;
    rows.into_iter()
        .map(|(name, status, applied_run, applying_run)| {
            let status = row::word(Status::parse(&status), "a playbook's status")?;
            Ok(Reached {
                name: PlaybookName::known(name),
                status,
                applied_run,
                is_applying: applying_run.is_some(),
            })
        })
        .collect()
}

/// The playbooks that are paused.
pub fn paused() -> Question<Vec<PlaybookName>> {
    const SQL: Sql = page!("name", "SELECT name FROM playbook WHERE status = 'paused' ORDER BY name");
    Question::new("read paused playbooks", &SQL, vec![], |rows: Vec<(String,)>| {
        Ok(rows.into_iter().map(|(name,)| PlaybookName::known(name)).collect())
    })
}

/// Changes only whether it runs: a person's act, which a run under way must not undo. `false`: there is no
/// such playbook.
pub async fn set_status(tx: &mut Tx, name: &PlaybookName, status: Status) -> Result<bool, StateError> {
    let sql = Sql::same("UPDATE playbook SET status = $2 WHERE name = $1");
    Ok(tx.execute("change a playbook's status", &sql, binds![name.as_str(), status.as_str()]).await? == 1)
}

/// Keeps all of it. Of a playbook that is there already, all but its status, which is a person's to change.
pub async fn save(tx: &mut Tx, playbook: &PlaybookState) -> Result<(), StateError> {
    let sql = Sql::same(
        "INSERT INTO playbook (name, status, version, activated_at_ms, seen_bits, applying_run, applying_after, applied_run)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT (name) DO UPDATE SET version = excluded.version,
            activated_at_ms = excluded.activated_at_ms, seen_bits = excluded.seen_bits,
            applying_run = excluded.applying_run, applying_after = excluded.applying_after,
            applied_run = excluded.applied_run",
    );
    let binds = binds![
        playbook.name.as_str(),
        playbook.status.as_str(),
        playbook.version.as_str(),
        row::ms(playbook.activated_at),
        row::bits(&playbook.seen),
        playbook.applying.as_ref().map(|applying| applying.run_id.clone()),
        playbook.applying.as_ref().map(|applying| i64::from(applying.after)),
        playbook.applied_run.clone(),
    ];
    tx.execute("keep a playbook", &sql, binds).await?;
    Ok(())
}

/// Keeps only how far the applying run is: what each page writes, without the bitmap.
///
/// # Errors
/// [`StateError::Broken`] if the playbook is not working through that run, or is further already.
pub async fn advance(tx: &mut Tx, name: &PlaybookName, applying: &Applying) -> Result<(), StateError> {
    let sql = Sql::same(
        "UPDATE playbook SET applying_after = $3 WHERE name = $1 AND applying_run = $2 AND applying_after <= $3",
    );
    let binds = binds![name.as_str(), applying.run_id.as_str(), applying.after];
    if tx.execute("advance a playbook", &sql, binds).await? == 1 {
        Ok(())
    } else {
        Err(StateError::Broken { what: "a playbook works through one run, forwards" })
    }
}

/// Keeps what a version pins, once; a repeat changes nothing.
pub async fn save_version(
    tx: &mut Tx,
    playbook: &PlaybookName,
    version: &str,
    bundle: &str,
    now: Timestamp,
) -> Result<(), StateError> {
    let sql = Sql::same(
        "INSERT INTO playbook_version (playbook, version, bundle, saved_at_ms) VALUES ($1, $2, $3, $4)
        ON CONFLICT (playbook, version) DO NOTHING",
    );
    tx.execute("keep a version", &sql, binds![playbook.as_str(), version, bundle, row::ms(now)]).await?;
    Ok(())
}

/// The versions that were ever kept of a playbook.
pub async fn versions(tx: &mut Tx, playbook: &PlaybookName) -> Result<Vec<String>, StateError> {
    let sql = Sql::same("SELECT version FROM playbook_version WHERE playbook = $1 ORDER BY version");
    let rows: Vec<(String,)> = tx.rows("list versions", &sql, binds![playbook.as_str()]).await?;
    Ok(rows.into_iter().map(|(version,)| version).collect())
}

/// What a version pins.
pub async fn version(
    tx: &mut Tx,
    playbook: &PlaybookName,
    version: &str,
) -> Result<Option<String>, StateError> {
    let sql = Sql::same("SELECT bundle FROM playbook_version WHERE playbook = $1 AND version = $2");
    let rows: Vec<(String,)> = tx.rows("read a version", &sql, binds![playbook.as_str(), version]).await?;
    Ok(rows.into_iter().next().map(|(bundle,)| bundle))
}
