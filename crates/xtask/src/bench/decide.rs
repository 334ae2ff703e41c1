//! Deciding: so many candidates through all gates, on one core, by the engine alone (`crates/engine/examples/decide.rs`).
//!
//! A process of its own, since a developer's build of the engine is not the one that ships.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::measure::{self, Goal, round};
use crate::process;

const PER_SECOND: f64 = 1_000_000.0;

pub(super) fn run(items: u64) -> Result<Value> {
    println!("building the engine as it is shipped");
    let mut example = process::cargo()?;
    example.args(["run", "--release", "--quiet", "--locked", "--package", "engine", "--example", "decide"]);
    let told = process::output(example.args(["--", &items.to_string()]))?;
    let told: Value = serde_json::from_str(&told).context("the example printed no JSON")?;
    let seconds = |key: &str| told.get(key).and_then(Value::as_f64).with_context(|| format!("no `{key}`"));
    let (deciding, gates) = (seconds("seconds")?, seconds("seconds_of_gates_alone")?);
    let per_second = measure::per(items) / deciding;
    Ok(json!({
        "candidates": items,
        "per_second": round(per_second),
        "us_per_item": round(deciding * 1e6 / measure::per(items)),
        "us_per_item_of_gates_alone": round(gates * 1e6 / measure::per(items)),
        "states": told.get("states"),
        "goals": [Goal::AtLeast(PER_SECOND).of("decisions a second", per_second)],
    }))
}
