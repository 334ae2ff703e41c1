//! The warehouse against real databases: SQLite in files made for it, and a Postgres of its own where there is one.

#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod advice;
mod look;
mod people;
mod postgres;
mod safety;
mod values;

use std::path::Path;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use model::query::{Column, Query};
use model::settings::{TimeEncoding, WarehouseSettings};
use model::value::ValueType;
use model::{Secret, Value};
use sqlx::{Connection, SqliteConnection};
use warehouse::{Counts, Page, Snapshot, Warehouse};

fn now() -> Timestamp {
    "2026-01-05T09:00:00Z".parse().unwrap()
}

fn settings(url: &str) -> WarehouseSettings {
    WarehouseSettings {
        url: Secret::new(url),
        schema: None,
        times: TimeEncoding::Rfc3339,
        statement_timeout: SignedDuration::from_secs(30),
    }
}

fn berlin() -> TimeZone {
    TimeZone::get("Europe/Berlin").unwrap()
}

fn query(sql: &str) -> Query {
    Query { sql: sql.to_owned(), columns: Default::default(), place: "segments/tried.yml:5".to_owned() }
}

fn typed(sql: &str, columns: &[(&str, ValueType)]) -> Query {
    let column = |(name, kind): &(&str, ValueType)| {
        ((*name).to_owned(), Column { kind: Some(*kind), ..Column::default() })
    };
    Query { columns: columns.iter().map(column).collect(), ..query(sql) }
}

/// Makes a file `warehouse.db` in a folder, and a connection that may write to it.
async fn sqlite(dir: &Path, setup: &'static str) -> SqliteConnection {
    let options =
        sqlx::sqlite::SqliteConnectOptions::new().filename(dir.join("warehouse.db")).create_if_missing(true);
    let mut writer = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql(setup).execute(&mut writer).await.unwrap();
    writer
}

async fn open(settings: &WarehouseSettings, dir: &Path) -> Warehouse {
    Warehouse::open(settings, dir, &berlin()).await.unwrap()
}

/// A warehouse on SQLite with this in it. The folder goes with what is returned.
async fn sqlite_warehouse(setup: &'static str) -> (tempfile::TempDir, Warehouse) {
    let dir = tempfile::tempdir().unwrap();
    sqlite(dir.path(), setup).await.close().await.unwrap();
    let warehouse = open(&settings("sqlite://warehouse.db"), dir.path()).await;
    (dir, warehouse)
}

async fn postgres_warehouse(create: &'static str, setup: &'static str) -> Option<Warehouse> {
    let (url, _) = postgres::database(create, setup).await?;
    Some(open(&settings(&url), Path::new(".")).await)
}

/// All rows of a query about people.
async fn read(snapshot: &mut Snapshot, query: &Query) -> (Vec<(Option<String>, Vec<Value>)>, Counts) {
    let mut rows = Vec::new();
    let counts = snapshot
        .pages(query, 2, async |page: Page| {
            assert!(page.rows.len() <= 2);
            rows.extend(page.rows.into_iter().map(|row| (row.id, row.values)));
            Ok::<(), std::convert::Infallible>(())
        })
        .await
        .unwrap();
    (rows, counts)
}

async fn ids(snapshot: &mut Snapshot, query: &Query) -> Vec<String> {
    read(snapshot, query).await.0.into_iter().filter_map(|(id, _)| id).collect()
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}
