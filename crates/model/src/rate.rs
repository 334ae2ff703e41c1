//! Rates: what has one, and which of them a message waits for. How turns are taken is the matter of `state::rate`.

use std::fmt;

use crate::name::{DestinationName, RecipientsName};
use crate::reason::Reason;

/// Before the name of a group of recipients.
const RECIPIENTS: &str = "recipients.";

/// What has a rate, as it is written: `destination.mail`, `domain.acme.test`, `recipients.mail.google`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RateKey(String);

impl RateKey {
    /// A destination.
    pub fn destination(destination: &DestinationName) -> Self {
        Self(format!("destination.{destination}"))
    }

    /// A sending domain, over all destinations.
    pub fn domain(domain: &str) -> Self {
        Self(format!("domain.{domain}"))
    }

    /// A group of recipients at a destination.
    pub fn recipients(destination: &DestinationName, group: &RecipientsName) -> Self {
        Self(format!("{RECIPIENTS}{destination}.{group}"))
    }

    /// One that was written before.
    pub fn known(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is of a group of recipients.
    pub fn is_of_recipients(&self) -> bool {
        self.0.starts_with(RECIPIENTS)
    }

    /// Why a message waits for it.
    pub fn reason(&self) -> Reason {
        if self.is_of_recipients() { Reason::ProviderGroup } else { Reason::LocalBucket }
    }
}

impl fmt::Display for RateKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// The rates that a message must have a turn of, all together, besides that of its destination. Messages of a lane wait behind each other,
/// and for nobody else.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(Vec<RateKey>);

impl Lane {
    /// The lane of these rates.
    pub fn of(keys: impl IntoIterator<Item = RateKey>) -> Self {
        Self(keys.into_iter().collect())
    }

    /// From its text.
    pub fn known(text: &str) -> Self {
        Self::of(text.split_whitespace().map(RateKey::known))
    }

    /// Its rates.
    pub fn keys(&self) -> &[RateKey] {
        &self.0
    }

    /// Whether nothing holds its messages up.
    pub fn is_free(&self) -> bool {
        self.0.is_empty()
    }
}

/// Keys with blanks between them.
impl fmt::Display for Lane {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, key) in self.0.iter().enumerate() {
            out.write_str(if place == 0 { "" } else { " " })?;
            key.fmt(out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_reads_back() {
        let (mail, group) = (DestinationName::known("mail"), RecipientsName::known("google"));
        let lane = Lane::of([RateKey::domain("acme.test"), RateKey::recipients(&mail, &group)]);
        assert_eq!(lane.to_string(), "domain.acme.test recipients.mail.google");
        assert_eq!(Lane::known(&lane.to_string()), lane);
        assert_eq!(
            lane.keys().iter().map(RateKey::reason).collect::<Vec<_>>(),
            [Reason::LocalBucket, Reason::ProviderGroup]
        );
        assert!(Lane::known("").is_free() && Lane::default().to_string().is_empty());
    }
}
