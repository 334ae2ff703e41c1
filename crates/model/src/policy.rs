//! What is allowed: purposes, permission, caps, quiet hours, the global holdout, guards, and what becomes of doubts.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use jiff::civil::{Date, Time, Weekday};

use crate::condition::{Condition, words};
use crate::duration::{Share, Window};
use crate::name::{BrandName, CapName, PlaybookName, PurposeName, QuietHoursName};
use crate::query::Query;

/// The medium of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// Mail.
    Email,
    /// Text messages.
    Sms,
    /// Push notifications.
    Push,
    /// Ad audiences.
    Ads,
}

words! { Channel { Email = "email", Sms = "sms", Push = "push", Ads = "ads", } }

/// What kind of message a purpose stands for; decides which rules apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MessageClass {
    /// Needs permission as the region says.
    Marketing,
    /// Allowed unless withdrawn.
    Lifecycle,
    /// What the person asked for: no permission, caps, quiet hours or holdouts.
    Transactional,
}

words! { MessageClass { Marketing = "marketing", Lifecycle = "lifecycle", Transactional = "transactional", } }

/// A text for recipients, in the languages given; the empty language is the one for all others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Localized(pub BTreeMap<String, String>);

impl Localized {
    /// The text for a locale: exactly, by its language, the first of `fallbacks` there is, or any.
    pub fn get(&self, locale: &str, fallbacks: &[String]) -> &str {
        let language = locale.split(['-', '_']).next().unwrap_or_default();
        [locale, language, ""]
            .into_iter()
            .chain(fallbacks.iter().map(String::as_str))
            .find_map(|key| self.0.get(key))
            .or_else(|| self.0.values().next())
            .map_or("", String::as_str)
    }
}

/// What consent is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purpose {
    /// Its name.
    pub name: PurposeName,
    /// What recipients read.
    pub title: Localized,
    /// The class of its messages.
    pub class: MessageClass,
    /// Who speaks.
    pub brand: BrandName,
}

/// What a class marketing message needs where nothing was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// A grant.
    OptIn,
    /// No withdrawal.
    OptOut,
    /// It is never allowed.
    Never,
}

words! { Permission { OptIn = "opt_in", OptOut = "opt_out", Never = "never", } }

/// Which messages a rule is about; an empty list is any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope {
    /// Channels.
    pub channel: Vec<Channel>,
    /// Classes.
    pub class: Vec<MessageClass>,
    /// Purposes.
    pub purpose: Vec<PurposeName>,
    /// Brands.
    pub brand: Vec<BrandName>,
    /// Playbooks.
    pub playbook: Vec<PlaybookName>,
}

/// The traits of a message that rules look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traits {
    /// Channel.
    pub channel: Channel,
    /// Class.
    pub class: MessageClass,
    /// Purpose.
    pub purpose: PurposeName,
    /// Brand.
    pub brand: BrandName,
    /// Playbook.
    pub playbook: PlaybookName,
}

impl Scope {
    /// Whether a message is in it. Transactional messages are in none.
    pub fn covers(&self, message: &Traits) -> bool {
        fn any<T: PartialEq>(list: &[T], one: &T) -> bool {
            list.is_empty() || list.contains(one)
        }
        message.class != MessageClass::Transactional
            && any(&self.channel, &message.channel)
            && any(&self.class, &message.class)
            && any(&self.purpose, &message.purpose)
            && any(&self.brand, &message.brand)
            && any(&self.playbook, &message.playbook)
    }
}

/// In whose zone the calendar is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleZone {
    /// The person's own; the project's where it is not known.
    Profile,
    /// The project's.
    Project,
}

words! { RuleZone { Profile = "profile", Project = "project", } }

/// What happens to a message that a cap stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnHit {
    /// It waits for the window to have room, until it expires.
    Defer,
    /// It is not sent.
    Skip,
}

words! { OnHit { Defer = "defer", Skip = "skip", } }

/// Whose messages a cap counts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CapUnit {
    /// A person's.
    Profile,
    /// Those of all people of an account. Who has none is not capped.
    Account,
    /// Those to one address, whoever has it.
    Address,
}

words! { CapUnit { Profile = "profile", Account = "account", Address = "address", } }

/// How many messages a person, an account or an address may get in a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cap {
    /// Its name.
    pub name: CapName,
    /// What it counts.
    pub scope: Scope,
    /// Whose.
    pub unit: CapUnit,
    /// How many.
    pub max: u32,
    /// In what window.
    pub per: Window,
    /// Whose calendar.
    pub zone: RuleZone,
    /// What then.
    pub on_hit: OnHit,
}

/// Local times without messages.
#[derive(Debug, Clone, PartialEq)]
pub struct QuietHours {
    /// Its name.
    pub name: QuietHoursName,
    /// What it is about.
    pub scope: Scope,
    /// From and to, local; over midnight where `to` is not after `from`. `None`: the whole day.
    pub hours: Option<(Time, Time)>,
    /// The days on which a quiet period begins; none given: all.
    pub days: Vec<Weekday>,
    /// Or these dates.
    pub dates: Vec<Date>,
    /// Whose clock.
    pub zone: RuleZone,
    /// Only for these people.
    pub filter: Option<Condition>,
}

/// The share of people who get nothing but transactional messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlobalHoldout {
    /// How many.
    pub share: Share,
    /// What makes the draw this one and no other.
    pub salt: String,
    /// After how long others are drawn; counted from the Unix epoch.
    pub rotate: Option<SignedDuration>,
}

/// What becomes of a message nobody can be sure of, where the provider cannot say and would not know a repeat again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsure {
    /// A person decides.
    Wait,
    /// It is taken for accepted after so long without evidence. `None`: after a day where the provider would have told by then, else
    /// after three.
    Assume(Option<SignedDuration>),
    /// After so long without evidence it is sent again, once: better twice than not at all.
    ResendOnce(SignedDuration),
}

/// The same, by class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InDoubt {
    /// Never [`Unsure::ResendOnce`].
    pub marketing: Unsure,
    /// Never [`Unsure::ResendOnce`].
    pub lifecycle: Unsure,
    /// What the person asked for.
    pub transactional: Unsure,
}

impl InDoubt {
    /// What becomes of messages of this class.
    pub fn of(&self, class: MessageClass) -> Unsure {
        match class {
            MessageClass::Marketing => self.marketing,
            MessageClass::Lifecycle => self.lifecycle,
            MessageClass::Transactional => self.transactional,
        }
    }
}

impl Default for InDoubt {
    fn default() -> Self {
        let assume = Unsure::Assume(None);
        Self { marketing: assume, lifecycle: assume, transactional: Unsure::Wait }
    }
}

impl Policy {
    /// Whether a cap counts what several people share.
    pub fn counts_by(&self, unit: CapUnit) -> bool {
        self.caps.iter().any(|cap| cap.unit == unit)
    }

    /// Whether a cap counts more than one person's messages together.
    pub fn counts_shared(&self) -> bool {
        self.counts_by(CapUnit::Account) || self.counts_by(CapUnit::Address)
    }
}

/// policy.yml.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Policy {
    /// By name.
    pub purposes: BTreeMap<PurposeName, Purpose>,
    /// Imported into the ledger.
    pub consent: Option<Query>,
    /// What marketing needs by channel; `OptIn` where nothing is said.
    pub permission: BTreeMap<Channel, Permission>,
    /// In the order of their names.
    pub caps: Vec<Cap>,
    /// In the order of their names.
    pub quiet_hours: Vec<QuietHours>,
    /// If there is one.
    pub holdout: Option<GlobalHoldout>,
    /// What stops a campaign before it does harm.
    pub guards: Guards,
    /// What becomes of a message nobody can be sure of.
    pub in_doubt: InDoubt,
}

/// What stops a campaign before it does harm. In production a guard that trips holds; elsewhere it is only said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guards {
    /// A segment may become so many times as large as it was in the middle of its last runs,
    pub growth_times: u64,
    /// or grow by so many.
    pub growth_above: u64,
    /// Of the messages tried in a day.
    pub bounced: Share,
    /// Of those who got one.
    pub complained: Share,
    /// Of those who got one.
    pub unsubscribed: Share,
    /// Of those tried, or that could not be made.
    pub failed: Share,
    /// Of those tried: a default stood in for a value that the person's data lack.
    pub fallback: Share,
    /// Of those tried.
    pub in_doubt: Share,
    /// So many people may enter at the first run of a version without a second person's word.
    pub first_run: u64,
    /// The first messages of a new version, and how long the others wait for what becomes of them.
    pub canary: Canary,
    /// Messages of the whole project in an hour of the clock, without transactional ones.
    pub per_hour: u64,
    /// Of those in an audience, so many may be removed in one sync, besides who opted out.
    pub removal: Share,
}

/// What a playbook says of its own guards: as the policy has it where it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnGuards {
    /// See [`Guards::bounced`].
    pub bounced: Option<Share>,
    /// See [`Guards::complained`].
    pub complained: Option<Share>,
    /// See [`Guards::unsubscribed`].
    pub unsubscribed: Option<Share>,
    /// See [`Guards::failed`].
    pub failed: Option<Share>,
    /// See [`Guards::fallback`].
    pub fallback: Option<Share>,
    /// See [`Guards::in_doubt`].
    pub in_doubt: Option<Share>,
}

impl OwnGuards {
    /// What holds for the playbook.
    pub fn over(&self, guards: &Guards) -> Guards {
        Guards {
            bounced: self.bounced.unwrap_or(guards.bounced),
            complained: self.complained.unwrap_or(guards.complained),
            unsubscribed: self.unsubscribed.unwrap_or(guards.unsubscribed),
            failed: self.failed.unwrap_or(guards.failed),
            fallback: self.fallback.unwrap_or(guards.fallback),
            in_doubt: self.in_doubt.unwrap_or(guards.in_doubt),
            ..guards.clone()
        }
    }
}

/// The first messages of a version, which show whether something is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// So many of the segment's members,
    pub share: Share,
    /// and no fewer than so many.
    pub min: u64,
    /// How long the others wait.
    pub soak: SignedDuration,
}

impl Canary {
    /// How many messages these are, where a segment has so many members.
    pub fn size(&self, members: u64) -> u64 {
        self.share.of(members).max(self.min)
    }
}

impl Default for Guards {
    /// Below where providers act: Amazon SES reviews an account at 5 % bounces, and pauses it at 10 %.
    fn default() -> Self {
        Self {
            growth_times: 3,
            growth_above: 1_000,
            bounced: Share::percent(3),
            complained: Share::hundredths(8),
            unsubscribed: Share::hundredths(150),
            failed: Share::percent(10),
            fallback: Share::percent(2),
            in_doubt: Share::percent(1),
            first_run: 500,
            canary: Canary { share: Share::percent(1), min: 50, soak: SignedDuration::from_mins(15) },
            per_hour: 10_000,
            removal: Share::percent(20),
        }
    }
}
