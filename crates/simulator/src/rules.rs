//! What holds in the world of a seed: a policy, playbooks with all kinds of steps, segments and their schedules.
//!
//! Each part is there in some seeds and not in others (swarm testing): a world in which everything is switched on at once hides
//! as much as one in which nothing is.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use jiff::civil::{Weekday, date, time};
use jiff::tz::TimeZone;
use model::condition::{Condition, PlaybookStanding, SegmentTest, StepOutcome, ValueOf, ValueTest};
use model::duration::{CalendarUnit, Share, Window};
use model::playbook::{
    Action, Arm, Backfill, ExitRule, Goal, Holdout, Playbook, Reenter, Send, SendWindow, Step, Wait,
};
use model::policy::{
    Cap, CapUnit, GlobalHoldout, Guards, InDoubt, Localized, OnHit, OwnGuards, Permission, Policy, Purpose,
    QuietHours, RuleZone, Scope,
};
use model::{
    BrandName, CapName, Channel, DestinationName, MessageClass, PlaybookName, PurposeName, QuietHoursName,
    SegmentName, StepId, TemplateName, Value,
};

use crate::dice::Dice;

/// The one destination there is.
pub const DESTINATION: &str = "mail";
/// The one template there is.
pub const TEMPLATE: &str = "note";
/// The one brand there is.
pub const BRAND: &str = "acme";
/// The project's name.
pub const PROJECT: &str = "simulated";

/// Zones chosen to hurt: half hours, clocks changed at midnight, by half an hour, in the south, a day left out.
pub const ZONES: &[&str] = &[
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Pacific/Apia",
];

/// The segments people flap in and out of.
pub const SEGMENTS: &[&str] = &["at_risk", "newcomers", "buyers", "ticket"];

/// Everything that is the same for everybody.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Where a person has no zone; calendars and schedules run in it.
    pub zone: TimeZone,
    /// What is allowed.
    pub policy: Policy,
    /// By name.
    pub playbooks: BTreeMap<PlaybookName, Playbook>,
    /// How often each segment is refreshed.
    pub segments: BTreeMap<SegmentName, SignedDuration>,
}

impl Rules {
    /// The rules of a seed.
    pub fn of(dice: Dice) -> Self {
        let playbooks =
            [win_back(dice.of("win_back")), onboarding(dice.of("onboarding")), orders(dice.of("orders"))];
        let every = |name: &str| {
            let hours = *dice.of("schedule").of(name).pick(&[6, 12, 24, 24]);
            (SegmentName::known(name), SignedDuration::from_hours(hours))
        };
        Self {
            zone: zone(dice.of("zone").pick::<&str>(&["Europe/Berlin", "America/New_York"])),
            policy: policy(dice.of("policy")),
            playbooks: playbooks.into_iter().map(|playbook| (playbook.name.clone(), playbook)).collect(),
            segments: SEGMENTS.iter().map(|name| every(name)).collect(),
        }
    }

    /// The playbooks as they decide: highest priority first, then by name.
    pub fn by_priority(&self) -> Vec<&Playbook> {
        let mut playbooks: Vec<&Playbook> = self.playbooks.values().collect();
        playbooks
            .sort_by(|one, other| other.priority.cmp(&one.priority).then_with(|| one.name.cmp(&other.name)));
        playbooks
    }
}

/// A zone that is surely known.
pub fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap_or(TimeZone::UTC)
}

fn policy(dice: Dice) -> Policy {
    let purposes = [
        ("offers", MessageClass::Marketing),
        ("news", MessageClass::Marketing),
        ("tips", MessageClass::Lifecycle),
        ("service", MessageClass::Transactional),
    ];
    let purposes = purposes.map(|(name, class)| {
        let name = PurposeName::known(name);
        let (title, brand) = (Localized::default(), BrandName::known(BRAND));
        (name.clone(), Purpose { name, title, class, brand })
    });
    let permission = if dice.of("permission").chance(80) { Permission::OptIn } else { Permission::OptOut };
    let holdout = dice.of("holdout").chance(50).then(|| GlobalHoldout {
        share: share(dice.of("share").pick::<&str>(&["10%", "25%"])),
        salt: "everybody".to_owned(),
        rotate: dice.of("rotate").chance(40).then(|| SignedDuration::from_hours(24 * 21)),
    });
    Policy {
        purposes: purposes.into_iter().collect(),
        consent: None,
        permission: [(Channel::Email, permission)].into(),
        caps: caps(dice.of("caps")),
        quiet_hours: quiet_hours(dice.of("quiet")),
        holdout,
        guards: Guards::default(),
        in_doubt: InDoubt::default(),
    }
}

fn caps(dice: Dice) -> Vec<Cap> {
    let cap = |name: &str, scope: Scope, max: u32, per: Window, zone: RuleZone| {
        let on_hit = if dice.of(name).of("hit").chance(50) { OnHit::Defer } else { OnHit::Skip };
        Cap { name: CapName::known(name), scope, unit: CapUnit::Profile, max, per, zone, on_hit }
    };
    let max = |name: &str, most: u64| u32::try_from(dice.of(name).between(1, most)).unwrap_or(1);
    let marketing = Scope { class: vec![MessageClass::Marketing], ..Scope::default() };
    let email = Scope { channel: vec![Channel::Email], ..Scope::default() };
    let offers = Scope { purpose: vec![PurposeName::known("offers")], ..Scope::default() };
    let one = Scope { playbook: vec![PlaybookName::known("win_back")], ..Scope::default() };
    let calendar = |count, unit| Window::Calendar { count, unit };
    let hours = |hours| Window::Rolling(SignedDuration::from_hours(hours));
    let days = u32::try_from(dice.of("days").between(1, 3)).unwrap_or(1);
    let all = [
        cap("email_day", email, max("email_day", 2), calendar(days, CalendarUnit::Day), RuleZone::Profile),
        cap("marketing_week", marketing.clone(), max("marketing_week", 3), hours(24 * 7), RuleZone::Profile),
        cap(
            "offers_month",
            offers,
            max("offers_month", 3),
            calendar(1, CalendarUnit::Month),
            RuleZone::Project,
        ),
        cap("win_back_pause", one, 1, hours(25), RuleZone::Project),
        cap("calm_week", marketing, max("calm_week", 4), calendar(1, CalendarUnit::Week), RuleZone::Profile),
    ];
    all.into_iter().filter(|cap| dice.of(cap.name.as_str()).of("on").chance(50)).collect()
}

fn quiet_hours(dice: Dice) -> Vec<QuietHours> {
    let rule = |name: &str, hours, zone| QuietHours {
        name: QuietHoursName::known(name),
        scope: Scope::default(),
        hours,
        days: Vec::new(),
        dates: Vec::new(),
        zone,
        filter: None,
    };
    let nights = [
        Some((time(21, 0, 0, 0), time(8, 0, 0, 0))),
        Some((time(22, 30, 0, 0), time(2, 30, 0, 0))),
        Some((time(0, 0, 0, 0), time(7, 0, 0, 0))),
    ];
    let all = [
        rule("nights", *dice.of("nights").pick(&nights), RuleZone::Profile),
        QuietHours { days: vec![Weekday::Sunday], ..rule("sundays", None, RuleZone::Project) },
        QuietHours {
            scope: Scope { class: vec![MessageClass::Marketing], ..Scope::default() },
            filter: Some(is("country", "DE")),
            ..rule("noon", Some((time(12, 0, 0, 0), time(13, 30, 0, 0))), RuleZone::Profile)
        },
        QuietHours {
            dates: vec![date(2011, 12, 31), date(2018, 11, 4), date(2026, 3, 29)],
            ..rule("holidays", None, RuleZone::Profile)
        },
    ];
    all.into_iter().filter(|rule| dice.of(rule.name.as_str()).of("on").chance(60)).collect()
}

/// A branch, a wait for something, a goal, an exit condition, leaving, a step's own window and shelf life.
fn win_back(dice: Dice) -> Playbook {
    let timed_out = Condition::Step { id: StepId::known("reaction"), any_of: vec![StepOutcome::TimedOut] };
    let offer = Send {
        expires: Some(hours(24 * dice.of("offer").between(1, 3))),
        window: Some(SendWindow {
            days: vec![Weekday::Tuesday, Weekday::Wednesday, Weekday::Friday],
            hours: Some((time(9, 0, 0, 0), time(17, 0, 0, 0))),
        }),
        ..sending("offers")
    };
    let until = Wait::Until {
        condition: Condition::Any(vec![is("plan", "team"), member("ticket")]),
        at_most: hours(dice.of("reaction").between(20, 100)),
    };
    let arms = vec![
        Arm {
            condition: Some(Condition::All(vec![timed_out, is("plan", "trial")])),
            steps: vec![step("offer", Action::Send(offer)), wait("offer.wait", 30)],
        },
        Arm {
            condition: Some(is("plan", "none")),
            steps: vec![step("no_plan", Action::Exit("no_plan".to_owned()))],
        },
    ];
    Playbook {
        filter: dice.of("filter").chance(40).then(|| Condition::Playbook {
            name: PlaybookName::known("onboarding"),
            any_of: vec![PlaybookStanding::Never, PlaybookStanding::Finished, PlaybookStanding::ReachedGoal],
        }),
        exit: ExitRule {
            on_leave: dice.of("leave").chance(70),
            when: dice.of("exit").chance(60).then(|| member("ticket")),
        },
        goal: dice.of("goal").chance(60).then(|| Goal {
            when: is("plan", "team"),
            within: hours(24 * 14),
            exits: dice.of("exits").chance(70),
        }),
        steps: vec![
            send("nudge", "offers"),
            wait("nudge.wait", dice.of("wait").between(1, 90)),
            step("reaction", Action::Wait(until)),
            step("by_plan", Action::Branch(arms)),
            Step { condition: Some(Condition::Not(Box::new(is("plan", "none")))), ..send("last", "news") },
        ],
        ..playbook("win_back", "at_risk", "offers", dice)
    }
}

/// Waits to a time that is an attribute; lifecycle and marketing in one playbook.
fn onboarding(dice: Dice) -> Playbook {
    let to = Wait::To { value: ValueOf::Profile("trial_ends_at".to_owned()), offset: -hours(24) };
    Playbook {
        steps: vec![
            send("welcome", "tips"),
            wait("welcome.wait", dice.of("wait").between(1, 60)),
            Step { condition: Some(is("plan", "trial")), ..send("tip", "tips") },
            step("tip.wait", Action::Wait(to)),
            send("ending", "offers"),
        ],
        window: dice
            .of("window")
            .chance(40)
            .then(|| SendWindow { days: Vec::new(), hours: Some((time(8, 0, 0, 0), time(20, 0, 0, 0))) }),
        ..playbook("onboarding", "newcomers", "tips", dice)
    }
}

/// Transactional first, then marketing; people enter it again and again.
fn orders(dice: Dice) -> Playbook {
    Playbook {
        reenter: Reenter::Always,
        exit: ExitRule { on_leave: false, when: None },
        steps: vec![
            send("receipt", "service"),
            wait("receipt.wait", dice.of("wait").between(1, 48)),
            send("thanks", "news"),
        ],
        ..playbook("orders", "buyers", "service", dice)
    }
}

fn playbook(name: &str, segment: &str, purpose: &str, dice: Dice) -> Playbook {
    let reenter = [Reenter::Never, Reenter::After(hours(24 * 5)), Reenter::Always];
    Playbook {
        name: PlaybookName::known(name),
        title: name.to_owned(),
        owner: "simulator@example.test".to_owned(),
        why: "To be simulated.".to_owned(),
        tags: Vec::new(),
        version: format!("{name}-1"),
        enter: SegmentName::known(segment),
        filter: None,
        backfill: if dice.of("backfill").chance(80) { Backfill::All } else { Backfill::None },
        reenter: *dice.of("reenter").pick(&reenter),
        exit: ExitRule { on_leave: dice.of("leave").chance(50), when: None },
        goal: None,
        purpose: PurposeName::known(purpose),
        priority: u8::try_from(dice.of("priority").between(1, 9) * 10).unwrap_or(50),
        holdout: dice.of("holdout").chance(50).then(|| Holdout {
            share: share(dice.of("share").pick::<&str>(&["10%", "40%"])),
            salt: name.to_owned(),
        }),
        per_run: None,
        per_hour: None,
        guards: OwnGuards::default(),
        window: None,
        expires: hours(24 * dice.of("expires").between(1, 4)),
        steps: Vec::new(),
        contents: BTreeMap::new(),
    }
}

fn step(id: &str, action: Action) -> Step {
    Step { id: StepId::known(id), condition: None, action }
}

fn send(id: &str, purpose: &str) -> Step {
    step(id, Action::Send(sending(purpose)))
}

fn sending(purpose: &str) -> Send {
    Send {
        template: TemplateName::known(TEMPLATE),
        destination: DestinationName::known(DESTINATION),
        purpose: PurposeName::known(purpose),
        with: BTreeMap::new(),
        expires: None,
        window: None,
    }
}

fn wait(id: &str, hours_long: u64) -> Step {
    step(id, Action::Wait(Wait::For(hours(hours_long))))
}

fn is(attribute: &str, value: &str) -> Condition {
    let tests = vec![ValueTest::OneOf(vec![Value::Text(value.to_owned())])];
    Condition::Profile { attribute: attribute.to_owned(), tests }
}

fn member(segment: &str) -> Condition {
    Condition::Segment { name: SegmentName::known(segment), test: SegmentTest::Member }
}

fn share(text: &str) -> Share {
    Share::parse(text).unwrap_or(Share::NONE)
}

fn hours(hours: u64) -> SignedDuration {
    SignedDuration::from_hours(i64::try_from(hours).unwrap_or(0))
}
