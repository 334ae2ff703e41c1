//! Settling: a provider's answer becomes the row's state. Whenever it comes, it counts; told twice, it counts
//! once.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::{DeliveryState, Reason};

use crate::db::binds;
use crate::delivery::DeliveryKey;
use crate::dialect::{Rows, Sql, each};
use crate::enrollment::look_at;
use crate::journal::Line;
use crate::outbox::{Held, hold};
use crate::row;
use crate::{StateError, Tx};

/// Longest text of a provider that is kept, in bytes.
const DETAIL_BYTES_MAX: usize = 1000;
/// Longest receipt that is kept, in bytes.
const RECEIPT_BYTES_MAX: usize = 500;

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// Which row.
    pub delivery: DeliveryKey,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// With what.
    pub result: Answer,
    /// What the provider said; never an address. Cut to 1,000 bytes.
    pub detail: String,
}

/// What a provider's answer means for the row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It has it.
    Accepted {
        /// Its id for it, or its reply.
        receipt: String,
    },
    /// Refused for good.
    Rejected {
        /// Why.
        reason: Reason,
    },
    /// Definitely not taken; to be tried again.
    Retry {
        /// Why.
        reason: Reason,
        /// Not before.
        due_at: Timestamp,
    },
    /// Nobody knows.
    InDoubt,
}

/// What an answer writes into the row.
struct Change<'a> {
    outcome: &'static str,
    state: DeliveryState,
    reason: Reason,
    receipt: Option<&'a str>,
    due_at: Option<Timestamp>,
}

impl Answer {
    fn change(&self) -> Change<'_> {
        match self {
            Self::Accepted { receipt } => Change {
                outcome: "accepted",
                state: DeliveryState::Accepted,
                reason: Reason::OkAccepted,
                receipt: Some(row::bounded(receipt, RECEIPT_BYTES_MAX)),
                due_at: None,
            },
            Self::Rejected { reason } => Change {
                outcome: "rejected",
                state: DeliveryState::Rejected,
                reason: *reason,
                receipt: None,
                due_at: None,
            },
            Self::Retry { reason, due_at } => Change {
                outcome: "retry",
                state: DeliveryState::Pending,
                reason: *reason,
                receipt: None,
                due_at: Some(*due_at),
            },
            Self::InDoubt => Change {
                outcome: "in_doubt",
                state: DeliveryState::InDoubt,
                reason: Reason::OutcomeUnknown,
                receipt: None,
                due_at: None,
            },
        }
    }
}

/// Writes how attempts ended; returns the rows that changed. An attempt that is settled stays as it is, but
/// for one in doubt, of which something definite is learnt after all.
pub async fn settle(
    tx: &mut Tx,
    settlements: &[Settlement],
    now: Timestamp,
) -> Result<Vec<DeliveryKey>, StateError> {
    let mut asked: BTreeMap<&DeliveryKey, Vec<&Settlement>> = BTreeMap::new();
    for settlement in settlements {
        asked.entry(&settlement.delivery).or_default().push(settlement);
    }
    let held = hold(tx, asked.keys().copied()).await?;
    let mut writes = Writes::default();
    for held in held {
        // Only the last attempt moves the row, and only as long as nothing definite is known of it.
        let of_last = |settlement: &&&Settlement| settlement.attempt == held.attempts;
        let Some(settlement) = asked.get(&held.key).and_then(|all| all.iter().find(of_last)) else {
            continue;
        };
        let change = settlement.result.change();
        let is_open = match held.last_outcome.as_deref() {
            Some("") => matches!(held.state, DeliveryState::Armed | DeliveryState::InDoubt),
            Some("in_doubt") => {
                held.state == DeliveryState::InDoubt && change.state != DeliveryState::InDoubt
            }
            Some(_) | None => false,
        };
        if is_open {
            let detail = row::bounded(&settlement.detail, DETAIL_BYTES_MAX);
            writes.add(&held, &change, detail, now);
            tx.journal(Line::Settled {
                delivery: held.key.id.as_str().to_owned(),
                attempt: held.attempts,
                outcome: change.outcome.to_owned(),
                reason: change.reason.as_str().to_owned(),
                receipt: change.receipt.map(str::to_owned),
                at_ms: row::ms(now),
            });
            writes.changed.push(held.key);
        }
    }
    Ok(writes.write(tx, now))
}

/// The rows of the three tables that a settlement touches.
#[derive(Default)]
pub(super) struct Writes {
    attempts: Option<Rows>,
    deliveries: Option<Rows>,
    looks: Option<Rows>,
    changed: Vec<DeliveryKey>,
}

impl Writes {
    fn add(&mut self, held: &Held, change: &Change<'_>, detail: &str, now: Timestamp) {
        let Held { key, attempts: attempt, enrollment, due_at, .. } = held;
        let number = i64::from(key.profile.0);
        let attempts = self.attempts.get_or_insert_with(Rows::new);
        attempts
            .row()
            .integer(number)
            .text(key.id.as_str())
            .integer(i64::from(*attempt))
            .text(change.outcome)
            .text(detail);
        let settled = change.state.is_settled();
        self.deliveries
            .get_or_insert_with(Rows::new)
            .row()
            .integer(number)
            .text(key.id.as_str())
            .text(change.state.as_str())
            .text(change.reason.as_str())
            .maybe_integer(change.due_at.map(row::ms))
            .maybe_integer(settled.then(|| row::ms(now)))
            .maybe_text(change.receipt);
        if settled {
            self.looks.get_or_insert_with(Rows::new).row().integer(number).text(enrollment).integer(*due_at);
        }
    }

    fn write(self, tx: &mut Tx, now: Timestamp) -> Vec<DeliveryKey> {
        const ATTEMPT: Sql = each!(
            "UPDATE attempt SET outcome = each.value ->> 3, detail = each.value ->> 4, finished_at_ms = $2 FROM",
            "WHERE attempt.profile = CAST(each.value ->> 0 AS BIGINT) AND attempt.delivery = each.value ->> 1
            AND attempt.n = CAST(each.value ->> 2 AS BIGINT)"
        );
        // A row that goes back to pending is armed no more: it counts from its next due time again.
        const DELIVERY: Sql = each!(
            "UPDATE delivery SET state = each.value ->> 2, reason = each.value ->> 3,
                due_at_ms = COALESCE(CAST(each.value ->> 4 AS BIGINT), due_at_ms),
                settled_at_ms = CAST(each.value ->> 5 AS BIGINT),
                armed_at_ms = CASE WHEN each.value ->> 5 IS NULL THEN NULL ELSE armed_at_ms END,
                receipt = each.value ->> 6, node = NULL FROM",
            "WHERE delivery.profile = CAST(each.value ->> 0 AS BIGINT) AND delivery.id = each.value ->> 1"
        );
        if let (Some(attempts), Some(deliveries)) = (self.attempts, self.deliveries) {
            tx.later("settle attempts", &ATTEMPT, binds![attempts.finish(), row::ms(now)]);
            tx.later("settle deliveries", &DELIVERY, binds![deliveries.finish()]);
        }
        if let Some(looks) = self.looks {
            look_at(tx, looks);
        }
        self.changed
    }
}
