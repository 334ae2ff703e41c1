//! A year in virtual time: `drumbeat test` plays a scenario of so many people, of whom each gets a message a month, and knows of everybody what
//! is to happen. The same `tick` and `pump` as in a run, all gates, a state, and a provider in memory that keeps what it is given.
//!
//! In it are reading the scenario, which is a file of some ten lines a person (`reading` is `drumbeat check` of the same project), and comparing
//! what happened to each with what is written there.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::measure::{self, Goal, mebibytes, round};
use crate::process;

const SECONDS: f64 = 10.0;
const START: &str = "2026-03-02T09:00:00Z";
const MONTHS: usize = 12;
/// Where people live: quiet hours end at different times.
const ZONES: [&str; 4] = ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Sydney"];

pub(super) fn run(items: u64) -> Result<Value> {
    let binary = measure::release_binary()?;
    let folder = process::target_dir()?.join("bench/simulate");
    let files: Vec<(&str, String)> = vec![
        ("drumbeat.yml", SETTINGS.to_owned()),
        ("data.yml", "profiles: {sql: \"select customer_id as id, email, timezone, first_name from customers\"}\n".to_owned()),
        ("policy.yml", POLICY.to_owned()),
        (
            "segments/everybody.yml",
            "title: Everybody\nowner: bench@shop.test\nwhy: \"Measured.\"\nsql: select customer_id as id from customers\n".to_owned(),
        ),
        ("playbooks/monthly.yml", playbook()),
        ("templates/hello.html", TEMPLATE.to_owned()),
        ("tests/year.yml", scenario(items)),
    ];
    measure::project(&folder, &files)?;
    measure::sqlite(
        &folder.join("warehouse.db"),
        "create table customers (customer_id text primary key, email text, timezone text, first_name text);",
    )?;
    println!("{items} people, {MONTHS} messages each, a month apart");
    let reading = measure::took(measure::drumbeat(&binary, &folder).args(["check", "--offline"]))?;
    let (took, told, peak) =
        measure::output_watched(measure::drumbeat(&binary, &folder).args(["--output", "json", "test"]))?;
    let verdicts: Value = serde_json::from_str(&told).context("`test` did not report JSON")?;
    if verdicts.pointer("/0/passed") != Some(&json!(true)) {
        let start: String = verdicts.to_string().chars().take(1_000).collect();
        bail!("the scenario was to pass, and the report says: {start}");
    }
    let decisions = items * MONTHS as u64;
    Ok(json!({
        "people": items,
        "messages": decisions,
        "seconds": round(took.wall),
        "whole_run": took.figures(decisions),
        "reading": reading.figures(decisions),
        "peak_mebibytes": round(mebibytes(peak)),
        "goals": [Goal::AtMost(SECONDS).of("seconds for one year", took.wall)],
    }))
}

const SETTINGS: &str = "version: 1
project: bench
timezone: Europe/Berlin
locales: [en]
deliver: local
state: sqlite://.drumbeat/state.db
warehouse: {url: \"sqlite://warehouse.db\"}
brands:
  shop: {title: Shop, from: \"Shop <shop@shop.test>\", postal_address: \"Shop, Street 1\", public_url: \"http://127.0.0.1:7701\"}
destinations:
  mail: {connector: file, path: outbox}
";

const POLICY: &str = "purposes:
  offers: {title: Offers, class: marketing}
caps:
  day: {channel: email, class: marketing, max: 1, per: 1 calendar day}
  week: {class: marketing, max: 3, per: 7d}
quiet_hours:
  nights: {channel: email, class: marketing, from: \"20:00\", to: \"08:00\"}
";

const TEMPLATE: &str = "---
subject: \"Hello {{ profile.first_name }}\"
---
<p>Hello {{ profile.first_name }}. {{ postal_address }} <a href=\"{{ unsubscribe_url }}\">Unsubscribe</a></p>
";

/// A message a month.
fn playbook() -> String {
    let mut text = "title: Monthly\nowner: bench@shop.test\nwhy: \"Measured.\"\nenter: segment.everybody\nbackfill: all\npurpose: offers\nsteps:\n"
        .to_owned();
    for month in 1..=MONTHS {
        if month > 1 {
            text.push_str("  - wait: 30d\n");
        }
        text.push_str(&format!("  - {{id: month_{month}, send: hello}}\n"));
    }
    text
}

/// Everybody enters at the start and consents, and gets every message.
fn scenario(people: u64) -> String {
    let mut text = format!("title: A year\nplaybook: monthly\nstart: {START}\ngiven:\n  profiles:\n");
    let mut write = |line: std::fmt::Arguments<'_>| text.write_fmt(line).unwrap_or_default();
    for (person, zone) in (1..=people).zip(ZONES.iter().cycle()) {
        write(format_args!(
            "    - {{id: \"{person}\", email: customer.{person}@example.test, timezone: {zone}, first_name: Ana}}\n"
        ));
    }
    write(format_args!("  consent:\n"));
    for person in 1..=people {
        write(format_args!(
            "    - {{profile: \"{person}\", channel: email, purpose: offers, status: granted}}\n"
        ));
    }
    let ids: Vec<String> = (1..=people).map(|person| format!("\"{person}\"")).collect();
    write(format_args!("  segments: {{everybody: [{}]}}\nexpect:\n", ids.join(", ")));
    for person in 1..=people {
        for month in 1..=MONTHS {
            write(format_args!("  - {{profile: \"{person}\", step: month_{month}, state: accepted}}\n"));
        }
        write(format_args!("  - {{profile: \"{person}\", exit: finished}}\n"));
    }
    text
}
