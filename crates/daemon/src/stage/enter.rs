//! Entering: a resumable stage. The segment's run is committed; each playbook works through what changed for it.
//!
//! `seen` is who the playbook has dealt with. Entered is members - seen, left is seen - members, by pages in order of number;
//! a page's enrollments, deliveries, audit entries and the place reached are one transaction; when all pages are in, seen is members.
//! After a crash the run being applied is finished first.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::{Cause, Entered};
use jiff::Timestamp;
use model::playbook::{Backfill, Playbook};
use model::{ProfileNumber, Reason, Refusal};
use roaring::RoaringBitmap;
use serde_json::json;
use state::audit::Entry;
use state::playbook::{Applying, PlaybookState, Status};

use super::decide::{self, Page};
use crate::daemon::{Daemon, DaemonError, Pinned, Surroundings};
use crate::first_run;
use crate::people::{self, Crowd};
use crate::report::{Hold, Ticked};
use crate::source::{PAGE_ROWS, View};
use crate::uses;

/// Makes a playbook's people enter and leave, if its segment has changed for it.
pub async fn enter(
    daemon: &Daemon,
    view: &mut View,
    surroundings: &Surroundings,
    playbook: &Playbook,
    now: Timestamp,
    ticked: &mut Ticked,
) -> Result<(), DaemonError> {
    let mut tx = daemon.state.read().await?;
    let Some(current) = state::segment::current(&mut tx, &playbook.enter).await? else { return Ok(()) };
    let known = state::playbook::load(&mut tx, &playbook.name).await?;
    let wanted = known.is_none() && may_activate(daemon, &mut tx, playbook).await?;
    drop(tx);
    let mut at = match known {
        Some(known) => known,
        None if wanted => activate(daemon, playbook, &current.members, now, ticked).await?,
        None => return Ok(()),
    };
    // A paused playbook keeps `seen` as it is, and so nobody who comes in meanwhile is lost. An archived one lets nobody in.
    if at.status != Status::Active
        || surroundings.halts.playbooks.contains(&playbook.name)
        || surroundings.halts.all
    {
        return Ok(());
    }
    remember_version(daemon, playbook, &mut at, now).await?;
    let entered = &current.members - &at.seen;
    let left = &at.seen - &current.members;
    if entered.is_empty() && left.is_empty() && at.applying.is_none() {
        if at.applied_run.as_ref() != Some(&current.run_id) {
            at.applied_run = Some(current.run_id);
            save(daemon, &at).await?;
        }
        return Ok(());
    }
    if at.applying.is_none() {
        if let Some(refusal) = holds(daemon, playbook, entered.len(), now).await? {
            let mut tx = daemon.state.read().await?;
            let judged_on = first_run::judged_on(daemon, &mut tx, &playbook.name, &current.run_id).await?;
            daemon.remember_hold(&playbook.name, &judged_on);
            ticked.holds.push(Hold { playbook: playbook.name.clone(), refusal });
            return Ok(());
        }
        at.applying = Some(Applying { run_id: current.run_id.clone(), after: 0 });
        save(daemon, &at).await?;
    }
    if playbook.exit.on_leave {
        leave(daemon, view, surroundings, playbook, &left, now, ticked).await?;
    }
    let run_id =
        at.applying.as_ref().map_or_else(|| current.run_id.clone(), |applying| applying.run_id.clone());
    let after = at.applying.as_ref().map_or(0, |applying| applying.after);
    let ahead: Vec<ProfileNumber> =
        entered.iter().filter(|number| *number > after).map(ProfileNumber).collect();
    let mut ahead = ahead.chunks(PAGE_ROWS);
    let mut known = next(daemon, view, playbook, ahead.next(), now).await?;
    while let Some(read) = known {
        if let (Some(applying), Some(last)) = (at.applying.as_mut(), read.numbers.last()) {
            applying.after = if model::fault::mutant("resume_from_start") { 0 } else { last.0 };
        }
        let page = decide(daemon, surroundings, read, &run_id, now)?;
        let committed = commit(daemon, &page, &at, now);
        let following = next(daemon, view, playbook, ahead.next(), now);
        known = decide::one_beside_the_other(daemon, committed, following).await?;
        page.count(&playbook.name, ticked);
    }
    at.seen = current.members;
    at.applied_run = Some(run_id);
    at.applying = None;
    let mut tx = daemon.deciding().await?;
    state::playbook::save(&mut tx, &at).await?;
    state::entering::clear(&mut tx, &playbook.name).await?;
    first_run::is_through(daemon, &mut tx, &playbook.name, entered.len()).await?;
    tx.commit().await?;
    Ok(())
}

/// Why so many do not enter, if they do not.
async fn holds(
    daemon: &Daemon,
    playbook: &Playbook,
    people: u64,
    now: Timestamp,
) -> Result<Option<Refusal>, DaemonError> {
    if let Some(limit) = playbook.per_run.filter(|limit| people > *limit) {
        let saw = format!("{people} would enter, `limits.per_run` is {limit}");
        return Ok(Some(Refusal { reason: Reason::PerRunExceeded, saw }));
    }
    let mut tx = daemon.state.read().await?;
    Ok(first_run::judge(daemon, &mut tx, &playbook.name, people, now).await?)
}

/// The key under which a person's wish to activate a playbook waits for the next good run of its segment.
pub fn activation_key(playbook: &model::PlaybookName) -> String {
    format!("activate.{playbook}")
}

/// Whether a playbook may begin: outside production the first run that sees its file begins it, in production only a person.
pub async fn may_activate(
    daemon: &Daemon,
    tx: &mut state::Tx,
    playbook: &Playbook,
) -> Result<bool, DaemonError> {
    Ok(!daemon.project.settings.production
        || state::meta::get(tx, &activation_key(&playbook.name)).await?.is_some())
}

/// The first value of `seen`: who counts as dealt with when the playbook begins.
async fn activate(
    daemon: &Daemon,
    playbook: &Playbook,
    members: &RoaringBitmap,
    now: Timestamp,
    ticked: &mut Ticked,
) -> Result<PlaybookState, DaemonError> {
    let mut tx = daemon.deciding().await?;
    let seen = match playbook.backfill {
        Backfill::None => members.clone(),
        Backfill::All => RoaringBitmap::new(),
        Backfill::Since(duration) => {
            state::segment::members_for(&mut tx, &playbook.enter, duration, now).await?
        }
    };
    let body = json!({
        "playbook": playbook.name.as_str(), "version": playbook.version, "members": members.len(), "dealt_with": seen.len(),
    });
    let at = PlaybookState {
        name: playbook.name.clone(),
        status: Status::Active,
        version: playbook.version.clone(),
        activated_at: now,
        seen,
        applied_run: None,
        applying: None,
    };
    state::playbook::save(&mut tx, &at).await?;
    save_version(daemon, &mut tx, playbook, now).await?;
    first_run::begins(&mut tx, &playbook.name, &playbook.version).await?;
    state::audit::append(&mut tx, &[Entry { kind: "playbook_activated", at: now, body }]);
    tx.commit().await?;
    let not_entered = at.seen.intersection_len(members);
    if not_entered > 0 {
        ticked.by_playbook.entry(playbook.name.clone()).or_default().not_entered = not_entered;
    }
    Ok(at)
}

/// Keeps the text of a new version, so that those who enter now stay on it whatever becomes of the files.
async fn remember_version(
    daemon: &Daemon,
    playbook: &Playbook,
    at: &mut PlaybookState,
    now: Timestamp,
) -> Result<(), DaemonError> {
    if at.version == playbook.version {
        return Ok(());
    }
    let mut tx = daemon.deciding().await?;
    let body = json!({ "playbook": playbook.name.as_str(), "from": at.version, "to": playbook.version });
    at.version.clone_from(&playbook.version);
    state::playbook::save(&mut tx, at).await?;
    save_version(daemon, &mut tx, playbook, now).await?;
    first_run::begins(&mut tx, &playbook.name, &playbook.version).await?;
    state::audit::append(&mut tx, &[Entry { kind: "playbook_version", at: now, body }]);
    tx.commit().await?;
    Ok(())
}

async fn save_version(
    daemon: &Daemon,
    tx: &mut state::Tx,
    playbook: &Playbook,
    now: Timestamp,
) -> Result<(), DaemonError> {
    let bundle = project::bundle(&daemon.project, &playbook.name);
    state::playbook::save_version(tx, &playbook.name, &playbook.version, &bundle, now).await?;
    Ok(())
}

async fn save(daemon: &Daemon, at: &PlaybookState) -> Result<(), DaemonError> {
    let mut tx = daemon.deciding().await?;
    state::playbook::save(&mut tx, at).await?;
    tx.commit().await?;
    Ok(())
}

/// Ends the enrollments of those who left. Doing it twice changes nothing: who has ended is no longer under way.
async fn leave(
    daemon: &Daemon,
    view: &mut View,
    surroundings: &Surroundings,
    playbook: &Playbook,
    left: &RoaringBitmap,
    now: Timestamp,
    ticked: &mut Ticked,
) -> Result<(), DaemonError> {
    let numbers: Vec<ProfileNumber> = left.iter().map(ProfileNumber).collect();
    for numbers in numbers.chunks(PAGE_ROWS) {
        let mut tx = daemon.state.read().await?;
        let rows = state::enrollment::of_profiles_active(&mut tx, &playbook.name, numbers).await?;
        drop(tx);
        decide::advance(daemon, view, surroundings, rows, Cause::Left, now, ticked).await?;
    }
    Ok(())
}

/// A page of those who came in, and what is known of them.
struct Known<'a> {
    numbers: &'a [ProfileNumber],
    pinned: Arc<Pinned>,
    people: people::People,
    crowd: Crowd,
    entries: BTreeMap<ProfileNumber, Vec<u8>>,
}

async fn next<'a>(
    daemon: &Daemon,
    view: &mut View,
    playbook: &Playbook,
    numbers: Option<&'a [ProfileNumber]>,
    now: Timestamp,
) -> Result<Option<Known<'a>>, DaemonError> {
    let Some(numbers) = numbers else { return Ok(None) };
    let mut tx = daemon.state.read().await?;
    let pinned = daemon.pinned(&mut tx, &playbook.name, &playbook.version).await?;
    let accounts = uses::accounts(daemon, [pinned.as_ref()]);
    let people = people::read(daemon, &mut tx, view, accounts, numbers, now).await?;
    let crowd = people::crowd_of(&mut tx, &daemon.project.policy, &people, now).await?;
    let entries = state::entering::take(&mut tx, &playbook.name, numbers).await?;
    Ok(Some(Known { numbers, pinned, people, crowd, entries }))
}

fn decide(
    daemon: &Daemon,
    surroundings: &Surroundings,
    known: Known<'_>,
    run_id: &str,
    now: Timestamp,
) -> Result<Page, DaemonError> {
    let Known { numbers, pinned, people, mut crowd, mut entries } = known;
    let world = surroundings.world(&daemon.project);
    let mut page = Page::default();
    for number in numbers {
        let Some(facts) = people.get(number) else { continue };
        let entry = crate::entry::open(&daemon.keys, entries.remove(number).as_deref())?;
        let from = page.deliveries.len();
        match engine::enter(&world, &pinned.version, &facts.person(*number, &crowd), run_id, entry, now) {
            Entered::Enrolled(advanced) => page.add(advanced),
            Entered::Refused(delivery) => page.deliveries.push(delivery),
        }
        page.count_shared(&daemon.project.policy, facts, &mut crowd, from);
    }
    Ok(page)
}

/// Commits a page with the place reached.
async fn commit(daemon: &Daemon, page: &Page, at: &PlaybookState, now: Timestamp) -> Result<(), DaemonError> {
    let mut tx = daemon.deciding().await?;
    page.write(daemon, &mut tx, now).await?;
    if let Some(applying) = &at.applying {
        state::playbook::advance(&mut tx, &at.name, applying).await?;
    }
    model::fault::point("enter.before_commit");
    tx.commit().await?;
    model::fault::point("enter.after_commit");
    Ok(())
}
