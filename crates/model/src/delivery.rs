//! Deliveries: the one row a candidate has, from the first decision to the provider's answer.
//!
//! ```text
//! deferred <-> pending --claim--> leased --ARM--> armed --> accepted | rejected | in_doubt --resolve--> accepted | rejected | pending
//! from nothing and deferred also --> withheld;   from nothing, deferred, pending, leased also --> suppressed | skipped | expired | cancelled
//! ```
//! Only a deferred row can be decided anew. A definite, retryable non-acceptance, and a lease that ran out unarmed, go back to pending.

use jiff::Timestamp;

use crate::condition::{StepOutcome, words};
use crate::id::{ContentHash, DeliveryId, EnrollmentId, ProfileNumber};
use crate::name::{DestinationName, StepId, TemplateName};
use crate::policy::Traits;
use crate::reason::{Gate, Reason};

/// The state of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeliveryState {
    /// To go as soon as it is due.
    Pending,
    /// Not now: decided anew at its wake time.
    Deferred,
    /// Claimed by a worker, not yet irrevocable.
    Leased,
    /// Irrevocable: the provider may have it from now on.
    Armed,
    /// The provider took it.
    Accepted,
    /// The provider refused it for good.
    Rejected,
    /// Handed over without an answer.
    InDoubt,
    /// Would have gone, but for a holdout.
    Withheld,
    /// Must not go.
    Suppressed,
    /// A rule said no.
    Skipped,
    /// Too old.
    Expired,
    /// Taken back.
    Cancelled,
}

words! { DeliveryState {
    Pending = "pending", Deferred = "deferred", Leased = "leased", Armed = "armed", Accepted = "accepted", Rejected = "rejected",
    InDoubt = "in_doubt", Withheld = "withheld", Suppressed = "suppressed", Skipped = "skipped", Expired = "expired", Cancelled = "cancelled",
} }

impl DeliveryState {
    /// Whether it counts against caps when something new is decided: it went, may have gone, is about to go, or would have gone.
    pub fn counts_when_deciding(self) -> bool {
        matches!(
            self,
            Self::Pending | Self::Leased | Self::Armed | Self::Accepted | Self::InDoubt | Self::Withheld
        )
    }

    /// Whether it counts against caps when another is armed: as above, without what is not yet irrevocable.
    pub fn counts_when_arming(self) -> bool {
        matches!(self, Self::Armed | Self::Accepted | Self::InDoubt | Self::Withheld)
    }

    /// Whether it will change no more, but by a person (in doubt).
    pub fn is_settled(self) -> bool {
        !matches!(self, Self::Pending | Self::Deferred | Self::Leased | Self::Armed)
    }

    /// How the log shows it: leased and armed are ways of being pending.
    pub fn shown(self) -> &'static str {
        match self {
            Self::Leased | Self::Armed => "pending",
            other => other.as_str(),
        }
    }

    /// How its step came out, once it is settled.
    pub fn step_outcome(self, reason: Reason) -> Option<StepOutcome> {
        match self {
            Self::Accepted | Self::InDoubt => Some(StepOutcome::Accepted),
            Self::Rejected if reason == Reason::FailSmtpRecipient => Some(StepOutcome::Bounced),
            Self::Withheld => Some(StepOutcome::Withheld),
            Self::Rejected | Self::Suppressed | Self::Skipped | Self::Expired | Self::Cancelled => {
                Some(StepOutcome::Skipped)
            }
            Self::Pending | Self::Deferred | Self::Leased | Self::Armed => None,
        }
    }
}

/// What one gate said of a touch, with the values it saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateRecord {
    /// Which.
    pub gate: Gate,
    /// Why it did not let the touch pass; `None`: it did.
    pub reason: Option<Reason>,
    /// What it saw, for people: `email_day 1 of 1 since 00:00 Europe/Berlin`. Never an address.
    pub saw: String,
}

/// Why a touch does not go (now).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The stable code.
    pub reason: Reason,
    /// What was seen, for people. Never an address.
    pub saw: String,
}

/// One row: a candidate, whatever became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Derived from enrollment, step and occurrence.
    pub id: DeliveryId,
    /// Whose way through which playbook.
    pub enrollment: EnrollmentId,
    /// Version of the playbook.
    pub version: String,
    /// The step; [`StepId::entry`] for who was not enrolled.
    pub step: StepId,
    /// Who.
    pub profile: ProfileNumber,
    /// Channel, class, purpose, brand, playbook.
    pub traits: Traits,
    /// By which account.
    pub destination: DestinationName,
    /// What it says.
    pub template: TemplateName,
    /// The same, by its words. `None`: it is not known, or there are none.
    pub content: Option<ContentHash>,
    /// Of the playbook, when it was decided.
    pub priority: u8,
    /// Where it is.
    pub state: DeliveryState,
    /// Why it is there.
    pub reason: Reason,
    /// What every gate said.
    pub gates: Vec<GateRecord>,
    /// When it was first considered.
    pub created_at: Timestamp,
    /// When it was last decided.
    pub decided_at: Timestamp,
    /// Pending: not to go before. Deferred: to be decided anew at.
    pub due_at: Timestamp,
    /// Not to go after.
    pub expires_at: Timestamp,
}

/// What became of the messages of a playbook, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// The provider took it.
    pub accepted: u64,
    /// The provider refused it for good; bounces included.
    pub rejected: u64,
    /// The address does not exist.
    pub bounced: u64,
    /// Nobody knows.
    pub in_doubt: u64,
    /// It could not be made: a template that failed, or printed what is missing.
    pub unmade: u64,
    /// The person opted out by a link in it, or at the provider.
    pub unsubscribed: u64,
    /// It was reported as spam.
    pub complained: u64,
    /// Of those tried: a default stood in for a value that the person's data lack.
    pub fallback: u64,
}

impl Tally {
    /// Adds another.
    pub fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.rejected += other.rejected;
        self.bounced += other.bounced;
        self.in_doubt += other.in_doubt;
        self.unmade += other.unmade;
        self.complained += other.complained;
        self.unsubscribed += other.unsubscribed;
        self.fallback += other.fallback;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_over_exactly_when_its_delivery_is_settled() {
        for (_, state) in DeliveryState::ALL {
            assert_eq!(state.step_outcome(Reason::OkAccepted).is_some(), state.is_settled(), "{state:?}");
        }
    }

    #[test]
    fn what_counts_when_arming_counts_when_deciding() {
        for (_, state) in DeliveryState::ALL {
            assert!(state.counts_when_deciding() || !state.counts_when_arming());
        }
    }
}
