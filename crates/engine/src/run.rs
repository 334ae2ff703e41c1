//! Whether a segment's run is believed. One that is not is held, and the last good membership stays in force.

use std::collections::BTreeMap;

use model::segment::{Expect, Quantity};
use model::{FreshName, Reason, Refusal};

/// What a run found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunSeen {
    /// Members, each once.
    pub rows: u64,
    /// All profiles there are.
    pub profiles: u64,
    /// Members of the last good run; `None`: there was none.
    pub previous: Option<u64>,
    /// Who came in since then.
    pub entered: u64,
    /// Who went out since then.
    pub left: u64,
    /// Rows without a value, for each column that must have one.
    pub nulls: BTreeMap<String, u64>,
    /// Parts of the warehouse that are too old, with what was seen.
    pub stale: Vec<(FreshName, String)>,
}

/// Judges a run by what its segment expects. The first reason found decides; all are told.
pub fn judge_run(expect: &Expect, seen: &RunSeen) -> Result<(), Refusal> {
    let mut broken: Vec<(Reason, String)> = Vec::new();
    for (_, saw) in &seen.stale {
        broken.push((Reason::SegmentStale, saw.clone()));
    }
    if seen.rows == 0 && seen.previous.is_some_and(|previous| previous > 0) && !allows_none(expect) {
        let previous = seen.previous.unwrap_or_default();
        broken.push((Reason::SegmentEmpty, format!("0 members, {previous} before")));
    }
    let mut anomaly = |saw: String| broken.push((Reason::SegmentAnomaly, saw));
    if let Some(min) = expect.rows_min.filter(|min| seen.rows < min.of(seen.profiles)) {
        anomaly(format!("{} members, `rows.min` is {min}{}", seen.rows, of(min, seen.profiles)));
    }
    if let Some(max) = expect.rows_max.filter(|max| exceeds(*max, seen.rows, seen.profiles)) {
        anomaly(format!("{} members, `rows.max` is {max}{}", seen.rows, of(max, seen.profiles)));
    }
    if let (Some(max), Some(previous)) = (expect.change_max, seen.previous) {
        let change = seen.entered.saturating_add(seen.left);
        // A share of nobody says nothing.
        let judged = matches!(max, Quantity::Count(_)) || previous > 0;
        if judged && exceeds(max, change, previous) {
            anomaly(format!(
                "{} in and {} out, `change.max` is {max}{}",
                seen.entered,
                seen.left,
                of(max, previous)
            ));
        }
    }
    for column in &expect.not_null {
        if let Some(count) = seen.nulls.get(column).filter(|count| **count > 0) {
            anomaly(format!("{count} rows without {column}"));
        }
    }
    match broken.first() {
        None => Ok(()),
        Some((reason, _)) => {
            let saw: Vec<&str> = broken.iter().map(|(_, saw)| saw.as_str()).collect();
            Err(Refusal { reason: *reason, saw: saw.join("; ") })
        }
    }
}

/// Whether the segment says itself that it may be empty.
fn allows_none(expect: &Expect) -> bool {
    match expect.rows_min {
        Some(Quantity::Count(count)) => count == 0,
        Some(Quantity::Share(share)) => share.is_none(),
        None => false,
    }
}

fn exceeds(max: Quantity, part: u64, whole: u64) -> bool {
    match max {
        Quantity::Count(count) => part > count,
        Quantity::Share(share) => share.is_exceeded_by(part, whole),
    }
}

fn of(quantity: Quantity, whole: u64) -> String {
    match quantity {
        Quantity::Count(_) => String::new(),
        Quantity::Share(_) => format!(" of {whole}"),
    }
}
