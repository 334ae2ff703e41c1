//! The README's commands, typed by a newcomer in an empty folder.

use crate::support::Folder;

#[test]
fn the_demo_makes_a_project_runs_it_and_says_what_to_type_next() {
    let folder = Folder::empty();
    let first = folder.run(&["demo"]).code(0);
    assert!(first.out.contains("win_back") && first.out.contains("accepted"), "{}", first.out);
    let shown: Vec<&str> =
        first.err.lines().filter_map(|line| line.trim().strip_prefix("drumbeat ")).collect();
    assert_eq!(shown.len(), 3, "three commands worth typing: {}", first.err);
    for line in shown {
        let args: Vec<&str> = line.split_whitespace().collect();
        folder.run(&args).code(0);
    }
    let mails = std::fs::read_dir(folder.path().join("drumbeat-demo/outbox")).unwrap().count();
    assert!(mails > 500, "{mails} files in the outbox");
    let again = folder.run(&["demo"]).code(0);
    assert!(again.err.contains("there already"), "{}", again.err);
    folder.run(&["-C", "drumbeat-demo", "check"]).code(0);
    folder.run(&["-C", "drumbeat-demo", "audit", "verify"]).code(0);
}

#[test]
fn the_demo_overwrites_nothing() {
    let folder = Folder::empty();
    folder.write("mine/notes.txt", "keep me");
    folder.run(&["demo", "mine"]).code(1);
    assert_eq!(folder.read("mine/notes.txt"), "keep me");
}

/// The five commands of the README's "From the demo to your own data", read from the README itself.
#[test]
fn from_the_demo_to_your_own_data_in_five_commands() {
    let folder = Folder::empty();
    folder.run(&["demo"]).code(0);
    let readme = std::fs::read_to_string(tests::root().join("README.md")).unwrap();
    let section = readme.split("## From the demo to your own data").nth(1).unwrap();
    let block = section.split("```sh").nth(1).unwrap().split("```").next().unwrap();
    let commands: Vec<&str> = block.lines().filter(|line| !line.trim().is_empty()).collect();
    assert_eq!(commands.len(), 5, "{commands:?}");
    for line in commands {
        // Installing is what the build of this test has done.
        let Some(args) = line.strip_prefix("drumbeat ") else {
            assert!(line.starts_with("cargo install"), "{line}");
            continue;
        };
        let args: Vec<&str> = args.split_whitespace().collect();
        let ran = folder.run(&args).code(0);
        // What was made says something to somebody, and the log shows it.
        if args.contains(&"log") {
            assert!(ran.out.lines().count() > 100 && ran.out.contains("accepted"), "{}", ran.out);
        }
    }
}

#[test]
fn the_first_words_a_newcomer_reads_are_there() {
    let folder = Folder::empty();
    let help = folder.run(&["--help"]).code(0).out;
    for command in [
        "init",
        "demo",
        "check",
        "plan",
        "run",
        "preview",
        "send-test",
        "test",
        "explain",
        "segment",
        "log",
        "in-doubt",
        "consent",
        "suppress",
        "audit",
        "halt",
        "playbook",
        "profile",
        "schema",
        "doctor",
        "backup",
        "completion",
        "version",
    ] {
        assert!(help.contains(command), "{command}");
    }
    folder.run(&["frobnicate"]).code(2);
    folder.run(&["-C", "nowhere", "check"]).code(78);
    folder.run(&["version"]).code(0);
    assert!(folder.run(&["completion", "bash"]).code(0).out.contains("drumbeat"));
    let schema = folder.run(&["schema", "playbook"]).code(0);
    assert!(schema.json()["$schema"].is_string() && schema.out.contains("\"steps\""), "{}", schema.out);
    folder.run(&["schema", "nonsense"]).code(1);
    folder.run(&["init", "fresh"]).code(0);
    assert!(folder.read("fresh/segments/newcomers.yml").starts_with("# yaml-language-server: $schema="));
}
