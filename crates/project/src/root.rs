//! drumbeat.yml, data.yml and policy.yml as they are written. What the keys come to is `settings`' and `policy`'s matter.

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use model::Secret;
use model::condition::Condition;
use model::duration::{Share, Window};
use model::name::{
    BrandName, CapName, DestinationName, FreshName, PlaybookName, PurposeName, QuietHoursName, RecipientsName,
};
use model::policy::{CapUnit, Channel, Localized, MessageClass, OnHit, Permission, RuleZone};
use model::settings::{Deliver, TimeEncoding};
use serde_json::{Value as Json, json};

use crate::dkim::RawDkim;
use crate::doubt::RawInDoubt;
use crate::query::{Columns, Sql, SqlFile};
use crate::rates::{RawRecipients, RawThrottle};
use crate::read::{At, Cx, Given, Needed, Read, Record as _, record};
use crate::schema::Schemas;
use crate::values::{Locale, Positive, Some1, Things, Whole};
use crate::yaml::{Kind, Node};

record! {
    /// The keys of the three root files. Each may stand in any `.yml` in the root, once.
    pub(crate) struct Root ("a map of settings") {
        /// Of this format: 1.
        "version" _version: Needed<Whole<1, 1>>,
        /// The project's name, part of every id: never changed.
        "project" project: Needed<ProjectName>,
        /// Where a profile has none; calendars and schedules run in it. Otherwise UTC.
        "timezone" timezone: Option<TimeZone>,
        /// What is written in; the first where a profile has none.
        "locales" locales: Option<Vec<Locale>>,
        /// Whether this is the real thing: `--now` is refused, and the root key must be given.
        "production" production: Option<bool>,
        /// local: files and loopback; colleagues: messages to them, too; all.
        "deliver" deliver: Option<Deliver>,
        /// Patterns of our own people's addresses, such as `*@acme.test`.
        "colleagues" colleagues: Option<Vec<String>>,
        /// `sqlite://PATH` or `postgres://...`.
        "state" state: Option<At<Secret>>,
        /// The folder where it is kept, outside of the state, what went out and who said no: on another disk it outlives the state's. Otherwise beside an
        /// SQLite state, and `.drumbeat/journal` with Postgres.
        "journal" journal: Option<String>,
        /// What is read.
        "warehouse" warehouse: Needed<Warehouse>,
        /// Who speaks.
        "brands" brands: Option<Things<BrandName, RawBrand>>,
        /// One a provider's account.
        "destinations" destinations: Option<Things<DestinationName, RawDestination>>,
        /// Of the project.
        "keys" keys: Option<Keys>,
        /// Addresses to listen on.
        "serve" serve: Option<Serve>,
        /// One row a person.
        "profiles" profiles: Needed<At<RawQuery>>,
        /// One row a company, found by the `account_id` of `profiles`.
        "accounts" accounts: Given<RawQuery>,
        /// How old parts of the warehouse may be.
        "fresh" fresh: Option<Things<FreshName, At<RawFresh>>>,
        /// What consent is for.
        "purposes" purposes: Option<Things<PurposeName, RawPurpose>>,
        /// Imported into the ledger.
        "consent" consent: Option<At<RawConsent>>,
        /// Permission for class marketing, by channel.
        "regions" regions: Option<Regions>,
        /// How many messages a person may get.
        "caps" caps: Option<Things<CapName, At<RawCap>>>,
        /// When nobody is written to.
        "quiet_hours" quiet_hours: Option<Things<QuietHoursName, At<RawQuiet>>>,
        /// The share of people who get nothing but transactional messages.
        "holdout" holdout: Option<RawHoldout>,
        /// What stops a campaign before it does harm: held in production, said elsewhere.
        "guards" guards: Option<RawGuards>,
        /// What becomes of a message that was handed over and not answered, where the provider can neither be asked nor knows a repeat again.
        "in_doubt" in_doubt: Option<RawInDoubt>,
        /// Each laid over all other keys, when it is chosen.
        "environments" _environments: Option<Environments>,
    }
    not_yet { "audit", "owners", "events", "lookups", "never", "retention", "governance", "requires", "alerts" }
}

/// A project's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProjectName(pub(crate) String);

impl Read for ProjectName {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        cx.parsed(node, "a project's name", |text| {
            let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
            if !text.is_empty() && text.len() <= 64 && text.chars().all(fits) {
                Ok(Self(text.to_owned()))
            } else {
                Err("at most 64 letters, digits, `_`, `-` and `.`")
            }
        })
    }

    fn schema(schemas: &mut Schemas) -> Json {
        schemas.single(json!({"type": ["string", "number"], "pattern": "^[A-Za-z0-9_.-]{1,64}$"}))
    }
}

record! {
    /// How to reach and read the warehouse.
    pub(crate) struct Warehouse ("a map with `url`") {
        /// `sqlite://PATH` or `postgres://...`, opened read-only.
        "url" url: Needed<At<Secret>>,
        /// Postgres: the search path.
        "schema" schema: Option<String>,
        /// SQLite: how its columns hold a time, and so how `:now` is bound.
        "times" times: Option<TimeEncoding>,
        /// Longest run of one statement; 60s unless given.
        "statement_timeout" statement_timeout: Option<Positive>,
    }
    not_yet { "fixtures" }
}

record! {
    /// Who speaks.
    pub(crate) struct RawBrand ("a map with `title` and `from`") {
        /// What recipients read.
        "title" title: Localized,
        /// `Acme <hello@acme.test>`
        "from" from: Mailbox,
        /// Where answers go.
        "reply_to" reply_to: Option<Mailbox>,
        /// Whose letterbox it is; marketing and lifecycle need it.
        "postal_address" postal_address: Given<String>,
        /// The root of all links of ours; marketing and lifecycle need it.
        "public_url" public_url: Given<PublicUrl>,
        /// Nothing is tracked yet: only `{opens: false, clicks: false}`.
        "track" _track: Option<Track>,
        /// Who signs the mail (DKIM); without it nobody does, or the mail server.
        "dkim" dkim: Option<RawDkim>,
        /// How fast the domain of `from` may be used, over all destinations; brands of one domain share it.
        "throttle" throttle: Option<At<RawThrottle>>,
    }
}

record! {
    /// What is tracked: nothing yet.
    pub(crate) struct Track ("a map with `opens` and `clicks`") {
        /// Whether mail was opened.
        "opens" _opens: Option<NotTracked>,
        /// Whether a link was followed.
        "clicks" _clicks: Option<NotTracked>,
    }
    not_yet { "utm" }
}

/// `false`, since `true` is not built yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NotTracked;

impl Read for NotTracked {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        if bool::read(node, cx)? {
            cx.not_yet(node.place(), "tracking is");
            return None;
        }
        Some(Self)
    }

    fn schema(schemas: &mut Schemas) -> Json {
        schemas.single(json!({"const": false}))
    }
}

/// An address with or without a name: `Acme <hello@acme.test>`.
#[derive(Debug, Clone)]
pub(crate) struct Mailbox(pub(crate) String);

impl Read for Mailbox {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let text = cx.text(node, "a sender")?;
        let parse = |text: &str| {
            let address = match text.rsplit_once('<') {
                Some((name, rest)) if !name.contains(['<', '>', '\r', '\n']) => {
                    rest.trim_end().strip_suffix('>').unwrap_or("")
                }
                Some(_) => "",
                None => text,
            };
            model::EmailAddress::parse(address)
                .map(|_| Self(text.to_owned()))
                .map_err(|error| format!("an address, or `Name <address>`: {error}"))
        };
        // The message does not repeat what may be an address.
        parse(&text.text)
            .map_err(|why| cx.mistake("E0105", text.span, "this is not a sender").label(why).clone())
            .ok()
    }

    fn schema(schemas: &mut Schemas) -> Json {
        schemas.single(json!({"type": "string"}))
    }
}

impl Mailbox {
    /// The domain of the address, in lower-case ASCII.
    pub(crate) fn domain(&self) -> String {
        let text = &self.0;
        let address =
            text.rsplit_once('<').map_or(text.as_str(), |(_, rest)| rest.trim_end().trim_end_matches('>'));
        model::EmailAddress::parse(address).map(|address| address.domain().to_owned()).unwrap_or_default()
    }
}

/// The root of our links, without a slash at the end.
#[derive(Debug, Clone)]
pub(crate) struct PublicUrl(pub(crate) String);

impl Read for PublicUrl {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        cx.parsed(node, "a web address", |text| {
            let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
            let fits = |rest: &&str| {
                !rest.is_empty()
                    && !rest.starts_with('/')
                    && !rest.contains(|c: char| c.is_whitespace() || c.is_control() || "<>\"?#@".contains(c))
            };
            rest.filter(fits)
                .map(|_| Self(text.trim_end_matches('/').to_owned()))
                .ok_or("such as `https://mail.acme.test`")
        })
    }

    fn schema(schemas: &mut Schemas) -> Json {
        schemas.single(json!({"type": "string", "pattern": "^https?://"}))
    }
}

/// A provider's account: what the connector takes is read when it is known which.
#[derive(Debug, Clone)]
pub(crate) struct RawDestination(pub(crate) Node);

impl Read for RawDestination {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        if !matches!(node.kind, Kind::Map(_)) {
            cx.wrong_kind(node, "a map with `connector`");
            return None;
        }
        Some(Self(node.clone()))
    }

    fn schema(schemas: &mut Schemas) -> Json {
        schemas.define("Destination", |schemas| {
            let (text, duration) = (crate::values::text_schema(schemas), <Positive as Read>::schema(schemas));
            let (throttle, recipients) =
                (<RawThrottle as Read>::schema(schemas), <Things<RecipientsName, RawRecipients> as Read>::schema(schemas));
            json!({
                "description": "One a provider's account; what a connector takes besides: `drumbeat schema connector.NAME`.",
                "type": "object",
                "properties": {"connector": text, "timeout": duration, "throttle": throttle, "recipients": recipients, "base_url": text},
                "required": ["connector"],
            })
        })
    }
}

record! {
    /// Of the project.
    pub(crate) struct Keys ("a map with `root`") {
        /// 32 bytes, base64. Outside production it is made once beside the state.
        "root" root: Option<Secret>,
    }
}

record! {
    /// Addresses to listen on.
    pub(crate) struct Serve ("a map with `admin` and `public`") {
        /// Of /livez, /readyz and /metrics.
        "admin" admin: Option<SocketText>,
        /// Of what recipients reach.
        "public" public: Option<SocketText>,
    }
}

/// An IP address and a port.
#[derive(Debug, Clone)]
pub(crate) struct SocketText(pub(crate) String);

impl Read for SocketText {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        cx.parsed(node, "an address to listen on", |text| {
            let expected = "an IP address and a port, such as `\"127.0.0.1:7700\"`";
            text.parse::<std::net::SocketAddr>().map(|_| Self(text.to_owned())).map_err(|_| expected)
        })
    }

    fn schema(schemas: &mut Schemas) -> Json {
        schemas.single(json!({"type": "string"}))
    }
}

record! {
    /// A query.
    pub(crate) struct RawQuery ("a map with `sql`") {
        /// One read-only SELECT. `:now`, `:today`, `:now_minus_14d` and their kin are bound.
        "sql" sql: Given<Sql>,
        /// Instead of `sql`: a file beside this one.
        "sql_file" sql_file: Given<SqlFile>,
        /// What is declared about its columns.
        "columns" columns: Option<Columns>,
    }
}

record! {
    /// How old a part of the warehouse may be.
    pub(crate) struct RawFresh ("a map with `sql` and `within`") {
        /// One row, one column: a time.
        "sql" sql: Given<Sql>,
        /// Instead of `sql`: a file beside this one.
        "sql_file" sql_file: Given<SqlFile>,
        /// What is declared about its column.
        "columns" columns: Option<Columns>,
        /// Not older than this.
        "within" within: Positive,
    }
}

record! {
    /// What consent is for.
    pub(crate) struct RawPurpose ("a map with `title` and `class`") {
        /// What recipients read.
        "title" title: Localized,
        /// marketing, lifecycle or transactional.
        "class" class: At<MessageClass>,
        /// Who speaks; may be left out where there is one.
        "brand" brand: Option<At<BrandName>>,
    }
}

record! {
    /// Imported into the ledger: profile, channel, purpose, status, changed_at, source.
    pub(crate) struct RawConsent ("a map with `sql`") {
        /// One row a change.
        "sql" sql: Given<Sql>,
        /// Instead of `sql`: a file beside this one.
        "sql_file" sql_file: Given<SqlFile>,
        /// What is declared about its columns.
        "columns" columns: Option<Columns>,
    }
    not_yet { "double_opt_in" }
}

record! {
    /// What holds where nothing is said.
    pub(crate) struct Regions ("a map with `other`") {
        /// Permission by channel.
        "other" other: Option<Region>,
    }
}

record! {
    /// Permission by channel: opt_in, opt_out or never.
    pub(crate) struct Region ("a map from channels to permissions") {
        /// Mail.
        "email" email: Option<Permission>,
        /// Text messages.
        "sms" sms: Option<Permission>,
        /// Push notifications.
        "push" push: Option<Permission>,
        /// Ad audiences.
        "ads" ads: Option<Permission>,
    }
    not_yet { "where", "implied", "source", "reviewed" }
}

record! {
    /// How many messages a person may get in a window.
    pub(crate) struct RawCap ("a map with `max` and `per`") {
        /// Which channels count; all unless given.
        "channel" channel: Option<Some1<Channel>>,
        /// Which classes count.
        "class" class: Option<Some1<MessageClass>>,
        /// Which purposes count.
        "purpose" purpose: Option<Some1<PurposeName>>,
        /// Which brands count.
        "brand" brand: Option<Some1<BrandName>>,
        /// Which playbooks count.
        "playbook" playbook: Option<Some1<PlaybookName>>,
        /// Whose messages are counted together: those of a profile (unless given), an account or an address.
        "scope" unit: Option<CapUnit>,
        /// How many.
        "max" max: Whole<0, 1_000_000>,
        /// In what window: `7d`, `1 calendar day`.
        "per" per: Window,
        /// Whose calendar: profile (unless given) or project.
        "zone" zone: Option<RuleZone>,
        /// defer (unless given) or skip.
        "on_hit" on_hit: Option<OnHit>,
    }
}

record! {
    /// Local times without messages.
    pub(crate) struct RawQuiet ("a map with `from` and `to`, or with `days` or `dates`") {
        /// Which channels; all unless given.
        "channel" channel: Option<Some1<Channel>>,
        /// Which classes.
        "class" class: Option<Some1<MessageClass>>,
        /// Which purposes.
        "purpose" purpose: Option<Some1<PurposeName>>,
        /// Which brands.
        "brand" brand: Option<Some1<BrandName>>,
        /// Which playbooks.
        "playbook" playbook: Option<Some1<PlaybookName>>,
        /// From when on; without it, and `to`, the whole day.
        "from" from: Given<Time>,
        /// Until when; not after `from` means over midnight.
        "to" to: Given<Time>,
        /// On which days of the week it begins.
        "days" days: Option<Some1<Weekday>>,
        /// On which dates.
        "dates" dates: Option<Some1<Date>>,
        /// Whose clock: profile (unless given) or project.
        "zone" zone: Option<RuleZone>,
        /// Only for these people.
        "where" filter: Option<Condition>,
    }
}

record! {
    /// What stops a campaign before it does harm.
    pub(crate) struct RawGuards ("a map of guards") {
        /// How fast a segment may grow.
        "growth" growth: Option<RawGrowth>,
        /// What of a playbook's messages of a day may be in doubt; 1% unless given.
        "in_doubt" in_doubt: Option<Share>,
        /// What may become of a playbook's messages of a day.
        "rates" rates: Option<RawRates>,
        /// So many people may enter at the first run of a version without a second person's word; 500 unless given.
        "first_run" first_run: Option<Whole<0, 1_000_000_000>>,
        /// The first messages of a new version of a playbook, upon which the others wait.
        "canary" canary: Option<RawCanary>,
        /// Messages of the whole project in an hour of the clock, without transactional ones; 10000 unless given.
        "per_hour" per_hour: Option<Whole<1, 1_000_000_000>>,
        /// Of those in an audience, so many may be removed in one sync, besides who opted out; 20% unless given.
        "removal" removal: Option<Share>,
    }
}

record! {
    /// The first messages of a new version of a playbook.
    pub(crate) struct RawCanary ("a map with `share`, `min` and `soak`") {
        /// So many of the segment's members; 1% unless given.
        "share" share: Option<Share>,
        /// And no fewer than so many; 50 unless given.
        "min" min: Option<Whole<1, 1_000_000_000>>,
        /// How long the others wait for what becomes of them; 15m unless given.
        "soak" soak: Option<Positive>,
    }
}

record! {
    /// How fast a segment may grow, against the middle of its last seven good runs.
    pub(crate) struct RawGrowth ("a map with `times` and `above`") {
        /// To so many times as many; 3 unless given.
        "times" times: Option<Whole<1, 1_000>>,
        /// Or by so many; 1000 unless given.
        "above" above: Option<Whole<0, 1_000_000_000>>,
    }
}

record! {
    /// What may become of a playbook's messages of a day, as far as chance does not explain it.
    pub(crate) struct RawRates ("a map of shares") {
        /// The address does not exist; 3% unless given.
        "bounced" bounced: Option<Share>,
        /// The person reports it as spam; 0.08% unless given.
        "complained" complained: Option<Share>,
        /// The person opts out by a link in it; 1.5% unless given.
        "unsubscribed" unsubscribed: Option<Share>,
        /// It is refused for another cause, or cannot be made; 10% unless given.
        "failed" failed: Option<Share>,
        /// A default stood in for a value that the person's data lack; 2% unless given. What a template asks about with `if` is meant.
        "fallback" fallback: Option<Share>,
    }
}

record! {
    /// What stops this playbook before it does harm; as in policy.yml unless given.
    pub(crate) struct RawOwnGuards ("a map of guards") {
        /// What of its messages of a day may be in doubt.
        "in_doubt" in_doubt: Option<Share>,
        /// What may become of its messages of a day.
        "rates" rates: Option<RawRates>,
    }
    not_yet { "growth", "first_run", "canary" }
}

record! {
    /// The share of people who get nothing but transactional messages.
    pub(crate) struct HoldoutMap ("a share, or a map with `share`") {
        /// How many.
        "share" share: Share,
        /// What makes the draw this one and no other.
        "salt" salt: Option<String>,
        /// After how long others are drawn.
        "rotate" rotate: Option<Positive>,
    }
}

/// A share, or a map with it.
#[derive(Debug, Clone)]
pub(crate) struct RawHoldout(pub(crate) HoldoutMap);

impl Read for RawHoldout {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        if matches!(node.kind, Kind::Map(_)) && !(cx.references && crate::reference::is_reference(node)) {
            return HoldoutMap::read(node, cx).map(Self);
        }
        Share::read(node, cx).map(|share| Self(HoldoutMap { share, salt: None, rotate: None }))
    }

    fn schema(schemas: &mut Schemas) -> Json {
        let (share, map) = (<Share as Read>::schema(schemas), HoldoutMap::schema(schemas));
        json!({"anyOf": [share, map]})
    }
}

/// What is laid over the other keys: looked at here only for keys nobody knows.
#[derive(Debug, Clone)]
pub(crate) struct Environments;

impl Read for Environments {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let Kind::Map(entries) = &node.kind else {
            cx.wrong_kind(node, "a map with an environment under each name");
            return None;
        };
        for (_, environment) in entries.iter().filter(|(_, environment)| !environment.is_null()) {
            cx.keys(environment, &keys(), Root::LATER, "a map of keys of the root files");
        }
        Some(Self)
    }

    fn schema(schemas: &mut Schemas) -> Json {
        schemas.define("Environments", |_| {
            let any: serde_json::Map<String, Json> = keys().iter().map(|key| ((*key).to_owned(), json!({}))).collect();
            json!({"type": "object", "additionalProperties": {"type": ["object", "null"], "properties": any, "additionalProperties": false}})
        })
    }
}

/// The keys that an environment may lay something over.
fn keys() -> Vec<&'static str> {
    Root::KEYS.iter().copied().filter(|key| *key != "environments").collect()
}
