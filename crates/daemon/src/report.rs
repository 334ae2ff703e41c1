//! What a pass did, counted: the numbers `run` and `plan` print.

use std::collections::BTreeMap;

use crate::guards::Trip;
use connector::Verb;
use engine::Whose;
use jiff::Timestamp;
use model::delivery::Delivery;
use model::sync::{AudienceAt, RecordsAt};
use model::{DeliveryState, PlaybookName, Reason, Refusal, SegmentName, SyncName};
use roaring::RoaringBitmap;

/// What one refresh of a segment found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentReport {
    /// Which.
    pub name: SegmentName,
    /// How many are in it now; where the run was held, how many still are.
    pub members: u64,
    /// Came in.
    pub entered: u64,
    /// Went out.
    pub left: u64,
    /// Rows whose id was seen before in the same run.
    pub duplicates: u64,
    /// Rows without an id.
    pub missing_ids: u64,
    /// Why the run was not believed.
    pub held: Option<Refusal>,
    /// Why it would not be believed in production.
    pub doubtful: Option<Refusal>,
}

/// A playbook that was stopped by a limit, and by how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Which.
    pub playbook: PlaybookName,
    /// Why.
    pub refusal: Refusal,
}

/// Decisions, counted by what they were and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decisions {
    /// Touches that may go.
    pub touch: u64,
    /// Held out.
    pub withheld: u64,
    /// Not now.
    pub defer: BTreeMap<Reason, u64>,
    /// A rule said no.
    pub skip: BTreeMap<Reason, u64>,
    /// Must not go.
    pub suppress: BTreeMap<Reason, u64>,
    /// No decision: members who were there before the playbook began, and whom its `backfill` leaves out. Counted by the pass in
    /// which it begins, so that nobody wonders why nothing was decided for them.
    pub not_entered: u64,
}

impl Decisions {
    /// Counts one more.
    pub fn count(&mut self, delivery: &Delivery) {
        match delivery.state {
            DeliveryState::Pending => self.touch += 1,
            DeliveryState::Withheld => self.withheld += 1,
            DeliveryState::Deferred => *self.defer.entry(delivery.reason).or_default() += 1,
            DeliveryState::Suppressed => *self.suppress.entry(delivery.reason).or_default() += 1,
            DeliveryState::Skipped | DeliveryState::Expired | DeliveryState::Cancelled => {
                *self.skip.entry(delivery.reason).or_default() += 1;
            }
            // The engine gives none of these; they come from the provider.
            DeliveryState::Leased
            | DeliveryState::Armed
            | DeliveryState::Accepted
            | DeliveryState::Rejected
            | DeliveryState::InDoubt => {}
        }
    }

    /// Adds another count.
    pub fn merge(&mut self, other: &Self) {
        self.touch += other.touch;
        self.withheld += other.withheld;
        self.not_entered += other.not_entered;
        for (mine, theirs) in [
            (&mut self.defer, &other.defer),
            (&mut self.skip, &other.skip),
            (&mut self.suppress, &other.suppress),
        ] {
            for (reason, count) in theirs {
                *mine.entry(*reason).or_default() += count;
            }
        }
    }

    /// All of them together.
    pub fn total(&self) -> u64 {
        let sum = |by_reason: &BTreeMap<Reason, u64>| by_reason.values().sum::<u64>();
        self.touch + self.withheld + sum(&self.defer) + sum(&self.skip) + sum(&self.suppress)
    }
}

/// What is kept equal by a sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeptAt {
    /// An audience.
    Audience(AudienceAt),
    /// Records.
    Records(RecordsAt),
}

impl std::fmt::Display for KeptAt {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Audience(at) => at.fmt(out),
            Self::Records(at) => at.fmt(out),
        }
    }
}

/// What one comparison of what there is to be with what there is came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncReport {
    /// Of which sync.
    pub sync: SyncName,
    /// Of what.
    pub at: KeptAt,
    /// So many people are to be in an audience, or so many records are to be kept.
    pub wanted: u64,
    /// So many are not, of those who would be, and why.
    pub left_out: BTreeMap<Reason, u64>,
    /// Why those who left are not removed, or emptied, if they are not.
    pub held: Option<Refusal>,
}

/// What became of the records of a sync.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecordReport {
    /// So many were made.
    pub made: u64,
    /// So many that were there were written.
    pub written: u64,
    /// So many hold what they are to hold already.
    pub same: u64,
    /// So many are emptied of what we wrote, or are what they were before.
    pub undone: u64,
    /// In so many somebody else wrote a field, which stays.
    pub kept: u64,
    /// The destination refused so many.
    pub rejected: u64,
    /// Of so many nobody knows; they are read again.
    pub unknown: u64,
    /// So many were not taken, and are tried again.
    pub not_taken: u64,
    /// So many would be written, where nothing is handed over: of a plan, which asks no destination.
    pub to_write: u64,
    /// So many would be emptied or undone, likewise.
    pub to_undo: u64,
}

impl RecordReport {
    /// Adds another one.
    pub(crate) fn add(&mut self, other: &Self) {
        self.made += other.made;
        self.written += other.written;
        self.same += other.same;
        self.undone += other.undone;
        self.kept += other.kept;
        self.rejected += other.rejected;
        self.unknown += other.unknown;
        self.not_taken += other.not_taken;
        // What waits is as of the last pass, not the sum of all.
        self.to_write = other.to_write;
        self.to_undo = other.to_undo;
    }
}

/// What became of an audience, or of one request about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PushReport {
    /// The destination added so many.
    pub added: u64,
    /// And removed so many.
    pub removed: u64,
    /// It refused so many.
    pub rejected: u64,
    /// Of so many nobody knows; they are tried again.
    pub unknown: u64,
    /// So many were not taken, and are tried again.
    pub not_taken: u64,
}

/// What was asked of destinations for audiences.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pushed {
    /// By audience.
    pub audiences: BTreeMap<AudienceAt, PushReport>,
    /// Who would be added and removed, where nothing is handed over: of a plan.
    pub planned: BTreeMap<AudienceAt, BTreeMap<Verb, RoaringBitmap>>,
    /// Those that could not be reached, and why.
    pub put_off: BTreeMap<AudienceAt, String>,
    /// Those with too few people.
    pub too_small: BTreeMap<AudienceAt, Refusal>,
    /// By sync, what became of its records.
    pub records: BTreeMap<SyncName, RecordReport>,
    /// Syncs of records that could not be written, and why.
    pub records_put_off: BTreeMap<SyncName, Refusal>,
    /// Destinations that cannot be used, and why.
    pub halted: BTreeMap<model::DestinationName, Refusal>,
}

impl PushReport {
    /// Adds another one.
    pub(crate) fn add(&mut self, other: &Self) {
        self.added += other.added;
        self.removed += other.removed;
        self.rejected += other.rejected;
        self.unknown += other.unknown;
        self.not_taken += other.not_taken;
    }
}

impl Pushed {
    /// Adds what another pass did.
    pub fn add(&mut self, other: Self) {
        for (at, theirs) in other.audiences {
            self.audiences.entry(at).or_default().add(&theirs);
        }
        self.planned.extend(other.planned);
        self.put_off.extend(other.put_off);
        self.too_small.extend(other.too_small);
        for (sync, theirs) in other.records {
            self.records.entry(sync).or_default().add(&theirs);
        }
        self.records_put_off.extend(other.records_put_off);
        self.halted.extend(other.halted);
    }
}

/// What one tick did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ticked {
    /// The segments that were due.
    pub segments: Vec<SegmentReport>,
    /// The syncs that were due.
    pub syncs: Vec<SyncReport>,
    /// What was decided.
    pub decisions: Decisions,
    /// By playbook, for those who want to see more.
    pub by_playbook: BTreeMap<PlaybookName, Decisions>,
    /// Playbooks that a limit stopped.
    pub holds: Vec<Hold>,
    /// What was odd and is not fatal, for people.
    pub warnings: Vec<String>,
    /// Enrollments that moved.
    pub moved: u64,
    /// When there is something to do again.
    pub next: Option<Timestamp>,
}

/// What one pump did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pumped {
    /// The provider took it.
    pub accepted: u64,
    /// The provider refused it for good.
    pub rejected: u64,
    /// Nobody knows.
    pub in_doubt: u64,
    /// To be tried again.
    pub retried: u64,
    /// The last look, or the template, said no; by reason.
    pub refused: BTreeMap<Reason, u64>,
    /// Destinations that cannot be used, and why.
    pub halted: BTreeMap<model::DestinationName, Refusal>,
    /// Guards that tripped.
    pub trips: Vec<Trip>,
    /// Rows claimed.
    pub claimed: u64,
    /// What may not go now, since there were so many already, and why. As of the last look.
    pub waiting: BTreeMap<Whose, Refusal>,
    /// There may be more, once a destination has turns again.
    pub waits: bool,
}

impl Pumped {
    /// Adds what another pass did.
    pub fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.rejected += other.rejected;
        self.in_doubt += other.in_doubt;
        self.retried += other.retried;
        self.claimed += other.claimed;
        self.waits |= other.waits;
        for (reason, count) in other.refused {
            *self.refused.entry(reason).or_default() += count;
        }
        self.halted.extend(other.halted);
        self.trips.extend(other.trips);
        self.waiting.extend(other.waiting);
    }
}
