//! Tallies: what happened to the messages of each playbook, hour by hour, for those who judge it. Each node counts for itself, so that
//! nobody waits for anybody to count.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use model::PlaybookName;
use model::delivery::Tally;

use crate::db::binds;
use crate::dialect::{Rows, Sql, each, page};
use crate::row;
use crate::{Node, StateError, Tx};

/// Tallies are kept for so long.
const KEPT: SignedDuration = SignedDuration::from_hours(24 * 30);

/// Adds to what this node has counted in this hour.
pub fn add(tx: &mut Tx, node: &Node, counts: &BTreeMap<PlaybookName, Tally>, now: Timestamp) {
    if counts.is_empty() {
        return;
    }
    let mut rows = Rows::new();
    for (playbook, counts) in counts {
        let row = rows.row().text(playbook.as_str());
        let Tally { accepted, rejected, bounced, in_doubt, unmade, unsubscribed, complained, fallback } =
            *counts;
        for count in [accepted, rejected, bounced, in_doubt, unmade, unsubscribed, complained, fallback] {
            row.integer(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
    const ADD: Sql = each!(
        "INSERT INTO tally (hour_ms, playbook, node, accepted, rejected, bounced, in_doubt, unmade, unsubscribed, complained, fallback)
        SELECT $2, each.value ->> 0, $3, CAST(each.value ->> 1 AS BIGINT), CAST(each.value ->> 2 AS BIGINT),
            CAST(each.value ->> 3 AS BIGINT), CAST(each.value ->> 4 AS BIGINT), CAST(each.value ->> 5 AS BIGINT),
            CAST(each.value ->> 6 AS BIGINT), CAST(each.value ->> 7 AS BIGINT), CAST(each.value ->> 8 AS BIGINT) FROM",
        "WHERE TRUE
        ON CONFLICT (hour_ms, playbook, node) DO UPDATE SET
            accepted = tally.accepted + excluded.accepted, rejected = tally.rejected + excluded.rejected,
            bounced = tally.bounced + excluded.bounced, in_doubt = tally.in_doubt + excluded.in_doubt,
            unmade = tally.unmade + excluded.unmade, unsubscribed = tally.unsubscribed + excluded.unsubscribed,
            complained = tally.complained + excluded.complained, fallback = tally.fallback + excluded.fallback"
    );
    tx.later("count messages", &ADD, binds![rows.finish(), hour_ms(now), node.id()]);
}

fn hour_ms(at: Timestamp) -> i64 {
    let ms = row::ms(at);
    ms - ms.rem_euclid(3_600_000)
}

type Counted = (String, u64, u64, u64, u64, u64, u64, u64, u64);

/// What was counted from the hour of `since` on, by all nodes together.
pub async fn since(tx: &mut Tx, since: Timestamp) -> Result<BTreeMap<PlaybookName, Tally>, StateError> {
    const SQL: Sql = page!(
        "playbook, accepted, rejected, bounced, in_doubt, unmade, unsubscribed, complained, fallback",
        "SELECT playbook, CAST(SUM(accepted) AS BIGINT) AS accepted, CAST(SUM(rejected) AS BIGINT) AS rejected,
            CAST(SUM(bounced) AS BIGINT) AS bounced, CAST(SUM(in_doubt) AS BIGINT) AS in_doubt, CAST(SUM(unmade) AS BIGINT) AS unmade,
            CAST(SUM(unsubscribed) AS BIGINT) AS unsubscribed,
            CAST(SUM(complained) AS BIGINT) AS complained, CAST(SUM(fallback) AS BIGINT) AS fallback
        FROM tally WHERE hour_ms >= $1 GROUP BY playbook"
    );
    let rows: Vec<Counted> = tx.page("read what was counted", &SQL, binds![hour_ms(since)]).await?;
    let counts = rows.into_iter().map(
        |(playbook, accepted, rejected, bounced, in_doubt, unmade, unsubscribed, complained, fallback)| {
            let counts =
                Tally { accepted, rejected, bounced, in_doubt, unmade, unsubscribed, complained, fallback };
            (PlaybookName::known(playbook), counts)
        },
    );
    Ok(counts.collect())
}

/// Begins anew for a playbook (`None`: for all): a person has looked at what was counted.
pub async fn forget(tx: &mut Tx, playbook: Option<&PlaybookName>) -> Result<(), StateError> {
    let sql = Sql::same("DELETE FROM tally WHERE playbook = COALESCE($1, playbook)");
    let playbook = playbook.map(|name| name.as_str().to_owned());
    tx.execute("forget what was counted", &sql, binds![playbook]).await?;
    Ok(())
}

/// Drops what is too old to be of use.
pub async fn drop_old(tx: &mut Tx, now: Timestamp) -> Result<(), StateError> {
    let sql = Sql::same("DELETE FROM tally WHERE hour_ms < $1");
    let before = now.checked_sub(KEPT).unwrap_or(Timestamp::MIN);
    tx.execute("drop old counts", &sql, binds![row::ms(before)]).await?;
    Ok(())
}
