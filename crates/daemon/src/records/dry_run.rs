//! What a sync of records would write: read at the destination, and not written.

use jiff::Timestamp;
use model::sync::{RecordOf, RecordTodo, Sync};
use model::{Reason, Refusal};
use serde_json::Value;
use state::record::RecordCounts;

use super::{ComesTo, Content, Pusher, Then, keeps};
use crate::daemon::{Carrier, Daemon, DaemonError, Surroundings};
use crate::push::pause_after;
use crate::report::{Pushed, SyncReport};

/// What would become of one record.
#[derive(Debug, Clone)]
pub struct Foreseen {
    /// Whose it is.
    pub of: RecordOf,
    /// What it is to hold.
    pub content: Content,
    /// The provider's id, where it is there.
    pub record: Option<String>,
    /// What it comes to.
    pub comes_to: ComesTo,
    /// The fields that would change: what stands in them, and what would.
    pub changes: Vec<(String, Value, Value)>,
    /// Those that would, and stay, since somebody else wrote what stands in them.
    pub kept: Vec<String>,
}

/// What a sync of records would write if it ran now: at most `limit` records, read at their destination. `copy` has a state that is thrown away;
/// `daemon` reaches the destination. Nothing is written.
pub async fn dry_run(
    daemon: &Daemon,
    copy: &Daemon,
    sync: &Sync,
    now: Timestamp,
    limit: usize,
) -> Result<Result<(SyncReport, RecordCounts, Vec<Foreseen>), Refusal>, DaemonError> {
    let cannot = |saw: &str| Ok(Err(Refusal { reason: Reason::SysConnectorDisabled, saw: saw.to_owned() }));
    let driver = daemon.carriers.get(sync.destination()).and_then(Carrier::names);
    let Some((driver, kind)) = driver.and_then(|driver| Some((driver, driver.records()?.0))) else {
        return cannot("its destination has no records in this process");
    };
    let mut tx = copy.state.read().await?;
    let surroundings = Surroundings::read(&mut tx, &copy.project, now).await?;
    drop(tx);
    let mut view = copy.source.view(now).await?;
    let compared = crate::stage::compare::compare(copy, &mut view, &surroundings, sync, now).await;
    view.close().await;
    let Some(compared) = compared? else { return cannot("it was undone, and stands still") };
    let mut tx = copy.state.read().await?;
    let Some(set) = state::record::all(&mut tx)
        .await?
        .into_iter()
        .find(|set| set.sync == sync.name && sync.record().is_some_and(|record| record.at == set.at))
    else {
        return cannot("it keeps nothing");
    };
    let counts = state::record::counts(&mut tx, set.number).await?;
    let work = state::record::work(&mut tx, set.number, RecordTodo::Write, limit).await?;
    drop(tx);
    if let Err(refusal) = driver.may_hand_over() {
        return Ok(Err(refusal));
    }
    let keeps = keeps(copy, &set);
    let (is_unique, rows, mut pushed) = (false, kind.rows_max, Pushed::default());
    let mut pusher =
        Pusher { daemon: copy, driver, kind, keeps, set, is_unique, rows, now, pushed: &mut pushed };
    let mut foreseen = Vec::new();
    let mut refused = None;
    if !work.is_empty() && pusher.describe().await? == Then::Stop {
        let put_off = std::mem::take(&mut pusher.pushed.records_put_off).into_values().next();
        refused = put_off.or_else(|| std::mem::take(&mut pusher.pushed.halted).into_values().next());
    }
    if let Some(refusal) = refused {
        return Ok(Err(refusal));
    }
    let mut rest = &work[..];
    while !rest.is_empty() {
        let (page, after) = rest.split_at(pusher.rows.min(rest.len()));
        let lines = match pusher.look(RecordTodo::Write, page.to_vec()).await? {
            Ok(lines) => lines,
            Err(outcome) if pusher.reads_fewer_after(&outcome, page.len()) => continue,
            Err(outcome) => return Ok(Err(pause_after(&outcome, 1).1)),
        };
        rest = after;
        foreseen.extend(lines.into_iter().map(|line| {
            let stands = |name: &String| line.found.as_ref()?.fields.get(name).cloned();
            let changes = line
                .plan
                .write
                .iter()
                .map(|(name, value)| (name.clone(), stands(name).unwrap_or_default(), value.clone()));
            Foreseen {
                changes: changes.collect(),
                comes_to: line.comes_to(RecordTodo::Write),
                record: line.found.as_ref().map(|found| found.id.clone()),
                of: line.work.key.of,
                content: line.content,
                kept: line.plan.kept,
            }
        }));
    }
    Ok(Ok((compared, counts, foreseen)))
}
