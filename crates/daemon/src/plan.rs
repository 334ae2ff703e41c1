//! What the next run would do. The same tick and pump, on a copy of the state, with providers that take everything:
//! so what a plan foretells is what a run then does. Nothing is written, and nothing is sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use model::{DeliveryState, PlaybookName};
use state::delivery::Filter;

use crate::daemon::{Carrier, Daemon, DaemonError};
use crate::made::Accepting;
use crate::run::{Passed, Silent, run_once};

/// What a run would do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// As `run` would report it.
    pub passed: Passed,
    /// Messages by playbook and the hour in which they would go: now, or when what they wait for is over.
    pub hours: BTreeMap<(PlaybookName, Timestamp), u64>,
}

/// Plays one pass at one moment on `scratch`, a copy of the daemon's state that is thrown away.
pub async fn plan(daemon: &Daemon, scratch: state::State, now: Timestamp) -> Result<Plan, DaemonError> {
    let provider = Arc::new(Accepting::counting());
    let carriers = daemon
        .project
        .settings
        .destinations
        .keys()
        .map(|name| (name.clone(), Carrier::Made(provider.clone())))
        .collect();
    let copy = Arc::new(Daemon::new(
        Arc::clone(&daemon.project),
        scratch,
        daemon.source.clone(),
        Arc::clone(&daemon.keys),
        carriers,
        "plan".to_owned(),
    ));
    let passed = run_once(&copy, || now, &Silent).await?;
    let hours = hours(&copy, now).await?;
    Ok(Plan { passed, hours })
}

async fn hours(
    copy: &Daemon,
    now: Timestamp,
) -> Result<BTreeMap<(PlaybookName, Timestamp), u64>, DaemonError> {
    let mut hours = BTreeMap::new();
    let mut tx = copy.state.read().await?;
    for state in [DeliveryState::Accepted, DeliveryState::Deferred, DeliveryState::Pending] {
        let filter = Filter { state: Some(state), since: Some(now), ..Filter::default() };
        let mut after = None;
        loop {
            let rows = state::delivery::find(&mut tx, &filter, after.as_ref(), 1_000).await?;
            let Some(last) = rows.last() else { break };
            after = Some(last.cursor());
            for row in rows {
                let at = if state == DeliveryState::Accepted { now } else { row.delivery.due_at.max(now) };
                let hour = Timestamp::from_second(at.as_second().div_euclid(3_600) * 3_600).unwrap_or(at);
                *hours.entry((row.delivery.traits.playbook, hour)).or_default() += 1;
            }
        }
    }
    Ok(hours)
}
