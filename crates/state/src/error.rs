//! What may go wrong with the state, told so that it can be acted upon. No text here holds a URL, an address
//! or a secret.

use std::path::PathBuf;

/// Why the state could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The URL is neither `sqlite://` nor `postgres://`.
    #[error("the state's URL must begin with `sqlite://` or `postgres://`")]
    Url,
    /// There is no state yet, and it was not to be made.
    #[error("there is no state at {} yet", .path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A folder or file beside the state could not be made or read.
    #[error("cannot {operation} {}", .path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The database could not be opened or reached.
    #[error("cannot open the state")]
    Open {
        /// Why not.
        source: sqlx::Error,
    },
    /// The SQLite library can lose a commit.
    #[error("SQLite {version} can lose a commit; 3.51.3 or later is needed")]
    SqliteTooOld {
        /// Of the library.
        version: String,
    },
    /// The schema is older than this binary.
    #[error("the state has schema {have}, this binary needs {want}: run `drumbeat migrate`")]
    SchemaBehind {
        /// Of the database.
        have: i64,
        /// Of the binary.
        want: i64,
    },
    /// The schema is newer than this binary.
    #[error("the state has schema {have}, this binary knows only {want}: use a newer drumbeat")]
    SchemaAhead {
        /// Of the database.
        have: i64,
        /// Of the binary.
        want: i64,
    },
    /// A migration failed; nothing of it was kept.
    #[error("cannot apply migration `{name}`")]
    Migrate {
        /// Which.
        name: &'static str,
        /// Why not.
        source: sqlx::Error,
    },
    /// The Postgres server is a standby.
    #[error("the state's Postgres server is a standby; the primary is needed")]
    Standby,
    /// Another process runs this state.
    #[error("another `run` has this state: stop it first, or wait until it has ended")]
    AlreadyRunning,
    /// The other nodes believe this one dead, or could: its session broke, or it was not seen for too long.
    #[error("the other nodes believe this one dead: its connection to Postgres broke, or it stood still")]
    Buried,
    /// Another server of Postgres has taken over, which may not have all that was committed.
    #[error("Postgres failed over while this was running: what was committed last may be lost")]
    FailedOver,
    /// Another node decides.
    #[error("another node decides")]
    NotLeading,
    /// A statement failed.
    #[error("cannot {operation}")]
    Query {
        /// What was tried.
        operation: &'static str,
        /// Why not.
        source: sqlx::Error,
    },
    /// Something read back is not what was ever written.
    #[error("the state holds {what} that cannot be read")]
    Corrupt {
        /// What.
        what: &'static str,
    },
    /// A caller asked for what must never be; nothing was written.
    #[error("refused to write: {what}")]
    Broken {
        /// Which rule would have been broken.
        what: &'static str,
    },
    /// The root key is not one.
    #[error("a root key is 32 bytes in base64")]
    RootKey,
    /// The root key opens nothing here.
    #[error("the root key is not the one this state was made with")]
    WrongRootKey,
    /// What was sealed cannot be opened.
    #[error("{what} was sealed with another key, or was changed")]
    Unseal {
        /// What.
        what: &'static str,
    },
    /// The machine's source of random bytes failed.
    #[error("the machine gives no random bytes")]
    Random,
    /// Postgres has its own way to be backed up.
    #[error("a state in Postgres is backed up with pg_dump")]
    BackupPostgres,
    /// A copy of the state is not what was written.
    #[error("the backup {} is not good: {what}", .path.display())]
    BadBackup {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl StateError {
    /// Whether the same transaction may succeed when it is done again: a deadlock, a serialisation failure, a
    /// lock that took too long.
    pub fn is_transient(&self) -> bool {
        let Self::Query { source: sqlx::Error::Database(error), .. } = self else { return false };
        matches!(error.code().as_deref(), Some("40001" | "40P01" | "55P03" | "5" | "517"))
    }

    /// Whether there is no state yet.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }

    /// Whether the database cannot be reached, as against refusing something.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Open { source } | Self::Query { source, .. } => {
                matches!(source, sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut)
            }
            _ => false,
        }
    }
}
