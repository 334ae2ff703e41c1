//! Opening, migrating, copying; and that both databases have one schema.

use std::collections::BTreeSet;

use model::Secret;
use sqlx::{Connection as _, PgConnection};
use state::{Access, State, StateError, meta};

use crate::world::{at, keys, postgres, root_key, sqlite};

#[tokio::test]
async fn what_is_not_there_is_not_made_by_looking() {
    let folder = tempfile::tempdir().unwrap();
    let url = Secret::new("sqlite://.drumbeat/state.db");
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let missing = State::open(&url, folder.path(), access).await;
        assert!(matches!(missing, Err(StateError::Missing { .. })));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_url_that_is_none_is_refused_without_being_shown() {
    for wrong in [
        "",
        "state.db",
        "sqlite:",
        "sqlite://",
        "mysql://user:hunter2@host/db",
        "postgres://user:hunter2@host:port/db",
    ] {
        let refused =
            State::open(&Secret::new(wrong), std::path::Path::new("."), Access::Create).await.unwrap_err();
        assert!(matches!(refused, StateError::Url), "{wrong}: {refused:?}");
        assert!(!format!("{refused} {refused:?}").contains("hunter2"));
    }
}

#[tokio::test]
async fn only_its_owner_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = sqlite().await;
    assert_eq!(std::fs::metadata(world.file()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_read_only_state_reads_beside_a_writer_and_writes_nothing() {
    let world = sqlite().await;
    let reader = world.open(Access::ReadOnly).await.unwrap();
    let mut tx = world.state.write().await.unwrap();
    meta::set(&mut tx, "key", "value").await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = reader.read().await.unwrap();
    assert_eq!(meta::get(&mut tx, "key").await.unwrap().as_deref(), Some("value"));
    match reader.write().await {
        Err(StateError::Query { .. }) => {}
        Err(other) => panic!("{other:?}"),
        Ok(mut tx) => {
            assert!(meta::set(&mut tx, "key", "other").await.is_err());
        }
    }
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_restart_and_the_rest_is_not() {
    let world = sqlite().await;
    let mut tx = world.state.write().await.unwrap();
    meta::set(&mut tx, "key", "value").await.unwrap();
    tx.commit().await.unwrap();
    let mut unfinished = world.state.write().await.unwrap();
    meta::set(&mut unfinished, "key", "never committed").await.unwrap();
    // Copied as a crash would leave it: database and log, in the middle of a transaction.
    let crashed = tempfile::tempdir().unwrap();
    std::fs::create_dir(crashed.path().join("deep")).unwrap();
    for name in ["state.db", "state.db-wal"] {
        std::fs::copy(world.folder.path().join("deep").join(name), crashed.path().join("deep").join(name))
            .unwrap();
    }
    let state = State::open(&world.url, crashed.path(), Access::ReadWrite).await.unwrap();
    let mut tx = state.read().await.unwrap();
    assert_eq!(meta::get(&mut tx, "key").await.unwrap().as_deref(), Some("value"));
}

#[tokio::test]
async fn a_copy_is_a_state() {
    let world = sqlite().await;
    let mut tx = world.state.write().await.unwrap();
    keys(&mut tx).await;
    meta::set(&mut tx, "key", "value").await.unwrap();
    tx.commit().await.unwrap();
    let to = world.folder.path().join("copy.db");
    world.state.backup(&to, at(1)).await.unwrap();
    assert!(world.state.backup(&to, at(1)).await.is_err(), "nothing is overwritten");
    let copy =
        State::open(&Secret::new("sqlite://copy.db"), world.folder.path(), Access::ReadWrite).await.unwrap();
    let mut tx = copy.read().await.unwrap();
    assert_eq!(meta::get(&mut tx, "key").await.unwrap().as_deref(), Some("value"));
    assert!(state::Keys::load(&mut tx, &root_key()).await.unwrap().is_some());
}

/// The names of all migrations, in order, and the number of the last.
fn migrations() -> (Vec<String>, i64) {
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite")).unwrap();
    let mut names: Vec<String> =
        folder.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    let newest = names.last().unwrap().split('_').next().unwrap().parse().unwrap();
    (names, newest)
}

#[tokio::test]
async fn postgres_is_migrated_by_hand_and_only_forwards() {
    let Some(url) =
        tokio::task::spawn_blocking(crate::postgres::new_database).await.unwrap().map(Secret::new)
    else {
        return;
    };
    let here = std::path::Path::new(".");
    let behind = State::open(&url, here, Access::Create).await;
    let (names, newest) = migrations();
    assert!(matches!(behind, Err(StateError::SchemaBehind { have: 0, want }) if want == newest));
    assert_eq!(State::migrate(&url, here).await.unwrap(), names);
    assert_eq!(State::migrate(&url, here).await.unwrap(), Vec::<String>::new());
    let state = State::open(&url, here, Access::Create).await.unwrap();
    assert!(matches!(state.backup(here, at(1)).await, Err(StateError::BackupPostgres)));
    let mut connection = PgConnection::connect(url.reveal()).await.unwrap();
    sqlx::raw_sql("INSERT INTO schema_migration VALUES (99, 'future')")
        .execute(&mut connection)
        .await
        .unwrap();
    assert!(matches!(
        State::open(&url, here, Access::Create).await,
        Err(StateError::SchemaAhead { have: 99, want }) if want == newest
    ));
}

#[tokio::test]
async fn a_state_of_a_newer_drumbeat_is_left_alone() {
    let world = sqlite().await;
    world.raw("INSERT INTO schema_migration VALUES (99, 'future')").await.unwrap();
    for access in [Access::Create, Access::ReadWrite, Access::ReadOnly] {
        let opened = world.open(access).await;
        assert!(matches!(opened, Err(StateError::SchemaAhead { have: 99, want }) if want == migrations().1));
    }
}

#[tokio::test]
async fn both_databases_have_one_schema() {
    let Some(in_postgres) = postgres().await else { return };
    let in_sqlite = sqlite().await;
    type Column = (String, String, String, bool);
    let mut connection = PgConnection::connect(in_postgres.url.reveal()).await.unwrap();
    let there: Vec<Column> = sqlx::query_as(
        "SELECT CAST(table_name AS TEXT), CAST(column_name AS TEXT), CASE data_type WHEN 'bigint' THEN 'INTEGER'
            WHEN 'text' THEN 'TEXT' WHEN 'bytea' THEN 'BLOB' ELSE data_type END, is_nullable = 'NO'
        FROM information_schema.columns WHERE table_schema = 'public'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let here: Vec<Column> = sqlx::query_as(
        "SELECT m.name, c.name, c.type, c.\"notnull\" <> 0 FROM sqlite_master AS m, pragma_table_info(m.name) AS c
        WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%'",
    )
    .fetch_all(&mut in_sqlite.sqlite().await)
    .await
    .unwrap();
    let (here, there): (BTreeSet<Column>, BTreeSet<Column>) =
        (here.into_iter().collect(), there.into_iter().collect());
    assert!(here.len() > 100);
    assert_eq!(here.symmetric_difference(&there).collect::<Vec<_>>(), Vec::<&Column>::new());
    let indexes = |rows: Vec<(String,)>| rows.into_iter().map(|(name,)| name).collect::<BTreeSet<_>>();
    let there: Vec<(String,)> = sqlx::query_as(
        "SELECT CAST(indexname AS TEXT) FROM pg_indexes WHERE schemaname = 'public'
        AND indexname NOT LIKE '%\\_pkey' AND indexname NOT LIKE '%\\_key'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let here: Vec<(String,)> =
        sqlx::query_as("SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
            .fetch_all(&mut in_sqlite.sqlite().await)
            .await
            .unwrap();
    assert_eq!(indexes(here), indexes(there));
    assert_eq!(at(0).as_second(), 0);
}

#[tokio::test]
async fn opening_it_again_leaves_the_first_its_locks() {
    let folder = tempfile::tempdir().unwrap();
    let url = Secret::new("sqlite://state.db");
    let first = State::open(&url, folder.path(), Access::Create).await.unwrap();
    let mut tx = first.write().await.unwrap();
    meta::set(&mut tx, "key", "value").await.unwrap();
    tx.commit().await.unwrap();
    let _second = State::open(&url, folder.path(), Access::Create).await.unwrap();
    // Another process that believed itself the last one would take the log away when it closes the file.
    let file = folder.path().join("state.db");
    let read = std::process::Command::new("sqlite3").arg(&file).arg("select count(*) from meta").output();
    assert!(read.expect("the program sqlite3").status.success());
    assert!(folder.path().join("state.db-wal").exists());
}

#[tokio::test]
async fn a_backup_is_checked_to_the_last_byte() {
    let world = sqlite().await;
    let copy = world.file().with_file_name("copy.db");
    let made = world.state.backup(&copy, at(1)).await.unwrap();
    assert_eq!(state::backup::verify(&copy).await.unwrap().0, made);
    let good = std::fs::read(&copy).unwrap();
    let beside = state::backup::manifest_path(&copy);
    let manifest = std::fs::read(&beside).unwrap();
    // Places that look drawn and are derived.
    let place = |n: usize, of: usize| n.wrapping_mul(2_654_435_761) % of;
    for n in 0..1_000 {
        let mut bad = good.clone();
        bad[place(n, good.len())] ^= 1 << (n % 8);
        std::fs::write(&copy, &bad).unwrap();
        assert!(matches!(state::backup::verify(&copy).await, Err(StateError::BadBackup { .. })), "{n}");
    }
    std::fs::write(&copy, &good[..good.len() - 1]).unwrap();
    assert!(matches!(state::backup::verify(&copy).await, Err(StateError::BadBackup { .. })));
    std::fs::write(&copy, &good).unwrap();
    std::fs::write(&beside, &manifest[..manifest.len() / 2]).unwrap();
    assert!(matches!(state::backup::verify(&copy).await, Err(StateError::BadBackup { .. })));
    for n in 0..manifest.len() {
        let mut bad = manifest.clone();
        bad[n] ^= 1 << (n % 8);
        std::fs::write(&beside, &bad).unwrap();
        assert!(matches!(state::backup::verify(&copy).await, Err(StateError::BadBackup { .. })), "{n}");
    }
    // One that was written before manifests had a sum.
    let mut first: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    first["format"] = 1.into();
    std::fs::write(&beside, first.to_string()).unwrap();
    assert!(matches!(state::backup::verify(&copy).await, Err(StateError::BadBackup { .. })));
    first.as_object_mut().unwrap().remove("check");
    std::fs::write(&beside, first.to_string()).unwrap();
    assert_eq!(state::backup::verify(&copy).await.unwrap().0, made);
    std::fs::remove_file(&beside).unwrap();
    assert!(matches!(state::backup::verify(&copy).await, Err(StateError::File { .. })));
}
