//! The audit log, keys, the run lock and transactions.

use serde_json::json;
use state::audit::{self, Entry};
use state::{Keys, RootKey, State, StateError, consent, meta};

use crate::world::{World, at, keys, people};

pub(crate) fn entry(n: i64) -> Entry {
    Entry { kind: "decision", at: at(n), body: json!({"n": n, "b": "é\n", "a": [true, null]}) }
}

/// So many batches, of one to three entries each.
pub(crate) async fn batches(state: &State, from: i64, many: i64) {
    for n in from..from + many {
        let mut tx = state.write().await.unwrap();
        let entries: Vec<Entry> = (0..1 + n % 3).map(|line| entry(n * 10 + line)).collect();
        audit::append(&mut tx, &entries);
        tx.commit().await.unwrap();
    }
}

pub(crate) async fn entries_are_sealed_in_order_and_verify(state: &State) {
    let mut tx = state.write().await.unwrap();
    let keys = keys(&mut tx).await;
    audit::append(&mut tx, &[]);
    tx.commit().await.unwrap();
    let key = keys.log_key("acme");
    assert_eq!(audit::seal(state, &keys, "acme").await.unwrap().entries, 0);
    let empty = audit::verify(state, &key).await.unwrap();
    assert_eq!((empty.entries, empty.checkpoints, empty.unsealed, empty.first_fault), (0, 0, 0, None));
    batches(state, 0, 3).await;
    assert_eq!(audit::seal(state, &keys, "acme").await.unwrap().entries, 6);
    assert_eq!(audit::seal(state, &keys, "acme").await.unwrap().entries, 0);
    batches(state, 3, 70).await;
    assert_eq!(
        audit::seal(state, &keys, "acme").await.unwrap().entries,
        139,
        "more batches than are sealed at once"
    );
    batches(state, 73, 1).await;
    let verified = audit::verify(state, &key).await.unwrap();
    assert_eq!((verified.entries, verified.checkpoints, verified.unsealed), (145, 3, 2));
    assert_eq!(verified.first_fault, None);
    let mut tx = state.read().await.unwrap();
    let note = audit::checkpoint(&mut tx).await.unwrap().unwrap();
    assert!(note.starts_with("drumbeat/acme\n145\n"), "{note}");
    assert!(key.open_note(&note).is_some());
    let (mut read, mut after) = (Vec::new(), 0);
    loop {
        let page = audit::entries(&mut tx, after, 10).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.batch;
        read.extend(page);
    }
    assert_eq!(read.len(), 147);
    assert_eq!(
        read[1].json,
        r#"{"at":"1970-01-01T00:00:10Z","body":{"a":[true,null],"b":"é\n","n":10},"kind":"decision"}"#
    );
    let indexes: Vec<_> = read.iter().map(|entry| entry.index).collect();
    assert_eq!(indexes, (0..145).map(Some).chain([None, None]).collect::<Vec<_>>());
    tx.rollback().await.unwrap();
    let other =
        Keys::load_or_create(&mut state.write().await.unwrap(), &RootKey::generate().unwrap(), at(0)).await;
    assert!(matches!(other, Err(StateError::WrongRootKey)));
    let renamed = audit::verify(state, &keys.log_key("other")).await.unwrap();
    assert!(renamed.first_fault.is_some(), "the log of another project");
}

pub(crate) async fn sealers_at_once_agree(state: &State) {
    let mut tx = state.write().await.unwrap();
    let keys = keys(&mut tx).await;
    tx.commit().await.unwrap();
    batches(state, 0, 40).await;
    let sealers: Vec<_> = (0..8)
        .map(|_| {
            let (state, keys) = (state.clone(), keys.clone());
            tokio::spawn(async move { audit::seal(&state, &keys, "acme").await.map(|sealed| sealed.entries) })
        })
        .collect();
    let mut sealed = 0;
    for sealer in sealers {
        sealed += sealer.await.unwrap().unwrap();
    }
    assert_eq!(sealed, 79);
    assert_eq!(audit::verify(state, &keys.log_key("acme")).await.unwrap().first_fault, None);
}

pub(crate) async fn append_only_tables_refuse(world: &World) {
    let state = &world.state;
    let mut tx = state.write().await.unwrap();
    let keys = keys(&mut tx).await;
    people(&mut tx, 1).await;
    let event = model::consent::ConsentEvent {
        profile: model::ProfileNumber(1),
        channel: None,
        purpose: None,
        status: model::consent::ConsentStatus::Withdrawn,
        changed_at: at(1),
        recorded_at: at(1),
        origin: model::consent::ConsentOrigin::Local,
        source: String::new(),
        evidence: None,
    };
    consent::record(&mut tx, &event).await.unwrap();
    tx.commit().await.unwrap();
    batches(state, 0, 2).await;
    audit::seal(state, &keys, "acme").await.unwrap();
    for sql in [
        "UPDATE audit_batch SET payload = payload",
        "DELETE FROM audit_batch",
        "UPDATE audit_seal SET entries = entries",
        "DELETE FROM audit_seal",
        "UPDATE audit_checkpoint SET note = note",
        "DELETE FROM audit_checkpoint",
        "UPDATE consent_event SET source = source",
        "DELETE FROM consent_event",
    ] {
        let refused = world.raw(sql).await.unwrap_err().to_string();
        assert!(refused.contains("is append-only"), "{sql}: {refused}");
    }
    if state.is_postgres() {
        for sql in [
            "TRUNCATE audit_batch",
            "TRUNCATE audit_seal",
            "TRUNCATE audit_checkpoint",
            "TRUNCATE consent_event",
        ] {
            world.raw(sql).await.unwrap_err();
        }
    } else {
        world.raw("INSERT OR REPLACE INTO audit_batch (number, payload) VALUES (1, 'x')").await.unwrap_err();
        world
            .raw("INSERT OR REPLACE INTO audit_checkpoint SELECT * FROM audit_checkpoint")
            .await
            .unwrap_err();
    }
}

pub(crate) async fn keys_are_made_once_and_need_their_root_key(state: &State) {
    let mut tx = state.write().await.unwrap();
    assert!(Keys::load(&mut tx, &crate::world::root_key()).await.unwrap().is_none());
    let first = keys(&mut tx).await;
    let again = keys(&mut tx).await;
    let address = model::EmailAddress::parse("Ana@example.test").unwrap();
    let same = model::EmailAddress::parse("ana@EXAMPLE.test").unwrap();
    assert_eq!(first.address_hash(&address), again.address_hash(&same));
    assert_eq!(first.address_hash(&address).as_str().len(), 64);
    assert_eq!(first.tokens(), again.tokens());
    assert_eq!(first.log_key("acme"), again.log_key("acme"));
    let sealed = first.seal(b"plain", "entry").unwrap();
    assert_eq!(again.open(&sealed, "entry").unwrap(), b"plain");
    assert!(matches!(again.open(&sealed, "other"), Err(StateError::Unseal { .. })));
    assert_eq!(format!("{first:?}"), "[secret]");
    assert!(matches!(
        Keys::load(&mut tx, &RootKey::generate().unwrap()).await,
        Err(StateError::WrongRootKey)
    ));
}

pub(crate) async fn a_reader_cannot_write_and_sees_one_snapshot(state: &State) {
    let mut reader = state.read().await.unwrap();
    assert_eq!(meta::get(&mut reader, "key").await.unwrap(), None);
    let mut writer = state.write().await.unwrap();
    meta::set(&mut writer, "key", "value").await.unwrap();
    writer.commit().await.unwrap();
    assert_eq!(meta::get(&mut reader, "key").await.unwrap(), None, "one snapshot");
    assert!(matches!(meta::set(&mut reader, "key", "other").await, Err(StateError::Query { .. })));
    drop(reader);
    let mut reader = state.read().await.unwrap();
    assert_eq!(meta::get(&mut reader, "key").await.unwrap().as_deref(), Some("value"));
}

pub(crate) async fn a_transaction_that_is_dropped_is_undone(state: &State) {
    let mut tx = state.write().await.unwrap();
    meta::set(&mut tx, "key", "value").await.unwrap();
    drop(tx);
    let mut tx = state.write().await.unwrap();
    assert_eq!(meta::get(&mut tx, "key").await.unwrap(), None);
    meta::set(&mut tx, "key", "value").await.unwrap();
    tx.rollback().await.unwrap();
    let mut tx = state.read().await.unwrap();
    assert_eq!(meta::get(&mut tx, "key").await.unwrap(), None);
    let first = state.lease_now(&mut tx).await.unwrap();
    assert!(state.lease_now(&mut tx).await.unwrap() >= first, "lease time does not go back");
}
