//! COMPARE: which syncs are due; and who is to be in an audience, against what its destination has, as far as it said.
//!
//! People are looked at page by page, and what follows is written with each page; nothing is handed over here. Who would leave waits until
//! the last page: only then is it known whether that is too many at once. A pass that is broken off in between is done again, and nobody
//! has left meanwhile.

use std::collections::BTreeMap;

use engine::{Planned, judge_removal, may_be_member, plan_entries};
use jiff::Timestamp;
use model::reason::ReasonClass;
use model::sync::{AudienceSync, Sync, SyncFrom, SyncTo, Todo};
use model::{ProfileNumber, Reason, Refusal};
use roaring::RoaringBitmap;
use serde_json::json;
use state::audience::{EntryKey, Put};
use state::audit::Entry;
use state::sync::SyncRun;

use super::refresh::intern;
use crate::audiences::{MEMBER, acceptance_key};
use crate::daemon::{Daemon, DaemonError, Surroundings};
use crate::people::{self, Crowd};
use crate::report::{KeptAt, SyncReport};
use crate::source::{PAGE_ROWS, View};

/// The syncs that are due, in the order of their names.
pub async fn due(daemon: &Daemon, now: Timestamp) -> Result<Vec<&Sync>, DaemonError> {
    let mut tx = daemon.state.read().await?;
    let mut due = Vec::new();
    for sync in daemon.project.syncs.values() {
        let is_due = match state::sync::last_run(&mut tx, &sync.name).await? {
            None | Some((_, None)) => true,
            Some((run, Some(last))) => {
                run.definition != sync.definition
                    || sync.schedule.latest_between(last, now, &daemon.project.settings.timezone).is_some()
            }
        };
        if is_due && is_ready(&mut tx, sync).await? && !is_undone(&mut tx, sync).await? {
            due.push(sync);
        }
    }
    Ok(due)
}

/// Whether everything it wrote was undone: it stands still until a person takes it up again.
async fn is_undone(tx: &mut state::Tx, sync: &Sync) -> Result<bool, DaemonError> {
    let Some(record) = sync.record() else { return Ok(false) };
    let set = state::record::find(tx, &sync.name, &record.at).await?;
    Ok(set.is_some_and(|set| set.reverted_at.is_some()))
}

/// Whether it is known who it is about.
async fn is_ready(tx: &mut state::Tx, sync: &Sync) -> Result<bool, DaemonError> {
    match &sync.from {
        SyncFrom::Profiles | SyncFrom::Accounts => Ok(true),
        // The runs in force, without the bitmaps.
        SyncFrom::Segment(name) => {
            Ok(state::segment::runs_in_force(tx).await?.iter().any(|(known, _)| known == name))
        }
    }
}

/// When a sync is due next.
pub async fn next_due(
    daemon: &Daemon,
    tx: &mut state::Tx,
    now: Timestamp,
) -> Result<Option<Timestamp>, DaemonError> {
    let mut next = None;
    for sync in daemon.project.syncs.values() {
        let Some((_, Some(last))) = state::sync::last_run(tx, &sync.name).await? else { continue };
        let due = sync.schedule.next_after(last.max(now), &daemon.project.settings.timezone);
        next = next.into_iter().chain(due).min();
    }
    Ok(next)
}

/// Compares what one sync keeps with the warehouse. `None`: it stands still, or its destination has nothing of the kind in this process.
pub async fn compare(
    daemon: &Daemon,
    view: &mut View,
    surroundings: &Surroundings,
    sync: &Sync,
    now: Timestamp,
) -> Result<Option<SyncReport>, DaemonError> {
    match &sync.to {
        SyncTo::Audience(audience) => {
            compare_audience(daemon, view, surroundings, (sync, audience), now).await
        }
        SyncTo::Record(record) => {
            super::records::compare(daemon, view, surroundings, (sync, record), now).await
        }
    }
}

async fn compare_audience(
    daemon: &Daemon,
    view: &mut View,
    surroundings: &Surroundings,
    (sync, keeps): (&Sync, &AudienceSync),
    now: Timestamp,
) -> Result<Option<SyncReport>, DaemonError> {
    let policy = &daemon.project.policy;
    let driver = daemon.carriers.get(&keeps.at.destination).and_then(|carrier| carrier.names());
    let (Some(driver), Some(purpose)) = (driver, policy.purposes.get(&keeps.purpose)) else {
        return Ok(None);
    };
    let Some((kind, audiences)) = driver.audiences() else { return Ok(None) };
    let traits = sync.traits(purpose);
    let world = surroundings.world(&daemon.project);
    let source = match &sync.from {
        SyncFrom::Segment(name) => surroundings.members.now.get(name).cloned().unwrap_or_default(),
        SyncFrom::Profiles | SyncFrom::Accounts => everybody(daemon, view).await?,
    };
    let mut tx = daemon.deciding().await?;
    let audience = state::audience::find_or_make(&mut tx, &keeps.at, now).await?.number;
    let known = state::audience::people(&mut tx, audience).await?;
    tx.commit().await?;
    let renew_before = kind.renew_after.and_then(|after| now.checked_sub(after).ok());
    let (mut wanted_people, mut left_out) = (0, BTreeMap::new());
    let all: Vec<ProfileNumber> = (&source | &known).iter().map(ProfileNumber).collect();
    for numbers in all.chunks(PAGE_ROWS) {
        let mut tx = daemon.state.read().await?;
        let people = people::read_permissions(daemon, &mut tx, view, numbers).await?;
        let mut entries = tx.ask(state::audience::entries(audience, numbers)).await?;
        drop(tx);
        let (mut puts, mut forgotten) = (Vec::new(), Vec::new());
        for number in numbers {
            let Some(facts) = people.get(number) else { continue };
            let crowd = Crowd::default();
            let person = facts.person(*number, &crowd);
            let is_asked_for = source.contains(number.0);
            let judged = may_be_member(&world, &person, &keeps.at.destination, &traits, now);
            let wanted = match (judged, &facts.profile) {
                // Whatever else is so of who said no, that comes first.
                (Err(refusal), _) if refusal.reason.class() == ReasonClass::Suppress => Err(refusal.reason),
                (_, None) => Err(Reason::SubjectMissing),
                _ if !is_asked_for => Err(Reason::SegmentLeft),
                (Err(refusal), _) => Err(refusal.reason),
                (Ok(()), Some(profile)) => audiences.member(profile).ok_or(Reason::AddressMissing),
            };
            match &wanted {
                Ok(_) => wanted_people += 1,
                Err(reason) if is_asked_for => *left_out.entry(*reason).or_default() += 1,
                Err(_) => {}
            }
            let own = entries.remove(number).unwrap_or_default();
            let identity = wanted.as_ref().map(|member| daemon.keys.identity_hash(member.as_str()));
            let key = |identity| EntryKey { audience, profile: *number, identity };
            for planned in plan_entries(&own, identity.as_ref().map_err(|reason| **reason), renew_before) {
                match planned {
                    Planned::Forget { identity } => forgotten.push(key(identity)),
                    Planned::Put { identity, todo, reason } => {
                        // Only an entry that is new is sealed, and that is the wanted one.
                        let is_new = own.iter().all(|entry| entry.identity != identity);
                        let sealed = match &wanted {
                            Ok(member) if is_new => daemon.keys.seal(member.as_str().as_bytes(), MEMBER)?,
                            _ => Vec::new(),
                        };
                        let address = facts.address.clone();
                        puts.push(Put { key: key(identity), address, sealed, todo, reason });
                    }
                }
            }
        }
        if puts.is_empty() && forgotten.is_empty() {
            continue;
        }
        let mut tx = daemon.deciding().await?;
        state::audience::put(&mut tx, &puts, now).await?;
        state::audience::forget(&mut tx, &forgotten).await?;
        model::fault::point("compare.before_commit");
        tx.commit().await?;
    }
    finish(daemon, (sync, keeps), audience, wanted_people, left_out, now).await.map(Some)
}

/// Everybody there is.
pub(super) async fn everybody(daemon: &Daemon, view: &mut View) -> Result<RoaringBitmap, DaemonError> {
    let mut numbers = RoaringBitmap::new();
    let query = &daemon.project.data.profiles;
    view.profile_pages(query, async |page| {
        let ids: Vec<String> = page.into_iter().map(|(id, _)| id).collect();
        numbers.extend(intern(daemon, &ids).await?.into_iter().flatten().map(|number| number.0));
        Ok(())
    })
    .await?;
    Ok(numbers)
}

/// What holds those who leave, unless a person said that so many may; that word is good for once.
pub(super) async fn acceptance(
    tx: &mut state::Tx,
    sync: &Sync,
    leaving: u64,
    held: Option<Refusal>,
) -> Result<Option<Refusal>, DaemonError> {
    let key = acceptance_key(&sync.name);
    let accepted = state::meta::get(tx, &key).await?;
    let is_accepted = accepted.and_then(|text| text.parse::<u64>().ok()).is_some_and(|most| leaving <= most);
    let held = held.filter(|_| !is_accepted);
    if held.is_none() {
        state::meta::remove(tx, &key).await?;
    }
    Ok(held)
}

/// Judges whether those who leave may, and keeps what the run came to.
async fn finish(
    daemon: &Daemon,
    (sync, keeps): (&Sync, &AudienceSync),
    audience: u32,
    wanted: u64,
    left_out: BTreeMap<Reason, u64>,
    now: Timestamp,
) -> Result<SyncReport, DaemonError> {
    let mut tx = daemon.deciding().await?;
    let (people, leaving) = state::audience::leaving(&mut tx, audience).await?;
    let judged = judge_removal(sync.removal, people, leaving, ("people", "removed"));
    let held = acceptance(&mut tx, sync, leaving, judged.err()).await?;
    if held.is_none() {
        state::audience::let_leave(&mut tx, audience).await?;
    }
    let at = KeptAt::Audience(keeps.at.clone());
    let counts = state::audience::counts(&mut tx, audience).await?;
    let todo = json!({
        "audience": keeps.at.name.as_str(), "add": counts.todo(Todo::Add), "remove": counts.todo(Todo::Remove),
        "opt_out": counts.todo(Todo::OptOut),
    });
    let report = SyncReport { sync: sync.name.clone(), at, wanted, left_out, held };
    keep(&mut tx, sync, &report, todo, now).await?;
    tx.commit().await?;
    Ok(report)
}

/// Keeps what a run came to, and what is to be done now.
pub(super) async fn keep(
    tx: &mut state::Tx,
    sync: &Sync,
    report: &SyncReport,
    todo: serde_json::Value,
    now: Timestamp,
) -> Result<(), DaemonError> {
    let run = SyncRun {
        sync: sync.name.clone(),
        definition: sync.definition.clone(),
        as_of: now,
        wanted: report.wanted,
        left_out: report.left_out.clone(),
        held: report.held.clone(),
    };
    state::sync::keep_run(tx, &run).await?;
    let by_code: BTreeMap<&str, u64> =
        report.left_out.iter().map(|(reason, count)| (reason.as_str(), *count)).collect();
    let mut body = json!({
        "sync": sync.name.as_str(), "destination": sync.destination().as_str(), "wanted": report.wanted, "left_out": by_code,
        "held": report.held.as_ref().map(|held| held.saw.clone()),
    });
    if let (Some(body), serde_json::Value::Object(todo)) = (body.as_object_mut(), todo) {
        body.extend(todo);
    }
    state::audit::append(tx, &[Entry { kind: "sync_run", at: now, body }]);
    Ok(())
}
