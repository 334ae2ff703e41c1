//! Where people come from: the warehouse, or a world made up for a scenario.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use model::consent::{ConsentEvent, ConsentOrigin, ConsentStatus};
use model::query::Query;
use model::segment::Segment;
use model::{Channel, FreshName, ProfileNumber, PurposeName, SegmentName, Value};
use warehouse::{Snapshot, Warehouse, WarehouseError};

use crate::made::{Inner, MadeWorld};

/// Where people come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// The real one.
    Warehouse(Arc<Warehouse>),
    /// A made-up one.
    Made(Arc<MadeWorld>),
}

/// One consistent view of a [`Source`].
#[derive(Debug)]
pub enum View {
    /// A read transaction.
    Warehouse(Box<Snapshot>),
    /// A copy.
    Made(Box<Inner>),
}

/// A page of a segment's rows, without the `id` among the columns.
#[derive(Debug)]
pub struct SegmentPage {
    /// Names of the values.
    pub columns: Arc<[String]>,
    /// Id (none: NULL or empty) and values.
    pub rows: Vec<(Option<String>, Vec<Value>)>,
}

/// Rows by their `id`, which is not among their columns.
pub type RowsById = BTreeMap<String, BTreeMap<String, Value>>;

/// A row of the consent query that could not be taken, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsentRowError(pub String);

/// A row of the consent query: the person's id, and the event with number 0 in the person's place.
pub type ConsentRow = (String, ConsentEvent);

/// Why a page could not be worked on.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The warehouse failed.
    #[error(transparent)]
    Warehouse(#[from] WarehouseError),
    /// What was done with a page failed.
    #[error(transparent)]
    State(#[from] state::StateError),
    /// A made-up failure.
    #[error("the query of `{0}` fails in this scenario")]
    Made(SegmentName),
    /// A composed segment before the segments it names.
    #[error("{0}")]
    NotReady(String),
    /// A consent query without a column it needs.
    #[error("the consent query has no column `{0}`")]
    ConsentColumn(&'static str),
}

/// Rows read at once: large enough that a write transaction is worth its fsync, small enough to stay out of memory's way.
pub const PAGE_ROWS: usize = 1_000;
/// The same, as a limit of a query.
pub const PAGE_LIMIT: u32 = 1_000;

impl Source {
    /// Opens a view as of `now`.
    pub async fn view(&self, now: Timestamp) -> Result<View, SourceError> {
        Ok(match self {
            Self::Warehouse(warehouse) => View::Warehouse(Box::new(warehouse.snapshot(now).await?)),
            Self::Made(world) => View::Made(Box::new(world.lock().clone())),
        })
    }
}

impl View {
    /// Calls `each` for every page of a segment's rows.
    pub async fn segment_pages(
        &mut self,
        segment: &Segment,
        query: &Query,
        mut each: impl AsyncFnMut(SegmentPage) -> Result<(), SourceError>,
    ) -> Result<(), SourceError> {
        match self {
            Self::Warehouse(snapshot) => {
                snapshot
                    .pages(query, PAGE_ROWS, async |page: warehouse::Page| {
                        let rows = page.rows.into_iter().map(|row| (row.id, row.values)).collect();
                        each(SegmentPage { columns: page.columns, rows }).await
                    })
                    .await
                    .map_err(flatten)?;
                Ok(())
            }
            Self::Made(world) => {
                if world.failing.contains(&segment.name) {
                    return Err(SourceError::Made(segment.name.clone()));
                }
                let rows = world.segments.get(&segment.name).cloned().unwrap_or_default();
                let columns: Arc<[String]> =
                    rows.values().next().map(|row| row.keys().cloned().collect()).unwrap_or_default();
                let rows: Vec<_> = rows
                    .into_iter()
                    .map(|(id, row)| {
                        (
                            Some(id),
                            columns
                                .iter()
                                .map(|name| row.get(name).cloned().unwrap_or(Value::Missing))
                                .collect(),
                        )
                    })
                    .collect();
                for page in rows.chunks(PAGE_ROWS) {
                    each(SegmentPage { columns: Arc::clone(&columns), rows: page.to_vec() }).await?;
                }
                Ok(())
            }
        }
    }

    /// Calls `each` for every page of people: ids and attributes.
    pub async fn profile_pages(
        &mut self,
        query: &Query,
        each: impl AsyncFnMut(Vec<(String, BTreeMap<String, Value>)>) -> Result<(), SourceError>,
    ) -> Result<(), SourceError> {
        self.pages(query, |world| &world.profiles, each).await
    }

    /// The same of accounts.
    pub async fn account_pages(
        &mut self,
        query: &Query,
        each: impl AsyncFnMut(Vec<(String, BTreeMap<String, Value>)>) -> Result<(), SourceError>,
    ) -> Result<(), SourceError> {
        self.pages(query, |world| &world.accounts, each).await
    }

    async fn pages(
        &mut self,
        query: &Query,
        made: impl FnOnce(&Inner) -> &RowsById,
        mut each: impl AsyncFnMut(Vec<(String, BTreeMap<String, Value>)>) -> Result<(), SourceError>,
    ) -> Result<(), SourceError> {
        match self {
            Self::Warehouse(snapshot) => {
                snapshot
                    .pages(query, PAGE_ROWS, async |page: warehouse::Page| {
                        let columns = page.columns;
                        let people = page.rows.into_iter().filter_map(|row| {
                            let attributes = columns.iter().cloned().zip(row.values).collect();
                            Some((row.id?, attributes))
                        });
                        each(people.collect()).await
                    })
                    .await
                    .map_err(flatten)?;
                Ok(())
            }
            Self::Made(world) => each(made(world).clone().into_iter().collect()).await,
        }
    }

    /// The people with these ids (at most 1,000): attributes by id; who is gone is not among them.
    pub async fn profiles(&mut self, query: &Query, ids: &[String]) -> Result<RowsById, SourceError> {
        self.by_id(query, ids, |world| &world.profiles).await
    }

    /// The accounts with these ids (at most 1,000): columns by id; what is not there is not among them.
    pub async fn accounts(&mut self, query: &Query, ids: &[String]) -> Result<RowsById, SourceError> {
        self.by_id(query, ids, |world| &world.accounts).await
    }

    async fn by_id(
        &mut self,
        query: &Query,
        ids: &[String],
        made: impl FnOnce(&Inner) -> &RowsById,
    ) -> Result<RowsById, SourceError> {
        match self {
            Self::Warehouse(snapshot) => {
                let rows = snapshot.by_id(query, ids).await?;
                Ok(rows.into_iter().map(|row| (row.id, row.attributes)).collect())
            }
            Self::Made(world) => {
                let rows = made(world);
                Ok(ids.iter().filter_map(|id| Some((id.clone(), rows.get(id)?.clone()))).collect())
            }
        }
    }

    /// How many people there are.
    pub async fn count(&mut self, query: &Query) -> Result<warehouse::People, SourceError> {
        match self {
            Self::Warehouse(snapshot) => Ok(snapshot.count(query).await?),
            Self::Made(world) => {
                let people = world.profiles.len() as u64;
                Ok(warehouse::People { people, ..Default::default() })
            }
        }
    }

    /// The time a freshness query answers with.
    pub async fn fresh(
        &mut self,
        _name: &FreshName,
        query: &Query,
    ) -> Result<Option<Timestamp>, SourceError> {
        match self {
            Self::Warehouse(snapshot) => Ok(snapshot.fresh(query).await?),
            Self::Made(_) => Ok(Some(Timestamp::MAX)),
        }
    }

    /// Calls `each` for every page of consent rows; rows that make no sense are handed over as what is wrong with them.
    pub async fn consent_pages(
        &mut self,
        query: &Query,
        recorded_at: Timestamp,
        mut each: impl AsyncFnMut(Vec<Result<ConsentRow, ConsentRowError>>) -> Result<(), SourceError>,
    ) -> Result<(), SourceError> {
        match self {
            Self::Warehouse(snapshot) => {
                snapshot
                    .rows(query, PAGE_ROWS, async |page: warehouse::RawPage| {
                        let place = ConsentColumns::find(&page.columns)?;
                        let rows = page.rows.iter().map(|row| place.event(row, recorded_at)).collect();
                        each(rows).await
                    })
                    .await
                    .map_err(flatten)?;
                Ok(())
            }
            Self::Made(world) => {
                let rows = world.consents.iter().map(|row| {
                    let event = ConsentEvent {
                        profile: ProfileNumber(0),
                        channel: row.channel,
                        purpose: row.purpose.clone(),
                        status: row.status,
                        changed_at: row.changed_at,
                        recorded_at,
                        origin: ConsentOrigin::Warehouse,
                        source: "scenario".to_owned(),
                        evidence: None,
                    };
                    Ok((row.profile.clone(), event))
                });
                each(rows.collect()).await
            }
        }
    }

    /// Ends the view.
    pub async fn close(self) {
        if let Self::Warehouse(snapshot) = self {
            snapshot.close().await;
        }
    }
}

fn flatten(error: warehouse::PagesError<SourceError>) -> SourceError {
    match error {
        warehouse::PagesError::Warehouse(error) => SourceError::Warehouse(error),
        warehouse::PagesError::Each(error) => error,
    }
}

/// Where the columns of the consent query stand.
struct ConsentColumns {
    profile: usize,
    channel: usize,
    purpose: usize,
    status: usize,
    changed_at: usize,
    source: Option<usize>,
    evidence: Option<usize>,
}

impl ConsentColumns {
    fn find(columns: &[String]) -> Result<Self, SourceError> {
        let find = |name: &str| columns.iter().position(|column| column == name);
        let need = |name: &'static str| find(name).ok_or(SourceError::ConsentColumn(name));
        Ok(Self {
            profile: need("profile")?,
            channel: need("channel")?,
            purpose: need("purpose")?,
            status: need("status")?,
            changed_at: need("changed_at")?,
            source: find("source"),
            evidence: find("evidence"),
        })
    }

    fn event(&self, row: &[Value], recorded_at: Timestamp) -> Result<ConsentRow, ConsentRowError> {
        let wrong =
            |column: &str, expected: &str| ConsentRowError(format!("column `{column}` is not {expected}"));
        let text = |at: usize| row.get(at).filter(|value| !value.is_missing()).map(ToString::to_string);
        let needed = |at: usize, column: &str| {
            text(at).ok_or_else(|| ConsentRowError(format!("column `{column}` is empty")))
        };
        let profile = needed(self.profile, "profile")?;
        let channel = match needed(self.channel, "channel")?.as_str() {
            "*" => None,
            word => Some(Channel::parse(word).ok_or_else(|| wrong("channel", "a channel or `*`"))?),
        };
        let purpose = match needed(self.purpose, "purpose")?.as_str() {
            "*" => None,
            word => Some(PurposeName::parse(word).map_err(|_| wrong("purpose", "a name or `*`"))?),
        };
        let status = ConsentStatus::parse(&needed(self.status, "status")?)
            .filter(|status| *status != ConsentStatus::Absent)
            .ok_or_else(|| wrong("status", "granted, withdrawn or pending"))?;
        needed(self.changed_at, "changed_at")?;
        let changed_at =
            row.get(self.changed_at).and_then(Value::as_time).ok_or_else(|| wrong("changed_at", "a time"))?;
        let event = ConsentEvent {
            profile: ProfileNumber(0),
            channel,
            purpose,
            status,
            changed_at,
            recorded_at,
            origin: ConsentOrigin::Warehouse,
            source: self.source.and_then(text).unwrap_or_else(|| "warehouse".to_owned()),
            evidence: self.evidence.and_then(text),
        };
        Ok((profile, event))
    }
}
