//! `cargo x contracts`: what connectors ask, held against verifiers that were not written here.
//!
//! The requests are those of the golden conversations, byte for byte. Prism holds them against the providers' descriptions in
//! `tests/contracts`; moto takes the mail of `ses`, and botocore says whether it would have sent and signed the same. Each verifier must also
//! refuse what is broken on purpose, or its yes is worth nothing.
//!
//! Absent: answers. What a provider would say is ours to assume.

mod http;
mod server;
mod ses;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use connector::http::HeaderText;
use connector::{HttpRequest, golden};
use serde_json::Value;

use self::http::Answer;
use self::server::Server;
use crate::process;

/// Descriptions of providers, `NAME.json`, and the script that asks botocore.
const FOLDER: &str = "tests/contracts";
/// Versions that are known to judge rightly; `.ci/run` installs the same.
const PRISM: &str = "@stoplight/prism-cli@5.14.2";
const MOTO: &str = "moto==5.2.5 flask flask-cors";

/// What a connector is held against.
struct Contract {
    /// The connector's name, and its description's.
    name: &'static str,
    /// What the description speaks of: requests to elsewhere are not its business.
    host: &'static str,
    /// What is broken on purpose in each request that has it, and how.
    breaks: &'static [(&'static str, &'static str)],
}

const CONTRACTS: &[Contract] = &[
    Contract {
        name: "google_ads",
        host: "https://datamanager.googleapis.com",
        breaks: &[
            ("\"CONSENT_GRANTED\"", "\"GRANTED\""),
            ("\"address\":", "\"addressInfo\":"),
            ("\"displayName\":\"", "\"display\":\""),
        ],
    },
    Contract {
        name: "hubspot",
        host: "https://api.hubapi.com",
        breaks: &[
            ("\"idProperty\":", "\"idProp\":"),
            ("\"score\":\"7.5\"", "\"score\":7.5"),
            ("\"operator\":\"IN\"", "\"operator\":\"AMONG\""),
            ("\"dataSensitivity\":\"non_sensitive\",", ""),
            ("\"associations\":[],", ""),
        ],
    },
    Contract {
        name: "linkedin_ads",
        host: "https://api.linkedin.com",
        breaks: &[("\"ADD\"", "\"ADDED\""), ("\"idValue\":", "\"value\":"), ("\"PRIVATE\"", "\"SECRET\"")],
    },
    Contract {
        name: "mailgun",
        host: "https://api.mailgun.net",
        breaks: &[("name=\"to\"", "name=\"too\""), ("name=\"message\"", "name=\"mime\"")],
    },
    Contract {
        name: "pipedrive",
        host: "https://api.pipedrive.com",
        breaks: &[
            ("\"subscribed\"", "\"opted_in\""),
            ("\"org_id\":5", "\"org_id\":\"five\""),
            ("\"label\":\"work\"", "\"tag\":\"work\""),
            ("\"name\":\"Acme\"", "\"title\":\"Acme\""),
        ],
    },
    Contract {
        name: "postmark",
        host: "https://api.postmarkapp.com",
        breaks: &[
            ("\"To\":", "\"Too\":"),
            ("\"Metadata\":{\"delivery\":\"", "\"Metadata\":{\"delivery\":7,\"a\":\""),
        ],
    },
    Contract {
        name: "sendgrid",
        host: "https://api.sendgrid.com",
        breaks: &[
            ("\"to\":[", "\"too\":["),
            ("\"email\":\"ana@example.test\"", "\"email\":\"ana\""),
            ("\"subject\":", "\"subjects\":"),
        ],
    },
];

/// What judges, where it is found.
struct Verifiers {
    node: PathBuf,
    prism: PathBuf,
    python: PathBuf,
}

pub(crate) fn main(arguments: &[String]) -> Result<()> {
    if !arguments.is_empty() {
        bail!("takes no arguments");
    }
    check(&find()?)
}

/// The same as a step of `cargo x ci`: it may be left out where the verifiers are not installed, unless
/// `DRUMBEAT_TEST_CONTRACTS=required`.
///
/// # Errors
/// A verifier refuses a request, or takes a broken one, or is missing where it is required.
pub(crate) fn step() -> Result<()> {
    match find() {
        Ok(verifiers) => check(&verifiers),
        Err(error) if std::env::var_os("DRUMBEAT_TEST_CONTRACTS").is_some_and(|is| is == "required") => {
            Err(error)
        }
        Err(error) => {
            println!("skipped: {error}");
            Ok(())
        }
    }
}

/// Where the verifiers are: as `.ci/run` says, or where it puts them.
fn find() -> Result<Verifiers> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let place = |variable: &str, otherwise: &str| {
        std::env::var_os(variable).map_or_else(|| home.join(".cache/drumbeat").join(otherwise), PathBuf::from)
    };
    let prism = place("DRUMBEAT_PRISM", "prism/node_modules/@stoplight/prism-cli/dist/index.js");
    let python = place("DRUMBEAT_MOTO_PYTHON", "python/bin/python");
    let node = process::find("node").context("no Node.js on the PATH: `apt-get install nodejs npm`")?;
    ensure!(
        prism.is_file(),
        "no Prism at {} (DRUMBEAT_PRISM): `npm install --prefix ~/.cache/drumbeat/prism {PRISM}`",
        prism.display()
    );
    // The packages are found without starting Python, which takes a second to import them.
    ensure!(
        python.with_file_name("moto_server").is_file(),
        "no moto beside {} (DRUMBEAT_MOTO_PYTHON): `python3 -m venv ~/.cache/drumbeat/python` and \
         `~/.cache/drumbeat/python/bin/pip install {MOTO}`",
        python.display()
    );
    Ok(Verifiers { node, prism, python })
}

fn check(verifiers: &Verifiers) -> Result<()> {
    let root = process::root()?;
    // All at once: each takes seconds to start.
    let mut prisms = Vec::new();
    for contract in CONTRACTS {
        let mut prism = Command::new(&verifiers.node);
        prism.arg(&verifiers.prism).args(["mock", "-h", "127.0.0.1", "-p", "0"]);
        prism.arg(root.join(FOLDER).join(contract.name).with_extension("json"));
        prisms.push(Server::start(contract.name, prism, "Prism is listening on")?);
    }
    let mut moto = Command::new(&verifiers.python);
    moto.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]);
    let moto = Server::start("moto", moto, "Running on")?;

    let mut wrong = Vec::new();
    for (contract, prism) in CONTRACTS.iter().zip(&prisms) {
        let (asked, elsewhere): (Vec<_>, Vec<_>) = requests(&root, contract.name)?
            .into_iter()
            .partition(|request| request.url.starts_with(contract.host));
        let mut complaints = Vec::new();
        let refused = hold(contract, prism.port()?, &asked, &mut complaints)?;
        report(contract.name, asked.len(), refused, complaints.len());
        if !elsewhere.is_empty() {
            println!("    held against nothing: {elsewhere:?}");
        }
        wrong.extend(complaints);
    }
    ses::check(&root, &verifiers.python, moto.port()?, &requests(&root, ses::NAME)?, &mut wrong)?;
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn report(name: &str, asked: usize, broken: usize, wrong: usize) {
    let verdict = if wrong == 0 { "good".to_owned() } else { format!("{wrong} WRONG") };
    println!("{name}: {verdict} ({asked} asked, {broken} more broken on purpose)");
}

/// What a connector asks in its golden conversations; each once.
fn requests(root: &Path, name: &str) -> Result<Vec<HttpRequest>> {
    let kind = connectors::ALL.iter().find(|kind| kind.name == name);
    let kind = kind.with_context(|| format!("no connector `{name}`"))?;
    let folder = root.join("connectors").join(name).join("golden");
    let mut all: Vec<HttpRequest> = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let asked = golden::requests(kind, &text).map_err(anyhow::Error::msg);
        for request in asked.with_context(|| path.display().to_string())? {
            if !all.contains(&request) {
                all.push(request);
            }
        }
    }
    ensure!(!all.is_empty(), "{name} asks nothing over HTTP");
    Ok(all)
}

/// Sends a connector's requests to Prism, and broken ones, of which it says how many there were.
fn hold(contract: &Contract, port: u16, asked: &[HttpRequest], wrong: &mut Vec<String>) -> Result<usize> {
    let name = contract.name;
    for request in asked {
        let violations = violations(&send(port, contract.host, request)?)?;
        wrong.extend(violations.iter().map(|violation| format!("{name}: {request:?}: {violation}")));
    }
    let mut count = 0;
    let mut refuse = |what: String, request: &HttpRequest| -> Result<()> {
        count += 1;
        if violations(&send(port, contract.host, request)?)?.is_empty() {
            wrong.push(format!("{name}: Prism takes {request:?} {what}"));
        }
        Ok(())
    };
    for (from, to) in contract.breaks {
        let broken: Vec<HttpRequest> =
            asked.iter().filter_map(|request| altered(request, from, to)).collect();
        ensure!(!broken.is_empty(), "{name}: no request has {from}, which is to be broken");
        for request in &broken {
            refuse(format!("with {to} for {from}"), request)?;
        }
    }
    // Nobody is let in without a secret, whichever header it stands in.
    for request in asked {
        let mut stranger = request.clone();
        stranger.headers.retain(|(_, text)| matches!(text, HeaderText::Plain(_)));
        refuse("without its secret".to_owned(), &stranger)?;
    }
    Ok(count)
}

/// The same request with something else in its body, if it has that.
fn altered(request: &HttpRequest, from: &str, to: &str) -> Option<HttpRequest> {
    let body = String::from_utf8_lossy(&request.body);
    let body = body.contains(from).then(|| body.replace(from, to))?;
    Some(HttpRequest { body: body.into_bytes().into(), ..request.clone() })
}

/// Sends a request to this machine instead of its host.
fn send(port: u16, host: &str, request: &HttpRequest) -> Result<Answer> {
    let path = request.url.strip_prefix(host).with_context(|| format!("{request:?} is not for {host}"))?;
    let headers: Vec<(&str, &str)> =
        request.headers.iter().map(|(name, text)| (*name, text.reveal())).collect();
    http::send(port, request.method.as_str(), path, &headers, &request.body)
}

/// What Prism holds against a request. It says so in a header where it answers all the same, and in a body where it does not; what it holds
/// against its own answer is not our business.
fn violations(answer: &Answer) -> Result<Vec<String>> {
    let listed = |text: &str| -> Result<Vec<Value>> {
        let list = text.find('[').and_then(|at| text.get(at..)).unwrap_or("[]");
        serde_json::from_str(list).with_context(|| format!("what Prism says: {text}"))
    };
    let mut all = answer.header("sl-violations").map_or(Ok(Vec::new()), listed)?;
    let refusal: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    all.extend(refusal.get("validation").and_then(Value::as_array).cloned().unwrap_or_default());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let place = |violation: &Value| -> Vec<String> {
        violation.get("location").and_then(Value::as_array).into_iter().flatten().map(text).collect()
    };
    let mut found: Vec<String> = all
        .iter()
        .map(|violation| (place(violation), violation.get("message").map(text).unwrap_or_default()))
        .filter(|(place, _)| place.first().is_none_or(|first| first != "response"))
        .map(|(place, message)| format!("{}: {message}", place.join(".")))
        .collect();
    if found.is_empty() && answer.status >= 400 {
        let title = refusal.get("title").map(text).unwrap_or_default();
        found.push(format!("HTTP {} {title}", answer.status));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(text: &str) -> Vec<String> {
        violations(&http::parse(text.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn what_is_held_against_a_request_is_read_from_header_body_and_status() {
        let header = "HTTP/1.1 200 OK\r\nsl-violations: [{\"location\":[\"request\",\"body\"],\"message\":\"no\"},\
                      {\"location\":[\"response\",\"body\"],\"message\":\"its own\"}]\r\n\r\n";
        assert_eq!(held(header), ["request.body: no"]);
        let many = "HTTP/1.1 200 OK\r\nsl-violations: Too many violations! [{\"location\":[],\"message\":\"no\"}]\r\n\r\n";
        assert_eq!(held(many), [": no"]);
        let body = "HTTP/1.1 422 No\r\n\r\n{\"title\":\"Invalid\",\"validation\":[{\"location\":[\"body\",\"to\"],\"message\":\"no\"}]}";
        assert_eq!(held(body), ["body.to: no"]);
        assert_eq!(held("HTTP/1.1 401 No\r\n\r\n{\"title\":\"Who?\"}"), ["HTTP 401 Who?"]);
        assert_eq!(held("HTTP/1.1 500 No\r\n\r\n<html>"), ["HTTP 500 "]);
        assert_eq!(held("HTTP/1.1 200 OK\r\n\r\n[]"), [""; 0]);
    }

    #[test]
    fn every_connector_that_is_held_against_something_asks_something() {
        // Cargo runs tests in their crate's folder.
        let root = Path::new("../..");
        for name in CONTRACTS.iter().map(|contract| contract.name).chain([ses::NAME]) {
            assert!(!requests(root, name).unwrap().is_empty(), "{name}");
        }
    }
}
