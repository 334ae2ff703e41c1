//! Doubt: what was handed over without an answer. Only an answer ends it, or whoever closes it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use model::fault::mutant;
use model::{DeliveryId, DeliveryState, ProfileNumber, Reason};

use crate::db::binds;
use crate::delivery::read::{LoggedRead, logged_columns};
use crate::delivery::{DeliveryKey, LoggedDelivery, keys};
use crate::dialect::{Rows, Sql, each, page, page_locked};
use crate::enrollment::look_at;
use crate::outbox::hold;
use crate::row;
use crate::{Node, StateError, Tx};

/// How a doubt is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum As {
    /// The provider has it.
    Accepted,
    /// It does not, and it shall not be sent again.
    Rejected,
    /// It does not, and it shall be sent again.
    Resend,
    /// Nobody knows, and it is sent again all the same; not if it was before because of a doubt.
    ResendOnce,
    /// Nobody knows, and a repeat does no harm, as long as the provider knows its key.
    Repeat,
}

/// What those had armed who are not among the living is in doubt now, and what `node` had, which has nothing under way. Returns those rows.
pub async fn armed_without_owner(
    tx: &mut Tx,
    node: Option<&Node>,
    now: Timestamp,
) -> Result<Vec<DeliveryKey>, StateError> {
    const ARMED: Sql = page_locked!(
        "profile, id, enrollment",
        "SELECT profile, id, enrollment FROM delivery WHERE state = 'armed'
            AND (node = $1 OR node NOT IN (SELECT id FROM node))
        ORDER BY profile, id",
        "FOR UPDATE"
    );
    let armed: Vec<(u32, String, String)> =
        tx.page("look for armed deliveries", &ARMED, binds![node.map_or("", Node::id)]).await?;
    let list: Vec<DeliveryKey> = armed
        .iter()
        .map(|(profile, id, _)| DeliveryKey {
            profile: ProfileNumber(*profile),
            id: DeliveryId::known(id.clone()),
        })
        .collect();
    const ATTEMPTS: Sql = each!(
        "UPDATE attempt SET outcome = 'in_doubt', detail = 'who had handed it over ended, or failed, before the answer was written', finished_at_ms = $2 FROM",
        "WHERE attempt.profile = CAST(each.value ->> 0 AS BIGINT) AND attempt.delivery = each.value ->> 1 AND attempt.outcome IS NULL"
    );
    tx.later("settle attempts", &ATTEMPTS, binds![keys(&list), row::ms(now)]);
    const DELIVERIES: Sql = each!(
        "UPDATE delivery SET state = 'in_doubt', reason = $2, settled_at_ms = $3 FROM",
        "WHERE delivery.profile = CAST(each.value ->> 0 AS BIGINT) AND delivery.id = each.value ->> 1"
    );
    let reason = Reason::OutcomeUnknown.as_str();
    tx.later("settle deliveries", &DELIVERIES, binds![keys(&list), reason, row::ms(now)]);
    let mut looks = Rows::new();
    for (profile, _, enrollment) in &armed {
        looks.row().integer(i64::from(*profile)).text(enrollment).integer(row::ms(now));
    }
    look_at(tx, looks);
    Ok(list)
}

/// What is in doubt, oldest first.
pub async fn in_doubt(tx: &mut Tx, limit: u32) -> Result<Vec<LoggedDelivery>, StateError> {
    const SQL: Sql = page!(
        logged_columns!(),
        concat!(
            "SELECT ",
            logged_columns!(),
            " FROM delivery WHERE state = 'in_doubt' ORDER BY created_at_ms, profile, id LIMIT $1"
        )
    );
    let rows: Vec<LoggedRead> = tx.page("read what is in doubt", &SQL, binds![limit]).await?;
    let mut doubts = rows.into_iter().map(LoggedRead::logged).collect::<Result<Vec<_>, _>>()?;
    doubts.sort_by_key(|doubt| (doubt.delivery.created_at, DeliveryKey::of(&doubt.delivery)));
    Ok(doubts)
}

/// Puts rejected rows back into the outbox, as if they had just been decided, to be sent by `until` at the latest; returns those that were
/// rejected.
pub async fn redrive(
    tx: &mut Tx,
    rows: &[DeliveryKey],
    now: Timestamp,
    until: Timestamp,
) -> Result<Vec<DeliveryKey>, StateError> {
    let held = hold(tx, rows).await?;
    let rejected: Vec<DeliveryKey> =
        held.into_iter().filter(|held| held.state == DeliveryState::Rejected).map(|held| held.key).collect();
    const REDRIVE: Sql = each!(
        "UPDATE delivery SET state = 'pending', reason = $2, due_at_ms = $3, armed_at_ms = NULL, settled_at_ms = NULL, deaths = 0,
            lease_count = 0, expires_at_ms = CASE WHEN expires_at_ms > $4 THEN expires_at_ms ELSE $4 END FROM",
        "WHERE delivery.profile = CAST(each.value ->> 0 AS BIGINT) AND delivery.id = each.value ->> 1"
    );
    let binds = binds![keys(&rejected), Reason::OkDue.as_str(), row::ms(now), row::ms(until)];
    tx.later("send again what was rejected", &REDRIVE, binds);
    Ok(rejected)
}

/// Of these rows, those that were sent again before because of a doubt, by whomever.
pub async fn resent(tx: &mut Tx, rows: &[DeliveryKey]) -> Result<BTreeSet<DeliveryId>, StateError> {
    const SQL: Sql = page!(
        "delivery",
        "SELECT attempt.delivery FROM",
        each,
        "CROSS JOIN attempt WHERE attempt.profile = CAST(each.value ->> 0 AS BIGINT) AND attempt.delivery = each.value ->> 1
            AND attempt.outcome = 'resent'"
    );
    if rows.is_empty() || mutant("resent_twice") {
        return Ok(BTreeSet::new());
    }
    let found: Vec<(String,)> = tx.page("look for what was sent again", &SQL, binds![keys(rows)]).await?;
    Ok(found.into_iter().map(|(id,)| DeliveryId::known(id)).collect())
}

/// Closes a doubt; `None`: there is no such doubt, or it was sent again before and is not to be so twice. Who and why is kept with the
/// attempt.
pub async fn resolve(
    tx: &mut Tx,
    id: &DeliveryId,
    resolved: As,
    actor: &str,
    reason: &str,
    now: Timestamp,
) -> Result<Option<DeliveryKey>, StateError> {
    const DOUBT: Sql = page_locked!(
        "profile, enrollment, attempts",
        "SELECT profile, enrollment, attempts FROM delivery WHERE state = 'in_doubt' AND id = $1",
        "FOR UPDATE"
    );
    let doubts: Vec<(u32, String, i64)> = tx.page("look for a doubt", &DOUBT, binds![id.as_str()]).await?;
    let Some((profile, enrollment, attempt)) = doubts.into_iter().next() else { return Ok(None) };
    let key = DeliveryKey { profile: ProfileNumber(profile), id: id.clone() };
    // The row is ours by now: nobody sends it again meanwhile.
    if resolved == As::ResendOnce && resent(tx, std::slice::from_ref(&key)).await?.contains(id) {
        return Ok(None);
    }
    let number = i64::from(profile);
    let (outcome, state, code, settled_at) = match resolved {
        As::Accepted => ("accepted", DeliveryState::Accepted, Reason::OkAssumed, Some(now)),
        As::Rejected => ("rejected", DeliveryState::Rejected, Reason::CancelOperator, Some(now)),
        // As if it had just been decided: what an earlier attempt came to is no reason any more to hold it back.
        As::Resend | As::ResendOnce => ("resent", DeliveryState::Pending, Reason::OkDue, None),
        As::Repeat => ("resent", DeliveryState::Pending, Reason::OutcomeUnknown, None),
    };
    let sql = Sql::same(
        "UPDATE attempt SET outcome = $4, detail = $5, finished_at_ms = $6 WHERE profile = $1 AND delivery = $2 AND n = $3",
    );
    let detail = format!("{actor}: {reason}");
    tx.execute(
        "close a doubt",
        &sql,
        binds![number, id.as_str(), attempt, outcome, row::bounded(&detail, 1000), row::ms(now)],
    )
    .await?;
    let sql = Sql::same(
        "UPDATE delivery SET state = $3, reason = $4, settled_at_ms = $5, due_at_ms = CASE WHEN $3 = 'pending' THEN $6 ELSE due_at_ms END,
            armed_at_ms = CASE WHEN $3 = 'pending' THEN NULL ELSE armed_at_ms END
        WHERE profile = $1 AND id = $2",
    );
    let binds =
        binds![number, id.as_str(), state.as_str(), code.as_str(), settled_at.map(row::ms), row::ms(now)];
    tx.execute("close a doubt", &sql, binds).await?;
    let mut looks = Rows::new();
    looks.row().integer(number).text(&enrollment).integer(row::ms(now));
    if settled_at.is_some() {
        look_at(tx, looks);
    }
    Ok(Some(key))
}
