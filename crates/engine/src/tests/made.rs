//! Made-up worlds: a policy, a playbook, people. Each test changes what it is about.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use model::consent::{ConsentOrigin, ConsentState, ConsentStatus, Consents, Suppression, SuppressionSubject};
use model::delivery::Delivery;
use model::duration::{Share, Window, parse_duration};
use model::enrollment::{Enrollment, Exit, Progress};
use model::playbook::{
    Action, Arm, Backfill, ExitRule, Goal, Holdout, Playbook, Reenter, Send, SendWindow, Step, Wait,
};
use model::policy::{
    Cap, CapUnit, Channel, GlobalHoldout, Localized, MessageClass, OnHit, OwnGuards, Policy, Purpose,
    QuietHours, RuleZone, Scope, Traits,
};
use model::profile::Profile;
use model::{
    BrandName, CapName, DeliveryId, DeliveryState, DestinationName, PlaybookName, ProfileNumber, PurposeName,
    QuietHoursName, Reason, SegmentName, StepId, TemplateName, Value,
};

use crate::{
    Advanced, ArmFacts, Cause, Entered, Halts, LastLook, Memberships, Person, Shared, Standing, Touch,
    Version, World, advance, enter, last_look,
};

/// Everything around people.
pub(crate) struct Made {
    pub(crate) zone: TimeZone,
    pub(crate) policy: Policy,
    pub(crate) halts: Halts,
    pub(crate) members: Members,
}

/// Memberships: since when each person is in each segment, as seconds before now.
#[derive(Default)]
pub(crate) struct Members(pub(crate) BTreeMap<(String, u32), i64>);

impl Memberships for Members {
    fn contains(&self, segment: &SegmentName, profile: ProfileNumber) -> bool {
        self.0.contains_key(&(segment.as_str().to_owned(), profile.0))
    }
    fn contains_for(&self, segment: &SegmentName, profile: ProfileNumber, at_least: SignedDuration) -> bool {
        self.0
            .get(&(segment.as_str().to_owned(), profile.0))
            .is_some_and(|seconds| *seconds >= at_least.as_secs())
    }
}

impl Made {
    /// Three purposes, one of each class; no caps, no quiet hours, no holdout. The project is in Berlin.
    pub(crate) fn new() -> Self {
        let purposes = [
            ("offers", MessageClass::Marketing),
            ("product", MessageClass::Lifecycle),
            ("service", MessageClass::Transactional),
        ];
        let purposes = purposes.map(|(name, class)| {
            let name = PurposeName::known(name);
            (
                name.clone(),
                Purpose { name, title: Localized::default(), class, brand: BrandName::known("acme") },
            )
        });
        Self {
            zone: TimeZone::get("Europe/Berlin").unwrap(),
            policy: Policy { purposes: purposes.into_iter().collect(), ..Policy::default() },
            halts: Halts::default(),
            members: Members::default(),
        }
    }
    pub(crate) fn world(&self) -> World<'_> {
        World {
            project: "acme",
            zone: &self.zone,
            policy: &self.policy,
            memberships: &self.members,
            halts: &self.halts,
        }
    }
    pub(crate) fn put(&mut self, segment: &str, number: u32, seconds: i64) {
        self.members.0.insert((segment.to_owned(), number), seconds);
    }
    pub(crate) fn enter(&self, version: &Version, someone: &Someone, now: &str) -> Advanced {
        match enter(&self.world(), version, &someone.person(), "run1", BTreeMap::new(), at(now)) {
            Entered::Enrolled(advanced) => advanced,
            Entered::Refused(row) => panic!("refused: {}", row.reason),
        }
    }
    pub(crate) fn refused(&self, version: &Version, someone: &Someone, now: &str) -> Delivery {
        match enter(&self.world(), version, &someone.person(), "run1", BTreeMap::new(), at(now)) {
            Entered::Refused(row) => row,
            Entered::Enrolled(advanced) => panic!("enrolled: {:?}", advanced.enrollment.progress),
        }
    }
    pub(crate) fn look(
        &self,
        version: &Version,
        someone: &Someone,
        before: &Advanced,
        rows: &[Delivery],
        now: &str,
    ) -> Advanced {
        let enrollment = before.enrollment.clone();
        advance(&self.world(), version, &someone.person(), enrollment, rows, Cause::Look, at(now))
    }
    pub(crate) fn last_look(&self, row: &Delivery, someone: &Someone, now: &str) -> LastLook {
        let facts = ArmFacts {
            enrollment_active: true,
            profile: someone.profile.as_ref(),
            consents: &someone.consents,
            suppressions: &someone.suppressions,
            touches: &someone.touches,
            shared: someone.shared(),
            standings: &someone.standings,
            window: None,
        };
        last_look(&self.world(), row, &facts, at(now))
    }
}

/// One made-up person.
#[derive(Debug, Clone)]
pub(crate) struct Someone {
    pub(crate) number: ProfileNumber,
    pub(crate) id: String,
    pub(crate) profile: Option<Profile>,
    pub(crate) consents: Consents,
    pub(crate) suppressions: Vec<Suppression>,
    pub(crate) touches: Vec<Touch>,
    /// Those of the account and of the address.
    pub(crate) others: (Vec<Touch>, Vec<Touch>),
    pub(crate) standings: Vec<Standing>,
}

impl Someone {
    /// With an address, a zone, and consent to everything.
    pub(crate) fn new(number: u32) -> Self {
        let mut someone = Self {
            number: ProfileNumber(number),
            id: format!("user-{number}"),
            profile: Some(Profile {
                number: ProfileNumber(number),
                id: format!("user-{number}"),
                attributes: BTreeMap::new(),
                account: Arc::default(),
            }),
            consents: Consents::default(),
            suppressions: Vec::new(),
            touches: Vec::new(),
            others: Default::default(),
            standings: Vec::new(),
        };
        someone.set("email", text(&format!("user{number}@example.test")));
        someone.set("timezone", text("Europe/Berlin"));
        someone.says(ConsentStatus::Granted);
        someone
    }
    pub(crate) fn set(&mut self, attribute: &str, value: Value) {
        self.profile.as_mut().unwrap().attributes.insert(attribute.to_owned(), value);
    }
    /// One word for every channel and purpose; `Absent` forgets all.
    pub(crate) fn says(&mut self, status: ConsentStatus) {
        let state =
            ConsentState { status, changed_at: at("2026-01-02T12:00:00Z"), origin: ConsentOrigin::Warehouse };
        let states = if status == ConsentStatus::Absent { vec![] } else { vec![(None, None, state)] };
        self.consents = Consents { states };
    }
    pub(crate) fn suppress(&mut self, reason: Reason, channel: Option<Channel>, spares_transactional: bool) {
        self.suppressions.push(Suppression {
            subject: SuppressionSubject::Profile(self.number),
            channel,
            reason,
            since: at("2026-01-03T12:00:00Z"),
            source: "ops@example.test".to_owned(),
            spares_transactional,
        });
    }
    pub(crate) fn touch(&mut self, when: &str, state: DeliveryState) {
        let delivery = DeliveryId::known(format!("touch{}", self.touches.len()));
        let traits = traits("offers", MessageClass::Marketing);
        self.touches.push(Touch { delivery, at: at(when), traits, state, content: None });
    }
    pub(crate) fn shared(&self) -> Shared<'_> {
        Shared { account: &self.others.0, address: &self.others.1 }
    }
    pub(crate) fn person(&self) -> Person<'_> {
        Person {
            number: self.number,
            id: &self.id,
            profile: self.profile.as_ref(),
            consents: &self.consents,
            suppressions: &self.suppressions,
            touches: &self.touches,
            shared: self.shared(),
            standings: &self.standings,
        }
    }
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(crate) fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

pub(crate) fn span(text: &str) -> SignedDuration {
    parse_duration(text).unwrap()
}

pub(crate) fn traits(purpose: &str, class: MessageClass) -> Traits {
    Traits {
        channel: Channel::Email,
        class,
        purpose: PurposeName::known(purpose),
        brand: BrandName::known("acme"),
        playbook: PlaybookName::known("other"),
    }
}

/// A playbook of these steps that enters by `at_risk`; purpose `offers`, expires after 3 days.
pub(crate) fn playbook(steps: Vec<Step>) -> Playbook {
    Playbook {
        name: PlaybookName::known("win_back"),
        title: "Win back".to_owned(),
        owner: "o@example.test".to_owned(),
        why: "why".to_owned(),
        tags: vec![],
        version: "v1".to_owned(),
        enter: SegmentName::known("at_risk"),
        filter: None,
        backfill: Backfill::All,
        reenter: Reenter::After(span("30d")),
        exit: ExitRule { on_leave: true, when: None },
        goal: None,
        purpose: PurposeName::known("offers"),
        priority: 50,
        holdout: None,
        per_run: None,
        per_hour: None,
        guards: OwnGuards::default(),
        window: None,
        expires: span("3d"),
        steps,
        contents: BTreeMap::new(),
    }
}

pub(crate) fn version(steps: Vec<Step>) -> Version {
    Version::new(playbook(steps))
}

pub(crate) fn step(id: &str, action: Action) -> Step {
    Step { id: StepId::known(id), condition: None, action }
}

pub(crate) fn send(id: &str) -> Step {
    send_for(id, "offers")
}

pub(crate) fn send_for(id: &str, purpose: &str) -> Step {
    let send = Send {
        template: TemplateName::known(id),
        destination: DestinationName::known("mail"),
        purpose: PurposeName::known(purpose),
        with: BTreeMap::new(),
        expires: None,
        window: None,
    };
    step(id, Action::Send(send))
}

pub(crate) fn wait(id: &str, duration: &str) -> Step {
    step(id, Action::Wait(Wait::For(span(duration))))
}

pub(crate) fn branch(id: &str, arms: Vec<Arm>) -> Step {
    step(id, Action::Branch(arms))
}

pub(crate) fn cap(name: &str, max: u32, per: &str, on_hit: OnHit) -> Cap {
    Cap {
        name: CapName::known(name),
        scope: Scope::default(),
        unit: CapUnit::Profile,
        max,
        per: Window::parse(per).unwrap(),
        zone: RuleZone::Profile,
        on_hit,
    }
}

pub(crate) fn nights(from: &str, to: &str) -> QuietHours {
    QuietHours {
        name: QuietHoursName::known("nights"),
        scope: Scope::default(),
        hours: Some((from.parse().unwrap(), to.parse().unwrap())),
        days: vec![],
        dates: vec![],
        zone: RuleZone::Profile,
        filter: None,
    }
}

pub(crate) fn window(from: &str, to: &str) -> SendWindow {
    SendWindow { days: vec![], hours: Some((from.parse().unwrap(), to.parse().unwrap())) }
}

pub(crate) fn global_holdout(share: &str, rotate: Option<&str>) -> GlobalHoldout {
    GlobalHoldout {
        share: Share::parse(share).unwrap(),
        salt: "acme-2026".to_owned(),
        rotate: rotate.map(span),
    }
}

pub(crate) fn own_holdout(share: &str) -> Holdout {
    Holdout { share: Share::parse(share).unwrap(), salt: "win_back".to_owned() }
}

pub(crate) fn goal(when: model::condition::Condition, within: &str, exits: bool) -> Goal {
    Goal { when, within: span(within), exits }
}

/// The row as the provider's answer would leave it.
pub(crate) fn settled(row: &Delivery, state: DeliveryState, reason: Reason) -> Delivery {
    Delivery { state, reason, ..row.clone() }
}

pub(crate) fn accepted(row: &Delivery) -> Delivery {
    settled(row, DeliveryState::Accepted, Reason::OkAccepted)
}

pub(crate) fn exit_of(enrollment: &Enrollment) -> String {
    match &enrollment.progress {
        Progress::Ended { exit, .. } => exit.as_str().to_owned(),
        other => format!("{other:?}"),
    }
}

pub(crate) fn ended(enrollment: &Enrollment, wanted: &Exit) -> bool {
    matches!(&enrollment.progress, Progress::Ended { exit, .. } if exit == wanted)
}

pub(crate) fn names(texts: &[&str]) -> BTreeSet<PlaybookName> {
    texts.iter().map(|text| PlaybookName::known(*text)).collect()
}
