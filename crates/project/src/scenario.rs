//! Scenarios: what is given, what happens, what must come of it. Nothing is played here.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::consent::ConsentStatus;
use model::name::{PlaybookName, PurposeName, SegmentName, TemplateName};
use model::{Channel, DeliveryState, Reason, StepId, Value};

/// One scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// From the project's folder.
    pub file: String,
    /// What it shows.
    pub title: String,
    /// What is tried.
    pub subject: Subject,
    /// When it begins.
    pub start: Timestamp,
    /// The world at that time.
    pub given: Given,
    /// What happens, in the order of the file.
    pub then: Vec<Then>,
    /// What must come of it.
    pub expect: Expected,
    /// Whether holdouts and limits hold, too.
    pub with_policy: bool,
}

/// What a scenario tries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A playbook, on people that are made up.
    Playbook(PlaybookName),
    /// A segment's query, on rows that are made up.
    Segment(SegmentName),
}

/// The world at the start.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Given {
    /// People: all columns, `id` among them.
    pub profiles: Vec<BTreeMap<String, Value>>,
    /// Their accounts: all columns, `id` among them.
    pub accounts: Vec<BTreeMap<String, Value>>,
    /// What they consented to.
    pub consent: Vec<GivenConsent>,
    /// Who is in which segment.
    pub segments: BTreeMap<SegmentName, Vec<String>>,
    /// Rows of the warehouse's tables.
    pub tables: BTreeMap<String, Vec<BTreeMap<String, Value>>>,
}

/// What a person consented to before the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenConsent {
    /// Whose.
    pub profile: String,
    /// For which channel; `None`: all.
    pub channel: Option<Channel>,
    /// For what; `None`: everything.
    pub purpose: Option<PurposeName>,
    /// What was said.
    pub status: ConsentStatus,
}

/// Something that happens to a person.
#[derive(Debug, Clone, PartialEq)]
pub struct Then {
    /// When; before what is due at that time.
    pub at: Timestamp,
    /// Who.
    pub profile: String,
    /// What.
    pub act: Act,
}

/// What happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// The person comes into a segment.
    Enters(SegmentName),
    /// The person leaves a segment.
    Leaves(SegmentName),
    /// The person grants consent, on all channels.
    Grants(PurposeName),
    /// The person withdraws consent, on all channels.
    Withdraws(PurposeName),
    /// The message of a step bounces when it is handed over.
    Bounces(StepId),
    /// Columns of the profile change.
    Set(BTreeMap<String, Value>),
}

/// What must come of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Expected {
    /// A segment's members, in any order.
    Members(Vec<String>),
    /// For each profile, in order, exactly these.
    Rows(Vec<ExpectedRow>),
}

/// A row of the log or an exit, compared in what is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedRow {
    /// Where it is written: `tests/win_back.yml:14`.
    pub place: String,
    /// Who.
    pub profile: String,
    /// When it came to be so.
    pub at: Option<Timestamp>,
    /// The step.
    pub step: Option<StepId>,
    /// The state of its delivery, or `skipped` for a step whose `if` was false.
    pub state: Option<DeliveryState>,
    /// Why.
    pub reason: Option<Reason>,
    /// What was sent.
    pub template: Option<TemplateName>,
    /// The subject, exactly.
    pub subject: Option<String>,
    /// Part of the text or the HTML.
    pub contains: Option<String>,
    /// Why the playbook ended.
    pub exit: Option<String>,
}
