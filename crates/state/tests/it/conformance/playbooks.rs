//! Playbooks, and the rows of those who are about to enter.

use model::{PlaybookName, ProfileNumber};
use state::playbook::{self, Applying, PlaybookState, Status};
use state::{State, StateError, entering};

use crate::world::{at, playbook as name};

pub(crate) async fn a_playbook_is_kept_and_works_forwards(state: &State) {
    let mut tx = state.write().await.unwrap();
    assert_eq!(playbook::load(&mut tx, &name()).await.unwrap(), None);
    let mut kept = PlaybookState {
        name: name(),
        status: Status::Active,
        version: "v1".to_owned(),
        activated_at: at(3),
        seen: (1..5000).collect(),
        applied_run: None,
        applying: Some(Applying { run_id: "run".to_owned(), after: 0 }),
    };
    playbook::save(&mut tx, &kept).await.unwrap();
    assert_eq!(playbook::load(&mut tx, &name()).await.unwrap().unwrap(), kept);
    let page = |run: &str, after| Applying { run_id: run.to_owned(), after };
    playbook::advance(&mut tx, &name(), &page("run", 1000)).await.unwrap();
    for wrong in [page("run", 999), page("other", 2000)] {
        assert!(matches!(playbook::advance(&mut tx, &name(), &wrong).await, Err(StateError::Broken { .. })));
    }
    assert_eq!(playbook::load(&mut tx, &name()).await.unwrap().unwrap().applying, Some(page("run", 1000)));
    kept.applying = None;
    assert!(playbook::set_status(&mut tx, &name(), Status::Archived).await.unwrap());
    assert!(!playbook::set_status(&mut tx, &PlaybookName::known("nobody's"), Status::Paused).await.unwrap());
    playbook::save(&mut tx, &kept).await.unwrap();
    kept.status = Status::Archived;
    let other =
        PlaybookState { name: PlaybookName::known("abandoned"), status: Status::Paused, ..kept.clone() };
    playbook::save(&mut tx, &other).await.unwrap();
    assert_eq!(tx.ask(playbook::paused()).await.unwrap(), [PlaybookName::known("abandoned")]);
    assert_eq!(
        playbook::all(&mut tx).await.unwrap(),
        [other, kept],
        "a status is a person's to change, and no save undoes it"
    );
}

pub(crate) async fn a_version_is_kept_once(state: &State) {
    let mut tx = state.write().await.unwrap();
    playbook::save_version(&mut tx, &name(), "v1", "{\"steps\": 1}", at(1)).await.unwrap();
    playbook::save_version(&mut tx, &name(), "v1", "{\"steps\": 2}", at(2)).await.unwrap();
    assert_eq!(playbook::version(&mut tx, &name(), "v1").await.unwrap().unwrap(), "{\"steps\": 1}");
    assert_eq!(playbook::version(&mut tx, &PlaybookName::known("other"), "v1").await.unwrap(), None);
    assert_eq!(playbook::versions(&mut tx, &name()).await.unwrap(), ["v1"]);
}

pub(crate) async fn entering_rows_are_there_until_cleared(state: &State) {
    let mut tx = state.write().await.unwrap();
    let row = |number: u32, byte: u8| (ProfileNumber(number), vec![byte, 0, 255]);
    entering::put(&mut tx, &name(), "run 1", &[row(1, 1), row(2, 2)]).await.unwrap();
    entering::put(&mut tx, &name(), "run 2", &[row(2, 22), row(3, 3)]).await.unwrap();
    entering::put(&mut tx, &PlaybookName::known("other"), "run 2", &[row(1, 9)]).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = state.read().await.unwrap();
    let asked = [3, 2, 7].map(ProfileNumber);
    let taken = entering::take(&mut tx, &name(), &asked).await.unwrap();
    assert_eq!(taken.into_iter().collect::<Vec<_>>(), [row(2, 22), row(3, 3)]);
    tx.rollback().await.unwrap();
    let mut tx = state.write().await.unwrap();
    entering::clear(&mut tx, &name()).await.unwrap();
    assert_eq!(entering::take(&mut tx, &name(), &asked).await.unwrap().len(), 0);
    assert_eq!(
        entering::take(&mut tx, &PlaybookName::known("other"), &[ProfileNumber(1)]).await.unwrap().len(),
        1
    );
}
