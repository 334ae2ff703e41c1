//! Syncs: an audience, or fields of a CRM's records, kept equal to the warehouse.

use crate::condition::words;
use crate::duration::Share;
use crate::id::{IdentityHash, ProfileNumber, UnitHash};
use crate::name::{AudienceName, DestinationName, PlaybookName, PurposeName, SegmentName, SyncName};
use crate::policy::{Channel, Purpose, Traits};
use crate::reason::Reason;
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
    /// When what there is to be is compared with what there is.
    pub schedule: Schedule,
    /// Of whom, or of what.
    pub from: SyncFrom,
    /// What is kept equal.
    pub to: SyncTo,
    /// So many of those in it may be taken out in one sync, besides who opted out.
    pub removal: Share,
    /// Hash of what decides.
    pub definition: String,
}

/// What a sync keeps equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyncTo {
    /// Who is in an audience.
    Audience(AudienceSync),
    /// What stands in records.
    Record(RecordSync),
}

/// An audience, and what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudienceSync {
    /// Which.
    pub at: AudienceAt,
    /// What the people in it consent to.
    pub purpose: PurposeName,
}

/// Records, one for each person or account, and what is to stand in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSync {
    /// Which.
    pub at: RecordsAt,
    /// The fields that are written.
    pub fields: Vec<String>,
    /// What becomes of a field in which a person has written something else.
    pub on_edit: OnEdit,
    /// What becomes of the record of somebody who is no longer in what the sync is from.
    pub gone: Gone,
}

/// Records at a destination.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordsAt {
    /// Whose account they are in.
    pub destination: DestinationName,
    /// What they are, in the provider's word.
    pub object: String,
    /// The field by which one is found.
    pub key: String,
}

impl std::fmt::Display for RecordsAt {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} at {} by {}", self.object, self.destination, self.key)
    }
}

/// What becomes of a field in which there is something that we did not write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnEdit {
    /// It stays: somebody else wrote it.
    #[default]
    Keep,
    /// It is overwritten.
    Overwrite,
}

words! { OnEdit { Keep = "keep", Overwrite = "overwrite", } }

/// What becomes of a record that is no longer asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Gone {
    /// It stays as it is.
    #[default]
    Leave,
    /// The fields that we wrote are emptied.
    Clear,
}

words! { Gone { Leave = "leave", Clear = "clear", } }

impl Sync {
    /// Where what it keeps equal is.
    pub fn destination(&self) -> &DestinationName {
        match &self.to {
            SyncTo::Audience(audience) => &audience.at.destination,
            SyncTo::Record(record) => &record.at.destination,
        }
    }

    /// The audience it keeps, if it is one.
    pub fn audience(&self) -> Option<&AudienceSync> {
        match &self.to {
            SyncTo::Audience(audience) => Some(audience),
            SyncTo::Record(_) => None,
        }
    }

    /// The records it keeps, if it does.
    pub fn record(&self) -> Option<&RecordSync> {
        match &self.to {
            SyncTo::Audience(_) => None,
            SyncTo::Record(record) => Some(record),
        }
    }

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

/// Of whom, or of what, a sync is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyncFrom {
    /// Everybody.
    Profiles,
    /// All accounts.
    Accounts,
    /// The members of a segment.
    Segment(SegmentName),
}

impl std::fmt::Display for SyncFrom {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Profiles => out.write_str("profiles"),
            Self::Accounts => out.write_str("accounts"),
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

/// Whose, or what, a record is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordOf {
    /// A person's.
    Profile(ProfileNumber),
    /// An account's, by the hash of its id.
    Account(UnitHash),
}

impl RecordOf {
    /// As it is kept: texts in the order of numbers.
    pub fn to_text(&self) -> String {
        match self {
            Self::Profile(number) => format!("p{:010}", number.0),
            Self::Account(hash) => format!("a{}", hash.as_str()),
        }
    }

    /// One that was kept.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(number) = text.strip_prefix('p') {
            return number.parse().ok().map(|number| Self::Profile(ProfileNumber(number)));
        }
        text.strip_prefix('a').map(|hash| Self::Account(UnitHash::known(hash)))
    }
}

/// What is to be done about a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordTodo {
    /// It is as it is to be.
    Nothing,
    /// To be written.
    Write,
    /// To be emptied, once it is known that not too many are at once.
    Leaves,
    /// To be emptied of what we wrote.
    Clear,
    /// To be made what it was before.
    Revert,
    /// The destination refused it: it is tried again when the sync runs again.
    Rejected,
}

words! { RecordTodo {
    Nothing = "nothing", Write = "write", Leaves = "leaves", Clear = "clear", Revert = "revert", Rejected = "rejected",
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

/// A record that a sync keeps, and how that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordEntry {
    /// By which key.
    pub key: IdentityHash,
    /// What is to stand in it, by its hash.
    pub digest: String,
    /// What is to be done.
    pub todo: RecordTodo,
    /// Whether the destination has what was written last.
    pub has: Has,
    /// Why it is so.
    pub reason: Reason,
}
