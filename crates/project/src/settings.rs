//! From drumbeat.yml and data.yml as written to [`Settings`] and [`Data`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use jiff::tz::TimeZone;
use model::name::{DestinationName, FreshName, RecipientsName};
use model::query::Query;
use model::recipients::Recipients;
use model::settings::{
    Brand, ConnectorSettings, Data, Deliver, Destination, Fresh, Settings, Throttle, TimeEncoding,
    WarehouseSettings,
};
use model::{Channel, Secret, Value};
use serde_json::{Map, Value as Json};

use crate::Can;
use crate::query::query;
use crate::rates::{RawRecipients, RawThrottle, recipients, sending_domains};
use crate::read::{At, Cx, Given, Read};
use crate::reference::is_reference;
use crate::root::{RawBrand, RawDestination, RawFresh, Root};
use crate::source::Span;
use crate::values::{Positive, Thing, Things};
use crate::yaml::{Kind, Node};
use model::suggest::nearest;

/// Connectors that are known and not built yet.
const LATER: &[&str] =
    &["hubspot", "salesforce", "pipedrive", "slack", "teams", "brevo", "twilio", "apns", "fcm"];

/// Where the state is unless it is said.
const DEFAULT_STATE: &str = "sqlite://.drumbeat/state.db";

/// Settings, of the keys that concern them.
pub(crate) fn settings(
    root: &Root,
    destinations: BTreeMap<DestinationName, Destination>,
    cx: &mut Cx<'_>,
) -> Option<Settings> {
    let warehouse = root.warehouse.0.as_ref();
    let url = warehouse.and_then(|warehouse| warehouse.url.0.as_ref());
    if let Some(url) = url {
        check_url(url, cx);
    }
    let state = root.state.clone();
    if let Some(state) = &state {
        check_url(state, cx);
    }
    if let Some(url) = url {
        check_apart(state.as_ref(), url, cx);
    }
    let domains = sending_domains(root.brands.as_ref(), cx);
    let brands = root.brands.iter().flat_map(|brands| &brands.0).map(|thing| brand(thing, &domains));
    let brands: BTreeMap<_, _> = brands.map(|brand| (brand.name.clone(), brand)).collect();
    let (admin, public) = root.serve.clone().map_or((None, None), |serve| (serve.admin, serve.public));
    let locales: Vec<String> = root.locales.iter().flatten().map(|locale| locale.0.clone()).collect();
    let warehouse = warehouse?;
    Some(Settings {
        // Missing, it is reported; the rest can be looked at all the same.
        project: root.project.0.as_ref().map(|project| project.0.clone()).unwrap_or_default(),
        timezone: root.timezone.clone().unwrap_or(TimeZone::UTC),
        locales: if locales.is_empty() { vec!["en".to_owned()] } else { locales },
        production: root.production.unwrap_or(false),
        deliver: root.deliver.unwrap_or(Deliver::Local),
        colleagues: root.colleagues.clone().unwrap_or_default(),
        state: state.map_or_else(|| Secret::new(DEFAULT_STATE), |state| state.value),
        journal: root.journal.clone(),
        warehouse: WarehouseSettings {
            url: url?.value.clone(),
            schema: warehouse.schema.clone(),
            times: warehouse.times.unwrap_or(TimeEncoding::Rfc3339),
            statement_timeout: warehouse
                .statement_timeout
                .map_or(SignedDuration::from_secs(60), |timeout| timeout.0),
        },
        brands,
        destinations,
        root_key: root.keys.clone().and_then(|keys| keys.root),
        serve_admin: admin.map_or_else(|| "127.0.0.1:7700".to_owned(), |address| address.0),
        serve_public: public.map_or_else(|| "127.0.0.1:7701".to_owned(), |address| address.0),
    })
}

fn brand(thing: &Thing<model::BrandName, RawBrand>, domains: &BTreeMap<String, Throttle>) -> Brand {
    let raw = &thing.value;
    let domain = raw.from.domain();
    Brand {
        name: thing.name.clone(),
        title: raw.title.clone(),
        from: raw.from.0.clone(),
        reply_to: raw.reply_to.as_ref().map(|mailbox| mailbox.0.clone()),
        postal_address: raw.postal_address.right().cloned(),
        public_url: raw.public_url.right().map(|url| url.0.clone()),
        throttle: domains.get(&domain).copied(),
        domain,
    }
}

/// A database's address names one of the two databases; what else it says is not shown.
fn check_url(url: &At<Secret>, cx: &mut Cx<'_>) {
    let text = url.value.reveal();
    if !["sqlite://", "postgres://", "postgresql://"]
        .iter()
        .any(|scheme| text.starts_with(scheme) && text.len() > scheme.len())
    {
        cx.mistake("E0105", url.span, "this is not the address of a database")
            .label("`sqlite://PATH` or `postgres://...`");
    }
}

/// The warehouse belongs to the user and is only read; the state is ours and is written. One file cannot be both.
fn check_apart(state: Option<&At<Secret>>, warehouse: &At<Secret>, cx: &mut Cx<'_>) {
    let ours = state.map_or(DEFAULT_STATE, |state| state.value.reveal());
    let theirs = warehouse.value.reveal().split('?').next().unwrap_or_default();
    let (Some(ours), Some(theirs)) = (file_of(ours, cx.dir), file_of(theirs, cx.dir)) else { return };
    if ours == theirs {
        let at = state.map_or(warehouse.span, |state| state.span);
        cx.mistake("E0108", at, "`state` and `warehouse.url` are the same file").hint(
            "the warehouse is only read; leave `state` out, or give it a file of its own: `sqlite://.drumbeat/state.db`",
        );
    }
}

/// The file of an SQLite address, whatever way leads to it.
fn file_of(url: &str, dir: &Path) -> Option<PathBuf> {
    let path = dir.join(url.strip_prefix("sqlite://")?);
    let resolved = std::fs::canonicalize(&path).ok().or_else(|| {
        // It is not made yet: then its folder says where it will be.
        Some(std::fs::canonicalize(path.parent()?).ok()?.join(path.file_name()?))
    });
    Some(resolved.unwrap_or(path))
}

/// What the warehouse holds.
pub(crate) fn data(root: Root, cx: &mut Cx<'_>) -> Data {
    let profiles = root
        .profiles
        .0
        .and_then(|raw| query(raw.value.sql, raw.value.sql_file, raw.value.columns, raw.span, cx));
    let accounts = match root.accounts {
        Given::Absent => None,
        Given::Wrong => Some(Query::default()),
        Given::Right(raw, key) => {
            Some(query(raw.sql, raw.sql_file, raw.columns, key, cx).unwrap_or_default())
        }
    };
    let fresh = root.fresh.unwrap_or_default().0;
    let fresh = fresh.into_iter().filter_map(|thing| freshness(thing, cx)).collect();
    // What is wrong or not there is reported; nothing else asks for a query without a text.
    Data { profiles: profiles.unwrap_or_default(), accounts, fresh }
}

fn freshness(thing: Thing<FreshName, At<RawFresh>>, cx: &mut Cx<'_>) -> Option<(FreshName, Fresh)> {
    let raw = thing.value.value;
    let query: Query = query(raw.sql, raw.sql_file, raw.columns, thing.span, cx)?;
    Some((thing.name, Fresh { query, within: raw.within.0 }))
}

/// What is known of destinations: those that were read, and what all can do whose connector could be made out.
#[derive(Default)]
pub(crate) struct Destinations {
    pub(crate) read: BTreeMap<DestinationName, Destination>,
    pub(crate) abilities: Vec<(DestinationName, Can)>,
    /// Whether each could be read.
    pub(crate) complete: bool,
}

/// Destinations, each checked by its connector.
pub(crate) fn destinations(
    things: &Things<DestinationName, RawDestination>,
    cx: &mut Cx<'_>,
) -> Destinations {
    let mut all = Destinations { complete: true, ..Destinations::default() };
    for thing in &things.0 {
        match destination(&thing.name, &thing.value.0, thing.span, &mut all, cx) {
            Some(destination) => {
                all.read.insert(thing.name.clone(), destination);
            }
            None => all.complete = false,
        }
    }
    all
}

fn destination(
    name: &DestinationName,
    node: &Node,
    at: Span,
    all: &mut Destinations,
    cx: &mut Cx<'_>,
) -> Option<Destination> {
    let Some(connector_node) = node.get("connector") else {
        cx.missing(node, "connector");
        return None;
    };
    let connector = String::read(connector_node, cx)?;
    let connectors = cx.connectors;
    let Some(known) = connectors.iter().find(|known| known.name == connector) else {
        unknown_connector(&connector, connector_node.place(), cx);
        return None;
    };
    all.abilities.push((name.clone(), known.can));
    let schema = (known.schema)();
    let throttle = node.get("throttle").map(|node| RawThrottle::read(node, cx));
    let timeout = node.get("timeout").map(|node| Positive::read(node, cx));
    let groups = node.get("recipients").map(|node| recipients_of(node, known.can, cx));
    let mut settings = Map::new();
    let mut complete = true;
    for (key, value) in node.entries() {
        if ["connector", "throttle", "recipients", "timeout"].contains(&key.text.as_str()) {
            continue;
        }
        match setting(value, schema.pointer(&format!("/properties/{}", key.text)), cx) {
            Some(json) => {
                settings.insert(key.text.clone(), json);
            }
            None => complete = false,
        }
    }
    if !complete {
        return None;
    }
    let settings = ConnectorSettings(settings);
    let mistakes = (known.check)(&settings);
    for (key, message) in &mistakes {
        connector_mistake(node, at, key, message, &schema, cx);
    }
    let is_wrong =
        matches!(throttle, Some(None)) || matches!(timeout, Some(None)) || matches!(groups, Some(None));
    if is_wrong || !mistakes.is_empty() {
        return None;
    }
    Some(Destination {
        name: name.clone(),
        connector,
        settings,
        throttle: throttle.flatten().map(|raw| raw.throttle()),
        recipients: groups.flatten().unwrap_or_default(),
        timeout: timeout.flatten().map(|timeout| timeout.0),
    })
}

/// Rates of groups of recipients, where there are addresses to tell them by.
fn recipients_of(node: &Node, can: Can, cx: &mut Cx<'_>) -> Option<Recipients> {
    let things = Things::<RecipientsName, At<RawRecipients>>::read(node, cx)?;
    if can.messages != Some(Channel::Email) {
        let at = node.key.unwrap_or_else(|| node.place());
        cx.mistake(
            "E0108",
            at,
            "`recipients` is for destinations of mail: groups are told by the domains of addresses",
        );
        return None;
    }
    recipients(&things, cx)
}

fn unknown_connector(connector: &str, at: Span, cx: &mut Cx<'_>) {
    if LATER.contains(&connector) {
        cx.mistake("E0903", at, format!("not yet: the connector `{connector}` is not built yet"));
        return;
    }
    let names: Vec<&str> = cx.connectors.iter().map(|known| known.name).collect();
    let mistake = cx.mistake("E0201", at, format!("there is no connector `{connector}`"));
    match nearest(connector, names.iter().copied()) {
        Some(meant) => mistake.did_you_mean(Some(meant)),
        None => mistake.hint(format!("there are: {}", names.join(", "))),
    };
}

/// What a connector says of its settings, shown at the key it names.
fn connector_mistake(node: &Node, at: Span, key: &str, message: &str, schema: &Json, cx: &mut Cx<'_>) {
    let properties = schema.get("properties").and_then(Json::as_object);
    let known: Vec<&str> =
        properties.map(|properties| properties.keys().map(String::as_str).collect()).unwrap_or_default();
    let first = key.split(['.', '/']).next().unwrap_or(key);
    let misspelt = |(written, _): &(crate::yaml::Key, Node)| {
        !known.contains(&written.text.as_str())
            && nearest(&written.text, known.iter().copied()) == Some(first)
    };
    if node.get(first).is_none() && node.entries().iter().any(misspelt) {
        return;
    }
    let entry = node.entries().iter().find(|(written, _)| written.text == first);
    let meant =
        nearest(first, known.iter().copied()).filter(|_| !known.is_empty() && !known.contains(&first));
    match entry {
        Some((written, _)) if !known.is_empty() && !known.contains(&first) => {
            let message = format!("unknown key `{first}`");
            let mistake = cx.mistake("E0102", written.span, message);
            match meant {
                Some(meant) => mistake.did_you_mean(Some(meant)),
                None => mistake.hint(format!("known here: {}", known.join(", "))),
            };
        }
        Some((_, value)) => {
            cx.mistake("E0105", value.place(), format!("`{key}`: {message}"));
        }
        None => {
            cx.mistake("E0103", at, format!("`{key}`: {message}"));
        }
    }
}

/// A setting as JSON, each single value of the type that the connector's schema wants.
fn setting(node: &Node, schema: Option<&Json>, cx: &mut Cx<'_>) -> Option<Json> {
    match &node.kind {
        Kind::Scalar { .. } if node.is_null() => Some(Json::Null),
        Kind::Scalar { .. } => single(node, schema, cx),
        Kind::Map(_) if is_reference(node) => single(node, schema, cx),
        Kind::List(items) => {
            let inner = schema.and_then(|schema| schema.get("items"));
            let read: Vec<Option<Json>> = items.iter().map(|item| setting(item, inner, cx)).collect();
            read.into_iter().collect()
        }
        Kind::Map(entries) => {
            let inner = schema.and_then(|schema| schema.get("properties"));
            let read: Vec<_> = entries
                .iter()
                .map(|(key, value)| {
                    Some((
                        key.text.clone(),
                        setting(value, inner.and_then(|inner| inner.get(&key.text)), cx)?,
                    ))
                })
                .collect();
            read.into_iter().collect::<Option<Map<_, _>>>().map(Json::Object)
        }
    }
}

fn single(node: &Node, schema: Option<&Json>, cx: &mut Cx<'_>) -> Option<Json> {
    let text = cx.text(node, "a value")?;
    let wants = |kind: &str| match schema.and_then(|schema| schema.get("type")) {
        Some(Json::String(only)) => only == kind,
        Some(Json::Array(several)) => several.iter().any(|one| one == kind),
        _ => true,
    };
    Some(match crate::values::by_look(&text.text, text.plain) {
        Value::Boolean(boolean) if wants("boolean") => Json::from(boolean),
        Value::Integer(integer) if wants("integer") || wants("number") => Json::from(integer),
        Value::Number(number) if wants("number") => Json::from(number),
        _ => Json::from(text.text),
    })
}
