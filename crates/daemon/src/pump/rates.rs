//! Rates besides a destination's own: those of sending domains and of groups of recipients.
//!
//! Who receives a message is known once its person is read. Then a turn is taken of every rate that concerns it, or of none: what gets none
//! goes back as it was, and its row keeps which rates it waits for (its lane). From then on a claim takes no more of a lane than there are turns,
//! so that those of a rate that is full are not read again and again, and keep nobody else waiting.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::delivery::Delivery;
use model::fault::mutant;
use model::profile::Profile;
use model::settings::{Settings, Throttle};
use model::{DestinationName, Lane, RateKey, Reason, Refusal};
use state::rate::Full;
use state::{StateError, Tx};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{CLAIM_MAX, Ready};
use crate::clock;
use crate::daemon::{Carrier, Daemon, DaemonError};
use crate::driver::Pace;

/// A rate, as the project gives it.
#[derive(Debug)]
pub(crate) struct Limit {
    /// How fast.
    pub(crate) throttle: Throttle,
    /// How fast in this process; a destination's own is its driver's.
    pace: Option<Pace>,
}

/// All rates of a project.
pub(crate) fn of(settings: &Settings) -> BTreeMap<RateKey, Limit> {
    let mut limits = BTreeMap::new();
    for (name, destination) in &settings.destinations {
        if let Some(throttle) = destination.throttle {
            limits.insert(RateKey::destination(name), Limit { throttle, pace: None });
        }
        for (group, throttle) in &destination.recipients.rates {
            limits.insert(RateKey::recipients(name, group), Limit::paced(*throttle));
        }
    }
    for brand in settings.brands.values() {
        if let Some(throttle) = brand.throttle {
            limits.insert(RateKey::domain(&brand.domain), Limit::paced(throttle));
        }
    }
    limits
}

impl Limit {
    fn paced(throttle: Throttle) -> Self {
        Self { throttle, pace: Pace::new(throttle) }
    }
}

/// In virtual time there are no rates.
fn are_none(daemon: &Daemon, destination: &DestinationName) -> bool {
    matches!(daemon.carriers.get(destination), Some(Carrier::Made(..)))
}

/// How fast a destination may be used.
pub(crate) fn throttle(daemon: &Daemon, destination: &DestinationName) -> Option<Throttle> {
    if are_none(daemon, destination) {
        return None;
    }
    daemon.rates.get(&RateKey::destination(destination)).map(|limit| limit.throttle)
}

/// Rates by which messages to a destination may have to wait, besides its own.
pub(super) fn of_lanes(daemon: &Daemon, destination: &DestinationName) -> BTreeMap<RateKey, Throttle> {
    if are_none(daemon, destination) {
        return BTreeMap::new();
    }
    let paced = daemon.rates.iter().filter(|(_, limit)| limit.pace.is_some());
    paced.map(|(key, limit)| (key.clone(), limit.throttle)).collect()
}

/// The rates that a message to a person waits for, besides its destination's.
pub(super) fn lane(daemon: &Daemon, delivery: &Delivery, profile: Option<&Profile>) -> Lane {
    let destination = &delivery.destination;
    if are_none(daemon, destination) {
        return Lane::default();
    }
    let domain = super::prepare::voice(daemon, delivery)
        .filter(|(_, brand)| brand.throttle.is_some())
        .map(|(_, brand)| RateKey::domain(&brand.domain));
    let settings = daemon.project.settings.destinations.get(destination);
    let address = profile.and_then(Profile::email).and_then(Result::ok);
    let group = settings
        .zip(address)
        .filter(|_| !mutant("provider_rate_ignored"))
        .and_then(|(settings, address)| settings.recipients.group_of(address.domain()))
        .map(|group| RateKey::recipients(destination, group));
    Lane::of(domain.into_iter().chain(group))
}

/// Takes a turn of each of these lanes, in order, no further ahead than that: when it is, or which rate has none.
pub(super) async fn take(
    daemon: &Daemon,
    lanes: &[Lane],
    ahead: Duration,
) -> Result<Vec<Result<Instant, Full>>, DaemonError> {
    let now = Instant::now();
    let concerned = limits(daemon, lanes.iter().flat_map(Lane::keys));
    if concerned.is_empty() {
        return Ok(vec![Ok(now); lanes.len()]);
    }
    let mut tx = daemon.state.write().await?;
    let lease_now = daemon.state.lease_now(&mut tx).await?;
    let now = Instant::now();
    let mut rates = state::rate::hold(&mut tx, &concerned, lease_now).await?.no_further_than(ahead);
    let turns = lanes.iter().map(|lane| rates.take(lane.keys(), 1).map(|turns| now + turns.wait)).collect();
    rates.keep(&mut tx);
    tx.commit().await?;
    Ok(turns)
}

/// Gives back turns that are not used.
pub(super) async fn give_back(
    daemon: &Daemon,
    tx: &mut Tx,
    unused: &BTreeMap<RateKey, u32>,
) -> Result<(), StateError> {
    if unused.is_empty() {
        return Ok(());
    }
    let lease_now = daemon.state.lease_now(tx).await?;
    let mut rates = state::rate::hold(tx, &limits(daemon, unused.keys()), lease_now).await?;
    for (key, count) in unused {
        rates.give_back(key, *count);
    }
    rates.keep(tx);
    Ok(())
}

fn limits<'a>(daemon: &Daemon, keys: impl Iterator<Item = &'a RateKey>) -> BTreeMap<RateKey, Throttle> {
    keys.filter_map(|key| Some((key.clone(), daemon.rates.get(key)?.throttle))).collect()
}

/// That a rate is full, as a refusal.
pub(super) fn refusal(daemon: &Daemon, key: &RateKey) -> Refusal {
    let saw = match daemon.rates.get(key) {
        Some(Limit { throttle, .. }) => {
            format!("{key}: {} in {:#}, and all turns are taken", throttle.count, throttle.per)
        }
        None => key.to_string(),
    };
    Refusal { reason: key.reason(), saw }
}

/// The rate that an answer is about which says "slower", if there is one.
///
/// It is the provider of the mailbox who says so of a message to a group that has a rate of its own: then only the group is slowed down. But 429
/// (HTTP) is said of the account.
pub(super) fn slowed(
    daemon: &Daemon,
    destination: &DestinationName,
    lane: &Lane,
    reason: Reason,
) -> Option<RateKey> {
    let own = throttle(daemon, destination).map(|_| RateKey::destination(destination));
    let group = lane.keys().iter().find(|key| key.is_of_recipients()).cloned();
    if reason == Reason::Remote429 || mutant("group_slows_all") { own.or(group) } else { group.or(own) }
}

/// Messages that have their turn at a time to come, each lane behind its own.
pub(super) struct Lanes<'a> {
    daemon: &'a Arc<Daemon>,
    out: mpsc::Sender<Ready>,
    lanes: BTreeMap<Lane, mpsc::Sender<Ready>>,
    tasks: JoinSet<()>,
}

impl<'a> Lanes<'a> {
    /// That lead there.
    pub(super) fn to(out: mpsc::Sender<Ready>, daemon: &'a Arc<Daemon>) -> Self {
        Self { daemon, out, lanes: BTreeMap::new(), tasks: JoinSet::new() }
    }

    /// Sends a message on its way; false: nobody is there any more to take it.
    pub(super) async fn send(&mut self, ready: Ready) -> bool {
        if ready.lane.is_free() {
            return self.out.send(ready).await.is_ok();
        }
        let lane = self.lanes.entry(ready.lane.clone()).or_insert_with_key(|lane| {
            // No more than the turns of a second are in it.
            let (into, mut from) = mpsc::channel::<Ready>(4 * CLAIM_MAX as usize);
            let (daemon, out, lane) = (Arc::clone(self.daemon), self.out.clone(), lane.clone());
            self.tasks.spawn(async move {
                let limits = lane.keys().iter().filter_map(|key| daemon.rates.get(key));
                let paces: Vec<&Pace> = limits.filter_map(|limit| limit.pace.as_ref()).collect();
                while let Some(ready) = from.recv().await {
                    clock::sleep(ready.turn.saturating_duration_since(Instant::now())).await;
                    for pace in &paces {
                        pace.wait().await;
                    }
                    if out.send(ready).await.is_err() {
                        return;
                    }
                }
            });
            into
        });
        lane.send(ready).await.is_ok()
    }

    /// Waits until all of them are on their way.
    pub(super) async fn finish(self) -> Result<(), DaemonError> {
        let Self { out, lanes, mut tasks, .. } = self;
        drop((out, lanes));
        let mut failed = None;
        while let Some(ended) = tasks.join_next().await {
            failed = failed.or(ended.err());
        }
        failed.map_or(Ok(()), |error| Err(DaemonError::Task(error)))
    }
}
