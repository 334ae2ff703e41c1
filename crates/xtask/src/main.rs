//! `cargo x`: the one door to what a developer does. One file a command.
//!
//! Absent: what the product does. Nothing depends on this crate.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a developer's tool talks on the terminal")]

mod bench;
mod ci;
mod contracts;
mod cost;
mod fmt;
mod mutants;
mod new_connector;
mod process;
mod promises;
mod tidy;
mod warehouse;

use std::process::ExitCode;

use anyhow::Result;

/// A command: its name, what is typed after it, what it does, and the function that does it.
struct Command {
    name: &'static str,
    arguments: &'static str,
    does: &'static str,
    run: fn(&[String]) -> Result<()>,
}

/// Every command, in order of name.
const COMMANDS: &[Command] = &[
    Command {
        name: "bench",
        arguments: "[NAME] [--record]",
        does: "measure against a physical limit",
        run: bench::main,
    },
    Command {
        name: "ci",
        arguments: "[--quick]",
        does: "everything that must hold: fmt, clippy, test, contracts, doc, cost",
        run: ci::main,
    },
    Command {
        name: "contracts",
        arguments: "",
        does: "check what connectors ask with others' verifiers",
        run: contracts::main,
    },
    Command { name: "cost", arguments: "", does: "the CPU-minutes of a clean build", run: cost::main },
    Command { name: "fmt", arguments: "[--check]", does: "format every Rust file", run: fmt::main },
    Command {
        name: "mutants",
        arguments: "[NAME...]",
        does: "break it on purpose, and see a test fail",
        run: mutants::main,
    },
    Command {
        name: "new-connector",
        arguments: "NAME",
        does: "make a connector, to be changed",
        run: new_connector::main,
    },
    Command {
        name: "promises",
        arguments: "[--runs N | --page]",
        does: "try what is promised again and again, and count",
        run: promises::main,
    },
    Command { name: "tidy", arguments: "", does: "the rules of the house that are a test", run: tidy::main },
    Command {
        name: "warehouse",
        arguments: "cdnow FROM TO.db",
        does: "make the warehouse of playbooks/shop",
        run: warehouse::main,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let known =
        arguments.first().and_then(|name| COMMANDS.iter().find(|command| command.name == name.as_str()));
    let Some(command) = known else {
        usage();
        return ExitCode::from(2);
    };
    match (command.run)(arguments.get(1..).unwrap_or_default()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error:#}", command.name);
            ExitCode::FAILURE
        }
    }
}

fn usage() {
    eprintln!("usage: cargo x COMMAND\n");
    for Command { name, arguments, does, .. } in COMMANDS {
        eprintln!("  {:<28} {does}", format!("{name} {arguments}"));
    }
}
