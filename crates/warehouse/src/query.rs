//! The users' queries on their way to a database: parameters bound, parts of ours put around them.
//!
//! This is the one audited place where SQL is not a constant. What is put together here is: a user's own query, as they
//! wrote it, in a read-only transaction; words of ours; numbers of ours; names that [`quoted`] has quoted. Values are
//! always bound.

#![expect(clippy::disallowed_types, reason = "the audited place for SQL that is not a constant: see above")]

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use model::query::Query;
use model::settings::TimeEncoding;
use model::sql::{Bound, Parameter, SqlMistake, Style, bind};
use model::value::ValueType;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArguments, PgTypeInfo};
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, AssertSqlSafe, Postgres, SqlSafeStr, SqlStr, Sqlite};

use crate::Kind;
use crate::postgres::{PgDate, PgTime};
use crate::value::{Cell, encode_time};

/// A value to bind.
#[derive(Debug, Clone)]
pub(crate) enum Argument {
    /// One value. Times and dates are bound as such on Postgres only; for SQLite they are encoded before.
    Cell(Cell),
    /// Many whole numbers (Postgres).
    Integers(Vec<i64>),
    /// Many texts (Postgres).
    Texts(Vec<String>),
    /// Many UUIDs (Postgres).
    Uuids(Vec<sqlx::types::Uuid>),
}

/// SQL with all its values, ready to be run.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    pub(crate) sql: String,
    pub(crate) arguments: Vec<Argument>,
}

/// A column of a query, as the database describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) name: String,
    /// The database's own type, where it says one.
    pub(crate) kind: Option<ValueType>,
    /// What it is as an id.
    pub(crate) id: IdType,
    /// The type's name, for messages.
    pub(crate) type_name: String,
    /// The table and the column it comes from.
    pub(crate) origin: Option<(String, String)>,
    /// Postgres: it must be cast to text to be read.
    pub(crate) as_text: bool,
}

/// How ids of a column are bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdType {
    /// Each row says for itself (SQLite).
    Dynamic,
    /// Whole numbers.
    Integer,
    /// Text.
    Text,
    /// Text padded with blanks (Postgres).
    PaddedText,
    /// Text without case (Postgres).
    CaselessText,
    /// UUIDs (Postgres).
    Uuid,
    /// No type of an id.
    Other,
}

/// What a query is bound for.
#[derive(Debug, Clone)]
pub(crate) struct Binding<'a> {
    pub(crate) kind: Kind,
    pub(crate) times: TimeEncoding,
    pub(crate) zone: &'a TimeZone,
    pub(crate) now: Timestamp,
}

pub(crate) fn style(kind: Kind) -> Style {
    match kind {
        Kind::Sqlite => Style::Sqlite,
        Kind::Postgres => Style::Postgres,
    }
}

/// The user's query with its parameters numbered, and their values.
pub(crate) fn bound(query: &Query, binding: &Binding<'_>) -> Result<(Bound, Vec<Argument>), SqlMistake> {
    let bound = bind(&query.sql, style(binding.kind))?;
    let arguments =
        bound.parameters.iter().map(|parameter| Argument::Cell(binding.value(*parameter))).collect();
    Ok((bound, arguments))
}

impl Binding<'_> {
    fn value(&self, parameter: Parameter) -> Cell {
        match parameter {
            Parameter::Now { offset } => {
                // A duration of at most a century leaves the calendar only where `now` is at its very edge.
                let end = if offset.is_negative() { Timestamp::MIN } else { Timestamp::MAX };
                let time = self.now.checked_add(offset).unwrap_or(end);
                match self.kind {
                    Kind::Sqlite => encode_time(time, self.times),
                    Kind::Postgres => Cell::Time(time),
                }
            }
            Parameter::Today { offset } => {
                let today = self.zone.to_datetime(self.now).date();
                let days = SignedDuration::from_hours(offset.as_secs().div_euclid(86_400).saturating_mul(24));
                let date = today.saturating_add(days);
                match self.kind {
                    Kind::Sqlite => Cell::Text(date.to_string()),
                    Kind::Postgres => Cell::Date(date),
                }
            }
        }
    }
}

/// A name in quotes, for tables and columns of the warehouse.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn names(count: usize) -> String {
    (0..count).map(|index| format!("c{index}")).collect::<Vec<_>>().join(", ")
}

/// `select ... from (the query) as q`, its columns called `c0 c1 ...`, so that no name of the user's matters.
fn around(kind: Kind, sql: &str, columns: usize, select: &str, rest: &str) -> String {
    let names = names(columns);
    match kind {
        // SQLite takes names of columns only here; a table used once is not stored in between.
        Kind::Sqlite => format!("with q({names}) as (\n{sql}\n)\nselect {select} from q {rest}"),
        Kind::Postgres => format!("select {select} from (\n{sql}\n) as q({names}) {rest}"),
    }
}

fn all_columns(columns: &[Described]) -> String {
    let column = |(index, column): (usize, &Described)| {
        if column.as_text { format!("c{index}::text") } else { format!("c{index}") }
    };
    columns.iter().enumerate().map(column).collect::<Vec<_>>().join(", ")
}

/// The query itself; on Postgres with what must be cast to text to be read.
pub(crate) fn rows(kind: Kind, bound: &Bound, columns: &[Described]) -> String {
    if columns.iter().any(|column| column.as_text) {
        around(kind, &bound.sql, columns.len(), &all_columns(columns), "")
    } else {
        bound.sql.clone()
    }
}

/// How many different ids a query has, how many there are in all, and how many rows.
pub(crate) fn count_ids(kind: Kind, bound: &Bound, columns: &[Described], id: usize) -> String {
    let id = match columns.get(id).map(|column| column.id) {
        Some(IdType::Integer | IdType::Uuid) if kind == Kind::Postgres => format!("c{id}"),
        _ => format!("nullif(c{id}, '')"),
    };
    around(kind, &bound.sql, columns.len(), &format!("count(distinct {id}), count({id}), count(*)"), "")
}

/// The rows of these ids, whose parameters stand behind the query's own.
///
/// SQLite gets one parameter an id: a list reaches into a query that groups, a sub-select does not.
pub(crate) fn by_id(
    bound: &Bound,
    arguments: Vec<Argument>,
    columns: &[Described],
    id: usize,
    ids: Ids,
) -> Statement {
    let place = arguments.len() + 1;
    let kind = ids.kind;
    let list = match (kind, columns.get(id).map(|column| column.id)) {
        (Kind::Sqlite, _) => {
            let list: Vec<String> =
                (place..place + ids.arguments.len()).map(|place| format!("${place}")).collect();
            format!("where c{id} in ({})", list.join(", "))
        }
        (Kind::Postgres, Some(IdType::PaddedText)) => {
            format!("where c{id} = any(${place}::text[]::bpchar[])")
        }
        (Kind::Postgres, Some(IdType::CaselessText)) => {
            format!("where c{id} = any(${place}::text[]::citext[])")
        }
        (Kind::Postgres, _) => format!("where c{id} = any(${place})"),
    };
    let sql = around(kind, &bound.sql, columns.len(), &all_columns(columns), &list);
    Statement { sql, arguments: [arguments, ids.arguments].concat() }
}

/// Ids as parameters.
pub(crate) struct Ids {
    kind: Kind,
    arguments: Vec<Argument>,
}

/// Ids as parameters, in the type of the column: one on Postgres, many on SQLite.
///
/// SQLite compares a number with a text as the column's own affinity says, and not at all where it has none (an
/// expression): then both forms are bound.
pub(crate) fn ids(kind: Kind, id: IdType, ids: &[String]) -> Ids {
    let canonical = |id: &String| id.parse::<i64>().ok().filter(|number| number.to_string() == *id);
    let arguments = match (kind, id) {
        (Kind::Sqlite, id) => {
            let mut list = Vec::with_capacity(ids.len());
            for text in ids {
                let number = if id == IdType::Text { None } else { canonical(text) };
                if id != IdType::Integer || number.is_none() {
                    list.push(Argument::Cell(Cell::Text(text.clone())));
                }
                list.extend(number.map(|number| Argument::Cell(Cell::Integer(number))));
            }
            list
        }
        (Kind::Postgres, IdType::Integer) => {
            vec![Argument::Integers(ids.iter().filter_map(canonical).collect())]
        }
        (Kind::Postgres, IdType::Uuid) => {
            vec![Argument::Uuids(ids.iter().filter_map(|id| id.parse().ok()).collect())]
        }
        (Kind::Postgres, _) => vec![Argument::Texts(ids.to_vec())],
    };
    Ids { kind, arguments }
}

/// What the database would execute, expressions and all: SQLite's instructions, Postgres' plan line by line.
pub(crate) fn instructions(kind: Kind, sql: &str) -> String {
    match kind {
        Kind::Sqlite => format!("explain {sql}"),
        Kind::Postgres => format!("explain (verbose, costs off) {sql}"),
    }
}

/// `explain` in the form that a program can read.
pub(crate) fn explain(kind: Kind, sql: &str) -> String {
    match kind {
        Kind::Sqlite => format!("explain query plan {sql}"),
        Kind::Postgres => format!("explain (format json) {sql}"),
    }
}

/// Whether a table has more than `limit` rows, without reading more than that: one row, one number.
pub(crate) fn rows_up_to(table: &str, limit: u64) -> Statement {
    let sql = format!("select count(*) from (select 1 from {} limit {limit}) as t", quoted(table));
    Statement { sql, arguments: Vec::new() }
}

/// Some values of some columns.
pub(crate) fn sample(kind: Kind, bound: &Bound, columns: usize, wanted: &[usize], limit: u64) -> String {
    let select = wanted.iter().map(|index| format!("c{index}")).collect::<Vec<_>>().join(", ");
    around(kind, &bound.sql, columns, &select, &format!("limit {limit}"))
}

/// Some values of a table's column that are there.
pub(crate) fn sample_column(table: &str, column: &str, limit: u64) -> Statement {
    let (table, column) = (quoted(table), quoted(column));
    let sql = format!("select {column} from {table} where {column} is not null limit {limit}");
    Statement { sql, arguments: Vec::new() }
}

impl Statement {
    /// SQL of ours without values.
    pub(crate) fn constant(sql: &'static str) -> Self {
        Self { sql: sql.to_owned(), arguments: Vec::new() }
    }

    pub(crate) fn sqlite(&self) -> Result<sqlx::query::Query<'static, Sqlite, SqliteArguments>, sqlx::Error> {
        let mut arguments = SqliteArguments::default();
        for argument in &self.arguments {
            match argument {
                Argument::Cell(Cell::Integer(integer)) => arguments.add(*integer),
                Argument::Cell(Cell::Text(text)) => arguments.add(text.clone()),
                _ => arguments.add(None::<i64>),
            }
            .map_err(sqlx::Error::Encode)?;
        }
        Ok(sqlx::query_with(AssertSqlSafe(self.sql.clone()), arguments).persistent(false))
    }

    pub(crate) fn postgres(&self) -> Result<sqlx::query::Query<'static, Postgres, PgArguments>, sqlx::Error> {
        let mut arguments = PgArguments::default();
        for argument in &self.arguments {
            match argument {
                Argument::Cell(Cell::Time(time)) => arguments.add(PgTime(*time)),
                Argument::Cell(Cell::Date(date)) => arguments.add(PgDate(*date)),
                Argument::Cell(Cell::Text(text)) => arguments.add(text.clone()),
                Argument::Cell(Cell::Integer(integer)) => arguments.add(*integer),
                Argument::Cell(_) => arguments.add(None::<i64>),
                Argument::Integers(integers) => arguments.add(integers.clone()),
                Argument::Texts(texts) => arguments.add(texts.clone()),
                Argument::Uuids(uuids) => arguments.add(uuids.clone()),
            }
            .map_err(sqlx::Error::Encode)?;
        }
        Ok(sqlx::query_with(AssertSqlSafe(self.sql.clone()), arguments).persistent(false))
    }
}

/// A user's query for the database's own prepare.
pub(crate) fn prepared(bound: &Bound) -> SqlStr {
    AssertSqlSafe(bound.sql.clone()).into_sql_str()
}

/// The types of a query's parameters (Postgres).
pub(crate) fn parameter_types(bound: &Bound) -> Vec<PgTypeInfo> {
    let oid = |parameter: &Parameter| match parameter {
        Parameter::Now { .. } => PgTime::OID,
        Parameter::Today { .. } => PgDate::OID,
    };
    bound.parameters.iter().map(|parameter| PgTypeInfo::with_oid(Oid(oid(parameter)))).collect()
}
