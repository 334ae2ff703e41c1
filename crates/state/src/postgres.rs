//! Postgres: how it is reached, and how one notices that another server has taken over.

use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, PgPool, Postgres, Transaction};

use crate::StateError;
use crate::db::{STATEMENTS_CACHED, WAIT_MAX};
use crate::dialect::IDENTITY_POSTGRES;

const CONNECTIONS_MAX: u32 = 16;

const BEGIN_TO_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// A process that stands still, or has lost its way here, does not keep its locks for long.
const BEGIN_TO_WRITE: &str =
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL idle_in_transaction_session_timeout = '10s'";

/// Postgres keeps the plan it made for a statement when the tables were still empty: a scan, which is then a
/// scan of a million rows a page until the next ANALYZE. Every statement here is meant to go through an
/// index; what must scan (counting) still does.
const FIXED_PLANS: [(&str, &str); 5] = [
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_material", "off"),
    ("jit", "off"),
];

/// A server of Postgres.
pub(crate) struct Server {
    pub(crate) options: Box<PgConnectOptions>,
    pool: PgPool,
    /// Which line of history of which cluster it is on. What was committed on one may be missing on the next.
    pub(crate) identity: String,
    /// A connection led to another one.
    left: Arc<AtomicBool>,
}

/// How a server is reached.
pub(crate) fn options(url: &str) -> Result<Box<PgConnectOptions>, StateError> {
    let options = PgConnectOptions::from_str(url).map_err(|_| StateError::Url)?;
    let wait = format!("{}s", WAIT_MAX.as_secs());
    Ok(Box::new(
        options
            .application_name("drumbeat")
            .options([("lock_timeout", wait.as_str()), ("synchronous_commit", "on"), ("timezone", "UTC")])
            .options(FIXED_PLANS)
            .statement_cache_capacity(STATEMENTS_CACHED)
            .disable_statement_logging(),
    ))
}

impl Server {
    pub(crate) async fn connect(options: Box<PgConnectOptions>) -> Result<Self, StateError> {
        let opened = |source| StateError::Open { source };
        let mut first = options.connect().await.map_err(opened)?;
        let standby: bool =
            sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(&mut first).await.map_err(opened)?;
        if standby {
            return Err(StateError::Standby);
        }
        let identity = ask_identity(&mut first).await.map_err(opened)?;
        first.close().await.map_err(opened)?;
        let left = Arc::new(AtomicBool::new(false));
        let (ours, leaves) = (identity.clone(), Arc::clone(&left));
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(WAIT_MAX)
            .test_before_acquire(false)
            .after_connect(move |connection, _| {
                let (ours, leaves) = (ours.clone(), Arc::clone(&leaves));
                Box::pin(async move {
                    if ask_identity(connection).await? != ours {
                        leaves.store(true, Ordering::SeqCst);
                    }
                    Ok(())
                })
            })
            .connect_with((*options).clone())
            .await
            .map_err(opened)?;
        Ok(Self { options, pool, identity, left })
    }

    pub(crate) async fn read(&self) -> Result<Transaction<'static, Postgres>, StateError> {
        self.begin("begin to read", BEGIN_TO_READ).await
    }

    pub(crate) async fn write(&self) -> Result<Transaction<'static, Postgres>, StateError> {
        self.begin("begin to write", BEGIN_TO_WRITE).await
    }

    /// Begins on a connection that works: after a restart of Postgres, the pool is full of those that do not.
    async fn begin(
        &self,
        operation: &'static str,
        how: &'static str,
    ) -> Result<Transaction<'static, Postgres>, StateError> {
        let mut begun = self.pool.begin_with(how).await;
        for _ in 0..CONNECTIONS_MAX {
            match begun {
                Err(error) if is_broken(&error) => begun = self.pool.begin_with(how).await,
                _ => break,
            }
        }
        // Whoever connects says where that leads, before anybody has the connection.
        if self.left.load(Ordering::SeqCst) {
            return Err(StateError::FailedOver);
        }
        begun.map_err(|source| StateError::Query { operation, source })
    }
}

/// The cluster's number, and the timeline, which changes when a standby takes over.
async fn ask_identity(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    sqlx::query_scalar(IDENTITY_POSTGRES).fetch_one(connection).await
}

/// Whether the connection is of no use any more: class 57P (operator intervention), 25P03 (idle in a transaction for too long).
fn is_broken(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| code.starts_with("57P") || code == "25P03")
        }
        _ => false,
    }
}
