//! Many nodes on one Postgres.

use std::collections::BTreeSet;

use model::Secret;
use sqlx::{Connection as _, PgConnection};
use state::outbox::Due;
use state::rate::Rates;
use state::{Node, State, StateError, meta, node};

use crate::conformance::nodes::{bury, claim};
use crate::world::{at, claiming, decide, delivery as pending, destination, postgres};

/// As if a node had not been seen for an hour.
const LONG_AGO: &str = "UPDATE node SET seen_at = seen_at - 3600000 WHERE number = 1";

/// A way to the database past the state.
async fn past(url: &Secret) -> PgConnection {
    PgConnection::connect(url.reveal()).await.unwrap()
}

async fn refused_to_decide(state: &State, node: &Node) -> bool {
    matches!(state.write_leading(node).await, Err(StateError::NotLeading))
}

#[tokio::test]
async fn the_first_decides_until_it_ends() {
    let Some(state) = postgres().await else { return };
    let first = state.join("node").await.unwrap();
    let second = state.join("node").await.unwrap();
    assert_ne!(first.id(), second.id());
    let mut tx = state.write_leading(&first).await.unwrap();
    meta::set(&mut tx, "key", "value").await.unwrap();
    assert!(refused_to_decide(&state, &second).await);
    tx.commit().await.unwrap();
    let mut tx = state.write().await.unwrap();
    let now = state.lease_now(&mut tx).await.unwrap();
    assert!(node::bury(&mut tx, &second, now).await.unwrap().is_empty(), "it lives");
    tx.commit().await.unwrap();
    drop(first);
    assert_eq!(bury(&state, &second).await.died.len(), 1);
    assert!(!refused_to_decide(&state, &second).await);
}

/// The simulator, in which other mutants die, has no Postgres.
#[test]
fn mutants_that_need_postgres_die() {
    for (mutant, test) in [
        ("lead_unchecked", "many_nodes::the_first_decides_until_it_ends"),
        ("read_unlocked", "in_postgres::consents::suppressing_waits_for_the_armer"),
    ] {
        let it = std::env::current_exe().unwrap();
        let mutated = std::process::Command::new(it)
            .args([test, "--exact"])
            .env("DRUMBEAT_MUTANT", mutant)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&mutated.stdout);
        assert!(said.contains("1 failed") || said.contains("skipped"), "{mutant} survives: {said}");
    }
}

#[tokio::test]
async fn one_that_stands_still_is_buried_and_has_no_rights_when_it_wakes() {
    let Some(state) = postgres().await else { return };
    decide(&state, &[pending(1, "hello")]).await;
    let first = state.join("node").await.unwrap();
    let second = state.join("node").await.unwrap();
    let mut tx = state.write().await.unwrap();
    assert_eq!(claim(&mut tx, Due::Fresh, &first).await, [1]);
    tx.commit().await.unwrap();
    state.raw(LONG_AGO).await.unwrap();
    let buried = bury(&state, &second).await;
    assert_eq!((buried.died.len(), buried.stalled.len()), (0, 1));
    let mut tx = state.write().await.unwrap();
    assert_eq!(state::outbox::release(&mut tx, &buried.stalled).await.unwrap(), 1);
    tx.commit().await.unwrap();
    // It wakes.
    assert!(matches!(first.beat().await, Err(StateError::Buried)));
    assert!(refused_to_decide(&state, &first).await);
    let mut tx = state.write().await.unwrap();
    let claimed = state::outbox::claim(
        &mut tx,
        &claiming(Due::Fresh, &destination(), at(20), 10),
        Rates::default(),
        &first,
    )
    .await;
    assert!(matches!(claimed, Err(StateError::Buried)));
    drop(tx);
    let mut tx = state.write().await.unwrap();
    assert_eq!(claim(&mut tx, Due::Fresh, &second).await, [1], "nobody died of it");
    let again = state.join("node").await.unwrap();
    again.beat().await.unwrap();
    second.beat().await.unwrap();
}

#[tokio::test]
async fn who_decides_is_not_buried_in_the_middle_of_a_page() {
    let Some(state) = postgres().await else { return };
    let first = state.join("node").await.unwrap();
    let second = state.join("node").await.unwrap();
    state.raw(LONG_AGO).await.unwrap();
    let mut page = state.write_leading(&first).await.unwrap();
    let burial = {
        let state = state.state.clone();
        tokio::spawn(async move {
            bury(&state, &second).await;
            let mut tx = state.write_leading(&second).await.unwrap();
            meta::get(&mut tx, "page").await.unwrap()
        })
    };
    meta::set(&mut page, "page", "of the first").await.unwrap();
    let mut connection = past(&state.url).await;
    let waiting = "SELECT COUNT(*) FROM pg_locks WHERE NOT granted";
    while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut connection).await.unwrap() == 0 {}
    page.commit().await.unwrap();
    assert_eq!(burial.await.unwrap().as_deref(), Some("of the first"), "the next one sees it");
    assert!(refused_to_decide(&state, &first).await);
}

#[tokio::test]
async fn a_lock_is_not_kept_by_one_that_stands_still_in_a_transaction() {
    let Some(state) = postgres().await else { return };
    let mut tx = state.write().await.unwrap();
    meta::set(&mut tx, "key", "value").await.unwrap();
    // Until Postgres has enough of it: then others may write what it had locked.
    let others = State::open(&state.url, state.folder.path(), state::Access::ReadWrite).await.unwrap();
    let mut other = others.write().await.unwrap();
    meta::set(&mut other, "key", "of another").await.unwrap();
    other.commit().await.unwrap();
    assert!(tx.commit().await.is_err());
}

#[tokio::test]
async fn connections_that_postgres_has_ended_are_not_noticed() {
    let Some(state) = postgres().await else { return };
    let mut some = Vec::new();
    for _ in 0..8 {
        some.push(state.read().await.unwrap());
    }
    for tx in some {
        tx.rollback().await.unwrap();
    }
    let mut connection = past(&state.url).await;
    let ended: i64 = sqlx::query_scalar(
        "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'drumbeat'",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert!(ended >= 8, "{ended}");
    let mut tx = state.write().await.unwrap();
    meta::set(&mut tx, "key", "value").await.unwrap();
    tx.commit().await.unwrap();
}

/// P7: 16 nodes that come and go decide 10,000 ticks, each once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tick_happens_once_however_many_decide() {
    const TICKS: i64 = 10_000;
    let Some(state) = postgres().await else { return };
    state.raw("CREATE TABLE ticked (tick BIGINT NOT NULL, node TEXT NOT NULL)").await.unwrap();
    let schedulers: Vec<_> = (0..16_i64)
        .map(|scheduler| {
            let (state, url) = (state.state.clone(), state.url.clone());
            tokio::spawn(async move {
                let mut connection = past(&url).await;
                let mut node = state.join("node").await.unwrap();
                loop {
                    let mut tx = match state.write_leading(&node).await {
                        Ok(tx) => tx,
                        Err(StateError::NotLeading) => {
                            let mut tx = state.write().await.unwrap();
                            let now = state.lease_now(&mut tx).await.unwrap();
                            node::bury(&mut tx, &node, now).await.unwrap();
                            tx.commit().await.unwrap();
                            let mut tx = state.read().await.unwrap();
                            if meta::get(&mut tx, "tick").await.unwrap().is_some_and(|text| text == "10000") {
                                return;
                            }
                            continue;
                        }
                        Err(other) => panic!("{other:?}"),
                    };
                    let last = meta::get(&mut tx, "tick").await.unwrap();
                    let tick = last.map_or(0, |text| text.parse::<i64>().unwrap()) + 1;
                    if tick > TICKS {
                        return;
                    }
                    // What a tick does is told at once, by a way of its own, so that one that is done twice shows.
                    sqlx::query("INSERT INTO ticked VALUES ($1, $2)")
                        .bind(tick)
                        .bind(node.id())
                        .execute(&mut connection)
                        .await
                        .unwrap();
                    meta::set(&mut tx, "tick", &tick.to_string()).await.unwrap();
                    tx.commit().await.unwrap();
                    if tick % 100 == scheduler {
                        // It ends, without a word, and another process takes its place.
                        node = state.join("node").await.unwrap();
                    }
                }
            })
        })
        .collect();
    for scheduler in schedulers {
        scheduler.await.unwrap();
    }
    let mut connection = past(&state.url).await;
    let ticked: Vec<(i64, String)> =
        sqlx::query_as("SELECT tick, node FROM ticked").fetch_all(&mut connection).await.unwrap();
    let ticks: BTreeSet<i64> = ticked.iter().map(|(tick, _)| *tick).collect();
    let nodes: BTreeSet<&str> = ticked.iter().map(|(_, node)| node.as_str()).collect();
    assert_eq!((ticked.len(), ticks.len()), (10_000, 10_000));
    assert!(nodes.len() > 5, "the lead went round: {nodes:?}");
}
