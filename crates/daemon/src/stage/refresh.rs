//! PULL and SEGMENT: who is in a segment now, judged before it is believed.
//!
//! The run is committed first and happens once: its id is derived from segment, definition and time. Rows stream through in pages;
//! what is kept of them is a bitmap, and the columns that a playbook uses of those who come in, sealed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine::RunSeen;
use jiff::Timestamp;
use model::condition::{Condition, SegmentTest};
use model::query::Query;
use model::segment::{Segment, SegmentSource};
use model::{FreshName, PlaybookName, ProfileNumber, Reason, Refusal, SegmentName, Value};
use roaring::RoaringBitmap;
use serde_json::json;
use state::audit::Entry;
use state::segment::SegmentRun;

use crate::daemon::{Daemon, DaemonError, Surroundings};
use crate::guards::acceptance_key;
use crate::people;
use crate::report::SegmentReport;
use crate::source::{PAGE_ROWS, SourceError, View};
use crate::uses;

/// Runs that are looked at for those to compare with, and how many of them are compared with.
const RUNS_RECENT: u32 = 50;
const RUNS_COMPARED: usize = 7;

/// What one query gave.
#[derive(Debug, Default)]
struct Pulled {
    members: RoaringBitmap,
    rows: u64,
    duplicates: u64,
    missing_ids: u64,
    nulls: BTreeMap<String, u64>,
}

/// Refreshes one segment and commits the run. A failed query, or one that breaks an expectation, is a held run.
pub async fn refresh(
    daemon: &Daemon,
    view: &mut View,
    segment: &Segment,
    profiles: u64,
    now: Timestamp,
) -> Result<SegmentReport, DaemonError> {
    let run_id = model::id::segment_run_id(
        &daemon.project.settings.project,
        segment.name.as_str(),
        &segment.definition,
        now,
    );
    let before = {
        let mut tx = daemon.state.read().await?;
        state::segment::current(&mut tx, &segment.name).await?
    };
    let stale = stale_sources(daemon, view, segment, now).await;
    let pulled = match &segment.source {
        SegmentSource::Sql(query) => pull(daemon, view, segment, query, &run_id).await,
        SegmentSource::Where(condition) => select(daemon, view, segment, condition, &run_id, now).await,
    };
    let mut grown = None;
    let old = before.as_ref().map(|current| current.members.clone()).unwrap_or_default();
    let (pulled, held) = match pulled {
        Ok(pulled) => {
            let seen = RunSeen {
                rows: pulled.members.len(),
                profiles,
                previous: before.as_ref().map(|current| current.members.len()),
                entered: (&pulled.members - &old).len(),
                left: (&old - &pulled.members).len(),
                nulls: pulled.nulls.clone(),
                stale,
            };
            let held = engine::judge_run(&segment.expect, &seen).err();
            grown = judge_growth(daemon, segment, pulled.members.len()).await?;
            (pulled, held.or_else(|| grown.clone().filter(|_| daemon.project.settings.production)))
        }
        // State that fails stops the pass; a warehouse that fails stops this segment.
        Err(DaemonError::Source(
            error @ (SourceError::Warehouse(_) | SourceError::Made(_) | SourceError::NotReady(_)),
        )) => {
            let refusal = Refusal { reason: Reason::SegmentQueryFailed, saw: chain(&error) };
            (Pulled::default(), Some(refusal))
        }
        Err(error) => return Err(error),
    };
    let run = SegmentRun {
        id: run_id,
        segment: segment.name.clone(),
        definition: segment.definition.clone(),
        as_of: now,
        entered: if held.is_some() { RoaringBitmap::new() } else { &pulled.members - &old },
        left: if held.is_some() { RoaringBitmap::new() } else { &old - &pulled.members },
        members: pulled.members,
        rows: pulled.rows,
        duplicates: pulled.duplicates,
        missing_ids: pulled.missing_ids,
        held,
    };
    let report = SegmentReport {
        name: segment.name.clone(),
        members: if run.held.is_some() { old.len() } else { run.members.len() },
        entered: run.entered.len(),
        left: run.left.len(),
        duplicates: run.duplicates,
        missing_ids: run.missing_ids,
        held: run.held.clone(),
        doubtful: grown.filter(|_| run.held.is_none()),
    };
    commit(daemon, segment, &run, &report, now).await?;
    Ok(report)
}

/// Whether it grew as segments do, if nobody has said that it may be so large.
async fn judge_growth(
    daemon: &Daemon,
    segment: &Segment,
    members: u64,
) -> Result<Option<Refusal>, DaemonError> {
    let mut tx = daemon.state.read().await?;
    if state::meta::get(&mut tx, &acceptance_key(&segment.name)).await?.is_some() {
        return Ok(None);
    }
    let recent: Vec<u64> = state::segment::history(&mut tx, &segment.name, RUNS_RECENT)
        .await?
        .into_iter()
        // A segment that is defined anew is another one.
        .filter(|run| run.held.is_none() && run.definition == segment.definition)
        .map(|run| run.members)
        .take(RUNS_COMPARED)
        .collect();
    Ok(engine::judge_growth(&daemon.project.policy.guards, &recent, members).err())
}

async fn commit(
    daemon: &Daemon,
    segment: &Segment,
    run: &SegmentRun,
    report: &SegmentReport,
    now: Timestamp,
) -> Result<(), DaemonError> {
    let mut tx = daemon.deciding().await?;
    state::segment::commit_run(&mut tx, run, now).await?;
    state::segment::set_last_due(&mut tx, &segment.name, now).await?;
    if run.held.is_none() {
        state::meta::remove(&mut tx, &acceptance_key(&segment.name)).await?;
    }
    let held = run.held.as_ref().map(|held| json!({ "reason": held.reason.as_str(), "saw": held.saw }));
    let body = json!({
        "run": run.id, "segment": segment.name.as_str(), "definition": run.definition, "rows": run.rows,
        "members": report.members, "entered": report.entered, "left": report.left,
        "duplicates": run.duplicates, "missing_ids": run.missing_ids, "held": held,
    });
    state::audit::append(&mut tx, &[Entry { kind: "segment_run", at: now, body }]);
    model::fault::point("segment.before_commit");
    tx.commit().await?;
    model::fault::point("segment.after_commit");
    Ok(())
}

/// The sources a segment wants fresh, and are not: name, and what was seen.
async fn stale_sources(
    daemon: &Daemon,
    view: &mut View,
    segment: &Segment,
    now: Timestamp,
) -> Vec<(FreshName, String)> {
    let mut stale = Vec::new();
    for name in &segment.expect.fresh {
        let Some(fresh) = daemon.project.data.fresh.get(name) else { continue };
        let within = model::duration::format_duration(fresh.within);
        match view.fresh(name, &fresh.query).await {
            Ok(Some(at)) if now.duration_since(at) <= fresh.within => {}
            Ok(Some(at)) => {
                stale.push((name.clone(), format!("{name} is from {at}, more than {within} ago")))
            }
            Ok(None) => stale.push((name.clone(), format!("{name} has no time"))),
            Err(error) => stale.push((name.clone(), format!("{name} cannot be asked: {}", chain(&error)))),
        }
    }
    stale
}

/// Runs a segment's own query.
async fn pull(
    daemon: &Daemon,
    view: &mut View,
    segment: &Segment,
    query: &Query,
    run_id: &str,
) -> Result<Pulled, DaemonError> {
    let keep = Keeping::of(daemon, &segment.name, run_id).await?;
    let mut pulled = Pulled::default();
    view.segment_pages(segment, query, async |page| {
        let ids: Vec<String> = page.rows.iter().filter_map(|(id, _)| id.clone()).collect();
        pulled.rows += page.rows.len() as u64;
        pulled.missing_ids += (page.rows.len() - ids.len()) as u64;
        let numbers = intern(daemon, &ids).await?;
        let rows = page.rows.into_iter().filter(|(id, _)| id.is_some()).zip(numbers);
        let mut kept = Vec::new();
        for ((_, values), number) in rows {
            // An erased person is not brought back by a refresh.
            let Some(number) = number else { continue };
            if !pulled.members.insert(number.0) {
                pulled.duplicates += 1;
                continue;
            }
            for wanted in &segment.expect.not_null {
                let value =
                    page.columns.iter().position(|column| column == wanted).and_then(|at| values.get(at));
                if value.is_none_or(Value::is_missing) {
                    *pulled.nulls.entry(wanted.clone()).or_default() += 1;
                }
            }
            kept.push((number, values));
        }
        keep.put(daemon, &page.columns, &kept).await
    })
    .await?;
    Ok(pulled)
}

/// The numbers of ids; only new ids need the writer.
pub async fn intern(daemon: &Daemon, ids: &[String]) -> Result<Vec<Option<ProfileNumber>>, SourceError> {
    let known = {
        let mut tx = daemon.state.read().await?;
        state::profile::numbers_of(&mut tx, ids).await?
    };
    if known.iter().all(Option::is_some) {
        return Ok(known);
    }
    let mut tx = daemon.deciding().await?;
    let numbers = state::profile::intern(&mut tx, &daemon.keys, ids).await?;
    tx.commit().await?;
    Ok(numbers)
}

/// Evaluates a composed segment: by bitmaps where it names only segments, person by person otherwise.
async fn select(
    daemon: &Daemon,
    view: &mut View,
    segment: &Segment,
    condition: &Condition,
    run_id: &str,
    now: Timestamp,
) -> Result<Pulled, DaemonError> {
    let mut tx = daemon.state.read().await?;
    let surroundings = Surroundings::read(&mut tx, &daemon.project, now).await?;
    drop(tx);
    for (name, _) in condition.segments() {
        if !surroundings.members.now.contains_key(name) {
            // "Not in a segment that nobody ever counted" must not select everybody.
            let saw = format!("segment `{name}`, which it names, has no good run yet");
            return Err(DaemonError::Source(SourceError::NotReady(saw)));
        }
    }
    let members = match algebra(condition, &surroundings) {
        Some(members) => members,
        None => person_by_person(daemon, view, condition, &surroundings, now).await?,
    };
    let keep = Keeping::of(daemon, &segment.name, run_id).await?;
    if let Some((base, query)) = base_query(daemon, segment).filter(|_| !keep.columns.is_empty()) {
        view.segment_pages(base, query, async |page| {
            let ids: Vec<String> = page.rows.iter().filter_map(|(id, _)| id.clone()).collect();
            let numbers = intern(daemon, &ids).await?;
            let rows = page.rows.into_iter().filter(|(id, _)| id.is_some()).zip(numbers);
            let kept: Vec<_> = rows
                .filter_map(|((_, values), number)| {
                    number.filter(|number| members.contains(number.0)).map(|number| (number, values))
                })
                .collect();
            keep.put(daemon, &page.columns, &kept).await
        })
        .await?;
    }
    Ok(Pulled { rows: members.len(), members, ..Pulled::default() })
}

/// The segment whose columns a composed segment has: the first it names, down to one with a query.
pub(crate) fn base_query<'a>(daemon: &'a Daemon, segment: &'a Segment) -> Option<(&'a Segment, &'a Query)> {
    let mut at = segment;
    loop {
        match &at.source {
            SegmentSource::Sql(query) => return Some((at, query)),
            // There are no cycles: `project` refuses them.
            SegmentSource::Where(condition) => {
                let name = condition.segments().first().map(|(name, _)| (*name).clone())?;
                at = daemon.project.segments.get(&name)?;
            }
        }
    }
}

/// The members by operations on bitmaps; `None` where the condition needs the people themselves or all of them.
fn algebra(condition: &Condition, surroundings: &Surroundings) -> Option<RoaringBitmap> {
    let members = |name: &SegmentName| surroundings.members.now.get(name).cloned().unwrap_or_default();
    match condition {
        Condition::Segment { name, test: SegmentTest::Member } => Some(members(name)),
        Condition::Segment { name, test: SegmentTest::MemberFor(at_least) } => {
            surroundings.members.stays.get(&(name.clone(), *at_least)).cloned()
        }
        Condition::Any(inner) => {
            let mut union = RoaringBitmap::new();
            for one in inner {
                union |= algebra(one, surroundings)?;
            }
            Some(union)
        }
        Condition::All(inner) => {
            // Something positive to begin with; from it the negative ones take away.
            let (mut positive, mut taken) = (None::<RoaringBitmap>, RoaringBitmap::new());
            for one in inner {
                match one {
                    Condition::Segment { name, test: SegmentTest::NotMember } => taken |= members(name),
                    Condition::Not(not) => taken |= algebra(not, surroundings)?,
                    other => {
                        let found = algebra(other, surroundings)?;
                        positive = Some(positive.map_or_else(|| found.clone(), |so_far| so_far & &found));
                    }
                }
            }
            positive.map(|positive| positive - taken)
        }
        Condition::Segment { test: SegmentTest::NotMember, .. }
        | Condition::Not(_)
        | Condition::Profile { .. }
        | Condition::Account { .. }
        | Condition::Entry { .. }
        | Condition::Consent { .. }
        | Condition::Playbook { .. }
        | Condition::Step { .. } => None,
    }
}

/// Asks the condition of everybody in the warehouse.
///
/// While rows stream, the snapshot answers nothing else: where accounts are asked for, who there is comes first, and then
/// each thousand by id, as everywhere.
async fn person_by_person(
    daemon: &Daemon,
    view: &mut View,
    condition: &Condition,
    surroundings: &Surroundings,
    now: Timestamp,
) -> Result<RoaringBitmap, DaemonError> {
    let mut members = RoaringBitmap::new();
    let world = surroundings.world(&daemon.project);
    // No condition asks about caps.
    let nobody = people::Crowd::default();
    let mut ask = |people: &people::People| {
        for (number, facts) in people.iter().filter(|(_, facts)| facts.profile.is_some()) {
            let subject = engine::Subject {
                world: &world,
                person: &facts.person(*number, &nobody),
                entry: None,
                outcomes: None,
                now,
            };
            if engine::holds(condition, &subject) {
                members.insert(number.0);
            }
        }
    };
    let accounts = daemon.project.data.accounts.as_ref().filter(|_| condition.reads_account());
    let mut later = RoaringBitmap::new();
    view.profile_pages(&daemon.project.data.profiles, async |page| {
        let ids: Vec<String> = page.iter().map(|(id, _)| id.clone()).collect();
        let numbers = intern(daemon, &ids).await?;
        if accounts.is_some() {
            later.extend(numbers.iter().flatten().map(|number| number.0));
            return Ok(());
        }
        let mut found = people::People::new();
        for ((id, attributes), number) in page.into_iter().zip(numbers) {
            let Some(number) = number else { continue };
            let profile =
                model::profile::Profile { number, id: id.clone(), attributes, account: Arc::default() };
            found.insert(number, people::Facts { id, profile: Some(profile), ..people::Facts::default() });
        }
        let mut tx = daemon.state.read().await?;
        people::read_state(&mut tx, &daemon.project.policy, &mut found, now).await?;
        drop(tx);
        ask(&found);
        Ok(())
    })
    .await?;
    let mut later = later.iter().map(ProfileNumber).peekable();
    while later.peek().is_some() {
        let numbers: Vec<ProfileNumber> = later.by_ref().take(PAGE_ROWS).collect();
        let mut tx = daemon.state.read().await?;
        ask(&people::read(daemon, &mut tx, view, accounts, &numbers, now).await?);
    }
    Ok(members)
}

/// Which columns are kept of whom: those that a playbook entered by this segment uses, of those it has not dealt with yet.
struct Keeping {
    run_id: String,
    columns: BTreeSet<String>,
    /// Each playbook with those it has seen.
    playbooks: Vec<(PlaybookName, BTreeSet<String>, RoaringBitmap)>,
}

impl Keeping {
    async fn of(daemon: &Daemon, segment: &SegmentName, run_id: &str) -> Result<Self, DaemonError> {
        let mut keep = Self { run_id: run_id.to_owned(), columns: BTreeSet::new(), playbooks: Vec::new() };
        for playbook in daemon.project.playbooks.values().filter(|playbook| playbook.enter == *segment) {
            let columns = uses::entry_columns(&daemon.project, playbook);
            if columns.is_empty() {
                continue;
            }
            let mut tx = daemon.deciding().await?;
            let seen = state::playbook::load(&mut tx, &playbook.name)
                .await?
                .map(|state| state.seen)
                .unwrap_or_default();
            state::entering::clear(&mut tx, &playbook.name).await?;
            tx.commit().await?;
            keep.columns.extend(columns.iter().cloned());
            keep.playbooks.push((playbook.name.clone(), columns, seen));
        }
        Ok(keep)
    }

    async fn put(
        &self,
        daemon: &Daemon,
        columns: &[String],
        rows: &[(ProfileNumber, Vec<Value>)],
    ) -> Result<(), SourceError> {
        for (playbook, wanted, seen) in &self.playbooks {
            let sealed: Vec<(ProfileNumber, Vec<u8>)> = rows
                .iter()
                .filter(|(number, _)| !seen.contains(number.0))
                .map(|(number, values)| {
                    let entry = columns
                        .iter()
                        .cloned()
                        .zip(values.iter().cloned())
                        .filter(|(name, _)| wanted.contains(name))
                        .collect();
                    Ok((*number, crate::entry::seal(&daemon.keys, &entry)?))
                })
                .collect::<Result<_, SourceError>>()?;
            if sealed.is_empty() {
                continue;
            }
            let mut tx = daemon.deciding().await?;
            state::entering::put(&mut tx, playbook, &self.run_id, &sealed).await?;
            tx.commit().await?;
        }
        Ok(())
    }
}

/// An error and what caused it, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
