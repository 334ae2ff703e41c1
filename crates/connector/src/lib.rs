//! What a connector is: code that knows one provider's language, and nothing else.
//!
//! A connector is a conversation written as data in and data out. It opens no socket and no file, reads no clock and draws
//! nothing: it says which [`Call`] comes next, is told the [`Reply`], and ends with one [`Outcome`]. Sockets, TLS, timeouts
//! and the moment of arming belong to the daemon's driver, once for all connectors. So every sequence of replies can be
//! played through every connector ([`conformance`]), and whole conversations are kept as text ([`golden`]).

mod audience;
pub mod conformance;
mod exchange;
pub mod feedback;
pub mod golden;
pub mod http;
mod item;
mod kind;
mod outcome;
mod record;
mod said;
mod settings;

pub use audience::{AudienceKind, Audiences, Change, Changed, Identifier, Member, Opened, Verb};
pub use exchange::{
    Call, Exchange, Failure, FilePut, FileRequest, Reply, Request, SmtpPhase, SmtpRequest, SmtpServer, Step,
    Tls, ask, ask_first, once, settled,
};
pub use http::{HttpReply, HttpRequest, Method};
pub use item::Item;
pub use kind::{Built, Connector, Idempotency, Kind, Reach, TAG_BYTES_MAX};
pub use outcome::{Bounce, Outcome, Schedule};
pub use record::{
    Described, Found, Looked, Object, RecordKind, Records, Row, Write, Written, Wrote, in_order, same_key,
};
pub use said::{SAID_CHARS_MAX, Said};
pub use settings::{SettingsMistake, read_settings, schema_of};
