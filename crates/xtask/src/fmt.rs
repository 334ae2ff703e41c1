//! `cargo x fmt`: rustfmt over every Rust file, since `cargo fmt` does not see modules that a macro declares.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::process;

pub(crate) fn main(arguments: &[String]) -> Result<()> {
    match arguments {
        [] => format(&[]),
        [check] if check == "--check" => format(&["--check"]),
        _ => bail!("takes nothing but `--check`"),
    }
}

/// Formats every Rust file that git tracks or would track; `options` are rustfmt's.
pub(crate) fn format(options: &[&str]) -> Result<()> {
    let root = process::root()?;
    // Somebody else may own the checkout, as in a container; we only list it.
    let mut git = Command::new("git");
    git.current_dir(&root).args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others"]);
    let listed = process::output(git.args(["--exclude-standard", "--", "*.rs"]))?;
    let mut files: Vec<PathBuf> = listed.split_terminator('\0').map(|file| root.join(file)).collect();
    files.retain(|file| file.is_file());
    if files.is_empty() {
        bail!("git knows no Rust file in {}", root.display());
    }
    // rustfmt, unlike cargo, reads the edition from the command line or .rustfmt.toml, where it stands.
    process::run(Command::new("rustfmt").current_dir(&root).args(options).args(files))
}
