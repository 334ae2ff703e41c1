//! What the database said, against what the files say.

use model::SegmentName;
use model::segment::SegmentSource;
use model::value::ValueType;

use super::made::Made;
use crate::{Columns, Diagnostics, Project, check_columns, query_mistake};

/// The columns that the good project's queries have.
pub(super) fn columns() -> Columns {
    let text = Some(ValueType::Text);
    let of = |columns: &[(&str, Option<ValueType>)]| {
        columns.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect::<Vec<_>>()
    };
    Columns {
        profiles: Some(of(&[
            ("id", Some(ValueType::Integer)),
            ("email", text),
            ("timezone", text),
            ("locale", text),
            ("country", text),
            ("first_name", text),
            ("plan", text),
            ("trial_ends_at", Some(ValueType::Time)),
            ("account_id", text),
        ])),
        accounts: Some(of(&[("id", text), ("name", text), ("arr", Some(ValueType::Number)), ("tier", text)])),
        segments: [
            (
                SegmentName::known("at_risk"),
                of(&[("id", None), ("plan", text), ("last_seen", Some(ValueType::Time))]),
            ),
            (SegmentName::known("open_ticket"), of(&[("id", None)])),
        ]
        .into(),
    }
}

fn project(made: &Made) -> Project {
    made.load().unwrap_or_else(|wrong| panic!("{wrong}")).project
}

pub(super) fn short(diagnostics: &Diagnostics) -> Vec<String> {
    let line = |one: &crate::Diagnostic| {
        format!("{} {}:{}:{} {}", one.code, one.file, one.line, one.column, one.message)
    };
    diagnostics.0.iter().filter(|one| !one.warning).map(line).collect()
}

#[test]
fn nothing_is_said_of_a_project_that_fits_its_database() {
    assert_eq!(short(&check_columns(&project(&Made::good()), &columns())), [""; 0]);
}

#[test]
fn columns_that_are_not_there_are_said_where_they_are_named() {
    let made = Made::good();
    made.replace("playbooks/win_back.yml", "{entry.plan: team}", "{entry.paln: team}");
    made.replace("playbooks/win_back.yml", "to: profile.trial_ends_at", "to: profile.trial_end_at");
    made.replace("segments/at_risk.yml", "not_null: [last_seen]", "not_null: [last_sen]");
    made.replace("segments/at_risk.yml", "columns: {last_seen: time}", "columns: {seen_last: time}");
    made.replace("policy.yml", "profile.country: DE", "profile.land: DE");
    let found = check_columns(&project(&made), &columns());
    assert_eq!(
        short(&found),
        [
            "E0304 playbooks/win_back.yml:8:10 the segment `reachable` has no column `paln`",
            "E0304 playbooks/win_back.yml:24:16 the profiles' query has no column `trial_end_at`",
            "E0304 policy.yml:13:34 the profiles' query has no column `land`",
            "E0304 segments/at_risk.yml:12:11 the query has no column `seen_last`",
            "E0304 segments/at_risk.yml:16:14 the segment `at_risk` has no column `last_sen`",
        ]
    );
    assert_eq!(found.0[0].hint.as_deref(), Some("did you mean `plan`?"));
}

#[test]
fn columns_of_accounts_are_checked_as_those_of_people_are() {
    let made = Made::good();
    made.replace("playbooks/win_back.yml", "account.arr: {over", "account.ar: {over");
    made.replace("playbooks/win_back.yml", "same_as: account.tier", "same_as: account.teir");
    made.replace("policy.yml", "account.tier: gold", "account.name: {over: 3}");
    made.replace("templates/hello.md", "account.name", "account.nmae");
    made.replace("data.yml", "columns: {arr: number,", "columns: {arrr: number,");
    let found = check_columns(&project(&made), &columns());
    assert_eq!(
        short(&found),
        [
            "E0304 data.yml:12:13 the query has no column `arrr`",
            "E0304 playbooks/win_back.yml:8:69 the accounts' query has no column `ar`",
            "E0304 playbooks/win_back.yml:8:118 the accounts' query has no column `teir`",
            "E0305 policy.yml:14:39 `name` is text, and is asked for a number",
            "E0304 templates/hello.md:4:57 the accounts' query has no column `nmae`",
        ]
    );
    let hints: Vec<_> = found.0.iter().filter_map(|one| one.hint.as_deref()).collect();
    assert!(hints.contains(&"did you mean `account.name`?"), "{hints:?}");
}

#[test]
fn an_account_is_found_by_the_persons_account_id() {
    let mut columns = columns();
    columns.profiles.as_mut().unwrap().retain(|(name, _)| name != "account_id");
    columns.accounts.as_mut().unwrap().remove(0);
    let made = Made::good();
    let found = check_columns(&project(&made), &columns);
    assert_eq!(
        short(&found),
        [
            "E0304 data.yml:3:5 the profiles' query has no column `account_id`, and `account` is asked for",
            "E0303 data.yml:11:8 the accounts' query has no column `id`",
        ]
    );
    assert_eq!(
        found.0[0].hint.as_deref(),
        Some("a person's account is found by it: `select customer_id as id, account_id, ...`")
    );
}

#[test]
fn a_segments_first_column_is_its_id_and_people_have_one() {
    let mut columns = columns();
    columns.profiles.as_mut().unwrap().remove(0);
    columns.segments.get_mut("at_risk").unwrap().swap(0, 1);
    columns.segments.get_mut("open_ticket").unwrap().push(("id".to_owned(), None));
    assert_eq!(
        short(&check_columns(&project(&Made::good()), &columns)),
        [
            "E0303 data.yml:3:5 the profiles' query has no column `id`",
            "E0303 segments/at_risk.yml:7:3 the first column of a segment is `id`",
            "E0303 segments/sql/open_ticket.sql:1:1 the query has two columns `id`",
        ]
    );
}

#[test]
fn columns_of_another_type_are_said_with_how_to_declare_them() {
    let mut columns = columns();
    let profiles = columns.profiles.as_mut().unwrap();
    profiles[2].1 = Some(ValueType::Integer);
    profiles[7].1 = Some(ValueType::Text);
    let made = Made::good();
    made.replace(
        "playbooks/win_back.yml",
        "{profile.first_name: {missing: true}}",
        "{profile.first_name: {over: 3}}",
    );
    let found = check_columns(&project(&made), &columns);
    assert_eq!(
        short(&found),
        [
            "E0305 data.yml:3:5 the column `timezone` must be text",
            "E0305 playbooks/win_back.yml:8:30 `first_name` is text, and is asked for a number",
            "E0305 playbooks/win_back.yml:24:16 `trial_ends_at` is text, and is asked for a time",
        ]
    );
    assert_eq!(
        found.0[2].hint.as_deref(),
        Some("if it holds times, say so: `columns: {trial_ends_at: time}`")
    );
}

#[test]
fn what_the_database_says_of_a_query_is_shown_in_the_line_it_is_about() {
    let made = Made::good();
    made.replace(
        "policy.yml",
        "sql: select customer_id as profile,",
        "sql: \"select \\\"customer_id\\\" as profile,",
    );
    made.replace("policy.yml", "source from consents", "source from consents\"");
    let project = project(&made);
    let place = |query: &model::query::Query, word: &str| {
        let mistake = query_mistake(&project, query, query.sql.find(word), "no");
        (mistake.file, mistake.line, mistake.column, mistake.len)
    };
    let SegmentSource::Sql(at_risk) = &project.segments["at_risk"].source else { panic!("no query") };
    assert_eq!(place(at_risk, "mrr"), ("segments/at_risk.yml".to_owned(), 9, 11, 3));
    assert_eq!(place(at_risk, "having"), ("segments/at_risk.yml".to_owned(), 11, 3, 6));
    let SegmentSource::Sql(open_ticket) = &project.segments["open_ticket"].source else { panic!("no query") };
    assert_eq!(place(open_ticket, "tickets"), ("segments/sql/open_ticket.sql".to_owned(), 2, 6, 7));
    let consent = project.policy.consent.as_ref().unwrap();
    assert_eq!(place(consent, "changed_at"), ("policy.yml".to_owned(), 6, 70, 10));
    let fresh = &project.data.fresh["orders"].query;
    assert_eq!(place(fresh, "loaded_at"), ("data.yml".to_owned(), 9, 29, 9));
    let whole = query_mistake(&project, at_risk, None, "no");
    assert_eq!((whole.line, whole.column, whole.code), (7, 3, "E0302"));
}

#[test]
fn what_is_wrong_in_one_place_hides_nothing_elsewhere_and_brings_nothing_with_it() {
    let made = Made::good();
    // Mistakes in files; the segment is not there to be looked at, and who enters on it is.
    made.replace("segments/at_risk.yml", "sql: |", "sqll: |");
    made.replace("playbooks/win_back.yml", "title: Win back", "titel: Win back");
    made.replace("policy.yml", "class: marketing}\n  product", "class: marketin}\n  product");
    // And those that only the database can tell.
    made.replace("playbooks/win_back.yml", "to: profile.trial_ends_at", "to: profile.trial_end_at");
    made.replace("templates/hello.md", "profile.first_name", "profile.frist_name");
    let crate::Reading { project, found, .. } = super::made::read(made.dir.path());
    let mut columns = columns();
    columns.segments.remove("at_risk");
    let all = found.0.into_iter().chain(check_columns(&project.unwrap(), &columns).0).collect();
    assert_eq!(
        short(&Diagnostics::new(all)),
        [
            "E0102 playbooks/win_back.yml:1:1 unknown key `titel`",
            "E0304 playbooks/win_back.yml:24:16 the profiles' query has no column `trial_end_at`",
            "E0105 policy.yml:2:58 `marketin` is not a class",
            "E0102 segments/at_risk.yml:6:1 unknown key `sqll`",
            "E0304 templates/hello.md:4:10 the profiles' query has no column `frist_name`",
        ]
    );
    // Without the people's columns nothing is said of them.
    made.replace("segments/at_risk.yml", "sqll: |", "sql: |");
    columns = Columns { profiles: None, ..super::columns::columns() };
    let reading = super::made::read(made.dir.path());
    assert_eq!(short(&check_columns(&reading.project.unwrap(), &columns)), [""; 0]);
}
