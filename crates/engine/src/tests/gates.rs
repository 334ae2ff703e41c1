//! Each gate, the order in which they decide, and the last look.

use model::consent::ConsentStatus;
use model::policy::{Channel, OnHit, Permission};
use model::{DeliveryState, DestinationName, Gate, Reason, StepId};

use super::made::*;
use crate::{ArmFacts, LastLook, Version, gates, last_look};

const NOON: &str = "2026-03-02T11:00:00Z";

/// State and reason of the only send, decided at noon in Berlin.
fn decided(made: &Made, someone: &Someone, purpose: &str) -> (DeliveryState, Reason) {
    let advanced = made.enter(&version(vec![send_for("nudge", purpose)]), someone, NOON);
    let [row] = &advanced.deliveries[..] else { panic!("one row, not {}", advanced.deliveries.len()) };
    (row.state, row.reason)
}

#[test]
fn what_passes_every_gate_is_pending_and_due_at_once() {
    let made = Made::new();
    let advanced = made.enter(&version(vec![send("nudge")]), &Someone::new(1), NOON);
    let row = &advanced.deliveries[0];
    assert_eq!((row.state, row.reason, row.due_at), (DeliveryState::Pending, Reason::OkDue, at(NOON)));
    assert_eq!(row.expires_at, at("2026-03-05T11:00:00Z"));
    assert!(row.gates.iter().all(|record| record.reason.is_none()), "{:?}", row.gates);
}

#[test]
fn all_gates_are_recorded_in_order_with_what_they_saw() {
    let mut made = Made::new();
    made.policy.caps =
        vec![cap("email_day", 1, "1 calendar day", OnHit::Defer), cap("any_week", 4, "7d", OnHit::Skip)];
    let row = made.enter(&version(vec![send("nudge")]), &Someone::new(1), NOON).deliveries.remove(0);
    let order: Vec<Gate> = row.gates.iter().map(|record| record.gate).collect();
    let all = [
        Gate::System,
        Gate::Identity,
        Gate::Suppression,
        Gate::Consent,
        Gate::Currency,
        Gate::Cap,
        Gate::Time,
        Gate::Holdout,
    ];
    assert_eq!(order, all);
    let saw = |gate| row.gates.iter().find(|record| record.gate == gate).unwrap().saw.as_str();
    assert_eq!(saw(Gate::Consent), "granted since 2026-01-02 (warehouse); email is opt_in");
    assert_eq!(
        saw(Gate::Cap),
        "email_day 0 of 1 since 2026-03-02T00:00:00+01:00[Europe/Berlin]; any_week 0 of 4 since 2026-02-23T11:00:00Z"
    );
    assert_eq!(saw(Gate::Time), "12:00 in Europe/Berlin (profile)");
}

#[test]
fn the_first_gate_that_fails_decides_and_the_others_are_told() {
    let mut made = Made::new();
    made.policy.quiet_hours = vec![nights("09:00", "17:00")];
    let mut someone = Someone::new(1);
    someone.says(ConsentStatus::Withdrawn);
    someone.suppress(Reason::HardBounce, None, false);
    let row = made.enter(&version(vec![send("nudge")]), &someone, NOON).deliveries.remove(0);
    assert_eq!((row.state, row.reason), (DeliveryState::Suppressed, Reason::HardBounce));
    let failed: Vec<Reason> = row.gates.iter().filter_map(|record| record.reason).collect();
    assert_eq!(failed, [Reason::HardBounce, Reason::ConsentWithdrawn, Reason::QuietHours]);
}

#[test]
fn no_gate_tells_an_address() {
    let mut made = Made::new();
    made.policy.caps = vec![cap("email_day", 1, "1 calendar day", OnHit::Defer)];
    for broken in ["user1@example.test", "not an address", "a@b@example.test", ""] {
        let mut someone = Someone::new(1);
        someone.set("email", text(broken));
        someone.suppress(Reason::Manual, None, false);
        for row in made.enter(&version(vec![send("nudge")]), &someone, NOON).deliveries {
            let tells =
                |saw: &str| ["example.test", "user1", "ops", "not an"].iter().any(|part| saw.contains(part));
            assert!(row.gates.iter().all(|record| !tells(&record.saw)), "{:?}", row.gates);
        }
    }
}

#[test]
fn an_address_is_needed_and_must_be_one() {
    let made = Made::new();
    let mut someone = Someone::new(1);
    someone.set("email", text(""));
    assert_eq!(decided(&made, &someone, "offers"), (DeliveryState::Skipped, Reason::AddressMissing));
    someone.set("email", text("ana@"));
    assert_eq!(decided(&made, &someone, "service"), (DeliveryState::Skipped, Reason::AddressInvalid));
}

#[test]
fn suppression_stops_everything_but_what_it_spares() {
    let made = Made::new();
    let (stop, go) = (DeliveryState::Suppressed, DeliveryState::Pending);
    for (reason, channel, spares, service, offers) in [
        (Reason::HardBounce, None, false, stop, stop),
        (Reason::OptoutChannel, Some(Channel::Email), true, go, stop),
        (Reason::OptoutChannel, Some(Channel::Sms), true, go, go),
        (Reason::Erased, None, false, stop, stop),
    ] {
        let mut someone = Someone::new(1);
        someone.suppress(reason, channel, spares);
        assert_eq!(decided(&made, &someone, "service").0, service, "{reason} {channel:?}");
        assert_eq!(decided(&made, &someone, "offers").0, offers, "{reason} {channel:?}");
    }
}

#[test]
fn permission_depends_on_class_policy_and_what_was_said() {
    use ConsentStatus::{Absent, Granted, Pending, Withdrawn};
    let ok = Reason::OkDue;
    for (permission, said, offers, product) in [
        (None, Granted, ok, ok),
        (None, Absent, Reason::ConsentAbsent, ok),
        (None, Pending, Reason::ConsentPending, ok),
        (None, Withdrawn, Reason::ConsentWithdrawn, Reason::ConsentWithdrawn),
        (Some(Permission::OptIn), Absent, Reason::ConsentAbsent, ok),
        (Some(Permission::OptOut), Absent, ok, ok),
        (Some(Permission::OptOut), Granted, ok, ok),
        (Some(Permission::OptOut), Pending, Reason::ConsentPending, ok),
        (Some(Permission::OptOut), Withdrawn, Reason::ConsentWithdrawn, Reason::ConsentWithdrawn),
        (Some(Permission::Never), Granted, Reason::ConsentChannelNever, ok),
    ] {
        let mut made = Made::new();
        made.policy.permission =
            permission.into_iter().map(|permission| (Channel::Email, permission)).collect();
        let mut someone = Someone::new(1);
        someone.says(said);
        assert_eq!(decided(&made, &someone, "offers").1, offers, "marketing, {permission:?}, {said:?}");
        assert_eq!(decided(&made, &someone, "product").1, product, "lifecycle, {permission:?}, {said:?}");
        assert_eq!(decided(&made, &someone, "service").1, ok, "transactional, {permission:?}, {said:?}");
    }
}

#[test]
fn a_purpose_that_the_policy_lost_is_refused() {
    let mut made = Made::new();
    made.policy.purposes.clear();
    assert_eq!(
        decided(&made, &Someone::new(1), "service"),
        (DeliveryState::Suppressed, Reason::ConsentAbsent)
    );
}

#[test]
fn transactional_knows_no_caps_quiet_hours_windows_and_holdouts() {
    let mut made = Made::new();
    made.policy.caps = vec![cap("none", 0, "7d", OnHit::Skip)];
    made.policy.quiet_hours = vec![nights("00:00", "00:00")];
    made.policy.holdout = Some(global_holdout("100%", None));
    let mut book = playbook(vec![send_for("receipt", "service")]);
    book.window = Some(window("03:00", "03:01"));
    let advanced = made.enter(&Version::new(book), &Someone::new(1), NOON);
    assert_eq!(advanced.deliveries[0].state, DeliveryState::Pending);
    assert_eq!(decided(&made, &Someone::new(1), "offers").0, DeliveryState::Skipped);
}

#[test]
fn what_is_halted_waits() {
    let mut made = Made::new();
    made.halts.all = true;
    let advanced = made.enter(&version(vec![send("nudge")]), &Someone::new(1), NOON);
    let row = &advanced.deliveries[0];
    assert_eq!((row.state, row.reason), (DeliveryState::Deferred, Reason::SysKillSwitch));
    assert_eq!(row.due_at, at("2026-03-02T11:01:00Z"));
    made.halts.all = false;
    made.halts.playbooks = names(&["win_back"]);
    assert_eq!(decided(&made, &Someone::new(1), "offers").1, Reason::SysPlaybookPaused);
    made.halts.playbooks = names(&["other"]);
    made.halts.destinations.insert(DestinationName::known("mail"));
    assert_eq!(decided(&made, &Someone::new(1), "offers").1, Reason::SysKillSwitch);
}

#[test]
fn the_holdout_is_asked_last_and_withholds() {
    let mut made = Made::new();
    made.policy.holdout = Some(global_holdout("100%", None));
    assert_eq!(decided(&made, &Someone::new(1), "offers"), (DeliveryState::Withheld, Reason::GlobalHoldout));
    let mut someone = Someone::new(1);
    someone.says(ConsentStatus::Absent);
    assert_eq!(decided(&made, &someone, "offers"), (DeliveryState::Suppressed, Reason::ConsentAbsent));
    made.policy.holdout = None;
    let mut book = playbook(vec![send("nudge")]);
    book.holdout = Some(own_holdout("100%"));
    let row = made.enter(&Version::new(book), &Someone::new(1), NOON).deliveries.remove(0);
    assert_eq!((row.state, row.reason), (DeliveryState::Withheld, Reason::PlaybookHoldout));
}

#[test]
fn quiet_hours_defer_to_their_end_and_a_window_to_its_opening() {
    let mut made = Made::new();
    made.policy.quiet_hours = vec![nights("21:00", "08:00")];
    let night = "2026-03-02T22:30:00Z";
    let row = made.enter(&version(vec![send("nudge")]), &Someone::new(1), night).deliveries.remove(0);
    assert_eq!((row.state, row.reason), (DeliveryState::Deferred, Reason::QuietHours));
    assert_eq!(row.due_at, at("2026-03-03T07:00:00Z"));
    let mut book = playbook(vec![send("nudge")]);
    book.window = Some(window("09:00", "17:00"));
    let row = made.enter(&Version::new(book.clone()), &Someone::new(1), night).deliveries.remove(0);
    assert_eq!(
        (row.reason, row.due_at),
        (Reason::QuietHours, at("2026-03-03T08:00:00Z")),
        "quiet first, then the window"
    );
    let evening = "2026-03-02T18:00:00Z";
    let row = made.enter(&Version::new(book), &Someone::new(1), evening).deliveries.remove(0);
    assert_eq!((row.reason, row.due_at), (Reason::SendWindow, at("2026-03-03T08:00:00Z")));
}

#[test]
fn quiet_hours_are_read_in_the_persons_own_zone_or_else_the_projects() {
    let mut made = Made::new();
    made.policy.quiet_hours = vec![nights("21:00", "08:00")];
    for (zone, state, saw) in [
        ("America/New_York", DeliveryState::Deferred, "06:00 in America/New_York (profile)"),
        ("Europe/Berlin", DeliveryState::Pending, "12:00 in Europe/Berlin (profile)"),
        ("Asia/Tokyo", DeliveryState::Pending, "20:00 in Asia/Tokyo (profile)"),
        ("Pacific/Auckland", DeliveryState::Deferred, "00:00 in Pacific/Auckland (profile)"),
        ("Mars/Olympus", DeliveryState::Pending, "12:00 in Europe/Berlin (project)"),
        ("", DeliveryState::Pending, "12:00 in Europe/Berlin (project)"),
    ] {
        let mut someone = Someone::new(1);
        someone.set("timezone", text(zone));
        let row = made.enter(&version(vec![send("nudge")]), &someone, NOON).deliveries.remove(0);
        assert_eq!(row.state, state, "{zone}");
        let record = row.gates.iter().find(|record| record.gate == Gate::Time).unwrap();
        assert!(record.saw.starts_with(saw), "{}", record.saw);
    }
}

#[test]
fn a_rule_with_a_condition_is_only_for_those_it_holds_for() {
    let mut made = Made::new();
    let mut rule = nights("00:00", "00:00");
    rule.filter = Some(super::conditions::profile_is("country", "DE"));
    made.policy.quiet_hours = vec![rule];
    let mut someone = Someone::new(1);
    assert_eq!(
        decided(&made, &someone, "offers").0,
        DeliveryState::Pending,
        "a missing value fails the test"
    );
    someone.set("country", text("DE"));
    assert_eq!(decided(&made, &someone, "offers").0, DeliveryState::Skipped, "always quiet: never in time");
}

#[test]
fn what_may_only_go_after_it_expired_is_skipped() {
    let mut made = Made::new();
    made.policy.quiet_hours = vec![nights("00:00", "00:00")];
    assert_eq!(
        decided(&made, &Someone::new(1), "offers"),
        (DeliveryState::Skipped, Reason::WindowExceedsTtl)
    );
}

#[test]
fn a_deferral_waits_for_the_latest_of_the_gates_that_defer() {
    let mut made = Made::new();
    made.policy.caps = vec![cap("gap", 1, "4h", OnHit::Defer)];
    made.policy.quiet_hours = vec![nights("21:00", "08:00")];
    let mut someone = Someone::new(1);
    someone.touch("2026-03-02T21:00:00Z", DeliveryState::Accepted);
    let row =
        made.enter(&version(vec![send("nudge")]), &someone, "2026-03-02T22:00:00Z").deliveries.remove(0);
    assert_eq!(
        (row.state, row.reason),
        (DeliveryState::Deferred, Reason::CapDeferred),
        "the cap is asked first"
    );
    assert_eq!(row.due_at, at("2026-03-03T07:00:00Z"), "but the night ends later than the cap");
}

#[test]
fn the_gates_can_be_asked_without_deciding() {
    let mut made = Made::new();
    made.policy.holdout = Some(global_holdout("100%", None));
    let someone = Someone::new(1);
    let version = version(vec![send("nudge"), wait("pause", "1d")]);
    let asked =
        |step: &str| gates(&made.world(), &version, &someone.person(), None, &StepId::known(step), at(NOON));
    assert_eq!(asked("nudge").last().unwrap().reason, Some(Reason::GlobalHoldout));
    assert!(asked("no_such_step").is_empty() && asked("pause").is_empty());
    let advanced = made.enter(&version, &someone, NOON);
    let step = StepId::known("nudge");
    let same = gates(&made.world(), &version, &someone.person(), Some(&advanced.enrollment), &step, at(NOON));
    assert_eq!(same, advanced.deliveries[0].gates);
}

#[test]
fn the_last_look_lets_go_what_was_decided_and_is_still_so() {
    let made = Made::new();
    let someone = Someone::new(1);
    let row = made.enter(&version(vec![send("nudge")]), &someone, NOON).deliveries.remove(0);
    assert_eq!(made.last_look(&row, &someone, NOON), LastLook::Arm);
}

#[test]
fn the_last_look_stops_what_has_changed_since() {
    let mut made = Made::new();
    let someone = Someone::new(1);
    let row = made.enter(&version(vec![send("nudge")]), &someone, NOON).deliveries.remove(0);
    let refused = |look: LastLook| match look {
        LastLook::Refuse { state, refusal } => (state, refusal.reason),
        other => panic!("{other:?}"),
    };
    let mut other = someone.clone();
    other.says(ConsentStatus::Withdrawn);
    assert_eq!(
        refused(made.last_look(&row, &other, NOON)),
        (DeliveryState::Suppressed, Reason::ConsentWithdrawn)
    );
    let mut other = someone.clone();
    other.suppress(Reason::OptoutChannel, Some(Channel::Email), true);
    assert_eq!(
        refused(made.last_look(&row, &other, NOON)),
        (DeliveryState::Suppressed, Reason::OptoutChannel)
    );
    let mut other = someone.clone();
    other.profile = None;
    assert_eq!(refused(made.last_look(&row, &other, NOON)), (DeliveryState::Skipped, Reason::SubjectMissing));
    let late = "2026-03-05T11:00:00Z";
    assert_eq!(refused(made.last_look(&row, &someone, late)), (DeliveryState::Expired, Reason::StepExpired));
    let facts = ArmFacts {
        enrollment_active: false,
        profile: someone.profile.as_ref(),
        consents: &someone.consents,
        suppressions: &[],
        touches: &[],
        shared: crate::Shared::default(),
        standings: &[],
        window: None,
    };
    let look = last_look(&made.world(), &row, &facts, at(NOON));
    assert_eq!(refused(look).0, DeliveryState::Cancelled);
    made.halts.all = true;
    assert!(matches!(made.last_look(&row, &someone, NOON), LastLook::Hold { .. }));
    assert_eq!(refused(made.last_look(&row, &someone, late)), (DeliveryState::Expired, Reason::StepExpired));
}

#[test]
fn the_last_look_sends_back_what_has_run_into_the_night_or_out_of_its_window() {
    let mut made = Made::new();
    made.policy.quiet_hours = vec![nights("21:00", "08:00")];
    let someone = Someone::new(1);
    let row = made.enter(&version(vec![send("nudge")]), &someone, NOON).deliveries.remove(0);
    let LastLook::Defer { wake_at, refusal } = made.last_look(&row, &someone, "2026-03-02T20:00:00Z") else {
        panic!()
    };
    assert_eq!((wake_at, refusal.reason), (at("2026-03-03T07:00:00Z"), Reason::QuietHours));
    let window = window("09:00", "17:00");
    let facts = ArmFacts {
        enrollment_active: true,
        profile: someone.profile.as_ref(),
        consents: &someone.consents,
        suppressions: &[],
        touches: &[],
        shared: crate::Shared::default(),
        standings: &[],
        window: Some(&window),
    };
    let LastLook::Defer { wake_at, refusal } =
        last_look(&made.world(), &row, &facts, at("2026-03-02T16:30:00Z"))
    else {
        panic!()
    };
    assert_eq!((wake_at, refusal.reason), (at("2026-03-03T08:00:00Z"), Reason::SendWindow));
}

#[test]
fn quiet_hours_may_ask_for_other_playbooks_also_while_arming() {
    let mut made = Made::new();
    let mut someone = Someone::new(1);
    let row = made.enter(&version(vec![send("nudge")]), &someone, NOON).deliveries.remove(0);
    let mut rule = nights("09:00", "17:00");
    rule.filter = Some(super::conditions::stands("onboarding", model::condition::PlaybookStanding::Active));
    made.policy.quiet_hours = vec![rule];
    assert_eq!(made.last_look(&row, &someone, NOON), LastLook::Arm);
    someone.standings = vec![crate::Standing {
        playbook: model::PlaybookName::known("onboarding"),
        active: true,
        reached_goal: false,
        ended_at: None,
    }];
    assert!(matches!(made.last_look(&row, &someone, NOON), LastLook::Defer { .. }));
}

#[test]
fn arming_counts_only_what_is_irrevocable_and_never_itself() {
    let mut made = Made::new();
    made.policy.caps = vec![cap("day", 1, "1 calendar day", OnHit::Defer)];
    let mut someone = Someone::new(1);
    let row = made.enter(&version(vec![send("nudge")]), &someone, NOON).deliveries.remove(0);
    someone.touch("2026-03-02T10:00:00Z", DeliveryState::Leased);
    someone.touches.push(crate::Touch {
        delivery: row.id.clone(),
        at: at(NOON),
        traits: row.traits.clone(),
        state: DeliveryState::Armed,
        content: None,
    });
    assert_eq!(made.last_look(&row, &someone, NOON), LastLook::Arm);
    someone.touch("2026-03-02T10:00:00Z", DeliveryState::Armed);
    assert!(
        matches!(made.last_look(&row, &someone, NOON), LastLook::Defer { wake_at, .. } if wake_at == at("2026-03-02T23:00:00Z"))
    );
}
