//! `backup` and `migrate`.

use std::path::Path;

use state::State;

use crate::context::Context;
use crate::failure::{Failure, code};
use crate::print::say;

/// Copies the state into a new file.
pub(crate) async fn backup(context: &Context, to: &Path) -> Result<u8, Failure> {
    let project = context.project()?;
    if to.exists() {
        return Err(Failure::new(format!("{} is there already", to.display()))
            .hint("a backup never overwrites a file"));
    }
    let state = context.state(&project).await?;
    state.backup(to).await?;
    say(&format!("the state as of now is in {}", to.display()));
    say(
        "The root key is not in it: keep .drumbeat/key (or whatever `keys.root` names) elsewhere, or addresses and links lose their meaning.",
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
