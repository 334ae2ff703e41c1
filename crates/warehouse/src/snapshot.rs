//! One consistent view of the warehouse: a read transaction, and what a run reads in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use model::Value;
use model::query::Query;
use model::settings::TimeEncoding;
use model::sql::Bound;
use model::value::ValueType;

use crate::Kind;
use crate::error::{PagesError, WarehouseError, failed};
use crate::query::{self, Argument, Binding, Described, IdType, Statement};
use crate::session::{Idle, Rows, Session, place};
use crate::value::Cell;

/// Most ids that [`Snapshot::by_id`] takes at once.
pub const IDS_MAX: usize = 1_000;

/// One consistent view of the warehouse.
///
/// On Postgres it sees what was committed when it was opened; on SQLite too. A query that fails leaves it usable.
pub struct Snapshot {
    pub(crate) session: Session,
    pub(crate) idle: Arc<Idle>,
    pub(crate) kind: Kind,
    pub(crate) times: TimeEncoding,
    pub(crate) zone: TimeZone,
    pub(crate) timeout: Duration,
    pub(crate) now: Timestamp,
    /// What the database said about queries it has seen, by their text.
    pub(crate) known: BTreeMap<String, Arc<[Described]>>,
}

/// Rows of a query about people.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Names of the values, without `id`.
    pub columns: Arc<[String]>,
    /// In the order in which the database gave them.
    pub rows: Vec<Row>,
}

/// A row of a query about people.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The id as canonical text: decimal, lower-case UUID, or the text as it is. None: NULL or empty.
    pub id: Option<String>,
    /// One for each of the page's columns.
    pub values: Vec<Value>,
}

/// Rows of any query.
#[derive(Debug, Clone, PartialEq)]
pub struct RawPage {
    /// Names of the values.
    pub columns: Arc<[String]>,
    /// One value for each column.
    pub rows: Vec<Vec<Value>>,
}

/// A person or an account, read by id.
#[derive(Debug, Clone, PartialEq)]
pub struct RowById {
    /// As it was asked for.
    pub id: String,
    /// All other columns.
    pub attributes: BTreeMap<String, Value>,
}

/// What a query's rows came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// Rows in all.
    pub rows: u64,
    /// Of these, rows whose id is NULL or empty.
    pub without_id: u64,
    /// How many values of a column could not be read as its type, and were taken for missing.
    pub unreadable: BTreeMap<String, u64>,
}

/// How many people a query has, and how many of its rows are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct People {
    /// Different ids.
    pub people: u64,
    /// Rows whose id another row has.
    pub duplicates: u64,
    /// Rows whose id is NULL or empty.
    pub missing_ids: u64,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Snapshot")
            .field("kind", &self.kind)
            .field("as_of", &self.now)
            .finish_non_exhaustive()
    }
}

/// A query ready to run: bound, described, and what each column is to be read as.
struct Ready {
    bound: Bound,
    arguments: Vec<Argument>,
    columns: Arc<[Described]>,
    wanted: Vec<Option<ValueType>>,
}

impl Ready {
    fn id(&self, place: &str) -> Result<usize, WarehouseError> {
        match id_column(&self.columns) {
            Ok(id) => Ok(id),
            Err(why) => Err(WarehouseError::Id { place: place.to_owned(), why }),
        }
    }

    fn statement(&self, sql: String) -> Statement {
        Statement { sql, arguments: self.arguments.clone() }
    }

    fn names_without(&self, id: Option<usize>) -> Arc<[String]> {
        let named = self.columns.iter().enumerate().filter(|(index, _)| Some(*index) != id);
        named.map(|(_, column)| column.name.clone()).collect()
    }
}

/// Where the column `id` is, or what is wrong with it.
pub(crate) fn id_column(columns: &[Described]) -> Result<usize, String> {
    let Some(index) = columns.iter().position(|column| column.name.eq_ignore_ascii_case("id")) else {
        return Err("no column is called `id`: name it so, `customer_id as id`".to_owned());
    };
    match columns.get(index) {
        Some(column) if column.id == IdType::Other => Err(format!(
            "the column `id` is of type {}; ids are integer, text or uuid: cast it, `cast(... as text) as id`",
            column.type_name
        )),
        _ => Ok(index),
    }
}

/// The types a query's columns are read as: what is declared, else what the database holds them to.
pub(crate) fn wanted(kind: Kind, query: &Query, columns: &[Described]) -> Vec<Option<ValueType>> {
    let own = |column: &Described| match (kind, column.kind) {
        // SQLite's columns hold what they are given; only the types it does not have need reading.
        (Kind::Sqlite, Some(ValueType::Boolean | ValueType::Date | ValueType::Time)) => column.kind,
        (Kind::Sqlite, _) => None,
        (Kind::Postgres, own) => own,
    };
    columns.iter().map(|column| declared(query, &column.name).or_else(|| own(column))).collect()
}

pub(crate) fn declared(query: &Query, column: &str) -> Option<ValueType> {
    query.columns.get(column).and_then(|column| column.kind)
}

/// A row's id as canonical text; none where there is none, an error where its type is no id's.
fn id_text(cell: Cell, place: &str) -> Result<Option<String>, WarehouseError> {
    let wrong = |what: &str| WarehouseError::Id {
        place: place.to_owned(),
        why: format!("a row's `id` is {what}; ids are integer, text or uuid"),
    };
    Ok(match cell {
        Cell::Null => None,
        Cell::Integer(integer) => Some(integer.to_string()),
        Cell::Text(text) => (!text.is_empty()).then_some(text),
        Cell::Number(_) => return Err(wrong("a number with a fraction")),
        Cell::Boolean(_) | Cell::Date(_) | Cell::Time(_) | Cell::Json(_) => {
            return Err(wrong("of another type"));
        }
        Cell::Unreadable => return Err(wrong("made of bytes")),
    })
}

impl Counts {
    /// Reads a value; what cannot be read is missing, and counted.
    fn read(&mut self, cell: Cell, wanted: Option<ValueType>, times: TimeEncoding, column: &str) -> Value {
        cell.read(wanted, times).unwrap_or_else(|| {
            match self.unreadable.get_mut(column) {
                Some(count) => *count += 1,
                None => drop(self.unreadable.insert(column.to_owned(), 1)),
            }
            Value::Missing
        })
    }
}

impl Snapshot {
    /// The run's time: what `:now` stands for.
    pub fn as_of(&self) -> Timestamp {
        self.now
    }

    /// Begins to read a query about people (a column called `id`) in pages of at most `page_rows`. Memory stays bounded:
    /// no more than a page, and what the driver is ahead.
    ///
    /// Rows come as the database gives them: a repeated id comes repeatedly. What is returned may be let go of at any
    /// time; the rest is then not read.
    pub async fn read<'a>(
        &'a mut self,
        query: &'a Query,
        page_rows: usize,
    ) -> Result<Pages<'a>, WarehouseError> {
        self.begin(query, page_rows, true).await
    }

    /// Begins to read any query; no column need be called `id`, and each row's id is none.
    pub async fn read_any<'a>(
        &'a mut self,
        query: &'a Query,
        page_rows: usize,
    ) -> Result<Pages<'a>, WarehouseError> {
        self.begin(query, page_rows, false).await
    }

    /// [`Self::read`], with `each` called for every page.
    ///
    /// The compiler cannot tell that a task may move between threads that calls this with a closure that borrows: in a
    /// spawned task use [`Self::read`].
    ///
    /// # Errors
    /// The warehouse's, or the first that `each` returns; then the rest is not read.
    pub async fn pages<E>(
        &mut self,
        query: &Query,
        page_rows: usize,
        mut each: impl AsyncFnMut(Page) -> Result<(), E>,
    ) -> Result<Counts, PagesError<E>> {
        let mut pages = self.read(query, page_rows).await?;
        while let Some(page) = pages.next().await? {
            each(page).await.map_err(PagesError::Each)?;
        }
        Ok(pages.finish())
    }

    /// [`Self::read_any`], with `each` called for every page; about spawned tasks see [`Self::pages`].
    ///
    /// # Errors
    /// As [`Self::pages`].
    pub async fn rows<E>(
        &mut self,
        query: &Query,
        page_rows: usize,
        mut each: impl AsyncFnMut(RawPage) -> Result<(), E>,
    ) -> Result<Counts, PagesError<E>> {
        let mut pages = self.read_any(query, page_rows).await?;
        while let Some(page) = pages.next().await? {
            let rows = page.rows.into_iter().map(|row| row.values).collect();
            each(RawPage { columns: page.columns, rows }).await.map_err(PagesError::Each)?;
        }
        Ok(pages.finish())
    }

    /// The people or accounts with these ids, at most [`IDS_MAX`] of them (more are left out); the first row of a repeated id
    /// stands, and who is not there is not among them. In no particular order.
    pub async fn by_id(&mut self, query: &Query, ids: &[String]) -> Result<Vec<RowById>, WarehouseError> {
        let place = place(query);
        let ready = self.ready(query).await?;
        let id = ready.id(place)?;
        let id_type = ready.columns.get(id).map_or(IdType::Dynamic, |column| column.id);
        let ids = query::ids(self.kind, id_type, ids.get(..IDS_MAX).unwrap_or(ids));
        let statement = query::by_id(&ready.bound, ready.arguments.clone(), &ready.columns, id, ids);
        let times = self.times;
        let mut counts = Counts::default();
        let mut seen = BTreeSet::new();
        let names = ready.names_without(Some(id));
        let mut found = Vec::new();
        for cells in self.session.all(place, &statement).await? {
            let row = counts.row(cells, id, &ready, times, place)?;
            if let Some(id) = row.id
                && seen.insert(id.clone())
            {
                found.push(RowById { id, attributes: names.iter().cloned().zip(row.values).collect() });
            }
        }
        Ok(found)
    }

    /// How many people a query has.
    pub async fn count(&mut self, query: &Query) -> Result<People, WarehouseError> {
        let place = place(query);
        let ready = self.ready(query).await?;
        let id = ready.id(place)?;
        let statement = ready.statement(query::count_ids(self.kind, &ready.bound, &ready.columns, id));
        let rows = self.session.all(place, &statement).await?;
        let count = |column: usize| match rows.first().and_then(|row| row.get(column)) {
            Some(Cell::Integer(count)) => u64::try_from(*count).unwrap_or(0),
            _ => 0,
        };
        let (different, with_id, rows) = (count(0), count(1), count(2));
        Ok(People {
            people: different,
            duplicates: with_id.saturating_sub(different),
            missing_ids: rows.saturating_sub(with_id),
        })
    }

    /// The time a freshness query answers with: its first row's first column. None: NULL, or no row.
    pub async fn fresh(&mut self, query: &Query) -> Result<Option<Timestamp>, WarehouseError> {
        let place = place(query);
        let ready = self.ready(query).await?;
        let statement = ready.statement(query::rows(self.kind, &ready.bound, &ready.columns));
        let rows = self.session.all(place, &statement).await?;
        let Some(cell) = rows.into_iter().next().and_then(|row| row.into_iter().next()) else {
            return Ok(None);
        };
        match cell.read(Some(ValueType::Time), self.times) {
            Some(Value::Time(time)) => Ok(Some(time)),
            Some(_) => Ok(None),
            None => Err(WarehouseError::Fresh { place: place.to_owned() }),
        }
    }

    /// Ends the transaction and gives the connection back.
    pub async fn close(self) {
        self.session.close(&self.idle).await;
    }

    pub(crate) fn binding(&self) -> Binding<'_> {
        Binding { kind: self.kind, times: self.times, zone: &self.zone, now: self.now }
    }

    async fn begin<'a>(
        &'a mut self,
        query: &'a Query,
        page_rows: usize,
        by_id: bool,
    ) -> Result<Pages<'a>, WarehouseError> {
        let place = place(query);
        let ready = self.ready(query).await?;
        let id = if by_id { Some(ready.id(place)?) } else { None };
        let names = ready.names_without(id);
        let statement = ready.statement(query::rows(self.kind, &ready.bound, &ready.columns));
        let rows = self.session.stream(place, &statement).await?;
        Ok(Pages {
            rows,
            ready,
            id,
            names,
            page_rows: page_rows.max(1),
            times: self.times,
            counts: Counts::default(),
            place,
        })
    }

    /// Binds a query and asks the database, once a snapshot, what its columns are.
    async fn ready(&mut self, query: &Query) -> Result<Ready, WarehouseError> {
        let place = place(query);
        let (bound, arguments) = query::bound(query, &self.binding())
            .map_err(|mistake| WarehouseError::Mistake { place: place.to_owned(), mistake })?;
        let columns = match self.known.get(&query.sql) {
            Some(columns) => Arc::clone(columns),
            None => {
                let described = self
                    .session
                    .describe(&bound)
                    .await
                    .map_err(|error| failed(place, error, self.timeout))?;
                unique(place, &described)?;
                let columns: Arc<[Described]> = described.into();
                self.known.insert(query.sql.clone(), Arc::clone(&columns));
                columns
            }
        };
        let wanted = wanted(self.kind, query, &columns);
        Ok(Ready { bound, arguments, columns, wanted })
    }
}

/// A query whose rows are being read.
pub struct Pages<'a> {
    rows: Rows<'a>,
    ready: Ready,
    id: Option<usize>,
    names: Arc<[String]>,
    page_rows: usize,
    times: TimeEncoding,
    counts: Counts,
    place: &'a str,
}

impl std::fmt::Debug for Pages<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Pages")
            .field("place", &self.place)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl Pages<'_> {
    /// The next page; none when all rows were read. What the caller does between two pages is not counted as the
    /// database's time.
    pub async fn next(&mut self) -> Result<Option<Page>, WarehouseError> {
        let cells = self.rows.next(self.page_rows).await?;
        if cells.is_empty() {
            return Ok(None);
        }
        let rows = cells.into_iter().map(|cells| match self.id {
            Some(id) => self.counts.row(cells, id, &self.ready, self.times, self.place),
            None => Ok(Row { id: None, values: self.counts.values(cells, None, &self.ready, self.times) }),
        });
        let rows = rows.collect::<Result<_, _>>()?;
        Ok(Some(Page { columns: Arc::clone(&self.names), rows }))
    }

    /// Ends the reading: what the rows came to that were read.
    pub fn finish(self) -> Counts {
        self.counts
    }
}

impl Counts {
    fn row(
        &mut self,
        mut cells: Vec<Cell>,
        id: usize,
        ready: &Ready,
        times: TimeEncoding,
        place: &str,
    ) -> Result<Row, WarehouseError> {
        let key = cells.get_mut(id).map_or(Cell::Null, |cell| std::mem::replace(cell, Cell::Null));
        let key = id_text(key, place)?;
        self.without_id += u64::from(key.is_none());
        Ok(Row { id: key, values: self.values(cells, Some(id), ready, times) })
    }

    fn values(
        &mut self,
        cells: Vec<Cell>,
        without: Option<usize>,
        ready: &Ready,
        times: TimeEncoding,
    ) -> Vec<Value> {
        self.rows += 1;
        let columns = ready.columns.iter().zip(&ready.wanted);
        let kept = cells.into_iter().zip(columns).enumerate().filter(|(index, _)| Some(*index) != without);
        kept.map(|(_, (cell, (column, wanted)))| self.read(cell, *wanted, times, &column.name)).collect()
    }
}

/// Refuses two columns of one name.
pub(crate) fn unique(place: &str, columns: &[Described]) -> Result<(), WarehouseError> {
    let mut seen = BTreeSet::new();
    match columns.iter().find(|column| !seen.insert(&column.name)) {
        Some(twice) => Err(WarehouseError::TwoColumns { place: place.to_owned(), name: twice.name.clone() }),
        None => Ok(()),
    }
}
