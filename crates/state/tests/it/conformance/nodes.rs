//! Nodes: who lives, who decides, and what becomes of what the dead had in hand.

use model::DeliveryState;
use model::delivery::Tally;
use state::delivery::{self, DeliveryKey};
use state::outbox::{self, Due};
use state::rate::Rates;
use state::{Node, State, Tx, node, tally};

use super::outbox::arm;
use crate::world::{at, claiming, decide, delivery as pending, destination};

pub(crate) async fn claim(tx: &mut Tx, due: Due, node: &Node) -> Vec<u32> {
    let claimed = outbox::claim(
        tx,
        &outbox::Claim { lease_ms: i64::MAX, ..claiming(due, &destination(), at(20), 10) },
        Rates::default(),
        node,
    )
    .await
    .unwrap()
    .rows;
    claimed.iter().map(|claimed| claimed.delivery.profile.0).collect()
}

/// Buries whoever is dead, as soon as that shows: a server sees a closed connection a moment later.
pub(crate) async fn bury(state: &State, node: &Node) -> node::Buried {
    for _ in 0..1000 {
        let mut tx = state.write().await.unwrap();
        let now = state.lease_now(&mut tx).await.unwrap();
        let buried = node::bury(&mut tx, node, now).await.unwrap();
        tx.commit().await.unwrap();
        if !buried.is_empty() {
            return buried;
        }
    }
    panic!("nobody is dead");
}

pub(crate) async fn a_node_that_ends_is_buried_and_what_it_had_is_taken_over(state: &State) {
    let all: Vec<_> = (1..=3).map(|n| pending(n, "hello")).collect();
    decide(state, &all).await;
    let first = state.join("first").await.unwrap();
    let mut tx = state.write().await.unwrap();
    let claimed = outbox::claim(
        &mut tx,
        &outbox::Claim { lease_ms: i64::MAX, ..claiming(Due::Fresh, &destination(), at(20), 2) },
        Rates::default(),
        &first,
    )
    .await
    .unwrap()
    .rows;
    assert_eq!(arm(&mut tx, &claimed[1], 10).await.len(), 1);
    tx.commit().await.unwrap();
    let id = first.id().to_owned();
    drop(first);
    let second = state.join("second").await.unwrap();
    assert_eq!(bury(state, &second).await, node::Buried { died: vec![id], stalled: vec![] });
    let mut tx = state.write().await.unwrap();
    assert!(node::leads(&mut tx, &second).await.unwrap());
    assert_eq!(outbox::void_leases(&mut tx, at(60)).await.unwrap(), []);
    let doubts = outbox::armed_without_owner(&mut tx, Some(&second), at(60)).await.unwrap();
    assert_eq!(doubts, [DeliveryKey::of(&claimed[1].delivery)]);
    assert_eq!(claim(&mut tx, Due::Fresh, &second).await, [3]);
    assert_eq!(claim(&mut tx, Due::Suspect, &second).await, [1], "somebody died with it");
    // The living keep what they have.
    assert_eq!(outbox::void_leases(&mut tx, at(61)).await.unwrap(), []);
    assert!(claim(&mut tx, Due::Suspect, &second).await.is_empty());
    second.beat().await.unwrap();
}

pub(crate) async fn one_that_leaves_gives_back_what_it_had(state: &State) {
    let delivery = pending(1, "hello");
    decide(state, std::slice::from_ref(&delivery)).await;
    let first = state.join("first").await.unwrap();
    let mut tx = state.write().await.unwrap();
    assert_eq!(claim(&mut tx, Due::Fresh, &first).await, [1]);
    assert_eq!(outbox::release(&mut tx, &[first.id().to_owned()]).await.unwrap(), 1);
    node::leave(&mut tx, &first).await.unwrap();
    tx.commit().await.unwrap();
    drop(first);
    let second = state.join("second").await.unwrap();
    let mut tx = state.write().await.unwrap();
    let now = state.lease_now(&mut tx).await.unwrap();
    assert!(node::bury(&mut tx, &second, now).await.unwrap().is_empty(), "it is gone already");
    assert!(node::leads(&mut tx, &second).await.unwrap());
    let logged = delivery::get_by_key(&mut tx, &DeliveryKey::of(&delivery)).await.unwrap().unwrap();
    assert_eq!(logged.delivery.state, DeliveryState::Pending);
    assert_eq!(claim(&mut tx, Due::Fresh, &second).await, [1], "and nobody died of it");
}

pub(crate) async fn what_each_counts_is_added_up(state: &State) {
    use std::collections::BTreeMap;
    let name = model::PlaybookName::known;
    let counts = |accepted, bounced| Tally { accepted, bounced, fallback: 2 * accepted, ..Tally::default() };
    let hour = |hour: i64| at(hour * 3_600 + 5);
    let mut tx = state.write().await.unwrap();
    let (one, two) = (Node::alone("one"), Node::alone("two"));
    tally::add(
        &mut tx,
        &one,
        &BTreeMap::from([(name("a"), counts(10, 1)), (name("b"), counts(1, 0))]),
        hour(1),
    );
    tally::add(&mut tx, &one, &BTreeMap::from([(name("a"), counts(5, 2))]), hour(1));
    tally::add(&mut tx, &two, &BTreeMap::from([(name("a"), counts(100, 0))]), hour(2));
    tally::add(&mut tx, &two, &BTreeMap::new(), hour(2));
    let all = tally::since(&mut tx, hour(1)).await.unwrap();
    assert_eq!(all, BTreeMap::from([(name("a"), counts(115, 3)), (name("b"), counts(1, 0))]));
    assert_eq!(tally::since(&mut tx, hour(2)).await.unwrap(), BTreeMap::from([(name("a"), counts(100, 0))]));
    tally::forget(&mut tx, Some(&name("a"))).await.unwrap();
    assert_eq!(tally::since(&mut tx, hour(0)).await.unwrap(), BTreeMap::from([(name("b"), counts(1, 0))]));
    tally::drop_old(&mut tx, hour(24 * 31 + 2)).await.unwrap();
    assert!(tally::since(&mut tx, hour(0)).await.unwrap().is_empty());
}
