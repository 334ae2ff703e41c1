//! YAML files as trees with places. Only what a project needs: no anchors, aliases, tags and further documents.

use granit_parser::{Event, Parser, ScalarStyle, Span as RawSpan};

use crate::diagnostic::Diagnostic;
use crate::source::{Files, Span};

/// Deepest nesting that is read.
const MAX_DEPTH: usize = 48;

/// A value with its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// What it is.
    pub(crate) kind: Kind,
    /// Where it stands.
    pub(crate) span: Span,
    /// Where the key stands that leads to it.
    pub(crate) key: Option<Span>,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// Keys with values, in the order of the file.
    Map(Vec<(Key, Node)>),
    /// Values.
    List(Vec<Node>),
    /// Text; what it stands for is decided by the place.
    Scalar {
        /// After escapes and folding.
        text: String,
        /// How it was written.
        style: Style,
    },
}

/// A key with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    /// The key.
    pub(crate) text: String,
    /// Where it stands.
    pub(crate) span: Span,
}

/// How a scalar was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// As it is: may be a number, a boolean or nothing.
    Plain,
    /// In quotes, single ones or double ones.
    Quoted {
        /// With escapes.
        double: bool,
    },
    /// After `|` or `>`.
    Block,
}

impl Node {
    /// A map without keys at the top of a file.
    pub(crate) fn empty(file: u32) -> Self {
        Self { kind: Kind::Map(Vec::new()), span: Span::top(file), key: None }
    }

    /// The best place to show for the whole of it: a scalar itself, a list or map by its key.
    pub(crate) fn place(&self) -> Span {
        match &self.kind {
            Kind::Scalar { .. } if self.span.end > self.span.start => self.span,
            _ => self.key.unwrap_or(self.span),
        }
    }

    /// The value of a key, if this is a map that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|(known, _)| known.text == key).map(|(_, node)| node)
    }

    /// The entries of a map; none, if it is not one.
    pub(crate) fn entries(&self) -> &[(Key, Self)] {
        match &self.kind {
            Kind::Map(entries) => entries,
            Kind::List(_) | Kind::Scalar { .. } => &[],
        }
    }

    /// The text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } => Some(text),
            Kind::Map(_) | Kind::List(_) => None,
        }
    }

    /// Nothing there: `key:` or `key: null`.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, style: Style::Plain } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What people call it.
    pub(crate) fn what(&self) -> &'static str {
        match &self.kind {
            Kind::Map(_) => "a map",
            Kind::List(_) => "a list",
            Kind::Scalar { .. } if self.is_null() => "nothing",
            Kind::Scalar { .. } => "a single value",
        }
    }
}

/// Reads a file into a tree. `None` if it is not YAML as a project has it; what is wrong goes to `mistakes`.
pub(crate) fn parse(files: &Files, file: u32, mistakes: &mut Vec<Diagnostic>) -> Option<Node> {
    let text = files.text(file);
    let options = granit_parser::options! { flow_nesting_limit: MAX_DEPTH, block_nesting_limit: MAX_DEPTH, emit_comments: false, emit_unresolved_aliases: true, disallow_directives: true };
    let parser = Parser::new_from_str_with_options(text, options);
    let mut tree = Tree { files, file, mistakes, open: Vec::new(), root: None, documents: 0, refused: false };
    for event in parser {
        match event {
            Ok((event, span)) => tree.take(event, span),
            Err(error) => {
                let at = error.marker().byte_offset().unwrap_or(text.len());
                let message = format!("this is not YAML: {}", error.info());
                tree.mistakes.push(files.diagnostic("E0101", Span::new(file, at, at + 1), message));
                return None;
            }
        }
    }
    if tree.refused { None } else { Some(tree.root.unwrap_or_else(|| Node::empty(file))) }
}

/// A list or map whose end has not come yet.
enum Open {
    Map { start: Span, entries: Vec<(Key, Node)>, waiting: Option<Key> },
    List { start: Span, items: Vec<Node> },
}

struct Tree<'a> {
    files: &'a Files,
    file: u32,
    mistakes: &'a mut Vec<Diagnostic>,
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
    refused: bool,
}

impl Tree<'_> {
    fn take(&mut self, event: Event<'_>, raw: RawSpan) {
        let span = self.span(raw);
        let anchored = event.anchor_id().is_some_and(|id| id != 0);
        if anchored || event.tag().is_some() {
            self.refuse(span, "anchors and tags are not read here", "write the value out");
        }
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents == 2 {
                    self.refuse(
                        span,
                        "a file holds one document",
                        "put what follows `---` into a file of its own",
                    );
                }
            }
            Event::Scalar(text, style, ..) => {
                let style = match style {
                    ScalarStyle::Plain => Style::Plain,
                    ScalarStyle::SingleQuoted => Style::Quoted { double: false },
                    ScalarStyle::DoubleQuoted => Style::Quoted { double: true },
                    ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
                };
                self.put(Kind::Scalar { text: text.into_owned(), style }, span);
            }
            Event::MappingStart(..) => {
                self.open.push(Open::Map { start: span, entries: Vec::new(), waiting: None })
            }
            Event::SequenceStart(..) => self.open.push(Open::List { start: span, items: Vec::new() }),
            Event::MappingEnd | Event::SequenceEnd => self.close(span),
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                self.refuse(span, "aliases are not read here", "write the value out");
                self.put(Kind::Scalar { text: String::new(), style: Style::Plain }, span);
            }
            _ => {}
        }
    }

    fn close(&mut self, end: Span) {
        let whole = |start: Span| Span { end: end.end.max(start.end), ..start };
        match self.open.pop() {
            Some(Open::Map { start, entries, .. }) => self.put(Kind::Map(entries), whole(start)),
            Some(Open::List { start, items, .. }) => self.put(Kind::List(items), whole(start)),
            None => {}
        }
    }

    /// Puts a finished value where it belongs: a key, the value of the key that waits, an item, or the root.
    fn put(&mut self, kind: Kind, span: Span) {
        let key = self.key();
        match self.open.last_mut() {
            Some(Open::Map { entries, waiting, .. }) => match waiting.take() {
                Some(waiting) => {
                    if !entries.iter().any(|(known, _)| known.text == waiting.text) {
                        entries.push((waiting, Node { kind, span, key }));
                    }
                }
                None => {
                    if let Kind::Scalar { text, .. } = kind {
                        if let Some((first, _)) = entries.iter().find(|(known, _)| known.text == text) {
                            let first = self.files.locate(first.span).0;
                            let mut mistake = self.files.diagnostic(
                                "E0106",
                                span,
                                format!("the key `{text}` is there twice"),
                            );
                            mistake.label(format!("the first is in line {first}"));
                            self.mistakes.push(mistake);
                            self.refused = true;
                        }
                        *waiting = Some(Key { text, span });
                    } else {
                        *waiting = Some(Key { text: String::new(), span });
                        self.refuse(span, "a key is a single value", "");
                    }
                }
            },
            Some(Open::List { items, .. }) => items.push(Node { kind, span, key }),
            None => self.root = self.root.take().or(Some(Node { kind, span, key })),
        }
    }

    /// The place of the key that waits for its value.
    fn key(&self) -> Option<Span> {
        match self.open.last() {
            Some(Open::Map { waiting, .. }) => waiting.as_ref().map(|key| key.span),
            Some(Open::List { .. }) | None => None,
        }
    }

    fn span(&self, raw: RawSpan) -> Span {
        let offset = |marker: granit_parser::Marker| marker.byte_offset().unwrap_or(0);
        Span::new(self.file, offset(raw.start), offset(raw.end))
    }

    fn refuse(&mut self, span: Span, message: &str, hint: &str) {
        let mut mistake = self.files.diagnostic("E0107", span, message);
        if !hint.is_empty() {
            mistake.hint(hint);
        }
        self.mistakes.push(mistake);
        self.refused = true;
    }
}

/// Where in the source a byte of a scalar's text comes from. Exact for what is written on one line and for `|`; for folded
/// text by counting what is not white space.
pub(crate) fn origin(source: &str, span: Span, style: Style, text: &str, at: usize) -> usize {
    let start = span.start as usize;
    let raw = source.get(start..span.end as usize).unwrap_or_default();
    let mut wanted = text.get(..at).unwrap_or(text).chars().filter(|c| !c.is_whitespace()).count();
    let skip = usize::from(matches!(style, Style::Quoted { .. }));
    let mut characters = raw.char_indices().skip_while(|(at, _)| *at < skip).peekable();
    while let Some((at, c)) = characters.next() {
        let (double, single) =
            (style == Style::Quoted { double: true }, style == Style::Quoted { double: false });
        let next = characters.peek().map(|(_, next)| *next);
        let pair = (double && c == '\\') || (single && c == '\'' && next == Some('\''));
        // An escape such as `\n` stands for white space, which is not counted.
        let is_space =
            c.is_whitespace() || (double && pair && next.is_some_and(|next| "ntr \t\n".contains(next)));
        if !is_space {
            if wanted == 0 {
                return start + at;
            }
            wanted -= 1;
        }
        if pair {
            characters.next();
        }
    }
    start + raw.trim_end().len().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> (Option<Node>, Vec<String>) {
        let mut files = Files::default();
        let file = files.add("a.yml".to_owned(), text.to_owned());
        let mut mistakes = Vec::new();
        let node = parse(&files, file, &mut mistakes);
        let short = |one: &Diagnostic| format!("{} {}:{} {}", one.code, one.line, one.column, one.message);
        (node, mistakes.iter().map(short).collect())
    }

    #[test]
    fn what_a_project_does_not_need_is_refused_with_its_place() {
        for (text, expected) in [
            ("a: &x 1\n", "E0107 1:7 anchors and tags are not read here"),
            ("a: !!str 1\n", "E0107 1:10 anchors and tags are not read here"),
            ("a: 1\n---\nb: 2\n", "E0107 2:1 a file holds one document"),
            ("a: *x\n", "E0107 1:4 aliases are not read here"),
            ("? [a, b]\n: 1\n", "E0107 1:3 a key is a single value"),
            ("a: 1\nb: 2\na: 3\n", "E0106 3:1 the key `a` is there twice"),
            ("m: {a: 1, a: 2}\n", "E0106 1:11 the key `a` is there twice"),
        ] {
            let (node, mistakes) = read(text);
            assert!(node.is_none() && mistakes == [expected], "{text}: {mistakes:?}");
        }
    }

    #[test]
    fn nothing_is_null_and_an_empty_file_is_an_empty_map() {
        let (node, mistakes) = read("a:\nb: ~\nc: null\nd: ''\ne: no\n");
        let node = node.unwrap();
        let nulls: Vec<bool> = node.entries().iter().map(|(_, value)| value.is_null()).collect();
        assert_eq!((nulls, mistakes.len()), (vec![true, true, true, false, false], 0));
        assert!(read("# nothing here\n").0.is_some_and(|node| node.entries().is_empty()));
    }

    /// The place of each word of a text, in every way the text can be written.
    #[test]
    fn a_byte_of_a_text_is_found_where_it_was_written() {
        for source in [
            "sql: select a from b\n",
            "sql: 'select a from b'\n",
            "sql: \"select a from b\"\n",
            "sql: \"select\\n a\\tfrom b\"\n",
            "sql: |\n  select a\n    from b\n",
            "sql: >-\n  select a\n  from b\n",
            "sql:\n  select a\n  from b\n",
            "x: {sql: 'select ''a'', \"x\", a from b'}\n",
            "x: {sql: \"select \\\"x\\\", 'ä', a from b\"}\n",
        ] {
            let node = read(source).0.unwrap();
            let sql = node.get("sql").or_else(|| node.get("x")?.get("sql")).unwrap();
            let Kind::Scalar { text, style } = &sql.kind else { panic!("{source}") };
            for word in ["select", "from", "b"] {
                let at = origin(source, sql.span, *style, text, text.rfind(word).unwrap());
                assert_eq!(at, source.rfind(word).unwrap(), "{word} in {source}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_place_in_a_text_lies_in_its_scalar(text in "\\PC{0,60}", at in 0usize..80) {
            let source = format!("a: {}\n", serde_json::Value::from(text.as_str()));
            let node = read(&source).0.unwrap();
            let node = node.get("a").unwrap();
            let Kind::Scalar { text: read, style } = &node.kind else { panic!("no scalar") };
            prop_assert_eq!(read, &text);
            let found = origin(&source, node.span, *style, read, at);
            prop_assert!(found >= node.span.start as usize && found <= node.span.end as usize);
        }
    }
}
