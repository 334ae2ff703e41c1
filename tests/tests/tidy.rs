//! The rules of the house as tests. A failure says `file:line: rule, and what to do`.
//!
//! Rules that a compiler or clippy holds are not here. A word that is forbidden is written in two parts, since this file obeys the
//! rules, too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use tests::root;

/// The longest a Rust file may be.
const LINES_MAX: usize = 600;

/// Marks of what is not finished: what is not built is absent.
const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
];

/// Names that say nothing.
const EMPTY_NAMES: &[&str] = &["common", "helper", "helpers", "manager", "misc", "util", "utils"];

/// Where somebody's files lie, which are nowhere else.
const SOMEBODYS_FOLDERS: &[&str] =
    &[concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/Us", "ers/")];

/// What stands at the top, besides dot files.
const TOP: &[&str] =
    &["Cargo.lock", "Cargo.toml", "README.md", "connectors", "crates", "deploy", "playbooks", "tests"];

/// What each room may know; `xtask` and `tests` may know all of it.
const LAYERS: &[(&str, &[&str])] = &[
    (
        "cli",
        &[
            "connector",
            "connectors",
            "daemon",
            "engine",
            "message",
            "model",
            "project",
            "state",
            "warehouse",
            "web",
        ],
    ),
    ("connector", &["model"]),
    ("connectors", &["connector", "model"]),
    ("daemon", &["connector", "engine", "message", "model", "project", "state", "warehouse"]),
    ("engine", &["model"]),
    ("message", &["model"]),
    ("model", &[]),
    ("project", &["message", "model"]),
    ("simulator", &["connector", "daemon", "engine", "message", "model", "project", "state", "warehouse"]),
    ("state", &["model"]),
    ("warehouse", &["model"]),
    ("web", &["connector", "daemon", "engine", "message", "model", "project", "state", "warehouse"]),
];

/// Rooms without IO, clock and dice, and the crates that would bring them.
const PURE: &[&str] = &["connector", "connectors", "engine", "message", "model", "project"];
const IMPURE: &[&str] = &["axum", "rand", "reqwest", "rustls", "sqlx", "tokio"];

/// A file of the repository: its path from the root, and its text.
struct File {
    path: String,
    text: String,
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Lines with their numbers.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(position, line)| (position + 1, line))
    }

    fn complain(&self, line: usize, rule: &str) -> String {
        format!("{}:{line}: {rule}", self.path)
    }
}

/// Paths that git tracks, or would: not what is built, and not what running leaves behind.
fn paths() -> Vec<String> {
    let mut git = Command::new("git");
    // Somebody else may own the checkout, as in a container; we only list it.
    git.current_dir(root()).args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others"]);
    let listed = git.arg("--exclude-standard").output().expect("git runs");
    assert!(
        listed.status.success(),
        "git cannot list the files: {}",
        String::from_utf8_lossy(&listed.stderr)
    );
    let listed = String::from_utf8(listed.stdout).expect("paths are text");
    listed.split_terminator('\0').filter(|path| root().join(path).is_file()).map(str::to_owned).collect()
}

/// Every file that holds text.
fn files() -> Vec<File> {
    let text = |path: &str| fs::read_to_string(root().join(path)).ok();
    paths().into_iter().filter_map(|path| text(&path).map(|text| File { path, text })).collect()
}

fn rust_files() -> Vec<File> {
    files().into_iter().filter(File::is_rust).collect()
}

#[track_caller]
fn none(complaints: impl IntoIterator<Item = String>) {
    let complaints: Vec<String> = complaints.into_iter().collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn without_header(file: &File) -> Option<String> {
    let rule = "a file opens with `//!`: say in a sentence what it is, and what is deliberately absent";
    (!file.text.starts_with("//! ")).then(|| file.complain(1, rule))
}

fn too_long(file: &File) -> Option<String> {
    let lines = file.text.lines().count();
    (LINES_MAX < lines)
        .then(|| file.complain(lines, "a file has at most 600 lines: split it by what it is about"))
}

fn unfinished(file: &File) -> Vec<String> {
    let rule = "nothing is left to be done later: do it, or leave it out and say so in the `//!`";
    let said = |line: &str| UNFINISHED.iter().any(|mark| has_word(line, mark));
    file.lines().filter(|(_, line)| said(line)).map(|(number, _)| file.complain(number, rule)).collect()
}

/// Whether a line holds a word that is not a part of a longer one.
fn has_word(line: &str, word: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let (before, after) =
            (line.get(..at).unwrap_or_default(), line.get(at + word.len()..).unwrap_or_default());
        !before.ends_with(joins) && !after.starts_with(joins)
    })
}

fn empty_name(path: &str) -> Option<String> {
    let mut words = path.split(['/', '_', '-', '.']);
    let word = words.find(|word| EMPTY_NAMES.contains(word))?;
    Some(format!("{path}:1: `{word}` says nothing: name the file after what is in it"))
}

fn somebodys_folder(file: &File) -> Vec<String> {
    let rule = "a path of one machine: use a path from the project, a variable, or a temporary folder";
    let said = |line: &str| SOMEBODYS_FOLDERS.iter().any(|folder| line.contains(folder));
    file.lines().filter(|(_, line)| said(line)).map(|(number, _)| file.complain(number, rule)).collect()
}

fn prints(file: &File) -> Vec<String> {
    let allowed = file.path == "crates/cli/src/print.rs" || file.path.starts_with("crates/xtask/");
    let ours = file.path.starts_with("crates/") || file.path.starts_with("connectors/");
    if allowed
        || !ours
        || !file.is_rust()
        || ["/tests/", "/examples/"].iter().any(|part| file.path.contains(part))
        || file.path.ends_with("/build.rs")
    {
        return Vec::new();
    }
    let rule = "only cli::print prints: a secret or a person must not reach a terminal past it. Return the text, or log it with tracing";
    let said = |line: &str| ["print!(", "println!(", "dbg!("].iter().any(|word| line.contains(word));
    file.lines().filter(|(_, line)| said(line)).map(|(number, _)| file.complain(number, rule)).collect()
}

fn sql_of_state(file: &File) -> Vec<String> {
    if !file.path.starts_with("crates/state/src/") && !file.path.starts_with("crates/state/migrations/") {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    for (number, line) in file.lines() {
        let code = line.trim_start();
        if code.starts_with("//") || code.starts_with("--") {
            continue;
        }
        let squeezed = code.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        if squeezed.contains("select *") {
            complaints.push(
                file.complain(number, "columns are named: a new one must not change what a query means"),
            );
        }
        // Lease time is the database's own, and the one device that reads it is there.
        if reads_clock(&squeezed) && !file.path.ends_with("/dialect.rs") {
            complaints.push(file.complain(number, "campaign time is an argument: bind it"));
        }
    }
    complaints
}

/// Whether a line in lower case asks the database what time it is.
fn reads_clock(line: &str) -> bool {
    let rusts = |before: &str| before.ends_with(|c: char| c.is_alphanumeric() || "_:.".contains(c));
    line.match_indices("now()").any(|(at, _)| !rusts(line.get(..at).unwrap_or_default()))
        || ["current_timestamp", "current_date", "clock_timestamp", "'now'"]
            .iter()
            .any(|word| line.contains(word))
}

/// Modules' files that no other file declares, and so are not compiled.
fn undeclared(files: &[File]) -> Vec<String> {
    let texts: BTreeMap<&str, &str> =
        files.iter().map(|file| (file.path.as_str(), file.text.as_str())).collect();
    let declared = |path: &str| {
        let (mut folder, file) = path.rsplit_once('/').unwrap_or(("", path));
        let mut name = file.trim_end_matches(".rs");
        if name == "mod" {
            (folder, name) = folder.rsplit_once('/').unwrap_or(("", folder));
        }
        let is_root = matches!(name, "main" | "lib" | "build")
            || folder.ends_with("/tests")
            || folder.ends_with("/examples");
        let parents = ["/mod.rs", ".rs", "/lib.rs", "/main.rs"].map(|end| format!("{folder}{end}"));
        // A registry declares by a macro: the name, and a comma.
        let forms = [format!("mod {name};"), format!("    {name},\n")];
        let says = |parent: &String| {
            texts.get(parent.as_str()).is_some_and(|text| forms.iter().any(|form| text.contains(form)))
        };
        is_root || parents.iter().any(says)
    };
    let rule = "no file declares this module, so it is never compiled: declare it, or remove it";
    files.iter().filter(|file| !declared(&file.path)).map(|file| file.complain(1, rule)).collect()
}

/// The names of mutants in the sources, each with a place.
fn mutants(files: &[File]) -> BTreeMap<String, String> {
    let mut mutants = BTreeMap::new();
    for file in files.iter().filter(|file| !file.path.starts_with("tests/")) {
        for (number, line) in file.lines().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for part in line.split("mutant(\"").skip(1) {
                let name = part.split('"').next().unwrap_or_default();
                mutants.entry(name.to_owned()).or_insert_with(|| format!("{}:{number}", file.path));
            }
        }
    }
    mutants
}

/// A room and what it depends on, tests excepted.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(root()).args(["metadata", "--format-version", "1", "--no-deps"]);
    let metadata = cargo.output().expect("cargo runs");
    let metadata: serde_json::Value =
        serde_json::from_slice(&metadata.stdout).expect("cargo's metadata are JSON");
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let name = |value: &serde_json::Value| value["name"].as_str().unwrap_or_default().to_owned();
    let shipped = |dependency: &serde_json::Value| dependency["kind"].as_str() != Some("dev");
    let packages = list(&metadata["packages"]);
    let of = |package: &serde_json::Value| {
        list(&package["dependencies"]).iter().filter(|one| shipped(one)).map(name).collect()
    };
    packages.iter().map(|package| (name(package), of(package))).collect()
}

#[test]
fn every_rust_file_says_what_it_is() {
    none(rust_files().iter().filter_map(without_header));
}

#[test]
fn no_rust_file_is_longer_than_600_lines() {
    none(rust_files().iter().filter_map(too_long));
}

#[test]
fn nothing_is_left_to_be_done_later() {
    none(files().iter().filter(|file| file.path != "Cargo.lock").flat_map(unfinished));
}

#[test]
fn files_are_named_after_what_is_in_them() {
    none(paths().iter().filter_map(|path| empty_name(path)));
}

#[test]
fn no_file_names_a_folder_of_one_machine() {
    none(files().iter().flat_map(somebodys_folder));
}

#[test]
fn only_the_printer_prints() {
    none(files().iter().flat_map(prints));
}

#[test]
fn sql_in_state_names_its_columns_and_reads_no_clock() {
    none(files().iter().flat_map(sql_of_state));
}

#[test]
fn every_module_is_declared() {
    none(undeclared(&rust_files()));
}

#[test]
fn the_top_holds_eight_things_and_dot_files() {
    let all = paths();
    let there: BTreeSet<&str> = all.iter().filter_map(|path| path.split('/').next()).collect();
    let visible = there.iter().copied().filter(|name| !name.starts_with('.'));
    let more = visible
        .filter(|name| !TOP.contains(name))
        .map(|name| format!("{name}:1: does not belong at the top: {TOP:?}"));
    let missing = TOP
        .iter()
        .filter(|name| !there.contains(*name))
        .map(|name| format!("{name}:1: is missing at the top"));
    none(more.chain(missing));
}

#[test]
fn every_room_connector_and_project_has_a_readme() {
    let mut folders = BTreeSet::new();
    for path in paths() {
        let parts: Vec<&str> = path.split('/').collect();
        if let [top @ ("crates" | "connectors" | "playbooks"), folder, _, ..] = parts[..] {
            folders.insert(format!("{top}/{folder}"));
        }
    }
    let bare = folders.into_iter().filter(|folder| !root().join(folder).join("README.md").is_file());
    none(bare.map(|folder| {
        format!("{folder}/README.md:1: is missing: a folder's README is its chapter of the manual")
    }));
}

#[test]
fn rooms_know_only_the_rooms_below() {
    let all = dependencies();
    let rooms: BTreeSet<&str> = all.keys().map(String::as_str).collect();
    let mut complaints = Vec::new();
    for (room, known) in all.iter().filter(|(room, _)| !matches!(room.as_str(), "xtask" | "tests")) {
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| name == room) else {
            complaints.push(format!("Cargo.toml:1: the room `{room}` is not in LAYERS of tests/tests/tidy.rs: say there what it may know"));
            continue;
        };
        let ours = known.iter().filter(|one| rooms.contains(one.as_str()));
        for one in ours.filter(|one| !allowed.contains(&one.as_str())) {
            complaints.push(format!(
                "crates/{room}/Cargo.toml:1: `{room}` may not know `{one}`: what both need belongs in `model`"
            ));
        }
    }
    assert!(LAYERS.iter().all(|(room, _)| rooms.contains(room)), "LAYERS names a room that is not there");
    none(complaints);
}

#[test]
fn pure_rooms_have_no_runtime_database_network_or_dice() {
    let all = dependencies();
    let impure = |room: &str| {
        let known = all.get(room).cloned().unwrap_or_default();
        known.into_iter().filter(|one| IMPURE.contains(&one.as_str())).collect::<Vec<_>>()
    };
    let complaints = PURE.iter().flat_map(|room| {
        impure(room)
            .into_iter()
            .map(move |one| format!("crates/{room}/Cargo.toml:1: `{room}` is pure and may not use `{one}`"))
    });
    none(complaints);
}

#[test]
fn rooms_take_dependencies_as_the_workspace_has_them() {
    let manifests =
        files().into_iter().filter(|file| file.path.ends_with("Cargo.toml") && file.path != "Cargo.toml");
    let mut complaints = Vec::new();
    for file in manifests {
        let mut in_dependencies = false;
        for (number, line) in file.lines() {
            if line.starts_with('[') {
                in_dependencies = line.ends_with("dependencies]");
            } else if in_dependencies
                && line.contains('=')
                && !line.starts_with('#')
                && !line.ends_with(".workspace = true")
            {
                let rule = "version and features stand in the root's Cargo.toml, with the reason: write `NAME.workspace = true`";
                complaints.push(file.complain(number, rule));
            }
        }
    }
    none(complaints);
}

#[test]
fn every_mutant_is_listed_with_the_test_that_kills_it() {
    let sources = rust_files();
    let made = mutants(&sources);
    let list = fs::read_to_string(root().join("tests/mutants.txt")).expect("tests/mutants.txt is there");
    let mut complaints = Vec::new();
    let mut listed = BTreeSet::new();
    for (position, line) in
        list.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
    {
        let place = format!("tests/mutants.txt:{}", position + 1);
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, room, test] = words[..] else {
            complaints.push(format!("{place}: a line is `mutant room test`"));
            continue;
        };
        if !made.contains_key(name) {
            complaints.push(format!("{place}: no source has the mutant `{name}`: remove the line"));
        }
        let folder = match room {
            "tests" | "connectors" => format!("{room}/"),
            _ => format!("crates/{room}/"),
        };
        let function = format!("fn {test}(");
        let known = |file: &&File| file.path.starts_with(&folder) && file.text.contains(&function);
        if !sources.iter().any(|file| known(&file)) {
            complaints.push(format!(
                "{place}: `{room}` has no test `{test}`: name the one that fails under `{name}`"
            ));
        }
        listed.insert(name.to_owned());
    }
    for (name, place) in made.iter().filter(|(name, _)| !listed.contains(*name)) {
        complaints.push(format!(
            "{place}: the mutant `{name}` is not in tests/mutants.txt: list it with the test that kills it"
        ));
    }
    none(complaints);
}

#[test]
fn each_rule_finds_what_it_forbids() {
    let file = |path: &str, text: &str| File { path: path.to_owned(), text: text.to_owned() };
    let state = |text: &str| sql_of_state(&file("crates/state/src/outbox.rs", text)).len();
    assert!(without_header(&file("a.rs", "use std::fs;\n")).is_some());
    assert!(without_header(&file("a.rs", "//! What it is.\n")).is_none());
    assert!(too_long(&file("a.rs", &"\n".repeat(601))).is_some());
    assert!(too_long(&file("a.rs", &"\n".repeat(600))).is_none());
    assert_eq!(
        unfinished(&file("a.rs", concat!("fine\n// TO", "DO later\n")))[0].split(": ").next(),
        Some("a.rs:2")
    );
    assert!(unfinished(&file("a.rs", concat!("// masTO", "DOn and XX", "XX\n"))).is_empty());
    assert!(
        empty_name("crates/engine/src/cap_utils.rs").is_some()
            && empty_name("crates/engine/src/cap.rs").is_none()
    );
    assert_eq!(somebodys_folder(&file("a.yml", concat!("state: /ho", "me/ana/state.db\n"))).len(), 1);
    assert_eq!(prints(&file("crates/engine/src/walk.rs", "    eprintln!(\"{x:?}\");\n")).len(), 1);
    assert!(prints(&file("crates/cli/src/print.rs", "    println!(\"{x}\");\n")).is_empty());
    assert_eq!(state("\"SELECT  * FROM delivery\"\n"), 1);
    assert_eq!(state("\"UPDATE delivery SET due_at_ms = NOW()\"\n"), 1);
    assert_eq!(state("let began = Instant::now(); clock.now();\n// SELECT * reads everything\n"), 0);
    let orphan = [
        file("crates/engine/src/lib.rs", "//! x\nmod cap;\n"),
        file("crates/engine/src/cap.rs", ""),
        file("crates/engine/src/lost.rs", ""),
    ];
    assert_eq!(undeclared(&orphan).len(), 1);
    assert!(undeclared(&orphan)[0].starts_with("crates/engine/src/lost.rs:1"));
    let made = mutants(&[file("crates/engine/src/cap.rs", "if mutant(\"cap_off\") { x } // mutant\n")]);
    assert_eq!(made.get("cap_off").map(String::as_str), Some("crates/engine/src/cap.rs:1"));
    assert!(Path::new(&root()).join("Cargo.toml").is_file());
}
