//! Ids, repetitions, and people by id.

use model::Value;

use crate::{ids, now, postgres_warehouse, query, read, sqlite_warehouse, text};

const UPPER: &str = "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11";
const LOWER: &str = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";

async fn found(snapshot: &mut warehouse::Snapshot, sql: &str, wanted: &[&str]) -> Vec<String> {
    let wanted: Vec<String> = wanted.iter().map(|id| (*id).to_owned()).collect();
    let mut found: Vec<String> =
        snapshot.by_id(&query(sql), &wanted).await.unwrap().into_iter().map(|row| row.id).collect();
    found.sort();
    found
}

#[tokio::test]
async fn sqlite_ids_are_integers_or_text_whatever_the_column_says() {
    let (_dir, warehouse) = sqlite_warehouse(
        "create table n (n integer primary key, name text); insert into n values (7, 'a'), (12, 'b'), (-3, 'c');
         create table t (t text primary key, name text); insert into t values ('007', 'a'), ('7', 'b'), ('ana', 'c');
         create table u (u, name); insert into u values ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'a'), (5, 'b');",
    )
    .await;
    let mut snapshot = warehouse.snapshot(now()).await.unwrap();
    assert_eq!(ids(&mut snapshot, &query("select n as id from n order by n")).await, ["-3", "7", "12"]);
    assert_eq!(
        ids(&mut snapshot, &query("select name, t as id from t order by t")).await,
        ["007", "7", "ana"]
    );
    for (sql, wanted, expected) in [
        ("select n as id, name from n", &["7", "-3", "007", "ana"][..], &["-3", "7"][..]),
        ("select n + 0 as id, name from n", &["7", "-3"], &["-3", "7"]),
        ("select cast(n as text) as id, name from n", &["7", "-3"], &["-3", "7"]),
        ("select t as id, name from t", &["7", "ana"], &["7", "ana"]),
        ("select t as id, name from t", &["007"], &["007"]),
        ("select u as id, name from u", &[LOWER, "5", UPPER], &["5", LOWER]),
        ("with x as (select n as id, name from n where n > 0) select * from x", &["7", "-3"], &["7"]),
        ("select n as id, count(*) as c from n group by n -- and a comment", &["7"], &["7"]),
    ] {
        assert_eq!(found(&mut snapshot, sql, wanted).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn postgres_ids_are_integers_text_or_uuids() {
    let Some(warehouse) = postgres_warehouse(
        "create database ids",
        "create table n (n int primary key, big bigint, name text); insert into n values (7, 70, 'a'), (12, 120, 'b'), (-3, 30, 'c');
         create table t (t varchar(20) primary key, padded char(6), name text); insert into t values ('007', 'x1', 'a'), ('ana', 'y2', 'c');
         create table u (u uuid primary key, name text); insert into u values ('A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', 'a');",
    )
    .await
    else {
        return;
    };
    let mut snapshot = warehouse.snapshot(now()).await.unwrap();
    assert_eq!(ids(&mut snapshot, &query("select n as id from n order by n")).await, ["-3", "7", "12"]);
    assert_eq!(ids(&mut snapshot, &query("select u as id from u")).await, [LOWER]);
    for (sql, wanted, expected) in [
        ("select n as id, name from n", &["7", "-3", "ana", "007"][..], &["-3", "7"][..]),
        ("select big as id, name from n", &["70", "9223372036854775807"], &["70"]),
        ("select t as id, name from t", &["007", "7"], &["007"]),
        ("select padded as id, name from t", &["x1"], &["x1"]),
        ("select u as id, name from u", &[LOWER, "not a uuid"], &[LOWER]),
        ("with x as (select n as id, name from n where n > 0) select * from x", &["7", "-3"], &["7"]),
        ("select n as id, count(*) as c from n where :now > '2020-01-01' group by n", &["7"], &["7"]),
    ] {
        assert_eq!(found(&mut snapshot, sql, wanted).await, expected, "{sql}");
    }
    let prepared = warehouse.prepare(&query("select 1.5 as id")).await.unwrap();
    assert!(prepared.id_problem.unwrap().contains("numeric"));
    let refused = snapshot.count(&query("select 1.5 as id")).await.unwrap_err();
    assert!(refused.to_string().contains("ids are integer, text or uuid"), "{refused}");
}

#[tokio::test]
async fn repeated_and_missing_ids_are_counted_and_not_fatal() {
    let setup = "create table c (id text, plan text); insert into c values ('ana', 'team'), ('ana', 'trial'), (null, 'x'), ('', 'y'), ('bo', null);";
    let (_dir, sqlite) = sqlite_warehouse(setup).await;
    for warehouse in
        [Some(sqlite), postgres_warehouse("create database repeated", setup).await].into_iter().flatten()
    {
        let mut snapshot = warehouse.snapshot(now()).await.unwrap();
        let query = query("select id, plan from c");
        let (rows, counts) = read(&mut snapshot, &query).await;
        assert_eq!(rows.len(), 5);
        assert_eq!((counts.rows, counts.without_id), (5, 2));
        assert_eq!(rows.iter().filter(|(id, _)| id.is_none()).count(), 2);
        let expected = warehouse::People { people: 2, duplicates: 1, missing_ids: 2 };
        assert_eq!(snapshot.count(&query).await.unwrap(), expected);
        let people = snapshot
            .by_id(&query, &["ana".to_owned(), "bo".to_owned(), "".to_owned(), "cy".to_owned()])
            .await
            .unwrap();
        let ana = people.iter().find(|row| row.id == "ana").unwrap();
        assert_eq!(people.len(), 2, "{people:?}");
        assert_eq!(ana.attributes["plan"], text("team"), "the first row stands");
        assert_eq!(people.iter().find(|row| row.id == "bo").unwrap().attributes["plan"], Value::Missing);
    }
}

#[tokio::test]
async fn an_id_that_is_no_id_is_an_error_and_not_a_guess() {
    let (_dir, warehouse) =
        sqlite_warehouse("create table c (id, name); insert into c values (1.5, 'a');").await;
    let mut snapshot = warehouse.snapshot(now()).await.unwrap();
    let error = snapshot.by_id(&query("select name from c"), &[]).await.unwrap_err().to_string();
    assert!(error.contains("no column is called `id`") && error.contains("segments/tried.yml:5"), "{error}");
    let error = snapshot.pages(&query("select id from c"), 10, async |_| Ok::<(), ()>(())).await.unwrap_err();
    assert!(
        matches!(error, warehouse::PagesError::Warehouse(warehouse::WarehouseError::Id { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn rows_of_any_query_come_by_name() {
    let (_dir, warehouse) = sqlite_warehouse(
        "create table k (p integer, channel text); insert into k values (1, 'email'), (2, null), (3, '*');",
    )
    .await;
    let mut snapshot = warehouse.snapshot(now()).await.unwrap();
    let (mut pages, mut rows) = (0, Vec::new());
    let counts = snapshot
        .rows(
            &query("select p as profile, channel from k order by p"),
            2,
            async |page: warehouse::RawPage| {
                assert_eq!(*page.columns, ["profile", "channel"]);
                pages += 1;
                rows.extend(page.rows);
                Ok::<(), ()>(())
            },
        )
        .await
        .unwrap();
    assert_eq!((pages, counts.rows), (2, 3));
    assert_eq!(rows[1], [Value::Integer(2), Value::Missing]);
    assert_eq!(rows[2], [Value::Integer(3), text("*")]);
}
