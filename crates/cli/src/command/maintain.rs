//! `backup`, `restore` and `migrate`.

use std::path::Path;

use project::Project;
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
        "Compare `drumbeat log` with the provider's, put in the opt-outs (`drumbeat suppress import`), then `drumbeat halt --lift`.",
    );
    Ok(code::DONE)
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
