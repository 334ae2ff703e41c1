//! The devices in which the two databases differ, each with both texts side by side. Everything else is one text.
//!
//! | device | SQLite | Postgres |
//! |---|---|---|
//! | [`each!`]: many rows in, as one JSON array of arrays, `$1` | `json_each` | `jsonb_array_elements` |
//! | [`page!`]: many rows out, aggregated into one JSON text | `json_group_array` | `json_agg` |
//! | [`page_locked!`]: the same, and the rows are ours until the end | one writer: nothing | `FOR UPDATE`, `SKIP LOCKED` |
//!
//! Rows through one JSON text cost SQLite a fifth more than the bare library does, where a row at a time through sqlx costs
//! ten times as much; and the same text then serves Postgres.

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

/// A statement over the rows of `$1`, between two pieces of text; a column is `each.value ->> 0`, and a `CAST` where it is no text.
macro_rules! each {
    ($before:expr, $after:expr) => {
        $crate::dialect::Sql {
            sqlite: concat!($before, " (SELECT value FROM json_each($1)) AS each ", $after),
            postgres: concat!($before, " (SELECT value FROM jsonb_array_elements(CAST($1 AS jsonb))) AS each ", $after),
        }
    };
}

/// Selects columns as one JSON text: an array of arrays. The inner select must name the columns so; it may be split around `each`.
macro_rules! page {
    ($columns:expr, $inner:expr) => {
        $crate::dialect::Sql {
            sqlite: concat!("SELECT json_group_array(json_array(", $columns, ")) FROM (", $inner, ") AS page"),
            postgres: concat!("SELECT CAST(COALESCE(json_agg(json_build_array(", $columns, ")), '[]') AS TEXT) FROM (", $inner, ") AS page"),
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
            sqlite: concat!("SELECT json_group_array(json_array(", $columns, ")) FROM (", $inner, ") AS page"),
            postgres: concat!(
                "SELECT CAST(COALESCE(json_agg(json_build_array(", $columns, ")), '[]') AS TEXT) FROM (", $inner, " ", $lock, ") AS page"
            ),
        }
    };
    ($columns:expr, $before:expr, each, $after:expr, $lock:expr) => {
        $crate::dialect::Sql {
            sqlite: concat!(
                "SELECT json_group_array(json_array(", $columns, ")) FROM (", $before, " (SELECT value FROM json_each($1)) AS each ", $after, ") AS page"
            ),
            postgres: concat!(
                "SELECT CAST(COALESCE(json_agg(json_build_array(", $columns, ")), '[]') AS TEXT) FROM (",
                $before, " (SELECT value FROM jsonb_array_elements(CAST($1 AS jsonb))) AS each ", $after, " ", $lock, ") AS page"
            ),
        }
    };
}

pub(crate) use {each, page, page_locked};

/// Lease time in Postgres, in milliseconds. In SQLite it is a monotonic reading of the process.
pub(crate) const LEASE_NOW_POSTGRES: &str = "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)";

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
    for (at, byte) in text.bytes().enumerate() {
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

    proptest! {
        #[test]
        fn rows_read_back_as_they_were(rows in proptest::collection::vec((any::<i64>(), "\\PC*|.{0,5}[\\x01-\\x1f\"\\\\,\\[].{0,5}", any::<Option<i64>>()), 0..5)) {
            let mut written = Rows::new();
            for (integer, text, maybe) in &rows {
                written.row().text(text).integer(*integer).maybe_integer(*maybe).maybe_text(None).maybe_text(Some(text));
            }
            let read: Vec<(String, i64, Option<i64>, Option<String>, String)> = serde_json::from_str(&written.finish()).unwrap();
            let expected: Vec<_> = rows.iter().map(|(integer, text, maybe)| (text.clone(), *integer, *maybe, None, text.clone())).collect();
            prop_assert_eq!(read, expected);
        }
    }
}
