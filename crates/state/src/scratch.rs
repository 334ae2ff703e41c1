//! A copy of the state to play on, thrown away with its last handle: what a plan is made on. Always SQLite,
//! whatever it copies.
//!
//! From Postgres everything is copied but the audit log, which no decision reads.

#[expect(
    clippy::disallowed_types,
    reason = "names of our own tables and columns; no value is in these texts"
)]
use sqlx::AssertSqlSafe;
use sqlx::{Row as _, SqliteConnection};

use crate::backup::copy_sqlite;
use crate::db::{Inner, State};
use crate::error::StateError;
use crate::migrate;

/// The tables that decisions read, parents first.
const TABLES: &[&str] = &[
    "meta",
    "counter",
    "sealed_key",
    "profile",
    "erased",
    "segment",
    "segment_run",
    "playbook",
    "playbook_version",
    "entering",
    "enrollment",
    "delivery",
    "attempt",
    "consent_event",
    "consent",
    "suppression",
    "fact",
    "halt",
    "shared_touch",
    "spent",
    "canary",
];

impl State {
    /// Makes a state of its own in a temporary folder: a copy of `of` as of now, or an empty one.
    pub async fn scratch(of: Option<&Self>) -> Result<Self, StateError> {
        let folder = tempfile::tempdir().map_err(|source| StateError::File {
            operation: "make a temporary folder",
            path: std::env::temp_dir(),
            source,
        })?;
        let path = folder.path().join("scratch.db");
        if let Some(original) = of.and_then(Self::path) {
            copy_sqlite(original, &path).await?;
        }
        let state = Self::connect_scratch(path, folder).await?;
        migrate::apply(&state, migrate::MIGRATIONS).await?;
        if let Some(original) = of.filter(|original| original.is_postgres()) {
            copy_postgres(original, &state).await?;
        }
        Ok(state)
    }
}

async fn copy_postgres(original: &State, to: &State) -> Result<(), StateError> {
    let mut from = original.read().await?;
    let mut into = to.write().await?;
    for table in TABLES {
        copy_table(&mut from.inner, &mut into.inner, table).await?;
    }
    from.rollback().await?;
    into.commit().await
}

async fn copy_table(from: &mut Inner, into: &mut Inner, table: &str) -> Result<(), StateError> {
    let failed = |source| StateError::Query { operation: "copy the state", source };
    let (Inner::Postgres(from), Inner::Sqlite(into)) = (from, into) else {
        return Err(StateError::Broken { what: "a scratch state is copied from Postgres into SQLite" });
    };
    let into = into.begun().await.map_err(failed)?;
    let columns = columns(into, table).await.map_err(failed)?;
    let names = columns.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    let values = columns
        .iter()
        // Bytes travel as Postgres writes them in JSON: `\x` and hex.
        .map(|(name, is_bytes)| {
            if *is_bytes {
                format!("unhex(substr(value->>'{name}', 3))")
            } else {
                format!("value->>'{name}'")
            }
        })
        .collect::<Vec<_>>()
        .join(", ");
    let safe = |sql: String| AssertSqlSafe(sql);
    let insert = format!("INSERT INTO {table} ({names}) SELECT {values} FROM json_each($1)");
    let declare = format!("DECLARE copied NO SCROLL CURSOR FOR SELECT to_jsonb(t)::text FROM {table} t");
    sqlx::query(safe(format!("DELETE FROM {table}"))).execute(&mut *into).await.map_err(failed)?;
    sqlx::query(safe(declare)).execute(&mut **from).await.map_err(failed)?;
    loop {
        let rows = sqlx::query("FETCH 1000 FROM copied").fetch_all(&mut **from).await.map_err(failed)?;
        if rows.is_empty() {
            break;
        }
        let texts: Vec<String> =
            rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(failed)?;
        sqlx::query(safe(insert.clone()))
            .bind(format!("[{}]", texts.join(",")))
            .execute(&mut *into)
            .await
            .map_err(failed)?;
    }
    sqlx::query("CLOSE copied").execute(&mut **from).await.map_err(failed)?;
    Ok(())
}

/// The columns of a table, and whether each holds bytes.
async fn columns(into: &mut SqliteConnection, table: &str) -> Result<Vec<(String, bool)>, sqlx::Error> {
    let rows: Vec<(String, String)> = sqlx::query_as("SELECT name, type FROM pragma_table_info($1)")
        .bind(table.to_owned())
        .fetch_all(into)
        .await?;
    Ok(rows.into_iter().map(|(name, kind)| (name, kind == "BLOB")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Access, meta};

    #[tokio::test]
    async fn a_scratch_state_is_a_copy_that_leaves_the_original_alone() {
        let folder = tempfile::tempdir().unwrap();
        let url = model::Secret::new("sqlite://state.db");
        let original = State::open(&url, folder.path(), Access::Create).await.unwrap();
        let mut tx = original.write().await.unwrap();
        meta::set(&mut tx, "k", "before").await.unwrap();
        tx.commit().await.unwrap();
        let copy = State::scratch(Some(&original)).await.unwrap();
        let mut tx = copy.write().await.unwrap();
        assert_eq!(meta::get(&mut tx, "k").await.unwrap().as_deref(), Some("before"));
        meta::set(&mut tx, "k", "after").await.unwrap();
        tx.commit().await.unwrap();
        let mut tx = original.read().await.unwrap();
        assert_eq!(meta::get(&mut tx, "k").await.unwrap().as_deref(), Some("before"));
    }
}
