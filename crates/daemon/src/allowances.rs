//! Allowances: how many messages may go now, of a playbook, of the project and of a new version, from the project's limits and from what
//! state has counted. What is limited in production only is said elsewhere.

use std::collections::BTreeMap;

use engine::{Allowance, Canary, Hourly, Whose, hour_of};
use jiff::Timestamp;
use model::delivery::Delivery;
use model::fault::mutant;
use model::{MessageClass, PlaybookName, Refusal};
use state::allowance::CanaryRow;
use state::outbox::Claimed;
use state::{StateError, Tx};

use crate::daemon::{Daemon, DaemonError};

/// The scope of the project's hour.
const PROJECT: &str = "project";
/// Among what waits: everything that is not transactional.
const ALL_OTHERS: &str = "*";

/// Whether anything is limited at all.
pub fn are_limited(daemon: &Daemon) -> bool {
    daemon.project.settings.production
        || daemon.project.playbooks.values().any(|playbook| playbook.per_hour.is_some())
}

/// What may still go, as it is at this moment; others may take of it.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Of the hour.
    pub(crate) allowance: Allowance,
    canaries: BTreeMap<String, (PlaybookName, Canary)>,
}

impl Seen {
    /// What is used up, and why.
    pub(crate) fn used_up(&self, now: Timestamp) -> BTreeMap<Whose, Refusal> {
        let waits = |(version, (playbook, canary)): (&String, &(PlaybookName, Canary))| {
            Some((Whose::Version(playbook.clone(), version.clone()), canary.waits(now)?))
        };
        self.allowance.used_up(now).into_iter().chain(self.canaries.iter().filter_map(waits)).collect()
    }
}

/// Looks at what may still go.
pub(crate) async fn look(daemon: &Daemon, tx: &mut Tx, now: Timestamp) -> Result<Seen, StateError> {
    if !are_limited(daemon) {
        return Ok(Seen::default());
    }
    let counts = state::allowance::read(tx, hour_of(now)).await?;
    let canaries = counts.canaries.into_iter().filter(|_| daemon.project.settings.production);
    Ok(Seen {
        allowance: allowance(daemon, &counts.spent, |_| true),
        canaries: canaries
            .map(|(version, row)| (version, (row.playbook.clone(), canary(daemon, &row))))
            .collect(),
    })
}

/// What is used up of everything, and why.
pub async fn used_up(
    daemon: &Daemon,
    tx: &mut Tx,
    now: Timestamp,
) -> Result<BTreeMap<Whose, Refusal>, StateError> {
    Ok(look(daemon, tx, now).await?.used_up(now))
}

/// What may still go of the hour, which nobody else takes of until the transaction ends.
pub(crate) struct Held {
    /// To take from.
    pub(crate) allowance: Allowance,
    hour: Timestamp,
}

/// Takes in hand what limits these deliveries; `None`: nothing does.
pub(crate) async fn hold<'a>(
    daemon: &Daemon,
    tx: &mut Tx,
    deliveries: impl Iterator<Item = &'a Delivery>,
    now: Timestamp,
) -> Result<Option<Held>, StateError> {
    if !are_limited(daemon) || mutant("allowance_unheld") {
        return Ok(None);
    }
    let mut scopes = Vec::new();
    for delivery in deliveries {
        let playbook = &delivery.traits.playbook;
        if daemon.project.playbooks.get(playbook).is_some_and(|playbook| playbook.per_hour.is_some()) {
            scopes.push(scope(playbook));
        }
        if daemon.project.settings.production && delivery.traits.class != MessageClass::Transactional {
            scopes.push(PROJECT.to_owned());
        }
    }
    if scopes.is_empty() {
        return Ok(None);
    }
    let hour = hour_of(now);
    let spent = state::allowance::hold(tx, hour, &scopes).await?;
    let allowance = allowance(daemon, &spent, |scope| spent.contains_key(scope));
    Ok(Some(Held { allowance, hour }))
}

impl Held {
    /// Writes what was taken.
    pub(crate) fn keep(self, tx: &mut Tx) {
        let Allowance { project, playbooks } = self.allowance;
        let project = project.map(|hourly| (PROJECT.to_owned(), hourly.used));
        let playbooks = playbooks.iter().map(|(name, hourly)| (scope(name), hourly.used));
        state::allowance::keep(tx, self.hour, &project.into_iter().chain(playbooks).collect());
    }
}

/// Whether a row counts for the canary of its version: what was tried before does not again.
pub(crate) fn is_in_canary(row: &Claimed) -> bool {
    row.delivery.traits.class != MessageClass::Transactional && row.attempts == 0
}

/// How many of these the canaries of their versions let go now, by version; what is not in it is not limited. They count as gone, whatever
/// becomes of them.
pub(crate) async fn canaries<'a>(
    daemon: &Daemon,
    seen: &Seen,
    rows: impl Iterator<Item = &'a Claimed>,
    now: Timestamp,
) -> Result<BTreeMap<String, u64>, DaemonError> {
    let mut wanted: BTreeMap<String, (&PlaybookName, u64)> = BTreeMap::new();
    let is_new = |row: &&Claimed| {
        let is_over = seen.canaries.get(&row.delivery.version).is_some_and(|(_, canary)| canary.is_over(now));
        is_in_canary(row) && !is_over
    };
    if !daemon.project.settings.production || mutant("canary_free") {
        return Ok(BTreeMap::new());
    }
    for row in rows.filter(is_new) {
        let delivery = &row.delivery;
        wanted.entry(delivery.version.clone()).or_insert((&delivery.traits.playbook, 0)).1 += 1;
    }
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut tx = daemon.state.write().await?;
    for (version, (name, _)) in wanted.iter().filter(|(version, _)| !seen.canaries.contains_key(*version)) {
        let segment = daemon.project.playbooks.get(*name).map(|playbook| &playbook.enter);
        let members = match segment {
            Some(segment) => {
                state::segment::current(&mut tx, segment).await?.map_or(0, |run| run.members.len())
            }
            None => 0,
        };
        let size = daemon.project.policy.guards.canary.size(members);
        state::allowance::begin(&mut tx, version, name, size).await?;
    }
    let versions: Vec<String> = wanted.keys().cloned().collect();
    let mut held = state::allowance::hold_canaries(&mut tx, &versions).await?;
    let mut granted = BTreeMap::new();
    for (version, row) in &mut held {
        let mut canary = canary(daemon, row);
        granted.insert(version.clone(), canary.take(wanted.get(version).map_or(0, |(_, count)| *count), now));
        (row.sent, row.full_at) = (canary.sent, canary.full_at);
    }
    state::allowance::keep_canaries(&mut tx, &held);
    tx.commit().await?;
    Ok(granted)
}

/// Playbooks and versions whose rows wait, as a claim leaves them out.
pub(crate) fn waiting(used_up: &BTreeMap<Whose, Refusal>) -> Vec<String> {
    used_up
        .keys()
        .map(|whose| match whose {
            Whose::Project => ALL_OTHERS.to_owned(),
            Whose::Playbook(name) => name.to_string(),
            Whose::Version(_, version) => version.clone(),
        })
        .collect()
}

fn allowance(daemon: &Daemon, spent: &BTreeMap<String, u64>, is_asked: impl Fn(&str) -> bool) -> Allowance {
    let hourly = |scope: &str, most: u64| Hourly { used: spent.get(scope).copied().unwrap_or(0), most };
    let limited =
        daemon.project.playbooks.values().filter_map(|playbook| Some((&playbook.name, playbook.per_hour?)));
    Allowance {
        project: (daemon.project.settings.production && is_asked(PROJECT))
            .then(|| hourly(PROJECT, daemon.project.policy.guards.per_hour)),
        playbooks: limited
            .filter(|(name, _)| is_asked(&scope(name)))
            .map(|(name, most)| (name.clone(), hourly(&scope(name), most)))
            .collect(),
    }
}

fn canary(daemon: &Daemon, row: &CanaryRow) -> Canary {
    let soak = daemon.project.policy.guards.canary.soak;
    Canary { sent: row.sent, size: row.size, full_at: row.full_at, soak }
}

fn scope(playbook: &PlaybookName) -> String {
    format!("playbook:{playbook}")
}
