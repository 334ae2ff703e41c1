//! `connector list`, `describe`, `test`: what this build speaks.

use connector::conformance::conformance;
use connector::{AudienceKind, Kind};
use serde_json::{Value, json};

use crate::args::ConnectorCommand;
use crate::command::service;
use crate::context::Context;
use crate::failure::{Failure, code};
use crate::print::{Rows, say, thousands};

/// Connectors of this build.
pub(crate) async fn connector(context: &Context, args: &ConnectorCommand) -> Result<u8, Failure> {
    match args {
        ConnectorCommand::List => {
            let mut rows =
                Rows::new(&["connector", "messages", "audiences", "records", "class", "in_doubt", "summary"]);
            for kind in connectors::ALL {
                rows.push([
                    json!(kind.name),
                    json!(kind.messages.map(model::Channel::as_str)),
                    json!(kind.audiences.is_some()),
                    json!(kind.records.is_some()),
                    json!(kind.idempotency.letter().to_string()),
                    json!(kind.idempotency.meaning()),
                    json!(kind.summary),
                ]);
            }
            context.printer.rows(&rows, "there are no connectors")?;
            Ok(code::DONE)
        }
        ConnectorCommand::Describe { name } => describe(context, found(name)?),
        ConnectorCommand::Test(args) => {
            let (name, kind) = (&args.name, found(&args.name)?);
            if let Some(url) = &args.url {
                return service::try_service(context, kind, url, args).await;
            }
            let wrong = conformance(kind);
            for line in &wrong {
                say(line);
            }
            say(&match wrong.len() {
                0 => format!("connector `{name}` conforms"),
                count => format!("connector `{name}` breaks the contract in {count} ways"),
            });
            Ok(if wrong.is_empty() { code::DONE } else { code::FAILED })
        }
    }
}

fn found(name: &str) -> Result<&'static Kind, Failure> {
    connectors::ALL.iter().copied().find(|kind| kind.name == name).ok_or_else(|| {
        let names: Vec<&str> = connectors::ALL.iter().map(|kind| kind.name).collect();
        Failure::new(format!("there is no connector `{name}`"))
            .hint(format!("there are: {}", names.join(", ")))
    })
}

/// What it does with audiences, in sentences.
fn audiences_of(kind: &AudienceKind) -> String {
    let known_by: Vec<String> = kind
        .identifiers
        .iter()
        .map(|one| {
            let hashed = if one.is_hashed { ", hashed" } else { "" };
            format!("{} ({}{hashed})", one.column, one.normaliser)
        })
        .collect();
    let few = if kind.people_min > 0 {
        format!(", of {} people or more", thousands(kind.people_min))
    } else {
        String::new()
    };
    let renewed = kind
        .renew_after
        .map(|after| {
            format!(" Whoever is in is added again after {}.", model::duration::format_duration(after))
        })
        .unwrap_or_default();
    format!(
        "Audiences{few}: at most {} people a request, known by {}.{renewed}",
        thousands(kind.members_max as u64),
        known_by.join(", ")
    )
}

/// The settings of one, as its schema has them.
fn describe(context: &Context, kind: &Kind) -> Result<u8, Failure> {
    let schema = (kind.schema)();
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut rows = Rows::new(&["setting", "required", "secret", "about"]);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let about = property["description"].as_str().unwrap_or_default().replace('\n', " ");
        let secret = property["writeOnly"] == Value::Bool(true);
        rows.push([json!(name), json!(required.contains(&name.as_str())), json!(secret), json!(about)]);
    }
    say(kind.summary);
    say(&format!("In doubt (class {}): {}.", kind.idempotency.letter(), kind.idempotency.meaning()));
    if let Some(audiences) = &kind.audiences {
        say(&audiences_of(audiences));
    }
    if let Some(records) = &kind.records {
        let reads = match records.reads {
            true => "read before they are written, so that nobody else's word is lost",
            false => "not read: `on_edit: overwrite` only",
        };
        say(&format!("Records: at most {} a request, {reads}.", thousands(records.rows_max as u64)));
    }
    context.printer.rows(&rows, "it has no settings")?;
    say(
        "All destinations also take `throttle` (such as `{rate: 10/s, burst: 20}`) and `timeout`, those of mail also `recipients`.",
    );
    Ok(code::DONE)
}
