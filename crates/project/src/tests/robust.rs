//! Whatever the files hold, loading them ends with a project or with mistakes at places that exist.

use proptest::prelude::*;

use super::made::{GOOD, Made};
use crate::Diagnostics;

/// Every place is in the project, or the diagnostic is about a whole file.
fn places_exist(made: &Made, diagnostics: &Diagnostics) {
    assert!(diagnostics.has_mistakes());
    for diagnostic in &diagnostics.0 {
        if diagnostic.line == 0 {
            continue;
        }
        let text = std::fs::read_to_string(made.dir.path().join(&diagnostic.file))
            .unwrap_or_else(|_| panic!("no file: {diagnostic:?}"));
        // A file that ends with a line break has one more, empty line, where something may be missing.
        let line =
            text.split('\n').nth(diagnostic.line - 1).unwrap_or_else(|| panic!("no line: {diagnostic:?}"));
        let line = line.trim_end_matches('\r');
        assert!(
            diagnostic.column >= 1 && diagnostic.column + diagnostic.len <= line.chars().count() + 2,
            "{diagnostic:?}"
        );
    }
    assert!(!diagnostics.render(true).is_empty() && diagnostics.to_json().is_array());
}

fn load(made: &Made) {
    if let Err(wrong) = made.load() {
        places_exist(made, &wrong);
    }
}

#[test]
fn a_project_with_any_line_gone_loads_or_says_where_it_is_wrong() {
    let made = Made::good();
    for (path, text) in GOOD {
        let lines: Vec<&str> = text.lines().collect();
        for gone in 0..lines.len() {
            let kept: Vec<&str> =
                lines.iter().enumerate().filter(|(at, _)| *at != gone).map(|(_, line)| *line).collect();
            made.write(path, kept.join("\n") + "\n");
            load(&made);
        }
        made.write(path, text);
    }
}

#[test]
fn a_project_with_any_value_replaced_loads_or_says_where_it_is_wrong() {
    let made = Made::good();
    for (path, text) in GOOD.iter().filter(|(path, _)| path.ends_with(".yml")) {
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let Some(colon) = line.find(": ") else { continue };
            for other in [
                "",
                "[]",
                "{}",
                "{x: {y: 1}}",
                "nonsense",
                "-1",
                "true",
                "{env: NO_SUCH}",
                "[a, {b: c}]",
                "\"\"",
                "*x",
                "!t x",
                "ä\u{202e}",
            ] {
                let changed = format!("{}: {other}", &line[..colon]);
                let mut lines: Vec<&str> = lines.clone();
                lines[at] = &changed;
                made.write(path, lines.join("\n") + "\n");
                load(&made);
            }
        }
        made.write(path, text);
    }
}

#[test]
fn files_that_are_too_large_too_deep_or_not_text_are_refused() {
    let made = Made::good();
    for (bytes, expected) in [
        (vec![b'#'; 1024 * 1024 + 1], "larger than 1 MiB"),
        (vec![b'a', 0xff], "not UTF-8, from byte 1 on"),
        (format!("a: {}", "[".repeat(5_000)).into_bytes(), "not YAML"),
        (
            (0..200).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect::<String>().into_bytes(),
            "not YAML",
        ),
    ] {
        made.write("segments/at_risk.yml", bytes);
        let wrong = made.load().unwrap_err();
        assert!(wrong.render(false).contains(expected), "{wrong}");
        places_exist(&made, &wrong);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn arbitrary_bytes_in_any_file_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0..GOOD.len()) {
        let made = Made::good();
        made.write(GOOD[at].0, bytes);
        load(&made);
    }

    #[test]
    fn arbitrary_yaml_in_any_file_never_panics(text in "([a-z]{1,6}: ?[\\[\\]{}a-z0-9:,'\"|>*&!%#@ -]{0,12}\n( {0,4}- )?){0,8}", at in 0..GOOD.len()) {
        let made = Made::good();
        made.write(GOOD[at].0, text);
        load(&made);
    }

    #[test]
    fn a_byte_changed_in_any_file_never_panics(at in 0..GOOD.len(), position in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let made = Made::good();
        let mut bytes = GOOD[at].1.as_bytes().to_vec();
        let position = position.index(bytes.len());
        bytes[position] = byte;
        made.write(GOOD[at].0, bytes);
        load(&made);
    }
}
