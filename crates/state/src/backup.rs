//! Copies of an SQLite state: made with a manifest beside them, checked against it, and put back. On Postgres its own tools do this.
//!
//! A copy that is put back lacks what happened since. So everything is halted in it, and says why, until a person lifts that.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use model::Secret;
use model::fault::mutant;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

use crate::audit::Entry;
use crate::control::{Halt, HaltScope};
use crate::db::{Access, Place, State, make_private, place, sqlite_options};
use crate::node::lock_file;
use crate::{StateError, Tx, control, outbox};
use model::id::hex;

/// What is known of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// When it was made.
    pub made_at: Timestamp,
    /// How large it is.
    pub bytes: u64,
    /// SHA-256 of it, in hex.
    pub sha256: String,
    /// Rows of its most important tables.
    pub rows: BTreeMap<String, u64>,
}

/// The manifest's file beside a copy.
pub fn manifest_path(copy: &Path) -> PathBuf {
    let mut name = copy.as_os_str().to_owned();
    name.push(".manifest.json");
    PathBuf::from(name)
}

impl Manifest {
    /// As it is written. It has a sum of its own: a copy that is taken to be of another time would be put back with the wrong word.
    fn text(&self) -> String {
        let mut value = json!({
            "format": 2, "made_at_ms": self.made_at.as_millisecond(), "bytes": self.bytes, "sha256": self.sha256, "rows": self.rows,
        });
        value["check"] = json!(hex(&Sha256::digest(value.to_string())));
        format!("{value:#}\n")
    }

    /// Reads one. Of the first format, which had no sum, it must be all that there was.
    fn parse(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let rows = value["rows"].as_object()?.iter();
        let manifest = Self {
            made_at: Timestamp::from_millisecond(value["made_at_ms"].as_i64()?).ok()?,
            bytes: value["bytes"].as_u64()?,
            sha256: value["sha256"].as_str()?.to_owned(),
            rows: rows.map(|(table, count)| Some((table.clone(), count.as_u64()?))).collect::<Option<_>>()?,
        };
        let is_whole = match value["format"].as_u64()? {
            1 => value.as_object()?.len() == 5,
            2 => manifest.text() == text,
            _ => false,
        };
        is_whole.then_some(manifest)
    }
}

impl State {
    /// A copy as of now, into a file that must not be there yet, and its manifest beside it. SQLite only; the daemon may run.
    pub async fn backup(&self, to: &Path, now: Timestamp) -> Result<Manifest, StateError> {
        self.copy(to).await?;
        let (bytes, sha256) = digest(to)?;
        let manifest = Manifest { made_at: now, bytes, sha256, rows: look(to).await? };
        let beside = manifest_path(to);
        std::fs::write(&beside, manifest.text()).map_err(|source| file("write", &beside, source))?;
        for path in [to, &beside] {
            std::fs::File::open(path)
                .and_then(|written| written.sync_all())
                .map_err(|source| file("write", path, source))?;
        }
        Ok(manifest)
    }

    /// The same, without a manifest.
    pub(crate) async fn copy(&self, to: &Path) -> Result<(), StateError> {
        let Some(path) = self.path() else { return Err(StateError::BackupPostgres) };
        if std::fs::metadata(to).is_ok_and(|there| there.len() > 0) {
            return Err(file("make", to, std::io::ErrorKind::AlreadyExists.into()));
        }
        // An empty file is taken as it is, and so the copy is as private as the state.
        make_private(to)?;
        copy_sqlite(path, to).await
    }
}

/// A copy as of now, into a file that is not there yet or empty.
pub(crate) async fn copy_sqlite(original: &Path, to: &Path) -> Result<(), StateError> {
    let failed = |source| StateError::Query { operation: "copy the state", source };
    // A connection of its own: a reader may not even write elsewhere, and the writer is not to wait.
    let mut connection = sqlite_options(original).read_only(true).connect().await.map_err(failed)?;
    sqlx::query("VACUUM INTO $1")
        .bind(to.to_string_lossy().into_owned())
        .execute(&mut connection)
        .await
        .map_err(failed)?;
    connection.close().await.map_err(failed)
}

/// Checks a copy against its manifest, and that the database in it is whole. A copy of it is opened and brought up to date: returned, to be
/// looked at further, and gone when it is dropped.
///
/// # Errors
/// [`StateError::BadBackup`] says what is wrong.
pub async fn verify(copy: &Path) -> Result<(Manifest, Checked), StateError> {
    let bad = |what: String| StateError::BadBackup { path: copy.to_owned(), what };
    let beside = manifest_path(copy);
    let read = std::fs::read(&beside).map_err(|source| file("read", &beside, source))?;
    let manifest = Manifest::parse(&String::from_utf8_lossy(&read))
        .ok_or_else(|| bad("its manifest cannot be read".to_owned()))?;
    let (bytes, sha256) = digest(copy)?;
    if bytes != manifest.bytes {
        return Err(bad(format!("it has {bytes} bytes, the manifest says {}", manifest.bytes)));
    }
    if sha256 != manifest.sha256 && !mutant("backup_trusted") {
        return Err(bad("its SHA-256 is not the manifest's: it was changed, or damaged".to_owned()));
    }
    let found = look(copy).await?;
    if found != manifest.rows {
        return Err(bad("its tables do not have the rows that the manifest says".to_owned()));
    }
    let folder = tempfile::tempdir().map_err(|source| file("make a folder for", copy, source))?;
    let opened = folder.path().join("state.db");
    std::fs::copy(copy, &opened).map_err(|source| file("copy", copy, source))?;
    let state = State::open(&Secret::new("sqlite://state.db"), folder.path(), Access::ReadWrite).await?;
    Ok((manifest, Checked { state, _folder: folder }))
}

/// A copy that was found whole.
#[derive(Debug)]
pub struct Checked {
    /// The state in it.
    pub state: State,
    _folder: tempfile::TempDir,
}

/// What putting a copy back came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Where the state is that was there before.
    pub aside: Option<PathBuf>,
    /// Messages that are due in it, and wait.
    pub due: u64,
}

/// Puts a copy, which [`verify`] found whole, in the place of the state. What is there is put aside, not deleted. Everything is halted in it.
///
/// # Errors
/// [`StateError::AlreadyRunning`]: a daemon has the state.
pub async fn restore(
    copy: &Path,
    manifest: &Manifest,
    url: &Secret,
    dir: &Path,
    now: Timestamp,
) -> Result<Restored, StateError> {
    let Place::Sqlite(path) = place(url, dir)? else { return Err(StateError::BackupPostgres) };
    let _lock = lock_file(&path)?;
    let fresh = beside(&path, "restoring");
    make_private(&fresh)?;
    std::fs::copy(copy, &fresh).map_err(|source| file("copy", copy, source))?;
    let due = halt(&fresh, manifest, now).await?;
    let aside = path.exists().then(|| beside(&path, &format!("before-{}", now.as_second())));
    if let Some(aside) = &aside {
        // The log of what is not in the file yet goes with it.
        for end in ["-wal", "-shm", ""] {
            let (from, to) = (with_end(&path, end), with_end(aside, end));
            if from.exists() {
                std::fs::rename(&from, &to).map_err(|source| file("put aside", &from, source))?;
            }
        }
    }
    for end in ["-wal", "-shm", ""] {
        let (from, to) = (with_end(&fresh, end), with_end(&path, end));
        if from.exists() {
            std::fs::rename(&from, &to).map_err(|source| file("put in place", &from, source))?;
        }
    }
    Ok(Restored { aside, due })
}

/// Halts everything in a copy that is about to be put back; how many messages are due in it.
async fn halt(fresh: &Path, manifest: &Manifest, now: Timestamp) -> Result<u64, StateError> {
    let folder = fresh.parent().unwrap_or(Path::new("."));
    let name = fresh.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let state = State::open(&Secret::new(format!("sqlite://{name}")), folder, Access::ReadWrite).await?;
    let mut tx: Tx = state.write().await?;
    let due = outbox::due_before(&mut tx, now).await?;
    let reason = format!(
        "restored from a backup of {}: what went out since is not known here and would go again, and opt-outs since are missing. `drumbeat \
         reconcile` puts in what the journal knows of that; then lift this",
        manifest.made_at
    );
    control::lift(&mut tx, &HaltScope::All).await?;
    let halt = Halt { scope: HaltScope::All, reason: reason.clone(), actor: "drumbeat".to_owned(), at: now };
    if !mutant("restore_unhalted") {
        control::halt(&mut tx, &halt).await?;
    }
    let body = json!({ "scope": "everything", "why": reason, "actor": "drumbeat", "backup_of": manifest.made_at.to_string(), "due": due });
    crate::audit::append(&mut tx, &[Entry { kind: "restore", at: now, body }]);
    tx.commit().await?;
    state.close().await;
    Ok(due)
}

fn beside(path: &Path, word: &str) -> PathBuf {
    with_end(path, &format!(".{word}"))
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

fn file(operation: &'static str, path: &Path, source: std::io::Error) -> StateError {
    StateError::File { operation, path: path.to_owned(), source }
}

/// Size and SHA-256 of a file.
fn digest(path: &Path) -> Result<(u64, String), StateError> {
    let failed = |source| file("read", path, source);
    let mut opened = std::fs::File::open(path).map_err(failed)?;
    let (mut hash, mut bytes, mut block) = (Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        let read = opened.read(&mut block).map_err(failed)?;
        if read == 0 {
            return Ok((bytes, hex(&hash.finalize())));
        }
        bytes += read as u64;
        hash.update(&block[..read]);
    }
}

/// Looks whether a database that nobody changes is whole, and counts what matters most in it.
async fn look(path: &Path) -> Result<BTreeMap<String, u64>, StateError> {
    let failed = |source| StateError::Query { operation: "check the copy", source };
    let options = sqlite_options(path).read_only(true).immutable(true);
    let mut connection: SqliteConnection = options.connect().await.map_err(failed)?;
    let whole: Vec<(String,)> =
        sqlx::query_as("PRAGMA integrity_check").fetch_all(&mut connection).await.map_err(failed)?;
    if whole.iter().any(|(line,)| line != "ok") {
        let what = "the database in it is damaged".to_owned();
        return Err(StateError::BadBackup { path: path.to_owned(), what });
    }
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT 'profile', COUNT(*) FROM profile UNION ALL SELECT 'enrollment', COUNT(*) FROM enrollment
        UNION ALL SELECT 'delivery', COUNT(*) FROM delivery UNION ALL SELECT 'consent_event', COUNT(*) FROM consent_event
        UNION ALL SELECT 'suppression', COUNT(*) FROM suppression UNION ALL SELECT 'audit_batch', COUNT(*) FROM audit_batch",
    )
    .fetch_all(&mut connection)
    .await
    .map_err(failed)?;
    connection.close().await.map_err(failed)?;
    Ok(rows.into_iter().map(|(table, count)| (table, u64::try_from(count).unwrap_or(0))).collect())
}
