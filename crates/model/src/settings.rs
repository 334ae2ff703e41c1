//! drumbeat.yml and data.yml: where a project runs, who speaks, by which accounts, and what the warehouse holds.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use jiff::tz::TimeZone;

use crate::condition::words;
use crate::name::{BrandName, DestinationName, FreshName};
use crate::policy::Localized;
use crate::query::Query;
use crate::recipients::Recipients;
use crate::secret::Secret;

/// drumbeat.yml, with the environment laid over it and its secrets looked up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The project's name: part of every derived id.
    pub project: String,
    /// Where a profile has none; calendars and schedules run in it.
    pub timezone: TimeZone,
    /// What is written in; the first where a profile has none.
    pub locales: Vec<String>,
    /// Whether `--now` is refused and the root key must be given.
    pub production: bool,
    /// Where messages may go.
    pub deliver: Deliver,
    /// Patterns of our own people's addresses: `*@acme.test`.
    pub colleagues: Vec<String>,
    /// `sqlite://PATH` (relative to the project) or `postgres://...`; a secret, since it may hold a password.
    pub state: Secret,
    /// The folder of the journal, relative to the project; `None`: beside an SQLite state, in `.drumbeat` otherwise.
    pub journal: Option<String>,
    /// The warehouse.
    pub warehouse: WarehouseSettings,
    /// Who speaks.
    pub brands: BTreeMap<BrandName, Brand>,
    /// The providers' accounts.
    pub destinations: BTreeMap<DestinationName, Destination>,
    /// The root key: 32 bytes in base64.
    pub root_key: Option<Secret>,
    /// The address of /livez, /readyz and /metrics.
    pub serve_admin: String,
    /// The address of what recipients reach.
    pub serve_public: String,
}

/// Where messages may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deliver {
    /// Files, and loopback on ports other than 25, 465 and 587.
    Local,
    /// And to colleagues.
    Colleagues,
    /// Everywhere.
    All,
}

words! { Deliver { Local = "local", Colleagues = "colleagues", All = "all", } }

/// How to reach and read the warehouse.
#[derive(Debug, Clone)]
pub struct WarehouseSettings {
    /// `sqlite://PATH` (relative to the project) or `postgres://...`.
    pub url: Secret,
    /// Postgres: the search path.
    pub schema: Option<String>,
    /// SQLite: how its columns hold a time.
    pub times: TimeEncoding,
    /// Longest run of one statement.
    pub statement_timeout: SignedDuration,
}

/// How SQLite columns hold a time, and so how `:now` is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeEncoding {
    /// `2026-01-05T09:00:00Z`
    Rfc3339,
    /// `2026-01-05 09:00:00`, in UTC
    Sql,
    /// Seconds since 1970.
    Unix,
    /// Milliseconds since 1970.
    UnixMs,
}

words! { TimeEncoding { Rfc3339 = "rfc3339", Sql = "sql", Unix = "unix", UnixMs = "unix_ms", } }

/// Who speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brand {
    /// Its name.
    pub name: BrandName,
    /// What recipients read.
    pub title: Localized,
    /// `Acme <hello@acme.test>`
    pub from: String,
    /// Where answers go.
    pub reply_to: Option<String>,
    /// Whose letterbox it is; marketing needs it.
    pub postal_address: Option<String>,
    /// Where recipients reach us: the root of all links of ours.
    pub public_url: Option<String>,
    /// The sending domain: that of `from`, in lower-case ASCII.
    pub domain: String,
    /// How fast the sending domain may be used, over all destinations. All brands of the domain have the same.
    pub throttle: Option<Throttle>,
}

/// A provider's account.
#[derive(Debug, Clone)]
pub struct Destination {
    /// Its name.
    pub name: DestinationName,
    /// The connector's name.
    pub connector: String,
    /// What the connector takes, secrets looked up; checked against the connector's own schema.
    pub settings: ConnectorSettings,
    /// How fast it may be used.
    pub throttle: Option<Throttle>,
    /// How fast groups of recipients may be written to by it.
    pub recipients: Recipients,
    /// Longest wait for one answer.
    pub timeout: Option<SignedDuration>,
}

/// What a connector takes: JSON that may hold secrets, and so does not show itself.
#[derive(Clone, PartialEq)]
pub struct ConnectorSettings(pub serde_json::Map<String, serde_json::Value>);

impl std::fmt::Debug for ConnectorSettings {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("[settings]")
    }
}

/// How fast something may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttle {
    /// So many.
    pub count: u32,
    /// In this time.
    pub per: SignedDuration,
    /// And at once, after a pause.
    pub burst: u32,
}

/// data.yml.
#[derive(Debug, Clone, PartialEq)]
pub struct Data {
    /// One row a person.
    pub profiles: Query,
    /// One row a company, if the project has them.
    pub accounts: Option<Query>,
    /// How old parts of the warehouse may be.
    pub fresh: BTreeMap<FreshName, Fresh>,
}

/// How old a part of the warehouse may be.
#[derive(Debug, Clone, PartialEq)]
pub struct Fresh {
    /// One row, one column: a time.
    pub query: Query,
    /// Not older than this.
    pub within: SignedDuration,
}
