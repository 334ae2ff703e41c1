//! Environments laid over the root files, and values that are looked up.

use std::fs;

use model::settings::{Deliver, TimeEncoding};
use model::{BrandName, DestinationName};

use super::made::{Made, load};

#[test]
fn maps_merge_anything_else_replaces_and_null_removes() {
    let made = Made::good();
    let loaded = load(made.dir.path(), Some("staging"), &[("WAREHOUSE_URL", "postgres://w/x")])
        .unwrap_or_else(|wrong| panic!("{wrong}"));
    let settings = loaded.project.settings;
    assert_eq!(loaded.project.environment.as_deref(), Some("staging"));
    assert_eq!(loaded.project.environments, ["staging", "prod"]);
    assert_eq!((settings.deliver, settings.production), (Deliver::Colleagues, false));
    assert_eq!(settings.timezone.iana_name(), Some("UTC"), "null removes, and the default holds");
    assert_eq!(
        (settings.warehouse.url.reveal(), settings.warehouse.schema.as_deref()),
        ("postgres://w/x", Some("staging"))
    );
    assert_eq!(settings.warehouse.times, TimeEncoding::Rfc3339);
    assert_eq!(settings.warehouse.statement_timeout.as_secs(), 30, "what is not laid over stays");
    assert_eq!(settings.brands.len(), 1);
}

#[test]
fn a_destination_with_another_connector_replaces_whole() {
    let made = Made::good();
    let settings =
        load(made.dir.path(), Some("prod"), &[]).unwrap_or_else(|wrong| panic!("{wrong}")).project.settings;
    let mail = &settings.destinations[&DestinationName::known("mail")];
    assert_eq!((mail.connector.as_str(), mail.throttle), ("pigeon", None));
    assert_eq!(mail.settings.0.keys().collect::<Vec<_>>(), ["loft"]);

    made.replace("drumbeat.yml", "{connector: pigeon, loft: north}", "{port: 2525, throttle: null}");
    let settings = load(made.dir.path(), Some("prod"), &[]).unwrap().project.settings;
    let mail = &settings.destinations[&DestinationName::known("mail")];
    assert_eq!((mail.connector.as_str(), mail.throttle), ("smtp", None));
    assert_eq!(mail.settings.0["port"], 2525);
}

#[test]
fn an_unknown_environment_is_refused_with_those_there_are() {
    let made = Made::good();
    let wrong = load(made.dir.path(), Some("stagging"), &[]).unwrap_err();
    assert_eq!(wrong.0[0].message, "there is no environment `stagging`");
    assert_eq!(wrong.0[0].hint.as_deref(), Some("did you mean `staging`?"));
    let wrong = load(made.dir.path(), Some("qa"), &[]).unwrap_err();
    assert_eq!(wrong.0[0].hint.as_deref(), Some("there are: staging, prod"));
}

#[test]
fn a_variable_that_is_not_set_is_a_mistake_at_its_place_and_only_where_it_is_used() {
    let made = Made::good();
    assert!(made.load().is_ok(), "staging's variables are not needed without staging");
    let wrong = load(made.dir.path(), Some("staging"), &[]).unwrap_err();
    let [one] = &wrong.0[..] else { panic!("{wrong}") };
    assert_eq!((one.code, one.file.as_str(), one.line), ("E0110", "drumbeat.yml", 26));
}

#[test]
fn files_and_credentials_are_looked_up_without_their_last_line_break() {
    let made = Made::good();
    made.write("secret.txt", "from a file\n");
    made.replace("drumbeat.yml", "{env: MAIL_PASSWORD}", "{file: secret.txt}");
    made.replace("drumbeat.yml", "title: Acme", "title: {credential: title}");
    let credentials = tempfile::tempdir().unwrap();
    fs::write(credentials.path().join("title"), "Acme & Co\n").unwrap();
    let folder = credentials.path().to_str().unwrap();
    let settings = load(made.dir.path(), None, &[("CREDENTIALS_DIRECTORY", folder)])
        .unwrap_or_else(|wrong| panic!("{wrong}"))
        .project
        .settings;
    assert_eq!(settings.destinations[&DestinationName::known("mail")].settings.0["password"], "from a file");
    assert_eq!(settings.brands[&BrandName::known("acme")].title.get("de", &[]), "Acme & Co");

    made.replace("drumbeat.yml", "{credential: title}", "{credential: ../title}");
    let wrong = load(made.dir.path(), None, &[("CREDENTIALS_DIRECTORY", folder)]).unwrap_err();
    assert_eq!(
        (wrong.0[0].code, wrong.0[0].label.as_deref()),
        ("E0110", Some("that is not a credential's name"))
    );
}

#[test]
fn what_was_looked_up_is_in_no_diagnostic() {
    let made = Made::good();
    for (from, to) in [
        ("port: 1025", "port: {env: SECRET_PORT}"),
        ("deliver: local", "deliver: {env: SECRET_WORD}"),
        ("timezone: Europe/Berlin", "timezone: {env: SECRET_WORD}"),
        ("statement_timeout: 30s", "statement_timeout: {env: SECRET_WORD}"),
        ("url: sqlite://warehouse.db", "url: {env: SECRET_WORD}"),
        ("connector: smtp,", "connector: smtp, extra: {env: SECRET_WORD},"),
        ("brands:\n", "brands:\n  more: {title: More, from: {env: SECRET_WORD}}\n"),
    ] {
        made.replace("drumbeat.yml", from, to);
    }
    let wrong = load(made.dir.path(), None, &[("SECRET_WORD", "hunter2hunter2"), ("SECRET_PORT", "hunter3")])
        .unwrap_err();
    let shown = format!("{} {:?} {}", wrong.render(false), wrong, wrong.to_json());
    assert!(wrong.0.len() >= 6 && !shown.contains("hunter"), "{shown}");
}

#[test]
fn production_needs_its_key() {
    let made = Made::good();
    made.replace("drumbeat.yml", "keys: {root: {env: ROOT_KEY, default: none}}\n", "");
    made.replace("drumbeat.yml", "    keys: {root: {env: ROOT_KEY}}\n", "");
    assert!(made.load().is_ok());
    let wrong = load(made.dir.path(), Some("prod"), &[]).unwrap_err();
    assert_eq!(wrong.0[0].message, "production needs `keys: {root: ...}`");
}

#[test]
fn the_keys_of_the_root_files_may_stand_in_any_of_them() {
    let made = Made::good();
    let read = |path: &str| fs::read_to_string(made.dir.path().join(path)).unwrap();
    let all = [read("drumbeat.yml"), read("data.yml"), read("policy.yml")].concat();
    for path in ["drumbeat.yml", "data.yml", "policy.yml"] {
        fs::remove_file(made.dir.path().join(path)).unwrap();
    }
    made.write("everything.yml", all);
    assert!(made.load().is_ok());
}
