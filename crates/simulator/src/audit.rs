//! The auditor: a second, naive model. It is told what was done and what left, and says whether that was right.
//!
//! It shares no arithmetic with the engine: it counts by hand, reads wall clocks by minutes, and compares dates. Where a clock is
//! ambiguous it asks for less than the engine promises. What it is told last holds from then on; it never looks ahead.

mod log;
mod rule;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use model::consent::ConsentStatus;
use model::delivery::Delivery;
use model::enrollment::{Enrollment, HoldoutKind};
use model::playbook::{Action, Playbook, Send};
use model::policy::{MessageClass, Traits};
use model::{
    Channel, DeliveryId, DeliveryState, EnrollmentId, PlaybookName, Reason, SegmentName, StepId, Value,
};

use crate::rules::Rules;
use crate::script::{Stop, Whom, Word};

pub use log::Log;

/// What is always so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// Nothing leaves without consent for its channel and purpose at that moment.
    ConsentHolds,
    /// Nothing leaves after a suppression was recorded.
    SuppressionWins,
    /// Never more than a cap allows, in any window, counted from what left and what was withheld.
    CapHolds,
    /// Nothing leaves in local quiet hours, or outside its window.
    QuietHolds,
    /// Nothing leaves while it is halted or paused.
    StopHolds,
    /// Who is held out gets nothing; each touch is withheld once.
    HoldoutSilent,
    /// An assignment never changes: not by a restart, an edit, or other people.
    ArmFixed,
    /// One row a step of an enrollment; at most one accepted message a row, exceptions in doubt only.
    TouchOnce,
    /// What was settled stays as it is; what the provider has is not called unsent.
    SettledStays,
    /// Every row has a reason that fits its state, and a gate that says so.
    ReasonGiven,
    /// Who was let in is accounted for exactly once, at every step reached.
    Conservation,
    /// Without faults every row ends by its deadline.
    OutboxDrains,
    /// A pass ends without an error of our own.
    PassEnds,
    /// The same seed, the same bytes; other people's presence and order change nothing.
    ReplayEqual,
}

impl Promise {
    /// As a failure names it: `CONSENT_HOLDS`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConsentHolds => "CONSENT_HOLDS",
            Self::SuppressionWins => "SUPPRESSION_WINS",
            Self::CapHolds => "CAP_HOLDS",
            Self::QuietHolds => "QUIET_HOLDS",
            Self::StopHolds => "STOP_HOLDS",
            Self::HoldoutSilent => "HOLDOUT_SILENT",
            Self::ArmFixed => "ARM_FIXED",
            Self::TouchOnce => "TOUCH_ONCE",
            Self::SettledStays => "SETTLED_STAYS",
            Self::ReasonGiven => "REASON_GIVEN",
            Self::Conservation => "CONSERVATION",
            Self::OutboxDrains => "OUTBOX_DRAINS",
            Self::PassEnds => "PASS_ENDS",
            Self::ReplayEqual => "REPLAY_EQUAL",
        }
    }
}

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub promise: Promise,
    /// When.
    pub at: Timestamp,
    /// What was seen.
    pub saw: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} · {}", self.at, self.promise.as_str())
    }
}

/// Something that was handed over to the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// When.
    pub at: Timestamp,
    /// Which row.
    pub delivery: DeliveryId,
    /// Of which enrollment.
    pub enrollment: EnrollmentId,
    /// To whom: the warehouse's id.
    pub human: String,
    /// Of which playbook.
    pub playbook: PlaybookName,
    /// At which step.
    pub step: StepId,
    /// To which address.
    pub address: String,
    /// Whether the provider has it now.
    pub kept: bool,
}

/// A message that counts against caps.
#[derive(Debug, Clone)]
struct Counted {
    at: Timestamp,
    traits: Traits,
}

#[derive(Debug, Clone)]
struct Said {
    at: Timestamp,
    word: Word,
    /// Whether the product knows it for certain: a word in the warehouse is known when it has been read.
    sure: bool,
}

#[derive(Debug, Clone, Default)]
struct Known {
    /// `None`: gone from the warehouse.
    attributes: Option<BTreeMap<String, Value>>,
    said: Vec<Said>,
    suppressed: bool,
    counted: Vec<Counted>,
}

/// See the module.
#[derive(Debug)]
pub struct Auditor<'a> {
    rules: &'a Rules,
    people: BTreeMap<String, Known>,
    /// Address, and whether it spares what is transactional.
    addresses: BTreeMap<String, bool>,
    stops: BTreeSet<Stop>,
    entered: BTreeMap<EnrollmentId, (String, PlaybookName, Timestamp, Option<HoldoutKind>)>,
    accepted: BTreeMap<(EnrollmentId, StepId), DeliveryId>,
    kept: BTreeSet<DeliveryId>,
    withheld: BTreeSet<DeliveryId>,
    rows: BTreeMap<(EnrollmentId, StepId), DeliveryId>,
    settled: BTreeMap<DeliveryId, (DeliveryState, Reason)>,
    looks: Vec<Look>,
}

/// What a pass that let people in saw.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    members: BTreeMap<SegmentName, BTreeSet<String>>,
    stops: BTreeSet<Stop>,
    /// Whether it certainly went to its end.
    whole: bool,
}

impl<'a> Auditor<'a> {
    /// Knows the rules and nobody.
    pub fn new(rules: &'a Rules) -> Self {
        Self {
            rules,
            people: BTreeMap::new(),
            addresses: BTreeMap::new(),
            stops: BTreeSet::new(),
            entered: BTreeMap::new(),
            accepted: BTreeMap::new(),
            kept: BTreeSet::new(),
            withheld: BTreeSet::new(),
            rows: BTreeMap::new(),
            settled: BTreeMap::new(),
            looks: Vec::new(),
        }
    }

    /// The person's row of the warehouse is this now; `None`: gone.
    pub fn is_now(&mut self, human: &str, attributes: Option<BTreeMap<String, Value>>) {
        self.people.entry(human.to_owned()).or_default().attributes = attributes;
    }

    /// A word of consent.
    pub fn said(&mut self, human: &str, word: &Word, at: Timestamp) {
        let said = Said { at, word: word.clone(), sure: word.local };
        self.people.entry(human.to_owned()).or_default().said.push(said);
    }

    /// A pass has read the warehouse: what it says of consent is known.
    pub fn warehouse_was_read(&mut self) {
        for said in self.people.values_mut().flat_map(|known| &mut known.said) {
            said.sure = true;
        }
    }

    /// A suppression was recorded of a person or of the person's present address.
    pub fn suppressed(&mut self, human: &str, whom: Whom) {
        match whom {
            Whom::Person => self.people.entry(human.to_owned()).or_default().suppressed = true,
            Whom::Address => {
                if let Some(address) = self.address(human) {
                    self.addresses.entry(address).or_insert(true);
                }
            }
        }
    }

    /// The provider said that an address does not exist.
    pub fn bounced(&mut self, address: &str) {
        self.addresses.insert(address.to_owned(), false);
    }

    /// Something is stopped.
    pub fn stopped(&mut self, stop: &Stop) {
        self.stops.insert(stop.clone());
    }

    /// And goes on.
    pub fn resumed(&mut self, stop: &Stop) {
        self.stops.remove(stop);
    }

    /// A person closed a doubt: the provider does not have it, and it goes again.
    pub fn resent(&mut self, delivery: &DeliveryId) {
        self.settled.remove(delivery);
    }

    /// A pass let people in and out by these memberships. `whole`: it certainly went to its end.
    pub fn looked(&mut self, members: BTreeMap<SegmentName, BTreeSet<String>>, whole: bool) {
        let look = Look { members, stops: self.stops.clone(), whole };
        if self.looks.last() != Some(&look) {
            self.looks.push(look);
        }
    }

    /// A whole pass let people in and out by the memberships of the one before: who was stopped then may not be now.
    pub fn looked_again(&mut self) {
        if let Some(last) = self.looks.last().filter(|last| last.stops != self.stops || !last.whole) {
            let (members, stops) = (last.members.clone(), self.stops.clone());
            self.looks.push(Look { members, stops, whole: true });
        }
    }

    /// An enrollment there is: the assignment must be the one drawn by hand, and the one it always was.
    pub fn enrolled(&mut self, human: &str, enrollment: &Enrollment) -> Result<(), Broken> {
        let broken = |saw: String| Broken { promise: Promise::ArmFixed, at: enrollment.entered_at, saw };
        let drawn = self.draw(human, &enrollment.playbook, enrollment.entered_at);
        if drawn != enrollment.holdout {
            let saw = format!(
                "{human} in {}: {:?}, drawn by hand {drawn:?}",
                enrollment.playbook, enrollment.holdout
            );
            return Err(broken(saw));
        }
        let now = (human.to_owned(), enrollment.playbook.clone(), enrollment.entered_at, enrollment.holdout);
        let known = self.entered.entry(enrollment.id.clone()).or_insert_with(|| now.clone());
        if *known == now { Ok(()) } else { Err(broken(format!("{human}: was {known:?}, is {now:?}"))) }
    }

    /// Something left.
    pub fn left(&mut self, left: &Left) -> Result<(), Broken> {
        let broken = |promise, saw: String| {
            let saw = format!("{} at {} of {}: {saw}", left.human, left.step, left.playbook);
            Err(Broken { promise, at: left.at, saw })
        };
        let Some((playbook, send)) = self.send(&left.playbook, &left.step) else {
            return broken(Promise::ReasonGiven, "no such step".to_owned());
        };
        let traits = self.traits(playbook, send);
        let window = send.window.as_ref().or(playbook.window.as_ref());
        if let Some(stop) = self.stops.iter().find(|stop| stops(stop, &left.playbook)) {
            return broken(Promise::StopHolds, format!("{stop:?} is in force"));
        }
        if let Some(saw) = self.suppression(left, &traits) {
            return broken(Promise::SuppressionWins, saw);
        }
        if let Some(saw) = self.no_consent(&left.human, &traits) {
            return broken(Promise::ConsentHolds, saw);
        }
        if let Some(saw) = self.quiet(&left.human, &traits, window, left.at) {
            return broken(Promise::QuietHolds, saw);
        }
        if let Some(saw) = self.held_out(left, &traits) {
            return broken(Promise::HoldoutSilent, saw);
        }
        if !left.kept {
            return Ok(());
        }
        if !self.kept.insert(left.delivery.clone()) {
            return broken(Promise::TouchOnce, format!("{} was accepted twice", left.delivery));
        }
        let touch = (left.enrollment.clone(), left.step.clone());
        if let Some(earlier) = self.accepted.insert(touch, left.delivery.clone()) {
            return broken(Promise::TouchOnce, format!("{earlier} was accepted for the same step"));
        }
        match self.count(&left.human, traits, left.at) {
            Some(saw) => broken(Promise::CapHolds, saw),
            None => Ok(()),
        }
    }

    /// A row became withheld, or was so already.
    pub fn was_withheld(&mut self, human: &str, row: &Delivery) -> Result<(), Broken> {
        let broken = |promise, saw: String| Err(Broken { promise, at: row.decided_at, saw });
        if !self.withheld.insert(row.id.clone()) {
            return Ok(());
        }
        if self.entered.get(&row.enrollment).is_some_and(|(_, _, _, holdout)| holdout.is_none()) {
            return broken(Promise::HoldoutSilent, format!("{human} at {} is in no holdout", row.step));
        }
        match self.count(human, row.traits.clone(), row.decided_at) {
            Some(saw) => broken(Promise::CapHolds, format!("withheld from {human}: {saw}")),
            None => Ok(()),
        }
    }

    /// Whether the provider has a row's message.
    pub fn provider_has(&self, delivery: &DeliveryId) -> bool {
        self.kept.contains(delivery)
    }

    fn send(&self, playbook: &PlaybookName, step: &StepId) -> Option<(&'a Playbook, &'a Send)> {
        let playbook = self.rules.playbooks.get(playbook)?;
        let mut found = None;
        playbook.walk(&mut |one| {
            if let (true, Action::Send(send)) = (one.id == *step, &one.action) {
                found = Some(send);
            }
        });
        Some((playbook, found?))
    }

    fn traits(&self, playbook: &Playbook, send: &Send) -> Traits {
        let purpose = self.rules.policy.purposes.get(&send.purpose);
        Traits {
            channel: Channel::Email,
            class: purpose.map_or(MessageClass::Marketing, |purpose| purpose.class),
            purpose: send.purpose.clone(),
            brand: model::BrandName::known(crate::rules::BRAND),
            playbook: playbook.name.clone(),
        }
    }

    fn attribute(&self, human: &str, column: &str) -> Option<&str> {
        self.people.get(human)?.attributes.as_ref()?.get(column)?.as_text()
    }

    fn address(&self, human: &str) -> Option<String> {
        self.attribute(human, "email").map(str::to_owned)
    }

    fn zone(&self, human: &str) -> TimeZone {
        let own = self.attribute(human, "timezone").and_then(|name| TimeZone::get(name).ok());
        own.unwrap_or_else(|| self.rules.zone.clone())
    }

    fn suppression(&self, left: &Left, traits: &Traits) -> Option<String> {
        if self.people.get(&left.human).is_some_and(|known| known.suppressed) {
            return Some("the person is suppressed".to_owned());
        }
        let spares = *self.addresses.get(&left.address)?;
        let spared = spares && traits.class == MessageClass::Transactional;
        (!spared).then(|| "the address is suppressed".to_owned())
    }

    /// Why there is no permission. A withdrawal is overturned only by a later grant, and one recorded here only by one recorded here.
    fn no_consent(&self, human: &str, traits: &Traits) -> Option<String> {
        if traits.class == MessageClass::Transactional {
            return None;
        }
        let said = self.people.get(human).map(|known| known.said.as_slice()).unwrap_or_default();
        let covers = |said: &&Said| {
            said.word.channel.is_none_or(|channel| channel == Channel::Email)
                && said.word.purpose.as_ref().is_none_or(|purpose| *purpose == traits.purpose)
        };
        let is = |status| move |said: &&Said| said.word.status == status;
        let mut noes = said.iter().filter(covers).filter(is(ConsentStatus::Withdrawn)).filter(|no| no.sure);
        let grants: Vec<&Said> = said.iter().filter(covers).filter(is(ConsentStatus::Granted)).collect();
        let stands =
            |no: &&Said| !grants.iter().any(|yes| yes.at > no.at && (yes.word.local || !no.word.local));
        if let Some(no) = noes.find(stands) {
            return Some(format!("withdrawn at {} ({:?})", no.at, no.word));
        }
        let opt_out =
            self.rules.policy.permission.get(&Channel::Email) == Some(&model::policy::Permission::OptOut);
        let needs = traits.class == MessageClass::Marketing && !opt_out;
        (needs && grants.is_empty()).then(|| "never granted".to_owned())
    }

    fn held_out(&self, left: &Left, traits: &Traits) -> Option<String> {
        if traits.class == MessageClass::Transactional {
            return None;
        }
        let (_, playbook, at, _) = self.entered.get(&left.enrollment)?;
        let kind = self.draw(&left.human, playbook, *at)?;
        Some(format!("held out: {}", kind.as_str()))
    }

    /// Counts one more; what it makes too many, if it does.
    fn count(&mut self, human: &str, traits: Traits, at: Timestamp) -> Option<String> {
        let own = self.zone(human);
        let counted = &mut self.people.entry(human.to_owned()).or_default().counted;
        counted.push(Counted { at, traits: traits.clone() });
        let pairs: Vec<(Timestamp, &Traits)> = counted.iter().map(|one| (one.at, &one.traits)).collect();
        rule::too_many(self.rules, &pairs, &traits, at, &own)
    }
}

/// Whether a stop is about a playbook's messages.
fn stops(stop: &Stop, playbook: &PlaybookName) -> bool {
    match stop {
        Stop::All | Stop::Destination => true,
        Stop::Playbook(name) => name == playbook,
    }
}
