//! Mail through any server that speaks SMTP: one transaction a message, one recipient a transaction.
//!
//! RFC 5321, STARTTLS (3207), AUTH PLAIN and LOGIN (4954), implicit TLS (8314), enhanced status codes (3463).
//! Bounces come back to a return path of each message (VERP) and are read as reports (3464), complaints as feedback reports (5965). Not supported:
//! asking for delivery status notifications (3461), BDAT, client certificates, XOAUTH2.

mod classify;
mod exchange;
mod inbound;
mod settings;

use std::path::{Path, PathBuf};

use connector::feedback::{Hearing, Inbound, NotHeard};
use connector::{
    Built, Connector, Exchange, HttpReply, Idempotency, Item, Kind, Reach, SmtpServer, read_settings,
    schema_of,
};
use model::settings::ConnectorSettings;
use model::{Channel, EmailAddress, Secret};

pub use self::settings::Settings;

/// Mail through any server that speaks SMTP.
pub const KIND: Kind = Kind {
    name: "smtp",
    messages: Some(Channel::Email),
    // The protocol has no key, and no way to ask.
    idempotency: Idempotency::Nothing,
    audiences: None,
    records: None,
    summary: "Mail through any server that speaks SMTP: your provider's relay, or your own.",
    example: settings::EXAMPLE,
    schema: schema_of::<Settings>,
    build,
};

#[derive(Debug)]
struct Smtp {
    server: SmtpServer,
    connections: usize,
    /// Local part and domain.
    return_path: Option<(String, String)>,
    mailbox: Option<PathBuf>,
}

impl Connector for Smtp {
    fn exchange(&self, item: &Item) -> Box<dyn Exchange> {
        exchange::exchange(&self.server, item)
    }

    fn reach(&self) -> Reach {
        Reach::Network { host: self.server.host.clone(), port: self.server.port }
    }

    fn connections(&self) -> usize {
        self.connections
    }

    fn return_address(&self, tag: &str) -> Option<EmailAddress> {
        let (local, domain) = self.return_path.as_ref()?;
        EmailAddress::parse(&format!("{local}+{tag}@{domain}")).ok()
    }

    fn mailbox(&self) -> Option<&Path> {
        self.mailbox.as_deref()
    }

    fn hear(&self, inbound: &Inbound, _answers: &[HttpReply]) -> Result<Hearing, NotHeard> {
        let (local, domain) = self.return_path.as_ref().ok_or(NotHeard::NotSetUp)?;
        inbound::told(&inbound.body, (local, domain), inbound.at).map(Hearing::Told)
    }
}

fn build(settings: &ConnectorSettings) -> Built {
    let settings: Settings = read_settings(&KIND, settings)?;
    let mistakes = settings.mistakes();
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let tls = settings.tls.into();
    let return_path = settings.return_path.as_deref().and_then(|text| EmailAddress::parse(text).ok());
    let return_path = return_path.map(|address| (address.local().to_owned(), address.domain().to_owned()));
    let mailbox = settings.mailbox.map(PathBuf::from);
    let server = SmtpServer {
        port: settings.port.unwrap_or_else(|| settings.tls.default_port()),
        tls,
        credentials: settings
            .username
            .zip(settings.password)
            .map(|(name, password)| (name, Secret::new(password))),
        hello: settings.hello,
        ca: settings.ca.map(PathBuf::from),
        messages_per_connection: settings.messages_per_connection,
        host: settings.host,
    };
    let connections = usize::from(settings.connections);
    Ok(Box::new(Smtp { server, connections, return_path, mailbox }))
}
