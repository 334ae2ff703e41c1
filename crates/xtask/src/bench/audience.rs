//! Audiences: a sync into a `file` destination with one member in a hundred changed since the last time, against `comm -3` on the two sorted
//! lists of members.
//!
//! What is measured is the second run, less the second run of the same project without the sync, which starts, imports consent and refreshes
//! the segment. Both are made twice, on a copy of what the first run left, and the faster counts.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::measure::{self, Goal, Took, mebibytes, round};
use crate::process;

const RATIO: f64 = 1.0;
const MEBIBYTES: f64 = 100.0;
const NOW: &str = "2026-03-02T09:00:00Z";
const LATER: &str = "2026-03-02T10:00:00Z";
/// One in so many leaves, and as many come: together one in a hundred changes.
const ONE_IN: u64 = 200;
const TIMES: usize = 2;

pub(super) fn run(items: u64) -> Result<Value> {
    if process::find("sqlite3").is_none() || process::find("comm").is_none() {
        bail!("the programs sqlite3 and comm are needed");
    }
    let items = items.max(ONE_IN);
    let binary = measure::release_binary()?;
    let folder = process::target_dir()?.join("bench/audience");
    measure::project(&folder, &[])?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let warehouse = folder.join("warehouse.db");
    generate(&warehouse, items)?;
    let lists = [folder.join("before"), folder.join("after")];
    list(&warehouse, &lists[0])?;
    println!("{items} members, {} of whom leave and as many come", items / ONE_IN);

    let (with, without) = (folder.join("with"), folder.join("without"));
    make(&with, &warehouse, true)?;
    make(&without, &warehouse, false)?;
    let (first, report) = measure::pass(&binary, &with, NOW)?;
    changed(&report, items, 0)?;
    measure::pass(&binary, &without, NOW)?;
    change(&warehouse, items)?;
    list(&warehouse, &lists[1])?;

    let limit = comm(&lists)?;
    let again = |project: &Path, has_sync: bool| -> Result<(Took, u64)> {
        let mut best: Option<(Took, u64)> = None;
        for _ in 0..TIMES {
            let copy = copied(project)?;
            let (took, report, peak) = measure::pass_watched(&binary, &copy, LATER)?;
            if has_sync {
                changed(&report, items / ONE_IN, items / ONE_IN)?;
            }
            best = Some(best.map_or((took, peak), |(other, high)| (other.or_less(took), high.max(peak))));
        }
        best.context("it ran")
    };
    let (whole, peak) = again(&with, true)?;
    let (refreshing, peak_of_refreshing) = again(&without, false)?;
    let diffing = whole - refreshing;
    let ratio = diffing.wall / limit;
    Ok(json!({
        "members": items,
        "changed": items / ONE_IN * 2,
        "ratio_to_comm": round(ratio),
        "ratio_of_the_whole_run": round(whole.wall / limit),
        "peak_mebibytes": round(mebibytes(peak)),
        "peak_mebibytes_without_sync": round(mebibytes(peak_of_refreshing)),
        "diffing": diffing.figures(items),
        "whole_run": whole.figures(items),
        "without_sync": refreshing.figures(items),
        "first_run": first.figures(items),
        "comm_seconds": (limit * 10_000.0).round() / 10_000.0,
        "goals": [
            Goal::AtMost(RATIO).of("ratio to comm -3", ratio),
            Goal::AtMost(MEBIBYTES).of("MiB resident at most", mebibytes(peak)),
        ],
    }))
}

/// What the run says of the one audience there is.
fn changed(report: &Value, added: u64, removed: u64) -> Result<()> {
    let count = |key: &str| report.pointer(&format!("/audiences/0/{key}")).and_then(Value::as_u64);
    if (count("added"), count("removed")) != (Some(added), Some(removed)) {
        bail!("{added} were to be added and {removed} removed, and the report says: {report}");
    }
    Ok(())
}

/// The lines that are in one list alone, into nowhere; the seconds of the fastest of several times.
fn comm(lists: &[PathBuf; 2]) -> Result<f64> {
    const TIMES: usize = 5;
    let mut best = f64::INFINITY;
    for _ in 0..TIMES {
        let mut comm = Command::new("comm");
        comm.arg("-3").args(lists).env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::null());
        let began = Instant::now();
        process::run(&mut comm)?;
        best = best.min(began.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// A project as its first run left it, to be run once more.
fn copied(project: &Path) -> Result<PathBuf> {
    let copy = project.with_extension("again");
    if copy.exists() {
        fs::remove_dir_all(&copy).with_context(|| format!("cannot empty {}", copy.display()))?;
    }
    process::run(Command::new("cp").arg("-r").arg(project).arg(&copy))?;
    Ok(copy)
}

/// Who is to be in the audience, sorted by bytes, a line each: id and address.
fn list(warehouse: &Path, to: &Path) -> Result<()> {
    const LINES: &str =
        "select customer_id || ' ' || email as line from customers where power = 1 order by line";
    let file = File::create(to).with_context(|| format!("cannot make {}", to.display()))?;
    process::run(Command::new("sqlite3").args(["-batch", "-readonly"]).arg(warehouse).arg(LINES).stdout(file))
}

fn make(folder: &Path, warehouse: &Path, has_sync: bool) -> Result<()> {
    let mut files = vec![
        (
            "drumbeat.yml",
            format!(
                "version: 1\nproject: bench\ntimezone: Europe/Berlin\nlocales: [en]\ndeliver: local\nstate: sqlite://.drumbeat/state.db\n\
                 warehouse: {{url: \"sqlite://{}\", statement_timeout: 10m}}\nbrands:\n  shop: {{title: Shop, from: \"Shop <shop@shop.test>\", \
                 postal_address: \"Shop, Street 1\", public_url: \"http://127.0.0.1:7701\"}}\ndestinations:\n  ads: {{connector: file, path: outbox}}\n",
                warehouse.display()
            ),
        ),
        ("data.yml", "profiles: {sql: \"select customer_id as id, email from customers\"}\n".to_owned()),
        (
            "policy.yml",
            "purposes:\n  offers: {title: Offers, class: marketing}\n\
             consent: {sql: \"select customer_id as profile, channel, purpose, status, changed_at, source from consents\"}\n"
                .to_owned(),
        ),
        (
            "segments/power_users.yml",
            "title: Power users\nowner: bench@shop.test\nwhy: \"Measured.\"\nschedule: 1h\n\
             sql: select customer_id as id from customers where power = 1\n"
                .to_owned(),
        ),
    ];
    if has_sync {
        files.push((
            "syncs/power_users.yml",
            "title: Power users\nowner: bench@shop.test\nwhy: \"Measured.\"\nschedule: 1h\nfrom: segment.power_users\n\
             audience: {destination: ads, name: power_users}\npurpose: offers\n"
                .to_owned(),
        ));
    }
    measure::project(folder, &files)
}

/// So many power users who all consent, and as many others as are to come.
fn generate(warehouse: &Path, members: u64) -> Result<()> {
    let people = members + members / ONE_IN;
    let rows = format!(
        "begin;
         create table customers (customer_id integer primary key, email text, power integer);
         create table consents (customer_id integer, channel text, purpose text, status text, changed_at text, source text);
         insert into customers select value, 'customer.' || value || '@example.test', value <= {members} from generate_series(1, {people});
         insert into consents select customer_id, 'ads', 'offers', 'granted', '2026-01-01T00:00:00Z', 'bench' from customers;
         create index consents_of_customer on consents (customer_id);
         commit;"
    );
    measure::sqlite(warehouse, &rows)
}

fn change(warehouse: &Path, members: u64) -> Result<()> {
    let rows = format!(
        "begin;
         update customers set power = 0 where customer_id <= {members} and customer_id % {ONE_IN} = 0;
         update customers set power = 1 where {members} < customer_id;
         commit;"
    );
    measure::sqlite(warehouse, &rows)
}
