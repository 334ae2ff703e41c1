//! Syncs: audiences and records, and what cannot be meant.

use model::sync::{Gone, OnEdit, RecordsAt, SyncFrom};

use super::made::Made;

const HEAD: &str = "title: Health\nowner: o@acme.test\nwhy: \"Sales call by it.\"\n";

/// The good project with a destination that has everything, one whose records cannot be read, and one sync.
fn with(sync: &str) -> Made {
    let made = Made::good();
    let more = "destinations:\n  birds: {connector: ledger}\n  texts: {connector: text}\n  mail:";
    made.replace("drumbeat.yml", "destinations:\n  mail:", more);
    made.write("syncs/health.yml", format!("{HEAD}{sync}"));
    made
}

fn record(changes: &[(&str, &str)]) -> String {
    let mut text = "from: accounts\nrecord: {destination: birds, object: company, match: {domain: \"{{ account.name }}\"}, \
        fields: {health: \"{{ account.arr }}\", tier: \"Tier {{ account.tier }}\", source: drumbeat}, on_edit: keep, gone: clear}\n"
        .to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    text
}

#[test]
fn records_of_accounts_people_and_segments_are_kept() {
    let project = with(&record(&[])).load().unwrap().project;
    let sync = project.syncs.values().next().unwrap();
    let kept = sync.record().unwrap();
    let at = RecordsAt {
        destination: model::DestinationName::known("birds"),
        object: "company".to_owned(),
        key: "domain".to_owned(),
    };
    assert_eq!((&kept.at, &kept.fields[..]), (&at, &["health".into(), "tier".into(), "source".into()][..]));
    assert_eq!((kept.on_edit, kept.gone, &sync.from), (OnEdit::Keep, Gone::Clear, &SyncFrom::Accounts));
    assert!(project.record_texts.contains_key(&sync.name));
    let definition = sync.definition.clone();
    for (from, to) in [
        ("accounts\n", "profiles\n"),
        ("accounts\n", "segment.at_risk\n"),
        ("keep", "overwrite"),
        (", gone: clear", ""),
    ] {
        let changed = with(&record(&[(from, to)])).load().unwrap().project;
        assert_ne!(changed.syncs.values().next().unwrap().definition, definition, "{to}");
    }
}

#[test]
fn what_cannot_be_meant_is_refused_where_it_stands() {
    for (sync, said) in [
        (record(&[("birds", "mail")]), "the destination `mail` has no records"),
        (record(&[("birds", "texts")]), "the destination `texts` cannot say what a person has edited"),
        (record(&[("account.arr", "account.ar")]), ""),
        (record(&[("account.arr", "profile.plan")]), "there is no `profile` here"),
        (record(&[("account.arr", "entry.plan")]), "there is no `entry` here"),
        (record(&[("{{ account.arr }}", "{{ account.arr")]), "T0201"),
        (record(&[("health:", "domain:")]), "`domain` is what the record is found by"),
        (record(&[("match: {domain", "match: {name: x, domain")]), "not yet"),
        (
            record(&[("match: {domain: \"{{ account.name }}\"}", "match: {}")]),
            "expected a map from fields to values",
        ),
        (record(&[("source: drumbeat", "source: [a]")]), "expected a text, a number"),
        (record(&[("on_edit: keep", "on_edit: ask")]), "is not what becomes of somebody else's value"),
        (record(&[("gone: clear", "gone: delete")]), "is not what becomes of a record"),
        (record(&[("from: accounts\n", "from: accounts\npurpose: offers\n")]), "records have no purpose"),
        (
            record(&[(
                "from: accounts\n",
                "from: profiles\npurpose: offers\naudience: {destination: birds, name: a}\n",
            )]),
            "a sync keeps an audience, or records",
        ),
        ("from: profiles\n".to_owned(), "the key `audience` is missing"),
        (
            "from: accounts\npurpose: offers\naudience: {destination: birds, name: a}\n".to_owned(),
            "people are in an audience, and no accounts",
        ),
        (
            "from: profiles\npurpose: service\naudience: {destination: birds, name: a}\n".to_owned(),
            "for a transactional purpose",
        ),
        (
            "from: profiles\npurpose: offers\naudience: {destination: mail, name: a}\n".to_owned(),
            "`mail` has no audiences",
        ),
        (
            "from: profiles\naudience: {destination: birds, name: a}\n".to_owned(),
            "the key `purpose` is missing",
        ),
        (
            "from: nobody\npurpose: offers\naudience: {destination: birds, name: a}\n".to_owned(),
            "`nobody` is nothing to keep",
        ),
    ] {
        let wrong = with(&sync).wrong();
        assert!(wrong.contains(said), "{sync}\nis to say: {said}\nand says: {wrong}");
        assert!(said.is_empty() || wrong.contains("syncs/health.yml:"), "{wrong}");
    }
}

#[test]
fn a_field_has_one_sync_and_an_audience_one() {
    let made = with(&record(&[]));
    made.write(
        "syncs/other.yml",
        format!("{HEAD}{}", record(&[("tier:", "level:"), ("source:", "origin:")])),
    );
    let wrong = made.wrong();
    assert!(wrong.contains("`health` is written by syncs/health.yml already"), "{wrong}");
    let audience = "from: profiles\npurpose: offers\naudience: {destination: birds, name: a}\n";
    let made = with(audience);
    made.write("syncs/other.yml", format!("{HEAD}{audience}"));
    assert!(made.wrong().contains("the audience `a` is kept by syncs/health.yml already"));
}
