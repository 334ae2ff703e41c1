//! `sync list`, `show`, `accept`, `resync`: audiences and records, and what is to be done in them.

use daemon::report::KeptAt;
use model::SyncName;
use model::sync::{AudienceSync, Has, RecordTodo, Sync, SyncTo, Todo};
use serde_json::{Value, json};
use state::audience::Counts;
use state::audit::Entry;
use state::record::RecordCounts;
use state::sync::SyncRun;

use super::records;
use crate::args::SyncCommand;
use crate::context::{Context, actor, known_sync};
use crate::failure::{Failure, code};
use crate::print::{Rows, say, thousands};

/// Entries that are listed at once.
const PAGE: u32 = 1_000;

/// Audiences and records.
pub(crate) async fn sync(context: &Context, args: &SyncCommand) -> Result<u8, Failure> {
    match args {
        SyncCommand::List => list(context).await,
        SyncCommand::Show { name, people } => show(context, name, *people).await,
        SyncCommand::Diff { name, limit } => records::diff(context, name, *limit).await,
        SyncCommand::Accept { name, reason } => accept(context, name, reason).await,
        SyncCommand::Resync { name, reason } => resync(context, name, reason).await,
    }
}

async fn list(context: &Context) -> Result<u8, Failure> {
    let project = context.project()?;
    let state = context.state(&project).await?;
    let mut tx = state.read().await?;
    let mut rows = Rows::new(&[
        "sync",
        "destination",
        "audience",
        "object",
        "from",
        "wanted",
        "in",
        "unknown",
        "to_add",
        "to_remove",
        "rejected",
        "as_of",
        "held",
    ]);
    for sync in project.syncs.values() {
        let run = state::sync::last_run(&mut tx, &sync.name).await?.map(|(run, _)| run);
        let (at, counted) = match &sync.to {
            SyncTo::Audience(audience) => {
                let counts = match state::audience::find(&mut tx, &audience.at).await? {
                    Some(audience) => state::audience::counts(&mut tx, audience.number).await?,
                    None => Counts::default(),
                };
                (KeptAt::Audience(audience.at.clone()), Counted::from(&counts))
            }
            SyncTo::Record(record) => {
                let counts = match state::record::find(&mut tx, &sync.name, &record.at).await? {
                    Some(set) => state::record::counts(&mut tx, set.number).await?,
                    None => RecordCounts::default(),
                };
                (KeptAt::Records(record.at.clone()), Counted::from(&counts))
            }
        };
        rows.push(listed(&at, Some((sync, run)), &counted));
    }
    // What was begun, and is kept by no file any more, is still there.
    for audience in state::audience::all(&mut tx).await? {
        let counts = state::audience::counts(&mut tx, audience.number).await?;
        let is_kept =
            project.syncs.values().any(|sync| sync.audience().is_some_and(|kept| kept.at == audience.at));
        if is_kept || counts.has(Has::Yes) + counts.has(Has::Maybe) == 0 {
            continue;
        }
        say(&format!(
            "warning: no sync keeps audience {} any more; its people stay in it, but for those who opt out",
            audience.at
        ));
        rows.push(listed(&KeptAt::Audience(audience.at), None, &Counted::from(&counts)));
    }
    for set in state::record::all(&mut tx).await? {
        let counts = state::record::counts(&mut tx, set.number).await?;
        let keeps = project.syncs.get(&set.sync).and_then(Sync::record);
        if keeps.is_some_and(|record| record.at == set.at)
            || counts.has(Has::Yes) + counts.has(Has::Maybe) == 0
        {
            continue;
        }
        say(&format!(
            "warning: sync `{}` does not keep {} any more; `drumbeat record revert {}` undoes what it wrote",
            set.sync, set.at, set.sync
        ));
        rows.push(listed(&KeptAt::Records(set.at), None, &Counted::from(&counts)));
    }
    context.printer.rows(&rows, "there are no syncs")?;
    Ok(code::DONE)
}

/// What is there, and what is to be done.
struct Counted {
    is_in: u64,
    unknown: u64,
    to_add: u64,
    to_remove: u64,
    rejected: u64,
}

impl From<&Counts> for Counted {
    fn from(counts: &Counts) -> Self {
        let to_remove = [Todo::OptOut, Todo::Remove, Todo::Leaves].map(|todo| counts.todo(todo));
        Self {
            is_in: counts.has(Has::Yes),
            unknown: counts.has(Has::Maybe),
            to_add: counts.todo(Todo::Add),
            to_remove: to_remove.iter().sum(),
            rejected: counts.todo(Todo::Rejected),
        }
    }
}

impl From<&RecordCounts> for Counted {
    fn from(counts: &RecordCounts) -> Self {
        let to_remove =
            [RecordTodo::Clear, RecordTodo::Leaves, RecordTodo::Revert].map(|todo| counts.todo(todo));
        Self {
            is_in: counts.has(Has::Yes),
            unknown: counts.has(Has::Maybe),
            to_add: counts.todo(RecordTodo::Write),
            to_remove: to_remove.iter().sum(),
            rejected: counts.todo(RecordTodo::Rejected),
        }
    }
}

/// A row of the list: an audience or records, and the sync that keeps them, with its last run.
fn listed(at: &KeptAt, kept: Option<(&Sync, Option<SyncRun>)>, counted: &Counted) -> [Value; 13] {
    let (sync, run) = kept.map_or((None, None), |(sync, run)| (Some(sync), run));
    let (destination, audience, object) = match at {
        KeptAt::Audience(at) => (&at.destination, Some(at.name.as_str()), None),
        KeptAt::Records(at) => (&at.destination, None, Some(at.object.as_str())),
    };
    [
        json!(sync.map(|sync| sync.name.as_str())),
        json!(destination.as_str()),
        json!(audience),
        json!(object),
        json!(sync.map(|sync| sync.from.to_string())),
        json!(run.as_ref().map(|run| run.wanted)),
        json!(counted.is_in),
        json!(counted.unknown),
        json!(counted.to_add),
        json!(counted.to_remove),
        json!(counted.rejected),
        json!(run.as_ref().map(|run| run.as_of.to_string())),
        json!(run.and_then(|run| run.held).map(|held| held.reason.as_str())),
    ]
}

async fn show(context: &Context, name: &str, people: bool) -> Result<u8, Failure> {
    let project = context.project()?;
    let sync = known_sync(&project, name)?;
    let state = context.state(&project).await?;
    let mut tx = state.read().await?;
    let Some((run, _)) = state::sync::last_run(&mut tx, &sync.name).await? else {
        return Err(not_run(sync));
    };
    match &sync.to {
        SyncTo::Audience(audience) => show_audience(context, &mut tx, (sync, audience), &run, people).await,
        SyncTo::Record(record) => records::show(context, &mut tx, (sync, record), &run, people).await,
    }
}

/// A sync that never ran.
pub(super) fn not_run(sync: &Sync) -> Failure {
    Failure::new(format!("sync `{}` has not run yet", sync.name)).hint(
        "`drumbeat plan` says what it would do; `drumbeat run` runs it, once its segment has a good run",
    )
}

async fn show_audience(
    context: &Context,
    tx: &mut state::Tx,
    (sync, keeps): (&Sync, &AudienceSync),
    run: &SyncRun,
    people: bool,
) -> Result<u8, Failure> {
    let Some(audience) = state::audience::find(tx, &keeps.at).await? else { return Err(not_run(sync)) };
    if people {
        return show_people(context, tx, audience.number).await;
    }
    let counts = state::audience::counts(tx, audience.number).await?;
    say(&format!("{} · {} · {}", sync.title, sync.owner, sync.why));
    let remote_name = keeps.at.remote_name(&context.project()?.settings.project);
    let held = run.held.as_ref().map(|held| json!({ "reason": held.reason.as_str(), "saw": held.saw }));
    let left_out: serde_json::Map<String, Value> =
        run.left_out.iter().map(|(reason, count)| (reason.as_str().to_owned(), json!(count))).collect();
    let json = json!({
        "sync": sync.name.as_str(), "destination": keeps.at.destination.as_str(), "audience": keeps.at.name.as_str(),
        "remote_name": remote_name, "remote_id": audience.remote, "from": sync.from.to_string(), "as_of": run.as_of.to_string(),
        "wanted": run.wanted, "left_out": left_out, "in": counts.has(Has::Yes), "unknown": counts.has(Has::Maybe),
        "to_add": counts.todo(Todo::Add), "to_remove": counts.todo(Todo::Remove), "opted_out": counts.todo(Todo::OptOut),
        "leaving": counts.todo(Todo::Leaves), "rejected": counts.todo(Todo::Rejected), "held": held,
    });
    let text = || {
        let mut text = format!(
            "{} from {}, as of {}\ncalled {remote_name} there{}\n\n",
            keeps.at,
            sync.from,
            run.as_of,
            audience.remote.as_ref().map(|id| format!(", its id is {id}")).unwrap_or_default(),
        );
        let always =
            [(run.wanted, "are to be in"), (counts.has(Has::Yes), "are in, as the destination says")];
        let more = [
            (counts.has(Has::Maybe), "may be in: no answer came; they are asked for again"),
            (counts.todo(Todo::Add), "to be added"),
            (counts.todo(Todo::OptOut), "to be removed: they opted out"),
            (counts.todo(Todo::Remove), "to be removed"),
            (counts.todo(Todo::Leaves), "would be removed, and are held"),
            (counts.todo(Todo::Rejected), "refused by the destination; tried again when the sync runs again"),
        ];
        text.push_str(&counted(&always, &more, run));
        text
    };
    context.printer.object(&json, text)?;
    Ok(code::DONE)
}

/// Lines of counts: `always`, and those of `more` that are not zero; what was left out, and what is held.
pub(super) fn counted(always: &[(u64, &str)], more: &[(u64, &str)], run: &SyncRun) -> String {
    let mut text = String::new();
    let some = more.iter().filter(|(count, _)| *count > 0);
    for (count, what) in always.iter().chain(some) {
        text.push_str(&format!("  {:>9}  {what}\n", thousands(*count)));
    }
    for (reason, count) in &run.left_out {
        text.push_str(&format!("  {:>9}  left out: {} ({reason})\n", thousands(*count), reason.meaning()));
    }
    if let Some(held) = &run.held {
        text.push_str(&format!(
            "\nheld: {} ({}); `drumbeat sync accept {} --reason ...` lets them go\n",
            held.saw, held.reason, run.sync
        ));
    }
    text
}

async fn show_people(context: &Context, tx: &mut state::Tx, audience: u32) -> Result<u8, Failure> {
    let mut rows = Rows::new(&["profile", "todo", "in", "reason", "since"]);
    let mut after = None;
    loop {
        let page = state::audience::listed(tx, audience, after.as_ref(), PAGE).await?;
        let numbers: Vec<model::ProfileNumber> = page.iter().map(|one| one.key.profile).collect();
        let ids = state::profile::ids_of(tx, &numbers).await?;
        for one in &page {
            let number = one.key.profile;
            rows.push([
                json!(ids.get(&number).cloned().unwrap_or_else(|| format!("erased:{number}"))),
                json!(one.todo.as_str()),
                json!(one.has.as_str()),
                json!(one.reason.as_str()),
                json!(one.since.to_string()),
            ]);
        }
        after = page.last().map(|one| one.key.clone());
        if page.len() < PAGE as usize {
            break;
        }
    }
    context.printer.rows(&rows, "nobody")?;
    Ok(code::DONE)
}

/// A person's word that those who are held may be removed, or emptied: so many as there are now, once.
async fn accept(context: &Context, name: &str, reason: &str) -> Result<u8, Failure> {
    let project = context.project()?;
    let sync = known_sync(&project, name)?;
    let state = context.state_to_write(&project).await?;
    let now = context.now();
    let mut tx = state.write().await?;
    let (leaving, what) = match &sync.to {
        SyncTo::Audience(keeps) => match state::audience::find(&mut tx, &keeps.at).await? {
            Some(audience) => {
                (state::audience::leaving(&mut tx, audience.number).await?.1, "remove {} people")
            }
            None => (0, ""),
        },
        SyncTo::Record(keeps) => match state::record::find(&mut tx, &sync.name, &keeps.at).await? {
            Some(set) => (state::record::leaving(&mut tx, set.number).await?.1, "empty {} records"),
            None => (0, ""),
        },
    };
    if leaving == 0 {
        return Err(Failure::new(format!("sync `{}` holds nobody back", sync.name)));
    }
    let key = daemon::audiences::acceptance_key(&sync.name);
    state::meta::set(&mut tx, &key, &leaving.to_string()).await?;
    state::sync::make_due(&mut tx, &sync.name).await?;
    note(&mut tx, "removal_accepted", &sync.name, leaving, reason, now);
    tx.commit().await?;
    say(&format!(
        "the next run of `{}`, which is due now, may {}, and no more",
        sync.name,
        what.replace("{}", &thousands(leaving))
    ));
    Ok(code::DONE)
}

/// Takes the destination's word for nothing: everything that is to be there is asked for again, and what is not is taken out.
async fn resync(context: &Context, name: &str, reason: &str) -> Result<u8, Failure> {
    let project = context.project()?;
    let sync = known_sync(&project, name)?;
    let state = context.state_to_write(&project).await?;
    let now = context.now();
    let mut tx = state.write().await?;
    let (count, done) = match &sync.to {
        SyncTo::Audience(keeps) => {
            let Some(audience) = state::audience::find(&mut tx, &keeps.at).await? else {
                return Err(not_run(sync));
            };
            let people = state::audience::distrust(&mut tx, audience.number, now).await?;
            (people, format!("{} people are added to `{}` again", thousands(people), keeps.at.name))
        }
        SyncTo::Record(keeps) => {
            let Some(set) = state::record::find(&mut tx, &sync.name, &keeps.at).await? else {
                return Err(not_run(sync));
            };
            let records = state::record::distrust(&mut tx, set.number, now).await?;
            (records, format!("{} records are read again, and written where they differ", thousands(records)))
        }
    };
    state::sync::make_due(&mut tx, &sync.name).await?;
    note(&mut tx, "resync", &sync.name, count, reason, now);
    tx.commit().await?;
    say(&done);
    Ok(code::DONE)
}

pub(super) fn note(
    tx: &mut state::Tx,
    kind: &'static str,
    sync: &SyncName,
    count: u64,
    reason: &str,
    now: jiff::Timestamp,
) {
    let body = json!({ "sync": sync.as_str(), "count": count, "why": reason, "actor": actor() });
    state::audit::append(tx, &[Entry { kind, at: now, body }]);
}
