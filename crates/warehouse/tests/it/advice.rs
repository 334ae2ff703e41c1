//! Advice appears where much would be read, and goes when the index is there.

use std::path::Path;

use warehouse::{Advice, Use, Warehouse};

use crate::{open, postgres, query, settings, sqlite};

async fn advice(warehouse: &Warehouse, sql: &str, usage: Use) -> Vec<Advice> {
    warehouse.advise(&query(sql), usage).await.unwrap()
}

const PEOPLE: &str = "select customer_id as id, email from customers";
const JOINED: &str = "select c.customer_id as id, c.email, max(s.at) as seen from customers c left join sessions s on s.customer_id = c.customer_id
    where c.email <> '' group by 1, 2";

#[tokio::test]
async fn sqlite_people_by_id_want_an_index() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = sqlite(
        dir.path(),
        "create table customers (customer_id text, email text); create table sessions (customer_id text, at text);
         with recursive n(n) as (select 1 union all select n + 1 from n where n < 2000) insert into customers select 'c' || n, n || '@x.test' from n;
         with recursive n(n) as (select 1 union all select n + 1 from n where n < 2000) insert into sessions select 'c' || n, '2026' from n;",
    )
    .await;
    let warehouse = open(&settings("sqlite://warehouse.db"), dir.path()).await;
    let found = advice(&warehouse, PEOPLE, Use::ById("people")).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].hint, "an index on customers(customer_id) would help");
    assert_eq!(advice(&warehouse, PEOPLE, Use::Segment).await, []);
    let found = advice(&warehouse, JOINED, Use::ById("people")).await;
    let hints: Vec<_> = found.iter().map(|advice| advice.hint.as_str()).collect();
    assert_eq!(
        hints,
        ["an index on sessions(customer_id) would help", "an index on customers(customer_id) would help"],
        "{found:?}"
    );
    sqlx::raw_sql(
        "create index by_id on customers (customer_id); create index by_customer on sessions (customer_id)",
    )
    .execute(&mut writer)
    .await
    .unwrap();
    assert_eq!(advice(&warehouse, PEOPLE, Use::ById("people")).await, []);
    assert_eq!(advice(&warehouse, JOINED, Use::ById("people")).await, []);
}

#[tokio::test]
async fn postgres_people_by_id_want_an_index() {
    let Some((url, mut writer)) = postgres::database(
        "create database advice",
        "create table customers (customer_id uuid, email text); create table sessions (customer_id uuid, at timestamptz);
         insert into customers select gen_random_uuid(), n || '@x.test' from generate_series(1, 2000) n;
         insert into sessions select customer_id, '2026-01-01' from customers; analyze;",
    )
    .await
    else {
        return;
    };
    let warehouse = open(&settings(&url), Path::new(".")).await;
    for sql in [PEOPLE, JOINED] {
        let found = advice(&warehouse, sql, Use::ById("people")).await;
        assert!(
            found.iter().any(|advice| advice.hint == "an index on customers(customer_id) would help"),
            "{found:?}"
        );
    }
    sqlx::raw_sql(
        "create index by_id on customers (customer_id); create index by_customer on sessions (customer_id)",
    )
    .execute(&mut writer)
    .await
    .unwrap();
    assert_eq!(advice(&warehouse, PEOPLE, Use::ById("people")).await, []);
    assert_eq!(advice(&warehouse, JOINED, Use::ById("people")).await, []);
}

#[tokio::test]
async fn segments_that_search_large_tables_over_and_over_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = sqlite(
        dir.path(),
        "create table customers (customer_id integer primary key, email text); create table orders (customer_id integer, at text, total real);
         with recursive n(n) as (select 1 union all select n + 1 from n where n < 100100) insert into orders select n % 5000, '2026', n from n;
         with recursive n(n) as (select 1 union all select n + 1 from n where n < 5000) insert into customers select n, n from n;",
    )
    .await;
    let warehouse = open(&settings("sqlite://warehouse.db"), dir.path()).await;
    let joined = "select c.customer_id as id, max(o.at) as last from customers c left join orders o on o.customer_id = c.customer_id group by 1";
    let found = advice(&warehouse, joined, Use::Segment).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].hint, "an index on orders(customer_id) would help");
    let each = "select customer_id as id, (select count(*) from orders as o where o.total > c.customer_id) as n from customers c";
    let found = advice(&warehouse, each, Use::Segment).await;
    assert!(
        found.len() == 1 && found[0].message.contains("`orders` is read whole for each row"),
        "{found:?}"
    );
    sqlx::raw_sql("create index orders_customer on orders (customer_id)").execute(&mut writer).await.unwrap();
    assert_eq!(advice(&warehouse, joined, Use::Segment).await, []);
    // With the index, SQLite walks through it instead of reading the table as it lies.
    let grouped = "select customer_id as id, sum(total) as total from orders group by customer_id";
    let found = advice(&warehouse, grouped, Use::Segment).await;
    assert!(found.len() == 1 && found[0].hint.contains("orders(customer_id, total)"), "{found:?}");
    sqlx::raw_sql("create index covering on orders (customer_id, total)").execute(&mut writer).await.unwrap();
    assert_eq!(advice(&warehouse, grouped, Use::Segment).await, []);
}

#[tokio::test]
async fn postgres_segments_that_read_a_table_for_each_row_are_found() {
    let Some((url, mut writer)) = postgres::database(
        "create database loops",
        "create table customers (customer_id int primary key); create table orders (customer_id int, total int);
         insert into customers select n from generate_series(1, 500) n; insert into orders select n % 500, n from generate_series(1, 20000) n; analyze;",
    )
    .await
    else {
        return;
    };
    let warehouse = open(&settings(&url), Path::new(".")).await;
    let each = "select c.customer_id as id, (select sum(total) from orders o where o.customer_id = c.customer_id) as total from customers c";
    let found = advice(&warehouse, each, Use::Segment).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].hint, "an index on orders(customer_id) would help");
    sqlx::raw_sql("create index by_customer on orders (customer_id)").execute(&mut writer).await.unwrap();
    assert_eq!(advice(&warehouse, each, Use::Segment).await, []);
}
