//! What is made is built and held to what every connector is held to, in a workspace of its own.

use std::fs::File;
use std::process::Command;

use super::*;

const NAME: &str = "acme_mail";

/// Those files of the workspace that [`make`] reads and that a build of the connectors needs, but for the folders of those that are there.
fn beginning(root: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("connectors")).unwrap();
    for entry in fs::read_dir(root.join("connectors")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, folder.path().join("connectors").join(path.file_name().unwrap())).unwrap();
        }
    }
    folder
}

fn lines(root: &Path, file: &str, belongs: fn(&str) -> bool) -> Vec<String> {
    let text = fs::read_to_string(root.join(file)).unwrap();
    text.lines().filter(|line| belongs(line)).map(|line| key(line).to_owned()).collect()
}

#[test]
fn its_line_and_its_row_stand_in_order() {
    let folder = beginning(&process::root().unwrap());
    let before = lines(folder.path(), "connectors/lib.rs", is_listed);
    // At the beginning, in the middle, at the end.
    for name in [NAME, "mandrill", "zulip"] {
        make(folder.path(), name).unwrap();
    }
    let listed = lines(folder.path(), "connectors/lib.rs", is_listed);
    assert!(listed.is_sorted() && listed.len() == before.len() + 3, "{listed:?}");
    assert_eq!(lines(folder.path(), "connectors/README.md", is_row), listed);
}

#[test]
fn what_cannot_be_made_is_refused_and_nothing_is_touched() {
    let folder = beginning(&process::root().unwrap());
    let list = fs::read_to_string(folder.path().join("connectors/lib.rs")).unwrap();
    fs::create_dir(folder.path().join("connectors/brevo")).unwrap();
    for (name, why) in [
        ("Acme", "lower-case words"),
        ("acme-mail", "lower-case words"),
        ("../acme", "lower-case words"),
        ("", "lower-case words"),
        ("brevo", "connectors/brevo is there already"),
        ("oauth", "connectors/oauth.rs is there already"),
        ("match", "uses already"),
        ("item", "such as `item_mail`"),
    ] {
        let error = format!("{:#}", make(folder.path(), name).unwrap_err());
        assert!(error.contains(why), "{name}: {error}");
    }
    assert_eq!(fs::read_to_string(folder.path().join("connectors/lib.rs")).unwrap(), list);
}

/// Writes what is not there already: a file that stays as it is is not built again.
fn settle(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            settle(&from, &to);
        } else {
            put(&to, &fs::read(&from).unwrap());
        }
    }
}

fn put(path: &Path, bytes: &[u8]) {
    if fs::read(path).ok().as_deref() != Some(bytes) {
        fs::write(path, bytes).unwrap();
    }
}

/// Runs a program; what it said.
#[track_caller]
fn ran(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{command:?}\n{said}");
    said
}

#[test]
fn what_is_made_compiles_without_a_warning_is_formatted_and_conforms() {
    let root = process::root().unwrap();
    let made = beginning(&root);
    make(made.path(), NAME).unwrap();
    // It alone, and what it uses: the others would be most of the time.
    let list = made.path().join("connectors/lib.rs");
    let text = fs::read_to_string(&list).unwrap().replace("#[cfg(test)]\nmod tests;\n", "");
    let is_wanted = |line: &&str| match line.strip_prefix("mod ") {
        Some(module) => ["over_http;", "suite;"].contains(&module),
        None => !is_listed(line) || key(line) == NAME,
    };
    let alone: Vec<&str> = text.lines().filter(is_wanted).collect();
    fs::write(&list, alone.join("\n") + "\n").unwrap();

    // TARGET/PROFILE/deps/TEST; a place that stays, or each run would leave another build behind.
    let test = std::env::current_exe().unwrap();
    let (profile, target) = (test.ancestors().nth(2).unwrap(), test.ancestors().nth(3).unwrap());
    let place = target.join("tmp/new_connector");
    fs::create_dir_all(&place).unwrap();
    // Another checkout may have the same target folder.
    let lock = File::create(place.join("lock")).unwrap();
    lock.lock().unwrap();
    // Not where the workspace has them: the same path from the root is the same crate to cargo, and ours would be built again.
    settle(made.path(), &place.join("made"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let members = r#"members = ["crates/*", "connectors", "tests"]"#;
    assert!(manifest.contains(members), "the workspace has other members: adapt this test");
    let manifest = manifest
        .replace(members, r#"members = ["made/connectors"]"#)
        .replace("path = \"crates/", &format!("path = \"{}/crates/", root.display()));
    put(&place.join("Cargo.toml"), manifest.as_bytes());
    for file in ["Cargo.lock", ".rustfmt.toml"] {
        put(&place.join(file), &fs::read(root.join(file)).unwrap());
    }

    let mut cargo = process::cargo().unwrap();
    cargo.current_dir(&place).env("CARGO_TARGET_DIR", target).env("DRUMBEAT_CONNECTOR", NAME);
    cargo.args(["test", "--offline", "--package", "connectors", "--lib"]);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let said = ran(cargo.args(["--", "suite"]));
    assert!(said.contains("4 passed"), "{said}");
    // What is shared, and used by others only, is warned of here.
    let warned: Vec<&str> =
        said.lines().filter(|line| line.contains(&format!("connectors/{NAME}/"))).collect();
    assert!(warned.is_empty(), "{said}");

    let folder = place.join("made/connectors");
    let mut rustfmt = Command::new("rustfmt");
    rustfmt.current_dir(&place).arg("--check");
    rustfmt.args(["mod.rs", "settings.rs"].map(|file| folder.join(NAME).join(file)));
    ran(&mut rustfmt);
}
