//! What can go wrong with the warehouse. No text here holds a row's data or a URL: databases quote both, and are cut short.

use std::time::Duration;

use model::sql::SqlMistake;
use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;

/// The warehouse could not be read.
#[derive(Debug, thiserror::Error)]
pub enum WarehouseError {
    /// It cannot be reached: no such file, no server, no login. Exit code 69.
    #[error("the warehouse cannot be reached: {why}")]
    Unreachable {
        /// In the words of whoever said so, without the URL.
        why: String,
    },
    /// The settings name no warehouse we know.
    #[error("`warehouse.url` {why}")]
    Url {
        /// What is wrong with it, without the URL.
        why: &'static str,
    },
    /// A query is not one SELECT, or has a parameter that nobody binds.
    #[error("{place}: {mistake}")]
    Mistake {
        /// Where the query stands.
        place: String,
        /// What is wrong.
        mistake: SqlMistake,
    },
    /// The database refused a query, or failed at it.
    #[error("{place}: the database says: {message}")]
    Database {
        /// Where the query stands, or what was done.
        place: String,
        /// In the database's words, without values.
        message: String,
    },
    /// A statement ran longer than `warehouse.statement_timeout`, and was stopped.
    #[error("{place}: ran longer than `warehouse.statement_timeout` ({}s) and was stopped", .timeout.as_secs())]
    Timeout {
        /// Where the query stands, or what was done.
        place: String,
        /// What it was given.
        timeout: Duration,
    },
    /// Two columns of one name: nobody could say which is meant.
    #[error("{place}: two columns are called `{name}`")]
    TwoColumns {
        /// Where the query stands.
        place: String,
        /// The name.
        name: String,
    },
    /// A query about people that does not say about whom, or in a type no id has.
    #[error("{place}: {why}")]
    Id {
        /// Where the query stands.
        place: String,
        /// What is wrong with the column `id`.
        why: String,
    },
    /// A freshness query whose answer is no time.
    #[error("{place}: the answer is not a time")]
    Fresh {
        /// Where the query stands.
        place: String,
    },
}

impl WarehouseError {
    /// Whether the warehouse itself is away, rather than one query wrong: exit code 69.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// Why pages ended early.
#[derive(Debug, thiserror::Error)]
pub enum PagesError<E> {
    /// The warehouse failed.
    #[error(transparent)]
    Warehouse(#[from] WarehouseError),
    /// What was done with a page failed.
    #[error("a page of rows could not be worked on")]
    Each(#[source] E),
}

/// The database does not take a query.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// It is told without asking the database.
    #[error("{0}")]
    Mistake(SqlMistake),
    /// The database said so when it prepared the query.
    #[error("{message}")]
    Refused {
        /// In its own words.
        message: String,
        /// Where in the user's text, in bytes, if it can be told.
        at: Option<usize>,
        /// What may have been meant.
        hint: Option<String>,
    },
    /// It could not be asked.
    #[error(transparent)]
    Warehouse(#[from] WarehouseError),
}

/// Makes an error of ours out of the driver's. `place` is the query's, or says what was done.
pub(crate) fn failed(place: &str, error: sqlx::Error, timeout: Duration) -> WarehouseError {
    let place = place.to_owned();
    match error {
        sqlx::Error::Database(error) => {
            let code = simple_code(&*error);
            match code.as_str() {
                // Postgres: query_canceled; SQLite: interrupted.
                "57014" | "9" => WarehouseError::Timeout { place, timeout },
                // Postgres: connection, authorization, no such database, operator intervention; SQLite: cannot open, no database.
                "14" | "26" | "3D000" => WarehouseError::Unreachable { why: said(&*error) },
                code if ["08", "28", "57", "53"]
                    .iter()
                    .any(|class| code.len() == 5 && code.starts_with(class)) =>
                {
                    WarehouseError::Unreachable { why: said(&*error) }
                }
                _ => WarehouseError::Database { place, message: said(&*error) },
            }
        }
        sqlx::Error::Io(error) => WarehouseError::Unreachable { why: error.to_string() },
        sqlx::Error::Tls(error) => WarehouseError::Unreachable { why: format!("TLS: {error}") },
        sqlx::Error::WorkerCrashed => {
            WarehouseError::Unreachable { why: "the thread that reads it has died".to_owned() }
        }
        other => WarehouseError::Database { place, message: other.to_string() },
    }
}

/// Postgres' SQLSTATE of five letters, or SQLite's primary code: the lowest byte of the extended one.
pub(crate) fn simple_code(error: &dyn DatabaseError) -> String {
    let code = error.code().unwrap_or_default();
    match code.parse::<u32>() {
        Ok(number) if code.len() < 5 => (number & 0xff).to_string(),
        _ => code.into_owned(),
    }
}

/// A database's message without the values it quotes: Postgres' data exceptions (class 22) end in one.
fn said(error: &dyn DatabaseError) -> String {
    let message = error.message();
    let is_about_data = error.code().is_some_and(|code| code.len() == 5 && code.starts_with("22"));
    match message.find(": \"").or_else(|| message.find('"')) {
        Some(end) if is_about_data => message.get(..end).unwrap_or_default().trim_end().to_owned(),
        _ => message.to_owned(),
    }
}

/// What a database says about a query it only prepared: its words, its place (characters, from 1), its hint.
pub(crate) fn refusal(error: &dyn DatabaseError) -> (String, Option<usize>, Option<String>) {
    let Some(postgres) = error.try_downcast_ref::<PgDatabaseError>() else {
        return (error.message().to_owned(), None, None);
    };
    let position = match postgres.position() {
        Some(sqlx::postgres::PgErrorPosition::Original(position)) => Some(position),
        _ => None,
    };
    (postgres.message().to_owned(), position, postgres.hint().map(str::to_owned))
}
