//! Rates: how fast a destination may be used by all nodes together (GCRA, ITU-T I.371, one row a destination).
//!
//! A node takes turns in blocks, a little ahead of time, and paces itself within a block. Turns that it does not use it gives back; those
//! that a dead one had are lost, which is the safe side. A provider that says "slower" halves the share of the rate that is used, which
//! then recovers bit by bit (additive increase, multiplicative decrease).

use std::time::Duration;

use model::DestinationName;
use model::settings::Throttle;

use crate::db::binds;
use crate::dialect::{Sql, page_locked};
use crate::{StateError, Tx};

/// Turns are taken so long ahead of time.
const AHEAD_US: i64 = 1_000_000;
/// Nobody is let alone for longer than this.
const PAUSE_MAX_US: i64 = 3_600_000_000;
/// All of a rate, in thousandths.
const WHOLE: i64 = 1_000;
/// So much of it is left, however often a provider says "slower".
const SHARE_MIN: i64 = 10;
/// So much of it comes back every minute.
const SHARE_BACK_A_MINUTE: i64 = 50;
/// "Slower" said again within so many milliseconds is about the same haste.
const SLOWER_ONCE_IN: i64 = 10_000;

/// Turns at a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turns {
    /// How many.
    pub count: u32,
    /// The first is after so long; where there is none, the next.
    pub wait: Duration,
}

/// The rate of a destination, which nobody else touches until the transaction ends.
#[derive(Debug)]
pub struct Rate {
    destination: DestinationName,
    throttle: Throttle,
    lease_now: i64,
    row: Row,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    next_us: i64,
    share: i64,
    share_since: i64,
}

impl Row {
    /// One that was never used.
    const NEW: Self = Self { next_us: i64::MIN, share: WHOLE, share_since: 0 };

    fn share(&self, lease_now: i64) -> i64 {
        let minutes = lease_now.saturating_sub(self.share_since).max(0) / 60_000;
        self.share.saturating_add(minutes.saturating_mul(SHARE_BACK_A_MINUTE)).clamp(SHARE_MIN, WHOLE)
    }

    /// The time between two turns.
    fn period_us(&self, throttle: Throttle, lease_now: i64) -> i64 {
        let per = i64::try_from(throttle.per.as_micros()).unwrap_or(i64::MAX).max(1);
        (per.saturating_mul(WHOLE) / i64::from(throttle.count.max(1)) / self.share(lease_now)).max(1)
    }

    /// Takes up to so many turns.
    fn take(&mut self, throttle: Throttle, want: u32, lease_now: i64) -> Turns {
        let (now, period) = (lease_now.saturating_mul(1_000), self.period_us(throttle, lease_now));
        let credit = period.saturating_mul(i64::from(throttle.burst.max(1)) - 1);
        let until = now.saturating_add(AHEAD_US);
        // Nothing lies further ahead than a pause may be, unless the clock was set back.
        self.next_us = self.next_us.clamp(now, until.saturating_add(PAUSE_MAX_US).saturating_add(credit));
        let first = self.next_us - credit;
        let free = if first <= until { (until - first) / period + 1 } else { 0 };
        let count = u32::try_from(free).unwrap_or(u32::MAX).min(want);
        self.next_us = self.next_us.saturating_add(period.saturating_mul(i64::from(count)));
        // Where all are taken, it pays to come again when there are some.
        let wait = if count > 0 { first - now } else { first - now - AHEAD_US / 2 };
        Turns { count, wait: Duration::from_micros(u64::try_from(wait).unwrap_or(0)) }
    }
}

impl Rate {
    /// Takes up to `want` turns.
    pub fn take(&mut self, want: u32) -> Turns {
        self.row.take(self.throttle, want, self.lease_now)
    }

    /// Gives back the last `count` turns that were taken.
    pub fn give_back(&mut self, count: u32) {
        let time = self.row.period_us(self.throttle, self.lease_now).saturating_mul(i64::from(count));
        self.row.next_us = self.row.next_us.saturating_sub(time);
    }

    /// Writes what was taken and given back.
    pub fn keep(self, tx: &mut Tx) {
        put(tx, &self.destination, self.row);
    }
}

/// Takes the rate of a destination in hand.
pub async fn hold(
    tx: &mut Tx,
    destination: &DestinationName,
    throttle: Throttle,
    lease_now: i64,
) -> Result<Rate, StateError> {
    let row = hold_row(tx, destination).await?;
    Ok(Rate { destination: destination.clone(), throttle, lease_now, row })
}

/// The provider says "slower", and perhaps for how long to let it alone. Returns the thousandths of its rate that are left; `None`: it was said
/// a moment before.
pub async fn slow_down(
    tx: &mut Tx,
    destination: &DestinationName,
    pause: Option<Duration>,
    lease_now: i64,
) -> Result<Option<i64>, StateError> {
    let mut row = hold_row(tx, destination).await?;
    let share = row.share(lease_now);
    if let Some(pause) = pause {
        let until = lease_now
            .saturating_mul(1_000)
            .saturating_add(i64::try_from(pause.as_micros()).unwrap_or(i64::MAX));
        row.next_us = row.next_us.max(until);
    }
    let since = lease_now.saturating_sub(row.share_since);
    let is_new = row.share == WHOLE || !(0..SLOWER_ONCE_IN).contains(&since);
    if is_new {
        (row.share, row.share_since) = ((share / 2).max(SHARE_MIN), lease_now);
    }
    put(tx, destination, row);
    Ok(is_new.then_some(row.share))
}

/// A destination is used at a tenth of its rate, which recovers bit by bit: after a long time in which nobody ran.
pub async fn begin_slowly(
    tx: &mut Tx,
    destination: &DestinationName,
    lease_now: i64,
) -> Result<(), StateError> {
    let mut row = hold_row(tx, destination).await?;
    (row.share, row.share_since) = (row.share(lease_now).min(WHOLE / 10), lease_now);
    put(tx, destination, row);
    Ok(())
}

async fn hold_row(tx: &mut Tx, destination: &DestinationName) -> Result<Row, StateError> {
    const HOLD: Sql = page_locked!(
        "next_us, share, share_since",
        "SELECT next_us, share, share_since FROM rate WHERE destination = $1",
        "FOR UPDATE"
    );
    const NEW: Sql = Sql::same(
        "INSERT INTO rate (destination, next_us, share, share_since) VALUES ($1, $2, $3, $4) ON CONFLICT (destination) DO NOTHING",
    );
    for _ in 0..2 {
        let rows: Vec<(i64, i64, i64)> = tx.page("hold a rate", &HOLD, binds![destination.as_str()]).await?;
        if let Some((next_us, share, share_since)) = rows.into_iter().next() {
            return Ok(Row { next_us, share, share_since });
        }
        let Row { next_us, share, share_since } = Row::NEW;
        tx.execute("begin a rate", &NEW, binds![destination.as_str(), next_us, share, share_since]).await?;
    }
    Err(StateError::Corrupt { what: "a rate" })
}

fn put(tx: &mut Tx, destination: &DestinationName, row: Row) {
    let Row { next_us, share, share_since } = row;
    let sql = Sql::same("UPDATE rate SET next_us = $2, share = $3, share_since = $4 WHERE destination = $1");
    tx.later("keep a rate", &sql, binds![destination.as_str(), next_us, share, share_since]);
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;

    fn throttle(count: u32, burst: u32) -> Throttle {
        Throttle { count, per: SignedDuration::from_secs(1), burst }
    }

    proptest! {
        /// Whoever takes them and whenever: in any window there are no more turns than the rate gives, and the burst.
        #[test]
        fn no_window_has_more_turns_than_its_rate(
            count in 1_u32..500, burst in 1_u32..100, takes in proptest::collection::vec((0_i64..400, 1_u32..300), 1..80)
        ) {
            let throttle = throttle(count, burst);
            let (mut row, mut now, mut turns) = (Row::NEW, 1_000_000, Vec::new());
            for (later, want) in takes {
                now += later;
                let period = row.period_us(throttle, now);
                let taken = row.take(throttle, want, now);
                let first = now * 1_000 + i64::try_from(taken.wait.as_micros()).unwrap();
                prop_assert!(taken.count == 0 || first <= now * 1_000 + AHEAD_US);
                // At the earliest: what the burst allows goes at once.
                let credit = period * (i64::from(burst) - 1);
                let tat = row.next_us - period * i64::from(taken.count);
                turns.extend((0..i64::from(taken.count)).map(|turn| (now * 1_000).max(tat + turn * period - credit)));
            }
            turns.sort_unstable();
            for (from, start) in turns.iter().enumerate() {
                let within = turns[from..].iter().take_while(|turn| **turn < start + 1_000_000).count();
                prop_assert!(within <= (count + burst) as usize, "{within} in a second");
            }
        }
    }

    #[test]
    fn turns_are_taken_a_second_ahead_and_no_further() {
        let mut row = Row::NEW;
        assert_eq!(row.take(throttle(100, 1), 1_000, 5_000), Turns { count: 101, wait: Duration::ZERO });
        let Turns { count, wait } = row.take(throttle(100, 1), 1_000, 5_000);
        assert_eq!((count, wait), (0, Duration::from_micros(510_000)));
        let later = row.take(throttle(100, 1), 1_000, 5_600);
        assert_eq!(later, Turns { count: 60, wait: Duration::from_micros(410_000) });
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_stop_it_for_long() {
        let mut row = Row { next_us: i64::MAX / 2, ..Row::NEW };
        let Turns { count, wait } = row.take(throttle(10, 1), 5, 0);
        assert!(count == 0 && wait <= Duration::from_secs(3_601), "{wait:?}");
    }

    #[test]
    fn a_share_halves_and_comes_back() {
        let row = Row { share: 500, share_since: 0, ..Row::NEW };
        assert_eq!((row.share(0), row.share(60_000), row.share(3_600_000)), (500, 550, 1_000));
        assert_eq!(row.period_us(throttle(100, 1), 0), 20_000);
    }
}
