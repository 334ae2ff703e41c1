//! Read-only, consistent, bounded in time, and quiet about what it has seen.

use std::path::Path;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use jiff::tz::TimeZone;
use model::settings::WarehouseSettings;
use sqlx::Connection;
use warehouse::{PagesError, QueryError, Warehouse, WarehouseError};

use crate::{ids, now, open, postgres, query, settings, sqlite, sqlite_warehouse};

const ENDLESS: &str =
    "with recursive n(id) as (select 1 union all select id + 1 from n) select max(id) as id from n";

#[tokio::test]
async fn a_snapshot_of_sqlite_does_not_see_what_is_committed_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = sqlite(
        dir.path(),
        "pragma journal_mode = wal; create table c (id text); insert into c values ('ana');",
    )
    .await;
    let warehouse = open(&settings("sqlite://warehouse.db"), dir.path()).await;
    let mut snapshot = warehouse.snapshot(now()).await.unwrap();
    sqlx::raw_sql("insert into c values ('bo')").execute(&mut writer).await.unwrap();
    assert_eq!(ids(&mut snapshot, &query("select id from c")).await, ["ana"]);
    assert_eq!(snapshot.count(&query("select id from c")).await.unwrap().people, 1);
    snapshot.close().await;
    let mut snapshot = warehouse.snapshot(now()).await.unwrap();
    assert_eq!(ids(&mut snapshot, &query("select id from c order by id")).await, ["ana", "bo"]);
}

#[tokio::test]
async fn a_snapshot_of_postgres_does_not_see_what_is_committed_meanwhile() {
    let Some((url, mut writer)) = postgres::database(
        "create database snapshots",
        "create table c (id text); insert into c values ('ana');",
    )
    .await
    else {
        return;
    };
    let warehouse = open(&settings(&url), Path::new(".")).await;
    let mut snapshot = warehouse.snapshot(now()).await.unwrap();
    sqlx::raw_sql("insert into c values ('bo')").execute(&mut writer).await.unwrap();
    assert_eq!(ids(&mut snapshot, &query("select id from c")).await, ["ana"]);
    snapshot.close().await;
    let mut snapshot = warehouse.snapshot(now()).await.unwrap();
    assert_eq!(ids(&mut snapshot, &query("select id from c order by id")).await, ["ana", "bo"]);
}

#[tokio::test]
async fn postgres_itself_refuses_to_write() {
    let Some((url, mut writer)) = postgres::database(
        "create database writes",
        "create table c (id text); create sequence s;
         create function sneaky() returns text language sql as $$ insert into c values ('x') returning id $$;",
    )
    .await
    else {
        return;
    };
    let warehouse = open(&settings(&url), Path::new(".")).await;
    let mut snapshot = warehouse.snapshot(now()).await.unwrap();
    for sql in [
        "with x as (insert into c values ('a') returning id) select id from x",
        "select sneaky() as id",
        "select nextval('s') as id",
        "select id from c for update",
        "select set_config('transaction_read_only', 'off', false) as id",
    ] {
        let error = snapshot.pages(&query(sql), 10, async |_| Ok::<(), ()>(())).await.unwrap_err();
        assert!(matches!(error, PagesError::Warehouse(WarehouseError::Database { .. })), "{sql}: {error:?}");
    }
    assert_eq!(
        snapshot.count(&query("select id from c")).await.unwrap().people,
        0,
        "and the snapshot is still of use"
    );
    let count: i64 = sqlx::query_scalar("select count(*) from c").fetch_one(&mut writer).await.unwrap();
    assert_eq!(count, 0);
}

#[tokio::test]
async fn sqlite_is_opened_so_that_nothing_can_write() {
    let dir = tempfile::tempdir().unwrap();
    let writer = sqlite(dir.path(), "create table c (id text); insert into c values ('ana');").await;
    writer.close().await.unwrap();
    let before = std::fs::read(dir.path().join("warehouse.db")).unwrap();
    let warehouse = open(&settings("sqlite://warehouse.db"), dir.path()).await;
    let mut snapshot = warehouse.snapshot(now()).await.unwrap();
    for sql in [
        "insert into c values ('bo') returning id",
        "create temp table x as select 1 as id",
        "update c set id = 'x' returning id",
    ] {
        assert!(snapshot.pages(&query(sql), 10, async |_| Ok::<(), ()>(())).await.is_err(), "{sql}");
    }
    assert_eq!(ids(&mut snapshot, &query("select id from c")).await, ["ana"]);
    snapshot.close().await;
    assert_eq!(std::fs::read(dir.path().join("warehouse.db")).unwrap(), before);
}

/// A query that never ends is stopped, in streams, in single answers and in counts, and the snapshot stays of use.
async fn stops(warehouse: &Warehouse) {
    let mut snapshot = warehouse.snapshot(now()).await.unwrap();
    let begun = Instant::now();
    let error = snapshot.pages(&query(ENDLESS), 10, async |_| Ok::<(), ()>(())).await.unwrap_err();
    assert!(matches!(error, PagesError::Warehouse(WarehouseError::Timeout { .. })), "{error:?}");
    let error = snapshot.count(&query(ENDLESS)).await.unwrap_err();
    assert!(matches!(error, WarehouseError::Timeout { .. }), "{error:?}");
    assert!(error.to_string().contains("warehouse.statement_timeout"), "{error}");
    assert_eq!(ids(&mut snapshot, &query("select 'ana' as id")).await, ["ana"]);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    snapshot.close().await;
}

fn hurried(url: &str) -> WarehouseSettings {
    WarehouseSettings { statement_timeout: SignedDuration::from_millis(300), ..settings(url) }
}

#[tokio::test]
async fn a_statement_of_sqlite_has_a_time_limit() {
    let dir = tempfile::tempdir().unwrap();
    sqlite(dir.path(), "create table c (id text)").await;
    stops(&open(&hurried("sqlite://warehouse.db"), dir.path()).await).await;
}

#[tokio::test]
async fn a_statement_of_postgres_has_a_time_limit_and_leaves_nothing_running() {
    let Some((url, mut writer)) = postgres::database("create database slow", "").await else { return };
    stops(&open(&hurried(&url), Path::new(".")).await).await;
    let running: i64 = sqlx::query_scalar(
        "select count(*) from pg_stat_activity where application_name = 'drumbeat' and datname = 'slow' and state = 'active'",
    )
    .fetch_one(&mut writer)
    .await
    .unwrap();
    assert_eq!(running, 0);
}

/// The time that working on a page takes is not the database's.
async fn waits(warehouse: &Warehouse, sql: &str) {
    let mut snapshot = warehouse.snapshot(now()).await.unwrap();
    let mut pages = 0;
    let counts = snapshot
        .pages(&query(sql), 10_000, async |_| {
            let begun = Instant::now();
            while pages == 0 && begun.elapsed() < Duration::from_millis(1_700) {
                std::hint::spin_loop();
            }
            pages += 1;
            Ok::<(), ()>(())
        })
        .await
        .unwrap();
    assert_eq!(counts.rows, 60_000);
}

fn patient(url: &str) -> WarehouseSettings {
    WarehouseSettings { statement_timeout: SignedDuration::from_millis(1_500), ..settings(url) }
}

#[tokio::test]
async fn a_slow_reader_does_not_use_up_the_databases_time() {
    let dir = tempfile::tempdir().unwrap();
    sqlite(dir.path(), "create table c (id text)").await;
    let sql =
        "with recursive n(id) as (select 1 union all select id + 1 from n where id < 60000) select id from n";
    waits(&open(&patient("sqlite://warehouse.db"), dir.path()).await, sql).await;
    let Some((url, _)) = postgres::database("create database patient", "").await else { return };
    let sql = "select id, repeat('x', 1000) as padding from generate_series(1, 60000) as id";
    waits(&open(&patient(&url), Path::new(".")).await, sql).await;
}

#[tokio::test]
async fn what_fails_in_one_query_does_not_reach_the_next() {
    let Some((url, _)) = postgres::database(
        "create database failing",
        "create table c (id text); insert into c values ('ana@x.test');",
    )
    .await
    else {
        return;
    };
    let warehouse = open(&settings(&url), Path::new(".")).await;
    let mut snapshot = warehouse.snapshot(now()).await.unwrap();
    let error = snapshot
        .pages(&query("select id::int as id from c"), 10, async |_| Ok::<(), ()>(()))
        .await
        .unwrap_err();
    let PagesError::Warehouse(error) = error else { panic!("{error:?}") };
    assert!(!error.to_string().contains("ana@") && !format!("{error:?}").contains("ana@"), "{error:?}");
    assert!(error.to_string().contains("invalid input syntax for type integer"), "{error}");
    assert!(snapshot.count(&query("select nothing as id from c")).await.is_err());
    assert_eq!(ids(&mut snapshot, &query("select id from c")).await, ["ana@x.test"]);
    // The reader's own failure ends the reading, too.
    let sql = "select id from generate_series(1, 3000000) as id";
    let error = snapshot.pages(&query(sql), 10, async |_| Err("enough")).await.unwrap_err();
    assert!(matches!(error, PagesError::Each("enough")), "{error:?}");
    assert_eq!(snapshot.count(&query("select id from c")).await.unwrap().people, 1);
}

#[tokio::test]
async fn a_readers_failure_ends_the_reading_of_sqlite() {
    let (_dir, warehouse) = sqlite_warehouse("create table c (id text); insert into c values ('ana');").await;
    let mut snapshot = warehouse.snapshot(now()).await.unwrap();
    let endless = query("with recursive n(id) as (select 1 union all select id + 1 from n) select id from n");
    let error = snapshot.pages(&endless, 10, async |_| Err("enough")).await.unwrap_err();
    assert!(matches!(error, PagesError::Each("enough")), "{error:?}");
    assert_eq!(snapshot.count(&query("select id from c")).await.unwrap().people, 1);
}

#[tokio::test]
async fn what_cannot_be_reached_is_said_without_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let open =
        async |url: &str| Warehouse::open(&settings(url), dir.path(), &TimeZone::UTC).await.unwrap_err();
    let error = open("sqlite://absent.db").await;
    assert!(matches!(&error, WarehouseError::Unreachable { why } if why.contains("absent.db")), "{error}");
    assert!(!dir.path().join("absent.db").exists());
    let error = open("postgres://ana:hunter2@127.0.0.1:1/shop").await;
    assert!(matches!(error, WarehouseError::Unreachable { .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    for url in ["mysql://x", "", "sqlite://", "sqlite://:memory:", "postgres://ana:hunter2@[bad/shop"] {
        let error = open(url).await;
        assert!(matches!(error, WarehouseError::Url { .. }), "{url}: {error:?}");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
    std::fs::write(
        dir.path().join("text.db"),
        "this is no database, but it is long enough to be looked at".repeat(40),
    )
    .unwrap();
    let error = open("sqlite://text.db").await;
    assert!(matches!(error, WarehouseError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn mistakes_come_before_the_database() {
    let (_dir, warehouse) = sqlite_warehouse("create table c (id text)").await;
    let mut snapshot = warehouse.snapshot(now()).await.unwrap();
    for sql in ["select :later as id", "select id from c where id = ?", "select 1 as id; select 2"] {
        assert!(matches!(snapshot.count(&query(sql)).await, Err(WarehouseError::Mistake { .. })), "{sql}");
        assert!(matches!(warehouse.prepare(&query(sql)).await, Err(QueryError::Mistake(_))), "{sql}");
    }
}

#[tokio::test]
async fn reading_may_happen_on_any_thread() {
    let (_dir, warehouse) = sqlite_warehouse("create table c (id text); insert into c values ('ana');").await;
    let read = tokio::spawn(async move {
        let mut snapshot = warehouse.snapshot(now()).await?;
        let (query, mut rows) = (query("select id from c"), 0);
        let mut pages = snapshot.read(&query, 10).await?;
        while let Some(page) = pages.next().await? {
            tokio::task::yield_now().await;
            rows += page.rows.len() as u64;
        }
        let counts = pages.finish();
        snapshot.close().await;
        Ok::<_, WarehouseError>((rows, counts.rows))
    });
    assert_eq!(read.await.unwrap().unwrap(), (1, 1));
}
