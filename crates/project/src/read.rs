//! Reading values out of trees: what a place wants, and every mistake on the way there, not only the first.
//!
//! What could be read goes on to the checks that follow, even where something beside it is wrong: whether a project is right
//! is decided by whether there are mistakes, and by nothing else.
//!
//! A type that can be read also says its JSON Schema, so that decoder and schema are one thing: see [`record!`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use model::condition::ValueTest;
use serde_json::Value as Json;

use crate::KnownConnector;
use crate::diagnostic::Diagnostic;
use crate::schema::Schemas;
use crate::source::{Files, Span};
use crate::yaml::{Key, Kind, Node, Style};
use model::suggest::nearest;

/// What can be read out of a tree.
pub(crate) trait Read: Sized {
    /// Reads it. `None`: it is not that, and the mistakes are reported.
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self>;
    /// What it looks like, as JSON Schema.
    fn schema(schemas: &mut Schemas) -> Json;
}

/// The value of a key of a record: required, or, as an `Option`, not.
pub(crate) trait Field: Sized {
    /// Whether the key must be there.
    const REQUIRED: bool;
    /// Reads it; `None` only where a required one is wrong or missing.
    fn field(node: Option<&Node>, key: &str, holder: &Node, cx: &mut Cx<'_>) -> Option<Self>;
    /// What it looks like, as JSON Schema.
    fn schema(schemas: &mut Schemas) -> Json;
}

impl<T: Read> Field for T {
    const REQUIRED: bool = true;

    fn field(node: Option<&Node>, key: &str, holder: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        match node {
            Some(node) => T::read(node, cx),
            None => {
                cx.missing(holder, key);
                None
            }
        }
    }

    fn schema(schemas: &mut Schemas) -> Json {
        <T as Read>::schema(schemas)
    }
}

impl<T: Read> Field for Option<T> {
    const REQUIRED: bool = false;

    fn field(node: Option<&Node>, _key: &str, _holder: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        Some(node.and_then(|node| T::read(node, cx)))
    }

    fn schema(schemas: &mut Schemas) -> Json {
        <T as Read>::schema(schemas)
    }
}

/// A value with its place.
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    /// The value.
    pub(crate) value: T,
    /// Where it stands.
    pub(crate) span: Span,
}

impl<T: Read> Read for At<T> {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        T::read(node, cx).map(|value| Self { value, span: node.place() })
    }

    fn schema(schemas: &mut Schemas) -> Json {
        <T as Read>::schema(schemas)
    }
}

/// Kinds of things that have names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Named {
    Brand,
    Cap,
    Destination,
    Environment,
    Fresh,
    Playbook,
    Purpose,
    QuietHours,
    Recipients,
    Segment,
    Sync,
    Template,
}

impl Named {
    /// What people call it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Brand => "brand",
            Self::Cap => "cap",
            Self::Destination => "destination",
            Self::Environment => "environment",
            Self::Fresh => "freshness",
            Self::Playbook => "playbook",
            Self::Purpose => "purpose",
            Self::QuietHours => "rule of quiet hours",
            Self::Recipients => "group of recipients",
            Self::Segment => "segment",
            Self::Sync => "sync",
            Self::Template => "template",
        }
    }

    /// Where one would be made.
    pub(crate) fn home(self, name: &str) -> String {
        match self {
            Self::Segment => format!("there is no segments/{name}.yml"),
            Self::Playbook => format!("there is no playbooks/{name}.yml"),
            Self::Template => format!("there is no templates/{name}.mjml, .html, .md or .txt"),
            Self::Brand => "brands are named in drumbeat.yml under `brands`".to_owned(),
            Self::Destination => "destinations are named in drumbeat.yml under `destinations`".to_owned(),
            Self::Fresh => "freshness is named in data.yml under `fresh`".to_owned(),
            Self::Purpose => "purposes are named in policy.yml under `purposes`".to_owned(),
            Self::Sync => format!("there is no syncs/{name}.yml"),
            Self::Cap | Self::Environment | Self::QuietHours | Self::Recipients => String::new(),
        }
    }
}

/// Something a file names, to be looked up when all files are read.
#[derive(Debug, Clone)]
pub(crate) struct Mention {
    /// Where.
    pub(crate) span: Span,
    /// What.
    pub(crate) what: Mentioned,
}

/// What a file names.
#[derive(Debug, Clone)]
pub(crate) enum Mentioned {
    /// A thing with a name.
    Name(Named, String),
    /// A column of the profiles (`profile.X`) with the tests it is put to.
    Profile(Column),
    /// A column of the accounts (`account.X`), likewise.
    Account(Column),
    /// A column of the segment that let the person in (`entry.X`).
    Entry(Column),
}

/// A column that a condition or a wait names.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    /// Its name.
    pub(crate) name: String,
    /// What it is put to.
    pub(crate) tests: Vec<ValueTest>,
    /// The values it is compared with, each with its place.
    pub(crate) values: Vec<(String, Span)>,
}

/// Where a query's text stands, so that a byte of it can be shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SqlPlace {
    /// The scalar, or the whole of a `.sql` file.
    pub(crate) span: Span,
    /// How it was written; none: a file.
    pub(crate) style: Option<Style>,
}

/// What conditions in the file at hand may ask about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asking {
    /// Profiles, accounts, segments, consent, playbooks.
    People,
    /// Of a playbook, on entering: `entry` too.
    Entering,
    /// In a playbook: `entry` and `step` too.
    UnderWay,
}

/// The map that the root files make together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RootKeys {
    /// Its place.
    pub(crate) span: Span,
    /// Whether all of its files could be read; otherwise nobody knows what is missing.
    pub(crate) whole: bool,
}

/// All that reading needs and leaves behind.
pub(crate) struct Cx<'a> {
    /// The project's folder.
    pub(crate) dir: &'a Path,
    /// All files read so far.
    pub(crate) files: Files,
    /// All mistakes so far.
    pub(crate) mistakes: Vec<Diagnostic>,
    /// All names used so far.
    pub(crate) mentions: Vec<Mention>,
    /// All names given so far.
    pub(crate) defined: BTreeMap<Named, BTreeSet<String>>,
    /// Queries by their `place`.
    pub(crate) queries: BTreeMap<String, SqlPlace>,
    /// Columns that are declared, by their queries.
    pub(crate) declared: Vec<crate::query::Declared>,
    /// Variables of the process's environment.
    pub(crate) lookup: &'a dyn Fn(&str) -> Option<String>,
    /// The connectors there are.
    pub(crate) connectors: &'a [KnownConnector],
    /// Whether `{env: NAME}` and its kin may stand for a value here.
    pub(crate) references: bool,
    /// The keys of the root files, once they are read.
    pub(crate) root: Option<RootKeys>,
    /// Keys that were meant by unknown ones, each with the place of its map.
    misspelt: Vec<(Span, String)>,
    /// The places of maps with keys that are not built yet.
    reserved: Vec<Span>,
    /// What was looked up, never to be shown.
    pub(crate) secrets: Vec<String>,
    /// What conditions may ask about here.
    pub(crate) asking: Asking,
    /// The ids of every playbook's steps, as they are written.
    pub(crate) step_ids: BTreeMap<model::PlaybookName, Vec<String>>,
    /// Steps of playbooks that scenarios name.
    pub(crate) named_steps: Vec<(model::PlaybookName, String, Span)>,
    /// The steps of the playbook at hand.
    pub(crate) steps: crate::steps::StepScope,
}

impl<'a> Cx<'a> {
    /// Begins with nothing.
    pub(crate) fn new(
        dir: &'a Path,
        lookup: &'a dyn Fn(&str) -> Option<String>,
        connectors: &'a [KnownConnector],
    ) -> Self {
        Self {
            dir,
            files: Files::default(),
            mistakes: Vec::new(),
            mentions: Vec::new(),
            defined: BTreeMap::new(),
            queries: BTreeMap::new(),
            declared: Vec::new(),
            lookup,
            connectors,
            references: false,
            root: None,
            misspelt: Vec::new(),
            reserved: Vec::new(),
            secrets: Vec::new(),
            asking: Asking::People,
            step_ids: BTreeMap::new(),
            named_steps: Vec::new(),
            steps: crate::steps::StepScope::default(),
        }
    }

    /// Reports a mistake; what it returns takes a hint and a label.
    pub(crate) fn mistake(
        &mut self,
        code: &'static str,
        span: Span,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        let diagnostic = self.files.diagnostic(code, span, message);
        self.push(diagnostic)
    }

    /// Reports a mistake made elsewhere.
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) -> &mut Diagnostic {
        self.mistakes.push(diagnostic);
        let last = self.mistakes.len() - 1;
        &mut self.mistakes[last]
    }

    /// Reports a key that is not there, unless it was misspelt, or something that is not built yet stands for it: both are
    /// reported.
    pub(crate) fn missing(&mut self, holder: &Node, key: &str) {
        let instead = holder.key.is_some() && self.reserved.contains(&holder.span);
        let place = crate::segment::top(holder);
        if instead || self.is_misspelt(holder.key.unwrap_or(place), key) {
            return;
        }
        let message = format!("the key `{key}` is missing");
        match (holder.key, self.root) {
            (Some(key), _) => {
                self.mistake("E0103", key, message);
            }
            (None, Some(root)) if root.span == holder.span => {
                if root.whole {
                    self.missing_in_root(key, message);
                }
            }
            (None, _) => {
                self.mistake("E0103", place, message);
            }
        }
    }

    /// Whether an unknown key of the map was meant to be this one, which is reported. A map's place is that of its key, or of
    /// its first key.
    pub(crate) fn is_misspelt(&self, map: Span, key: &str) -> bool {
        self.misspelt.iter().any(|(place, meant)| *place == map && meant == key)
    }

    /// Reports a key that is in no root file, at the file where people look for it. A project may keep all keys in one file.
    fn missing_in_root(&mut self, key: &str, message: String) {
        let home = if key == "profiles" { "data.yml" } else { "drumbeat.yml" };
        match self.files.find(home).or_else(|| self.files.find("drumbeat.yml")) {
            Some(file) => {
                self.mistake("E0103", Span::top(file), message);
            }
            None => {
                self.push(Diagnostic::of_file("E0103", home, message)).hint(format!(
                    "there is no {home}, and no other file in the project's folder has the key"
                ));
            }
        }
    }

    /// Reports something of another kind than its place wants.
    pub(crate) fn wrong_kind(&mut self, node: &Node, expected: &str) {
        let message = if node.is_null() {
            format!("no value: expected {expected}")
        } else {
            format!("expected {expected}, found {}", node.what())
        };
        self.mistake("E0104", node.place(), message);
    }

    /// Reports a reserved thing.
    pub(crate) fn not_yet(&mut self, span: Span, what: impl std::fmt::Display) {
        self.mistake("E0901", span, format!("not yet: {what} not built yet"));
    }

    /// Names a thing, to be looked up later.
    pub(crate) fn mention(&mut self, kind: Named, name: &str, span: Span) {
        self.mentions.push(Mention { span, what: Mentioned::Name(kind, name.to_owned()) });
    }

    /// Gives a name to a thing.
    pub(crate) fn define(&mut self, kind: Named, name: &str) {
        self.defined.entry(kind).or_default().insert(name.to_owned());
    }

    /// The names given to things of a kind.
    pub(crate) fn names(&self, kind: Named) -> impl Iterator<Item = &str> {
        self.defined.get(&kind).into_iter().flatten().map(String::as_str)
    }

    /// The entries of a map, with unknown and reserved keys reported.
    pub(crate) fn keys<'n>(
        &mut self,
        node: &'n Node,
        known: &[&str],
        not_yet: &[&str],
        what: &str,
    ) -> Option<&'n [(Key, Node)]> {
        let Kind::Map(entries) = &node.kind else {
            self.wrong_kind(node, what);
            return None;
        };
        for (key, _) in entries {
            if not_yet.contains(&key.text.as_str()) {
                self.reserved.push(node.span);
                self.not_yet(key.span, format!("`{}` is", key.text));
            } else if !known.contains(&key.text.as_str()) {
                let meant = nearest(&key.text, known.iter().copied());
                let place = node.key.unwrap_or_else(|| crate::segment::top(node));
                self.misspelt.extend(meant.map(|meant| (place, meant.to_owned())));
                let message = format!("unknown key `{}`", key.text);
                let mistake = self.mistake("E0102", key.span, message);
                match meant {
                    Some(meant) => mistake.did_you_mean(Some(meant)),
                    None => mistake.hint(format!("known here: {}", known.join(", "))),
                };
            }
        }
        Some(entries)
    }

    /// The text of a single value, looked up where it is a reference.
    pub(crate) fn text(&mut self, node: &Node, expected: &str) -> Option<Text> {
        if self.references && crate::reference::is_reference(node) {
            return crate::reference::look_up(node, self);
        }
        match &node.kind {
            Kind::Scalar { text, style } if !node.is_null() => {
                if self.references && text.contains("${") {
                    self.mistake("E0111", node.span, "`${...}` is not replaced by anything here")
                        .warn()
                        .hint("write `{env: NAME}` for the whole value");
                }
                Some(Text { text: text.clone(), plain: *style == Style::Plain, from: None, span: node.span })
            }
            _ => {
                self.wrong_kind(node, expected);
                None
            }
        }
    }

    /// A single value that `parse` makes something of; its error says what was expected.
    pub(crate) fn parsed<T, E: std::fmt::Display>(
        &mut self,
        node: &Node,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(node, expected)?;
        match parse(&text.text) {
            Ok(value) => Some(value),
            Err(error) => {
                let message = format!("{} is not {expected}", text.shown());
                self.mistake("E0105", text.span, message).label(error.to_string());
                None
            }
        }
    }

    /// One of some words.
    pub(crate) fn word<T: Copy>(
        &mut self,
        node: &Node,
        expected: &str,
        words: &[(&'static str, T)],
        not_yet: &[&str],
    ) -> Option<T> {
        let text = self.text(node, expected)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.text) {
            return Some(*value);
        }
        if not_yet.contains(&text.text.as_str()) {
            self.not_yet(text.span, format!("`{}` is", text.text));
            return None;
        }
        let meant = nearest(&text.text, words.iter().map(|(word, _)| *word)).filter(|_| text.from.is_none());
        let all = words.iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        let message = format!("{} is not {expected}", text.shown());
        let mistake = self.mistake("E0105", text.span, message);
        mistake.label(format!("one of {all}")).did_you_mean(meant);
        None
    }
}

/// The text of a single value.
pub(crate) struct Text {
    /// The text.
    pub(crate) text: String,
    /// Written without quotes, so that it may be a number or a boolean.
    pub(crate) plain: bool,
    /// Where it was looked up: then it must not be shown.
    pub(crate) from: Option<String>,
    /// Where it stands.
    pub(crate) span: Span,
}

impl Text {
    /// How a message may call it.
    pub(crate) fn shown(&self) -> String {
        match &self.from {
            Some(from) => format!("the value of {from}"),
            None if self.text.chars().count() > 60 => "this".to_owned(),
            None => format!("`{}`", self.text),
        }
    }
}

/// A map whose keys are known.
pub(crate) trait Record {
    /// The keys that are read.
    const KEYS: &[&str];
    /// The keys that are reserved.
    const LATER: &[&str];
}

/// Declares a record: a map whose keys are known. Gives the type, its decoder and its schema from one table.
macro_rules! record {
    (
        $(#[doc = $doc:literal])+
        pub(crate) struct $name:ident ($what:literal) {
            $( $(#[doc = $field_doc:literal])+ $key:literal $field:ident: $type:ty, )*
        }
        $( not_yet { $($later:literal),+ $(,)? } )?
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone)]
        pub(crate) struct $name {
            $( $(#[doc = $field_doc])+ pub(crate) $field: $type, )*
        }

        impl $crate::read::Record for $name {
            const KEYS: &[&str] = &[$($key),*];
            const LATER: &[&str] = &[$($($later),+)?];
        }

        impl $crate::read::Read for $name {
            fn read(node: &$crate::yaml::Node, cx: &mut $crate::read::Cx<'_>) -> Option<Self> {
                cx.keys(node, <Self as $crate::read::Record>::KEYS, <Self as $crate::read::Record>::LATER, $what)?;
                $( let $field = <$type as $crate::read::Field>::field(node.get($key), $key, node, cx); )*
                Some(Self { $($field: $field?,)* })
            }

            fn schema(schemas: &mut $crate::schema::Schemas) -> serde_json::Value {
                schemas.record(stringify!($name), concat!($($doc),+), |schemas| vec![
                    $( $crate::schema::Property {
                        key: $key,
                        doc: concat!($($field_doc),+),
                        required: <$type as $crate::read::Field>::REQUIRED,
                        schema: <$type as $crate::read::Field>::schema(schemas),
                    }, )*
                ])
            }
        }
    };
}
pub(crate) use record;

/// The value of a key that must be there. Where it is missing or wrong, which is reported, the rest is read all the same,
/// so that what it says is checked, too.
#[derive(Debug, Clone)]
pub(crate) struct Needed<T>(pub(crate) Option<T>);

impl<T: Read> Field for Needed<T> {
    const REQUIRED: bool = true;

    fn field(node: Option<&Node>, key: &str, holder: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        Some(Self(T::field(node, key, holder, cx)))
    }

    fn schema(schemas: &mut Schemas) -> Json {
        <T as Read>::schema(schemas)
    }
}

/// The value of a key that goes together with others: whether it was there is known even where it was wrong.
#[derive(Debug, Clone)]
pub(crate) enum Given<T> {
    /// The key is not there.
    Absent,
    /// It is there, and wrong; that is reported.
    Wrong,
    /// It is there. The place is that of its key.
    Right(T, Span),
}

impl<T> Given<T> {
    /// The value, if it is there and right.
    pub(crate) fn right(&self) -> Option<&T> {
        match self {
            Self::Right(value, _) => Some(value),
            Self::Absent | Self::Wrong => None,
        }
    }

    /// Whether the key is there.
    pub(crate) fn is_there(&self) -> bool {
        !matches!(self, Self::Absent)
    }
}

impl<T: Read> Field for Given<T> {
    const REQUIRED: bool = false;

    fn field(node: Option<&Node>, _key: &str, _holder: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let Some(node) = node else { return Some(Self::Absent) };
        Some(T::read(node, cx).map_or(Self::Wrong, |value| Self::Right(value, node.key.unwrap_or(node.span))))
    }

    fn schema(schemas: &mut Schemas) -> Json {
        <T as Read>::schema(schemas)
    }
}
