//! Why, or why not: one person's whole story, as it was recorded, and apart from it what the gates say now.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::consent::{ConsentEvent, Suppression};
use model::delivery::GateRecord;
use model::enrollment::Enrollment;
use model::sync::RecordOf;
use model::{EnrollmentId, PlaybookName, ProfileNumber, SegmentName, StepId};
use state::audience::Membership;
use state::delivery::{DeliveryKey, Filter, LoggedDelivery};
use state::fact::Fact;
use state::outbox::Attempt;

use crate::daemon::{Daemon, DaemonError, Surroundings};
use crate::people;
use crate::uses;

/// A row of the log with its tries.
#[derive(Debug, Clone)]
pub struct Told {
    /// The row.
    pub row: LoggedDelivery,
    /// The tries.
    pub attempts: Vec<Attempt>,
}

/// One way through a playbook.
#[derive(Debug, Clone)]
pub struct Way {
    /// The enrollment; none for a row that says why the person was not enrolled.
    pub enrollment: Option<Enrollment>,
    /// Its rows, oldest first.
    pub rows: Vec<Told>,
}

/// What the gates say of one send, if it were decided now.
#[derive(Debug, Clone)]
pub struct NowSays {
    /// Which playbook.
    pub playbook: PlaybookName,
    /// Which send.
    pub step: StepId,
    /// Every gate.
    pub gates: Vec<GateRecord>,
}

/// Whether the person is where a playbook takes people from.
#[derive(Debug, Clone)]
pub struct Entrance {
    /// Which playbook.
    pub playbook: PlaybookName,
    /// Its segment.
    pub segment: SegmentName,
    /// Whether the person is in it, by its last good run; none: it never had one.
    pub member: Option<bool>,
    /// When that run was.
    pub as_of: Option<Timestamp>,
    /// Whether the playbook has dealt with the person: those in the segment when it began, too.
    pub seen: bool,
    /// Whether the playbook ever began.
    pub active: bool,
}

/// One person's story.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// The number the log names the person by.
    pub number: ProfileNumber,
    /// The warehouse's id.
    pub id: String,
    /// Whether the warehouse still has the person.
    pub in_warehouse: bool,
    /// The ways, oldest first.
    pub ways: Vec<Way>,
    /// Where the playbooks take people from.
    pub entrances: Vec<Entrance>,
    /// The consent ledger.
    pub consents: Vec<ConsentEvent>,
    /// Suppressions of the person, and of the present address.
    pub suppressions: Vec<Suppression>,
    /// The audiences that the person is in, or is to be in.
    pub audiences: Vec<Membership>,
    /// The records that syncs keep of the person.
    pub records: Vec<state::record::Listed>,
    /// What providers and links told us.
    pub facts: Vec<Fact>,
    /// What the gates say now.
    pub now: Vec<NowSays>,
}

/// Rows shown of one person.
const ROWS_MAX: u32 = 1_000;

/// Tells a person's story; `None`: nobody of that id was ever seen.
pub async fn explain(
    daemon: &Daemon,
    id: &str,
    playbook: Option<&PlaybookName>,
    now: Timestamp,
) -> Result<Option<Explanation>, DaemonError> {
    let mut tx = daemon.state.read().await?;
    let Some(number) =
        state::profile::numbers_of(&mut tx, &[id.to_owned()]).await?.into_iter().next().flatten()
    else {
        return Ok(None);
    };
    let filter = Filter { profile: Some(number), playbook: playbook.cloned(), ..Filter::default() };
    let mut ways: BTreeMap<EnrollmentId, Way> = BTreeMap::new();
    let mut order = Vec::new();
    for row in state::enrollment::of_profile(&mut tx, number).await? {
        if playbook.is_none_or(|wanted| *wanted == row.enrollment.playbook) {
            order.push(row.enrollment.id.clone());
            ways.insert(
                row.enrollment.id.clone(),
                Way { enrollment: Some(row.enrollment), rows: Vec::new() },
            );
        }
    }
    let mut rows = state::delivery::find(&mut tx, &filter, None, ROWS_MAX).await?;
    rows.reverse();
    for row in rows {
        let attempts = state::outbox::attempts(&mut tx, &DeliveryKey::of(&row.delivery)).await?;
        let enrollment = row.delivery.enrollment.clone();
        let way = ways.entry(enrollment.clone()).or_insert_with(|| {
            order.push(enrollment);
            Way { enrollment: None, rows: Vec::new() }
        });
        way.rows.push(Told { row, attempts });
    }
    let ways = order.iter().filter_map(|id| ways.remove(id)).collect::<Vec<_>>();
    let entrances = entrances(daemon, &mut tx, number, playbook).await?;
    let consents = state::consent::history(&mut tx, number).await?;
    let facts = state::fact::of_profile(&mut tx, number, ROWS_MAX).await?;
    let surroundings = Surroundings::read(&mut tx, &daemon.project, now).await?;
    let mut versions = Vec::new();
    for name in daemon.project.playbooks.keys().filter(|name| playbook.is_none_or(|wanted| wanted == *name)) {
        let active = ways
            .iter()
            .filter_map(|way| way.enrollment.as_ref())
            .find(|one| one.playbook == *name && one.is_active());
        let pinned = match active {
            Some(enrollment) => daemon.pinned(&mut tx, name, &enrollment.version).await?,
            None => match daemon.present(&mut tx, name).await? {
                Some(present) => present,
                None => continue,
            },
        };
        versions.push((name, active, pinned));
    }
    let accounts = uses::accounts(daemon, versions.iter().map(|(_, _, pinned)| pinned.as_ref()));
    let mut view = daemon.source.view(now).await?;
    let read = people::read(daemon, &mut tx, &mut view, accounts, &[number], now).await;
    view.close().await;
    let mut people = read?;
    let crowd = people::crowd_of(&mut tx, &daemon.project.policy, &people, now).await?;
    let facts_now = people.remove(&number).unwrap_or_default();
    let mut says = Vec::new();
    let world = surroundings.world(&daemon.project);
    for (name, active, pinned) in versions {
        for (step, _) in pinned.version.playbook().sends() {
            let person = facts_now.person(number, &crowd);
            let gates = engine::gates(&world, &pinned.version, &person, active, step, now);
            says.push(NowSays { playbook: name.clone(), step: step.clone(), gates });
        }
    }
    Ok(Some(Explanation {
        number,
        id: id.to_owned(),
        in_warehouse: facts_now.profile.is_some(),
        ways,
        entrances,
        consents,
        suppressions: facts_now.suppressions,
        audiences: state::audience::of_profile(&mut tx, number).await?,
        records: state::record::of(&mut tx, &RecordOf::Profile(number)).await?,
        facts,
        now: says,
    }))
}

async fn entrances(
    daemon: &Daemon,
    tx: &mut state::Tx,
    number: ProfileNumber,
    playbook: Option<&PlaybookName>,
) -> Result<Vec<Entrance>, DaemonError> {
    let mut entrances = Vec::new();
    for found in
        daemon.project.playbooks.values().filter(|found| playbook.is_none_or(|wanted| *wanted == found.name))
    {
        let current = state::segment::current(tx, &found.enter).await?;
        let known = state::playbook::load(tx, &found.name).await?;
        entrances.push(Entrance {
            playbook: found.name.clone(),
            segment: found.enter.clone(),
            member: current.as_ref().map(|current| current.members.contains(number.0)),
            as_of: current.map(|current| current.as_of),
            seen: known.as_ref().is_some_and(|known| known.seen.contains(number.0)),
            active: known.is_some(),
        });
    }
    Ok(entrances)
}
