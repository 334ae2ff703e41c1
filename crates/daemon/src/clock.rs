//! The only clock and the only sleep.
//!
//! Campaign time may be shifted (`--now`), never stopped: two passes are two times, as they are for the people written to.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use model::fault;

/// Where campaign time comes from.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock {
    shift: SignedDuration,
}

impl Clock {
    /// The machine's time.
    pub fn system() -> Self {
        Self { shift: SignedDuration::from_secs(fault::skew_seconds()) }
    }

    /// A clock that shows `now` at this moment, and goes on from there; on a machine whose clock is wrong, as wrong.
    pub fn showing(now: Timestamp) -> Self {
        let Self { shift } = Self::system();
        Self { shift: now.duration_since(Self::default().now()) + shift }
    }

    /// Campaign time, in whole milliseconds, as state keeps it.
    #[expect(clippy::disallowed_methods, reason = "this is the one clock")]
    pub fn now(&self) -> Timestamp {
        let now = Timestamp::now().checked_add(self.shift).unwrap_or(Timestamp::MAX);
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }

    /// How long until a time; nothing if it is past.
    pub fn until(&self, at: Timestamp) -> Duration {
        Duration::try_from(at.duration_since(self.now())).unwrap_or(Duration::ZERO)
    }
}

/// Waits so long.
#[expect(clippy::disallowed_methods, reason = "this is the one sleep")]
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}
