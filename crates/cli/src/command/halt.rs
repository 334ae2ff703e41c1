//! `halt`: the kill switch.

use model::DestinationName;
use project::Project;
use serde_json::json;
use state::audit::Entry;
use state::control::{Halt, HaltScope};

use crate::args;
use crate::context::{Context, actor, known_playbook};
use crate::failure::{Failure, code};
use crate::print::{Rows, say};

/// Halts, lifts, or shows what is halted.
pub(crate) async fn halt(context: &Context, args: &args::Halt) -> Result<u8, Failure> {
    let project = context.project()?;
    if args.list {
        let state = context.state(&project).await?;
        let mut tx = state.read().await?;
        let mut rows = Rows::new(&["scope", "since", "actor", "reason"]);
        for halt in tx.ask(state::control::halts()).await? {
            rows.push([
                json!(halt.scope.to_string()),
                json!(halt.at.to_string()),
                json!(halt.actor),
                json!(halt.reason),
            ]);
        }
        context.printer.rows(&rows, "nothing is halted")?;
        return Ok(code::DONE);
    }
    let scope = scope(&project, args.scope.as_deref())?;
    let reason = args.reason.as_deref().unwrap_or_default().trim().to_owned();
    if reason.is_empty() && !args.lift {
        return Err(Failure::new("say why, with `--reason`").with_code(code::USAGE));
    }
    let state = context.state_to_write(&project).await?;
    let now = context.now();
    let mut tx = state.write().await?;
    let kind = if args.lift {
        if !state::control::lift(&mut tx, &scope).await? {
            return Err(Failure::new(format!("{scope} is not halted")));
        }
        // Whoever lifts it has looked at what a guard counted.
        match &scope {
            HaltScope::All => state::tally::forget(&mut tx, None).await?,
            HaltScope::Playbook(name) => state::tally::forget(&mut tx, Some(name)).await?,
            HaltScope::Destination(_) => {}
        }
        "halt_lifted"
    } else {
        let halt = Halt { scope: scope.clone(), reason: reason.clone(), actor: actor(), at: now };
        if !state::control::halt(&mut tx, &halt).await? {
            say(&format!("{} is halted already", scope));
        }
        "halt"
    };
    let body = json!({ "scope": scope.to_string(), "why": reason, "actor": actor() });
    state::audit::append(&mut tx, &[Entry { kind, at: now, body }]);
    tx.commit().await?;
    let done = if args.lift { "goes on" } else { "is halted: nothing more becomes irrevocable" };
    say(&format!("{} {done}", scope));
    Ok(code::DONE)
}

/// The command that lifts a halt.
pub(crate) fn lifting(scope: &HaltScope) -> String {
    match scope {
        HaltScope::All => "drumbeat halt --lift".to_owned(),
        HaltScope::Destination(_) | HaltScope::Playbook(_) => {
            format!("drumbeat halt --lift --scope {}", scope)
        }
    }
}

fn scope(project: &Project, text: Option<&str>) -> Result<HaltScope, Failure> {
    let Some(text) = text else { return Ok(HaltScope::All) };
    if let Some(name) = text.strip_prefix("destination.") {
        let found = project.settings.destinations.keys().find(|known| known.as_str() == name).cloned();
        return found.map(HaltScope::Destination).ok_or_else(|| {
            let names: Vec<&str> =
                project.settings.destinations.keys().map(DestinationName::as_str).collect();
            Failure::new(format!("there is no destination `{name}`"))
                .hint(format!("there are: {}", names.join(", ")))
        });
    }
    if text.starts_with("playbook.") {
        return known_playbook(project, text).map(HaltScope::Playbook);
    }
    Err(Failure::new(format!("`{text}` is no scope"))
        .hint("a scope is `destination.NAME` or `playbook.NAME`; none is everything")
        .with_code(code::USAGE))
}
