//! `in-doubt list`, `show` and `resolve`: what only a person can decide.

use model::{DeliveryId, DeliveryState};
use serde_json::json;
use state::audit::Entry;
use state::delivery::{DeliveryKey, Filter};
use state::outbox::As;

use crate::args::{InDoubt, Resolution, Which};
use crate::context::{Context, actor};
use crate::failure::{Failure, code};
use crate::print::{Rows, printable, say, thousands};

/// Rows listed.
const ROWS_MAX: u32 = 10_000;
/// More at once are closed by two.
const ALONE_MAX: usize = 100;
/// Closed in one transaction.
const PAGE: usize = 250;

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
        InDoubt::Show { delivery } => show(context, &project, delivery).await,
        InDoubt::Resolve { delivery, which, how, reason, second } => {
            let state = context.state_to_write(&project).await?;
            let (as_, word) = match how {
                Resolution::Accepted => (As::Accepted, "accepted"),
                Resolution::NotAccepted => (As::Rejected, "not accepted"),
                Resolution::Resend => (As::Resend, "not accepted, to be sent again"),
            };
            let doubts = match (delivery, which.is_empty()) {
                (Some(delivery), true) => vec![DeliveryId::known(delivery)],
                (None, false) => chosen(&project, &state, which).await?,
                (Some(_), false) | (None, true) => {
                    return Err(Failure::new("name one delivery, or say with options which are meant")
                        .hint("such as `--destination mail --since TIME`; `drumbeat in-doubt list` shows them all")
                        .with_code(code::USAGE));
                }
            };
            refuse_without_a_second(doubts.len(), second.as_deref())?;
            let (now, actor) = (context.now(), actor());
            let mut closed = 0;
            for page in doubts.chunks(PAGE) {
                let mut tx = state.write().await?;
                for id in page {
                    let found = state::outbox::resolve(&mut tx, id, as_, &actor, reason, now).await?;
                    if found.is_none() {
                        continue;
                    }
                    closed += 1;
                    let body = json!({
                        "delivery": id.as_str(), "as": word, "why": reason, "actor": actor, "second": second,
                    });
                    state::audit::append(&mut tx, &[Entry { kind: "doubt_resolved", at: now, body }]);
                }
                tx.commit().await?;
            }
            if let (0, Some(delivery)) = (closed, delivery) {
                return Err(Failure::new(format!("`{}` is not in doubt", printable(delivery)))
                    .hint("`drumbeat in-doubt list` shows what is"));
            }
            say(&format!("{} closed as {word}", thousands(closed)));
            Ok(code::DONE)
        }
    }
}

fn refuse_without_a_second(count: usize, second: Option<&str>) -> Result<(), Failure> {
    if count <= ALONE_MAX {
        return Ok(());
    }
    let count = thousands(count as u64);
    match second {
        None => Err(Failure::new(format!(
            "{count} deliveries at once take two: name who else has looked, with `--second`"
        ))
        .with_code(code::HELD)),
        Some(second) if second.trim().is_empty() || second == actor() => {
            Err(Failure::new("the second person is another one").with_code(code::HELD))
        }
        Some(_) => Ok(()),
    }
}

/// The doubts that the options choose.
async fn chosen(
    project: &project::Project,
    state: &state::State,
    which: &Which,
) -> Result<Vec<DeliveryId>, Failure> {
    let filter =
        Filter { state: Some(DeliveryState::InDoubt), ..super::log::which(which, project, state).await? };
    let mut tx = state.read().await?;
    let mut doubts = Vec::new();
    state::delivery::each(&mut tx, &filter, |row| doubts.push(row.delivery.id)).await?;
    Ok(doubts)
}

/// One doubt, with every attempt.
async fn show(context: &Context, project: &project::Project, delivery: &str) -> Result<u8, Failure> {
    let state = context.state(project).await?;
    let mut tx = state.read().await?;
    let found = state::delivery::get(&mut tx, &DeliveryId::known(delivery)).await?;
    let row = found.filter(|row| row.delivery.state == DeliveryState::InDoubt).ok_or_else(|| {
        Failure::new(format!("`{}` is not in doubt", printable(delivery)))
            .hint("`drumbeat in-doubt list` shows what is")
    })?;
    let mut rows = Rows::new(&["attempt", "armed_at", "outcome", "finished_at", "evidence"]);
    for attempt in state::outbox::attempts(&mut tx, &DeliveryKey::of(&row.delivery)).await? {
        rows.push([
            json!(attempt.n),
            json!(attempt.armed_at.to_string()),
            json!(attempt.outcome),
            json!(attempt.finished_at.map(|at| at.to_string())),
            json!(attempt.detail),
        ]);
    }
    context.printer.rows(&rows, "there was no attempt")?;
    say(&format!(
        "Ask {} for the Message-ID that begins with {delivery}; then `drumbeat in-doubt resolve {delivery} --as ... --reason ...`.",
        row.delivery.destination
    ));
    Ok(code::IN_DOUBT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_a_hundred_at_once_take_two() {
        assert!(refuse_without_a_second(100, None).is_ok());
        assert!(refuse_without_a_second(101, None).is_err());
        assert!(refuse_without_a_second(101, Some(" ")).is_err());
        assert!(refuse_without_a_second(101, Some(&actor())).is_err());
        assert!(refuse_without_a_second(101, Some("lena@acme.test")).is_ok());
    }
}
