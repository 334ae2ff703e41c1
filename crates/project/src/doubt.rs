//! `in_doubt` of policy.yml: what becomes of a message nobody can be sure of, by class.

use model::policy::{InDoubt, MessageClass, Unsure};
use serde_json::{Value as Json, json};

use crate::read::{Cx, Given, Read, record};
use crate::schema::Schemas;
use crate::values::Positive;
use crate::yaml::{Kind, Node};

record! {
    /// What becomes of a message nobody can be sure of, by class.
    pub(crate) struct RawInDoubt ("a map from classes to what becomes of their messages") {
        /// wait, or taken for accepted; unless given, after a day where the provider would have told by then, else after three.
        "marketing" marketing: Option<RawUnsure>,
        /// The same.
        "lifecycle" lifecycle: Option<RawUnsure>,
        /// wait (unless given), taken for accepted, or sent again once.
        "transactional" transactional: Option<RawUnsure>,
    }
}

record! {
    /// What becomes of it, and when.
    pub(crate) struct UnsureMap ("`wait`, or a map with `assume` or `resend`") {
        /// Taken for accepted after so long without evidence that it was not.
        "assume" assume: Given<Positive>,
        /// Only class transactional: sent again, once, after so long without evidence. The person may get it twice.
        "resend" resend: Given<Positive>,
    }
}

/// `wait`, or when something is done without a person.
#[derive(Debug, Clone)]
pub(crate) enum RawUnsure {
    /// A person decides.
    Wait,
    /// Time does.
    Map(Box<UnsureMap>, crate::source::Span),
}

impl Read for RawUnsure {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        if matches!(node.kind, Kind::Map(_)) && !(cx.references && crate::reference::is_reference(node)) {
            return UnsureMap::read(node, cx).map(|map| Self::Map(Box::new(map), node.place()));
        }
        cx.word(node, "what becomes of a doubt", &[("wait", ())], &[]).map(|()| Self::Wait)
    }

    fn schema(schemas: &mut Schemas) -> Json {
        let (word, map) = (schemas.single(json!({"enum": ["wait"]})), UnsureMap::schema(schemas));
        json!({"anyOf": [word, map]})
    }
}

/// As it holds: what is not given is as it is without the key.
pub(crate) fn in_doubt(raw: RawInDoubt, cx: &mut Cx<'_>) -> InDoubt {
    let default = InDoubt::default();
    let mut of = |raw: Option<RawUnsure>, class: MessageClass| {
        raw.and_then(|raw| unsure(raw, class, cx)).unwrap_or_else(|| default.of(class))
    };
    InDoubt {
        marketing: of(raw.marketing, MessageClass::Marketing),
        lifecycle: of(raw.lifecycle, MessageClass::Lifecycle),
        transactional: of(raw.transactional, MessageClass::Transactional),
    }
}

fn unsure(raw: RawUnsure, class: MessageClass, cx: &mut Cx<'_>) -> Option<Unsure> {
    let (map, span) = match raw {
        RawUnsure::Wait => return Some(Unsure::Wait),
        RawUnsure::Map(map, span) => (map, span),
    };
    match (&map.assume, &map.resend) {
        (Given::Right(after, _), Given::Absent) => Some(Unsure::Assume(Some(after.0))),
        (Given::Absent, Given::Right(after, _)) if class == MessageClass::Transactional => {
            Some(Unsure::ResendOnce(after.0))
        }
        (Given::Absent, Given::Right(_, key)) => {
            let message = format!("a message of class {} is never sent twice by time", class.as_str());
            cx.mistake("E0108", *key, message)
                .hint("`{assume: 3d}` takes it for accepted, `wait` leaves it to a person");
            None
        }
        (Given::Absent, Given::Absent) => {
            cx.mistake("E0103", span, "this does not say what becomes of it")
                .hint("`wait`, `{assume: 3d}`, or for class transactional `{resend: 15m}`");
            None
        }
        (Given::Right(..) | Given::Wrong, Given::Right(_, key)) => {
            cx.mistake("E0108", *key, "it is either taken for accepted or sent again");
            None
        }
        // What is wrong is reported.
        (Given::Wrong, Given::Absent) | (_, Given::Wrong) => None,
    }
}
