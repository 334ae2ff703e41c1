//! `audit verify`, `export`, `checkpoint`, `key`.

use serde_json::json;
use state::keys::LogKey;

use crate::args::Audit;
use crate::context::Context;
use crate::failure::{Failure, code};
use crate::print::thousands;

/// Proof that the log was not changed.
pub(crate) async fn audit(context: &Context, args: &Audit) -> Result<u8, Failure> {
    let project = context.project()?;
    let state = context.state(&project).await?;
    match args {
        Audit::Verify { key } => {
            let key = match key {
                Some(text) => LogKey::parse(text)
                    .ok_or_else(|| Failure::new("this is no key of a log: `audit key` prints one"))?,
                None => own_key(context, &project, &state).await?,
            };
            let found = state::audit::verify(&state, &key).await?;
            let fault = found.first_fault.as_ref();
            let value = json!({
                "good": fault.is_none(), "entries": found.entries, "checkpoints": found.checkpoints, "unsealed": found.unsealed,
                "fault": fault.map(|fault| json!({ "entry": fault.entry, "batch": fault.batch, "what": fault.what })),
            });
            context.printer.object(&value, || match fault {
                None => format!(
                    "the log is as it was written: {} entries under {} signed checkpoints, {} not sealed yet",
                    thousands(found.entries),
                    thousands(found.checkpoints),
                    thousands(found.unsealed)
                ),
                Some(fault) => format!(
                    "THE LOG WAS CHANGED: first at entry {} (batch {}): {}",
                    fault.entry, fault.batch, fault.what
                ),
            })?;
            Ok(if fault.is_none() { code::DONE } else { code::FAILED })
        }
        Audit::Export => {
            let mut after = -1;
            loop {
                let mut tx = state.read().await?;
                let entries = state::audit::entries(&mut tx, after, 1_000).await?;
                let Some(last) = entries.last() else { return Ok(code::DONE) };
                after = last.batch;
                let lines: Vec<&str> = entries.iter().map(|entry| entry.json.as_str()).collect();
                context.printer.text(&lines.join("\n"))?;
            }
        }
        Audit::Checkpoint => {
            let mut tx = state.read().await?;
            let note = state::audit::checkpoint(&mut tx).await?;
            context.printer.text(&note.ok_or_else(|| Failure::new("nothing is sealed yet"))?)?;
            Ok(code::DONE)
        }
        Audit::Key => {
            let key = own_key(context, &project, &state).await?;
            context.printer.text(&key.to_string())?;
            Ok(code::DONE)
        }
    }
}

async fn own_key(
    _context: &Context,
    project: &project::Project,
    state: &state::State,
) -> Result<LogKey, Failure> {
    let keys = daemon::open::keys_read_only(project, state).await?;
    let keys = keys.ok_or_else(|| Failure::new("this state has no keys yet: nothing has run"))?;
    Ok(keys.log_key(&project.settings.project))
}
