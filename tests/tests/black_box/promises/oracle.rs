//! What the provider has against what the log says.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::provider::Took;
use super::stage::Stage;
use crate::support::reachable;

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The provider has it so often.
    Twice(String, u64),
    /// The log says accepted, and the provider has nothing.
    NeverCame(String),
    /// The provider has it, and the log says something else than accepted or in doubt.
    Denied(String, String),
    /// The provider has it, and the log has no such row.
    Unknown(String),
    /// So many rows in the log.
    Rows(usize),
    /// Somebody who should have the message, and neither has it nor is a doubt nor waits to be tried again: who, and the row's state
    /// and reason.
    Lost(String, String, String),
    /// A doubt that `in-doubt list` does not list.
    Unlisted(String),
    /// More doubts than there were messages under way when something died.
    Doubts(usize, u64),
    /// The run after the kills does not end well.
    DoesNotEnd(String),
    /// The audit log does not verify.
    Audit(String),
    /// What no provider can tell, in words.
    Otherwise(String),
}

/// What there may be after so many deaths.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How many people there are.
    pub people: usize,
    /// Doubts: no more than there were messages under way when something died.
    pub doubts: u64,
    /// Whether a row can have been in the hands of so many that died that it is taken for the cause.
    pub poison: bool,
    /// Whether the provider knows a message again, so that what got no answer is sent again and is no doubt.
    pub repeats: bool,
}

/// What the state says.
pub struct Told {
    /// The log.
    log: Vec<Value>,
    /// `in-doubt list`.
    listed: Vec<Value>,
}

/// Asks it.
pub fn read(stage: &Stage<'_>) -> Told {
    Told {
        log: stage.folder.run(&["--output", "ndjson", "log"]).code(0).lines(),
        listed: stage.folder.run(&["--output", "ndjson", "in-doubt", "list"]).lines(),
    }
}

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_default()
}

/// Compares.
pub fn look(Told { log, listed }: &Told, took: &Took, bounds: Bounds) -> Vec<Found> {
    let mut found = Vec::new();
    let rows: BTreeMap<&str, &str> =
        log.iter().map(|row| (text(row, "delivery"), text(row, "state"))).collect();
    for (delivery, times) in took {
        if *times > 1 {
            found.push(Found::Twice(delivery.clone(), *times));
        }
        match rows.get(delivery.as_str()) {
            None => found.push(Found::Unknown(delivery.clone())),
            Some(&("accepted" | "in_doubt")) => {}
            Some(&"pending") if bounds.repeats => {}
            Some(other) => found.push(Found::Denied(delivery.clone(), (*other).to_owned())),
        }
    }
    if log.len() != bounds.people || rows.len() != bounds.people {
        found.push(Found::Rows(log.len()));
    }
    let reachable: BTreeSet<String> = reachable(bounds.people).iter().map(ToString::to_string).collect();
    for row in log {
        let (delivery, state, profile) = (text(row, "delivery"), text(row, "state"), text(row, "profile"));
        if state == "accepted" && !took.contains_key(delivery) {
            found.push(Found::NeverCame(delivery.to_owned()));
        }
        let goes = match (state, text(row, "reason")) {
            ("accepted" | "in_doubt", _) | ("pending", "fail.smtp_4xx") => true,
            ("pending", "fail.remote_5xx" | "fail.outcome_unknown") => bounds.repeats,
            ("rejected", "fail.poison") => bounds.poison,
            _ => false,
        };
        if reachable.contains(profile) != goes {
            found.push(Found::Lost(profile.to_owned(), state.to_owned(), text(row, "reason").to_owned()));
        }
    }
    let listed: BTreeSet<&str> = listed.iter().map(|row| text(row, "delivery")).collect();
    let doubts: Vec<&str> =
        rows.iter().filter(|(_, state)| **state == "in_doubt").map(|(id, _)| *id).collect();
    found
        .extend(doubts.iter().filter(|id| !listed.contains(*id)).map(|id| Found::Unlisted((*id).to_owned())));
    if doubts.len() as u64 > bounds.doubts {
        found.push(Found::Doubts(doubts.len(), bounds.doubts));
    }
    found
}

/// The oracle itself is put to the test: a duplicate, a loss and a lie that are known must be found.
pub fn must_see_what_is_planted(told: &Told, took: &Took, people: usize) {
    let log = &told.log;
    let seen = |took: &Took, log: &[Value], expected: &dyn Fn(&Found) -> bool| {
        let told = Told { log: log.to_vec(), listed: told.listed.clone() };
        let found = look(&told, took, Bounds { people, doubts: u64::MAX, poison: false, repeats: false });
        assert!(found.iter().any(expected), "the oracle is blind: {found:?}");
    };
    let accepted = log.iter().find(|row| row["state"] == "accepted").expect("somebody has the message");
    let delivery = text(accepted, "delivery").to_owned();
    let mut twice = took.clone();
    *twice.entry(delivery.clone()).or_default() += 1;
    seen(&twice, log, &|found| matches!(found, Found::Twice(..)));
    let mut without = took.clone();
    without.remove(&delivery);
    seen(&without, log, &|found| matches!(found, Found::NeverCame(_)));
    let rest: Vec<Value> = log.iter().filter(|row| text(row, "delivery") != delivery).cloned().collect();
    seen(took, &rest, &|found| matches!(found, Found::Unknown(_)));
    seen(took, &rest, &|found| matches!(found, Found::Rows(_)));
    let mut denied = log.clone();
    for row in denied.iter_mut().filter(|row| text(row, "delivery") == delivery) {
        row["state"] = "rejected".into();
    }
    seen(took, &denied, &|found| matches!(found, Found::Denied(..)));
    seen(took, &denied, &|found| matches!(found, Found::Lost(..)));
}
