//! Caps, against a recount that knows nothing of the engine's arithmetic.

use jiff::civil::{Date, ISOWeekDate};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};
use model::duration::{CalendarUnit, Window};
use model::id::ContentHash;
use model::playbook::Playbook;
use model::policy::{Cap, CapUnit, Channel, MessageClass, OnHit, RuleZone};
use model::{BrandName, DeliveryId, DeliveryState, Gate, PlaybookName, PurposeName, Reason, StepId};
use proptest::prelude::*;

use super::made::*;
use crate::time::{counts, frees_at, window_start};
use crate::{Touch, Version};

const NOON: &str = "2026-03-02T11:00:00Z";

fn decided(made: &Made, someone: &Someone, now: &str) -> (DeliveryState, Reason, Timestamp) {
    let row = made.enter(&version(vec![send("nudge")]), someone, now).deliveries.remove(0);
    (row.state, row.reason, row.due_at)
}

#[test]
fn what_stands_already_counts_and_what_was_refused_does_not() {
    let mut made = Made::new();
    made.policy.caps = vec![cap("day", 1, "1 calendar day", OnHit::Skip)];
    use DeliveryState as S;
    for (_, state) in S::ALL {
        let mut someone = Someone::new(1);
        someone.touch("2026-03-02T08:00:00Z", *state);
        let counted =
            matches!(state, S::Pending | S::Leased | S::Armed | S::Accepted | S::InDoubt | S::Withheld);
        let wanted = if counted { S::Skipped } else { S::Pending };
        assert_eq!(decided(&made, &someone, NOON).0, wanted, "{state:?}");
    }
}

/// A playbook whose only send says that.
fn saying(content: &str, purpose: &str) -> Version {
    let contents = [(StepId::known("nudge"), ContentHash::known(content))].into();
    Version::new(Playbook { contents, ..playbook(vec![send_for("nudge", purpose)]) })
}

#[test]
fn nobody_gets_the_same_words_twice_within_a_day() {
    use DeliveryState as S;
    let made = Made::new();
    let heard = |words: Option<&str>, when: &str, state| {
        let mut someone = Someone::new(1);
        someone.touch(when, state);
        someone.touches[0].content = words.map(ContentHash::known);
        someone
    };
    let say = |made: &Made, someone: &Someone, purpose: &str| {
        let row = made.enter(&saying("words", purpose), someone, NOON).deliveries.remove(0);
        (row.state, row.reason)
    };
    let (goes, refused) = ((S::Pending, Reason::OkDue), (S::Skipped, Reason::CapSameContent));
    for (_, state) in S::ALL {
        let someone = heard(Some("words"), "2026-03-02T08:00:00Z", *state);
        let wanted = if state.counts_when_deciding() { refused } else { goes };
        assert_eq!(say(&made, &someone, "offers"), wanted, "{state:?}");
    }
    for (words, when, purpose, wanted) in [
        (Some("others"), "2026-03-02T10:59:59Z", "offers", goes),
        (None, "2026-03-02T10:59:59Z", "offers", goes),
        (Some("words"), "2026-03-01T11:00:01Z", "offers", refused),
        (Some("words"), "2026-03-01T11:00:00Z", "offers", goes),
        (Some("words"), "2026-03-03T08:00:00Z", "offers", refused),
        (Some("words"), "2026-03-02T10:59:59Z", "product", refused),
        (Some("words"), "2026-03-02T10:59:59Z", "service", goes),
    ] {
        let someone = heard(words, when, S::Accepted);
        assert_eq!(say(&made, &someone, purpose), wanted, "{words:?} {when} {purpose}");
    }
    // What is not known to be the same is not taken for it.
    let someone = heard(None, "2026-03-02T10:00:00Z", S::Accepted);
    assert_eq!(decided(&made, &someone, NOON).0, S::Pending);
}

#[test]
fn the_same_words_are_not_put_off_and_are_asked_for_once_more_before_they_go() {
    let mut made = Made::new();
    made.policy.caps = vec![cap("day", 1, "1 calendar day", OnHit::Defer)];
    let mut someone = Someone::new(1);
    someone.touch("2026-03-02T08:00:00Z", DeliveryState::Accepted);
    someone.touches[0].content = Some(ContentHash::known("words"));
    let row = made.enter(&saying("words", "offers"), &someone, NOON).deliveries.remove(0);
    assert_eq!((row.state, row.reason), (DeliveryState::Skipped, Reason::CapSameContent));
    let saw = &row.gates.iter().find(|record| record.gate == Gate::Cap).unwrap().saw;
    assert!(saw.ends_with("; the same words 2026-03-02T08:00:00Z"), "{saw}");
    made.policy.caps[0].on_hit = OnHit::Skip;
    let row = made.enter(&saying("words", "offers"), &someone, NOON).deliveries.remove(0);
    assert_eq!(row.reason, Reason::CapPerson, "a cap that skips is asked first");

    made.policy.caps.clear();
    someone.touches.clear();
    let row = made.enter(&saying("words", "offers"), &someone, NOON).deliveries.remove(0);
    for (state, arms) in
        [(DeliveryState::Leased, true), (DeliveryState::Armed, false), (DeliveryState::InDoubt, false)]
    {
        someone.touches.clear();
        someone.touch("2026-03-02T10:59:59Z", state);
        someone.touches[0].content = row.content.clone();
        // Its own row, from an attempt before, does not stand in its way.
        someone.touches.push(Touch {
            delivery: row.id.clone(),
            at: at(NOON),
            traits: row.traits.clone(),
            state: DeliveryState::Armed,
            content: row.content.clone(),
        });
        let look = made.last_look(&row, &someone, NOON);
        assert_eq!(look == crate::LastLook::Arm, arms, "{state:?} {look:?}");
        if let crate::LastLook::Refuse { state, refusal } = look {
            assert_eq!((state, refusal.reason), (DeliveryState::Skipped, Reason::CapSameContent));
        }
    }
}

#[test]
fn what_people_share_is_counted_together() {
    let mut made = Made::new();
    let other = Touch {
        delivery: DeliveryId::known("theirs"),
        at: at("2026-03-02T08:00:00Z"),
        traits: traits("offers", MessageClass::Marketing),
        state: DeliveryState::Accepted,
        content: None,
    };
    let cases = [(CapUnit::Account, Reason::CapAccount), (CapUnit::Address, Reason::CapAddress)];
    for (unit, reason) in cases {
        made.policy.caps = vec![Cap { unit, ..cap("company", 1, "7d", OnHit::Skip) }];
        let mut someone = Someone::new(1);
        someone.set("account_id", text("acme"));
        someone.touches = vec![other.clone()];
        assert_eq!(
            decided(&made, &someone, NOON).0,
            DeliveryState::Pending,
            "{unit:?}: their own list is another"
        );
        someone.others = match unit {
            CapUnit::Account => (vec![other.clone()], vec![]),
            CapUnit::Address | CapUnit::Profile => (vec![], vec![other.clone()]),
        };
        assert_eq!(decided(&made, &someone, NOON).1, reason);
        made.policy.caps[0].on_hit = OnHit::Defer;
        let (state, why, wakes) = decided(&made, &someone, NOON);
        assert_eq!(
            (state, why),
            (DeliveryState::Skipped, Reason::CapWaitExpired),
            "it has no room before it expires: {wakes}"
        );
        made.policy.caps[0].max = 2;
        assert_eq!(decided(&made, &someone, NOON).0, DeliveryState::Pending);
    }
    made.policy.caps = vec![Cap { unit: CapUnit::Account, ..cap("company", 0, "7d", OnHit::Skip) }];
    assert_eq!(
        decided(&made, &Someone::new(1), NOON).0,
        DeliveryState::Pending,
        "who has no account is not capped"
    );
}

#[test]
fn a_cap_counts_what_its_scope_covers_and_stops_what_it_covers() {
    let mut made = Made::new();
    let mut only = cap("only", 1, "7d", OnHit::Skip);
    only.scope.purpose = vec![PurposeName::known("offers")];
    made.policy.caps = vec![only.clone()];
    let mut someone = Someone::new(1);
    someone.touch("2026-03-02T08:00:00Z", DeliveryState::Accepted);
    assert_eq!(decided(&made, &someone, NOON).1, Reason::CapPerson);
    someone.touches[0].traits = traits("product", MessageClass::Lifecycle);
    assert_eq!(decided(&made, &someone, NOON).0, DeliveryState::Pending, "another purpose");
    someone.touches[0].traits = traits("offers", MessageClass::Transactional);
    assert_eq!(decided(&made, &someone, NOON).0, DeliveryState::Pending, "transactional is outside all caps");
    someone.touches[0].traits = traits("offers", MessageClass::Marketing);
    for scope in [
        model::policy::Scope { channel: vec![Channel::Sms], ..only.scope.clone() },
        model::policy::Scope { class: vec![MessageClass::Lifecycle], ..only.scope.clone() },
        model::policy::Scope { brand: vec![BrandName::known("other")], ..only.scope.clone() },
        model::policy::Scope { playbook: vec![PlaybookName::known("other")], ..only.scope.clone() },
    ] {
        made.policy.caps[0].scope = scope;
        assert_eq!(
            decided(&made, &someone, NOON).0,
            DeliveryState::Pending,
            "{:?}",
            made.policy.caps[0].scope
        );
    }
    made.policy.caps[0].scope = model::policy::Scope { channel: vec![Channel::Email], ..only.scope };
    assert_eq!(decided(&made, &someone, NOON).1, Reason::CapChannel);
}

#[test]
fn a_rolling_window_has_room_when_the_oldest_in_the_way_falls_out() {
    let mut made = Made::new();
    made.policy.caps = vec![cap("week", 2, "7d", OnHit::Defer)];
    let mut book = playbook(vec![send("nudge")]);
    book.expires = span("30d");
    let version = Version::new(book);
    let mut someone = Someone::new(1);
    for when in
        ["2026-02-23T11:00:00Z", "2026-02-24T10:00:00Z", "2026-02-27T10:00:00Z", "2026-02-28T10:00:00Z"]
    {
        someone.touch(when, DeliveryState::Accepted);
    }
    let row = made.enter(&version, &someone, NOON).deliveries.remove(0);
    assert_eq!((row.state, row.reason), (DeliveryState::Deferred, Reason::CapDeferred));
    assert_eq!(row.due_at, at("2026-03-06T10:00:00Z"), "two of the three must go");
    let seen = row.gates.iter().find(|record| record.gate == Gate::Cap).unwrap();
    assert_eq!(seen.saw, "week 3 of 2 since 2026-02-23T11:00:00Z", "what is exactly a week old is out");
}

#[test]
fn a_calendar_window_turns_at_the_persons_own_midnight() {
    let mut made = Made::new();
    made.policy.caps = vec![cap("day", 1, "1 calendar day", OnHit::Defer)];
    let mut someone = Someone::new(1);
    someone.set("timezone", text("America/New_York"));
    someone.touch("2026-03-02T04:59:00Z", DeliveryState::Accepted);
    assert_eq!(decided(&made, &someone, "2026-03-02T05:01:00Z").0, DeliveryState::Pending, "23:59 and 00:01");
    someone.touch("2026-03-02T05:01:00Z", DeliveryState::Accepted);
    let (state, _, due) = decided(&made, &someone, NOON);
    assert_eq!((state, due), (DeliveryState::Deferred, at("2026-03-03T05:00:00Z")));
    made.policy.caps[0].zone = RuleZone::Project;
    assert_eq!(decided(&made, &someone, NOON).2, at("2026-03-02T23:00:00Z"));
}

#[test]
fn a_deferral_that_would_outlive_the_message_is_a_skip() {
    let mut made = Made::new();
    made.policy.caps = vec![cap("week", 1, "7d", OnHit::Defer)];
    let mut someone = Someone::new(1);
    someone.touch("2026-03-02T08:00:00Z", DeliveryState::Accepted);
    assert_eq!(decided(&made, &someone, NOON).1, Reason::CapWaitExpired);
    made.policy.caps = vec![cap("none", 0, "1h", OnHit::Defer)];
    assert_eq!(
        decided(&made, &Someone::new(1), NOON).1,
        Reason::CapWaitExpired,
        "a cap of none never has room"
    );
}

#[test]
fn of_several_caps_a_skip_decides_and_else_the_latest() {
    let mut made = Made::new();
    let mut someone = Someone::new(1);
    someone.touch("2026-03-02T08:00:00Z", DeliveryState::Accepted);
    made.policy.caps = vec![cap("gap", 1, "4h", OnHit::Defer), cap("day", 1, "1 calendar day", OnHit::Defer)];
    assert_eq!(decided(&made, &someone, NOON).2, at("2026-03-02T23:00:00Z"));
    made.policy.caps.reverse();
    assert_eq!(decided(&made, &someone, NOON).2, at("2026-03-02T23:00:00Z"));
    made.policy.caps = vec![cap("week", 1, "7d", OnHit::Defer), cap("day", 1, "1 calendar day", OnHit::Skip)];
    assert_eq!(decided(&made, &someone, NOON).1, Reason::CapPerson);
    made.policy.caps.reverse();
    assert_eq!(decided(&made, &someone, NOON).1, Reason::CapPerson);
}

/// The name of the unit of the calendar that an instant lies in, so that a later unit has a greater one, and its neighbours.
fn unit_of(unit: CalendarUnit, at: Timestamp, zone: &TimeZone) -> Date {
    let date = zone.to_datetime(at).date();
    match unit {
        CalendarUnit::Day => date,
        CalendarUnit::Week => {
            let week: ISOWeekDate = date.iso_week_date();
            ISOWeekDate::new(week.year(), week.week(), jiff::civil::Weekday::Monday).unwrap().date()
        }
        CalendarUnit::Month => Date::new(date.year(), date.month(), 1).unwrap(),
    }
}

/// How many of the touches a cap counts at an instant, by names of units and differences of seconds.
fn recount(per: Window, touches: &[Timestamp], now: Timestamp, zone: &TimeZone) -> usize {
    let counted = |touch: &&Timestamp| match per {
        Window::Rolling(duration) => now.as_second() - touch.as_second() < duration.as_secs(),
        Window::Calendar { count, unit } => {
            let mut first = unit_of(unit, now, zone);
            for _ in 1..count {
                let before = first
                    .checked_sub(Span::new().days(1))
                    .unwrap()
                    .to_datetime(jiff::civil::time(12, 0, 0, 0));
                first = unit_of(unit, before.to_zoned(TimeZone::UTC).unwrap().timestamp(), &TimeZone::UTC);
            }
            unit_of(unit, **touch, zone) >= first
        }
    };
    touches.iter().filter(counted).count()
}

const ZONES: [&str; 9] = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Asia/Kolkata",
    "America/Havana",
    "Pacific/Apia",
    "Asia/Beirut",
    "Africa/Casablanca",
];

fn windows() -> impl Strategy<Value = Window> {
    let unit = prop_oneof![Just(CalendarUnit::Day), Just(CalendarUnit::Week), Just(CalendarUnit::Month)];
    prop_oneof![
        (600i64..2_000_000).prop_map(|seconds| Window::Rolling(SignedDuration::from_secs(seconds))),
        (1u32..4, unit).prop_map(|(count, unit)| Window::Calendar { count, unit }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_engine_counts_as_a_recount_does(
        per in windows(),
        zone in 0usize..ZONES.len(),
        now in 1_000_000_000i64..1_900_000_000,
        touches in prop::collection::vec(-3_000_000i64..100_000, 0..12),
    ) {
        let zone = TimeZone::get(ZONES[zone]).unwrap();
        let now = Timestamp::from_second(now).unwrap();
        let touches: Vec<Timestamp> = touches.iter().map(|ago| Timestamp::from_second(now.as_second() + ago).unwrap()).collect();
        let start = window_start(per, now, &zone);
        let counted = touches.iter().filter(|touch| counts(per, start, **touch)).count();
        prop_assert_eq!(counted, recount(per, &touches, now, &zone));
    }

    #[test]
    fn a_full_cap_frees_at_the_first_second_at_which_a_recount_finds_room(
        per in windows(),
        zone in 0usize..ZONES.len(),
        now in 1_000_000_000i64..1_900_000_000,
        touches in prop::collection::vec(-2_000_000i64..1, 1..8),
        max in 1u32..4,
    ) {
        let zone = TimeZone::get(ZONES[zone]).unwrap();
        let now = Timestamp::from_second(now).unwrap();
        let touches: Vec<Timestamp> = touches.iter().map(|ago| Timestamp::from_second(now.as_second() + ago).unwrap()).collect();
        let start = window_start(per, now, &zone);
        let counted: Vec<Timestamp> = touches.iter().copied().filter(|touch| counts(per, start, *touch)).collect();
        let full = |at: Timestamp| recount(per, &touches, at, &zone) >= usize::try_from(max).unwrap();
        prop_assume!(full(now));
        let frees = frees_at(per, max, &counted, now, &zone).unwrap();
        prop_assert!(frees > now && !full(frees), "{frees}");
        prop_assert!(full(Timestamp::from_second(frees.as_second() - 1).unwrap()), "{frees}: not the first");
    }

    #[test]
    fn over_any_history_no_window_ever_holds_more_than_the_cap(
        per in windows(),
        zone in 0usize..ZONES.len(),
        max in 1u32..4,
        skip in any::<bool>(),
        asked in prop::collection::vec(0i64..90_000, 1..25),
    ) {
        let mut made = Made::new();
        let mut rule = cap("cap", max, "7d", if skip { OnHit::Skip } else { OnHit::Defer });
        rule.per = per;
        made.policy.caps = vec![rule];
        let mut someone = Someone::new(1);
        someone.set("timezone", text(ZONES[zone]));
        let (zone, version) = (TimeZone::get(ZONES[zone]).unwrap(), version(vec![send("nudge")]));
        let mut now = at("2026-03-25T00:00:00Z");
        for (number, pause) in asked.into_iter().enumerate() {
            now = now.checked_add(SignedDuration::from_secs(pause)).unwrap();
            let row = made.enter(&version, &someone, &now.to_string()).deliveries.remove(0);
            let before: Vec<Timestamp> = someone.touches.iter().map(|touch| touch.at).collect();
            let room = recount(per, &before, now, &zone) < usize::try_from(max).unwrap();
            prop_assert_eq!(row.state == DeliveryState::Pending, room);
            if row.state == DeliveryState::Pending {
                let delivery = DeliveryId::known(format!("t{number}"));
                someone.touches.push(Touch { delivery, at: now, traits: row.traits, state: DeliveryState::Accepted, content: None });
            }
        }
    }
}
