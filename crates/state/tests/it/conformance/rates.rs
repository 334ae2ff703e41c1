//! Rates: turns that many take at once, and rows that wait for one.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use model::delivery::Delivery;
use model::settings::Throttle;
use model::{DeliveryState, Lane, RateKey, Reason};
use state::delivery::{self, DeliveryKey};
use state::outbox::{self, Back, Claims, Due};
use state::rate::{self, Rates};
use state::{Node, State, Tx};

use crate::world::{at, claiming, decide, delivery as pending, destination};

fn throttle(count: u32, burst: u32) -> Throttle {
    Throttle { count, per: SignedDuration::from_secs(1), burst }
}

fn key(name: &str) -> RateKey {
    RateKey::known(name)
}

/// One domain, and two groups that together would be quicker.
fn three() -> BTreeMap<RateKey, Throttle> {
    let (domain, google, yahoo) = (throttle(60, 6), throttle(40, 4), throttle(50, 2));
    [("domain", domain), ("google", google), ("yahoo", yahoo)].map(|(name, rate)| (key(name), rate)).into()
}

async fn take_and_keep(state: &State, lane: &[RateKey]) -> Option<i64> {
    let mut tx = state.write().await.unwrap();
    let now = state.lease_now(&mut tx).await.unwrap();
    let mut rates = rate::hold(&mut tx, &three(), now).await.unwrap();
    let turns = rates.take(lane, 1).ok();
    rates.keep(&mut tx);
    tx.commit().await.unwrap();
    turns.map(|turns| now * 1_000 + i64::try_from(turns.wait.as_micros()).unwrap())
}

pub(crate) async fn who_takes_turns_at_once_keeps_to_every_rate(state: &State) {
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..4 {
        let state = state.clone();
        tasks.spawn(async move {
            let group = key(["google", "yahoo"][task % 2]);
            let mut taken = Vec::new();
            for _ in 0..60 {
                let turn = take_and_keep(&state, &[key("domain"), group.clone()]).await;
                taken.extend(turn.map(|turn| (group.clone(), turn)));
            }
            taken
        });
    }
    let taken: Vec<(RateKey, i64)> = tasks.join_all().await.into_iter().flatten().collect();
    for (name, throttle) in three() {
        let mut turns: Vec<i64> = taken
            .iter()
            .filter(|(group, _)| *group == name || name == key("domain"))
            .map(|(_, turn)| *turn)
            .collect();
        turns.sort_unstable();
        for (from, start) in turns.iter().enumerate() {
            let within = turns[from..].iter().take_while(|turn| **turn < start + 1_000_000).count();
            let most = throttle.count + throttle.burst;
            assert!(within <= most as usize, "{name}: {within} in a second, {most} at most");
        }
    }
    // A second is taken ahead, whoever asks.
    assert!(taken.len() >= 60, "{}", taken.len());
}

async fn claim(tx: &mut Tx, limit: u32, rates: Rates) -> Claims {
    let (destination, node) = (destination(), Node::alone("node"));
    outbox::claim(tx, &claiming(Due::Fresh, &destination, at(20), limit), rates, &node).await.unwrap()
}

fn numbers(claims: &Claims) -> Vec<u32> {
    claims.rows.iter().map(|claimed| claimed.delivery.profile.0).collect()
}

pub(crate) async fn who_waits_for_a_turn_keeps_nobody_else_waiting(state: &State) {
    let mut all: Vec<Delivery> = (1..=8).map(|n| pending(n, "hello")).collect();
    all[2].priority = 90;
    decide(state, &all).await;
    let mut tx = state.write().await.unwrap();
    let first = claim(&mut tx, 10, Rates::default()).await;
    assert_eq!(numbers(&first), [3, 1, 2, 4, 5, 6, 7, 8]);
    let lanes = ["domain google", "google", "gone", ""];
    let backs: Vec<_> = first
        .rows
        .iter()
        .map(|claimed| {
            let profile = claimed.delivery.profile.0 as usize;
            let lane = Lane::known(lanes[profile.saturating_sub(4).min(3)]);
            let back = if lane.is_free() {
                Back::Pending { due_at: at(10) }
            } else {
                Back::Turn { lane, reason: Reason::ProviderGroup, gates: Vec::new() }
            };
            (DeliveryKey::of(&claimed.delivery), claimed.fence, back)
        })
        .collect();
    assert_eq!(outbox::give_back(&mut tx, &backs, at(20)).await.unwrap().len(), 8);
    let one = delivery::get_by_key(&mut tx, &DeliveryKey::of(&all[0])).await.unwrap().unwrap();
    assert_eq!(
        (one.delivery.state, one.delivery.reason, one.attempts, one.delivery.due_at),
        (DeliveryState::Pending, Reason::ProviderGroup, 0, at(10))
    );
    let waiting = outbox::waiting(&mut tx, at(20)).await.unwrap();
    assert_eq!(waiting.values().sum::<u64>(), 6);
    assert_eq!(waiting[&(destination(), Lane::known("domain google"))], 4);

    // Nothing is left of one rate: those of no rate, and of one that is gone, go meanwhile.
    let limits = BTreeMap::from([(key("domain"), throttle(1, 3)), (key("google"), throttle(1, 1))]);
    let mut full = rate::look(&mut tx, &limits, 0).await.unwrap();
    full.take(&[key("google")], 10).unwrap();
    let others = claim(&mut tx, 10, full).await;
    assert_eq!(numbers(&others), [6, 7, 8]);
    assert_eq!(others.wait, Some(Duration::from_millis(1_500)));

    // As many go as there are turns of all their rates, in order.
    let look = rate::look(&mut tx, &limits, 0).await.unwrap();
    let some = claim(&mut tx, 10, look).await;
    assert_eq!((numbers(&some), some.wait.is_some()), (vec![3, 1], true));
    let quick = BTreeMap::from([(key("google"), throttle(100, 1))]);
    let quick = rate::look(&mut tx, &quick, 0).await.unwrap();
    let one = claim(&mut tx, 1, quick.clone()).await;
    assert_eq!((numbers(&one), one.wait), (vec![2], None));
    let rest = claim(&mut tx, 10, quick).await;
    assert_eq!((numbers(&rest), rest.wait), (vec![4, 5], None));
}
