//! A connection to either database, and what both can do: a read transaction, one statement, a stream of rows.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures_core::Stream;
use model::query::Query;
use model::sql::Bound;
use sqlx::Executor;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;

use crate::error::{WarehouseError, failed};
use crate::postgres::{self, PostgresAccess, PostgresSession};
use crate::query::{Described, Statement};
use crate::sqlite::{self, SqliteAccess, SqliteSession};
use crate::value::Cell;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// What the server itself may take to stop a statement, before it counts as gone.
const GRACE: Duration = Duration::from_secs(10);

/// Connections kept open between snapshots.
const IDLE_MAX: usize = 2;

/// How to get a connection.
#[derive(Clone)]
pub(crate) enum Access {
    Sqlite(SqliteAccess),
    Postgres(Box<PostgresAccess>),
}

pub(crate) enum Connection {
    Sqlite(SqliteSession),
    Postgres(Box<PostgresSession>),
}

/// A connection in a read transaction.
pub(crate) struct Session {
    pub(crate) connection: Connection,
    timeout: Duration,
    /// What the last stream of rows left behind.
    stream: StreamState,
    /// Nobody knows what state it is in: it is not used again.
    broken: bool,
}

/// Where a stream of rows has got to. It may be let go of at any time, so whoever uses the connection next clears up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StreamState {
    /// There is none.
    None,
    /// Rows may still come: the statement must be stopped.
    Running,
    /// All rows were read, or the statement failed.
    Ended,
}

/// Connections that are open and do nothing.
#[derive(Default)]
pub(crate) struct Idle(Mutex<Vec<Connection>>);

impl Idle {
    fn take(&self) -> Option<Connection> {
        self.0.lock().ok()?.pop()
    }

    fn keep(&self, connection: Connection) {
        if let Ok(mut idle) = self.0.lock()
            && idle.len() < IDLE_MAX
        {
            idle.push(connection);
        }
    }
}

impl Access {
    async fn connect(&self, timeout: Duration) -> Result<Connection, WarehouseError> {
        if let Self::Sqlite(access) = self
            && !access.path.is_file()
        {
            return Err(WarehouseError::Unreachable {
                why: format!("there is no file {}", access.path.display()),
            });
        }
        let connecting = async {
            Ok(match self {
                Self::Sqlite(access) => Connection::Sqlite(access.connect().await?),
                Self::Postgres(access) => Connection::Postgres(Box::new(access.connect().await?)),
            })
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => connected.map_err(|error| failed("opening the warehouse", error, timeout)),
            Err(_) => Err(WarehouseError::Unreachable {
                why: format!("no answer in {}s", CONNECT_TIMEOUT.as_secs()),
            }),
        }
    }

    /// Opens a read transaction, on a connection that is there or on a new one.
    pub(crate) async fn session(&self, idle: &Idle, timeout: Duration) -> Result<Session, WarehouseError> {
        let known = idle.take();
        let was_known = known.is_some();
        let connection = match known {
            Some(connection) => connection,
            None => self.connect(timeout).await?,
        };
        let mut session = Session { connection, timeout, stream: StreamState::None, broken: false };
        match session.begin().await {
            // A server that was restarted meanwhile is no failure.
            Err(_) if was_known => {
                session = Session {
                    connection: self.connect(timeout).await?,
                    timeout,
                    stream: StreamState::None,
                    broken: false,
                };
                session.begin().await?;
            }
            other => other?,
        }
        Ok(session)
    }
}

impl Session {
    async fn begin(&mut self) -> Result<(), WarehouseError> {
        let timeout = self.timeout;
        let begun = async {
            match &mut self.connection {
                Connection::Sqlite(session) => session.begin().await,
                Connection::Postgres(session) => session.begin().await,
            }
        };
        match tokio::time::timeout(timeout + GRACE, begun).await {
            Ok(begun) => begun.map_err(|error| failed("opening a snapshot", error, timeout)),
            Err(_) => {
                Err(WarehouseError::Unreachable { why: "no answer when a snapshot was opened".to_owned() })
            }
        }
    }

    /// Ends the transaction and keeps the connection, if it is sound.
    pub(crate) async fn close(mut self, idle: &Idle) {
        self.clear().await;
        if self.broken {
            return;
        }
        let ended = async {
            match &mut self.connection {
                Connection::Sqlite(session) => session.end().await,
                Connection::Postgres(session) => session.end().await,
            }
        };
        if let Ok(Ok(())) = tokio::time::timeout(GRACE, ended).await {
            idle.keep(self.connection);
        }
    }

    pub(crate) async fn describe(&mut self, bound: &Bound) -> Result<Vec<Described>, sqlx::Error> {
        self.clear().await;
        match &mut self.connection {
            Connection::Sqlite(session) => session.describe(bound).await,
            Connection::Postgres(session) => {
                let described = session.describe(bound).await;
                if described.is_err() {
                    session.back().await?;
                }
                described
            }
        }
    }

    /// Runs a statement whose rows are few. One that takes too long is stopped: by the server, or here.
    pub(crate) async fn all(
        &mut self,
        place: &str,
        statement: &Statement,
    ) -> Result<Vec<Vec<Cell>>, WarehouseError> {
        self.clear().await;
        let timeout = self.timeout;
        let (answer, limit) = match &mut self.connection {
            Connection::Sqlite(session) => {
                (tokio::time::timeout(timeout, session.all(statement)).await, timeout)
            }
            Connection::Postgres(session) => {
                let limit = timeout + GRACE;
                let run = async {
                    let answer = session.all(statement).await;
                    if answer.is_err() {
                        session.back().await?;
                    }
                    answer
                };
                (tokio::time::timeout(limit, run).await, limit)
            }
        };
        match answer {
            Ok(answer) => answer.map_err(|error| failed(place, error, timeout)),
            Err(_) => {
                self.stop().await;
                Err(WarehouseError::Timeout { place: place.to_owned(), timeout: limit })
            }
        }
    }

    /// Begins a statement whose rows are read page by page.
    pub(crate) async fn stream<'a>(
        &'a mut self,
        place: &'a str,
        statement: &Statement,
    ) -> Result<Rows<'a>, WarehouseError> {
        self.clear().await;
        let timeout = self.timeout;
        let fail = |error| failed(place, error, timeout);
        self.stream = StreamState::Running;
        let stream = match &mut self.connection {
            Connection::Sqlite(session) => {
                RowStream::Sqlite(session.connection.fetch(statement.sqlite().map_err(fail)?))
            }
            Connection::Postgres(session) => {
                session.unlimited().await.map_err(fail)?;
                RowStream::Postgres(session.connection.fetch(statement.postgres().map_err(fail)?))
            }
        };
        Ok(Rows { stream, state: &mut self.stream, place, timeout, left: timeout })
    }

    /// Clears up behind a stream: stops what still runs, and on Postgres goes back to before the time limit was lifted.
    pub(crate) async fn clear(&mut self) {
        let state = std::mem::replace(&mut self.stream, StreamState::None);
        if state == StreamState::Running {
            self.stop().await;
        } else if state == StreamState::Ended
            && let Connection::Postgres(session) = &mut self.connection
        {
            let back = tokio::time::timeout(GRACE, session.back()).await;
            self.broken = !matches!(back, Ok(Ok(())));
        }
    }

    async fn stop(&mut self) {
        let stopped = async {
            match &mut self.connection {
                Connection::Sqlite(session) => session.cancel().await,
                Connection::Postgres(session) => {
                    session.cancel().await?;
                    session.back().await
                }
            }
        };
        self.broken = !matches!(tokio::time::timeout(GRACE, stopped).await, Ok(Ok(())));
    }
}

type BoxStream<'a, R> = Pin<Box<dyn Stream<Item = Result<R, sqlx::Error>> + Send + 'a>>;

enum RowStream<'a> {
    Sqlite(BoxStream<'a, SqliteRow>),
    Postgres(BoxStream<'a, PgRow>),
}

/// The rows of a statement, as they come.
pub(crate) struct Rows<'a> {
    stream: RowStream<'a>,
    state: &'a mut StreamState,
    place: &'a str,
    timeout: Duration,
    /// What is left of the time the database may take. Ours, between two pages, is not counted.
    left: Duration,
}

impl Rows<'_> {
    /// At most `limit` rows; none at the end.
    pub(crate) async fn next(&mut self, limit: usize) -> Result<Vec<Vec<Cell>>, WarehouseError> {
        if *self.state != StreamState::Running {
            return Ok(Vec::new());
        }
        let begun = Instant::now();
        let read = async {
            match &mut self.stream {
                RowStream::Sqlite(stream) => page(stream, limit, sqlite::cells).await,
                RowStream::Postgres(stream) => page(stream, limit, postgres::cells).await,
            }
        };
        let Ok(page) = tokio::time::timeout(self.left, read).await else {
            return Err(WarehouseError::Timeout { place: self.place.to_owned(), timeout: self.timeout });
        };
        self.left = self.left.saturating_sub(begun.elapsed());
        if !matches!(&page, Ok(page) if page.len() == limit) {
            *self.state = StreamState::Ended;
        }
        page.map_err(|error| failed(self.place, error, self.timeout))
    }
}

async fn page<R>(
    stream: &mut BoxStream<'_, R>,
    limit: usize,
    cells: fn(&R) -> Vec<Cell>,
) -> Result<Vec<Vec<Cell>>, sqlx::Error> {
    let mut page = Vec::new();
    while page.len() < limit {
        match poll_fn(|context| stream.as_mut().poll_next(context)).await {
            Some(row) => page.push(cells(&row?)),
            None => break,
        }
    }
    Ok(page)
}

/// The place of a query in messages.
pub(crate) fn place(query: &Query) -> &str {
    if query.place.is_empty() { "a query" } else { &query.place }
}
