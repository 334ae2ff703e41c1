//! What a pass did in audiences and records, and what a plan would do.

use std::collections::BTreeSet;

use connector::Verb;
use daemon::plan::Plan;
use daemon::report::{KeptAt, SyncReport};
use daemon::run::Passed;
use model::Refusal;
use serde_json::{Value, json};

use crate::print::{printable, thousands};

/// People that a plan for people names.
const IDS_SHOWN: usize = 20;

/// Each audience that was compared, or in which something was done.
pub(super) fn json(passed: &Passed) -> Value {
    let pushed = &passed.pushed;
    let compared = passed.ticked.syncs.iter().filter_map(|sync| match &sync.at {
        KeptAt::Audience(at) => Some(at),
        KeptAt::Records(_) => None,
    });
    let at = pushed.audiences.keys().chain(compared);
    let at = at.chain(pushed.put_off.keys()).chain(pushed.too_small.keys());
    let at: BTreeSet<_> = at.collect();
    at.into_iter()
        .map(|at| {
            let report = pushed.audiences.get(at).copied().unwrap_or_default();
            let is_same = |sync: &&SyncReport| matches!(&sync.at, KeptAt::Audience(own) if own == at);
            let sync = passed.ticked.syncs.iter().rev().find(is_same);
            let held = sync.and_then(|sync| sync.held.as_ref()).or_else(|| pushed.too_small.get(at));
            let left_out = sync.map(left_out);
            json!({
                "destination": at.destination.as_str(), "audience": at.name.as_str(), "wanted": sync.map(|sync| sync.wanted),
                "added": report.added, "removed": report.removed, "rejected": report.rejected, "unknown": report.unknown,
                "not_taken": report.not_taken, "left_out": left_out, "put_off": pushed.put_off.get(at),
                "held": held.map(|held| json!({ "reason": held.reason.as_str(), "saw": held.saw })),
            })
        })
        .collect()
}

/// Who or what a sync left out, by reason.
fn left_out(sync: &SyncReport) -> Value {
    let counts = sync.left_out.iter().map(|(reason, count)| (reason.as_str().to_owned(), json!(count)));
    Value::Object(counts.collect())
}

/// Each sync of records that was compared, or of which something was done.
pub(super) fn records_json(passed: &Passed) -> Value {
    let pushed = &passed.pushed;
    let compared = passed.ticked.syncs.iter().filter(|sync| matches!(sync.at, KeptAt::Records(_)));
    let names = pushed.records.keys().chain(pushed.records_put_off.keys());
    let names: BTreeSet<_> = names.chain(compared.map(|sync| &sync.sync)).collect();
    names
        .into_iter()
        .map(|name| {
            let report = pushed.records.get(name).copied().unwrap_or_default();
            let sync = passed.ticked.syncs.iter().rev().find(|sync| sync.sync == *name);
            let refusal = |one: &Refusal| json!({ "reason": one.reason.as_str(), "saw": one.saw });
            json!({
                "sync": name.as_str(), "wanted": sync.map(|sync| sync.wanted), "left_out": sync.map(left_out), "made": report.made,
                "written": report.written, "same": report.same, "undone": report.undone, "edited": report.kept,
                "rejected": report.rejected, "unknown": report.unknown, "not_taken": report.not_taken, "to_write": report.to_write,
                "to_undo": report.to_undo, "put_off": pushed.records_put_off.get(name).map(refusal),
                "held": sync.and_then(|sync| sync.held.as_ref()).map(refusal),
            })
        })
        .collect()
}

/// The same for people. `did`: what was done, or would be.
pub(super) fn for_people(passed: &Passed, did: [&str; 2]) -> String {
    let mut text = String::new();
    for sync in &passed.ticked.syncs {
        let wanted = thousands(sync.wanted);
        text.push_str(&match &sync.at {
            KeptAt::Audience(at) => format!("\nsync `{}`: {wanted} are to be in {at}\n", sync.sync),
            KeptAt::Records(at) => format!("\nsync `{}`: {wanted} are to be kept as {at}\n", sync.sync),
        });
        for (reason, count) in &sync.left_out {
            text.push_str(&format!(
                "  {:>9}  left out: {} ({reason})\n",
                thousands(*count),
                reason.meaning()
            ));
        }
        if let Some(held) = &sync.held {
            text.push_str(&format!(
                "  held: {} ({}); `drumbeat sync accept {}` lets them go\n",
                held.saw, held.reason, sync.sync
            ));
        }
    }
    for (at, report) in &passed.pushed.audiences {
        text.push_str(&format!("\naudience {at}\n"));
        for (count, what) in [
            (report.added, did[0]),
            (report.removed, did[1]),
            (report.rejected, "refused by the destination"),
            (report.unknown, "unknown: no answer came; asked for again"),
            (report.not_taken, "not taken; tried again"),
        ] {
            if count > 0 {
                text.push_str(&format!("  {:>9}  {what}\n", thousands(count)));
            }
        }
    }
    for (sync, report) in &passed.pushed.records {
        text.push_str(&format!("\nrecords of sync `{sync}`\n"));
        for (count, what) in [
            (report.made, "made"),
            (report.written, "written"),
            (report.same, "hold what they are to hold already"),
            (report.undone, "emptied, or made what they were"),
            (report.kept, "hold something that somebody else wrote, and that stays"),
            (report.rejected, "refused by the destination"),
            (report.unknown, "unknown: no answer came; read again"),
            (report.not_taken, "not taken; tried again"),
            (report.to_write, "to be read, and written where they differ: `drumbeat sync diff` says how"),
            (report.to_undo, "to be emptied, or made what they were"),
        ] {
            if count > 0 {
                text.push_str(&format!("  {:>9}  {what}\n", thousands(count)));
            }
        }
    }
    for (sync, refusal) in &passed.pushed.records_put_off {
        text.push_str(&format!(
            "\nthe records of `{sync}` are tried again later: {} ({})\n",
            refusal.saw, refusal.reason
        ));
    }
    for (at, refusal) in &passed.pushed.too_small {
        text.push_str(&format!("\nnobody is added to {at}: {} ({})\n", refusal.saw, refusal.reason));
    }
    for (at, why) in &passed.pushed.put_off {
        text.push_str(&format!("\naudience {at} is tried again later: {why}\n"));
    }
    text
}

/// Says in a plan for programs who exactly would come and go.
pub(super) fn name(json: &mut Value, plan: &Plan) {
    for audience in json["audiences"].as_array_mut().into_iter().flatten() {
        let found = plan.audiences.iter().find(|(at, _)| {
            audience["destination"] == at.destination.as_str() && audience["audience"] == at.name.as_str()
        });
        for verb in [Verb::Add, Verb::Remove] {
            let ids = found.and_then(|(_, verbs)| verbs.get(&verb)).cloned().unwrap_or_default();
            audience[verb.as_str()] = json!(ids);
        }
    }
}

/// The same for people, the first of them.
pub(super) fn names(plan: &Plan) -> String {
    let mut text = String::new();
    for (at, verbs) in &plan.audiences {
        for (verb, ids) in verbs {
            let shown: Vec<String> = ids.iter().take(IDS_SHOWN).map(|id| printable(id)).collect();
            let more = match ids.len().saturating_sub(IDS_SHOWN) {
                0 => String::new(),
                more => format!(" and {} more: `--output json` has all", thousands(more as u64)),
            };
            text.push_str(&format!("\n{} {at}: {}{more}\n", verb.as_str(), shown.join(", ")));
        }
    }
    text
}
