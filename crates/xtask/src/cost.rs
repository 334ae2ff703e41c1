//! What a clean build costs: CPU-minutes, since wall time says more about the machine than about us.
//!
//! Measured with the kernel's account of our children, so it needs Linux; elsewhere it says so and passes. A measured
//! figure is kept under a hash of what it depends on. Our own sources are left out of that hash: beside the
//! dependencies they weigh little, and every edit would cost a clean build.
//!
//! It is said, and nothing fails of it: the same sources have cost 8 CPU-minutes on one machine and twice that on another, so that a limit
//! would judge the machine.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use model::id::sha256_hex;

use crate::process;

/// What a clean build in the dev profile is to cost at most.
const CPU_MINUTES_GOAL: f64 = 8.0;

pub(crate) fn main(arguments: &[String]) -> Result<()> {
    if !arguments.is_empty() {
        bail!("takes no arguments");
    }
    check()
}

/// Prints what a clean build costs, beside its goal.
///
/// # Errors
/// It does not build.
pub(crate) fn check() -> Result<()> {
    if !Path::new("/proc/self/stat").exists() {
        println!("cost of a clean build: not measured, for this system has no /proc");
        return Ok(());
    }
    let folder = process::target_dir()?.join("build-cost");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let kept = folder.join(key()?);
    let (minutes, how) = match fs::read_to_string(&kept).ok().and_then(|text| text.trim().parse().ok()) {
        Some(minutes) => (minutes, "kept from an earlier build with the same dependencies and compiler"),
        None => {
            let minutes = measure(&folder.join("target"))?;
            fs::write(&kept, format!("{minutes:.2}\n"))
                .with_context(|| format!("cannot write {}", kept.display()))?;
            (minutes, "measured")
        }
    };
    println!(
        "cost of a clean build: {minutes:.2} CPU-minutes in the dev profile ({how}); the goal of {CPU_MINUTES_GOAL} is {}",
        if minutes <= CPU_MINUTES_GOAL {
            "met"
        } else {
            "MISSED: `cargo build --timings` shows what is heavy"
        }
    );
    Ok(())
}

/// A hash of what the figure depends on: the lock file, every manifest, the compiler, its flags.
fn key() -> Result<String> {
    let root = process::root()?;
    let mut manifests =
        vec![root.join("Cargo.lock"), root.join("Cargo.toml"), root.join("connectors/Cargo.toml")];
    manifests.push(root.join("tests/Cargo.toml"));
    let crates = root.join("crates");
    for entry in fs::read_dir(&crates).with_context(|| format!("cannot list {}", crates.display()))? {
        manifests.push(
            entry.with_context(|| format!("cannot list {}", crates.display()))?.path().join("Cargo.toml"),
        );
    }
    manifests.sort();
    let mut all = process::output(Command::new("rustc").arg("-vV"))?;
    let flags = std::env::var_os("RUSTFLAGS").unwrap_or_default();
    all += &format!("RUSTFLAGS={}", flags.to_string_lossy());
    for manifest in manifests.iter().filter(|manifest| manifest.is_file()) {
        all.push('\u{1f}');
        all +=
            &fs::read_to_string(manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
    }
    Ok(sha256_hex(all.as_bytes()))
}

/// CPU-minutes of a build into an empty folder, which is gone afterwards.
fn measure(target: &Path) -> Result<f64> {
    let clear = || -> Result<()> {
        if target.exists() {
            fs::remove_dir_all(target).with_context(|| format!("cannot remove {}", target.display()))?;
        }
        Ok(())
    };
    clear()?;
    println!("building everything into an empty folder, which takes some minutes");
    let before = children_seconds()?;
    let mut cargo = process::cargo()?;
    // As a developer builds: a CI that turns incremental builds off must measure the same thing.
    cargo.env("CARGO_TARGET_DIR", target).env_remove("CARGO_INCREMENTAL");
    let built = process::run(cargo.args(["build", "--quiet", "--workspace", "--locked"]));
    let seconds = children_seconds()? - before;
    clear()?;
    built?;
    Ok(seconds / 60.0)
}

/// CPU-seconds, in user and kernel mode, of all children of ours that have ended and were waited for, and of theirs.
pub(crate) fn children_seconds() -> Result<f64> {
    of_process("self", &CHILDREN)
}

/// CPU-seconds of a process that runs.
pub(crate) fn seconds(pid: u32) -> Result<f64> {
    of_process(&pid.to_string(), &ITSELF)
}

/// The same, with those of its children that have ended.
pub(crate) fn seconds_with_children(pid: u32) -> Result<f64> {
    Ok(seconds(pid)? + of_process(&pid.to_string(), &CHILDREN)?)
}

/// Who started a process, if it still runs.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    field(&stat, 4)?.parse().ok()
}

/// `utime` and `stime` of proc(5)'s stat, and `cutime` and `cstime`.
const ITSELF: [usize; 2] = [14, 15];
const CHILDREN: [usize; 2] = [16, 17];

fn of_process(name: &str, fields: &[usize]) -> Result<f64> {
    let path = format!("/proc/{name}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let ticks = ticks(&stat, fields).with_context(|| format!("{path} has another form than proc(5) says"))?;
    Ok(ticks / ticks_per_second()?)
}

/// Ticks of the clock in a second, in which the kernel accounts for CPU time.
fn ticks_per_second() -> Result<f64> {
    let text = process::output(Command::new("getconf").arg("CLK_TCK"))?;
    text.trim().parse().context("`getconf CLK_TCK` printed no number")
}

/// The sum of some fields.
fn ticks(stat: &str, fields: &[usize]) -> Option<f64> {
    fields.iter().map(|number| field(stat, *number)?.parse::<f64>().ok()).sum()
}

/// A field of proc(5)'s stat, counted from 1; from the third on. The second, the program's name in brackets, may hold blanks and
/// brackets itself.
fn field(stat: &str, number: usize) -> Option<&str> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(number.checked_sub(3)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_read_past_a_name_with_brackets_and_blanks() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 11 12 13 14 100 20 3000 400 20 0 1 0 5";
        assert_eq!(ticks(stat, &CHILDREN), Some(3400.0));
        assert_eq!(ticks(stat, &ITSELF), Some(120.0));
        assert_eq!(field(stat, 4), Some("1"));
        assert_eq!(ticks("7 (short) S 1", &CHILDREN), None);
    }

    #[test]
    fn the_work_of_a_child_is_counted_when_it_has_ended() {
        let before = children_seconds().unwrap();
        let burn = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        process::run(Command::new("sh").args(["-c", burn])).unwrap();
        assert!(before < children_seconds().unwrap());
    }
}
