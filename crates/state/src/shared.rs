//! Deliveries by what several people share: an account, or an address. Kept only where a cap counts by it, and only as far back as caps
//! look; what became of a delivery is in its own row.

use jiff::Timestamp;
use model::id::UnitHash;

use crate::ask::Question;
use crate::db::binds;
use crate::delivery::{DeliveryKey, Touch, read_touch};
use crate::dialect::{Rows, Sql, each, page};
use crate::row;
use crate::{StateError, Tx};

/// A delivery that counts for a unit, and when it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// What is shared.
    pub unit: UnitHash,
    /// Which delivery.
    pub delivery: DeliveryKey,
    /// When it is to go, or went.
    pub at: Timestamp,
}

/// Keeps which units deliveries count for. Once is enough.
pub fn keep(tx: &mut Tx, rows: &[Shared]) {
    if rows.is_empty() {
        return;
    }
    let mut written = Rows::new();
    for row in rows {
        written
            .row()
            .text(row.unit.as_str())
            .integer(i64::from(row.delivery.profile.0))
            .text(row.delivery.id.as_str())
            .integer(row::ms(row.at));
    }
    const KEEP: Sql = each!(
        "INSERT INTO shared_touch (unit, profile, delivery, at_ms)
        SELECT each.value ->> 0, CAST(each.value ->> 1 AS BIGINT), each.value ->> 2, CAST(each.value ->> 3 AS BIGINT) FROM",
        "WHERE TRUE ON CONFLICT (unit, profile, delivery) DO UPDATE SET at_ms = excluded.at_ms"
    );
    tx.later("keep shared touches", &KEEP, binds![written.finish()]);
}

type Row = (String, u32, String, i64, String, String, String, String, String, String, Option<String>);

/// The touches of each unit that are no older than `since`.
pub fn touches(units: &[UnitHash], since: Timestamp) -> Question<Vec<(UnitHash, Touch)>> {
    const SQL: Sql = page!(
        "unit, profile, id, at_ms, channel, class, purpose, brand, playbook, state, content",
        "SELECT shared_touch.unit, delivery.profile, delivery.id, COALESCE(settled_at_ms, armed_at_ms, due_at_ms) AS at_ms,
            channel, class, purpose, brand, playbook, state, content FROM",
        each,
        "CROSS JOIN shared_touch CROSS JOIN delivery
        WHERE shared_touch.unit = each.value ->> 0
            AND delivery.profile = shared_touch.profile AND delivery.id = shared_touch.delivery
            AND state IN ('pending', 'leased', 'armed', 'accepted', 'in_doubt', 'withheld')
            AND COALESCE(settled_at_ms, armed_at_ms, due_at_ms) >= $2"
    );
    let mut sorted: Vec<&UnitHash> = units.iter().collect();
    sorted.sort_unstable();
    sorted.dedup();
    let mut asked = Rows::new();
    for unit in sorted {
        asked.row().text(unit.as_str());
    }
    Question::new("read shared touches", &SQL, binds![asked.finish(), row::ms(since)], |rows: Vec<Row>| {
        let mut touches = rows
            .into_iter()
            .map(|(unit, profile, id, at, channel, class, purpose, brand, playbook, state, content)| {
                let row = (profile, id, at, channel, class, purpose, brand, playbook, state, content);
                let touch = read_touch(row)?;
                Ok((UnitHash::known(unit), touch))
            })
            .collect::<Result<Vec<_>, StateError>>()?;
        touches.sort_by(|(one_unit, one), (other_unit, other)| {
            (one_unit, one.at, &one.delivery).cmp(&(other_unit, other.at, &other.delivery))
        });
        Ok(touches)
    })
}

/// Forgets what no cap looks back to.
pub async fn forget(tx: &mut Tx, before: Timestamp) -> Result<u64, StateError> {
    let sql = Sql::same("DELETE FROM shared_touch WHERE at_ms < $1");
    tx.execute("forget shared touches", &sql, binds![row::ms(before)]).await
}
