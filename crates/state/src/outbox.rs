//! The outbox: from the claim to the provider's answer.
//!
//! A lease is proved by its fence, and saves work; what keeps a message from going twice is arming. A row is
//! armed only from `leased`, under its fence and before its lease runs out, and an attempt is written with
//! it. From then on time alone never brings the row back: only an answer does, or a person. The start of an
//! attempt is fenced, its result never is.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use model::delivery::{Delivery, GateRecord};
use model::fault::mutant;
use model::id::AddressHash;
use model::{DeliveryId, DeliveryState, DestinationName, Lane, ProfileNumber, Reason};

use crate::db::binds;
use crate::delivery::read::{LeasedRead, leased_columns, playbook_goes_on, write_gates};
use crate::delivery::{DeliveryKey, keys};
use crate::dialect::{LOCK_ADDRESSES, LOCK_PROFILES, Rows, Sql, each, page, page_locked};
use crate::enrollment::look_at;
use crate::node::hold_life;
use crate::rate::Rates;
use crate::row;
use crate::{Node, StateError, Tx};

mod doubt;
mod hold;
mod poison;
mod replay;
mod settle;

pub(crate) use hold::{Held, hold};
pub use hold::{InHand, in_hand};

pub use doubt::{As, armed_without_owner, in_doubt, redrive, resent, resolve};
pub use poison::{DEATHS_MAX, hold_orphans, release, void_leases};
pub use replay::{last_armed, rearm};
pub use settle::{Answer, Settlement, settle};

/// A row under a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The row; its state is leased.
    pub delivery: Delivery,
    /// What proves the lease.
    pub fence: i64,
    /// How often it was leased, this time included.
    pub lease_count: u32,
    /// How often it was tried.
    pub attempts: u32,
}

/// A row that may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Armed {
    /// Which.
    pub delivery: DeliveryId,
    /// The number of this attempt, from 1: what [`Settlement::attempt`] must say.
    pub attempt: u32,
}

/// What becomes of a leased row that was not armed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Back {
    /// To go later.
    Pending {
        /// Not before.
        due_at: Timestamp,
    },
    /// To go when it has a turn: it was not tried.
    Turn {
        /// Of which rates.
        lane: Lane,
        /// Why it has none now.
        reason: Reason,
        /// What every gate said, and which rate is full.
        gates: Vec<GateRecord>,
    },
    /// To be tried again: it was not taken, and nothing was handed over.
    Again {
        /// Not before.
        due_at: Timestamp,
        /// Why it was not taken.
        reason: Reason,
        /// What every gate said, and the provider.
        gates: Vec<GateRecord>,
    },
    /// To be decided anew.
    Deferred {
        /// When; its enrollment is looked at then.
        due_at: Timestamp,
        /// Why.
        reason: Reason,
        /// What the last look saw.
        gates: Vec<GateRecord>,
    },
    /// Not to go again: nobody knows what became of an earlier attempt, and no repeat is harmless any more.
    Doubt {
        /// What the last look saw.
        gates: Vec<GateRecord>,
    },
    /// Not to go: suppressed, skipped, expired, cancelled, withheld or rejected (a message that cannot be
    /// made).
    Refused {
        /// Which of these.
        state: DeliveryState,
        /// Why.
        reason: Reason,
        /// What the last look saw.
        gates: Vec<GateRecord>,
    },
}

/// One try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// From 1.
    pub n: u32,
    /// When it became irrevocable.
    pub armed_at: Timestamp,
    /// `accepted rejected retry in_doubt resent`; `None` while nothing is known.
    pub outcome: Option<String>,
    /// What the provider said, or who closed the doubt.
    pub detail: String,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// The address it went to.
    pub address: AddressHash,
}

/// Which due rows are claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Those that no process died with.
    Fresh,
    /// Those that one did: they may be the cause, and are claimed one at a time, so that nobody else is counted with them.
    Suspect,
}

/// Which rows are claimed.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// Fresh or suspect.
    pub due: Due,
    /// Where they go.
    pub destination: &'a DestinationName,
    /// Due by then.
    pub now: Timestamp,
    /// How many, at most.
    pub limit: u32,
    /// Playbooks and versions (by their hash) whose rows wait; `*`: all that are not transactional do.
    pub except: &'a [String],
    /// Lease time (see [`crate::State::lease_now`]).
    pub lease_now: i64,
    /// How long a claim holds, in milliseconds.
    pub lease_ms: i64,
}

/// What was claimed.
#[derive(Debug, Default)]
pub struct Claims {
    /// The rows.
    pub rows: Vec<Claimed>,
    /// There are more that wait for nothing but a turn of their lane: it pays to come again after so long.
    pub wait: Option<Duration>,
}

/// Leases due rows of a destination: transactional first, then by priority, due time and number. Rows of a playbook that is paused or halted
/// wait with it. Of rows whose lane is known no more are leased than `rates` has turns: the others are not looked at, and keep nobody waiting.
///
/// # Errors
/// [`StateError::Buried`]: the node is not among the living, and would hold rows that nobody takes from it.
pub async fn claim(
    tx: &mut Tx,
    claim: &Claim<'_>,
    mut rates: Rates,
    node: &Node,
) -> Result<Claims, StateError> {
    hold_life(tx, node).await?;
    if claim.limit == 0 {
        return Ok(Claims::default());
    }
    macro_rules! due {
        ($deaths:expr, $first:expr) => {
            page_locked!(
                leased_columns!(),
                concat!(
                    "SELECT ",
                    leased_columns!(),
                    " FROM delivery WHERE state = 'pending' AND destination = $2 AND lane = $5 AND due_at_ms <= $3 AND ",
                    $deaths,
                    " AND ",
                    playbook_goes_on!(),
                    " AND NOT EXISTS (SELECT 1 FROM"
                ),
                each,
                concat!(
                    "WHERE each.value ->> 0 = playbook OR (each.value ->> 0 IN (version, '*') AND class <> 'transactional'))
                    ORDER BY ",
                    $first,
                    "claim_rank, due_at_ms, profile, id LIMIT $4"
                ),
                "FOR UPDATE SKIP LOCKED"
            )
        };
    }
    const FRESH: Sql = due!("deaths = 0", "");
    const SUSPECT: Sql = due!("deaths > 0", "deaths, ");
    let (sql, limit) = match claim.due {
        Due::Fresh => (&FRESH, claim.limit),
        Due::Suspect => (&SUSPECT, claim.limit.min(1)),
    };
    let mut except = Rows::new();
    for waits in claim.except {
        except.row().text(waits);
    }
    let except = except.finish();
    let mut found = Vec::new();
    for name in lanes(tx, claim.destination).await? {
        let lane = Lane::known(&name);
        // Of a lane without turns one row says that there are some.
        let few = rates.clone().take(lane.keys(), limit).map_or(1, |turns| turns.count);
        let binds = binds![except.as_str(), claim.destination.as_str(), row::ms(claim.now), few, name];
        let rows: Vec<LeasedRead> = tx.page("look for due deliveries", sql, binds).await?;
        for read in rows {
            let (mut delivery, (fence, lease_count, attempts, rank)) = read.split()?;
            delivery.state = DeliveryState::Leased;
            let claimed = Claimed { delivery, fence: fence + 1, lease_count: lease_count + 1, attempts };
            found.push((rank, claimed, lane.clone()));
        }
    }
    found.sort_by(|(rank, one, _), (other_rank, other, _)| {
        (rank, one.delivery.due_at, DeliveryKey::of(&one.delivery)).cmp(&(
            other_rank,
            other.delivery.due_at,
            DeliveryKey::of(&other.delivery),
        ))
    });
    let mut claims = Claims::default();
    for (_, claimed, lane) in found {
        if claims.rows.len() == limit as usize {
            break;
        }
        match rates.take(lane.keys(), 1) {
            Ok(_) => claims.rows.push(claimed),
            Err(full) => claims.wait = Some(claims.wait.map_or(full.wait, |wait| wait.min(full.wait))),
        }
    }
    const LEASE: Sql = each!(
        "UPDATE delivery SET state = 'leased', fence = fence + 1, lease_count = lease_count + 1, node = $2, lease_until = $3 FROM",
        "WHERE delivery.profile = CAST(each.value ->> 0 AS BIGINT) AND delivery.id = each.value ->> 1"
    );
    let list: Vec<DeliveryKey> =
        claims.rows.iter().map(|claimed| DeliveryKey::of(&claimed.delivery)).collect();
    tx.execute(
        "lease deliveries",
        &LEASE,
        binds![keys(&list), node.id(), claim.lease_now.saturating_add(claim.lease_ms)],
    )
    .await?;
    Ok(claims)
}

/// The lanes in which rows of a destination wait; empty: those of which no lane is known.
async fn lanes(tx: &mut Tx, destination: &DestinationName) -> Result<Vec<String>, StateError> {
    // From each lane to the next one by the index, however many rows lie between them.
    const LANES: Sql = Sql::same(
        "WITH RECURSIVE found (lane) AS (
            SELECT (SELECT lane FROM delivery WHERE state = 'pending' AND destination = $1 ORDER BY lane LIMIT 1)
            UNION ALL
            SELECT (SELECT delivery.lane FROM delivery
                WHERE state = 'pending' AND destination = $1 AND delivery.lane > found.lane ORDER BY delivery.lane LIMIT 1)
            FROM found WHERE found.lane IS NOT NULL
        ) SELECT lane FROM found WHERE lane IS NOT NULL",
    );
    let rows: Vec<(String,)> = tx.rows("look for lanes", &LANES, binds![destination.as_str()]).await?;
    Ok(rows.into_iter().map(|(lane,)| lane).collect())
}

/// Rows whose lease ran out unarmed become pending; how many. An armed row never does.
pub async fn reap(tx: &mut Tx, lease_now: i64) -> Result<u64, StateError> {
    macro_rules! lapsed {
        ($which:expr, $lock:expr) => {
            concat!(
                "UPDATE delivery SET state = 'pending', lease_until = NULL, node = NULL WHERE (profile, id) IN (
                SELECT profile, id FROM delivery WHERE ", $which, " LIMIT 1000 ", $lock, ")"
            )
        };
    }
    const LAPSED: Sql = Sql {
        sqlite: lapsed!("state = 'leased' AND lease_until < $1", ""),
        postgres: lapsed!("state = 'leased' AND lease_until < $1", "FOR UPDATE SKIP LOCKED"),
    };
    const ARMED_TOO: Sql =
        Sql::same(lapsed!("state IN ('leased', 'armed') AND COALESCE(lease_until, 0) < $1", ""));
    let sql = if mutant("reap_armed") { &ARMED_TOO } else { &LAPSED };
    tx.execute("reap leases", sql, binds![lease_now]).await
}

/// Makes rows that were taken in hand irrevocable: those still leased under that fence, with time left. Only what is returned may
/// be sent.
pub fn arm(
    tx: &mut Tx,
    InHand(held): InHand,
    rows: &[(DeliveryKey, i64, AddressHash)],
    now: Timestamp,
    lease_now: i64,
) -> Vec<Armed> {
    let mut asked: Vec<&(DeliveryKey, i64, AddressHash)> = rows.iter().collect();
    asked.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    asked.dedup_by(|one, other| one.0 == other.0);
    let mut armed = Vec::with_capacity(held.len());
    let (mut arm, mut attempts) = (Rows::new(), Rows::new());
    for held in held {
        let Ok(place) = asked.binary_search_by(|asked| asked.0.cmp(&held.key)) else { continue };
        let (_, fence, address) = asked[place];
        let is_ours = held.fence == *fence && held.lease_until.is_some_and(|until| until >= lease_now);
        if held.state != DeliveryState::Leased || !(is_ours || mutant("fence_unchecked")) {
            continue;
        }
        let number = i64::from(held.key.profile.0);
        let attempt = held.attempts + 1;
        arm.row().integer(number).text(held.key.id.as_str());
        attempts
            .row()
            .text(held.key.id.as_str())
            .integer(i64::from(attempt))
            .integer(number)
            .text(address.as_str());
        armed.push(Armed { delivery: held.key.id, attempt });
    }
    const ARM: Sql = each!(
        "UPDATE delivery SET state = 'armed', attempts = attempts + 1, armed_at_ms = $2, lease_until = NULL FROM",
        "WHERE delivery.profile = CAST(each.value ->> 0 AS BIGINT) AND delivery.id = each.value ->> 1"
    );
    tx.later("arm deliveries", &ARM, binds![arm.finish(), row::ms(now)]);
    const ATTEMPT: Sql = each!(
        "INSERT INTO attempt (delivery, n, profile, address_hash, armed_at_ms)
        SELECT each.value ->> 0, CAST(each.value ->> 1 AS BIGINT), CAST(each.value ->> 2 AS BIGINT), each.value ->> 3, $2 FROM",
        ""
    );
    tx.later("keep attempts", &ATTEMPT, binds![attempts.finish(), row::ms(now)]);
    armed
}

/// Locks people, so that no consent of theirs is recorded and no other row of theirs is armed until this
/// transaction ends. Always in sorted order, whatever order is given. In SQLite the one writer is lock
/// enough.
pub async fn lock_profiles(tx: &mut Tx, numbers: &[ProfileNumber]) -> Result<(), StateError> {
    if tx.has_the_only_writer() || mutant("read_unlocked") {
        return Ok(());
    }
    tx.execute("lock profiles", &LOCK_PROFILES, binds![row::numbers(numbers)]).await?;
    Ok(())
}

/// Locks addresses against being suppressed until this transaction ends; after [`lock_profiles`], never
/// before.
pub async fn lock_addresses(tx: &mut Tx, addresses: &[AddressHash]) -> Result<(), StateError> {
    lock_hashes(tx, addresses.iter().map(AddressHash::as_str)).await
}

/// Locks addresses, and whatever else has no row of its own and is known by its hash, until this transaction ends; after
/// [`lock_profiles`], never before, and all at once.
pub async fn lock_hashes<'a>(tx: &mut Tx, hashes: impl Iterator<Item = &'a str>) -> Result<(), StateError> {
    if tx.has_the_only_writer() || mutant("read_unlocked") {
        return Ok(());
    }
    let mut sorted: Vec<&str> = hashes.collect();
    sorted.sort_unstable();
    sorted.dedup();
    let mut rows = Rows::new();
    for hash in sorted {
        rows.row().text(hash);
    }
    tx.execute("lock addresses", &LOCK_ADDRESSES, binds![rows.finish()]).await?;
    Ok(())
}

/// Gives leased rows back unarmed, under their fence; returns the rows that changed.
///
/// # Errors
/// [`StateError::Broken`] if a refusal names a state that is none.
pub async fn give_back(
    tx: &mut Tx,
    rows: &[(DeliveryKey, i64, Back)],
    now: Timestamp,
) -> Result<Vec<DeliveryKey>, StateError> {
    let mut asked: BTreeMap<&DeliveryKey, (i64, &Back)> = BTreeMap::new();
    for (key, fence, back) in rows {
        asked.entry(key).or_insert((*fence, back));
    }
    let held = hold(tx, asked.keys().copied()).await?;
    let (mut changes, mut looks, mut changed) = (Rows::new(), Rows::new(), Vec::with_capacity(held.len()));
    for held in held {
        let Some((fence, back)) = asked.get(&held.key) else { continue };
        if held.state != DeliveryState::Leased || held.fence != *fence {
            continue;
        }
        let mut lane = None;
        let (state, reason, gates, due_at, settled_at) = match back {
            Back::Turn { lane: waits_in, reason, gates } => {
                lane = Some(waits_in.to_string());
                (DeliveryState::Pending, Some(*reason), Some(gates), None, None)
            }
            Back::Pending { due_at } => (DeliveryState::Pending, None, None, Some(*due_at), None),
            Back::Again { due_at, reason, gates } => {
                (DeliveryState::Pending, Some(*reason), Some(gates), Some(*due_at), None)
            }
            Back::Deferred { due_at, reason, gates } => {
                (DeliveryState::Deferred, Some(*reason), Some(gates), Some(*due_at), None)
            }
            Back::Doubt { gates } => {
                (DeliveryState::InDoubt, Some(Reason::OutcomeUnknown), Some(gates), None, Some(now))
            }
            Back::Refused { state, reason, gates } => {
                refuse_unless_refusal(*state)?;
                (*state, Some(*reason), Some(gates), None, Some(now))
            }
        };
        changes
            .row()
            .integer(i64::from(held.key.profile.0))
            .text(held.key.id.as_str())
            .text(state.as_str())
            .maybe_text(reason.map(Reason::as_str))
            .maybe_json(gates.map(|gates| write_gates(gates)).as_deref())
            .maybe_integer(due_at.map(row::ms))
            .maybe_integer(settled_at.map(row::ms))
            .maybe_text(lane.as_deref());
        if state != DeliveryState::Pending {
            looks
                .row()
                .integer(i64::from(held.key.profile.0))
                .text(&held.enrollment)
                .integer(due_at.map_or(held.due_at, row::ms));
        }
        changed.push(held.key);
    }
    const GIVE_BACK: Sql = each!(
        "UPDATE delivery SET state = each.value ->> 2, reason = COALESCE(each.value ->> 3, reason),
            gates = COALESCE(each.value ->> 4, gates), due_at_ms = COALESCE(CAST(each.value ->> 5 AS BIGINT), due_at_ms),
            settled_at_ms = CAST(each.value ->> 6 AS BIGINT), lane = COALESCE(each.value ->> 7, lane),
            lease_until = NULL, node = NULL FROM",
        "WHERE delivery.profile = CAST(each.value ->> 0 AS BIGINT) AND delivery.id = each.value ->> 1"
    );
    tx.later("give leases back", &GIVE_BACK, binds![changes.finish()]);
    look_at(tx, looks);
    Ok(changed)
}

fn refuse_unless_refusal(state: DeliveryState) -> Result<(), StateError> {
    use DeliveryState::{
        Accepted, Armed, Cancelled, Deferred, Expired, InDoubt, Leased, Pending, Rejected, Skipped,
        Suppressed, Withheld,
    };
    match state {
        Suppressed | Skipped | Expired | Cancelled | Withheld | Rejected => Ok(()),
        Pending | Deferred | Leased | Armed | Accepted | InDoubt => {
            Err(StateError::Broken { what: "an unarmed row is refused, or given back" })
        }
    }
}

/// How many rows wait that were due before a time.
pub async fn due_before(tx: &mut Tx, time: Timestamp) -> Result<u64, StateError> {
    let sql = Sql::same("SELECT COUNT(*) FROM delivery WHERE state = 'pending' AND due_at_ms < $1");
    let rows: Vec<(i64,)> = tx.rows("count what is overdue", &sql, binds![row::ms(time)]).await?;
    Ok(rows.first().map_or(0, |(count,)| row::count(*count)))
}

/// How many rows are pending, leased, armed and in doubt, by destination.
pub async fn queue(tx: &mut Tx) -> Result<BTreeMap<(DestinationName, DeliveryState), u64>, StateError> {
    const SQL: Sql = page!(
        "destination, state, many",
        "SELECT destination, state, COUNT(*) AS many FROM delivery WHERE state = 'pending' GROUP BY destination, state
        UNION ALL SELECT destination, state, COUNT(*) FROM delivery WHERE state = 'leased' GROUP BY destination, state
        UNION ALL SELECT destination, state, COUNT(*) FROM delivery WHERE state IN ('armed', 'in_doubt') GROUP BY destination, state"
    );
    let rows: Vec<(String, String, u64)> = tx.page("count the outbox", &SQL, vec![]).await?;
    rows.into_iter()
        .map(|(destination, state, many)| {
            let state = row::word(DeliveryState::parse(&state), "a delivery's state")?;
            Ok(((DestinationName::known(destination), state), many))
        })
        .collect()
}

/// How many rows are due that wait for a turn of their lane, by destination and lane.
pub async fn waiting(
    tx: &mut Tx,
    now: Timestamp,
) -> Result<BTreeMap<(DestinationName, Lane), u64>, StateError> {
    let sql = Sql::same(
        "SELECT destination, lane, COUNT(*) FROM delivery WHERE state = 'pending' AND lane <> '' AND due_at_ms <= $1
        GROUP BY destination, lane",
    );
    let rows: Vec<(String, String, i64)> =
        tx.rows("count who waits for a turn", &sql, binds![row::ms(now)]).await?;
    let read = |(destination, lane, many): (String, String, i64)| {
        ((DestinationName::known(destination), Lane::known(&lane)), row::count(many))
    };
    Ok(rows.into_iter().map(read).collect())
}

type AttemptRow = (i64, i64, Option<String>, String, Option<i64>, String);

/// The tries of a delivery, in order.
pub async fn attempts(tx: &mut Tx, delivery: &DeliveryKey) -> Result<Vec<Attempt>, StateError> {
    let sql = Sql::same(
        "SELECT n, armed_at_ms, outcome, detail, finished_at_ms, address_hash FROM attempt
        WHERE profile = $1 AND delivery = $2 ORDER BY n",
    );
    let binds = binds![i64::from(delivery.profile.0), delivery.id.as_str()];
    let rows: Vec<AttemptRow> = tx.rows("read attempts", &sql, binds).await?;
    rows.into_iter()
        .map(|(n, armed_at, outcome, detail, finished_at, address)| {
            Ok(Attempt {
                n: row::small(n),
                armed_at: row::time(armed_at)?,
                outcome,
                detail,
                finished_at: row::maybe_time(finished_at)?,
                address: AddressHash::known(address),
            })
        })
        .collect()
}

/// The address a delivery went to, as suppression knows it; `None` if it was never armed.
pub async fn address_of(tx: &mut Tx, delivery: &DeliveryKey) -> Result<Option<AddressHash>, StateError> {
    Ok(attempts(tx, delivery).await?.pop().map(|attempt| attempt.address))
}
