//! Playbooks: what happens to one person, step by step.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use jiff::civil::{Time, Weekday};

use crate::condition::{Condition, ValueOf};
use crate::duration::Share;
use crate::id::ContentHash;
use crate::name::{DestinationName, PlaybookName, PurposeName, SegmentName, StepId, TemplateName};
use crate::policy::OwnGuards;
use crate::value::Value;

/// playbooks/NAME.yml.
#[derive(Debug, Clone, PartialEq)]
pub struct Playbook {
    /// The file's name.
    pub name: PlaybookName,
    /// What people call it.
    pub title: String,
    /// Whose it is.
    pub owner: String,
    /// What it is for.
    pub why: String,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Hash of what a version pins: steps, waits, template text, purpose, exit, goal, holdout.
    pub version: String,
    /// The segment that lets people in.
    pub enter: SegmentName,
    /// Only those, asked on entering.
    pub filter: Option<Condition>,
    /// What becomes of those in it when it is activated.
    pub backfill: Backfill,
    /// Who may come in again.
    pub reenter: Reenter,
    /// What ends it early.
    pub exit: ExitRule,
    /// What it is to achieve.
    pub goal: Option<Goal>,
    /// Of every send that does not say its own.
    pub purpose: PurposeName,
    /// 0 to 100; the higher decides first.
    pub priority: u8,
    /// The share that gets nothing.
    pub holdout: Option<Holdout>,
    /// Entries in one run beyond which the run is held.
    pub per_run: Option<u64>,
    /// Its messages in an hour of the clock; those beyond wait.
    pub per_hour: Option<u64>,
    /// What stops it before it does harm, where it is not as the policy has it.
    pub guards: OwnGuards,
    /// Local times at which its sends may go; a step's own comes before it.
    pub window: Option<SendWindow>,
    /// Shelf life of its sends; a step's own comes before it.
    pub expires: SignedDuration,
    /// In order.
    pub steps: Vec<Step>,
    /// What each send says, by its step, as the version pins it.
    pub contents: BTreeMap<StepId, ContentHash>,
}

/// What becomes of those who are in the segment when the playbook is activated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backfill {
    /// They count as dealt with.
    None,
    /// They enter.
    All,
    /// Those who came in less than this ago enter.
    Since(SignedDuration),
}

/// Who may come in again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reenter {
    /// Nobody.
    Never,
    /// Everybody who is not under way.
    Always,
    /// Who ended longer ago than this.
    After(SignedDuration),
}

/// What ends a playbook for a person, also in the middle of a wait.
#[derive(Debug, Clone, PartialEq)]
pub struct ExitRule {
    /// Leaving the segment.
    pub on_leave: bool,
    /// Something coming to be so.
    pub when: Option<Condition>,
}

/// What a playbook is to achieve.
#[derive(Debug, Clone, PartialEq)]
pub struct Goal {
    /// What must come to be so.
    pub when: Condition,
    /// Within this, from the entry.
    pub within: SignedDuration,
    /// Whether reaching it ends the playbook.
    pub exits: bool,
}

/// The share of a playbook's people who get nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holdout {
    /// How many.
    pub share: Share,
    /// What makes the draw this one; the playbook's name unless given.
    pub salt: String,
}

/// Local times at which something may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendWindow {
    /// On these days; none given: all.
    pub days: Vec<Weekday>,
    /// From and to, local; over midnight where `to` is not after `from`. `None`: the whole day.
    pub hours: Option<(Time, Time)>,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Unique in the playbook.
    pub id: StepId,
    /// Otherwise it is skipped.
    pub condition: Option<Condition>,
    /// What it does.
    pub action: Action,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// A message to the profile.
    Send(Send),
    /// Time goes by.
    Wait(Wait),
    /// The first arm that fits, if any.
    Branch(Vec<Arm>),
    /// It ends here, with this word.
    Exit(String),
}

/// A message to the profile.
#[derive(Debug, Clone, PartialEq)]
pub struct Send {
    /// What it says.
    pub template: TemplateName,
    /// By which account; the only one of the channel unless given.
    pub destination: DestinationName,
    /// What it is for; the playbook's unless given.
    pub purpose: PurposeName,
    /// What the template is told.
    pub with: BTreeMap<String, Value>,
    /// Its own shelf life.
    pub expires: Option<SignedDuration>,
    /// Its own window.
    pub window: Option<SendWindow>,
}

/// What a wait waits for. What is so already, past or missing does not wait.
#[derive(Debug, Clone, PartialEq)]
pub enum Wait {
    /// So long.
    For(SignedDuration),
    /// Until it is so, or so long at most.
    Until {
        /// What.
        condition: Condition,
        /// How long.
        at_most: SignedDuration,
    },
    /// To a time that is an attribute, and so long after it (before it, if negative).
    To {
        /// Which.
        value: ValueOf,
        /// How far from it.
        offset: SignedDuration,
    },
}

/// One arm of a branch.
#[derive(Debug, Clone, PartialEq)]
pub struct Arm {
    /// When it fits; always, if not given.
    pub condition: Option<Condition>,
    /// What then.
    pub steps: Vec<Step>,
}

impl Playbook {
    /// Calls `visit` for every step, the inner ones of branches included, in the order of the file.
    pub fn walk<'a>(&'a self, visit: &mut impl FnMut(&'a Step)) {
        fn inner<'a>(steps: &'a [Step], visit: &mut impl FnMut(&'a Step)) {
            for step in steps {
                visit(step);
                if let Action::Branch(arms) = &step.action {
                    arms.iter().for_each(|arm| inner(&arm.steps, visit));
                }
            }
        }
        inner(&self.steps, visit);
    }

    /// All its sends, in the order of the file.
    pub fn sends(&self) -> Vec<(&StepId, &Send)> {
        let mut sends = Vec::new();
        self.walk(&mut |step| {
            if let Action::Send(send) = &step.action {
                sends.push((&step.id, send));
            }
        });
        sends
    }

    /// All its conditions: of entering, exit, goal, steps, branches and waits.
    pub fn conditions(&self) -> Vec<&Condition> {
        let mut conditions: Vec<&Condition> = Vec::new();
        conditions.extend(&self.filter);
        conditions.extend(&self.exit.when);
        conditions.extend(self.goal.as_ref().map(|goal| &goal.when));
        self.walk(&mut |step| {
            conditions.extend(&step.condition);
            match &step.action {
                Action::Branch(arms) => {
                    conditions.extend(arms.iter().filter_map(|arm| arm.condition.as_ref()))
                }
                Action::Wait(Wait::Until { condition, .. }) => conditions.push(condition),
                Action::Send(_) | Action::Wait(Wait::For(_) | Wait::To { .. }) | Action::Exit(_) => {}
            }
        });
        conditions
    }
}
