//! Allowances: what limits messages for all people together.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use model::delivery::Delivery;
use model::{MessageClass, Reason};

use super::made::*;
use crate::{Allowance, Canary, Hourly, Whose, hour_of};

fn row(class: MessageClass) -> Delivery {
    let made = Made::new();
    let mut row = made
        .enter(&version(vec![send("nudge")]), &Someone::new(1), "2026-03-02T11:00:00Z")
        .deliveries
        .remove(0);
    row.traits.class = class;
    row
}

#[test]
fn an_hour_has_so_many_and_the_next_hour_as_many_again() {
    let now = at("2026-03-02T09:59:59Z");
    let name = row(MessageClass::Marketing).traits.playbook;
    let playbooks = BTreeMap::from([(name.clone(), Hourly { used: 0, most: 2 })]);
    let mut allowance = Allowance { playbooks, ..Allowance::default() };
    let row = row(MessageClass::Marketing);
    assert_eq!((allowance.take(&row, now), allowance.take(&row, now)), (Ok(()), Ok(())));
    let refusal = allowance.take(&row, now).unwrap_err();
    assert_eq!(refusal.reason, Reason::PlaybookHour);
    assert!(refusal.saw.contains("from 2026-03-02T10:00:00Z on"), "{}", refusal.saw);
    assert_eq!(allowance.used_up(now).into_keys().collect::<Vec<_>>(), [Whose::Playbook(name)]);
    assert_eq!(hour_of(now), at("2026-03-02T09:00:00Z"));
    assert_eq!(hour_of(at("1969-12-31T23:30:00Z")), at("1969-12-31T23:00:00Z"));
}

#[test]
fn what_one_limit_refuses_the_others_do_not_count() {
    let now = at("2026-03-02T09:00:00Z");
    let row = row(MessageClass::Marketing);
    let mut allowance = Allowance {
        project: Some(Hourly { used: 0, most: 9 }),
        playbooks: BTreeMap::from([(row.traits.playbook.clone(), Hourly { used: 1, most: 1 })]),
    };
    assert!(allowance.take(&row, now).is_err());
    assert_eq!(allowance.project, Some(Hourly { used: 0, most: 9 }));
}

#[test]
fn transactional_messages_wait_for_no_hour_of_the_project_and_no_canary() {
    let now = at("2026-03-02T09:00:00Z");
    let reset = row(MessageClass::Transactional);
    let mut allowance = Allowance { project: Some(Hourly { used: 9, most: 9 }), ..Allowance::default() };
    assert_eq!(allowance.take(&reset, now), Ok(()));
    assert!(allowance.take(&row(MessageClass::Lifecycle), now).is_err());
}

#[test]
fn after_a_canary_the_others_wait_and_then_go() {
    let mut canary = Canary { sent: 0, size: 2, full_at: None, soak: SignedDuration::from_mins(15) };
    assert_eq!(canary.take(1, at("2026-03-02T09:00:00Z")), 1);
    assert_eq!(
        (canary.waits(at("2026-03-02T09:01:00Z")), canary.take(9, at("2026-03-02T09:01:00Z"))),
        (None, 1)
    );
    assert_eq!(canary.take(9, at("2026-03-02T09:15:59Z")), 0);
    let refusal = canary.waits(at("2026-03-02T09:15:59Z")).unwrap();
    assert_eq!(refusal.reason, Reason::CanaryWait);
    assert!(
        refusal.saw.contains("the first 2 messages") && refusal.saw.contains("until 2026-03-02T09:16:00Z"),
        "{}",
        refusal.saw
    );
    assert_eq!(
        (canary.waits(at("2026-03-02T09:16:00Z")), canary.take(9, at("2026-03-02T09:16:00Z"))),
        (None, 9)
    );
}
