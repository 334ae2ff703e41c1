//! Walking: from where an enrollment stands to where it must wait, or to its end.
//!
//! Goal, exit condition and leaving are asked before every walk, also in the middle of a wait. The schedule does not drift: what
//! follows a wait begins when the wait was over, however late anybody looks.

use jiff::Timestamp;
use model::condition::{Condition, StepOutcome};
use model::delivery::{Delivery, GateRecord};
use model::enrollment::{Enrollment, Exit, Progress};
use model::fault::mutant;
use model::playbook::{Send, Wait};
use model::{DeliveryId, DeliveryState, Gate, Reason};

use crate::condition::{Subject, holds};
use crate::enter::entry_row;
use crate::gate::{Case, Decision, Phase, decide};
use crate::invariant::invariant;
use crate::time::plus;
use crate::version::{Does, Instruction, Version};
use crate::world::{Person, Touch, World};

/// Why an enrollment is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Something may have changed: goal, exit condition, a wait, a deferral, a settlement.
    Look,
    /// The person left the segment of `enter`.
    Left,
}

/// What became of an enrollment.
#[derive(Debug, Clone, PartialEq)]
pub struct Advanced {
    /// As it is now.
    pub enrollment: Enrollment,
    /// New rows, and deferred rows decided anew, in the order of the steps.
    pub deliveries: Vec<Delivery>,
    /// Rows to be taken back because the enrollment ended. What is armed is past recall, and not among them.
    pub cancelled: Vec<(DeliveryId, Reason)>,
    /// Whether the enrollment is another than before.
    pub changed: bool,
}

/// Moves an enrollment on as far as it goes now. `deliveries` are the rows of this enrollment.
///
/// An enrollment that has ended stays as it is. One at a step that its version does not have ends with the word `step_gone`.
pub fn advance(
    world: &World<'_>,
    version: &Version,
    person: &Person<'_>,
    enrollment: Enrollment,
    deliveries: &[Delivery],
    cause: Cause,
    now: Timestamp,
) -> Advanced {
    let before = (enrollment.progress.clone(), enrollment.goal_reached_at);
    let mut walk = Walk::new(world, version, person, enrollment, deliveries, now);
    if walk.enrollment.is_active() && !walk.ends_early(cause) {
        walk.resume();
    }
    let changed = before != (walk.enrollment.progress.clone(), walk.enrollment.goal_reached_at);
    walk.done(changed)
}

/// An enrollment on its way.
pub(crate) struct Walk<'a> {
    world: &'a World<'a>,
    version: &'a Version,
    person: &'a Person<'a>,
    enrollment: Enrollment,
    rows: &'a [Delivery],
    now: Timestamp,
    decided: Vec<Delivery>,
    touches: Vec<Touch>,
    cancelled: Vec<(DeliveryId, Reason)>,
}

/// Where a step leads.
enum Next {
    /// It stays at this step.
    Stay(Progress),
    /// On to a position. What begins there began at `since`.
    Go { to: usize, since: Timestamp },
    /// Out.
    Out(Exit),
}

impl<'a> Walk<'a> {
    pub(crate) fn new(
        world: &'a World<'a>,
        version: &'a Version,
        person: &'a Person<'a>,
        enrollment: Enrollment,
        rows: &'a [Delivery],
        now: Timestamp,
    ) -> Self {
        let (decided, touches, cancelled) = (Vec::new(), Vec::new(), Vec::new());
        Self { world, version, person, enrollment, rows, now, decided, touches, cancelled }
    }

    pub(crate) fn done(mut self, changed: bool) -> Advanced {
        self.decided.extend(self.without_a_message());
        for (position, row) in self.decided.iter().enumerate() {
            let again = self.decided.iter().take(position).any(|earlier| earlier.id == row.id);
            invariant!(TouchOnce, !again, row.step);
        }
        Advanced { enrollment: self.enrollment, deliveries: self.decided, cancelled: self.cancelled, changed }
    }

    /// The one row of a person who is out without there ever having been one, so that everybody who enters has one.
    fn without_a_message(&self) -> Option<Delivery> {
        let Progress::Ended { exit, .. } = &self.enrollment.progress else { return None };
        if !self.rows.is_empty() || !self.decided.is_empty() || mutant("out_without_a_row") {
            return None;
        }
        let (reason, saw) = match exit {
            Exit::GoalReached => (Reason::GoalReached, "the goal holds before the first message"),
            Exit::CriteriaMet => (Reason::CriteriaMet, "`exit.when` holds before the first message"),
            Exit::ProfileGone => (Reason::SubjectMissing, "no row in the warehouse"),
            Exit::Left => (Reason::SegmentLeft, "left the segment before the first message"),
            Exit::Finished | Exit::Word(_) => (Reason::NoStep, "no `send` on the way"),
        };
        let gates = vec![GateRecord { gate: reason.gate(), reason: Some(reason), saw: saw.to_owned() }];
        let id = self.enrollment.id.clone();
        Some(entry_row(self.world, self.version, self.person, id, reason, gates, self.now))
    }

    /// Ends the enrollment if there is a reason to, wherever it is: the person is gone, the goal, the exit condition, leaving.
    pub(crate) fn ends_early(&mut self, cause: Cause) -> bool {
        let playbook = self.version.playbook();
        if self.person.profile.is_none() {
            return self.end_taking_back(Exit::ProfileGone, Reason::SubjectMissing);
        }
        if let Some(goal) = playbook.goal.as_ref().filter(|_| self.enrollment.goal_reached_at.is_none())
            && self.now <= plus(self.enrollment.entered_at, goal.within)
            && self.holds(&goal.when)
        {
            self.enrollment.goal_reached_at = Some(self.now);
            if goal.exits {
                return self.end_taking_back(Exit::GoalReached, Reason::GoalReached);
            }
        }
        if playbook.exit.when.as_ref().is_some_and(|when| self.holds(when)) {
            return self.end_taking_back(Exit::CriteriaMet, Reason::CriteriaMet);
        }
        if cause == Cause::Left && playbook.exit.on_leave {
            return self.end_taking_back(Exit::Left, Reason::SegmentLeft);
        }
        false
    }

    /// Goes on from where the enrollment stands.
    fn resume(&mut self) {
        let (step, since) = match &self.enrollment.progress {
            Progress::Waiting { step, since, .. } | Progress::Sending { step, since } => {
                (step.clone(), *since)
            }
            Progress::Ended { .. } => return,
        };
        let Some(position) = self.version.position(&step) else {
            self.end_taking_back(Exit::Word("step_gone".to_owned()), Reason::SysPlaybookStopped);
            return;
        };
        let Some(instruction) = self.version.at(position) else { return };
        let next = match &instruction.does {
            Does::Wait(wait) => self.wait(instruction, wait, since, true),
            Does::Send(_) | Does::Branch(_) | Does::Exit(_) => self.step(instruction, since),
        };
        self.follow(position, next);
    }

    /// Walks from a position until it must wait, or is out.
    pub(crate) fn walk_from(&mut self, position: usize, since: Timestamp) {
        match self.version.at(position) {
            Some(instruction) => {
                let next = self.step(instruction, since);
                self.follow(position, next);
            }
            None => self.end(Exit::Finished),
        }
    }

    fn follow(&mut self, mut position: usize, mut next: Next) {
        loop {
            match next {
                Next::Stay(progress) => self.enrollment.progress = progress,
                Next::Out(exit) => self.end(exit),
                Next::Go { to, since } => {
                    invariant!(WalkEnds, to > position, self.enrollment.id);
                    position = to;
                    if let Some(instruction) = self.version.at(to) {
                        next = self.step(instruction, since);
                        continue;
                    }
                    self.end(Exit::Finished);
                }
            }
            return;
        }
    }

    fn step(&mut self, step: &'a Instruction, since: Timestamp) -> Next {
        if let Does::Send(send) = &step.does {
            return self.send(step, send, since);
        }
        let go = Next::Go { to: step.next, since };
        if step.condition.as_ref().is_some_and(|condition| !self.holds(condition)) {
            return go;
        }
        match &step.does {
            Does::Wait(wait) => self.wait(step, wait, since, false),
            Does::Exit(word) => Next::Out(Exit::Word(word.clone())),
            Does::Branch(arms) => {
                let fits = |(condition, _): &&(Option<Condition>, usize)| {
                    condition.as_ref().is_none_or(|condition| self.holds(condition))
                };
                arms.iter().find(fits).map_or(go, |(_, begins)| Next::Go { to: *begins, since })
            }
            Does::Send(_) => go,
        }
    }

    /// A wait. `resumed`: it has begun before, so that what comes to be now did so now.
    fn wait(&mut self, step: &Instruction, wait: &Wait, since: Timestamp, resumed: bool) -> Next {
        let over = |at: Timestamp| Next::Go { to: step.next, since: at };
        let until = match wait {
            Wait::For(duration) => plus(since, *duration),
            Wait::Until { condition, at_most } => {
                if self.holds(condition) {
                    self.enrollment.outcomes.insert(step.id.clone(), StepOutcome::Met);
                    return over(if resumed { self.now } else { since });
                }
                let until = plus(since, *at_most);
                if until <= self.now {
                    self.enrollment.outcomes.insert(step.id.clone(), StepOutcome::TimedOut);
                }
                until
            }
            Wait::To { value, offset } => {
                let subject = self.subject();
                let Some(at) = subject.instant(subject.value(value)) else {
                    return over(if resumed { self.now } else { since });
                };
                plus(at, *offset)
            }
        };
        if until <= self.now {
            return over(until.max(since));
        }
        Next::Stay(Progress::Waiting { step: step.id.clone(), since, wake_at: until })
    }

    /// A send: decided once, and anew only where it was deferred and its time has come.
    fn send(&mut self, step: &Instruction, send: &Send, since: Timestamp) -> Next {
        let occurrence =
            if mutant("double_touch") { u32::try_from(self.now.as_second()).unwrap_or_default() } else { 0 };
        let id = DeliveryId::derive(self.world.project, &self.enrollment.id, &step.id, occurrence);
        let row = self.rows.iter().find(|row| row.id == id);
        if let Some(row) = row {
            if let Some(outcome) = row.state.step_outcome(row.reason) {
                self.enrollment.outcomes.insert(step.id.clone(), outcome);
                return Next::Go { to: step.next, since: self.now };
            }
            if row.state != DeliveryState::Deferred {
                return Next::Stay(Progress::Sending { step: step.id.clone(), since });
            }
            if row.due_at > self.now {
                return Next::Stay(Progress::Waiting { step: step.id.clone(), since, wake_at: row.due_at });
            }
        }
        let decided = self.decide(step, send, since, id, row);
        let (state, due_at) = (decided.state, decided.due_at);
        let outcome = state.step_outcome(decided.reason);
        let touch = Touch {
            delivery: decided.id.clone(),
            at: self.now,
            traits: decided.traits.clone(),
            state,
            content: decided.content.clone(),
        };
        if !(mutant("lost_candidate") && state == DeliveryState::Skipped) {
            self.decided.push(decided);
        }
        self.touches.push(touch);
        if let Some(outcome) = outcome {
            self.enrollment.outcomes.insert(step.id.clone(), outcome);
            // What was settled at once took no time; what had been deferred took until now.
            return Next::Go { to: step.next, since: if row.is_some() { self.now } else { since } };
        }
        if state == DeliveryState::Deferred {
            invariant!(TimeMoves, due_at > self.now, step.id);
            return Next::Stay(Progress::Waiting { step: step.id.clone(), since, wake_at: due_at });
        }
        Next::Stay(Progress::Sending { step: step.id.clone(), since })
    }

    /// The row of a send, as it is decided now.
    fn decide(
        &self,
        step: &Instruction,
        send: &Send,
        since: Timestamp,
        id: DeliveryId,
        row: Option<&Delivery>,
    ) -> Delivery {
        invariant!(DecidedOnce, row.is_none_or(|row| row.state == DeliveryState::Deferred), step.id);
        let playbook = self.version.playbook();
        let traits = self.version.traits(self.world, &send.purpose);
        let created_at = row.map_or(self.now, |row| row.created_at);
        let expires_at = row.map_or_else(|| plus(since, self.version.expires_of(send)), |row| row.expires_at);
        let case = Case {
            world: self.world,
            person: self.person,
            traits: &traits,
            destination: &send.destination,
            window: self.version.window_of(send),
            content: self.version.content(&step.id),
            own: Some(&id),
            beside: &self.touches,
            holdout: self.enrollment.holdout,
            active: true,
            expires_at,
            now: self.now,
            phase: Phase::Decide,
            local: self.person.zone(self.world),
        };
        let Decision { state, reason, due_at, gates } = match &step.condition {
            Some(condition) if !self.holds(condition) => filtered(self.now),
            Some(_) | None => decide(&case),
        };
        Delivery {
            enrollment: self.enrollment.id.clone(),
            version: self.enrollment.version.clone(),
            step: step.id.clone(),
            profile: self.person.number,
            destination: send.destination.clone(),
            template: send.template.clone(),
            content: self.version.content(&step.id).cloned(),
            priority: playbook.priority,
            state,
            reason,
            gates,
            created_at,
            decided_at: self.now,
            due_at,
            expires_at,
            traits,
            id,
        }
    }

    fn subject(&self) -> Subject<'_> {
        Subject {
            world: self.world,
            person: self.person,
            entry: Some(&self.enrollment.entry),
            outcomes: Some(&self.enrollment.outcomes),
            now: self.now,
        }
    }

    fn holds(&self, condition: &Condition) -> bool {
        holds(condition, &self.subject())
    }

    /// Ends the enrollment; what was kept from the entry is kept no longer.
    fn end(&mut self, exit: Exit) {
        self.enrollment.progress = Progress::Ended { exit, at: self.now };
        self.enrollment.entry.clear();
    }

    /// Ends it and takes back what can be taken back. Always `true`.
    fn end_taking_back(&mut self, exit: Exit, reason: Reason) -> bool {
        let recallable =
            |state| matches!(state, DeliveryState::Pending | DeliveryState::Deferred | DeliveryState::Leased);
        let rows = self.rows.iter().filter(|row| recallable(row.state));
        self.cancelled = rows.map(|row| (row.id.clone(), reason)).collect();
        self.cancelled.sort();
        self.end(exit);
        true
    }
}

/// What is decided of a send whose `if` does not hold.
fn filtered(now: Timestamp) -> Decision {
    let reason = Reason::StepFilter;
    let record = GateRecord {
        gate: Gate::Currency,
        reason: Some(reason),
        saw: "the step's `if` does not hold".to_owned(),
    };
    Decision { state: DeliveryState::Skipped, reason, due_at: now, gates: vec![record] }
}
