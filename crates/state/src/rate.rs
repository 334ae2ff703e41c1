//! Rates: how fast destinations, sending domains and groups of recipients may be used by all nodes together (GCRA, ITU-T I.371, one row a rate).
//!
//! A node takes turns in blocks, a little ahead of time, and paces itself within a block. Turns that it does not use it gives back; those
//! that a dead one had are lost, which is the safe side. What waits for several rates takes a turn of each, or of none. A provider that says
//! "slower" halves the share of the rate that is used, which then recovers bit by bit (additive increase, multiplicative decrease).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::RateKey;
use model::fault::mutant;
use model::settings::Throttle;

use crate::db::binds;
use crate::dialect::{Rows, Sql, each, page, page_locked};
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

/// Turns of a rate, or of several together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turns {
    /// How many.
    pub count: u32,
    /// The first is after so long; where there is none, it pays to come again then.
    pub wait: Duration,
}

/// A rate all of whose turns are taken for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Full {
    /// Which; of several the one that has a turn last.
    pub key: RateKey,
    /// It pays to come again after so long.
    pub wait: Duration,
}

/// Rates at one moment of lease time.
#[derive(Debug, Clone, Default)]
pub struct Rates {
    lease_now: i64,
    ahead_us: i64,
    rows: BTreeMap<RateKey, (Throttle, Row)>,
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

    /// So many turns there are, up to so many, none of them further ahead than that.
    fn offer(&mut self, throttle: Throttle, want: u32, ahead_us: i64, lease_now: i64) -> Turns {
        let (now, period) = (lease_now.saturating_mul(1_000), self.period_us(throttle, lease_now));
        let credit = period.saturating_mul(i64::from(throttle.burst.max(1)) - 1);
        let until = now.saturating_add(ahead_us);
        // Nothing lies further ahead than a pause may be, unless the clock was set back.
        let furthest = now.saturating_add(AHEAD_US).saturating_add(PAUSE_MAX_US).saturating_add(credit);
        self.next_us = self.next_us.clamp(now, furthest);
        let first = self.next_us - credit;
        let free = if first <= until { (until - first) / period + 1 } else { 0 };
        let count = u32::try_from(free).unwrap_or(u32::MAX).min(want);
        // Where all are taken, it pays to come again when there are some.
        let wait = if count > 0 { first - now } else { first - now - ahead_us / 2 };
        Turns { count, wait: Duration::from_micros(u64::try_from(wait).unwrap_or(0)) }
    }

    /// Takes so many of those that were offered.
    fn take(&mut self, throttle: Throttle, count: u32, lease_now: i64) {
        let time = self.period_us(throttle, lease_now).saturating_mul(i64::from(count));
        self.next_us = self.next_us.saturating_add(time);
    }
}

impl Rates {
    /// The same, of which turns are taken no further ahead than that.
    #[must_use]
    pub fn no_further_than(mut self, ahead: Duration) -> Self {
        self.ahead_us = i64::try_from(ahead.as_micros()).unwrap_or(i64::MAX).min(AHEAD_US);
        self
    }

    /// Takes up to `want` turns of all these rates together: as many of each, and of none where one has none. What is no rate holds nothing up.
    pub fn take(&mut self, keys: &[RateKey], want: u32) -> Result<Turns, Full> {
        let (ahead_us, lease_now) = (self.ahead_us, self.lease_now);
        let mut turns = Turns { count: want, wait: Duration::ZERO };
        let mut full: Option<Full> = None;
        for key in keys {
            let Some((throttle, row)) = self.rows.get_mut(key) else { continue };
            let Turns { count, wait } = row.offer(*throttle, want, ahead_us, lease_now);
            turns = Turns { count: turns.count.min(count), wait: turns.wait.max(wait) };
            if count == 0 && want > 0 && full.as_ref().is_none_or(|full| full.wait < wait) {
                full = Some(Full { key: key.clone(), wait });
            }
        }
        let count = if mutant("turn_not_given_back") { turns.count.max(1) } else { turns.count };
        for key in keys {
            if let Some((throttle, row)) = self.rows.get_mut(key) {
                row.take(*throttle, count, lease_now);
            }
        }
        full.map_or(Ok(turns), Err)
    }

    /// Gives back the last `count` turns that were taken of a rate.
    pub fn give_back(&mut self, key: &RateKey, count: u32) {
        if let Some((throttle, row)) = self.rows.get_mut(key) {
            let time = row.period_us(*throttle, self.lease_now).saturating_mul(i64::from(count));
            row.next_us = row.next_us.saturating_sub(time);
        }
    }

    /// Writes what was taken and given back; only of rates that are held.
    pub fn keep(self, tx: &mut Tx) {
        put(tx, self.rows.into_iter().map(|(key, (_, row))| (key, row)));
    }
}

/// Takes rates in hand: nobody else touches them until the transaction ends.
pub async fn hold(
    tx: &mut Tx,
    rates: &BTreeMap<RateKey, Throttle>,
    lease_now: i64,
) -> Result<Rates, StateError> {
    let rows = if rates.is_empty() { BTreeMap::new() } else { hold_rows(tx, rates.keys()).await? };
    Ok(together(rates, &rows, lease_now))
}

/// Looks at rates. What is taken of them is taken from nobody: it only tells what there may be.
pub async fn look(
    tx: &mut Tx,
    rates: &BTreeMap<RateKey, Throttle>,
    lease_now: i64,
) -> Result<Rates, StateError> {
    const LOOK: Sql = page!(
        "name, next_us, share, share_since",
        "SELECT name, next_us, share, share_since FROM",
        each,
        "CROSS JOIN rate WHERE rate.name = each.value ->> 0"
    );
    let rows = if rates.is_empty() {
        BTreeMap::new()
    } else {
        read(tx.page("look at rates", &LOOK, binds![list(rates.keys())]).await?)
    };
    Ok(together(rates, &rows, lease_now))
}

fn together(rates: &BTreeMap<RateKey, Throttle>, rows: &BTreeMap<RateKey, Row>, lease_now: i64) -> Rates {
    let row = |key: &RateKey| rows.get(key).copied().unwrap_or(Row::NEW);
    let rows = rates.iter().map(|(key, throttle)| (key.clone(), (*throttle, row(key)))).collect();
    Rates { lease_now, ahead_us: AHEAD_US, rows }
}

/// Providers say "slower" of these rates, and perhaps for how long to let them alone. Returns the thousandths of each that are left; one is
/// not among them of which it was said a moment before.
pub async fn slow_down(
    tx: &mut Tx,
    slower: &BTreeMap<RateKey, Option<Duration>>,
    lease_now: i64,
) -> Result<BTreeMap<RateKey, i64>, StateError> {
    let mut rows = hold_rows(tx, slower.keys()).await?;
    let mut left = BTreeMap::new();
    for (key, row) in &mut rows {
        let share = row.share(lease_now);
        if let Some(pause) = slower.get(key).copied().flatten() {
            let until = lease_now
                .saturating_mul(1_000)
                .saturating_add(i64::try_from(pause.as_micros()).unwrap_or(i64::MAX));
            row.next_us = row.next_us.max(until);
        }
        let since = lease_now.saturating_sub(row.share_since);
        if row.share == WHOLE || !(0..SLOWER_ONCE_IN).contains(&since) {
            (row.share, row.share_since) = ((share / 2).max(SHARE_MIN), lease_now);
            left.insert(key.clone(), row.share);
        }
    }
    put(tx, rows);
    Ok(left)
}

/// These are used at a tenth of their rate, which recovers bit by bit: after a long time in which nobody ran.
pub async fn begin_slowly(
    tx: &mut Tx,
    keys: impl Iterator<Item = &RateKey>,
    lease_now: i64,
) -> Result<(), StateError> {
    let mut rows = hold_rows(tx, keys).await?;
    for row in rows.values_mut() {
        (row.share, row.share_since) = (row.share(lease_now).min(WHOLE / 10), lease_now);
    }
    put(tx, rows);
    Ok(())
}

type RowRead = (String, i64, i64, i64);

/// Locked in order of their names, whatever order is given.
async fn hold_rows(
    tx: &mut Tx,
    keys: impl Iterator<Item = &RateKey>,
) -> Result<BTreeMap<RateKey, Row>, StateError> {
    const HOLD: Sql = page_locked!(
        "name, next_us, share, share_since",
        "SELECT name, next_us, share, share_since FROM",
        each,
        "CROSS JOIN rate WHERE rate.name = each.value ->> 0 ORDER BY name",
        "FOR UPDATE OF rate"
    );
    const NEW: Sql = each!(
        "INSERT INTO rate (name, next_us, share, share_since) SELECT each.value ->> 0, $2, $3, $4 FROM",
        "WHERE TRUE ON CONFLICT (name) DO NOTHING"
    );
    let keys: BTreeSet<&RateKey> = keys.collect();
    let mut rows = read(tx.page("hold rates", &HOLD, binds![list(keys.iter().copied())]).await?);
    if rows.len() < keys.len() {
        let missing = keys.iter().copied().filter(|key| !rows.contains_key(*key));
        let Row { next_us, share, share_since } = Row::NEW;
        tx.execute("begin rates", &NEW, binds![list(missing), next_us, share, share_since]).await?;
        rows = read(tx.page("hold rates", &HOLD, binds![list(keys.iter().copied())]).await?);
    }
    if rows.len() < keys.len() {
        return Err(StateError::Corrupt { what: "a rate" });
    }
    Ok(rows)
}

fn read(rows: Vec<RowRead>) -> BTreeMap<RateKey, Row> {
    rows.into_iter()
        .map(|(name, next_us, share, share_since)| {
            (RateKey::known(name), Row { next_us, share, share_since })
        })
        .collect()
}

fn list<'a>(keys: impl Iterator<Item = &'a RateKey>) -> String {
    let mut rows = Rows::new();
    for key in keys {
        rows.row().text(key.as_str());
    }
    rows.finish()
}

fn put(tx: &mut Tx, rates: impl IntoIterator<Item = (RateKey, Row)>) {
    let (mut rows, mut is_empty) = (Rows::new(), true);
    for (key, Row { next_us, share, share_since }) in rates {
        rows.row().text(key.as_str()).integer(next_us).integer(share).integer(share_since);
        is_empty = false;
    }
    const PUT: Sql = each!(
        "UPDATE rate SET next_us = CAST(each.value ->> 1 AS BIGINT), share = CAST(each.value ->> 2 AS BIGINT),
            share_since = CAST(each.value ->> 3 AS BIGINT) FROM",
        "WHERE rate.name = each.value ->> 0"
    );
    if !is_empty {
        tx.later("keep rates", &PUT, binds![rows.finish()]);
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;

    fn throttle(count: u32, burst: u32) -> Throttle {
        Throttle { count, per: SignedDuration::from_secs(1), burst }
    }

    /// Takes up to so many turns.
    fn take(row: &mut Row, throttle: Throttle, want: u32, lease_now: i64) -> Turns {
        let turns = row.offer(throttle, want, AHEAD_US, lease_now);
        row.take(throttle, turns.count, lease_now);
        turns
    }

    /// Rates of one and of ten a second, at second 5.
    fn slow_and_quick() -> (Rates, [RateKey; 2]) {
        let keys = [RateKey::known("quick"), RateKey::known("slow")];
        let all = BTreeMap::from([(keys[0].clone(), throttle(10, 1)), (keys[1].clone(), throttle(1, 1))]);
        (together(&all, &BTreeMap::new(), 5_000), keys)
    }

    #[test]
    fn who_waits_for_one_uses_up_none_of_another() {
        let (mut rates, keys) = slow_and_quick();
        let both = rates.take(&keys, 100).unwrap();
        assert_eq!(both, Turns { count: 2, wait: Duration::ZERO }, "as many as the slower one has");
        for _ in 0..100 {
            let full = rates.take(&keys, 1).unwrap_err();
            assert_eq!((&full.key, full.wait), (&keys[1], Duration::from_millis(1_500)));
        }
        // Eleven within a second, and two of them are taken.
        assert_eq!(rates.take(&keys[..1], 100), Ok(Turns { count: 9, wait: Duration::from_millis(200) }));
        rates.give_back(&keys[0], 4);
        assert_eq!(rates.take(&keys[..1], 100).map(|turns| turns.count), Ok(4));
    }

    #[test]
    fn what_is_no_rate_holds_nothing_up_and_no_turn_is_further_ahead_than_asked_for() {
        let (rates, keys) = slow_and_quick();
        let unknown = [RateKey::known("gone")];
        assert_eq!(rates.clone().take(&unknown, 7), Ok(Turns { count: 7, wait: Duration::ZERO }));
        let mut rates = rates.no_further_than(Duration::from_millis(250));
        assert_eq!(rates.take(&keys[..1], 100).map(|turns| turns.count), Ok(3));
        assert_eq!(rates.take(&keys[..1], 0), Ok(Turns { count: 0, wait: Duration::from_millis(175) }));
        let full = rates.take(&keys[..1], 1).unwrap_err();
        assert_eq!(full.wait, Duration::from_millis(175));
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
                let taken = take(&mut row, throttle, want, now);
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
        assert_eq!(
            take(&mut row, throttle(100, 1), 1_000, 5_000),
            Turns { count: 101, wait: Duration::ZERO }
        );
        let Turns { count, wait } = take(&mut row, throttle(100, 1), 1_000, 5_000);
        assert_eq!((count, wait), (0, Duration::from_micros(510_000)));
        let later = take(&mut row, throttle(100, 1), 1_000, 5_600);
        assert_eq!(later, Turns { count: 60, wait: Duration::from_micros(410_000) });
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_stop_it_for_long() {
        let mut row = Row { next_us: i64::MAX / 2, ..Row::NEW };
        let Turns { count, wait } = take(&mut row, throttle(10, 1), 5, 0);
        assert!(count == 0 && wait <= Duration::from_secs(3_601), "{wait:?}");
    }

    #[test]
    fn a_share_halves_and_comes_back() {
        let row = Row { share: 500, share_since: 0, ..Row::NEW };
        assert_eq!((row.share(0), row.share(60_000), row.share(3_600_000)), (500, 550, 1_000));
        assert_eq!(row.period_us(throttle(100, 1), 0), 20_000);
    }
}
