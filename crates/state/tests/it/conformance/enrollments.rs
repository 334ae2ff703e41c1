//! Enrollments.

use std::collections::BTreeMap;

use model::condition::StepOutcome;
use model::enrollment::{Enrollment, Exit, HoldoutKind, Progress};
use model::{EnrollmentId, PlaybookName, ProfileNumber, StepId};
use state::{State, enrollment};

use crate::world::{at, enrollment_id, playbook, sending, waiting};

fn ended(profile: u32, second: i64) -> Enrollment {
    Enrollment { progress: Progress::Ended { exit: Exit::Finished, at: at(second) }, ..waiting(profile, 0) }
}

/// The same person's next way through the playbook.
fn next(enrollment: Enrollment, second: i64) -> Enrollment {
    let id = EnrollmentId::derive("acme", &playbook(), enrollment.profile, "next run");
    Enrollment { id, entered_at: at(second), ..enrollment }
}

pub(crate) async fn an_enrollment_is_read_back_as_it_was(state: &State) {
    let mut tx = state.write().await.unwrap();
    let outcomes = BTreeMap::from([
        (StepId::known("hello"), StepOutcome::Accepted),
        (StepId::known("hello.wait"), StepOutcome::TimedOut),
    ]);
    let all = [
        waiting(1, 60),
        Enrollment {
            outcomes,
            holdout: Some(HoldoutKind::Playbook),
            goal_reached_at: Some(at(8)),
            ..sending(2)
        },
        ended(3, 9),
        Enrollment {
            progress: Progress::Ended { exit: Exit::Word("bought".to_owned()), at: at(9) },
            ..waiting(4, 0)
        },
    ];
    let rows: Vec<_> = all.iter().map(|enrollment| (enrollment.clone(), Some(vec![7, 0]))).collect();
    assert_eq!(enrollment::put(&mut tx, &rows).await.unwrap(), 4);
    for kept in &all {
        let row = enrollment::get(&mut tx, kept.profile, &kept.id).await.unwrap().unwrap();
        assert_eq!(row.enrollment, *kept);
        assert_eq!(
            row.sealed_entry,
            kept.is_active().then(|| vec![7, 0]),
            "what is over keeps no personal details"
        );
    }
    assert_eq!(enrollment::get(&mut tx, ProfileNumber(2), &enrollment_id(1)).await.unwrap(), None);
    // A later write without an entry keeps it; the end drops it.
    enrollment::put(&mut tx, &[(waiting(1, 70), None)]).await.unwrap();
    let row = enrollment::get(&mut tx, ProfileNumber(1), &enrollment_id(1)).await.unwrap().unwrap();
    assert_eq!((row.sealed_entry, row.look_at), (Some(vec![7, 0]), Some(at(70))));
    enrollment::put(&mut tx, &[(ended(1, 80), None)]).await.unwrap();
    let row = enrollment::get(&mut tx, ProfileNumber(1), &enrollment_id(1)).await.unwrap().unwrap();
    assert_eq!((row.sealed_entry, row.look_at), (None, None));
    let pairs: Vec<_> = [4, 2, 9].iter().map(|n| (ProfileNumber(*n), enrollment_id(*n))).collect();
    let many = tx.ask(enrollment::get_many(&pairs)).await.unwrap();
    assert_eq!(many.iter().map(|row| row.enrollment.profile.0).collect::<Vec<_>>(), [2, 4]);
}

pub(crate) async fn one_that_ended_is_not_begun_again(state: &State) {
    let mut tx = state.write().await.unwrap();
    enrollment::put(&mut tx, &[(ended(1, 9), None)]).await.unwrap();
    assert_eq!(enrollment::put(&mut tx, &[(waiting(1, 60), None)]).await.unwrap(), 0);
    let late_goal = Enrollment { goal_reached_at: Some(at(20)), ..ended(1, 9) };
    assert_eq!(
        enrollment::put(&mut tx, &[(late_goal.clone(), None)]).await.unwrap(),
        1,
        "a goal may be reached after the end"
    );
    assert_eq!(enrollment::of_profile(&mut tx, ProfileNumber(1)).await.unwrap()[0].enrollment, late_goal);
}

pub(crate) async fn a_person_is_under_way_once(state: &State) {
    let mut tx = state.write().await.unwrap();
    enrollment::put(&mut tx, &[(waiting(1, 60), None)]).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = state.write().await.unwrap();
    assert!(enrollment::put(&mut tx, &[(next(waiting(1, 90), 50), None)]).await.is_err());
    drop(tx);
    let mut tx = state.write().await.unwrap();
    enrollment::put(&mut tx, &[(ended(1, 40), None)]).await.unwrap();
    enrollment::put(&mut tx, &[(next(waiting(1, 90), 50), None)]).await.unwrap();
    let active =
        enrollment::of_profiles_active(&mut tx, &playbook(), &[1, 2].map(ProfileNumber)).await.unwrap();
    assert_eq!(active.len(), 1);
    assert_eq!(enrollment::of_profile(&mut tx, ProfileNumber(1)).await.unwrap().len(), 2);
}

pub(crate) async fn due_ones_come_in_pages(state: &State) {
    let mut tx = state.write().await.unwrap();
    let wakes = [(5, 30), (1, 20), (2, 20), (3, 10), (4, 99)];
    let rows: Vec<_> = wakes.iter().map(|(n, wake)| (waiting(*n, *wake), None)).collect();
    enrollment::put(&mut tx, &rows).await.unwrap();
    let other = Enrollment { playbook: PlaybookName::known("other"), ..waiting(7, 1) };
    enrollment::put(&mut tx, &[(other, None), (sending(6), None), (ended(8, 2), None)]).await.unwrap();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = enrollment::due(&mut tx, &playbook(), at(30), 2, after).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some((last.look_at.unwrap(), last.enrollment.profile));
        seen.extend(page.iter().map(|row| row.enrollment.profile.0));
    }
    assert_eq!(seen, [3, 1, 2, 5]);
    let active = enrollment::active(&mut tx, &playbook(), Some(ProfileNumber(2)), 3).await.unwrap();
    assert_eq!(active.iter().map(|row| row.enrollment.profile.0).collect::<Vec<_>>(), [3, 4, 5]);
}

pub(crate) async fn standings_are_of_the_latest(state: &State) {
    let mut tx = state.write().await.unwrap();
    let reached = Enrollment { goal_reached_at: Some(at(8)), ..ended(1, 9) };
    let other = Enrollment { playbook: PlaybookName::known("other"), id: enrollment_id(77), ..ended(1, 5) };
    enrollment::put(&mut tx, &[(reached, None), (other, None), (ended(2, 7), None)]).await.unwrap();
    enrollment::put(&mut tx, &[(next(waiting(2, 90), 50), None)]).await.unwrap();
    let standings = tx.ask(enrollment::standings(&[1, 2, 3].map(ProfileNumber))).await.unwrap();
    let told: Vec<_> = standings
        .iter()
        .map(|one| (one.profile.0, one.playbook.as_str(), one.active, one.reached_goal, one.ended_at))
        .collect();
    assert_eq!(
        told,
        [
            (1, "other", false, false, Some(at(5))),
            (1, "win_back", false, true, Some(at(9))),
            (2, "win_back", true, false, None)
        ]
    );
}
