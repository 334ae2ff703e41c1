//! syncs/NAME.yml.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use model::duration::Share;
use model::name::{AudienceName, DestinationName, NameError, PurposeName, SegmentName, SyncName};
use model::policy::{Channel, Guards, MessageClass, Policy};
use model::schedule::Schedule;
use model::sync::{AudienceAt, Sync, SyncFrom};
use serde_json::{Value as Json, json};

use crate::read::{At, Cx, Named, Needed, Read, record};
use crate::schema::Schemas;
use crate::segment::canonical;
use crate::source::Span;
use crate::values::Some1;
use crate::yaml::Node;

record! {
    /// An audience, kept equal to people of the warehouse who consent.
    pub(crate) struct RawSync ("a sync") {
        /// What people call it.
        "title" title: Needed<String>,
        /// Whose it is.
        "owner" owner: Needed<String>,
        /// What it is for.
        "why" why: Needed<String>,
        /// Words to find it by.
        "tags" tags: Option<Some1<String>>,
        /// When the audience is compared with the people: `15m`, `0 6 * * mon-fri`; 1h unless given.
        "schedule" schedule: Option<Schedule>,
        /// Who is to be in it: `profiles`, or `segment.NAME`.
        "from" from: Needed<RawFrom>,
        /// Which audience.
        "audience" audience: Needed<RawAudience>,
        /// What the people consent to, on the channel `ads`.
        "purpose" purpose: Needed<At<PurposeName>>,
        /// Its own, instead of the policy's.
        "guards" guards: Option<RawSyncGuards>,
    }
    not_yet { "record", "expect", "extends" }
}

record! {
    /// An audience at a destination.
    pub(crate) struct RawAudience ("a map with `destination` and `name`") {
        /// Whose account it is in.
        "destination" destination: Needed<At<DestinationName>>,
        /// What it is called here. The provider sees a neutral name.
        "name" name: Needed<AudienceName>,
    }
}

record! {
    /// What stops a sync before it does harm.
    pub(crate) struct RawSyncGuards ("a map with `removal`") {
        /// Of those in the audience, so many may be removed in one sync, besides who opted out.
        "removal" removal: Option<Share>,
    }
}

/// `profiles`, or `segment.NAME`.
#[derive(Debug, Clone)]
pub(crate) struct RawFrom(SyncFrom);

impl Read for RawFrom {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let text = cx.text(node, "`profiles` or `segment.NAME`")?;
        match text.text.split_once('.') {
            None if text.text == "profiles" => Some(Self(SyncFrom::Profiles)),
            None if text.text == "accounts" => {
                cx.not_yet(text.span, "a sync of accounts is");
                None
            }
            Some(("segment", name)) if !name.is_empty() => {
                let len = u32::try_from(name.len()).unwrap_or(0);
                let start = text.span.end.saturating_sub(len).max(text.span.start);
                cx.mention(Named::Segment, name, Span { start, ..text.span });
                SegmentName::parse(name).ok().map(|name| Self(SyncFrom::Segment(name)))
            }
            _ => {
                let message = format!("{} is nobody to keep an audience equal to", text.shown());
                cx.mistake("E0105", text.span, message).label("`profiles` or `segment.NAME`");
                None
            }
        }
    }

    fn schema(_schemas: &mut Schemas) -> Json {
        json!({"type": "string", "pattern": "^(profiles|segment\\.[a-z][a-z0-9_]*)$"})
    }
}

impl Read for AudienceName {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        cx.parsed(node, "an audience's name", |text| {
            Self::parse(text).map_err(|NameError| "lower-case words joined by `_`, such as `power_users`")
        })
    }

    fn schema(_schemas: &mut Schemas) -> Json {
        json!({"type": "string", "pattern": "^[a-z][a-z0-9_]*$"})
    }
}

/// Reads all of them. An audience has one sync; its destination has audiences; its purpose may be asked for on ads.
pub(crate) fn read_all(
    files: &[(String, Node)],
    audiences: &[DestinationName],
    channels: &[(DestinationName, Channel)],
    policy: Option<&Policy>,
    cx: &mut Cx<'_>,
) -> BTreeMap<SyncName, Sync> {
    let mut syncs: BTreeMap<SyncName, Sync> = BTreeMap::new();
    for (name, node) in files {
        let Some((sync, at)) = read(SyncName::known(name.as_str()), node, policy, cx) else { continue };
        let destination = &sync.audience.destination;
        if !audiences.contains(destination) && channels.iter().any(|(known, _)| known == destination) {
            cx.mistake("E0204", at.destination, format!("the destination `{destination}` has no audiences"))
                .hint("`drumbeat connector list` says which connectors have them");
        }
        let purpose = policy.and_then(|policy| policy.purposes.get(&sync.purpose));
        if purpose.is_some_and(|purpose| purpose.class == MessageClass::Transactional) {
            cx.mistake("E0204", at.purpose, "nobody is put into an audience for a transactional purpose")
                .hint("that a person has bought something is no consent to ads: name a purpose of class marketing");
        }
        if let Some(other) = syncs.values().find(|other| other.audience == sync.audience) {
            let message =
                format!("the audience `{}` is kept by syncs/{}.yml already", sync.audience.name, other.name);
            cx.mistake("E0204", at.destination, message)
                .hint("an audience has one sync; give this one another name, or a segment that joins both");
        }
        syncs.insert(sync.name.clone(), sync);
    }
    syncs
}

/// Where things stand that are looked at once all files are read.
struct Places {
    destination: Span,
    purpose: Span,
}

fn read(name: SyncName, node: &Node, policy: Option<&Policy>, cx: &mut Cx<'_>) -> Option<(Sync, Places)> {
    let raw = RawSync::read(node, cx)?;
    let audience = raw.audience.0?;
    let destination = audience.destination.0?;
    let purpose = raw.purpose.0?;
    let from = raw.from.0?.0;
    let removal = raw.guards.and_then(|guards| guards.removal);
    let whole = policy.map_or_else(|| Guards::default().removal, |policy| policy.guards.removal);
    let what: Vec<String> =
        ["from", "audience", "purpose"].iter().filter_map(|key| node.get(key).map(canonical)).collect();
    let what: Vec<&str> = what.iter().map(String::as_str).collect();
    let sync = Sync {
        title: raw.title.0.unwrap_or_default(),
        owner: raw.owner.0.unwrap_or_default(),
        why: raw.why.0.unwrap_or_default(),
        tags: raw.tags.unwrap_or_default().0,
        schedule: raw.schedule.unwrap_or_else(|| Schedule::every(SignedDuration::from_hours(1))),
        from,
        audience: AudienceAt { destination: destination.value, name: audience.name.0? },
        purpose: purpose.value,
        removal: removal.unwrap_or(whole),
        definition: model::id::derive("sync", "", &[&[name.as_str()], &what[..]].concat()),
        name,
    };
    Some((sync, Places { destination: destination.span, purpose: purpose.span }))
}
