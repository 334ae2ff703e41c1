//! Consent and suppression: what a person allowed, and who must never be written to.

use jiff::Timestamp;

use crate::condition::words;
use crate::id::{AddressHash, ProfileNumber};
use crate::name::PurposeName;
use crate::policy::Channel;
use crate::reason::Reason;

/// What is known of a person's consent for one channel and purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConsentStatus {
    /// Given.
    Granted,
    /// Taken back.
    Withdrawn,
    /// Asked for, not yet confirmed.
    Pending,
    /// Nothing is known.
    Absent,
}

words! { ConsentStatus { Granted = "granted", Withdrawn = "withdrawn", Pending = "pending", Absent = "absent", } }

/// Who told us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConsentOrigin {
    /// The person, by a link of ours, or an operator: recorded here first.
    Local,
    /// The warehouse's consent query.
    Warehouse,
}

words! { ConsentOrigin { Local = "local", Warehouse = "warehouse", } }

/// One event of the ledger. Events are only ever added; the present state is their fold (see [`fold`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsentEvent {
    /// Whose.
    pub profile: ProfileNumber,
    /// Which channel; `None` is all of them (`*` in files).
    pub channel: Option<Channel>,
    /// Which purpose; `None` is all of them (`*` in files).
    pub purpose: Option<PurposeName>,
    /// What it became; never `Absent`.
    pub status: ConsentStatus,
    /// When it became so.
    pub changed_at: Timestamp,
    /// When we learned it.
    pub recorded_at: Timestamp,
    /// Who told us.
    pub origin: ConsentOrigin,
    /// Where it was said: a form, a page, a person's name.
    pub source: String,
    /// What proves it, if anything does.
    pub evidence: Option<String>,
}

/// The fold of the events of one person, channel and purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsentState {
    /// What holds.
    pub status: ConsentStatus,
    /// Since when.
    pub changed_at: Timestamp,
    /// Who told us.
    pub origin: ConsentOrigin,
}

/// What holds after one more event.
///
/// A later event wins; at the same time the more restrictive one does. A withdrawal recorded here is overturned only by a
/// grant recorded here, or by a warehouse row that is later, not in the future, and carries evidence
/// (an old list imported again is the classic way to write to people who said no). A warehouse row from the future never counts.
pub fn fold(before: Option<&ConsentState>, event: &ConsentEvent) -> Option<ConsentState> {
    let after = ConsentState { status: event.status, changed_at: event.changed_at, origin: event.origin };
    if event.origin == ConsentOrigin::Warehouse && event.changed_at > event.recorded_at {
        return before.cloned();
    }
    let Some(before) = before else { return Some(after) };
    let restrictive = |status: ConsentStatus| match status {
        ConsentStatus::Withdrawn => 2,
        ConsentStatus::Pending => 1,
        ConsentStatus::Granted | ConsentStatus::Absent => 0,
    };
    let later = event.changed_at > before.changed_at
        || event.changed_at == before.changed_at && restrictive(event.status) >= restrictive(before.status);
    let protected = before.origin == ConsentOrigin::Local
        && before.status == ConsentStatus::Withdrawn
        && event.origin == ConsentOrigin::Warehouse
        && event.status != ConsentStatus::Withdrawn
        && event.evidence.is_none();
    // A withdrawal in the warehouse that follows one recorded here confirms it, and must not take its protection away.
    // Nor must a grant that follows one recorded here: it may have overturned a withdrawal under other words.
    let confirms = before.origin == ConsentOrigin::Local
        && event.origin == ConsentOrigin::Warehouse
        && event.status == before.status;
    match later && !protected {
        true if confirms && event.status == ConsentStatus::Withdrawn => {
            Some(ConsentState { changed_at: event.changed_at, ..before.clone() })
        }
        true if !confirms => Some(after),
        _ => Some(before.clone()),
    }
}

/// The present consent of one person: what holds for each channel and purpose that was ever named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Consents {
    /// One state a (channel, purpose); `None` is the wildcard.
    pub states: Vec<(Option<Channel>, Option<PurposeName>, ConsentState)>,
}

impl Consents {
    /// What holds for a channel and purpose: of the states that cover it, the latest; at the same time the more restrictive.
    /// A withdrawal recorded here is not overturned by what the warehouse allows under wider or narrower words.
    /// `None` where nothing was ever said.
    pub fn state_of(&self, channel: Channel, purpose: &PurposeName) -> Option<&ConsentState> {
        let covering = || {
            self.states.iter().filter(|(of_channel, of_purpose, _)| {
                of_channel.is_none_or(|of| of == channel)
                    && of_purpose.as_ref().is_none_or(|of| of == purpose)
            })
        };
        let withdrawn_here = covering().any(|(_, _, state)| {
            state.origin == ConsentOrigin::Local && state.status == ConsentStatus::Withdrawn
        });
        covering()
            .map(|(_, _, state)| state)
            .filter(|state| {
                !withdrawn_here
                    || state.origin == ConsentOrigin::Local
                    || state.status == ConsentStatus::Withdrawn
            })
            .max_by_key(|state| (state.changed_at, state.status == ConsentStatus::Withdrawn))
    }

    /// The status for a channel and purpose; `Absent` where nothing was ever said.
    pub fn status_of(&self, channel: Channel, purpose: &PurposeName) -> ConsentStatus {
        self.state_of(channel, purpose).map_or(ConsentStatus::Absent, |state| state.status)
    }
}

/// Never contact: a person, or an address whoever has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppression {
    /// Who or what.
    pub subject: SuppressionSubject,
    /// On which channel; `None` is all.
    pub channel: Option<Channel>,
    /// Why: one of the reasons of class suppress, such as `supp.hard_bounce`.
    pub reason: Reason,
    /// Since when.
    pub since: Timestamp,
    /// Where it came from: a delivery, an operator, a file.
    pub source: String,
    /// Whether it spares transactional messages (an unsubscribe does; a dead address does not).
    pub spares_transactional: bool,
}

/// Who or what is suppressed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SuppressionSubject {
    /// A person.
    Profile(ProfileNumber),
    /// An address.
    Address(AddressHash),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn event(status: ConsentStatus, changed: i64, origin: ConsentOrigin, evidence: bool) -> ConsentEvent {
        ConsentEvent {
            profile: ProfileNumber(1),
            channel: Some(Channel::Email),
            purpose: None,
            status,
            changed_at: at(changed),
            recorded_at: at(100),
            origin,
            source: String::new(),
            evidence: evidence.then(|| "form 3".to_owned()),
        }
    }

    fn folded(events: &[ConsentEvent]) -> ConsentStatus {
        let state = events.iter().fold(None, |state, event| fold(state.as_ref(), event));
        state.map_or(ConsentStatus::Absent, |state| state.status)
    }

    #[test]
    fn a_local_withdrawal_is_overturned_only_by_a_local_grant_or_later_evidence() {
        use ConsentOrigin::{Local, Warehouse};
        use ConsentStatus::{Granted, Withdrawn};
        let no = event(Withdrawn, 50, Local, false);
        assert_eq!(folded(&[no.clone(), event(Granted, 60, Warehouse, false)]), Withdrawn);
        assert_eq!(folded(&[no.clone(), event(Granted, 60, Warehouse, true)]), Granted);
        assert_eq!(folded(&[no.clone(), event(Granted, 40, Warehouse, true)]), Withdrawn);
        assert_eq!(folded(&[no.clone(), event(Granted, 200, Warehouse, true)]), Withdrawn, "from the future");
        assert_eq!(folded(&[no.clone(), event(Granted, 60, Local, false)]), Granted);
        assert_eq!(
            folded(&[no, event(Withdrawn, 60, Warehouse, false), event(Granted, 70, Warehouse, false)]),
            Withdrawn
        );
    }

    #[test]
    fn at_the_same_time_the_more_restrictive_wins_in_either_order() {
        use ConsentOrigin::Warehouse;
        use ConsentStatus::{Granted, Pending, Withdrawn};
        for (first, second) in
            [(Granted, Withdrawn), (Withdrawn, Granted), (Pending, Withdrawn), (Withdrawn, Pending)]
        {
            assert_eq!(
                folded(&[event(first, 5, Warehouse, false), event(second, 5, Warehouse, false)]),
                Withdrawn
            );
        }
    }

    #[test]
    fn a_wildcard_and_a_named_purpose_meet_at_the_later_one() {
        let state = |status, second| ConsentState {
            status,
            changed_at: at(second),
            origin: ConsentOrigin::Warehouse,
        };
        let offers = PurposeName::known("offers");
        let mut consents = Consents {
            states: vec![(Some(Channel::Email), Some(offers.clone()), state(ConsentStatus::Granted, 5))],
        };
        assert_eq!(consents.status_of(Channel::Email, &offers), ConsentStatus::Granted);
        assert_eq!(consents.status_of(Channel::Sms, &offers), ConsentStatus::Absent);
        consents.states.push((None, None, state(ConsentStatus::Withdrawn, 9)));
        assert_eq!(consents.status_of(Channel::Email, &offers), ConsentStatus::Withdrawn);
    }
}
