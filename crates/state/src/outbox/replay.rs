//! What a journal knows of rows and this state does not, put in: after a restore, or a failover that lost commits.

use jiff::Timestamp;
use model::id::AddressHash;

use crate::db::binds;
use crate::delivery::DeliveryKey;
use crate::dialect::Sql;
use crate::row;
use crate::{StateError, Tx};

/// When something last became irrevocable here.
pub async fn last_armed(tx: &mut Tx) -> Result<Option<Timestamp>, StateError> {
    let rows: Vec<(Option<i64>,)> = tx
        .rows("look for the last attempt", &Sql::same("SELECT MAX(armed_at_ms) FROM attempt"), vec![])
        .await?;
    row::maybe_time(rows.first().and_then(|(at,)| *at))
}

/// Makes a row irrevocable again by an attempt that this state has forgotten; `false`: it knows of that one, or of a later one. Whatever the row is
/// now, this is a fact. What is open of an attempt before it is in doubt.
pub async fn rearm(
    tx: &mut Tx,
    delivery: &DeliveryKey,
    attempt: u32,
    address: &AddressHash,
    armed_at: Timestamp,
) -> Result<bool, StateError> {
    const ARM: Sql = Sql::same(
        "UPDATE delivery SET state = 'armed', attempts = $3, armed_at_ms = $4, settled_at_ms = NULL, receipt = NULL, lease_until = NULL, node = NULL
        WHERE profile = $1 AND id = $2 AND attempts < $3",
    );
    const CLOSE: Sql = Sql::same(
        "UPDATE attempt SET outcome = 'in_doubt', finished_at_ms = $3 WHERE profile = $1 AND delivery = $2 AND outcome IS NULL",
    );
    const ATTEMPT: Sql = Sql::same(
        "INSERT INTO attempt (profile, delivery, n, address_hash, armed_at_ms) VALUES ($1, $2, $3, $4, $5)",
    );
    let (number, id, at) = (i64::from(delivery.profile.0), delivery.id.as_str(), row::ms(armed_at));
    if tx.execute("arm a delivery again", &ARM, binds![number, id, attempt, at]).await? == 0 {
        return Ok(false);
    }
    tx.execute("close attempts", &CLOSE, binds![number, id, at]).await?;
    tx.execute("keep an attempt", &ATTEMPT, binds![number, id, attempt, address.as_str(), at]).await?;
    Ok(true)
}
