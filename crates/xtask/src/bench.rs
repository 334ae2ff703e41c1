//! `cargo x bench`: each measurement against a physical limit in the same run, as a ratio with the CPU it took per item.
//!
//! Absolute times vary with the machine and from run to run; ratios and CPU per item hold. Beside each figure that has one stands its goal. A goal
//! that is missed fails nothing: on another machine it may be met.

mod audience;
mod commit;
mod decide;
mod deliver;
mod idle;
mod measure;
mod postgres;
mod refresh;
mod simulate;

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};

use crate::process;

/// Where figures are kept.
const RECORD: &str = "tests/bench.json";

/// A measurement: its name, how many items by default, and what it does with so many.
struct Bench {
    name: &'static str,
    items: u64,
    run: fn(u64) -> Result<Value>,
}

const BENCHES: &[Bench] = &[
    Bench { name: "audience", items: 100_000, run: audience::run },
    Bench { name: "commit", items: 100_000, run: commit::run },
    Bench { name: "decide", items: 1_000_000, run: decide::run },
    Bench { name: "deliver", items: 20_000, run: deliver::run },
    Bench { name: "idle", items: 1_000_000, run: idle::run },
    Bench { name: "refresh", items: 1_000_000, run: refresh::run },
    Bench { name: "simulate", items: 10_000, run: simulate::run },
];

pub(crate) fn main(arguments: &[String]) -> Result<()> {
    let (mut name, mut items, mut record) = (None, None, false);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--record" => record = true,
            "--items" => {
                let count = arguments.next().context("`--items` needs a number")?;
                items = Some(count.parse::<u64>().context("`--items` needs a whole number")?.max(1));
            }
            known if BENCHES.iter().any(|bench| bench.name == known) => name = Some(known.to_owned()),
            other => {
                let known: Vec<&str> = BENCHES.iter().map(|bench| bench.name).collect();
                bail!(
                    "`{other}` is neither a measurement ({}) nor `--items N` or `--record`",
                    known.join(", ")
                );
            }
        }
    }
    let wanted = BENCHES.iter().filter(|bench| name.as_ref().is_none_or(|name| name == bench.name));
    for bench in wanted {
        println!("==> {}", bench.name);
        let load = load();
        let mut figures = (bench.run)(items.unwrap_or(bench.items)).with_context(|| bench.name)?;
        figures["machine"] = machine(load)?;
        println!("{figures:#}");
        for goal in figures.get("goals").and_then(Value::as_array).into_iter().flatten() {
            println!("{}", measure::told(goal));
        }
        println!();
        if record {
            keep(bench.name, figures)?;
        }
    }
    Ok(())
}

/// How many programs wanted a core in the last minute: who else works on the machine takes from what is measured, and from its limit.
fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split_ascii_whitespace().next()?.parse().ok()
}

/// Puts figures in the place of those of the same name.
fn keep(name: &str, figures: Value) -> Result<()> {
    let path = process::root()?.join(RECORD);
    let mut all: Map<String, Value> = match fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).with_context(|| format!("cannot understand {RECORD}"))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Map::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {RECORD}")),
    };
    all.insert(name.to_owned(), figures);
    fs::write(&path, format!("{:#}\n", Value::Object(all))).with_context(|| format!("cannot write {RECORD}"))
}

/// Where, and of what, figures are: those of another machine are not to be compared with them, but as ratios.
fn machine(load: Option<f64>) -> Result<Value> {
    let first = |path: &str, key: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split_once(':').map_or_else(String::new, |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let mut git = Command::new("git");
    let commit = process::output(git.current_dir(process::root()?).args(["rev-parse", "HEAD"]))?;
    Ok(json!({
        "cpu": first("/proc/cpuinfo", "model name"),
        "cores": cores,
        "memory": first("/proc/meminfo", "MemTotal"),
        "system": process::output(Command::new("uname").arg("-sr"))?.trim(),
        "load_before": load,
        "commit": commit.trim(),
    }))
}
