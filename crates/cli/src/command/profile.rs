//! `profile export` and `profile erase`: a person's rights.

use model::Reason;
use model::consent::{Suppression, SuppressionSubject};
use model::sync::{Has, RecordOf};
use serde_json::json;
use state::audit::Entry;

use crate::args::{Explain, Output, Profile};
use crate::context::{Context, actor, known_profile};
use crate::failure::{Failure, code};
use crate::print::{printable, say};

/// A person's rights.
pub(crate) async fn profile(context: &Context, args: &Profile) -> Result<u8, Failure> {
    match args {
        Profile::Export { profile } => {
            // The whole story is what is known of a person here; everything else is in the warehouse.
            let mut context = context.clone();
            if !context.printer.for_programs() {
                context.printer = crate::print::Printer::new(Some(Output::Json), true);
            }
            let args = Explain { profile: Some(profile.clone()), playbook: None, delivery: None };
            super::explain::explain(&context, &args).await
        }
        Profile::Erase { profile, reason } => erase(context, profile, reason).await,
    }
}

async fn erase(context: &Context, id: &str, reason: &str) -> Result<u8, Failure> {
    let project = context.project()?;
    let state = context.state_to_write(&project).await?;
    let keys = context.keys(&project, &state).await?;
    let now = context.now();
    let mut tx = state.write().await?;
    let number = known_profile(&mut tx, id).await?;
    let suppression = Suppression {
        subject: SuppressionSubject::Profile(number),
        channel: None,
        reason: Reason::Erased,
        since: now,
        source: "erasure".to_owned(),
        spares_transactional: false,
    };
    state::consent::suppress(&mut tx, &suppression).await?;
    let records = state::record::of(&mut tx, &RecordOf::Profile(number)).await?;
    if !state::profile::erase(&mut tx, &keys, number, now).await? {
        return Err(Failure::new("this person was erased already"));
    }
    let body = json!({ "profile": number.0, "why": reason, "actor": actor() });
    state::audit::append(&mut tx, &[Entry { kind: "erasure", at: now, body }]);
    tx.commit().await?;
    say(&format!(
        "erased: the log calls this person {number} now, which leads to nobody; a refresh does not bring them back"
    ));
    for one in records.iter().filter(|one| one.has != Has::No) {
        say(&format!(
            "record {} ({} at {}) holds what sync `{}` wrote of the person: erase it there",
            printable(one.remote.as_deref().unwrap_or("of the person")),
            printable(&one.at.object),
            one.at.destination,
            one.sync
        ));
    }
    say(
        "Audiences let the person go at the next pass. What else the warehouse and the providers know of them is theirs to erase.",
    );
    context.warn_of_stranger(&project, id).await;
    Ok(code::DONE)
}
