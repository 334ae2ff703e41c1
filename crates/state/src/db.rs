//! The database: opening it, the two kinds of transaction, and how a statement reaches it. Deliberately
//! absent: SQL of any table.
//!
//! SQLite has one write connection, whose pool of one is a first-come queue, and a pool of readers that
//! cannot write. Postgres has one pool; a reader is a repeatable-read snapshot.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::Secret;
use serde::de::DeserializeOwned;
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{
    ConnectOptions as _, Database, Encode, FromRow, Postgres, Row as _, SqlSafeStr, Sqlite, SqlitePool,
    Transaction, Type,
};

use crate::ask::{Joined, Question, Statement};
use crate::dialect::{LEASE_NOW_POSTGRES, Sql};
use crate::error::StateError;
use crate::journal::{self, Journal, Line};
use crate::migrate;
use crate::node::Node;
use crate::postgres::{self, Server};
use crate::sqlite_tx::SqliteTx;

/// Waiting longer than this for a connection, the writer or another process is an error.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(30);
const READERS_MAX: u32 = 4;
pub(crate) const STATEMENTS_CACHED: usize = 256;

/// What a process wants of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read and write; an SQLite file is made if it is not there.
    Create,
    /// Read and write what is there.
    ReadWrite,
    /// Only read; a write transaction is refused by the database.
    ReadOnly,
}

/// A cheap handle on the state.
#[derive(Clone)]
pub struct State {
    db: Arc<Db>,
    /// `None`: nothing is to be kept of what this process does, or it does nothing.
    journal: Option<Arc<Journal>>,
}

enum Db {
    Sqlite {
        path: PathBuf,
        writer: SqlitePool,
        readers: SqlitePool,
        opened: Instant,
        /// The same in milliseconds since 1970.
        opened_ms: i64,
        /// The folder of a scratch state, gone with its last handle.
        _scratch: Option<tempfile::TempDir>,
    },
    Postgres(Server),
}

/// One transaction. Dropped without [`Tx::commit`], it is rolled back.
pub struct Tx {
    pub(crate) inner: Inner,
    /// Changes that wait for the next question, or for the end.
    later: Vec<Statement>,
    pub(crate) journal: Option<Arc<Journal>>,
    /// What goes into the journal once this is committed.
    pub(crate) lines: Vec<Line>,
}

pub(crate) enum Inner {
    Sqlite(SqliteTx),
    Postgres(Transaction<'static, Postgres>),
}

/// Where a state is.
pub(crate) enum Place {
    Sqlite(PathBuf),
    Postgres(Box<PgConnectOptions>),
}

impl State {
    /// Opens the state. The path in `sqlite://PATH` is relative to `dir`, the project's folder.
    ///
    /// An SQLite state with an older schema is brought up to date, after a copy was put beside it (not with
    /// `ReadOnly`).
    ///
    /// # Errors
    /// Among others [`StateError::Missing`], [`StateError::SchemaBehind`] (Postgres: `migrate` first), [`StateError::SchemaAhead`],
    /// [`StateError::SqliteTooOld`] and [`StateError::Standby`].
    pub async fn open(url: &Secret, dir: &Path, access: Access) -> Result<Self, StateError> {
        match place(url, dir)? {
            Place::Sqlite(path) => Self::open_sqlite(path, access).await,
            Place::Postgres(options) => {
                let state = Self::connected(options).await?;
                migrate::refuse_unless_current(&state).await?;
                Ok(state)
            }
        }
    }

    /// The same, with a journal in this folder of what is done.
    #[must_use]
    pub fn journaling_in(self, folder: PathBuf) -> Self {
        Self { journal: Some(Arc::new(Journal::new(folder))), ..self }
    }

    /// Where the journal is; `None`: nothing is kept of what this process does.
    pub fn journal_folder(&self) -> Option<&Path> {
        self.journal.as_deref().map(Journal::folder)
    }

    /// Why the journal cannot be written; once each time that it begins to be so.
    pub fn journal_failure(&self) -> Option<String> {
        self.journal.as_deref()?.failure()
    }

    fn tx(&self, inner: Inner) -> Tx {
        Tx { inner, later: Vec::new(), journal: self.journal.clone(), lines: Vec::new() }
    }

    /// Brings the schema up to date, in either database; the names of what was applied.
    pub async fn migrate(url: &Secret, dir: &Path) -> Result<Vec<String>, StateError> {
        let state = match place(url, dir)? {
            Place::Sqlite(path) => Self::connect_sqlite(path, Access::Create).await?,
            Place::Postgres(options) => Self::connected(options).await?,
        };
        migrate::apply(&state, migrate::MIGRATIONS).await
    }

    async fn open_sqlite(path: PathBuf, access: Access) -> Result<Self, StateError> {
        if access != Access::Create && !path.exists() {
            return Err(StateError::Missing { path });
        }
        let state = Self::connect_sqlite(path, access).await?;
        match access {
            Access::ReadOnly => migrate::refuse_unless_current(&state).await?,
            Access::Create | Access::ReadWrite => {
                migrate::apply(&state, migrate::MIGRATIONS).await?;
            }
        }
        Ok(state)
    }

    /// A state that is thrown away: nothing of it has to survive a power cut.
    pub(crate) async fn connect_scratch(
        path: PathBuf,
        folder: tempfile::TempDir,
    ) -> Result<Self, StateError> {
        Self::connect(path, Access::Create, SqliteSynchronous::Off, Some(folder)).await
    }

    pub(crate) async fn connect_sqlite(path: PathBuf, access: Access) -> Result<Self, StateError> {
        Self::connect(path, access, SqliteSynchronous::Full, None).await
    }

    async fn connect(
        path: PathBuf,
        access: Access,
        synchronous: SqliteSynchronous,
        scratch: Option<tempfile::TempDir>,
    ) -> Result<Self, StateError> {
        if access == Access::Create {
            make_private(&path)?;
        }
        let common = sqlite_options(&path);
        let readers = common
            .clone()
            .read_only(access == Access::ReadOnly)
            .pragma("query_only", "1")
            .pragma("cache_size", "-16384");
        let writer = if access == Access::ReadOnly {
            readers.clone()
        } else {
            common
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(synchronous)
                // Pages of the hot indexes stay in memory, and no more: where a page was split, a commit looks through all of the
                // cache. A checkpoint waits until it pays.
                .pragma("cache_size", "-16384")
                .pragma("wal_autocheckpoint", "8192")
                .pragma("journal_size_limit", "67108864")
        };
        let pool = || {
            SqlitePoolOptions::new()
                .acquire_timeout(WAIT_MAX)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
        };
        let writer = pool()
            .max_connections(1)
            .connect_with(writer)
            .await
            .map_err(|source| StateError::Open { source })?;
        let readers = pool().max_connections(READERS_MAX).connect_lazy_with(readers);
        refuse_old_sqlite(&writer).await?;
        Ok(Self {
            db: Arc::new(Db::Sqlite {
                path,
                writer,
                readers,
                opened: Instant::now(),
                opened_ms: unix_ms(),
                _scratch: scratch,
            }),
            journal: None,
        })
    }

    async fn connected(options: Box<PgConnectOptions>) -> Result<Self, StateError> {
        Ok(Self { db: Arc::new(Db::Postgres(Server::connect(options).await?)), journal: None })
    }

    /// The line of history that this state is on: it is another one after a failover of Postgres, and on another cluster. `None`: SQLite.
    pub fn identity(&self) -> Option<&str> {
        match &*self.db {
            Db::Sqlite { .. } => None,
            Db::Postgres(server) => Some(&server.identity),
        }
    }

    /// Whether it is in Postgres.
    pub fn is_postgres(&self) -> bool {
        matches!(*self.db, Db::Postgres(_))
    }

    /// The folder of an SQLite state.
    pub fn folder(&self) -> Option<&Path> {
        self.path()?
            .parent()
            .map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
    }

    /// The file of an SQLite state.
    pub(crate) fn path(&self) -> Option<&Path> {
        match &*self.db {
            Db::Sqlite { path, .. } => Some(path),
            Db::Postgres(_) => None,
        }
    }

    /// One snapshot, read only. In SQLite it is of the first statement's time.
    pub async fn read(&self) -> Result<Tx, StateError> {
        let inner = match &*self.db {
            Db::Sqlite { readers, .. } => {
                let begun = readers.begin_with("BEGIN").await;
                let begun =
                    begun.map_err(|source| StateError::Query { operation: "begin to read", source })?;
                Inner::Sqlite(SqliteTx::Reads(begun))
            }
            Db::Postgres(server) => Inner::Postgres(server.read().await?),
        };
        Ok(self.tx(inner))
    }

    /// A transaction that writes. In SQLite callers queue for it, first come first served; hold it briefly. There it begins with its
    /// first statement, and so what another process keeps locked is an error of that.
    pub async fn write(&self) -> Result<Tx, StateError> {
        let inner = match &*self.db {
            Db::Sqlite { writer, .. } => {
                let writer = writer.acquire().await;
                let writer =
                    writer.map_err(|source| StateError::Query { operation: "begin to write", source })?;
                Inner::Sqlite(SqliteTx::writes(writer))
            }
            Db::Postgres(server) => Inner::Postgres(server.write().await?),
        };
        Ok(self.tx(inner))
    }

    /// A transaction of the node that decides, which it is until the transaction ends.
    ///
    /// # Errors
    /// [`StateError::NotLeading`].
    pub async fn write_leading(&self, node: &Node) -> Result<Tx, StateError> {
        let mut tx = self.write().await?;
        crate::node::hold_lead(&mut tx, node).await?;
        Ok(tx)
    }

    /// Where it is.
    pub(crate) fn place(&self) -> Place {
        match &*self.db {
            Db::Sqlite { path, .. } => Place::Sqlite(path.clone()),
            Db::Postgres(server) => Place::Postgres(server.options.clone()),
        }
    }

    /// Ends all connections to an SQLite state, which is one file then.
    pub(crate) async fn close(&self) {
        if let Db::Sqlite { writer, readers, .. } = &*self.db {
            readers.close().await;
            writer.close().await;
        }
    }

    /// Lease time in milliseconds since 1970: the database's clock on Postgres; on SQLite, where there is one node at a time, a monotonic
    /// reading of this process from when it began. Never compared with campaign time.
    pub async fn lease_now(&self, tx: &mut Tx) -> Result<i64, StateError> {
        match &*self.db {
            Db::Sqlite { opened, opened_ms, .. } => {
                Ok(opened_ms.saturating_add(i64::try_from(opened.elapsed().as_millis()).unwrap_or(i64::MAX)))
            }
            Db::Postgres(_) => {
                let rows: Vec<(i64,)> =
                    tx.rows("read the lease clock", &Sql::same(LEASE_NOW_POSTGRES), vec![]).await?;
                Ok(rows.first().map_or(0, |(now,)| *now))
            }
        }
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(if self.is_postgres() { "State(Postgres)" } else { "State(SQLite)" })
    }
}

pub(crate) fn place(url: &Secret, dir: &Path) -> Result<Place, StateError> {
    let url = url.reveal();
    if let Some(path) = url.strip_prefix("sqlite://") {
        return if path.is_empty() { Err(StateError::Url) } else { Ok(Place::Sqlite(dir.join(path))) };
    }
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(StateError::Url);
    }
    Ok(Place::Postgres(postgres::options(url)?))
}

pub(crate) fn sqlite_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .busy_timeout(WAIT_MAX)
        .foreign_keys(true)
        .statement_cache_capacity(STATEMENTS_CACHED)
        .disable_statement_logging()
}

#[expect(
    clippy::disallowed_methods,
    reason = "where lease time begins, and the day of the journal's file; it goes nowhere else"
)]
pub(crate) fn unix_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Makes the folder and an empty file that only its owner may read.
pub(crate) fn make_private(path: &Path) -> Result<(), StateError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|source| StateError::File {
            operation: "make the folder",
            path: folder.to_owned(),
            source,
        })?;
    }
    // A database that is there is never opened here: when a process closes a file, it loses all its locks on it
    // (POSIX, fcntl), also those that SQLite holds. Another process would then take itself for the last one, and
    // remove the log of a database in use.
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(there) if there.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(StateError::File { operation: "open", path: path.to_owned(), source }),
    }
}

async fn refuse_old_sqlite(pool: &SqlitePool) -> Result<(), StateError> {
    let version: String = sqlx::query_scalar("SELECT sqlite_version()")
        .fetch_one(pool)
        .await
        .map_err(|source| StateError::Open { source })?;
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    if (next(), next(), next()) < (3, 51, 3) { Err(StateError::SqliteTooOld { version }) } else { Ok(()) }
}

/// A value that is bound.
#[derive(Debug)]
pub(crate) enum Bind {
    Integer(i64),
    Text(String),
    MaybeInteger(Option<i64>),
    MaybeText(Option<String>),
    Bytes(Vec<u8>),
    MaybeBytes(Option<Vec<u8>>),
}

macro_rules! bind_from {
    ($($from:ty => $variant:ident,)*) => { $(
        impl From<$from> for Bind {
            fn from(value: $from) -> Self {
                Self::$variant(value.into())
            }
        }
    )* };
}

bind_from! {
    i64 => Integer, u32 => Integer, Option<i64> => MaybeInteger, &str => Text, String => Text, Option<String> => MaybeText,
    Vec<u8> => Bytes, Option<Vec<u8>> => MaybeBytes,
}

/// A list of values to bind.
macro_rules! binds {
    ($($value:expr),* $(,)?) => { vec![$($crate::db::Bind::from($value)),*] };
}
pub(crate) use binds;

type Query<D> = sqlx::query::Query<'static, D, <D as Database>::Arguments>;

pub(crate) fn bound<D>(sql: impl SqlSafeStr, binds: Vec<Bind>) -> Query<D>
where
    D: Database,
    i64: for<'t> Encode<'t, D> + Type<D>,
    String: for<'t> Encode<'t, D> + Type<D>,
    Vec<u8>: for<'t> Encode<'t, D> + Type<D>,
    Option<i64>: for<'t> Encode<'t, D> + Type<D>,
    Option<String>: for<'t> Encode<'t, D> + Type<D>,
    Option<Vec<u8>>: for<'t> Encode<'t, D> + Type<D>,
{
    binds.into_iter().fold(sqlx::query(sql), |query, bind| match bind {
        Bind::Integer(value) => query.bind(value),
        Bind::Text(value) => query.bind(value),
        Bind::MaybeInteger(value) => query.bind(value),
        Bind::MaybeText(value) => query.bind(value),
        Bind::Bytes(value) => query.bind(value),
        Bind::MaybeBytes(value) => query.bind(value),
    })
}

impl Tx {
    /// Makes everything durable: in the database, and then in the journal.
    pub async fn commit(mut self) -> Result<(), StateError> {
        let operation = self.later.first().map_or("commit", |first| first.operation);
        if !self.has_the_only_writer() {
            // Postgres takes one statement at a time.
            self.change().await?;
        }
        let done = match self.inner {
            Inner::Sqlite(tx) => tx.commit(self.later).await,
            Inner::Postgres(tx) => tx.commit().await,
        };
        done.map_err(|source| StateError::Query { operation, source })?;
        if let Some(journal) = self.journal.filter(|_| !self.lines.is_empty()) {
            journal::keep(journal, self.lines).await;
        }
        Ok(())
    }

    /// Takes everything back.
    pub async fn rollback(self) -> Result<(), StateError> {
        let done = match self.inner {
            Inner::Sqlite(tx) => tx.rollback().await,
            Inner::Postgres(tx) => tx.rollback().await,
        };
        done.map_err(|source| StateError::Query { operation: "roll back", source })
    }

    /// Whether no other transaction can write while this one does: SQLite.
    pub(crate) fn has_the_only_writer(&self) -> bool {
        matches!(self.inner, Inner::Sqlite(_))
    }

    /// Executes a statement before the next question is asked, or at the end.
    pub(crate) fn later(&mut self, operation: &'static str, sql: &Sql, binds: Vec<Bind>) {
        self.later.push(Statement { operation, sql: *sql, binds });
    }

    /// Executes what waits.
    async fn change(&mut self) -> Result<(), StateError> {
        let later = std::mem::take(&mut self.later);
        let Some(operation) = later.first().map(|first| first.operation) else { return Ok(()) };
        match &mut self.inner {
            Inner::Sqlite(tx) => {
                let mut joined = Joined::default();
                joined.changes(tx.beginning());
                joined.changes(later.into_iter().map(|one| (one.sql.sqlite, one.binds)));
                let sql = joined.sql();
                let done = bound::<Sqlite>(sql, joined.binds).execute(tx.connection()).await;
                done.map_err(|source| StateError::Query { operation, source })?;
            }
            Inner::Postgres(tx) => {
                for Statement { operation, sql, binds } in later {
                    let done = bound::<Postgres>(sql.postgres, binds).execute(&mut **tx).await;
                    done.map_err(|source| StateError::Query { operation, source })?;
                }
            }
        }
        Ok(())
    }

    /// Executes a statement; how many rows it changed.
    pub(crate) async fn execute(
        &mut self,
        operation: &'static str,
        sql: &Sql,
        binds: Vec<Bind>,
    ) -> Result<u64, StateError> {
        self.change().await?;
        let done = match &mut self.inner {
            // By itself: only of its own rows is the number asked for.
            Inner::Sqlite(tx) => match tx.begun().await {
                Ok(connection) => bound::<Sqlite>(sql.sqlite, binds)
                    .execute(connection)
                    .await
                    .map(|done| done.rows_affected()),
                Err(error) => Err(error),
            },
            Inner::Postgres(tx) => bound::<Postgres>(sql.postgres, binds)
                .execute(&mut **tx)
                .await
                .map(|done| done.rows_affected()),
        };
        done.map_err(|source| StateError::Query { operation, source })
    }

    /// Reads rows one by one: for few rows, and for those that hold bytes.
    pub(crate) async fn rows<T>(
        &mut self,
        operation: &'static str,
        sql: &Sql,
        binds: Vec<Bind>,
    ) -> Result<Vec<T>, StateError>
    where
        T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        self.change().await?;
        let failed = |source| StateError::Query { operation, source };
        match &mut self.inner {
            Inner::Sqlite(tx) => {
                let connection = tx.begun().await.map_err(failed)?;
                let rows = bound::<Sqlite>(sql.sqlite, binds).fetch_all(connection).await.map_err(failed)?;
                rows.iter().map(|row| T::from_row(row).map_err(failed)).collect()
            }
            Inner::Postgres(tx) => {
                let rows =
                    bound::<Postgres>(sql.postgres, binds).fetch_all(&mut **tx).await.map_err(failed)?;
                rows.iter().map(|row| T::from_row(row).map_err(failed)).collect()
            }
        }
    }

    /// Reads the rows of a `page!`, which the database hands over as one JSON text.
    pub(crate) async fn page<T: DeserializeOwned + 'static>(
        &mut self,
        operation: &'static str,
        sql: &Sql,
        binds: Vec<Bind>,
    ) -> Result<Vec<T>, StateError> {
        self.ask(Question::new(operation, sql, binds, Ok)).await
    }

    /// Asks, in one statement, after what is to be changed before.
    pub async fn ask<T: 'static>(&mut self, question: Question<T>) -> Result<T, StateError> {
        let (statements, read) = question.split();
        let operation = statements.first().map_or("ask", |first| first.operation);
        let failed = |source| StateError::Query { operation, source };
        if !self.has_the_only_writer() {
            // Postgres takes one statement at a time.
            self.change().await?;
        }
        let later = std::mem::take(&mut self.later);
        let (mut joined, count) = (Joined::default(), statements.len());
        let texts: Result<Vec<String>, sqlx::Error> = match &mut self.inner {
            Inner::Sqlite(tx) => {
                joined.changes(tx.beginning());
                joined.changes(later.into_iter().map(|one| (one.sql.sqlite, one.binds)));
                joined.questions(statements.into_iter().map(|one| (one.sql.sqlite, one.binds)));
                let sql = joined.sql();
                let row =
                    bound::<Sqlite>(sql, joined.binds).fetch_one(tx.connection()).await.map_err(failed)?;
                (0..count).map(|column| row.try_get(column)).collect()
            }
            Inner::Postgres(tx) => {
                joined.questions(statements.into_iter().map(|one| (one.sql.postgres, one.binds)));
                let sql = joined.sql();
                let row = bound::<Postgres>(sql, joined.binds).fetch_one(&mut **tx).await.map_err(failed)?;
                (0..count).map(|column| row.try_get(column)).collect()
            }
        };
        read(texts.map_err(failed)?)
    }
}
