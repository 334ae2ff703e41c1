//! What is written for a message, a change of an audience and a record, and what it means that it could not be.

use std::path::Path;

use connector::{
    Change, Changed, Exchange, Failure, FilePut, FileRequest, Item, Outcome, Reply, Request, Schedule, Write,
    Wrote, once,
};
use model::Reason;
use serde_json::{Value, json};

use super::settings::Format;

/// The file with one line a message.
const LOG: &str = "log.jsonl";

pub(super) fn exchange(folder: &Path, format: Format, item: &Item) -> Box<dyn Exchange> {
    let name = format!("{}.eml", item.delivery);
    let mut puts = Vec::new();
    if format != Format::Jsonl {
        puts.push(FilePut::Whole { name: name.clone(), bytes: item.bytes.clone() });
    }
    if format != Format::Eml {
        // The line begins with the delivery, so that it can be found by its beginning.
        let start = format!("{{\"delivery\":{},", Value::from(item.delivery.as_str()));
        let unless_begins = (item.attempt > 1).then_some(start);
        puts.push(FilePut::Line { name: LOG.to_owned(), line: line(item), unless_begins });
    }
    let receipt = if format == Format::Jsonl { LOG.to_owned() } else { name };
    once(Request::File(FileRequest { folder: folder.to_owned(), puts }), move |reply| outcome(reply, receipt))
}

/// A line a member, in the order in which they came and went.
pub(super) fn change(folder: &Path, change: &Change) -> Box<dyn Exchange<Changed>> {
    let name = format!("{}.jsonl", change.audience);
    let puts = change.members.iter().map(|member| {
        let line = json!({ "at": change.at.to_string(), "do": change.verb.as_str(), "member": member.identifiers() });
        FilePut::Line { name: name.clone(), line: line.to_string(), unless_begins: None }
    });
    let request = FileRequest { folder: folder.to_owned(), puts: puts.collect() };
    once(Request::File(request), move |reply| Changed::All(outcome(reply, name)))
}

/// A line a record.
pub(super) fn write(folder: &Path, write: &Write) -> Box<dyn Exchange<Wrote>> {
    let name = format!("records-{}.jsonl", write.object.name);
    let puts = write.rows.iter().map(|row| {
        let line = json!({ "at": write.at.to_string(), "match": { &write.object.key: row.key }, "fields": row.fields });
        FilePut::Line { name: name.clone(), line: line.to_string(), unless_begins: None }
    });
    let request = FileRequest { folder: folder.to_owned(), puts: puts.collect() };
    once(Request::File(request), move |reply| Wrote::All(outcome(reply, name)))
}

fn line(item: &Item) -> String {
    json!({
        "delivery": item.delivery.as_str(),
        "playbook": item.playbook.as_str(),
        "step": item.step.as_str(),
        "profile": item.profile.0,
        "template": item.template.as_str(),
        "mail_from": item.mail_from.as_string(),
        "to": item.rcpt_to.as_string(),
        "subject": item.content.subject,
        "bytes": item.bytes.len(),
    })
    .to_string()
}

fn outcome(reply: Reply, receipt: String) -> Outcome {
    let again = |reason, detail| Outcome::Retry {
        reason,
        after: None,
        schedule: Schedule::Connect,
        slower: false,
        detail,
    };
    match reply {
        Reply::Wrote => Outcome::Accepted { receipt },
        Reply::NotArmed => Outcome::NotArmed,
        Reply::Failed { kind: Failure::Refused, text, .. } => {
            Outcome::Halt { reason: Reason::FailAuth, detail: text.to_string() }
        }
        // Half written or not at all: writing it again gives the same, so there is no doubt.
        Reply::Failed { kind: Failure::ArmExpired | Failure::Timeout, text, .. } => {
            again(Reason::FailTimeout, text.to_string())
        }
        Reply::Failed { text, .. } => again(Reason::FailRemote5xx, text.to_string()),
        Reply::Smtp { .. } | Reply::Http(_) => {
            again(Reason::FailInternal, "the driver answered with something else than files".to_owned())
        }
    }
}
