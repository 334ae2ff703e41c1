//! What the next run would do. The same tick and pump, on a copy of the state, with providers that take everything:
//! so what a plan foretells is what a run then does. Nothing is written, and nothing is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use connector::Verb;
use jiff::Timestamp;
use model::sync::AudienceAt;
use model::{DeliveryId, DeliveryState, PlaybookName, ProfileNumber};
use state::delivery::{Filter, each};

use crate::daemon::{Carrier, Daemon, DaemonError};
use crate::made::Accepting;
use crate::run::{Passed, Silent, run_once};
use crate::source::PAGE_ROWS;

/// What a run would do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// As `run` would report it.
    pub passed: Passed,
    /// Messages by playbook and the hour in which they would go: now, or when what they wait for is over.
    pub hours: BTreeMap<(PlaybookName, Timestamp), u64>,
    /// The ids of those who would be added to audiences, and removed.
    pub audiences: BTreeMap<AudienceAt, BTreeMap<Verb, Vec<String>>>,
}

/// Plays one pass at one moment on `scratch`, a copy of the daemon's state that is thrown away.
pub async fn plan(daemon: &Daemon, scratch: state::State, now: Timestamp) -> Result<Plan, DaemonError> {
    let copy = Arc::new(copy(daemon, scratch));
    let sent = sent_since(&copy, now).await?;
    let passed = run_once(&copy, now, || now, &Silent).await?;
    let hours = hours(&copy, now, &sent).await?;
    let audiences = people(&copy, &passed).await?;
    Ok(Plan { passed, hours, audiences })
}

/// The same daemon with `scratch` for its state, and providers that take everything and hand over nothing.
pub fn copy(daemon: &Daemon, scratch: state::State) -> Daemon {
    let provider = Arc::new(Accepting::counting());
    let carriers = daemon
        .carriers
        .iter()
        .map(|(name, carrier)| (name.clone(), Carrier::Made(provider.clone(), carrier.names().cloned())))
        .collect();
    Daemon::new(
        Arc::clone(&daemon.project),
        scratch,
        daemon.source.clone(),
        Arc::clone(&daemon.keys),
        carriers,
        state::Node::alone("plan"),
    )
}

/// Who would come into audiences and leave them.
async fn people(
    copy: &Daemon,
    passed: &Passed,
) -> Result<BTreeMap<AudienceAt, BTreeMap<Verb, Vec<String>>>, DaemonError> {
    let mut audiences: BTreeMap<AudienceAt, BTreeMap<Verb, Vec<String>>> = BTreeMap::new();
    let mut tx = copy.state.read().await?;
    for (at, verbs) in &passed.pushed.planned {
        for (verb, numbers) in verbs {
            let numbers: Vec<ProfileNumber> = numbers.iter().map(ProfileNumber).collect();
            let people = audiences.entry(at.clone()).or_default().entry(*verb).or_default();
            for page in numbers.chunks(PAGE_ROWS) {
                let mut ids = state::profile::ids_of(&mut tx, page).await?;
                let id = |number| ids.remove(number).unwrap_or_else(|| format!("erased:{number}"));
                people.extend(page.iter().map(id));
            }
        }
    }
    Ok(audiences)
}

/// What earlier runs sent at this time or after it: `now` may lie in the past, or be the very time of the last run.
async fn sent_since(copy: &Daemon, now: Timestamp) -> Result<BTreeSet<DeliveryId>, DaemonError> {
    let mut sent = BTreeSet::new();
    let mut tx = copy.state.read().await?;
    let filter = Filter { state: Some(DeliveryState::Accepted), since: Some(now), ..Filter::default() };
    each(&mut tx, &filter, |row| {
        sent.insert(row.delivery.id);
    })
    .await?;
    Ok(sent)
}

/// What this pass sent, and all that waits, whichever run decided it.
async fn hours(
    copy: &Daemon,
    now: Timestamp,
    sent_before: &BTreeSet<DeliveryId>,
) -> Result<BTreeMap<(PlaybookName, Timestamp), u64>, DaemonError> {
    let mut hours = BTreeMap::new();
    let mut tx = copy.state.read().await?;
    for state in [DeliveryState::Accepted, DeliveryState::Deferred, DeliveryState::Pending] {
        let is_sent = state == DeliveryState::Accepted;
        let filter = Filter { state: Some(state), since: is_sent.then_some(now), ..Filter::default() };
        each(&mut tx, &filter, |row| {
            if is_sent && sent_before.contains(&row.delivery.id) {
                return;
            }
            let at = if is_sent { now } else { row.delivery.due_at.max(now) };
            let hour = Timestamp::from_second(at.as_second().div_euclid(3_600) * 3_600).unwrap_or(at);
            *hours.entry((row.delivery.traits.playbook, hour)).or_default() += 1;
        })
        .await?;
    }
    Ok(hours)
}
