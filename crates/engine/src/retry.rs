//! When a touch is tried again that the provider did not take. The jitter is derived from the delivery and the attempt.

use jiff::{SignedDuration, Timestamp};
use model::DeliveryId;
use model::id::bucket;

use crate::time::plus;

/// How the pauses between attempts grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backoff {
    /// The mail server said "not now" (4xx): 10 minutes, 15 minutes, 1 hour, 4 hours, then every 12 hours.
    Smtp4xx,
    /// It could not be reached, or has an error: 2 seconds, doubling, at most 15 minutes.
    Connect,
}

/// The first is ten minutes, so that the shortest pause drawn from it is the five that greylisting takes.
const SMTP_4XX_SECONDS: [u64; 5] = [600, 900, 3_600, 14_400, 43_200];
const CONNECT_FIRST_SECONDS: u64 = 2;
const CONNECT_MAX_SECONDS: u64 = 900;

impl Backoff {
    /// The longest pause after an attempt failed, counted from 1.
    pub fn pause(self, attempt: u32) -> SignedDuration {
        let earlier = attempt.saturating_sub(1);
        let seconds = match self {
            Self::Smtp4xx => {
                let last = SMTP_4XX_SECONDS.len() - 1;
                SMTP_4XX_SECONDS[usize::try_from(earlier).unwrap_or(last).min(last)]
            }
            Self::Connect => (CONNECT_FIRST_SECONDS << earlier.min(20)).min(CONNECT_MAX_SECONDS),
        };
        SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX))
    }
}

/// When to try again: after half to all of the pause, and not before the provider's own wish.
///
/// `attempt` is the one that failed, counted from 1; `after` is what the provider asked for, if it did.
pub fn retry_at(
    delivery: &DeliveryId,
    attempt: u32,
    after: Option<SignedDuration>,
    backoff: Backoff,
    now: Timestamp,
) -> Timestamp {
    let pause_ms = u128::try_from(backoff.pause(attempt).as_millis()).unwrap_or_default();
    let half = pause_ms / 2;
    let drawn = u128::from(bucket(&["retry", delivery.as_str(), &attempt.to_string()]));
    let jitter = ((pause_ms - half) * drawn) >> 64;
    let jittered = SignedDuration::from_millis(i64::try_from(half + jitter).unwrap_or(i64::MAX));
    plus(now, after.map_or(jittered, |after| after.max(jittered)))
}
