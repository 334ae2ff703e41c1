//! Lateness: after a long time in which nobody ran, or a jump of the clock, what should have gone long ago does not go all at once. In
//! production everything is halted until a person has looked; elsewhere it is said. Whatever has a rate begins slowly.
//!
//! Being late by a restart, or by a rate that is full, is nothing: only a gap counts.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use model::fault::mutant;
use serde_json::json;
use state::audit::Entry;
use state::control::{Halt, HaltScope};
use state::{StateError, Tx};
use tokio::time::Instant;

use crate::daemon::{Daemon, DaemonError};

/// The time at which a daemon last decided on this state.
const ALIVE: &str = "last_alive_ms";
/// It is written so often.
const ALIVE_EVERY: SignedDuration = SignedDuration::from_mins(1);
/// A shorter gap is none.
const GAP: SignedDuration = SignedDuration::from_mins(10);
/// What should have gone before this is overdue.
const LATE: SignedDuration = SignedDuration::from_mins(30);

/// Keeps that a daemon lives, now and then. `known` is what it kept last.
pub(crate) async fn alive(
    daemon: &Daemon,
    known: Option<Timestamp>,
    now: Timestamp,
) -> Result<Option<Timestamp>, DaemonError> {
    daemon.say_if_not_journaled();
    if known.is_some_and(|known| now.duration_since(known).abs() < ALIVE_EVERY) {
        return Ok(known);
    }
    let mut tx = daemon.deciding().await?;
    keep_alive_at(&mut tx, now).await?;
    tx.commit().await?;
    // Beside the state, not in it: should somebody put back an older state, this knows. That it cannot be written is no reason to stop.
    if let Err(error) = std::fs::write(witness(daemon), now.as_millisecond().to_string()) {
        tracing::debug!(%error, "The time of the last tick could not be kept beside the state.");
    }
    Ok(Some(now))
}

/// The file that remembers when a daemon last decided, whatever state is put in its place.
fn witness(daemon: &Daemon) -> PathBuf {
    let beside = daemon.state.folder().map(|folder| folder.join(".drumbeat-last-alive"));
    beside.unwrap_or_else(|| daemon.project.dir.join(".drumbeat").join("last-alive"))
}

/// Keeps that a daemon lived at a time.
pub async fn keep_alive_at(tx: &mut Tx, now: Timestamp) -> Result<(), StateError> {
    state::meta::set(tx, ALIVE, &now.as_millisecond().to_string()).await
}

/// On joining: whether nobody ran for so long that what is overdue must not go at once; what is to be said then.
pub(crate) async fn after_a_gap(
    daemon: &Daemon,
    tx: &mut Tx,
    now: Timestamp,
) -> Result<Option<String>, StateError> {
    let Some(last) = state::meta::get(tx, ALIVE).await?.and_then(|text| text.parse().ok()) else {
        return Ok(None);
    };
    let last = Timestamp::from_millisecond(last).unwrap_or(now);
    let witnessed = std::fs::read_to_string(witness(daemon)).ok().and_then(|text| text.trim().parse().ok());
    let witnessed = witnessed.and_then(|ms| Timestamp::from_millisecond(ms).ok());
    if let Some(witnessed) = witnessed.filter(|witnessed| witnessed.duration_since(last) > ALIVE_EVERY * 2) {
        keep_alive_at(tx, now).await?;
        let why = format!(
            "this state is of {last}, and a daemon ran here until {witnessed}: it was put back from a copy. What went out since is not known \
             in it and would go again. `drumbeat reconcile` puts in what the journal knows"
        );
        return hold_all(daemon, tx, &why, now).await.map(Some);
    }
    if now.duration_since(last) <= GAP {
        return Ok(None);
    }
    // It counts as seen: whoever joins next has nothing to say about the same gap.
    keep_alive_at(tx, now).await?;
    hold_overdue(daemon, tx, &format!("nothing ran from {last} to {now}"), now).await
}

/// Stops what is overdue, if anything is: `why` it is.
async fn hold_overdue(
    daemon: &Daemon,
    tx: &mut Tx,
    why: &str,
    now: Timestamp,
) -> Result<Option<String>, StateError> {
    let overdue = state::outbox::due_before(tx, now.checked_sub(LATE).unwrap_or(Timestamp::MIN)).await?;
    if overdue == 0 || mutant("late_at_once") {
        return Ok(None);
    }
    let lease_now = daemon.state.lease_now(tx).await?;
    state::rate::begin_slowly(tx, daemon.rates.keys(), lease_now).await?;
    let late = format!(
        "{why}, and {overdue} messages should have gone more than half an hour ago. Lifting this lets them go, as far as they have not \
         expired"
    );
    hold_all(daemon, tx, &late, now).await.map(Some)
}

/// Halts everything in production; what is to be said.
async fn hold_all(daemon: &Daemon, tx: &mut Tx, why: &str, now: Timestamp) -> Result<String, StateError> {
    if !daemon.project.settings.production {
        return Ok(format!("{why}. In production everything would be halted until a person has looked"));
    }
    let reason = why.to_owned();
    let halt = Halt { scope: HaltScope::All, reason: reason.clone(), actor: "drumbeat".to_owned(), at: now };
    if !state::control::halt(tx, &halt).await? {
        return Ok(format!("{why}. Everything is halted already"));
    }
    let body = json!({ "scope": "everything", "why": reason, "actor": "drumbeat" });
    state::audit::append(tx, &[Entry { kind: "halt", at: now, body }]);
    Ok(format!("everything is halted: {reason}"))
}

/// Watches campaign time against a clock that never jumps.
#[derive(Debug)]
pub(crate) struct Jumps {
    wall: Timestamp,
    steady: Instant,
}

/// A clock that was set forward by more than this has jumped,
const FORWARD: SignedDuration = SignedDuration::from_secs(60);
/// or back by more than this.
const BACK: SignedDuration = SignedDuration::from_secs(1);

impl Jumps {
    pub(crate) fn from(wall: Timestamp, steady: Instant) -> Self {
        Self { wall, steady }
    }

    /// By how much the clock jumped since it was last looked at, if it did: forward above zero.
    pub(crate) fn look(&mut self, wall: Timestamp, steady: Instant) -> Option<SignedDuration> {
        let passed =
            SignedDuration::try_from(steady.duration_since(self.steady)).unwrap_or(SignedDuration::MAX);
        let jumped = wall.duration_since(self.wall).saturating_sub(passed);
        *self = Self { wall, steady };
        (jumped > FORWARD || jumped < -BACK).then_some(jumped)
    }
}

/// A clock that jumped is said, and what a large jump forward made overdue is held.
pub(crate) async fn after_a_jump(
    daemon: &Daemon,
    jumped: SignedDuration,
    now: Timestamp,
) -> Result<(), DaemonError> {
    tracing::warn!(seconds = jumped.as_secs(), "The clock was set {}.", told(jumped));
    if jumped <= GAP {
        return Ok(());
    }
    let mut tx = daemon.state.write().await?;
    let said = hold_overdue(daemon, &mut tx, &format!("the clock was set {}", told(jumped)), now).await?;
    tx.commit().await?;
    if let Some(said) = said {
        tracing::error!("{said}.");
    }
    Ok(())
}

fn told(jumped: SignedDuration) -> String {
    let which = if jumped.is_negative() { "back" } else { "forward" };
    format!("{which} by {:#}", jumped.abs())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_jump_is_what_a_steady_clock_does_not_explain() {
        let (wall, steady): (Timestamp, _) = ("2026-03-02T09:00:00Z".parse().unwrap(), Instant::now());
        let secs = SignedDuration::from_secs;
        for (wall_moved, steady_moved, jumped) in [
            (10, 10, None),
            (3_600, 3_600, None),
            (60, 0, None),
            (61, 0, Some(61)),
            (-1, 0, None),
            (-2, 0, Some(-2)),
            (0, 2, Some(-2)),
            (86_400, 1, Some(86_399)),
        ] {
            let mut jumps = Jumps::from(wall, steady);
            let seen = jumps.look(wall + secs(wall_moved), steady + Duration::from_secs(steady_moved));
            assert_eq!(seen, jumped.map(secs), "{wall_moved} s in {steady_moved} s");
            assert_eq!(jumps.look(wall + secs(wall_moved), steady + Duration::from_secs(steady_moved)), None);
        }
        assert_eq!(told(secs(-90)), "back by 1m 30s");
    }
}
