//! Walking: waits, branches, outcomes, exits and goals, and what happens to rows on the way.

use model::condition::{Condition, StepOutcome, ValueOf};
use model::delivery::Delivery;
use model::enrollment::{Exit, Progress};
use model::playbook::{Action, Arm, Step, Wait};
use model::{DeliveryState, Reason, StepId, Value};

use super::conditions::{in_segment, profile_is, step_was};
use super::made::*;
use crate::{Advanced, Cause, Version, advance};

const START: &str = "2026-03-02T11:00:00Z";

fn until(id: &str, condition: Condition, at_most: &str) -> Step {
    step(id, Action::Wait(Wait::Until { condition, at_most: span(at_most) }))
}

fn when(condition: Condition, step: Step) -> Step {
    Step { condition: Some(condition), ..step }
}

fn waiting_at(advanced: &Advanced) -> (&str, String) {
    match &advanced.enrollment.progress {
        Progress::Waiting { step, wake_at, .. } => (step.as_str(), wake_at.to_string()),
        other => panic!("{other:?}"),
    }
}

fn sent(advanced: &Advanced) -> Vec<(&str, DeliveryState)> {
    advanced.deliveries.iter().map(|row| (row.step.as_str(), row.state)).collect()
}

fn outcome(advanced: &Advanced, step: &str) -> Option<StepOutcome> {
    advanced.enrollment.outcomes.get(&StepId::known(step)).copied()
}

#[test]
fn a_playbook_without_steps_is_finished_at_once() {
    let advanced = Made::new().enter(&version(vec![]), &Someone::new(1), START);
    assert!(ended(&advanced.enrollment, &Exit::Finished) && advanced.changed);
}

#[test]
fn the_next_step_begins_when_the_message_is_accepted() {
    let (made, someone) = (Made::new(), Someone::new(1));
    let version = version(vec![send("one"), wait("pause", "2d"), send("two")]);
    let first = made.enter(&version, &someone, START);
    assert_eq!(sent(&first), [("one", DeliveryState::Pending)]);
    let mut rows = vec![first.deliveries[0].clone()];
    for state in [DeliveryState::Pending, DeliveryState::Leased, DeliveryState::Armed] {
        rows[0].state = state;
        let still = made.look(&version, &someone, &first, &rows, "2026-03-02T12:00:00Z");
        assert!(!still.changed && still.deliveries.is_empty() && still.cancelled.is_empty());
    }
    rows[0] = accepted(&rows[0]);
    let second = made.look(&version, &someone, &first, &rows, "2026-03-02T12:00:00Z");
    assert_eq!(waiting_at(&second), ("pause", "2026-03-04T12:00:00Z".to_owned()));
    assert_eq!(outcome(&second, "one"), Some(StepOutcome::Accepted));
    let early = made.look(&version, &someone, &second, &rows, "2026-03-04T11:59:59Z");
    assert!(!early.changed);
    let third = made.look(&version, &someone, &second, &rows, "2026-03-04T12:00:00Z");
    assert_eq!(sent(&third), [("two", DeliveryState::Pending)]);
    rows.push(accepted(&third.deliveries[0]));
    let last = made.look(&version, &someone, &third, &rows, "2026-03-04T12:01:00Z");
    assert!(ended(&last.enrollment, &Exit::Finished));
    let after = made.look(&version, &someone, &last, &rows, "2026-04-04T12:01:00Z");
    assert!(!after.changed && after.deliveries.is_empty());
}

#[test]
fn a_settled_row_is_an_outcome_and_never_decided_anew() {
    let (made, someone) = (Made::new(), Someone::new(1));
    let version = version(vec![send("one")]);
    let first = made.enter(&version, &someone, START);
    for (state, reason, wanted) in [
        (DeliveryState::Accepted, Reason::OkAccepted, StepOutcome::Accepted),
        (DeliveryState::InDoubt, Reason::OutcomeUnknown, StepOutcome::Accepted),
        (DeliveryState::Rejected, Reason::FailSmtpRecipient, StepOutcome::Bounced),
        (DeliveryState::Rejected, Reason::FailRetries, StepOutcome::Skipped),
        (DeliveryState::Expired, Reason::StepExpired, StepOutcome::Skipped),
        (DeliveryState::Cancelled, Reason::CancelOperator, StepOutcome::Skipped),
        (DeliveryState::Suppressed, Reason::ConsentWithdrawn, StepOutcome::Skipped),
        (DeliveryState::Withheld, Reason::GlobalHoldout, StepOutcome::Withheld),
    ] {
        let rows = [settled(&first.deliveries[0], state, reason)];
        let next = made.look(&version, &someone, &first, &rows, "2026-03-02T11:05:00Z");
        assert!(next.deliveries.is_empty(), "{state:?}");
        assert_eq!(outcome(&next, "one"), Some(wanted), "{state:?}");
    }
}

#[test]
fn what_does_not_go_is_a_row_and_the_walk_goes_on() {
    let mut made = Made::new();
    made.policy.permission = [(model::policy::Channel::Email, model::policy::Permission::Never)].into();
    let someone = Someone::new(1);
    let version = version(vec![
        when(profile_is("plan", "team"), send_for("filtered", "service")),
        send("offer"),
        when(step_was("offer", StepOutcome::Skipped), send_for("receipt", "service")),
    ]);
    let advanced = made.enter(&version, &someone, START);
    let wanted = [
        ("filtered", DeliveryState::Skipped),
        ("offer", DeliveryState::Suppressed),
        ("receipt", DeliveryState::Pending),
    ];
    assert_eq!(sent(&advanced), wanted);
    assert_eq!(advanced.deliveries[0].reason, Reason::StepFilter);
    assert_eq!(outcome(&advanced, "filtered"), Some(StepOutcome::Skipped));
}

#[test]
fn a_deferred_touch_is_decided_anew_when_it_is_due_and_not_before() {
    let mut made = Made::new();
    made.policy.quiet_hours = vec![nights("21:00", "08:00")];
    let mut someone = Someone::new(1);
    let version = version(vec![send("one")]);
    let first = made.enter(&version, &someone, "2026-03-02T22:00:00Z");
    assert_eq!(waiting_at(&first), ("one", "2026-03-03T07:00:00Z".to_owned()));
    let rows = first.deliveries.clone();
    let early = made.look(&version, &someone, &first, &rows, "2026-03-03T06:59:59Z");
    assert!(!early.changed && early.deliveries.is_empty());
    let woken = made.look(&version, &someone, &first, &rows, "2026-03-03T07:00:00Z");
    assert_eq!(sent(&woken), [("one", DeliveryState::Pending)]);
    let (row, before) = (&woken.deliveries[0], &rows[0]);
    assert_eq!((&row.id, row.created_at, row.expires_at), (&before.id, before.created_at, before.expires_at));
    assert_eq!(row.decided_at, at("2026-03-03T07:00:00Z"));
    someone.says(model::consent::ConsentStatus::Withdrawn);
    let woken = made.look(&version, &someone, &first, &rows, "2026-03-03T07:00:00Z");
    assert_eq!(sent(&woken), [("one", DeliveryState::Suppressed)], "every gate is asked again");
    assert!(ended(&woken.enrollment, &Exit::Finished));
}

#[test]
fn what_the_last_look_sent_back_is_decided_anew_though_the_enrollment_thought_it_was_on_its_way() {
    let (made, someone) = (Made::new(), Someone::new(1));
    let version = version(vec![send("one")]);
    let first = made.enter(&version, &someone, START);
    let back = Delivery {
        due_at: at("2026-03-02T13:00:00Z"),
        ..settled(&first.deliveries[0], DeliveryState::Deferred, Reason::CapDeferred)
    };
    let waits = made.look(&version, &someone, &first, std::slice::from_ref(&back), "2026-03-02T12:00:00Z");
    assert_eq!(waiting_at(&waits), ("one", "2026-03-02T13:00:00Z".to_owned()));
    let again = made.look(&version, &someone, &waits, &[back], "2026-03-02T13:00:00Z");
    assert_eq!(sent(&again), [("one", DeliveryState::Pending)]);
}

#[test]
fn a_deferred_touch_that_was_never_able_to_go_expires() {
    let mut made = Made::new();
    made.halts.all = true;
    let someone = Someone::new(1);
    let version = version(vec![send("one"), wait("pause", "1d")]);
    let mut now = made.enter(&version, &someone, START);
    let mut row = now.deliveries[0].clone();
    for when in ["2026-03-02T11:01:00Z", "2026-03-04T11:00:00Z", "2026-03-05T10:59:30Z"] {
        now = made.look(&version, &someone, &now, std::slice::from_ref(&row), when);
        row = now.deliveries[0].clone();
        assert_eq!(row.state, DeliveryState::Deferred);
    }
    assert_eq!(row.due_at, at("2026-03-05T11:00:00Z"), "not beyond its shelf life");
    now = made.look(&version, &someone, &now, &[row], "2026-03-05T11:00:00Z");
    assert_eq!(
        (now.deliveries[0].state, now.deliveries[0].reason),
        (DeliveryState::Expired, Reason::StepExpired)
    );
    assert_eq!(waiting_at(&now).0, "pause");
}

#[test]
fn the_schedule_does_not_drift_when_nobody_looks_in_time() {
    let (made, someone) = (Made::new(), Someone::new(1));
    let version = version(vec![wait("a", "1d"), wait("b", "1d"), send("one")]);
    let first = made.enter(&version, &someone, START);
    let late = made.look(&version, &someone, &first, &[], "2026-03-03T21:00:00Z");
    assert_eq!(waiting_at(&late), ("b", "2026-03-04T11:00:00Z".to_owned()));
    let very_late = made.look(&version, &someone, &first, &[], "2026-03-06T00:00:00Z");
    assert_eq!(
        very_late.deliveries[0].expires_at,
        at("2026-03-07T11:00:00Z"),
        "the shelf life counts from when it was due"
    );
    let too_late = made.look(&version, &someone, &first, &[], "2026-03-07T11:00:00Z");
    assert_eq!(sent(&too_late), [("one", DeliveryState::Expired)]);
}

#[test]
fn a_wait_until_is_met_at_once_later_or_never() {
    let mut made = Made::new();
    let someone = Someone::new(1);
    let version = version(vec![
        until("reaction", in_segment("active"), "4d"),
        when(step_was("reaction", StepOutcome::TimedOut), send("offer")),
    ]);
    let first = made.enter(&version, &someone, START);
    assert_eq!(waiting_at(&first), ("reaction", "2026-03-06T11:00:00Z".to_owned()));
    assert!(!made.look(&version, &someone, &first, &[], "2026-03-06T10:59:59Z").changed);
    let late = made.look(&version, &someone, &first, &[], "2026-03-06T11:00:00Z");
    assert_eq!(outcome(&late, "reaction"), Some(StepOutcome::TimedOut));
    assert_eq!(sent(&late), [("offer", DeliveryState::Pending)]);
    made.put("active", 1, 0);
    let met = made.look(&version, &someone, &first, &[], "2026-03-03T11:00:00Z");
    assert_eq!(outcome(&met, "reaction"), Some(StepOutcome::Met));
    assert_eq!(sent(&met), [("offer", DeliveryState::Skipped)]);
    let at_once = made.enter(&version, &someone, START);
    assert_eq!(outcome(&at_once, "reaction"), Some(StepOutcome::Met));
}

#[test]
fn a_wait_for_a_time_that_is_past_or_missing_does_not_wait() {
    let made = Made::new();
    let to = |offset: &str, sign: i32| {
        let offset = span(offset) * sign;
        version(vec![
            step(
                "trial",
                Action::Wait(Wait::To { value: ValueOf::Profile("trial_ends_at".to_owned()), offset }),
            ),
            send("one"),
        ])
    };
    let mut someone = Someone::new(1);
    assert_eq!(
        sent(&made.enter(&to("1d", -1), &someone, START)),
        [("one", DeliveryState::Pending)],
        "missing"
    );
    someone.set("trial_ends_at", Value::Time(at("2026-03-03T11:00:00Z")));
    assert_eq!(sent(&made.enter(&to("1d", -1), &someone, START)), [("one", DeliveryState::Pending)], "now");
    let waits = made.enter(&to("1d", 1), &someone, START);
    assert_eq!(waiting_at(&waits), ("trial", "2026-03-04T11:00:00Z".to_owned()));
    someone.set("trial_ends_at", Value::Time(at("2026-03-20T11:00:00Z")));
    let moved = made.look(&to("1d", 1), &someone, &waits, &[], "2026-03-04T11:00:00Z");
    assert_eq!(waiting_at(&moved), ("trial", "2026-03-21T11:00:00Z".to_owned()), "the time was put off");
    someone.set("trial_ends_at", text("2026-03-10"));
    let local = made.enter(&to("0s", 1), &someone, START);
    assert_eq!(waiting_at(&local).1, "2026-03-09T23:00:00Z", "a date is a local one");
}

#[test]
fn a_branch_takes_the_first_arm_that_fits_and_all_arms_meet_again() {
    let made = Made::new();
    let arm = |condition: Option<Condition>, steps: Vec<Step>| Arm { condition, steps };
    let inner = branch("inner", vec![arm(Some(profile_is("size", "big")), vec![send_for("big", "service")])]);
    let version = version(vec![
        branch(
            "by_plan",
            vec![
                arm(Some(profile_is("plan", "team")), vec![inner, wait("team_pause", "1h")]),
                arm(Some(profile_is("plan", "none")), vec![]),
                arm(Some(profile_is("plan", "gone")), vec![step("out", Action::Exit("gone".to_owned()))]),
                arm(Some(profile_is("plan", "trial")), vec![send("trial"), wait("trial_pause", "2h")]),
            ],
        ),
        wait("all", "3h"),
    ]);
    let place = |plan: &str, size: &str| {
        let mut someone = Someone::new(1);
        someone.set("plan", text(plan));
        someone.set("size", text(size));
        let first = made.enter(&version, &someone, START);
        let rows: Vec<Delivery> = first.deliveries.iter().map(accepted).collect();
        let next = made.look(&version, &someone, &first, &rows, START);
        let names: Vec<String> = first.deliveries.iter().map(|row| row.step.to_string()).collect();
        match &next.enrollment.progress {
            Progress::Waiting { step, .. } => format!("{names:?} {step}"),
            _ => format!("{names:?} {}", exit_of(&next.enrollment)),
        }
    };
    assert_eq!(place("team", "big"), r#"["big"] team_pause"#);
    assert_eq!(place("team", "small"), "[] team_pause");
    assert_eq!(place("none", ""), "[] all");
    assert_eq!(place("gone", ""), r#"["entry"] gone"#);
    assert_eq!(place("trial", ""), r#"["trial"] trial_pause"#);
    assert_eq!(place("other", ""), "[] all");
    let mut someone = Someone::new(1);
    someone.set("plan", text("team"));
    let first = made.enter(&version, &someone, START);
    let next = made.look(&version, &someone, &first, &[], "2026-03-02T12:00:00Z");
    assert_eq!(waiting_at(&next).0, "all");
}

#[test]
fn steps_whose_if_does_not_hold_pass() {
    let made = Made::new();
    let no = || profile_is("plan", "team");
    let version = version(vec![
        when(no(), wait("pause", "1d")),
        when(no(), step("out", Action::Exit("why".to_owned()))),
        when(no(), branch("b", vec![Arm { condition: None, steps: vec![wait("inner", "1d")] }])),
    ]);
    let advanced = made.enter(&version, &Someone::new(1), START);
    assert!(ended(&advanced.enrollment, &Exit::Finished));
    out_without_a_message(&advanced, Reason::NoStep);
}

#[test]
fn goal_exit_and_leaving_end_it_in_the_middle_of_a_wait_and_take_back_what_they_can() {
    let mut made = Made::new();
    let someone = Someone::new(1);
    let mut book = playbook(vec![send("one"), wait("pause", "9d")]);
    book.goal = Some(goal(in_segment("active"), "14d", true));
    book.exit.when = Some(in_segment("ticket"));
    let version = Version::new(book);
    let first = made.enter(&version, &someone, START);
    let row = first.deliveries[0].clone();
    let end = |made: &Made, cause: Cause, state: DeliveryState, now: &str| {
        let rows = [Delivery { state, ..row.clone() }];
        advance(&made.world(), &version, &someone.person(), first.enrollment.clone(), &rows, cause, at(now))
    };
    let later = "2026-03-03T11:00:00Z";
    let left = end(&made, Cause::Left, DeliveryState::Pending, later);
    assert!(ended(&left.enrollment, &Exit::Left) && left.changed);
    assert_eq!(left.cancelled, [(row.id.clone(), Reason::SegmentLeft)]);
    made.put("ticket", 1, 0);
    let criteria = end(&made, Cause::Left, DeliveryState::Deferred, later);
    assert!(ended(&criteria.enrollment, &Exit::CriteriaMet));
    assert_eq!(criteria.cancelled, [(row.id.clone(), Reason::CriteriaMet)]);
    made.put("active", 1, 0);
    let reached = end(&made, Cause::Left, DeliveryState::Leased, later);
    assert!(ended(&reached.enrollment, &Exit::GoalReached));
    assert_eq!(reached.enrollment.goal_reached_at, Some(at(later)));
    assert_eq!(reached.cancelled, [(row.id.clone(), Reason::GoalReached)]);
    for state in [DeliveryState::Armed, DeliveryState::Accepted, DeliveryState::InDoubt] {
        assert!(end(&made, Cause::Look, state, later).cancelled.is_empty(), "{state:?} is past recall");
    }
    let too_late = end(&made, Cause::Look, DeliveryState::Accepted, "2026-03-17T11:00:00Z");
    assert!(ended(&too_late.enrollment, &Exit::CriteriaMet), "the goal's time is over");
}

#[test]
fn the_last_instant_of_the_goals_time_still_counts() {
    let mut made = Made::new();
    let someone = Someone::new(1);
    let mut book = playbook(vec![wait("pause", "90d")]);
    book.goal = Some(goal(in_segment("active"), "14d", true));
    let version = Version::new(book);
    let first = made.enter(&version, &someone, START);
    made.put("active", 1, 0);
    assert!(made.look(&version, &someone, &first, &[], "2026-03-16T11:00:00.001Z").enrollment.is_active());
    assert!(!made.look(&version, &someone, &first, &[], "2026-03-16T11:00:00Z").enrollment.is_active());
}

#[test]
fn a_wait_that_is_over_when_it_begins_takes_no_time() {
    let mut made = Made::new();
    made.put("active", 1, 0);
    let someone = Someone::new(1);
    let version = version(vec![
        wait("pause", "1d"),
        until("reaction", in_segment("active"), "4d"),
        step(
            "trial",
            Action::Wait(Wait::To { value: ValueOf::Profile("none".to_owned()), offset: span("1d") }),
        ),
        send("one"),
    ]);
    let first = made.enter(&version, &someone, START);
    let late = made.look(&version, &someone, &first, &[], "2026-03-05T11:00:00Z");
    assert_eq!(late.deliveries[0].expires_at, at("2026-03-06T11:00:00Z"), "due on the 3rd, for three days");
}

#[test]
fn a_goal_that_does_not_end_it_is_noted_once() {
    let mut made = Made::new();
    let someone = Someone::new(1);
    let mut book = playbook(vec![wait("pause", "9d")]);
    book.goal = Some(goal(in_segment("active"), "14d", false));
    let version = Version::new(book);
    let first = made.enter(&version, &someone, START);
    made.put("active", 1, 0);
    let noted = made.look(&version, &someone, &first, &[], "2026-03-03T11:00:00Z");
    assert!(noted.changed && noted.enrollment.is_active());
    let again = made.look(&version, &someone, &noted, &[], "2026-03-04T11:00:00Z");
    assert!(!again.changed);
    assert_eq!(again.enrollment.goal_reached_at, Some(at("2026-03-03T11:00:00Z")));
}

#[test]
fn who_has_reached_the_goal_already_gets_nothing() {
    let mut made = Made::new();
    made.put("active", 1, 0);
    let mut book = playbook(vec![send("one")]);
    book.goal = Some(goal(in_segment("active"), "14d", true));
    let advanced = made.enter(&Version::new(book), &Someone::new(1), START);
    assert!(ended(&advanced.enrollment, &Exit::GoalReached));
    out_without_a_message(&advanced, Reason::GoalReached);
}

/// Everybody who enters has a row: who is out before there was anything to send has one that says so.
fn out_without_a_message(advanced: &Advanced, reason: Reason) {
    let [row] = &advanced.deliveries[..] else { panic!("one row: {:?}", advanced.deliveries) };
    let state = if reason == Reason::NoStep { DeliveryState::Skipped } else { DeliveryState::Cancelled };
    assert_eq!((row.step.as_str(), row.state, row.reason), ("entry", state, reason));
}

#[test]
fn who_is_out_after_a_wait_and_without_a_message_has_a_row_too() {
    let mut made = Made::new();
    let someone = Someone::new(1);
    let mut book = playbook(vec![wait("pause", "2d"), send("one")]);
    book.goal = Some(goal(in_segment("active"), "14d", true));
    let version = Version::new(book);
    let first = made.enter(&version, &someone, START);
    assert!(first.deliveries.is_empty() && first.enrollment.is_active());
    made.put("active", 1, 0);
    let out = made.look(&version, &someone, &first, &[], "2026-03-03T11:00:00Z");
    out_without_a_message(&out, Reason::GoalReached);
}

#[test]
fn leaving_changes_nothing_where_it_does_not_end_it() {
    let (made, someone) = (Made::new(), Someone::new(1));
    let mut book = playbook(vec![wait("pause", "9d")]);
    book.exit.on_leave = false;
    let version = Version::new(book);
    let first = made.enter(&version, &someone, START);
    let now = at("2026-03-03T11:00:00Z");
    let left = advance(&made.world(), &version, &someone.person(), first.enrollment, &[], Cause::Left, now);
    assert!(!left.changed && left.enrollment.is_active());
}

#[test]
fn who_is_gone_from_the_warehouse_is_out() {
    let made = Made::new();
    let mut someone = Someone::new(1);
    let version = version(vec![send("one")]);
    let first = made.enter(&version, &someone, START);
    someone.profile = None;
    let gone = made.look(&version, &someone, &first, &first.deliveries, "2026-03-02T11:05:00Z");
    assert!(ended(&gone.enrollment, &Exit::ProfileGone));
    assert_eq!(gone.cancelled, [(first.deliveries[0].id.clone(), Reason::SubjectMissing)]);
}

#[test]
fn who_stands_at_a_step_that_is_no_more_is_out() {
    let (made, someone) = (Made::new(), Someone::new(1));
    let first = made.enter(&version(vec![wait("pause", "1d")]), &someone, START);
    let other = made.look(&version(vec![wait("other", "1d")]), &someone, &first, &[], "2026-03-02T11:05:00Z");
    assert_eq!(exit_of(&other.enrollment), "step_gone");
}

#[test]
fn held_out_people_walk_the_same_way() {
    let mut made = Made::new();
    made.policy.holdout = Some(global_holdout("100%", None));
    let someone = Someone::new(1);
    let version = version(vec![
        send("one"),
        wait("pause", "1d"),
        when(step_was("one", StepOutcome::Withheld), send("two")),
    ]);
    let first = made.enter(&version, &someone, START);
    assert_eq!(sent(&first), [("one", DeliveryState::Withheld)]);
    let second = made.look(&version, &someone, &first, &first.deliveries, "2026-03-03T11:00:00Z");
    assert_eq!(sent(&second), [("two", DeliveryState::Withheld)]);
}

#[test]
fn a_touch_withheld_a_moment_ago_counts_for_the_next_step() {
    let mut made = Made::new();
    made.policy.holdout = Some(global_holdout("100%", None));
    made.policy.caps = vec![cap("day", 1, "1 calendar day", model::policy::OnHit::Skip)];
    let advanced = made.enter(&version(vec![send("one"), send("two")]), &Someone::new(1), START);
    assert_eq!(sent(&advanced), [("one", DeliveryState::Withheld), ("two", DeliveryState::Skipped)]);
}
