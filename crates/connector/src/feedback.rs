//! What providers tell later: that a message arrived, bounced, was complained about. It is told over HTTP to our public listener, or as mail in
//! a mailbox; a connector
//! says whether it is really the provider who speaks, and what it says. Data in, data out.

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use model::{DeliveryId, ProfileNumber};

use crate::http::HttpRequest;

/// What came in. `Debug` shows sizes: bodies name people.
#[derive(Clone, PartialEq, Eq)]
pub struct Inbound {
    /// Headers, their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body, byte for byte: signatures are over these.
    pub body: Vec<u8>,
    /// When it came.
    pub at: Timestamp,
}

impl fmt::Debug for Inbound {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Inbound({} bytes)", self.body.len())
    }
}

/// A signature of another time is none: so far clocks may differ, and so long what was heard could be said again.
const TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

impl Inbound {
    /// A header, by its name in lower case; empty: there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Whether a time in seconds since 1970, as a provider writes it, is about now.
    pub fn is_about_now(&self, seconds: &str) -> bool {
        let said = seconds.trim().parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
        said.is_some_and(|said| self.at.duration_since(said).abs() <= TOLERANCE)
    }
}

/// What happened to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToldKind {
    /// The provider took it.
    Accepted,
    /// It arrived.
    Delivered,
    /// The address does not exist.
    BouncedForGood,
    /// It came back; the address may be good.
    Bounced,
    /// It was reported as spam.
    Complained,
    /// The person opted out, at the provider.
    Unsubscribed,
    /// It was opened, as far as anybody can know.
    Opened,
    /// A link in it was followed.
    Clicked,
}

/// One thing that is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// About which message: what [`echo`] made.
    pub about: (ProfileNumber, DeliveryId),
    /// What shows that the message was ours, where nothing else does: mail comes from anybody. Who made the message knows it again.
    pub proof: Option<String>,
    /// What.
    pub kind: ToldKind,
    /// When it happened.
    pub at: Timestamp,
    /// The provider's id of it: told twice, it is one thing.
    pub event: String,
}

/// What is made of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hearing {
    /// It is the provider who speaks, and this is what it tells.
    Told(Vec<Told>),
    /// Something is to be asked first: a certificate, or that what comes is wanted. The request changes nothing of ours, and is heard again with
    /// the answer.
    Ask {
        /// What.
        request: HttpRequest,
        /// Whether the answer holds for others, too.
        holds: bool,
    },
}

impl Hearing {
    /// Nothing that counts.
    pub fn nothing() -> Self {
        Self::Told(Vec::new())
    }
}

/// Why nothing was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotHeard {
    /// The destination has nothing by which to know its provider.
    NotSetUp,
    /// It is not the provider who speaks, or not now.
    Forged,
    /// It is, and what it says cannot be read.
    Garbled,
    /// What is to be asked first got no answer: it may be told again.
    NotNow,
}

/// What goes with a message to the provider, and comes back with what it tells: whose it is and which. It leads to nobody outside.
pub fn echo(profile: ProfileNumber, delivery: &DeliveryId) -> String {
    format!("{}-{delivery}", profile.0)
}

/// What [`echo`] made, read back.
pub fn read_echo(text: &str) -> Option<(ProfileNumber, DeliveryId)> {
    let (profile, delivery) = text.split_once('-')?;
    let fits = delivery.len() == 32
        && delivery.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    Some((ProfileNumber(profile.parse().ok()?), fits.then(|| DeliveryId::known(delivery))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_comes_back_as_it_went_and_nothing_else_does() {
        let delivery = DeliveryId::known("mvzgc43vom2tqmrtha3dkmjsgq2tmnzy");
        let text = echo(ProfileNumber(7), &delivery);
        assert_eq!(read_echo(&text), Some((ProfileNumber(7), delivery)));
        for other in [
            "",
            "7",
            "7-",
            "-mvzgc43vom2tqmrtha3dkmjsgq2tmnzy",
            "x-mvzgc43vom2tqmrtha3dkmjsgq2tmnzy",
            "7-short",
            "7-MVZGC43VOM2TQMRTHA3DKMJSGQ2TMNZY",
        ] {
            assert_eq!(read_echo(other), None, "{other}");
        }
    }

    #[test]
    fn a_signature_of_another_time_is_none() {
        let inbound = Inbound {
            headers: BTreeMap::new(),
            body: vec![],
            at: Timestamp::from_second(1_000_000).unwrap(),
        };
        for (seconds, fits) in [
            ("1000000", true),
            ("999700", true),
            ("1000300", true),
            ("999699", false),
            ("1000301", false),
            ("", false),
            ("x", false),
            ("99999999999999", false),
        ] {
            assert_eq!(inbound.is_about_now(seconds), fits, "{seconds}");
        }
    }
}
