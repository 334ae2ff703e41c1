//! What every connector is held to: the list, the conformance suite, the golden conversations, the manual.

use std::fs;
use std::path::Path;

use connector::Kind;
use connector::conformance::conformance;

use super::ALL;

/// A test runs in its crate's folder, which is that of the connectors.
fn folder(kind: &Kind) -> &Path {
    Path::new(kind.name)
}

#[test]
fn folders_and_list_agree_and_are_sorted() {
    let mut folders: Vec<String> = fs::read_dir(".")
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("mod.rs").exists())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    folders.sort();
    let listed: Vec<&str> = ALL.iter().map(|kind| kind.name).collect();
    assert_eq!(listed, folders);
}

/// Those that are tried one by one: all, or the one that `DRUMBEAT_CONNECTOR` names, for who writes it and does not want to wait for the others.
fn tried() -> Vec<&'static Kind> {
    let wanted = std::env::var_os("DRUMBEAT_CONNECTOR");
    let is_wanted = |kind: &&Kind| wanted.as_deref().is_none_or(|name| name == kind.name);
    let kinds: Vec<&Kind> = ALL.iter().copied().filter(is_wanted).collect();
    assert!(!kinds.is_empty(), "DRUMBEAT_CONNECTOR: there is no connector {wanted:?}");
    kinds
}

#[test]
fn every_connector_conforms() {
    let kinds = tried();
    // Side by side: millions of replies are played.
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let playing: Vec<_> =
            kinds.iter().map(|kind| (kind.name, scope.spawn(|| conformance(kind)))).collect();
        let told = playing.into_iter().map(|(name, one)| (name, one.join().unwrap()));
        told.flat_map(|(name, wrong)| wrong.into_iter().map(move |line| format!("{name}: {line}"))).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn golden_conversations_replay() {
    for kind in tried() {
        let mut count = 0;
        for entry in fs::read_dir(folder(kind).join("golden")).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            // For people who change a connector, and then read what it says now.
            if std::env::var_os("DRUMBEAT_REWRITE_GOLDEN").is_some() {
                fs::write(&path, connector::golden::rewritten(kind, &text).unwrap()).unwrap();
                count += 1;
                continue;
            }
            count += connector::golden::replay(kind, &text)
                .unwrap_or_else(|error| panic!("{}\n{error}", path.display()));
        }
        assert!(count > 0, "{} has no golden conversation", kind.name);
    }
}

#[test]
fn the_manual_names_every_setting() {
    for kind in tried() {
        let readme = fs::read_to_string(folder(kind).join("README.md")).unwrap();
        for key in (kind.schema)()["properties"].as_object().unwrap().keys() {
            assert!(readme.contains(&format!("`{key}`")), "{}/README.md does not mention `{key}`", kind.name);
        }
    }
}
