//! What a decision looks at: the world, which is the same for everybody, and one person.
//!
//! Only references and plain data; whoever calls has read it all in one snapshot.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use model::consent::{Consents, Suppression};
use model::id::ContentHash;
use model::policy::{Policy, Traits};
use model::profile::Profile;
use model::{DeliveryId, DeliveryState, DestinationName, PlaybookName, ProfileNumber, SegmentName};

/// Live facts that are the same for everybody: policy, memberships, halts.
#[derive(Clone, Copy)]
pub struct World<'a> {
    /// The project's name: part of every derived id.
    pub project: &'a str,
    /// The project's zone, where a person has none.
    pub zone: &'a TimeZone,
    /// What is allowed.
    pub policy: &'a Policy,
    /// Who is in which segment.
    pub memberships: &'a dyn Memberships,
    /// What is stopped.
    pub halts: &'a Halts,
}

/// Who is in which segment. A segment nobody knows has no members.
pub trait Memberships: Sync {
    /// Whether a person is in a segment.
    fn contains(&self, segment: &SegmentName, profile: ProfileNumber) -> bool;
    /// Whether a person has been in a segment for that long, without a break that a run has seen.
    fn contains_for(&self, segment: &SegmentName, profile: ProfileNumber, at_least: SignedDuration) -> bool;
}

/// What is stopped, until a person lifts it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Halts {
    /// Everything.
    pub all: bool,
    /// These destinations.
    pub destinations: BTreeSet<DestinationName>,
    /// These playbooks, paused or halted.
    pub playbooks: BTreeSet<PlaybookName>,
}

/// One person, with everything a gate may look at.
#[derive(Debug, Clone, Copy)]
pub struct Person<'a> {
    /// The person inside.
    pub number: ProfileNumber,
    /// The warehouse's id, as text: holdouts are drawn by it.
    pub id: &'a str,
    /// The row in the warehouse; `None`: gone from it.
    pub profile: Option<&'a Profile>,
    /// What was allowed.
    pub consents: &'a Consents,
    /// Those of this person, and of this person's address.
    pub suppressions: &'a [Suppression],
    /// Past and present deliveries of the person, as far back as a cap looks.
    pub touches: &'a [Touch],
    /// Those of everybody with whom the person shares something that caps count by.
    pub shared: Shared<'a>,
    /// Where the person stands in each playbook: the latest enrollment.
    pub standings: &'a [Standing],
}

/// Past and present deliveries of all who share something, the person's own among them. Empty where no cap counts by it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shared<'a> {
    /// Of the person's account.
    pub account: &'a [Touch],
    /// Of the person's address.
    pub address: &'a [Touch],
}

/// A delivery of a person, as caps see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touch {
    /// Which.
    pub delivery: DeliveryId,
    /// When it went, or is to go.
    pub at: Timestamp,
    /// Channel, class, purpose, brand, playbook.
    pub traits: Traits,
    /// Where it is.
    pub state: DeliveryState,
    /// What it says.
    pub content: Option<ContentHash>,
}

/// The latest enrollment of a person in a playbook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Which playbook.
    pub playbook: PlaybookName,
    /// Whether it is under way.
    pub active: bool,
    /// Whether its goal was reached.
    pub reached_goal: bool,
    /// When it ended, if it did.
    pub ended_at: Option<Timestamp>,
}

impl<'a> Person<'a> {
    /// The person's own zone, or the project's where it is missing or unknown, and which of the two it is.
    pub(crate) fn zone(&self, world: &World<'_>) -> Local {
        match self.profile.and_then(Profile::timezone) {
            Some(zone) => Local { zone, source: "profile" },
            None => Local { zone: world.zone.clone(), source: "project" },
        }
    }

    /// Where the person stands in a playbook; `None`: never enrolled.
    pub(crate) fn standing(&self, playbook: &PlaybookName) -> Option<&'a Standing> {
        self.standings.iter().find(|standing| standing.playbook == *playbook)
    }
}

/// A zone, and where it is from.
#[derive(Debug, Clone)]
pub(crate) struct Local {
    pub(crate) zone: TimeZone,
    pub(crate) source: &'static str,
}

impl Local {
    /// The zone's name for people.
    pub(crate) fn name(&self) -> &str {
        self.zone.iana_name().unwrap_or("a zone without a name")
    }
}
