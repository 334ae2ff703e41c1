//! LISTEN: what the warehouse says about consent, into the ledger. A stream that writes only what changed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::consent::ConsentEvent;
use serde_json::json;
use state::audit::Entry;

use crate::daemon::{Daemon, DaemonError};
use crate::source::{SourceError, View};

/// What the import found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Listened {
    /// Rows read.
    pub rows: u64,
    /// Events written.
    pub written: u64,
    /// Rows that make no sense.
    pub unreadable: u64,
}

/// Imports the consent query, if the project has one. Rows that make no sense are left out, and counted by what is wrong with
/// them.
pub async fn listen(
    daemon: &Daemon,
    view: &mut View,
    now: Timestamp,
    warnings: &mut Vec<String>,
) -> Result<Listened, DaemonError> {
    let Some(query) = &daemon.project.policy.consent else { return Ok(Listened::default()) };
    let mut listened = Listened::default();
    let mut wrong: BTreeMap<String, u64> = BTreeMap::new();
    view.consent_pages(query, now, async |page| {
        listened.rows += page.len() as u64;
        let mut ids = Vec::with_capacity(page.len());
        let mut events: Vec<ConsentEvent> = Vec::with_capacity(page.len());
        for row in page {
            match row {
                Ok((id, event)) => {
                    ids.push(id);
                    events.push(event);
                }
                Err(row) => {
                    listened.unreadable += 1;
                    *wrong.entry(row.0).or_default() += 1;
                }
            }
        }
        let known = {
            let mut tx = daemon.state.read().await?;
            state::profile::numbers_of(&mut tx, &ids).await?
        };
        let known = if known.iter().all(Option::is_some) {
            known
        } else {
            let mut tx = daemon.deciding().await?;
            let numbers = state::profile::intern(&mut tx, &daemon.keys, &ids).await?;
            tx.commit().await?;
            numbers
        };
        let events: Vec<ConsentEvent> = events
            .into_iter()
            .zip(known)
            .filter_map(|(event, number)| Some(ConsentEvent { profile: number?, ..event }))
            .collect();
        listened.written += import(daemon, &events, now).await?;
        Ok(())
    })
    .await?;
    if !wrong.is_empty() {
        let rows = |count: u64| if count == 1 { "1 row".to_owned() } else { format!("{count} rows") };
        let each: Vec<String> =
            wrong.iter().map(|(what, count)| format!("{what} in {}", rows(*count))).collect();
        warnings.push(format!(
            "{} of the consent query left out: {}",
            rows(listened.unreadable),
            each.join("; ")
        ));
    }
    Ok(listened)
}

/// Writes the events of a page that change something, and one audit entry for them.
async fn import(daemon: &Daemon, events: &[ConsentEvent], now: Timestamp) -> Result<u64, SourceError> {
    if events.is_empty() {
        return Ok(0);
    }
    let mut tx = daemon.deciding().await?;
    let written = state::consent::import(&mut tx, events).await?;
    // Most imports change nothing, and then nothing is to be made durable.
    if written > 0 {
        let entry = Entry { kind: "consent_import", at: now, body: json!({ "events": written }) };
        state::audit::append(&mut tx, &[entry]);
        tx.commit().await?;
    }
    Ok(written)
}
