//! All connectors: the list, the conformance suite, the golden conversations, the manual.

use std::fs;
use std::path::Path;

use connector::Kind;
use connector::conformance::conformance;
use model::settings::ConnectorSettings;

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

#[test]
fn every_connector_conforms() {
    for kind in ALL {
        let wrong = conformance(kind);
        assert!(wrong.is_empty(), "{}:\n{}", kind.name, wrong.join("\n"));
    }
}

#[test]
fn golden_conversations_replay() {
    for kind in ALL {
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
    for kind in ALL {
        let readme = fs::read_to_string(folder(kind).join("README.md")).unwrap();
        for key in (kind.schema)()["properties"].as_object().unwrap().keys() {
            assert!(readme.contains(&format!("`{key}`")), "{}/README.md does not mention `{key}`", kind.name);
        }
    }
}

/// The keys of the mistakes in settings, in order.
fn mistakes(kind: &Kind, settings: &str) -> Vec<String> {
    let settings = ConnectorSettings(serde_json::from_str(settings).unwrap());
    let mistakes = (kind.build)(&settings).err().unwrap_or_default();
    mistakes.into_iter().map(|mistake| format!("{}: {}", mistake.key, mistake.message)).collect()
}

#[test]
fn mistakes_in_settings_are_all_named_at_once() {
    assert_eq!(
        mistakes(&super::smtp::KIND, r#"{"hots": "a.test", "port": "x", "tls": "ssl", "connections": 3}"#),
        [
            "hots: connector `smtp` has no such setting; did you mean `host`?",
            "port: expected a whole number from 1 to 65535",
            "tls: expected one of none, starttls, implicit",
            "host: is missing: connector `smtp` needs it",
        ]
    );
    assert_eq!(mistakes(&super::file::KIND, "{}"), ["path: is missing: connector `file` needs it"]);
}

#[test]
fn a_password_goes_in_the_clear_within_this_machine_only() {
    let with = |host: &str, tls: &str| {
        mistakes(
            &super::smtp::KIND,
            &format!(r#"{{"host": "{host}", "tls": "{tls}", "username": "u", "password": "p"}}"#),
        )
    };
    for host in ["localhost", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
        assert_eq!(with(host, "none"), Vec::<String>::new(), "{host}");
    }
    for host in ["mail.example.test", "10.0.0.1", "localhost.example.test", "127.0.0.1.example.test"] {
        assert_eq!(with(host, "none").len(), 1, "{host}");
        assert_eq!(with(host, "starttls"), Vec::<String>::new(), "{host}");
    }
}

#[test]
fn settings_that_cannot_be_meant_are_refused() {
    for (settings, key) in [
        (r#"{"host": "https://a.test"}"#, "host"),
        (r#"{"host": "a.test:25"}"#, "host"),
        (r#"{"host": "a.test\r\nQUIT"}"#, "host"),
        (r#"{"host": "a.test", "hello": "a b"}"#, "hello"),
        (r#"{"host": "a.test", "port": 0}"#, "port"),
        (r#"{"host": "a.test", "connections": 0}"#, "connections"),
        (r#"{"host": "a.test", "messages_per_connection": 0}"#, "messages_per_connection"),
        (r#"{"host": "a.test", "username": "u"}"#, "password"),
        (r#"{"host": "a.test", "password": "p"}"#, "username"),
        (r#"{"host": "127.0.0.1", "tls": "none", "ca": "x.pem"}"#, "ca"),
    ] {
        let found = mistakes(&super::smtp::KIND, settings);
        assert!(found.len() == 1 && found[0].starts_with(&format!("{key}: ")), "{settings}: {found:?}");
    }
}

#[test]
fn the_port_follows_from_the_encryption() {
    for (tls, port) in [("none", 25), ("starttls", 587), ("implicit", 465)] {
        let settings = serde_json::json!({"host": "127.0.0.1", "tls": tls});
        let connector =
            (super::smtp::KIND.build)(&ConnectorSettings(settings.as_object().unwrap().clone())).unwrap();
        assert_eq!(connector.reach(), connector::Reach::Network { host: "127.0.0.1".to_owned(), port });
    }
}
