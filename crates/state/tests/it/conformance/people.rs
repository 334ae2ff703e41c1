//! Profiles and their numbers.

use model::ProfileNumber;
use state::{State, profile};

use crate::world::{at, keys};

fn ids(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn numbers(numbers: &[u32]) -> Vec<Option<ProfileNumber>> {
    numbers.iter().map(|number| Some(ProfileNumber(*number))).collect()
}

pub(crate) async fn numbers_are_dense_and_stay(state: &State) {
    let mut tx = state.write().await.unwrap();
    let keys = keys(&mut tx).await;
    assert_eq!(
        profile::intern(&mut tx, &keys, &ids(&["c", "a", "c", "b"])).await.unwrap(),
        numbers(&[1, 2, 1, 3])
    );
    assert_eq!(profile::intern(&mut tx, &keys, &ids(&["d", "a"])).await.unwrap(), numbers(&[4, 2]));
    assert_eq!(profile::intern(&mut tx, &keys, &[]).await.unwrap(), vec![]);
    let found = profile::numbers_of(&mut tx, &ids(&["b", "nobody", "d"])).await.unwrap();
    assert_eq!(found, [Some(ProfileNumber(3)), None, Some(ProfileNumber(4))]);
    let named =
        profile::ids_of(&mut tx, &[ProfileNumber(4), ProfileNumber(9), ProfileNumber(1)]).await.unwrap();
    assert_eq!(
        named.into_iter().collect::<Vec<_>>(),
        [(ProfileNumber(1), "c".to_owned()), (ProfileNumber(4), "d".to_owned())]
    );
    assert_eq!(profile::count(&mut tx).await.unwrap(), 4);
}

pub(crate) async fn an_erased_person_does_not_come_back(state: &State) {
    let mut tx = state.write().await.unwrap();
    let keys = keys(&mut tx).await;
    profile::intern(&mut tx, &keys, &ids(&["a", "b"])).await.unwrap();
    assert!(profile::erase(&mut tx, &keys, ProfileNumber(2), at(9)).await.unwrap());
    assert!(!profile::erase(&mut tx, &keys, ProfileNumber(2), at(9)).await.unwrap());
    assert_eq!(profile::numbers_of(&mut tx, &ids(&["b"])).await.unwrap(), [None]);
    let again = profile::intern(&mut tx, &keys, &ids(&["b", "c", "a"])).await.unwrap();
    assert_eq!(again, [None, Some(ProfileNumber(3)), Some(ProfileNumber(1))], "and the number is not reused");
    assert_eq!(profile::ids_of(&mut tx, &[ProfileNumber(2)]).await.unwrap().len(), 0);
}

pub(crate) async fn ids_of_any_letters_are_kept(state: &State) {
    let mut tx = state.write().await.unwrap();
    let keys = keys(&mut tx).await;
    let odd = ids(&[
        "",
        " ",
        "1",
        "01",
        "1.0",
        "null",
        "\"",
        "\\",
        "é",
        "e\u{301}",
        "\u{1f600}",
        "a\nb",
        "\u{7f}\u{1}",
        "';--",
        "\u{fffd}",
    ]);
    let made = profile::intern(&mut tx, &keys, &odd).await.unwrap();
    assert_eq!(made, numbers(&(1..=15).collect::<Vec<_>>()));
    let all: Vec<ProfileNumber> = made.into_iter().flatten().collect();
    assert_eq!(profile::ids_of(&mut tx, &all).await.unwrap().into_values().collect::<Vec<_>>(), odd);
    assert_eq!(
        profile::intern(&mut tx, &keys, &ids(&["\0", "a\0"])).await.unwrap(),
        [None, None],
        "Postgres cannot keep a NUL"
    );
    assert_eq!(profile::numbers_of(&mut tx, &ids(&["\0"])).await.unwrap(), [None]);
}

pub(crate) async fn two_who_intern_at_once_agree(state: &State) {
    let mut tx = state.write().await.unwrap();
    keys(&mut tx).await;
    tx.commit().await.unwrap();
    let intern = |from: u32| {
        let state = state.clone();
        async move {
            let mut tx = state.write().await.unwrap();
            let keys = keys(&mut tx).await;
            let ids: Vec<String> = (from..from + 300).map(|n| n.to_string()).collect();
            let numbers = profile::intern(&mut tx, &keys, &ids).await.unwrap();
            tx.commit().await.unwrap();
            ids.into_iter().zip(numbers).collect::<Vec<_>>()
        }
    };
    let tasks: Vec<_> = (0..4).map(|task| tokio::spawn(intern(task * 100))).collect();
    let mut seen = std::collections::BTreeMap::new();
    for task in tasks {
        for (id, number) in task.await.unwrap() {
            assert_eq!(*seen.entry(id).or_insert(number), number);
        }
    }
    let mut numbers: Vec<u32> = seen.into_values().map(|number| number.unwrap().0).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=600).collect::<Vec<_>>());
}
