//! Mail transactions over pooled connections: MAIL, RCPT, DATA, 354, the last look, then body and dot in one go.
//!
//! Where the server takes that (RFC 2920), MAIL, RCPT and DATA leave in one go, too, and those of the message that comes next on the
//! connection right behind the dot of this one: a message is one turn of the network. The next one is armed no earlier for that: its
//! last look comes after its own 354.
//!
//! The conversation is lettre's, connection by connection; the stream under it is ours ([`super::wire`]), so that after a
//! failure we know whether the message was handed over. lettre's own pool is deliberately absent: it sends whole messages
//! and leaves no place for a last look.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use connector::{Failure, Reply, Said, SmtpPhase, SmtpRequest, SmtpServer, Tls};
use lettre::Address;
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail, Rcpt, Rset, Starttls};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use lettre::transport::smtp::response::Response;
use model::{EmailAddress, Reason, Refusal};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::tls::Trust;
use super::wire::{Line, Progress, Wire};
use super::{Armed, Limits, egress};

/// A polite goodbye may take so long.
const GOODBYE: Duration = Duration::from_secs(2);

/// The connections of one destination.
pub(super) struct Smtp {
    limits: Limits,
    loopback_only: bool,
    project_dir: PathBuf,
    trust: Trust,
    idle: Mutex<Vec<Live>>,
}

/// An open connection between two transactions.
struct Live {
    connection: AsyncSmtpConnection,
    progress: Arc<Progress>,
    server: SmtpServer,
    /// Messages so far.
    messages: u32,
    /// The transaction before ended early and must be taken back first.
    needs_reset: bool,
    /// What was sent behind the last message and is not answered yet: the envelope of the next one. The connection is of no use for
    /// any other.
    ahead: Option<String>,
    /// The server is somewhere else than we think: of no use for another message.
    out_of_step: bool,
    used_at: Instant,
}

/// Why there is no connection.
enum NoLine {
    /// As a reply to the connector.
    Reply(Reply),
    /// It may not be made from here.
    Forbidden(Refusal),
}

impl From<Reply> for NoLine {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

impl Smtp {
    pub(super) fn new(limits: Limits, loopback_only: bool, project_dir: &Path) -> Self {
        let project_dir = project_dir.to_owned();
        Self { limits, loopback_only, project_dir, trust: Trust::default(), idle: Mutex::default() }
    }

    /// One transaction. `ahead` is asked for the one that comes next, if that is known, once this one is armed.
    /// `Err`: the server may not be spoken to from here.
    pub(super) async fn call<A: Into<Armed>>(
        &self,
        request: &SmtpRequest,
        arm: impl AsyncFnOnce() -> A,
        ahead: impl FnOnce() -> Option<SmtpRequest>,
    ) -> Result<Reply, Refusal> {
        let mut idle = self.take_idle(request);
        loop {
            let is_reused = idle.is_some();
            let mut live = match idle.take() {
                Some(live) => live,
                None => match self.connect(&request.server, &request.rcpt_to).await {
                    Ok(live) => live,
                    Err(NoLine::Reply(reply)) => return Ok(reply),
                    Err(NoLine::Forbidden(refusal)) => return Err(refusal),
                },
            };
            return match self.envelope(&mut live, request).await {
                Ok(()) => Ok(self.message(live, request, arm, ahead).await),
                // The server had closed it meanwhile. Once more, over a new one.
                Err(reply) if is_reused && is_stale(&reply) => continue,
                Err(reply) => {
                    live.needs_reset = true;
                    self.give_back(live, &reply).await;
                    Ok(reply)
                }
            };
        }
    }

    /// Says goodbye on all idle connections.
    pub(super) async fn close(&self) {
        let all = std::mem::take(&mut *self.lock());
        for live in all {
            goodbye(live).await;
        }
    }

    /// MAIL, RCPT, DATA, up to 354.
    async fn envelope(&self, live: &mut Live, request: &SmtpRequest) -> Result<(), Reply> {
        let rcpt = &request.rcpt_to;
        if std::mem::take(&mut live.needs_reset) {
            // Whatever it says to that, it is not about this message: the connection is of no use.
            let reset = self.command(live, SmtpPhase::Mail, Rset, rcpt).await;
            reset.map_err(|_refused| {
                failed(false, Failure::Closed, "the server did not take back the transaction before")
            })?;
        }
        let answer = if live.ahead.take().is_some() {
            self.in_one_go(live, None, rcpt).await?
        } else {
            let envelope = Envelope::of(live, request)?;
            if live.progress.pipelining() {
                self.in_one_go(live, Some(envelope.in_one_go()), rcpt).await?
            } else {
                self.command(live, SmtpPhase::Mail, envelope.mail, rcpt).await?;
                self.command(live, SmtpPhase::Rcpt, envelope.rcpt, rcpt).await?;
                self.command(live, SmtpPhase::Data, Data, rcpt).await?
            }
        };
        // Anything but "go ahead" would make the message a line of commands.
        if answer.has_code(354) { Ok(()) } else { Err(reply(SmtpPhase::Data, &answer, rcpt)) }
    }

    /// MAIL, RCPT and DATA as one group (RFC 2920), `None`: it was sent before. Three replies, of which the first refusal counts.
    /// Gives that to DATA.
    async fn in_one_go(
        &self,
        live: &mut Live,
        mut group: Option<String>,
        rcpt: &EmailAddress,
    ) -> Result<Response, Reply> {
        let mut refusal = None;
        for at in [SmtpPhase::Mail, SmtpPhase::Rcpt] {
            let answer = match group.take() {
                Some(group) => self.command(live, at, group, rcpt).await,
                None => self.answer(live, at, rcpt).await,
            };
            match answer {
                Ok(_) => {}
                Err(lost @ Reply::Failed { .. }) => {
                    live.out_of_step = true;
                    return Err(refusal.unwrap_or(lost));
                }
                Err(refused) => refusal = refusal.or(Some(refused)),
            }
        }
        let data = self.answer(live, SmtpPhase::Data, rcpt).await;
        let Some(refusal) = refusal else { return data };
        // A server that would take a message for nobody waits for one: only hanging up ends that.
        live.out_of_step = !matches!(data, Err(Reply::Smtp { .. }));
        Err(refusal)
    }

    async fn command(
        &self,
        live: &mut Live,
        at: SmtpPhase,
        command: impl std::fmt::Display,
        rcpt: &EmailAddress,
    ) -> Result<Response, Reply> {
        // The text of the command is all that is needed of it while waiting.
        let command = command.to_string();
        self.in_time(at, live.connection.command(command), rcpt).await
    }

    /// The reply to a command that was sent before.
    async fn answer(&self, live: &mut Live, at: SmtpPhase, rcpt: &EmailAddress) -> Result<Response, Reply> {
        self.in_time(at, live.connection.read_response(), rcpt).await
    }

    async fn in_time(
        &self,
        at: SmtpPhase,
        answer: impl Future<Output = Result<Response, SmtpError>>,
        rcpt: &EmailAddress,
    ) -> Result<Response, Reply> {
        match timeout(self.limits.command, answer).await {
            Ok(result) => result.map_err(|error| refused(at, &error, false, rcpt)),
            Err(_) => Err(timed_out(at, false)),
        }
    }

    /// The last look, then the message.
    async fn message<A: Into<Armed>>(
        &self,
        mut live: Live,
        request: &SmtpRequest,
        arm: impl AsyncFnOnce() -> A,
        ahead: impl FnOnce() -> Option<SmtpRequest>,
    ) -> Reply {
        model::fault::point("smtp.before_arm");
        let armed_at = match arm().await.into() {
            Armed::At(at) => at,
            // The server waits for a message: without one, only hanging up ends the transaction.
            Armed::No => return Reply::NotArmed,
        };
        if armed_at.elapsed() > self.limits.arm {
            return failed(false, Failure::ArmExpired, "too long between the last look and handing over");
        }
        model::fault::point("send.before_terminator");
        // The final dot brings its own line break.
        let body = request.body.strip_suffix(b"\r\n").unwrap_or(&request.body);
        if live.progress.pipelining() && live.messages + 1 < live.server.messages_per_connection {
            live.ahead = ahead()
                .filter(|next| next.server == live.server)
                .and_then(|next| Envelope::of(&live, &next).ok())
                .map(|envelope| envelope.in_one_go());
            live.progress.send_behind(live.ahead.as_deref().unwrap_or_default());
        }
        live.progress.message_begins();
        let result = timeout(self.limits.body, live.connection.message(body)).await;
        // Dots that were doubled, and what goes behind it, make it longer on the wire, never shorter: this errs towards doubt.
        let handed_over = live.progress.message_ends() >= body.len().max(1) as u64;
        model::fault::point("reply.after_read");
        let reply = match result {
            Ok(Ok(answer)) => reply(SmtpPhase::Body, &answer, &request.rcpt_to),
            Ok(Err(error)) => refused(SmtpPhase::Body, &error, handed_over, &request.rcpt_to),
            Err(_) => timed_out(SmtpPhase::Body, handed_over),
        };
        live.messages += 1;
        self.give_back(live, &reply).await;
        reply
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Live>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection on which this message was begun, or else one on which none was.
    fn take_idle(&self, request: &SmtpRequest) -> Option<Live> {
        let mut idle = self.lock();
        idle.retain(|live| live.used_at.elapsed() <= self.limits.idle);
        let begun = |live: &Live| {
            let is_this = |ahead: &String| {
                Envelope::of(live, request).is_ok_and(|envelope| envelope.in_one_go() == *ahead)
            };
            live.ahead.as_ref().is_some_and(is_this)
        };
        let found =
            idle.iter().rposition(|live| live.server == request.server && begun(live)).or_else(|| {
                idle.iter().rposition(|live| live.server == request.server && live.ahead.is_none())
            })?;
        Some(idle.remove(found))
    }

    /// Keeps a connection for the next message, if it is good for one.
    async fn give_back(&self, mut live: Live, reply: &Reply) {
        let in_order = match reply {
            // 421: the server hangs up. Codes outside 2yz, 4yz and 5yz: it is somewhere else than we think.
            Reply::Smtp { code, .. } => *code != 421 && matches!(code, 200..300 | 400..600),
            Reply::Wrote | Reply::Http(_) | Reply::NotArmed | Reply::Failed { .. } => false,
        };
        // 2yz instead of 354 is not where we think either.
        let in_order = in_order && !matches!(reply, Reply::Smtp { at: SmtpPhase::Data, code: 200..300, .. });
        if !in_order || live.out_of_step || live.connection.has_broken() {
            return;
        }
        if live.messages >= live.server.messages_per_connection {
            return goodbye(live).await;
        }
        live.used_at = Instant::now();
        self.lock().push(live);
    }

    async fn connect(&self, server: &SmtpServer, rcpt: &EmailAddress) -> Result<Live, NoLine> {
        let stream = self.open(server).await?;
        let hello = server.hello.clone().map_or_else(ClientId::default, ClientId::Domain);
        let progress = Arc::new(Progress::default());
        let mut connection = match server.tls {
            Tls::None => self.greet(Wire::greeted(stream, Arc::clone(&progress)), &hello, rcpt).await?,
            Tls::Implicit => {
                let stream = self.handshake(stream, server).await?;
                self.greet(Wire::greeted(stream, Arc::clone(&progress)), &hello, rcpt).await?
            }
            Tls::Starttls => {
                let stream = self.starttls(stream, &hello, rcpt).await?;
                let stream = self.handshake(stream, server).await?;
                self.greet(Wire::greeted_before(stream, Arc::clone(&progress)), &hello, rcpt).await?
            }
        };
        if let Some((name, password)) = &server.credentials {
            let credentials = Credentials::new(name.clone(), password.reveal().to_owned());
            self.log_in(&mut connection, &credentials, rcpt).await?;
        }
        model::fault::point("connect.after");
        Ok(Live {
            connection,
            progress,
            server: server.clone(),
            messages: 0,
            needs_reset: false,
            ahead: None,
            out_of_step: false,
            used_at: Instant::now(),
        })
    }

    /// Resolves, checks every address where that is the rule, and connects to one of those that were checked.
    async fn open(&self, server: &SmtpServer) -> Result<TcpStream, NoLine> {
        let (host, port) = (server.host.as_str(), server.port);
        let resolved = timeout(self.limits.connect, tokio::net::lookup_host((host, port))).await.map_err(
            |_elapsed| failed(false, Failure::Timeout, &format!("the name {host} was not resolved in time")),
        )?;
        let addresses: Vec<SocketAddr> = resolved
            .map_err(|error| failed(false, Failure::Unresolved, &format!("cannot resolve {host}: {error}")))?
            .collect();
        if self.loopback_only && !addresses.iter().all(|address| egress::is_loopback(address.ip())) {
            let saw = format!(
                "{host} does not lead to this machine, though its name says so; use 127.0.0.1, or set `deliver: all`"
            );
            return Err(NoLine::Forbidden(Refusal { reason: Reason::SysConnectorDisabled, saw }));
        }
        let mut last = failed(false, Failure::Unresolved, &format!("{host} has no address"));
        for address in addresses {
            match timeout(self.limits.connect, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Without it each turn waits for the delayed ACK of the one before: 40 ms a message.
                    return match stream.set_nodelay(true) {
                        Ok(()) => Ok(stream),
                        Err(error) => Err(failed(false, kind_of(&error), &error.to_string()).into()),
                    };
                }
                Ok(Err(error)) => {
                    last =
                        failed(false, kind_of(&error), &format!("cannot connect to {host}:{port}: {error}"))
                }
                Err(_) => {
                    last = failed(
                        false,
                        Failure::Timeout,
                        &format!("{host}:{port} did not accept the connection in time"),
                    )
                }
            }
        }
        Err(last.into())
    }

    async fn greet<L: Line>(
        &self,
        wire: Wire<L>,
        hello: &ClientId,
        rcpt: &EmailAddress,
    ) -> Result<AsyncSmtpConnection, Reply> {
        let greeting = AsyncSmtpConnection::connect_with_transport(Box::new(wire), hello);
        match timeout(self.limits.command, greeting).await {
            Ok(result) => result.map_err(|error| refused(SmtpPhase::Connect, &error, false, rcpt)),
            Err(_) => Err(timed_out(SmtpPhase::Connect, false)),
        }
    }

    /// The conversation in the clear up to the reply to STARTTLS. It must be offered; nothing that was said is trusted later.
    async fn starttls(
        &self,
        stream: TcpStream,
        hello: &ClientId,
        rcpt: &EmailAddress,
    ) -> Result<TcpStream, Reply> {
        let (wire, back) = Wire::lent(stream, Arc::default());
        let mut connection = self.greet(wire, hello, rcpt).await?;
        if !connection.server_info().supports_feature(Extension::StartTls) {
            return Err(failed(
                false,
                Failure::Tls,
                "the server does not offer STARTTLS, and `tls: starttls` requires it",
            ));
        }
        match timeout(self.limits.command, connection.command(Starttls)).await {
            Ok(result) => result.map_err(|error| refused(SmtpPhase::Tls, &error, false, rcpt))?,
            Err(_) => return Err(timed_out(SmtpPhase::Tls, false)),
        };
        drop(connection);
        back.await
            .map_err(|_kept| failed(false, Failure::Tls, "the server went on in the clear after STARTTLS"))
    }

    async fn handshake(
        &self,
        stream: TcpStream,
        server: &SmtpServer,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Reply> {
        let ca = server.ca.as_ref().map(|path| self.project_dir.join(path));
        match timeout(self.limits.connect, self.trust.handshake(stream, &server.host, ca)).await {
            Ok(result) => result,
            Err(_) => {
                Err(failed(false, Failure::Timeout, &format!("TLS with {} took too long", server.host)))
            }
        }
    }

    async fn log_in(
        &self,
        connection: &mut AsyncSmtpConnection,
        credentials: &Credentials,
        rcpt: &EmailAddress,
    ) -> Result<(), Reply> {
        let mechanisms = [Mechanism::Plain, Mechanism::Login];
        if connection.server_info().get_auth_mechanism(&mechanisms).is_none() {
            return Err(failed(
                false,
                Failure::NoAuth,
                "the server offers neither AUTH PLAIN nor AUTH LOGIN here",
            ));
        }
        match timeout(self.limits.command, connection.auth(&mechanisms, credentials)).await {
            Ok(result) => result.map(drop).map_err(|error| refused(SmtpPhase::Auth, &error, false, rcpt)),
            Err(_) => Err(timed_out(SmtpPhase::Auth, false)),
        }
    }
}

/// The commands before DATA, as they are sent.
struct Envelope {
    mail: String,
    rcpt: String,
}

impl Envelope {
    fn of(live: &Live, request: &SmtpRequest) -> Result<Self, Reply> {
        let mail = Mail::new(Some(address(&request.mail_from)?), parameters(live, request)?).to_string();
        Ok(Self { mail, rcpt: Rcpt::new(address(&request.rcpt_to)?, vec![]).to_string() })
    }

    fn in_one_go(&self) -> String {
        let Self { mail, rcpt } = self;
        format!("{mail}{rcpt}{Data}")
    }
}

/// What MAIL must say of a message that is not all ASCII (RFC 6152, RFC 6531).
fn parameters(live: &Live, request: &SmtpRequest) -> Result<Vec<MailParameter>, Reply> {
    let server = live.connection.server_info();
    let mut parameters = Vec::new();
    let international =
        [&request.mail_from, &request.rcpt_to].iter().any(|address| !address.local().is_ascii());
    if international {
        if !server.supports_feature(Extension::SmtpUtfEight) {
            return Err(failed(
                false,
                Failure::NotInternational,
                "the server takes no address outside ASCII (SMTPUTF8)",
            ));
        }
        parameters.push(MailParameter::SmtpUtfEight);
    }
    if !request.body.is_ascii() {
        if !server.supports_feature(Extension::EightBitMime) {
            return Err(failed(
                false,
                Failure::NotInternational,
                "the server takes no message outside ASCII (8BITMIME)",
            ));
        }
        parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    Ok(parameters)
}

fn address(address: &EmailAddress) -> Result<Address, Reply> {
    Address::new(address.local(), address.domain()).map_err(|_not_one| {
        failed(false, Failure::NotInternational, "an address of the envelope is not one for mail servers")
    })
}

/// Whether a connection that lay idle was closed by the server.
fn is_stale(reply: &Reply) -> bool {
    match reply {
        Reply::Smtp { at: SmtpPhase::Mail, code: 421, .. } => true,
        Reply::Failed { kind: Failure::Closed | Failure::Io, .. } => true,
        Reply::Smtp { .. } | Reply::Http(_) | Reply::Failed { .. } | Reply::Wrote | Reply::NotArmed => false,
    }
}

async fn goodbye(mut live: Live) {
    if live.ahead.is_some() {
        // It would be a line of a message that was begun: there is only hanging up.
        return;
    }
    // It is over either way.
    drop(timeout(GOODBYE, live.connection.quit()).await);
}

fn reply(at: SmtpPhase, answer: &Response, rcpt: &EmailAddress) -> Reply {
    let text: Vec<&str> = answer.message().collect();
    Reply::smtp(at, answer.code().into(), Said::about(&text.join(" "), rcpt))
}

/// What lettre calls an error: a refusal, or no reply.
fn refused(at: SmtpPhase, error: &SmtpError, handed_over: bool, rcpt: &EmailAddress) -> Reply {
    let source = error.source().map(ToString::to_string).unwrap_or_default();
    if let Some(code) = error.status() {
        return Reply::smtp(at, code.into(), Said::about(&source, rcpt));
    }
    let broken = io_error(error);
    let kind = match broken {
        Some(broken) => kind_of(broken),
        // lettre's word for the end of the stream.
        None if source.contains("incomplete") => Failure::Closed,
        None => Failure::Io,
    };
    let what = match (kind, broken) {
        (Failure::Closed, _) => "the server hung up".to_owned(),
        (_, Some(broken)) => broken.to_string(),
        (_, None) => "the server did not answer in SMTP".to_owned(),
    };
    failed(handed_over, kind, &format!("{}: {what}", at.command()))
}

fn timed_out(at: SmtpPhase, handed_over: bool) -> Reply {
    failed(handed_over, Failure::Timeout, &format!("{}: no answer in time", at.command()))
}

fn failed(handed_over: bool, kind: Failure, text: &str) -> Reply {
    Reply::Failed { handed_over, kind, text: Said::of(text) }
}

fn io_error(error: &SmtpError) -> Option<&io::Error> {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(found) = inner.downcast_ref::<io::Error>() {
            return Some(found);
        }
        source = inner.source();
    }
    None
}

/// What kind of failure an error of input and output is.
pub(super) fn kind_of(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Failure::Refused,
        io::ErrorKind::TimedOut => Failure::Timeout,
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected
        | io::ErrorKind::UnexpectedEof => Failure::Closed,
        _ => Failure::Io,
    }
}
