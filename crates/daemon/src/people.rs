//! Everything a decision looks at, read for a page of people at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine::{Standing, Touch};
use jiff::{SignedDuration, Timestamp};
use model::consent::{Consents, Suppression, SuppressionSubject};
use model::duration::{CalendarUnit, Window};
use model::id::{AddressHash, UnitHash};
use model::policy::{CapUnit, Policy};
use model::profile::Profile;
use model::query::Query;
use model::{PlaybookName, ProfileNumber, Value};
use state::{Question, Tx};

use crate::daemon::Daemon;
use crate::source::{SourceError, View};

/// All that is known of one person.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The warehouse's id.
    pub id: String,
    /// The row in the warehouse; none: gone.
    pub profile: Option<Profile>,
    /// Hash of the address, if there is a usable one.
    pub address: Option<AddressHash>,
    /// Hash of the account, where a cap counts by it.
    pub account: Option<UnitHash>,
    /// Consent.
    pub consents: Consents,
    /// Of the person, and of the address.
    pub suppressions: Vec<Suppression>,
    /// What counts for caps.
    pub touches: Vec<Touch>,
    /// Where the person stands in each playbook.
    pub standings: Vec<Standing>,
}

impl Facts {
    /// What is known of a person from the warehouse alone.
    pub fn of(daemon: &Daemon, profile: Profile) -> Self {
        let address = profile.email().and_then(Result::ok).map(|address| daemon.keys.address_hash(&address));
        let account = account_unit(daemon, Some(&profile));
        Self { id: profile.id.clone(), profile: Some(profile), address, account, ..Self::default() }
    }

    /// The engine's view of them.
    pub fn person<'a>(&'a self, number: ProfileNumber, crowd: &'a Crowd) -> engine::Person<'a> {
        engine::Person {
            shared: crowd.shared(self.account.as_ref(), self.address.as_ref()),
            number,
            id: &self.id,
            profile: self.profile.as_ref(),
            consents: &self.consents,
            suppressions: &self.suppressions,
            touches: &self.touches,
            standings: &self.standings,
        }
    }
}

/// The account of a person as caps know it, where one counts by it.
pub fn account_unit(daemon: &Daemon, profile: Option<&Profile>) -> Option<UnitHash> {
    if !daemon.project.policy.counts_by(CapUnit::Account) {
        return None;
    }
    profile?.account_id().map(|id| daemon.keys.account_hash(&id))
}

/// What went, or is to go, to all who share an account or an address, where caps count by it.
#[derive(Debug, Default)]
pub struct Crowd(BTreeMap<UnitHash, Vec<Touch>>);

impl Crowd {
    /// What caps see of those who share this account, and this address.
    pub fn shared(&self, account: Option<&UnitHash>, address: Option<&AddressHash>) -> engine::Shared<'_> {
        let of =
            |unit: Option<&UnitHash>| unit.and_then(|unit| self.0.get(unit)).map_or(&[][..], Vec::as_slice);
        engine::Shared { account: of(account), address: of(address.map(UnitHash::from).as_ref()) }
    }

    /// Lets the next ones see a delivery.
    pub fn count(&mut self, units: &[UnitHash], touch: &Touch) {
        for unit in units {
            let touches = self.0.entry(unit.clone()).or_default();
            touches.retain(|known| known.delivery != touch.delivery);
            touches.push(touch.clone());
        }
    }
}

/// What a delivery to this account and address counts for.
pub fn units(policy: &Policy, account: Option<&UnitHash>, address: Option<&AddressHash>) -> Vec<UnitHash> {
    let address = address.filter(|_| policy.counts_by(CapUnit::Address)).map(UnitHash::from);
    let account = account.filter(|_| policy.counts_by(CapUnit::Account)).cloned();
    account.into_iter().chain(address).collect()
}

/// What do these units have in common with others?
pub fn crowd(policy: &Policy, units: &[UnitHash], now: Timestamp) -> Question<Crowd> {
    let since = looks_back_to(policy, now);
    state::shared::touches(units, since).map(|touches| {
        let mut crowd = Crowd::default();
        for (unit, touch) in touches {
            crowd.0.entry(unit).or_default().push(seen(touch));
        }
        Ok(crowd)
    })
}

/// What these people have in common with others.
pub async fn crowd_of(
    tx: &mut Tx,
    policy: &Policy,
    people: &People,
    now: Timestamp,
) -> Result<Crowd, state::StateError> {
    let units: Vec<UnitHash> = people
        .values()
        .flat_map(|facts| units(policy, facts.account.as_ref(), facts.address.as_ref()))
        .collect();
    if units.is_empty() {
        return Ok(Crowd::default());
    }
    tx.ask(crowd(policy, &units, now)).await
}

/// A delivery as caps see it.
fn seen(touch: state::delivery::Touch) -> Touch {
    let state::delivery::Touch { profile: _, delivery, at, traits, state, content } = touch;
    Touch { delivery, at, traits, state, content }
}

/// The facts of some people.
pub type People = BTreeMap<ProfileNumber, Facts>;

/// Reads the facts of at most 1,000 people: who they are from the view, the rest from state. `accounts` is the query of
/// their accounts, where anything asks for them: see `uses::accounts`.
pub async fn read(
    daemon: &Daemon,
    tx: &mut Tx,
    view: &mut View,
    accounts: Option<&Query>,
    numbers: &[ProfileNumber],
    now: Timestamp,
) -> Result<People, SourceError> {
    let mut people = who_they_are(daemon, tx, view, accounts, numbers).await?;
    read_state(tx, &daemon.project.policy, &mut people, now).await?;
    Ok(people)
}

/// The same, without what happened to them: touches, and where they stand in playbooks.
pub async fn read_permissions(
    daemon: &Daemon,
    tx: &mut Tx,
    view: &mut View,
    numbers: &[ProfileNumber],
) -> Result<People, SourceError> {
    let mut people = who_they_are(daemon, tx, view, None, numbers).await?;
    let addresses: Vec<AddressHash> = people.values().filter_map(|facts| facts.address.clone()).collect();
    tx.ask(permissions(numbers, &addresses)).await?.fill(&mut people);
    Ok(people)
}

async fn who_they_are(
    daemon: &Daemon,
    tx: &mut Tx,
    view: &mut View,
    accounts: Option<&Query>,
    numbers: &[ProfileNumber],
) -> Result<People, SourceError> {
    let ids = state::profile::ids_of(tx, numbers).await?;
    let mut profiles = profiles(view, &daemon.project.data.profiles, accounts, &ids).await?;
    let mut facts = |number: &ProfileNumber| match (profiles.remove(number), ids.get(number)) {
        (Some(profile), _) => Facts::of(daemon, profile),
        (None, Some(id)) => Facts { id: id.clone(), ..Facts::default() },
        (None, None) => Facts::default(),
    };
    Ok(numbers.iter().map(|number| (*number, facts(number))).collect())
}

/// At most 1,000 people as the view has them, with their accounts where `accounts` is given: one query more for them all.
pub async fn profiles(
    view: &mut View,
    profiles: &Query,
    accounts: Option<&Query>,
    ids: &BTreeMap<ProfileNumber, String>,
) -> Result<BTreeMap<ProfileNumber, Profile>, SourceError> {
    let wanted: Vec<String> = ids.values().cloned().collect();
    let mut rows = view.profiles(profiles, &wanted).await?;
    let profile = |(number, id): (&ProfileNumber, &String)| {
        let attributes = rows.remove(id)?;
        Some((*number, Profile { number: *number, id: id.clone(), attributes, account: Arc::default() }))
    };
    let mut found: BTreeMap<ProfileNumber, Profile> = ids.iter().filter_map(profile).collect();
    let Some(accounts) = accounts else { return Ok(found) };
    let wanted: BTreeSet<String> = found.values().filter_map(Profile::account_id).collect();
    if wanted.is_empty() {
        return Ok(found);
    }
    let wanted: Vec<String> = wanted.into_iter().collect();
    let rows = view.accounts(accounts, &wanted).await?;
    let row = |(id, mut columns): (String, BTreeMap<String, Value>)| {
        columns.insert("id".to_owned(), Value::Text(id.clone()));
        (id, Arc::new(columns))
    };
    let rows: BTreeMap<String, _> = rows.into_iter().map(row).collect();
    for profile in found.values_mut() {
        if let Some(row) = profile.account_id().and_then(|id| rows.get(&id)) {
            profile.account = Arc::clone(row);
        }
    }
    Ok(found)
}

/// Fills in what state knows: consent, suppression, touches, standings. The address hashes are there already.
pub async fn read_state(
    tx: &mut Tx,
    policy: &Policy,
    people: &mut People,
    now: Timestamp,
) -> Result<(), state::StateError> {
    let numbers: Vec<ProfileNumber> = people.keys().copied().collect();
    let addresses: Vec<AddressHash> = people.values().filter_map(|facts| facts.address.clone()).collect();
    tx.ask(known(policy, &numbers, &addresses, now)).await?.fill(people);
    Ok(())
}

/// What state knows of some people.
#[derive(Debug)]
pub struct Known {
    consents: BTreeMap<ProfileNumber, Consents>,
    /// Of the people, and of the addresses that were asked about.
    pub suppressions: Vec<Suppression>,
    touches: Vec<state::delivery::Touch>,
    standings: Vec<state::enrollment::Standing>,
}

/// What does state know of these people and addresses: consent, suppression, touches, standings?
pub fn known(
    policy: &Policy,
    numbers: &[ProfileNumber],
    addresses: &[AddressHash],
    now: Timestamp,
) -> Question<Known> {
    let since = looks_back_to(policy, now);
    let what_happened = state::delivery::touches(numbers, since).and(state::enrollment::standings(numbers));
    permissions(numbers, addresses)
        .and(what_happened)
        .map(|(known, (touches, standings))| Ok(Known { touches, standings, ..known }))
}

/// What is allowed of these people and addresses: consent and suppression, and nothing of what happened?
pub fn permissions(numbers: &[ProfileNumber], addresses: &[AddressHash]) -> Question<Known> {
    let asked = state::consent::of_profiles(numbers).and(state::consent::suppressions(numbers, addresses));
    asked.map(|(consents, suppressions)| {
        Ok(Known { consents, suppressions, touches: Vec::new(), standings: Vec::new() })
    })
}

impl Known {
    /// Fills it in. Each person gets the suppressions of their own and of their address.
    pub fn fill(self, people: &mut People) {
        for (number, consents) in self.consents {
            if let Some(facts) = people.get_mut(&number) {
                facts.consents = consents;
            }
        }
        if !self.suppressions.is_empty() {
            for (number, facts) in people.iter_mut() {
                let is_theirs = |one: &&Suppression| matches(one, *number, facts.address.as_ref());
                let theirs = self.suppressions.iter().filter(is_theirs).cloned().collect();
                facts.suppressions = theirs;
            }
        }
        for touch in self.touches {
            if let Some(facts) = people.get_mut(&touch.profile) {
                facts.touches.push(seen(touch));
            }
        }
        for standing in self.standings {
            if let Some(facts) = people.get_mut(&standing.profile) {
                facts.standings.push(Standing {
                    playbook: standing.playbook,
                    active: standing.active,
                    reached_goal: standing.reached_goal,
                    ended_at: standing.ended_at,
                });
            }
        }
    }
}

/// Whether a suppression is about this person or address.
pub fn matches(suppression: &Suppression, number: ProfileNumber, address: Option<&AddressHash>) -> bool {
    match &suppression.subject {
        SuppressionSubject::Profile(of) => *of == number,
        SuppressionSubject::Address(of) => Some(of) == address,
    }
}

/// How far back a cap looks at most, or who says nothing twice.
pub fn looks_back_to(policy: &Policy, now: Timestamp) -> Timestamp {
    now.checked_sub(longest_window(policy)).unwrap_or(Timestamp::MIN)
}

/// How far back a cap may look; a day more, since calendars differ by zone.
fn longest_window(policy: &Policy) -> SignedDuration {
    let days = |count: u32, each: i64| SignedDuration::from_hours((i64::from(count) * each + 2) * 24);
    policy
        .caps
        .iter()
        .map(|cap| match cap.per {
            Window::Rolling(duration) => duration,
            Window::Calendar { count, unit: CalendarUnit::Day } => days(count, 1),
            Window::Calendar { count, unit: CalendarUnit::Week } => days(count, 7),
            Window::Calendar { count, unit: CalendarUnit::Month } => days(count, 31),
        })
        .fold(engine::SAME_WORDS, SignedDuration::max)
}

/// A person's standing in one playbook.
pub fn standing_in<'a>(facts: &'a Facts, playbook: &PlaybookName) -> Option<&'a Standing> {
    facts.standings.iter().find(|standing| standing.playbook == *playbook)
}
