//! playbooks/NAME.yml.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use jiff::civil::{Time, Weekday};
use model::condition::Condition;
use model::duration::Share;
use model::name::{DestinationName, PlaybookName, PurposeName, SegmentName};
use model::playbook::{
    Action, Arm, Backfill, ExitRule, Goal, Holdout, Playbook, Reenter, Send, SendWindow, Step,
};
use model::policy::Channel;
use serde_json::{Value as Json, json};

use crate::Can;
use crate::policy::own_guards;
use crate::read::{Asking, At, Cx, Given, Named, Needed, Read, record};
use crate::root::RawOwnGuards;
use crate::schema::Schemas;
use crate::segment::{canonical, top};
use crate::source::Span;
use crate::steps::{self, RawStep, Steps};
use crate::values::{Positive, Some1, Whole};
use crate::yaml::{Kind, Node};

record! {
    /// What happens to one person, step by step.
    pub(crate) struct RawPlaybook ("a playbook") {
        /// What people call it.
        "title" title: Needed<String>,
        /// Whose it is.
        "owner" owner: Needed<String>,
        /// What it is for.
        "why" why: Needed<String>,
        /// Words to find it by.
        "tags" tags: Option<Some1<String>>,
        /// On entering this: `segment.NAME`.
        "enter" enter: Needed<Enter>,
        /// Only those, asked on entering.
        "where" filter: Option<EnteringCondition>,
        /// Those in it when it is activated: none, all, or `30d`: who came in less than 30 days ago.
        "backfill" backfill: Option<RawBackfill>,
        /// From the end of the last time: never, always, or `{after: 90d}`; 30d unless given.
        "reenter" reenter: Option<RawReenter>,
        /// What ends it early, at any time.
        "exit" exit: Option<RawExit>,
        /// What it is to achieve; reaching it ends it.
        "goal" goal: Option<RawGoal>,
        /// Of every send that does not say its own.
        "purpose" purpose: Option<At<PurposeName>>,
        /// 0 to 100; who wins when two playbooks want the same person. 50 unless given.
        "priority" priority: Option<Whole<0, 100>>,
        /// The share that gets nothing.
        "holdout" holdout: Option<RawHoldout>,
        /// Beyond which the run is held.
        "limits" limits: Option<RawLimits>,
        /// What stops it before it does harm, where it is not as in policy.yml: `{rates: {fallback: 40%}}` where many lack what a default stands for.
        "guards" guards: Option<RawOwnGuards>,
        /// Local times at which its sends may go.
        "window" window: Option<RawWindow>,
        /// Shelf life of its sends; 3d unless given.
        "expires" expires: Option<Positive>,
        /// In order.
        "steps" steps: Needed<Steps>,
    }
    not_yet { "at", "schedule", "one_per", "extends" }
}

/// `segment.NAME`
#[derive(Debug, Clone)]
pub(crate) struct Enter(SegmentName);

impl Read for Enter {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let text = cx.text(node, "`segment.NAME`")?;
        match text.text.split_once('.') {
            Some(("segment", name)) if !name.is_empty() => {
                let start =
                    text.span.end.saturating_sub(u32::try_from(name.len()).unwrap_or(0)).max(text.span.start);
                cx.mention(Named::Segment, name, Span { start, ..text.span });
                SegmentName::parse(name).ok().map(Self)
            }
            Some(("event", _)) => {
                cx.not_yet(text.span, "entering on an event is");
                None
            }
            _ => {
                let message = format!("{} is nothing to enter on", text.shown());
                let is_name = model::name::is_name(&text.text);
                let mistake = cx.mistake("E0105", text.span, message);
                mistake.label("`segment.NAME`");
                if is_name {
                    mistake.did_you_mean(Some(&format!("segment.{}", text.text)));
                }
                None
            }
        }
    }

    fn schema(_schemas: &mut Schemas) -> Json {
        json!({"type": "string", "pattern": "^segment\\.[a-z][a-z0-9_]*$"})
    }
}

/// A condition that is asked on entering, before there are steps.
#[derive(Debug, Clone)]
pub(crate) struct EnteringCondition(Condition);

impl Read for EnteringCondition {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let before = std::mem::replace(&mut cx.asking, Asking::Entering);
        let condition = Condition::read(node, cx);
        cx.asking = before;
        condition.map(Self)
    }

    fn schema(schemas: &mut Schemas) -> Json {
        <Condition as Read>::schema(schemas)
    }
}

/// none, all, or a duration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawBackfill(Backfill);

impl Read for RawBackfill {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        cx.parsed(node, "a backfill", |text| match text {
            "none" => Ok(Self(Backfill::None)),
            "all" => Ok(Self(Backfill::All)),
            text => model::duration::parse_duration(text)
                .map(|since| Self(Backfill::Since(since)))
                .map_err(|_| "`none`, `all` or a duration such as `30d`"),
        })
    }

    fn schema(_schemas: &mut Schemas) -> Json {
        json!({"type": "string", "pattern": "^(none|all|[0-9]+[smhdw])$"})
    }
}

record! {
    /// Again, so long after the end of the last time.
    pub(crate) struct ReenterAfter ("`never`, `always` or `{after: 30d}`") {
        /// So long.
        "after" after: SignedDuration,
    }
    not_yet { "per" }
}

/// never, always, `{after: 30d}` or, short, the duration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawReenter(Reenter);

impl Read for RawReenter {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        if matches!(node.kind, Kind::Map(_)) {
            return ReenterAfter::read(node, cx).map(|raw| Self(Reenter::After(raw.after)));
        }
        cx.parsed(node, "a re-entry", |text| match text {
            "never" => Ok(Self(Reenter::Never)),
            "always" => Ok(Self(Reenter::Always)),
            text => model::duration::parse_duration(text)
                .map(|after| Self(Reenter::After(after)))
                .map_err(|_| "`never`, `always` or `{after: 30d}`"),
        })
    }

    fn schema(schemas: &mut Schemas) -> Json {
        let map = ReenterAfter::schema(schemas);
        json!({"anyOf": [{"type": "string", "pattern": "^(never|always|[0-9]+[smhdw])$"}, map]})
    }
}

record! {
    /// What ends it early, also in the middle of a wait.
    pub(crate) struct RawExit ("a map with `on_leave` and `when`") {
        /// Leaving the segment; true unless given.
        "on_leave" on_leave: Option<bool>,
        /// Something coming to be so.
        "when" when: Option<Condition>,
    }
}

record! {
    /// What it is to achieve.
    pub(crate) struct RawGoal ("a map with `when` and `within`") {
        /// What must come to be so.
        "when" when: Condition,
        /// Within this, from the entry.
        "within" within: Positive,
        /// Whether reaching it ends the playbook; true unless given.
        "exit" exit: Option<bool>,
    }
}

record! {
    /// The share that gets nothing.
    pub(crate) struct HoldoutFields ("a share, or a map with `share`") {
        /// How many.
        "share" share: Share,
        /// What makes the draw this one; the playbook's name unless given.
        "salt" salt: Option<String>,
    }
}

/// A share, or a map with it.
#[derive(Debug, Clone)]
pub(crate) struct RawHoldout(HoldoutFields);

impl Read for RawHoldout {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        if matches!(node.kind, Kind::Map(_)) {
            return HoldoutFields::read(node, cx).map(Self);
        }
        Share::read(node, cx).map(|share| Self(HoldoutFields { share, salt: None }))
    }

    fn schema(schemas: &mut Schemas) -> Json {
        let (share, map) = (<Share as Read>::schema(schemas), HoldoutFields::schema(schemas));
        json!({"anyOf": [share, map]})
    }
}

record! {
    /// Beyond which a run is held, or messages wait.
    pub(crate) struct RawLimits ("a map with `per_run` or `per_hour`") {
        /// Entries in one run; beyond them the run is held.
        "per_run" per_run: Option<Whole<0, 1_000_000_000>>,
        /// Messages in an hour of the clock; those beyond wait.
        "per_hour" per_hour: Option<Whole<1, 1_000_000_000>>,
    }
}

record! {
    /// Local times at which something may go.
    pub(crate) struct WindowFields ("a map with `days`, `from` and `to`") {
        /// On these days; all unless given.
        "days" days: Option<Some1<Weekday>>,
        /// From when on.
        "from" from: Given<Time>,
        /// Until when; not after `from` means over midnight.
        "to" to: Given<Time>,
    }
}

/// A window that says something.
#[derive(Debug, Clone)]
pub(crate) struct RawWindow(pub(crate) SendWindow);

impl Read for RawWindow {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let fields = WindowFields::read(node, cx)?;
        let days = fields.days.unwrap_or_default().0;
        let hours = hours(fields.from, fields.to, node.place(), cx)?;
        if days.is_empty() && hours.is_none() {
            cx.mistake("E0105", node.place(), "a window without days and hours is always open");
            return None;
        }
        Some(Self(SendWindow { days, hours }))
    }

    fn schema(schemas: &mut Schemas) -> Json {
        let fields = WindowFields::schema(schemas);
        json!({"allOf": [fields], "minProperties": 1, "dependentRequired": {"from": ["to"], "to": ["from"]}})
    }
}

/// `from` and `to`, which come together or not at all, and differ.
pub(crate) fn hours(
    from: Given<Time>,
    to: Given<Time>,
    at: Span,
    cx: &mut Cx<'_>,
) -> Option<Option<(Time, Time)>> {
    match (from, to) {
        (Given::Absent, Given::Absent) => Some(None),
        (Given::Wrong, _) | (_, Given::Wrong) => None,
        (Given::Right(from, _), Given::Right(to, _)) if from == to => {
            cx.mistake("E0105", at, "`from` and `to` are the same").hint("leave both out for the whole day");
            None
        }
        (Given::Right(from, _), Given::Right(to, _)) => Some(Some((from, to))),
        (Given::Right(..), Given::Absent) | (Given::Absent, Given::Right(..)) => {
            cx.mistake("E0108", at, "`from` and `to` come together");
            None
        }
    }
}

/// What a playbook needs to know of the rest of the project.
pub(crate) struct Surroundings<'a> {
    /// Destinations with their channel.
    pub(crate) destinations: &'a [(DestinationName, Can)],
    /// Whether destinations could be read at all; otherwise nothing is said of them.
    pub(crate) destinations_known: bool,
    /// Where it is not clear from the file: what the step used before, or uses now.
    pub(crate) preferred: BTreeMap<String, DestinationName>,
}

/// A playbook with what only the checks after it need.
#[derive(Debug)]
pub(crate) struct Written {
    /// The playbook; its `version` is still empty.
    pub(crate) playbook: Playbook,
    /// Where each send's template stands, by step.
    pub(crate) sends: Vec<(model::StepId, Span)>,
    /// The canonical text of what a version pins.
    pub(crate) pinned: String,
}

/// Reads a playbook's file.
pub(crate) fn read(
    name: PlaybookName,
    node: &Node,
    around: &Surroundings<'_>,
    cx: &mut Cx<'_>,
) -> Option<Written> {
    cx.asking = Asking::UnderWay;
    steps::begin(cx);
    let raw = RawPlaybook::read(node, cx);
    steps::finish(&name, cx);
    cx.asking = Asking::People;
    let raw = raw?;
    let mut making = Making {
        around,
        purpose: raw.purpose.map(|purpose| purpose.value),
        top: top(node),
        sends: Vec::new(),
        missing_purpose: node.get("purpose").is_some(),
    };
    let steps = making.steps(raw.steps.0.unwrap_or_default(), cx);
    let first_purpose = making.sends.first().map(|(_, _, purpose)| purpose.clone());
    let sends = making.sends;
    let Some(purpose) = making.purpose.or(first_purpose) else {
        if !making.missing_purpose {
            cx.mistake("E0103", top(node), "the key `purpose` is missing");
        }
        return None;
    };
    let limits = raw.limits.map_or((None, None), |limits| (limits.per_run, limits.per_hour));
    let playbook = Playbook {
        holdout: raw.holdout.map(|RawHoldout(raw)| Holdout {
            share: raw.share,
            salt: raw.salt.unwrap_or_else(|| name.as_str().to_owned()),
        }),
        name,
        title: raw.title.0.unwrap_or_default(),
        owner: raw.owner.0.unwrap_or_default(),
        why: raw.why.0.unwrap_or_default(),
        tags: raw.tags.unwrap_or_default().0,
        version: String::new(),
        enter: raw.enter.0?.0,
        filter: raw.filter.map(|filter| filter.0),
        backfill: raw.backfill.map_or(Backfill::None, |backfill| backfill.0),
        reenter: raw.reenter.map_or(Reenter::After(SignedDuration::from_hours(24 * 30)), |reenter| reenter.0),
        exit: raw.exit.map_or(ExitRule { on_leave: true, when: None }, |exit| ExitRule {
            on_leave: exit.on_leave.unwrap_or(true),
            when: exit.when,
        }),
        goal: raw.goal.map(|goal| Goal {
            when: goal.when,
            within: goal.within.0,
            exits: goal.exit.unwrap_or(true),
        }),
        purpose,
        priority: raw.priority.and_then(|priority| u8::try_from(priority.0).ok()).unwrap_or(50),
        per_run: limits.0.map(|per_run| per_run.0),
        per_hour: limits.1.map(|per_hour| per_hour.0),
        guards: raw.guards.map(|guards| own_guards(guards.in_doubt, guards.rates)).unwrap_or_default(),
        window: raw.window.map(|window| window.0),
        expires: raw.expires.map_or(SignedDuration::from_hours(72), |expires| expires.0),
        steps,
        contents: BTreeMap::new(),
    };
    let sends = sends.into_iter().map(|(id, span, _)| (id, span)).collect();
    Some(Written { playbook, sends, pinned: pinned(node) })
}

/// The keys whose values people under way stay on.
const PINNED: &[&str] = &["enter", "steps", "purpose", "exit", "goal", "holdout", "window", "expires"];

fn pinned(node: &Node) -> String {
    PINNED.iter().map(|key| format!("{key}={}\n", node.get(key).map(canonical).unwrap_or_default())).collect()
}

/// From steps as written to steps as they happen.
struct Making<'a> {
    around: &'a Surroundings<'a>,
    purpose: Option<PurposeName>,
    top: Span,
    sends: Vec<(model::StepId, Span, PurposeName)>,
    missing_purpose: bool,
}

impl Making<'_> {
    fn steps(&mut self, steps: Steps, cx: &mut Cx<'_>) -> Vec<Step> {
        steps.0.into_iter().filter_map(|step| self.step(step, cx)).collect()
    }

    fn step(&mut self, raw: RawStep, cx: &mut Cx<'_>) -> Option<Step> {
        let window = steps::window(&raw.fields.window);
        let expires = raw.fields.expires.right().map(|expires| expires.0);
        let action = match (raw.fields.send, raw.fields.wait, raw.fields.branch, raw.fields.exit) {
            (Given::Right(send, _), ..) => self.send(&raw.id, send.0, window, expires, cx).map(Action::Send),
            (_, Given::Right(wait, _), ..) => Some(Action::Wait(wait.0)),
            (_, _, Given::Right(arms, at), _) => Some(Action::Branch(self.arms(arms, at, cx))),
            (_, _, _, Given::Right(word, _)) => Some(Action::Exit(word)),
            _ => None,
        };
        Some(Step { id: raw.id, condition: raw.fields.condition, action: action? })
    }

    fn arms(&mut self, arms: Vec<steps::RawArm>, at: Span, cx: &mut Cx<'_>) -> Vec<Arm> {
        if arms.is_empty() {
            cx.mistake("E0105", at, "a branch has at least one arm");
        }
        let last = arms.len().saturating_sub(1);
        let mut made = Vec::new();
        for (position, arm) in arms.into_iter().enumerate() {
            if arm.condition.is_none() && position != last {
                cx.mistake("E0108", arm.span, "only the last arm may go without `if`")
                    .hint("the arms after this one would never be reached");
            }
            made.push(Arm { condition: arm.condition, steps: self.steps(arm.steps, cx) });
        }
        made
    }

    fn send(
        &mut self,
        id: &model::StepId,
        raw: steps::SendFields,
        window: Option<SendWindow>,
        expires: Option<SignedDuration>,
        cx: &mut Cx<'_>,
    ) -> Option<Send> {
        let purpose = raw.purpose.map(|purpose| purpose.value).or_else(|| self.purpose.clone());
        if purpose.is_none() && !self.missing_purpose {
            self.missing_purpose = true;
            cx.mistake("E0103", self.top, "the key `purpose` is missing")
                .hint("give the playbook one, or each of its sends");
        }
        let destination = self.destination(id, raw.destination, raw.template.span, cx);
        let purpose = purpose?;
        self.sends.push((id.clone(), raw.template.span, purpose.clone()));
        Some(Send {
            template: raw.template.value,
            destination: destination?,
            purpose,
            with: raw.with.unwrap_or_default().0,
            expires,
            window,
        })
    }

    /// The destination that was named, if it can do mail, or the only one that can.
    fn destination(
        &self,
        id: &model::StepId,
        named: Option<At<DestinationName>>,
        at: Span,
        cx: &mut Cx<'_>,
    ) -> Option<DestinationName> {
        let mail: Vec<&DestinationName> = self
            .around
            .destinations
            .iter()
            .filter(|(_, can)| can.messages == Some(Channel::Email))
            .map(|(name, _)| name)
            .collect();
        if let Some(named) = named {
            let can =
                self.around.destinations.iter().find(|(name, _)| *name == named.value).map(|(_, can)| *can);
            if let (None, Some(preferred)) = (can, self.around.preferred.get(id.as_str())) {
                return Some(preferred.clone());
            }
            if can.is_some_and(|can| can.messages != Some(Channel::Email)) {
                cx.mistake(
                    "E0204",
                    named.span,
                    format!("the destination `{}` does not send mail", named.value),
                );
            }
            return Some(named.value);
        }
        match (&mail[..], self.around.preferred.get(id.as_str())) {
            ([one], _) => Some((*one).clone()),
            (_, Some(preferred)) => Some(preferred.clone()),
            ([], None) if !self.around.destinations_known => None,
            ([], None) => {
                cx.mistake("E0204", at, "no destination sends mail")
                    .hint("add one to drumbeat.yml under `destinations`");
                None
            }
            _ => {
                let names = mail.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                cx.mistake("E0204", at, format!("several destinations send mail: {names}"))
                    .hint("say which: `send: {template: ..., destination: ...}`");
                None
            }
        }
    }
}
