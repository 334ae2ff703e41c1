//! `sync list`, `show`, `accept`, `resync`: audiences, and what is to be done in them.

use model::sync::{AudienceAt, Has, Sync, Todo};
use serde_json::{Value, json};
use state::audience::Counts;
use state::audit::Entry;
use state::sync::SyncRun;

use crate::args::SyncCommand;
use crate::context::{Context, actor, known_sync};
use crate::failure::{Failure, code};
use crate::print::{Rows, say, thousands};

/// Entries that are listed at once.
const PAGE: u32 = 1_000;

/// Audiences and their people.
pub(crate) async fn sync(context: &Context, args: &SyncCommand) -> Result<u8, Failure> {
    match args {
        SyncCommand::List => list(context).await,
        SyncCommand::Show { name, people } => show(context, name, *people).await,
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
        let counts = match state::audience::find(&mut tx, &sync.audience).await? {
            Some(audience) => state::audience::counts(&mut tx, audience.number).await?,
            None => Counts::default(),
        };
        rows.push(listed(&sync.audience, Some((sync, run)), &counts));
    }
    // What was begun, and is kept by no file any more, is still there.
    for audience in state::audience::all(&mut tx).await? {
        let counts = state::audience::counts(&mut tx, audience.number).await?;
        let is_kept = project.syncs.values().any(|sync| sync.audience == audience.at);
        if is_kept || counts.has(Has::Yes) + counts.has(Has::Maybe) == 0 {
            continue;
        }
        rows.push(listed(&audience.at, None, &counts));
        say(&format!(
            "warning: no sync keeps audience {} any more; its people stay in it, but for those who opt out",
            audience.at
        ));
    }
    context.printer.rows(&rows, "there are no syncs")?;
    Ok(code::DONE)
}

/// A row of the list: an audience, and the sync that keeps it, with its last run.
fn listed(at: &AudienceAt, kept: Option<(&Sync, Option<SyncRun>)>, counts: &Counts) -> [Value; 12] {
    let (sync, run) = kept.map_or((None, None), |(sync, run)| (Some(sync), run));
    let to_remove = [Todo::OptOut, Todo::Remove, Todo::Leaves].map(|todo| counts.todo(todo));
    [
        json!(sync.map(|sync| sync.name.as_str())),
        json!(at.destination.as_str()),
        json!(at.name.as_str()),
        json!(sync.map(|sync| sync.from.to_string())),
        json!(run.as_ref().map(|run| run.wanted)),
        json!(counts.has(Has::Yes)),
        json!(counts.has(Has::Maybe)),
        json!(counts.todo(Todo::Add)),
        json!(to_remove.iter().sum::<u64>()),
        json!(counts.todo(Todo::Rejected)),
        json!(run.as_ref().map(|run| run.as_of.to_string())),
        json!(run.and_then(|run| run.held).map(|held| held.reason.as_str())),
    ]
}

async fn show(context: &Context, name: &str, people: bool) -> Result<u8, Failure> {
    let project = context.project()?;
    let sync = known_sync(&project, name)?;
    let state = context.state(&project).await?;
    let mut tx = state.read().await?;
    let run = state::sync::last_run(&mut tx, &sync.name).await?.map(|(run, _)| run);
    let audience = state::audience::find(&mut tx, &sync.audience).await?;
    let (Some(run), Some(audience)) = (run, audience) else {
        return Err(Failure::new(format!("sync `{}` has not run yet", sync.name)).hint(
            "`drumbeat plan` says whom it would add; `drumbeat run` runs it, once its segment has a good run",
        ));
    };
    if people {
        return show_people(context, &mut tx, audience.number).await;
    }
    let counts = state::audience::counts(&mut tx, audience.number).await?;
    say(&format!("{} · {} · {}", sync.title, sync.owner, sync.why));
    let remote_name = sync.audience.remote_name(&project.settings.project);
    let held = run.held.as_ref().map(|held| json!({ "reason": held.reason.as_str(), "saw": held.saw }));
    let left_out: serde_json::Map<String, Value> =
        run.left_out.iter().map(|(reason, count)| (reason.as_str().to_owned(), json!(count))).collect();
    let json = json!({
        "sync": sync.name.as_str(), "destination": sync.audience.destination.as_str(), "audience": sync.audience.name.as_str(),
        "remote_name": remote_name, "remote_id": audience.remote, "from": sync.from.to_string(), "as_of": run.as_of.to_string(),
        "wanted": run.wanted, "left_out": left_out, "in": counts.has(Has::Yes), "unknown": counts.has(Has::Maybe),
        "to_add": counts.todo(Todo::Add), "to_remove": counts.todo(Todo::Remove), "opted_out": counts.todo(Todo::OptOut),
        "leaving": counts.todo(Todo::Leaves), "rejected": counts.todo(Todo::Rejected), "held": held,
    });
    let text = || {
        let mut text = format!(
            "{} from {}, as of {}\ncalled {remote_name} there{}\n\n",
            sync.audience,
            sync.from,
            run.as_of,
            audience.remote.as_ref().map(|id| format!(", its id is {id}")).unwrap_or_default(),
        );
        let mut line =
            |count: u64, what: &str| text.push_str(&format!("  {:>9}  {what}\n", thousands(count)));
        line(run.wanted, "are to be in");
        line(counts.has(Has::Yes), "are in, as the destination says");
        for (count, what) in [
            (counts.has(Has::Maybe), "may be in: no answer came; they are asked for again"),
            (counts.todo(Todo::Add), "to be added"),
            (counts.todo(Todo::OptOut), "to be removed: they opted out"),
            (counts.todo(Todo::Remove), "to be removed"),
            (counts.todo(Todo::Leaves), "would be removed, and are held"),
            (counts.todo(Todo::Rejected), "refused by the destination; tried again when the sync runs again"),
        ] {
            if count > 0 {
                line(count, what);
            }
        }
        for (reason, count) in &run.left_out {
            line(*count, &format!("left out: {} ({reason})", reason.meaning()));
        }
        if let Some(held) = &run.held {
            text.push_str(&format!(
                "\nheld: {} ({}); `drumbeat sync accept {} --reason ...` lets them go\n",
                held.saw, held.reason, sync.name
            ));
        }
        text
    };
    context.printer.object(&json, text)?;
    Ok(code::DONE)
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

/// A person's word that those who are held may be removed: so many as there are now, once.
async fn accept(context: &Context, name: &str, reason: &str) -> Result<u8, Failure> {
    let project = context.project()?;
    let sync = known_sync(&project, name)?;
    let state = context.state_to_write(&project).await?;
    let now = context.now();
    let mut tx = state.write().await?;
    let leaving = match state::audience::find(&mut tx, &sync.audience).await? {
        Some(audience) => state::audience::leaving(&mut tx, audience.number).await?.1,
        None => 0,
    };
    if leaving == 0 {
        return Err(Failure::new(format!("sync `{}` holds nobody back", sync.name)));
    }
    let key = daemon::audiences::acceptance_key(&sync.name);
    state::meta::set(&mut tx, &key, &leaving.to_string()).await?;
    state::sync::make_due(&mut tx, &sync.name).await?;
    note(&mut tx, "removal_accepted", sync, leaving, reason, now);
    tx.commit().await?;
    say(&format!(
        "the next run of `{}`, which is due now, may remove {} people, and no more",
        sync.name,
        thousands(leaving)
    ));
    Ok(code::DONE)
}

/// Takes the destination's word for nothing: everybody who is to be in is added again, and whoever is to be out is removed.
async fn resync(context: &Context, name: &str, reason: &str) -> Result<u8, Failure> {
    let project = context.project()?;
    let sync = known_sync(&project, name)?;
    let state = context.state_to_write(&project).await?;
    let now = context.now();
    let mut tx = state.write().await?;
    let Some(audience) = state::audience::find(&mut tx, &sync.audience).await? else {
        return Err(Failure::new(format!("sync `{}` has not run yet", sync.name)));
    };
    let people = state::audience::distrust(&mut tx, audience.number, now).await?;
    state::sync::make_due(&mut tx, &sync.name).await?;
    note(&mut tx, "resync", sync, people, reason, now);
    tx.commit().await?;
    say(&format!("{} people are added to `{}` again", thousands(people), sync.audience.name));
    Ok(code::DONE)
}

fn note(
    tx: &mut state::Tx,
    kind: &'static str,
    sync: &Sync,
    people: u64,
    reason: &str,
    now: jiff::Timestamp,
) {
    let body = json!({ "sync": sync.name.as_str(), "people": people, "why": reason, "actor": actor() });
    state::audit::append(tx, &[Entry { kind, at: now, body }]);
}
