//! Single values of the project, such as `last_tick_ms`.

use crate::db::binds;
use crate::dialect::Sql;
use crate::{StateError, Tx};

/// A value, if it was ever set.
pub async fn get(tx: &mut Tx, key: &str) -> Result<Option<String>, StateError> {
    let sql = Sql::same("SELECT value FROM meta WHERE key = $1");
    let rows: Vec<(String,)> = tx.rows("read a value", &sql, binds![key]).await?;
    Ok(rows.into_iter().next().map(|(value,)| value))
}

/// Sets a value.
pub async fn set(tx: &mut Tx, key: &str, value: &str) -> Result<(), StateError> {
    let sql = Sql::same(
        "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    );
    tx.execute("keep a value", &sql, binds![key, value]).await?;
    Ok(())
}

/// Removes a value, if there is one.
pub async fn remove(tx: &mut Tx, key: &str) -> Result<(), StateError> {
    tx.execute("remove a value", &Sql::same("DELETE FROM meta WHERE key = $1"), binds![key]).await?;
    Ok(())
}
