//! pump(due_by, now) = reap, CLAIM, render, ARM, DELIVER, SETTLE. Takes what is due, and returns when it is handed over or put
//! back.
//!
//! What is due and what time it is are two questions: a pass that ends (`run --once`) takes what was due when it began, and no more,
//! however long it takes; whether a message may go is judged by the clock.
//!
//! A pass takes rows in hand a few at a time, while the last are handed over, and ends after a second: its `now` is never far from
//! the clock, by which quiet hours and opt-outs are judged.

mod armer;
pub(crate) mod prepare;
pub(crate) mod rates;
mod scribe;
mod settler;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use connector::{Item, Outcome};
use engine::{Halts, Whose};
use jiff::{SignedDuration, Timestamp};
use message::Rendered;
use model::fault::mutant;
use model::playbook::SendWindow;
use model::profile::Profile;
use model::settings::Deliver;
use model::{DestinationName, Lane, RateKey, Reason, Refusal};
use state::outbox::{Claim, Claimed, Claims, Due};
use state::rate::Turns;
use state::{Node, Tx};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::rates::Lanes;
use self::scribe::Scribe;
use self::settler::When;
use crate::allowances;
use crate::clock;
use crate::daemon::{Carrier, Daemon, DaemonError, Surroundings, halts};
use crate::guards;
use crate::report::Pumped;

/// Rows claimed and prepared at once: read from the warehouse, looked at, rendered.
const CLAIM_MAX: u32 = 250;
/// A pass claims nothing more after so long.
const PASS_LASTS: Duration = Duration::from_secs(1);
/// Turns of lanes are taken so far ahead, even where a pass ends before.
const AHEAD_MIN: Duration = Duration::from_millis(50);
/// How long a claim holds before others may take the row.
const LEASE_MS: i64 = 120_000;
/// A row that `deliver: colleagues` does not let go is looked at again after so long.
const HELD_BACK: SignedDuration = SignedDuration::from_mins(15);

/// One row, ready to be handed over.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) claimed: Claimed,
    pub(crate) item: Arc<Item>,
    pub(crate) rendered: Rendered,
    pub(crate) address: model::id::AddressHash,
    /// The person's account when it was rendered, where a cap counts by it.
    pub(crate) account: Option<model::id::UnitHash>,
    /// As it was rendered: in whose zone the last look reads the clock.
    pub(crate) profile: Option<Profile>,
    /// The send window of the step.
    pub(crate) window: Option<SendWindow>,
    /// The rates that it has a turn of.
    pub(crate) lane: Lane,
    /// When that is.
    pub(crate) turn: Instant,
}

/// One turn of delivering, at one time, of what is due by `due_by`.
pub async fn pump(daemon: &Arc<Daemon>, due_by: Timestamp, now: Timestamp) -> Result<Pumped, DaemonError> {
    let mut pumped = Pumped::default();
    if let Some(low) = daemon.disk_is_low() {
        pumped.halted = daemon.carriers.keys().map(|name| (name.clone(), low.clone())).collect();
        return Ok(pumped);
    }
    let halts = {
        let mut tx = daemon.state.write().await?;
        let lease_now = daemon.state.lease_now(&mut tx).await?;
        state::outbox::reap(&mut tx, lease_now).await?;
        // Nothing of ours is under way now. What a pass that failed left behind was not armed, or nobody knows what came of it.
        let node = daemon.node();
        state::outbox::release(&mut tx, &[node.id().to_owned()]).await?;
        pumped.in_doubt += doubt(&mut tx, Some(&node), now).await?;
        let halts = tx.ask(halts()).await?;
        tx.commit().await?;
        halts
    };
    if !halts.all {
        let mut passes = JoinSet::new();
        for (destination, carrier) in &daemon.carriers {
            if halts.destinations.contains(destination)
                || daemon.halted_destinations(now).contains_key(destination)
            {
                continue;
            }
            let (daemon, destination, carrier, halts) =
                (Arc::clone(daemon), destination.clone(), carrier.clone(), halts.clone());
            match carrier {
                // In virtual time one thing happens after the other.
                Carrier::Made(..) => {
                    pumped.add(pass(&daemon, &destination, &carrier, &halts, due_by, now).await?)
                }
                Carrier::Driver(_) => {
                    passes.spawn(
                        async move { pass(&daemon, &destination, &carrier, &halts, due_by, now).await },
                    );
                }
            }
        }
        // All of them are waited for, also where one fails: what they have in hand is theirs to finish.
        let mut failed = None;
        while let Some(joined) = passes.join_next().await {
            match joined.map_err(DaemonError::Task).flatten() {
                Ok(passed) => pumped.add(passed),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(()), Err)?;
    }
    if pumped.claimed > 0 {
        pumped.trips = guards::watch(daemon, now).await?;
    }
    pumped
        .halted
        .extend(daemon.halted_destinations(now).into_iter().map(|(name, (refusal, _))| (name, refusal)));
    Ok(pumped)
}

/// What is armed and under way nowhere is in doubt now: one had it that is not among the living, or this node in an earlier pass.
pub(crate) async fn doubt(tx: &mut Tx, node: Option<&Node>, now: Timestamp) -> Result<u64, DaemonError> {
    let rows = state::outbox::armed_without_owner(tx, node, now).await?.len() as u64;
    if rows > 0 {
        let body = serde_json::json!({ "rows": rows, "why": "handed over by who ended, or failed, before the answer was written" });
        state::audit::append(tx, &[state::audit::Entry { kind: "in_doubt", at: now, body }]);
    }
    Ok(rows)
}

/// One destination's share of a pass.
async fn pass(
    daemon: &Arc<Daemon>,
    destination: &DestinationName,
    carrier: &Carrier,
    halts: &Halts,
    due_by: Timestamp,
    now: Timestamp,
) -> Result<Pumped, DaemonError> {
    let began = Instant::now();
    let is_throttled =
        rates::throttle(daemon, destination).is_some() || !rates::of_lanes(daemon, destination).is_empty();
    // What has its turn after the pass is the next one's.
    let ahead = || PASS_LASTS.saturating_sub(began.elapsed()).max(AHEAD_MIN);
    let mut pumped = Pumped::default();
    let asked = Asked { due: Due::Fresh, destination, due_by, now };
    let Taken { mut claimed, mut wait, used_up } = claim(daemon, asked, 0, ahead()).await?;
    pumped.waiting = used_up;
    let mut is_suspect = false;
    if claimed.is_empty() {
        // Nothing else is in hand: should this one be what a process died of, nobody is counted with it.
        let suspect = claim(daemon, Asked { due: Due::Suspect, ..asked }, 0, ahead()).await?;
        is_suspect = !suspect.claimed.is_empty();
        if is_suspect || wait.is_zero() {
            Taken { claimed, wait, .. } = suspect;
        }
    }
    if claimed.is_empty() {
        if !wait.is_zero() {
            // All turns are taken.
            clock::sleep(wait.min(PASS_LASTS)).await;
            pumped.waits = true;
        }
        return Ok(pumped);
    }
    let surroundings = {
        let mut tx = daemon.state.read().await?;
        Arc::new(Surroundings {
            halts: halts.clone(),
            ..Surroundings::read(&mut tx, &daemon.project, now).await?
        })
    };
    let scribe = Scribe::start(Arc::clone(daemon), Arc::clone(&surroundings.members), now);
    let (ready_in, ready_out) = mpsc::channel::<Ready>(CLAIM_MAX as usize);
    let workers = Workers::start(daemon, destination, carrier, &scribe, ready_out, now);
    let mut lanes = Lanes::to(ready_in, daemon);
    let fed = async {
        loop {
            let count = claimed.len();
            pumped.claimed += count as u64;
            if !wait.is_zero() {
                clock::sleep(wait).await;
            }
            let done = prepare::prepare(daemon, &surroundings, claimed, ahead(), now).await?;
            for (reason, count) in done.refused {
                *pumped.refused.entry(reason).or_default() += count;
            }
            let unused = u32::try_from(count - done.ready.len()).unwrap_or(0);
            for ready in done.ready {
                // A closed channel means that the workers gave up; what is left stays leased and comes back.
                if !lanes.send(ready).await {
                    return Ok(());
                }
            }
            let is_over = is_suspect
                || began.elapsed() >= PASS_LASTS
                || (count < CLAIM_MAX as usize && !is_throttled)
                // What was given back would be claimed again at once.
                || daemon.halted_destinations(now).contains_key(destination);
            if is_over {
                return Ok(());
            }
            Taken { claimed, wait, used_up: pumped.waiting } = claim(daemon, asked, unused, ahead()).await?;
            while claimed.is_empty() {
                if wait.is_zero() || began.elapsed() >= PASS_LASTS {
                    pumped.waits = !wait.is_zero();
                    return Ok(());
                }
                clock::sleep(wait.min(PASS_LASTS)).await;
                Taken { claimed, wait, used_up: pumped.waiting } = claim(daemon, asked, 0, ahead()).await?;
            }
        }
    };
    let fed: Result<(), DaemonError> = fed.await;
    let led = lanes.finish().await;
    let worked = workers.finish().await;
    scribe.finish().await?;
    fed.and(led)?;
    pumped.add(worked?);
    Ok(pumped)
}

/// What a pass asks for.
#[derive(Clone, Copy)]
struct Asked<'a> {
    due: Due,
    destination: &'a DestinationName,
    due_by: Timestamp,
    now: Timestamp,
}

/// What it gets.
struct Taken {
    claimed: Vec<Claimed>,
    /// How long to wait before it is handed over. Nothing, and to wait: all turns are taken for so long.
    wait: Duration,
    /// What may not go now, and therefore was not taken.
    used_up: BTreeMap<Whose, Refusal>,
}

/// Takes what is due in hand, as far as it can be prepared at once, and as fast as its rate allows. `unused` is how many of the turns before
/// were not; turns of lanes are looked for so far ahead.
async fn claim(
    daemon: &Daemon,
    asked: Asked<'_>,
    unused: u32,
    ahead: Duration,
) -> Result<Taken, DaemonError> {
    let Asked { due, destination, due_by, now } = asked;
    let mut tx = daemon.state.write().await?;
    let lease_now = daemon.state.lease_now(&mut tx).await?;
    let used_up = allowances::look(daemon, &mut tx, now).await?.used_up(now);
    let most = daemon.probes(destination).map_or(CLAIM_MAX, |probes| probes.min(CLAIM_MAX));
    let own = RateKey::destination(destination);
    let throttle = rates::throttle(daemon, destination).filter(|_| !mutant("rate_unshared"));
    let throttle = throttle.map(|throttle| (own.clone(), throttle)).into_iter().collect();
    let mut rate = state::rate::hold(&mut tx, &throttle, lease_now).await?;
    rate.give_back(&own, unused);
    let turns = rate
        .take(std::slice::from_ref(&own), most)
        .unwrap_or_else(|full| Turns { count: 0, wait: full.wait });
    let lanes = state::rate::look(&mut tx, &rates::of_lanes(daemon, destination), lease_now).await?;
    let except = allowances::waiting(&used_up);
    let (now, limit, lease_ms) = (due_by, turns.count, LEASE_MS);
    let wanted = Claim { due, destination, now, limit, except: &except, lease_now, lease_ms };
    let lanes = lanes.no_further_than(ahead);
    let Claims { rows: claimed, wait: for_lane } =
        state::outbox::claim(&mut tx, &wanted, lanes, &daemon.node()).await?;
    rate.give_back(&own, turns.count - u32::try_from(claimed.len()).unwrap_or(turns.count));
    rate.keep(&mut tx);
    model::fault::point("claim.before_commit");
    tx.commit().await?;
    model::fault::point("claim.after_commit");
    // Nothing is due, or all of it waits for a turn of its lane.
    let is_done = claimed.is_empty() && turns.count > 0;
    let wait = if is_done { for_lane.unwrap_or_default() } else { turns.wait };
    Ok(Taken { claimed, wait, used_up })
}

/// The tasks that hand over: one a connection.
struct Workers {
    tasks: JoinSet<Result<Pumped, DaemonError>>,
}

impl Workers {
    fn start(
        daemon: &Arc<Daemon>,
        destination: &DestinationName,
        carrier: &Carrier,
        scribe: &Scribe,
        ready: mpsc::Receiver<Ready>,
        now: Timestamp,
    ) -> Self {
        let connections = match carrier {
            Carrier::Driver(driver) => driver.connections(),
            Carrier::Made(..) => 1,
        };
        let ready = Arc::new(Mutex::new(ready));
        let mut tasks = JoinSet::new();
        for _ in 0..connections.max(1) {
            let worker = Worker {
                daemon: Arc::clone(daemon),
                destination: destination.clone(),
                carrier: carrier.clone(),
                armer: scribe.armer(),
                settler: scribe.settler(),
                now,
            };
            let ready = Arc::clone(&ready);
            tasks.spawn(async move {
                let mut pumped = Pumped::default();
                let mut next = ready.lock().await.recv().await.map(Arc::new);
                while let Some(one) = next {
                    let mut ahead = None;
                    let look_ahead = || {
                        ahead = ready.try_lock().ok()?.try_recv().ok().map(Arc::new);
                        ahead.as_ref().map(|ahead| Arc::clone(&ahead.item))
                    };
                    worker.deliver(&one, look_ahead, &mut pumped).await?;
                    next = match ahead {
                        Some(ahead) => Some(ahead),
                        None => ready.lock().await.recv().await.map(Arc::new),
                    };
                }
                Ok(pumped)
            });
        }
        Self { tasks }
    }

    async fn finish(mut self) -> Result<Pumped, DaemonError> {
        let mut pumped = Pumped::default();
        let mut first_error = None;
        while let Some(joined) = self.tasks.join_next().await {
            match joined {
                Ok(Ok(one)) => pumped.add(one),
                Ok(Err(error)) => first_error = first_error.or(Some(error)),
                Err(error) => first_error = first_error.or(Some(DaemonError::Task(error))),
            }
        }
        first_error.map_or(Ok(pumped), Err)
    }
}

struct Worker {
    daemon: Arc<Daemon>,
    destination: DestinationName,
    carrier: Carrier,
    armer: armer::Handle,
    settler: settler::Handle,
    now: Timestamp,
}

impl Worker {
    /// One conversation: up to the point of no return, the last look, and what came of it. `ahead` is what this worker delivers next.
    async fn deliver(
        &self,
        ready: &Arc<Ready>,
        ahead: impl FnOnce() -> Option<Arc<Item>>,
        pumped: &mut Pumped,
    ) -> Result<(), DaemonError> {
        let claimed = &ready.claimed;
        if self.daemon.halted_destinations(self.now).contains_key(&self.destination) {
            return self.settler.give_back(claimed, claimed.delivery.due_at).await;
        }
        let armed = AtomicBool::new(false);
        let outcome = match &self.carrier {
            Carrier::Driver(driver) => {
                if let Err(refusal) = driver.may_go(&ready.item.rcpt_to) {
                    return self.not_from_here(claimed, refusal, pumped).await;
                }
                driver.pace().await;
                let _under_way = self.armer.begin();
                let arm = async || {
                    armed.store(self.armer.arm(ready).await, Ordering::SeqCst);
                    armed.load(Ordering::SeqCst)
                };
                driver.deliver(&ready.item, arm, ahead).await
            }
            Carrier::Made(provider, _) => match provider.envelope(&ready.item) {
                Some(outcome) => outcome,
                None if self.armer.arm(ready).await => {
                    armed.store(true, Ordering::SeqCst);
                    model::fault::point("arm.after_commit");
                    provider.take(&ready.item, &ready.rendered)
                }
                None => Outcome::NotArmed,
            },
        };
        self.count(&outcome, pumped);
        let when = if armed.load(Ordering::SeqCst) { When::Armed } else { When::Unarmed };
        model::fault::point("settle.before");
        match outcome {
            // The armer has already said why, in its transaction.
            Outcome::NotArmed => Ok(()),
            Outcome::Halt { reason, detail } => {
                let refusal = Refusal { reason, saw: detail };
                if when == When::Armed {
                    // The provider answered, and did not take it: not a doubt, but to be tried again when the destination can be used.
                    let after =
                        Some(self.daemon.halt_destination(&self.destination, refusal.clone(), self.now));
                    let schedule = connector::Schedule::Connect;
                    let again = Outcome::Retry {
                        reason,
                        after,
                        schedule,
                        slower: false,
                        detail: refusal.saw.clone(),
                    };
                    pumped.halted.insert(self.destination.clone(), refusal);
                    return self.settler.settle(ready, again, when, pumped).await;
                }
                self.halt(claimed, refusal, pumped).await
            }
            other => self.settler.settle(ready, other, when, pumped).await,
        }
    }

    /// Tells the destination's breaker how it went.
    fn count(&self, outcome: &Outcome, pumped: &mut Pumped) {
        let failed = match outcome {
            Outcome::Accepted { .. } | Outcome::Rejected { .. } => false,
            Outcome::Retry { reason, .. } => {
                matches!(reason, Reason::FailConnect | Reason::FailTimeout | Reason::FailRemote5xx)
            }
            Outcome::InDoubt { .. } => true,
            Outcome::NotArmed | Outcome::Halt { .. } => return,
        };
        if let Some(refusal) = self.daemon.tried(&self.destination, failed, self.now) {
            tracing::error!(
                destination = %self.destination, reason = refusal.reason.as_str(),
                "Destination `{}` is left alone for a minute: {}.", self.destination, refusal.saw
            );
            pumped.halted.insert(self.destination.clone(), refusal);
        }
    }

    /// `deliver` does not let this message go. Under `colleagues` that is said of a person, and the others go on; the row waits.
    async fn not_from_here(
        &self,
        claimed: &Claimed,
        refusal: Refusal,
        pumped: &mut Pumped,
    ) -> Result<(), DaemonError> {
        if self.daemon.project.settings.deliver != Deliver::Colleagues {
            return self.halt(claimed, refusal, pumped).await;
        }
        refuse(&mut pumped.refused, refusal.reason);
        let later = self.now.checked_add(HELD_BACK).unwrap_or(self.now);
        self.settler.give_back(claimed, later).await
    }

    /// The destination cannot be used: it is left alone, and the row goes back as it was.
    async fn halt(
        &self,
        claimed: &Claimed,
        refusal: Refusal,
        pumped: &mut Pumped,
    ) -> Result<(), DaemonError> {
        tracing::error!(
            destination = %self.destination, reason = refusal.reason.as_str(),
            "Destination `{}` cannot be used and is left alone for five minutes: {}.", self.destination, refusal.saw
        );
        self.daemon.halt_destination(&self.destination, refusal.clone(), self.now);
        pumped.halted.insert(self.destination.clone(), refusal);
        self.settler.give_back(claimed, claimed.delivery.due_at).await
    }
}

/// Counts one more refusal.
fn refuse(refused: &mut BTreeMap<Reason, u64>, reason: Reason) {
    *refused.entry(reason).or_default() += 1;
}
