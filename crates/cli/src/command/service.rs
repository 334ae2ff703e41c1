//! `connector test webhook --url`: tries a running service that speaks the protocol of `webhook`, through the one client that goes out.

use std::time::Duration;

use connector::http::{host_and_port, is_this_machine};
use connector::{Failure as Lost, Kind, Outcome, Reply, Request, once};
use connectors::webhook::{self, trial};
use daemon::driver::Driver;
use jiff::SignedDuration;
use model::DestinationName;
use model::recipients::Recipients;
use model::settings::{ConnectorSettings, Deliver, Destination};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::args::{ConnectorTest, ServicePart};
use crate::context::Context;
use crate::failure::{Failure, code};
use crate::print::{Rows, printable, say};

/// A destination waits so long unless it says otherwise.
const ANSWER_SECONDS_MAX: u32 = 60;

/// An answer as it came, or why nothing was sent.
struct Came(Result<Reply, String>);

impl From<Outcome> for Came {
    fn from(outcome: Outcome) -> Self {
        Self(Err(match outcome {
            Outcome::Halt { detail, .. } => detail,
            _ => "nothing was sent".to_owned(),
        }))
    }
}

/// Sends each check, and says what was wrong with the answers.
pub(crate) async fn try_service(
    context: &Context,
    kind: &'static Kind,
    url: &str,
    args: &ConnectorTest,
) -> Result<u8, Failure> {
    let usage = |text: String| Failure::new(text).with_code(code::USAGE);
    if kind.name != webhook::KIND.name {
        return Err(usage(format!(
            "`--url` tries a service that speaks the protocol of `webhook`, and not of `{}`",
            kind.name
        )));
    }
    let Some(secret) = &args.secret else {
        return Err(usage("the secret that the service knows is missing".to_owned())
            .hint("`--secret whsec_...`, or DRUMBEAT_WEBHOOK_SECRET"));
    };
    let (driver, trial) = ready(context, url, secret)?;
    let checks = trial::checks(&parts(&args.only));
    say(&format!(
        "This sends made-up people to {}: ana@example.test, bo@example.test and others under example.test, acme.test and beta.test, \
         which lead to nobody. The service does with them what it does.",
        printable(url.split(['?', '#']).next().unwrap_or_default())
    ));

    let mut told = Told { rows: Rows::new(&["check", "result", "saw", "about"]), wrong: 0 };
    let (mut slowest, mut is_lost, mut rejected, mut misplaced) = (Duration::ZERO, false, 0, Vec::new());
    let mut left = checks.into_iter();
    for check in left.by_ref() {
        let request = trial.request(&check, context.clock().now());
        let begun = Instant::now();
        let exchange = once(Request::Http(request), |reply| Came(Ok(reply)));
        let Came(reply) = driver.converse(exchange, Some(begun)).await;
        let reply = reply.map_err(Failure::new)?;
        slowest = slowest.max(begun.elapsed());
        told.row(check.name, check.judge(&reply), check.about);
        match check.rejected(&reply) {
            Ok(count) => rejected += count,
            Err(why) => misplaced.push(why),
        }
        // What does not answer will not answer the next one either, and each may take a minute.
        is_lost = matches!(&reply, Reply::Failed { handed_over, kind, .. } if !handed_over || *kind == Lost::Timeout);
        if is_lost {
            break;
        }
    }
    for check in left {
        told.push(check.name, "not tried", "", check.about);
    }
    let places =
        if misplaced.is_empty() { Ok(format!("{rejected} named")) } else { Err(misplaced.join("; ")) };
    told.row("rejected_places", places, "what is named as not taken is there");
    let in_time = match is_lost {
        true => Err(format!("no answer after {} ms", slowest.as_millis())),
        false => Ok(format!("the slowest after {} ms", slowest.as_millis())),
    };
    told.row("answers_in_time", in_time, "each answer comes within a minute");

    context.printer.rows(&told.rows, "nothing was tried")?;
    say(&match told.wrong {
        0 => "the service does what it must".to_owned(),
        1 => "one answer is not what it must be".to_owned(),
        count => format!("{count} answers are not what they must be"),
    });
    Ok(if told.wrong == 0 { code::DONE } else { code::FAILED })
}

/// What was found.
struct Told {
    rows: Rows,
    wrong: usize,
}

impl Told {
    fn row(&mut self, name: &str, found: Result<String, String>, about: &str) {
        self.wrong += usize::from(found.is_err());
        let result = if found.is_ok() { "ok" } else { "wrong" };
        self.push(name, result, &found.unwrap_or_else(|why| why), about);
    }

    fn push(&mut self, name: &str, result: &str, saw: &str, about: &str) {
        self.rows.push([json!(name), json!(result), json!(saw), json!(about)]);
    }
}

fn parts(only: &[ServicePart]) -> Vec<trial::Part> {
    let of = |part: &trial::Part| match part {
        trial::Part::Messages => ServicePart::Messages,
        trial::Part::Audiences => ServicePart::Audiences,
        trial::Part::Records => ServicePart::Records,
    };
    trial::Part::ALL.iter().copied().filter(|part| only.is_empty() || only.contains(&of(part))).collect()
}

/// The driver of a destination that is there for this only, and what is to be sent through it.
fn ready(context: &Context, url: &str, secret: &str) -> Result<(Driver, trial::Trial), Failure> {
    // A private network may be meant: somebody typed the address. Services of the cloud to its machines stay out of reach.
    let settings = json!({ "url": url, "secret": secret, "private": true });
    let Value::Object(settings) = settings else { return Err(Failure::new("settings are an object")) };
    let settings = ConnectorSettings(settings);
    let refused = |mistakes: Vec<connector::SettingsMistake>| {
        let all: Vec<String> = mistakes.iter().map(|one| format!("--{}: {}", one.key, one.message)).collect();
        Failure::new(all.join("; ")).with_code(code::USAGE)
    };
    let connector = (webhook::KIND.build)(&settings).map_err(refused)?;
    let trial = trial::Trial::new(&settings, context.now()).map_err(refused)?;
    let is_here = host_and_port(url).is_some_and(|(host, _)| is_this_machine(&host));
    let destination = Destination {
        name: DestinationName::known("trial"),
        connector: webhook::KIND.name.to_owned(),
        settings,
        throttle: None,
        recipients: Recipients::default(),
        timeout: Some(SignedDuration::from_secs(i64::from(ANSWER_SECONDS_MAX))),
    };
    let deliver = if is_here { Deliver::Local } else { Deliver::All };
    let driver = Driver::new(&destination, connector, &webhook::KIND, deliver, &[], &context.dir);
    if driver.may_hand_over().is_err() {
        return Err(Failure::new(
            "mail leaves this machine for the world by its ports 25, 465 and 587: nothing is tried there",
        ));
    }
    Ok((driver, trial))
}
