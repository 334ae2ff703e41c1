//! The conversation: calls, replies, and the step between them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use model::{EmailAddress, Reason, Secret};

use crate::http::{HttpReply, HttpRequest};
use crate::outcome::{Outcome, Schedule};
use crate::said::Said;

/// One conversation, which ends with a `D`. `next(None)` begins it; each later call is told the reply to the call before. After `Done` it
/// is over.
pub trait Exchange<D = Outcome>: Send {
    /// The next step.
    fn next(&mut self, reply: Option<Reply>) -> Step<D>;
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one is made a step, and a call is what most of them are")]
pub enum Step<D = Outcome> {
    /// Ask the provider.
    Call(Call),
    /// It is over.
    Done(D),
}

/// One request to the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What this call hands over may be irrevocable, so the driver takes the last look before it hands it over. At most
    /// one call of a conversation arms.
    pub arms: bool,
    /// What is asked.
    pub request: Request,
}

/// What is asked of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// One mail transaction with one recipient (RFC 5321).
    Smtp(SmtpRequest),
    /// Files to write.
    File(FileRequest),
    /// An HTTP request.
    Http(HttpRequest),
}

/// One mail transaction. `Debug` shows no address and no body.
#[derive(Clone, PartialEq, Eq)]
pub struct SmtpRequest {
    /// With whom.
    pub server: SmtpServer,
    /// The return path.
    pub mail_from: EmailAddress,
    /// The recipient.
    pub rcpt_to: EmailAddress,
    /// The message, with CRLF as the only line break, without dot-stuffing.
    pub body: Arc<[u8]>,
}

impl fmt::Debug for SmtpRequest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("SmtpRequest")
            .field("server", &self.server)
            .field("body", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// A mail server, and how to speak with it. Connections to equal servers are interchangeable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmtpServer {
    /// Its name or address; with TLS, also the name its certificate must carry.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether and how the connection is encrypted.
    pub tls: Tls,
    /// Name and password. They are sent as the connection allows, so only over TLS or within this machine.
    pub credentials: Option<(String, Secret)>,
    /// What EHLO says; `None`: the name of this machine.
    pub hello: Option<String>,
    /// A PEM file with certificates to trust besides the system's, relative to the project.
    pub ca: Option<PathBuf>,
    /// A connection is closed after so many messages.
    pub messages_per_connection: u32,
}

/// Whether and how a connection is encrypted. There is no "if possible": that is what an attacker would choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// In the clear.
    None,
    /// In the clear up to STARTTLS, which must be offered (RFC 3207).
    Starttls,
    /// From the first byte (RFC 8314).
    Implicit,
}

/// Files to write, in this order, in one folder. `Debug` shows names and sizes only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRequest {
    /// Where, relative to the project. It is made if it is not there.
    pub folder: PathBuf,
    /// What.
    pub puts: Vec<FilePut>,
}

/// One file to write. `name` is a plain file name.
#[derive(Clone, PartialEq, Eq)]
pub enum FilePut {
    /// A whole file; one of that name is replaced at once, never half.
    Whole {
        /// Its name.
        name: String,
        /// What is in it.
        bytes: Arc<[u8]>,
    },
    /// A line at the end of a file.
    Line {
        /// The file's name.
        name: String,
        /// The line, without its end.
        line: String,
        /// How the line begins, if one that begins so may stand there from an attempt before; then it is left alone.
        unless_begins: Option<String>,
    },
}

impl fmt::Debug for FilePut {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole { name, bytes } => write!(out, "Whole({name}, {} bytes)", bytes.len()),
            Self::Line { name, line, .. } => write!(out, "Line({name}, {} bytes)", line.len()),
        }
    }
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A mail server's reply that ended the transaction: the first refusal, or what it said after the body.
    Smtp {
        /// To what.
        at: SmtpPhase,
        /// Its code, such as 250.
        code: u16,
        /// Its enhanced status (RFC 3463), such as 5.1.1.
        enhanced: Option<(u8, u16, u16)>,
        /// Its text, with the enhanced status.
        text: Said,
    },
    /// What an HTTP server answered.
    Http(HttpReply),
    /// All files are written.
    Wrote,
    /// The last look said no: nothing was handed over.
    NotArmed,
    /// There was no reply.
    Failed {
        /// Whether the provider may have got all of it.
        handed_over: bool,
        /// What failed.
        kind: Failure,
        /// In words.
        text: Said,
    },
}

impl Reply {
    /// A mail server's reply, its enhanced status read from the beginning of its text.
    ///
    /// ```
    /// use connector::{Reply, Said, SmtpPhase};
    /// let reply = Reply::smtp(SmtpPhase::Rcpt, 550, Said::of("5.1.1 unknown"));
    /// assert!(matches!(reply, Reply::Smtp { enhanced: Some((5, 1, 1)), .. }));
    /// ```
    pub fn smtp(at: SmtpPhase, code: u16, text: Said) -> Self {
        let enhanced = enhanced_of(text.as_str());
        Self::Smtp { at, code, enhanced, text }
    }
}

/// `class.subject.detail` at the beginning of a text (RFC 2034): class 2, 4 or 5, the others of one to three digits.
fn enhanced_of(text: &str) -> Option<(u8, u16, u16)> {
    let word = text.split_whitespace().next()?;
    let mut parts = word.split('.');
    let (class, subject, detail) = (parts.next()?, parts.next()?, parts.next()?);
    let number = |part: &str| {
        let plain = (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| part.parse().ok()).flatten()
    };
    let class = match class {
        "2" => 2,
        "4" => 4,
        "5" => 5,
        _ => return None,
    };
    if parts.next().is_some() { None } else { Some((class, number(subject)?, number(detail)?)) }
}

/// What a mail server was replying to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpPhase {
    /// Nothing yet: its greeting, or its answer to EHLO.
    Connect,
    /// STARTTLS.
    Tls,
    /// AUTH.
    Auth,
    /// MAIL FROM.
    Mail,
    /// RCPT TO.
    Rcpt,
    /// DATA.
    Data,
    /// The message.
    Body,
}

impl SmtpPhase {
    /// All of them, with the word that golden conversations and details use.
    pub const ALL: &[(&str, Self)] = &[
        ("connect", Self::Connect),
        ("tls", Self::Tls),
        ("auth", Self::Auth),
        ("mail", Self::Mail),
        ("rcpt", Self::Rcpt),
        ("data", Self::Data),
        ("body", Self::Body),
    ];

    /// What it was in reply to, for people.
    pub fn command(self) -> &'static str {
        match self {
            Self::Connect => "the connection",
            Self::Tls => "STARTTLS",
            Self::Auth => "AUTH",
            Self::Mail => "MAIL FROM",
            Self::Rcpt => "RCPT TO",
            Self::Data => "DATA",
            Self::Body => "the message",
        }
    }
}

/// Why there was no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The connection, or the right to write, was refused.
    Refused,
    /// Too slow.
    Timeout,
    /// The other side hung up.
    Closed,
    /// The host's name leads nowhere.
    Unresolved,
    /// Anything else of input and output, and answers that are not in the provider's language.
    Io,
    /// TLS as required cannot be had: not offered, or the certificate is not to be trusted.
    Tls,
    /// The server has no way to log in that we know.
    NoAuth,
    /// The server cannot take what is outside ASCII in this message or its addresses.
    NotInternational,
    /// The right to hand over ran out before it was used.
    ArmExpired,
}

impl Failure {
    /// All of them, with the word that golden conversations use.
    pub const ALL: &[(&str, Self)] = &[
        ("refused", Self::Refused),
        ("timeout", Self::Timeout),
        ("closed", Self::Closed),
        ("unresolved", Self::Unresolved),
        ("io", Self::Io),
        ("tls", Self::Tls),
        ("no_auth", Self::NoAuth),
        ("not_international", Self::NotInternational),
        ("arm_expired", Self::ArmExpired),
    ];
}

impl Failure {
    /// What it means when nothing was handed over.
    pub fn before_hand_over(self, text: &Said) -> Outcome {
        let detail = text.to_string();
        let later = |reason, detail| Outcome::Retry {
            reason,
            after: None,
            schedule: Schedule::Connect,
            slower: false,
            detail,
        };
        match self {
            Self::Refused | Self::Closed | Self::Unresolved | Self::Io => later(Reason::FailConnect, detail),
            Self::Timeout | Self::ArmExpired => later(Reason::FailTimeout, detail),
            Self::Tls | Self::NoAuth => Outcome::Halt { reason: Reason::FailAuth, detail },
            Self::NotInternational => {
                Outcome::Rejected { reason: Reason::FailRemote4xx, bounce: None, detail }
            }
        }
    }
}

/// A conversation of one call, which arms.
pub fn once<D: From<Outcome> + 'static>(
    request: Request,
    outcome: impl FnOnce(Reply) -> D + Send + 'static,
) -> Box<dyn Exchange<D>> {
    Box::new(Once { arms: true, request: Some(request), outcome: Some(Box::new(outcome)) })
}

/// A conversation of one call that changes nothing and arms nothing.
pub fn ask<D: From<Outcome> + 'static>(
    request: Request,
    outcome: impl FnOnce(Reply) -> D + Send + 'static,
) -> Box<dyn Exchange<D>> {
    Box::new(Once { arms: false, request: Some(request), outcome: Some(Box::new(outcome)) })
}

/// A conversation that asks first, for a token or for what is there, and goes on as follows from the answer. Asking arms nothing.
pub fn ask_first<D: From<Outcome> + 'static>(
    request: Request,
    then: impl FnOnce(Reply) -> Box<dyn Exchange<D>> + Send + 'static,
) -> Box<dyn Exchange<D>> {
    Box::new(AskFirst { request: Some(request), then: Some(Box::new(then)), rest: None })
}

/// The same conversation, whose end is made into something else.
pub(crate) fn mapped<D: 'static, E: 'static>(
    exchange: Box<dyn Exchange<D>>,
    make: impl Fn(D) -> E + Send + 'static,
) -> Box<dyn Exchange<E>> {
    Box::new(Mapped(exchange, make))
}

struct Mapped<D, F>(Box<dyn Exchange<D>>, F);

impl<D, E, F: Fn(D) -> E + Send> Exchange<E> for Mapped<D, F> {
    fn next(&mut self, reply: Option<Reply>) -> Step<E> {
        match self.0.next(reply) {
            Step::Call(call) => Step::Call(call),
            Step::Done(end) => Step::Done((self.1)(end)),
        }
    }
}

/// A conversation that is over before it began.
pub fn settled<D: Clone + Send + 'static>(done: D) -> Box<dyn Exchange<D>> {
    Box::new(Settled(done))
}

struct Settled<D>(D);

impl<D: Clone + Send> Exchange<D> for Settled<D> {
    fn next(&mut self, _reply: Option<Reply>) -> Step<D> {
        Step::Done(self.0.clone())
    }
}

/// What follows from an answer.
type Then<D> = Box<dyn FnOnce(Reply) -> Box<dyn Exchange<D>> + Send>;

struct AskFirst<D> {
    request: Option<Request>,
    then: Option<Then<D>>,
    rest: Option<Box<dyn Exchange<D>>>,
}

impl<D: From<Outcome>> Exchange<D> for AskFirst<D> {
    fn next(&mut self, reply: Option<Reply>) -> Step<D> {
        if let Some(rest) = &mut self.rest {
            return rest.next(reply);
        }
        if let Some(request) = self.request.take() {
            return Step::Call(Call { arms: false, request });
        }
        match (self.then.take(), reply) {
            // A question that was lost is no more than one that was not asked.
            (Some(then), Some(Reply::Failed { kind, text, .. })) => {
                self.rest.insert(then(Reply::Failed { handed_over: false, kind, text })).next(None)
            }
            (Some(then), Some(reply)) => self.rest.insert(then(reply)).next(None),
            (_, _) => {
                Step::Done(Failure::Io.before_hand_over(&Said::of("the conversation was broken off")).into())
            }
        }
    }
}

/// What a reply comes to.
type Judge<D> = Box<dyn FnOnce(Reply) -> D + Send>;

struct Once<D> {
    arms: bool,
    request: Option<Request>,
    outcome: Option<Judge<D>>,
}

impl<D: From<Outcome>> Exchange<D> for Once<D> {
    fn next(&mut self, reply: Option<Reply>) -> Step<D> {
        if let Some(request) = self.request.take() {
            return Step::Call(Call { arms: self.arms, request });
        }
        match (self.outcome.take(), reply) {
            (Some(outcome), Some(reply)) => Step::Done(outcome(reply)),
            // A driver that does not say what became of an armed call has lost the answer.
            (_, _) => {
                Step::Done(Outcome::InDoubt { detail: "the conversation was broken off".to_owned() }.into())
            }
        }
    }
}
