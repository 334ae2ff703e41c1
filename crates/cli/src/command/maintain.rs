//! `backup`, `restore`, `reconcile` and `migrate`.

use std::path::{Path, PathBuf};

use daemon::reconcile::Reconciled;
use project::Project;
use serde_json::{Value, json};
use state::State;
use state::backup::{Checked, Manifest, manifest_path};

use crate::context::Context;
use crate::failure::{Failure, code};
use crate::print::{say, thousands};

/// Copies the state into a new file.
pub(crate) async fn backup(context: &Context, to: &Path) -> Result<u8, Failure> {
    let project = context.project()?;
    if to.exists() {
        return Err(Failure::new(format!("{} is there already", to.display()))
            .hint("a backup never overwrites a file"));
    }
    let state = context.state(&project).await?;
    let made = state.backup(to, context.now()).await?;
    say(&format!(
        "the state as of now is in {} ({} people, {} deliveries), and its manifest in {}",
        to.display(),
        thousands(count(&made, "profile")),
        thousands(count(&made, "delivery")),
        manifest_path(to).display()
    ));
    say(
        "The root key is not in it: keep .drumbeat/key (or whatever `keys.root` names) elsewhere, or addresses and links lose their meaning.",
    );
    Ok(code::DONE)
}

fn count(made: &Manifest, table: &str) -> u64 {
    made.rows.get(table).copied().unwrap_or(0)
}

/// Checks a backup: its manifest, the database in it, and its audit log.
pub(crate) async fn verify(context: &Context, copy: &Path) -> Result<u8, Failure> {
    let project = context.project()?;
    let (made, _) = checked(&project, copy).await?;
    say(&format!(
        "{} is good: as of {}, {} people, {} deliveries, and its audit log verifies",
        copy.display(),
        made.made_at,
        thousands(count(&made, "profile")),
        thousands(count(&made, "delivery"))
    ));
    Ok(code::DONE)
}

async fn checked(project: &Project, copy: &Path) -> Result<(Manifest, Checked), Failure> {
    let (made, checked) = state::backup::verify(copy).await?;
    // A state in which nothing has run has no keys yet, and nothing in its log.
    if let Some(keys) = daemon::open::keys_read_only(project, &checked.state).await? {
        let found = state::audit::verify(&checked.state, &keys.log_key(&project.settings.project)).await?;
        if let Some(fault) = found.first_fault {
            return Err(Failure::new(format!(
                "the audit log in {} was changed: first at entry {}",
                copy.display(),
                fault.entry
            )));
        }
    }
    Ok((made, checked))
}

/// Puts a backup in the place of the state.
pub(crate) async fn restore(context: &Context, from: &Path) -> Result<u8, Failure> {
    let project = context.project()?;
    let settings = &project.settings;
    let (made, checked) = checked(&project, from).await?;
    drop(checked);
    let restored = state::backup::restore(from, &made, &settings.state, &project.dir, context.now()).await?;
    say(&format!(
        "the state is as of {} again, and everything is halted: {} messages are due in it",
        made.made_at,
        thousands(restored.due)
    ));
    if let Some(aside) = restored.aside {
        say(&format!("what was there before is in {}", aside.display()));
    }
    say("What went out since then is not known in it, and would go again; opt-outs since then are missing.");
    say(
        "`drumbeat reconcile` puts in what the journal beside the state knows of that; look at `drumbeat in-doubt list`, then `drumbeat halt --lift`.",
    );
    Ok(code::DONE)
}

/// Puts in what the journal knows.
pub(crate) async fn reconcile(context: &Context, others: &[PathBuf]) -> Result<u8, Failure> {
    let project = context.project()?;
    if let Some(missing) = others.iter().find(|folder| !folder.is_dir()) {
        return Err(Failure::new(format!("there is no folder {}", missing.display())));
    }
    let state = context.state_to_write(&project).await?;
    let keys = context.keys(&project, &state).await?;
    let source = daemon::open::source(&project).await?;
    let own = state.journal_folder().map(Path::to_owned);
    let folders: Vec<PathBuf> = own.into_iter().chain(others.iter().cloned()).collect();
    let done =
        daemon::reconcile::reconcile(&project, &state, &keys, &source, &folders, context.now()).await?;
    let holes: Vec<Value> =
        done.holes.iter().map(|(from, to)| json!([from.to_string(), to.to_string()])).collect();
    let json = json!({
        "known": done.known, "accepted": done.accepted, "rejected": done.rejected, "in_doubt": done.in_doubt,
        "not_taken": done.not_taken, "to_strangers": done.to_strangers, "ended": done.ended, "consents": done.consents,
        "suppressions": done.suppressions, "erased": done.erased, "broken": done.broken, "holes": holes,
    });
    context.printer.object(&json, || told(&done))?;
    for (from, to) in &done.holes {
        say(&format!(
            "from {from} to {to} the journal could not be written: what happened then is not in it"
        ));
    }
    if done.broken > 0 {
        say(&format!("{} lines of it are torn or were changed, and were left out", thousands(done.broken)));
    }
    let is_sure = done.in_doubt == 0 && done.to_strangers == 0;
    Ok(if is_sure { code::DONE } else { code::IN_DOUBT })
}

fn told(done: &Reconciled) -> String {
    let mut lines = vec![format!("{} messages of the journal are known here already", thousands(done.known))];
    for (count, what) in [
        (done.accepted, "messages went out that were not known here: accepted"),
        (done.rejected, "messages were refused by their providers, which was not known here"),
        (done.in_doubt, "messages went out, and nobody knows what became of them: `drumbeat in-doubt list`"),
        (done.not_taken, "messages were not taken, and are tried again"),
        (done.to_strangers, "messages went to people who are in neither the state nor the warehouse"),
        (done.ended, "people came into a playbook since; their way through it ends with what they got"),
        (done.consents, "times somebody gave or took back consent: in force again"),
        (done.suppressions, "suppressions: in force again"),
        (done.erased, "people were erased since, and are again"),
    ] {
        if count > 0 {
            lines.push(format!("{} {what}", thousands(count)));
        }
    }
    lines.join("\n")
}

/// Brings the schema up to date.
pub(crate) async fn migrate(context: &Context) -> Result<u8, Failure> {
    let project = context.project()?;
    let applied = State::migrate(&project.settings.state, &project.dir).await?;
    if applied.is_empty() {
        say("the schema is up to date");
    }
    for name in applied {
        say(&format!("applied {name}"));
    }
    Ok(code::DONE)
}
