//! The gate of caps: not too often, and not the same words twice. Every cap that covers the message must have room; what stands already counts.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use model::duration::Window;
use model::fault::mutant;
use model::policy::{Cap, CapUnit, OnHit, RuleZone};
use model::profile::Profile;
use model::{DeliveryState, Gate, Reason};

use super::{Case, Opinion, Phase};
use crate::time::{counts, frees_at, minus, window_start};
use crate::world::Touch;

/// Nobody gets the same words twice within this time, from whatever playbook or step.
pub const SAME_WORDS: SignedDuration = SignedDuration::from_hours(24);

/// Not too often.
pub(super) fn cap(case: &Case<'_>) -> Opinion {
    let mut saw = String::new();
    let mut refused: Option<Reason> = None;
    let mut wake: Option<Timestamp> = None;
    for cap in case.world.policy.caps.iter().filter(|cap| cap.scope.covers(case.traits)) {
        if cap.unit == CapUnit::Account && case.person.profile.and_then(Profile::account_id).is_none() {
            continue;
        }
        let zone = zone(case, cap);
        let start = window_start(cap.per, case.now, zone);
        let counted = counted(case, cap, start);
        note(&mut saw, cap, counted.len(), start, zone);
        let full =
            if mutant("cap_off_by_one") { counted.len() > room(cap) } else { counted.len() >= room(cap) };
        if !full {
            continue;
        }
        let frees = frees_at(cap.per, cap.max, &counted, case.now, zone).filter(|at| *at < case.expires_at);
        match (cap.on_hit, frees) {
            (OnHit::Skip, _) => {
                let named = match cap.unit {
                    CapUnit::Account => Reason::CapAccount,
                    CapUnit::Address => Reason::CapAddress,
                    CapUnit::Profile if cap.scope.channel.is_empty() => Reason::CapPerson,
                    CapUnit::Profile => Reason::CapChannel,
                };
                // A cap that skips decides before one that only lost its time.
                refused = refused.filter(|reason| *reason != Reason::CapWaitExpired).or(Some(named));
            }
            (OnHit::Defer, None) => refused = refused.or(Some(Reason::CapWaitExpired)),
            (OnHit::Defer, Some(frees)) => wake = wake.max(Some(frees)),
        }
    }
    if let Some(at) = said_at(case) {
        saw.push_str(if saw.is_empty() { "" } else { "; " });
        saw.push_str(&format!("the same words {at}"));
        refused = refused.filter(|reason| *reason != Reason::CapWaitExpired).or(Some(Reason::CapSameContent));
    }
    match (refused, wake) {
        (Some(reason), _) => Opinion::refuse(DeliveryState::Skipped, reason, saw),
        (None, Some(wake)) => Opinion::defer(wake, Reason::CapDeferred, saw),
        (None, None) if saw.is_empty() => Opinion::pass(Gate::Cap, "no cap covers it"),
        (None, None) => Opinion::pass(Gate::Cap, saw),
    }
}

fn room(cap: &Cap) -> usize {
    usize::try_from(cap.max).unwrap_or(usize::MAX)
}

fn zone<'a>(case: &'a Case<'_>, cap: &Cap) -> &'a TimeZone {
    match cap.zone {
        RuleZone::Profile => &case.local.zone,
        RuleZone::Project => case.world.zone,
    }
}

/// The times of the touches that a cap counts in the window that began at `start`.
fn counted(case: &Case<'_>, cap: &Cap, start: Timestamp) -> Vec<Timestamp> {
    let is_counted = |touch: &&Touch| {
        stands(case, touch) && counts(cap.per, start, touch.at) && cap.scope.covers(&touch.traits)
    };
    let touches = match cap.unit {
        CapUnit::Profile => case.person.touches,
        CapUnit::Account => case.person.shared.account,
        CapUnit::Address => case.person.shared.address,
    };
    touches.iter().chain(case.beside).filter(is_counted).map(|touch| touch.at).collect()
}

/// Whether another touch counts.
fn stands(case: &Case<'_>, touch: &Touch) -> bool {
    let state = match case.phase {
        Phase::Decide => touch.state.counts_when_deciding(),
        Phase::Arm => touch.state.counts_when_arming(),
    };
    state && Some(&touch.delivery) != case.own
}

/// When the person last got, or is to get, what this message says, if that is too near. What the person asked for is said as often as asked.
fn said_at(case: &Case<'_>) -> Option<Timestamp> {
    let content = case.content.filter(|_| !case.is_transactional() && !mutant("words_twice"))?;
    let since = minus(case.now, SAME_WORDS);
    let touches = case.person.touches.iter().chain(case.beside);
    let same = |touch: &&Touch| touch.content.as_ref() == Some(content) && touch.at > since;
    touches.filter(same).filter(|touch| stands(case, touch)).map(|touch| touch.at).max()
}

/// `email_day 0 of 1 since 2026-03-02T00:00:00+01:00[Europe/Berlin]`
fn note(saw: &mut String, cap: &Cap, count: usize, start: Timestamp, zone: &TimeZone) {
    if !saw.is_empty() {
        saw.push_str("; ");
    }
    saw.push_str(&format!("{} {count} of {} since ", cap.name, cap.max));
    match cap.per {
        Window::Rolling(_) => saw.push_str(&start.to_string()),
        Window::Calendar { .. } => saw.push_str(&start.to_zoned(zone.clone()).to_string()),
    }
}
