//! Entering a playbook: who may, and in which holdout they are for good.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::delivery::{Delivery, GateRecord};
use model::enrollment::{Enrollment, HoldoutKind, Progress};
use model::id::bucket;
use model::playbook::{Playbook, Reenter};
use model::reason::ReasonClass;
use model::{
    DeliveryId, DeliveryState, DestinationName, EnrollmentId, Gate, Reason, StepId, TemplateName, Value,
};

use crate::condition::{Subject, holds};
use crate::time::plus;
use crate::version::Version;
use crate::walk::{Advanced, Cause, Walk};
use crate::world::{Person, World};

/// What became of a person whom a segment let in.
#[derive(Debug, Clone, PartialEq)]
pub enum Entered {
    /// Under way, or through already.
    Enrolled(Advanced),
    /// Not let in: the one row that says why, at the pseudo-step [`StepId::entry`].
    Refused(Delivery),
}

/// Lets a person into a playbook, or says why not, and walks the first steps.
///
/// `trigger` is what let the person in, such as the id of a segment's run; `entry` are the columns that were so then.
pub fn enter(
    world: &World<'_>,
    version: &Version,
    person: &Person<'_>,
    trigger: &str,
    entry: BTreeMap<String, Value>,
    now: Timestamp,
) -> Entered {
    let playbook = version.playbook();
    let id = EnrollmentId::derive(world.project, &playbook.name, person.number, trigger);
    let gates = may_enter(world, playbook, person, &entry, now);
    if let Some(reason) = gates.iter().find_map(|record| record.reason) {
        return Entered::Refused(entry_row(world, version, person, id, reason, gates, now));
    }
    let enrollment = Enrollment {
        id,
        playbook: playbook.name.clone(),
        version: playbook.version.clone(),
        profile: person.number,
        trigger: trigger.to_owned(),
        entered_at: now,
        holdout: draw_holdout(world, playbook, person.id, now),
        progress: Progress::Sending { step: StepId::entry(), since: now },
        goal_reached_at: None,
        outcomes: BTreeMap::new(),
        entry,
    };
    let mut walk = Walk::new(world, version, person, enrollment, &[], now);
    if !walk.ends_early(Cause::Look) {
        walk.walk_from(0, now);
    }
    Entered::Enrolled(walk.done(true))
}

/// In which holdout a person would be who enters now: the global one, or else the playbook's.
pub(crate) fn draw_holdout(
    world: &World<'_>,
    playbook: &Playbook,
    id: &str,
    now: Timestamp,
) -> Option<HoldoutKind> {
    if is_held_out(world, id, now) {
        return Some(HoldoutKind::Global);
    }
    let own = playbook.holdout.as_ref()?;
    own.share.holds(bucket(&[&own.salt, id])).then_some(HoldoutKind::Playbook)
}

/// Whether a person is in the global holdout at a time.
pub(crate) fn is_held_out(world: &World<'_>, id: &str, now: Timestamp) -> bool {
    let Some(global) = &world.policy.holdout else { return false };
    let salt = match global.rotate.map(|rotate| rotate.as_secs()).filter(|seconds| *seconds > 0) {
        Some(seconds) => format!("{}@{}", global.salt, now.as_second().div_euclid(seconds)),
        None => global.salt.clone(),
    };
    global.share.holds(bucket(&[&salt, id]))
}

/// What is asked of who enters, in order; the first that fails decides.
fn may_enter(
    world: &World<'_>,
    playbook: &Playbook,
    person: &Person<'_>,
    entry: &BTreeMap<String, Value>,
    now: Timestamp,
) -> Vec<GateRecord> {
    let record = |gate, reason, saw: &str| GateRecord { gate, reason, saw: saw.to_owned() };
    let identity = match person.profile {
        Some(_) => record(Gate::Identity, None, "has a row in the warehouse"),
        None => record(Gate::Identity, Some(Reason::SubjectMissing), "no row in the warehouse"),
    };
    let (again, saw) = may_enter_again(playbook, person, now);
    let again = GateRecord { gate: Gate::Currency, reason: again, saw };
    let subject = Subject { world, person, entry: Some(entry), outcomes: None, now };
    let filter = match playbook.filter.as_ref().map(|filter| holds(filter, &subject)) {
        None => record(Gate::Currency, None, "no `where`"),
        Some(true) => record(Gate::Currency, None, "`where` holds"),
        Some(false) => record(Gate::Currency, Some(Reason::EntryFilter), "`where` does not hold"),
    };
    vec![identity, again, filter]
}

fn may_enter_again(playbook: &Playbook, person: &Person<'_>, now: Timestamp) -> (Option<Reason>, String) {
    let Some(standing) = person.standing(&playbook.name) else { return (None, "never enrolled".to_owned()) };
    if standing.active {
        return (Some(Reason::EntryActive), "is under way".to_owned());
    }
    let ended = standing.ended_at.map_or_else(|| "ended".to_owned(), |at| format!("ended {at}"));
    let again_at = standing.ended_at.unwrap_or(Timestamp::MIN);
    match playbook.reenter {
        Reenter::Always => (None, ended),
        Reenter::Never => (Some(Reason::EntryNotAgain), format!("{ended}; never again")),
        Reenter::After(pause) if plus(again_at, pause) > now => {
            (Some(Reason::EntryNotAgain), format!("{ended}; again from {}", plus(again_at, pause)))
        }
        Reenter::After(_) => (None, ended),
    }
}

/// The row of a person who was not let in, or who was out again before there was anything to send. It has the traits of
/// the message they would have got first.
pub(crate) fn entry_row(
    world: &World<'_>,
    version: &Version,
    person: &Person<'_>,
    enrollment: EnrollmentId,
    reason: Reason,
    gates: Vec<GateRecord>,
    now: Timestamp,
) -> Delivery {
    let playbook = version.playbook();
    let first = playbook.sends().first().map(|(_, send)| *send);
    Delivery {
        id: DeliveryId::derive(world.project, &enrollment, &StepId::entry(), 0),
        enrollment,
        version: playbook.version.clone(),
        step: StepId::entry(),
        profile: person.number,
        traits: version.traits(world, first.map_or(&playbook.purpose, |send| &send.purpose)),
        destination: first.map_or_else(|| DestinationName::known("none"), |send| send.destination.clone()),
        template: first.map_or_else(|| TemplateName::known("none"), |send| send.template.clone()),
        content: None,
        priority: playbook.priority,
        state: match reason.class() {
            ReasonClass::Cancel => DeliveryState::Cancelled,
            _ => DeliveryState::Skipped,
        },
        reason,
        gates,
        created_at: now,
        decided_at: now,
        due_at: now,
        expires_at: plus(now, playbook.expires),
    }
}
