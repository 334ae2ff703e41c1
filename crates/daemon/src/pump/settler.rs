//! SETTLE: what came of attempts, written in the scribe's transactions. A result is a fact and is never fenced.

use std::collections::BTreeMap;
use std::time::Duration;

use connector::{Bounce, Outcome};
use jiff::{SignedDuration, Timestamp};
use model::consent::{Suppression, SuppressionSubject};
use model::delivery::Tally;
use model::fault::mutant;
use model::id::AddressHash;
use model::{DeliveryState, DestinationName, Lane, PlaybookName, RateKey, Reason, Refusal};
use serde_json::json;
use state::Tx;
use state::audit::Entry;
use state::delivery::DeliveryKey;
use state::fact::{Fact, FactKind};
use state::outbox::{Answer, Back, Claimed, Settlement};
use tokio::sync::mpsc;

use super::armer::BackRow;
use super::prepare::{gates, refused};
use super::{Ready, rates};
use crate::daemon::{Daemon, DaemonError};
use crate::report::Pumped;

/// Results written in one transaction.
pub(super) const BATCH_MAX: usize = 256;

/// A result.
pub(super) enum Job {
    /// An answer to what was armed.
    Settle { settlement: Settlement, playbook: PlaybookName, bounce: Option<Bounced>, fallback: bool },
    /// A row that was not armed: it goes back, and an answer it got before is told.
    GiveBack {
        claimed: Box<Claimed>,
        back: Back,
        told: Option<Entry>,
        bounce: Option<Bounced>,
        fallback: bool,
    },
    /// A destination is used too fast, says an answer to a message of this lane, and wants to be let alone for so long.
    SlowDown { destination: DestinationName, lane: Lane, reason: Reason, pause: Option<Duration> },
}

/// A dead address, and whose.
type Bounced = (AddressHash, Box<Claimed>);

/// Whether the provider may have had the message when it answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// Before the last look: nothing was handed over.
    Unarmed,
    /// After it.
    Armed,
}

/// A way to hand it in.
#[derive(Clone)]
pub(super) struct Handle {
    pub(super) sender: mpsc::Sender<Job>,
    pub(super) now: Timestamp,
}

impl Handle {
    /// Hands in a result, and counts it.
    pub(super) async fn settle(
        &self,
        ready: &Ready,
        outcome: Outcome,
        when: When,
        pumped: &mut Pumped,
    ) -> Result<(), DaemonError> {
        let Ready { claimed, address, lane, .. } = ready;
        let fallback = ready.rendered.fallback && !mutant("fallback_unseen");
        // Tries before arming are counted by their leases.
        let attempt = if when == When::Armed { claimed.attempts + 1 } else { claimed.lease_count.max(1) };
        let (result, detail, bounce) = match outcome {
            Outcome::Accepted { receipt } => {
                pumped.accepted += 1;
                (Answer::Accepted { receipt }, String::new(), None)
            }
            Outcome::Rejected { reason, bounce, detail } => {
                pumped.rejected += 1;
                (Answer::Rejected { reason }, detail, bounce)
            }
            Outcome::InDoubt { detail } => {
                pumped.in_doubt += 1;
                (Answer::InDoubt, detail, None)
            }
            Outcome::Retry { reason, after, schedule, slower, detail } => {
                if slower {
                    self.slow_down(&claimed.delivery.destination, lane, reason, after).await;
                }
                let due_at =
                    engine::retry_at(&claimed.delivery.id, attempt, after, backoff(schedule), self.now);
                if due_at >= claimed.delivery.expires_at {
                    pumped.rejected += 1;
                    let reason = if reason == Reason::FailSmtp4xx {
                        Reason::FailSmtpExpired
                    } else {
                        Reason::FailRetries
                    };
                    (Answer::Rejected { reason }, detail, None)
                } else {
                    pumped.retried += 1;
                    (Answer::Retry { reason, due_at }, detail, None)
                }
            }
            Outcome::NotArmed | Outcome::Halt { .. } => return Ok(()),
        };
        let bounce = (bounce == Some(Bounce::Hard)).then(|| (address.clone(), Box::new(claimed.clone())));
        let settlement = Settlement { delivery: DeliveryKey::of(&claimed.delivery), attempt, result, detail };
        let job = match when {
            When::Armed => {
                let playbook = claimed.delivery.traits.playbook.clone();
                Job::Settle { settlement, playbook, bounce, fallback }
            }
            When::Unarmed => {
                let refusal = |reason: Reason| Refusal { reason, saw: settlement.detail.clone() };
                let delivery = &claimed.delivery;
                let back = match &settlement.result {
                    Answer::Rejected { reason } => {
                        refused(DeliveryState::Rejected, refusal(*reason), delivery)
                    }
                    Answer::Retry { reason, due_at } => Back::Again {
                        due_at: *due_at,
                        reason: *reason,
                        gates: gates(refusal(*reason), delivery),
                    },
                    // A provider cannot have taken what was not handed over; a connector that says so is not believed.
                    Answer::Accepted { .. } | Answer::InDoubt => {
                        refused(DeliveryState::Rejected, refusal(Reason::FailInternal), delivery)
                    }
                };
                let told = Some(entry(&settlement, when, self.now));
                Job::GiveBack { claimed: Box::new(claimed.clone()), back, told, bounce, fallback }
            }
        };
        // A closed channel: the task has failed and says so itself. The row stays as it is, and becomes a doubt at worst.
        drop(self.sender.send(job).await);
        Ok(())
    }

    /// The provider says that it is used too fast.
    async fn slow_down(
        &self,
        destination: &DestinationName,
        lane: &Lane,
        reason: Reason,
        pause: Option<SignedDuration>,
    ) {
        let pause = pause.and_then(|pause| Duration::try_from(pause).ok());
        let (destination, lane) = (destination.clone(), lane.clone());
        drop(self.sender.send(Job::SlowDown { destination, lane, reason, pause }).await);
    }

    /// Puts a row back that was not tried.
    pub(super) async fn give_back(&self, claimed: &Claimed, due_at: Timestamp) -> Result<(), DaemonError> {
        let back = Back::Pending { due_at };
        let claimed = Box::new(claimed.clone());
        let job = Job::GiveBack { claimed, back, told: None, bounce: None, fallback: false };
        drop(self.sender.send(job).await);
        Ok(())
    }
}

fn backoff(schedule: connector::Schedule) -> engine::Backoff {
    match schedule {
        connector::Schedule::Smtp4xx => engine::Backoff::Smtp4xx,
        connector::Schedule::Connect => engine::Backoff::Connect,
    }
}

/// The addresses that bounced, which are to be locked before anything else is written.
pub(super) fn dead(jobs: &[Job]) -> Vec<&AddressHash> {
    jobs.iter()
        .filter_map(|job| match job {
            Job::Settle { bounce, .. } | Job::GiveBack { bounce, .. } => bounce.as_ref(),
            Job::SlowDown { .. } => None,
        })
        .map(|(address, _)| address)
        .collect()
}

/// Writes results.
pub(super) async fn write(
    daemon: &Daemon,
    tx: &mut Tx,
    jobs: &[Job],
    now: Timestamp,
) -> Result<(), DaemonError> {
    let (mut settlements, mut backs, mut bounced, mut entries) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut slower: BTreeMap<RateKey, Option<Duration>> = BTreeMap::new();
    let mut tally: BTreeMap<PlaybookName, Tally> = BTreeMap::new();
    for job in jobs {
        match job {
            Job::Settle { settlement, playbook, bounce, fallback } => {
                let counts = tally.entry(playbook.clone()).or_default();
                match &settlement.result {
                    Answer::Accepted { .. } => counts.accepted += 1,
                    Answer::Rejected { .. } => counts.rejected += 1,
                    Answer::InDoubt => counts.in_doubt += 1,
                    Answer::Retry { .. } => {}
                }
                // What is tried again is counted once, when it is over.
                let is_over = !matches!(settlement.result, Answer::Retry { .. });
                counts.fallback += u64::from(*fallback && is_over);
                counts.bounced += u64::from(bounce.is_some());
                settlements.push(settlement.clone());
                bounced.extend(bounce);
            }
            Job::GiveBack { claimed, back, told, bounce, fallback } => {
                if told.is_some() && matches!(back, Back::Refused { state: DeliveryState::Rejected, .. }) {
                    let counts = tally.entry(claimed.delivery.traits.playbook.clone()).or_default();
                    counts.rejected += 1;
                    counts.fallback += u64::from(*fallback);
                    counts.bounced += u64::from(bounce.is_some());
                }
                backs.push((DeliveryKey::of(&claimed.delivery), claimed.fence, back.clone()));
                bounced.extend(bounce);
                entries.extend(told.clone());
            }
            Job::SlowDown { destination, lane, reason, pause } => {
                if let Some(key) = rates::slowed(daemon, destination, lane, *reason) {
                    let longest = slower.entry(key).or_default();
                    *longest = (*longest).max(*pause);
                }
            }
        }
    }
    slow_down(daemon, tx, &slower).await?;
    state::outbox::settle(tx, &settlements, now).await?;
    for (address, claimed) in bounced {
        suppress(tx, address, claimed, now).await?;
    }
    entries.extend(settlements.iter().map(|settlement| entry(settlement, When::Armed, now)));
    state::audit::append(tx, &entries);
    state::tally::add(tx, &daemon.node(), &tally, now);
    give_back_in(tx, &backs, now).await?;
    Ok(())
}

/// Uses rates more slowly.
async fn slow_down(
    daemon: &Daemon,
    tx: &mut Tx,
    slower: &BTreeMap<RateKey, Option<Duration>>,
) -> Result<(), DaemonError> {
    if slower.is_empty() {
        return Ok(());
    }
    let lease_now = daemon.state.lease_now(tx).await?;
    for (key, share) in state::rate::slow_down(tx, slower, lease_now).await? {
        tracing::warn!(
            rate = %key, share,
            "`{key}` is used too fast, an answer says: {}.{} % of its rate for now.", share / 10, share % 10
        );
    }
    Ok(())
}

/// A hard bounce: nobody writes to this address again, whoever has it.
async fn suppress(
    tx: &mut Tx,
    address: &AddressHash,
    claimed: &Claimed,
    now: Timestamp,
) -> Result<(), DaemonError> {
    let delivery = &claimed.delivery;
    let suppression = Suppression {
        subject: SuppressionSubject::Address(address.clone()),
        channel: Some(delivery.traits.channel),
        reason: Reason::HardBounce,
        since: now,
        source: delivery.id.to_string(),
        spares_transactional: false,
    };
    state::consent::suppress(tx, &suppression).await?;
    let fact = Fact {
        profile: delivery.profile,
        kind: FactKind::Bounced,
        at: now,
        delivery: Some(delivery.id.clone()),
        source: delivery.destination.to_string(),
        source_id: delivery.id.to_string(),
    };
    state::fact::add(tx, &fact).await?;
    let body = json!({ "profile": delivery.profile.0, "delivery": delivery.id.as_str(), "reason": Reason::HardBounce.as_str() });
    state::audit::append(tx, &[Entry { kind: "suppression", at: now, body }]);
    Ok(())
}

fn entry(settlement: &Settlement, when: When, now: Timestamp) -> Entry {
    let mut body = json!({
        "delivery": settlement.delivery.id.as_str(), "attempt": settlement.attempt, "armed": when == When::Armed,
    });
    if let Some(object) = body.as_object_mut() {
        let (outcome, more) = match &settlement.result {
            Answer::Accepted { receipt } => ("accepted", ("receipt", json!(receipt))),
            Answer::Rejected { reason } => ("rejected", ("reason", json!(reason.as_str()))),
            Answer::Retry { reason, .. } => ("retry", ("reason", json!(reason.as_str()))),
            Answer::InDoubt => ("in_doubt", ("reason", json!(Reason::OutcomeUnknown.as_str()))),
        };
        object.insert("outcome".to_owned(), json!(outcome));
        object.insert(more.0.to_owned(), more.1);
        if !settlement.detail.is_empty() {
            object.insert("said".to_owned(), json!(settlement.detail));
        }
    }
    Entry { kind: "attempt", at: now, body }
}

/// Writes rows back that do not go, and turns that they had, in a transaction of its own.
pub(super) async fn write_back(
    daemon: &Daemon,
    backs: &[BackRow],
    unmade: &BTreeMap<PlaybookName, Tally>,
    unused: &BTreeMap<RateKey, u32>,
    now: Timestamp,
) -> Result<(), DaemonError> {
    if backs.is_empty() {
        return Ok(());
    }
    let mut tx = daemon.state.write().await?;
    // Rates before rows, as everywhere.
    rates::give_back(daemon, &mut tx, unused).await?;
    give_back_in(&mut tx, backs, now).await?;
    state::tally::add(&mut tx, &daemon.node(), unmade, now);
    tx.commit().await?;
    Ok(())
}

/// Writes rows back that do not go, with their audit entries.
pub(super) async fn give_back_in(tx: &mut Tx, backs: &[BackRow], now: Timestamp) -> Result<(), DaemonError> {
    if backs.is_empty() {
        return Ok(());
    }
    state::outbox::give_back(tx, backs, now).await?;
    let entries: Vec<Entry> = backs
        .iter()
        .filter_map(|(delivery, _, back)| {
            let (state, reason) = match back {
                // The provider's answer is told where it came.
                Back::Pending { .. } | Back::Turn { .. } | Back::Again { .. } | Back::Refused { state: DeliveryState::Rejected, .. } => return None,
                Back::Doubt { .. } => (DeliveryState::InDoubt, Reason::OutcomeUnknown),
                Back::Deferred { reason, .. } => (DeliveryState::Deferred, *reason),
                Back::Refused { state, reason, .. } => (*state, *reason),
            };
            let body = json!({ "delivery": delivery.id.as_str(), "state": state.as_str(), "reason": reason.as_str() });
            Some(Entry { kind: "last_look", at: now, body })
        })
        .collect();
    state::audit::append(tx, &entries);
    Ok(())
}
