//! `cargo x ci`: everything that must hold, in order, each step with its time; the first that fails ends it.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::{contracts, cost, fmt, process};

/// A step: its name, and what it does.
type Step = (&'static str, fn() -> Result<()>);

const QUICK: &[Step] = &[("fmt", || fmt::format(&["--check"])), ("clippy", clippy), ("test", test)];
const SLOW: &[Step] = &[("contracts", contracts::step), ("doc", doc), ("cost", cost::check)];

pub(crate) fn main(arguments: &[String]) -> Result<()> {
    let steps = match arguments {
        [] => [QUICK, SLOW].concat(),
        [quick] if quick == "--quick" => QUICK.to_vec(),
        _ => bail!("takes nothing but `--quick`"),
    };
    let mut times: Vec<(&str, Duration)> = Vec::new();
    for (name, step) in steps {
        println!("==> {name}");
        let began = Instant::now();
        let done = step();
        let took = began.elapsed();
        times.push((name, took));
        println!(
            "    {name}: {} after {:.1} s\n",
            if done.is_ok() { "good" } else { "FAILED" },
            took.as_secs_f64()
        );
        if let Err(error) = done {
            println!("ci: FAILED at {name}, {}", summary(&times));
            return Err(error).context(name);
        }
    }
    println!("ci: all good, {}", summary(&times));
    Ok(())
}

fn summary(times: &[(&str, Duration)]) -> String {
    let total: f64 = times.iter().map(|(_, took)| took.as_secs_f64()).sum();
    let each: Vec<String> =
        times.iter().map(|(name, took)| format!("{name} {:.0} s", took.as_secs_f64())).collect();
    format!("{total:.0} s in all ({})", each.join(", "))
}

fn clippy() -> Result<()> {
    let check = ["clippy", "--quiet", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    process::run(process::cargo()?.args(check))
}

fn test() -> Result<()> {
    // Built here, so that a test that runs the binary need not ask cargo for it.
    process::run(process::cargo()?.args([
        "build",
        "--quiet",
        "--locked",
        "--package",
        "cli",
        "--bin",
        "drumbeat",
    ]))?;
    let binary = process::target_dir()?.join("debug/drumbeat");
    let tests = |arguments: &[&str]| -> Result<Command> {
        let mut cargo = process::cargo()?;
        cargo.env("DRUMBEAT_BIN", &binary).args(arguments).args(["--workspace", "--locked"]);
        Ok(cargo)
    };
    // One process a binary: tests of it share one Postgres, which costs more to start than most of them to run.
    process::run(&mut tests(&["test", "--no-fail-fast"])?)
}

fn doc() -> Result<()> {
    let mut cargo = process::cargo()?;
    cargo.env("RUSTDOCFLAGS", "-D warnings").args(["doc", "--quiet", "--no-deps", "--workspace", "--locked"]);
    process::run(&mut cargo)
}
