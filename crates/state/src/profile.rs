//! People's numbers: the only place where the warehouse's ids are kept. Numbers are dense from 1 and never
//! reused.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::ProfileNumber;

use crate::db::binds;
use crate::dialect::{Rows, Sql, each, page};
use crate::journal::Line;
use crate::row;
use crate::{Keys, StateError, Tx};

/// The numbers of these ids, in the same order, made where there were none; at most 1,000 at a time.
///
/// `None`: the person was erased, and does not come back by being in the warehouse again. An id that holds a
/// NUL, which Postgres cannot keep, has no number either.
pub async fn intern(
    tx: &mut Tx,
    keys: &Keys,
    ids: &[String],
) -> Result<Vec<Option<ProfileNumber>>, StateError> {
    let mut numbers = numbers_of(tx, ids).await?;
    if numbers.iter().all(Option::is_some) {
        return Ok(numbers);
    }
    // The counter's row is locked before looking again: another transaction may have just made some of them.
    let lock = Sql::same("UPDATE counter SET value = value WHERE name = 'profile'");
    tx.execute("lock the counter of profiles", &lock, vec![]).await?;
    let missing: Vec<String> = missing(ids, &numbers);
    let erased = erased(tx, keys, &missing).await?;
    let found = numbers_of(tx, &missing).await?;
    let new: Vec<&String> = missing
        .iter()
        .zip(&found)
        .filter(|(id, found)| found.is_none() && !erased.contains(id))
        .map(|(id, _)| id)
        .collect();
    let first = next_numbers(tx, new.len()).await?;
    let mut rows = Rows::new();
    let mut made: BTreeMap<&str, ProfileNumber> = BTreeMap::new();
    for (number, id) in (first..).zip(new) {
        rows.row().integer(i64::from(number)).text(id);
        made.insert(id, ProfileNumber(number));
    }
    const INSERT: Sql = each!(
        "INSERT INTO profile (number, id) SELECT CAST(each.value ->> 0 AS BIGINT), each.value ->> 1 FROM",
        ""
    );
    tx.execute("number profiles", &INSERT, binds![rows.finish()]).await?;
    made.extend(missing.iter().zip(found).filter_map(|(id, found)| Some((id.as_str(), found?))));
    for (number, id) in numbers.iter_mut().zip(ids) {
        *number = number.or_else(|| made.get(id.as_str()).copied());
    }
    Ok(numbers)
}

/// The ids without a number, each once.
fn missing(ids: &[String], numbers: &[Option<ProfileNumber>]) -> Vec<String> {
    let mut missing: Vec<(usize, &String)> = ids
        .iter()
        .zip(numbers)
        .enumerate()
        .filter(|(_, (id, number))| number.is_none() && is_kept(id))
        .map(|(place, (id, _))| (place, id))
        .collect();
    missing.sort_by_key(|(place, id)| (*id, *place));
    missing.dedup_by_key(|(_, id)| *id);
    // In the order they came, so that neighbours in the warehouse are neighbours here.
    missing.sort_by_key(|(place, _)| *place);
    missing.into_iter().map(|(_, id)| id.clone()).collect()
}

fn is_kept(id: &str) -> bool {
    !id.contains('\0')
}

async fn next_numbers(tx: &mut Tx, many: usize) -> Result<u32, StateError> {
    let many = i64::try_from(many).unwrap_or(i64::MAX);
    let sql = Sql::same("UPDATE counter SET value = value + $1 WHERE name = 'profile' RETURNING value");
    let values: Vec<(i64,)> = tx.rows("count profiles", &sql, binds![many]).await?;
    let last = values.first().map_or(0, |(value,)| *value);
    u32::try_from(last - many + 1)
        .ok()
        .filter(|_| u32::try_from(last).is_ok())
        .ok_or(StateError::Broken { what: "more profiles than numbers" })
}

async fn erased(tx: &mut Tx, keys: &Keys, ids: &[String]) -> Result<Vec<String>, StateError> {
    let any: Vec<(i64,)> =
        tx.rows("look for erased profiles", &Sql::same("SELECT COUNT(*) FROM erased"), vec![]).await?;
    if any == [(0,)] {
        return Ok(Vec::new());
    }
    let mut rows = Rows::new();
    for (place, id) in (0..).zip(ids) {
        rows.row().integer(place).text(&keys.id_hash(id));
    }
    const SQL: Sql = page!(
        "place",
        "SELECT CAST(each.value ->> 0 AS BIGINT) AS place FROM",
        each,
        "CROSS JOIN erased WHERE erased.id_hash = each.value ->> 1"
    );
    let places: Vec<(usize,)> = tx.page("look for erased profiles", &SQL, binds![rows.finish()]).await?;
    Ok(places.into_iter().filter_map(|(place,)| ids.get(place).cloned()).collect())
}

/// The numbers of these ids, in the same order; `None` where there is none.
pub async fn numbers_of(tx: &mut Tx, ids: &[String]) -> Result<Vec<Option<ProfileNumber>>, StateError> {
    let mut numbers = vec![None; ids.len()];
    let mut rows = Rows::new();
    for (place, id) in (0..).zip(ids).filter(|(_, id)| is_kept(id)) {
        rows.row().integer(place).text(id);
    }
    const SQL: Sql = page!(
        "place, number",
        "SELECT CAST(each.value ->> 0 AS BIGINT) AS place, profile.number AS number FROM",
        each,
        "CROSS JOIN profile WHERE profile.id = each.value ->> 1"
    );
    let found: Vec<(usize, u32)> = tx.page("look up profiles", &SQL, binds![rows.finish()]).await?;
    for (place, number) in found {
        if let Some(slot) = numbers.get_mut(place) {
            *slot = Some(ProfileNumber(number));
        }
    }
    Ok(numbers)
}

/// The ids of these numbers; an erased person has none.
pub async fn ids_of(
    tx: &mut Tx,
    numbers: &[ProfileNumber],
) -> Result<BTreeMap<ProfileNumber, String>, StateError> {
    const SQL: Sql = page!(
        "number, id",
        "SELECT profile.number AS number, profile.id AS id FROM",
        each,
        "CROSS JOIN profile WHERE profile.number = CAST(each.value ->> 0 AS BIGINT)"
    );
    let found: Vec<(u32, String)> =
        tx.page("look up profiles' ids", &SQL, binds![row::numbers(numbers)]).await?;
    Ok(found.into_iter().map(|(number, id)| (ProfileNumber(number), id)).collect())
}

/// How many people are known.
pub async fn count(tx: &mut Tx) -> Result<u64, StateError> {
    let rows: Vec<(i64,)> =
        tx.rows("count profiles", &Sql::same("SELECT COUNT(*) FROM profile"), vec![]).await?;
    Ok(rows.first().map_or(0, |(count,)| row::count(*count)))
}

/// The last number that was given to anybody.
pub async fn last_number(tx: &mut Tx) -> Result<ProfileNumber, StateError> {
    let sql = Sql::same("SELECT value FROM counter WHERE name = 'profile'");
    let rows: Vec<(i64,)> = tx.rows("read the counter of profiles", &sql, vec![]).await?;
    row::number(rows.first().map_or(0, |(value,)| *value))
}

/// Gives nobody a number up to this one any more: somebody had it whom this state has forgotten.
pub async fn skip_to(tx: &mut Tx, number: ProfileNumber) -> Result<(), StateError> {
    let sql = Sql::same("UPDATE counter SET value = $1 WHERE name = 'profile' AND value < $1");
    tx.execute("skip numbers", &sql, binds![i64::from(number.0)]).await?;
    Ok(())
}

/// Remembers that somebody with this hash was erased; `false`: that is known.
pub async fn remember_erased(tx: &mut Tx, id_hash: &str, at: Timestamp) -> Result<bool, StateError> {
    let sql = Sql::same(
        "INSERT INTO erased (id_hash, erased_at_ms) VALUES ($1, $2) ON CONFLICT (id_hash) DO NOTHING",
    );
    Ok(tx.execute("erase a profile", &sql, binds![id_hash, row::ms(at)]).await? > 0)
}

/// Forgets a person's id for good; a keyed hash of it stays, so that a later refresh does not bring the
/// person back. `false`: nobody has that number. Suppressing what is left, and what else is to go, is the
/// caller's.
pub async fn erase(
    tx: &mut Tx,
    keys: &Keys,
    number: ProfileNumber,
    now: Timestamp,
) -> Result<bool, StateError> {
    let Some(id) = ids_of(tx, &[number]).await?.remove(&number) else { return Ok(false) };
    remember_erased(tx, &keys.id_hash(&id), now).await?;
    tx.journal(Line::Erased { id_hash: keys.id_hash(&id), at_ms: row::ms(now) });
    let sql = Sql::same("DELETE FROM profile WHERE number = $1");
    tx.execute("erase a profile", &sql, binds![i64::from(number.0)]).await?;
    crate::record::erase(tx, number).await?;
    Ok(true)
}
