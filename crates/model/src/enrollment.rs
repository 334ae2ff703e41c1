//! Enrollments: one person's way through one version of a playbook.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::condition::{StepOutcome, words};
use crate::id::{EnrollmentId, ProfileNumber};
use crate::name::{PlaybookName, StepId};
use crate::value::Value;

/// One person's way through one version of a playbook.
#[derive(Debug, Clone, PartialEq)]
pub struct Enrollment {
    /// Derived from playbook, profile and trigger.
    pub id: EnrollmentId,
    /// Which playbook.
    pub playbook: PlaybookName,
    /// Which version of it, for good.
    pub version: String,
    /// Who.
    pub profile: ProfileNumber,
    /// What let the person in: the id of a segment run.
    pub trigger: String,
    /// When.
    pub entered_at: Timestamp,
    /// Drawn on entering, for good.
    pub holdout: Option<HoldoutKind>,
    /// Where it is.
    pub progress: Progress,
    /// When the goal was reached, if it was.
    pub goal_reached_at: Option<Timestamp>,
    /// How the steps so far came out.
    pub outcomes: BTreeMap<StepId, StepOutcome>,
    /// The columns of the entry that something names.
    pub entry: BTreeMap<String, Value>,
}

/// Where an enrollment is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// At a step that is to be decided (again) at a time: a wait, or a deferred touch.
    Waiting {
        /// The step it is at.
        step: StepId,
        /// When the step began: a wait counts from here, and a touch expires from here.
        since: Timestamp,
        /// When to look again.
        wake_at: Timestamp,
    },
    /// At a step whose delivery is on its way; looked at again when that is settled.
    Sending {
        /// The step it is at.
        step: StepId,
        /// When the step began.
        since: Timestamp,
    },
    /// Over.
    Ended {
        /// Why.
        exit: Exit,
        /// When.
        at: Timestamp,
    },
}

/// Why an enrollment ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// All steps are done.
    Finished,
    /// The goal was reached.
    GoalReached,
    /// The exit condition came to be so.
    CriteriaMet,
    /// The person left the segment.
    Left,
    /// An `exit` step, with its word.
    Word(String),
    /// The person is gone from the warehouse.
    ProfileGone,
}

impl Exit {
    /// As written to state and log. A step's own word stands as it is.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Finished => "finished",
            Self::GoalReached => "goal_reached",
            Self::CriteriaMet => "criteria_met",
            Self::Left => "left",
            Self::ProfileGone => "profile_gone",
            Self::Word(word) => word,
        }
    }

    /// Reads back what [`Self::as_str`] wrote.
    pub fn parse(text: &str) -> Self {
        match text {
            "finished" => Self::Finished,
            "goal_reached" => Self::GoalReached,
            "criteria_met" => Self::CriteriaMet,
            "left" => Self::Left,
            "profile_gone" => Self::ProfileGone,
            word => Self::Word(word.to_owned()),
        }
    }
}

/// Which holdout a person is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldoutKind {
    /// The project's.
    Global,
    /// The playbook's.
    Playbook,
}

words! { HoldoutKind { Global = "global", Playbook = "playbook", } }

impl Enrollment {
    /// Whether it is still under way.
    pub fn is_active(&self) -> bool {
        !matches!(self.progress, Progress::Ended { .. })
    }
}
