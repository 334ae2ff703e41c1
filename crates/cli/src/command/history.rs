//! `log --history`: every change of every row, read from the log of acts, which keeps what the rows forget.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use jiff::Timestamp;
use model::{DeliveryId, DeliveryState, Reason};
use serde_json::{Map, Value, json};
use state::State;
use state::delivery::{Filter, LoggedDelivery};

use super::log::{Shown, ids, object};
use crate::failure::Failure;

/// What a change is told with, besides the row's own columns.
pub(crate) const COLUMNS: &[&str] = &[
    "at",
    "change",
    "delivery",
    "profile",
    "playbook",
    "version",
    "step",
    "channel",
    "destination",
    "purpose",
    "template",
    "state",
    "reason",
    "saw",
    "decided_at",
    "settled_at",
    "receipt",
];
/// What a person's screen has room for.
pub(crate) const NARROW: &[&str] =
    &["at", "change", "profile", "playbook", "step", "state", "reason", "delivery"];

/// Rows and entries read at once.
const PAGE: u32 = 1_000;

/// A row of the log while its changes are read.
struct Row {
    latest: LoggedDelivery,
    shown: Shown,
    decided_at: Value,
    state: &'static str,
}

/// Every change that fits, newest first. Of a filter, what is about the row chooses rows, and what is about a state, a reason or a
/// time chooses changes.
pub(crate) async fn changes(state: &State, filter: &Filter) -> Result<Vec<Shown>, Failure> {
    let mut rows = rows(state, filter).await?;
    let mut changes: Vec<(Timestamp, Shown)> = Vec::new();
    let mut take = |at: Timestamp, change: Shown| {
        if fits(at, &change, filter) {
            changes.push((at, change));
        }
    };
    let mut tx = state.read().await?;
    let mut after = -1;
    loop {
        let entries = state::audit::entries(&mut tx, after, PAGE).await?;
        let Some(last) = entries.last() else { break };
        after = last.batch;
        for entry in &entries {
            let Ok(Value::Object(entry)) = serde_json::from_str(&entry.json) else { continue };
            let id = entry.get("body").and_then(|body| body["delivery"].as_str()).map(DeliveryId::known);
            let Some(row) = id.and_then(|id| rows.get_mut(&id)) else { continue };
            if let Some((at, change)) = change(row, &entry) {
                take(at, change);
            }
        }
    }
    // What a crash left in doubt is in the log of acts as a number of rows.
    for row in rows.values_mut() {
        let latest = row.latest.delivery.state.shown();
        if row.state != latest {
            let at = row.latest.settled_at.unwrap_or(row.latest.delivery.decided_at);
            let told = Told { state: latest, reason: row.latest.delivery.reason.as_str(), ..Told::default() };
            take(at, shown(row, "found", at, &told));
        }
    }
    // Of one time, the last that was written comes first.
    changes.reverse();
    changes.sort_by_key(|(at, _)| Reverse(*at));
    Ok(changes.into_iter().map(|(_, change)| change).collect())
}

async fn rows(state: &State, filter: &Filter) -> Result<BTreeMap<DeliveryId, Row>, Failure> {
    let of_rows = Filter { state: None, reason: None, since: None, until: None, ..filter.clone() };
    let mut tx = state.read().await?;
    let mut rows = BTreeMap::new();
    let mut after = None;
    loop {
        let found = state::delivery::find(&mut tx, &of_rows, after.as_ref(), PAGE).await?;
        let Some(last) = found.last() else { return Ok(rows) };
        after = Some(last.cursor());
        let ids = ids(&mut tx, &found).await?;
        for latest in found {
            let shown = object(&latest, ids.get(&latest.delivery.profile).cloned());
            let id = latest.delivery.id.clone();
            rows.insert(id, Row { latest, shown, decided_at: Value::Null, state: "" });
        }
    }
}

/// What an entry says became of a row.
#[derive(Default)]
struct Told<'a> {
    state: &'static str,
    reason: &'a str,
    saw: Option<&'a str>,
    receipt: Option<&'a str>,
}

/// The change that an entry tells of, if it is one.
fn change(row: &mut Row, entry: &Map<String, Value>) -> Option<(Timestamp, Shown)> {
    let at: Timestamp = entry.get("at")?.as_str()?.parse().ok()?;
    let body = entry.get("body")?;
    let text = |key: &str| body[key].as_str();
    let kind = entry.get("kind")?.as_str()?;
    let told = match kind {
        "decision" | "last_look" => {
            let state = DeliveryState::parse(text("state")?)?.shown();
            Told { state, reason: text("reason")?, ..Told::default() }
        }
        "cancelled" => Told { state: "cancelled", reason: text("reason")?, ..Told::default() },
        "attempt" => {
            let outcome = text("outcome")?;
            // To be tried again is to be pending.
            let state = DeliveryState::parse(outcome).unwrap_or(DeliveryState::Pending).shown();
            let reason = text("reason").unwrap_or(Reason::OkAccepted.as_str());
            Told { state, reason, saw: text("said"), receipt: text("receipt") }
        }
        "doubt_resolved" => {
            let state = match text("as")? {
                "accepted" => "accepted",
                "not accepted" => "rejected",
                _ => "pending",
            };
            Told { state, reason: "", saw: text("why"), ..Told::default() }
        }
        _ => return None,
    };
    if kind == "decision" {
        row.decided_at = json!(at.to_string());
        if let Some(version) = text("version") {
            row.shown.insert("version".to_owned(), json!(version));
        }
    }
    Some((at, shown(row, kind, at, &told)))
}

fn shown(row: &mut Row, change: &str, at: Timestamp, told: &Told<'_>) -> Shown {
    row.state = told.state;
    let at = json!(at.to_string());
    let settled = !["pending", "deferred"].contains(&told.state);
    let mut shown: Shown = COLUMNS
        .iter()
        .map(|name| ((*name).to_owned(), row.shown.get(*name).cloned().unwrap_or(Value::Null)))
        .collect();
    for (key, value) in [
        ("change", json!(change)),
        ("state", json!(told.state)),
        ("reason", json!(Some(told.reason).filter(|reason| !reason.is_empty()))),
        ("saw", json!(told.saw)),
        ("decided_at", row.decided_at.clone()),
        ("settled_at", if settled { at.clone() } else { Value::Null }),
        ("receipt", json!(told.receipt)),
        ("at", at),
    ] {
        shown.insert(key.to_owned(), value);
    }
    shown
}

fn fits(at: Timestamp, change: &Shown, filter: &Filter) -> bool {
    filter.state.is_none_or(|state| change["state"] == state.shown())
        && filter.reason.is_none_or(|reason| change["reason"] == reason.as_str())
        && filter.since.is_none_or(|since| at >= since)
        && filter.until.is_none_or(|until| at < until)
}
