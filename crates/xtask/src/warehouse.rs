//! `cargo x warehouse`: makes an SQLite warehouse out of real purchases.
//!
//! CDNOW's transactions hold no names, addresses or consents. Those are made up here, always the same for the same
//! customer, at addresses under `.test`, where no mail can go.

mod person;
mod purchase;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};

use self::person::Person;
use self::purchase::Purchase;

/// Rows in one statement.
const ROWS_MAX: usize = 10_000;

const TABLES: &str = "
    create table customers (
        customer_id text primary key,
        email text, first_name text, timezone text, locale text, country text
    ) strict;
    create table orders (
        order_id integer primary key,
        customer_id text not null references customers,
        ordered_at text not null, cds integer not null, total real not null
    ) strict;
    create table consents (
        customer_id text not null references customers,
        channel text not null, purpose text not null, status text not null,
        changed_at text not null, source text not null,
        primary key (customer_id, channel, purpose)
    ) strict, without rowid;";

/// After the rows, which is faster. The first holds all that segments ask of orders, so that they read no table.
const INDEXES: &str = "
    create index orders_of_customer on orders (customer_id, ordered_at, total);
    create index orders_by_time on orders (ordered_at, customer_id);
    analyze;";

const INSERT_CUSTOMERS: &str = "
    insert into customers (customer_id, email, first_name, timezone, locale, country)
    select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5 from json_each($1)";
const INSERT_ORDERS: &str = "
    insert into orders (order_id, customer_id, ordered_at, cds, total)
    select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 from json_each($1)";
const INSERT_CONSENTS: &str = "
    insert into consents (customer_id, channel, purpose, status, changed_at, source)
    select value ->> 0, 'email', value ->> 1, value ->> 2, value ->> 3, value ->> 4 from json_each($1)";

pub(crate) fn main(arguments: &[String]) -> Result<()> {
    let [kind, from, to] = arguments else { bail!("usage: cargo x warehouse cdnow FROM TO.db") };
    if kind != "cdnow" {
        bail!("knows `cdnow`, not `{kind}`");
    }
    let (from, to) = (Path::new(from), Path::new(to));
    if to.exists() {
        bail!("{} is there already, and is not overwritten", to.display());
    }
    let text = fs::read_to_string(from).with_context(|| format!("cannot read {}", from.display()))?;
    let purchases =
        purchase::parse(&text).with_context(|| format!("cannot understand {}", from.display()))?;
    let rows = Rows::of(&purchases)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().build().context("cannot start the runtime")?;
    runtime.block_on(make(to, &rows)).with_context(|| format!("cannot make {}", to.display()))?;
    println!(
        "made {}: {} customers, {} orders, {} consents. The purchases are real; names, addresses, places, times of day and consents are made up.",
        to.display(),
        rows.customers.len(),
        rows.orders.len(),
        rows.consents.len()
    );
    Ok(())
}

/// The rows of each table, as JSON arrays.
struct Rows {
    customers: Vec<Value>,
    orders: Vec<Value>,
    consents: Vec<Value>,
}

impl Rows {
    fn of(purchases: &[Purchase]) -> Result<Self> {
        let mut people: BTreeMap<&str, Person> = BTreeMap::new();
        let mut orders = Vec::with_capacity(purchases.len());
        for (position, purchase) in purchases.iter().enumerate() {
            let Purchase { customer, cds, total, .. } = purchase;
            let person = people.entry(customer).or_insert_with(|| Person::made_up(customer));
            let at = person.time_of(purchase, position)?;
            person.bought(at);
            orders.push(json!([position + 1, customer, at.to_string(), cds, total]));
        }
        let customers = people
            .iter()
            .map(|(id, person)| {
                let place = person.place;
                json!([id, person.email, person.first_name, place.zone, place.locale, place.country])
            })
            .collect();
        let consents = people
            .iter()
            .flat_map(|(id, person)| {
                person.consents(id).into_iter().map(move |consent| {
                    json!([
                        id,
                        consent.purpose,
                        consent.status,
                        consent.changed_at.to_string(),
                        consent.source
                    ])
                })
            })
            .collect();
        Ok(Self { customers, orders, consents })
    }
}

/// Makes the file beside its place and moves it there, so that what is there is whole.
async fn make(to: &Path, rows: &Rows) -> Result<()> {
    let mut beside = to.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    if beside.exists() {
        fs::remove_file(&beside).with_context(|| format!("cannot remove {}", beside.display()))?;
    }
    let options = SqliteConnectOptions::new()
        .filename(&beside)
        .create_if_missing(true)
        // Nothing to keep until it is whole.
        .journal_mode(SqliteJournalMode::Off)
        .synchronous(SqliteSynchronous::Off);
    let mut connection = SqliteConnection::connect_with(&options).await.context("cannot open it")?;
    sqlx::raw_sql(TABLES).execute(&mut connection).await.context("cannot make the tables")?;
    insert(&mut connection, INSERT_CUSTOMERS, &rows.customers).await.context("cannot insert customers")?;
    insert(&mut connection, INSERT_ORDERS, &rows.orders).await.context("cannot insert orders")?;
    insert(&mut connection, INSERT_CONSENTS, &rows.consents).await.context("cannot insert consents")?;
    sqlx::raw_sql(INDEXES).execute(&mut connection).await.context("cannot make the indexes")?;
    connection.close().await.context("cannot close it")?;
    fs::rename(&beside, to).context("cannot move it to its place")
}

async fn insert(connection: &mut SqliteConnection, sql: &'static str, rows: &[Value]) -> Result<()> {
    let mut tx = connection.begin().await?;
    for page in rows.chunks(ROWS_MAX) {
        sqlx::query(sql).bind(serde_json::to_string(page)?).execute(&mut *tx).await?;
    }
    Ok(tx.commit().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PURCHASES: &str = " customer_id  date number_of_cds  dollar_value\n\
        \x20 00001 19970101  1   11.77\n  00002 19970112  5   77.00\n 00002 19970112  1   12.00\n";

    #[test]
    fn the_rows_of_the_file_are_in_the_warehouse() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("warehouse.db");
        let rows = Rows::of(&purchase::parse(PURCHASES).unwrap()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let seen: Vec<(String, i64, f64, String)> = runtime.block_on(async {
            make(&to, &rows).await.unwrap();
            let options = SqliteConnectOptions::new().filename(&to).read_only(true);
            let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
            let all = "select customer_id, sum(cds), sum(total), min(substr(ordered_at, 1, 10)) from orders join customers using (customer_id) group by 1 order by 1";
            sqlx::query_as(all).fetch_all(&mut connection).await.unwrap()
        });
        assert_eq!(
            seen,
            [
                ("00001".to_owned(), 1, 11.77, "1997-01-01".to_owned()),
                ("00002".to_owned(), 6, 89.0, "1997-01-12".to_owned())
            ]
        );
    }

    #[test]
    fn a_warehouse_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("purchases.txt"), folder.path().join("warehouse.db"));
        fs::write(&from, PURCHASES).unwrap();
        fs::write(&to, "mine").unwrap();
        let arguments = ["cdnow".to_owned(), from.display().to_string(), to.display().to_string()];
        assert!(main(&arguments).unwrap_err().to_string().contains("not overwritten"));
        assert_eq!(fs::read_to_string(&to).unwrap(), "mine");
    }

    #[test]
    fn the_same_file_gives_the_same_rows() {
        let rows = || Rows::of(&purchase::parse(PURCHASES).unwrap()).unwrap();
        let (one, other) = (rows(), rows());
        assert_eq!(one.customers, other.customers);
        assert_eq!(one.orders, other.orders);
        assert_eq!(one.consents, other.consents);
    }
}
