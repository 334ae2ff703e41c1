//! Allowances: how many messages may go now, where that is limited for all people together. A playbook's hour and the project's, counted
//! where a message is armed; and the canary: the first messages of a version, upon which the others wait, counted where they are taken in
//! hand, so that those count, too, which a provider refuses before they are armed.
//!
//! An hour is one of the clock.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use model::delivery::Delivery;
use model::{MessageClass, PlaybookName, Reason, Refusal};

/// How many went in an hour, and how many may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hourly {
    /// Armed so far.
    pub used: u64,
    /// No more than these.
    pub most: u64,
}

/// The first messages of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Canary {
    /// Taken so far. Not counted any more once it is full.
    pub sent: u64,
    /// How many they are.
    pub size: u64,
    /// When the last of them was taken.
    pub full_at: Option<Timestamp>,
    /// How long the others wait from then on.
    pub soak: SignedDuration,
}

impl Canary {
    /// Takes up to so many: before it is full, what is left of it; until the others need not wait any more, none; then all.
    pub fn take(&mut self, want: u64, now: Timestamp) -> u64 {
        if self.is_over(now) {
            return want;
        }
        let granted = want.min(self.size.saturating_sub(self.sent));
        self.sent += granted;
        if self.full_at.is_none() && self.sent >= self.size {
            self.full_at = Some(now);
        }
        granted
    }

    /// Whether the others need not wait any more.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.full_at.is_some_and(|_| self.until() <= now)
    }

    /// Why the others wait; `None`: they need not, or not yet.
    pub fn waits(&self, now: Timestamp) -> Option<Refusal> {
        if self.full_at.is_none() || self.is_over(now) {
            return None;
        }
        let saw = format!(
            "the first {} messages of this version are out, the others wait until {} for what becomes of them",
            self.sent,
            self.until()
        );
        Some(Refusal { reason: Reason::CanaryWait, saw })
    }

    fn until(&self) -> Timestamp {
        self.full_at.and_then(|at| at.checked_add(self.soak).ok()).unwrap_or(Timestamp::MAX)
    }
}

/// Whose allowance is used up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    /// The project's: everything but transactional messages waits.
    Project,
    /// A playbook's.
    Playbook(PlaybookName),
    /// A version's of a playbook.
    Version(PlaybookName, String),
}

/// What may still go of an hour.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Of the project.
    pub project: Option<Hourly>,
    /// Of playbooks that have a limit.
    pub playbooks: BTreeMap<PlaybookName, Hourly>,
}

impl Allowance {
    /// Takes one for a delivery, if there is one in everything that limits it.
    pub fn take(&mut self, delivery: &Delivery, now: Timestamp) -> Result<(), Refusal> {
        let is_counted = delivery.traits.class != MessageClass::Transactional;
        let mut project = self.project.as_mut().filter(|_| is_counted);
        let mut playbook = self.playbooks.get_mut(&delivery.traits.playbook);
        if let Some(hourly) = project.as_ref().filter(|hourly| hourly.used >= hourly.most) {
            return Err(spent(&Whose::Project, hourly, now));
        }
        if let Some(hourly) = playbook.as_ref().filter(|hourly| hourly.used >= hourly.most) {
            return Err(spent(&Whose::Playbook(delivery.traits.playbook.clone()), hourly, now));
        }
        for hourly in [&mut project, &mut playbook].into_iter().flatten() {
            hourly.used += 1;
        }
        Ok(())
    }

    /// What is used up now, and why.
    pub fn used_up(&self, now: Timestamp) -> BTreeMap<Whose, Refusal> {
        let project = self.project.iter().map(|hourly| (Whose::Project, hourly));
        let playbooks = self.playbooks.iter().map(|(name, hourly)| (Whose::Playbook(name.clone()), hourly));
        project
            .chain(playbooks)
            .filter(|(_, hourly)| hourly.used >= hourly.most)
            .map(|(whose, hourly)| {
                let refusal = spent(&whose, hourly, now);
                (whose, refusal)
            })
            .collect()
    }
}

impl std::fmt::Display for Whose {
    /// As people name it.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Project => out.write_str("the project"),
            Self::Playbook(name) | Self::Version(name, _) => write!(out, "playbook `{name}`"),
        }
    }
}

/// The hour of the clock that a time lies in.
pub fn hour_of(at: Timestamp) -> Timestamp {
    let second = at.as_second();
    Timestamp::from_second(second - second.rem_euclid(3_600)).unwrap_or(at)
}

fn next_hour(now: Timestamp) -> Timestamp {
    hour_of(now).checked_add(SignedDuration::from_hours(1)).unwrap_or(now)
}

fn spent(whose: &Whose, hourly: &Hourly, now: Timestamp) -> Refusal {
    let (reason, whose, limit) = match whose {
        Whose::Project => (Reason::HourlyBudget, "project", "the guard `per_hour`"),
        Whose::Playbook(_) | Whose::Version(..) => (Reason::PlaybookHour, "playbook", "`limits.per_hour`"),
    };
    let (used, most, next) = (hourly.used, hourly.most, next_hour(now));
    let saw =
        format!("{used} messages of the {whose} this hour, {limit} is {most}; the next go from {next} on");
    Refusal { reason, saw }
}
