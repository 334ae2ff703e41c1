//! Segments: who is in a state, how often that is asked, and what must hold for the answer to be believed.

use crate::condition::Condition;
use crate::duration::Share;
use crate::name::{FreshName, SegmentName};
use crate::query::Query;
use crate::schedule::Schedule;

/// segments/NAME.yml.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// The file's name.
    pub name: SegmentName,
    /// What people call it.
    pub title: String,
    /// Whose it is.
    pub owner: String,
    /// What it is for.
    pub why: String,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// When it is refreshed.
    pub schedule: Schedule,
    /// Who is in it.
    pub source: SegmentSource,
    /// What a run must keep to be believed.
    pub expect: Expect,
    /// Hash of what decides who is in it (not of its title): the run's identity.
    pub definition: String,
}

/// Where its members come from.
#[derive(Debug, Clone, PartialEq)]
pub enum SegmentSource {
    /// The warehouse: first column `id`, one row a person.
    Sql(Query),
    /// Other segments, profiles and consent.
    Where(Condition),
}

/// Quality gates: a run that breaks one is held, and the last good membership stays in force.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expect {
    /// At least so many.
    pub rows_min: Option<Quantity>,
    /// At most so many.
    pub rows_max: Option<Quantity>,
    /// Members in plus out, at most, against the last run; a share is one of the last run's members.
    pub change_max: Option<Quantity>,
    /// Columns that must have a value in each row.
    pub not_null: Vec<String>,
    /// Parts of the warehouse that must be fresh.
    pub fresh: Vec<FreshName>,
}

/// A count, or a share of all profiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// So many.
    Count(u64),
    /// This part of the whole.
    Share(Share),
}

impl Quantity {
    /// The number it stands for.
    pub fn of(self, whole: u64) -> u64 {
        match self {
            Self::Count(count) => count,
            Self::Share(share) => share.of(whole),
        }
    }
}

impl std::fmt::Display for Quantity {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count(count) => count.fmt(out),
            Self::Share(share) => share.fmt(out),
        }
    }
}
