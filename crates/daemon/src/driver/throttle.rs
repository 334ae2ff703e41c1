//! Pacing: how fast a destination may be used. It protects the provider; caps protect people and are elsewhere.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use model::settings::Throttle;

/// The pace of one destination.
pub(super) struct Pace {
    limiter: DefaultDirectRateLimiter,
    /// A turn that [`Pace::ready_in`] has taken and nobody has used yet: the limiter cannot be asked without taking.
    taken: AtomicBool,
}

impl Pace {
    /// `None`: a throttle without time or number, which holds nothing back.
    pub(super) fn new(throttle: Throttle) -> Option<Self> {
        let per = Duration::try_from(throttle.per).ok()?;
        let quota = Quota::with_period(per.checked_div(throttle.count)?)?;
        let burst = NonZeroU32::new(throttle.burst).unwrap_or(NonZeroU32::MIN);
        Some(Self { limiter: RateLimiter::direct(quota.allow_burst(burst)), taken: AtomicBool::new(false) })
    }

    /// Waits for the next turn, and takes it.
    pub(super) async fn wait(&self) {
        if !self.taken.swap(false, Ordering::Relaxed) {
            self.limiter.until_ready().await;
        }
    }

    /// How long [`Pace::wait`] would wait now.
    pub(super) fn ready_in(&self) -> Duration {
        if self.taken.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        match self.limiter.check() {
            // Somebody else asked at the same moment: one turn more was taken than is used, which errs on the slow side.
            Ok(()) => {
                self.taken.store(true, Ordering::Relaxed);
                Duration::ZERO
            }
            Err(not_until) => not_until.wait_time_from(DefaultClock::default().now()),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn pace(count: u32, per_seconds: i64, burst: u32) -> Option<Pace> {
        Pace::new(Throttle { count, per: SignedDuration::from_secs(per_seconds), burst })
    }

    #[tokio::test]
    async fn a_burst_goes_at_once_and_the_next_waits_its_share() {
        let pace = pace(1, 100, 3).unwrap();
        for _ in 0..3 {
            assert_eq!(pace.ready_in(), Duration::ZERO);
            pace.wait().await;
        }
        let wait = pace.ready_in();
        assert!(wait > Duration::from_secs(90) && wait <= Duration::from_secs(100), "{wait:?}");
    }

    #[test]
    fn to_ask_does_not_take_a_turn() {
        let pace = pace(1, 100, 1).unwrap();
        assert_eq!(pace.ready_in(), Duration::ZERO);
        assert_eq!(pace.ready_in(), Duration::ZERO);
    }

    #[test]
    fn a_throttle_without_number_or_time_holds_nothing_back() {
        assert!(pace(0, 1, 1).is_none() && pace(1, 0, 1).is_none() && pace(5, 1, 0).is_some());
    }
}
