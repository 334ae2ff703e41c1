//! The audit log against somebody who can write to the database and drops its triggers: whatever is changed
//! below the last checkpoint is found, and the first wrong place is named.

use proptest::prelude::*;
use sqlx::SqliteConnection;
use state::Keys;
use state::audit::{self, Fault};
use state::keys::LogKey;

use crate::conformance::logs::batches;
use crate::world::{World, keys, sqlite};

const DROP_TRIGGERS: &str = "
    DROP TRIGGER audit_batch_update; DROP TRIGGER audit_batch_delete; DROP TRIGGER audit_batch_replace;
    DROP TRIGGER audit_seal_update; DROP TRIGGER audit_seal_delete; DROP TRIGGER audit_seal_replace;
    DROP TRIGGER audit_checkpoint_update; DROP TRIGGER audit_checkpoint_delete; DROP TRIGGER audit_checkpoint_replace;";

/// A log of 12 batches of 1, 2, 3, 1, 2, 3… entries, with checkpoints after batches 6 and 12, without
/// triggers.
async fn log() -> (World, Keys, SqliteConnection) {
    let world = sqlite().await;
    let mut tx = world.state.write().await.unwrap();
    let keys = keys(&mut tx).await;
    tx.commit().await.unwrap();
    for from in [0, 6] {
        batches(&world.state, from, 6).await;
        audit::seal(&world.state, &keys, "acme").await.unwrap();
    }
    world.raw(DROP_TRIGGERS).await.unwrap();
    let connection = world.sqlite().await;
    (world, keys, connection)
}

async fn fault(world: &World, key: &LogKey) -> Option<Fault> {
    audit::verify(&world.state, key).await.unwrap().first_fault
}

/// Where the fault is after the statements, in a log of its own.
async fn after(sql: &'static str) -> (u64, String) {
    let (world, keys, _) = log().await;
    assert_eq!(fault(&world, &keys.log_key("acme")).await, None);
    world.raw(sql).await.unwrap();
    let fault = fault(&world, &keys.log_key("acme")).await.unwrap();
    (fault.entry, fault.what)
}

#[tokio::test]
async fn a_batch_that_is_removed_or_swapped_is_named() {
    let (entry, what) = after("DELETE FROM audit_batch WHERE number = 3").await;
    assert_eq!((entry, what.as_str()), (3, "the batch is gone"));
    let swap = "UPDATE audit_batch SET number = -1 WHERE number = 2; UPDATE audit_batch SET number = 2 WHERE number = 5;
        UPDATE audit_batch SET number = 5 WHERE number = -1";
    assert_eq!(after(swap).await.0, 1, "batches 2 and 5 have two entries each; the first stands at 1");
}

#[tokio::test]
async fn an_entry_that_is_added_to_or_cut_off_a_batch_is_named() {
    assert_eq!(
        after("UPDATE audit_batch SET payload = payload || char(10) || 'x' WHERE number = 4").await.0,
        7
    );
    assert_eq!(after("UPDATE audit_batch SET payload = substr(payload, 1, instr(payload, char(10)) - 1) WHERE number = 3").await.0, 4);
}

#[tokio::test]
async fn a_batch_put_between_sealed_ones_is_named() {
    // Batch 4 is made to look as if there had been one more between 3 and it.
    let (entry, what) = after("INSERT INTO audit_batch (number, payload) VALUES (0, '{}')").await;
    assert_eq!((entry, what.as_str()), (0, "a batch was inserted before this entry"));
}

#[tokio::test]
async fn seals_that_are_removed_swapped_or_changed_are_named() {
    assert_eq!(after("DELETE FROM audit_seal WHERE batch = 4").await.0, 6);
    let swap =
        "UPDATE audit_seal SET batch = -1 WHERE batch = 2; UPDATE audit_seal SET batch = 2 WHERE batch = 5;
        UPDATE audit_seal SET batch = 5 WHERE batch = -1";
    assert_eq!(after(swap).await.0, 1);
    let rows = "UPDATE audit_seal SET first_index = first_index + 1000 WHERE batch IN (2, 5);
        UPDATE audit_seal SET first_index = 1 WHERE batch = 5; UPDATE audit_seal SET first_index = 7 WHERE batch = 2";
    assert_eq!(after(rows).await.0, 1, "even with their entries and leaves");
    assert_eq!(after("UPDATE audit_seal SET entries = entries + 1 WHERE batch = 5").await.0, 7);
}

#[tokio::test]
async fn checkpoints_that_are_removed_moved_or_cut_short_of_are_named() {
    assert_eq!(
        after("DELETE FROM audit_checkpoint WHERE size = 24").await,
        (12, "the checkpoint that covered the entries from here on is missing".to_owned())
    );
    assert_eq!(after("UPDATE audit_checkpoint SET size = 11 WHERE size = 12").await.0, 0);
    let cut = "DELETE FROM audit_seal WHERE batch > 10; DELETE FROM audit_batch WHERE number > 10";
    assert_eq!(
        after(cut).await,
        (19, "entries that a checkpoint covers are missing from here on".to_owned())
    );
}

/// What may be changed, a byte of which at a time.
const PLACES: [(&str, &str); 6] = [
    (
        "SELECT CAST(payload AS BLOB) FROM audit_batch WHERE number = $1",
        "UPDATE audit_batch SET payload = CAST($2 AS TEXT) WHERE number = $1",
    ),
    ("SELECT leaves FROM audit_seal WHERE batch = $1", "UPDATE audit_seal SET leaves = $2 WHERE batch = $1"),
    ("SELECT root FROM audit_seal WHERE batch = $1", "UPDATE audit_seal SET root = $2 WHERE batch = $1"),
    (
        "SELECT CAST(note AS BLOB) FROM audit_checkpoint WHERE size = 12 + ($1 / 7) * 12",
        "UPDATE audit_checkpoint SET note = CAST($2 AS TEXT) WHERE size = 12 + ($1 / 7) * 12",
    ),
    (
        "SELECT frontier FROM audit_checkpoint WHERE size = 12 + ($1 / 7) * 12",
        "UPDATE audit_checkpoint SET frontier = $2 WHERE size = 12 + ($1 / 7) * 12",
    ),
    (
        "SELECT CAST(payload AS BLOB) FROM audit_batch WHERE number = $1",
        "UPDATE audit_batch SET payload = CAST($2 AS TEXT) WHERE number = $1",
    ),
];

#[test]
fn a_byte_flipped_anywhere_is_found_where_it_is() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (world, keys, connection) = runtime.block_on(log());
    let key = keys.log_key("acme");
    let connection = tokio::sync::Mutex::new(connection);
    let change = async |place: usize, batch: i64, at: prop::sample::Index, flip: u8| {
        let connection = &mut *connection.lock().await;
        let (read, write) = PLACES[place];
        let was: Vec<u8> = sqlx::query_scalar(read).bind(batch).fetch_one(&mut *connection).await.unwrap();
        let at = at.index(was.len());
        let mut changed = was.clone();
        changed[at] ^= flip;
        sqlx::query(write).bind(batch).bind(&changed).execute(&mut *connection).await.unwrap();
        let found = fault(&world, &key).await;
        sqlx::query(write).bind(batch).bind(&was).execute(&mut *connection).await.unwrap();
        assert_eq!(fault(&world, &key).await, None);
        let line = u64::try_from(was[..at].iter().filter(|byte| **byte == b'\n').count()).unwrap();
        (found, line, at)
    };
    let first_of = |batch: i64| u64::try_from((0..batch - 1).map(|n| 1 + n % 3).sum::<i64>()).unwrap();
    proptest!(ProptestConfig::with_cases(200), |(place in 0..PLACES.len(), batch in 1_i64..=12, at: prop::sample::Index, flip in 1_u8..)| {
        let (found, line, at) = runtime.block_on(change(place, batch, at, flip));
        let found = found.expect("not found");
        let expected = match place {
            0 | 5 => first_of(batch) + line,
            1 => first_of(batch) + u64::try_from(at / 32).unwrap(),
            2 => first_of(batch),
            _ => if batch < 7 { 0 } else { 12 },
        };
        prop_assert_eq!(found.entry, expected, "{}", found.what);
    });
}
