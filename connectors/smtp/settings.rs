//! What the connector `smtp` takes.

use std::net::IpAddr;

use connector::{SettingsMistake, TAG_BYTES_MAX};
use model::EmailAddress;
use schemars::JsonSchema;
use serde::Deserialize;

/// Every setting once.
pub(super) const EXAMPLE: &str = r#"{
    "host": "smtp.example.com", "port": 587, "tls": "starttls", "username": "apikey", "password": "correct-horse-battery",
    "hello": "mailer.acme.example", "return_path": "bounces@mail.acme.example", "mailbox": "/var/mail/bounces", "connections": 8, "messages_per_connection": 100, "ca": "certs/internal-ca.pem"
}"#;

/// Settings of a mail server. There is no `Debug`: they hold a password.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The server's name, such as `smtp.example.com`. With TLS, its certificate must carry this name.
    pub host: String,
    /// The server's port; without it 587 for `starttls`, 465 for `implicit`, 25 for `none`.
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// How the connection is encrypted: `starttls` (after the greeting, required), `implicit` (from the first byte) or
    /// `none`. Never "if possible".
    #[serde(default)]
    pub tls: TlsSetting,
    /// The name to log in with.
    pub username: Option<String>,
    /// The password or key to log in with: `{env: NAME}`, not the text itself.
    #[schemars(extend("writeOnly" = true))]
    pub password: Option<String>,
    /// The name we greet the server with; without it, the name of this machine.
    pub hello: Option<String>,
    /// Where bounces come back to, such as `bounces@mail.acme.example`. Each message has a return path of its own
    /// (`bounces+...@mail.acme.example`), by which its bounce is known; without it bounces go to the sender.
    pub return_path: Option<String>,
    /// The folder (maildir) in which the mail to `return_path` arrives: it is looked into every few seconds. Relative to the project.
    pub mailbox: Option<String>,
    /// How many connections at the same time, at most. Providers' limits differ: many allow 10.
    #[serde(default = "connections")]
    #[schemars(range(min = 1, max = 200))]
    pub connections: u16,
    /// After so many messages a connection is closed and another one opened.
    #[serde(default = "messages_per_connection")]
    #[schemars(range(min = 1))]
    pub messages_per_connection: u32,
    /// A PEM file with certificates to trust besides the system's, for a server of your own. Relative to the project.
    pub ca: Option<String>,
}

/// How the connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum TlsSetting {
    /// In the clear.
    None,
    /// After the greeting, required.
    #[default]
    Starttls,
    /// From the first byte.
    Implicit,
}

impl TlsSetting {
    pub(super) fn default_port(self) -> u16 {
        match self {
            Self::None => 25,
            Self::Starttls => 587,
            Self::Implicit => 465,
        }
    }
}

impl From<TlsSetting> for connector::Tls {
    fn from(setting: TlsSetting) -> Self {
        match setting {
            TlsSetting::None => Self::None,
            TlsSetting::Starttls => Self::Starttls,
            TlsSetting::Implicit => Self::Implicit,
        }
    }
}

fn connections() -> u16 {
    8
}

fn messages_per_connection() -> u32 {
    100
}

impl Settings {
    /// What a schema cannot say.
    pub(super) fn mistakes(&self) -> Vec<SettingsMistake> {
        let mut mistakes = Vec::new();
        let mut say = |key: &str, message: &str| mistakes.push(SettingsMistake::new(key, message));
        if !is_host(&self.host) {
            say("host", "expected the name or the address of a host, without scheme and port");
        }
        if self.port == Some(0) {
            say("port", "expected a whole number from 1 to 65535");
        }
        if self.hello.as_deref().is_some_and(|hello| !is_host(hello)) {
            say("hello", "expected the full name of a host, such as `mailer.acme.example`");
        }
        if !(1..=200).contains(&self.connections) {
            say("connections", "expected a whole number from 1 to 200");
        }
        match self.return_path.as_deref().map(EmailAddress::parse) {
            Some(Err(_)) => say("return_path", "expected an address, such as `bounces@mail.acme.example`"),
            Some(Ok(address)) if !is_short_and_plain(address.local()) => say(
                "return_path",
                "expected a short name before the `@`: at most 7 letters and digits, since what says of which message goes behind it",
            ),
            _ => {}
        }
        if self.mailbox.is_some() && self.return_path.is_none() {
            say("mailbox", "has no use without `return_path`");
        }
        if self.mailbox.as_deref().is_some_and(|path| path.is_empty() || path.contains('\0')) {
            say("mailbox", "expected the path of a folder");
        }
        if self.messages_per_connection == 0 {
            say("messages_per_connection", "expected a whole number from 1");
        }
        match (&self.username, &self.password) {
            (Some(_), None) => say("password", "is missing: `username` is given"),
            (None, Some(_)) => say("username", "is missing: `password` is given"),
            (Some(_), Some(_)) if self.tls == TlsSetting::None && !is_loopback(&self.host) => {
                say("tls", "`none` would send the password in the clear; use `starttls` or `implicit`");
            }
            _ => {}
        }
        if self.ca.is_some() && self.tls == TlsSetting::None {
            say("ca", "has no use with `tls: none`");
        }
        mistakes
    }
}

/// With a plus and the longest tag it fits into a local part.
fn is_short_and_plain(local: &str) -> bool {
    (1..=63 - TAG_BYTES_MAX).contains(&local.len()) && local.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn is_host(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    let address = text.parse::<IpAddr>().is_ok();
    !text.is_empty() && text.len() <= 253 && text.chars().all(plain) && (address || !text.contains(':'))
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}
