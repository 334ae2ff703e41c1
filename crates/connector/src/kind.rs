//! A kind of connector, as a folder under `connectors/` declares it, and a connector, which is a kind with its settings.

use std::fmt;
use std::path::Path;

use model::settings::ConnectorSettings;
use model::{Channel, EmailAddress, Reason};

use crate::audience::{AudienceKind, Audiences};
use crate::exchange::{Exchange, settled};
use crate::feedback::{Hearing, Inbound, NotHeard};
use crate::http::HttpReply;
use crate::item::Item;
use crate::outcome::Outcome;
use crate::record::{RecordKind, Records};
use crate::settings::SettingsMistake;

/// A connector, or all that is wrong with its settings.
pub type Built = Result<Box<dyn Connector>, Vec<SettingsMistake>>;

/// A tag of [`Connector::return_address`] is no longer: a local part holds 64 octets (RFC 5321, section 4.5.3.1.1), a name among them.
pub const TAG_BYTES_MAX: usize = 56;

/// What a folder under `connectors/` exports as `KIND`. Everything else is derived from it: the schema, the reference of
/// settings, the labels of metrics, the conformance test.
#[derive(Clone, Copy)]
pub struct Kind {
    /// The folder's name, `connector:` in a project's files, the label in metrics.
    pub name: &'static str,
    /// The medium of its messages, if it carries any.
    pub messages: Option<Channel>,
    /// What a repeated request would do at the provider.
    pub idempotency: Idempotency,
    /// What it does with audiences, if it has any.
    pub audiences: Option<AudienceKind>,
    /// What it does with records, if it has any.
    pub records: Option<RecordKind>,
    /// One sentence for people who choose a connector.
    pub summary: &'static str,
    /// Settings with every key, as a JSON object: shown to users, and known to be right by a test.
    pub example: &'static str,
    /// The JSON Schema of the settings: an object that refuses unknown keys.
    pub schema: fn() -> serde_json::Value,
    /// Checks settings, all mistakes at once, and makes a connector of them. Nothing is opened or looked up.
    pub build: fn(&ConnectorSettings) -> Built,
}

impl fmt::Debug for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Kind")
            .field("name", &self.name)
            .field("idempotency", &self.idempotency)
            .finish_non_exhaustive()
    }
}

/// What a repeated request would do, and so what may be done when nobody knows whether the first one arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idempotency {
    /// S: the second does what the first did, and no more. May be repeated at any time.
    Natural,
    /// A: the provider knows our key again for a while. May be repeated with the same content.
    Key,
    /// B: the provider can be asked, by our key, what became of it.
    Lookup,
    /// E: the provider tells us later, if it took it. Silence proves nothing.
    Echo,
    /// D: nothing. A person decides, or time closes it; it is never sent again by itself.
    Nothing,
}

impl Idempotency {
    /// The letter of its class.
    pub fn letter(self) -> char {
        match self {
            Self::Natural => 'S',
            Self::Key => 'A',
            Self::Lookup => 'B',
            Self::Echo => 'E',
            Self::Nothing => 'D',
        }
    }

    /// What becomes of a delivery that got no answer, for people.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Natural => "sent again, which does no harm",
            Self::Key => "sent again under the same key, for a day",
            Self::Lookup => "the provider is asked what it has",
            Self::Echo => "the provider may tell later; otherwise a person says, or a day passes",
            Self::Nothing => "a person says, or three days pass",
        }
    }

    /// Whether a lost answer may be followed by the same request again, without asking anybody.
    pub fn may_repeat(self) -> bool {
        matches!(self, Self::Natural | Self::Key)
    }
}

/// A kind with its settings: what a destination speaks through. Its `Debug` shows no secret.
pub trait Connector: Send + Sync + fmt::Debug {
    /// The conversation that hands over one message. The same item gives the same conversation, every time. Only a kind that says
    /// that it carries messages does.
    fn exchange(&self, _item: &Item) -> Box<dyn Exchange> {
        let detail = "this connector carries no messages".to_owned();
        settled(Outcome::Halt { reason: Reason::FailInternal, detail })
    }
    /// What it does with audiences; a kind that says it has them does.
    fn audiences(&self) -> Option<&dyn Audiences> {
        None
    }
    /// What it does with records; a kind that says it has them does.
    fn records(&self) -> Option<&dyn Records> {
        None
    }
    /// Where it goes, so that the driver can hold it back where `deliver` does not allow it.
    fn reach(&self) -> Reach;
    /// How many conversations may go on at the same time; at least one.
    fn connections(&self) -> usize;
    /// Whether it may go to addresses that are not public: a server of one's own, and said so in the settings.
    fn is_private(&self) -> bool {
        false
    }
    /// The conversation that asks what became of a delivery, by its echo, of which no answer came; only class B has one. It ends `Accepted` if the
    /// provider has it, `Rejected` if it shows that it has not, and with anything else if it cannot say now. It changes nothing there, and arms
    /// nothing.
    fn look_up(&self, _echo: &str) -> Option<Box<dyn Exchange>> {
        None
    }
    /// Where mail about a message comes back to: its bounces (the return path), and opt-outs by mail. `tag` says of which message: at most
    /// [`TAG_BYTES_MAX`] letters, digits and `-`. `None`: nobody reads it there, and the sender's own address is the return path.
    fn return_address(&self, _tag: &str) -> Option<EmailAddress> {
        None
    }
    /// A folder (maildir), relative to the project, in which such mail arrives. Each is heard as [`Connector::hear`] hears a request.
    fn mailbox(&self) -> Option<&Path> {
        None
    }
    /// What a provider tells by a request to us: each thing once, of messages of ours. `answers` are those to what it wanted to ask first, in
    /// order.
    ///
    /// # Errors
    /// [`NotHeard`]: nothing is believed.
    fn hear(&self, _inbound: &Inbound, _answers: &[HttpReply]) -> Result<Hearing, NotHeard> {
        Err(NotHeard::NotSetUp)
    }
}

/// Where a connector's calls go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Files on this machine.
    Local,
    /// A host on the network.
    Network {
        /// Its name or address.
        host: String,
        /// Its port.
        port: u16,
    },
}
