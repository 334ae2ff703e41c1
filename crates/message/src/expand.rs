//! Files joined into one document: `{% extends %}` and `{% include %}` resolved before anything runs, since MJML must be
//! converted as a whole. What depends on the person cannot be resolved so, and is refused.

use std::collections::{BTreeMap, BTreeSet};

use crate::front::Front;
use crate::lint::static_names;
use crate::mistake::Mistake;
use crate::pieces::{Piece, Place};
use crate::source::{FileName, Kind, Sources};
use model::suggest::nearest;

/// A file of the closure, cut.
#[derive(Debug)]
pub(crate) struct File<'s> {
    pub(crate) name: &'s str,
    pub(crate) text: &'s str,
    pub(crate) parsed: FileName<'s>,
    pub(crate) front: Front,
    pub(crate) pieces: Vec<Piece<'s>>,
}

/// A message before conversion.
#[derive(Debug)]
pub(crate) struct Document<'s> {
    /// That of the layout, if it extends one.
    pub(crate) kind: Kind,
    /// What runs first, and prints nothing: what stands outside the blocks of a file that extends another.
    pub(crate) prelude: Vec<Piece<'s>>,
    pub(crate) pieces: Vec<Piece<'s>>,
}

/// A document has no more pieces: includes of includes of includes end here.
const PIECES_MAX: usize = 50_000;
const DEPTH_MAX: usize = 32;

/// Joins the files that a reader of one locale gets, beginning with the file of that number.
pub(crate) fn expand<'s>(
    files: &[File<'s>],
    sources: &'s Sources,
    first: usize,
    reader: &str,
    mistakes: &mut BTreeSet<Mistake>,
) -> Option<Document<'s>> {
    let mut expander = Expander {
        files,
        sources,
        reader,
        mistakes,
        blocks: BTreeMap::new(),
        shown: BTreeSet::new(),
        count: 0,
        failed: false,
    };
    let chain = expander.chain(first)?;
    let last = *chain.last()?;
    let mut prelude = Vec::new();
    for (level, file) in chain.iter().enumerate() {
        expander.define(*file, &files[*file].pieces);
        if level + 1 < chain.len() {
            expander.outside(*file, &mut prelude);
        }
    }
    let surroundings = Around { kind: files[last].parsed.kind, block: None, depth: 0, including: &[last] };
    let pieces = expander.fill(&files[last].pieces, surroundings);
    expander.unshown(&chain);
    (!expander.failed).then_some(Document { kind: files[last].parsed.kind, prelude, pieces })
}

struct Expander<'a, 's> {
    files: &'a [File<'s>],
    sources: &'s Sources,
    reader: &'a str,
    mistakes: &'a mut BTreeSet<Mistake>,
    /// What files say of each block, the one that has the last word first.
    blocks: BTreeMap<&'s str, Vec<(usize, Vec<Piece<'s>>)>>,
    shown: BTreeSet<&'s str>,
    count: usize,
    failed: bool,
}

/// Where pieces are put.
#[derive(Clone, Copy)]
struct Around<'b, 's> {
    kind: Kind,
    /// The block they belong to, and which of its texts this is.
    block: Option<(&'s str, usize)>,
    depth: usize,
    including: &'b [usize],
}

impl<'s> Expander<'_, 's> {
    fn mistake(
        &mut self,
        code: &'static str,
        place: Place,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        let file = &self.files[place.file];
        let mut mistake = Mistake::at(code, file.name, file.text, place.at, place.len, message);
        mistake.hint = hint;
        self.mistakes.insert(mistake);
        self.failed = true;
    }

    /// The file, what it extends, what that extends, and so on.
    fn chain(&mut self, first: usize) -> Option<Vec<usize>> {
        let mut chain = vec![first];
        loop {
            let file = *chain.last()?;
            let Some((place, inner)) = self.extends(file) else { return Some(chain) };
            let parent = self.refer(place, inner, true)?.into_iter().next()?;
            if chain.contains(&parent) {
                self.mistake("T0206", place, "the layouts extend each other in a circle", None);
                return None;
            }
            let (kind, around) = (self.files[file].parsed.kind, self.files[parent].parsed.kind);
            if (kind == Kind::Text) != (around == Kind::Text) {
                let message =
                    format!("a `.{}` file cannot extend a `.{}` file", kind.ending(), around.ending());
                self.mistake("T0206", place, message, None);
                return None;
            }
            chain.push(parent);
        }
    }

    /// The `{% extends %}` of a file.
    fn extends(&mut self, file: usize) -> Option<(Place, &'s str)> {
        let mut open = 0usize;
        let mut found = None;
        let files = self.files;
        for piece in &files[file].pieces {
            let Piece::Tag { place, word, inner } = piece else { continue };
            if *word == "extends" {
                if open > 0 || found.is_some() {
                    self.mistake(
                        "T0206",
                        *place,
                        "a file extends one layout, the same for everybody",
                        Some("put `{% extends %}` first, outside of all other tags".to_owned()),
                    );
                    continue;
                }
                found = Some((*place, *inner));
            }
            match nesting(word, inner) {
                Nesting::Opens => open += 1,
                Nesting::Closes => open = open.saturating_sub(1),
                Nesting::Between | Nesting::Alone => {}
            }
        }
        found
    }

    /// The files that a tag names: the first there is, for this reader.
    fn refer(&mut self, place: Place, inner: &str, one: bool) -> Option<Vec<usize>> {
        let Some((wanted, may_miss)) = static_names(inner) else {
            let hint = "write its name between quotes: `\"_footer.mjml\"`. To choose, put each `{% include %}` into an `{% if %}`";
            self.mistake(
                "T0206",
                place,
                "which file this is must be known before anything runs",
                Some(hint.to_owned()),
            );
            return None;
        };
        let found = wanted.iter().find_map(|wanted| self.sources.refer(wanted, self.reader));
        if let Some(found) = found.and_then(|name| self.files.iter().position(|file| file.name == name)) {
            return Some(vec![found]);
        }
        if may_miss && !one {
            return Some(Vec::new());
        }
        let wanted = wanted.first().map_or("", String::as_str);
        let without_language = self.sources.named().any(|(file, _)| {
            FileName::parse(wanted).is_some_and(|wanted| wanted.stem == file.stem && wanted.kind == file.kind)
        });
        let (message, hint) = if without_language {
            let reader = if self.reader.is_empty() { "other languages" } else { self.reader };
            (
                format!("there is no `{wanted}` for {reader}"),
                Some(format!("add templates/{wanted}, the one for all others")),
            )
        } else {
            let hint = self.sources.nearest_part(wanted).map(|word| format!("did you mean `{word}`?"));
            (format!("there is no file templates/{wanted}"), hint)
        };
        self.mistake("T0208", place, message, hint);
        None
    }

    /// Notes what a file says of blocks.
    fn define(&mut self, file: usize, pieces: &[Piece<'s>]) {
        let mut at = 0;
        while at < pieces.len() {
            if let Piece::Tag { word: "block", inner, .. } = &pieces[at] {
                let end = end_of_block(pieces, at);
                let inside = &pieces[at + 1..end];
                self.blocks.entry(block_name(inner)).or_default().push((file, inside.to_vec()));
                self.define(file, inside);
                at = end;
            }
            at += 1;
        }
    }

    /// What stands outside the blocks of a file that extends another: tags run first; text would not be shown, and is a mistake.
    fn outside(&mut self, file: usize, prelude: &mut Vec<Piece<'s>>) {
        let files = self.files;
        let pieces = &files[file].pieces;
        let mut kept = Vec::new();
        let mut at = 0;
        while at < pieces.len() {
            match &pieces[at] {
                Piece::Tag { word: "block", .. } => at = end_of_block(pieces, at),
                Piece::Tag { word: "extends", .. } => {}
                Piece::Tag { word: "include", place, .. } => {
                    self.mistake(
                        "T0209",
                        *place,
                        "what stands outside the blocks is not shown",
                        Some("put it into a `{% block %}`".to_owned()),
                    );
                }
                piece @ Piece::Tag { word, inner, .. } => {
                    match nesting(word, inner) {
                        Nesting::Opens => kept.push(matches!(*word, "macro" | "set")),
                        Nesting::Closes => drop(kept.pop()),
                        Nesting::Between | Nesting::Alone => {}
                    }
                    prelude.push(piece.clone());
                }
                piece if kept.contains(&true) => {
                    if let Piece::Text { place, text } = piece
                        && text.contains("<mj-")
                    {
                        self.mistake(
                            "T0206",
                            *place,
                            "MJML outside the blocks is not converted",
                            Some("define the macro inside the block that uses it".to_owned()),
                        );
                    }
                    prelude.push(piece.clone());
                }
                Piece::Print { place, inner } => prelude.push(Piece::Silent { place: *place, inner }),
                Piece::Text { place, text } => self.lost_text(*place, text),
                Piece::Silent { .. } | Piece::Made(_) | Piece::Foreign { .. } => {}
            }
            at += 1;
        }
    }

    fn lost_text(&mut self, place: Place, text: &str) {
        let shown = text.trim();
        if shown.is_empty() || (shown.starts_with("<!--") && shown.ends_with("-->")) {
            return;
        }
        let at = place.at + text.len() - text.trim_start().len();
        let place = Place { at, len: shown.len(), ..place };
        self.mistake(
            "T0209",
            place,
            "what stands outside the blocks is not shown",
            Some("put it into a block of the layout, as in `{% block body %}`".to_owned()),
        );
    }

    /// Blocks that nobody shows.
    fn unshown(&mut self, chain: &[usize]) {
        let files = self.files;
        for file in &chain[..chain.len() - 1] {
            for piece in &files[*file].pieces {
                let Piece::Tag { word: "block", inner, place } = piece else { continue };
                let name = block_name(inner);
                if self.failed || self.shown.contains(name) {
                    continue;
                }
                let hint =
                    nearest(name, self.shown.iter().copied()).map(|word| format!("did you mean `{word}`?"));
                let layout = chain.last().map_or("", |layout| files[*layout].name);
                let known = self.shown.iter().copied().collect::<Vec<_>>().join(", ");
                self.mistake(
                    "T0209",
                    *place,
                    format!("{layout} has no block `{name}`"),
                    hint.or(Some(format!("it has {known}"))),
                );
            }
        }
    }

    /// Pieces with their blocks and includes in place.
    fn fill(&mut self, pieces: &[Piece<'s>], around: Around<'_, 's>) -> Vec<Piece<'s>> {
        let mut out = Vec::with_capacity(pieces.len());
        let mut at = 0;
        while at < pieces.len() {
            self.count += 1;
            let place = pieces[at].place();
            if let Some(place) = place.filter(|_| self.count > PIECES_MAX || around.depth > DEPTH_MAX) {
                if !self.failed {
                    self.mistake("T0210", place, "the files include each other too often", None);
                }
                return out;
            }
            match &pieces[at] {
                Piece::Tag { word: "block", inner, place } => {
                    at = end_of_block(pieces, at);
                    let block = self.block(block_name(inner), 0, *place, around);
                    out.extend(block);
                }
                Piece::Tag { word: "include", inner, place } => {
                    for file in self.refer(*place, inner, false).unwrap_or_default() {
                        let included = self.include(file, *place, around);
                        out.extend(included);
                    }
                }
                Piece::Print { inner: "super()", place } => match around.block {
                    Some((name, level)) => {
                        let block = self.block(name, level + 1, *place, around);
                        out.extend(block);
                    }
                    None => self.mistake("T0209", *place, "`super()` stands in a block", None),
                },
                piece => out.push(piece.clone()),
            }
            at += 1;
        }
        out
    }

    /// The text of a block: that of the file with the last word, or the one that it stands in for.
    fn block(&mut self, name: &'s str, level: usize, place: Place, around: Around<'_, 's>) -> Vec<Piece<'s>> {
        self.shown.insert(name);
        let Some((file, pieces)) = self.blocks.get(name).and_then(|texts| texts.get(level)).cloned() else {
            self.mistake(
                "T0209",
                place,
                format!("no layout says anything in block `{name}`"),
                Some("leave `super()` out".to_owned()),
            );
            return Vec::new();
        };
        let kind = self.files[file].parsed.kind;
        let inner = Around { kind, block: Some((name, level)), depth: around.depth + 1, ..around };
        let filled = self.fill(&pieces, inner);
        self.placed(filled, kind, place, around.kind)
    }

    fn include(&mut self, file: usize, place: Place, around: Around<'_, 's>) -> Vec<Piece<'s>> {
        let files = self.files;
        if around.including.contains(&file) {
            self.mistake("T0206", place, "the file includes itself", None);
            return Vec::new();
        }
        if let Some((place, _)) = self.extends(file) {
            self.mistake("T0206", place, "an included file cannot extend a layout", None);
            return Vec::new();
        }
        let including: Vec<usize> = around.including.iter().copied().chain([file]).collect();
        let kind = files[file].parsed.kind;
        self.define_missing(file);
        let filled = self.fill(
            &files[file].pieces,
            Around { kind, block: None, depth: around.depth + 1, including: &including },
        );
        self.placed(filled, kind, place, around.kind)
    }

    /// Blocks of an included file are no one's to fill: they stand for themselves.
    fn define_missing(&mut self, file: usize) {
        let files = self.files;
        for piece in &files[file].pieces {
            if let Piece::Tag { word: "block", inner, .. } = piece
                && !self.blocks.contains_key(block_name(inner))
            {
                self.define(file, &files[file].pieces);
                return;
            }
        }
    }

    /// Pieces as they stand in a document of another kind; what they set stays inside.
    fn placed(&mut self, pieces: Vec<Piece<'s>>, kind: Kind, place: Place, around: Kind) -> Vec<Piece<'s>> {
        let sets = pieces.iter().any(|piece| matches!(piece, Piece::Tag { word: "set" | "macro", .. }));
        let mut placed = match (around, kind) {
            _ if around == kind => pieces,
            (Kind::Mjml | Kind::Html, Kind::Markdown) | (Kind::Mjml, Kind::Html) => {
                vec![Piece::Foreign { kind, pieces }]
            }
            (Kind::Markdown, Kind::Html) => pieces,
            _ => {
                let message =
                    format!("a `.{}` file cannot stand in a `.{}` file", kind.ending(), around.ending());
                self.mistake("T0206", place, message, None);
                Vec::new()
            }
        };
        if sets {
            placed.insert(0, Piece::Made("{% with %}"));
            placed.push(Piece::Made("{% endwith %}"));
        }
        placed
    }
}

/// What a tag does to the nesting of tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nesting {
    Opens,
    Between,
    Closes,
    Alone,
}

/// What a tag does to the nesting, by its word.
pub(crate) fn nesting(word: &str, inner: &str) -> Nesting {
    match word {
        "if" | "for" | "with" | "macro" | "filter" | "call" | "block" | "autoescape" => Nesting::Opens,
        // `{% set a = 1 %}` stands alone, `{% set a %}...{% endset %}` does not.
        "set" if !inner.contains('=') => Nesting::Opens,
        "else" | "elif" => Nesting::Between,
        _ if word.starts_with("end") => Nesting::Closes,
        _ => Nesting::Alone,
    }
}

fn block_name(inner: &str) -> &str {
    inner.split_whitespace().nth(1).unwrap_or_default()
}

/// The number of the `{% endblock %}` of a block.
fn end_of_block(pieces: &[Piece<'_>], start: usize) -> usize {
    let mut open = 0usize;
    for (at, piece) in pieces.iter().enumerate().skip(start) {
        match piece {
            Piece::Tag { word: "block", .. } => open += 1,
            Piece::Tag { word: "endblock", .. } => {
                open -= 1;
                if open == 0 {
                    return at;
                }
            }
            _ => {}
        }
    }
    pieces.len().saturating_sub(1).max(start)
}
