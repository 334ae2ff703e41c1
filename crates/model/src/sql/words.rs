//! Words and calls that a query must not hold: those that write, that read the database's clock, that draw, that do.
//!
//! A list, and so never complete: the database's own read-only mode is what holds; this says it early and well.

use super::token::{Kind, Token};
use super::{ONE_SELECT, SqlMistake, mistake};

/// Commands that are not queries, for a message that says so.
const COMMANDS: &[&str] = &[
    "alter",
    "analyze",
    "attach",
    "begin",
    "call",
    "checkpoint",
    "cluster",
    "comment",
    "commit",
    "copy",
    "create",
    "deallocate",
    "declare",
    "delete",
    "detach",
    "discard",
    "do",
    "drop",
    "end",
    "execute",
    "explain",
    "fetch",
    "grant",
    "import",
    "insert",
    "listen",
    "load",
    "lock",
    "merge",
    "notify",
    "pragma",
    "prepare",
    "reassign",
    "refresh",
    "reindex",
    "release",
    "replace",
    "reset",
    "revoke",
    "rollback",
    "savepoint",
    "security",
    "set",
    "show",
    "start",
    "truncate",
    "unlisten",
    "update",
    "vacuum",
];

/// Commands that may stand within a query: in a `WITH`, or after it.
const EMBEDDED: &[&str] = &["insert", "update", "delete", "merge", "replace"];

/// Words after which the one before was a name and no command.
const AFTER_A_NAME: &[&str] = &[
    "and",
    "or",
    "not",
    "is",
    "in",
    "like",
    "ilike",
    "glob",
    "between",
    "as",
    "asc",
    "desc",
    "from",
    "where",
    "group",
    "order",
    "having",
    "join",
    "left",
    "right",
    "full",
    "inner",
    "cross",
    "natural",
    "on",
    "using",
    "union",
    "except",
    "intersect",
    "limit",
    "offset",
    "over",
    "collate",
    "then",
    "else",
    "end",
    "when",
    "nulls",
    "isnull",
    "notnull",
    "filter",
    "window",
];

/// Words that read the clock without parentheses.
const CLOCK_WORDS: &[&str] =
    &["current_timestamp", "current_date", "current_time", "localtime", "localtimestamp"];

/// Functions that read the clock, whatever their arguments.
const CLOCK_CALLS: &[&str] = &[
    "now",
    "clock_timestamp",
    "statement_timestamp",
    "transaction_timestamp",
    "timeofday",
    "getdate",
    "getutcdate",
    "sysdate",
    "sysdatetime",
    "utc_timestamp",
    "utc_date",
    "curdate",
    "curtime",
    "unix_timestamp",
    "pg_postmaster_start_time",
];

/// SQLite's functions on times: they read the clock when no time is given, and when it is `'now'`.
pub const TIME_CALLS: &[&str] =
    &["date", "time", "datetime", "julianday", "unixepoch", "strftime", "timediff"];

/// Types whose literal or cast may be `'now'` or `'today'` in Postgres.
const TIME_TYPES: &[&str] = &["date", "time", "timestamp", "timestamptz", "timetz", "zone"];

/// Functions that answer otherwise each time.
const DRAWING_CALLS: &[&str] = &[
    "random",
    "randomblob",
    "random_normal",
    "setseed",
    "gen_random_uuid",
    "gen_random_bytes",
    "uuid_generate_v1",
    "uuid_generate_v1mc",
    "uuid_generate_v4",
    "uuidv4",
    "uuidv7",
    "rand",
    "newid",
];

/// Functions that do something, or reach out of the database.
const DOING_CALLS: &[&str] = &[
    "changes",
    "currval",
    "fts3_tokenizer",
    "last_insert_rowid",
    "lastval",
    "load_extension",
    "lo_creat",
    "lo_create",
    "lo_export",
    "lo_from_bytea",
    "lo_import",
    "lo_open",
    "lo_put",
    "lo_truncate",
    "lo_unlink",
    "lowrite",
    "nextval",
    "pg_cancel_backend",
    "pg_current_xact_id",
    "pg_file_write",
    "pg_ls_dir",
    "pg_notify",
    "pg_promote",
    "pg_read_binary_file",
    "pg_read_file",
    "pg_reload_conf",
    "pg_rotate_logfile",
    "pg_switch_wal",
    "pg_terminate_backend",
    "query_to_xml",
    "readfile",
    "set_config",
    "setval",
    "total_changes",
    "txid_current",
    "writefile",
];

/// Beginnings of the names of such functions.
const DOING_PREFIXES: &[&str] = &[
    "dblink",
    "pg_advisory_",
    "pg_try_advisory_",
    "pg_sleep",
    "pg_create_",
    "pg_drop_",
    "pg_logical_",
    "pg_stat_reset",
];

/// What to write in the place of a clock.
pub const CLOCK_HINT: &str = "a run that cannot be repeated cannot be audited: use `:now` or `:today`, or `:now_minus_14d`, `:today_plus_3d`";

pub(super) fn is_command(word: &str) -> bool {
    has(COMMANDS, word)
}

fn has(words: &[&str], word: &str) -> bool {
    words.iter().any(|known| known.eq_ignore_ascii_case(word))
}

/// All mistakes in the words of a query.
pub(super) fn mistakes(sql: &str, tokens: &[Token]) -> Vec<SqlMistake> {
    let view = View { sql, tokens };
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Word => {
                found.extend(view.writing(at).or_else(|| view.clock_word(at)).or_else(|| view.call(at)));
            }
            // SQLite takes a word in double quotes for a text where no column is called so.
            Kind::QuotedName => found.extend(view.call(at).or_else(|| view.clock_text(at))),
            Kind::Text => found.extend(view.clock_text(at)),
            _ => {}
        }
    }
    found
}

struct View<'a> {
    sql: &'a str,
    tokens: &'a [Token],
}

impl View<'_> {
    /// The token `offset` places from `at`, as text; empty where there is none.
    fn near(&self, at: usize, offset: isize) -> &str {
        at.checked_add_signed(offset)
            .and_then(|at| self.tokens.get(at))
            .map_or("", |token| token.text(self.sql))
    }

    fn near_kind(&self, at: usize, offset: isize) -> Option<Kind> {
        at.checked_add_signed(offset).and_then(|at| self.tokens.get(at)).map(|token| token.kind)
    }

    fn near_is(&self, at: usize, offset: isize, word: &str) -> bool {
        self.near_kind(at, offset) == Some(Kind::Word) && self.near(at, offset).eq_ignore_ascii_case(word)
    }

    /// A word that writes: a command within a `WITH` or after it, `SELECT ... INTO`, `FOR UPDATE`.
    fn writing(&self, at: usize) -> Option<SqlMistake> {
        let (token, word) = (self.tokens[at], self.near(at, 0));
        let refuse =
            |message: String| Some(mistake(token, "sql.writes", message, Some(ONE_SELECT.to_owned())));
        let opens = at > 0 && matches!(self.near(at, -1), "(" | ")");
        let names = matches!(self.near_kind(at, 1), Some(Kind::Word | Kind::QuotedName));
        if has(EMBEDDED, word) && opens && names && !has(AFTER_A_NAME, self.near(at, 1)) {
            return refuse(format!("`{word}` writes"));
        }
        // `DELETE FROM` looks like the column `delete`, were it not for what it opens: `(delete from` ends no select.
        if word.eq_ignore_ascii_case("delete") && opens && self.near_is(at, 1, "from") {
            return refuse(format!("`{word}` writes"));
        }
        let follows_command =
            ["insert", "merge", "replace"].iter().any(|command| self.near_is(at, -1, command))
                || self.near_is(at, -2, "or");
        if word.eq_ignore_ascii_case("into")
            && !follows_command
            && !matches!(self.near(at, -1), "." | "")
            && self.near(at, 1) != "."
        {
            return refuse("`INTO` makes a table".to_owned());
        }
        if word.eq_ignore_ascii_case("for") {
            let next = ["update", "share", "no", "key"].iter().any(|lock| self.near_is(at, 1, lock));
            let is_length = self.near_kind(at, 2).is_some()
                && self.near(at, 2) == ")"
                && self.depth(at) > 0
                && self.is_in_call(at, "substring");
            if next && !is_length {
                return refuse(format!("`{word} {}` locks rows", self.near(at, 1)));
            }
        }
        None
    }

    /// `current_timestamp` and its like, unless they are the name of a column.
    fn clock_word(&self, at: usize) -> Option<SqlMistake> {
        let word = self.near(at, 0);
        let is_name = self.near(at, -1) == "." || self.near(at, 1) == "." || self.near_is(at, -1, "as");
        (has(CLOCK_WORDS, word) && !is_name).then(|| self.clock(at, word.to_owned()))
    }

    fn clock(&self, at: usize, what: String) -> SqlMistake {
        let message = format!("`{what}` reads the database's own clock");
        mistake(self.tokens[at], "sql.clock", message, Some(CLOCK_HINT.to_owned()))
    }

    /// `'localtime'` and `'utc'`, which move a time by the zone of whatever machine it is.
    fn machine_zone(&self, at: usize, text: &str) -> SqlMistake {
        let message = format!("`{text}` reads the time zone of the machine");
        let hint = "times are kept in UTC, and `:today` is the day in the project's time zone";
        mistake(self.tokens[at], "sql.clock", message, Some(hint.to_owned()))
    }

    /// A call of a function that reads the clock, draws, or does something.
    fn call(&self, at: usize) -> Option<SqlMistake> {
        if self.near(at, 1) != "("
            || (self.near(at, -1) == "." && !self.near(at, -2).eq_ignore_ascii_case("pg_catalog"))
        {
            return None;
        }
        let token = self.tokens[at];
        let name = self.near(at, 0).trim_matches(['"', '`', '[', ']']);
        if has(CLOCK_CALLS, name) {
            return Some(self.clock(at, format!("{name}()")));
        }
        let arguments = self.arguments(at + 1);
        let without_time = match name.to_ascii_lowercase().as_str() {
            "strftime" => arguments == 1,
            "date" | "time" | "datetime" | "julianday" | "unixepoch" => arguments == 0,
            "age" => arguments == 1,
            _ => false,
        };
        if without_time {
            let what =
                if arguments == 0 { format!("{name}()") } else { format!("{name}() with one argument") };
            return Some(self.clock(at, what));
        }
        if has(DRAWING_CALLS, name) {
            let message = format!("`{name}()` answers otherwise each time");
            let hint = "a run that cannot be repeated cannot be audited; holdouts and experiments are derived from a hash of the id";
            return Some(mistake(token, "sql.random", message, Some(hint.to_owned())));
        }
        let lower = name.to_ascii_lowercase();
        if has(DOING_CALLS, name) || DOING_PREFIXES.iter().any(|prefix| lower.starts_with(prefix)) {
            let message = format!("`{name}()` does more than read tables");
            return Some(mistake(token, "sql.side_effect", message, Some(ONE_SELECT.to_owned())));
        }
        None
    }

    /// How many arguments stand between the parenthesis at `open` and its end.
    fn arguments(&self, open: usize) -> usize {
        let (mut depth, mut commas, mut is_empty) = (0usize, 0, true);
        for at in open..self.tokens.len() {
            match self.near(at, 0) {
                "(" => depth += 1,
                ")" => depth -= 1,
                "," if depth == 1 => commas += 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
            is_empty &= at == open;
        }
        if is_empty { 0 } else { commas + 1 }
    }

    /// `'now'` where it is a time: an argument of a function on times, a cast, a typed literal, or compared by order.
    fn clock_text(&self, at: usize) -> Option<SqlMistake> {
        let text = self.near(at, 0);
        let inner = unquoted(text).trim().to_ascii_lowercase();
        let is_now = inner == "now";
        let words = ["now", "today", "tomorrow", "yesterday", "subsec", "subsecond", "localtime", "utc"];
        if !words.contains(&inner.as_str()) {
            return None;
        }
        let in_time_call = TIME_CALLS.iter().any(|name| self.is_in_call(at, name));
        if matches!(inner.as_str(), "localtime" | "utc") {
            // A modifier of SQLite's, and so never the first argument.
            let is_modifier = in_time_call && self.near(at, -1) == ",";
            return is_modifier.then(|| self.machine_zone(at, text));
        }
        if self.near_kind(at, 0) == Some(Kind::QuotedName) {
            // Compared or cast it is a column.
            return (is_now && in_time_call).then(|| self.clock(at, text.to_owned()));
        }
        let is_first = self.near(at, -1) == "(";
        if inner.starts_with("subsec") {
            return (in_time_call && is_first).then(|| self.clock(at, text.to_owned()));
        }
        // `'now'::date`, `('now'::text)::date`, `cast('now' as date)`.
        let is_cast_at = |offset: isize| {
            self.near_kind(at, offset) == Some(Kind::Cast) && has(TIME_TYPES, self.near(at, offset + 1))
        };
        let is_cast_twice =
            self.near_kind(at, 1) == Some(Kind::Cast) && self.near(at, 3) == ")" && is_cast_at(4);
        let is_cast =
            is_cast_at(1) || is_cast_twice || self.near_is(at, 1, "as") && has(TIME_TYPES, self.near(at, 2));
        let is_literal = self.near_kind(at, -1) == Some(Kind::Word) && has(TIME_TYPES, self.near(at, -1));
        let is_compared = matches!(self.near(at, -1), "<" | ">")
            || self.near(at, -1) == "=" && matches!(self.near(at, -2), "<" | ">")
            || self.near_is(at, -1, "between");
        let is_clock = is_cast || is_literal || is_now && (in_time_call || is_compared);
        is_clock.then(|| self.clock(at, text.to_owned()))
    }

    /// Whether the innermost open parenthesis around a token is that of a call of `name`.
    fn is_in_call(&self, at: usize, name: &str) -> bool {
        let mut depth = 0usize;
        for before in (0..at).rev() {
            match self.near(before, 0) {
                ")" => depth += 1,
                "(" if depth == 0 => {
                    let called = matches!(self.near_kind(before, -1), Some(Kind::Word | Kind::QuotedName));
                    return called && unquoted(self.near(before, -1)).eq_ignore_ascii_case(name);
                }
                "(" => depth -= 1,
                _ => {}
            }
        }
        false
    }

    /// How many parentheses are open before a token.
    fn depth(&self, at: usize) -> usize {
        let before = |mark: &str| (0..at).filter(|before| self.near(*before, 0) == mark).count();
        before("(").saturating_sub(before(")"))
    }
}

/// What stands between a text's or a name's quotes.
fn unquoted(token: &str) -> &str {
    let text = match token.strip_prefix(['e', 'E']) {
        Some(rest) if rest.starts_with('\'') => rest,
        _ => token,
    };
    text.trim_matches(['\'', '"', '`', '[', ']'])
}
