//! Deliveries as they are decided, counted and shown.

use model::delivery::Delivery;
use model::{DeliveryId, DeliveryState, DestinationName, PlaybookName, ProfileNumber, Reason};
use state::delivery::{self, DeliveryKey, Filter};
use state::playbook::{PlaybookState, Status};
use state::rate::Rates;
use state::{Node, State, StateError, enrollment, outbox, playbook};

use super::outbox::arm;
use crate::world::{
    at, claiming, decide, delivery as pending, destination, enrollment_id, playbook as name, waiting,
};

fn with(state: DeliveryState, reason: Reason, delivery: Delivery) -> Delivery {
    Delivery { state, reason, ..delivery }
}

pub(crate) async fn a_delivery_is_read_back_as_it_was(state: &State) {
    let all = [
        pending(1, "hello"),
        with(DeliveryState::Suppressed, Reason::ConsentAbsent, pending(1, "again")),
        Delivery { gates: vec![], ..pending(2, "hello") },
    ];
    decide(state, &all).await;
    let mut tx = state.read().await.unwrap();
    let ids = [(ProfileNumber(1), enrollment_id(1)), (ProfileNumber(2), enrollment_id(2))];
    let mut read = delivery::of_enrollments(&mut tx, &ids).await.unwrap();
    let mut expected = all.to_vec();
    for list in [&mut read, &mut expected] {
        list.sort_by(|one, other| one.id.cmp(&other.id));
    }
    assert_eq!(read, expected);
    let logged = delivery::get(&mut tx, &all[0].id).await.unwrap().unwrap();
    assert_eq!(
        (logged.delivery, logged.armed_at, logged.settled_at, logged.attempts),
        (all[0].clone(), None, None, 0)
    );
    let refused = delivery::get_by_key(&mut tx, &DeliveryKey::of(&all[1])).await.unwrap().unwrap();
    assert_eq!(refused.settled_at, Some(at(5)));
    assert_eq!(delivery::get(&mut tx, &DeliveryId::known("nobody's")).await.unwrap(), None);
}

pub(crate) async fn only_a_deferred_row_is_decided_anew(state: &State) {
    use DeliveryState::{Cancelled, Deferred, Expired, Pending, Skipped, Suppressed, Withheld};
    let states = [Pending, Deferred, Withheld, Suppressed, Skipped, Expired, Cancelled];
    let steps: Vec<String> = states.iter().map(|state| format!("step_{}", state.as_str())).collect();
    let first: Vec<Delivery> = states
        .iter()
        .zip(&steps)
        .map(|(state, step)| with(*state, Reason::CapDeferred, pending(1, step)))
        .collect();
    decide(state, &first).await;
    let mut tx = state.write().await.unwrap();
    let again: Vec<Delivery> = steps
        .iter()
        .map(|step| Delivery {
            decided_at: at(50),
            due_at: at(60),
            ..with(Skipped, Reason::CapPerson, pending(1, step))
        })
        .collect();
    assert_eq!(delivery::decide(&mut tx, &again, at(50)).await.unwrap(), 1);
    for ((decided, was), state) in again.iter().zip(&first).zip(states) {
        let logged = delivery::get(&mut tx, &decided.id).await.unwrap().unwrap();
        assert_eq!(
            logged.delivery,
            if state == Deferred { decided.clone() } else { was.clone() },
            "{state:?}"
        );
    }
    for state in
        [DeliveryState::Leased, DeliveryState::Armed, DeliveryState::Accepted, DeliveryState::InDoubt]
    {
        let wrong = with(state, Reason::OkAccepted, pending(2, "hello"));
        assert!(matches!(delivery::decide(&mut tx, &[wrong], at(1)).await, Err(StateError::Broken { .. })));
    }
}

pub(crate) async fn touches_are_what_counts(state: &State) {
    use DeliveryState::{Deferred, Skipped, Withheld};
    decide(
        state,
        &[
            pending(1, "pending"),
            with(Withheld, Reason::GlobalHoldout, pending(1, "withheld")),
            with(Skipped, Reason::CapPerson, pending(1, "skipped")),
            with(Deferred, Reason::CapDeferred, pending(1, "deferred")),
            pending(2, "hello"),
        ],
    )
    .await;
    let mut tx = state.read().await.unwrap();
    let asked = [2, 1].map(ProfileNumber);
    let told = |touches: Vec<delivery::Touch>| -> Vec<_> {
        touches.into_iter().map(|touch| (touch.profile.0, touch.at, touch.state)).collect()
    };
    let touches = tx.ask(delivery::touches(&asked, at(0))).await.unwrap();
    let row = pending(1, "pending");
    assert_eq!((&touches[0].traits, &touches[0].content), (&row.traits, &row.content));
    // Withheld counts from when it was, pending from when it is due.
    let (withheld, due) = ((1, at(5), Withheld), (1, at(10), DeliveryState::Pending));
    assert_eq!(told(touches), [withheld, due, (2, at(10), DeliveryState::Pending)]);
    assert_eq!(told(tx.ask(delivery::touches(&asked[1..], at(6))).await.unwrap()), [due]);
}

pub(crate) async fn cancelling_stops_before_arming_only(state: &State) {
    let all: Vec<Delivery> = (1..=4).map(|n| pending(n, "hello")).collect();
    decide(state, &all).await;
    let mut tx = state.write().await.unwrap();
    let claimed = outbox::claim(
        &mut tx,
        &claiming(outbox::Due::Fresh, &destination(), at(20), 3),
        Rates::default(),
        &Node::alone("node"),
    )
    .await
    .unwrap()
    .rows;
    assert_eq!(arm(&mut tx, &claimed[0], 1).await.len(), 1);
    let asked: Vec<_> = all.iter().map(|one| (DeliveryKey::of(one), Reason::GoalReached)).collect();
    let cancelled = delivery::cancel(&mut tx, &asked, at(21)).await.unwrap();
    let expected: Vec<_> = all[1..].iter().map(DeliveryKey::of).collect();
    assert_eq!(cancelled, expected, "armed is past recall");
    let logged = delivery::get_by_key(&mut tx, &expected[0]).await.unwrap().unwrap();
    assert_eq!(
        (logged.delivery.state, logged.delivery.reason),
        (DeliveryState::Cancelled, Reason::GoalReached)
    );
    assert_eq!(logged.settled_at, Some(at(21)));
    assert_eq!(arm(&mut tx, &claimed[1], 1).await, [], "its lease is over");
    assert_eq!(delivery::cancel(&mut tx, &asked, at(23)).await.unwrap(), []);
}

pub(crate) async fn the_log_is_paged_and_filtered(state: &State) {
    let mut all: Vec<Delivery> = (1..=9).map(|n| pending(n, "hello")).collect();
    for (one, second) in all.iter_mut().zip([5, 3, 3, 9, 7, 7, 7, 1, 2]) {
        (one.created_at, one.decided_at) = (at(second), at(second));
    }
    all[1] = with(DeliveryState::Skipped, Reason::CapPerson, all[1].clone());
    all[2].destination = DestinationName::known("file");
    all[3].traits.playbook = PlaybookName::known("other");
    decide(state, &all).await;
    let mut tx = state.write().await.unwrap();
    outbox::claim(
        &mut tx,
        &claiming(outbox::Due::Fresh, &destination(), at(20), 1),
        Rates::default(),
        &Node::alone("node"),
    )
    .await
    .unwrap();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = delivery::find(&mut tx, &Filter::default(), after.as_ref(), 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.cursor());
        seen.extend(page.iter().map(|row| row.delivery.profile.0));
    }
    assert_eq!(seen, [4, 7, 6, 5, 1, 3, 2, 9, 8]);
    let found = async |tx: &mut state::Tx, filter: &Filter| -> Vec<u32> {
        let counted: u64 = delivery::counts(tx, filter).await.unwrap().values().sum();
        let mut found: Vec<u32> = delivery::find(tx, filter, None, 100)
            .await
            .unwrap()
            .iter()
            .map(|row| row.delivery.profile.0)
            .collect();
        found.sort_unstable();
        assert_eq!(counted, found.len() as u64);
        found
    };
    let of = Filter::default;
    let person = Some(ProfileNumber(3));
    assert_eq!(found(&mut tx, &Filter { profile: person, ..of() }).await, [3]);
    assert_eq!(
        found(&mut tx, &Filter { profile: person, state: Some(DeliveryState::Skipped), ..of() }).await,
        Vec::<u32>::new()
    );
    assert_eq!(found(&mut tx, &Filter { playbook: Some(PlaybookName::known("other")), ..of() }).await, [4]);
    assert_eq!(found(&mut tx, &Filter { enrollment: Some(enrollment_id(6)), ..of() }).await, [6]);
    assert_eq!(
        found(&mut tx, &Filter { destination: Some(DestinationName::known("file")), ..of() }).await,
        [3]
    );
    assert_eq!(found(&mut tx, &Filter { reason: Some(Reason::CapPerson), ..of() }).await, [2]);
    let shown = found(&mut tx, &Filter { state: Some(DeliveryState::Pending), ..of() }).await;
    assert_eq!(shown, [1, 3, 4, 5, 6, 7, 8, 9], "leased is a way of being pending");
    assert_eq!(found(&mut tx, &Filter { since: Some(at(3)), until: Some(at(7)), ..of() }).await, [1, 2, 3]);
}

pub(crate) async fn next_due_is_the_earliest(state: &State) {
    let mut tx = state.write().await.unwrap();
    assert_eq!(delivery::next_due(&mut tx, at(0)).await.unwrap(), None);
    enrollment::put(&mut tx, &[(waiting(9, 70), None)]).await.unwrap();
    assert_eq!(
        delivery::next_due(&mut tx, at(0)).await.unwrap(),
        None,
        "nobody looks at a playbook that is not kept"
    );
    let kept = PlaybookState {
        name: name(),
        status: Status::Active,
        version: "v1".to_owned(),
        activated_at: at(0),
        seen: (1..3).collect(),
        applied_run: None,
        applying: None,
    };
    playbook::save(&mut tx, &kept).await.unwrap();
    assert_eq!(delivery::next_due(&mut tx, at(0)).await.unwrap(), Some(at(70)));
    tx.commit().await.unwrap();
    decide(state, &[Delivery { due_at: at(60), ..pending(1, "hello") }]).await;
    let mut tx = state.write().await.unwrap();
    assert_eq!(delivery::next_due(&mut tx, at(0)).await.unwrap(), Some(at(60)));
    assert_eq!(delivery::next_due(&mut tx, at(65)).await.unwrap(), Some(at(65)), "it is due already");
    playbook::set_status(&mut tx, &name(), Status::Paused).await.unwrap();
    outbox::claim(
        &mut tx,
        &claiming(outbox::Due::Fresh, &destination(), at(65), 9),
        Rates::default(),
        &Node::alone("node"),
    )
    .await
    .unwrap();
    assert_eq!(delivery::next_due(&mut tx, at(80)).await.unwrap(), None);
}
