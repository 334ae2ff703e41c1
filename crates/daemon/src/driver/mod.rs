//! The delivery driver: carries out what a connector asks for.
//!
//! The only sockets and files of delivery are here, once for all connectors: TLS, timeouts, pooled connections, pacing, the
//! rule of `deliver`, and the moment of arming. A call that arms is taken as far as it can go without commitment, to SMTP's
//! 354; then comes the last look, and only then is anything handed over. What happened is told to the connector as it
//! happened, and the connector says what it means. Nothing here logs an address or a message.

mod egress;
mod file;
mod http;
mod smtp;
#[cfg(test)]
mod tests;
mod throttle;
mod tls;
mod wire;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use connector::feedback::{Hearing, Inbound, NotHeard, Told, echo};
use connector::golden::STEPS_MAX;
use connector::{
    AudienceKind, Audiences, Call, Connector, Exchange, HttpReply, Idempotency, Item, Kind, Outcome, Reach,
    RecordKind, Records, Reply, Request, SmtpRequest, Step,
};
use model::settings::{Deliver, Destination};
use model::{DeliveryId, DestinationName, EmailAddress, ProfileNumber, Reason, Refusal};
use tokio::time::Instant;

use self::egress::Rule;
pub use self::egress::{is_colleague, may_go};
use self::file::Files;
use self::http::Http;
use self::smtp::Smtp;
pub(crate) use self::throttle::Pace;

/// The answer of the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Armed {
    /// The row is committed as armed, at this time or a little later.
    At(Instant),
    /// The last look said no.
    No,
}

impl From<bool> for Armed {
    fn from(armed: bool) -> Self {
        if armed { Self::At(Instant::now()) } else { Self::No }
    }
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// To resolve, to connect and to agree on TLS, each.
    connect: Duration,
    /// For the reply to a command.
    command: Duration,
    /// For the message to be handed over and answered. RFC 5321 4.5.3.2.6 asks for ten minutes: whoever hangs up earlier makes
    /// doubts where there were answers.
    body: Duration,
    /// For an HTTP request to be handed over and answered.
    answer: Duration,
    /// From the commit that armed a message to the moment it is handed over. It bounds how late an opt-out can be overtaken.
    arm: Duration,
    /// A connection that was not used for so long is not trusted to be alive.
    idle: Duration,
}

impl Limits {
    fn of(destination: &Destination) -> Self {
        let answer = destination.timeout.and_then(|timeout| Duration::try_from(timeout).ok());
        Self {
            connect: Duration::from_secs(10),
            command: answer.map_or(Duration::from_secs(60), |answer| answer.min(Duration::from_secs(60))),
            body: answer.unwrap_or(Duration::from_secs(600)),
            answer: answer.unwrap_or(Duration::from_secs(60)),
            arm: Duration::from_secs(5),
            idle: Duration::from_secs(60),
        }
    }
}

/// So much is asked before what a provider tells is believed: a certificate, and that it is wanted.
const ASKED_MAX: usize = 3;
/// So many answers that hold are kept.
const ANSWERS_MAX: usize = 4;

/// How one destination is reached: its connector, its connections, its pace.
pub struct Driver {
    name: DestinationName,
    connector: Box<dyn Connector>,
    class: Idempotency,
    audiences: Option<AudienceKind>,
    records: Option<RecordKind>,
    deliver: Deliver,
    colleagues: Vec<String>,
    pace: Option<Pace>,
    smtp: Smtp,
    files: Files,
    http: Http,
    /// Answers that hold: certificates of those who sign what is told, by their addresses.
    answers: Mutex<Vec<(String, HttpReply)>>,
}

impl fmt::Debug for Driver {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Driver")
            .field("name", &self.name)
            .field("connector", &self.connector)
            .finish_non_exhaustive()
    }
}

impl Driver {
    /// Makes a destination ready, of a connector of this kind; nothing is opened yet. Relative paths in its settings are taken from
    /// `project_dir`.
    pub fn new(
        destination: &Destination,
        connector: Box<dyn Connector>,
        kind: &Kind,
        deliver: Deliver,
        colleagues: &[String],
        project_dir: &Path,
    ) -> Self {
        let limits = Limits::of(destination);
        // Checked by name in `may_go`; where the name says "this machine", its addresses must say so, too.
        let loopback_only = match connector.reach() {
            Reach::Network { host, .. } => deliver != Deliver::All && egress::is_this_machine(&host),
            Reach::Local => false,
        };
        let rule = match connector.reach() {
            Reach::Network { host, .. } => Rule::of(deliver, &host, connector.is_private()),
            Reach::Local => Rule::Public,
        };
        Self {
            name: destination.name.clone(),
            connector,
            class: kind.idempotency,
            audiences: kind.audiences,
            records: kind.records,
            deliver,
            colleagues: colleagues.to_vec(),
            pace: destination.throttle.and_then(Pace::new),
            smtp: Smtp::new(limits, loopback_only, project_dir),
            files: Files::new(limits, project_dir),
            http: Http::new(limits, rule),
            answers: Mutex::default(),
        }
    }

    /// How many deliveries may be under way at the same time.
    pub fn connections(&self) -> usize {
        self.connector.connections().max(1)
    }

    /// What a repeated request would do there.
    pub fn class(&self) -> Idempotency {
        self.class
    }

    /// Whether a message to this address may go this way under the project's `deliver`.
    pub fn may_go(&self, rcpt: &EmailAddress) -> Result<(), Refusal> {
        may_go(self.deliver, &self.colleagues, &self.connector.reach(), rcpt)
    }

    /// What it does with audiences, if it has any.
    pub fn audiences(&self) -> Option<(AudienceKind, &dyn Audiences)> {
        Some((self.audiences?, self.connector.audiences()?))
    }

    /// What it does with records, if it has any.
    pub fn records(&self) -> Option<(RecordKind, &dyn Records)> {
        Some((self.records?, self.connector.records()?))
    }

    /// Whether audiences and records may go this way under the project's `deliver`.
    pub fn may_hand_over(&self) -> Result<(), Refusal> {
        egress::may_hand_over(self.deliver, &self.connector.reach())
    }

    /// Waits until the throttle lets one more go. Without a throttle it does not wait.
    pub async fn pace(&self) {
        if let Some(pace) = &self.pace {
            pace.wait().await;
        }
    }

    /// Delivers one message: the conversation up to the point of no return, `arm`, and the rest. `ahead` is asked, once this one is
    /// armed, for the message that will be delivered right after it, if that is known: where a server allows it, its conversation
    /// is begun meanwhile, up to its own point of no return.
    ///
    /// `arm` commits the row as armed and says whether it did; it is called at most once, and not at all if the provider
    /// refuses before. If this future is dropped after `arm`, nobody knows what became of the message.
    pub async fn deliver<A: Into<Armed>>(
        &self,
        item: &Item,
        arm: impl AsyncFnOnce() -> A,
        ahead: impl FnOnce() -> Option<Arc<Item>>,
    ) -> Outcome {
        if let Err(refusal) = self.may_go(&item.rcpt_to) {
            return Outcome::Halt { reason: refusal.reason, detail: refusal.saw };
        }
        let mut exchange = self.connector.exchange(item);
        let mut arm = Some((arm, ahead));
        let mut reply = None;
        for _ in 0..STEPS_MAX {
            let call = match exchange.next(reply.take()) {
                Step::Done(outcome) => return outcome,
                Step::Call(call) => call,
            };
            let came = match (&call.request, call.arms) {
                // What is asked before: a token, a look-up.
                (Request::Http(request), false) => {
                    self.http.call(request, None::<fn() -> std::future::Ready<Armed>>).await
                }
                (_, false) => return broken("the connector hands over without the last look"),
                (request, true) => match arm.take() {
                    Some((arm, ahead)) => self.call(request, arm, ahead).await,
                    None => return broken("the connector hands over twice"),
                },
            };
            match came {
                Ok(came) => reply = Some(came),
                Err(refusal) => return Outcome::Halt { reason: refusal.reason, detail: refusal.saw },
            }
        }
        broken("the connector's conversation does not end")
    }

    /// Where mail about a message comes back to: see [`Connector::return_address`].
    pub fn return_address(&self, tag: &str) -> Option<EmailAddress> {
        self.connector.return_address(tag)
    }

    /// The folder in which such mail arrives.
    pub fn mailbox(&self) -> Option<PathBuf> {
        self.connector.mailbox().map(|path| self.files.absolute(path))
    }

    /// What its provider tells: see [`Connector::hear`]. What is to be asked first is asked; an answer that holds for others, too, once.
    pub async fn hear(&self, inbound: &Inbound) -> Result<Vec<Told>, NotHeard> {
        let mut answers = Vec::new();
        for _ in 0..ASKED_MAX {
            let (request, holds) = match self.connector.hear(inbound, &answers)? {
                Hearing::Told(told) => return Ok(told),
                Hearing::Ask { request, holds } => (request, holds),
            };
            let known =
                crate::daemon::lock(&self.answers).iter().find(|(url, _)| *url == request.url).cloned();
            if let Some((_, answer)) = known.filter(|_| holds) {
                answers.push(answer);
                continue;
            }
            let came = self.http.call(&request, None::<fn() -> std::future::Ready<Armed>>).await;
            let Ok(Reply::Http(answer)) = came else { return Err(NotHeard::NotNow) };
            if holds && answer.status == 200 {
                let mut kept = crate::daemon::lock(&self.answers);
                kept.truncate(ANSWERS_MAX - 1);
                kept.insert(0, (request.url, answer.clone()));
            }
            answers.push(answer);
        }
        Err(NotHeard::Garbled)
    }

    /// Asks the provider what became of a delivery; `None`: it cannot be asked. See [`Connector::look_up`].
    pub async fn look_up(&self, profile: ProfileNumber, delivery: &DeliveryId) -> Option<Outcome> {
        let exchange = self.connector.look_up(&echo(profile, delivery))?;
        Some(self.converse(exchange, None).await)
    }

    /// A conversation that is not about one message. `armed` is when what it hands over was committed to be; `None`: it hands nothing over.
    pub async fn converse<D: From<Outcome>>(
        &self,
        mut exchange: Box<dyn Exchange<D>>,
        mut armed: Option<Instant>,
    ) -> D {
        let mut reply = None;
        for _ in 0..STEPS_MAX {
            let call = match exchange.next(reply.take()) {
                Step::Done(end) => return end,
                Step::Call(call) => call,
            };
            let at = if call.arms { armed.take() } else { None };
            let came = match (&call.request, call.arms, at) {
                (Request::Http(request), false, _) => {
                    self.http.call(request, None::<fn() -> std::future::Ready<Armed>>).await
                }
                (Request::Http(request), true, Some(at)) => {
                    self.http.call(request, Some(async || Armed::At(at))).await
                }
                (Request::File(request), true, Some(at)) => {
                    Ok(self.files.call(request, async || Armed::At(at)).await)
                }
                (_, true, None) => return broken("the connector hands over what it may not").into(),
                _ => return broken("the connector asks for what this conversation has not").into(),
            };
            match came {
                Ok(came) => reply = Some(came),
                Err(refusal) => {
                    return Outcome::Halt { reason: refusal.reason, detail: refusal.saw }.into();
                }
            }
        }
        broken("the connector's conversation does not end").into()
    }

    async fn call<A: Into<Armed>>(
        &self,
        request: &Request,
        arm: impl AsyncFnOnce() -> A,
        ahead: impl FnOnce() -> Option<Arc<Item>>,
    ) -> Result<Reply, Refusal> {
        match request {
            Request::Smtp(request) => self.smtp.call(request, arm, || self.begun(&*ahead()?)).await,
            Request::File(request) => Ok(self.files.call(request, arm).await),
            Request::Http(request) => self.http.call(request, Some(arm)).await,
        }
    }

    /// The mail that a message will be, if it may be begun now.
    fn begun(&self, item: &Item) -> Option<SmtpRequest> {
        // Where there is a pace, a server would wait for the message as long as it does.
        if self.pace.is_some() || self.may_go(&item.rcpt_to).is_err() {
            return None;
        }
        match self.connector.exchange(item).next(None) {
            Step::Call(Call { arms: true, request: Request::Smtp(request) }) => Some(request),
            Step::Call(_) | Step::Done(_) => None,
        }
    }

    /// Takes leave of the servers that connections are open to.
    pub async fn close(&self) {
        self.smtp.close().await;
    }
}

fn broken(detail: &str) -> Outcome {
    Outcome::Halt { reason: Reason::FailInternal, detail: detail.to_owned() }
}
