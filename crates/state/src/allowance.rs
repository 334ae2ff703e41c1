//! Allowances: how many messages were armed in an hour, of a playbook and of the project, and how many of the first of a version were taken in
//! hand. Held by who counts until that is committed, so that no two count the same one.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use model::PlaybookName;

use crate::db::binds;
use crate::dialect::{Rows, Sql, each, page, page_locked};
use crate::row;
use crate::{StateError, Tx};

/// Counts of hours are kept for so long.
const KEPT_MS: i64 = 48 * 3_600_000;

/// The first messages of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanaryRow {
    /// Whose.
    pub playbook: PlaybookName,
    /// How many they are.
    pub size: u64,
    /// Taken so far.
    pub sent: u64,
    /// When the last of them was taken.
    pub full_at: Option<Timestamp>,
}

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Armed in the hour, by scope.
    pub spent: BTreeMap<String, u64>,
    /// By version.
    pub canaries: BTreeMap<String, CanaryRow>,
}

type CanaryRead = (String, String, u64, u64, Option<i64>);

macro_rules! canary_columns {
    () => {
        "version, playbook, size, sent, full_at_ms"
    };
}

/// What was counted in an hour, and of all versions. Nobody is kept from counting on.
pub async fn read(tx: &mut Tx, hour: Timestamp) -> Result<Counts, StateError> {
    const SPENT: Sql = page!("scope, used", "SELECT scope, used FROM spent WHERE hour_ms = $1");
    const CANARIES: Sql = page!(canary_columns!(), concat!("SELECT ", canary_columns!(), " FROM canary"));
    let spent: Vec<(String, u64)> = tx.page("read what was spent", &SPENT, binds![row::ms(hour)]).await?;
    let canaries: Vec<CanaryRead> = tx.page("read canaries", &CANARIES, vec![]).await?;
    Ok(Counts { spent: spent.into_iter().collect(), canaries: canaries_of(canaries)? })
}

/// What was spent of these scopes, which nobody else counts until the transaction ends.
pub async fn hold(
    tx: &mut Tx,
    hour: Timestamp,
    scopes: &[String],
) -> Result<BTreeMap<String, u64>, StateError> {
    const BEGIN: Sql = each!(
        "INSERT INTO spent (hour_ms, scope, used) SELECT $2, each.value ->> 0, 0 FROM",
        "WHERE TRUE ON CONFLICT (hour_ms, scope) DO NOTHING"
    );
    const SPENT: Sql = page_locked!(
        "scope, used",
        "SELECT scope, used FROM",
        each,
        "CROSS JOIN spent WHERE spent.hour_ms = $2 AND spent.scope = each.value ->> 0 ORDER BY scope",
        "FOR UPDATE OF spent"
    );
    tx.execute("begin an hour", &BEGIN, binds![list(scopes), row::ms(hour)]).await?;
    let spent: Vec<(String, u64)> =
        tx.page("hold what was spent", &SPENT, binds![list(scopes), row::ms(hour)]).await?;
    Ok(spent.into_iter().collect())
}

/// The canaries of these versions, which nobody else counts until the transaction ends.
pub async fn hold_canaries(
    tx: &mut Tx,
    versions: &[String],
) -> Result<BTreeMap<String, CanaryRow>, StateError> {
    const CANARIES: Sql = page_locked!(
        canary_columns!(),
        concat!("SELECT ", canary_columns!(), " FROM"),
        each,
        "CROSS JOIN canary WHERE canary.version = each.value ->> 0 ORDER BY version",
        "FOR UPDATE OF canary"
    );
    canaries_of(tx.page("hold canaries", &CANARIES, binds![list(versions)]).await?)
}

/// Texts, each once, in order: so whoever locks them does.
fn list(texts: &[String]) -> String {
    let sorted: BTreeSet<&String> = texts.iter().collect();
    let mut rows = Rows::new();
    for text in sorted {
        rows.row().text(text);
    }
    rows.finish()
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Writes what was spent.
pub fn keep(tx: &mut Tx, hour: Timestamp, spent: &BTreeMap<String, u64>) {
    let mut rows = Rows::new();
    for (scope, used) in spent {
        rows.row().text(scope).integer(number(*used));
    }
    const SPEND: Sql = each!(
        "UPDATE spent SET used = CAST(each.value ->> 1 AS BIGINT) FROM",
        "WHERE spent.hour_ms = $2 AND spent.scope = each.value ->> 0"
    );
    tx.later("spend", &SPEND, binds![rows.finish(), row::ms(hour)]);
}

/// Writes canaries as they are now.
pub fn keep_canaries(tx: &mut Tx, canaries: &BTreeMap<String, CanaryRow>) {
    let mut rows = Rows::new();
    for (version, canary) in canaries {
        rows.row().text(version).integer(number(canary.sent)).maybe_integer(canary.full_at.map(row::ms));
    }
    const COUNT: Sql = each!(
        "UPDATE canary SET sent = CAST(each.value ->> 1 AS BIGINT), full_at_ms = CAST(each.value ->> 2 AS BIGINT) FROM",
        "WHERE canary.version = each.value ->> 0"
    );
    tx.later("count canaries", &COUNT, binds![rows.finish()]);
}

/// Begins a version's canary, unless it has one.
pub async fn begin(tx: &mut Tx, version: &str, playbook: &PlaybookName, size: u64) -> Result<(), StateError> {
    let sql = Sql::same(
        "INSERT INTO canary (version, playbook, size, sent) VALUES ($1, $2, $3, 0) ON CONFLICT (version) DO NOTHING",
    );
    tx.execute("begin a canary", &sql, binds![version, playbook.as_str(), number(size)]).await?;
    Ok(())
}

/// Forgets hours that are long over.
pub async fn forget(tx: &mut Tx, hour: Timestamp) -> Result<(), StateError> {
    let sql = Sql::same("DELETE FROM spent WHERE hour_ms < $1");
    tx.execute("forget what was spent", &sql, binds![row::ms(hour) - KEPT_MS]).await?;
    Ok(())
}

fn canaries_of(rows: Vec<CanaryRead>) -> Result<BTreeMap<String, CanaryRow>, StateError> {
    rows.into_iter()
        .map(|(version, playbook, size, sent, full_at)| {
            let full_at = row::maybe_time(full_at)?;
            Ok((version, CanaryRow { playbook: PlaybookName::known(playbook), size, sent, full_at }))
        })
        .collect()
}
