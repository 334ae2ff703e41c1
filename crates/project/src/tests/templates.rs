//! Templates: what is wrong in their files, at the sends, and for people who are made up.

use super::columns::{columns, short};
use super::made::Made;
use crate::{Diagnostics, check_columns};

fn loaded(made: &Made) -> Vec<String> {
    short(&made.load().err().unwrap_or_default())
}

/// Mistakes and warnings of the check with a database, with their hints.
fn checked(made: &Made) -> Vec<String> {
    let project = made.load().unwrap_or_else(|wrong| panic!("{wrong}")).project;
    let Diagnostics(found) = check_columns(&project, &columns());
    let line = |one: &crate::Diagnostic| {
        let (level, hint) =
            (if one.warning { "warning" } else { "error" }, one.hint.as_deref().unwrap_or_default());
        format!("{level} {} {}:{} {} = {hint}", one.code, one.file, one.line, one.message)
    };
    found.iter().filter(|one| one.code != "E0404").map(line).collect()
}

#[test]
fn what_is_wrong_in_a_template_is_shown_in_its_file() {
    let made = Made::good();
    made.replace("templates/nudge.mjml", "profile.first_name", "profil.first_name");
    made.write("templates/Bad Name.mjml", "");
    made.write("templates/unused.md", "---\nsubject: x\n---\n{{ nothing }}\n");
    let wrong = made.load().unwrap_err();
    let places: Vec<(&str, &str, usize)> =
        wrong.0.iter().map(|one| (one.code, one.file.as_str(), one.line)).collect();
    assert_eq!(
        places,
        [
            ("T0101", "templates/Bad Name.mjml", 0),
            ("T0203", "templates/nudge.mjml", 4),
            ("T0203", "templates/unused.md", 4)
        ]
    );
    assert_eq!(wrong.0[1].hint.as_deref(), Some("did you mean `profile`?"));
    assert!(wrong.0[1].source.contains("profil.first_name"));
}

#[test]
fn a_template_that_names_the_account_needs_the_accounts() {
    let made = Made::of(&[]);
    for (path, text) in super::made::GOOD {
        let text = text.replace("where: {account.tier: gold}", "where: {profile.plan: team}");
        made.write(
            path,
            text.replace(", {account.arr: {over: 20000}, entry.plan: {same_as: account.tier}}", ""),
        );
    }
    made.replace("data.yml", "accounts:\n  sql: select company_id as id, name, arr, tier from companies\n  columns: {arr: number, tier: {values: [gold, tin]}}\n", "");
    assert_eq!(
        loaded(&made),
        ["E0103 templates/hello.md:4:57 `account` is asked for, and the key `accounts` is missing"]
    );
    made.replace("templates/hello.md", " of {{ account.name | default('nobody') }}", "");
    assert_eq!(loaded(&made), [""; 0]);
}

#[test]
fn what_a_template_prints_of_the_account_is_tried_on_who_has_none() {
    let made = Made::good();
    made.replace("templates/hello.md", "account.name | default('nobody')", "account.name");
    assert_eq!(
        checked(&made),
        [
            "warning E0402 templates/hello.md:4 the template `hello` gives no message for somebody of whom nothing is known: `account.name` is missing = they will not get it; if they should, give the value a `default(...)`"
        ]
    );
}

#[test]
fn a_message_that_advertises_prints_who_it_is_from_and_how_to_be_rid_of_it() {
    let made = Made::good();
    made.replace(
        "templates/_layout.mjml",
        "{{ postal_address }} <a href=\"{{ unsubscribe_url }}\">Unsubscribe</a>",
        "Bye",
    );
    assert_eq!(
        loaded(&made),
        [
            "E0502 playbooks/win_back.yml:20:23 the template `nudge` does not print `postal_address` in every language and part",
            "E0502 playbooks/win_back.yml:20:23 the template `nudge` does not print `unsubscribe_url` in every language and part",
            "E0502 playbooks/win_back.yml:29:42 the template `nudge` does not print `postal_address` in every language and part",
            "E0502 playbooks/win_back.yml:29:42 the template `nudge` does not print `unsubscribe_url` in every language and part",
        ]
    );
}

#[test]
fn what_a_template_prints_of_with_each_step_tells_it() {
    let made = Made::good();
    made.replace(
        "templates/nudge.mjml",
        "{{ with.subject | default('Is everything all right?') }}",
        "{{ with.subject }}",
    );
    made.replace("playbooks/win_back.yml", "with: {subject: \"Ten\"", "with: {subjct: \"Ten\"");
    let wrong = made.load().unwrap_err();
    assert_eq!(
        short(&wrong),
        [
            "E0403 playbooks/win_back.yml:20:23 the template `nudge` prints `with.subject`, and this step does not tell it",
            "E0403 playbooks/win_back.yml:29:42 the template `nudge` prints `with.subject`, and this step does not tell it",
        ]
    );
    assert_eq!(wrong.0[1].hint.as_deref(), Some("the step tells it `subjct`"));
}

#[test]
fn columns_that_a_template_names_are_there() {
    let made = Made::good();
    made.replace("templates/nudge.mjml", "profile.first_name", "profile.firstname");
    made.replace("templates/nudge.mjml", "entry.plan", "entry.last_order");
    assert_eq!(
        checked(&made),
        [
            "error E0304 templates/nudge.mjml:4 the profiles' query has no column `firstname` = did you mean `profile.first_name`?",
            "error E0304 templates/nudge.mjml:4 the segment `reachable` has no column `last_order` = the playbook `win_back` sends it",
        ]
    );
}

#[test]
fn messages_are_made_for_somebody_with_everything_with_nothing_and_with_bad_intent() {
    let made = Made::good();
    assert_eq!(checked(&made), [""; 0]);

    made.replace(
        "templates/nudge.mjml",
        "{{ profile.first_name | default('there') }}",
        "{{ profile.first_name }}",
    );
    assert_eq!(
        checked(&made),
        [
            "warning E0402 templates/nudge.mjml:4 the template `nudge` gives no message for somebody of whom nothing is known: \
          `profile.first_name` is missing = they will not get it; if they should, give the value a `default(...)`"
        ]
    );

    let made = Made::good();
    made.replace("templates/hello.md", "Hello {{", "{{ unsubscribe_url }} {{");
    let found = checked(&made);
    assert!(
        found[0].starts_with(
            "error E0401 templates/hello.md:4 the template `hello` gives no message for somebody of whom everything is known: `unsubscribe_url` is missing"
        ),
        "{found:#?}"
    );

    let made = Made::good();
    made.replace("templates/hello.md", "Hello {{", "{{ profile.plan | date('yyyy') }} {{");
    let found = checked(&made);
    assert!(found.iter().any(|one| one.starts_with("error E0401 templates/hello.md:4 the template `hello` gives no message for somebody of whom everything is known")), "{found:#?}");
}

#[test]
fn what_is_not_written_in_a_language_of_the_project_is_named() {
    let project = Made::good().load().unwrap().project;
    let found = check_columns(&project, &columns());
    let missing: Vec<&str> =
        found.0.iter().filter(|one| one.code == "E0404").map(|one| one.message.as_str()).collect();
    assert_eq!(
        missing,
        ["the template `hello` is not written in `de`", "the template `nudge` is not written in `de`"]
    );
}

#[test]
fn a_template_that_cannot_be_read_is_no_missing_template() {
    let made = Made::good();
    made.write("templates/nudge.mjml", [0xff, 0xfe]);
    assert_eq!(
        loaded(&made),
        ["E0101 templates/nudge.mjml:0:0 cannot read this file: it is not UTF-8, from byte 0 on"]
    );
}
