//! One turn of the pure depth, as the daemon turns: refresh, look, let in, hand over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine::{
    Advanced, ArmFacts, Cause, Entered, LastLook, Person, Standing, Touch, World, advance, enter, last_look,
};
use jiff::{SignedDuration, Timestamp};
use model::consent::{Consents, Suppression, SuppressionSubject};
use model::delivery::Delivery;
use model::enrollment::{Enrollment, Progress};
use model::id::AddressHash;
use model::playbook::{Action, Backfill, Playbook, Wait};
use model::profile::Profile;
use model::{
    DeliveryId, DeliveryState, EnrollmentId, MessageClass, PlaybookName, ProfileNumber, Reason, SegmentName,
};

use super::{Pure, Row, later};
use crate::audit::{Broken, Left, Log};
use crate::rules::PROJECT;

/// What is stopped is handed in again after so long.
const HELD: SignedDuration = SignedDuration::from_hours(1);
/// At one time there are at most so many turns: more would be a loop.
const TURNS_MAX: usize = 50;

/// One person's facts, as the engine sees them.
struct Facts {
    number: u32,
    id: String,
    profile: Option<Profile>,
    consents: Consents,
    suppressions: Vec<Suppression>,
    touches: Vec<Touch>,
    standings: Vec<Standing>,
}

impl Facts {
    fn person(&self) -> Person<'_> {
        Person {
            number: ProfileNumber(self.number),
            id: &self.id,
            profile: self.profile.as_ref(),
            consents: &self.consents,
            suppressions: &self.suppressions,
            touches: &self.touches,
            shared: engine::Shared::default(),
            standings: &self.standings,
        }
    }
}

impl Pure<'_> {
    /// Ticks, hands over what is due, and ticks again until nothing moves.
    pub(super) fn step(&mut self, now: Timestamp) -> Result<(), Broken> {
        for _ in 0..TURNS_MAX {
            self.tick(now);
            let left = self.pump(now);
            if self.changed.0.is_empty() && self.changed.1.is_empty() {
                break;
            }
            self.audit(&left, now)?;
        }
        Ok(())
    }

    fn audit(&mut self, left: &[Left], now: Timestamp) -> Result<(), Broken> {
        let (rows, enrollments) = std::mem::take(&mut self.changed);
        let log = Log {
            rows: rows.iter().filter_map(|id| self.rows.get(id)).map(|row| row.delivery.clone()).collect(),
            enrollments: enrollments.iter().filter_map(|id| self.enrollments.get(id)).cloned().collect(),
            ids: self.ids.clone(),
        };
        for enrollment in &log.enrollments {
            self.auditor
                .enrolled(self.ids.get(&enrollment.profile).map_or("", String::as_str), enrollment)?;
        }
        for one in left {
            self.auditor.left(one)?;
        }
        self.auditor.read(&log, now)
    }

    fn tick(&mut self, now: Timestamp) {
        let refreshed = self.refresh(now);
        let moved = std::mem::take(&mut self.moved);
        let names: Vec<PlaybookName> = self.by_priority();
        for name in names {
            if self.halts.all || self.halts.playbooks.contains(&name) {
                let own = self.active.get(&name).into_iter().flatten();
                let waiting: Vec<EnrollmentId> = own.filter(|id| moved.contains(*id)).cloned().collect();
                self.moved.extend(waiting);
                continue;
            }
            let due = |enrollment: &Enrollment| match &enrollment.progress {
                Progress::Waiting { wake_at, .. } => *wake_at <= now,
                Progress::Sending { .. } | Progress::Ended { .. } => false,
            };
            let everybody = refreshed && self.books.get(&name).is_some_and(|book| watches(&book.playbook));
            let looked: Vec<EnrollmentId> = self
                .active
                .get(&name)
                .into_iter()
                .flatten()
                .filter(|id| everybody || moved.contains(*id) || self.enrollments.get(*id).is_some_and(due))
                .cloned()
                .collect();
            for id in looked {
                self.advance(&id, Cause::Look, now);
            }
            self.let_in(&name, now);
        }
    }

    /// Reads the segments that are due, and the words of consent with them.
    fn refresh(&mut self, now: Timestamp) -> bool {
        self.members.now = now;
        let due: Vec<SegmentName> = self
            .rules
            .segments
            .iter()
            .filter(|(name, every)| self.refreshed.get(*name).is_none_or(|last| later(*last, **every) <= now))
            .map(|(name, _)| name.clone())
            .collect();
        if due.is_empty() {
            // Who was stopped when the segments were read is let in when that is over.
            self.auditor.looked_again();
            return false;
        }
        for (human, word, at) in std::mem::take(&mut self.unread) {
            self.record(&human, &word, at, now);
        }
        self.auditor.warehouse_was_read();
        for name in due {
            let inside: BTreeSet<u32> = self
                .truth
                .get(&name)
                .into_iter()
                .flatten()
                .filter_map(|human| self.numbers.get(human))
                .copied()
                .collect();
            let members = self.members.since.entry(name.clone()).or_default();
            members.retain(|number, _| inside.contains(number));
            for number in inside {
                members.entry(number).or_insert(now);
            }
            self.refreshed.insert(name, now);
        }
        self.auditor.looked(self.memberships(), true);
        true
    }

    fn memberships(&self) -> BTreeMap<SegmentName, BTreeSet<String>> {
        let id = |number: &u32| self.ids.get(&ProfileNumber(*number)).cloned();
        let named = |members: &BTreeMap<u32, Timestamp>| members.keys().filter_map(id).collect();
        self.members.since.iter().map(|(segment, members)| (segment.clone(), named(members))).collect()
    }

    fn by_priority(&self) -> Vec<PlaybookName> {
        self.rules.by_priority().into_iter().map(|playbook| playbook.name.clone()).collect()
    }

    fn let_in(&mut self, name: &PlaybookName, now: Timestamp) {
        let Some(book) = self.books.get_mut(name) else { return };
        let segment = book.playbook.enter.clone();
        let members: BTreeSet<u32> =
            self.members.since.get(&segment).into_iter().flatten().map(|(number, _)| *number).collect();
        if !book.activated {
            book.activated = true;
            if book.playbook.backfill == Backfill::None {
                book.seen.clone_from(&members);
            }
        }
        let entered: Vec<u32> = members.difference(&book.seen).copied().collect();
        let left: Vec<u32> = book.seen.difference(&members).copied().collect();
        let (version, on_leave) = (book.playbook.version.clone(), book.playbook.exit.on_leave);
        book.seen = members;
        for number in left.into_iter().filter(|_| on_leave) {
            let latest = self.kept.get(&number).and_then(|kept| kept.latest.get(name)).cloned();
            if let Some(id) =
                latest.filter(|id| self.active.get(name).is_some_and(|active| active.contains(id)))
            {
                self.advance(&id, Cause::Left, now);
            }
        }
        for number in entered {
            let facts = self.facts(number);
            let Some(version) = self.versions.get(&version) else { continue };
            // A run of a segment is known by its time.
            let trigger = format!("{segment} {now}");
            match enter(&self.world(), version, &facts.person(), &trigger, BTreeMap::new(), now) {
                Entered::Enrolled(advanced) => self.keep(advanced, now),
                Entered::Refused(row) => self.keep_row(row, now),
            }
        }
    }

    fn advance(&mut self, id: &EnrollmentId, cause: Cause, now: Timestamp) {
        let Some(enrollment) = self.enrollments.get(id).cloned() else { return };
        let facts = self.facts(enrollment.profile.0);
        let own: Vec<Delivery> = self
            .kept
            .get(&facts.number)
            .into_iter()
            .flat_map(|kept| &kept.rows)
            .filter_map(|row| self.rows.get(row))
            .filter(|row| row.delivery.enrollment == *id)
            .map(|row| row.delivery.clone())
            .collect();
        let Some(version) = self.versions.get(&enrollment.version) else { return };
        let advanced = advance(&self.world(), version, &facts.person(), enrollment, &own, cause, now);
        if advanced.changed || !advanced.deliveries.is_empty() || !advanced.cancelled.is_empty() {
            self.keep(advanced, now);
        }
    }

    fn world(&self) -> World<'_> {
        World {
            project: PROJECT,
            zone: &self.rules.zone,
            policy: &self.rules.policy,
            memberships: &self.members,
            halts: &self.halts,
        }
    }

    fn keep(&mut self, advanced: Advanced, now: Timestamp) {
        let Advanced { enrollment, deliveries, cancelled, .. } = advanced;
        for row in deliveries {
            self.keep_row(row, now);
        }
        for (id, reason) in cancelled {
            self.settle(&id, DeliveryState::Cancelled, reason, now);
        }
        let id = enrollment.id.clone();
        self.moved.remove(&id);
        let active = self.active.entry(enrollment.playbook.clone()).or_default();
        if enrollment.is_active() {
            active.insert(id.clone());
        } else {
            active.remove(&id);
        }
        let kept = self.kept.entry(enrollment.profile.0).or_default();
        kept.latest.insert(enrollment.playbook.clone(), id.clone());
        self.changed.1.insert(id.clone());
        self.enrollments.insert(id, enrollment);
    }

    fn keep_row(&mut self, row: Delivery, now: Timestamp) {
        let id = row.id.clone();
        self.trace.note(now, tell(self.ids.get(&row.profile).map_or("", String::as_str), &row));
        if row.state == DeliveryState::Pending {
            self.pending.insert(id.clone());
        }
        self.changed.0.insert(id.clone());
        let settled_at = row.state.is_settled().then_some(now);
        let kept = self.kept.entry(row.profile.0).or_default();
        if self.rows.insert(id.clone(), Row { delivery: row, settled_at }).is_none() {
            kept.rows.push(id);
        }
    }

    fn settle(&mut self, id: &DeliveryId, state: DeliveryState, reason: Reason, now: Timestamp) {
        let Some(row) = self.rows.get_mut(id) else { return };
        (row.delivery.state, row.delivery.reason, row.settled_at) = (state, reason, Some(now));
        self.pending.remove(id);
        self.changed.0.insert(id.clone());
        self.moved.insert(row.delivery.enrollment.clone());
        let told = tell(self.ids.get(&row.delivery.profile).map_or("", String::as_str), &row.delivery);
        self.trace.note(now, told);
    }

    fn facts(&self, number: u32) -> Facts {
        let id = self.ids.get(&ProfileNumber(number)).cloned().unwrap_or_default();
        let attributes = self.warehouse.get(&id).cloned();
        let profile = attributes.map(|attributes| Profile {
            number: ProfileNumber(number),
            id: id.clone(),
            attributes,
            account: Arc::default(),
        });
        let none = super::Kept::default();
        let kept = self.kept.get(&number).unwrap_or(&none);
        let consents = kept
            .consents
            .iter()
            .map(|((channel, purpose), state)| (*channel, purpose.clone(), state.clone()));
        let address = self.address(&id).map(AddressHash::known);
        let concerns = |one: &&Suppression| match &one.subject {
            SuppressionSubject::Profile(_) => true,
            SuppressionSubject::Address(hash) => Some(hash) == address.as_ref(),
        };
        let counts = |row: &&Row| row.delivery.state.counts_when_deciding();
        let touches = kept.rows.iter().filter_map(|row| self.rows.get(row)).filter(counts).map(|row| Touch {
            delivery: row.delivery.id.clone(),
            at: row.settled_at.unwrap_or(row.delivery.due_at),
            traits: row.delivery.traits.clone(),
            state: row.delivery.state,
            content: row.delivery.content.clone(),
        });
        let standings = kept.latest.values().filter_map(|id| self.enrollments.get(id)).map(standing);
        Facts {
            number,
            profile,
            consents: Consents { states: consents.collect() },
            suppressions: kept.suppressions.iter().filter(concerns).cloned().collect(),
            touches: touches.collect(),
            standings: standings.collect(),
            id,
        }
    }

    /// Hands over what is due, unless the last look says no.
    fn pump(&mut self, now: Timestamp) -> Vec<Left> {
        let mut due: Vec<(bool, u8, Timestamp, String, DeliveryId)> = self
            .pending
            .iter()
            .filter_map(|id| self.rows.get(id))
            .filter(|row| self.goes_at(row) <= now)
            .map(|row| &row.delivery)
            .map(|row| {
                let whose = self.ids.get(&row.profile).cloned().unwrap_or_default();
                let later = row.traits.class != MessageClass::Transactional;
                (later, u8::MAX - row.priority, row.due_at, format!("{whose} {}", row.step), row.id.clone())
            })
            .collect();
        due.sort();
        let mut left = Vec::new();
        for (_, _, _, _, id) in due {
            let Some(row) = self.rows.get(&id).map(|row| row.delivery.clone()) else { continue };
            let facts = self.facts(row.profile.0);
            let enrollment = self.enrollments.get(&row.enrollment);
            let version = self.versions.get(&row.version);
            let arm_facts = ArmFacts {
                enrollment_active: enrollment.is_some_and(Enrollment::is_active),
                profile: facts.profile.as_ref(),
                consents: &facts.consents,
                suppressions: &facts.suppressions,
                touches: &facts.touches,
                shared: engine::Shared::default(),
                standings: &facts.standings,
                window: version.and_then(|version| version.window(&row.step)),
            };
            match last_look(&self.world(), &row, &arm_facts, now) {
                LastLook::Arm => left.extend(self.hand_over(&row, &facts.id, now)),
                LastLook::Refuse { state, refusal } => {
                    self.keep_gate(&id, &refusal);
                    self.settle(&id, state, refusal.reason, now);
                }
                LastLook::Defer { wake_at, refusal } => {
                    self.keep_gate(&id, &refusal);
                    self.defer(&id, wake_at, refusal.reason, now);
                }
                LastLook::Hold { .. } => drop(self.held.insert(id, later(now, HELD))),
            }
        }
        left
    }

    fn keep_gate(&mut self, id: &DeliveryId, refusal: &model::Refusal) {
        if let Some(row) = self.rows.get_mut(id) {
            let (gate, reason, saw) = (refusal.reason.gate(), Some(refusal.reason), refusal.saw.clone());
            row.delivery.gates = vec![model::delivery::GateRecord { gate, reason, saw }];
        }
    }

    /// Back to be decided anew: the enrollment wakes with it.
    fn defer(&mut self, id: &DeliveryId, wake_at: Timestamp, reason: Reason, now: Timestamp) {
        let Some(row) = self.rows.get_mut(id) else { return };
        (row.delivery.state, row.delivery.reason, row.delivery.due_at) =
            (DeliveryState::Deferred, reason, wake_at);
        self.pending.remove(id);
        self.changed.0.insert(id.clone());
        let step = row.delivery.step.clone();
        if let Some(enrollment) = self.enrollments.get_mut(&row.delivery.enrollment)
            && let Progress::Sending { since, .. } = enrollment.progress
        {
            enrollment.progress = Progress::Waiting { step, since, wake_at };
        }
        self.trace.note(now, format!("deferred at the last look: {reason} until {wake_at}"));
    }

    /// The provider takes it, does not know the address, or never answers.
    fn hand_over(&mut self, row: &Delivery, human: &str, now: Timestamp) -> Option<Left> {
        let address = self.address(human)?;
        if self.dice.of("bounces").of(&address).chance(self.options.bounces) {
            self.settle(&row.id, DeliveryState::Rejected, Reason::FailSmtpRecipient, now);
            self.auditor.bounced(&address);
            let suppression = Suppression {
                subject: SuppressionSubject::Address(AddressHash::known(address)),
                channel: None,
                reason: Reason::HardBounce,
                since: now,
                source: "provider".to_owned(),
                spares_transactional: false,
            };
            self.kept.entry(row.profile.0).or_default().suppressions.push(suppression);
            return None;
        }
        let doubt = self.dice.of("doubts").of(human).of(row.step.as_str()).of(&now.to_string());
        if doubt.chance(self.options.doubts) {
            self.settle(&row.id, DeliveryState::InDoubt, Reason::OutcomeUnknown, now);
        } else {
            self.settle(&row.id, DeliveryState::Accepted, Reason::OkAccepted, now);
        }
        self.left += 1;
        Some(Left {
            at: now,
            delivery: row.id.clone(),
            enrollment: row.enrollment.clone(),
            human: human.to_owned(),
            playbook: row.traits.playbook.clone(),
            step: row.step.clone(),
            address,
            kept: true,
        })
    }
}

fn standing(enrollment: &Enrollment) -> Standing {
    Standing {
        playbook: enrollment.playbook.clone(),
        active: enrollment.is_active(),
        reached_goal: enrollment.goal_reached_at.is_some(),
        ended_at: match &enrollment.progress {
            Progress::Ended { at, .. } => Some(*at),
            Progress::Waiting { .. } | Progress::Sending { .. } => None,
        },
    }
}

/// Whether anything about those under way could change without their time having come.
fn watches(playbook: &Playbook) -> bool {
    let mut until = false;
    playbook.walk(&mut |step| until |= matches!(&step.action, Action::Wait(Wait::Until { .. })));
    until || playbook.exit.when.is_some() || playbook.goal.is_some()
}

fn tell(human: &str, row: &Delivery) -> String {
    format!(
        "{human} {} {}: {} ({}) due {}",
        row.traits.playbook,
        row.step,
        row.state.as_str(),
        row.reason,
        row.due_at
    )
}
