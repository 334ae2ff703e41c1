//! Template tags hidden from what converts documents: each becomes a word, or a comment, that survives MJML, HTML and Markdown,
//! and becomes the tag again afterwards. So a message is converted once, when it is compiled, and not for every person.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::expand::{File, Nesting, nesting};
use crate::markdown;
use crate::markup::{self, holds_raw_text, is_void};
use crate::mistake::Mistake;
use crate::pieces::{Piece, Place};
use crate::source::Kind;

/// A hidden tag.
#[derive(Debug)]
struct Hidden {
    /// What stands there in the end.
    source: String,
    /// Where it was written; `None`: by Drumbeat.
    place: Option<Place>,
    /// The number of the statement it is part of; an expression has none.
    statement: Option<usize>,
    /// It was written in an HTML comment, which may be dropped.
    in_comment: bool,
}

/// A document with its tags hidden.
#[derive(Debug, Default)]
pub(crate) struct Shielded {
    pub(crate) text: String,
    /// Where its bytes were written: each place holds from its byte to the next.
    map: Vec<(usize, Place)>,
}

impl Shielded {
    /// Where a byte was written.
    pub(crate) fn place(&self, at: usize) -> Option<Place> {
        let index = self.map.partition_point(|(start, _)| *start <= at);
        let (start, place) = index.checked_sub(1).and_then(|index| self.map.get(index))?;
        let within = (at - start).min(place.len.saturating_sub(1));
        Some(Place { at: place.at + within, len: place.len - within, ..*place })
    }

    fn push(&mut self, text: &str, place: Option<Place>) {
        if let Some(place) = place {
            self.map.push((self.text.len(), place));
        }
        self.text.push_str(text);
    }
}

/// A template in the end, and where its tags were written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Restored {
    pub(crate) text: String,
    pub(crate) places: Vec<(usize, Place)>,
}

impl Restored {
    /// Where the tag at a byte was written.
    pub(crate) fn place(&self, at: usize) -> Option<Place> {
        let index = self.places.partition_point(|(start, _)| *start <= at);
        index.checked_sub(1).and_then(|index| self.places.get(index)).map(|(_, place)| *place)
    }

    /// Writes text that holds no tags, although it may look as if it did.
    fn literal(&mut self, text: &str) {
        for (at, c) in text.char_indices() {
            let opens = matches!(text.as_bytes().get(at + 1), Some(b'{' | b'%' | b'#'));
            if c == '{' && opens {
                self.text.push_str("{{ '{' }}");
            } else {
                self.text.push(c);
            }
        }
    }

    fn tag(&mut self, source: &str, place: Option<Place>) {
        // `{` before a tag would begin another one.
        if self.text.ends_with('{') {
            self.text.pop();
            self.text.push_str("{{ '{' }}");
        }
        if let Some(place) = place {
            self.places.push((self.text.len(), place));
        }
        self.text.push_str(source);
    }
}

/// Hides tags, and brings them back.
#[derive(Debug)]
pub(crate) struct Shield {
    prefix: String,
    hidden: Vec<Hidden>,
    open: Vec<usize>,
    statements: usize,
}

/// Digits of a tag's number; after them an `x` ends the word.
const DIGITS: usize = 5;

/// Where a tag stands in a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spot<'t> {
    /// Among text and elements, in an element of that name.
    Text { parent: &'t str },
    /// Where only characters count: a value, the content of `<style>`.
    Characters,
    /// In a comment.
    Comment,
    /// Between the attributes of a tag, or in its name.
    Tag,
}

/// A stretch of what is being hidden.
enum Part<'p, 's> {
    Text(Place, &'s str),
    Hidden(usize),
    Foreign(Kind, &'p [Piece<'s>]),
}

impl Shield {
    /// A shield whose words occur in none of the files.
    pub(crate) fn new(files: &[File<'_>]) -> Self {
        let prefix = (0u32..)
            .map(|salt| format!("dbtag{salt}q"))
            .find(|prefix| !files.iter().any(|file| file.text.contains(prefix)))
            .unwrap_or_default();
        Self { prefix, hidden: Vec::new(), open: Vec::new(), statements: 0 }
    }

    fn word(&self, id: usize) -> String {
        format!("{}{id:0DIGITS$}x", self.prefix)
    }

    /// Hides the tags of a document of that kind.
    pub(crate) fn hide(
        &mut self,
        pieces: &[Piece<'_>],
        kind: Kind,
        files: &[File<'_>],
        mistakes: &mut BTreeSet<Mistake>,
    ) -> Shielded {
        let parts = self.parts(pieces);
        let mut words = String::new();
        let mut starts = Vec::with_capacity(parts.len());
        for part in &parts {
            starts.push(words.len());
            match part {
                Part::Text(_, text) => words.push_str(text),
                Part::Hidden(id) => words.push_str(&self.word(*id)),
                Part::Foreign(..) => words.push_str(&self.word(0)),
            }
        }
        let spots = spots(&words, kind);
        let mut shielded = Shielded::default();
        for (number, part) in parts.iter().enumerate() {
            let spot = spot_at(&spots, starts[number]);
            match part {
                Part::Text(place, text) => shielded.push(text, Some(*place)),
                Part::Hidden(id) => {
                    let word = self.word(*id);
                    let place = self.hidden[*id].place;
                    if spot == Spot::Tag {
                        mistakes.extend(place.map(|place| between_attributes(files, place)));
                    }
                    self.hidden[*id].in_comment = spot == Spot::Comment;
                    let alone = kind != Kind::Markdown
                        || on_its_own(&words, starts[number], word.len(), &self.prefix);
                    // The converter writes the children of a wrapper into a comment for Outlook, which another comment would end.
                    let in_comment = spot == Spot::Text { parent: "mj-wrapper" };
                    let as_comment = self.hidden[*id].statement.is_some()
                        && matches!(spot, Spot::Text { .. })
                        && alone
                        && !in_comment;
                    shielded.push(&if as_comment { format!("<!--{word}-->") } else { word }, place);
                }
                Part::Foreign(foreign, inner) => {
                    let place = inner.iter().find_map(Piece::place);
                    let inner = self.hide(inner, *foreign, files, mistakes);
                    let html =
                        if *foreign == Kind::Markdown { markdown::to_html(&inner.text) } else { inner.text };
                    let parent = if let Spot::Text { parent } = spot { parent } else { "" };
                    let (before, after) = if kind == Kind::Mjml { surroundings(parent) } else { ("", "") };
                    shielded.push(before, place);
                    shielded.push(&html, place);
                    shielded.push(after, place);
                }
            }
        }
        shielded
    }

    fn parts<'p, 's>(&mut self, pieces: &'p [Piece<'s>]) -> Vec<Part<'p, 's>> {
        let mut parts = Vec::with_capacity(pieces.len());
        for piece in pieces {
            match piece {
                Piece::Text { place, text } => parts.push(Part::Text(*place, text)),
                Piece::Foreign { kind, pieces } => parts.push(Part::Foreign(*kind, pieces)),
                Piece::Print { place, .. } => {
                    parts.push(Part::Hidden(self.add(source(piece), Some(*place), None)))
                }
                Piece::Silent { place, .. } => {
                    let statement = self.alone();
                    parts.push(Part::Hidden(self.add(source(piece), Some(*place), Some(statement))));
                }
                Piece::Tag { place, word, inner } => {
                    let statement = self.statement(nesting(word, inner));
                    parts.push(Part::Hidden(self.add(source(piece), Some(*place), Some(statement))));
                }
                Piece::Made(tag) => {
                    let nesting = if tag.starts_with("{% end") { Nesting::Closes } else { Nesting::Opens };
                    let statement = self.statement(nesting);
                    parts.push(Part::Hidden(self.add((*tag).to_owned(), None, Some(statement))));
                }
            }
        }
        parts
    }

    fn add(&mut self, source: String, place: Option<Place>, statement: Option<usize>) -> usize {
        self.hidden.push(Hidden { source, place, statement, in_comment: false });
        self.hidden.len() - 1
    }

    /// A word for a tag of Drumbeat's own.
    pub(crate) fn made(&mut self, source: String) -> String {
        let id = self.add(source, None, None);
        self.word(id)
    }

    fn alone(&mut self) -> usize {
        self.statements += 1;
        self.statements
    }

    /// The number of the statement a tag is part of.
    fn statement(&mut self, nesting: Nesting) -> usize {
        match nesting {
            Nesting::Opens => {
                let statement = self.alone();
                self.open.push(statement);
                statement
            }
            Nesting::Between => self.open.last().copied().unwrap_or_default(),
            Nesting::Closes => self.open.pop().unwrap_or_default(),
            Nesting::Alone => self.alone(),
        }
    }

    /// The word or comment at a byte of a converted document: the number of its tag, and where it ends.
    fn hidden_at(&self, text: &str, at: usize) -> Option<(usize, usize)> {
        let digits_at = at + self.prefix.len();
        let digits = text.get(digits_at..digits_at + DIGITS)?;
        let id: usize = digits.parse().ok()?;
        let end = digits_at + DIGITS + 1;
        (id < self.hidden.len() && text.get(end - 1..end) == Some("x")).then_some((id, end))
    }

    /// The places of all hidden tags in a text, without the comments around them.
    pub(crate) fn find(&self, text: &str) -> Vec<Range<usize>> {
        text.match_indices(&self.prefix)
            .filter_map(|(at, _)| self.hidden_at(text, at).map(|(_, end)| at..end))
            .collect()
    }

    /// The place of the last hidden tag in a text.
    pub(crate) fn find_last(&self, text: &str) -> Option<Range<usize>> {
        let at = text.rfind(&self.prefix)?;
        self.hidden_at(text, at).map(|(_, end)| at..end)
    }

    /// Whether a word in a converted document hides part of a statement.
    pub(crate) fn is_statement(&self, word: &str) -> bool {
        self.hidden_at(word, 0).is_some_and(|(id, _)| self.hidden[id].statement.is_some())
    }

    /// Whether a word hides an expression that only ends the message: `{{ skip("why") }}`.
    pub(crate) fn prints_nothing(&self, word: &str) -> bool {
        self.hidden_at(word, 0).is_some_and(|(id, _)| self.hidden[id].source.starts_with("{{ skip("))
    }

    /// Brings the tags back. Says which of them the conversion has lost: without them the message would be another one.
    pub(crate) fn restore(
        &self,
        text: &str,
        files: &[File<'_>],
        mistakes: &mut BTreeSet<Mistake>,
        check: bool,
    ) -> Restored {
        let mut restored = Restored::default();
        let mut seen = vec![0usize; self.hidden.len()];
        let mut from = 0;
        for range in self.find(text) {
            let Some((id, mut end)) = self.hidden_at(text, range.start) else { continue };
            let mut start = range.start;
            for (opens, closes) in [("<!--", "-->"), ("&lt;!--", "--&gt;")] {
                if text[from..start].ends_with(opens) && text[end..].starts_with(closes) {
                    start -= opens.len();
                    end += closes.len();
                }
            }
            restored.literal(&text[from..start]);
            restored.tag(&self.hidden[id].source, self.hidden[id].place);
            seen[id] += 1;
            from = end;
        }
        restored.literal(&text[from..]);
        if check {
            self.lost(&seen, files, mistakes);
        }
        restored
    }

    fn lost(&self, seen: &[usize], files: &[File<'_>], mistakes: &mut BTreeSet<Mistake>) {
        for (id, hidden) in self.hidden.iter().enumerate() {
            let Some(place) = hidden.place.filter(|_| !hidden.in_comment) else { continue };
            let file = &files[place.file];
            let say =
                |message: &str| Mistake::at("T0303", file.name, file.text, place.at, place.len, message);
            match hidden.statement {
                Some(statement) => {
                    let others =
                        self.hidden.iter().zip(seen).filter(|(other, _)| other.statement == Some(statement));
                    if seen[id] == 0 || others.map(|(_, count)| *count).any(|count| count != seen[id]) {
                        let mistake = say("this tag does not survive the conversion to HTML");
                        mistakes.insert(mistake.hint("put it around whole elements, or inside a text"));
                    }
                }
                None if seen[id] == 0 => {
                    mistakes.insert(
                        say("this value does not survive the conversion to HTML: nobody would see it").warn(),
                    );
                }
                None => {}
            }
        }
    }
}

/// A tag as the template in the end has it, without marks for white space, which has gone already.
fn source(piece: &Piece<'_>) -> String {
    match piece {
        Piece::Print { inner, .. } => format!("{{{{ {inner} }}}}"),
        Piece::Silent { inner, .. } => format!("{{% set __drumbeat_nothing = ({inner}) %}}"),
        Piece::Tag { inner, .. } => format!("{{% {inner} %}}"),
        Piece::Made(tag) => (*tag).to_owned(),
        Piece::Text { .. } | Piece::Foreign { .. } => String::new(),
    }
}

/// Pieces as a template, where nothing is to be converted.
pub(crate) fn join(pieces: &[Piece<'_>]) -> Restored {
    let mut restored = Restored::default();
    add(&mut restored, pieces);
    restored
}

/// Puts pieces before a template, as the part that runs first.
pub(crate) fn prepend(pieces: &[Piece<'_>], template: Restored) -> Restored {
    if pieces.is_empty() {
        return template;
    }
    let mut all = join(pieces);
    let shift = all.text.len();
    all.text.push_str(&template.text);
    all.places.extend(template.places.into_iter().map(|(at, place)| (at + shift, place)));
    all
}

fn add(restored: &mut Restored, pieces: &[Piece<'_>]) {
    for piece in pieces {
        match piece {
            Piece::Text { text, .. } => restored.literal(text),
            Piece::Foreign { pieces, .. } => add(restored, pieces),
            other => restored.tag(&source(other), other.place()),
        }
    }
}

fn between_attributes(files: &[File<'_>], place: Place) -> Mistake {
    let file = &files[place.file];
    Mistake::at(
        "T0302",
        file.name,
        file.text,
        place.at,
        place.len,
        "a tag cannot stand between the attributes of an element",
    )
    .hint("put it into the value of one, or put the whole element between `{% if %}` and `{% endif %}`")
}

/// What spots a document has, in order.
fn spots(words: &str, kind: Kind) -> Vec<(Range<usize>, SpotOwned)> {
    if !matches!(kind, Kind::Mjml | Kind::Html) {
        return vec![(0..words.len(), SpotOwned::Text(String::new()))];
    }
    let mut spots = Vec::new();
    let mut open: Vec<String> = Vec::new();
    for token in markup::tokens(words) {
        match token {
            markup::Token::Text(range) => {
                let parent = open.last().cloned().unwrap_or_default();
                let spot =
                    if holds_raw_text(&parent) { SpotOwned::Characters } else { SpotOwned::Text(parent) };
                spots.push((range, spot));
            }
            markup::Token::Start { name, attributes, closed, range } => {
                let mut from = range.start;
                for value in attributes.into_iter().filter_map(|attribute| attribute.value) {
                    spots.push((from..value.start, SpotOwned::Tag));
                    spots.push((value.clone(), SpotOwned::Characters));
                    from = value.end;
                }
                spots.push((from..range.end, SpotOwned::Tag));
                if !closed && !is_void(&name) {
                    open.push(name);
                }
            }
            markup::Token::End { name, range } => {
                if let Some(at) = open.iter().rposition(|open| *open == name) {
                    open.truncate(at);
                }
                spots.push((range, SpotOwned::Tag));
            }
            markup::Token::Comment(range) => spots.push((range, SpotOwned::Comment)),
            markup::Token::Other(range) => spots.push((range, SpotOwned::Tag)),
        }
    }
    spots
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum SpotOwned {
    Text(String),
    Characters,
    Comment,
    Tag,
}

fn spot_at(spots: &[(Range<usize>, SpotOwned)], at: usize) -> Spot<'_> {
    let index = spots.partition_point(|(range, _)| range.end <= at);
    match spots.get(index).map(|(_, spot)| spot) {
        Some(SpotOwned::Characters) => Spot::Characters,
        Some(SpotOwned::Comment) => Spot::Comment,
        Some(SpotOwned::Tag) => Spot::Tag,
        Some(SpotOwned::Text(parent)) => Spot::Text { parent },
        None => Spot::Text { parent: "" },
    }
}

/// Whether on the line of a hidden tag there are hidden tags only: then it is no part of a paragraph in Markdown.
fn on_its_own(words: &str, at: usize, len: usize, prefix: &str) -> bool {
    let line_start = words[..at].rfind('\n').map_or(0, |found| found + 1);
    let line_end = words[at + len..].find('\n').map_or(words.len(), |found| at + len + found);
    words[line_start..line_end]
        .split_whitespace()
        .all(|word| word.split(prefix).all(|rest| rest.is_empty() || rest.len() == DIGITS + 1))
}

/// What must stand around HTML in MJML, by the element it is put into.
fn surroundings(parent: &str) -> (&'static str, &'static str) {
    match parent {
        "mj-body" | "mj-wrapper" => {
            ("<mj-section><mj-column><mj-text>", "</mj-text></mj-column></mj-section>")
        }
        "mj-section" | "mj-group" => ("<mj-column><mj-text>", "</mj-text></mj-column>"),
        "mj-column" | "mj-hero" => ("<mj-text>", "</mj-text>"),
        _ => ("", ""),
    }
}
