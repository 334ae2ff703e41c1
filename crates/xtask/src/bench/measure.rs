//! Wall time and CPU of another program, and what measurements have in common: a release build, a project in a folder.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{cost, process};

/// What a program took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Took {
    /// Seconds by the clock.
    pub(super) wall: f64,
    /// Seconds of CPU, its children's included.
    pub(super) cpu: f64,
}

impl Took {
    /// As figures, with the CPU of each item in microseconds.
    pub(super) fn figures(self, items: u64) -> Value {
        serde_json::json!({
            "seconds": round(self.wall),
            "cpu_seconds": round(self.cpu),
            "cpu_us_per_item": round(self.cpu * 1e6 / per(items)),
        })
    }
}

/// Two digits are more than a measurement is worth.
pub(super) fn round(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

/// A count to divide by.
pub(super) fn per(items: u64) -> f64 {
    // Exact below 2^32, and counts are.
    u32::try_from(items).map_or(f64::from(u32::MAX), f64::from)
}

/// Runs a program to its end; its output is thrown away.
pub(super) fn took(command: &mut Command) -> Result<Took> {
    let (took, _) = timed(|| process::run(command.stdin(Stdio::null()).stdout(Stdio::null())))?;
    Ok(took)
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(Took, T)> {
    let (began, cpu) = (Instant::now(), cost::children_seconds()?);
    let done = work()?;
    Ok((Took { wall: began.elapsed().as_secs_f64(), cpu: cost::children_seconds()? - cpu }, done))
}

/// The binary as it is shipped.
pub(super) fn release_binary() -> Result<PathBuf> {
    println!("building the release binary");
    process::run(process::cargo()?.args([
        "build",
        "--release",
        "--quiet",
        "--locked",
        "--package",
        "cli",
        "--bin",
        "drumbeat",
    ]))?;
    Ok(process::target_dir()?.join("release/drumbeat"))
}

/// One pass of a project at a time; what it took, and what it reports.
pub(super) fn pass(binary: &Path, project: &Path, now: &str) -> Result<(Took, Value)> {
    let mut command = Command::new(binary);
    command
        .arg("-C")
        .arg(project)
        .args(["--now", now, "--output", "json", "run", "--once"])
        .stdin(Stdio::null());
    command.env_remove("DRUMBEAT_ENV").env_remove("DRUMBEAT_MUTANT").env_remove("DRUMBEAT_FAILPOINT");
    let (took, report) = timed(|| process::output(&mut command))?;
    Ok((took, serde_json::from_str(&report).context("`run --once` did not report JSON")?))
}

/// Runs a script in the sqlite3 program on a file.
pub(super) fn sqlite(database: &Path, script: &str) -> Result<()> {
    let mut child = Command::new("sqlite3")
        .args(["-batch", "-bail"])
        .arg(database)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot start the sqlite3 program")?;
    let mut stdin = child.stdin.take().context("sqlite3 takes no script")?;
    stdin.write_all(script.as_bytes()).context("sqlite3 did not take the script")?;
    drop(stdin);
    let status = child.wait().context("cannot wait for sqlite3")?;
    if !status.success() {
        bail!("sqlite3 ended with {status}");
    }
    Ok(())
}

/// Writes a project's files into a folder, which is emptied first.
pub(super) fn project(folder: &Path, files: &[(&str, String)]) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    for (name, text) in files {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
