//! Taking rows in hand before they change: found by key, locked in order, looked at in Rust.
//!
//! What a row's state must be is not asked in SQL on purpose: both planners would take a partial index that
//! was small when they last looked, and walk all of it for every row. And here the rule can be read.

use model::{DeliveryId, DeliveryState, ProfileNumber};

use crate::db::binds;
use crate::delivery::{DeliveryKey, keys};
use crate::dialect::{Sql, page_locked};
use crate::row;
use crate::{Question, StateError, Tx};

/// A row that nobody else changes until the transaction ends.
pub(crate) struct Held {
    pub(crate) key: DeliveryKey,
    pub(crate) enrollment: String,
    pub(crate) state: DeliveryState,
    pub(crate) fence: i64,
    pub(crate) lease_until: Option<i64>,
    pub(crate) attempts: u32,
    /// Its enrollment is to be looked at from then on, once it is settled: whoever took the row was as far as that.
    pub(crate) due_at: i64,
    /// How the last attempt ended; empty: it has not. `None`: there was none.
    pub(crate) last_outcome: Option<String>,
}

type HeldRow = (u32, String, String, String, i64, Option<i64>, u32, i64, Option<String>);

/// Rows that nobody else changes until the transaction ends.
pub struct InHand(pub(crate) Vec<Held>);

/// Takes the rows of these keys in hand, as far as they exist.
pub fn in_hand<'a>(list: impl IntoIterator<Item = &'a DeliveryKey>) -> Question<InHand> {
    const SQL: Sql = page_locked!(
        "profile, id, enrollment, state, fence, lease_until, attempts, due_at_ms, last_outcome",
        "SELECT profile, id, enrollment, state, fence, lease_until, attempts, due_at_ms,
            (SELECT COALESCE(outcome, '') FROM attempt
                WHERE attempt.profile = delivery.profile AND attempt.delivery = delivery.id AND attempt.n = delivery.attempts) AS last_outcome FROM",
        each,
        "CROSS JOIN delivery WHERE delivery.profile = CAST(each.value ->> 0 AS BIGINT) AND delivery.id = each.value ->> 1
        ORDER BY profile, id",
        "FOR UPDATE OF delivery"
    );
    Question::new("take deliveries in hand", &SQL, binds![keys(list)], in_order)
}

/// The same, asked by itself; in order.
pub(crate) async fn hold<'a>(
    tx: &mut Tx,
    list: impl IntoIterator<Item = &'a DeliveryKey>,
) -> Result<Vec<Held>, StateError> {
    Ok(tx.ask(in_hand(list)).await?.0)
}

fn in_order(rows: Vec<HeldRow>) -> Result<InHand, StateError> {
    let mut held = rows
        .into_iter()
        .map(|(profile, id, enrollment, state, fence, lease_until, attempts, due_at, last_outcome)| {
            Ok(Held {
                key: DeliveryKey { profile: ProfileNumber(profile), id: DeliveryId::known(id) },
                enrollment,
                state: row::word(DeliveryState::parse(&state), "a delivery's state")?,
                fence,
                lease_until,
                attempts,
                due_at,
                last_outcome,
            })
        })
        .collect::<Result<Vec<_>, StateError>>()?;
    held.sort_by(|one, other| one.key.cmp(&other.key));
    Ok(InHand(held))
}
