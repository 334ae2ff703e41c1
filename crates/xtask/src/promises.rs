//! `cargo x promises`: what is promised about crashes, tried for as long as one likes, and what came of it.
//!
//! The runs are the tests `promises` of `tests/black_box`, seed by seed. Slices add up in `tests/promises.json` as long as the commit
//! is the same; `tests/PROMISES.md` is that file as a table, and no number in it is typed.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};

use crate::process;

const RECORD: &str = "tests/promises.json";
const PAGE: &str = "tests/PROMISES.md";
/// Seeds a slice: what is lost if it is interrupted.
const SLICE: u64 = 100;

/// A promise: its number, its words, the databases it is tried over, and how many faults there are to be over each.
const PROMISES: &[(&str, &str, &[&str], u64)] = &[
    (
        "P1",
        "Killed at any failpoint, no message goes twice, none is lost, and every doubt is listed",
        &["SQLite", "Postgres"],
        32_000,
    ),
    ("P2", "Killed at any instant, likewise", &["SQLite", "Postgres"], 10_000),
    (
        "P1 (HTTP)",
        "The same on the way of a webhook: nothing has two effects, and in the end nothing is in doubt",
        &["SQLite", "Postgres"],
        32_000,
    ),
    ("P2 (HTTP)", "Killed at any instant, likewise", &["SQLite"], 10_000),
    (
        "P5",
        "Five nodes that die, stand still, leave and lose Postgres, which crashes, likewise, and all is done in the end",
        &["Postgres"],
        500,
    ),
];

pub(crate) fn main(arguments: &[String]) -> Result<()> {
    let runs: u64 = match arguments {
        [] => SLICE,
        [flag, count] if flag == "--runs" => count.parse().context("`--runs` needs a whole number")?,
        _ => bail!("takes nothing but `--runs N`"),
    };
    let root = process::root()?;
    if !process::output(Command::new("git").current_dir(&root).args(["status", "--porcelain"]))?
        .lines()
        .all(|line| line.ends_with(RECORD) || line.ends_with(PAGE))
    {
        bail!("what is promised is promised of a commit: commit the changes first");
    }
    let commit = process::output(Command::new("git").current_dir(&root).args(["rev-parse", "HEAD"]))?;
    let mut record = read(&root.join(RECORD), commit.trim())?;
    let mut left = runs;
    while left > 0 {
        let from = record.get("seeds").and_then(Value::as_u64).unwrap_or(0);
        let to = from + left.min(SLICE);
        left -= to - from;
        let lines = slice(&root, from, to)?;
        add(&mut record, &lines)?;
        record.insert("seeds".to_owned(), json!(to));
        write(&root, &record)?;
    }
    println!("{}", page(&record));
    Ok(())
}

/// What is on record of this commit; of another one, nothing.
fn read(path: &Path, commit: &str) -> Result<Map<String, Value>> {
    let fresh = || Map::from_iter([("commit".to_owned(), json!(commit)), ("seeds".to_owned(), json!(0))]);
    match fs::read_to_string(path) {
        Ok(text) => {
            let record: Map<String, Value> =
                serde_json::from_str(&text).with_context(|| format!("cannot understand {RECORD}"))?;
            Ok(if record.get("commit") == Some(&json!(commit)) { record } else { fresh() })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(fresh()),
        Err(error) => Err(error).with_context(|| format!("cannot read {RECORD}")),
    }
}

/// Runs some seeds of every promise over every database; what each says of itself.
fn slice(root: &Path, from: u64, to: u64) -> Result<Vec<Value>> {
    let told = process::target_dir()?.join("promises.ndjson");
    match fs::remove_file(&told) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", told.display()));
        }
        Ok(()) | Err(_) => {}
    }
    println!("seeds {from} to {to}");
    let mut tests = process::cargo()?;
    tests
        .current_dir(root)
        .args(["test", "--quiet", "--locked", "--package", "tests", "--test", "black_box", "promises::"])
        .env("DRUMBEAT_PROMISES", format!("{from}..{to}"))
        .env("DRUMBEAT_PROMISES_RECORD", &told)
        .env("DRUMBEAT_TEST_POSTGRES", "required");
    // A failure is a result, too, and recorded; but without a word from every test there is none.
    let done = process::run(&mut tests);
    let text = fs::read_to_string(&told).unwrap_or_default();
    let lines: Vec<Value> =
        text.lines().map(serde_json::from_str).collect::<Result<_, _>>().context("what the tests wrote")?;
    let expected: usize = PROMISES.iter().map(|(_, _, stores, _)| stores.len()).sum();
    if lines.len() != expected {
        done?;
        bail!("{} of {expected} tests said what came of them", lines.len());
    }
    Ok(lines)
}

/// Adds what a slice came to.
fn add(record: &mut Map<String, Value>, lines: &[Value]) -> Result<()> {
    for line in lines {
        let name = |key: &str| line.get(key).and_then(Value::as_str).unwrap_or_default();
        let key = format!("{} {}", name("promise"), name("store"));
        let mut sums = record.get(&key).cloned().unwrap_or_else(|| json!({}));
        for what in ["runs", "kills", "failures"] {
            let count = |value: &Value| value.get(what).and_then(Value::as_u64);
            let sum = count(&sums).unwrap_or(0) + count(line).with_context(|| format!("no `{what}`"))?;
            sums[what] = json!(sum);
        }
        record.insert(key, sums);
    }
    Ok(())
}

fn write(root: &Path, record: &Map<String, Value>) -> Result<()> {
    let text = format!("{:#}\n", Value::Object(record.clone()));
    fs::write(root.join(RECORD), text).with_context(|| format!("cannot write {RECORD}"))?;
    fs::write(root.join(PAGE), page(record)).with_context(|| format!("cannot write {PAGE}"))
}

/// The record as a page.
fn page(record: &Map<String, Value>) -> String {
    let commit = record.get("commit").and_then(Value::as_str).unwrap_or_default();
    let mut text = format!(
        "# Promises\n\nWhat was tried with `cargo x promises` at commit `{commit}`, and what came of it. A failure is a message that went twice or\n\
         not at all, a log that says otherwise than the provider's own count, or a doubt that is not listed. The bound is the rule of\n\
         three: so often at most does a fault break the promise, with 95 % confidence.\n\n\
         | | what | over | runs | faults | wanted | failures | at most, per fault |\n|---|---|---|---|---|---|---|---|\n"
    );
    for (promise, words, stores, wanted) in PROMISES {
        for store in *stores {
            let sums = record.get(&format!("{promise} {store}"));
            let count =
                |what: &str| sums.and_then(|sums| sums.get(what)).and_then(Value::as_u64).unwrap_or(0);
            let (runs, kills, failures) = (count("runs"), count("kills"), count("failures"));
            text.push_str(&format!(
                "| {promise} | {words} | {store} | {runs} | {kills} | {wanted} | {failures} | {} |\n",
                bound(kills, failures)
            ));
        }
    }
    text
}

/// The rule of three: n tries without a failure bound its rate at 3/n (Hanley and Lippman-Hand 1983, JAMA 249:1743).
fn bound(kills: u64, failures: u64) -> String {
    match (u32::try_from(kills), failures) {
        (Ok(1..), 0) => format!("{:.1e}", 3.0 / f64::from(u32::try_from(kills).unwrap_or(u32::MAX))),
        _ => "none".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_add_up_and_the_page_says_what_they_came_to() {
        let mut record = Map::from_iter([("commit".to_owned(), json!("abc"))]);
        let line = |kills: u64, failures: u64| json!({"promise": "P1", "store": "SQLite", "runs": 10, "kills": kills, "failures": failures});
        add(&mut record, &[line(100, 0), line(200, 0)]).unwrap();
        let said = page(&record);
        assert!(said.contains("| SQLite | 20 | 300 | 32000 | 0 | 1.0e-2 |"), "{said}");
        add(&mut record, &[line(1, 2)]).unwrap();
        assert!(page(&record).contains("| SQLite | 30 | 301 | 32000 | 2 | none |"));
        assert!(add(&mut record, &[json!({"promise": "P1", "store": "SQLite"})]).is_err());
    }
}
