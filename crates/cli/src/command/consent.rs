//! `consent show`, `grant`, `withdraw`, `import`.

use std::path::Path;

use daemon::people;
use jiff::Timestamp;
use model::consent::{ConsentEvent, ConsentOrigin, ConsentStatus, SuppressionSubject};
use model::{Channel, ProfileNumber, PurposeName, Reason};
use project::Project;
use serde_json::json;
use state::audit::Entry;

use crate::args::{Consent, ConsentChange};
use crate::context::{Context, actor, known_profile};
use crate::failure::{Failure, code};
use crate::print::{Rows, say, thousands};

/// Rows of an import written at once.
const PAGE: usize = 500;

/// The consent ledger.
pub(crate) async fn consent(context: &Context, args: &Consent) -> Result<u8, Failure> {
    let project = context.project()?;
    match args {
        Consent::Show { profile } => show(context, &project, profile).await,
        Consent::Grant(change) => record(context, &project, change, ConsentStatus::Granted).await,
        Consent::Withdraw(change) => record(context, &project, change, ConsentStatus::Withdrawn).await,
        Consent::Import { file } => import(context, &project, file).await,
    }
}

async fn show(context: &Context, project: &Project, id: &str) -> Result<u8, Failure> {
    let state = context.state(project).await?;
    let mut tx = state.read().await?;
    let number = known_profile(&mut tx, id).await?;
    let held = tx.ask(state::consent::of_profiles(&[number])).await?.remove(&number).unwrap_or_default();
    for purpose in project.policy.purposes.values() {
        let status = held.status_of(Channel::Email, &purpose.name);
        say(&format!("email, {}: {}", purpose.name, status.as_str()));
    }
    let mut rows = Rows::new(&[
        "changed_at",
        "channel",
        "purpose",
        "status",
        "origin",
        "source",
        "evidence",
        "recorded_at",
    ]);
    for event in state::consent::history(&mut tx, number).await? {
        rows.push([
            json!(event.changed_at.to_string()),
            json!(event.channel.map_or("*", |channel| channel.as_str())),
            json!(event.purpose.as_ref().map_or("*", |purpose| purpose.as_str())),
            json!(event.status.as_str()),
            json!(event.origin.as_str()),
            json!(event.source),
            json!(event.evidence),
            json!(event.recorded_at.to_string()),
        ]);
    }
    context.printer.rows(&rows, "nothing was ever recorded")?;
    Ok(code::DONE)
}

fn channel_of(word: &str) -> Result<Option<Channel>, Failure> {
    match word {
        "*" => Ok(None),
        word => Channel::parse(word).map(Some).ok_or_else(|| {
            Failure::new(format!("`{word}` is no channel"))
                .hint("channels are email, sms, push, ads, or `*` for all")
        }),
    }
}

fn purpose_of(project: &Project, word: &str) -> Result<Option<PurposeName>, Failure> {
    if word == "*" {
        return Ok(None);
    }
    project.policy.purposes.keys().find(|name| name.as_str() == word).cloned().map(Some).ok_or_else(|| {
        let names: Vec<&str> = project.policy.purposes.keys().map(PurposeName::as_str).collect();
        Failure::new(format!("`{word}` is no purpose"))
            .hint(format!("purposes are {}, or `*` for all", names.join(", ")))
    })
}

async fn record(
    context: &Context,
    project: &Project,
    change: &ConsentChange,
    status: ConsentStatus,
) -> Result<u8, Failure> {
    let channel = channel_of(&change.channel)?;
    let purpose = purpose_of(project, &change.purpose)?;
    let state = context.state_to_write(project).await?;
    let keys = context.keys(project, &state).await?;
    let now = context.now();
    let mut tx = state.write().await?;
    let number = state::profile::intern(&mut tx, &keys, std::slice::from_ref(&change.profile))
        .await?
        .into_iter()
        .next()
        .flatten();
    let Some(number) = number else { return Err(Failure::new("this person was erased")) };
    let event = ConsentEvent {
        profile: number,
        channel,
        purpose: purpose.clone(),
        status,
        changed_at: now,
        recorded_at: now,
        origin: ConsentOrigin::Local,
        source: format!("{}: {}", actor(), change.source),
        evidence: Some(change.source.clone()),
    };
    state::consent::record(&mut tx, &event).await?;
    let lifted = if status == ConsentStatus::Granted {
        lift_opt_out(context, project, &keys, &mut tx, number, channel).await?
    } else {
        false
    };
    let body = json!({
        "profile": number.0, "channel": change.channel, "purpose": change.purpose, "status": status.as_str(),
        "source": "operator", "actor": actor(),
    });
    state::audit::append(&mut tx, &[Entry { kind: "consent", at: now, body }]);
    tx.commit().await?;
    say(&format!("recorded: {} for {} on {}", status.as_str(), change.purpose, change.channel));
    context.warn_of_stranger(project, &change.profile).await;
    if lifted {
        say("the address's own opt-out was lifted with it");
    }
    Ok(code::DONE)
}

/// A grant that a person recorded lifts the opt-out of the person's present address, too.
async fn lift_opt_out(
    context: &Context,
    project: &Project,
    keys: &state::Keys,
    tx: &mut state::Tx,
    number: ProfileNumber,
    channel: Option<Channel>,
) -> Result<bool, Failure> {
    if channel.is_some_and(|channel| channel != Channel::Email) {
        return Ok(false);
    }
    let Some(id) = state::profile::ids_of(tx, &[number]).await?.remove(&number) else { return Ok(false) };
    let mut view = daemon::open::source(project).await?.view(context.now()).await?;
    let found = people::profiles(&mut view, &project.data.profiles, None, &[(number, id)].into()).await;
    view.close().await;
    let Some(profile) = found?.remove(&number) else { return Ok(false) };
    let Some(Ok(address)) = profile.email() else { return Ok(false) };
    let subject = SuppressionSubject::Address(keys.address_hash(&address));
    Ok(state::consent::unsuppress(tx, &subject, Some(Channel::Email), Some(Reason::OptoutChannel)).await?)
}

async fn import(context: &Context, project: &Project, file: &Path) -> Result<u8, Failure> {
    let now = context.now();
    let mut reader = csv::Reader::from_path(file)
        .map_err(|error| Failure::new(format!("cannot read {}: {error}", file.display())))?;
    let header = reader
        .headers()
        .map_err(|error| Failure::new(format!("cannot read {}: {error}", file.display())))?
        .clone();
    let column = |name: &str| header.iter().position(|found| found.trim() == name);
    let need = |name: &'static str| {
        column(name).ok_or_else(|| {
            Failure::new(format!("{} has no column `{name}`", file.display())).hint(
                "the columns are profile,channel,purpose,status,changed_at and, if you like, source,evidence",
            )
        })
    };
    let places = (need("profile")?, need("channel")?, need("purpose")?, need("status")?, need("changed_at")?);
    let optional = (column("source"), column("evidence"));
    let mut events = Vec::new();
    let mut mistakes = Vec::new();
    for (position, record) in reader.records().enumerate() {
        let line = position + 2;
        let parsed = record
            .map_err(|error| vec![error.to_string()])
            .and_then(|record| event(project, &record, places, optional, now));
        match parsed {
            Ok(event) => events.push(event),
            Err(why) => mistakes.push(format!("{}:{line}: {}", file.display(), why.join("; "))),
        }
    }
    if !mistakes.is_empty() {
        let shown = mistakes.len().min(20);
        let more = if mistakes.len() > shown {
            format!("\n... and {} more", mistakes.len() - shown)
        } else {
            String::new()
        };
        return Err(Failure::new(format!("nothing was imported:\n{}{more}", mistakes[..shown].join("\n"))));
    }
    let state = context.state_to_write(project).await?;
    let keys = context.keys(project, &state).await?;
    let mut written = 0;
    for page in events.chunks(PAGE) {
        let mut tx = state.write().await?;
        let ids: Vec<String> = page.iter().map(|(id, _)| id.clone()).collect();
        let numbers = state::profile::intern(&mut tx, &keys, &ids).await?;
        let page: Vec<ConsentEvent> = page
            .iter()
            .zip(numbers)
            .filter_map(|((_, event), number)| Some(ConsentEvent { profile: number?, ..event.clone() }))
            .collect();
        let changed = state::consent::import(&mut tx, &page).await?;
        if changed > 0 {
            let body = json!({ "events": changed, "file": file.file_name().map(|name| name.to_string_lossy()), "actor": actor() });
            state::audit::append(&mut tx, &[Entry { kind: "consent_import", at: now, body }]);
        }
        tx.commit().await?;
        written += changed;
    }
    say(&format!("{} rows read, {} changed something", thousands(events.len() as u64), thousands(written)));
    Ok(code::DONE)
}

type Places = (usize, usize, usize, usize, usize);

/// What a row says, or all that is wrong with it.
fn event(
    project: &Project,
    record: &csv::StringRecord,
    places: Places,
    optional: (Option<usize>, Option<usize>),
    now: Timestamp,
) -> Result<(String, ConsentEvent), Vec<String>> {
    let cell = |at: usize| record.get(at).unwrap_or_default().trim();
    let mut wrong = Vec::new();
    let profile = match cell(places.0) {
        "" => Err("no profile".to_owned()),
        id => Ok(id.to_owned()),
    };
    let profile = kept(profile, &mut wrong);
    let channel = kept(channel_of(cell(places.1)).map_err(|failure| failure.text), &mut wrong);
    let purpose = kept(purpose_of(project, cell(places.2)).map_err(|failure| failure.text), &mut wrong);
    let status = ConsentStatus::parse(cell(places.3))
        .filter(|status| *status != ConsentStatus::Absent)
        .ok_or_else(|| format!("`{}` is no status: granted, withdrawn or pending", cell(places.3)));
    let status = kept(status, &mut wrong);
    let changed_at: Result<Timestamp, _> =
        cell(places.4).parse().map_err(|_| format!("`{}` is no time in RFC 3339", cell(places.4)));
    let changed_at = kept(changed_at, &mut wrong);
    let (Some(profile), Some(channel), Some(purpose), Some(status), Some(changed_at)) =
        (profile, channel, purpose, status, changed_at)
    else {
        return Err(wrong);
    };
    let event = ConsentEvent {
        profile: ProfileNumber(0),
        channel,
        purpose,
        status,
        changed_at,
        recorded_at: now,
        // A file is as good as the warehouse, and no better: it does not overturn what a person said here.
        origin: ConsentOrigin::Warehouse,
        source: optional.0.map_or("import", cell).to_owned(),
        evidence: optional.1.map(|at| cell(at).to_owned()).filter(|text| !text.is_empty()),
    };
    Ok((profile, event))
}

/// The value; or what is wrong with it, kept with the rest that is wrong.
fn kept<T>(read: Result<T, String>, wrong: &mut Vec<String>) -> Option<T> {
    read.map_err(|why| wrong.push(why)).ok()
}
