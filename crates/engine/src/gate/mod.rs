//! The gates a touch passes. All are asked and recorded, in this order; the first that does not let it pass decides.
//!
//! A gate is a function of a [`Case`]. What it saw is text for people, with values, and never an address.

pub(crate) mod cap;
mod clock;
mod rules;

use jiff::{SignedDuration, Timestamp};
use model::delivery::GateRecord;
use model::enrollment::{Enrollment, HoldoutKind, Progress};
use model::id::ContentHash;
use model::playbook::SendWindow;
use model::policy::{MessageClass, Traits};
use model::{DeliveryId, DeliveryState, DestinationName, Gate, Reason, Refusal, StepId};

use crate::condition::Subject;
use crate::enter::{draw_holdout, is_held_out};
use crate::version::Version;
use crate::world::{Local, Person, Touch, World};

/// What is stopped is asked again after this.
pub(crate) const HOLD_PAUSE: SignedDuration = SignedDuration::from_secs(60);

/// Whether rows that are not yet irrevocable count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Something new is decided.
    Decide,
    /// Something decided is about to become irrevocable.
    Arm,
}

/// One touch of one person, at a time.
pub(crate) struct Case<'a> {
    pub(crate) world: &'a World<'a>,
    pub(crate) person: &'a Person<'a>,
    pub(crate) traits: &'a Traits,
    pub(crate) destination: &'a DestinationName,
    pub(crate) window: Option<&'a SendWindow>,
    /// What it says.
    pub(crate) content: Option<&'a ContentHash>,
    /// Its own row, which does not stand in its own way.
    pub(crate) own: Option<&'a DeliveryId>,
    /// Touches decided a moment ago, which are not among the person's yet.
    pub(crate) beside: &'a [Touch],
    pub(crate) holdout: Option<HoldoutKind>,
    /// Whether the enrollment is under way.
    pub(crate) active: bool,
    pub(crate) expires_at: Timestamp,
    pub(crate) now: Timestamp,
    pub(crate) phase: Phase,
    /// The person's zone.
    pub(crate) local: Local,
}

/// What a gate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Refuse { state: DeliveryState, reason: Reason },
    Defer { until: Timestamp, reason: Reason },
}

/// A gate's word, and what it saw.
pub(crate) struct Opinion {
    pub(crate) gate: Gate,
    pub(crate) verdict: Verdict,
    pub(crate) saw: String,
}

/// Every gate, in the order in which they decide.
const GATES: &[fn(&Case<'_>) -> Opinion] = &[
    rules::system,
    rules::identity,
    rules::suppression,
    rules::consent,
    rules::currency,
    cap::cap,
    clock::time,
    rules::holdout,
];

impl Case<'_> {
    /// Every gate's word.
    pub(crate) fn opinions(&self) -> Vec<Opinion> {
        GATES.iter().map(|gate| gate(self)).collect()
    }

    /// The person, as the policy's conditions see them: a rule for all playbooks knows neither entries nor steps.
    fn subject(&self) -> Subject<'_> {
        Subject { world: self.world, person: self.person, entry: None, outcomes: None, now: self.now }
    }

    fn is_transactional(&self) -> bool {
        self.traits.class == MessageClass::Transactional
    }
}

impl Opinion {
    fn pass(gate: Gate, saw: impl Into<String>) -> Self {
        Self { gate, verdict: Verdict::Pass, saw: saw.into() }
    }

    fn refuse(state: DeliveryState, reason: Reason, saw: impl Into<String>) -> Self {
        Self { gate: reason.gate(), verdict: Verdict::Refuse { state, reason }, saw: saw.into() }
    }

    fn defer(until: Timestamp, reason: Reason, saw: impl Into<String>) -> Self {
        Self { gate: reason.gate(), verdict: Verdict::Defer { until, reason }, saw: saw.into() }
    }

    /// Why it does not let the touch pass, if it does not.
    pub(crate) fn reason(&self) -> Option<Reason> {
        match self.verdict {
            Verdict::Pass => None,
            Verdict::Refuse { reason, .. } | Verdict::Defer { reason, .. } => Some(reason),
        }
    }
}

/// What all gates together decide.
pub(crate) struct Decision {
    pub(crate) state: DeliveryState,
    pub(crate) reason: Reason,
    /// When it may go, or is to be decided anew.
    pub(crate) due_at: Timestamp,
    pub(crate) gates: Vec<GateRecord>,
}

/// Asks every gate and lets the first that fails decide. A deferral waits for the latest of all that defer.
pub(crate) fn decide(case: &Case<'_>) -> Decision {
    let opinions = case.opinions();
    let (state, reason, due_at) = match primary(&opinions).map(|opinion| opinion.verdict) {
        None | Some(Verdict::Pass) => (DeliveryState::Pending, Reason::OkDue, case.now),
        Some(Verdict::Refuse { state, reason }) => (state, reason, case.now),
        // Only what is stopped may outlive its shelf life while it waits.
        Some(Verdict::Defer { .. }) if case.now >= case.expires_at => {
            (DeliveryState::Expired, Reason::StepExpired, case.now)
        }
        Some(Verdict::Defer { reason, .. }) => {
            (DeliveryState::Deferred, reason, latest(&opinions, case.now).min(case.expires_at))
        }
    };
    Decision { state, reason, due_at, gates: records(opinions) }
}

/// The first gate that does not let the touch pass.
pub(crate) fn primary(opinions: &[Opinion]) -> Option<&Opinion> {
    opinions.iter().find(|opinion| opinion.verdict != Verdict::Pass)
}

/// The latest of the times that gates defer to; never now.
pub(crate) fn latest(opinions: &[Opinion], now: Timestamp) -> Timestamp {
    let times = opinions.iter().filter_map(|opinion| match opinion.verdict {
        Verdict::Defer { until, .. } => Some(until),
        Verdict::Pass | Verdict::Refuse { .. } => None,
    });
    times.max().unwrap_or(now).max(crate::time::plus(now, SignedDuration::from_millis(1)))
}

fn records(opinions: Vec<Opinion>) -> Vec<GateRecord> {
    opinions
        .into_iter()
        .map(|opinion| GateRecord { gate: opinion.gate, reason: opinion.reason(), saw: opinion.saw })
        .collect()
}

/// The gates that are about a person and not about a message: suppression, consent, the global holdout.
///
/// # Errors
/// What the first of them says that does not let the person be in an audience.
pub(crate) fn member_gates(
    world: &World<'_>,
    person: &Person<'_>,
    destination: &DestinationName,
    traits: &Traits,
    now: Timestamp,
) -> Result<(), Refusal> {
    let case = Case {
        world,
        person,
        traits,
        destination,
        window: None,
        content: None,
        own: None,
        beside: &[],
        // Without an id, nothing is drawn: who is in was not held out when they were added.
        holdout: (!person.id.is_empty() && is_held_out(world, person.id, now)).then_some(HoldoutKind::Global),
        active: true,
        expires_at: Timestamp::MAX,
        now,
        phase: Phase::Decide,
        local: person.zone(world),
    };
    let opinions = [rules::suppression(&case), rules::consent(&case), rules::holdout(&case)];
    match primary(&opinions) {
        Some(Opinion {
            verdict: Verdict::Refuse { reason, .. } | Verdict::Defer { reason, .. },
            saw,
            ..
        }) => Err(Refusal { reason: *reason, saw: saw.clone() }),
        Some(Opinion { verdict: Verdict::Pass, .. }) | None => Ok(()),
    }
}

/// Every gate's word for a touch of this person, as if it were decided now; for `explain` and `plan`.
///
/// The shelf life counts from when the enrollment came to the step, or from now where it is elsewhere or there is none. Without an
/// enrollment the holdout is drawn as it would be on entering now. Empty where the step is no send of the version.
pub fn gates(
    world: &World<'_>,
    version: &Version,
    person: &Person<'_>,
    enrollment: Option<&Enrollment>,
    step: &StepId,
    now: Timestamp,
) -> Vec<GateRecord> {
    let Some(send) = version.send(step) else { return Vec::new() };
    let traits = version.traits(world, &send.purpose);
    let own = enrollment.map(|enrollment| DeliveryId::derive(world.project, &enrollment.id, step, 0));
    let holdout = match enrollment {
        Some(enrollment) => enrollment.holdout,
        None => draw_holdout(world, version.playbook(), person.id, now),
    };
    let since = match enrollment.map(|enrollment| &enrollment.progress) {
        Some(Progress::Waiting { step: at, since, .. } | Progress::Sending { step: at, since })
            if at == step =>
        {
            *since
        }
        _ => now,
    };
    let case = Case {
        world,
        person,
        traits: &traits,
        destination: &send.destination,
        window: version.window_of(send),
        content: version.content(step),
        own: own.as_ref(),
        beside: &[],
        holdout,
        active: enrollment.is_none_or(Enrollment::is_active),
        expires_at: crate::time::plus(since, version.expires_of(send)),
        now,
        phase: Phase::Decide,
        local: person.zone(world),
    };
    records(case.opinions())
}
