//! ARM: the transaction that makes messages irrevocable, and the last look inside it.
//!
//! In one transaction (the scribe's) the people concerned are locked in order of number, facts are read, the engine is asked for its
//! last look, and what it says is written. An opt-out that returned before is always seen; one that comes after finds the message
//! armed, and says so.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use engine::{Allowance, ArmFacts, LastLook};
use jiff::Timestamp;
use model::consent::Suppression;
use model::fault::mutant;
use model::id::{AddressHash, UnitHash};
use model::policy::Policy;
use model::{DeliveryId, EnrollmentId, ProfileNumber};
use state::Tx;
use state::delivery::DeliveryKey;
use state::journal::{ArmedLine, Line, Who};
use state::outbox::Back;
use state::shared::Shared;
use tokio::sync::{mpsc, oneshot};

use super::Ready;
use super::prepare::{back, under_way};
use super::settler;
use crate::allowances;
use crate::daemon::{Daemon, DaemonError, Members, Surroundings, halts};
use crate::people::{self, Crowd, Facts, People};

/// Rows armed in one transaction.
pub(super) const BATCH_MAX: usize = 64;

/// A message at the point of no return.
pub(super) struct Request {
    ready: Arc<Ready>,
    reply: oneshot::Sender<bool>,
}

/// A way to ask for it.
#[derive(Clone)]
pub(super) struct Handle {
    pub(super) sender: mpsc::Sender<Request>,
    pub(super) under_way: Arc<AtomicUsize>,
}

/// A connection that has a message in hand, and will ask about it, or about the next one, in a moment.
pub(super) struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Handle {
    /// Says that a connection has a message in hand, as long as what is returned is kept.
    pub(super) fn begin(&self) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        UnderWay(Arc::clone(&self.under_way))
    }

    /// Asks for the last look. True: the row is armed, durably. False: it is not, and why not is written.
    pub(super) async fn arm(&self, ready: &Arc<Ready>) -> bool {
        let (reply, answer) = oneshot::channel();
        if self.sender.send(Request { ready: Arc::clone(ready), reply }).await.is_err() {
            return false;
        }
        // No answer is a no: the row stays leased, and comes back when the lease ends.
        answer.await.unwrap_or(false)
    }
}

/// Locks who is concerned: the people first, then the addresses and accounts, each in order.
pub(super) async fn lock(
    tx: &mut Tx,
    requests: &[Request],
    dead: &[&AddressHash],
) -> Result<(), DaemonError> {
    state::outbox::lock_profiles(tx, &numbers(requests)).await?;
    let addresses = requests.iter().map(|request| &request.ready.address).chain(dead.iter().copied());
    let accounts = requests.iter().filter_map(|request| request.ready.account.as_ref());
    let hashes = addresses.map(AddressHash::as_str).chain(accounts.map(UnitHash::as_str));
    state::outbox::lock_hashes(tx, hashes).await?;
    Ok(())
}

/// The last look of each, and what it says, written. Returns which are armed once the transaction is committed.
pub(super) async fn arm(
    daemon: &Daemon,
    tx: &mut Tx,
    members: &Arc<Members>,
    requests: &[Request],
    now: Timestamp,
) -> Result<Vec<DeliveryId>, DaemonError> {
    let numbers = numbers(requests);
    let addresses: Vec<AddressHash> = requests.iter().map(|request| request.ready.address.clone()).collect();
    let ids: Vec<_> = requests
        .iter()
        .map(|one| (one.ready.claimed.delivery.profile, one.ready.claimed.delivery.enrollment.clone()))
        .collect();
    let known = people::known(&daemon.project.policy, &numbers, &addresses, now);
    let keys: Vec<_> = requests.iter().map(|one| DeliveryKey::of(&one.ready.claimed.delivery)).collect();
    let rows = state::enrollment::get_many(&ids).and(state::outbox::in_hand(&keys));
    let policy = &daemon.project.policy;
    let counted: Vec<UnitHash> = requests.iter().flat_map(|one| units(policy, &one.ready)).collect();
    let mut crowd = Crowd::default();
    let ((mut known, halts), (enrollments, in_hand)) = if counted.is_empty() {
        tx.ask(known.and(halts()).and(rows)).await?
    } else {
        let asked = known.and(halts()).and(rows).and(people::crowd(policy, &counted, now));
        let (answer, others) = tx.ask(asked).await?;
        crowd = others;
        answer
    };
    let surroundings = Surroundings { members: Arc::clone(members), halts };
    let suppressions = std::mem::take(&mut known.suppressions);
    let mut facts: People = numbers.into_iter().map(|number| (number, Facts::default())).collect();
    known.fill(&mut facts);
    let active: BTreeSet<EnrollmentId> = enrollments
        .into_iter()
        .filter(|row| under_way(&row.enrollment))
        .map(|row| row.enrollment.id)
        .collect();
    let deliveries = requests.iter().map(|one| &one.ready.claimed.delivery);
    let mut held = allowances::hold(daemon, tx, deliveries, now).await?;
    let allowance = held.as_mut().map(|held| &mut held.allowance);
    let (armings, backs) = look(
        daemon,
        &surroundings,
        requests,
        Seen { people: facts, crowd, allowance },
        &suppressions,
        &active,
        now,
    );
    let lease_now = daemon.state.lease_now(tx).await?;
    let armed = state::outbox::arm(tx, in_hand, &armings, now, lease_now);
    if let Some(held) = held {
        held.keep(tx);
    }
    settler::give_back_in(tx, &backs, now).await?;
    if tx.is_journaled() && !mutant("armed_unjournaled") {
        for one in requests {
            let Ready { claimed, profile, address, .. } = &*one.ready;
            let Some(attempt) = armed.iter().find(|armed| armed.delivery == claimed.delivery.id) else {
                continue;
            };
            let id_hash = profile.as_ref().map(|profile| daemon.keys.id_hash(&profile.id));
            let who = Who { number: claimed.delivery.profile.0, id_hash };
            let line = ArmedLine::of(&claimed.delivery, who, attempt.attempt, address, now);
            tx.journal(Line::Armed(Box::new(line)));
        }
    }
    let is_armed = |one: &&Request| armed.iter().any(|armed| armed.delivery == one.ready.claimed.delivery.id);
    let shared: Vec<Shared> = requests
        .iter()
        .filter(is_armed)
        .flat_map(|one| {
            let delivery = DeliveryKey::of(&one.ready.claimed.delivery);
            units(policy, &one.ready).into_iter().map(move |unit| Shared {
                unit,
                delivery: delivery.clone(),
                at: now,
            })
        })
        .collect();
    state::shared::keep(tx, &shared);
    Ok(armed.into_iter().map(|armed| armed.delivery).collect())
}

/// Says what is committed to those who asked.
pub(super) fn answer(requests: Vec<Request>, armed: &[DeliveryId]) {
    for request in requests {
        let is_armed = armed.contains(&request.ready.claimed.delivery.id);
        if request.reply.send(is_armed).is_err() && is_armed {
            tracing::warn!(delivery = %request.ready.claimed.delivery.id, "A delivery was armed and nobody hands it over; it is in doubt after the next start.");
        }
    }
}

fn numbers(requests: &[Request]) -> Vec<ProfileNumber> {
    let numbers: BTreeSet<ProfileNumber> =
        requests.iter().map(|request| request.ready.claimed.delivery.profile).collect();
    numbers.into_iter().collect()
}

/// What a last look sees, and changes for the next.
struct Seen<'a> {
    people: People,
    crowd: Crowd,
    allowance: Option<&'a mut Allowance>,
}

/// The last look of each, in turn: what one arms, the next sees.
fn look(
    daemon: &Daemon,
    surroundings: &Surroundings,
    requests: &[Request],
    seen: Seen<'_>,
    suppressions: &[Suppression],
    active: &BTreeSet<EnrollmentId>,
    now: Timestamp,
) -> (Vec<(DeliveryKey, i64, AddressHash)>, Vec<BackRow>) {
    let world = surroundings.world(&daemon.project);
    let Seen { mut people, mut crowd, mut allowance } = seen;
    let (mut armings, mut backs) = (Vec::new(), Vec::new());
    for request in requests {
        let delivery = &request.ready.claimed.delivery;
        let Some(facts) = people.get_mut(&delivery.profile) else { continue };
        // By the address that was rendered, which may not be the one that the person has now.
        let suppressions: Vec<_> = suppressions
            .iter()
            .filter(|one| people::matches(one, delivery.profile, Some(&request.ready.address)))
            .cloned()
            .collect();
        let mut look = engine::last_look(
            &world,
            delivery,
            &ArmFacts {
                enrollment_active: active.contains(&delivery.enrollment),
                profile: request.ready.profile.as_ref(),
                consents: &facts.consents,
                suppressions: &suppressions,
                touches: &facts.touches,
                shared: crowd.shared(request.ready.account.as_ref(), Some(&request.ready.address)),
                standings: &facts.standings,
                window: request.ready.window.as_ref(),
            },
            now,
        );
        if mutant("unlooked") {
            look = LastLook::Arm;
        }
        // Nothing is taken for what does not go.
        if look == LastLook::Arm
            && let Some(Err(refusal)) = allowance.as_mut().map(|allowance| allowance.take(delivery, now))
        {
            look = LastLook::Hold { refusal };
        }
        match look {
            LastLook::Arm => {
                armings.push((
                    DeliveryKey::of(delivery),
                    request.ready.claimed.fence,
                    request.ready.address.clone(),
                ));
                // The next of this batch sees it.
                let touch = armed(delivery, now);
                crowd.count(&units(&daemon.project.policy, &request.ready), &touch);
                count(facts, touch);
            }
            other => backs.push((
                DeliveryKey::of(delivery),
                request.ready.claimed.fence,
                back(other, &request.ready.claimed),
            )),
        }
    }
    (armings, backs)
}

/// What a message to this account and address counts for.
fn units(policy: &Policy, ready: &Ready) -> Vec<UnitHash> {
    people::units(policy, ready.account.as_ref(), Some(&ready.address))
}

fn armed(delivery: &model::delivery::Delivery, now: Timestamp) -> engine::Touch {
    engine::Touch {
        delivery: delivery.id.clone(),
        at: now,
        traits: delivery.traits.clone(),
        state: model::DeliveryState::Armed,
        content: delivery.content.clone(),
    }
}

fn count(facts: &mut Facts, touch: engine::Touch) {
    facts.touches.retain(|known| known.delivery != touch.delivery);
    facts.touches.push(touch);
}

/// What a refused row goes back as.
pub(super) type BackRow = (DeliveryKey, i64, Back);
