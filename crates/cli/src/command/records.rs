//! `sync show` and `sync diff` of records, and `record revert`.

use std::collections::BTreeMap;

use daemon::records::{ComesTo, Content, Foreseen};
use model::sync::{Has, RecordOf, RecordSync, RecordTodo, Sync};
use model::{ProfileNumber, Refusal};
use serde_json::{Value, json};
use state::sync::SyncRun;

use super::sync::{counted, not_run, note};
use crate::args::RecordCommand;
use crate::context::{Context, known_sync};
use crate::failure::{Failure, code};
use crate::print::{Rows, printable, say, thousands};

/// Entries that are listed at once.
const PAGE: u32 = 1_000;
/// A value is shown to people no longer, in characters.
const SHOWN_MAX: usize = 40;

/// What was written into records.
pub(crate) async fn record(context: &Context, args: &RecordCommand) -> Result<u8, Failure> {
    match args {
        RecordCommand::Revert { name, reason } => revert(context, name, reason).await,
    }
}

/// One sync of records.
pub(super) async fn show(
    context: &Context,
    tx: &mut state::Tx,
    (sync, keeps): (&Sync, &RecordSync),
    run: &SyncRun,
    all: bool,
) -> Result<u8, Failure> {
    let Some(set) = state::record::find(tx, &sync.name, &keeps.at).await? else { return Err(not_run(sync)) };
    if all {
        return show_all(context, tx, set.number).await;
    }
    let counts = state::record::counts(tx, set.number).await?;
    say(&format!("{} · {} · {}", sync.title, sync.owner, sync.why));
    let held = run.held.as_ref().map(|held| json!({ "reason": held.reason.as_str(), "saw": held.saw }));
    let left_out: serde_json::Map<String, Value> =
        run.left_out.iter().map(|(reason, count)| (reason.as_str().to_owned(), json!(count))).collect();
    let json = json!({
        "sync": sync.name.as_str(), "destination": keeps.at.destination.as_str(), "object": keeps.at.object, "match": keeps.at.key,
        "fields": keeps.fields, "on_edit": keeps.on_edit.as_str(), "gone": keeps.gone.as_str(), "from": sync.from.to_string(),
        "as_of": run.as_of.to_string(), "wanted": run.wanted, "left_out": left_out, "in": counts.has(Has::Yes),
        "unknown": counts.has(Has::Maybe), "to_write": counts.todo(RecordTodo::Write), "to_clear": counts.todo(RecordTodo::Clear),
        "leaving": counts.todo(RecordTodo::Leaves), "to_revert": counts.todo(RecordTodo::Revert),
        "rejected": counts.todo(RecordTodo::Rejected), "edited": counts.edited,
        "reverted_at": set.reverted_at.map(|at| at.to_string()), "held": held,
    });
    let text = || {
        let mut text = format!("{} from {}, as of {}\n\n", keeps.at, sync.from, run.as_of);
        let always = [
            (run.wanted, "records are to be kept"),
            (counts.has(Has::Yes), "hold what they are to hold, as the destination says"),
        ];
        let more = [
            (counts.edited, "of them hold something in a field that Drumbeat did not write, and that stays"),
            (counts.has(Has::Maybe), "may hold it: no answer came; they are read again"),
            (counts.todo(RecordTodo::Write), "to be written"),
            (counts.todo(RecordTodo::Clear), "to be emptied of what was written"),
            (counts.todo(RecordTodo::Leaves), "would be emptied, and are held"),
            (counts.todo(RecordTodo::Revert), "to be made what they were"),
            (counts.todo(RecordTodo::Rejected), "refused; tried again when the sync runs again"),
        ];
        text.push_str(&counted(&always, &more, run));
        if let Some(at) = set.reverted_at {
            text.push_str(&format!(
                "\nundone since {at}: it stands still until `drumbeat sync resync {} --reason ...`\n",
                sync.name
            ));
        }
        text
    };
    context.printer.object(&json, text)?;
    Ok(code::DONE)
}

async fn show_all(context: &Context, tx: &mut state::Tx, set: u32) -> Result<u8, Failure> {
    let project = context.project()?;
    let daemon = context.looking(project).await?;
    let mut rows = Rows::new(&["of", "record", "todo", "in", "edited", "reason", "since"]);
    let mut after = None;
    loop {
        let page = state::record::listed(tx, set, after.as_ref(), PAGE).await?;
        let names = names(tx, page.iter().map(|one| &one.key.of)).await?;
        for one in &page {
            let content = daemon::records::open(&daemon, &one.sealed).ok();
            rows.push([
                json!(name_of(&one.key.of, content.as_ref(), &names)),
                json!(one.remote),
                json!(one.todo.as_str()),
                json!(one.has.as_str()),
                json!(one.kept),
                json!(one.reason.as_str()),
                json!(one.since.to_string()),
            ]);
        }
        after = page.last().map(|one| one.key.clone());
        if page.len() < PAGE as usize {
            break;
        }
    }
    context.printer.rows(&rows, "there are no records")?;
    Ok(code::DONE)
}

/// The warehouse's ids of the people among these.
async fn names<'a>(
    tx: &mut state::Tx,
    of: impl Iterator<Item = &'a RecordOf>,
) -> Result<BTreeMap<ProfileNumber, String>, Failure> {
    let numbers: Vec<ProfileNumber> = of
        .filter_map(|of| match of {
            RecordOf::Profile(number) => Some(*number),
            RecordOf::Account(_) => None,
        })
        .collect();
    Ok(state::profile::ids_of(tx, &numbers).await?)
}

/// Whose record it is, as the warehouse calls them.
fn name_of(of: &RecordOf, content: Option<&Content>, names: &BTreeMap<ProfileNumber, String>) -> String {
    match of {
        RecordOf::Profile(number) => names.get(number).cloned().unwrap_or_else(|| format!("erased:{number}")),
        RecordOf::Account(_) => content.and_then(|content| content.account.clone()).unwrap_or_default(),
    }
}

/// What a sync of records would write now, before and after.
pub(super) async fn diff(context: &Context, name: &str, limit: usize) -> Result<u8, Failure> {
    let project = context.project()?;
    super::check::refuse_mistakes(context, &project).await?;
    let sync = known_sync(&project, name)?.clone();
    if sync.record().is_none() {
        return Err(Failure::new(format!("sync `{}` keeps an audience", sync.name))
            .hint("`drumbeat plan` names everybody it would add and remove"));
    }
    let now = context.now();
    let (daemon, scratch) = context.foreseeing(project, now).await?;
    let copy = daemon::plan::copy(&daemon, scratch);
    let foreseen = daemon::records::dry_run(&daemon, &copy, &sync, now, limit.max(1)).await?;
    let (report, counts, records) = foreseen.map_err(|Refusal { reason, saw }| {
        Failure::new(format!("the records of `{}` cannot be read: {saw} ({reason})", sync.name))
    })?;
    let mut tx = copy.state.read().await?;
    let names = names(&mut tx, records.iter().map(|one| &one.of)).await?;
    let shown: Vec<Value> = records.iter().map(|one| foreseen_json(one, &names)).collect();
    let to_write = counts.todo(RecordTodo::Write);
    let held = report.held.as_ref().map(|held| json!({ "reason": held.reason.as_str(), "saw": held.saw }));
    let json = json!({
        "sync": sync.name.as_str(), "wanted": report.wanted, "to_write": to_write, "to_clear": counts.todo(RecordTodo::Clear),
        "read": records.len(), "held": held, "records": shown,
    });
    context.printer.object(&json, || foreseen_text(&records, &names, to_write, &report.left_out))?;
    Ok(code::DONE)
}

fn foreseen_json(one: &Foreseen, names: &BTreeMap<ProfileNumber, String>) -> Value {
    let changes: serde_json::Map<String, Value> = one
        .changes
        .iter()
        .map(|(field, before, after)| (field.clone(), json!({ "before": before, "after": after })))
        .collect();
    json!({
        "of": name_of(&one.of, Some(&one.content), names), "key": one.content.key, "record": one.record,
        "comes_to": word(one.comes_to), "changes": changes, "edited": one.kept,
    })
}

fn word(comes_to: ComesTo) -> &'static str {
    match comes_to {
        ComesTo::Made => "made",
        ComesTo::Written => "written",
        ComesTo::Nothing => "same",
        ComesTo::Ambiguous => "ambiguous",
    }
}

fn foreseen_text(
    records: &[Foreseen],
    names: &BTreeMap<ProfileNumber, String>,
    to_write: u64,
    left_out: &BTreeMap<model::Reason, u64>,
) -> String {
    let mut text = String::new();
    for one in records.iter().filter(|one| one.comes_to != ComesTo::Nothing || !one.kept.is_empty()) {
        let what = match (one.comes_to, &one.record) {
            (ComesTo::Made, _) => "is made".to_owned(),
            (ComesTo::Ambiguous, _) => "is not written: several records have its key".to_owned(),
            (ComesTo::Written | ComesTo::Nothing, id) => {
                format!("is record {}", printable(id.as_deref().unwrap_or("?")))
            }
        };
        let of = printable(&name_of(&one.of, Some(&one.content), names));
        text.push_str(&format!("{of} ({}) {what}\n", printable(&one.content.key)));
        for (field, before, after) in &one.changes {
            text.push_str(&format!("  {}: {} -> {}\n", printable(field), shown(before), shown(after)));
        }
        for field in &one.kept {
            text.push_str(&format!("  {}: stays, since somebody else wrote it\n", printable(field)));
        }
    }
    let count = |wanted| records.iter().filter(|one| one.comes_to == wanted).count() as u64;
    text.push_str(&format!(
        "\n{} made, {} written, {} as they are to be, {} ambiguous",
        thousands(count(ComesTo::Made)),
        thousands(count(ComesTo::Written)),
        thousands(count(ComesTo::Nothing)),
        thousands(count(ComesTo::Ambiguous))
    ));
    let more = to_write.saturating_sub(records.len() as u64);
    match more {
        0 => text.push('\n'),
        more => {
            text.push_str(&format!("; {} more were not read: `--limit` says how many\n", thousands(more)))
        }
    }
    for (reason, count) in left_out {
        text.push_str(&format!("{} left out: {} ({reason})\n", thousands(*count), reason.meaning()));
    }
    text
}

/// A value for people.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => return "(empty)".to_owned(),
        Value::String(text) => printable(text),
        other => other.to_string(),
    };
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

async fn revert(context: &Context, name: &str, reason: &str) -> Result<u8, Failure> {
    let project = context.project()?;
    let state = context.state_to_write(&project).await?;
    let now = context.now();
    let mut tx = state.write().await?;
    let bare = name.strip_prefix("sync.").unwrap_or(name);
    // Also those that no file keeps any more.
    let sets: Vec<_> =
        state::record::all(&mut tx).await?.into_iter().filter(|set| set.sync.as_str() == bare).collect();
    if sets.is_empty() {
        let sync = known_sync(&project, name)?;
        return Err(match sync.record() {
            Some(_) => not_run(sync),
            None => Failure::new(format!("sync `{}` keeps an audience", sync.name))
                .hint("take its file away, or let it be `from` an empty segment"),
        });
    }
    for set in &sets {
        let kind = project.settings.destinations.get(&set.at.destination).map(|one| one.connector.as_str());
        let reads = connectors::ALL
            .iter()
            .find(|known| Some(known.name) == kind)
            .and_then(|known| known.records)
            .is_some_and(|records| records.reads);
        if !reads {
            return Err(Failure::new(format!(
                "what was written at `{}` cannot be undone: it does not say what stood there before",
                set.at.destination
            )));
        }
    }
    let mut records = 0;
    for set in &sets {
        records += state::record::revert(&mut tx, set.number, now).await?;
    }
    note(&mut tx, "records_reverted", &sets[0].sync, records, reason, now);
    tx.commit().await?;
    say(&format!(
        "{} records are made what they were before, by `drumbeat run`; fields that somebody else wrote since stay, and records that were made stay, emptied",
        thousands(records)
    ));
    say(&format!("`{bare}` stands still until `drumbeat sync resync {bare} --reason ...`"));
    Ok(code::DONE)
}
