//! The gate of time: not in quiet hours, and only while the send window is open.

use jiff::tz::TimeZone;
use model::fault::mutant;
use model::policy::{QuietHours, RuleZone};
use model::{DeliveryState, Gate, Reason};

use super::{Case, Opinion};
use crate::condition::holds;
use crate::time::{next_allowed, quiet_until, window_opens_at};

/// Not at night, and in its window.
pub(super) fn time(case: &Case<'_>) -> Opinion {
    if case.is_transactional() {
        return Opinion::pass(Gate::Time, "does not apply to transactional");
    }
    let quiet: Vec<(&QuietHours, &TimeZone)> = case
        .world
        .policy
        .quiet_hours
        .iter()
        .filter(|rule| rule.scope.covers(case.traits) && is_for(rule, case))
        .map(|rule| (rule, zone(case, rule)))
        .collect();
    let window = case.window.map(|window| (window, &case.local.zone));
    let clock = case.local.zone.to_datetime(case.now).time();
    let mut saw =
        format!("{:02}:{:02} in {} ({})", clock.hour(), clock.minute(), case.local.name(), case.local.source);
    let mut reason = None;
    for (rule, zone) in &quiet {
        if let Some(until) = quiet_until(rule, case.now, zone) {
            saw.push_str(&format!("; {} until {}", rule.name, until.to_zoned((*zone).clone())));
            reason = Some(Reason::QuietHours);
        }
    }
    if let Some((window, zone)) = window {
        match window_opens_at(window, case.now, zone) {
            Some(opens) if opens == case.now => {}
            Some(opens) => {
                saw.push_str(&format!("; the window opens {}", opens.to_zoned(zone.clone())));
                reason = reason.or(Some(Reason::SendWindow));
            }
            None => {
                saw.push_str("; the window never opens");
                reason = reason.or(Some(Reason::SendWindow));
            }
        }
    }
    let Some(reason) = reason else { return Opinion::pass(Gate::Time, saw) };
    match next_allowed(&quiet, window, case.now, case.expires_at) {
        Some(opens) => Opinion::defer(opens, reason, saw),
        None => {
            saw.push_str(&format!("; expires {}", case.expires_at));
            Opinion::refuse(DeliveryState::Skipped, Reason::WindowExceedsTtl, saw)
        }
    }
}

fn zone<'a>(case: &'a Case<'_>, rule: &QuietHours) -> &'a TimeZone {
    match rule.zone {
        RuleZone::Profile if !mutant("quiet_ignores_zone") => &case.local.zone,
        RuleZone::Profile | RuleZone::Project => case.world.zone,
    }
}

/// Whether a rule is for this person.
fn is_for(rule: &QuietHours, case: &Case<'_>) -> bool {
    rule.filter.as_ref().is_none_or(|filter| holds(filter, &case.subject()))
}
