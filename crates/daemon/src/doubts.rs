//! Doubts that end without a person: by asking the provider, by sending again where a repeat does no harm, or by time.
//!
//! | class of the connector | marketing, lifecycle | transactional |
//! |---|---|---|
//! | S, and A while the provider knows the key | sent again | the same |
//! | B | asked, after two minutes; "I have none" twice, two minutes apart, is a no, and it is sent again | the same |
//! | E, after a day without an echo; A, when the key is forgotten | taken for accepted | a person decides |
//! | D, after three days without evidence | taken for accepted | a person decides |
//!
//! The first two lines are facts about providers. The last two are what `in_doubt` of the policy says of each class of messages, and the table
//! is what holds unless it does: it may leave them to a person (`wait`), take them for accepted after another time (`assume`), or send those of
//! class transactional again, once (`resend`). A second doubt of one that was sent again, by whomever, waits for a person.
//!
//! What is in doubt from before a destination was connected as it is now (another connector, account or key) is of class D: it is not the present
//! provider that got it. Nothing of class D or E is sent again by itself unless somebody chose that. Who decides is the node that leads.

use std::collections::{BTreeMap, BTreeSet};

use connector::{Idempotency, Outcome};
use jiff::{SignedDuration, Timestamp};
use model::delivery::Delivery;
use model::fault::mutant;
use model::policy::Unsure;
use model::{DeliveryId, DestinationName, Reason};
use serde_json::json;
use state::audit::Entry;
use state::delivery::{DeliveryKey, LoggedDelivery};
use state::outbox::{Answer, As, Claimed, Settlement};

use crate::daemon::{Carrier, Daemon, DaemonError};

/// Doubts that are looked at in one go.
const PAGE: u32 = 10_000;
/// Providers know a key again for a day; an hour less, since clocks differ.
const KEY_KNOWN: SignedDuration = SignedDuration::from_hours(23);
/// What a provider took is found after so long.
const SETTLES: SignedDuration = SignedDuration::from_mins(2);
/// It is asked again after so long, if it had none.
const ASKED_AGAIN: SignedDuration = SignedDuration::from_mins(2);
/// So many are asked for in one go.
const ASKS_MAX: u32 = 100;
/// An echo comes within so long.
const ECHOES: SignedDuration = SignedDuration::from_hours(24);
/// Other evidence, such as a bounce or a click.
const SHOWS: SignedDuration = SignedDuration::from_hours(72);

/// What is done about a doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Nothing yet, or a person.
    Wait,
    /// The provider is asked.
    Ask,
    /// It is sent again.
    Again,
    /// It is sent again although it may have arrived: the policy wants it rather twice than not at all.
    Twice,
    /// It is taken for accepted.
    Assume,
}

fn way(class: Idempotency, unsure: Unsure, age: SignedDuration) -> Way {
    let as_chosen = |usual| match unsure {
        Unsure::Assume(after) if age >= after.unwrap_or(usual) => Way::Assume,
        Unsure::ResendOnce(after) if age >= after => Way::Twice,
        Unsure::Assume(_) | Unsure::ResendOnce(_) | Unsure::Wait => Way::Wait,
    };
    match class {
        Idempotency::Natural => Way::Again,
        Idempotency::Key if age < KEY_KNOWN => Way::Again,
        Idempotency::Lookup if age < SETTLES => Way::Wait,
        Idempotency::Lookup => Way::Ask,
        Idempotency::Key | Idempotency::Echo => as_chosen(ECHOES),
        Idempotency::Nothing => as_chosen(SHOWS),
    }
}

/// What became of doubts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// The provider says that it has them.
    pub found: u64,
    /// To be sent again: the provider has none, or knows a repeat again.
    pub again: u64,
    /// To be sent again although they may have arrived.
    pub twice: u64,
    /// Taken for accepted.
    pub assumed: u64,
}

/// Looks at every doubt.
pub async fn settle(daemon: &Daemon, now: Timestamp) -> Result<Settled, DaemonError> {
    let in_doubt = &daemon.project.policy.in_doubt;
    let (doubts, resent) = {
        let mut tx = daemon.state.read().await?;
        let doubts = state::outbox::in_doubt(&mut tx, PAGE).await?;
        let may_go_twice =
            |delivery: &&Delivery| matches!(in_doubt.of(delivery.traits.class), Unsure::ResendOnce(_));
        let asked = doubts.iter().map(|doubt| &doubt.delivery).filter(may_go_twice);
        let keys: Vec<DeliveryKey> = asked.map(DeliveryKey::of).collect();
        let resent = state::outbox::resent(&mut tx, &keys).await?;
        (doubts, resent)
    };
    let mut settled = Settled::default();
    if doubts.is_empty() {
        return Ok(settled);
    }
    let connected = connected(daemon, now).await?;
    let (mut asks, mut silent) = (ASKS_MAX, BTreeSet::new());
    for doubt in doubts {
        let delivery = &doubt.delivery;
        let Some(Carrier::Driver(driver)) = daemon.carriers.get(&delivery.destination) else { continue };
        let since = doubt.settled_at.unwrap_or(now);
        let class = match connected.get(&delivery.destination) {
            _ if mutant("doubt_resent") => Idempotency::Natural,
            // Before that it was another provider, or another account, that got no answer through.
            Some(connected) if since >= *connected => driver.class(),
            Some(_) | None => Idempotency::Nothing,
        };
        // A key is known from the first attempt on, which was not before the row.
        let age = now.duration_since(if class == Idempotency::Key { delivery.created_at } else { since });
        match way(class, in_doubt.of(delivery.traits.class), age) {
            Way::Wait => {}
            Way::Again => {
                let why = "a repeat does no harm: the provider knows it again";
                settled.again += u64::from(close(daemon, &delivery.id, As::Repeat, why, now).await?);
            }
            // Once is all that was chosen.
            Way::Twice if resent.contains(&delivery.id) => {}
            Way::Twice => {
                let why = "no evidence came that it was taken, and the policy wants it rather twice than not at all";
                settled.twice += u64::from(close(daemon, &delivery.id, As::ResendOnce, why, now).await?);
            }
            Way::Assume => {
                let why = "no evidence came that it was not taken";
                settled.assumed += u64::from(close(daemon, &delivery.id, As::Accepted, why, now).await?);
            }
            Way::Ask if asks == 0 || silent.contains(&delivery.destination) => {}
            Way::Ask => match driver.look_up(delivery.profile, &delivery.id).await {
                Some(Outcome::Accepted { receipt }) => {
                    settled.found +=
                        u64::from(learn(daemon, &doubt, Answer::Accepted { receipt }, now).await?);
                }
                Some(Outcome::Rejected { .. }) if is_gone(daemon, &doubt, now).await? => {
                    let answer = Answer::Retry { reason: Reason::OutcomeUnknown, due_at: now };
                    settled.again += u64::from(learn(daemon, &doubt, answer, now).await?);
                }
                // It has none so far.
                Some(Outcome::Rejected { .. }) => asks -= 1,
                // It cannot say now: nor for the others.
                Some(_) | None => drop(silent.insert(delivery.destination.clone())),
            },
        }
    }
    Ok(settled)
}

/// Since when each destination is connected as it is now: what is in doubt from before is another's.
async fn connected(
    daemon: &Daemon,
    now: Timestamp,
) -> Result<BTreeMap<DestinationName, Timestamp>, DaemonError> {
    let mut tx = daemon.deciding().await?;
    let mut connected = BTreeMap::new();
    for (name, destination) in &daemon.project.settings.destinations {
        let settings = serde_json::to_string(&destination.settings.0).unwrap_or_default();
        let as_it_is = daemon.keys.account_hash(&format!("{name} {} {settings}", destination.connector));
        let key = format!("connected.{name}");
        let known = state::meta::get(&mut tx, &key).await?;
        let known = known.as_deref().and_then(|text| text.split_once(' '));
        let since = known.filter(|(hash, _)| *hash == as_it_is.as_str()).and_then(|(_, ms)| ms.parse().ok());
        match since.and_then(|ms| Timestamp::from_millisecond(ms).ok()) {
            Some(since) => drop(connected.insert(name.clone(), since)),
            None => {
                state::meta::set(&mut tx, &key, &format!("{as_it_is} {}", now.as_millisecond())).await?;
                connected.insert(name.clone(), now);
            }
        }
    }
    tx.commit().await?;
    Ok(connected)
}

/// Keeps since when destinations are connected as they are now, before anything can be in doubt.
pub(crate) async fn begin(daemon: &Daemon, now: Timestamp) -> Result<(), DaemonError> {
    connected(daemon, now).await.map(drop)
}

/// Whether a row that is to go again, since an attempt got no answer, may not: the provider has forgotten its key by now.
pub(crate) fn is_forgotten(daemon: &Daemon, claimed: &Claimed, now: Timestamp) -> bool {
    let Some(Carrier::Driver(driver)) = daemon.carriers.get(&claimed.delivery.destination) else {
        return false;
    };
    // A server of theirs that broke down may have taken it before.
    let is_unknown = matches!(claimed.delivery.reason, Reason::OutcomeUnknown | Reason::FailRemote5xx);
    let has_no_answer = claimed.attempts > 0 && is_unknown;
    let age = now.duration_since(claimed.delivery.created_at);
    driver.class() == Idempotency::Key && has_no_answer && age >= KEY_KNOWN
}

/// The provider has none of it; whether it said so before, long enough ago.
async fn is_gone(daemon: &Daemon, doubt: &LoggedDelivery, now: Timestamp) -> Result<bool, DaemonError> {
    let key = not_found_key(&doubt.delivery.id, doubt.attempts);
    let mut tx = daemon.deciding().await?;
    let first = state::meta::get(&mut tx, &key).await?.and_then(|text| text.parse().ok());
    if let Some(first) = first.and_then(|ms| Timestamp::from_millisecond(ms).ok()) {
        return Ok(now.duration_since(first) >= ASKED_AGAIN);
    }
    state::meta::set(&mut tx, &key, &now.as_millisecond().to_string()).await?;
    tx.commit().await?;
    Ok(false)
}

/// The key of when a provider first said that it has none of an attempt.
fn not_found_key(id: &DeliveryId, attempt: u32) -> String {
    format!("not_found.{id}.{attempt}")
}

/// Closes a doubt; whether it was one still.
async fn close(
    daemon: &Daemon,
    id: &DeliveryId,
    as_: As,
    why: &str,
    now: Timestamp,
) -> Result<bool, DaemonError> {
    let mut tx = daemon.deciding().await?;
    let closed = state::outbox::resolve(&mut tx, id, as_, "drumbeat", why, now).await?.is_some();
    if closed {
        let word = match as_ {
            As::Accepted => "accepted",
            As::Rejected => "not accepted",
            As::Resend | As::Repeat => "sent again",
            As::ResendOnce => "sent again, perhaps for the second time",
        };
        let body = json!({ "delivery": id.as_str(), "as": word, "why": why, "actor": "drumbeat" });
        state::audit::append(&mut tx, &[Entry { kind: "doubt_resolved", at: now, body }]);
    }
    tx.commit().await?;
    Ok(closed)
}

/// Writes what the provider says after all: an answer that comes late.
async fn learn(
    daemon: &Daemon,
    doubt: &LoggedDelivery,
    result: Answer,
    now: Timestamp,
) -> Result<bool, DaemonError> {
    let delivery = DeliveryKey::of(&doubt.delivery);
    let word = if matches!(result, Answer::Accepted { .. }) { "accepted" } else { "not taken" };
    let body = json!({
        "delivery": delivery.id.as_str(), "as": word, "why": "the provider was asked", "actor": "drumbeat",
    });
    let detail = "the provider was asked what it has".to_owned();
    let settlement = Settlement { delivery, attempt: doubt.attempts, result, detail };
    let mut tx = daemon.deciding().await?;
    state::meta::remove(&mut tx, &not_found_key(&settlement.delivery.id, settlement.attempt)).await?;
    let changed = !state::outbox::settle(&mut tx, &[settlement], now).await?.is_empty();
    if changed {
        state::audit::append(&mut tx, &[Entry { kind: "doubt_resolved", at: now, body }]);
    }
    tx.commit().await?;
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use model::MessageClass;
    use model::policy::InDoubt;

    use super::*;

    #[test]
    fn only_what_does_no_harm_is_sent_again() {
        use Idempotency as I;
        use MessageClass::{Lifecycle, Marketing, Transactional};
        let hours = SignedDuration::from_hours;
        let (mins, days) = (SignedDuration::from_mins, |days: i64| hours(24 * days));
        let usual = |message| InDoubt::default().of(message);
        for (class, message, age, expected) in [
            (I::Natural, Marketing, mins(0), Way::Again),
            (I::Natural, Transactional, days(30), Way::Again),
            (I::Key, Transactional, mins(0), Way::Again),
            (I::Key, Marketing, hours(23), Way::Wait),
            (I::Key, Marketing, hours(24), Way::Assume),
            (I::Key, Transactional, days(30), Way::Wait),
            (I::Lookup, Marketing, mins(1), Way::Wait),
            (I::Lookup, Transactional, mins(2), Way::Ask),
            (I::Echo, Lifecycle, hours(23), Way::Wait),
            (I::Echo, Lifecycle, hours(24), Way::Assume),
            (I::Echo, Transactional, days(30), Way::Wait),
            (I::Nothing, Marketing, hours(71), Way::Wait),
            (I::Nothing, Marketing, hours(72), Way::Assume),
            (I::Nothing, Transactional, days(30), Way::Wait),
        ] {
            assert_eq!(way(class, usual(message), age), expected, "{class:?} {message:?} {age:#}");
        }
        for class in [I::Echo, I::Nothing] {
            for (message, age) in [(Marketing, days(400)), (Lifecycle, mins(0)), (Transactional, days(400))] {
                let way = way(class, usual(message), age);
                assert!(way != Way::Again && way != Way::Twice);
            }
        }
    }

    #[test]
    fn what_is_safe_goes_before_what_was_chosen() {
        use Idempotency as I;
        let hours = SignedDuration::from_hours;
        let (mins, resend) = (SignedDuration::from_mins, Unsure::ResendOnce(SignedDuration::from_mins(15)));
        let longer = Unsure::Assume(Some(hours(24 * 7)));
        for (class, unsure, age, expected) in [
            (I::Natural, resend, hours(99), Way::Again),
            (I::Key, resend, hours(22), Way::Again),
            (I::Key, resend, hours(23), Way::Twice),
            (I::Lookup, resend, hours(99), Way::Ask),
            (I::Echo, resend, mins(14), Way::Wait),
            (I::Echo, resend, mins(15), Way::Twice),
            (I::Nothing, resend, mins(15), Way::Twice),
            (I::Echo, longer, hours(24 * 7 - 1), Way::Wait),
            (I::Nothing, longer, hours(24 * 7), Way::Assume),
            (I::Natural, Unsure::Wait, mins(0), Way::Again),
            (I::Echo, Unsure::Wait, hours(9_999), Way::Wait),
        ] {
            assert_eq!(way(class, unsure, age), expected, "{class:?} {unsure:?} {age:#}");
        }
    }
}
