//! What the lexer takes for a mistake, and what it leaves alone.

use proptest::prelude::*;

use super::*;

fn codes(sql: &str) -> Vec<&'static str> {
    mistakes(sql).into_iter().map(|mistake| mistake.code).collect()
}

/// The text each mistake points at.
fn pointed(sql: &str) -> Vec<&str> {
    mistakes(sql).iter().map(|mistake| &sql[mistake.at..mistake.at + mistake.len]).collect()
}

#[test]
fn queries_that_only_read_are_right() {
    for sql in [
        "select id from customers",
        "SELECT id FROM customers;",
        "  -- who\nwith a as (select 1 as id) select * from a ; -- done",
        "select updated_at, \"update\", inserted, delete_flag from customers",
        "select replace(name, 'a', 'b') as id from t",
        "select 'insert into x; delete from y', '-- ?', $$ now() $1 ; $$ from t",
        "select id from t where seen < :now_minus_14d and day >= :today and x::date < :now::date",
        "select max(call) as id, (copy + 1), count(update) from t where (merge and x)",
        "select id from t where plan = 'now' or status in ('today', 'later')",
        "select date(seen), datetime(seen, '-1 day'), strftime('%Y', seen), unixepoch(seen) from t",
        "select age(a, b), t.localtime, e.now from t, e",
        "select data ? 'key', data ?| array['a'], data @? '$.a', tags[1], tags[1:2], tags[1:n] from t",
        "select /* outer /* inner */ current_date */ id from t",
        "select E'it\\'s now()' as id, substring(name from 1 for 3) from t",
        "select [current_timestamp], `now`, \"select\" from [order table]",
        "select id from t where x is not null order by id limit 10",
        "select own.now() from t",
        "select id from t where zone in ('utc', 'localtime') and date(seen) = :today",
        "select 'now'::text as word from t",
        "select a <-> b, a || b, a ->> 'x', 1e10, .5 from t",
    ] {
        assert_eq!(mistakes(sql), vec![], "{sql}");
    }
}

#[test]
fn a_query_is_one_select() {
    for (sql, code, at) in [
        ("", "sql.empty", ""),
        (" -- nothing\n", "sql.empty", " -- nothing\n"),
        ("values (1)", "sql.statement", "values"),
        ("(select 1)", "sql.statement", "("),
        ("select 1; select 2", "sql.statement", "select"),
        ("select 1;; drop table t", "sql.statement", "drop"),
        ("update t set a = 1", "sql.writes", "update"),
        ("Drop Table t", "sql.writes", "Drop"),
        ("pragma table_info(t)", "sql.writes", "pragma"),
        ("explain select 1", "sql.writes", "explain"),
        ("copy t to stdout", "sql.writes", "copy"),
        ("with x as (insert into t values (1) returning id) select id from x", "sql.writes", "insert"),
        ("with x as (select 1) delete from t", "sql.writes", "delete"),
        ("with x as (DELETE from only t returning id) select * from x", "sql.writes", "DELETE"),
        ("with x as (update t set a = 1 returning id) select * from x", "sql.writes", "update"),
        ("select id into other from t", "sql.writes", "into"),
        ("select id from t for update", "sql.writes", "for"),
        ("select id from t FOR NO KEY UPDATE skip locked", "sql.writes", "FOR"),
        ("select id from t for share", "sql.writes", "for"),
    ] {
        assert_eq!((codes(sql), pointed(sql)), (vec![code], vec![at]), "{sql}");
    }
}

#[test]
fn the_clock_of_the_database_is_not_read() {
    for (sql, at) in [
        ("select now() as id", "now"),
        ("select \"now\"() as id", "\"now\""),
        ("select pg_catalog.now() as id", "now"),
        ("select NOW ( ) - interval '1 day'", "NOW"),
        ("select CURRENT_TIMESTAMP(3)", "CURRENT_TIMESTAMP"),
        ("select current_date - 7", "current_date"),
        ("select current_time", "current_time"),
        ("select localtimestamp", "localtimestamp"),
        ("select clock_timestamp()", "clock_timestamp"),
        ("select \"date\"('now')", "'now'"),
        ("select [date]('now')", "'now'"),
        ("select `date`('now')", "'now'"),
        ("select date(\"now\")", "\"now\""),
        ("select statement_timestamp(), 1", "statement_timestamp"),
        ("select getdate()", "getdate"),
        ("select datetime('now', '-1 day')", "'now'"),
        ("select strftime('%s', 'NOW')", "'NOW'"),
        ("select julianday('now') - julianday(seen)", "'now'"),
        ("select unixepoch('subsec')", "'subsec'"),
        ("select datetime()", "datetime"),
        ("select strftime('%s')", "strftime"),
        ("select unixepoch( ) from t", "unixepoch"),
        ("select age(seen) from t", "age"),
        ("select 'now'::timestamptz", "'now'"),
        ("select timestamp 'now'", "'now'"),
        ("select timestamp with time zone 'today'", "'today'"),
        ("select cast('now' as timestamp)", "'now'"),
        ("select date 'yesterday'", "'yesterday'"),
        ("select ('now'::text)::date", "'now'"),
        ("select date(:now, 'LocalTime')", "'LocalTime'"),
        ("select datetime(seen, '+1 day', 'utc') from t", "'utc'"),
        ("select id from t where seen < 'now'", "'now'"),
    ] {
        assert_eq!((codes(sql), pointed(sql)), (vec!["sql.clock"], vec![at]), "{sql}");
    }
}

#[test]
fn drawing_and_doing_are_refused() {
    for (sql, code) in [
        ("select random() as id", "sql.random"),
        ("select id from t order by RANDOM()", "sql.random"),
        ("select gen_random_uuid()", "sql.random"),
        ("select pg_sleep(10)", "sql.side_effect"),
        ("select nextval('s')", "sql.side_effect"),
        ("select lo_unlink(1)", "sql.side_effect"),
        ("select pg_terminate_backend(1)", "sql.side_effect"),
        ("select * from dblink('x', 'y')", "sql.side_effect"),
        ("select load_extension('x')", "sql.side_effect"),
        ("select set_config('a', 'b', false)", "sql.side_effect"),
        ("select writefile('a', 'b')", "sql.side_effect"),
        ("select pg_advisory_lock(1)", "sql.side_effect"),
    ] {
        assert_eq!(codes(sql), vec![code], "{sql}");
    }
}

#[test]
fn unknown_parameters_come_with_what_was_meant() {
    for (sql, hint) in [
        ("select :nwo", "did you mean `:now`?"),
        ("select :NOW", "did you mean `:now`?"),
        ("select :todays", "did you mean `:today`?"),
        ("select :now_minus_14", "did you mean `:now_minus_14d`?"),
        ("select :now_minus_2weeks", "did you mean `:now_minus_2w`?"),
        ("select :now_munis_3h", "did you mean `:now_minus_3h`?"),
        ("select :now-14d", "write `:now_minus_14d`"),
    ] {
        let found = mistakes(sql);
        assert_eq!(found.len(), 1, "{sql}");
        assert_eq!((found[0].code, found[0].hint.as_deref()), ("sql.parameter", Some(hint)), "{sql}");
    }
    assert_eq!(codes("select :customer_id"), vec!["sql.parameter"]);
    assert_eq!(
        codes("select ? , ?1, $1, @x, $name, :1"),
        [vec!["sql.placeholder"; 5], vec!["sql.parameter"]].concat()
    );
    assert_eq!(codes("select 1 where a = ? and b between ? and ?"), vec!["sql.placeholder"; 3]);
}

#[test]
fn what_has_no_end_is_pointed_at_where_it_begins() {
    for (sql, at) in [
        ("select 'it", "'"),
        ("select \"it", "\""),
        ("select 1 /* it", "/*"),
        ("select $a$ it $b$", "$"),
        ("select 'it''", "'"),
    ] {
        assert_eq!((codes(sql), pointed(sql)), (vec!["sql.unterminated"], vec![at]), "{sql}");
    }
}

#[test]
fn all_mistakes_are_found_at_once_in_order() {
    let sql = "select now(), :foo from t where a = ? for update; drop table t";
    assert_eq!(codes(sql), ["sql.clock", "sql.parameter", "sql.placeholder", "sql.writes", "sql.statement"]);
}

fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

#[test]
fn parameters_are_numbered_once_each() {
    let sql = "select ':now', a::text, :now, :today_minus_7d, :now_plus_3d -- :now\n from t where :now > x and :now_minus_1w < :now_minus_7d;";
    let bound = bind(sql, Style::Postgres).unwrap();
    assert_eq!(bound.sql, "select ':now', a::text, $1, $2, $3 -- :now\n from t where $1 > x and $4 < $4");
    assert_eq!(
        bound.parameters,
        [
            Parameter::Now { offset: SignedDuration::ZERO },
            Parameter::Today { offset: hours(-7 * 24) },
            Parameter::Now { offset: hours(72) },
            Parameter::Now { offset: hours(-7 * 24) },
        ]
    );
}

#[test]
fn each_database_has_its_own_quotes() {
    use Style::{Postgres, Sqlite};
    for (style, sql, expected) in [
        (Sqlite, "select [:now], `:now`, \":now\", :now", "select [:now], `:now`, \":now\", $1"),
        (Postgres, "select a[:now], array[1,:now]", "select a[$1], array[1,$1]"),
        (Postgres, "select a[1:n], a[:2]", "select a[1:n], a[:2]"),
        (Postgres, "select $$:now$$, $t$ :now $$ $t$, :now", "select $$:now$$, $t$ :now $$ $t$, $1"),
        (Postgres, "select E'\\':now', ':now''', :now", "select E'\\':now', ':now''', $1"),
        (Postgres, "select /* /* */ :now */ :now", "select /* /* */ :now */ $1"),
        (Sqlite, "select /* /* */ :now", "select /* /* */ $1"),
        (Postgres, "select data ? 'a', :now", "select data ? 'a', $1"),
        (Postgres, "select 1; -- done", "select 1 -- done"),
    ] {
        assert_eq!(bind(sql, style).map(|bound| bound.sql), Ok(expected.to_owned()), "{sql}");
    }
    for (style, sql, code) in [
        (Sqlite, "select ?", "sql.placeholder"),
        (Postgres, "select $1", "sql.placeholder"),
        (Sqlite, "select :later", "sql.parameter"),
        (Sqlite, "select 'x", "sql.unterminated"),
        (Postgres, "select 1; select 2", "sql.statement"),
    ] {
        assert_eq!(bind(sql, style).map_err(|mistake| mistake.code), Err(code), "{sql}");
    }
}

#[test]
fn a_place_in_the_bound_text_leads_back_to_the_users() {
    let sql = "select :now_minus_14d, x, :now_minus_14d, y;";
    let bound = bind(sql, Style::Postgres).unwrap();
    for name in ["select", "x", "y"] {
        assert_eq!(bound.origin(bound.sql.find(name).unwrap()), sql.find(name).unwrap(), "{name}");
    }
    assert_eq!(bound.origin(bound.sql.find("$1").unwrap() + 1), sql.find(":now").unwrap());
}

#[test]
fn parameters_know_their_names() {
    for name in ["now", "today", "now_minus_14d", "now_plus_3h", "today_minus_2w", "now_minus_90s"] {
        assert!(Parameter::parse(name).is_some(), "{name}");
    }
    for name in [
        "nowadays",
        "now_",
        "now_minus_",
        "now_minus_3",
        "now_times_3d",
        "today_plus_3y",
        "yesterday",
        "now_minus_-3d",
        "",
    ] {
        assert_eq!(Parameter::parse(name), None, "{name}");
    }
    assert_eq!(Parameter::parse("now_minus_14d").unwrap().name(), ":now_minus_2w");
}

proptest! {
    #[test]
    fn no_text_panics(sql in r#"(select |[\PC]|['"`$:;?\[\](){}@/*\\-]|now|e'|now\(|\n|:now|with ){0,30}"#) {
        for mistake in mistakes(&sql) {
            prop_assert!(sql.get(mistake.at..mistake.at + mistake.len).is_some());
        }
        for style in [Style::Sqlite, Style::Postgres] {
            if let Ok(bound) = bind(&sql, style) {
                for at in 0..=bound.sql.len() {
                    prop_assert!(bound.origin(at) <= sql.len());
                }
            }
        }
    }

    #[test]
    fn text_without_parameters_comes_out_unchanged(sql in r#"(select |[^:;]|'[^']*'|--[^:;]*\n){0,30}"#) {
        for style in [Style::Sqlite, Style::Postgres] {
            if let Ok(bound) = bind(&sql, style) {
                prop_assert_eq!(&bound.sql, &sql);
                prop_assert_eq!(bound.parameters, vec![]);
            }
        }
    }
}
