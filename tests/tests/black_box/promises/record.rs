//! Which seeds are run, and what came of them.

use std::io::Write as _;
use std::ops::Range;

use serde_json::json;

use super::oracle::Found;

/// Without a word from the environment: so many of each, in every test run.
const USUALLY: u64 = 60;

/// The seeds of this run.
pub fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("DRUMBEAT_PROMISES") else { return 0..USUALLY };
    let range = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range.unwrap_or_else(|| panic!("DRUMBEAT_PROMISES is FROM..TO, as in 0..100, not {text:?}"))
}

/// What came of some runs.
pub struct Tally {
    promise: &'static str,
    store: &'static str,
    runs: u64,
    kills: u64,
    failures: Vec<String>,
}

impl Tally {
    pub fn new(promise: &'static str, store: &'static str) -> Self {
        Self { promise, store, runs: 0, kills: 0, failures: Vec::new() }
    }

    pub fn add(&mut self, kills: u64, told: &str, found: &[Found]) {
        self.runs += 1;
        self.kills += kills;
        if !found.is_empty() {
            self.failures.push(format!("{told}: {found:?}"));
        }
    }

    /// Writes it down, says it, and fails where a promise was not kept.
    pub fn done(self) {
        let Self { promise, store, runs, kills, failures } = self;
        if let Ok(path) = std::env::var("DRUMBEAT_PROMISES_RECORD") {
            let line = json!({ "promise": promise, "store": store, "runs": runs, "kills": kills, "failures": failures.len() });
            let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
            file.write_all(format!("{line}\n").as_bytes()).unwrap();
        }
        eprintln!("{promise} over {store}: {runs} runs, {kills} kills, {} failures", failures.len());
        assert!(failures.is_empty(), "{promise} over {store}:\n{}", failures.join("\n"));
        assert!(kills * 4 >= runs, "{promise} over {store}: hardly anything was killed: {kills} of {runs}");
    }
}
