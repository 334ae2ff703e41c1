//! `explain`: why, or why not, or not yet.

use daemon::explain::{Explanation, Told, explain as tell};
use model::delivery::GateRecord;
use model::enrollment::Progress;
use model::sync::{Has, RecordTodo, Todo};
use model::{DeliveryId, DeliveryState};
use serde_json::{Value, json};

use crate::args::Explain;
use crate::context::{Context, known_playbook};
use crate::failure::{Failure, code};
use crate::print::printable;

/// Tells a person's story.
pub(crate) async fn explain(context: &Context, args: &Explain) -> Result<u8, Failure> {
    let project = context.project()?;
    let playbook = args.playbook.as_ref().map(|name| known_playbook(&project, name)).transpose()?;
    let daemon = context.looking(project).await?;
    let id = match (&args.profile, &args.delivery) {
        (Some(id), _) => id.clone(),
        (None, Some(delivery)) => person_of(&daemon, delivery).await?,
        (None, None) => {
            return Err(Failure::new("name a person with `--profile`, or a delivery with `--delivery`"));
        }
    };
    let told = tell(&daemon, &id, playbook.as_ref(), context.now()).await?;
    let Some(mut told) = told else {
        return Err(Failure::new(format!("nobody with the id `{}` was ever seen", printable(&id))).hint(
            "a person is seen when a segment or the consent query names them: is the person in any segment?",
        ));
    };
    if let Some(delivery) = &args.delivery {
        for way in &mut told.ways {
            way.rows.retain(|told| told.row.delivery.id.as_str() == delivery);
        }
        told.ways.retain(|way| !way.rows.is_empty());
    }
    context.printer.object(&as_json(&told), || for_people(&told))?;
    Ok(code::DONE)
}

async fn person_of(daemon: &daemon::Daemon, delivery: &str) -> Result<String, Failure> {
    let mut tx = daemon.state.read().await?;
    let row = state::delivery::get(&mut tx, &DeliveryId::known(delivery)).await?;
    let number = row
        .ok_or_else(|| Failure::new(format!("there is no delivery `{}`", printable(delivery))))?
        .delivery
        .profile;
    state::profile::ids_of(&mut tx, &[number]).await?.remove(&number).ok_or_else(|| {
        Failure::new(format!("the person of this delivery was erased; the log calls them {number}"))
    })
}

fn gates_json(gates: &[GateRecord]) -> Value {
    gates
        .iter()
        .map(|gate| json!({ "gate": gate.gate.as_str(), "passed": gate.reason.is_none(), "reason": gate.reason.map(|reason| reason.as_str()), "saw": gate.saw }))
        .collect()
}

fn as_json(told: &Explanation) -> Value {
    let ways: Vec<Value> = told
        .ways
        .iter()
        .map(|way| {
            let rows: Vec<Value> = way.rows.iter().map(row_json).collect();
            json!({
                "playbook": way.enrollment.as_ref().map(|one| one.playbook.as_str().to_owned())
                    .or_else(|| way.rows.first().map(|told| told.row.delivery.traits.playbook.to_string())),
                "enrollment": way.enrollment.as_ref().map(|one| one.id.as_str()),
                "version": way.enrollment.as_ref().map(|one| one.version.as_str()),
                "entered_at": way.enrollment.as_ref().map(|one| one.entered_at.to_string()),
                "holdout": way.enrollment.as_ref().and_then(|one| one.holdout).map(|holdout| holdout.as_str()),
                "progress": way.enrollment.as_ref().map(|one| progress(&one.progress)),
                "steps": rows,
            })
        })
        .collect();
    let entrances: Vec<Value> = told
        .entrances
        .iter()
        .map(|one| {
            json!({
                "playbook": one.playbook.as_str(), "segment": one.segment.as_str(), "member": one.member,
                "as_of": one.as_of.map(|at| at.to_string()), "dealt_with": one.seen, "active": one.active,
            })
        })
        .collect();
    let consents: Vec<Value> = told
        .consents
        .iter()
        .map(|event| {
            json!({
                "channel": event.channel.map_or("*", |channel| channel.as_str()),
                "purpose": event.purpose.as_ref().map_or("*", |purpose| purpose.as_str()),
                "status": event.status.as_str(), "changed_at": event.changed_at.to_string(),
                "recorded_at": event.recorded_at.to_string(), "origin": event.origin.as_str(), "source": event.source,
            })
        })
        .collect();
    let suppressions: Vec<Value> = told
        .suppressions
        .iter()
        .map(|one| json!({ "reason": one.reason.as_str(), "since": one.since.to_string(), "source": one.source }))
        .collect();
    let audiences: Vec<Value> = told
        .audiences
        .iter()
        .map(|one| {
            json!({
                "destination": one.at.destination.as_str(), "audience": one.at.name.as_str(), "todo": one.todo.as_str(),
                "in": one.has.as_str(), "reason": one.reason.as_str(), "since": one.since.to_string(),
            })
        })
        .collect();
    let records: Vec<Value> = told
        .records
        .iter()
        .map(|one| {
            json!({
                "sync": one.sync.as_str(), "destination": one.at.destination.as_str(), "object": one.at.object, "record": one.remote,
                "todo": one.todo.as_str(), "in": one.has.as_str(), "edited": one.kept, "reason": one.reason.as_str(),
                "since": one.since.to_string(),
            })
        })
        .collect();
    let now: Vec<Value> = told
        .now
        .iter()
        .map(|says| json!({ "playbook": says.playbook.as_str(), "step": says.step.as_str(), "gates": gates_json(&says.gates) }))
        .collect();
    let warning = (!told.in_warehouse).then_some("nobody in the warehouse has this id now");
    json!({
        "profile": told.id, "number": told.number.0, "in_warehouse": told.in_warehouse, "warning": warning, "recorded": ways,
        "entrances": entrances, "consent": consents, "suppressions": suppressions, "audiences": audiences, "records": records,
        "now": now,
    })
}

fn row_json(told: &Told) -> Value {
    let delivery = &told.row.delivery;
    let attempts: Vec<Value> = told
        .attempts
        .iter()
        .map(|attempt| {
            json!({
                "n": attempt.n, "armed_at": attempt.armed_at.to_string(), "outcome": attempt.outcome, "said": attempt.detail,
                "finished_at": attempt.finished_at.map(|at| at.to_string()),
            })
        })
        .collect();
    json!({
        "delivery": delivery.id.as_str(), "step": delivery.step.as_str(), "state": delivery.state.shown(),
        "reason": delivery.reason.as_str(), "meaning": delivery.reason.meaning(), "decided_at": delivery.decided_at.to_string(),
        "due_at": delivery.due_at.to_string(), "expires_at": delivery.expires_at.to_string(),
        "settled_at": told.row.settled_at.map(|at| at.to_string()), "receipt": told.row.receipt, "attempts": attempts,
        "gates": gates_json(&delivery.gates),
    })
}

fn progress(progress: &Progress) -> String {
    match progress {
        Progress::Waiting { step, wake_at, .. } => format!("at step `{step}`, looked at again at {wake_at}"),
        Progress::Sending { step, .. } => format!("at step `{step}`, its message on the way"),
        Progress::Ended { exit, at } => format!("ended at {at}: {}", exit.as_str()),
    }
}

fn for_people(told: &Explanation) -> String {
    let mut text = format!("profile {} (number {} in the log)\n", printable(&told.id), told.number);
    if !told.in_warehouse {
        text.push_str("  is not in the warehouse's profiles now\n");
    }
    if told.ways.is_empty() {
        text.push_str("\nnothing was ever decided for this person");
        text.push_str(" here\n");
    }
    for way in &told.ways {
        match &way.enrollment {
            Some(enrollment) => {
                let version = enrollment.version.get(..8).unwrap_or(&enrollment.version);
                text.push_str(&format!("\nplaybook `{}` (version {version})\n", enrollment.playbook));
                text.push_str(&format!("  {}  entered", enrollment.entered_at));
                if let Some(holdout) = enrollment.holdout {
                    text.push_str(&format!(", in the {} holdout", holdout.as_str()));
                }
                text.push('\n');
            }
            None => {
                if let Some(first) = way.rows.first() {
                    text.push_str(&format!(
                        "\nplaybook `{}`: did not enter\n",
                        first.row.delivery.traits.playbook
                    ));
                }
            }
        }
        for told in &way.rows {
            text.push_str(&step_for_people(told));
        }
        if let Some(enrollment) = &way.enrollment {
            text.push_str(&format!("  now: {}\n", progress(&enrollment.progress)));
        }
    }
    text.push_str("\nwhere playbooks take people from\n");
    for entrance in &told.entrances {
        text.push_str(&format!("  `{}`: {}\n", entrance.playbook, entrance_for_people(entrance)));
    }
    if !told.consents.is_empty() {
        text.push_str("\nconsent, as it was recorded\n");
    }
    for event in &told.consents {
        let channel = event.channel.map_or("*", |channel| channel.as_str());
        let purpose = event.purpose.as_ref().map_or("*", |purpose| purpose.as_str());
        text.push_str(&format!(
            "  {}  {} for {purpose} on {channel} ({}: {})\n",
            event.changed_at,
            event.status.as_str(),
            event.origin.as_str(),
            printable(&event.source)
        ));
    }
    for one in &told.suppressions {
        text.push_str(&format!(
            "\nsuppressed since {}: {} ({}), from {}\n",
            one.since,
            one.reason.meaning(),
            one.reason,
            printable(&one.source)
        ));
    }
    if !told.audiences.is_empty() {
        text.push_str("\naudiences, as their destinations say\n");
    }
    for one in &told.audiences {
        text.push_str(&format!(
            "  {}: {} since {} ({})\n",
            one.at,
            standing(one.todo, one.has),
            one.since,
            one.reason
        ));
    }
    if !told.records.is_empty() {
        text.push_str("\nrecords that syncs keep\n");
    }
    for one in &told.records {
        let record = one.remote.as_deref().map(|id| format!(" {}", printable(id))).unwrap_or_default();
        text.push_str(&format!(
            "  {}{record}, by sync `{}`: {} since {} ({})\n",
            one.at,
            one.sync,
            kept(one.todo, one.has),
            one.since,
            one.reason
        ));
    }
    text.push_str("\nwhat the gates say now\n");
    for says in &told.now {
        text.push_str(&format!("  `{}`, step `{}`\n", says.playbook, says.step));
        text.push_str(&gates_for_people(&says.gates));
    }
    text
}

/// How it stands with a person's record.
fn kept(todo: RecordTodo, has: Has) -> &'static str {
    match (todo, has) {
        (RecordTodo::Nothing, Has::Yes) => "as it is to be",
        (RecordTodo::Nothing, _) => "left alone",
        (RecordTodo::Write, Has::Maybe) => "written, and no answer came",
        (RecordTodo::Write, _) => "to be written",
        (RecordTodo::Leaves, _) => "would be emptied, and is held",
        (RecordTodo::Clear, _) => "to be emptied of what was written",
        (RecordTodo::Revert, _) => "to be made what it was",
        (RecordTodo::Rejected, _) => "refused",
    }
}

/// How it stands with a person in an audience.
fn standing(todo: Todo, has: Has) -> &'static str {
    match (todo, has) {
        (Todo::Nothing, _) => "in",
        (Todo::Add, Has::No) => "to be added",
        (Todo::Add, Has::Maybe) => "asked for, and no answer came",
        (Todo::Add, Has::Yes) => "in, to be renewed",
        (Todo::OptOut | Todo::Remove, _) => "to be removed",
        (Todo::Leaves, _) => "to be removed, once it is known that not too many are",
        (Todo::Rejected, _) => "refused by the destination",
    }
}

fn entrance_for_people(entrance: &daemon::explain::Entrance) -> String {
    let as_of = entrance.as_of.map_or(String::new(), |at| format!(" as of {at}"));
    let segment = &entrance.segment;
    match (entrance.member, entrance.seen, entrance.active) {
        (None, _, _) => format!("segment `{segment}` has no good run yet"),
        (Some(false), _, _) => format!("not in segment `{segment}`{as_of}"),
        (Some(true), _, false) => format!("in segment `{segment}`{as_of}; the playbook is not active"),
        (Some(true), true, true) => format!("in segment `{segment}`{as_of}, and dealt with"),
        (Some(true), false, true) => {
            format!("in segment `{segment}`{as_of}, and not yet dealt with: the next run does")
        }
    }
}

fn step_for_people(told: &Told) -> String {
    let delivery = &told.row.delivery;
    let verdict = match delivery.state {
        DeliveryState::Accepted => "SENT".to_owned(),
        DeliveryState::Pending | DeliveryState::Leased | DeliveryState::Armed => {
            format!("ON ITS WAY, due {}", delivery.due_at)
        }
        DeliveryState::Deferred => format!("NOT YET: decided again at {}", delivery.due_at),
        DeliveryState::Withheld => "HELD OUT".to_owned(),
        DeliveryState::InDoubt => "IN DOUBT".to_owned(),
        DeliveryState::Rejected
        | DeliveryState::Suppressed
        | DeliveryState::Skipped
        | DeliveryState::Expired
        | DeliveryState::Cancelled => format!("NOT SENT ({})", delivery.state.shown()),
    };
    let mut text = format!(
        "  {}  step `{}`: {verdict}: {} ({})\n",
        delivery.decided_at,
        delivery.step,
        delivery.reason.meaning(),
        delivery.reason
    );
    text.push_str(&gates_for_people(&delivery.gates));
    for attempt in &told.attempts {
        let outcome = attempt.outcome.as_deref().unwrap_or("no answer yet");
        let said = if attempt.detail.is_empty() {
            String::new()
        } else {
            format!(": {}", printable(&attempt.detail))
        };
        text.push_str(&format!("      attempt {} at {}: {outcome}{said}\n", attempt.n, attempt.armed_at));
    }
    if let Some(receipt) = &told.row.receipt {
        text.push_str(&format!("      receipt: {}\n", printable(receipt)));
    }
    text
}

fn gates_for_people(gates: &[GateRecord]) -> String {
    gates
        .iter()
        .map(|gate| {
            let mark = gate.reason.map_or("ok ".to_owned(), |reason| format!("NO ({reason})"));
            format!("      {:<12} {mark} {}\n", gate.gate.as_str(), printable(&gate.saw))
        })
        .collect()
}
