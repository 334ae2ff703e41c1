//! `in-doubt list` and `in-doubt resolve`: what only a person can decide.

use model::DeliveryId;
use serde_json::json;
use state::audit::Entry;
use state::delivery::DeliveryKey;
use state::outbox::As;

use crate::args::{InDoubt, Resolution};
use crate::context::{Context, actor};
use crate::failure::{Failure, code};
use crate::print::{Rows, printable, say};

/// Rows listed.
const ROWS_MAX: u32 = 10_000;

/// The deliveries nobody can be sure of.
pub(crate) async fn in_doubt(context: &Context, args: &InDoubt) -> Result<u8, Failure> {
    let project = context.project()?;
    match args {
        InDoubt::List => {
            let state = context.state(&project).await?;
            let mut tx = state.read().await?;
            let doubts = state::outbox::in_doubt(&mut tx, ROWS_MAX).await?;
            let numbers: Vec<_> = doubts.iter().map(|row| row.delivery.profile).collect();
            let mut ids = std::collections::BTreeMap::new();
            for page in numbers.chunks(1_000) {
                ids.extend(state::profile::ids_of(&mut tx, page).await?);
            }
            let mut rows = Rows::new(&[
                "delivery",
                "profile",
                "playbook",
                "step",
                "destination",
                "armed_at",
                "evidence",
            ]);
            for row in &doubts {
                let attempts = state::outbox::attempts(&mut tx, &DeliveryKey::of(&row.delivery)).await?;
                let evidence =
                    attempts.last().map(|attempt| attempt.detail.clone()).filter(|detail| !detail.is_empty());
                rows.push([
                    json!(row.delivery.id.as_str()),
                    json!(ids.get(&row.delivery.profile)),
                    json!(row.delivery.traits.playbook.as_str()),
                    json!(row.delivery.step.as_str()),
                    json!(row.delivery.destination.as_str()),
                    json!(row.armed_at.map(|at| at.to_string())),
                    json!(evidence.unwrap_or_else(|| "the process ended before the answer came".to_owned())),
                ]);
            }
            context.printer.rows(&rows, "nothing is in doubt")?;
            if !rows.rows.is_empty() {
                say(
                    "The provider's own log, searched for the delivery (it is the left part of the Message-ID), tells which of these arrived.",
                );
            }
            Ok(if rows.rows.is_empty() { code::DONE } else { code::IN_DOUBT })
        }
        InDoubt::Resolve { delivery, how, reason } => {
            let state = context.state_to_write(&project).await?;
            let (as_, word) = match how {
                Resolution::Accepted => (As::Accepted, "accepted"),
                Resolution::NotAccepted => (As::Rejected, "not accepted"),
                Resolution::Resend => (As::Resend, "not accepted, to be sent again"),
            };
            let now = context.now();
            let mut tx = state.write().await?;
            let found =
                state::outbox::resolve(&mut tx, &DeliveryId::known(delivery), as_, &actor(), reason, now)
                    .await?;
            if found.is_none() {
                return Err(Failure::new(format!("`{}` is not in doubt", printable(delivery)))
                    .hint("`drumbeat in-doubt list` shows what is"));
            }
            let body = json!({ "delivery": delivery, "as": word, "why": reason, "actor": actor() });
            state::audit::append(&mut tx, &[Entry { kind: "doubt_resolved", at: now, body }]);
            tx.commit().await?;
            say(&format!("closed as {word}"));
            Ok(code::DONE)
        }
    }
}
