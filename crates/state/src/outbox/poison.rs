//! Rows that a process died with. One of them may be the cause, and would be so again after every start: it is sent alone, and after
//! the third time not at all (poison).

use jiff::Timestamp;
use model::fault::mutant;
use model::{DeliveryId, ProfileNumber, Reason};

use crate::db::binds;
use crate::delivery::DeliveryKey;
use crate::dialect::{Rows, Sql, each, page_locked};
use crate::enrollment::look_at;
use crate::row;
use crate::{StateError, Tx};

/// A process that dies so often with a row unarmed in its hands dies of it.
pub const DEATHS_MAX: u32 = 3;

/// Takes all rows in hand that those had who are not among the living, in the order in which everybody does.
pub async fn hold_orphans(tx: &mut Tx) -> Result<(), StateError> {
    const HOLD: Sql = page_locked!(
        "profile",
        "SELECT profile FROM delivery WHERE state IN ('leased', 'armed') AND node NOT IN (SELECT id FROM node) ORDER BY profile, id",
        "FOR UPDATE"
    );
    if !tx.has_the_only_writer() {
        tx.page::<(u32,)>("take over deliveries", &HOLD, vec![]).await?;
    }
    Ok(())
}

/// What is leased to these nodes goes back, and nothing is counted against it: they end by themselves, or stand still.
pub async fn release(tx: &mut Tx, nodes: &[String]) -> Result<u64, StateError> {
    const RELEASE: Sql = each!(
        "UPDATE delivery SET state = 'pending', lease_until = NULL, node = NULL FROM",
        "WHERE delivery.state = 'leased' AND delivery.node = each.value ->> 0"
    );
    let mut rows = Rows::new();
    for node in nodes {
        rows.row().text(node);
    }
    tx.execute("release leases", &RELEASE, binds![rows.finish()]).await
}

/// The leases of all who are not among the living end, whatever their time. Each row is counted against it: its process may have died
/// of it. Returns those that are poison: they are rejected.
pub async fn void_leases(tx: &mut Tx, now: Timestamp) -> Result<Vec<DeliveryKey>, StateError> {
    const POISON: Sql = page_locked!(
        "profile, id, enrollment, due_at_ms",
        "SELECT profile, id, enrollment, due_at_ms FROM delivery WHERE state = 'leased'
            AND node NOT IN (SELECT id FROM node) AND deaths + 1 >= $1 ORDER BY profile, id",
        "FOR UPDATE"
    );
    let deaths_max = i64::from(DEATHS_MAX);
    let poison: Vec<(u32, String, String, i64)> =
        tx.page("look for poison", &POISON, binds![deaths_max]).await?;
    let sql = Sql::same(
        "UPDATE delivery SET state = 'rejected', reason = $1, settled_at_ms = $2, deaths = deaths + 1, lease_until = NULL, node = NULL
        WHERE state = 'leased' AND node NOT IN (SELECT id FROM node) AND deaths + 1 >= $3",
    );
    tx.execute("reject poison", &sql, binds![Reason::FailPoison.as_str(), row::ms(now), deaths_max]).await?;
    const LEASED: Sql = Sql::same(
        "UPDATE delivery SET state = 'pending', deaths = deaths + 1, lease_until = NULL, node = NULL
        WHERE state = 'leased' AND node NOT IN (SELECT id FROM node)",
    );
    const UNCOUNTED: Sql = Sql::same(
        "UPDATE delivery SET state = 'pending', lease_until = NULL, node = NULL
        WHERE state = 'leased' AND node NOT IN (SELECT id FROM node)",
    );
    const ARMED_TOO: Sql = Sql::same(
        "UPDATE delivery SET state = 'pending', lease_until = NULL, node = NULL
        WHERE state IN ('leased', 'armed') AND node NOT IN (SELECT id FROM node)",
    );
    let sql = if mutant("void_armed") {
        &ARMED_TOO
    } else if mutant("deaths_uncounted") {
        &UNCOUNTED
    } else {
        &LEASED
    };
    tx.execute("void leases", sql, vec![]).await?;
    let mut looks = Rows::new();
    for (profile, _, enrollment, due_at) in &poison {
        looks.row().integer(i64::from(*profile)).text(enrollment).integer(*due_at);
    }
    look_at(tx, looks);
    Ok(poison
        .into_iter()
        .map(|(profile, id, _, _)| DeliveryKey { profile: ProfileNumber(profile), id: DeliveryId::known(id) })
        .collect())
}
