//! Postgres: one connection, read-only three times over (role, session, transaction), and its types.
//!
//! Settings are made in each transaction rather than on the connection, so that a pooler in between may hand the
//! connection on. A savepoint stands right behind them: one query's failure is not the next one's.

use std::str::FromStr;
use std::time::Duration;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use model::sql::Bound;
use model::value::ValueType;
use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgConnectOptions, PgConnection, PgRow, PgTypeInfo, PgValueRef};
use sqlx::{
    Column, ConnectOptions, Connection, Executor, Postgres, Row, Statement as _, Type, TypeInfo, ValueRef,
};

use crate::query::{Described, IdType, Statement, parameter_types, prepared};
use crate::value::Cell;

/// Seconds from 1970 to 2000, where Postgres' calendar begins.
const EPOCH_SECONDS: i64 = 946_684_800;
const EPOCH_DATE: Date = jiff::civil::date(2000, 1, 1);

/// An instant, bound as `timestamptz`.
pub(crate) struct PgTime(pub(crate) Timestamp);

/// A date, bound as `date`.
pub(crate) struct PgDate(pub(crate) Date);

impl PgTime {
    pub(crate) const OID: u32 = 1184;
}

impl PgDate {
    pub(crate) const OID: u32 = 1082;
}

impl Type<Postgres> for PgTime {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(Self::OID))
    }
}

impl Encode<'_, Postgres> for PgTime {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let micros = self.0.as_microsecond() - EPOCH_SECONDS * 1_000_000;
        buffer.extend_from_slice(&micros.to_be_bytes());
        Ok(IsNull::No)
    }
}

impl Type<Postgres> for PgDate {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(Self::OID))
    }
}

impl Encode<'_, Postgres> for PgDate {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let days = self.0.duration_since(EPOCH_DATE).as_hours() / 24;
        buffer.extend_from_slice(&i32::try_from(days)?.to_be_bytes());
        Ok(IsNull::No)
    }
}

/// How to reach a server.
#[derive(Clone)]
pub(crate) struct PostgresAccess {
    options: PgConnectOptions,
    schema: Option<String>,
    timeout: Duration,
}

impl PostgresAccess {
    /// From the URL and the settings. The error's text holds no part of the URL.
    pub(crate) fn new(url: &str, schema: Option<String>, timeout: Duration) -> Result<Self, &'static str> {
        let options = PgConnectOptions::from_str(url)
            .or(Err("is no URL that Postgres knows: `postgres://USER@HOST/DATABASE`"))?;
        let options =
            options.application_name("drumbeat").statement_cache_capacity(0).disable_statement_logging();
        Ok(Self { options, schema, timeout })
    }

    pub(crate) async fn connect(&self) -> Result<PostgresSession, sqlx::Error> {
        let mut connection = PgConnection::connect_with(&self.options).await?;
        connection.execute("set default_transaction_read_only = on").await?;
        Ok(PostgresSession { connection, access: self.clone(), pid: 0 })
    }
}

/// Longest run of a query whose rows are worked on while they come. How long the server takes is measured on our side,
/// where our own part of the time can be told from its; this stops a query whose reader has died.
const ABANDONED: Duration = Duration::from_secs(6 * 3_600);

/// A connection, in or out of a transaction.
pub(crate) struct PostgresSession {
    pub(crate) connection: PgConnection,
    access: PostgresAccess,
    pid: i32,
}

impl PostgresSession {
    pub(crate) async fn begin(&mut self) -> Result<(), sqlx::Error> {
        self.connection.execute("begin transaction isolation level repeatable read, read only").await?;
        let row = sqlx::query("select pg_backend_pid(), set_config('search_path', coalesce($1, current_setting('search_path')), true)")
            .bind(self.access.schema.as_deref())
            .fetch_one(&mut self.connection)
            .await?;
        self.pid = row.try_get(0)?;
        self.limit(self.access.timeout).await?;
        self.connection.execute("savepoint clean").await.map(drop)
    }

    /// Lifts the server's own limit for a query whose rows stream; [`Self::back`] sets it again.
    pub(crate) async fn unlimited(&mut self) -> Result<(), sqlx::Error> {
        self.limit(ABANDONED.max(self.access.timeout * 2)).await
    }

    async fn limit(&mut self, limit: Duration) -> Result<(), sqlx::Error> {
        sqlx::query("select set_config('statement_timeout', $1, true)")
            .bind(limit.as_millis().min(i32::MAX as u128).to_string())
            .execute(&mut self.connection)
            .await
            .map(drop)
    }

    pub(crate) async fn end(&mut self) -> Result<(), sqlx::Error> {
        self.connection.execute("rollback").await.map(drop)
    }

    /// Back to where the transaction began: after a failure, and after a stream.
    ///
    /// The driver hands the error of a statement that was cut short to whatever comes next, and a cancellation may reach
    /// the server a moment late and hit this very statement: so it is tried again.
    pub(crate) async fn back(&mut self) -> Result<(), sqlx::Error> {
        const BACK: &str = "rollback to savepoint clean";
        for _ in 0..2 {
            if self.connection.execute(BACK).await.is_ok() {
                return Ok(());
            }
        }
        self.connection.execute(BACK).await.map(drop)
    }

    /// Stops what the server does for this connection.
    pub(crate) async fn cancel(&mut self) -> Result<(), sqlx::Error> {
        let mut other = PgConnection::connect_with(&self.access.options).await?;
        sqlx::query("select pg_cancel_backend($1)").bind(self.pid).execute(&mut other).await?;
        other.close().await
    }

    pub(crate) async fn describe(&mut self, bound: &Bound) -> Result<Vec<Described>, sqlx::Error> {
        let types = parameter_types(bound);
        let statement = (&mut self.connection).prepare_with(prepared(bound), &types).await?;
        Ok(statement.columns().iter().map(described).collect())
    }

    /// Where each column of a query comes from: the table and its column.
    pub(crate) async fn origins(
        &mut self,
        bound: &Bound,
        columns: &mut [Described],
    ) -> Result<(), sqlx::Error> {
        let types = parameter_types(bound);
        let statement = (&mut self.connection).prepare_with(prepared(bound), &types).await?;
        for (column, described) in statement.columns().iter().zip(columns) {
            let (Some(table), Some(number)) = (column.relation_id(), column.relation_attribute_no()) else {
                continue;
            };
            let row = sqlx::query(
                "select c.relname::text, a.attname::text from pg_class c join pg_attribute a on a.attrelid = c.oid
                 where c.oid = $1 and a.attnum = $2",
            )
            .bind(table)
            .bind(number)
            .fetch_optional(&mut self.connection)
            .await?;
            described.origin = row.and_then(|row| Some((row.try_get(0).ok()?, row.try_get(1).ok()?)));
        }
        Ok(())
    }

    pub(crate) async fn all(&mut self, statement: &Statement) -> Result<Vec<Vec<Cell>>, sqlx::Error> {
        Ok(statement.postgres()?.fetch_all(&mut self.connection).await?.iter().map(cells).collect())
    }
}

/// A column's type by its number in `pg_type`, which is fixed for what Postgres brings along; the rest is read as text.
fn described(column: &sqlx::postgres::PgColumn) -> Described {
    let info = column.type_info();
    let type_name = info.name().to_ascii_lowercase();
    let (kind, id, as_text) = match info.oid().map_or(0, |oid| oid.0) {
        16 => (ValueType::Boolean, IdType::Other, false),
        20 | 21 | 23 => (ValueType::Integer, IdType::Integer, false),
        700 | 701 => (ValueType::Number, IdType::Other, false),
        1700 => (ValueType::Number, IdType::Other, true),
        PgDate::OID => (ValueType::Date, IdType::Other, false),
        1114 | PgTime::OID => (ValueType::Time, IdType::Other, false),
        114 | 3802 => (ValueType::Json, IdType::Other, false),
        2950 => (ValueType::Text, IdType::Uuid, false),
        19 | 25 | 1043 => (ValueType::Text, IdType::Text, false),
        1042 => (ValueType::Text, IdType::PaddedText, true),
        _ if type_name == "citext" => (ValueType::Text, IdType::CaselessText, true),
        // A constant whose type nobody named is text to Postgres.
        705 => (ValueType::Text, IdType::Text, true),
        _ => (ValueType::Text, IdType::Other, true),
    };
    Described { name: column.name().to_owned(), kind: Some(kind), id, type_name, origin: None, as_text }
}

/// A row's values, read from the binary form by the type each column has.
pub(crate) fn cells(row: &PgRow) -> Vec<Cell> {
    (0..row.len())
        .map(|index| row.try_get_raw(index).map_or(Cell::Unreadable, |value| cell(&value)))
        .collect()
}

fn cell(value: &PgValueRef<'_>) -> Cell {
    if value.is_null() {
        return Cell::Null;
    }
    let oid = value.type_info().oid().map_or(0, |oid| oid.0);
    value.as_bytes().ok().and_then(|bytes| decode(oid, bytes)).unwrap_or(Cell::Unreadable)
}

fn decode(oid: u32, bytes: &[u8]) -> Option<Cell> {
    let text = |bytes: &[u8]| str::from_utf8(bytes).ok().map(str::to_owned);
    Some(match oid {
        16 => Cell::Boolean(bytes.first()? != &0),
        21 => Cell::Integer(i16::from_be_bytes(bytes.try_into().ok()?).into()),
        23 => Cell::Integer(i32::from_be_bytes(bytes.try_into().ok()?).into()),
        20 => Cell::Integer(i64::from_be_bytes(bytes.try_into().ok()?)),
        26 => Cell::Integer(u32::from_be_bytes(bytes.try_into().ok()?).into()),
        // By way of its decimal form, so that 0.1 stays 0.1.
        700 => Cell::Number(f32::from_be_bytes(bytes.try_into().ok()?).to_string().parse().ok()?),
        701 => Cell::Number(f64::from_be_bytes(bytes.try_into().ok()?)),
        PgDate::OID => {
            let days = i32::from_be_bytes(bytes.try_into().ok()?);
            Cell::Date(EPOCH_DATE.checked_add(SignedDuration::from_hours(i64::from(days) * 24)).ok()?)
        }
        1114 | PgTime::OID => {
            let micros = i64::from_be_bytes(bytes.try_into().ok()?);
            Cell::Time(Timestamp::from_microsecond(micros.checked_add(EPOCH_SECONDS * 1_000_000)?).ok()?)
        }
        2950 => Cell::Text(sqlx::types::Uuid::from_slice(bytes).ok()?.to_string()),
        114 => Cell::Json(serde_json::from_slice(bytes).ok()?),
        3802 => Cell::Json(serde_json::from_slice(bytes.get(1..)?).ok()?),
        _ => Cell::Text(text(bytes)?),
    })
}
