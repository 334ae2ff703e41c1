//! `cargo x mutants`: every deliberate break of `tests/mutants.txt`, made, and the test that must fail of it.
//!
//! A mutant is chosen by the environment, so that one build has them all. Its test must pass without it, or its failing would say nothing.

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::process;

/// A line of the list.
struct Mutant<'a> {
    name: &'a str,
    room: &'a str,
    test: &'a str,
}

pub(crate) fn main(arguments: &[String]) -> Result<()> {
    let list = fs::read_to_string(process::root()?.join("tests/mutants.txt")).context("tests/mutants.txt")?;
    let listed = list.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    let mut mutants = Vec::new();
    for line in listed {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, room, test] = words[..] else { bail!("not `mutant room test`: {line}") };
        mutants.push(Mutant { name, room, test });
    }
    if let Some(unknown) = arguments.iter().find(|wanted| mutants.iter().all(|one| one.name != **wanted)) {
        bail!("there is no mutant `{unknown}` in tests/mutants.txt");
    }
    mutants.retain(|one| arguments.is_empty() || arguments.iter().any(|wanted| wanted == one.name));
    process::run(process::cargo()?.args(["build", "--quiet", "--locked", "--package", "cli"]))?;
    let mut survivors = Vec::new();
    for mutant in &mutants {
        if !passes(mutant, None)? {
            bail!("{} of {} does not pass without a mutant", mutant.test, mutant.room);
        }
        let survives = passes(mutant, Some(mutant.name))?;
        println!("{:<20} {} {}", mutant.name, if survives { "SURVIVES" } else { "dies in" }, mutant.test);
        survivors.extend(survives.then_some(mutant.name));
    }
    if !survivors.is_empty() {
        bail!("{} of {} mutants survive: {}", survivors.len(), mutants.len(), survivors.join(", "));
    }
    println!("all {} mutants die", mutants.len());
    Ok(())
}

/// Whether the test passes, with or without a mutant.
///
/// # Errors
/// There is no such test: a test that does not run passes, and finds nothing.
fn passes(mutant: &Mutant<'_>, made: Option<&str>) -> Result<bool> {
    let mut cargo = process::cargo()?;
    cargo
        .args(["test", "--quiet", "--locked", "--package", mutant.room, mutant.test])
        .env_remove("DRUMBEAT_MUTANT")
        // What breaks a mutant is no case that the sources ever failed at.
        .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1");
    if let Some(name) = made {
        cargo.env("DRUMBEAT_MUTANT", name);
    }
    let output = cargo.output().context("cannot start cargo")?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !said.lines().any(|line| line.starts_with("running ") && line != "running 0 tests") {
        bail!("no test `{}` ran in {}", mutant.test, mutant.room);
    }
    Ok(output.status.success())
}
