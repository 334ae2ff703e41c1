//! What the databases say about queries, tables and times.

use model::settings::{TimeEncoding, WarehouseSettings};
use warehouse::{Kind, QueryError, Warehouse};

use crate::{open, postgres_warehouse, query, settings, sqlite, sqlite_warehouse};

const TABLES: &str = "create table customers (customer_id integer primary key, email text, mrr real);
    create table sessions (customer_id integer, at text);
    create view paying as select * from customers where mrr > 0;";

/// The text at which a refusal points, the message and the hint.
async fn refused(warehouse: &Warehouse, sql: &str) -> (String, String, Option<String>) {
    match warehouse.prepare(&query(sql)).await {
        Err(QueryError::Refused { message, at, hint }) => {
            let word = at.map(|at| {
                sql[at..]
                    .split(|c: char| !c.is_alphanumeric() && c != '_')
                    .next()
                    .unwrap_or_default()
                    .to_owned()
            });
            (word.unwrap_or_default(), message, hint)
        }
        other => panic!("{sql}: {other:?}"),
    }
}

#[tokio::test]
async fn sqlite_says_what_it_does_not_know() {
    let (_dir, warehouse) = sqlite_warehouse(TABLES).await;
    for (sql, at, hint) in [
        ("select :now, emial as id from customers", "emial", Some("did you mean `email`?")),
        ("select customer_id as id from custmers", "custmers", Some("did you mean `customers`?")),
        ("select customer_id as id form customers", "form", None),
        ("select nosuch(1) as id", "nosuch", None),
    ] {
        let (word, message, meant) = refused(&warehouse, sql).await;
        assert_eq!((word.as_str(), meant.as_deref()), (at, hint), "{message}");
    }
    let error = warehouse
        .prepare(&query("select customer_id as id, email, mrr as email from customers"))
        .await
        .unwrap_err();
    assert!(matches!(error, QueryError::Refused { .. }), "{error}");
    assert_eq!(error.to_string(), "two columns are called `email`");
    let prepared = warehouse.prepare(&query("select email from customers")).await.unwrap();
    assert!(prepared.id_problem.is_some());
}

#[tokio::test]
async fn postgres_points_into_the_users_text() {
    let Some(warehouse) = postgres_warehouse("create database prepares", TABLES).await else { return };
    for (sql, at) in [
        ("select 'ü', :now_minus_14d, :today, emial as id from customers", "emial"),
        ("select customer_id as id from custmers where :now_minus_14d > :now", "custmers"),
        ("select customer_id as id from customers where mrr > :now_minus_14d", ""),
        ("select customer_id as id form customers", "form"),
        ("select nosuch(1) as id", "nosuch"),
    ] {
        let (word, message, _) = refused(&warehouse, sql).await;
        assert_eq!(word, at, "{sql}: {message}");
    }
}

const SQLITE_CLOCK: &str = "create table seen (id integer primary key, at text, days integer);
    create view fresh as select id from seen where at > date('no' || 'w');";
const POSTGRES_CLOCK: &str = "create table seen (id integer primary key, at timestamptz, word text);
    create view fresh as select id from seen where at > now();";

#[tokio::test]
async fn a_clock_that_no_word_shows_is_found_before_anything_runs() {
    let (_dir, sqlite) = sqlite_warehouse(SQLITE_CLOCK).await;
    for sql in [
        "select id from seen where at > date(lower('NOW'))",
        "select id from seen where at > datetime('n' || 'ow', '-1 day')",
        "select id from seen where at > date(cast(x'6e6f77' as text))",
        "select id, strftime('%Y', trim(' now ')) as year from seen",
        "select id from seen where at > date(:today, 'local' || 'time')",
        "select id from fresh",
    ] {
        let (_, message, hint) = refused(&sqlite, sql).await;
        assert!(message.contains("clock"), "{sql}: {message}");
        assert!(hint.unwrap().contains(":today"), "{sql}");
    }
    for sql in [
        "select id, date(at) as day, date(at, '-' || days || ' days') as before from seen",
        "select id from seen where at > date(:now, '-' || (3 + 4) || ' days')",
        "select id from seen where at > date(:today, 'start of month') and at < datetime('2026-01-01', '+1 day')",
        "select id from seen where date(substr(:now, 1, 10)) > date(coalesce(at, '1970-01-01'))",
        "select id from seen where at in ('now', 'later') and strftime('%s', at) > 1 and upper('x') = 'X'",
        "select id, unixepoch(date(:now, '+1 month')) as at from seen",
    ] {
        sqlite.prepare(&query(sql)).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    let Some(postgres) = postgres_warehouse("create database clocks", POSTGRES_CLOCK).await else { return };
    for sql in [
        "select id from seen where at > lower('NOW')::timestamptz",
        "select id from seen where at > ('n' || 'ow')::timestamptz",
        "select id from fresh",
    ] {
        let (_, message, _) = refused(&postgres, sql).await;
        assert!(message.contains("clock"), "{sql}: {message}");
    }
    for sql in [
        "select id, at::date as day from seen where at > :now_minus_14d and at < '2026-01-01'::timestamptz",
        "select id from seen where word in ('now', 'today') and date_trunc('month', at) > :today",
        "select id, extract(epoch from at) as s from seen where at > :now::timestamptz - interval '1 day'",
    ] {
        postgres.prepare(&query(sql)).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

#[tokio::test]
async fn tables_come_with_columns_types_and_about_how_many_rows() {
    let (_dir, sqlite) = sqlite_warehouse(TABLES).await;
    let postgres = postgres_warehouse("create database tables", TABLES).await;
    for warehouse in [Some(sqlite), postgres].into_iter().flatten() {
        let tables = warehouse.tables().await.unwrap();
        let names: Vec<_> = tables.iter().map(|table| table.name.as_str()).collect();
        assert_eq!(names, ["customers", "paying", "sessions"]);
        assert_eq!(tables[1].rows, None);
        if warehouse.kind() == Kind::Sqlite {
            assert_eq!(tables[0].rows, Some(0));
        }
        let columns: Vec<_> = tables[0]
            .columns
            .iter()
            .map(|column| (column.name.as_str(), column.type_name.to_lowercase()))
            .collect();
        assert_eq!(
            columns,
            [("customer_id", "integer".to_owned()), ("email", "text".to_owned()), ("mrr", "real".to_owned())]
        );
    }
}

#[tokio::test]
async fn times_stored_otherwise_than_said_are_found() {
    let dir = tempfile::tempdir().unwrap();
    sqlite(
        dir.path(),
        "create table s (id text, at text, made_at integer, zoned text);
         insert into s values ('a', '2026-01-05 09:00:00', 1767603600, '2026-01-05T09:00:00+02:00'), ('b', null, null, null);",
    )
    .await;
    let warnings = async |times: TimeEncoding, sql: &str, columns: &[&str]| {
        let warehouse =
            open(&WarehouseSettings { times, ..settings("sqlite://warehouse.db") }, dir.path()).await;
        let columns: Vec<String> = columns.iter().map(|column| (*column).to_owned()).collect();
        warehouse.sample_times(&query(sql), &columns).await.unwrap()
    };
    let found =
        warnings(TimeEncoding::Rfc3339, "select id, max(at) as last_seen from s group by 1", &["last_seen"])
            .await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("`last_seen` holds `2026-01-05 09:00:00`") && found[0].contains("times: sql"),
        "{found:?}"
    );
    let compared = "select id from s where at < :now_minus_14d or made_at < :now";
    let found = warnings(TimeEncoding::Rfc3339, compared, &[]).await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[1].contains("`s.made_at`") && found[1].contains("times: unix"), "{found:?}");
    assert_eq!(
        warnings(TimeEncoding::Sql, "select id, at from s where at < :now", &["at"]).await,
        Vec::<String>::new()
    );
    assert!(
        warnings(TimeEncoding::Rfc3339, "select id from s where zoned < :now", &[]).await[0]
            .contains("offset")
    );
}
