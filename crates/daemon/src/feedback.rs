//! What providers tell later, written before they are answered: each thing once. It becomes a fact of the person; a bounce for good and a
//! complaint keep everybody from writing to the address again, an opt-out at the provider is one here; and whatever is told of a message shows
//! that the provider has it, which ends a doubt.

use std::collections::BTreeMap;

use connector::feedback::{Inbound, NotHeard, Told, ToldKind};
use jiff::Timestamp;
use model::consent::{ConsentEvent, ConsentOrigin, ConsentStatus, Suppression, SuppressionSubject};
use model::delivery::Tally;
use model::fault::mutant;
use model::id::AddressHash;
use model::{DeliveryState, DestinationName, Reason};
use serde_json::json;
use state::audit::Entry;
use state::delivery::{DeliveryKey, LoggedDelivery};
use state::fact::{Fact, FactKind};
use state::outbox::{Answer, Settlement};
use state::{StateError, Tx};

use crate::daemon::{Carrier, Daemon};

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// So many things were told; so many of them are new, and of messages of ours.
    Told {
        /// All.
        told: usize,
        /// New.
        new: usize,
    },
    /// There is no such destination, or nothing by which to know its provider.
    Nobody,
    /// It is not the provider who speaks.
    Forged,
    /// It is, and cannot be read.
    Garbled,
    /// Whether it is could not be asked.
    NotNow,
}

/// Hears what a destination's provider tells. Committed when it returns.
pub async fn hear(
    daemon: &Daemon,
    destination: &DestinationName,
    inbound: &Inbound,
    now: Timestamp,
) -> Result<Heard, StateError> {
    let Some(Carrier::Driver(driver)) = daemon.carriers.get(destination) else { return Ok(Heard::Nobody) };
    let all = match driver.hear(inbound).await {
        Ok(all) => all,
        Err(NotHeard::NotSetUp) => return Ok(Heard::Nobody),
        Err(NotHeard::Forged) => return Ok(Heard::Forged),
        Err(NotHeard::Garbled) => return Ok(Heard::Garbled),
        Err(NotHeard::NotNow) => return Ok(Heard::NotNow),
    };
    let told = all.len();
    let mut new = 0;
    // One after the other, each in a transaction: an event that cannot be written is told again, and the others stay.
    for one in all {
        let mut tx = daemon.state.write().await?;
        new += usize::from(write(daemon, &mut tx, destination, &one, now).await?);
        tx.commit().await?;
    }
    Ok(Heard::Told { told, new })
}

/// Writes one thing; `false`: it was told before, or is of no message of ours.
async fn write(
    daemon: &Daemon,
    tx: &mut Tx,
    destination: &DestinationName,
    told: &Told,
    now: Timestamp,
) -> Result<bool, StateError> {
    if !crate::links::is_proven(daemon, told) {
        tracing::warn!(%destination, "Somebody wrote to `{destination}` as if a message had come back, and not to an address of ours.");
        return Ok(false);
    }
    let key = DeliveryKey { profile: told.about.0, id: told.about.1.clone() };
    // The locks of arming, in its order: the person, then the address.
    state::outbox::lock_profiles(tx, &[key.profile]).await?;
    let Some(row) = state::delivery::get_by_key(tx, &key).await? else { return Ok(false) };
    if row.delivery.destination != *destination {
        return Ok(false);
    }
    let mut addresses: Vec<AddressHash> =
        state::outbox::attempts(tx, &key).await?.into_iter().map(|attempt| attempt.address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    state::outbox::lock_addresses(tx, &addresses).await?;
    let kind = match told.kind {
        ToldKind::Accepted => None,
        ToldKind::Delivered => Some(FactKind::Delivered),
        ToldKind::BouncedForGood | ToldKind::Bounced => Some(FactKind::Bounced),
        ToldKind::Complained => Some(FactKind::Complained),
        ToldKind::Unsubscribed => Some(FactKind::Unsubscribed),
        ToldKind::Opened => Some(FactKind::Opened),
        ToldKind::Clicked => Some(FactKind::Clicked),
    };
    if let Some(kind) = kind {
        // It may have happened before now, and not after.
        let fact = Fact {
            profile: key.profile,
            kind,
            at: told.at.min(now),
            delivery: Some(key.id.clone()),
            source: format!("in/{destination}"),
            source_id: told.event.chars().take(200).collect(),
        };
        if !state::fact::add(tx, &fact).await? && !mutant("told_twice") {
            return Ok(false);
        }
    }
    let ended = end_doubt(tx, &row, destination, now).await?;
    if kind.is_none() && !ended {
        return Ok(false);
    }
    act(daemon, tx, &row, told.kind, addresses, now).await?;
    let body = json!({
        "delivery": key.id.as_str(), "profile": key.profile.0, "told": word(told.kind), "destination": destination.as_str(),
        "happened_at": told.at.to_string(),
    });
    state::audit::append(tx, &[Entry { kind: "feedback", at: now, body }]);
    Ok(true)
}

fn word(kind: ToldKind) -> &'static str {
    match kind {
        ToldKind::Accepted => "accepted",
        ToldKind::Delivered => "delivered",
        ToldKind::BouncedForGood => "bounced for good",
        ToldKind::Bounced => "bounced",
        ToldKind::Complained => "complained",
        ToldKind::Unsubscribed => "unsubscribed",
        ToldKind::Opened => "opened",
        ToldKind::Clicked => "clicked",
    }
}

/// Whatever a provider tells of a message, it had it.
async fn end_doubt(
    tx: &mut Tx,
    row: &LoggedDelivery,
    destination: &DestinationName,
    now: Timestamp,
) -> Result<bool, StateError> {
    if row.delivery.state != DeliveryState::InDoubt {
        return Ok(false);
    }
    let settlement = Settlement {
        delivery: DeliveryKey::of(&row.delivery),
        attempt: row.attempts,
        result: Answer::Accepted { receipt: format!("told by {destination}") },
        detail: "the provider told what became of it".to_owned(),
    };
    Ok(!state::outbox::settle(tx, &[settlement], now).await?.is_empty())
}

/// What follows from it.
async fn act(
    daemon: &Daemon,
    tx: &mut Tx,
    row: &LoggedDelivery,
    kind: ToldKind,
    mut addresses: Vec<AddressHash>,
    now: Timestamp,
) -> Result<(), StateError> {
    let delivery = &row.delivery;
    let destination = &delivery.destination;
    let (reason, counts) = match kind {
        ToldKind::BouncedForGood => {
            (Reason::HardBounce, Tally { rejected: 1, bounced: 1, ..Tally::default() })
        }
        ToldKind::Complained => (Reason::Complaint, Tally { complained: 1, ..Tally::default() }),
        ToldKind::Unsubscribed => (Reason::OptoutChannel, Tally { unsubscribed: 1, ..Tally::default() }),
        ToldKind::Accepted
        | ToldKind::Delivered
        | ToldKind::Bounced
        | ToldKind::Opened
        | ToldKind::Clicked => {
            return Ok(());
        }
    };
    if kind != ToldKind::BouncedForGood {
        // Whoever complains wants no more of it, at whatever address.
        let event = ConsentEvent {
            profile: delivery.profile,
            channel: Some(delivery.traits.channel),
            purpose: None,
            status: ConsentStatus::Withdrawn,
            changed_at: now,
            recorded_at: now,
            origin: ConsentOrigin::Local,
            source: format!("{destination}:{}", delivery.id),
            evidence: None,
        };
        state::consent::record(tx, &event).await?;
    }
    // A bounce says nothing of an address that only another attempt went to; whoever complains means all of theirs.
    if kind == ToldKind::BouncedForGood && addresses.len() > 1 {
        addresses.clear();
    }
    for address in addresses {
        let suppression = Suppression {
            subject: SuppressionSubject::Address(address),
            channel: Some(delivery.traits.channel),
            reason,
            since: now,
            source: format!("{destination}:{}", delivery.id),
            spares_transactional: kind == ToldKind::Unsubscribed,
        };
        state::consent::suppress(tx, &suppression).await?;
    }
    // Last: who arms counts after the address is locked, too.
    let tally = BTreeMap::from([(delivery.traits.playbook.clone(), counts)]);
    state::tally::add(tx, &daemon.node(), &tally, now);
    Ok(())
}
