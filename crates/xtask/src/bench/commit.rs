//! Committing: what a pass writes of its decisions (enrollments, rows of the outbox, the log), against the sqlite3 program that copies the same
//! rows, table by table, durably, into a new file with the same tables, indexes and triggers.
//!
//! What is measured is a pass that decides on everybody and whose destination is halted, so that nothing is handed over, less a pass of the same
//! project without the playbook, which starts, imports consent and refreshes. What remains is more than committing: it reads the people whom it
//! decides on, asks the gates, and seals the log. So the ratio is a bound; `cargo x bench decide` says what of it are the gates.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::deliver::{self, NOW, SQLITE};
use super::measure::{self, Goal, Took, round};
use crate::process;

const RATIO: f64 = 1.5;
/// How the daemon opens its own state.
const AS_THE_DAEMON: &str =
    "pragma journal_mode = wal; pragma synchronous = full; pragma cache_size = -16384;
    pragma wal_autocheckpoint = 8192; pragma journal_size_limit = 67108864;";

pub(super) fn run(items: u64) -> Result<Value> {
    if process::find("sqlite3").is_none() {
        bail!("the sqlite3 program is missing");
    }
    let binary = measure::release_binary()?;
    let folder = process::target_dir()?.join("bench/commit");
    let (without, with) = (folder.join("without"), folder.join("with"));
    println!("{items} people, of each one decision");
    let refreshing = pass(&binary, &without, items, false)?;
    let deciding = pass(&binary, &with, items, true)?;
    // The machine may have been busy the first time.
    let refreshing = refreshing.or_less(pass(&binary, &without, items, false)?);
    let deciding = deciding.or_less(pass(&binary, &with, items, true)?);
    let committing = deciding - refreshing;

    let (before, after) =
        (measure::rows(&measure::state_of(&without))?, measure::rows(&measure::state_of(&with))?);
    let written: Vec<(&String, u64)> = after
        .iter()
        .map(|(table, count)| (table, count.saturating_sub(before.get(table).copied().unwrap_or(0))))
        .filter(|(_, more)| *more > 0)
        .collect();
    let tables: Vec<&str> = written.iter().map(|(table, _)| table.as_str()).collect();
    if !tables.contains(&"delivery") || !tables.contains(&"enrollment") {
        bail!("decisions were to be written, and what was written is in {tables:?}");
    }
    let (limit, copy) = copy(&folder, &measure::state_of(&with), &tables)?;
    let again = self::copy(&folder, &measure::state_of(&with), &tables)?.0;
    let limit = limit.or_less(again);
    let ratio = committing.wall / limit.wall;
    const BYTES: &str = "select page_count * page_size from pragma_page_count, pragma_page_size";
    let bytes: u64 = measure::ask_sqlite(&copy, BYTES)?.trim().parse().context("a size is a number")?;
    Ok(json!({
        "decisions": items,
        "rows": written.iter().map(|(table, more)| ((*table).clone(), json!(more))).collect::<serde_json::Map<_, _>>(),
        "bytes": bytes,
        "ratio_to_bulk_insert": round(ratio),
        "ratio_of_cpu": round(committing.cpu / limit.cpu),
        "committing": committing.figures(items),
        "bulk_insert": limit.figures(items),
        "without_playbook": refreshing.figures(items),
        "with_decisions": deciding.figures(items),
        "goals": [Goal::AtMost(RATIO).of("ratio to a bulk insert, people read and gates asked included", ratio)],
    }))
}

fn pass(binary: &Path, project: &Path, people: u64, decides: bool) -> Result<Took> {
    deliver::make(project, people, "{connector: file, path: outbox}", 0, SQLITE)?;
    if !decides {
        let playbook = project.join("playbooks/hello.yml");
        fs::remove_file(&playbook).with_context(|| format!("cannot remove {}", playbook.display()))?;
    }
    let halt = ["halt", "--scope", "destination.mail", "--reason", "to measure what comes before"];
    process::output(measure::drumbeat(binary, project).args(halt))?;
    let (took, report) = measure::pass(binary, project, NOW)?;
    // While the destination is halted they are deferred.
    let decided = report.pointer("/decisions/defer").and_then(Value::as_object);
    let decided: u64 =
        decided.into_iter().flat_map(|reasons| reasons.values()).filter_map(Value::as_u64).sum();
    if decided != if decides { people } else { 0 } {
        bail!("{people} people were to be decided on ({decides}), and the report says: {report}");
    }
    Ok(took)
}

/// Copies some tables of a state, in one transaction; how long that took, and where they are.
fn copy(folder: &Path, state: &Path, tables: &[&str]) -> Result<(Took, PathBuf)> {
    let copy = folder.join("copy.db");
    for end in ["db", "db-wal", "db-shm"] {
        let old = copy.with_extension(end);
        if old.exists() {
            fs::remove_file(&old).with_context(|| format!("cannot remove {}", old.display()))?;
        }
    }
    const SCHEMA: &str =
        "select sql || ';' from sqlite_schema where sql is not null and name not like 'sqlite_%'
        order by case type when 'table' then 0 when 'index' then 1 else 2 end";
    measure::sqlite(&copy, &format!("{AS_THE_DAEMON}\n{}", measure::ask_sqlite(state, SCHEMA)?))?;
    let inserts: Vec<String> =
        tables.iter().map(|table| format!("insert into main.{table} select * from run.{table};")).collect();
    let script =
        format!("{AS_THE_DAEMON} attach '{}' as run; begin; {} commit;", state.display(), inserts.join(" "));
    // Nor does the daemon move what it wrote last into the file when it ends.
    let as_it_ends = ["-cmd", ".dbconfig no_ckpt_on_close on"];
    let mut sqlite = Command::new("sqlite3");
    Ok((measure::took(sqlite.args(["-batch", "-bail"]).args(as_it_ends).arg(&copy).arg(script))?, copy))
}
