//! MJML to HTML. Before the converter sees a document it is looked through here, since the converter takes what it does not
//! know for HTML and drops what stands in the wrong place without a word.

use std::collections::{BTreeSet, HashMap};

use mrml::prelude::parser::{Error as ParseError, ParserOptions, WarningKind};
use mrml::prelude::render::RenderOptions;

use crate::expand::File;
use crate::markup::{self, Token, is_void};
use crate::mistake::Mistake;
use crate::shield::{Shield, Shielded};
use model::suggest::nearest;

/// What an element holds.
enum Holds {
    /// These elements, and nothing else.
    Only(&'static [&'static str]),
    /// HTML and text, no MJML.
    Html,
    /// Any settings.
    Anything,
}

const CONTENT: &[&str] = &[
    "mj-accordion",
    "mj-button",
    "mj-carousel",
    "mj-divider",
    "mj-image",
    "mj-navbar",
    "mj-raw",
    "mj-social",
    "mj-spacer",
    "mj-table",
    "mj-text",
];

/// MJML 4, as far as the converter has it.
const ELEMENTS: &[(&str, Holds)] = &[
    ("mjml", Holds::Only(&["mj-head", "mj-body", "mj-raw"])),
    (
        "mj-head",
        Holds::Only(&[
            "mj-attributes",
            "mj-breakpoint",
            "mj-font",
            "mj-preview",
            "mj-style",
            "mj-title",
            "mj-raw",
        ]),
    ),
    ("mj-attributes", Holds::Anything),
    ("mj-all", Holds::Anything),
    ("mj-class", Holds::Anything),
    ("mj-breakpoint", Holds::Only(&[])),
    ("mj-font", Holds::Only(&[])),
    ("mj-preview", Holds::Html),
    ("mj-style", Holds::Html),
    ("mj-title", Holds::Html),
    ("mj-body", Holds::Only(&["mj-section", "mj-wrapper", "mj-hero", "mj-raw"])),
    ("mj-wrapper", Holds::Only(&["mj-section", "mj-hero", "mj-raw"])),
    ("mj-section", Holds::Only(&["mj-column", "mj-group", "mj-raw"])),
    ("mj-group", Holds::Only(&["mj-column", "mj-raw"])),
    ("mj-column", Holds::Only(CONTENT)),
    ("mj-hero", Holds::Only(CONTENT)),
    ("mj-accordion", Holds::Only(&["mj-accordion-element", "mj-raw"])),
    ("mj-accordion-element", Holds::Only(&["mj-accordion-title", "mj-accordion-text", "mj-raw"])),
    ("mj-accordion-title", Holds::Html),
    ("mj-accordion-text", Holds::Html),
    ("mj-button", Holds::Html),
    ("mj-carousel", Holds::Only(&["mj-carousel-image"])),
    ("mj-carousel-image", Holds::Only(&[])),
    ("mj-divider", Holds::Only(&[])),
    ("mj-image", Holds::Only(&[])),
    ("mj-navbar", Holds::Only(&["mj-navbar-link", "mj-raw"])),
    ("mj-navbar-link", Holds::Html),
    ("mj-raw", Holds::Html),
    ("mj-social", Holds::Only(&["mj-social-element", "mj-raw"])),
    ("mj-social-element", Holds::Html),
    ("mj-spacer", Holds::Only(&[])),
    ("mj-table", Holds::Html),
    ("mj-text", Holds::Html),
];

/// Elements are not nested deeper: the converter works by recursion.
const DEPTH_MAX: usize = 100;

/// Converts a document. `None`: it has mistakes, or the converter refuses it.
pub(crate) fn convert(
    document: &Shielded,
    shield: &Shield,
    files: &[File<'_>],
    mistakes: &mut BTreeSet<Mistake>,
) -> Option<String> {
    let mut look = Look { document, shield, files, mistakes, open: Vec::new(), clean: true };
    look.through();
    if !look.clean {
        return None;
    }
    let options = ParserOptions::default();
    let parsed = match mrml::parse_with_options(&document.text, &options) {
        Ok(parsed) => parsed,
        Err(error) => {
            let (at, message) = refused(&error);
            let rest = document.text.get(at..).unwrap_or_default();
            let is_tag = rest
                .strip_prefix("<!--")
                .is_some_and(|rest| shield.find(rest).first().is_some_and(|hidden| hidden.start == 0));
            if is_tag {
                look.say(
                    at,
                    usize::MAX,
                    "a tag cannot stand here",
                    Some("put it around whole elements of the body, or inside a text".to_owned()),
                );
            } else {
                look.say(at, 1, &message, None);
            }
            return None;
        }
    };
    for warning in &parsed.warnings {
        let message = match warning.kind {
            WarningKind::UnexpectedAttribute => "MJML does not know this attribute here",
            // Styles are inlined afterwards, all of them.
            WarningKind::InlineStyleUnsupported => continue,
        };
        look.say_warning(warning.span.start, warning.span.end - warning.span.start, message);
    }
    // No fonts from a third party unless the author names one: it would learn who reads what, and when.
    let options = RenderOptions { fonts: HashMap::new(), ..RenderOptions::default() };
    match parsed.element.render(&options) {
        Ok(html) => Some(html),
        Err(error) => {
            look.say(0, 1, &format!("MJML cannot be converted: {error}"), None);
            None
        }
    }
}

/// What the converter says, and where.
fn refused(error: &ParseError) -> (usize, String) {
    match error {
        ParseError::UnexpectedElement { position, .. } => {
            (position.start, "this element has no place here".to_owned())
        }
        ParseError::UnexpectedToken { position, .. } => {
            (position.start, "MJML does not expect this here".to_owned())
        }
        ParseError::MissingAttribute { name, position, .. } => {
            (position.start, format!("the attribute `{name}` is missing"))
        }
        ParseError::InvalidAttribute { position, .. } => {
            (position.start, "this attribute cannot be read".to_owned())
        }
        ParseError::InvalidFormat { position, .. } => (position.start, "this cannot be read".to_owned()),
        ParseError::IncludeLoaderError { position, .. } => {
            (position.start, "`mj-include` is not available".to_owned())
        }
        ParseError::EndOfStream { .. } => {
            (usize::MAX, "the document ends too early: an element is not closed".to_owned())
        }
        ParseError::SizeLimit { .. } => (0, "the document is too large".to_owned()),
        ParseError::ParserError { source, .. } => (0, format!("this is not MJML: {source}")),
        ParseError::NoRootNode => (0, "there is no `<mjml>` element".to_owned()),
    }
}

struct Look<'a, 's> {
    document: &'a Shielded,
    shield: &'a Shield,
    files: &'a [File<'s>],
    mistakes: &'a mut BTreeSet<Mistake>,
    /// Open elements, with the byte each begins at.
    open: Vec<(String, usize)>,
    clean: bool,
}

impl Look<'_, '_> {
    fn mistake(&self, at: usize, len: usize, message: &str) -> Option<Mistake> {
        let place = self.document.place(at.min(self.document.text.len().saturating_sub(1)))?;
        let file = &self.files[place.file];
        Some(Mistake::at("T0301", file.name, file.text, place.at, len.min(place.len), message))
    }

    fn say(&mut self, at: usize, len: usize, message: &str, hint: Option<String>) {
        self.clean = false;
        let mistake = self.mistake(at, len, message).unwrap_or_else(|| {
            Mistake::of_file("T0301", self.files.first().map_or("", |file| file.name), message)
        });
        self.mistakes.insert(Mistake { hint, ..mistake });
    }

    fn say_warning(&mut self, at: usize, len: usize, message: &str) {
        let mistake = self.mistake(at, len, message).map(Mistake::warn);
        self.mistakes.extend(mistake);
    }

    /// The innermost open MJML element, and whether HTML is open in it.
    fn around(&self) -> Option<(&str, &Holds)> {
        let mjml =
            self.open.iter().rev().find_map(|(name, _)| ELEMENTS.iter().find(|(known, _)| known == name));
        mjml.map(|(name, holds)| (*name, holds))
    }

    fn through(&mut self) {
        let text = &self.document.text;
        let mut roots = 0;
        for token in markup::tokens(text) {
            match token {
                Token::Start { name, range, .. } if self.open.len() == DEPTH_MAX => {
                    return self.say(range.start, name.len() + 1, "elements are nested too deeply", None);
                }
                Token::Start { name, closed, range, .. } => {
                    roots += usize::from(name == "mjml");
                    self.start(&name, range.start);
                    if !closed && !is_void(&name) {
                        self.open.push((name, range.start));
                    }
                }
                Token::End { name, range } => self.end(&name, range.start),
                Token::Text(range) => self.text(&text[range.clone()], range.start),
                Token::Comment(range) if self.open.last().is_some_and(|(open, _)| open == "mj-wrapper") => {
                    let hint = "put it into a section, or write `{# ... #}`".to_owned();
                    self.say(
                        range.start,
                        range.len(),
                        "a comment here would end one that MJML writes for Outlook",
                        Some(hint),
                    );
                }
                Token::Comment(_) | Token::Other(_) => {}
            }
        }
        if let Some((name, at)) = self.open.pop() {
            self.say(
                at,
                name.len() + 1,
                &format!("`<{name}>` is not closed"),
                Some(format!("`</{name}>` closes it")),
            );
        }
        if roots != 1 && self.clean {
            self.say(
                0,
                1,
                "the document is one `<mjml>` element",
                Some("begin with `<mjml>`, or extend a layout that does".to_owned()),
            );
        }
    }

    fn start(&mut self, name: &str, at: usize) {
        let len = name.len() + 1;
        let known = ELEMENTS.iter().any(|(known, _)| *known == name);
        let is_mjml = name == "mjml" || name.starts_with("mj-");
        if name == "mj-include" {
            self.say(
                at,
                len,
                "`mj-include` is not available",
                Some("use `{% include \"_part.mjml\" %}`".to_owned()),
            );
            return;
        }
        if is_mjml && !known {
            let hint = nearest(name, ELEMENTS.iter().map(|(known, _)| *known))
                .map(|word| format!("did you mean `<{word}>`?"));
            self.say(at, len, &format!("MJML has no `<{name}>`"), hint);
            return;
        }
        let Some((around, holds)) = self.around() else {
            if name != "mjml" {
                self.say(at, len, &format!("`<{name}>` stands outside of `<mjml>`"), None);
            }
            return;
        };
        let around = around.to_owned();
        match holds {
            Holds::Anything => {}
            Holds::Html if is_mjml => {
                self.say(
                    at,
                    len,
                    &format!("`<{name}>` cannot stand in `<{around}>`"),
                    Some(format!("`<{around}>` holds text and HTML")),
                );
            }
            Holds::Html => {}
            Holds::Only(children) if children.contains(&name) => {}
            Holds::Only([]) => self.say(
                at,
                len,
                &format!("`<{around}>` holds nothing"),
                Some(format!("write `<{around} />`")),
            ),
            Holds::Only(children) => {
                let list = children.iter().map(|child| format!("`<{child}>`")).collect::<Vec<_>>().join(" ");
                self.say(
                    at,
                    len,
                    &format!("`<{name}>` cannot stand in `<{around}>`"),
                    Some(format!("`<{around}>` holds {list}")),
                );
            }
        }
    }

    fn end(&mut self, name: &str, at: usize) {
        match self.open.iter().rposition(|(open, _)| open == name) {
            None if is_void(name) => {}
            None => self.say(at, name.len() + 3, &format!("`</{name}>` closes nothing"), None),
            Some(position) => {
                if let Some((inner, inner_at)) = self.open.get(position + 1).cloned() {
                    self.say(
                        inner_at,
                        inner.len() + 1,
                        &format!("`<{inner}>` is not closed"),
                        Some(format!("`</{inner}>` closes it")),
                    );
                }
                self.open.truncate(position);
            }
        }
    }

    fn text(&mut self, text: &str, at: usize) {
        let Some((around, Holds::Only(_))) = self.around() else { return };
        let around = around.to_owned();
        // What sets something, or leaves, prints nothing and may stand anywhere.
        let mut shown = text.to_owned();
        for range in self.shield.find(text).into_iter().rev() {
            if self.shield.is_statement(&text[range.clone()])
                || self.shield.prints_nothing(&text[range.clone()])
            {
                shown.replace_range(range, "");
            }
        }
        let visible = shown.trim();
        if !visible.is_empty() {
            let first = visible.split_whitespace().next().unwrap_or_default();
            let at = at + text.find(first).unwrap_or_default();
            let len = if self.shield.find(first).first().is_some_and(|hidden| hidden.start == 0) {
                usize::MAX
            } else {
                visible.len()
            };
            self.say(
                at,
                len,
                &format!("text cannot stand in `<{around}>`"),
                Some("put it into `<mj-text>`".to_owned()),
            );
        }
    }
}
