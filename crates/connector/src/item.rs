//! One message, as a connector gets it.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use model::mail::Content;
use model::{DeliveryId, EmailAddress, PlaybookName, ProfileNumber, StepId, TemplateName};

use crate::feedback::echo;

/// One message to one person, ready to go. `Debug` shows neither addresses nor what the message says.
#[derive(Clone, PartialEq, Eq)]
pub struct Item {
    /// The delivery: the provider's idempotency key where it takes one.
    pub delivery: DeliveryId,
    /// The how-manieth attempt this is, from 1. A repeat of what may have arrived must have a higher number.
    pub attempt: u32,
    /// To whom, by number.
    pub profile: ProfileNumber,
    /// Of which playbook.
    pub playbook: PlaybookName,
    /// At which of its steps.
    pub step: StepId,
    /// What it was made of.
    pub template: TemplateName,
    /// When this attempt is made: what signs its time takes it from here.
    pub at: Timestamp,
    /// What it says, in its parts, for providers that compose the mail themselves.
    pub content: Content,
    /// The return path, where bounces go.
    pub mail_from: EmailAddress,
    /// The one recipient.
    pub rcpt_to: EmailAddress,
    /// The whole message (RFC 5322), with CRLF as the only line break, without dot-stuffing.
    pub bytes: Arc<[u8]>,
}

impl Item {
    /// What comes back with whatever the provider tells of it.
    pub fn echo(&self) -> String {
        echo(self.profile, &self.delivery)
    }
}

impl fmt::Debug for Item {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Item")
            .field("delivery", &self.delivery)
            .field("attempt", &self.attempt)
            .field("profile", &self.profile)
            .field("playbook", &self.playbook)
            .field("step", &self.step)
            .field("template", &self.template)
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}
