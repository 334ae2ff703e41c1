//! The last look: whether a touch that was decided may still go, asked in the transaction that makes it irrevocable.
//!
//! The same gates as when it was decided, on facts read under lock, and counting only what is irrevocable itself. The holdout is not
//! asked again: it was drawn on entering and decided then.

use jiff::Timestamp;
use model::consent::{Consents, Suppression};
use model::delivery::Delivery;
use model::playbook::SendWindow;
use model::profile::Profile;
use model::{DeliveryState, Gate, Reason, Refusal};

use crate::gate::{Case, Phase, Verdict, latest, primary};
use crate::world::{Person, Shared, Standing, Touch, World};

/// What is read under lock before a touch is armed.
#[derive(Debug, Clone, Copy)]
pub struct ArmFacts<'a> {
    /// Whether the enrollment is still under way.
    pub enrollment_active: bool,
    /// The row in the warehouse that the message was rendered from: the person's zone is in it. `None`: gone from the warehouse,
    /// and the touch is refused.
    pub profile: Option<&'a Profile>,
    /// What was allowed.
    pub consents: &'a Consents,
    /// Those of the person, and of the address actually rendered.
    pub suppressions: &'a [Suppression],
    /// Past and present deliveries of the person.
    pub touches: &'a [Touch],
    /// Those of the person's account, and of the address actually rendered.
    pub shared: Shared<'a>,
    /// Where the person stands in each playbook, for quiet hours that ask for it.
    pub standings: &'a [Standing],
    /// The send window of the step (see [`crate::Version::window`]).
    pub window: Option<&'a SendWindow>,
}

/// What the last look says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LastLook {
    /// It may go.
    Arm,
    /// It does not go any more.
    Refuse {
        /// What becomes of it.
        state: DeliveryState,
        /// Why.
        refusal: Refusal,
    },
    /// Not now: it goes back to deferred, and is decided anew.
    Defer {
        /// When.
        wake_at: Timestamp,
        /// Why.
        refusal: Refusal,
    },
    /// Something is halted or paused: it stays pending as it is.
    Hold {
        /// What.
        refusal: Refusal,
    },
}

/// Looks at a touch for the last time before it goes. Also asked, without lock, when it is claimed.
pub fn last_look(world: &World<'_>, delivery: &Delivery, facts: &ArmFacts<'_>, now: Timestamp) -> LastLook {
    let person = Person {
        number: delivery.profile,
        id: "",
        profile: facts.profile,
        consents: facts.consents,
        suppressions: facts.suppressions,
        touches: facts.touches,
        shared: facts.shared,
        standings: facts.standings,
    };
    let case = Case {
        world,
        person: &person,
        traits: &delivery.traits,
        destination: &delivery.destination,
        window: facts.window,
        content: delivery.content.as_ref(),
        own: Some(&delivery.id),
        beside: &[],
        holdout: None,
        active: facts.enrollment_active,
        expires_at: delivery.expires_at,
        now,
        phase: Phase::Arm,
        local: person.zone(world),
    };
    let opinions = case.opinions();
    let Some(first) = primary(&opinions) else { return LastLook::Arm };
    match first.verdict {
        Verdict::Pass => LastLook::Arm,
        Verdict::Refuse { state, reason } => {
            LastLook::Refuse { state, refusal: Refusal { reason, saw: first.saw.clone() } }
        }
        // What is halted does not come back to life when its time is over.
        Verdict::Defer { .. } if now >= delivery.expires_at => LastLook::Refuse {
            state: DeliveryState::Expired,
            refusal: Refusal { reason: Reason::StepExpired, saw: format!("expired {}", delivery.expires_at) },
        },
        Verdict::Defer { reason, .. } if first.gate == Gate::System => {
            LastLook::Hold { refusal: Refusal { reason, saw: first.saw.clone() } }
        }
        Verdict::Defer { reason, .. } => LastLook::Defer {
            wake_at: latest(&opinions, now).min(delivery.expires_at),
            refusal: Refusal { reason, saw: first.saw.clone() },
        },
    }
}
