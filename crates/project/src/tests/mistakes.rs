//! Each mistake made on purpose: what is said of it, the picture that a user sees, and many at once.

use super::elsewhere::ELSEWHERE;
use super::in_root_files::IN_ROOT_FILES;
use super::made::Made;

/// One line a diagnostic: code, place and length, message, label, hint.
fn short(made: &Made) -> Vec<String> {
    let diagnostics = match made.load() {
        Ok(loaded) => loaded.warnings.0,
        Err(wrong) => wrong.0,
    };
    let line = |one: &crate::Diagnostic| {
        let level = if one.warning { "warning " } else { "" };
        let more: String = [("; ", &one.label), (" = ", &one.hint)]
            .iter()
            .filter_map(|(mark, text)| Some(format!("{mark}{}", text.as_ref()?)))
            .collect();
        format!(
            "{level}{} {}:{}:{}+{} {}{more}",
            one.code, one.file, one.line, one.column, one.len, one.message
        )
    };
    diagnostics.iter().map(line).collect()
}

#[test]
fn every_mistake_is_said_at_its_place_and_nothing_else_is() {
    for (path, from, to, expected) in IN_ROOT_FILES.iter().chain(ELSEWHERE) {
        let made = Made::good();
        made.replace(path, from, to);
        assert_eq!(short(&made), *expected, "{path}: {to}");
    }
}

#[test]
fn the_picture_is_that_of_rustc() {
    let made = Made::good();
    made.replace("segments/at_risk.yml", "  where c.mrr > 0", "  where c.mrr > 0 and e.at < now()");
    made.replace("segments/reachable.yml", "  segment.open_ticket: false", "  segment.open_tickets: false");
    made.replace("playbooks/win_back.yml", "priority: 60", "priority: 101");
    let expected = "\
error[E0105]: `101` is not a whole number from 0 to 100
  --> playbooks/win_back.yml:14:11
   |
14 | priority: 101
   |           ^^^

error[E0301]: `now()` reads the database's own clock
 --> segments/at_risk.yml:9:30
  |
9 |   where c.mrr > 0 and e.at < now()
  |                              ^^^
  |
  = hint: a run that cannot be repeated cannot be audited: use `:now` or `:today`, or `:now_minus_14d`, `:today_plus_3d`

error[E0201]: there is no segment `open_tickets`
 --> segments/reachable.yml:6:11
  |
6 |   segment.open_tickets: false
  |           ^^^^^^^^^^^^
  |
  = hint: did you mean `open_ticket`?
";
    assert_eq!(made.wrong(), expected);
}

#[test]
fn a_password_written_into_a_file_is_not_drawn() {
    let made = Made::good();
    made.replace("drumbeat.yml", "  url: sqlite://warehouse.db", "  url: mysql://root:topsecret@db/shop");
    assert!(made.wrong().contains("url: mysql://root:*********@db/shop"), "{}", made.wrong());
}

#[test]
fn a_key_written_into_a_file_is_not_drawn() {
    for key in [
        "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC",
        "\"-----BEGIN PRIVATE KEY-----\\nhunter2\"",
        "|-\n        hunter2",
    ] {
        let made = Made::good();
        made.replace(
            "drumbeat.yml",
            "{domain: acme.test, selector: d1, key: {env: DKIM_KEY}}",
            &format!("\n      domain: acme.test\n      selector: d1\n      key: {key}"),
        );
        let wrong = made.wrong();
        assert!(wrong.contains("this is not a key that signs mail") && wrong.contains("***"), "{wrong}");
        assert!(!wrong.contains("MIIE") && !wrong.contains("hunter2"), "{wrong}");
    }
}

#[test]
fn all_mistakes_are_said_at_once() {
    let made = Made::good();
    let mut expected = Vec::new();
    for (path, from, to, said) in IN_ROOT_FILES.iter().chain(ELSEWHERE) {
        // Those that do not move or hide what others say: on a line of their own, and only about themselves.
        let alone = said.len() == 1
            && said.iter().all(|one| {
                one.contains(path)
                    && !one.starts_with("E0101")
                    && !one.starts_with("E0106")
                    && !one.starts_with("E0107")
            });
        let moves = from.matches('\n').count() != to.matches('\n').count();
        let line = |text: &str| text.split(':').nth(1).unwrap_or_default().to_owned();
        let taken =
            expected.iter().any(|earlier: &&str| earlier.contains(path) && line(earlier) == line(said[0]));
        let other_file = path.ends_with(".sql");
        if alone
            && !moves
            && !taken
            && !other_file
            && !["E0202", "E0103", "E0306"].iter().any(|code| said[0].starts_with(code))
        {
            made.replace(path, from, to);
            expected.extend(said.iter());
        }
    }
    assert!(expected.len() > 40, "{}", expected.len());
    let said = short(&made);
    for one in &expected {
        assert!(said.iter().any(|other| other == one), "not said: {one}\nbut: {said:#?}");
    }
}

#[test]
fn what_a_file_that_cannot_be_read_may_hold_is_not_missed() {
    for file in ["drumbeat.yml", "data.yml", "policy.yml", "segments/at_risk.yml", "playbooks/other.yml"] {
        let made = Made::good();
        made.write(file, "version: 1\nproject: [acme\n");
        let said = short(&made);
        assert!(said.len() == 1 && said[0].starts_with(&format!("E0101 {file}:2:10")), "{said:#?}");
        // What can be checked of the rest is, and nothing is made up.
        let reading = super::made::read(made.dir.path());
        if let Some(project) = reading.project {
            let mut columns = super::columns::columns();
            columns.segments.retain(|name, _| !file.contains(name.as_str()));
            let columns =
                crate::Columns { profiles: columns.profiles.filter(|_| file != "data.yml"), ..columns };
            let found = crate::check_columns(&project, &columns);
            assert!(!found.has_mistakes(), "{file}: {found}");
        }
    }
}

#[test]
fn keys_that_are_in_no_root_file_are_said_where_people_look_for_them() {
    let made = Made::good();
    std::fs::remove_file(made.dir.path().join("drumbeat.yml")).unwrap();
    let said = short(&made);
    for key in ["version", "project", "warehouse"] {
        let expected = format!(
            "E0103 drumbeat.yml:0:0+0 the key `{key}` is missing = there is no drumbeat.yml, and no other file in the \
             project's folder has the key"
        );
        assert!(said.contains(&expected), "{said:#?}");
    }
    let made = Made::good();
    made.replace("drumbeat.yml", "project: acme\n", "");
    made.replace("data.yml", "profiles:", "lookups:");
    assert_eq!(
        short(&made),
        [
            "E0103 data.yml:1:1+0 the key `profiles` is missing",
            "E0901 data.yml:1:1+7 not yet: `lookups` is not built yet",
            "E0103 drumbeat.yml:1:1+0 the key `project` is missing",
        ]
    );
    let nothing = Made::of(&[]);
    assert_eq!(
        short(&nothing),
        [
            "E0101 drumbeat.yml:0:0+0 there is no project here = make one with `drumbeat init`, or say where it is with `-C DIR`"
        ]
    );
    // An editor knows no line 0.
    let json = nothing.load().unwrap_err().to_json();
    assert_eq!((&json[0]["line"], &json[0]["column"]), (&1.into(), &1.into()));
}

#[test]
fn files_in_folders_of_folders_are_said_not_to_be_read() {
    let made = Made::good();
    made.write("segments/crm/lost.yml", "title: Lost\n");
    made.write("templates/mail/old/hello.mjml", "<mjml></mjml>");
    made.write("playbooks/.drafts/idea.yml", "title: Idea\n");
    assert_eq!(
        short(&made),
        [
            "warning E0101 segments/crm/lost.yml:0:0+0 this file is not read = files of segments/ lie in it, and not in folders of it",
            "warning E0101 templates/mail/old/hello.mjml:0:0+0 this file is not read = files of templates/ lie in it, and not in folders of it",
        ]
    );
}

#[test]
#[cfg(unix)]
fn a_state_in_the_warehouses_file_is_refused_by_whatever_way_it_is_named() {
    let made = Made::good();
    made.replace("drumbeat.yml", "state: sqlite://.drumbeat/state.db", "state: sqlite://./warehouse.db");
    assert_eq!(
        short(&made),
        [
            "E0108 drumbeat.yml:7:8+23 `state` and `warehouse.url` are the same file = the warehouse is only read; leave `state` out, or give it a file of its own: `sqlite://.drumbeat/state.db`",
        ]
    );
    let made = Made::good();
    made.write("warehouse.db", "");
    std::os::unix::fs::symlink(made.dir.path().join("warehouse.db"), made.dir.path().join("state.db"))
        .unwrap();
    made.replace("drumbeat.yml", "state: sqlite://.drumbeat/state.db", "state: sqlite://state.db");
    assert!(made.wrong().contains("`state` and `warehouse.url` are the same file"), "{}", made.wrong());
    made.replace("drumbeat.yml", "state: sqlite://state.db", "state: sqlite://other.db");
    assert_eq!(made.wrong(), "");
}
