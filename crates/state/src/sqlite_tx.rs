//! A transaction of SQLite. A turn of its thread costs more than most statements, and so one that writes begins with its first
//! question and ends with its last change: neither BEGIN nor COMMIT is a turn of its own.

use sqlx::pool::PoolConnection;
use sqlx::{Sqlite, SqliteConnection, Transaction};

use crate::ask::{Joined, Statement};
use crate::db::{Bind, bound};

/// A transaction of SQLite.
pub(crate) enum SqliteTx {
    Reads(Transaction<'static, Sqlite>),
    Writes(Writer),
}

/// The one connection that writes.
pub(crate) struct Writer {
    connection: PoolConnection<Sqlite>,
    /// Whether there may be something to be taken back.
    is_open: bool,
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.is_open {
            // A closed connection takes back what was not committed, and the pool opens another.
            self.connection.close_on_drop();
        }
    }
}

impl SqliteTx {
    pub(crate) fn writes(connection: PoolConnection<Sqlite>) -> Self {
        Self::Writes(Writer { connection, is_open: false })
    }

    /// What is to be executed before anything else.
    pub(crate) fn beginning(&mut self) -> Option<(&'static str, Vec<Bind>)> {
        match self {
            Self::Writes(writer) if !writer.is_open => {
                writer.is_open = true;
                Some(("BEGIN IMMEDIATE", Vec::new()))
            }
            Self::Writes(_) | Self::Reads(_) => None,
        }
    }

    pub(crate) fn connection(&mut self) -> &mut SqliteConnection {
        match self {
            Self::Reads(tx) => tx,
            Self::Writes(writer) => &mut writer.connection,
        }
    }

    /// The connection, within the transaction.
    pub(crate) async fn begun(&mut self) -> Result<&mut SqliteConnection, sqlx::Error> {
        if let Some((begin, _)) = self.beginning() {
            sqlx::query(begin).execute(self.connection()).await?;
        }
        Ok(self.connection())
    }

    /// Makes these changes, and everything before them, durable.
    pub(crate) async fn commit(mut self, changes: Vec<Statement>) -> Result<(), sqlx::Error> {
        if matches!(&self, Self::Writes(writer) if !writer.is_open) && changes.is_empty() {
            return Ok(());
        }
        let mut joined = Joined::default();
        joined.changes(self.beginning());
        joined.changes(changes.into_iter().map(|one| (one.sql.sqlite, one.binds)));
        match self {
            Self::Reads(tx) => tx.commit().await,
            Self::Writes(mut writer) => {
                joined.changes([("COMMIT", Vec::new())]);
                let sql = joined.sql();
                bound::<Sqlite>(sql, joined.binds).execute(&mut *writer.connection).await?;
                writer.is_open = false;
                Ok(())
            }
        }
    }

    pub(crate) async fn rollback(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Reads(tx) => tx.rollback().await,
            Self::Writes(mut writer) => {
                if writer.is_open {
                    sqlx::query("ROLLBACK").execute(&mut *writer.connection).await?;
                    writer.is_open = false;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::dialect::Sql;
    use crate::{Access, StateError, meta};

    #[tokio::test]
    async fn a_change_that_fails_at_the_end_takes_back_everything() {
        let folder = tempfile::tempdir().unwrap();
        let state =
            crate::State::connect_sqlite(folder.path().join("state.db"), Access::Create).await.unwrap();
        crate::migrate::apply(&state, crate::migrate::MIGRATIONS).await.unwrap();
        let mut tx = state.write().await.unwrap();
        meta::set(&mut tx, "key", "value").await.unwrap();
        tx.later(
            "write a key twice",
            &Sql::same("INSERT INTO meta (key, value) VALUES ('key', 'other')"),
            vec![],
        );
        let failed = tx.commit().await;
        assert!(matches!(failed, Err(StateError::Query { operation: "write a key twice", .. })));
        let mut tx = state.write().await.unwrap();
        assert_eq!(meta::get(&mut tx, "key").await.unwrap(), None);
        meta::set(&mut tx, "key", "later").await.unwrap();
        drop(tx);
        let mut tx = state.write().await.unwrap();
        assert_eq!(meta::get(&mut tx, "key").await.unwrap(), None, "what is dropped is taken back");
    }
}
