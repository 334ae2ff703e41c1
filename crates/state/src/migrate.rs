//! Migrations: one file a step and database. SQLite applies them when it is opened, Postgres when `migrate`
//! is run. A migration is never changed once released; there is no way back but the copy.

use crate::db::{Inner, State, Tx, binds};
use crate::dialect::Sql;
use crate::error::StateError;

/// One step of the schema.
pub(crate) struct Migration {
    pub(crate) version: i64,
    pub(crate) name: &'static str,
    pub(crate) sql: Sql,
}

/// A step that stands in a file of its name for each database.
macro_rules! migration {
    ($version:literal, $name:literal) => {
        Migration {
            version: $version,
            name: $name,
            sql: Sql {
                sqlite: include_str!(concat!("../migrations/sqlite/", $name, ".sql")),
                postgres: include_str!(concat!("../migrations/postgres/", $name, ".sql")),
            },
        }
    };
}

/// All steps, in order, numbered from 1.
pub(crate) const MIGRATIONS: &[Migration] = &[
    migration!(1, "0001_init"),
    migration!(2, "0002_attempts_by_person"),
    migration!(3, "0003_deaths"),
    migration!(4, "0004_nodes"),
    migration!(5, "0005_rates"),
    migration!(6, "0006_tally"),
    migration!(7, "0007_shared"),
    migration!(8, "0008_allowances"),
    migration!(9, "0009_complaints"),
    migration!(10, "0010_audiences"),
    migration!(11, "0011_records"),
    migration!(12, "0012_lanes"),
    migration!(14, "0014_fallbacks"),
    migration!(15, "0015_content"),
];

const HAS_TABLE: Sql = Sql {
    sqlite: "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = 'schema_migration'",
    postgres: "SELECT COUNT(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'schema_migration'",
};

/// Two processes that migrate at once: the second waits and finds nothing to do. SQLite's writer waits by
/// itself.
const LOCK: Sql = Sql { sqlite: "SELECT 1", postgres: "SELECT 1 FROM pg_advisory_xact_lock(7166480731)" };

const CREATE_TABLE: Sql = Sql {
    sqlite: "CREATE TABLE schema_migration (version INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL) STRICT",
    postgres: "CREATE TABLE schema_migration (version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL)",
};

/// Errors unless the schema is exactly the one this binary knows.
pub(crate) async fn refuse_unless_current(state: &State) -> Result<(), StateError> {
    let mut tx = state.read().await?;
    let have = version(&mut tx).await?;
    tx.rollback().await?;
    let want = last(MIGRATIONS);
    if have > want {
        Err(StateError::SchemaAhead { have, want })
    } else if have < want {
        Err(StateError::SchemaBehind { have, want })
    } else {
        Ok(())
    }
}

/// Applies what is missing, all of it in one transaction; the names of what was applied.
pub(crate) async fn apply(
    state: &State,
    migrations: &'static [Migration],
) -> Result<Vec<String>, StateError> {
    let want = last(migrations);
    let mut tx = state.read().await?;
    let before = version(&mut tx).await?;
    tx.rollback().await?;
    if before == want {
        return Ok(Vec::new());
    }
    if before > want {
        return Err(StateError::SchemaAhead { have: before, want });
    }
    if before > 0 {
        back_up(state, before).await?;
    }
    let mut tx = state.write().await?;
    tx.execute("lock the schema", &LOCK, vec![]).await?;
    let have = version(&mut tx).await?;
    if have == 0 {
        tx.execute("make the table of migrations", &CREATE_TABLE, vec![]).await?;
    }
    let mut applied = Vec::new();
    for migration in migrations.iter().filter(|migration| migration.version > have) {
        run(&mut tx, migration).await?;
        applied.push(migration.name.to_owned());
    }
    tx.commit().await?;
    Ok(applied)
}

fn last(migrations: &[Migration]) -> i64 {
    migrations.last().map_or(0, |migration| migration.version)
}

/// The schema's version; 0: there is none.
async fn version(tx: &mut Tx) -> Result<i64, StateError> {
    let tables: Vec<(i64,)> = tx.rows("look for the schema", &HAS_TABLE, vec![]).await?;
    if tables != [(1,)] {
        return Ok(0);
    }
    let sql = Sql::same("SELECT COALESCE(MAX(version), 0) FROM schema_migration");
    let versions: Vec<(i64,)> = tx.rows("read the schema's version", &sql, vec![]).await?;
    Ok(versions.first().map_or(0, |(version,)| *version))
}

async fn run(tx: &mut Tx, migration: &Migration) -> Result<(), StateError> {
    let done = match &mut tx.inner {
        Inner::Sqlite(tx) => match tx.begun().await {
            Ok(connection) => sqlx::raw_sql(migration.sql.sqlite).execute(connection).await.map(|_| ()),
            Err(error) => Err(error),
        },
        Inner::Postgres(tx) => sqlx::raw_sql(migration.sql.postgres).execute(&mut **tx).await.map(|_| ()),
    };
    done.map_err(|source| StateError::Migrate { name: migration.name, source })?;
    let sql = Sql::same("INSERT INTO schema_migration (version, name) VALUES ($1, $2)");
    tx.execute("note a migration", &sql, binds![migration.version, migration.name]).await?;
    Ok(())
}

/// A copy beside an SQLite state, named after the schema it has. One that is there already is of the same
/// schema, and older: it stays.
async fn back_up(state: &State, version: i64) -> Result<(), StateError> {
    let Some(path) = state.path() else { return Ok(()) };
    let copy = path.with_added_extension(format!("schema-{version}.backup"));
    if copy.exists() { Ok(()) } else { state.copy(&copy).await }
}

#[cfg(test)]
mod tests {
    use model::{DeliveryId, ProfileNumber};

    use super::*;
    use crate::Access;
    use crate::delivery::DeliveryKey;

    const TWO_STEPS: &[Migration] = &[
        Migration {
            version: 1,
            name: "one",
            sql: Sql::same("CREATE TABLE first (value BIGINT); INSERT INTO first VALUES (7)"),
        },
        Migration { version: 2, name: "two", sql: Sql::same("CREATE TABLE second (value BIGINT)") },
    ];
    const A_BROKEN_STEP: &[Migration] = &[Migration {
        version: 1,
        name: "broken",
        sql: Sql::same("CREATE TABLE third (value BIGINT); SELECT nonsense"),
    }];

    async fn state(folder: &std::path::Path) -> State {
        State::connect_sqlite(folder.join("deep/state.db"), Access::Create).await.unwrap()
    }

    #[tokio::test]
    async fn an_older_state_is_copied_before_it_is_changed() {
        let folder = tempfile::tempdir().unwrap();
        let state = state(folder.path()).await;
        assert_eq!(apply(&state, &TWO_STEPS[..1]).await.unwrap(), ["one"]);
        let copy = folder.path().join("deep/state.db.schema-1.backup");
        assert!(!copy.exists(), "a new state needs no copy");
        assert_eq!(apply(&state, TWO_STEPS).await.unwrap(), ["two"]);
        assert!(apply(&state, TWO_STEPS).await.unwrap().is_empty());
        let copy = State::connect_sqlite(copy, Access::ReadOnly).await.unwrap();
        let mut tx = copy.read().await.unwrap();
        assert_eq!(version(&mut tx).await.unwrap(), 1);
        let kept: Vec<(i64,)> = tx.rows("read", &Sql::same("SELECT value FROM first"), vec![]).await.unwrap();
        assert_eq!(kept, [(7,)]);
    }

    #[tokio::test]
    async fn the_attempts_of_an_older_state_stay() {
        let folder = tempfile::tempdir().unwrap();
        let state = state(folder.path()).await;
        apply(&state, &MIGRATIONS[..1]).await.unwrap();
        let mut tx = state.write().await.unwrap();
        let old = Sql::same(
            "INSERT INTO attempt (delivery, n, profile, address_hash, armed_at_ms, outcome, detail, finished_at_ms)
            VALUES ('d', 1, 7, 'h', 20, 'retry', '451 later', 30), ('d', 2, 7, 'h', 40, NULL, '', NULL)",
        );
        tx.execute("write attempts", &old, vec![]).await.unwrap();
        tx.commit().await.unwrap();
        apply(&state, MIGRATIONS).await.unwrap();
        let mut tx = state.read().await.unwrap();
        let key = DeliveryKey { profile: ProfileNumber(7), id: DeliveryId::known("d") };
        let attempts = crate::outbox::attempts(&mut tx, &key).await.unwrap();
        let told: Vec<_> = attempts.iter().map(|one| (one.n, one.outcome.as_deref(), &*one.detail)).collect();
        assert_eq!(told, [(1, Some("retry"), "451 later"), (2, None, "")]);
    }

    #[tokio::test]
    async fn a_broken_migration_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let state = state(folder.path()).await;
        assert!(matches!(
            apply(&state, A_BROKEN_STEP).await,
            Err(StateError::Migrate { name: "broken", .. })
        ));
        assert_eq!(apply(&state, TWO_STEPS).await.unwrap(), ["one", "two"]);
    }

    #[tokio::test]
    async fn a_newer_state_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let state = state(folder.path()).await;
        apply(&state, TWO_STEPS).await.unwrap();
        assert!(matches!(
            apply(&state, &TWO_STEPS[..1]).await,
            Err(StateError::SchemaAhead { have: 2, want: 1 })
        ));
    }
}
