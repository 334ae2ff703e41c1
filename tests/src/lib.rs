//! What the tests here share: where the workspace is, and the built binary.
//!
//! Absent: anything that knows a room. A test here sees what a user sees: files, output, exit codes, the network.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The folder of the workspace: as Cargo says when it runs a test, for what was built in one checkout may be run
/// in another that shares its target folder.
///
/// # Panics
/// Never: this crate lies below it.
pub fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    here.parent().expect("this crate lies below the workspace").to_owned()
}

/// The built `drumbeat`. Built at the first call in a process, unless `DRUMBEAT_BIN` names it.
///
/// # Panics
/// It does not build.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| std::env::var_os("DRUMBEAT_BIN").map_or_else(build, PathBuf::from))
}

/// The one door, `cargo x`, to be given its arguments.
pub fn door() -> Command {
    let mut cargo = cargo();
    cargo.args(["run", "--quiet", "--locked", "--package", "xtask", "--"]);
    cargo
}

/// Where, and in the profile in which, this test was built.
fn profile() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    // TARGET/PROFILE/deps/TEST
    test.ancestors().nth(2).expect("a test lies in `deps` of its profile's folder").to_owned()
}

fn cargo() -> Command {
    let profile = profile();
    let target = profile.parent().expect("a profile's folder lies in the target folder");
    let mut cargo = Command::new("cargo");
    cargo.current_dir(root()).env("CARGO_TARGET_DIR", target).stdin(Stdio::null());
    cargo
}

fn build() -> PathBuf {
    let profile = profile();
    let mut cargo = cargo();
    cargo.args(["build", "--quiet", "--locked", "--package", "cli", "--bin", "drumbeat"]);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.status().expect("cargo runs");
    assert!(status.success(), "`drumbeat` does not build");
    profile.join(format!("drumbeat{}", std::env::consts::EXE_SUFFIX))
}
