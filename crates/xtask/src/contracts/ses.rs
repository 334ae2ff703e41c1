//! The requests of `ses`, held against botocore, and handed to moto.
//!
//! moto takes any signature, and botocore sends nothing: each says what the other does not.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use connector::{HttpRequest, golden};
use serde_json::{Map, Value, json};

use super::{Answer, FOLDER, altered, http, report, send};

pub(super) const NAME: &str = "ses";
const HOST: &str = "https://email.eu-central-1.amazonaws.com";
/// What is broken on purpose: an unknown member of a structure, and what no longer fits its signature.
const BREAKS: &[(&str, &str)] = &[("\"ToAddresses\":", "\"To\":"), ("@example.test", "@example.org")];

/// Asks both about every request.
///
/// # Errors
/// One of them does not answer.
pub(super) fn check(
    root: &Path,
    python: &Path,
    moto: u16,
    asked: &[HttpRequest],
    wrong: &mut Vec<String>,
) -> Result<()> {
    let before = wrong.len();
    let mut broken = Vec::new();
    for (from, to) in BREAKS {
        broken.extend(asked.iter().filter_map(|request| altered(request, from, to)));
    }
    ensure!(broken.len() == BREAKS.len() * asked.len(), "{NAME}: a request has not what is to be broken");
    let all: Vec<&HttpRequest> = asked.iter().chain(&broken).collect();
    for (position, said) in botocore(root, python, &all)?.iter().enumerate() {
        let about = all.get(position).context("botocore speaks of more than it was asked about")?;
        match (position < asked.len(), said.is_empty()) {
            (true, false) => wrong.push(format!("{NAME}: {about:?}: {said}")),
            (false, true) => wrong.push(format!("{NAME}: botocore takes {about:?}, which is broken")),
            _ => {}
        }
    }
    for request in asked {
        wrong.extend(deliver(moto, request)?.map(|what| format!("{NAME}: {request:?}: {what}")));
    }
    report(NAME, asked.len(), broken.len(), wrong.len() - before);
    Ok(())
}

/// What botocore holds against each request.
fn botocore(root: &Path, python: &Path, requests: &[&HttpRequest]) -> Result<Vec<String>> {
    let path = root.join("connectors").join(NAME).join("golden/replies.txt");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let settings = text.lines().find_map(|line| line.strip_prefix("$ ")).context("no settings")?;
    let settings: Value = serde_json::from_str(settings).context("the settings")?;
    let all: Vec<Value> = requests
        .iter()
        .map(|request| {
            let headers = request.headers.iter();
            let headers: Map<String, Value> =
                headers.map(|(name, text)| ((*name).to_owned(), json!(text.reveal()))).collect();
            let body = String::from_utf8_lossy(&request.body);
            json!({"method": request.method.as_str(), "url": request.url, "headers": headers, "body": body})
        })
        .collect();
    let mut script = Command::new(python);
    script.arg(root.join(FOLDER).join("ses.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = script.spawn().context("cannot start Python")?;
    let asked = json!({"settings": settings, "requests": all}).to_string();
    // The pipe ends with this statement, and the script reads to its end before it writes.
    let written = child.stdin.take().context("Python has no standard input")?.write_all(asked.as_bytes());
    let output = child.wait_with_output().context("cannot wait for Python")?;
    ensure!(output.status.success(), "{FOLDER}/ses.py ended with {}", output.status);
    written.context("Python does not listen")?;
    let said: Vec<String> = serde_json::from_slice(&output.stdout).context("what ses.py says")?;
    ensure!(said.len() == requests.len(), "ses.py speaks of {} requests", said.len());
    Ok(said)
}

/// Hands a request to moto, which is to refuse it while it does not know the sender, and to have its message afterwards; what is wrong.
fn deliver(moto: u16, request: &HttpRequest) -> Result<Option<String>> {
    post(moto, request, "/moto-api/reset", &Value::Null)?;
    let refused = send(moto, HOST, request)?;
    if refused.status != 400 {
        return Ok(Some(format!("moto takes it from a sender it does not know: HTTP {}", refused.status)));
    }
    let item = golden::sample_item();
    let sender = json!({"EmailIdentity": item.mail_from.as_string()});
    let known = post(moto, request, "/v2/email/identities", &sender)?;
    ensure!(known.status == 200, "moto makes no identity: HTTP {} {}", known.status, known.body);
    let taken = send(moto, HOST, request)?;
    if taken.status != 200 || !taken.body.contains("\"MessageId\"") {
        return Ok(Some(format!("moto does not take it: HTTP {} {}", taken.status, taken.body)));
    }
    let kept = http::send(moto, "GET", "/moto-api/data.json", &[], &[])?;
    let kept: Value = serde_json::from_str(&kept.body).context("what moto has")?;
    let raw = kept.pointer("/ses/RawMessage/0/raw_data").and_then(Value::as_str).unwrap_or_default();
    let arrived = raw.as_bytes() == &*item.bytes;
    Ok((!arrived).then(|| format!("moto has another message: {raw}")))
}

/// A request of our own to moto, which finds the service and the region in the signature.
fn post(moto: u16, like: &HttpRequest, path: &str, body: &Value) -> Result<Answer> {
    let request = HttpRequest {
        url: format!("{HOST}{path}"),
        body: body.to_string().into_bytes().into(),
        ..like.clone()
    };
    send(moto, HOST, &request)
}
