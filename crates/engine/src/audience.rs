//! Who may be in an audience, and what follows for what is in it.

use jiff::Timestamp;
use model::duration::Share;
use model::id::IdentityHash;
use model::policy::Traits;
use model::reason::ReasonClass;
use model::sync::{Entry, Has, Todo};
use model::{Channel, DestinationName, Reason, Refusal, Value};

use crate::gate::member_gates;
use crate::world::{Person, World};

/// Columns of `profiles` by which people say no to the use of their data for ads, and the answer that lets it pass: the two of Google's
/// consent mode (ad_user_data, ad_personalization), and Global Privacy Control, which counts as an opt-out of sale and sharing (CCPA
/// regulations, section 7025). A column that is declared and has no value in somebody's row is no consent; one that is not there asks nothing.
const ADS_COLUMNS: [(&str, bool); 3] = [("ad_user_data", true), ("ad_personalization", true), ("gpc", false)];

/// Whether a person may be in an audience: the gates that are about people and not about messages, and what they say about ads.
///
/// `Err`: why not. Where the reason is of class [`ReasonClass::Suppress`], who is in must be out, at once.
pub fn may_be_member(
    world: &World<'_>,
    person: &Person<'_>,
    destination: &DestinationName,
    traits: &Traits,
    now: Timestamp,
) -> Result<(), Refusal> {
    member_gates(world, person, destination, traits, now)?;
    let Some(profile) = person.profile.filter(|_| traits.channel == Channel::Ads) else { return Ok(()) };
    for (column, passes) in ADS_COLUMNS {
        let Some(value) = profile.attributes.get(column) else { continue };
        let is_no = match value {
            // Nothing was said: no consent where it is asked for, and no objection where that is.
            Value::Missing => passes,
            value => said(value) != Some(passes),
        };
        if is_no {
            return Err(Refusal { reason: Reason::AdsOptout, saw: format!("`{column}` does not allow it") });
        }
    }
    Ok(())
}

/// A yes or a no, as warehouses write it.
fn said(value: &Value) -> Option<bool> {
    match value {
        Value::Boolean(said) => Some(*said),
        Value::Integer(0) => Some(false),
        Value::Integer(1) => Some(true),
        Value::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "1" | "granted" => Some(true),
            "false" | "no" | "0" | "denied" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// What becomes of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Planned {
    /// This is to be done about it; a new one where there was none.
    Put {
        /// Which.
        identity: IdentityHash,
        /// What.
        todo: Todo,
        /// Why.
        reason: Reason,
    },
    /// It is forgotten: the destination does not have it, and is not to.
    Forget {
        /// Which.
        identity: IdentityHash,
    },
}

/// What is to become of one person's entries in an audience, where `wanted` is the one they are to have, or why they are to have none.
///
/// Only what changes is given. An opt-out ([`ReasonClass::Suppress`]) is removed at once; who leaves for another reason waits for the guard;
/// an entry that another one of the same person replaces goes by itself, after the new one is in. What was acknowledged before
/// `renew_before` is added again. What the destination may have is never forgotten.
pub fn plan_entries(
    entries: &[Entry],
    wanted: Result<&IdentityHash, Reason>,
    renew_before: Option<Timestamp>,
) -> Vec<Planned> {
    let mut planned = Vec::new();
    let mut put = |entry: Option<&Entry>, identity: &IdentityHash, todo: Todo, reason: Reason| {
        if entry.is_none_or(|entry| entry.todo != todo) {
            planned.push(Planned::Put { identity: identity.clone(), todo, reason });
        }
    };
    if let Ok(wanted) = wanted {
        let entry = entries.iter().find(|entry| entry.identity == *wanted);
        let is_in = entry.is_some_and(|entry| {
            entry.has == Has::Yes
                && renew_before.is_none_or(|before| entry.acknowledged_at.is_some_and(|at| at >= before))
        });
        match is_in {
            true => put(entry, wanted, Todo::Nothing, Reason::OkApplied),
            false => put(entry, wanted, Todo::Add, Reason::OkDue),
        }
    }
    let (todo, reason) = match wanted {
        Ok(_) => (Todo::Remove, Reason::OkDue),
        Err(reason) if reason.class() == ReasonClass::Suppress => (Todo::OptOut, reason),
        Err(reason) => (Todo::Leaves, reason),
    };
    let others = entries.iter().filter(|entry| wanted != Ok(&entry.identity));
    for entry in others.clone().filter(|entry| entry.has != Has::No) {
        put(Some(entry), &entry.identity, todo, reason);
    }
    planned.extend(
        others
            .filter(|entry| entry.has == Has::No)
            .map(|entry| Planned::Forget { identity: entry.identity.clone() }),
    );
    planned
}

/// Whether so many of `all` may leave an audience at once, who did not opt out, or so many records be emptied. One may always. `what` is said of
/// them: that they are people, and would be removed.
///
/// # Errors
/// More than `share` of them would.
pub fn judge_removal(share: Share, all: u64, leaving: u64, what: (&str, &str)) -> Result<(), Refusal> {
    if leaving <= 1 || leaving <= share.of(all) || model::fault::mutant("removal_unheld") {
        return Ok(());
    }
    let (things, would) = what;
    let saw = format!("{leaving} of {all} {things} would be {would}, `guards.removal` lets {share} of them");
    Err(Refusal { reason: Reason::MassRemoval, saw })
}
