//! The auditor reads the log: reasons, what was settled, who is accounted for, what has not ended.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use model::delivery::Delivery;
use model::enrollment::{Enrollment, Exit, Progress};
use model::playbook::{Action, Backfill, Playbook};
use model::reason::ReasonClass;
use model::{DeliveryState, EnrollmentId, PlaybookName, ProfileNumber, Reason, StepId};

use super::{Auditor, Broken, Look, Promise, stops};
use crate::script::Stop;

/// All there is to read: rows, enrollments, and whose number is whose id.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// Every row.
    pub rows: Vec<Delivery>,
    /// Every enrollment.
    pub enrollments: Vec<Enrollment>,
    /// The warehouse's ids.
    pub ids: BTreeMap<ProfileNumber, String>,
}

impl Log {
    fn id(&self, number: ProfileNumber) -> &str {
        self.ids.get(&number).map_or("", String::as_str)
    }

    /// The log as lines that hang on nothing but what was decided of whom: no number and no derived id.
    pub fn lines(&self) -> Vec<String> {
        let entered: BTreeMap<&EnrollmentId, Timestamp> =
            self.enrollments.iter().map(|enrollment| (&enrollment.id, enrollment.entered_at)).collect();
        let row = |row: &Delivery| {
            let gates: Vec<String> = row
                .gates
                .iter()
                .map(|record| {
                    format!(
                        "{}={}/{}",
                        record.gate.as_str(),
                        record.reason.map_or("", Reason::as_str),
                        record.saw
                    )
                })
                .collect();
            let since = entered.get(&row.enrollment).copied().unwrap_or(row.created_at);
            format!(
                "{} {} {since} {} {} {} {} {} {} [{}]",
                self.id(row.profile),
                row.traits.playbook,
                row.step,
                row.state.as_str(),
                row.reason,
                row.decided_at,
                row.due_at,
                row.expires_at,
                gates.join("; ")
            )
        };
        let enrollment = |one: &Enrollment| {
            format!(
                "{} {} {} {:?} {:?}",
                self.id(one.profile),
                one.playbook,
                one.entered_at,
                one.holdout,
                one.progress
            )
        };
        let mut lines: Vec<String> =
            self.rows.iter().map(row).chain(self.enrollments.iter().map(enrollment)).collect();
        lines.sort();
        lines
    }
}

impl Log {
    /// Where every row is, by person, playbook, entry and step.
    pub fn states(&self) -> BTreeMap<String, DeliveryState> {
        let entered: BTreeMap<&EnrollmentId, Timestamp> =
            self.enrollments.iter().map(|enrollment| (&enrollment.id, enrollment.entered_at)).collect();
        let key = |row: &Delivery| {
            let since = entered.get(&row.enrollment).copied().unwrap_or(row.created_at);
            format!("{} {} {since} {}", self.id(row.profile), row.traits.playbook, row.step)
        };
        self.rows.iter().map(|row| (key(row), row.state)).collect()
    }
}

impl Auditor<'_> {
    /// Reads the log after something happened: all of it, or what changed.
    pub fn read(&mut self, log: &Log, at: Timestamp) -> Result<(), Broken> {
        for enrollment in &log.enrollments {
            self.enrolled(log.id(enrollment.profile), enrollment)?;
        }
        let mut withheld: Vec<&Delivery> = Vec::new();
        for row in &log.rows {
            let whose = log.id(row.profile);
            let broken =
                |promise, saw: String| Broken { promise, at, saw: format!("{whose} at {}: {saw}", row.step) };
            let touch = (row.enrollment.clone(), row.step.clone());
            if *self.rows.entry(touch).or_insert_with(|| row.id.clone()) != row.id {
                return Err(broken(Promise::TouchOnce, "two rows for one step".to_owned()));
            }
            if let Some(saw) = unreasonable(row) {
                return Err(broken(Promise::ReasonGiven, saw));
            }
            if let Some(saw) = self.moved(row) {
                return Err(broken(Promise::SettledStays, saw));
            }
            if row.state == DeliveryState::Withheld {
                withheld.push(row);
            }
        }
        withheld.sort_by_key(|row| (row.decided_at, row.created_at));
        withheld.into_iter().try_for_each(|row| self.was_withheld(log.id(row.profile), row))
    }

    /// How a settled row changed, or contradicts the provider.
    fn moved(&mut self, row: &Delivery) -> Option<String> {
        let now = (row.state, row.reason);
        if self.kept.contains(&row.id) {
            let told =
                matches!(row.state, DeliveryState::Armed | DeliveryState::Accepted | DeliveryState::InDoubt);
            if !told {
                return Some(format!("the provider has it, and it is {}", row.state.as_str()));
            }
        } else if now == (DeliveryState::Accepted, Reason::OkAccepted) {
            return Some("accepted, and the provider does not have it".to_owned());
        }
        if !row.state.is_settled() || row.state == DeliveryState::InDoubt {
            return self.settled.get(&row.id).map(|before| format!("was {before:?}, is {now:?}"));
        }
        let before = self.settled.entry(row.id.clone()).or_insert(now);
        (*before != now).then(|| format!("was {before:?}, is {now:?}"))
    }

    /// Accounts for everybody who was let in, at every step reached.
    pub fn conserved(&self, log: &Log, at: Timestamp) -> Result<(), Broken> {
        let broken = |saw: String| Err(Broken { promise: Promise::Conservation, at, saw });
        let mut let_in: BTreeMap<(&PlaybookName, &str), u64> = BTreeMap::new();
        let mut begun: BTreeSet<&EnrollmentId> = BTreeSet::new();
        for enrollment in &log.enrollments {
            *let_in.entry((&enrollment.playbook, log.id(enrollment.profile))).or_default() += 1;
            begun.insert(&enrollment.id);
        }
        for row in log.rows.iter().filter(|row| row.step == StepId::entry()) {
            let whose = log.id(row.profile);
            if begun.contains(&row.enrollment) {
                // Out again without a message; whether that is so is seen below.
                continue;
            }
            *let_in.entry((&row.traits.playbook, whose)).or_default() += 1;
        }
        for playbook in self.rules.playbooks.values() {
            for human in self.people.keys() {
                let many = let_in.get(&(&playbook.name, human.as_str())).copied().unwrap_or(0);
                let (least, most) = self.expected(playbook, human);
                if many < least || most < many {
                    let saw = format!(
                        "{human} has {many} rows of entering {}, {least} to {most} by hand",
                        playbook.name
                    );
                    return broken(saw);
                }
            }
        }
        let mut rows: BTreeMap<&EnrollmentId, BTreeSet<&StepId>> = BTreeMap::new();
        for row in &log.rows {
            rows.entry(&row.enrollment).or_default().insert(&row.step);
        }
        for enrollment in &log.enrollments {
            let own = rows.remove(&enrollment.id).unwrap_or_default();
            let (entry, whose) = (own.contains(&StepId::entry()), log.id(enrollment.profile));
            if entry && (enrollment.is_active() || own.len() > 1) {
                return broken(format!("{whose} was let into {} and refused at once", enrollment.playbook));
            }
            if own.is_empty() && !enrollment.is_active() {
                return broken(format!("{whose} is out of {} and has no row", enrollment.playbook));
            }
            if let Some(step) = self.missing(enrollment, &own) {
                return broken(format!(
                    "{} in {} has no row at {step}",
                    log.id(enrollment.profile),
                    enrollment.playbook
                ));
            }
        }
        Ok(())
    }

    /// How often a person is let in, at least and at most: each time the person is in the segment, and was not when it was last
    /// looked at. A pass that may not have gone to its end may or may not have seen what it saw.
    fn expected(&self, playbook: &Playbook, human: &str) -> (u64, u64) {
        let counted = |looks: &mut dyn Iterator<Item = &Look>| {
            let (mut seen, mut many, mut first) = (false, 0, true);
            for look in looks {
                let stopped =
                    look.stops.iter().any(|stop| *stop != Stop::Destination && stops(stop, &playbook.name));
                let Some(members) = look.members.get(&playbook.enter) else { continue };
                // A playbook is activated by the first pass that sees it, unless all playbooks stand still.
                if stopped {
                    continue;
                }
                let inside = members.contains(human);
                let dealt_with = first && playbook.backfill == Backfill::None;
                many += u64::from(inside && !seen && !dealt_with);
                (seen, first) = (inside, false);
            }
            many
        };
        let all = counted(&mut self.looks.iter());
        let whole = counted(&mut self.looks.iter().filter(|look| look.whole));
        (all.min(whole), all.max(whole))
    }

    /// A send that an enrollment has reached, and that has no row.
    fn missing(&self, enrollment: &Enrollment, own: &BTreeSet<&StepId>) -> Option<StepId> {
        let playbook = self.rules.playbooks.get(&enrollment.playbook)?;
        let sends: BTreeSet<&StepId> = playbook.sends().into_iter().map(|(step, _)| step).collect();
        let known = enrollment.outcomes.keys().filter(|step| sends.contains(step));
        let here = match &enrollment.progress {
            Progress::Sending { step, .. } => Some(step),
            Progress::Waiting { step, .. } if sends.contains(step) => Some(step),
            Progress::Waiting { .. } | Progress::Ended { .. } => None,
        };
        let finished = enrollment.progress.clone();
        let finished = matches!(finished, Progress::Ended { exit: Exit::Finished, .. });
        // Who is through has passed everything that is not inside a branch.
        let passed = playbook.steps.iter().filter(|step| finished && matches!(step.action, Action::Send(_)));
        let mut reached = known.chain(here).chain(passed.map(|step| &step.id));
        reached.find(|step| !own.contains(step)).cloned()
    }

    /// Every row has ended, or has still time to.
    pub fn drained(&self, log: &Log, at: Timestamp) -> Result<(), Broken> {
        let late = log.rows.iter().find(|row| !row.state.is_settled() && row.expires_at < at);
        match late {
            None => Ok(()),
            Some(row) => {
                let whose = log.enrollments.iter().find(|enrollment| enrollment.id == row.enrollment);
                let saw = format!(
                    "{} at {} is {} ({}) since {}, and expired {}; the enrollment: {:?}",
                    log.id(row.profile),
                    row.step,
                    row.state.as_str(),
                    row.reason,
                    row.decided_at,
                    row.expires_at,
                    whose.map(|enrollment| &enrollment.progress)
                );
                Err(Broken { promise: Promise::OutboxDrains, at, saw })
            }
        }
    }
}

/// What is wrong with a row's reason.
fn unreasonable(row: &Delivery) -> Option<String> {
    let class = row.reason.class();
    let fits = match row.state {
        DeliveryState::Pending | DeliveryState::Leased | DeliveryState::Armed => {
            matches!(class, ReasonClass::Defer | ReasonClass::Fail | ReasonClass::Hold)
        }
        DeliveryState::Deferred => matches!(class, ReasonClass::Defer | ReasonClass::Hold),
        DeliveryState::Accepted => class == ReasonClass::Accepted,
        DeliveryState::Rejected => matches!(class, ReasonClass::Fail | ReasonClass::Cancel),
        DeliveryState::InDoubt => row.reason == Reason::OutcomeUnknown,
        DeliveryState::Withheld => class == ReasonClass::Control,
        DeliveryState::Suppressed => class == ReasonClass::Suppress,
        DeliveryState::Skipped => class == ReasonClass::Skip,
        DeliveryState::Expired => row.reason == Reason::StepExpired,
        DeliveryState::Cancelled => matches!(class, ReasonClass::Cancel | ReasonClass::Skip),
    };
    if !fits {
        return Some(format!("{} for {}", row.state.as_str(), row.reason));
    }
    let said_by_a_gate = matches!(
        row.state,
        DeliveryState::Deferred
            | DeliveryState::Suppressed
            | DeliveryState::Skipped
            | DeliveryState::Withheld
    );
    let says = row.gates.iter().any(|record| record.reason == Some(row.reason));
    (said_by_a_gate && !says).then(|| format!("no gate says {}", row.reason))
}
