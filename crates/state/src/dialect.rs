//! The devices in which the two databases differ, each with both texts side by side. Everything else is one
//! text.
//!
//! | device | SQLite | Postgres |
//! |---|---|---|
//! | [`each!`]: many rows in, as one JSON array of arrays, `$1` | `jsonb_each` | `jsonb_array_elements` |
//! | [`page!`]: many rows out, aggregated into one JSON text | `json_group_array` | `json_agg` |
//! | [`page_locked!`]: the same, and the rows are ours until the end | one writer: nothing | `FOR UPDATE`, `SKIP LOCKED` |
//! | [`LOCK_PROFILES`], [`LOCK_ADDRESSES`]: nothing about them changes | one writer: nothing | row and advisory locks |
//! | [`LEASE_NOW_POSTGRES`]: lease time | monotonic, of the process | `clock_timestamp()` |
//!
//! Rows through one JSON text cost SQLite a fifth more than the bare library does, where a row at a time
//! through sqlx costs ten times as much; and the same text then serves Postgres.

/// One statement for both databases.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sql {
    pub(crate) sqlite: &'static str,
    pub(crate) postgres: &'static str,
}

impl Sql {
    /// A statement that both understand.
    pub(crate) const fn same(text: &'static str) -> Self {
        Self { sqlite: text, postgres: text }
    }
}

/// A statement over the rows of `$1`, between two pieces of text; a column is `each.value ->> 0`, and a
/// `CAST` where it is no text.
///
/// `OFFSET 0` keeps SQLite from writing out a row's JSON anew for each of its columns. Joins with it are
/// `CROSS JOIN … WHERE`, by which SQLite begins with the rows that were given, whatever it believes about the
/// other table.
macro_rules! each {
    ($before:expr, $after:expr) => {
        $crate::dialect::Sql {
            sqlite: concat!(
                $before,
                " (SELECT value FROM jsonb_each($1) LIMIT -1 OFFSET 0) AS each ",
                $after
            ),
            postgres: concat!(
                $before,
                " (SELECT value FROM jsonb_array_elements(CAST($1 AS jsonb))) AS each ",
                $after
            ),
        }
    };
}

/// Selects columns as one JSON text: an array of arrays. The inner select must name the columns so; it may be
/// split around `each`.
macro_rules! page {
    ($columns:expr, $inner:expr) => {
        $crate::dialect::Sql {
            sqlite: concat!(
                "SELECT json_group_array(json_array(",
                $columns,
                ")) FROM (",
                $inner,
                ") AS page"
            ),
            postgres: concat!(
                "SELECT CAST(COALESCE(json_agg(json_build_array(",
                $columns,
                ")), '[]') AS TEXT) FROM (",
                $inner,
                ") AS page"
            ),
        }
    };
    ($columns:expr, $before:expr, each, $after:expr) => {
        $crate::dialect::page_locked!($columns, $before, each, $after, "")
    };
}

/// As [`page!`], with the clause by which Postgres locks the rows; SQLite has one writer and needs none.
macro_rules! page_locked {
    ($columns:expr, $inner:expr, $lock:expr) => {
        $crate::dialect::Sql {
            sqlite: concat!(
                "SELECT json_group_array(json_array(",
                $columns,
                ")) FROM (",
                $inner,
                ") AS page"
            ),
            postgres: concat!(
                "SELECT CAST(COALESCE(json_agg(json_build_array(",
                $columns,
                ")), '[]') AS TEXT) FROM (",
                $inner,
                " ",
                $lock,
                ") AS page"
            ),
        }
    };
    ($columns:expr, $before:expr, each, $after:expr, $lock:expr) => {
        $crate::dialect::Sql {
            sqlite: concat!(
                "SELECT json_group_array(json_array(",
                $columns,
                ")) FROM (",
                $before,
                " (SELECT value FROM jsonb_each($1) LIMIT -1 OFFSET 0) AS each ",
                $after,
                ") AS page"
            ),
            postgres: concat!(
                "SELECT CAST(COALESCE(json_agg(json_build_array(",
                $columns,
                ")), '[]') AS TEXT) FROM (",
                $before,
                " (SELECT value FROM jsonb_array_elements(CAST($1 AS jsonb))) AS each ",
                $after,
                " ",
                $lock,
                ") AS page"
            ),
        }
    };
}

pub(crate) use {each, page, page_locked};

/// Locks the rows of people; `$1` is a list of numbers in [`each!`]'s form. Only Postgres needs it.
pub(crate) const LOCK_PROFILES: Sql = Sql::same(
    "SELECT 1 FROM profile WHERE number IN (SELECT CAST(value ->> 0 AS BIGINT) FROM jsonb_array_elements(CAST($1 AS jsonb)))
    ORDER BY number FOR UPDATE",
);

/// Locks addresses, which have no row of their own, by their hash. Only Postgres needs it.
pub(crate) const LOCK_ADDRESSES: Sql = Sql::same(
    "SELECT pg_advisory_xact_lock(hashtextextended(address, 0)) FROM (
        SELECT value ->> 0 AS address FROM jsonb_array_elements(CAST($1 AS jsonb)) ORDER BY 1) AS addresses",
);

/// Lease time in Postgres, in milliseconds. In SQLite it is a monotonic reading of the process.
pub(crate) const LEASE_NOW_POSTGRES: &str = concat!("SELECT ", lease_now_postgres!());

macro_rules! lease_now_postgres {
    () => {
        "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"
    };
}
use lease_now_postgres;

/// The line of history that a server of Postgres is on. A role without privileges may ask.
pub(crate) const IDENTITY_POSTGRES: &str = "SELECT CAST(system_identifier AS TEXT) || '/' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)
    FROM pg_control_system()";

/// Takes the lock of node `$1` for the session, which ends with it. Only Postgres needs it, as the three below.
pub(crate) const NODE_LOCK: &str =
    "SELECT pg_advisory_lock(hashtext('drumbeat.' || current_schema()), CAST($1 AS INTEGER))";

/// Node `$1` was seen now.
pub(crate) const NODE_SEEN: &str =
    concat!("UPDATE node SET seen_at = ", lease_now_postgres!(), " WHERE number = $1");

/// Waits for others who bury nodes, until the transaction ends.
pub(crate) const BURY_LOCK: Sql = Sql::same(
    "SELECT 1 FROM pg_advisory_xact_lock(hashtextextended('drumbeat.bury.' || current_schema(), 0))",
);

/// Waits for others who seal, until the transaction ends.
pub(crate) const SEAL_LOCK: Sql = Sql::same(
    "SELECT 1 FROM pg_advisory_xact_lock(hashtextextended('drumbeat.seal.' || current_schema(), 0))",
);

/// The dead among the nodes other than `$1`: number, id, whether it died. In Postgres: whose lock is free, and who was not seen since
/// `$2` (lease time). In SQLite: all, for there is one node at a time.
pub(crate) const DEAD: Sql = Sql {
    sqlite: "SELECT number, id, TRUE FROM node WHERE number <> $1 AND $2 IS NOT NULL ORDER BY number",
    postgres: "SELECT number, id, died FROM (
            SELECT number, id, seen_at, NOT EXISTS (
                SELECT 1 FROM pg_locks
                WHERE locktype = 'advisory' AND objsubid = 2 AND granted AND CAST(objid AS BIGINT) = node.number
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                    AND CAST(classid AS BIGINT) = (CAST(hashtext('drumbeat.' || current_schema()) AS BIGINT) & 4294967295)
            ) AS died FROM node WHERE number <> $1
        ) AS others WHERE died OR seen_at < $2 ORDER BY number",
};

/// The rows of [`each!`], as JSON. Every value leaves a comma behind it, which the end of its row takes away.
#[derive(Debug)]
pub(crate) struct Rows {
    text: String,
}

impl Rows {
    pub(crate) fn new() -> Self {
        Self { text: "[".to_owned() }
    }

    /// Begins a row; it must get at least one value.
    pub(crate) fn row(&mut self) -> &mut Self {
        if self.text.len() > 1 {
            self.text.pop();
            self.text.push_str("],");
        }
        self.text.push('[');
        self
    }

    pub(crate) fn integer(&mut self, value: i64) -> &mut Self {
        use std::fmt::Write as _;
        write!(self.text, "{value},").ok();
        self
    }

    pub(crate) fn text(&mut self, value: &str) -> &mut Self {
        write_json_text(&mut self.text, value);
        self.text.push(',');
        self
    }

    /// A value that is JSON already; `->>` gives its text.
    pub(crate) fn json(&mut self, json: &str) -> &mut Self {
        self.text.push_str(json);
        self.text.push(',');
        self
    }

    pub(crate) fn maybe_json(&mut self, json: Option<&str>) -> &mut Self {
        match json {
            Some(json) => self.json(json),
            None => self.null(),
        }
    }

    pub(crate) fn maybe_integer(&mut self, value: Option<i64>) -> &mut Self {
        match value {
            Some(value) => self.integer(value),
            None => self.null(),
        }
    }

    pub(crate) fn maybe_text(&mut self, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(value),
            None => self.null(),
        }
    }

    fn null(&mut self) -> &mut Self {
        self.text.push_str("null,");
        self
    }

    pub(crate) fn finish(mut self) -> String {
        if self.text.len() > 1 {
            self.text.pop();
            self.text.push(']');
        }
        self.text.push(']');
        self.text
    }
}

/// Writes a text as RFC 8785 does. NUL, which Postgres cannot hold, becomes U+FFFD.
pub(crate) fn write_json_text(out: &mut String, text: &str) {
    use std::fmt::Write as _;
    out.push('"');
    let mut plain_from = 0;
    // A plain loop over bytes: builds without optimisation run it a hundred million times on first use.
    let bytes = text.as_bytes();
    let mut next = 0;
    while next < bytes.len() {
        let (at, byte) = (next, bytes[next]);
        next += 1;
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.push_str(&text[plain_from..at]);
        plain_from = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x08 => out.push_str("\\b"),
            0x0c => out.push_str("\\f"),
            0 => out.push('\u{fffd}'),
            other => {
                write!(out, "\\u{other:04x}").ok();
            }
        }
    }
    out.push_str(&text[plain_from..]);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_rows_are_an_empty_array() {
        assert_eq!(Rows::new().finish(), "[]");
    }

    /// A row as it is read: text, integer, and some that may be missing.
    type Row = (String, i64, Option<i64>, Option<String>, String);

    /// Texts with whatever may need escaping; but for NUL, which is not kept.
    fn texts() -> impl Strategy<Value = String> {
        prop_oneof!["\\PC*", "[a-é]{0,5}[\\x01-\\x1f\"\\\\,\\[].{0,5}"]
            .prop_map(|text| text.replace('\0', ""))
    }

    proptest! {
        #[test]
        fn rows_read_back_as_they_were(
            rows in proptest::collection::vec((any::<i64>(), texts(), any::<Option<i64>>()), 0..5)
        ) {
            let mut written = Rows::new();
            for (integer, text, maybe) in &rows {
                written.row().text(text).integer(*integer).maybe_integer(*maybe).maybe_text(None).maybe_text(Some(text));
            }
            let read: Vec<Row> = serde_json::from_str(&written.finish()).unwrap();
            let expected: Vec<Row> =
                rows.iter().map(|(integer, text, maybe)| (text.clone(), *integer, *maybe, None, text.clone())).collect();
            prop_assert_eq!(read, expected);
        }
    }
}
