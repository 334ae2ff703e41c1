//! Records: what may stand there is noted first, what changed meanwhile stays to be done, and what is undone is forgotten.

use model::id::{IdentityHash, UnitHash};
use model::sync::{Has, RecordOf, RecordTodo, RecordsAt};
use model::{DestinationName, ProfileNumber, Reason, SyncName};
use state::record::{self, Put, RecordKey, Settled};
use state::{State, Tx};

use crate::world::{at, people};

fn sync() -> SyncName {
    SyncName::known("plan_to_crm")
}

fn company() -> RecordsAt {
    RecordsAt {
        destination: DestinationName::known("crm"),
        object: "company".to_owned(),
        key: "domain".to_owned(),
    }
}

fn person(number: u32) -> RecordOf {
    RecordOf::Profile(ProfileNumber(number))
}

fn key(of: RecordOf, key: &str) -> RecordKey {
    RecordKey { of, key: IdentityHash::known(key) }
}

fn wants(of: RecordOf, by: &str, digest: &str) -> Put {
    let content = Some((digest.to_owned(), digest.as_bytes().to_vec()));
    Put { key: key(of, by), content, todo: RecordTodo::Write, reason: Reason::OkDue }
}

fn settled(of: RecordOf, by: &str, digest: &str, has: Has, todo: RecordTodo) -> Settled {
    let reason = if todo == RecordTodo::Rejected { Reason::FailRemote4xx } else { Reason::OkApplied };
    Settled {
        key: key(of, by),
        digest: digest.to_owned(),
        past: Some(b"past".to_vec()),
        remote: Some("501".to_owned()),
        has,
        kept: 0,
        todo,
        reason,
    }
}

async fn begin(state: &State) -> Tx {
    let mut tx = state.write().await.unwrap();
    people(&mut tx, 4).await;
    let set = record::find_or_make(&mut tx, &sync(), &company(), at(1)).await.unwrap();
    assert_eq!((set.number, set.failures, set.reverted_at), (1, 0, None));
    tx
}

async fn of(tx: &mut Tx, of: RecordOf) -> Vec<(String, String, RecordTodo, Has)> {
    let found =
        record::entries(tx, 1, std::slice::from_ref(&of)).await.unwrap().remove(&of).unwrap_or_default();
    let mut found: Vec<_> =
        found.into_iter().map(|one| (one.key.to_string(), one.digest, one.todo, one.has)).collect();
    found.sort();
    found
}

async fn work(tx: &mut Tx, todo: RecordTodo) -> Vec<RecordOf> {
    record::work(tx, 1, todo, 10).await.unwrap().into_iter().map(|work| work.key.of).collect()
}

pub(crate) async fn a_set_is_made_once_and_people_and_accounts_are_in_order(state: &State) {
    let mut tx = begin(state).await;
    assert_eq!(record::find_or_make(&mut tx, &sync(), &company(), at(2)).await.unwrap().number, 1);
    let other = RecordsAt { object: "contact".to_owned(), ..company() };
    assert_eq!(record::find_or_make(&mut tx, &sync(), &other, at(2)).await.unwrap().number, 2);
    record::try_at(&mut tx, 1, at(60), 3).await.unwrap();
    let found = record::find(&mut tx, &sync(), &company()).await.unwrap().unwrap();
    assert_eq!((found.due_at, found.failures), (at(60), 3));
    let account = RecordOf::Account(UnitHash::known("f00d"));
    let puts = [wants(person(2), "b", "1"), wants(account.clone(), "c", "1"), wants(person(1), "a", "1")];
    record::put(&mut tx, 1, &puts, at(2)).await.unwrap();
    let all = [account, person(1), person(2)];
    assert_eq!(record::subjects(&mut tx, 1, None, 10).await.unwrap(), all);
    assert_eq!(record::subjects(&mut tx, 1, Some(&all[0]), 1).await.unwrap(), all[1..2]);
    let listed = record::listed(&mut tx, 1, None, 2).await.unwrap();
    let rest = record::listed(&mut tx, 1, Some(&listed[1].key), 2).await.unwrap();
    assert_eq!(listed.iter().chain(&rest).map(|one| one.key.of.clone()).collect::<Vec<_>>(), all);
}

pub(crate) async fn what_may_stand_in_a_record_is_noted_until_it_is_heard(state: &State) {
    let mut tx = begin(state).await;
    record::put(&mut tx, 1, &[wants(person(1), "a", "1"), wants(person(2), "b", "1")], at(2)).await.unwrap();
    let noted = [
        (key(person(1), "a"), "1".to_owned(), b"one".to_vec()),
        (key(person(2), "b"), "of before".to_owned(), b"two".to_vec()),
    ];
    let still = record::hand_over(&mut tx, 1, RecordTodo::Write, &noted).await.unwrap();
    assert_eq!(still, [key(person(1), "a")], "what changed meanwhile is not handed over");
    record::forget(&mut tx, 1, &[key(person(1), "a")]).await.unwrap();
    assert_eq!(of(&mut tx, person(1)).await, [("a".into(), "1".into(), RecordTodo::Write, Has::Maybe)]);
    let [first, second] = &record::work(&mut tx, 1, RecordTodo::Write, 10).await.unwrap()[..] else {
        panic!()
    };
    assert_eq!((&first.past[..], &second.past[..], first.since), (&b"one"[..], &b""[..], at(2)));
    // Of what is wanted by now nothing was said.
    record::put(&mut tx, 1, &[wants(person(1), "a", "2")], at(3)).await.unwrap();
    let heard = settled(person(1), "a", "1", Has::Yes, RecordTodo::Nothing);
    record::settle(&mut tx, 1, RecordTodo::Write, &[heard], at(4)).await.unwrap();
    assert_eq!(of(&mut tx, person(1)).await, [("a".into(), "2".into(), RecordTodo::Write, Has::Yes)]);
    let heard = settled(person(1), "a", "2", Has::Yes, RecordTodo::Nothing);
    let refused = settled(person(2), "b", "1", Has::No, RecordTodo::Rejected);
    record::settle(&mut tx, 1, RecordTodo::Write, &[heard, refused], at(5)).await.unwrap();
    assert_eq!(work(&mut tx, RecordTodo::Write).await, []);
    let counts = record::counts(&mut tx, 1).await.unwrap();
    assert_eq!((counts.has(Has::Yes), counts.todo(RecordTodo::Rejected)), (1, 1));
    let [one] = &record::of(&mut tx, &person(1)).await.unwrap()[..] else { panic!("one") };
    assert_eq!((one.remote.as_deref(), one.reason, one.since), (Some("501"), Reason::OkApplied, at(5)));
}

pub(crate) async fn a_key_that_two_have_is_refused_for_both(state: &State) {
    let mut tx = begin(state).await;
    let puts = [wants(person(1), "a", "1"), wants(person(2), "a", "2"), wants(person(3), "c", "3")];
    record::put(&mut tx, 1, &puts, at(2)).await.unwrap();
    assert_eq!(record::refuse_rivals(&mut tx, 1).await.unwrap(), 2);
    assert_eq!(work(&mut tx, RecordTodo::Write).await, [person(3)]);
    // Who leaves is no rival any more.
    let leaves = Put { content: None, todo: RecordTodo::Leaves, ..wants(person(1), "a", "1") };
    record::put(&mut tx, 1, &[leaves, wants(person(2), "a", "2")], at(3)).await.unwrap();
    assert_eq!(record::refuse_rivals(&mut tx, 1).await.unwrap(), 0);
    assert_eq!(of(&mut tx, person(1)).await, [("a".into(), "1".into(), RecordTodo::Leaves, Has::No)]);
}

pub(crate) async fn what_is_undone_or_emptied_is_forgotten_and_who_is_erased_at_once(state: &State) {
    let mut tx = begin(state).await;
    let puts: Vec<Put> = (1..=4).map(|number| wants(person(number), &format!("k{number}"), "1")).collect();
    record::put(&mut tx, 1, &puts, at(2)).await.unwrap();
    let heard: Vec<Settled> = (1..=3)
        .map(|number| settled(person(number), &format!("k{number}"), "1", Has::Yes, RecordTodo::Nothing))
        .collect();
    record::settle(&mut tx, 1, RecordTodo::Write, &heard, at(3)).await.unwrap();
    let leaves =
        Put { content: None, todo: RecordTodo::Leaves, reason: Reason::SegmentLeft, ..puts[0].clone() };
    record::put(&mut tx, 1, &[leaves], at(4)).await.unwrap();
    assert_eq!(record::leaving(&mut tx, 1).await.unwrap(), (3, 1));
    assert_eq!(work(&mut tx, RecordTodo::Clear).await, []);
    assert_eq!(record::let_leave(&mut tx, 1).await.unwrap(), 1);
    let cleared = settled(person(1), "k1", "1", Has::No, RecordTodo::Nothing);
    record::settle(&mut tx, 1, RecordTodo::Clear, &[cleared], at(5)).await.unwrap();
    assert_eq!(of(&mut tx, person(1)).await, []);
    assert_eq!(record::revert(&mut tx, 1, at(6)).await.unwrap(), 2, "the fourth was never written");
    assert_eq!(record::find(&mut tx, &sync(), &company()).await.unwrap().unwrap().reverted_at, Some(at(6)));
    assert_eq!(work(&mut tx, RecordTodo::Revert).await, [person(2), person(3)]);
    let undone = settled(person(2), "k2", "1", Has::No, RecordTodo::Nothing);
    record::settle(&mut tx, 1, RecordTodo::Revert, &[undone], at(7)).await.unwrap();
    assert_eq!(of(&mut tx, person(2)).await, []);
    assert_eq!(record::distrust(&mut tx, 1, at(8)).await.unwrap(), 1);
    assert_eq!(work(&mut tx, RecordTodo::Write).await, [person(3)]);
    let keys = crate::world::keys(&mut tx).await;
    assert!(state::profile::erase(&mut tx, &keys, ProfileNumber(3), at(9)).await.unwrap());
    assert_eq!(record::of(&mut tx, &person(3)).await.unwrap(), []);
}
