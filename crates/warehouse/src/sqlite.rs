//! SQLite: one connection on a file opened read-only, and its types.
//!
//! The driver runs it on a thread of its own. A statement is stopped by a flag that SQLite asks about every few
//! thousand steps: dropping the stream of rows alone would let a query that has none yet run on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use model::sql::Bound;
use model::value::ValueType;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{
    Column, ColumnOrigin, ConnectOptions, Connection, Executor, Row, Statement as _, TypeInfo, ValueRef,
};

use crate::query::{Described, IdType, Statement, prepared};
use crate::value::Cell;

/// Steps of SQLite's machine between two looks at the flag: some ten times a millisecond.
const STEPS: i32 = 10_000;

/// Rows the driver's thread may be ahead. More costs time, since memory is then freed far from where it was taken.
const ROWS_AHEAD: usize = 1_000;

/// Where the file is.
#[derive(Clone)]
pub(crate) struct SqliteAccess {
    pub(crate) path: PathBuf,
}

impl SqliteAccess {
    /// From `sqlite://PATH`, relative to the project.
    pub(crate) fn new(url: &str, dir: &Path) -> Result<Self, &'static str> {
        let rest = url.strip_prefix("sqlite:").unwrap_or(url);
        let path = rest.strip_prefix("//").unwrap_or(rest);
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        if path.is_empty() || path == ":memory:" {
            return Err("names no file: `sqlite://warehouse.db`");
        }
        Ok(Self { path: dir.join(path) })
    }

    pub(crate) async fn connect(&self) -> Result<SqliteSession, sqlx::Error> {
        let options = SqliteConnectOptions::new()
            .filename(&self.path)
            .read_only(true)
            .create_if_missing(false)
            .statement_cache_capacity(0)
            .row_buffer_size(ROWS_AHEAD)
            .busy_timeout(Duration::from_secs(10))
            .pragma("query_only", "on")
            .pragma("cache_size", "-32768")
            .thread_name(|_| "warehouse".to_owned())
            .disable_statement_logging();
        let mut connection = SqliteConnection::connect_with(&options).await?;
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        connection.lock_handle().await?.set_progress_handler(STEPS, move || !flag.load(Ordering::Relaxed));
        Ok(SqliteSession { connection, stop: StopOnDrop(stop) })
    }
}

/// Whoever lets go of the connection also wants what it does to end.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A connection, in or out of a transaction.
pub(crate) struct SqliteSession {
    pub(crate) connection: SqliteConnection,
    stop: StopOnDrop,
}

impl SqliteSession {
    pub(crate) async fn begin(&mut self) -> Result<(), sqlx::Error> {
        self.connection.execute("begin").await?;
        // The snapshot is taken by the first read, not by the word.
        self.connection.execute("select count(*) from sqlite_schema").await.map(drop)
    }

    pub(crate) async fn end(&mut self) -> Result<(), sqlx::Error> {
        self.connection.execute("rollback").await.map(drop)
    }

    /// Stops the statement that runs, and waits until it has. The transaction stays.
    pub(crate) async fn cancel(&mut self) -> Result<(), sqlx::Error> {
        self.stop.0.store(true, Ordering::Relaxed);
        // Too short for SQLite to look at the flag, and answered once the thread is free.
        let answer = self.connection.execute("select 1").await;
        self.stop.0.store(false, Ordering::Relaxed);
        answer.map(drop)
    }

    pub(crate) async fn describe(&mut self, bound: &Bound) -> Result<Vec<Described>, sqlx::Error> {
        let statement = (&mut self.connection).prepare(prepared(bound)).await?;
        Ok(statement.columns().iter().map(described).collect())
    }

    pub(crate) async fn all(&mut self, statement: &Statement) -> Result<Vec<Vec<Cell>>, sqlx::Error> {
        Ok(statement.sqlite()?.fetch_all(&mut self.connection).await?.iter().map(cells).collect())
    }
}

/// A column by the type it was declared with in its table; an expression has none.
fn described(column: &sqlx::sqlite::SqliteColumn) -> Described {
    let origin = match column.origin() {
        ColumnOrigin::Table(origin) => Some((origin.table.to_string(), origin.name.to_string())),
        ColumnOrigin::Expression | ColumnOrigin::Unknown => None,
    };
    let type_name = column.type_info().name();
    let (kind, id) = match type_name {
        "INTEGER" => (Some(ValueType::Integer), IdType::Integer),
        "TEXT" => (Some(ValueType::Text), IdType::Text),
        "REAL" => (Some(ValueType::Number), IdType::Dynamic),
        "BOOLEAN" => (Some(ValueType::Boolean), IdType::Dynamic),
        "DATE" => (Some(ValueType::Date), IdType::Dynamic),
        "DATETIME" => (Some(ValueType::Time), IdType::Dynamic),
        _ => (None, IdType::Dynamic),
    };
    let type_name = type_name.to_ascii_lowercase();
    Described { name: column.name().to_owned(), kind, id, type_name, origin, as_text: false }
}

/// A row's values, by how each is stored.
pub(crate) fn cells(row: &SqliteRow) -> Vec<Cell> {
    (0..row.len()).map(|index| cell(row, index).unwrap_or(Cell::Unreadable)).collect()
}

fn cell(row: &SqliteRow, index: usize) -> Result<Cell, sqlx::Error> {
    let value = row.try_get_raw(index)?;
    if value.is_null() {
        return Ok(Cell::Null);
    }
    Ok(match value.type_info().name() {
        "INTEGER" => Cell::Integer(row.try_get_unchecked(index)?),
        "REAL" => Cell::Number(row.try_get_unchecked(index)?),
        "TEXT" => Cell::Text(row.try_get_unchecked(index)?),
        _ => Cell::Unreadable,
    })
}
