//! Mail through any server that speaks SMTP: one transaction a message, one recipient a transaction.
//!
//! RFC 5321, STARTTLS (3207), AUTH PLAIN and LOGIN (4954), implicit TLS (8314), enhanced status codes (3463).
//! Not supported: delivery status notifications, BDAT, client certificates, XOAUTH2.

mod classify;
mod exchange;
mod settings;

use std::path::PathBuf;

use connector::{
    Built, Connector, Exchange, Idempotency, Item, Kind, Reach, SmtpServer, read_settings, schema_of,
};
use model::settings::ConnectorSettings;
use model::{Channel, Secret};

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
}

fn build(settings: &ConnectorSettings) -> Built {
    let settings: Settings = read_settings(&KIND, settings)?;
    let mistakes = settings.mistakes();
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let tls = settings.tls.into();
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
    Ok(Box::new(Smtp { server, connections: usize::from(settings.connections) }))
}
