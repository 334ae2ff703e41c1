//! What the segment's row held for those who are about to enter: sealed, and gone when the run is worked
//! through.

use std::collections::BTreeMap;

use model::{PlaybookName, ProfileNumber};

use crate::db::binds;
use crate::dialect::{Rows, Sql, each, page};
use crate::row;
use crate::{StateError, Tx};

/// Keeps rows for a run, at most 1,000 at a time; a repeat replaces.
pub async fn put(
    tx: &mut Tx,
    playbook: &PlaybookName,
    run_id: &str,
    rows: &[(ProfileNumber, Vec<u8>)],
) -> Result<(), StateError> {
    let mut values = Rows::new();
    for (number, sealed) in rows {
        values.row().integer(i64::from(number.0)).text(&row::base64(sealed));
    }
    const SQL: Sql = each!(
        "INSERT INTO entering (playbook, run_id, profile, sealed)
        SELECT $2, $3, CAST(each.value ->> 0 AS BIGINT), each.value ->> 1 FROM",
        "WHERE true ON CONFLICT (playbook, profile) DO UPDATE SET run_id = excluded.run_id, sealed = excluded.sealed"
    );
    tx.execute("keep rows of the entering", &SQL, binds![values.finish(), playbook.as_str(), run_id]).await?;
    Ok(())
}

/// The rows of these people. They stay until [`clear`], so this may be asked in a reading transaction.
pub async fn take(
    tx: &mut Tx,
    playbook: &PlaybookName,
    numbers: &[ProfileNumber],
) -> Result<BTreeMap<ProfileNumber, Vec<u8>>, StateError> {
    const SQL: Sql = page!(
        "profile, sealed",
        "SELECT entering.profile AS profile, entering.sealed AS sealed FROM",
        each,
        "CROSS JOIN entering WHERE entering.playbook = $2 AND entering.profile = CAST(each.value ->> 0 AS BIGINT)"
    );
    let found: Vec<(u32, String)> =
        tx.page("read rows of the entering", &SQL, binds![row::numbers(numbers), playbook.as_str()]).await?;
    found
        .into_iter()
        .map(|(number, sealed)| Ok((ProfileNumber(number), row::from_base64(&sealed, "a sealed entry")?)))
        .collect()
}

/// Forgets all rows of a playbook.
pub async fn clear(tx: &mut Tx, playbook: &PlaybookName) -> Result<(), StateError> {
    let sql = Sql::same("DELETE FROM entering WHERE playbook = $1");
    tx.execute("forget rows of the entering", &sql, binds![playbook.as_str()]).await?;
    Ok(())
}
