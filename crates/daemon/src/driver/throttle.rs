//! Pacing: how fast this process uses a destination, a sending domain or a group of recipients, within the turns that it took (see `state::rate`,
//! which all nodes share). It protects the provider; caps protect people and are elsewhere.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use model::settings::Throttle;

/// The pace of one rate.
#[derive(Debug)]
pub(crate) struct Pace(DefaultDirectRateLimiter);

impl Pace {
    /// `None`: a throttle without time or number, which holds nothing back.
    pub(crate) fn new(throttle: Throttle) -> Option<Self> {
        let per = Duration::try_from(throttle.per).ok()?;
        let quota = Quota::with_period(per.checked_div(throttle.count)?)?;
        let burst = NonZeroU32::new(throttle.burst).unwrap_or(NonZeroU32::MIN);
        Some(Self(RateLimiter::direct(quota.allow_burst(burst))))
    }

    /// Waits for the next turn, and takes it.
    pub(crate) async fn wait(&self) {
        self.0.until_ready().await;
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::{Clock as _, DefaultClock};
    use jiff::SignedDuration;

    use super::*;

    fn pace(count: u32, per_seconds: i64, burst: u32) -> Option<Pace> {
        Pace::new(Throttle { count, per: SignedDuration::from_secs(per_seconds), burst })
    }

    #[tokio::test]
    async fn a_burst_goes_at_once_and_the_next_waits_its_share() {
        let pace = pace(1, 100, 3).unwrap();
        for _ in 0..3 {
            pace.wait().await;
        }
        let wait = pace.0.check().unwrap_err().wait_time_from(DefaultClock::default().now());
        assert!(wait > Duration::from_secs(90) && wait <= Duration::from_secs(100), "{wait:?}");
    }

    #[test]
    fn a_throttle_without_number_or_time_holds_nothing_back() {
        assert!(pace(0, 1, 1).is_none() && pace(1, 0, 1).is_none() && pace(5, 1, 0).is_some());
    }
}
