//! The gates that look at facts: system, identity, suppression, consent, currency, holdout.

use model::consent::{ConsentState, ConsentStatus, Suppression};
use model::enrollment::HoldoutKind;
use model::fault::mutant;
use model::policy::{MessageClass, Permission};
use model::{DeliveryState, Gate, Reason};

use super::{Case, HOLD_PAUSE, Opinion};
use crate::time::plus;

/// Halted, paused.
pub(super) fn system(case: &Case<'_>) -> Opinion {
    let halts = case.world.halts;
    let again = plus(case.now, HOLD_PAUSE);
    if halts.all {
        return Opinion::defer(again, Reason::SysKillSwitch, "everything is halted");
    }
    if halts.destinations.contains(case.destination) {
        return Opinion::defer(
            again,
            Reason::SysKillSwitch,
            format!("destination {} is halted", case.destination),
        );
    }
    if halts.playbooks.contains(&case.traits.playbook) {
        return Opinion::defer(
            again,
            Reason::SysPlaybookPaused,
            format!("playbook {} is paused", case.traits.playbook),
        );
    }
    Opinion::pass(Gate::System, "nothing is halted")
}

/// The person exists and has a usable address.
pub(super) fn identity(case: &Case<'_>) -> Opinion {
    let skip = |reason, saw: String| Opinion::refuse(DeliveryState::Skipped, reason, saw);
    let Some(profile) = case.person.profile else {
        return skip(Reason::SubjectMissing, "no row in the warehouse".to_owned());
    };
    match profile.email() {
        None => skip(Reason::AddressMissing, format!("no address for {}", case.traits.channel.as_str())),
        Some(Err(error)) => skip(Reason::AddressInvalid, error.to_string()),
        Some(Ok(_)) => {
            Opinion::pass(Gate::Identity, format!("has an address for {}", case.traits.channel.as_str()))
        }
    }
}

/// Nobody said "never".
pub(super) fn suppression(case: &Case<'_>) -> Opinion {
    let applies = |one: &&Suppression| {
        one.channel.is_none_or(|channel| channel == case.traits.channel)
            && !(case.is_transactional() && one.spares_transactional)
    };
    let mut found: Vec<&Suppression> = case.person.suppressions.iter().filter(applies).collect();
    found.sort_by_key(|one| (one.reason, one.since));
    let Some(first) = found.first().filter(|_| !mutant("skip_suppression")) else {
        return Opinion::pass(Gate::Suppression, "not suppressed");
    };
    // Where it came from is left out: an operator may have written an address there.
    let seen: Vec<String> =
        found.iter().map(|one| format!("{} since {}", one.reason, day(one.since))).collect();
    let mut opinion = Opinion::refuse(DeliveryState::Suppressed, first.reason, seen.join("; "));
    opinion.gate = Gate::Suppression;
    opinion
}

/// There is permission for the channel and purpose.
pub(super) fn consent(case: &Case<'_>) -> Opinion {
    let (policy, traits) = (case.world.policy, case.traits);
    if mutant("skip_consent") {
        return Opinion::pass(Gate::Consent, "not looked at");
    }
    let refuse = |reason, saw: String| Opinion::refuse(DeliveryState::Suppressed, reason, saw);
    if !policy.purposes.contains_key(&traits.purpose) {
        return refuse(Reason::ConsentAbsent, format!("purpose {} is not in the policy", traits.purpose));
    }
    let state = case.person.consents.state_of(traits.channel, &traits.purpose);
    let status = state.map_or(ConsentStatus::Absent, |state| state.status);
    let said = said(state);
    match traits.class {
        MessageClass::Transactional => Opinion::pass(Gate::Consent, "not asked for transactional"),
        MessageClass::Lifecycle if status == ConsentStatus::Withdrawn => {
            refuse(Reason::ConsentWithdrawn, said)
        }
        MessageClass::Lifecycle => Opinion::pass(Gate::Consent, said),
        MessageClass::Marketing => {
            let permission = policy.permission.get(&traits.channel).copied().unwrap_or(Permission::OptIn);
            let seen = format!("{said}; {} is {}", traits.channel.as_str(), permission.as_str());
            match (permission, status) {
                (Permission::Never, _) => refuse(Reason::ConsentChannelNever, seen),
                (_, ConsentStatus::Withdrawn) => refuse(Reason::ConsentWithdrawn, seen),
                (_, ConsentStatus::Pending) => refuse(Reason::ConsentPending, seen),
                (Permission::OptIn, ConsentStatus::Absent) => refuse(Reason::ConsentAbsent, seen),
                (_, ConsentStatus::Granted) | (Permission::OptOut, ConsentStatus::Absent) => {
                    Opinion::pass(Gate::Consent, seen)
                }
            }
        }
    }
}

fn said(state: Option<&ConsentState>) -> String {
    match state {
        None => ConsentStatus::Absent.as_str().to_owned(),
        Some(state) => {
            format!("{} since {} ({})", state.status.as_str(), day(state.changed_at), state.origin.as_str())
        }
    }
}

/// It is still wanted: under way, and not too old.
pub(super) fn currency(case: &Case<'_>) -> Opinion {
    if !case.active {
        return Opinion::refuse(DeliveryState::Cancelled, Reason::CriteriaMet, "the enrollment has ended");
    }
    let saw = format!("expires {}", case.expires_at);
    if case.now >= case.expires_at {
        return Opinion::refuse(DeliveryState::Expired, Reason::StepExpired, saw);
    }
    Opinion::pass(Gate::Currency, saw)
}

/// Not held out. Asked last, so that both arms are counted at the same point.
pub(super) fn holdout(case: &Case<'_>) -> Opinion {
    if case.is_transactional() {
        return Opinion::pass(Gate::Holdout, "does not apply to transactional");
    }
    let withhold = |reason, saw| Opinion::refuse(DeliveryState::Withheld, reason, saw);
    match case.holdout.filter(|_| !mutant("holdout_ignored")) {
        None => Opinion::pass(Gate::Holdout, "not held out"),
        Some(HoldoutKind::Global) => withhold(Reason::GlobalHoldout, "drawn on entering: global"),
        Some(HoldoutKind::Playbook) => withhold(Reason::PlaybookHoldout, "drawn on entering: playbook"),
    }
}

fn day(at: jiff::Timestamp) -> jiff::civil::Date {
    jiff::tz::TimeZone::UTC.to_datetime(at).date()
}
