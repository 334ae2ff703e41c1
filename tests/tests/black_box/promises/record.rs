//! Which seeds are run, and what came of them.

use std::io::Write as _;
use std::ops::Range;

use serde_json::json;

use super::oracle::Found;
use super::stage::Store;

/// Without a word from the environment: so many of each, in every test run.
const USUALLY: u64 = 60;

/// The seeds of this run.
fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("DRUMBEAT_PROMISES") else { return 0..USUALLY };
    let range = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range.unwrap_or_else(|| panic!("DRUMBEAT_PROMISES is FROM..TO, as in 0..100, not {text:?}"))
}

/// Tries a promise over a database, where there is one, with one seed in `every`: some take as long as many of the others.
pub fn try_seeds(
    promise: &'static str,
    store: fn() -> Option<Store>,
    every: usize,
    one: impl Fn(&Store, u64, &mut Tally),
) {
    let Some(store) = store() else { return };
    let mut tally = Tally::new(promise, store.name());
    for seed in seeds().step_by(every) {
        one(&store, seed, &mut tally);
    }
    tally.done();
}

/// What came of some runs.
pub struct Tally {
    promise: &'static str,
    store: &'static str,
    runs: u64,
    /// How often it could have been broken: kills, or whatever else is counted of it.
    tries: u64,
    failures: Vec<String>,
}

impl Tally {
    fn new(promise: &'static str, store: &'static str) -> Self {
        Self { promise, store, runs: 0, tries: 0, failures: Vec::new() }
    }

    pub fn add(&mut self, tries: u64, told: &str, found: &[Found]) {
        self.runs += 1;
        self.tries += tries;
        if !found.is_empty() {
            self.failures.push(format!("{told}: {found:?}"));
        }
    }

    /// Writes it down, says it, and fails where a promise was not kept.
    fn done(self) {
        let Self { promise, store, runs, tries, failures } = self;
        if let Ok(path) = std::env::var("DRUMBEAT_PROMISES_RECORD") {
            let line = json!({ "promise": promise, "store": store, "runs": runs, "tries": tries, "failures": failures.len() });
            let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
            file.write_all(format!("{line}\n").as_bytes()).unwrap();
        }
        eprintln!("{promise} over {store}: {runs} runs, tried {tries} times, {} failures", failures.len());
        assert!(failures.is_empty(), "{promise} over {store}:\n{}", failures.join("\n"));
        assert!(
            tries * 4 >= runs,
            "{promise} over {store}: hardly anything was tried: {tries} in {runs} runs"
        );
    }
}
