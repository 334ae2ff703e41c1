//! The steps of a playbook as they are written, and the ids of those that were given none.

use jiff::SignedDuration;
use model::condition::{Condition, ValueOf, ValueTest};
use model::name::{DestinationName, PurposeName, StepId, TemplateName};
use model::playbook::{SendWindow, Wait};
use model::value::Value;
use serde_json::{Value as Json, json};

use crate::condition::{value_of, value_of_schema};
use crate::playbook::RawWindow;
use crate::read::{At, Cx, Given, Needed, Read, record};
use crate::schema::Schemas;
use crate::source::Span;
use crate::values::Positive;
use crate::yaml::{Kind, Node};
use model::suggest::nearest;

/// Steps that are known and not built yet.
const LATER: &[&str] = &["record", "notify", "audience", "experiment", "withdraw"];

/// The steps of the playbook at hand.
#[derive(Debug, Default)]
pub(crate) struct StepScope {
    /// Ids so far, in the order of the file.
    known: Vec<(String, Span)>,
    /// The id that an `id`-less step is called after.
    previous: String,
    /// Steps that conditions ask about: with the number of steps known there; `None`: anywhere in the file.
    mentions: Vec<(String, Span, Option<usize>)>,
    /// Whether there are steps inside something that is not built yet, and so not read.
    hidden: bool,
    /// Whether what is read now stands in `steps`.
    inside: bool,
}

/// Notes that a condition asks about a step.
pub(crate) fn mention(id: &str, span: Span, cx: &mut Cx<'_>) -> StepId {
    let so_far = cx.steps.inside.then_some(cx.steps.known.len());
    cx.steps.mentions.push((id.to_owned(), span, so_far));
    StepId::known(id)
}

/// Begins with another playbook.
pub(crate) fn begin(cx: &mut Cx<'_>) {
    cx.steps = StepScope { previous: "start".to_owned(), ..StepScope::default() };
}

/// When the playbook is read: every step that a condition asks about is there, and comes before it.
pub(crate) fn finish(playbook: &model::PlaybookName, cx: &mut Cx<'_>) {
    let scope = std::mem::take(&mut cx.steps);
    if scope.hidden {
        return;
    }
    let ids = scope.known.iter().map(|(id, _)| id.clone()).collect();
    cx.step_ids.insert(playbook.clone(), ids);
    for (id, span, so_far) in scope.mentions {
        match scope.known.iter().position(|(known, _)| *known == id) {
            Some(at) if so_far.is_none_or(|so_far| at < so_far) => {}
            Some(at) => {
                let line = scope.known.get(at).map_or(0, |(_, span)| cx.files.locate(*span).0);
                cx.mistake("E0205", span, format!("the step `{id}` comes later"))
                    .label(format!("it begins in line {line}"));
            }
            None => {
                let meant = nearest(&id, scope.known.iter().map(|(known, _)| known.as_str()));
                cx.mistake("E0201", span, format!("there is no step `{id}`")).did_you_mean(meant);
            }
        }
    }
}

/// Steps, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Steps(pub(crate) Vec<RawStep>);

/// One step.
#[derive(Debug, Clone)]
pub(crate) struct RawStep {
    /// Given or made.
    pub(crate) id: StepId,
    /// What was written.
    pub(crate) fields: StepFields,
}

record! {
    /// A step: one of `send`, `wait`, `branch`, `exit`.
    pub(crate) struct StepFields ("a step") {
        /// Unique in the file; required where something goes out.
        "id" _id: Option<StepName>,
        /// Otherwise the step is skipped.
        "if" condition: Option<Condition>,
        /// Shelf life of a send: not sent later than this after it was due.
        "expires" expires: Given<Positive>,
        /// Local times at which a send may go.
        "window" window: Given<RawWindow>,
        /// A message to the profile.
        "send" send: Given<RawSend>,
        /// Time goes by.
        "wait" wait: Given<RawWait>,
        /// The first arm that fits, if any.
        "branch" branch: Given<Vec<RawArm>>,
        /// It ends here, with this word.
        "exit" exit: Given<String>,
    }
    not_yet { "record", "notify", "audience", "experiment", "withdraw" }
}

impl StepFields {
    /// The keys of what it does.
    fn verbs(&self) -> usize {
        [self.send.is_there(), self.wait.is_there(), self.branch.is_there(), self.exit.is_there()]
            .into_iter()
            .filter(|there| *there)
            .count()
    }
}

impl Read for Steps {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let Kind::List(items) = &node.kind else {
            cx.wrong_kind(node, "a list of steps");
            return None;
        };
        let before = std::mem::replace(&mut cx.steps.inside, true);
        let steps = items.iter().filter_map(|item| step(item, cx)).collect();
        cx.steps.inside = before;
        Some(Self(steps))
    }

    fn schema(schemas: &mut Schemas) -> Json {
        let step = schemas.define("Step", |schemas| {
            let fields = StepFields::schema(schemas);
            let one = |verb: &str| json!({"required": [verb]});
            json!({"allOf": [fields, {"oneOf": [
                {"required": ["send", "id"]}, one("wait"), one("branch"), one("exit"),
            ]}]})
        });
        json!({"type": "array", "items": step})
    }
}

fn step(node: &Node, cx: &mut Cx<'_>) -> Option<RawStep> {
    let verb = node
        .entries()
        .iter()
        .find(|(key, _)| ["send", "wait", "branch", "exit"].contains(&key.text.as_str()));
    let given = node.get("id").and_then(Node::text).filter(|id| !id.is_empty());
    let span =
        node.get("id").map(Node::place).or(verb.map(|(key, _)| key.span)).unwrap_or_else(|| node.place());
    let id = match (given, verb) {
        (Some(id), _) => id.to_owned(),
        (None, Some((key, _))) => unique(&format!("{}.{}", cx.steps.previous, key.text), &cx.steps.known),
        (None, None) => unique("step", &cx.steps.known),
    };
    cx.steps.previous.clone_from(&id);
    cx.steps.hidden |= node.get("experiment").is_some();
    let fields = StepFields::read(node, cx);
    cx.steps.previous.clone_from(&id);
    if let Some((_, first)) = cx.steps.known.iter().find(|(known, _)| *known == id) {
        let line = cx.files.locate(*first).0;
        cx.mistake("E0106", span, format!("the step `{id}` is there twice"))
            .label(format!("the first is in line {line}"));
    }
    cx.steps.known.push((id.clone(), span));
    let fields = fields?;
    let later = node.entries().iter().any(|(key, _)| LATER.contains(&key.text.as_str()));
    match fields.verbs() {
        1 => {}
        // Reported as not built yet.
        0 if later => return None,
        0 => {
            cx.mistake("E0103", node.place(), "a step does something: `send`, `wait`, `branch` or `exit`");
            return None;
        }
        _ => {
            cx.mistake("E0108", span, "a step does one thing").hint("make a step of each");
            return None;
        }
    }
    if fields.send.is_there() && given.is_none() {
        cx.mistake("E0103", span, "the key `id` is missing")
            .hint("where something goes out, the step needs a name that stays");
        return None;
    }
    for (key, given) in [("expires", given_at(&fields.expires)), ("window", given_at(&fields.window))] {
        if let Some(at) = given.filter(|_| !fields.send.is_there()) {
            cx.mistake("E0108", at, format!("`{key}` does nothing here"))
                .warn()
                .hint("it belongs to a step with `send`");
        }
    }
    Some(RawStep { id: StepId::known(id), fields })
}

fn given_at<T>(given: &Given<T>) -> Option<Span> {
    match given {
        Given::Right(_, at) => Some(*at),
        Given::Absent | Given::Wrong => None,
    }
}

/// The id itself, or with the first number that makes it unique.
fn unique(id: &str, known: &[(String, Span)]) -> String {
    let taken = |id: &str| known.iter().any(|(known, _)| known == id);
    if !taken(id) {
        return id.to_owned();
    }
    (2..).map(|number| format!("{id}.{number}")).find(|id| !taken(id)).unwrap_or_default()
}

/// A step's id as a user writes it.
#[derive(Debug, Clone)]
pub(crate) struct StepName;

impl Read for StepName {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        cx.parsed(node, "a step's id", |text| {
            if model::name::is_name(text) && text != "entry" {
                Ok(Self)
            } else {
                Err("lower-case words joined by `_`; `entry` is taken")
            }
        })
    }

    fn schema(_schemas: &mut Schemas) -> Json {
        json!({"type": "string", "pattern": "^[a-z][a-z0-9_]*$"})
    }
}

/// One arm of a branch.
#[derive(Debug, Clone)]
pub(crate) struct RawArm {
    /// When it fits, and where that stands.
    pub(crate) condition: Option<Condition>,
    /// What then.
    pub(crate) steps: Steps,
    /// Where it begins.
    pub(crate) span: Span,
}

record! {
    /// One arm of a branch.
    pub(crate) struct ArmFields ("an arm with `if` and `steps`") {
        /// When it fits; the last arm may go without.
        "if" condition: Option<Condition>,
        /// What then.
        "steps" steps: Needed<Steps>,
    }
}

impl Read for RawArm {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        // Every arm begins after the branch itself, not after the arm before it.
        let branch = cx.steps.previous.clone();
        let fields = ArmFields::read(node, cx);
        cx.steps.previous = branch;
        let span = node.entries().first().map_or(node.span, |(key, _)| key.span);
        fields.map(|fields| Self {
            condition: fields.condition,
            steps: fields.steps.0.unwrap_or_default(),
            span,
        })
    }

    fn schema(schemas: &mut Schemas) -> Json {
        ArmFields::schema(schemas)
    }
}

/// A template, or a map with it.
#[derive(Debug, Clone)]
pub(crate) struct RawSend(pub(crate) SendFields);

record! {
    /// A message to the profile.
    pub(crate) struct SendFields ("a template, or a map with `template`") {
        /// What it says.
        "template" template: At<TemplateName>,
        /// By which account; only where several have the channel.
        "destination" destination: Option<At<DestinationName>>,
        /// What it is for; the playbook's unless given.
        "purpose" purpose: Option<At<PurposeName>>,
        /// What the template is told: `with.NAME`.
        "with" with: Option<With>,
    }
    not_yet { "offer" }
}

impl Read for RawSend {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        if matches!(node.kind, Kind::Map(_)) {
            return SendFields::read(node, cx).map(Self);
        }
        let template = At::read(node, cx)?;
        Some(Self(SendFields { template, destination: None, purpose: None, with: None }))
    }

    fn schema(schemas: &mut Schemas) -> Json {
        let (short, long) = (<TemplateName as Read>::schema(schemas), SendFields::schema(schemas));
        json!({"anyOf": [short, long]})
    }
}

/// What a template is told.
#[derive(Debug, Clone, Default)]
pub(crate) struct With(pub(crate) std::collections::BTreeMap<String, Value>);

impl Read for With {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let Kind::Map(entries) = &node.kind else {
            cx.wrong_kind(node, "a map of values");
            return None;
        };
        let read = entries.iter().map(|(key, value)| Some((key.text.clone(), Value::read(value, cx)?)));
        read.collect::<Option<_>>().map(Self)
    }

    fn schema(_schemas: &mut Schemas) -> Json {
        json!({"type": "object"})
    }
}

/// What a wait waits for.
#[derive(Debug, Clone)]
pub(crate) struct RawWait(pub(crate) Wait);

record! {
    /// What a wait waits for: one of `for`, `until`, `to`.
    pub(crate) struct WaitFields ("a duration, or a map with `for`, `until` or `to`") {
        /// So long.
        "for" time: Given<SignedDuration>,
        /// Until it is so.
        "until" until: Given<Condition>,
        /// The longest wait for `until`.
        "at_most" at_most: Given<Positive>,
        /// To a time of the person: `profile.trial_ends_at`.
        "to" to: Given<RawValueOf>,
        /// So long before `to`.
        "minus" minus: Given<SignedDuration>,
        /// So long after `to`.
        "plus" plus: Given<SignedDuration>,
    }
}

/// `profile.X`, `account.X` or `entry.X`
#[derive(Debug, Clone)]
pub(crate) struct RawValueOf(ValueOf);

impl Read for RawValueOf {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        // What is waited for must be a time.
        value_of(node, &[ValueTest::After(jiff::Timestamp::MIN)], cx).map(Self)
    }

    fn schema(_schemas: &mut Schemas) -> Json {
        value_of_schema()
    }
}

impl Read for RawWait {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        if !matches!(node.kind, Kind::Map(_)) {
            return SignedDuration::read(node, cx).map(|time| Self(Wait::For(time)));
        }
        let fields = WaitFields::read(node, cx)?;
        let wrong = |cx: &mut Cx<'_>, message: &str| {
            cx.mistake("E0108", node.place(), message).hint(
                "a wait is `3d`, `{until: CONDITION, at_most: 4d}` or `{to: profile.COLUMN, minus: 1d}`",
            );
        };
        match (fields.time, fields.until, fields.at_most, fields.to, fields.minus, fields.plus) {
            (
                Given::Right(time, _),
                Given::Absent,
                Given::Absent,
                Given::Absent,
                Given::Absent,
                Given::Absent,
            ) => Some(Self(Wait::For(time))),
            (
                Given::Absent,
                Given::Right(condition, _),
                Given::Right(at_most, _),
                Given::Absent,
                Given::Absent,
                Given::Absent,
            ) => Some(Self(Wait::Until { condition, at_most: at_most.0 })),
            (
                Given::Absent,
                Given::Right(..) | Given::Wrong,
                Given::Absent,
                Given::Absent,
                Given::Absent,
                Given::Absent,
            ) => {
                cx.missing(node, "at_most");
                None
            }
            (Given::Absent, Given::Absent, Given::Absent, Given::Right(value, _), minus, plus) => {
                match (minus, plus) {
                    (Given::Right(minus, _), Given::Absent) => {
                        Some(Self(Wait::To { value: value.0, offset: -minus }))
                    }
                    (Given::Absent, Given::Right(plus, _)) => {
                        Some(Self(Wait::To { value: value.0, offset: plus }))
                    }
                    (Given::Absent, Given::Absent) => {
                        Some(Self(Wait::To { value: value.0, offset: SignedDuration::ZERO }))
                    }
                    (Given::Wrong, _) | (_, Given::Wrong) => None,
                    (Given::Right(..), Given::Right(..)) => {
                        wrong(cx, "a wait is before or after a time, not both");
                        None
                    }
                }
            }
            (time, until, at_most, to, minus, plus) => {
                let any_wrong = matches!(time, Given::Wrong)
                    || matches!(until, Given::Wrong)
                    || matches!(at_most, Given::Wrong)
                    || matches!(to, Given::Wrong)
                    || matches!(minus, Given::Wrong)
                    || matches!(plus, Given::Wrong);
                if !any_wrong {
                    wrong(cx, "these keys do not make a wait");
                }
                None
            }
        }
    }

    fn schema(schemas: &mut Schemas) -> Json {
        let (duration, fields) = (<SignedDuration as Read>::schema(schemas), WaitFields::schema(schemas));
        let shapes = json!([{"required": ["for"]}, {"required": ["until", "at_most"]}, {"required": ["to"]}]);
        json!({"anyOf": [duration, {"allOf": [fields, {"oneOf": shapes}]}]})
    }
}

/// The window of a step, if it has one.
pub(crate) fn window(given: &Given<RawWindow>) -> Option<SendWindow> {
    given.right().map(|window| window.0.clone())
}
