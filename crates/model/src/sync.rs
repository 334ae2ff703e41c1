//! Syncs: an audience at a destination, kept equal to people of the warehouse.

use crate::condition::words;
use crate::duration::Share;
use crate::id::IdentityHash;
use crate::name::{AudienceName, DestinationName, PlaybookName, PurposeName, SegmentName, SyncName};
use crate::policy::{Channel, Purpose, Traits};
use crate::schedule::Schedule;

/// syncs/NAME.yml.
#[derive(Debug, Clone, PartialEq)]
pub struct Sync {
    /// The file's name.
    pub name: SyncName,
    /// What people call it.
    pub title: String,
    /// Whose it is.
    pub owner: String,
    /// What it is for.
    pub why: String,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// When the audience is compared with the people.
    pub schedule: Schedule,
    /// Who is to be in it, of those who consent.
    pub from: SyncFrom,
    /// Which audience.
    pub audience: AudienceAt,
    /// What the people consent to.
    pub purpose: PurposeName,
    /// So many of those in it may be removed in one sync, besides who opted out.
    pub removal: Share,
    /// Hash of what decides who is in it.
    pub definition: String,
}

impl Sync {
    /// What the policy's rules see of a membership: a sync stands where a playbook does.
    pub fn traits(&self, purpose: &Purpose) -> Traits {
        Traits {
            channel: Channel::Ads,
            class: purpose.class,
            purpose: purpose.name.clone(),
            brand: purpose.brand.clone(),
            playbook: PlaybookName::known(self.name.as_str()),
        }
    }
}

/// Who may be in an audience.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyncFrom {
    /// Everybody.
    Profiles,
    /// The members of a segment.
    Segment(SegmentName),
}

impl std::fmt::Display for SyncFrom {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Profiles => out.write_str("profiles"),
            Self::Segment(name) => write!(out, "segment.{name}"),
        }
    }
}

/// An audience at a destination.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AudienceAt {
    /// Whose account it is in.
    pub destination: DestinationName,
    /// What we call it. The provider sees another name, which says nothing about the people in it.
    pub name: AudienceName,
}

impl AudienceAt {
    /// The name it has at the provider: the same for ever, and neutral, since providers judge audiences by their names.
    pub fn remote_name(&self, project: &str) -> String {
        let id = crate::id::derive("audience", project, &[self.destination.as_str(), self.name.as_str()]);
        format!("drumbeat-{}", &id[..12])
    }
}

impl std::fmt::Display for AudienceAt {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} at {}", self.name, self.destination)
    }
}

/// What is to be done about an entry of an audience.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Todo {
    /// It is as it is to be.
    Nothing,
    /// To be removed, before anything else: the person does not allow it any more.
    OptOut,
    /// To be added.
    Add,
    /// To be removed.
    Remove,
    /// To be removed, once it is known that not too many leave at once.
    Leaves,
    /// The destination refused it: it is tried again when the sync runs again.
    Rejected,
}

words! { Todo {
    Nothing = "nothing", OptOut = "opt_out", Add = "add", Remove = "remove", Leaves = "leaves", Rejected = "rejected",
} }

/// Whether a destination has an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Has {
    /// It was never asked, or said no.
    No,
    /// It was asked, and nobody knows what came of it.
    Maybe,
    /// It said yes.
    Yes,
}

words! { Has { No = "no", Maybe = "maybe", Yes = "yes", } }

/// What one person is known by in an audience, and how that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is, by its hash.
    pub identity: IdentityHash,
    /// What is to be done.
    pub todo: Todo,
    /// Whether the destination has it.
    pub has: Has,
    /// When it last said so.
    pub acknowledged_at: Option<jiff::Timestamp>,
}
