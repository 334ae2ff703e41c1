//! PUSH: what is to be done in audiences and records is asked of their destinations. Who decides is the node that leads, one request at a time.

use connector::Outcome;
use engine::Backoff;
use jiff::{SignedDuration, Timestamp};
use model::{DestinationName, Refusal};

use crate::daemon::{Daemon, DaemonError};
use crate::report::Pushed;
use crate::{audiences, records};

/// Asks destinations for all that is to be done and may be tried.
pub async fn push(daemon: &Daemon, now: Timestamp) -> Result<Pushed, DaemonError> {
    let mut pushed = Pushed::default();
    if daemon.disk_is_low().is_none() {
        audiences::push(daemon, now, &mut pushed).await?;
        records::push(daemon, now, &mut pushed).await?;
    }
    Ok(pushed)
}

/// How long nothing is tried, and why, after an outcome that is no answer to what was asked: as long as the destination says, or longer with each
/// failure.
pub(crate) fn pause_after(outcome: &Outcome, failures: u32) -> (SignedDuration, String) {
    let pause = Backoff::Connect.pause(failures);
    match outcome {
        Outcome::Retry { after, detail, .. } => {
            (after.map_or(pause, |after| after.max(pause)), detail.clone())
        }
        Outcome::InDoubt { detail } | Outcome::Rejected { detail, .. } | Outcome::Halt { detail, .. } => {
            (pause, detail.clone())
        }
        Outcome::Accepted { .. } | Outcome::NotArmed => (SignedDuration::ZERO, String::new()),
    }
}

/// Leaves a destination alone for a while: it cannot be used until somebody changes something.
pub(crate) fn halt(
    daemon: &Daemon,
    destination: &DestinationName,
    refusal: Refusal,
    pushed: &mut Pushed,
    now: Timestamp,
) {
    tracing::error!(
        destination = %destination, reason = refusal.reason.as_str(),
        "Destination `{destination}` cannot be used and is left alone for five minutes: {}.", refusal.saw
    );
    daemon.halt_destination(destination, refusal.clone(), now);
    pushed.halted.insert(destination.clone(), refusal);
}
