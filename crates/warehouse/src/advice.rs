//! What would be slow, and which index would help: read from the database's own plan of a query, before it is run.
//!
//! A plan is a guess, and so is advice. It is given only where much would be read: nothing here refuses anything.

use std::collections::BTreeSet;

use jiff::Timestamp;
use model::query::Query;
use model::sql::Bound;
use serde_json::Value as Json;

use crate::error::{QueryError, failed};
use crate::look::{rows_about, tables, words};
use crate::query::{self, Described, IdType, Ids, Statement};
use crate::session::{Connection, place};
use crate::snapshot::{Snapshot, id_column};
use crate::value::Cell;
use crate::{Kind, TableInfo, Warehouse};

/// What a query is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// All of it is read, once a run.
    Segment,
    /// What it is about (`people`, `accounts`) is read from it by id, a thousand at a time, in each run and again when
    /// messages are rendered.
    ById(&'static str),
}

/// Something that would be slow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Advice {
    /// What is slow.
    pub message: String,
    /// What would help.
    pub hint: String,
}

/// From so many rows on, reading a whole table for a thousand people or accounts is slow.
const BY_ID_ROWS: u64 = 1_000;
/// From so many rows on, reading a table once for each row of another is slow.
const INNER_ROWS: u64 = 10_000;
/// From so many rows on, an index that the database makes for itself at each run, or walks through, is slow.
const INDEX_ROWS: u64 = 100_000;

impl Warehouse {
    /// What of a query would be slow, and which index would help. Nothing is run.
    pub async fn advise(&self, query: &Query, usage: Use) -> Result<Vec<Advice>, QueryError> {
        let mut snapshot = self.snapshot(Timestamp::UNIX_EPOCH).await?;
        let advice = snapshot.advise(query, usage).await;
        snapshot.close().await;
        let mut advice = advice?;
        advice.sort();
        advice.dedup();
        Ok(advice)
    }
}

impl Snapshot {
    async fn advise(&mut self, query: &Query, usage: Use) -> Result<Vec<Advice>, QueryError> {
        let place = place(query);
        let (bound, arguments) = query::bound(query, &self.binding()).map_err(QueryError::Mistake)?;
        let mut columns =
            self.session.describe(&bound).await.map_err(|error| failed(place, error, self.timeout))?;
        if let Connection::Postgres(session) = &mut self.session.connection {
            session
                .origins(&bound, &mut columns)
                .await
                .map_err(|error| failed(place, error, self.timeout))?;
        }
        let id = id_column(&columns).ok();
        let statement = match (usage, id) {
            (Use::Segment, _) => Statement { sql: query::rows(self.kind, &bound, &columns), arguments },
            (Use::ById(_), None) => return Ok(Vec::new()),
            (Use::ById(_), Some(id)) => {
                let ids = some_ids(self.kind, columns.get(id));
                query::by_id(&bound, arguments, &columns, id, ids)
            }
        };
        let statement = Statement { sql: query::explain(self.kind, &statement.sql), ..statement };
        let origin = id.and_then(|id| columns.get(id)?.origin.clone());
        match self.kind {
            Kind::Sqlite => self.advise_sqlite(place, &bound, &statement, usage, origin).await,
            Kind::Postgres => self.advise_postgres(place, &statement, usage, origin).await,
        }
    }

    async fn advise_sqlite(
        &mut self,
        place: &str,
        bound: &Bound,
        statement: &Statement,
        usage: Use,
        origin: Option<(String, String)>,
    ) -> Result<Vec<Advice>, QueryError> {
        let rows = self.session.all(place, statement).await?;
        let tables = tables(&mut self.session, self.kind).await?;
        let words: Vec<String> = words(&bound.sql).collect();
        let steps: Vec<Step> = rows.iter().filter_map(|row| Step::read(row)).collect();
        let mut advice = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            let Some((table, reading)) = step.reading(&tables, &words) else { continue };
            let is_inner = step.is_inner(&steps, index);
            let least = match (&reading, usage) {
                (Reading::Lookup, _) => continue,
                (_, Use::ById(_)) => BY_ID_ROWS,
                (Reading::Scan, Use::Segment) if is_inner => INNER_ROWS,
                (Reading::Walk(_) | Reading::OwnIndex(_), Use::Segment) => INDEX_ROWS,
                (Reading::Scan, Use::Segment) => continue,
            };
            let many = rows_about(&mut self.session, self.kind, &table.name, least).await.unwrap_or(0);
            if many >= least {
                advice.push(say(table, &reading, usage, origin.as_ref(), &words));
            }
        }
        Ok(advice)
    }

    async fn advise_postgres(
        &mut self,
        place: &str,
        statement: &Statement,
        usage: Use,
        origin: Option<(String, String)>,
    ) -> Result<Vec<Advice>, QueryError> {
        if usage != Use::Segment {
            // Small tables are scanned although there is an index: asked so, the plan shows whether there is one.
            self.session.all(place, &Statement::constant("set local enable_seqscan = off")).await?;
        }
        let rows = self.session.all(place, statement).await?;
        let plan = match rows.into_iter().next().and_then(|row| row.into_iter().next()) {
            Some(Cell::Json(json)) => json,
            _ => return Ok(Vec::new()),
        };
        let mut scans = Vec::new();
        let root = plan.get(0).and_then(|first| first.get("Plan")).unwrap_or(&Json::Null);
        collect_scans(root, false, &plan.to_string(), &mut scans);
        let mut advice = Vec::new();
        for scan in scans {
            let least = match usage {
                Use::ById(_) => BY_ID_ROWS,
                Use::Segment if scan.is_inner => INNER_ROWS,
                Use::Segment => continue,
            };
            if rows_about(&mut self.session, self.kind, &scan.table, least).await.unwrap_or(0) < least {
                continue;
            }
            let column = match &origin {
                Some((table, column)) if usage != Use::Segment && *table == scan.table => {
                    Some(column.clone())
                }
                _ => scan.column.clone(),
            };
            advice.push(spoken(&scan.table, column.as_deref(), usage));
        }
        Ok(advice)
    }
}

/// Ids that nobody need have, as many as a real look-up has.
fn some_ids(kind: Kind, column: Option<&Described>) -> Ids {
    let id = column.map_or(IdType::Dynamic, |column| column.id);
    let texts: Vec<String> = match id {
        IdType::Uuid => {
            (1..=1_000u128).map(|number| sqlx::types::Uuid::from_u128(number).to_string()).collect()
        }
        _ => (1..=1_000).map(|number| number.to_string()).collect(),
    };
    query::ids(kind, id, &texts)
}

fn spoken(table: &str, column: Option<&str>, usage: Use) -> Advice {
    let message = match usage {
        Use::ById(what) => format!("reading {what} by id reads all of `{table}` for each thousand of them"),
        Use::Segment => format!("`{table}` is read whole for each row of another table"),
    };
    let hint = match column {
        Some(column) => format!("an index on {table}({column}) would help"),
        None => format!(
            "an index on the column by which `{table}` is looked up would help; an expression or a cast around it hides it"
        ),
    };
    Advice { message, hint }
}

/// One line of SQLite's `explain query plan`.
struct Step {
    parent: i64,
    detail: String,
}

/// How a line reads a table.
enum Reading {
    /// By an index, or by its key.
    Lookup,
    /// From one end to the other.
    Scan,
    /// From one end to the other in the order of an index, looking up each row.
    Walk(String),
    /// By an index that SQLite makes for this run, on these columns.
    OwnIndex(String),
}

impl Step {
    fn read(row: &[Cell]) -> Option<Self> {
        match (row.get(1)?, row.get(3)?) {
            (Cell::Integer(parent), Cell::Text(detail)) => {
                Some(Self { parent: *parent, detail: detail.clone() })
            }
            _ => None,
        }
    }

    /// The table it reads, and how; none where it reads none.
    fn reading<'a>(&self, tables: &'a [TableInfo], words: &[String]) -> Option<(&'a TableInfo, Reading)> {
        let (verb, rest) = self.detail.split_once(' ')?;
        let (name, how) = rest.split_once(' ').unwrap_or((rest, ""));
        if !matches!(verb, "SCAN" | "SEARCH") || how.contains("VIRTUAL TABLE") {
            return None;
        }
        let table = resolve(name, tables, words)?;
        let reading = if how.contains("USING AUTOMATIC") {
            let columns = how.rsplit_once('(').map_or("", |(_, columns)| columns.trim_end_matches(')'));
            let columns: Vec<&str> = columns
                .split(" AND ")
                .map(|test| test.split(['=', '<', '>']).next().unwrap_or(test).trim())
                .collect();
            Reading::OwnIndex(columns.join(", "))
        } else if verb == "SEARCH" {
            Reading::Lookup
        } else if let Some(index) = how.strip_prefix("USING INDEX ") {
            Reading::Walk(index.split_whitespace().next().unwrap_or(index).to_owned())
        } else {
            Reading::Scan
        };
        Some((table, reading))
    }

    /// Whether it happens once for each row of a line before it, or of the query around it.
    fn is_inner(&self, steps: &[Self], index: usize) -> bool {
        let reads = |step: &Self| step.detail.starts_with("SCAN ") || step.detail.starts_with("SEARCH ");
        let is_behind = steps.iter().take(index).any(|other| other.parent == self.parent && reads(other));
        is_behind
            || steps
                .iter()
                .take(index)
                .next_back()
                .is_some_and(|before| before.detail.starts_with("CORRELATED"))
    }
}

/// The table behind a name in a plan, which may be its alias in the query.
fn resolve<'a>(name: &str, tables: &'a [TableInfo], words: &[String]) -> Option<&'a TableInfo> {
    let named = |name: &str| tables.iter().find(|table| table.name.eq_ignore_ascii_case(name));
    let alias = name.to_lowercase();
    named(name).or_else(|| {
        let at = words.iter().enumerate().filter(|(_, word)| **word == alias).map(|(at, _)| at);
        let before =
            |at: usize, back: usize| at.checked_sub(back).and_then(|at| words.get(at)).map(String::as_str);
        at.filter_map(|at| match before(at, 1)? {
            "as" => named(before(at, 2)?),
            table => named(table),
        })
        .next()
    })
}

fn say(
    table: &TableInfo,
    reading: &Reading,
    usage: Use,
    origin: Option<&(String, String)>,
    words: &[String],
) -> Advice {
    let name = &table.name;
    match reading {
        Reading::OwnIndex(columns) => Advice {
            message: format!("SQLite makes an index on `{name}` for itself each time"),
            hint: format!("an index on {name}({columns}) would help"),
        },
        Reading::Walk(index) if usage == Use::Segment => {
            let used: BTreeSet<&String> = words.iter().collect();
            let columns = table
                .columns
                .iter()
                .map(|column| column.name.to_lowercase())
                .filter(|column| used.contains(column));
            let columns: Vec<String> = columns.collect();
            Advice {
                message: format!(
                    "all of `{name}` is read through the index `{index}`, with a look-up for each row: slower than reading it plainly"
                ),
                hint: format!(
                    "an index that holds all the query needs would help: {name}({})",
                    columns.join(", ")
                ),
            }
        }
        Reading::Scan | Reading::Walk(_) | Reading::Lookup => {
            let column = origin
                .filter(|(table, _)| table.eq_ignore_ascii_case(name))
                .map(|(_, column)| column.as_str());
            spoken(name, column.filter(|_| usage != Use::Segment), usage)
        }
    }
}

/// A table that Postgres would read whole.
struct SeqScan {
    table: String,
    /// The column it is searched by, if the plan says so.
    column: Option<String>,
    is_inner: bool,
}

/// Walks through Postgres' plan; `is_inner`: what happens here happens once for each row of something else.
fn collect_scans(node: &Json, is_inner: bool, whole: &str, scans: &mut Vec<SeqScan>) {
    let text = |key: &str| node.get(key).and_then(Json::as_str);
    if text("Node Type") == Some("Seq Scan")
        && let Some(table) = text("Relation Name")
    {
        let column = searched_column(text("Alias").unwrap_or(table), text("Filter"), whole);
        scans.push(SeqScan { table: table.to_owned(), column, is_inner });
    }
    let is_loop = text("Node Type") == Some("Nested Loop");
    let outer_rows = |plans: &[Json]| {
        plans.first().and_then(|outer| outer.get("Plan Rows")).and_then(Json::as_f64).unwrap_or(0.0)
    };
    let plans = node.get("Plans").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    for plan in plans {
        let role = plan.get("Parent Relationship").and_then(Json::as_str);
        let name = plan.get("Subplan Name").and_then(Json::as_str);
        let is_hashed = name.is_some_and(|name| whole.contains(&format!("hashed {name}")));
        let repeats = is_loop && role == Some("Inner") && outer_rows(plans) > 1.0
            || role == Some("SubPlan") && !is_hashed;
        collect_scans(plan, is_inner || repeats, whole, scans);
    }
}

/// The first column of `alias` that a condition of the plan names: in the scan's own filter, else anywhere.
fn searched_column(alias: &str, filter: Option<&str>, whole: &str) -> Option<String> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let qualified = |text: &str| {
        let start = format!("{alias}.");
        text.match_indices(&start).find_map(|(at, _)| {
            let is_start = !text.get(..at)?.ends_with(is_name);
            let name: String = text.get(at + start.len()..)?.chars().take_while(|c| is_name(*c)).collect();
            (is_start && !name.is_empty()).then_some(name)
        })
    };
    let bare = |text: &str| {
        let name: String = text.trim_start_matches('(').chars().take_while(|c| is_name(*c)).collect();
        (!name.is_empty()).then_some(name)
    };
    filter.and_then(|filter| qualified(filter).or_else(|| bare(filter))).or_else(|| qualified(whole))
}
