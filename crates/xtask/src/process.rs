//! Other programs: cargo without what `cargo run` left in the environment, exit codes as errors, and where things are.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Variables that `cargo run` sets for us and that a cargo of ours must not see, or it takes build scripts for stale.
const SET_BY_CARGO: &[&str] = &[
    "CARGO",
    "CARGO_BIN_NAME",
    "CARGO_CRATE_NAME",
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_PATH",
    "CARGO_PRIMARY_PACKAGE",
    "LD_LIBRARY_PATH",
    "OUT_DIR",
];

/// The folder of the workspace: as Cargo says when it runs this, for what was built in one checkout may be run in
/// another that shares its target folder.
pub(crate) fn root() -> Result<PathBuf> {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").context("this is run by `cargo x`")?;
    let here = Path::new(&here);
    Ok(here.ancestors().nth(2).context("this crate lies two folders below the workspace")?.to_owned())
}

/// cargo, in the workspace's folder.
pub(crate) fn cargo() -> Result<Command> {
    let mut command = Command::new("cargo");
    command.current_dir(root()?).stdin(Stdio::null());
    for name in SET_BY_CARGO {
        command.env_remove(name);
    }
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") {
            command.env_remove(name);
        }
    }
    Ok(command)
}

/// Runs a program with its output on ours.
///
/// # Errors
/// It cannot be started, or ends with another code than 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", shown(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", shown(command));
    }
    Ok(())
}

/// What a program writes to its standard output; its standard error is ours.
///
/// # Errors
/// It cannot be started, ends with another code than 0, or writes what is not UTF-8.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    if !output.status.success() {
        bail!("{} ended with {}", shown(command), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("{} wrote what is not text", shown(command)))
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let metadata = output(cargo()?.args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: serde_json::Value =
        serde_json::from_str(&metadata).context("cannot read cargo's metadata")?;
    let target = metadata.get("target_directory").and_then(serde_json::Value::as_str);
    Ok(PathBuf::from(target.context("cargo's metadata names no target folder")?))
}

/// A program on the PATH, or where Debian keeps those of the administrator.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    // A formatter is given every file there is; its name and first words say enough.
    const WORDS_SHOWN: usize = 6;
    let more = if words.len() > WORDS_SHOWN { " ..." } else { "" };
    format!("`{}{more}`", words.get(..WORDS_SHOWN).unwrap_or(&words).join(" "))
}
