//! PUSH: what is to be done in audiences and records is asked of their destinations. Who decides is the node that leads, one request at a time.

use connector::Outcome;
use engine::Backoff;
use jiff::{SignedDuration, Timestamp};
use model::fault::mutant;
use model::{DestinationName, Reason, Refusal};

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

/// Requests that a batch may cost beyond its own, to find the rows that a destination refuses;
const HALVES_MAX: usize = 64;
/// and while it has not taken a single one: then it is not about a row.
const HALVES_MAX_IN_VAIN: usize = 16;

/// What follows for an audience or a set of records from what a destination said.
#[derive(PartialEq, Eq)]
pub(crate) enum Then {
    GoOn,
    Stop,
}

/// A batch that is handed over, in halves where all of it is refused, so that one bad row does not keep out the others.
pub(crate) struct Halves<R> {
    waiting: Vec<Vec<R>>,
    extra: usize,
    is_any_taken: bool,
}

impl<R: Clone> Halves<R> {
    pub(crate) fn of(batch: Vec<R>) -> Self {
        Self { waiting: vec![batch], extra: 0, is_any_taken: false }
    }

    /// What is to be handed over next; `None`: nothing is left.
    pub(crate) fn next(&mut self) -> Option<Vec<R>> {
        self.waiting.pop()
    }

    /// Whether what was just handed over is asked again in halves: it `is_refused` as a whole, and that may be about one of its rows. `is_any_taken`:
    /// the destination took a row of it, or said of each what became of it.
    pub(crate) fn halve(&mut self, rows: &[R], is_refused: bool, is_any_taken: bool) -> bool {
        self.is_any_taken |= is_any_taken;
        let most = if self.is_any_taken { HALVES_MAX } else { HALVES_MAX_IN_VAIN };
        let halves = is_refused && rows.len() > 1 && self.extra + 2 <= most && !mutant("batch_whole");
        if halves {
            self.extra += 2;
            let (first, second) = rows.split_at(rows.len() / 2);
            self.waiting.extend([second.to_vec(), first.to_vec()]);
        }
        halves
    }
}

/// Whether nobody knows what became of it: it may have been taken before the answer was lost, or before the provider broke down over it.
pub(crate) fn is_lost(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::InDoubt { .. }
            | Outcome::Retry { reason: Reason::OutcomeUnknown | Reason::FailRemote5xx, .. }
    )
}

/// How long nothing is tried, and why, after an outcome that is no answer to what was asked: as long as the destination says, or longer with each
/// failure.
pub(crate) fn pause_after(outcome: &Outcome, failures: u32) -> (SignedDuration, Refusal) {
    let pause = Backoff::Connect.pause(failures);
    let (pause, reason, saw) = match outcome {
        Outcome::Retry { reason, after, detail, .. } => {
            (after.map_or(pause, |after| after.max(pause)), *reason, detail.clone())
        }
        Outcome::Rejected { reason, detail, .. } | Outcome::Halt { reason, detail } => {
            (pause, *reason, detail.clone())
        }
        Outcome::InDoubt { detail } => (pause, Reason::OutcomeUnknown, detail.clone()),
        Outcome::Accepted { .. } | Outcome::NotArmed => {
            (SignedDuration::ZERO, Reason::OutcomeUnknown, String::new())
        }
    };
    (pause, Refusal { reason, saw })
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
