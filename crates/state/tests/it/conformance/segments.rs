//! Segments' runs and membership.

use jiff::SignedDuration;
use model::{Reason, Refusal, SegmentName};
use roaring::RoaringBitmap;
use state::segment::{self, SegmentRun};
use state::{State, StateError, Tx};

use crate::world::at;

fn name() -> SegmentName {
    SegmentName::known("lapsing")
}

fn bitmap(numbers: &[u32]) -> RoaringBitmap {
    numbers.iter().copied().collect()
}

/// A run against the membership in force.
async fn run(tx: &mut Tx, second: i64, members: &[u32]) -> SegmentRun {
    let before =
        segment::current(tx, &name()).await.unwrap().map(|current| current.members).unwrap_or_default();
    let members = bitmap(members);
    SegmentRun {
        id: format!("run at {second}"),
        segment: name(),
        definition: "d1".to_owned(),
        as_of: at(second),
        entered: &members - &before,
        left: &before - &members,
        rows: members.len() + 3,
        duplicates: 2,
        missing_ids: 1,
        held: None,
        members,
    }
}

async fn commit(tx: &mut Tx, second: i64, members: &[u32]) {
    let run = run(tx, second, members).await;
    assert!(segment::commit_run(tx, &run, at(second)).await.unwrap());
}

pub(crate) async fn a_run_happens_once(state: &State) {
    let mut tx = state.write().await.unwrap();
    assert_eq!(segment::current(&mut tx, &name()).await.unwrap(), None);
    let first = run(&mut tx, 10, &[1, 2, 70_000]).await;
    assert!(segment::commit_run(&mut tx, &first, at(11)).await.unwrap());
    let other = SegmentRun { members: bitmap(&[9]), entered: bitmap(&[9]), ..first.clone() };
    assert!(!segment::commit_run(&mut tx, &other, at(12)).await.unwrap(), "whatever it says the second time");
    let current = segment::current(&mut tx, &name()).await.unwrap().unwrap();
    assert_eq!((current.run_id, current.as_of, current.members), (first.id, at(10), bitmap(&[1, 2, 70_000])));
    let last = segment::last_run(&mut tx, &name()).await.unwrap().unwrap();
    assert_eq!(
        (last.members, last.entered, last.left, last.rows, last.duplicates, last.missing_ids),
        (3, 3, 0, 6, 2, 1)
    );
    assert_eq!(segment::last_due(&mut tx, &name()).await.unwrap(), None);
    segment::set_last_due(&mut tx, &name(), at(7)).await.unwrap();
    segment::set_last_due(&mut tx, &SegmentName::known("other"), at(8)).await.unwrap();
    assert_eq!(segment::last_due(&mut tx, &name()).await.unwrap(), Some(at(7)));
    assert!(segment::current(&mut tx, &name()).await.unwrap().is_some());
    assert_eq!(segment::current(&mut tx, &SegmentName::known("other")).await.unwrap(), None);
}

pub(crate) async fn a_held_run_changes_nothing_in_force(state: &State) {
    let mut tx = state.write().await.unwrap();
    commit(&mut tx, 10, &[1, 2]).await;
    let refusal = Refusal { reason: Reason::SegmentEmpty, saw: "0 rows, 2 before".to_owned() };
    let held = SegmentRun { held: Some(refusal.clone()), ..run(&mut tx, 20, &[]).await };
    assert!(segment::commit_run(&mut tx, &held, at(20)).await.unwrap());
    assert_eq!(segment::current(&mut tx, &name()).await.unwrap().unwrap().members, bitmap(&[1, 2]));
    assert_eq!(segment::members_at(&mut tx, &name(), at(25)).await.unwrap().unwrap(), bitmap(&[1, 2]));
    assert_eq!(segment::last_run(&mut tx, &name()).await.unwrap().unwrap().held, Some(refusal));
    commit(&mut tx, 30, &[2, 3]).await;
    let history = segment::history(&mut tx, &name(), 2).await.unwrap();
    assert_eq!(history.iter().map(|run| run.as_of).collect::<Vec<_>>(), [at(30), at(20)]);
    assert_eq!((history[0].entered, history[0].left), (1, 1));
}

pub(crate) async fn any_day_is_read_back(state: &State) {
    let mut tx = state.write().await.unwrap();
    let members = |day: u32| (1..200).filter(|n| (n * 7 + day * 13) % 11 < 4).collect::<Vec<u32>>();
    for day in 1..=40 {
        commit(&mut tx, i64::from(day) * 10, &members(day)).await;
    }
    assert_eq!(segment::members_at(&mut tx, &name(), at(9)).await.unwrap(), None);
    for day in 1..=40 {
        let read = segment::members_at(&mut tx, &name(), at(i64::from(day) * 10 + 5)).await.unwrap().unwrap();
        assert_eq!(read, bitmap(&members(day)), "day {day}");
    }
}

pub(crate) async fn a_break_ends_being_in_it_for_so_long(state: &State) {
    let mut tx = state.write().await.unwrap();
    commit(&mut tx, 100, &[1, 2, 3]).await;
    commit(&mut tx, 200, &[1, 3, 4]).await;
    commit(&mut tx, 300, &[1, 2, 4]).await;
    let for_so_long = async |tx: &mut Tx, seconds: i64| {
        segment::members_for(tx, &name(), SignedDuration::from_secs(seconds), at(310)).await.unwrap()
    };
    assert_eq!(for_so_long(&mut tx, 0).await, bitmap(&[1, 2, 4]));
    assert_eq!(for_so_long(&mut tx, 110).await, bitmap(&[1, 4]), "2 was out at 200");
    assert_eq!(for_so_long(&mut tx, 210).await, bitmap(&[1]));
    assert_eq!(for_so_long(&mut tx, 211).await, bitmap(&[]), "before the first run nobody knows");
}

pub(crate) async fn a_run_that_does_not_add_up_is_refused(state: &State) {
    let mut tx = state.write().await.unwrap();
    commit(&mut tx, 10, &[1, 2]).await;
    let wrong = SegmentRun { left: RoaringBitmap::new(), ..run(&mut tx, 20, &[2]).await };
    assert!(matches!(segment::commit_run(&mut tx, &wrong, at(20)).await, Err(StateError::Broken { .. })));
}
