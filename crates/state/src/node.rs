//! Nodes: the processes that deliver on one state, and of which one decides.
//!
//! A node is a row, and something that ends with its process however it ends: in SQLite the lock of a file, so that there is one node
//! at a time; in Postgres an advisory lock of a session. Numbers are given in the order of commits and never again, and whoever has the
//! lowest decides. A node whose lock is free has died; one that has not been seen for a lease has stalled, or lost its way to the
//! database. Both are buried: its row is deleted, and with it all its rights. One that was buried alive finds that out by its next claim,
//! page or heartbeat, and joins anew; what it had armed is in doubt meanwhile, and its late answers count.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::fault::mutant;
use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnection;
use tokio::sync::Mutex;

use crate::db::{Place, binds};
use crate::dialect::{BURY_LOCK, DEAD, NODE_LOCK, NODE_SEEN, Sql, page_locked};
use crate::{State, StateError, Tx};

/// A node that was not seen for so long is buried.
pub fn lease() -> Duration {
    model::fault::hastened(Duration::from_secs(15))
}

/// The right to deliver on a state; given back when dropped.
#[derive(Debug)]
pub struct Node {
    number: i64,
    id: String,
    held: Held,
}

#[derive(Debug)]
enum Held {
    /// Nobody else can have this state.
    Nothing,
    /// Kept, and given back when dropped.
    File {
        _lock: FileLock,
    },
    Session(Box<Mutex<PgConnection>>),
}

impl Node {
    /// The one node of a state that nobody else can have: a scratch one.
    pub fn alone(name: &str) -> Self {
        Self { number: 0, id: name.to_owned(), held: Held::Nothing }
    }

    /// What the rows in its hands say; for people, too.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Tells the others that it lives.
    ///
    /// # Errors
    /// [`StateError::Buried`]: they believe it dead, or could. Claim nothing, finish what is handed over, and join anew.
    pub async fn beat(&self) -> Result<(), StateError> {
        let Held::Session(connection) = &self.held else { return Ok(()) };
        let mut connection = connection.lock().await;
        // By the session that has the lock: should it be broken, then so is the lock.
        let done = sqlx::query(NODE_SEEN).bind(self.number).execute(&mut *connection).await;
        match done {
            Ok(done) if done.rows_affected() > 0 => Ok(()),
            Ok(_) | Err(_) => Err(StateError::Buried),
        }
    }
}

/// The lock of a file, given back when dropped.
#[derive(Debug)]
pub(crate) struct FileLock(File);

impl Drop for FileLock {
    /// The lock of a file is its open file's, which a child process has too between its fork and its exec: closing ours would
    /// leave the lock to it for that while.
    fn drop(&mut self) {
        // What cannot be given back ends with the process.
        drop(self.0.unlock());
    }
}

impl State {
    /// Becomes a node.
    ///
    /// # Errors
    /// [`StateError::AlreadyRunning`]: this state is in SQLite, and another process (or another handle) has it.
    pub async fn join(&self, name: &str) -> Result<Node, StateError> {
        let failed = |source| StateError::Query { operation: "join the nodes", source };
        let mut held = match self.place() {
            Place::Sqlite(path) => Held::File { _lock: lock_file(&path)? },
            Place::Postgres(options) => {
                Held::Session(Box::new(Mutex::new(options.connect().await.map_err(failed)?)))
            }
        };
        let mut tx = self.write().await?;
        let sql = Sql::same("UPDATE counter SET value = value + 1 WHERE name = 'node' RETURNING value");
        let numbers: Vec<(i64,)> = tx.rows("number a node", &sql, vec![]).await?;
        let (number,) =
            numbers.into_iter().next().ok_or(StateError::Corrupt { what: "no counter of nodes" })?;
        if let Held::Session(connection) = &mut held {
            // Before others can see the row: one whose lock is free has died.
            sqlx::query(NODE_LOCK).bind(number).execute(connection.get_mut()).await.map_err(failed)?;
        }
        let id = format!("{name}#{number}");
        let now = self.lease_now(&mut tx).await?;
        let sql = Sql::same("INSERT INTO node (number, id, seen_at) VALUES ($1, $2, $3)");
        tx.execute("join the nodes", &sql, binds![number, id.as_str(), now]).await?;
        tx.commit().await?;
        Ok(Node { number, id, held })
    }
}

pub(crate) fn lock_file(state: &Path) -> Result<FileLock, StateError> {
    let mut path = state.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let failed = |operation, source| StateError::File { operation, path: path.clone(), source };
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|source| failed("open", source))?;
    match file.try_lock() {
        Ok(()) => Ok(FileLock(file)),
        Err(TryLockError::WouldBlock) => Err(StateError::AlreadyRunning),
        Err(TryLockError::Error(source)) => Err(failed("lock", source)),
    }
}

/// Nodes that are no more.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Buried {
    /// Their process or their session ended.
    pub died: Vec<String>,
    /// They were not seen for a lease.
    pub stalled: Vec<String>,
}

impl Buried {
    /// Whether there was nobody to bury.
    pub fn is_empty(&self) -> bool {
        self.died.is_empty() && self.stalled.is_empty()
    }
}

/// Buries the other nodes that are dead. Nobody else does so until the transaction ends.
pub async fn bury(tx: &mut Tx, node: &Node, lease_now: i64) -> Result<Buried, StateError> {
    if !tx.has_the_only_writer() {
        tx.rows::<(i32,)>("wait for those who bury", &BURY_LOCK, vec![]).await?;
    }
    let lease = i64::try_from(lease().as_millis()).unwrap_or(i64::MAX);
    let binds = binds![node.number, lease_now.saturating_sub(lease)];
    let dead: Vec<(i64, String, bool)> = tx.rows("look for dead nodes", &DEAD, binds).await?;
    let mut buried = Buried::default();
    for (number, id, died) in dead {
        end(tx, number).await?;
        if died { buried.died.push(id) } else { buried.stalled.push(id) }
    }
    Ok(buried)
}

/// Ends a node that ends by itself: it has nothing in hand any more.
pub async fn leave(tx: &mut Tx, node: &Node) -> Result<(), StateError> {
    end(tx, node.number).await
}

async fn end(tx: &mut Tx, number: i64) -> Result<(), StateError> {
    let sql = Sql::same("DELETE FROM node WHERE number = $1");
    tx.execute("end a node", &sql, binds![number]).await?;
    Ok(())
}

/// Whether it is the one that decides, as of now.
pub async fn leads(tx: &mut Tx, node: &Node) -> Result<bool, StateError> {
    if tx.has_the_only_writer() {
        return Ok(true);
    }
    let sql = Sql::same("SELECT MIN(number) FROM node");
    let first: Vec<(Option<i64>,)> = tx.rows("look who decides", &sql, vec![]).await?;
    Ok(first == [(Some(node.number),)])
}

/// Refuses unless it is the one that decides, and stays so until the transaction ends: whoever would bury it waits for that.
///
/// # Errors
/// [`StateError::NotLeading`].
pub async fn hold_lead(tx: &mut Tx, node: &Node) -> Result<(), StateError> {
    if tx.has_the_only_writer() || mutant("lead_unchecked") {
        return Ok(());
    }
    const FIRST: Sql =
        page_locked!("number", "SELECT number FROM node ORDER BY number LIMIT 1", "FOR KEY SHARE");
    let first: Vec<(i64,)> = tx.page("hold the lead", &FIRST, vec![]).await?;
    if first == [(node.number,)] { Ok(()) } else { Err(StateError::NotLeading) }
}

/// Refuses unless it is among the living, and stays so until the transaction ends.
///
/// # Errors
/// [`StateError::Buried`].
pub(crate) async fn hold_life(tx: &mut Tx, node: &Node) -> Result<(), StateError> {
    if tx.has_the_only_writer() || matches!(node.held, Held::Nothing) {
        return Ok(());
    }
    const LIVES: Sql = page_locked!("number", "SELECT number FROM node WHERE number = $1", "FOR KEY SHARE");
    let found: Vec<(i64,)> = tx.page("look whether we live", &LIVES, binds![node.number]).await?;
    if found.is_empty() { Err(StateError::Buried) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_given_back_is_free_whoever_still_has_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state.db");
        let lock = lock_file(&state).unwrap();
        assert!(matches!(lock_file(&state), Err(StateError::AlreadyRunning)));
        let of_a_child = lock.0.try_clone().unwrap();
        drop(lock);
        lock_file(&state).unwrap();
        drop(of_a_child);
    }
}
