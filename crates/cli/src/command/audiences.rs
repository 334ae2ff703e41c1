//! What a pass did in audiences, and what a plan would do.

use std::collections::BTreeSet;

use connector::Verb;
use daemon::plan::Plan;
use daemon::run::Passed;
use serde_json::{Value, json};

use crate::print::{printable, thousands};

/// People that a plan for people names.
const IDS_SHOWN: usize = 20;

/// Each audience that was compared, or in which something was done.
pub(super) fn json(passed: &Passed) -> Value {
    let pushed = &passed.pushed;
    let at = pushed.audiences.keys().chain(passed.ticked.syncs.iter().map(|sync| &sync.at));
    let at = at.chain(pushed.put_off.keys()).chain(pushed.too_small.keys());
    let at: BTreeSet<_> = at.collect();
    at.into_iter()
        .map(|at| {
            let report = pushed.audiences.get(at).copied().unwrap_or_default();
            let sync = passed.ticked.syncs.iter().rev().find(|sync| sync.at == *at);
            let held = sync.and_then(|sync| sync.held.as_ref()).or_else(|| pushed.too_small.get(at));
            let left_out = sync.map(|sync| {
                let counts = sync.left_out.iter();
                counts
                    .map(|(reason, count)| (reason.as_str().to_owned(), json!(count)))
                    .collect::<serde_json::Map<_, _>>()
            });
            json!({
                "destination": at.destination.as_str(), "audience": at.name.as_str(), "wanted": sync.map(|sync| sync.wanted),
                "added": report.added, "removed": report.removed, "rejected": report.rejected, "unknown": report.unknown,
                "not_taken": report.not_taken, "left_out": left_out, "put_off": pushed.put_off.get(at),
                "held": held.map(|held| json!({ "reason": held.reason.as_str(), "saw": held.saw })),
            })
        })
        .collect()
}

/// The same for people. `did`: what was done, or would be.
pub(super) fn for_people(passed: &Passed, did: [&str; 2]) -> String {
    let mut text = String::new();
    for sync in &passed.ticked.syncs {
        text.push_str(&format!(
            "\nsync `{}`: {} are to be in {}\n",
            sync.sync,
            thousands(sync.wanted),
            sync.at
        ));
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
