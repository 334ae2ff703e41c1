//! The outbox, from the claim to the answer.

use model::delivery::Delivery;
use model::id::AddressHash;
use model::policy::MessageClass;
use model::{DeliveryState, Reason};
use state::delivery::{self, DeliveryKey};
use state::outbox::{self, Answer, Armed, As, Back, Claimed, Settlement};
use state::rate::Rates;
use state::{Node, State, StateError, Tx, enrollment};

use crate::world::{at, claiming, decide, delivery as pending, destination, enrollment_id};

fn hash() -> AddressHash {
    AddressHash::known("hash")
}

async fn claim(tx: &mut Tx, lease_now: i64, limit: u32) -> Vec<Claimed> {
    outbox::claim(
        tx,
        &outbox::Claim { lease_now, ..claiming(outbox::Due::Fresh, &destination(), at(20), limit) },
        Rates::default(),
        &Node::alone("node"),
    )
    .await
    .unwrap()
    .rows
}

pub(super) async fn arm(tx: &mut Tx, claimed: &Claimed, lease_now: i64) -> Vec<Armed> {
    let key = DeliveryKey::of(&claimed.delivery);
    let in_hand = tx.ask(outbox::in_hand([&key])).await.unwrap();
    outbox::arm(tx, in_hand, &[(key, claimed.fence, hash())], at(21), lease_now)
}

async fn settle(tx: &mut Tx, delivery: &Delivery, attempt: u32, result: Answer) -> usize {
    let settlement =
        Settlement { delivery: DeliveryKey::of(delivery), attempt, result, detail: "250 \"ok\"".to_owned() };
    outbox::settle(tx, &[settlement], at(30)).await.unwrap().len()
}

async fn state_of(tx: &mut Tx, delivery: &Delivery) -> (DeliveryState, Reason) {
    let logged = delivery::get_by_key(tx, &DeliveryKey::of(delivery)).await.unwrap().unwrap();
    (logged.delivery.state, logged.delivery.reason)
}

async fn look_at(tx: &mut Tx, profile: u32) -> Option<jiff::Timestamp> {
    enrollment::get(tx, model::ProfileNumber(profile), &enrollment_id(profile))
        .await
        .unwrap()
        .unwrap()
        .look_at
}

/// One delivery, claimed and armed.
async fn armed(state: &State) -> (Tx, Delivery) {
    let delivery = pending(1, "hello");
    decide(state, std::slice::from_ref(&delivery)).await;
    let mut tx = state.write().await.unwrap();
    let claimed = claim(&mut tx, 0, 10).await;
    assert_eq!(arm(&mut tx, &claimed[0], 50).await, [Armed { delivery: delivery.id.clone(), attempt: 1 }]);
    (tx, delivery)
}

pub(crate) async fn claims_are_in_order_and_disjoint(state: &State) {
    let mut all: Vec<Delivery> = (1..=6).map(|n| pending(n, "hello")).collect();
    all[1].due_at = at(9);
    all[2].priority = 90;
    all[3].traits.class = MessageClass::Transactional;
    all[4].due_at = at(21);
    all[5].destination = model::DestinationName::known("file");
    decide(state, &all).await;
    let mut tx = state.write().await.unwrap();
    let first = claim(&mut tx, 0, 2).await;
    let rest = claim(&mut tx, 0, 10).await;
    let order: Vec<u32> = first.iter().chain(&rest).map(|claimed| claimed.delivery.profile.0).collect();
    assert_eq!(
        order,
        [4, 3, 2, 1],
        "transactional, then by priority, then by due time, then by number; what is not due waits"
    );
    assert_eq!((first[0].fence, first[0].lease_count, first[0].attempts), (1, 1, 0));
    assert_eq!(first[0].delivery, Delivery { state: DeliveryState::Leased, ..all[3].clone() });
    assert_eq!(claim(&mut tx, 0, 10).await, []);
    let queue = outbox::queue(&mut tx).await.unwrap();
    let of = |name: &str, state| queue.get(&(model::DestinationName::known(name), state)).copied();
    assert_eq!(of("mail", DeliveryState::Leased), Some(4));
    assert_eq!((of("mail", DeliveryState::Pending), of("file", DeliveryState::Pending)), (Some(1), Some(1)));
}

pub(crate) async fn claimers_at_once_share_the_rows(state: &State) {
    let all: Vec<Delivery> = (1..=200).map(|n| pending(n, "hello")).collect();
    decide(state, &all).await;
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let state = state.clone();
            tokio::spawn(async move {
                let mut mine = Vec::new();
                loop {
                    let mut tx = state.write().await.unwrap();
                    let claimed = claim(&mut tx, 0, 7).await;
                    tx.commit().await.unwrap();
                    if claimed.is_empty() {
                        return mine;
                    }
                    mine.extend(claimed.into_iter().map(|claimed| claimed.delivery.profile.0));
                }
            })
        })
        .collect();
    let mut claimed = Vec::new();
    for task in tasks {
        claimed.extend(task.await.unwrap());
    }
    claimed.sort_unstable();
    assert_eq!(claimed, (1..=200).collect::<Vec<_>>());
}

pub(crate) async fn a_lease_that_ran_out_goes_back_and_its_fence_is_dead(state: &State) {
    let delivery = pending(1, "hello");
    decide(state, std::slice::from_ref(&delivery)).await;
    let mut tx = state.write().await.unwrap();
    let first = claim(&mut tx, 0, 10).await;
    tx.commit().await.unwrap();
    // Here the process dies, or sleeps for too long.
    let mut tx = state.write().await.unwrap();
    assert_eq!(arm(&mut tx, &first[0], 101).await, [], "the lease ran out");
    assert_eq!(outbox::reap(&mut tx, 100).await.unwrap(), 0, "not yet");
    assert_eq!(outbox::reap(&mut tx, 101).await.unwrap(), 1);
    assert_eq!(state_of(&mut tx, &delivery).await.0, DeliveryState::Pending);
    let second = claim(&mut tx, 200, 10).await;
    assert_eq!((second[0].fence, second[0].lease_count), (2, 2));
    assert_eq!(arm(&mut tx, &first[0], 210).await, [], "another has it now");
    assert_eq!(state_of(&mut tx, &delivery).await.0, DeliveryState::Leased);
    assert_eq!(arm(&mut tx, &second[0], 300).await.len(), 1);
    assert_eq!(arm(&mut tx, &second[0], 300).await, [], "once");
    assert_eq!(outbox::attempts(&mut tx, &DeliveryKey::of(&delivery)).await.unwrap().len(), 1);
}

pub(crate) async fn what_is_armed_never_goes_back_by_time(state: &State) {
    let (mut tx, delivery) = armed(state).await;
    assert_eq!(outbox::reap(&mut tx, i64::MAX).await.unwrap(), 0);
    assert_eq!(outbox::void_leases(&mut tx, at(30)).await.unwrap(), []);
    assert_eq!(state_of(&mut tx, &delivery).await.0, DeliveryState::Armed);
    assert_eq!(settle(&mut tx, &delivery, 1, Answer::InDoubt).await, 1);
    assert_eq!(outbox::reap(&mut tx, i64::MAX).await.unwrap(), 0);
    assert_eq!(outbox::void_leases(&mut tx, at(30)).await.unwrap(), []);
    assert_eq!(claim(&mut tx, 0, 10).await, []);
    let back = (DeliveryKey::of(&delivery), 1, Back::Pending { due_at: at(0) });
    assert_eq!(outbox::give_back(&mut tx, &[back], at(30)).await.unwrap(), []);
    assert_eq!(
        delivery::cancel(&mut tx, &[(DeliveryKey::of(&delivery), Reason::CancelOperator)], at(30))
            .await
            .unwrap(),
        []
    );
    assert_eq!(delivery::decide(&mut tx, std::slice::from_ref(&delivery), at(30)).await.unwrap(), 0);
    assert_eq!(state_of(&mut tx, &delivery).await, (DeliveryState::InDoubt, Reason::OutcomeUnknown));
}

pub(crate) async fn an_attempt_is_settled_once(state: &State) {
    let (mut tx, delivery) = armed(state).await;
    assert_eq!(look_at(&mut tx, 1).await, None);
    assert_eq!(settle(&mut tx, &delivery, 2, Answer::InDoubt).await, 0, "there was no second attempt");
    assert_eq!(
        settle(&mut tx, &delivery, 1, Answer::Accepted { receipt: "queued as 7".to_owned() }).await,
        1
    );
    assert_eq!(
        look_at(&mut tx, 1).await,
        Some(delivery.due_at),
        "its enrollment is looked at, as of when it was due"
    );
    for late in [
        Answer::InDoubt,
        Answer::Retry { reason: Reason::FailTimeout, due_at: at(99) },
        Answer::Rejected { reason: Reason::FailSmtpRecipient },
    ] {
        assert_eq!(settle(&mut tx, &delivery, 1, late).await, 0);
    }
    let logged = delivery::get(&mut tx, &delivery.id).await.unwrap().unwrap();
    assert_eq!(logged.receipt.as_deref(), Some("queued as 7"));
    assert_eq!((logged.armed_at, logged.settled_at, logged.attempts), (Some(at(21)), Some(at(30)), 1));
    assert_eq!(
        (logged.delivery.state, logged.delivery.reason),
        (DeliveryState::Accepted, Reason::OkAccepted)
    );
    let attempts = outbox::attempts(&mut tx, &DeliveryKey::of(&delivery)).await.unwrap();
    assert_eq!((attempts[0].outcome.as_deref(), &*attempts[0].detail), (Some("accepted"), "250 \"ok\""));
    assert_eq!(outbox::address_of(&mut tx, &DeliveryKey::of(&delivery)).await.unwrap(), Some(hash()));
    let touches = tx.ask(delivery::touches(&[delivery.profile], at(0))).await.unwrap();
    assert_eq!(touches[0].at, at(30));
}

pub(crate) async fn a_late_answer_ends_a_doubt(state: &State) {
    let (mut tx, delivery) = armed(state).await;
    assert_eq!(settle(&mut tx, &delivery, 1, Answer::InDoubt).await, 1);
    assert_eq!(settle(&mut tx, &delivery, 1, Answer::InDoubt).await, 0);
    assert_eq!(outbox::in_doubt(&mut tx, 10).await.unwrap().len(), 1);
    let rejected = Answer::Rejected { reason: Reason::FailSmtpPolicy };
    assert_eq!(settle(&mut tx, &delivery, 1, rejected).await, 1, "the result of an attempt is never fenced");
    assert_eq!(state_of(&mut tx, &delivery).await, (DeliveryState::Rejected, Reason::FailSmtpPolicy));
    assert_eq!(outbox::in_doubt(&mut tx, 10).await.unwrap(), []);
}

pub(crate) async fn a_retry_is_pending_again(state: &State) {
    let (mut tx, delivery) = armed(state).await;
    let retry = Answer::Retry { reason: Reason::FailSmtp4xx, due_at: at(90) };
    assert_eq!(settle(&mut tx, &delivery, 1, retry).await, 1);
    assert_eq!(look_at(&mut tx, 1).await, None, "its enrollment waits on");
    let logged = delivery::get(&mut tx, &delivery.id).await.unwrap().unwrap();
    assert_eq!(
        (logged.delivery.state, logged.delivery.reason),
        (DeliveryState::Pending, Reason::FailSmtp4xx)
    );
    assert_eq!((logged.delivery.due_at, logged.armed_at, logged.settled_at), (at(90), None, None));
    assert_eq!(claim(&mut tx, 0, 10).await, [], "not before it is due");
    let claimed = outbox::claim(
        &mut tx,
        &claiming(outbox::Due::Fresh, &destination(), at(90), 10),
        Rates::default(),
        &Node::alone("node"),
    )
    .await
    .unwrap()
    .rows;
    assert_eq!((claimed[0].attempts, claimed[0].fence), (1, 2));
    assert_eq!(arm(&mut tx, &claimed[0], 50).await, [Armed { delivery: delivery.id.clone(), attempt: 2 }]);
    assert_eq!(settle(&mut tx, &delivery, 1, Answer::InDoubt).await, 0, "the first attempt is history");
    assert_eq!(settle(&mut tx, &delivery, 2, Answer::Accepted { receipt: String::new() }).await, 1);
    let outcomes: Vec<_> = outbox::attempts(&mut tx, &DeliveryKey::of(&delivery))
        .await
        .unwrap()
        .into_iter()
        .map(|attempt| attempt.outcome.unwrap())
        .collect();
    assert_eq!(outcomes, ["retry", "accepted"]);
}

pub(crate) async fn what_is_given_back_is_decided_or_refused(state: &State) {
    let all: Vec<Delivery> = (1..=4).map(|n| pending(n, "hello")).collect();
    decide(state, &all).await;
    let mut tx = state.write().await.unwrap();
    let claimed = claim(&mut tx, 0, 10).await;
    let gates = all[0].gates[..1].to_vec();
    let backs = [
        Back::Pending { due_at: at(40) },
        Back::Deferred { due_at: at(50), reason: Reason::QuietHours, gates: gates.clone() },
        Back::Refused { state: DeliveryState::Suppressed, reason: Reason::ConsentWithdrawn, gates },
        Back::Pending { due_at: at(60) },
    ];
    let mut rows: Vec<_> = claimed
        .iter()
        .zip(backs)
        .map(|(claimed, back)| (DeliveryKey::of(&claimed.delivery), claimed.fence, back))
        .collect();
    rows[3].1 = 7;
    let changed = outbox::give_back(&mut tx, &rows, at(30)).await.unwrap();
    assert_eq!(
        changed.iter().map(|key| key.profile.0).collect::<Vec<_>>(),
        [1, 2, 3],
        "the fourth is not ours"
    );
    assert_eq!(state_of(&mut tx, &all[0]).await, (DeliveryState::Pending, Reason::OkAccepted));
    assert_eq!(state_of(&mut tx, &all[1]).await, (DeliveryState::Deferred, Reason::QuietHours));
    assert_eq!(state_of(&mut tx, &all[2]).await, (DeliveryState::Suppressed, Reason::ConsentWithdrawn));
    assert_eq!(state_of(&mut tx, &all[3]).await.0, DeliveryState::Leased);
    assert_eq!(
        [look_at(&mut tx, 1).await, look_at(&mut tx, 2).await, look_at(&mut tx, 3).await],
        [None, Some(at(50)), Some(all[2].due_at)]
    );
    let logged = delivery::get_by_key(&mut tx, &DeliveryKey::of(&all[1])).await.unwrap().unwrap();
    assert_eq!((logged.delivery.due_at, logged.delivery.gates.len()), (at(50), 1));
    let wrong = (
        DeliveryKey::of(&all[3]),
        1,
        Back::Refused { state: DeliveryState::Accepted, reason: Reason::OkAccepted, gates: vec![] },
    );
    assert!(matches!(outbox::give_back(&mut tx, &[wrong], at(30)).await, Err(StateError::Broken { .. })));
}

pub(crate) async fn a_dead_process_leaves_doubts_and_no_leases(state: &State) {
    let all: Vec<Delivery> = (1..=3).map(|n| pending(n, "hello")).collect();
    decide(state, &all).await;
    let mut tx = state.write().await.unwrap();
    let claimed = claim(&mut tx, 0, 2).await;
    arm(&mut tx, &claimed[1], 10).await;
    tx.commit().await.unwrap();
    // Here the process dies: after arming one, between claim and arm of the other.
    let mut tx = state.write().await.unwrap();
    assert_eq!(outbox::void_leases(&mut tx, at(60)).await.unwrap(), []);
    let doubts = outbox::armed_without_owner(&mut tx, Some(&Node::alone("node")), at(60)).await.unwrap();
    assert_eq!(doubts, [DeliveryKey::of(&claimed[1].delivery)]);
    assert_eq!(look_at(&mut tx, 2).await, Some(at(60)));
    assert_eq!(outbox::armed_without_owner(&mut tx, Some(&Node::alone("node")), at(61)).await.unwrap(), []);
    let again: Vec<u32> =
        claim(&mut tx, 0, 10).await.iter().map(|claimed| claimed.delivery.profile.0).collect();
    assert_eq!(again, [3], "one that a process died with is claimed by itself");
    assert_eq!(suspect(&mut tx).await, Some(1));
    let attempts = outbox::attempts(&mut tx, &DeliveryKey::of(&all[1])).await.unwrap();
    assert_eq!(attempts[0].outcome.as_deref(), Some("in_doubt"));
}

async fn suspect(tx: &mut Tx) -> Option<u32> {
    let due = outbox::Due::Suspect;
    let (destination, node) = (destination(), Node::alone("node"));
    let claim = claiming(due, &destination, at(20), 10);
    let claimed = outbox::claim(tx, &claim, Rates::default(), &node).await.unwrap().rows;
    assert!(claimed.len() < 2, "never two");
    claimed.first().map(|claimed| claimed.delivery.profile.0)
}

pub(crate) async fn what_a_process_dies_of_is_poison_and_nobody_else_is(state: &State) {
    let all: Vec<Delivery> = (1..=3).map(|n| pending(n, "hello")).collect();
    decide(state, &all).await;
    let mut tx = state.write().await.unwrap();
    assert_eq!(claim(&mut tx, 0, 10).await.len(), 3);
    // The process dies with all three, then twice with the first, and would again.
    assert_eq!(outbox::void_leases(&mut tx, at(60)).await.unwrap(), []);
    assert_eq!(claim(&mut tx, 0, 10).await, []);
    assert_eq!(suspect(&mut tx).await, Some(1));
    assert_eq!(outbox::void_leases(&mut tx, at(61)).await.unwrap(), []);
    // Whoever was there at fewer deaths goes first.
    assert_eq!(suspect(&mut tx).await, Some(2));
    assert_eq!(suspect(&mut tx).await, Some(3));
    let others: Vec<_> =
        all[1..].iter().map(|one| (DeliveryKey::of(one), 2, Back::Pending { due_at: at(50) })).collect();
    assert_eq!(outbox::give_back(&mut tx, &others, at(62)).await.unwrap().len(), 2);
    assert_eq!(suspect(&mut tx).await, Some(1));
    assert_eq!(outbox::void_leases(&mut tx, at(63)).await.unwrap(), [DeliveryKey::of(&all[0])]);
    assert_eq!(state_of(&mut tx, &all[0]).await, (DeliveryState::Rejected, Reason::FailPoison));
    assert_eq!(look_at(&mut tx, 1).await, Some(all[0].due_at), "its enrollment goes on");
    assert_eq!(suspect(&mut tx).await, None, "the others are not due");
    assert_eq!(state_of(&mut tx, &all[1]).await.0, DeliveryState::Pending);
}

pub(crate) async fn a_person_closes_a_doubt(state: &State) {
    let all: Vec<Delivery> = (1..=3).map(|n| pending(n, "hello")).collect();
    decide(state, &all).await;
    let mut tx = state.write().await.unwrap();
    for claimed in claim(&mut tx, 0, 10).await {
        arm(&mut tx, &claimed, 10).await;
    }
    outbox::armed_without_owner(&mut tx, Some(&Node::alone("node")), at(60)).await.unwrap();
    let mut resolve = async |delivery: &Delivery, resolved| {
        outbox::resolve(&mut tx, &delivery.id, resolved, "ana", "asked the provider", at(70)).await.unwrap()
    };
    assert_eq!(resolve(&all[0], As::Accepted).await, Some(DeliveryKey::of(&all[0])));
    assert_eq!(resolve(&all[0], As::Resend).await, None, "no doubt any more");
    assert!(resolve(&all[1], As::Rejected).await.is_some());
    assert!(resolve(&all[2], As::Resend).await.is_some());
    assert_eq!(state_of(&mut tx, &all[0]).await, (DeliveryState::Accepted, Reason::OkAssumed));
    assert_eq!(state_of(&mut tx, &all[1]).await, (DeliveryState::Rejected, Reason::CancelOperator));
    let attempts = outbox::attempts(&mut tx, &DeliveryKey::of(&all[2])).await.unwrap();
    assert_eq!(
        (attempts[0].outcome.as_deref(), &*attempts[0].detail),
        (Some("resent"), "ana: asked the provider")
    );
    let claimed = outbox::claim(
        &mut tx,
        &claiming(outbox::Due::Fresh, &destination(), at(70), 10),
        Rates::default(),
        &Node::alone("node"),
    )
    .await
    .unwrap()
    .rows;
    assert_eq!(claimed.len(), 1);
    assert_eq!(arm(&mut tx, &claimed[0], 10).await, [Armed { delivery: all[2].id.clone(), attempt: 2 }]);
}

pub(crate) async fn what_was_sent_again_is_not_so_a_second_time(state: &State) {
    let delivery = pending(1, "hello");
    decide(state, std::slice::from_ref(&delivery)).await;
    let key = DeliveryKey::of(&delivery);
    for attempt in 1..=3 {
        let mut tx = state.write().await.unwrap();
        let (mail, node) = (destination(), Node::alone("node"));
        let due = claiming(outbox::Due::Fresh, &mail, at(80), 10);
        let claimed = outbox::claim(&mut tx, &due, Rates::default(), &node).await.unwrap().rows;
        assert_eq!(arm(&mut tx, &claimed[0], 10).await, [Armed { delivery: delivery.id.clone(), attempt }]);
        assert_eq!(settle(&mut tx, &delivery, attempt, Answer::InDoubt).await, 1);
        let resent = outbox::resent(&mut tx, std::slice::from_ref(&key)).await.unwrap();
        assert_eq!(resent.contains(&delivery.id), attempt > 1);
        let mut close = async |as_| {
            outbox::resolve(&mut tx, &delivery.id, as_, "drumbeat", "the policy", at(70)).await.unwrap()
        };
        let once = close(As::ResendOnce).await;
        assert_eq!(once, (attempt == 1).then(|| key.clone()));
        if once.is_none() {
            assert!(close(As::Resend).await.is_some(), "a person may, as often as they like");
        }
        // It is a decision anew, and not what the last attempt came to.
        assert_eq!(state_of(&mut tx, &delivery).await, (DeliveryState::Pending, Reason::OkDue));
        tx.commit().await.unwrap();
    }
}

pub(crate) async fn a_scratch_state_is_a_copy_to_play_on(state: &State) {
    let (tx, delivery) = armed(state).await;
    tx.commit().await.unwrap();
    let run = state::segment::SegmentRun {
        id: "run".to_owned(),
        segment: model::SegmentName::known("lapsing"),
        definition: "d".to_owned(),
        as_of: at(1),
        members: (1..70_000).collect(),
        entered: (1..70_000).collect(),
        left: (0..0).collect(),
        rows: 0,
        duplicates: 0,
        missing_ids: 0,
        held: None,
    };
    let mut tx = state.write().await.unwrap();
    state::segment::commit_run(&mut tx, &run, at(1)).await.unwrap();
    tx.commit().await.unwrap();
    let scratch = State::scratch(Some(state)).await.unwrap();
    let mut copy = scratch.write().await.unwrap();
    assert_eq!(state_of(&mut copy, &delivery).await.0, DeliveryState::Armed);
    let current = state::segment::current(&mut copy, &run.segment).await.unwrap().unwrap();
    assert_eq!(current.members, run.members);
    assert_eq!(settle(&mut copy, &delivery, 1, Answer::InDoubt).await, 1);
    copy.commit().await.unwrap();
    let mut original = state.read().await.unwrap();
    assert_eq!(state_of(&mut original, &delivery).await.0, DeliveryState::Armed);
}

/// What a journal says of a row is put in, whatever the row is now; what is open of an attempt before it is in doubt.
pub(crate) async fn an_attempt_that_was_forgotten_is_put_in_once(state: &State) {
    let (mut tx, delivery) = armed(state).await;
    let key = DeliveryKey::of(&delivery);
    assert!(!outbox::rearm(&mut tx, &key, 1, &hash(), at(40)).await.unwrap(), "it is known");
    assert!(outbox::rearm(&mut tx, &key, 2, &hash(), at(40)).await.unwrap());
    assert!(
        !outbox::rearm(&mut tx, &key, 2, &hash(), at(40)).await.unwrap(),
        "a second time changes nothing"
    );
    let outcomes: Vec<Option<String>> =
        outbox::attempts(&mut tx, &key).await.unwrap().into_iter().map(|attempt| attempt.outcome).collect();
    assert_eq!(outcomes, [Some("in_doubt".to_owned()), None]);
    assert_eq!(outbox::last_armed(&mut tx).await.unwrap(), Some(at(40)));
    assert_eq!(settle(&mut tx, &delivery, 2, Answer::Accepted { receipt: "1".to_owned() }).await, 1);
    assert_eq!(state_of(&mut tx, &delivery).await, (DeliveryState::Accepted, Reason::OkAccepted));
    // One that nobody claimed: the state is of a time before.
    let waiting = pending(2, "hello");
    delivery::decide(&mut tx, std::slice::from_ref(&waiting), at(10)).await.unwrap();
    assert!(outbox::rearm(&mut tx, &DeliveryKey::of(&waiting), 1, &hash(), at(41)).await.unwrap());
    assert_eq!(settle(&mut tx, &waiting, 1, Answer::InDoubt).await, 1);
    assert_eq!(state_of(&mut tx, &waiting).await.0, DeliveryState::InDoubt);
    tx.commit().await.unwrap();
}
