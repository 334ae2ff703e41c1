//! `playbook list`, `show`, `activate`, `approve`, `pause`, `resume`, `archive`.

use std::collections::BTreeMap;

use daemon::first_run::Approval;
use model::PlaybookName;
use project::Project;
use serde_json::json;
use state::audit::Entry;
use state::delivery::Filter;
use state::playbook::Status;

use crate::args::Playbook;
use crate::context::{Context, actor, known_playbook};
use crate::failure::{Failure, code};
use crate::print::{Rows, say, thousands};

/// Playbooks.
pub(crate) async fn playbook(context: &Context, args: &Playbook) -> Result<u8, Failure> {
    let project = context.project()?;
    match args {
        Playbook::List => list(context, &project).await,
        Playbook::Show { name } => show(context, &project, &known_playbook(&project, name)?).await,
        Playbook::Activate { name } => activate(context, &project, &known_playbook(&project, name)?).await,
        Playbook::Approve { name, second } => {
            approve(context, &project, &known_playbook(&project, name)?, second).await
        }
        Playbook::Pause { name } => set(context, &project, name, Status::Paused, "paused").await,
        Playbook::Resume { name } => set(context, &project, name, Status::Active, "goes on").await,
        Playbook::Archive { name } => {
            set(context, &project, name, Status::Archived, "is archived: nobody enters any more").await
        }
    }
}

fn word(status: Option<Status>) -> &'static str {
    match status {
        None => "draft",
        Some(Status::Active) => "active",
        Some(Status::Paused) => "paused",
        Some(Status::Archived) => "archived",
    }
}

async fn list(context: &Context, project: &Project) -> Result<u8, Failure> {
    let state = context.state(project).await?;
    let mut tx = state.read().await?;
    let mut rows =
        Rows::new(&["playbook", "status", "enter", "priority", "accepted", "withheld", "deferred", "title"]);
    for (name, playbook) in &project.playbooks {
        let known = state::playbook::load(&mut tx, name).await?;
        let counts = counts(&mut tx, name).await?;
        let count = |state: &str| counts.get(state).copied().unwrap_or(0);
        rows.push([
            json!(name.as_str()),
            json!(word(known.map(|known| known.status))),
            json!(playbook.enter.as_str()),
            json!(playbook.priority),
            json!(count("accepted")),
            json!(count("withheld")),
            json!(count("deferred")),
            json!(playbook.title),
        ]);
    }
    context.printer.rows(&rows, "there are no playbooks")?;
    Ok(code::DONE)
}

async fn counts(tx: &mut state::Tx, playbook: &PlaybookName) -> Result<BTreeMap<&'static str, u64>, Failure> {
    let filter = Filter { playbook: Some(playbook.clone()), ..Filter::default() };
    let mut counts = BTreeMap::new();
    for ((state, _), count) in state::delivery::counts(tx, &filter).await? {
        *counts.entry(state.shown()).or_insert(0) += count;
    }
    Ok(counts)
}

async fn show(context: &Context, project: &Project, name: &PlaybookName) -> Result<u8, Failure> {
    let state = context.state(project).await?;
    let mut tx = state.read().await?;
    let Some(playbook) = project.playbooks.get(name) else { return Err(Failure::new("no such playbook")) };
    let known = state::playbook::load(&mut tx, name).await?;
    say(&format!("{} · {} · {}", playbook.title, playbook.owner, playbook.why));
    match &known {
        Some(known) => say(&format!(
            "{}, since {}; version {}",
            word(Some(known.status)),
            known.activated_at,
            known.version
        )),
        None => say("draft: no run has seen it yet"),
    }
    let filter = Filter { playbook: Some(name.clone()), ..Filter::default() };
    let mut rows = Rows::new(&["state", "reason", "count", "meaning"]);
    for ((state, reason), count) in state::delivery::counts(&mut tx, &filter).await? {
        rows.push([json!(state.shown()), json!(reason.as_str()), json!(count), json!(reason.meaning())]);
    }
    context.printer.rows(&rows, "nothing was decided yet")?;
    Ok(code::DONE)
}

async fn activate(context: &Context, project: &Project, name: &PlaybookName) -> Result<u8, Failure> {
    let state = context.state_to_write(project).await?;
    let now = context.now();
    let mut tx = state.write().await?;
    match state::playbook::load(&mut tx, name).await? {
        Some(known) if known.status == Status::Active => {
            say("is active already");
            return Ok(code::DONE);
        }
        Some(_) => drop(tx),
        None => {
            let key = daemon::stage::enter::activation_key(name);
            state::meta::set(&mut tx, &key, &now.as_millisecond().to_string()).await?;
            let body = json!({ "playbook": name.as_str(), "actor": actor() });
            state::audit::append(&mut tx, &[Entry { kind: "playbook_activation_asked", at: now, body }]);
            tx.commit().await?;
            say("begins with the next good run of its segment");
            return Ok(code::DONE);
        }
    }
    set(context, project, name.as_str(), Status::Active, "is active").await
}

async fn approve(
    context: &Context,
    project: &Project,
    name: &PlaybookName,
    second: &str,
) -> Result<u8, Failure> {
    if second.trim().is_empty() || second == actor() {
        return Err(Failure::new("the second person is another one").with_code(code::HELD));
    }
    let state = context.state_to_write(project).await?;
    let now = context.now();
    let mut tx = state.write().await?;
    let playbook = project.playbooks.get(name).ok_or_else(|| Failure::new("no such playbook"))?;
    let known = state::playbook::load(&mut tx, name).await?;
    let current = state::segment::current(&mut tx, &playbook.enter).await?;
    let (Some(known), Some(current)) = (known, current) else {
        return Err(Failure::new(format!("playbook `{name}` has not begun yet"))
            .hint("its first run says how many would enter"));
    };
    let people = (&current.members - &known.seen).len();
    let approval = Approval::of(&playbook.version, people, now);
    daemon::first_run::approve(&mut tx, name, &approval).await?;
    let body = json!({
        "playbook": name.as_str(), "version": playbook.version, "people": people, "ceiling": approval.ceiling, "actor": actor(),
        "second": second,
    });
    state::audit::append(&mut tx, &[Entry { kind: "first_run_approved", at: now, body }]);
    tx.commit().await?;
    say(&format!(
        "{} people may enter playbook `{name}` at the first run of its present version, and up to {}; for a week",
        thousands(people),
        thousands(approval.ceiling)
    ));
    Ok(code::DONE)
}

async fn set(
    context: &Context,
    project: &Project,
    name: &str,
    status: Status,
    said: &str,
) -> Result<u8, Failure> {
    let name = known_playbook(project, name)?;
    let state = context.state_to_write(project).await?;
    let now = context.now();
    let mut tx = state.write().await?;
    if !state::playbook::set_status(&mut tx, &name, status).await? {
        return Err(Failure::new(format!("playbook `{name}` has not begun yet"))
            .hint("it begins with the first run that sees it; in production, `playbook activate` lets it"));
    }
    let body = json!({ "playbook": name.as_str(), "status": word(Some(status)), "actor": actor() });
    state::audit::append(&mut tx, &[Entry { kind: "playbook_status", at: now, body }]);
    tx.commit().await?;
    say(&format!("playbook `{name}` {said}"));
    Ok(code::DONE)
}
