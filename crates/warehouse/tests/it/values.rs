//! Times, dates and types.

use jiff::Timestamp;
use jiff::civil::date;
use model::Value;
use model::settings::TimeEncoding;
use model::value::ValueType;

use crate::{
    ids, now, open, postgres, postgres_warehouse, query, read, settings, sqlite, sqlite_warehouse, text,
    typed,
};

fn time(text: &str) -> Value {
    Value::Time(text.parse().unwrap())
}

#[tokio::test]
async fn sqlite_compares_times_in_four_encodings() {
    for (times, setup) in [
        (
            TimeEncoding::Rfc3339,
            "create table s (id text, at text); insert into s values ('old', '2025-12-22T08:59:59Z'), ('new', '2025-12-22T09:00:00Z');",
        ),
        (
            TimeEncoding::Sql,
            "create table s (id text, at text); insert into s values ('old', '2025-12-22 08:59:59'), ('new', '2025-12-22 09:00:00');",
        ),
        (
            TimeEncoding::Unix,
            "create table s (id text, at integer); insert into s values ('old', 1766393999), ('new', 1766394000);",
        ),
        (
            TimeEncoding::UnixMs,
            "create table s (id text, at integer); insert into s values ('old', 1766393999000), ('new', 1766394000000);",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        sqlite(dir.path(), setup).await;
        let warehouse = open(&warehouse_settings(times), dir.path()).await;
        let mut snapshot = warehouse.snapshot(now()).await.unwrap();
        assert_eq!(
            ids(&mut snapshot, &query("select id from s where at < :now_minus_14d")).await,
            ["old"],
            "{times:?}"
        );
        let (rows, counts) =
            read(&mut snapshot, &typed("select id, at from s where id = 'new'", &[("at", ValueType::Time)]))
                .await;
        assert_eq!(rows, [(Some("new".to_owned()), vec![time("2025-12-22T09:00:00Z")])], "{times:?}");
        assert!(counts.unreadable.is_empty());
        let fresh = snapshot.fresh(&query("select max(at) from s")).await.unwrap();
        assert_eq!(fresh, Some("2025-12-22T09:00:00Z".parse().unwrap()), "{times:?}");
        assert_eq!(snapshot.fresh(&query("select max(at) from s where id = 'none'")).await.unwrap(), None);
        assert_eq!(snapshot.fresh(&query("select at from s where id = 'none'")).await.unwrap(), None);
        assert!(snapshot.fresh(&query("select 'soon'")).await.is_err());
    }
}

fn warehouse_settings(times: TimeEncoding) -> model::settings::WarehouseSettings {
    model::settings::WarehouseSettings { times, ..settings("sqlite://warehouse.db") }
}

#[tokio::test]
async fn today_is_the_date_in_the_projects_zone() {
    let (_dir, sqlite) = sqlite_warehouse("create table t (x)").await;
    let postgres = postgres_warehouse("create database today", "create table t (x int)").await;
    for warehouse in [Some(sqlite), postgres].into_iter().flatten() {
        // Berlin is one hour ahead of UTC in winter and two in summer.
        for (now, today, yesterday) in [
            ("2026-01-05T22:59:59Z", date(2026, 1, 5), date(2026, 1, 4)),
            ("2026-01-05T23:00:00Z", date(2026, 1, 6), date(2026, 1, 5)),
            ("2026-06-30T22:00:00Z", date(2026, 7, 1), date(2026, 6, 30)),
            // The day on which the clock goes back is 25 hours long, and yesterday is yesterday.
            ("2026-10-25T22:30:00Z", date(2026, 10, 25), date(2026, 10, 24)),
        ] {
            let mut snapshot = warehouse.snapshot(now.parse().unwrap()).await.unwrap();
            let sql =
                "select 'x' as id, :today as today, :today_minus_1d as yesterday, :today_plus_12h as still";
            let kind = ValueType::Date;
            let (rows, _) =
                read(&mut snapshot, &typed(sql, &[("today", kind), ("yesterday", kind), ("still", kind)]))
                    .await;
            assert_eq!(
                rows[0].1,
                [Value::Date(today), Value::Date(yesterday), Value::Date(today)],
                "{:?} {now}",
                warehouse.kind()
            );
        }
    }
}

#[tokio::test]
async fn postgres_types_become_the_models() {
    let Some(warehouse) = postgres_warehouse(
        "create database types",
        "create type mood as enum ('happy'); create domain price as numeric(10,2);
         create table v (id int, s smallint, n numeric(10,2), r real, b boolean, d date, t timestamp, z timestamptz, m mood, j jsonb, o json,
             v varchar(9), c char(5), i interval, a int[], p price, u uuid, h timestamptz, e numeric);
         insert into v values (1, 2, 3.50, 0.1, true, '2026-01-05', '2026-01-05 09:00', '2026-01-05 10:00+01', 'happy', '{\"a\": 1}', '[1]',
             'vv', 'cc', '1 day', '{1,2}', 9.99, 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', 'infinity', 'NaN');",
    )
    .await
    else {
        return;
    };
    let mut snapshot = warehouse.snapshot(now()).await.unwrap();
    let (rows, counts) = read(&mut snapshot, &query("select * from v")).await;
    assert_eq!(
        rows[0].1,
        [
            Value::Integer(2),
            Value::Number(3.5),
            Value::Number(0.1),
            Value::Boolean(true),
            Value::Date(date(2026, 1, 5)),
            time("2026-01-05T09:00:00Z"),
            time("2026-01-05T09:00:00Z"),
            text("happy"),
            Value::Json(serde_json::json!({"a": 1})),
            Value::Json(serde_json::json!([1])),
            text("vv"),
            text("cc"),
            text("1 day"),
            text("{1,2}"),
            Value::Number(9.99),
            text("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
            Value::Missing,
            Value::Missing,
        ]
    );
    assert_eq!(counts.unreadable.into_iter().collect::<Vec<_>>(), [("e".to_owned(), 1), ("h".to_owned(), 1)]);
    let declared = typed(
        "select id, n, z, v from v",
        &[("n", ValueType::Text), ("z", ValueType::Date), ("v", ValueType::Integer)],
    );
    let (rows, counts) = read(&mut snapshot, &declared).await;
    assert_eq!(rows[0].1, [text("3.50"), Value::Date(date(2026, 1, 5)), Value::Missing]);
    assert_eq!(counts.unreadable["v"], 1);
}

#[tokio::test]
async fn sqlite_values_are_read_by_declaration_then_by_storage() {
    let (_dir, warehouse) = sqlite_warehouse(
        "create table v (id integer, flag boolean, day date, at datetime, stamp timestamp, any, real real, b blob);
         insert into v values (1, 1, '2026-01-05', '2026-01-05T09:00:00Z', '2026-01-05T09:00:00Z', 'x', 1.5, x'00ff');
         insert into v values (2, 'maybe', null, 'soon', '', 7, 9e999, null);",
    )
    .await;
    let mut snapshot = warehouse.snapshot(now()).await.unwrap();
    let (rows, counts) = read(&mut snapshot, &query("select * from v order by id")).await;
    let nine = time("2026-01-05T09:00:00Z");
    assert_eq!(
        rows[0].1,
        [
            Value::Boolean(true),
            Value::Date(date(2026, 1, 5)),
            nine.clone(),
            nine,
            text("x"),
            Value::Number(1.5),
            Value::Missing
        ]
    );
    assert_eq!(rows[1].1[4], Value::Integer(7));
    assert!(rows[1].1[..4].iter().all(Value::is_missing));
    let unreadable: Vec<_> = counts.unreadable.into_iter().collect();
    assert_eq!(
        unreadable,
        [("at".to_owned(), 1), ("b".to_owned(), 1), ("flag".to_owned(), 1), ("real".to_owned(), 1)]
    );
    let prepared =
        warehouse.prepare(&query("select id, flag, max(at) as last, any from v group by 1")).await.unwrap();
    let kinds: Vec<_> = prepared.columns.iter().map(|column| column.kind).collect();
    assert_eq!(kinds, [Some(ValueType::Integer), Some(ValueType::Boolean), None, None]);
}

#[tokio::test]
async fn postgres_binds_now_as_a_time_and_today_as_a_date() {
    let Some((url, _writer)) = postgres::database(
        "create database binds",
        "create schema analytics; create table analytics.s (id text, at timestamptz, local timestamp, day date, late text);
         insert into analytics.s values ('old', '2025-12-22 08:59:59+00', '2025-12-22 08:59:59', '2025-12-28', '2025-12-22T09:00:00Z'),
             ('new', '2025-12-22 09:00:00+00', '2025-12-22 09:00:00', '2025-12-29', null);",
    )
    .await
    else {
        return;
    };
    let settings =
        model::settings::WarehouseSettings { schema: Some("analytics".to_owned()), ..settings(&url) };
    let warehouse = open(&settings, std::path::Path::new(".")).await;
    let mut snapshot = warehouse.snapshot(now()).await.unwrap();
    for sql in [
        "select id from s where at < :now_minus_14d",
        "select id from s where local < :now_minus_14d",
        "select id from s where at < :now - interval '14 days'",
        "select id from s where day < :today_minus_7d",
        "select id from s where day < :today::date - 7 -- :now;\n",
        "select id from s where late::timestamptz >= :now_minus_2w;",
    ] {
        assert_eq!(ids(&mut snapshot, &query(sql)).await, ["old"], "{sql}");
    }
    let fresh: Option<Timestamp> = snapshot.fresh(&query("select max(at) from s")).await.unwrap();
    assert_eq!(fresh, Some("2025-12-22T09:00:00Z".parse().unwrap()));
}
