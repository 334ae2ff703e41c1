//! `redrive`: what was rejected for a cause that is over is sent again.

use jiff::Timestamp;
use model::{DeliveryState, Reason};
use serde_json::json;
use state::audit::Entry;
use state::delivery::{DeliveryKey, Filter};

use crate::args::Redrive;
use crate::context::{Context, actor};
use crate::failure::{Failure, code};
use crate::print::{Rows, say, thousands};

/// Rows that change in one transaction.
const PAGE: usize = 1_000;

/// Puts rejected rows back into the outbox. Every gate of the last look holds for them as for any other.
pub(crate) async fn redrive(context: &Context, args: &Redrive) -> Result<u8, Failure> {
    let project = context.project()?;
    if args.why.trim().is_empty() {
        return Err(Failure::new("say why it will work this time, with `--why`").with_code(code::USAGE));
    }
    let shelf = model::duration::parse_duration(&args.shelf)
        .map_err(|error| Failure::new(format!("`--for {}`: {error}", args.shelf)).with_code(code::USAGE))?;
    let state = context.state_to_write(&project).await?;
    let now = context.now();
    let until = now.checked_add(shelf).unwrap_or(Timestamp::MAX);
    let filter = Filter {
        state: Some(DeliveryState::Rejected),
        reason: args.reason.as_deref().map(super::log::reason).transpose()?,
        ..super::log::which(&args.which, &project, &state).await?
    };
    let mut rows = Rows::new(&["delivery", "playbook", "step", "destination", "reason"]);
    let (mut keys, mut left) = (Vec::new(), 0_u64);
    let mut tx = state.read().await?;
    state::delivery::each(&mut tx, &filter, |row| {
        let delivery = &row.delivery;
        if !may_be_sent_again(delivery.reason) {
            left += 1;
            return;
        }
        keys.push(DeliveryKey::of(delivery));
        rows.push([
            json!(delivery.id.as_str()),
            json!(delivery.traits.playbook.as_str()),
            json!(delivery.step.as_str()),
            json!(delivery.destination.as_str()),
            json!(delivery.reason.as_str()),
        ]);
    })
    .await?;
    drop(tx);
    for keys in keys.chunks(PAGE).filter(|_| !args.dry_run) {
        let mut tx = state.write().await?;
        let changed = state::outbox::redrive(&mut tx, keys, now, until).await?;
        let entry = |key: &DeliveryKey| Entry {
            kind: "redrive",
            at: now,
            body: json!({ "delivery": key.id.as_str(), "state": "pending", "why": args.why, "actor": actor() }),
        };
        state::audit::append(&mut tx, &changed.iter().map(entry).collect::<Vec<_>>());
        tx.commit().await?;
    }
    context.printer.rows(&rows, "nothing that was rejected fits")?;
    let count = thousands(rows.rows.len() as u64);
    if args.dry_run && !rows.rows.is_empty() {
        say(&format!("{count} would be sent again"));
    } else if !rows.rows.is_empty() {
        say(&format!(
            "{count} are sent again, with every gate asked as for any other; what waits longer than {} is not sent",
            args.shelf
        ));
    }
    if left > 0 {
        say(&format!("{} more fit and stay: the address was refused, and would be again", thousands(left)));
    }
    Ok(code::DONE)
}

/// Whether a row failed for a cause that may be over: anything but the person's own address.
fn may_be_sent_again(reason: Reason) -> bool {
    reason.class() == model::reason::ReasonClass::Fail && reason != Reason::FailSmtpRecipient
}
