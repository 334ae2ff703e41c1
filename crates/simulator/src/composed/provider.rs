//! A provider in memory that misbehaves as the seed says, and remembers everything.
//!
//! What it does hangs on the delivery and the attempt alone, so that a run after a crash meets the same provider.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use connector::{Bounce, Item, Outcome, Schedule};
use daemon::made::MadeProvider;
use jiff::Timestamp;
use message::Rendered;
use model::{DeliveryId, PlaybookName, ProfileNumber, Reason, StepId};

use crate::dice::Dice;
use crate::script::Options;

/// Something that was handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handed {
    /// When.
    pub at: Timestamp,
    /// Which row.
    pub delivery: DeliveryId,
    /// To whom.
    pub profile: ProfileNumber,
    /// Of which playbook.
    pub playbook: PlaybookName,
    /// At which step.
    pub step: StepId,
    /// To which address.
    pub address: String,
    /// Whether the provider has it now.
    pub kept: bool,
}

/// At which of the two moments of a message somebody listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It is rendered, and about to be armed.
    Envelope,
    /// It is armed, and has been handed over.
    Taken,
}

/// Told of each message at both moments; what it returns is the provider's answer.
pub type Listener = Box<dyn FnMut(Moment, &Item) -> Option<Outcome> + Send>;

#[derive(Default)]
struct Inner {
    listener: Option<Listener>,
    now: Timestamp,
    handed: Vec<Handed>,
    bounced: Vec<String>,
    /// The process has died: nobody hears any more, and nothing is handed over.
    dead: bool,
    healed: bool,
}

/// See the module.
pub(super) struct Provider {
    dice: Dice,
    options: Options,
    inner: Mutex<Inner>,
}

impl Provider {
    /// The provider of a seed.
    pub(super) fn of(dice: Dice, options: Options) -> Self {
        Self { dice: dice.of("provider"), options, inner: Mutex::default() }
    }

    /// The time of the passes to come.
    pub(super) fn is_now(&self, now: Timestamp) {
        self.lock().now = now;
    }

    /// The process dies, or lives again.
    pub(super) fn process_is(&self, alive: bool) {
        self.lock().dead = !alive;
    }

    /// From now on it takes everything and answers.
    pub(super) fn heal(&self) {
        self.lock().healed = true;
    }

    /// What was handed over, and which addresses were said not to exist, since this was last asked.
    pub(super) fn news(&self) -> (Vec<Handed>, Vec<String>) {
        let mut inner = self.lock();
        (std::mem::take(&mut inner.handed), std::mem::take(&mut inner.bounced))
    }

    /// From now on somebody listens.
    pub(super) fn listen(&self, listener: Listener) {
        self.lock().listener = Some(listener);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn does(&self, what: &str, item: &Item, percent: u64) -> bool {
        let attempt = item.attempt.to_string();
        self.dice.of(what).of(item.delivery.as_str()).of(&attempt).chance(percent)
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Provider").finish_non_exhaustive()
    }
}

impl Inner {
    fn hears(&mut self, moment: Moment, item: &Item) -> Option<Outcome> {
        self.listener.as_mut().and_then(|listener| listener(moment, item))
    }
}

impl MadeProvider for Provider {
    fn envelope(&self, item: &Item) -> Option<Outcome> {
        let mut inner = self.lock();
        if inner.dead {
            return Some(Outcome::NotArmed);
        }
        if let Some(answer) = inner.hears(Moment::Envelope, item) {
            return Some(answer);
        }
        if inner.healed {
            return None;
        }
        let address = item.rcpt_to.as_string();
        if self.dice.of("bounces").of(&address).chance(self.options.bounces) {
            inner.bounced.push(address);
            return Some(Outcome::Rejected {
                reason: Reason::FailSmtpRecipient,
                bounce: Some(Bounce::Hard),
                detail: "550 5.1.1 no such user".to_owned(),
            });
        }
        self.does("not now", item, self.options.retries).then(|| Outcome::Retry {
            reason: Reason::FailSmtp4xx,
            after: None,
            schedule: Schedule::Smtp4xx,
            slower: false,
            detail: "451 4.7.1 later".to_owned(),
        })
    }

    fn take(&self, item: &Item, _rendered: &Rendered) -> Outcome {
        let mut inner = self.lock();
        if inner.dead {
            return Outcome::NotArmed;
        }
        let (kept, outcome) = if inner.healed {
            (true, Outcome::Accepted { receipt: format!("250 {}", item.attempt) })
        } else if self.does("refuses", item, self.options.refusals) {
            let detail = "554 5.7.1 we do not like it".to_owned();
            (false, Outcome::Rejected { reason: Reason::FailSmtpPolicy, bounce: None, detail })
        } else if self.does("hangs up", item, self.options.hang_ups) {
            let (after, schedule) = (None, Schedule::Connect);
            (
                false,
                Outcome::Retry {
                    reason: Reason::FailConnect,
                    after,
                    schedule,
                    slower: false,
                    detail: "421 closing".to_owned(),
                },
            )
        } else if self.does("never answers", item, self.options.doubts) {
            (self.does("has it", item, 50), Outcome::InDoubt { detail: "no answer".to_owned() })
        } else {
            (true, Outcome::Accepted { receipt: format!("250 {}", item.attempt) })
        };
        let at = inner.now;
        inner.handed.push(Handed {
            at,
            delivery: item.delivery.clone(),
            profile: item.profile,
            playbook: item.playbook.clone(),
            step: item.step.clone(),
            address: item.rcpt_to.as_string(),
            kept,
        });
        inner.hears(Moment::Taken, item).unwrap_or(outcome)
    }
}
