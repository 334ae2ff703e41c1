//! `connector list`, `describe`, `test`: what this build speaks.

use connector::Kind;
use connector::conformance::conformance;
use serde_json::{Value, json};

use crate::args::ConnectorCommand;
use crate::context::Context;
use crate::failure::{Failure, code};
use crate::print::{Rows, say};

/// Connectors of this build.
pub(crate) fn connector(context: &Context, args: &ConnectorCommand) -> Result<u8, Failure> {
    match args {
        ConnectorCommand::List => {
            let mut rows = Rows::new(&["connector", "channel", "class", "in_doubt", "summary"]);
            for kind in connectors::ALL {
                rows.push([
                    json!(kind.name),
                    json!(kind.channel.as_str()),
                    json!(kind.idempotency.letter().to_string()),
                    json!(kind.idempotency.meaning()),
                    json!(kind.summary),
                ]);
            }
            context.printer.rows(&rows, "there are no connectors")?;
            Ok(code::DONE)
        }
        ConnectorCommand::Describe { name } => describe(context, found(name)?),
        ConnectorCommand::Test { name } => {
            let wrong = conformance(found(name)?);
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
    context.printer.rows(&rows, "it has no settings")?;
    say("All destinations also take `throttle` (such as `{rate: 10/s, burst: 20}`) and `timeout`.");
    Ok(code::DONE)
}
