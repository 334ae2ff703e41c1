//! Reads the warehouse: read-only, one consistent snapshot a run, rows in pages, people and accounts by id in thousands.
//!
//! Nothing here writes, decides or remembers. The database that holds the warehouse is a user's: what it says may be
//! anything, and costs what it costs, so every answer is bounded and every statement has a time limit.

mod advice;
mod clock;
mod error;
mod look;
mod postgres;
mod query;
mod session;
mod snapshot;
mod sqlite;
mod value;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use model::settings::{TimeEncoding, WarehouseSettings};

pub use advice::{Advice, Use};
pub use error::{PagesError, QueryError, WarehouseError};
pub use look::{Prepared, PreparedColumn, TableColumn, TableInfo};
pub use snapshot::{Counts, IDS_MAX, Page, Pages, People, RawPage, Row, RowById, Snapshot};

use postgres::PostgresAccess;
use session::{Access, Idle};
use sqlite::SqliteAccess;

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    Sqlite,
    /// A server.
    Postgres,
}

/// The warehouse: how to reach it, and a few connections that are open.
pub struct Warehouse {
    access: Access,
    idle: Arc<Idle>,
    kind: Kind,
    times: TimeEncoding,
    zone: TimeZone,
    timeout: Duration,
}

impl std::fmt::Debug for Warehouse {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Warehouse").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Warehouse {
    /// Opens a warehouse and looks whether it answers.
    ///
    /// `dir` is the project's folder, to which a file's path is relative; `zone` is the project's, in which `:today` is
    /// a date.
    ///
    /// # Errors
    /// [`WarehouseError::Url`] for a URL that is neither `sqlite://` nor `postgres://`, [`WarehouseError::Unreachable`]
    /// for a file that is not there or a server that does not answer.
    pub async fn open(
        settings: &WarehouseSettings,
        dir: &Path,
        zone: &TimeZone,
    ) -> Result<Self, WarehouseError> {
        let url = settings.url.reveal();
        let timeout = Duration::try_from(settings.statement_timeout)
            .unwrap_or(Duration::ZERO)
            .max(Duration::from_millis(1));
        let wrong = |why| WarehouseError::Url { why };
        let (kind, access) = if url.starts_with("sqlite:") {
            (Kind::Sqlite, Access::Sqlite(SqliteAccess::new(url, dir).map_err(wrong)?))
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let access = PostgresAccess::new(url, settings.schema.clone(), timeout).map_err(wrong)?;
            (Kind::Postgres, Access::Postgres(Box::new(access)))
        } else {
            return Err(wrong("must begin with `sqlite://` or `postgres://`"));
        };
        let warehouse =
            Self { access, idle: Arc::default(), kind, times: settings.times, zone: zone.clone(), timeout };
        warehouse.snapshot(Timestamp::UNIX_EPOCH).await?.close().await;
        Ok(warehouse)
    }

    /// Which database it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Opens a consistent view, in which `:now` is `now`.
    pub async fn snapshot(&self, now: Timestamp) -> Result<Snapshot, WarehouseError> {
        Ok(Snapshot {
            session: self.access.session(&self.idle, self.timeout).await?,
            idle: Arc::clone(&self.idle),
            kind: self.kind,
            times: self.times,
            zone: self.zone.clone(),
            timeout: self.timeout,
            now,
            known: BTreeMap::new(),
        })
    }
}
