//! `doctor`: everything outside that must be right, each finding with what to do about it.

use std::time::Duration;

use model::settings::Deliver;
use serde_json::json;
use state::{Access, State};

use crate::context::Context;
use crate::failure::{Failure, chain, code};
use crate::print::Rows;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    Note,
    Bad,
}

struct Findings {
    rows: Rows,
    bad: bool,
}

impl Findings {
    fn add(&mut self, what: &str, verdict: Verdict, saw: impl Into<String>, remedy: &str) {
        self.bad |= verdict == Verdict::Bad;
        let word = match verdict {
            Verdict::Good => "good",
            Verdict::Note => "note",
            Verdict::Bad => "BAD",
        };
        self.rows.push([json!(word), json!(what), json!(saw.into()), json!(remedy)]);
    }
}

/// Looks at everything outside.
pub(crate) async fn doctor(context: &Context) -> Result<u8, Failure> {
    let project = context.project()?;
    let mut findings = Findings { rows: Rows::new(&["verdict", "what", "saw", "remedy"]), bad: false };
    match daemon::open::source(&project).await {
        Ok(source) => match source.view(context.now()).await {
            Ok(mut view) => match view.count(&project.data.profiles).await {
                Ok(found) => {
                    findings.add("warehouse", Verdict::Good, format!("{} profiles", found.people), "")
                }
                Err(error) => {
                    findings.add("warehouse", Verdict::Bad, chain(&error), "`drumbeat check` says more")
                }
            },
            Err(error) => {
                findings.add("warehouse", Verdict::Bad, chain(&error), "is it up, and may we read it?")
            }
        },
        Err(error) => findings.add("warehouse", Verdict::Bad, chain(&error), "see `warehouse.url`"),
    }
    match State::open(&project.settings.state, &project.dir, Access::ReadOnly).await {
        Ok(state) => {
            let mut tx = state.read().await?;
            let in_doubt = state::outbox::in_doubt(&mut tx, 1_000).await?.len();
            findings.add("state", Verdict::Good, if state.is_postgres() { "Postgres" } else { "SQLite" }, "");
            if in_doubt > 0 {
                findings.add(
                    "in doubt",
                    Verdict::Note,
                    format!("{in_doubt} deliveries"),
                    "`drumbeat in-doubt list`",
                );
            }
            for halt in tx.ask(state::control::halts()).await? {
                findings.add(
                    "halt",
                    Verdict::Note,
                    format!("since {} by {}: {}", halt.at, halt.actor, halt.reason),
                    "`drumbeat halt --lift`",
                );
            }
        }
        Err(error) if error.is_missing() => {
            findings.add("state", Verdict::Note, "none yet: nothing has run", "")
        }
        Err(error) => {
            findings.add("state", Verdict::Bad, chain(&error), "see `state`; `drumbeat migrate` on Postgres")
        }
    }
    destinations(&project, &mut findings).await;
    public_addresses(&project, &mut findings).await;
    signatures(&project, &mut findings);
    context.printer.rows(&findings.rows, "")?;
    Ok(if findings.bad { code::FAILED } else { code::DONE })
}

/// Whether each destination answers; nothing is sent.
async fn destinations(project: &project::Project, findings: &mut Findings) {
    for (name, destination) in &project.settings.destinations {
        let what = format!("destination {name}");
        let Some(kind) = connectors::ALL.iter().find(|kind| kind.name == destination.connector) else {
            continue;
        };
        let Ok(connector) = (kind.build)(&destination.settings) else { continue };
        if let Some(mailbox) = connector.mailbox() {
            let arrived = project.dir.join(mailbox).join("new");
            match std::fs::read_dir(&arrived) {
                Ok(_) => findings.add(&what, Verdict::Good, "its mailbox can be read", ""),
                Err(error) => findings.add(
                    &what,
                    Verdict::Bad,
                    format!("its mailbox, {}: {error}", arrived.display()),
                    "is it a maildir, and may this user read it?",
                ),
            }
        }
        match connector.reach() {
            connector::Reach::Local => findings.add(&what, Verdict::Good, "writes files", ""),
            connector::Reach::Network { host, port } => {
                let connecting = tokio::net::TcpStream::connect((host.as_str(), port));
                match tokio::time::timeout(Duration::from_secs(5), connecting).await {
                    Ok(Ok(_)) => findings.add(&what, Verdict::Good, format!("{host}:{port} answers"), ""),
                    Ok(Err(error)) => findings.add(
                        &what,
                        Verdict::Bad,
                        format!("{host}:{port}: {error}"),
                        "is the server up?",
                    ),
                    Err(_) => findings.add(
                        &what,
                        Verdict::Bad,
                        format!("{host}:{port} does not answer"),
                        "a firewall?",
                    ),
                }
            }
        }
    }
    if project.settings.deliver == Deliver::Local {
        findings.add(
            "deliver",
            Verdict::Note,
            "local: nothing leaves this machine",
            "`deliver: all` where mail is to go out",
        );
    }
}

/// The records that must be published for signatures to count. Nobody is asked whether they are.
fn signatures(project: &project::Project, findings: &mut Findings) {
    for (brand, signer) in &project.signers {
        let saw = format!("{} TXT \"{}\"", signer.record_name(), signer.record());
        findings.add(
            &format!("dkim of {brand}"),
            Verdict::Note,
            saw,
            "publish this in the DNS, if it is not there yet",
        );
    }
}

/// Whether the links in our messages lead to us: a way out that does not work is worse than none.
async fn public_addresses(project: &project::Project, findings: &mut Findings) {
    let client = match reqwest::Client::builder()
        .timeout(Duration::from_secs(5))
        .redirect(reqwest::redirect::Policy::none())
        .build()
    {
        Ok(client) => client,
        Err(error) => {
            findings.add("public_url", Verdict::Bad, error.to_string(), "");
            return;
        }
    };
    for brand in project.settings.brands.values() {
        let Some(url) = &brand.public_url else { continue };
        let what = format!("public_url of {}", brand.name);
        // Any page of ours will do; this one says that the link is not complete.
        match client.get(format!("{}/u/doctor", url.trim_end_matches('/'))).send().await {
            Ok(answer)
                if answer.status() == reqwest::StatusCode::NOT_FOUND
                    && answer.headers().contains_key("x-robots-tag") =>
            {
                findings.add(&what, Verdict::Good, "our pages answer", "");
            }
            Ok(answer) => findings.add(
                &what,
                Verdict::Bad,
                format!("something else answers: {}", answer.status()),
                "it must lead to `serve.public` of the daemon",
            ),
            Err(_) => findings.add(
                &what,
                Verdict::Bad,
                "nothing answers",
                "is the daemon running, and does the address lead to its `serve.public`?",
            ),
        }
    }
}
