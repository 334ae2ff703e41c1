//! `suppress add`, `remove`, `list`, `import`.

use std::io::BufRead as _;
use std::path::Path;

use model::consent::{Suppression, SuppressionSubject};
use model::{Channel, EmailAddress, Reason};
use project::Project;
use serde_json::json;
use state::audit::Entry;
use state::{Keys, Tx};

use crate::args::{Suppress, SuppressOne};
use crate::context::{Context, actor};
use crate::failure::{Failure, code};
use crate::print::{Rows, say, thousands};

/// The suppression list.
pub(crate) async fn suppress(context: &Context, args: &Suppress) -> Result<u8, Failure> {
    let project = context.project()?;
    match args {
        Suppress::Add(one) => add(context, &project, one).await,
        Suppress::Remove(one) => remove(context, &project, one).await,
        Suppress::List => list(context, &project).await,
        Suppress::Import { file, source } => import(context, &project, file, source).await,
    }
}

async fn subject(tx: &mut Tx, keys: &Keys, one: &SuppressOne) -> Result<SuppressionSubject, Failure> {
    match (&one.address, &one.profile) {
        (Some(address), _) => {
            let address = EmailAddress::parse(address)
                .map_err(|error| Failure::new(format!("this is no address: {error}")))?;
            Ok(SuppressionSubject::Address(keys.address_hash(&address)))
        }
        // Whoever was not seen yet gets a number: they may be seen later.
        (None, Some(id)) => state::profile::intern(tx, keys, std::slice::from_ref(id))
            .await?
            .into_iter()
            .next()
            .flatten()
            .map(SuppressionSubject::Profile)
            .ok_or_else(|| Failure::new("this person was erased, and is not written to")),
        (None, None) => Err(Failure::new("name an address, or a person with `--profile`")),
    }
}

fn subject_json(subject: &SuppressionSubject) -> serde_json::Value {
    match subject {
        SuppressionSubject::Profile(number) => json!({ "profile": number.0 }),
        SuppressionSubject::Address(hash) => json!({ "address_hash": hash.as_str() }),
    }
}

async fn add(context: &Context, project: &Project, one: &SuppressOne) -> Result<u8, Failure> {
    let state = context.state_to_write(project).await?;
    let keys = context.keys(project, &state).await?;
    let now = context.now();
    let mut tx = state.write().await?;
    let subject = subject(&mut tx, &keys, one).await?;
    let suppression = Suppression {
        channel: matches!(subject, SuppressionSubject::Address(_)).then_some(Channel::Email),
        subject,
        reason: Reason::Manual,
        since: now,
        source: format!("{}: {}", actor(), one.reason),
        spares_transactional: false,
    };
    let new = state::consent::suppress(&mut tx, &suppression).await?;
    let body = json!({ "subject": subject_json(&suppression.subject), "reason": suppression.reason.as_str(), "why": one.reason, "actor": actor() });
    state::audit::append(&mut tx, &[Entry { kind: "suppression", at: now, body }]);
    tx.commit().await?;
    say(if new { "on the list" } else { "was on the list already" });
    if let Some(id) = &one.profile {
        context.warn_of_stranger(project, id).await;
    }
    Ok(code::DONE)
}

async fn remove(context: &Context, project: &Project, one: &SuppressOne) -> Result<u8, Failure> {
    let state = context.state_to_write(project).await?;
    let keys = context.keys(project, &state).await?;
    let now = context.now();
    let mut tx = state.write().await?;
    let subject = subject(&mut tx, &keys, one).await?;
    let channel = matches!(subject, SuppressionSubject::Address(_)).then_some(Channel::Email);
    if !state::consent::unsuppress(&mut tx, &subject, channel, None).await? {
        return Err(Failure::new("not on the list"));
    }
    let body =
        json!({ "subject": subject_json(&subject), "lifted": true, "why": one.reason, "actor": actor() });
    state::audit::append(&mut tx, &[Entry { kind: "suppression", at: now, body }]);
    tx.commit().await?;
    say("off the list");
    Ok(code::DONE)
}

async fn list(context: &Context, project: &Project) -> Result<u8, Failure> {
    let state = context.state(project).await?;
    let mut tx = state.read().await?;
    let mut rows = Rows::new(&["subject", "channel", "reason", "since", "source"]);
    let mut after = None;
    loop {
        let page = state::consent::list(&mut tx, 1_000, after.as_ref()).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.subject.clone());
        for one in page {
            let subject = match &one.subject {
                SuppressionSubject::Profile(number) => state::profile::ids_of(&mut tx, &[*number])
                    .await?
                    .remove(number)
                    .map_or_else(|| format!("erased:{number}"), |id| format!("profile {id}")),
                SuppressionSubject::Address(hash) => {
                    format!("address {}", hash.as_str().get(..16).unwrap_or_default())
                }
            };
            rows.push([
                json!(subject),
                json!(one.channel.map_or("*", |channel| channel.as_str())),
                json!(one.reason.as_str()),
                json!(one.since.to_string()),
                json!(one.source),
            ]);
        }
    }
    context.printer.rows(&rows, "the list is empty")?;
    Ok(code::DONE)
}

async fn import(context: &Context, project: &Project, file: &Path, source: &str) -> Result<u8, Failure> {
    let reader = std::io::BufReader::new(
        std::fs::File::open(file)
            .map_err(|error| Failure::new(format!("cannot read {}: {error}", file.display())))?,
    );
    let mut addresses = Vec::new();
    let mut wrong = Vec::new();
    for (position, line) in reader.lines().enumerate() {
        let line = line?;
        let text = line.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        match EmailAddress::parse(text) {
            Ok(address) => addresses.push(address),
            Err(error) => wrong.push(format!("{}:{}: {error}", file.display(), position + 1)),
        }
    }
    let state = context.state_to_write(project).await?;
    let keys = context.keys(project, &state).await?;
    let now = context.now();
    let mut added = 0u64;
    for page in addresses.chunks(500) {
        let mut tx = state.write().await?;
        for address in page {
            let suppression = Suppression {
                subject: SuppressionSubject::Address(keys.address_hash(address)),
                channel: Some(Channel::Email),
                reason: Reason::ListImport,
                since: now,
                source: source.to_owned(),
                spares_transactional: false,
            };
            added += u64::from(state::consent::suppress(&mut tx, &suppression).await?);
        }
        let body = json!({ "addresses": page.len(), "source": source, "actor": actor() });
        state::audit::append(&mut tx, &[Entry { kind: "suppression_import", at: now, body }]);
        tx.commit().await?;
    }
    say(&format!(
        "{} addresses read, {} new on the list",
        thousands(addresses.len() as u64),
        thousands(added)
    ));
    // What can be suppressed is: a line that is no address cannot be written to either. But it is said.
    for line in wrong.iter().take(20) {
        say(&format!("left out: {line}"));
    }
    Ok(if wrong.is_empty() { code::DONE } else { code::FAILED })
}
