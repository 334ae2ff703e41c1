//! Refreshing segments: a warehouse of so many people and ten times as many orders, its queries run by the sqlite3 program into
//! nowhere, and by a pass; the first pass, and one an hour later with one person in a hundred changed.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::measure::{self, Goal, Took, round};
use crate::process;

const RATIO: f64 = 1.25;
const PERCENT_WRITTEN: f64 = 1.0;
/// The first pass, and the one after the change.
const NOW: &str = "2026-03-02T09:00:00Z";
const LATER: &str = "2026-03-02T10:00:00Z";

/// A segment: its name, its query, and the query's parameters at the time of the first pass.
type Segment = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const SEGMENTS: &[Segment] = &[
    (
        "rfm",
        "select customer_id as id, max(ordered_at) as last_order, count(*) as orders, sum(total) as total \
         from orders where ordered_at <= :now group by customer_id",
        &[(":now", NOW)],
    ),
    (
        "recent",
        "select customer_id as id from orders where ordered_at >= :now_minus_90d and ordered_at <= :now group by customer_id",
        &[(":now_minus_90d", "2025-12-02T09:00:00Z"), (":now", NOW)],
    ),
    (
        "lapsed",
        "select customer_id as id from orders where ordered_at <= :now group by customer_id having max(ordered_at) < :now_minus_180d",
        &[(":now_minus_180d", "2025-09-03T09:00:00Z"), (":now", NOW)],
    ),
];

pub(super) fn run(items: u64) -> Result<Value> {
    if process::find("sqlite3").is_none() {
        bail!("the sqlite3 program is missing");
    }
    let binary = measure::release_binary()?;
    let folder = process::target_dir()?.join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let warehouse = folder.join(format!("refresh-{items}.db"));
    if !warehouse.exists() {
        generate(&warehouse, items)?;
    }
    println!("{items} people, {} orders", items * 10);
    queries(&warehouse)?;
    let limit = queries(&warehouse)?;

    let project = folder.join("refresh");
    make(&project, &warehouse, Playbooks::None)?;
    let (first, report) = measure::pass(&binary, &project, NOW)?;
    all_good(&report)?;
    let before = measure::rows(&measure::state_of(&project))?;
    let (second, report) = measure::pass(&binary, &project, LATER)?;
    all_good(&report)?;
    let after = measure::rows(&measure::state_of(&project))?;
    let written: u64 = after
        .iter()
        .map(|(table, count)| count.saturating_sub(before.get(table).copied().unwrap_or(0)))
        .sum();
    let share = measure::per(written) / measure::per(before.values().sum()) * 100.0;
    make(&project, &warehouse, Playbooks::One)?;
    let (decided, report) = measure::pass(&binary, &project, NOW)?;
    all_good(&report)?;
    let candidates = report.pointer("/decisions/suppress/consent.absent").and_then(Value::as_u64);
    let candidates = candidates.with_context(|| format!("nobody was decided on: {report}"))?;
    let (ratio, ratio_changed) = (first.wall / limit.wall, second.wall / limit.wall);
    Ok(json!({
        "people": items,
        "orders": items * 10,
        "ratio_to_sqlite3": round(ratio),
        "ratio_with_1_percent_changed": round(ratio_changed),
        "ratio_with_decisions": round(decided.wall / limit.wall),
        "rows_written_with_1_percent_changed": written,
        "decisions": candidates,
        "sqlite3": limit.figures(items),
        "first": first.figures(items),
        "changed": second.figures(items),
        "with_decisions": decided.figures(items),
        "goals": [
            Goal::AtMost(RATIO).of("ratio to sqlite3", ratio),
            Goal::AtMost(RATIO).of("ratio to sqlite3 with 1 % changed", ratio_changed),
            Goal::AtMost(PERCENT_WRITTEN).of("percent of the rows written with 1 % changed", share),
        ],
    }))
}

/// Every segment's query, one after the other, by the sqlite3 program into nowhere.
fn queries(warehouse: &Path) -> Result<Took> {
    let mut all = Took { wall: 0.0, cpu: 0.0 };
    for (_, sql, parameters) in SEGMENTS {
        let sql = parameters.iter().fold((*sql).to_owned(), |sql, (name, value)| replace(&sql, name, value));
        let took =
            measure::took(Command::new("sqlite3").args(["-batch", "-readonly"]).arg(warehouse).arg(sql))?;
        all = Took { wall: all.wall + took.wall, cpu: all.cpu + took.cpu };
    }
    Ok(all)
}

/// Puts a value in the place of a parameter; `:now` is the beginning of other names.
fn replace(sql: &str, name: &str, value: &str) -> String {
    let mut parts = sql.split(name);
    let mut replaced = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        if part.starts_with('_') {
            replaced += name;
        } else {
            replaced += &format!("'{value}'");
        }
        replaced += part;
    }
    replaced
}

fn all_good(report: &Value) -> Result<()> {
    let held = |segment: &&Value| segment.get("held").is_some_and(|held| !held.is_null());
    match report.get("segments").and_then(Value::as_array) {
        Some(segments) if segments.len() == SEGMENTS.len() => match segments.iter().find(held) {
            Some(held) => bail!("a segment is held: {held}"),
            None => Ok(()),
        },
        _ => bail!("{} segments were to run, and the report says: {report}", SEGMENTS.len()),
    }
}

/// Whether somebody is decided on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Playbooks {
    /// Segments alone.
    None,
    /// Who is in `lapsed` is enrolled, goes through all gates, and is refused, for nobody consented: no mail is measured.
    One,
}

fn make(folder: &Path, warehouse: &Path, playbooks: Playbooks) -> Result<()> {
    let mut files = vec![
        (
            "drumbeat.yml".to_owned(),
            format!(
                "version: 1\nproject: bench\ntimezone: Europe/Berlin\nlocales: [en]\ndeliver: local\nstate: sqlite://.drumbeat/state.db\n\
                 warehouse: {{url: \"sqlite://{}\", statement_timeout: 10m}}\nbrands:\n  shop: {{title: Shop, from: \"Shop <shop@shop.test>\", \
                 postal_address: \"Shop, Street 1\", public_url: \"http://127.0.0.1:7701\"}}\ndestinations:\n  mail: {{connector: file, path: outbox}}\n",
                warehouse.display()
            ),
        ),
        ("data.yml".to_owned(), "profiles: {sql: \"select customer_id as id, email, timezone from customers\"}\n".to_owned()),
        (
            "policy.yml".to_owned(),
            "purposes:\n  offers: {title: Offers, class: marketing}\ncaps:\n  day: {channel: email, class: marketing, max: 1, per: 1 calendar day}\n"
                .to_owned(),
        ),
    ];
    for (name, sql, _) in SEGMENTS {
        let text =
            format!("title: {name}\nowner: bench@shop.test\nwhy: \"Measured.\"\nschedule: 1h\nsql: {sql}\n");
        files.push((format!("segments/{name}.yml"), text));
    }
    if playbooks == Playbooks::One {
        let hello = "title: Hello\nowner: bench@shop.test\nwhy: \"Measured.\"\nenter: segment.lapsed\nbackfill: all\npurpose: offers\n\
                     steps:\n  - {id: hello, send: hello}\n";
        files.push(("playbooks/hello.yml".to_owned(), hello.to_owned()));
        let template = "---\nsubject: Hello\n---\n<p>Hello. {{ postal_address }} <a href=\"{{ unsubscribe_url }}\">Unsubscribe</a></p>\n";
        files.push(("templates/hello.html".to_owned(), template.to_owned()));
    }
    let files: Vec<(&str, String)> = files.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
    measure::project(folder, &files)
}

/// Ten orders a person over two years, the same every time: people by multiplication, times by the middle of a square, so that
/// each has gaps of their own. One person in a hundred orders between the two passes.
fn generate(warehouse: &Path, people: u64) -> Result<()> {
    println!("generating {}", warehouse.display());
    let beside = warehouse.with_extension("new");
    if beside.exists() {
        fs::remove_file(&beside).with_context(|| format!("cannot remove {}", beside.display()))?;
    }
    let orders = people * 10;
    let rows = format!(
        "pragma journal_mode = off; pragma synchronous = off;
         begin;
         create table customers (customer_id integer primary key, email text, timezone text);
         insert into customers select value, 'customer.' || value || '@example.test', 'Europe/Berlin' from generate_series(1, {people});
         create table orders (order_id integer primary key, customer_id integer not null, ordered_at text not null, total real not null);
         insert into orders
         select value, 1 + (value * 2654435761) % {people},
                strftime('%Y-%m-%dT%H:%M:%SZ', unixepoch('{NOW}') - 1 - (half * half >> 11) % 63072000, 'unixepoch'),
                1 + value % 99
         from (select value, (value * 2654435761) & 2147483647 as half from generate_series(1, {orders}));
         insert into orders (customer_id, ordered_at, total)
         select customer_id, '2026-03-02T09:30:00Z', 10 from customers where customer_id % 100 = 0;
         create index orders_of_customer on orders (customer_id, ordered_at, total);
         create index orders_by_time on orders (ordered_at, customer_id);
         commit;
         analyze;"
    );
    measure::sqlite(&beside, &rows)?;
    fs::rename(&beside, warehouse).with_context(|| format!("cannot move {} to its place", beside.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_replaced_and_longer_names_are_not() {
        let sql = "select :now, :now_minus_90d, :now";
        assert_eq!(replace(sql, ":now", "x"), "select 'x', :now_minus_90d, 'x'");
        assert_eq!(replace(sql, ":now_minus_90d", "y"), "select :now, 'y', :now");
    }
}
