//! tick(now) = LISTEN, PULL, SEGMENT, DECIDE, COMMIT. Reads no clock and never waits, so that the simulator can call it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::SegmentName;
use model::condition::Condition;
use model::segment::{Segment, SegmentSource};
use state::playbook::Status;

use crate::allowances;
use crate::daemon::{Daemon, DaemonError, Surroundings, halts};
use crate::first_run;
use crate::people;
use crate::report::Ticked;
use crate::source::View;
use crate::stage::{compare, decide, enter, listen, refresh};

/// What a tick is to refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    /// The segments that never ran, or were due since they last ran.
    Due,
    /// None: only those under way are looked at.
    None,
}

/// One turn of deciding, at one time. Takes up what an earlier turn left unfinished.
pub async fn tick(daemon: &Daemon, refresh: Refresh, now: Timestamp) -> Result<Ticked, DaemonError> {
    let mut ticked = Ticked::default();
    if daemon.disk_is_low().is_some() {
        return Ok(ticked);
    }
    let due = match refresh {
        Refresh::Due => due_segments(daemon, now).await?,
        Refresh::None => Vec::new(),
    };
    let syncs_due = match refresh {
        // Those whose segments are refreshed just now are compared with who is in them then.
        Refresh::Due => !due.is_empty() || !compare::due(daemon, now).await?.is_empty(),
        Refresh::None => false,
    };
    let Behind { unfinished, waiting } = behind(daemon).await?;
    let anything_due = {
        let mut tx = daemon.state.read().await?;
        state::delivery::next_due(&mut tx, now).await?.is_some_and(|due| due <= now)
    };
    if due.is_empty() && !syncs_due && !unfinished && !waiting && !anything_due {
        ticked.next = next(daemon, now).await?;
        return Ok(ticked);
    }
    let mut view = daemon.source.view(now).await?;
    let result = async {
        turn(daemon, &mut view, &due, unfinished, now, &mut ticked).await?;
        if syncs_due { compare_all(daemon, &mut view, now, &mut ticked).await } else { Ok(()) }
    };
    let result = result.await;
    view.close().await;
    result?;
    ticked.next = next(daemon, now).await?;
    Ok(ticked)
}

async fn turn(
    daemon: &Daemon,
    view: &mut View,
    due: &[&Segment],
    unfinished: bool,
    now: Timestamp,
    ticked: &mut Ticked,
) -> Result<(), DaemonError> {
    if unfinished {
        // The run being applied is finished before its segment may run again.
        enter_all(daemon, view, now, ticked).await?;
    }
    if !due.is_empty() {
        listen::listen(daemon, view, now, &mut ticked.warnings).await?;
        let profiles = view.count(&daemon.project.data.profiles).await?;
        ticked.warnings.extend(people_that_are_none(profiles));
        for segment in due {
            let report = refresh::refresh(daemon, view, segment, profiles.people, now).await?;
            ticked.warnings.extend(report.doubtful.as_ref().map(|refusal| {
                format!(
                    "segment `{}`: {}; in production this run would be held, until `drumbeat segment accept {}`",
                    segment.name, refusal.saw, segment.name
                )
            }));
            ticked.segments.push(report);
        }
    }
    let mut tx = daemon.state.read().await?;
    let surroundings = Surroundings::read(&mut tx, &daemon.project, now).await?;
    drop(tx);
    if !due.is_empty() {
        forget(daemon, now).await?;
    }
    for playbook in daemon.playbooks_by_priority() {
        if surroundings.halts.all || surroundings.halts.playbooks.contains(&playbook.name) {
            continue;
        }
        decide::look(daemon, view, &surroundings, &playbook.name, decide::Look::Due, now, ticked).await?;
        if !due.is_empty() && decide::is_watched(daemon, playbook).await? {
            decide::look(daemon, view, &surroundings, &playbook.name, decide::Look::All, now, ticked).await?;
        }
        enter::enter(daemon, view, &surroundings, playbook, now, ticked).await?;
    }
    Ok(())
}

/// Compares every audience that is due.
async fn compare_all(
    daemon: &Daemon,
    view: &mut View,
    now: Timestamp,
    ticked: &mut Ticked,
) -> Result<(), DaemonError> {
    let due = compare::due(daemon, now).await?;
    if due.is_empty() {
        return Ok(());
    }
    let mut tx = daemon.state.read().await?;
    let surroundings = Surroundings::read(&mut tx, &daemon.project, now).await?;
    drop(tx);
    for sync in due {
        ticked.syncs.extend(compare::compare(daemon, view, &surroundings, sync, now).await?);
    }
    Ok(())
}

/// Forgets what nothing looks back to.
async fn forget(daemon: &Daemon, now: Timestamp) -> Result<(), DaemonError> {
    let (is_shared, is_limited) = (daemon.project.policy.counts_shared(), allowances::are_limited(daemon));
    if !is_shared && !is_limited {
        return Ok(());
    }
    let mut tx = daemon.deciding().await?;
    if is_shared {
        state::shared::forget(&mut tx, people::looks_back_to(&daemon.project.policy, now)).await?;
    }
    if is_limited {
        state::allowance::forget(&mut tx, engine::hour_of(now)).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Rows of `profiles` that cannot each be a person: they are left alone, and said.
fn people_that_are_none(profiles: warehouse::People) -> Option<String> {
    let warehouse::People { people, duplicates, missing_ids } = profiles;
    (duplicates > 0 || missing_ids > 0).then(|| {
        format!(
            "profiles has {people} people, {duplicates} rows more with an id that another row has (the first that is read counts), \
             and {missing_ids} without an id"
        )
    })
}

async fn enter_all(
    daemon: &Daemon,
    view: &mut View,
    now: Timestamp,
    ticked: &mut Ticked,
) -> Result<(), DaemonError> {
    let mut tx = daemon.state.read().await?;
    let surroundings = Surroundings::read(&mut tx, &daemon.project, now).await?;
    drop(tx);
    for playbook in daemon.playbooks_by_priority() {
        enter::enter(daemon, view, &surroundings, playbook, now, ticked).await?;
    }
    Ok(())
}

/// What playbooks have not worked through yet.
struct Behind {
    /// A run is half done: a crash, or an error in the middle.
    unfinished: bool,
    /// A good run has not been looked at: the process ended in between, a pause or halt is over, a playbook is new.
    waiting: bool,
}

async fn behind(daemon: &Daemon) -> Result<Behind, DaemonError> {
    let mut tx = daemon.state.read().await?;
    let runs: BTreeMap<SegmentName, String> =
        state::segment::runs_in_force(&mut tx).await?.into_iter().collect();
    let reached = state::playbook::reached(&mut tx).await?;
    let halts = tx.ask(halts()).await?;
    let mut behind = Behind { unfinished: false, waiting: false };
    for playbook in daemon.project.playbooks.values() {
        let Some(run_id) = runs.get(&playbook.enter) else { continue };
        let is_halted = halts.all || halts.playbooks.contains(&playbook.name);
        let judged_on = first_run::judged_on(daemon, &mut tx, &playbook.name, run_id).await?;
        if is_halted || daemon.was_held(&playbook.name, &judged_on) {
            continue;
        }
        match reached.iter().find(|reached| reached.name == playbook.name) {
            Some(known) if known.status == Status::Active => {
                behind.unfinished |= known.is_applying;
                behind.waiting |= known.applied_run.as_ref() != Some(run_id);
            }
            Some(_) => {}
            None => behind.waiting |= enter::may_activate(daemon, &mut tx, playbook).await?,
        }
    }
    Ok(behind)
}

/// The segments that are due, each after those it names.
pub async fn due_segments(daemon: &Daemon, now: Timestamp) -> Result<Vec<&Segment>, DaemonError> {
    let mut tx = daemon.state.read().await?;
    let mut due: Vec<&Segment> = Vec::new();
    for segment in in_order(daemon) {
        let after_another = named(segment).iter().any(|name| due.iter().any(|other| other.name == **name));
        let own = match state::segment::last_due(&mut tx, &segment.name).await? {
            None => true,
            Some(last) => {
                segment.schedule.latest_between(last, now, &daemon.project.settings.timezone).is_some()
                    || changed(&mut tx, segment).await?
            }
        };
        if own || after_another {
            due.push(segment);
        }
    }
    Ok(due)
}

/// Whether the definition is another than that of the last run.
async fn changed(tx: &mut state::Tx, segment: &Segment) -> Result<bool, DaemonError> {
    let last = state::segment::last_run(tx, &segment.name).await?;
    Ok(last.is_some_and(|last| last.definition != segment.definition))
}

/// All segments, each after those it names.
pub fn in_order(daemon: &Daemon) -> Vec<&Segment> {
    fn visit<'a>(daemon: &'a Daemon, segment: &'a Segment, ordered: &mut Vec<&'a Segment>) {
        if ordered.iter().any(|done| done.name == segment.name) {
            return;
        }
        for name in named(segment) {
            if let Some(inner) = daemon.project.segments.get(name) {
                visit(daemon, inner, ordered);
            }
        }
        ordered.push(segment);
    }
    let mut ordered = Vec::new();
    for segment in daemon.project.segments.values() {
        visit(daemon, segment, &mut ordered);
    }
    ordered
}

fn named(segment: &Segment) -> Vec<&SegmentName> {
    match &segment.source {
        SegmentSource::Sql(_) => Vec::new(),
        SegmentSource::Where(condition) => {
            Condition::segments(condition).into_iter().map(|(name, _)| name).collect()
        }
    }
}

/// When a tick has something to do again: the next schedule, or the next enrollment whose time comes.
async fn next(daemon: &Daemon, now: Timestamp) -> Result<Option<Timestamp>, DaemonError> {
    let mut tx = daemon.state.read().await?;
    let mut next = state::delivery::next_due(&mut tx, now).await?;
    for segment in daemon.project.segments.values() {
        let from = state::segment::last_due(&mut tx, &segment.name).await?.map_or(now, |last| last.max(now));
        let due = segment.schedule.next_after(from, &daemon.project.settings.timezone);
        next = next.into_iter().chain(due).min();
    }
    Ok(next.into_iter().chain(compare::next_due(daemon, &mut tx, now).await?).min())
}
