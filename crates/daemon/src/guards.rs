//! Guards: after each pass it is judged what became of each playbook's messages. In production one that trips halts its playbook, and a person
//! lifts that; elsewhere it is only said.

use jiff::{SignedDuration, Timestamp};
use model::fault::mutant;
use model::{PlaybookName, Refusal};
use serde_json::json;
use state::audit::Entry;
use state::control::{Halt, HaltScope};

use crate::daemon::{Daemon, DaemonError};

/// What is judged happened in so long.
const WINDOW: SignedDuration = SignedDuration::from_hours(24);

/// A guard that tripped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trip {
    /// Whose messages.
    pub playbook: PlaybookName,
    /// Which guard, and with which numbers.
    pub refusal: Refusal,
    /// Whether the playbook is halted now.
    pub holds: bool,
}

/// Judges every playbook; what trips for the first time.
pub async fn watch(daemon: &Daemon, now: Timestamp) -> Result<Vec<Trip>, DaemonError> {
    let since = now.checked_sub(WINDOW).unwrap_or(Timestamp::MIN);
    let tallies = {
        let mut tx = daemon.state.read().await?;
        state::tally::since(&mut tx, since).await?
    };
    let mut trips = Vec::new();
    for (playbook, tally) in tallies {
        let guards = &daemon.project.policy.guards;
        let guards = match daemon.project.playbooks.get(&playbook) {
            Some(present) => &present.guards.over(guards),
            None => guards,
        };
        let Err(refusal) = engine::judge_playbook(guards, &tally) else { continue };
        if mutant("guard_ignored") {
            continue;
        }
        let holds = daemon.project.settings.production;
        let is_new = if holds {
            hold(daemon, &playbook, &refusal, now).await?
        } else {
            daemon.says_first(&playbook, refusal.reason)
        };
        if is_new {
            let consequence = if holds { "it is halted" } else { "in production it would be halted" };
            tracing::error!(%playbook, reason = refusal.reason.as_str(), "Playbook `{playbook}`: {}; {consequence}.", refusal.saw);
            trips.push(Trip { playbook, refusal, holds });
        }
    }
    Ok(trips)
}

/// Halts a playbook; false: it is halted already.
async fn hold(
    daemon: &Daemon,
    playbook: &PlaybookName,
    refusal: &Refusal,
    now: Timestamp,
) -> Result<bool, DaemonError> {
    let scope = HaltScope::Playbook(playbook.clone());
    let reason = format!("{} ({})", refusal.saw, refusal.reason);
    let body =
        json!({ "playbook": playbook.as_str(), "reason": refusal.reason.as_str(), "saw": refusal.saw });
    let mut tx = daemon.state.write().await?;
    let halt = Halt { scope, reason, actor: "guard".to_owned(), at: now };
    if !state::control::halt(&mut tx, &halt).await? {
        tx.rollback().await?;
        return Ok(false);
    }
    state::audit::append(&mut tx, &[Entry { kind: "guard", at: now, body }]);
    tx.commit().await?;
    Ok(true)
}

/// The key of a person's word that a segment may be as large as it is.
pub fn acceptance_key(segment: &model::SegmentName) -> String {
    format!("growth_accepted.{segment}")
}
