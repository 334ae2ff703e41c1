//! What can be known about the warehouse without running anything: columns of a query, tables, and how times are stored.

use std::collections::BTreeSet;

use jiff::Timestamp;
use model::query::Query;
use model::settings::TimeEncoding;
use model::sql::{Bound, Parameter};
use model::suggest::nearest;
use model::value::ValueType;

use crate::clock;
use crate::error::{QueryError, WarehouseError, failed, refusal, simple_code};
use crate::query::{self, Argument, Statement};
use crate::session::{Session, place};
use crate::snapshot::{Snapshot, declared, id_column, unique, wanted};
use crate::value::Cell;
use crate::{Kind, Warehouse};

/// What the database says about a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// Its columns, in order.
    pub columns: Vec<PreparedColumn>,
    /// Why its rows have no ids, if they have none: no column `id`, or one of a type no id has.
    pub id_problem: Option<String>,
}

/// A column of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedColumn {
    /// Its name.
    pub name: String,
    /// The type it is read as: declared, else the database's own. None where the database cannot say (SQLite, of
    /// expressions): then each value has its own.
    pub kind: Option<ValueType>,
}

/// A table or a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableInfo {
    /// Its name, as a query writes it.
    pub name: String,
    /// Its columns, in order.
    pub columns: Vec<TableColumn>,
    /// About how many rows it has, if that is cheap to tell.
    pub rows: Option<u64>,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableColumn {
    /// Its name.
    pub name: String,
    /// Its type in the database's own words; may be empty on SQLite.
    pub type_name: String,
}

/// Rows of a table counted one by one, where the database keeps no estimate.
const COUNTED_MAX: u64 = 1_000_000;

/// Values looked at to tell how times are stored.
const SAMPLE_MAX: u64 = 200;

impl Warehouse {
    /// Has the database prepare a query, and runs nothing.
    ///
    /// # Errors
    /// [`QueryError::Refused`] with the database's message and, if it can be told, its place in the user's text.
    pub async fn prepare(&self, query: &Query) -> Result<Prepared, QueryError> {
        let mut snapshot = self.snapshot(Timestamp::UNIX_EPOCH).await?;
        let prepared = snapshot.prepare(query).await;
        snapshot.close().await;
        prepared
    }

    /// The tables and views that a query can name without a schema, with their columns.
    pub async fn tables(&self) -> Result<Vec<TableInfo>, WarehouseError> {
        let mut snapshot = self.snapshot(Timestamp::UNIX_EPOCH).await?;
        let mut found = tables(&mut snapshot.session, self.kind).await;
        if let (Ok(tables), Kind::Sqlite) = (&mut found, self.kind) {
            // To count a view is to run it.
            let views =
                snapshot.session.all("looking at the tables", &Statement::constant(SQLITE_VIEWS)).await?;
            let views: BTreeSet<String> = views.iter().filter_map(|row| text(row.first())).collect();
            for table in tables.iter_mut().filter(|table| !views.contains(&table.name)) {
                table.rows = rows_about(&mut snapshot.session, self.kind, &table.name, COUNTED_MAX).await;
            }
        }
        snapshot.close().await;
        found
    }

    /// Warnings about columns of SQLite that hold times in another form than `warehouse.times` says: in those `columns`
    /// of the query, and in columns of its tables that it may compare with `:now`. At most 200 values of each are read.
    pub async fn sample_times(
        &self,
        query: &Query,
        columns: &[String],
    ) -> Result<Vec<String>, WarehouseError> {
        if self.kind != Kind::Sqlite {
            return Ok(Vec::new());
        }
        let mut snapshot = self.snapshot(Timestamp::UNIX_EPOCH).await?;
        let warnings = snapshot.sample_times(query, columns).await;
        snapshot.close().await;
        warnings
    }
}

impl Snapshot {
    async fn prepare(&mut self, query: &Query) -> Result<Prepared, QueryError> {
        let place = place(query);
        let (bound, arguments) = query::bound(query, &self.binding()).map_err(QueryError::Mistake)?;
        let described = match self.session.describe(&bound).await {
            Ok(described) => described,
            Err(sqlx::Error::Database(error)) if !is_of_the_server(&*error) => {
                return Err(self.refused(&*error, &bound, query).await);
            }
            Err(error) => return Err(failed(place, error, self.timeout).into()),
        };
        if let Err(WarehouseError::TwoColumns { name, .. }) = unique(place, &described) {
            return Err(QueryError::Refused {
                message: format!("two columns are called `{name}`"),
                at: None,
                hint: Some("give one of them another name, with `as`".to_owned()),
            });
        }
        let explain = Statement { sql: query::instructions(self.kind, &bound.sql), arguments };
        let explained = self.session.all(place, &explain).await?;
        if let Some(refused) = clock::read_by(self.kind, &explained) {
            return Err(refused);
        }
        let kinds = wanted(self.kind, query, &described);
        let columns = described.iter().zip(kinds).map(|(column, wanted)| PreparedColumn {
            name: column.name.clone(),
            kind: wanted.or(column.kind),
        });
        Ok(Prepared { columns: columns.collect(), id_problem: id_column(&described).err() })
    }

    /// The database's refusal, led back to the user's text.
    async fn refused(
        &mut self,
        error: &dyn sqlx::error::DatabaseError,
        bound: &Bound,
        query: &Query,
    ) -> QueryError {
        let (message, position, hint) = refusal(error);
        let from_position = position.and_then(|position| {
            bound.sql.char_indices().nth(position.checked_sub(1)?).map(|(at, _)| bound.origin(at))
        });
        let name = missing_name(&message).map(str::to_owned);
        let at = from_position.or_else(|| only_place(&query.sql, name.as_deref()?));
        let hint = match (hint, name) {
            (None, Some(name)) => self.meant(&name, &message).await,
            (hint, _) => hint,
        };
        QueryError::Refused { message, at, hint }
    }

    /// The table or column whose name comes nearest.
    async fn meant(&mut self, name: &str, message: &str) -> Option<String> {
        let tables = tables(&mut self.session, self.kind).await.ok()?;
        let last = name.rsplit('.').next()?;
        let names: BTreeSet<&str> = if message.contains("column") {
            tables.iter().flat_map(|table| &table.columns).map(|column| column.name.as_str()).collect()
        } else {
            tables.iter().map(|table| table.name.as_str()).collect()
        };
        nearest(last, names.iter().copied()).map(|meant| format!("did you mean `{meant}`?"))
    }

    async fn sample_times(
        &mut self,
        query: &Query,
        columns: &[String],
    ) -> Result<Vec<String>, WarehouseError> {
        let place = place(query);
        let (bound, arguments) = query::bound(query, &self.binding())
            .map_err(|mistake| WarehouseError::Mistake { place: place.to_owned(), mistake })?;
        let described =
            self.session.describe(&bound).await.map_err(|error| failed(place, error, self.timeout))?;
        let mut warnings = Vec::new();
        let mut sampled = BTreeSet::new();
        for (index, column) in
            described.iter().enumerate().filter(|(_, column)| columns.contains(&column.name))
        {
            let statement = match &column.origin {
                Some((table, name)) => {
                    sampled.insert((table.to_ascii_lowercase(), name.to_ascii_lowercase()));
                    query::sample_column(table, name, SAMPLE_MAX)
                }
                None => {
                    let sql = query::sample(self.kind, &bound, described.len(), &[index], SAMPLE_MAX);
                    Statement { sql, arguments: arguments.clone() }
                }
            };
            let cells = self.session.all(place, &statement).await?;
            warnings.extend(disagreement(&column.name, &cells, self.times, true));
        }
        if bound.parameters.iter().any(|parameter| matches!(parameter, Parameter::Now { .. })) {
            let words: BTreeSet<String> = words(&query.sql).collect();
            for table in tables(&mut self.session, self.kind).await? {
                if !words.contains(&table.name.to_ascii_lowercase()) {
                    continue;
                }
                for column in table.columns {
                    let lower = column.name.to_ascii_lowercase();
                    if !words.contains(&lower)
                        || !sampled.insert((table.name.to_ascii_lowercase(), lower.clone()))
                    {
                        continue;
                    }
                    if matches!(declared(query, &column.name), Some(kind) if kind != ValueType::Time) {
                        continue;
                    }
                    let cells = self
                        .session
                        .all(place, &query::sample_column(&table.name, &column.name, SAMPLE_MAX))
                        .await?;
                    let is_named_so = lower == "at" || lower.ends_with("_at") || lower.ends_with("_time");
                    warnings.extend(disagreement(
                        &format!("{}.{}", table.name, column.name),
                        &cells,
                        self.times,
                        is_named_so,
                    ));
                }
            }
        }
        Ok(warnings)
    }
}

/// Whether an error is about the server and not about the query: no connection, no login, going down, stopped.
fn is_of_the_server(error: &dyn sqlx::error::DatabaseError) -> bool {
    let code = simple_code(error);
    matches!(code.as_str(), "5" | "9" | "10" | "14" | "26")
        || code.len() == 5 && ["08", "28", "53", "57", "58"].iter().any(|class| code.starts_with(class))
}

/// The name that SQLite did not know: `no such column: c.emial`.
fn missing_name(message: &str) -> Option<&str> {
    let rest = ["no such column: ", "no such table: ", "no such function: "]
        .iter()
        .find_map(|start| message.strip_prefix(start));
    let near = || message.strip_prefix("near \"").and_then(|rest| rest.split('"').next());
    rest.map(|rest| rest.split(" - ").next().unwrap_or(rest)).or_else(near).filter(|name| !name.is_empty())
}

/// Where a name stands in a text, if it stands there once.
fn only_place(sql: &str, name: &str) -> Option<usize> {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let begins_word = name.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    let mut places = sql.match_indices(name).map(|(at, _)| at).filter(|at| {
        let before = sql.get(..*at).and_then(|text| text.chars().next_back());
        let after = sql.get(*at + name.len()..).and_then(|text| text.chars().next());
        !begins_word || !is_part(before) && !is_part(after)
    });
    let place = places.next()?;
    places.next().is_none().then_some(place)
}

/// The words of a text in lower case.
pub(crate) fn words(sql: &str) -> impl Iterator<Item = String> + '_ {
    sql.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}

/// A warning about the first value that is stored otherwise than `times` says.
fn disagreement(column: &str, cells: &[Vec<Cell>], times: TimeEncoding, is_time: bool) -> Option<String> {
    for cell in cells.iter().filter_map(|row| row.first()) {
        let shown = match cell {
            Cell::Text(text) => text.clone(),
            Cell::Integer(integer) if is_time && *integer > 500_000_000 => integer.to_string(),
            _ => continue,
        };
        match cell.encoding() {
            Some(encoding) if encoding == times => {}
            Some(encoding) => {
                return Some(format!(
                    "column `{column}` holds `{shown}`, but warehouse.times is {}: comparisons with :now will be wrong; set `times: {}`",
                    times.as_str(),
                    encoding.as_str()
                ));
            }
            None if shown.len() > 16
                && cell.clone().read(Some(ValueType::Time), times).is_some_and(|time| !time.is_missing()) =>
            {
                return Some(format!(
                    "column `{column}` holds `{shown}`, whose offset is not that of UTC: comparisons with :now will be wrong"
                ));
            }
            None => {}
        }
    }
    None
}

const SQLITE_TABLES: &str = r"select name from sqlite_schema
    where type in ('table', 'view') and name not like 'sqlite\_%' escape '\' order by name";
const SQLITE_VIEWS: &str = "select name from sqlite_schema where type = 'view'";
const SQLITE_COLUMNS: &str = "select name, type from pragma_table_info($1) order by cid";
const POSTGRES_COLUMNS: &str =
    "select c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod)::text,
        case when c.relkind in ('r', 'm') and c.reltuples >= 0 then c.reltuples::bigint end
    from pg_class c join pg_attribute a on a.attrelid = c.oid join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f') and a.attnum > 0 and not a.attisdropped
        and n.nspname = any(current_schemas(false)) and pg_table_is_visible(c.oid)
    order by c.relname, a.attnum";

/// A value that must be text.
fn text(cell: Option<&Cell>) -> Option<String> {
    match cell {
        Some(Cell::Text(text)) => Some(text.clone()),
        _ => None,
    }
}

/// Tables and views with their columns; on SQLite without numbers of rows, which take time there.
pub(crate) async fn tables(session: &mut Session, kind: Kind) -> Result<Vec<TableInfo>, WarehouseError> {
    let what = "looking at the tables";
    let mut tables: Vec<TableInfo> = Vec::new();
    if kind == Kind::Postgres {
        for row in session.all(what, &Statement::constant(POSTGRES_COLUMNS)).await? {
            let (Some(table), Some(name), Some(type_name)) =
                (text(row.first()), text(row.get(1)), text(row.get(2)))
            else {
                continue;
            };
            if tables.last().is_none_or(|last| last.name != table) {
                let rows = match row.get(3) {
                    Some(Cell::Integer(rows)) => u64::try_from(*rows).ok(),
                    _ => None,
                };
                tables.push(TableInfo { name: table, columns: Vec::new(), rows });
            }
            if let Some(last) = tables.last_mut() {
                last.columns.push(TableColumn { name, type_name });
            }
        }
        return Ok(tables);
    }
    for row in session.all(what, &Statement::constant(SQLITE_TABLES)).await? {
        let Some(name) = text(row.first()) else { continue };
        let statement = Statement {
            sql: SQLITE_COLUMNS.to_owned(),
            arguments: vec![Argument::Cell(Cell::Text(name.clone()))],
        };
        // A view on what is gone is an error of its own: it has no columns then.
        let rows = session.all(what, &statement).await.unwrap_or_default();
        let columns = rows.iter().filter_map(|row| {
            Some(TableColumn { name: text(row.first())?, type_name: text(row.get(1)).unwrap_or_default() })
        });
        tables.push(TableInfo { columns: columns.collect(), name, rows: None });
    }
    Ok(tables)
}

/// About how many rows a table has: the database's estimate, else counted up to `limit`. None: cannot be told.
pub(crate) async fn rows_about(session: &mut Session, kind: Kind, table: &str, limit: u64) -> Option<u64> {
    let estimate = match kind {
        Kind::Sqlite => {
            "select cast(stat as integer) from sqlite_stat1 where tbl = $1 collate nocase limit 1"
        }
        Kind::Postgres => {
            "select reltuples::bigint from pg_class where oid = to_regclass(quote_ident($1)) and reltuples > 0"
        }
    };
    let statement =
        Statement { sql: estimate.to_owned(), arguments: vec![Argument::Cell(Cell::Text(table.to_owned()))] };
    // Without ANALYZE there is no such table; then the question fails, and the next one is asked.
    let rows = match session.all("looking at the tables", &statement).await {
        Ok(rows) if !rows.is_empty() => rows,
        _ => session.all("looking at the tables", &query::rows_up_to(table, limit)).await.ok()?,
    };
    match rows.first().and_then(|row| row.first()) {
        Some(Cell::Integer(rows)) => u64::try_from(*rows).ok(),
        _ => None,
    }
}
