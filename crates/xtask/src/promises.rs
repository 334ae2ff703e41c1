//! `cargo x promises`: what is promised, tried for as long as one likes, and what came of it.
//!
//! The runs are the tests `promises` of `tests/black_box`, seed by seed. Slices add up in `tests/promises.json` as long as the commit
//! is the same; `tests/PROMISES.md` is that file and [`table`] as a page, and no number in it is typed.

mod table;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};

use self::table::{PROMISES, Promise, Tried};
use crate::process;

const RECORD: &str = "tests/promises.json";
const PAGE: &str = "tests/PROMISES.md";
/// Seeds a slice: what is lost if it is interrupted.
const SLICE: u64 = 100;

pub(crate) fn main(arguments: &[String]) -> Result<()> {
    let root = process::root()?;
    let runs: u64 = match arguments {
        [] => SLICE,
        [flag, count] if flag == "--runs" => count.parse().context("`--runs` needs a whole number")?,
        [flag] if flag == "--page" => {
            let record = recorded(&root.join(RECORD))?.unwrap_or_default();
            return fs::write(root.join(PAGE), page(&record)).with_context(|| format!("cannot write {PAGE}"));
        }
        _ => bail!("takes nothing but `--runs N`, or `--page` to write the page anew without a run"),
    };
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
    let record = recorded(path)?.filter(|record| record.get("commit") == Some(&json!(commit)));
    let fresh = || Map::from_iter([("commit".to_owned(), json!(commit)), ("seeds".to_owned(), json!(0))]);
    Ok(record.unwrap_or_else(fresh))
}

/// What is on record, of whatever commit.
fn recorded(path: &Path) -> Result<Option<Map<String, Value>>> {
    match fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text).with_context(|| format!("cannot understand {RECORD}")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
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
    let expected: usize = tried().map(|(_, tried)| tried.stores.len()).sum();
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
        for what in ["runs", "tries", "failures"] {
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

/// Every way in which a promise is tried, in order.
fn tried() -> impl Iterator<Item = (&'static Promise, &'static Tried)> {
    PROMISES.iter().flat_map(|promise| promise.tried.iter().map(move |tried| (promise, tried)))
}

/// The record and the table as a page.
fn page(record: &Map<String, Value>) -> String {
    let commit = record.get("commit").and_then(Value::as_str).unwrap_or_default();
    let mut text = format!(
        "# Promises\n\nWritten by `cargo x promises`.\n\n## Tried again and again\n\nAt commit `{commit}`, and what came of it. A run is a seed, \
         and what is counted of it is what the promise could break at. A failure is a run after which something is otherwise than promised: a message \
         that went twice or not at all, a log that says otherwise than the provider's own count, a doubt that is not listed. The last column is the rule of \
         three: so often at most is the promise broken, with 95 % confidence.\n\n\
         | | what | over | runs | tries | wanted | failures | at most, per try |\n|---|---|---|---|---|---|---|---|\n"
    );
    for (promise, tried) in tried() {
        let Tried { name, stores, wanted, unit, .. } = tried;
        let words = if tried.words.is_empty() { promise.words } else { tried.words };
        for store in *stores {
            let sums = record.get(&format!("{name} {store}"));
            let count =
                |what: &str| sums.and_then(|sums| sums.get(what)).and_then(Value::as_u64).unwrap_or(0);
            let (runs, tries, failures) = (count("runs"), count("tries"), count("failures"));
            text.push_str(&format!(
                "| {name} | {words} | {store} | {runs} | {tries} | {wanted} {unit} | {failures} | {} |\n",
                bound(tries, failures)
            ));
        }
    }
    text.push_str(
        "\n## Where each is shown\n\nBy which tests, which deliberate breaks (`cargo x mutants NAME`) are seen to be noticed, and what no test shows.\n\n\
         | | what | tests | mutants | not shown |\n|---|---|---|---|---|\n",
    );
    for Promise { name, words, tests, mutants, missing, .. } in PROMISES {
        let tests: Vec<String> = tests.iter().map(|(room, test)| format!("{room}: `{test}`")).collect();
        let mutants: Vec<String> = mutants.iter().map(|mutant| format!("`{mutant}`")).collect();
        let (tests, mutants) = (tests.join("<br>"), mutants.join("<br>"));
        text.push_str(&format!("| {name} | {words} | {tests} | {mutants} | {missing} |\n"));
    }
    text
}

/// The rule of three: n tries without a failure bound its rate at 3/n (Hanley and Lippman-Hand 1983, JAMA 249:1743).
/// Three tries or fewer bound nothing.
fn bound(tries: u64, failures: u64) -> String {
    match (u32::try_from(tries), failures) {
        (Ok(4..), 0) => format!("{:.1e}", 3.0 / f64::from(u32::try_from(tries).unwrap_or(u32::MAX))),
        _ => "none".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn slices_add_up_and_the_page_says_what_they_came_to() {
        let mut record = Map::from_iter([("commit".to_owned(), json!("abc"))]);
        let line = |tries: u64, failures: u64| json!({"promise": "P1", "store": "SQLite", "runs": 10, "tries": tries, "failures": failures});
        add(&mut record, &[line(100, 0), line(200, 0)]).unwrap();
        let said = page(&record);
        assert!(said.contains("| SQLite | 20 | 300 | 32000 kills | 0 | 1.0e-2 |"), "{said}");
        add(&mut record, &[line(1, 2)]).unwrap();
        assert!(page(&record).contains("| SQLite | 30 | 301 | 32000 kills | 2 | none |"));
        assert!(add(&mut record, &[json!({"promise": "P1", "store": "SQLite"})]).is_err());
    }

    /// The sources of a room, one after the other, without white space.
    fn sources(folder: &Path, into: &mut String) {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                sources(&entry, into);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                into.extend(fs::read_to_string(&entry).unwrap().split_whitespace());
            }
        }
    }

    #[test]
    fn every_promise_is_shown_by_tests_that_exist_or_says_what_is_missing() {
        let root = process::root().unwrap();
        let room = |room: &str| {
            let mut text = String::new();
            sources(
                &root.join(if room == "tests" { "tests/tests".to_owned() } else { format!("crates/{room}") }),
                &mut text,
            );
            text
        };
        let known: BTreeSet<String> = fs::read_to_string(root.join("tests/mutants.txt"))
            .unwrap()
            .lines()
            .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
            .collect();
        for (position, promise) in PROMISES.iter().enumerate() {
            assert_eq!(promise.name, format!("P{}", position + 1), "every promise has its place");
            let is_shown = !promise.tests.is_empty() && !promise.mutants.is_empty();
            assert!(is_shown || !promise.missing.is_empty(), "{}: what is missing?", promise.name);
            assert!(promise.tried.is_empty() || is_shown, "{}: by which test, which mutant?", promise.name);
            for (name, test) in promise.tests {
                assert!(
                    room(name).contains(&format!("fn{test}(")),
                    "{}: `{name}` has no test `{test}`",
                    promise.name
                );
            }
            for mutant in promise.mutants {
                assert!(known.contains(*mutant), "{}: there is no mutant `{mutant}`", promise.name);
            }
        }
        let tests = room("tests");
        for (_, Tried { name, stores, .. }) in tried() {
            let name = name.replace(' ', "");
            for store in *stores {
                let call = format!("try_seeds(\"{name}\",Store::{},", store.to_lowercase());
                assert!(tests.contains(&call), "nothing tries {name} over {store}");
            }
        }
    }

    #[test]
    fn the_page_is_what_the_record_and_the_table_say() {
        let root = process::root().unwrap();
        let record = recorded(&root.join(RECORD)).unwrap().unwrap_or_default();
        let written = fs::read_to_string(root.join(PAGE)).unwrap();
        assert!(
            written == page(&record),
            "{PAGE} is written by `cargo x promises`, and anew by `cargo x promises --page`"
        );
    }
}
