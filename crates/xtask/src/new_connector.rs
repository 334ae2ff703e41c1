//! `cargo x new-connector NAME`: a folder under `connectors/` with a connector that compiles and conforms, its line in `lib.rs`, and its row
//! in the manual's table.
//!
//! Absent: a choice of what it is for. It is mail over HTTP, the most common; audiences and records are read off the others.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use crate::process;

/// What is made: a file of the folder, and its text with `NAME` and `Name` to be replaced.
const FILES: &[(&str, &str)] = &[
    ("mod.rs", include_str!("new_connector/connector.txt")),
    ("settings.rs", include_str!("new_connector/settings.txt")),
    ("golden/replies.txt", include_str!("new_connector/replies.txt")),
    ("README.md", include_str!("new_connector/manual.txt")),
];

/// Words that Rust keeps for itself (its reference, "Keywords"), and a crate that the list of connectors names.
const TAKEN: &[&str] = &[
    "abstract",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "struct",
    "super",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
    "connector",
];

pub(crate) fn main(arguments: &[String]) -> Result<()> {
    let [name] = arguments else { bail!("usage: cargo x new-connector NAME") };
    let made = make(&process::root()?, name)?;
    for path in made {
        println!("{}", path.display());
    }
    println!(
        "It compiles and conforms, and speaks an API that nobody has: connectors/{name}/mod.rs says where to begin. Try it with\n\
         DRUMBEAT_CONNECTOR={name} cargo test -p connectors suite"
    );
    Ok(())
}

/// Makes a connector in the workspace at `root`; gives what was made or changed, by its path from there.
///
/// # Errors
/// The name cannot be one or is taken, in which case nothing was touched; or a file cannot be read or written.
fn make(root: &Path, name: &str) -> Result<Vec<PathBuf>> {
    ensure!(
        model::name::is_name(name),
        "`{name}` is no name of a connector: {}; take the provider's name",
        model::name::NameError
    );
    let camel = camel(name);
    let words = |text: &str| text.split(|c: char| !c.is_alphanumeric()).any(|word| word == camel);
    let is_used = FILES.iter().any(|(file, text)| file.ends_with(".rs") && words(&text.replace("Name", "")));
    ensure!(
        !TAKEN.contains(&name) && !is_used,
        "`{name}` is a word that the code of connectors uses already; add one to it, such as `{name}_mail`"
    );
    let (list, manual) = (PathBuf::from("connectors/lib.rs"), PathBuf::from("connectors/README.md"));
    let folder = Path::new("connectors").join(name);
    for taken in [folder.clone(), folder.with_extension("rs")] {
        ensure!(
            !root.join(&taken).exists(),
            "{} is there already, and nothing is overwritten",
            taken.display()
        );
    }
    // Both are known to be possible before anything is written.
    let listed = with_line(&read(root, &list)?, &format!("    {name},"), is_listed)
        .with_context(|| format!("cannot find the list in {}", list.display()))?;
    let row = format!(
        "| [{name}]({name}/README.md) | mail through {name} | A: may be repeated, under the same key |"
    );
    let told = with_line(&read(root, &manual)?, &row, is_row)
        .with_context(|| format!("cannot find the table in {}", manual.display()))?;
    let mut made = Vec::new();
    for (file, text) in FILES {
        let path = folder.join(file);
        write(root, &path, &text.replace("NAME", name).replace("Name", &camel))?;
        made.push(path);
    }
    write(root, &list, &listed)?;
    write(root, &manual, &told)?;
    made.extend([list, manual]);
    Ok(made)
}

/// `acme_mail` as a type is called: `AcmeMail`.
fn camel(name: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str())
    };
    name.split('_').filter_map(capital).collect()
}

/// A line of the list in `lib.rs`: a name of a module, and a comma.
fn is_listed(line: &str) -> bool {
    line.strip_prefix("    ").and_then(|line| line.strip_suffix(',')).is_some_and(model::name::is_name)
}

/// A row of the table in the manual, below its head.
fn is_row(line: &str) -> bool {
    line.starts_with("| [")
}

/// A text with one line more among those that `belongs` knows, in their order; `None`: there are none.
fn with_line(text: &str, line: &str, belongs: fn(&str) -> bool) -> Option<String> {
    let mut lines: Vec<&str> = text.lines().collect();
    let last = lines.iter().rposition(|one| belongs(one))?;
    let place = lines.iter().position(|one| belongs(one) && key(line) < key(one)).unwrap_or(last + 1);
    lines.insert(place, line);
    Some(lines.join("\n") + "\n")
}

/// By what a line is sorted: the first name in it.
fn key(line: &str) -> &str {
    let start = line.trim_start_matches(|c: char| !c.is_ascii_lowercase());
    start.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default()
}

fn read(root: &Path, path: &Path) -> Result<String> {
    fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {}", path.display()))
}

fn write(root: &Path, path: &Path, text: &str) -> Result<()> {
    let context = || format!("cannot write {}", path.display());
    let whole = root.join(path);
    fs::create_dir_all(whole.parent().unwrap_or(root)).with_context(context)?;
    fs::write(whole, text).with_context(context)
}

#[cfg(test)]
mod tests;
