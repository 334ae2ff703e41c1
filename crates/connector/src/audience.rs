//! Audiences: groups of people that a provider is to know, and how they are added and removed.
//!
//! An audience is desired state: the daemon compares who is to be in it with what the provider acknowledged, and asks for the difference.
//! So adding who is there, and removing who is not, MUST do no harm at the provider.

use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use model::profile::Profile;
use serde_json::{Map, Value};

use crate::exchange::Exchange;
use crate::outcome::Outcome;

/// What a kind does with audiences.
#[derive(Debug, Clone, Copy)]
pub struct AudienceKind {
    /// What people may be known by there.
    pub identifiers: &'static [Identifier],
    /// So many members at once,
    pub members_max: usize,
    /// and of no more bytes than so many, as they are kept ([`Member::as_str`]).
    pub bytes_max: usize,
    /// Nobody is added to an audience of fewer: the provider would not use it, or it would point at single people.
    pub people_min: u64,
    /// The provider forgets members after a time: they are added anew after this.
    pub renew_after: Option<SignedDuration>,
}

/// One thing that people are known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identifier {
    /// The column of `profiles`.
    pub column: &'static str,
    /// How it is written there, with a version: a rule that changes gets another name, since all members change with it.
    pub normaliser: &'static str,
    /// Whether its SHA-256 is handed over, and not itself.
    pub is_hashed: bool,
}

/// What a person is known by at a provider: normalised, and hashed where it is to be. Only its connector reads it. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Member(String);

impl Member {
    /// Of its identifiers; `None`: there are none.
    pub fn of(identifiers: Map<String, Value>) -> Option<Self> {
        (!identifiers.is_empty()).then(|| Self(Value::Object(identifiers).to_string()))
    }

    /// One that was kept as text.
    pub fn known(text: String) -> Self {
        Self(text)
    }

    /// As text, to be kept.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its identifiers; what cannot be read has none.
    pub fn identifiers(&self) -> Map<String, Value> {
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    /// One identifier, if it has it.
    pub fn get(&self, name: &str) -> Option<String> {
        self.identifiers().get(name)?.as_str().map(str::to_owned)
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("[member]")
    }
}

/// What a connector does with audiences.
pub trait Audiences: Send + Sync {
    /// What a person is known by; `None`: nothing that this provider takes. The same columns give the same member.
    fn member(&self, profile: &Profile) -> Option<Member>;
    /// The conversation that finds the audience of this name, or makes it where there is none. It arms nothing: nobody is handed over. `at` is
    /// when that is: some providers want to be told, under a signature.
    fn open(&self, name: &str, at: Timestamp) -> Box<dyn Exchange<Opened>>;
    /// The conversation that changes who is in an audience. The same change gives the same conversation, every time.
    fn change(&self, change: &Change) -> Box<dyn Exchange<Changed>>;
}

/// Whether an audience is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// It is, and the provider calls it so.
    Found {
        /// Its id.
        id: String,
    },
    /// It cannot be had now, or at all.
    Not(Outcome),
}

impl From<Outcome> for Opened {
    fn from(outcome: Outcome) -> Self {
        Self::Not(outcome)
    }
}

/// Some people to be added to an audience, or to be removed from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What the provider calls the audience.
    pub audience: String,
    /// What is done.
    pub verb: Verb,
    /// To whom: at least one, and no more than the kind takes at once.
    pub members: Arc<[Member]>,
    /// The same for a repeat of the same change: 16 letters of hexadecimal.
    pub key: String,
    /// When it is made.
    pub at: Timestamp,
}

/// What is done to members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// They are to be in.
    Add,
    /// They are to be out.
    Remove,
}

impl Verb {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Remove => "remove",
        }
    }
}

/// What came of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// The same for all of them. Where all are rejected, one of them may be the cause: they are tried in halves.
    All(Outcome),
    /// One outcome for each, in their order.
    Each(Vec<Outcome>),
    /// They were taken, but for so many, and which these are is not said: they are found by halves.
    AllBut {
        /// How many.
        refused: u64,
        /// What the provider called the others.
        receipt: String,
    },
}

impl From<Outcome> for Changed {
    fn from(outcome: Outcome) -> Self {
        Self::All(outcome)
    }
}
