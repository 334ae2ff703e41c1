//! DECIDE and COMMIT, for those under way: what has become due, and whose goal or exit condition has come to be so.
//!
//! A page is read, decided by the pure engine, and committed in one transaction: enrollments, deliveries and audit entries together.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::{Advanced, Cause};
use jiff::Timestamp;
use model::delivery::Delivery;
use model::enrollment::{Enrollment, Progress};
use model::playbook::Playbook;
use model::policy::Policy;
use model::{EnrollmentId, PlaybookName, ProfileNumber, Reason};
use serde_json::json;
use state::Tx;
use state::audit::Entry;
use state::delivery::DeliveryKey;
use state::enrollment::Row;
use state::shared::Shared;

use crate::daemon::{Daemon, DaemonError, Pinned, Surroundings};
use crate::people::{self, Crowd};
use crate::report::Ticked;
use crate::source::{PAGE_LIMIT, PAGE_ROWS, View};
use crate::uses;

/// What a page decided, to be committed as one.
#[derive(Debug, Default)]
pub struct Page {
    /// New enrollments, and those that moved.
    pub enrollments: Vec<Enrollment>,
    /// New rows, and deferred ones decided anew.
    pub deliveries: Vec<Delivery>,
    /// Rows taken back.
    pub cancelled: Vec<(DeliveryKey, Reason)>,
    /// What of it counts for accounts and addresses.
    pub shared: Vec<Shared>,
}

impl Page {
    /// Adds what the engine decided for one enrollment.
    pub fn add(&mut self, advanced: Advanced) {
        self.deliveries.extend(advanced.deliveries);
        let profile = advanced.enrollment.profile;
        self.cancelled
            .extend(advanced.cancelled.into_iter().map(|(id, reason)| (DeliveryKey { profile, id }, reason)));
        if advanced.changed {
            self.enrollments.push(advanced.enrollment);
        }
    }

    /// Lets the next ones of this page see what was decided last, from the delivery at `from` on, where they share something.
    pub fn count_shared(&mut self, policy: &Policy, facts: &people::Facts, crowd: &mut Crowd, from: usize) {
        let units = people::units(policy, facts.account.as_ref(), facts.address.as_ref());
        if units.is_empty() {
            return;
        }
        let decided = self.deliveries.iter().skip(from);
        for delivery in decided.filter(|delivery| delivery.state.counts_when_deciding()) {
            let touch = engine::Touch {
                delivery: delivery.id.clone(),
                at: delivery.due_at,
                traits: delivery.traits.clone(),
                state: delivery.state,
                content: delivery.content.clone(),
            };
            crowd.count(&units, &touch);
            self.shared.extend(units.iter().map(|unit| Shared {
                unit: unit.clone(),
                delivery: DeliveryKey::of(delivery),
                at: delivery.due_at,
            }));
        }
    }

    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.enrollments.is_empty() && self.deliveries.is_empty() && self.cancelled.is_empty()
    }

    /// Writes it, with its audit entries.
    pub async fn write(&self, daemon: &Daemon, tx: &mut Tx, now: Timestamp) -> Result<(), DaemonError> {
        let rows: Vec<(Enrollment, Option<Vec<u8>>)> = self
            .enrollments
            .iter()
            .map(|enrollment| {
                // An entry is kept until the enrollment ends, and no longer.
                let keep = enrollment.is_active() && !enrollment.entry.is_empty();
                let entry = keep.then(|| crate::entry::seal(&daemon.keys, &enrollment.entry)).transpose()?;
                Ok((enrollment.clone(), entry))
            })
            .collect::<Result<_, DaemonError>>()?;
        state::enrollment::put(tx, &rows).await?;
        state::delivery::decide(tx, &self.deliveries, now).await?;
        state::delivery::cancel(tx, &self.cancelled, now).await?;
        state::shared::keep(tx, &self.shared);
        state::audit::append(tx, &self.entries(now));
        Ok(())
    }

    fn entries(&self, now: Timestamp) -> Vec<Entry> {
        let decisions = self.deliveries.iter().map(|delivery| {
            let also: Vec<&str> = delivery
                .gates
                .iter()
                .filter_map(|record| record.reason)
                .filter(|reason| *reason != delivery.reason)
                .map(Reason::as_str)
                .collect();
            let mut body = json!({
                "delivery": delivery.id.as_str(), "profile": delivery.profile.0, "playbook": delivery.traits.playbook.as_str(),
                "version": delivery.version, "step": delivery.step.as_str(), "state": delivery.state.as_str(),
                "reason": delivery.reason.as_str(),
            });
            if let (false, Some(object)) = (also.is_empty(), body.as_object_mut()) {
                object.insert("also".to_owned(), json!(also));
            }
            Entry { kind: "decision", at: now, body }
        });
        let cancelled = self.cancelled.iter().map(|(delivery, reason)| Entry {
            kind: "cancelled",
            at: now,
            body: json!({ "delivery": delivery.id.as_str(), "reason": reason.as_str() }),
        });
        let ended = self.enrollments.iter().filter_map(|enrollment| match &enrollment.progress {
            Progress::Ended { exit, .. } => Some(Entry {
                kind: "exit",
                at: now,
                body: json!({
                    "enrollment": enrollment.id.as_str(), "profile": enrollment.profile.0,
                    "playbook": enrollment.playbook.as_str(), "exit": exit.as_str(),
                }),
            }),
            Progress::Waiting { .. } | Progress::Sending { .. } => None,
        });
        decisions.chain(cancelled).chain(ended).collect()
    }

    /// Counts it.
    pub fn count(&self, playbook: &PlaybookName, ticked: &mut Ticked) {
        let by_playbook = ticked.by_playbook.entry(playbook.clone()).or_default();
        for delivery in &self.deliveries {
            ticked.decisions.count(delivery);
            by_playbook.count(delivery);
        }
        ticked.moved += self.enrollments.len() as u64;
    }
}

/// Why enrollments are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Those whose time has come, or whose delivery is settled.
    Due,
    /// All that are under way, since something that conditions ask about may have changed.
    All,
}

/// Looks at the enrollments of one playbook, page by page. The next page is read while one is committed: nobody is on two, and where
/// people share what caps count by, it is read after.
pub async fn look(
    daemon: &Daemon,
    view: &mut View,
    surroundings: &Surroundings,
    playbook: &PlaybookName,
    look: Look,
    now: Timestamp,
    ticked: &mut Ticked,
) -> Result<(), DaemonError> {
    let mut place = Some(Place::default());
    let mut known = next(daemon, view, playbook, look, &mut place, now).await?;
    while let Some(read) = known {
        let page = decide(daemon, surroundings, read, Cause::Look, now)?;
        let committed = commit(daemon, &page, now);
        let following = next(daemon, view, playbook, look, &mut place, now);
        known = one_beside_the_other(daemon, committed, following).await?;
        page.count(playbook, ticked);
    }
    Ok(())
}

/// Commits a page while the next is read; or before, where the next must see it.
pub async fn one_beside_the_other<T>(
    daemon: &Daemon,
    committed: impl Future<Output = Result<(), DaemonError>>,
    following: impl Future<Output = Result<T, DaemonError>>,
) -> Result<T, DaemonError> {
    if daemon.project.policy.counts_shared() {
        committed.await?;
        return following.await;
    }
    let (committed, following) = tokio::join!(committed, following);
    committed?;
    following
}

/// How far a look has come.
#[derive(Debug, Default)]
struct Place {
    due: Option<(Timestamp, ProfileNumber)>,
    profile: Option<ProfileNumber>,
}

/// The page at a place, and the place behind it; `None`: there is none.
async fn next(
    daemon: &Daemon,
    view: &mut View,
    playbook: &PlaybookName,
    look: Look,
    place: &mut Option<Place>,
    now: Timestamp,
) -> Result<Option<Known>, DaemonError> {
    let Some(Place { due, profile }) = place.take() else { return Ok(None) };
    let mut tx = daemon.state.read().await?;
    let rows = match look {
        Look::Due => state::enrollment::due(&mut tx, playbook, now, PAGE_LIMIT, due).await?,
        Look::All => state::enrollment::active(&mut tx, playbook, profile, PAGE_LIMIT).await?,
    };
    drop(tx);
    let Some(last) = rows.last() else { return Ok(None) };
    let profile = last.enrollment.profile;
    *place = (rows.len() == PAGE_ROWS)
        .then_some(Place { due: last.look_at.map(|at| (at, profile)), profile: Some(profile) });
    read(daemon, view, rows, now).await.map(Some)
}

/// Advances a page of enrollments of one playbook and commits what came of it.
pub async fn advance(
    daemon: &Daemon,
    view: &mut View,
    surroundings: &Surroundings,
    rows: Vec<Row>,
    cause: Cause,
    now: Timestamp,
    ticked: &mut Ticked,
) -> Result<(), DaemonError> {
    let Some(playbook) = rows.first().map(|row| row.enrollment.playbook.clone()) else { return Ok(()) };
    let page = decide(daemon, surroundings, read(daemon, view, rows, now).await?, cause, now)?;
    commit(daemon, &page, now).await?;
    page.count(&playbook, ticked);
    Ok(())
}

/// A page of enrollments, and what is known of them.
struct Known {
    rows: Vec<Row>,
    versions: BTreeMap<String, Arc<Pinned>>,
    people: people::People,
    crowd: Crowd,
    deliveries: BTreeMap<EnrollmentId, Vec<Delivery>>,
}

async fn read(
    daemon: &Daemon,
    view: &mut View,
    rows: Vec<Row>,
    now: Timestamp,
) -> Result<Known, DaemonError> {
    let numbers: Vec<ProfileNumber> = rows.iter().map(|row| row.enrollment.profile).collect();
    let ids: Vec<(ProfileNumber, EnrollmentId)> =
        rows.iter().map(|row| (row.enrollment.profile, row.enrollment.id.clone())).collect();
    let mut tx = daemon.state.read().await?;
    let versions = daemon.versions_of(&mut tx, &rows).await?;
    let accounts = uses::accounts(daemon, versions.values().map(AsRef::as_ref));
    let people = people::read(daemon, &mut tx, view, accounts, &numbers, now).await?;
    let crowd = people::crowd_of(&mut tx, &daemon.project.policy, &people, now).await?;
    let mut deliveries: BTreeMap<EnrollmentId, Vec<Delivery>> = BTreeMap::new();
    for delivery in state::delivery::of_enrollments(&mut tx, &ids).await? {
        deliveries.entry(delivery.enrollment.clone()).or_default().push(delivery);
    }
    Ok(Known { rows, versions, people, crowd, deliveries })
}

fn decide(
    daemon: &Daemon,
    surroundings: &Surroundings,
    known: Known,
    cause: Cause,
    now: Timestamp,
) -> Result<Page, DaemonError> {
    let Known { rows, versions, people, mut crowd, mut deliveries } = known;
    let world = surroundings.world(&daemon.project);
    let mut page = Page::default();
    for row in rows {
        let (Some(facts), Some(pinned)) =
            (people.get(&row.enrollment.profile), versions.get(&row.enrollment.version))
        else {
            continue;
        };
        let entry = crate::entry::open(&daemon.keys, row.sealed_entry.as_deref())?;
        let enrollment = Enrollment { entry, ..row.enrollment };
        let own = deliveries.remove(&enrollment.id).unwrap_or_default();
        let person = facts.person(enrollment.profile, &crowd);
        let from = page.deliveries.len();
        page.add(engine::advance(&world, &pinned.version, &person, enrollment, &own, cause, now));
        page.count_shared(&daemon.project.policy, facts, &mut crowd, from);
    }
    Ok(page)
}

async fn commit(daemon: &Daemon, page: &Page, now: Timestamp) -> Result<(), DaemonError> {
    if page.is_empty() {
        return Ok(());
    }
    let mut tx = daemon.deciding().await?;
    page.write(daemon, &mut tx, now).await?;
    model::fault::point("page.before_commit");
    tx.commit().await?;
    model::fault::point("page.after_commit");
    Ok(())
}

/// Whether anything about those under way could change without their time having come, on whatever version they are.
pub async fn is_watched(daemon: &Daemon, playbook: &Playbook) -> Result<bool, DaemonError> {
    if watches(playbook) {
        return Ok(true);
    }
    let mut tx = daemon.state.read().await?;
    for version in state::playbook::versions(&mut tx, &playbook.name).await? {
        match daemon.pinned(&mut tx, &playbook.name, &version).await {
            Ok(pinned) if watches(pinned.version.playbook()) => return Ok(true),
            Ok(_) => {}
            // One that can no longer be read is an error only if somebody is on it, which looking at them shows.
            Err(DaemonError::Version { .. }) => return Ok(true),
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

fn watches(playbook: &Playbook) -> bool {
    let mut until = false;
    playbook.walk(&mut |step| {
        until |= matches!(&step.action, model::playbook::Action::Wait(model::playbook::Wait::Until { .. }));
    });
    until || playbook.exit.when.is_some() || playbook.goal.is_some()
}
