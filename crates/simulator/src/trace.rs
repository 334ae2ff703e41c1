//! What happened last, and how a failure reads.

use std::collections::VecDeque;
use std::fmt;

use jiff::Timestamp;

use crate::audit::Broken;

/// So many of the last things that happened are shown.
const SHOWN: usize = 20;

/// The last things that happened.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    lines: VecDeque<String>,
}

impl Trace {
    /// Something happened.
    pub fn note(&mut self, at: Timestamp, what: impl fmt::Display) {
        if self.lines.len() == SHOWN {
            self.lines.pop_front();
        }
        self.lines.push_back(format!("  {at} {what}"));
    }
}

/// A promise that was not kept, and how to see it again.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What was not kept, and when.
    pub broken: Broken,
    /// The test that runs it: `pure::a_season_of_campaigns`.
    pub test: &'static str,
    /// What happened last.
    pub trace: Trace,
}

impl fmt::Display for Failure {
    /// One line to run again, what was seen, and the last twenty things that happened.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, broken, test, trace } = self;
        writeln!(out, "seed {seed} · {broken} · DRUMBEAT_SEED={seed} cargo test -p simulator {test}")?;
        writeln!(out, "  {}", broken.saw)?;
        trace.lines.iter().try_for_each(|line| writeln!(out, "{line}"))
    }
}

impl std::error::Error for Failure {}
