//! Wall time, CPU and memory of another program, and what measurements have in common: goals, a release build, a project in a folder.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

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
        json!({
            "seconds": round(self.wall),
            "cpu_seconds": round(self.cpu),
            "cpu_us_per_item": round(self.cpu * 1e6 / per(items)),
        })
    }
}

impl Took {
    /// The one of the two that took less time: the machine may have been busy during the other.
    pub(super) fn or_less(self, other: Self) -> Self {
        if other.wall < self.wall { other } else { self }
    }
}

impl std::ops::Sub for Took {
    type Output = Self;

    fn sub(self, less: Self) -> Self {
        Self { wall: self.wall - less.wall, cpu: self.cpu - less.cpu }
    }
}

/// What a figure is to be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    /// A figure, with what it is to be and whether it is.
    pub(super) fn of(self, what: &str, figure: f64) -> Value {
        match self {
            Self::AtMost(goal) => {
                json!({ "what": what, "figure": round(figure), "at_most": goal, "is_met": figure <= goal })
            }
            Self::AtLeast(goal) => {
                json!({ "what": what, "figure": round(figure), "at_least": goal, "is_met": goal <= figure })
            }
        }
    }
}

/// A goal in a line, as [`Goal::of`] made it.
pub(super) fn told(goal: &Value) -> String {
    let text = |key: &str| goal.get(key).map_or_else(String::new, |value| value.to_string());
    let bound = if goal.get("at_most").is_some() { "at_most" } else { "at_least" };
    let is_met = goal.get("is_met").and_then(Value::as_bool) == Some(true);
    format!(
        "{}: {}, {} {}: {}",
        goal.get("what").and_then(Value::as_str).unwrap_or_default(),
        text("figure"),
        bound.replace('_', " "),
        text(bound),
        if is_met { "met" } else { "MISSED" }
    )
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

/// The binary on a project, to be told what to do; nothing in the environment breaks it or chooses among its settings.
pub(super) fn drumbeat(binary: &Path, project: &Path) -> Command {
    let mut command = Command::new(binary);
    command.arg("-C").arg(project).stdin(Stdio::null());
    command.env_remove("DRUMBEAT_ENV").env_remove("DRUMBEAT_MUTANT").env_remove("DRUMBEAT_FAILPOINT");
    command
}

fn pass_at(binary: &Path, project: &Path, now: &str) -> Command {
    let mut command = drumbeat(binary, project);
    command.args(["--now", now, "--output", "json", "run", "--once"]);
    command
}

fn parsed(report: &str) -> Result<Value> {
    serde_json::from_str(report).context("`run --once` did not report JSON")
}

/// One pass of a project at a time; what it took, and what it reports.
pub(super) fn pass(binary: &Path, project: &Path, now: &str) -> Result<(Took, Value)> {
    let (took, report) = timed(|| process::output(&mut pass_at(binary, project, now)))?;
    Ok((took, parsed(&report)?))
}

/// The same, and the most memory it had resident, in KiB.
pub(super) fn pass_watched(binary: &Path, project: &Path, now: &str) -> Result<(Took, Value, u64)> {
    let (took, report, peak) = output_watched(&mut pass_at(binary, project, now))?;
    Ok((took, parsed(&report)?, peak))
}

/// Runs a program to its end; what it took, what it writes, and the most memory it had resident, in KiB.
pub(super) fn output_watched(command: &mut Command) -> Result<(Took, String, u64)> {
    let (took, (told, peak)) = timed(|| watched(command))?;
    Ok((took, told, peak))
}

/// What a program writes, and the most memory it had resident, in KiB. The kernel keeps the mark as long as the process
/// is there, and so it is looked at until then: what it takes in its last moment is not seen.
fn watched(command: &mut Command) -> Result<(String, u64)> {
    const LOOK_EVERY: Duration = Duration::from_millis(10);
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start the binary")?;
    let (id, mut told) = (child.id(), child.stdout.take().context("it has an output")?);
    let (done, is_done) = mpsc::channel::<()>();
    let watching = thread::spawn(move || {
        let mut peak = 0;
        while let Err(RecvTimeoutError::Timeout) = is_done.recv_timeout(LOOK_EVERY) {
            peak = memory(id, "VmHWM").unwrap_or(0).max(peak);
        }
        peak
    });
    let mut report = String::new();
    told.read_to_string(&mut report).context("it writes what is not text")?;
    let status = child.wait().context("cannot wait for the binary")?;
    drop(done);
    if !status.success() {
        bail!("the binary ended with {status}");
    }
    match watching.join() {
        Ok(peak @ 1..) => Ok((report, peak)),
        _ => bail!("its memory was not seen: this needs /proc, and a run that takes a moment"),
    }
}

/// A line of proc(5)'s status that is about memory, in KiB: `VmRSS` is resident now, `VmHWM` was at most.
pub(super) fn memory(pid: u32, key: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// KiB as MiB.
pub(super) fn mebibytes(kibibytes: u64) -> f64 {
    per(kibibytes) / 1024.0
}

/// What the sqlite3 program answers to a question on a file.
pub(super) fn ask_sqlite(database: &Path, sql: &str) -> Result<String> {
    process::output(Command::new("sqlite3").args(["-batch", "-readonly"]).arg(database).arg(sql))
}

/// How many rows each table has.
pub(super) fn rows(database: &Path) -> Result<BTreeMap<String, u64>> {
    const TABLES: &str =
        "select name from sqlite_schema where type = 'table' and name not like 'sqlite_%' order by name";
    let count = |table: &str| -> Result<(String, u64)> {
        let count = ask_sqlite(database, &format!("select count(*) from {table}"))?;
        Ok((table.to_owned(), count.trim().parse().context("a count is a number")?))
    };
    ask_sqlite(database, TABLES)?.lines().map(count).collect()
}

/// Where a project here keeps its state, unless it says otherwise.
pub(super) fn state_of(project: &Path) -> PathBuf {
    project.join(".drumbeat/state.db")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_told_with_its_figure_and_whether_it_is_met() {
        let met = Goal::AtMost(1.5).of("ratio", 1.5);
        assert_eq!(told(&met), "ratio: 1.5, at most 1.5: met");
        let missed = Goal::AtLeast(0.5).of("ratio", 0.499);
        assert_eq!(told(&missed), "ratio: 0.5, at least 0.5: MISSED");
    }

    #[test]
    fn the_most_memory_of_a_program_is_seen() {
        let mut program = Command::new("sh");
        let (told, peak) = watched(program.args(["-c", "sleep 0.1; echo done"])).unwrap();
        assert_eq!(told, "done\n");
        assert!((100..100_000).contains(&peak), "{peak} KiB");
        assert!(watched(Command::new("sh").args(["-c", "exit 3"])).is_err());
    }
}
