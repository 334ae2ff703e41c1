//! The run lock: one process at a time decides and delivers. A lock of the file system beside an SQLite file,
//! a session's advisory lock in Postgres; both end with the process, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::error::StateError;

/// Any number that nobody else uses in this database: the letters `drumbeat`.
const ADVISORY_KEY: i64 = i64::from_be_bytes(*b"drumbeat");

/// The right to be the only one that decides and delivers; given back when dropped.
#[derive(Debug)]
pub struct RunLock {
    held: Held,
}

#[derive(Debug)]
enum Held {
    File(File),
    Session { connection: PgConnection },
}

impl RunLock {
    pub(crate) fn file(state: &Path) -> Result<Self, StateError> {
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
            Ok(()) => Ok(Self { held: Held::File(file) }),
            Err(TryLockError::WouldBlock) => Err(StateError::AlreadyRunning),
            Err(TryLockError::Error(source)) => Err(failed("lock", source)),
        }
    }

    pub(crate) async fn postgres(options: &PgConnectOptions) -> Result<Self, StateError> {
        let failed = |source| StateError::Query { operation: "take the run lock", source };
        let mut connection = options.connect().await.map_err(failed)?;
        let taken: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
            .bind(ADVISORY_KEY)
            .fetch_one(&mut connection)
            .await
            .map_err(failed)?;
        if taken { Ok(Self { held: Held::Session { connection } }) } else { Err(StateError::AlreadyRunning) }
    }

    /// Whether it is still held: a lock in Postgres is lost with its connection, and then another process may
    /// have it.
    ///
    /// # Errors
    /// [`StateError::RunLockLost`]: stop at once.
    pub async fn check(&mut self) -> Result<(), StateError> {
        match &mut self.held {
            Held::File(_) => Ok(()),
            Held::Session { connection } => connection.ping().await.map_err(|_| StateError::RunLockLost),
        }
    }
}

impl Drop for RunLock {
    /// The lock of a file is its open file's, which a child process has too between its fork and its exec: closing ours would
    /// leave the lock to it for that while.
    fn drop(&mut self) {
        if let Held::File(file) = &self.held {
            // What cannot be given back ends with the process.
            drop(file.unlock());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_given_back_is_free_whoever_still_has_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state.db");
        let lock = RunLock::file(&state).unwrap();
        assert!(matches!(RunLock::file(&state), Err(StateError::AlreadyRunning)));
        let Held::File(file) = &lock.held else { panic!("a file's lock") };
        let of_a_child = file.try_clone().unwrap();
        drop(lock);
        RunLock::file(&state).unwrap();
        drop(of_a_child);
    }
}
