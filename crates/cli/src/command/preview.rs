//! `preview` and `send-test`: one person's message, before anybody gets it.

use std::sync::Arc;

use connector::Outcome;
use daemon::preview::{Previewed, preview as make};
use daemon::{Carrier, Daemon};
use model::EmailAddress;
use serde_json::json;

use crate::args::{Preview, SendTest};
use crate::context::Context;
use crate::failure::{Failure, code};
use crate::print::{printable, say};

async fn previewed(context: &Context, what: &str, id: &str) -> Result<(Arc<Daemon>, Previewed), Failure> {
    let project = context.project()?;
    let daemon = Arc::new(context.previewing(project).await?);
    let (playbook, step) = match what.strip_prefix("template.") {
        Some(template) => (None, template),
        None => what
            .trim_start_matches("playbook.")
            .split_once('.')
            .map_or((None, what), |(playbook, step)| (Some(playbook), step)),
    };
    let found = make(&daemon, playbook, step, id, context.now()).await?;
    let previewed = found.map_err(|why| Failure::new(why.to_string()))?;
    Ok((daemon, previewed))
}

/// Shows the message.
pub(crate) async fn preview(context: &Context, args: &Preview) -> Result<u8, Failure> {
    let (_, previewed) = previewed(context, &args.what, &args.profile).await?;
    let (message, refusal) = match &previewed.message {
        Ok(message) => (Some(message), None),
        Err(refusal) => (None, Some(refusal)),
    };
    let gates: Vec<_> = previewed
        .gates
        .iter()
        .map(|gate| json!({ "gate": gate.gate.as_str(), "reason": gate.reason.map(|reason| reason.as_str()), "saw": gate.saw }))
        .collect();
    let value = json!({
        "subject": message.map(|(rendered, _)| &rendered.subject),
        "text": message.map(|(rendered, _)| &rendered.text),
        "html": message.and_then(|(rendered, _)| rendered.html.as_ref()),
        "refused": refusal.map(|refusal| json!({ "reason": refusal.reason.as_str(), "saw": refusal.saw })),
        "gates": gates,
    });
    context.printer.object(&value, || for_people(&previewed))?;
    if let (Some(file), Some((rendered, _))) = (&args.html, message) {
        let html = rendered.html.clone().ok_or_else(|| Failure::new("this message has no HTML part"))?;
        std::fs::write(file, html)?;
        say(&format!("the HTML part is in {}", file.display()));
    }
    Ok(code::DONE)
}

fn for_people(previewed: &Previewed) -> String {
    let mut text = String::new();
    match &previewed.message {
        Ok((rendered, mail)) => {
            let headers = String::from_utf8_lossy(mail.bytes.as_slice());
            let headers = headers.split("\r\n\r\n").next().unwrap_or_default();
            text.push_str(&headers.lines().map(|line| format!("{}\n", printable(line))).collect::<String>());
            text.push_str(&format!("\n{}\n", rendered.text.trim_end()));
        }
        Err(refusal) => text.push_str(&format!(
            "no message: {} ({}): {}\n",
            refusal.reason.meaning(),
            refusal.reason,
            refusal.saw
        )),
    }
    let against: Vec<_> = previewed.gates.iter().filter(|gate| gate.reason.is_some()).collect();
    if against.is_empty() {
        text.push_str("\nevery gate would let it pass now\n");
    } else {
        text.push_str("\nit would not go now:\n");
    }
    for gate in against {
        if let Some(reason) = gate.reason {
            text.push_str(&format!("  {} ({reason}) {}\n", reason.meaning(), printable(&gate.saw)));
        }
    }
    text
}

/// Sends the message to a colleague: no caps, no statistics, no state; the subject says that it is a test.
pub(crate) async fn send_test(context: &Context, args: &SendTest) -> Result<u8, Failure> {
    let (daemon, previewed) = previewed(context, &args.what, &args.profile).await?;
    let to = EmailAddress::parse(&args.to)
        .map_err(|error| Failure::new(format!("`--to` is no address: {error}")))?;
    let settings = &daemon.project.settings;
    if !daemon::driver::is_colleague(&settings.colleagues, &to) {
        return Err(Failure::new("`--to` is no colleague")
            .hint("`colleagues` in drumbeat.yml lists who may get tests, such as [\"*@acme.test\"]"));
    }
    let item = previewed.test_item(&daemon, &to).map_err(|refusal| {
        Failure::new(format!("no message: {}: {}", refusal.reason.meaning(), refusal.saw))
    })?;
    let carriers = daemon::open::carriers(&daemon.project, connectors::ALL)?;
    let Some(Carrier::Driver(driver)) = carriers.get(&previewed.destination) else {
        return Err(Failure::new(format!("there is no destination `{}`", previewed.destination)));
    };
    driver.may_go(&to).map_err(|refusal| Failure::new(refusal.saw))?;
    match driver.deliver(&item, async || true, || None).await {
        Outcome::Accepted { receipt } => {
            say(&format!("sent; `{}` says: {}", previewed.destination, printable(&receipt)));
            Ok(code::DONE)
        }
        Outcome::Rejected { reason, detail, .. }
        | Outcome::Retry { reason, detail, .. }
        | Outcome::Halt { reason, detail } => {
            Err(Failure::new(format!("not sent: {} ({reason}): {detail}", reason.meaning())))
        }
        Outcome::InDoubt { detail } => {
            Err(Failure::new(format!("handed over without an answer: {detail}")).with_code(code::IN_DOUBT))
        }
        Outcome::NotArmed => Err(Failure::new("not sent")),
    }
}
