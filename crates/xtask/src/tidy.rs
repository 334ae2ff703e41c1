//! `cargo x tidy`: the rules of the house that are a test, alone. What they are stands in `tests/tests/tidy.rs`.

use anyhow::{Result, bail};

use crate::process;

pub(crate) fn main(arguments: &[String]) -> Result<()> {
    if !arguments.is_empty() {
        bail!("takes no arguments");
    }
    process::run(process::cargo()?.args([
        "test",
        "--quiet",
        "--locked",
        "--package",
        "tests",
        "--test",
        "tidy",
    ]))
}
