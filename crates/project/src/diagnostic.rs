//! What is wrong with a project, and where: data, a picture for people, and JSON for programs.

use std::fmt;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde_json::{Value as Json, json};

/// One mistake, or a warning.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    /// The file, from the project's folder.
    pub file: String,
    /// From 1; 0 where it is about no place in the file.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// In characters, within the line.
    pub len: usize,
    /// `E0102`; the README of this room lists them.
    pub code: &'static str,
    /// Whether the project may run all the same.
    pub warning: bool,
    /// What is wrong.
    pub message: String,
    /// What to write at the caret.
    pub label: Option<String>,
    /// What to do.
    pub hint: Option<String>,
    /// The line it is in.
    pub source: String,
}

impl Diagnostic {
    /// One that is about the project or a whole file.
    pub fn of_file(code: &'static str, file: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            line: 0,
            column: 0,
            len: 0,
            code,
            warning: false,
            message: message.into(),
            label: None,
            hint: None,
            source: String::new(),
        }
    }

    /// Says what to do.
    pub fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(hint.into());
        self
    }

    /// Asks whether another word was meant, if there is one.
    pub fn did_you_mean(&mut self, word: Option<&str>) -> &mut Self {
        if let Some(word) = word {
            self.hint = Some(format!("did you mean `{word}`?"));
        }
        self
    }

    /// Says something at the caret.
    pub fn label(&mut self, label: impl Into<String>) -> &mut Self {
        self.label = Some(label.into());
        self
    }

    /// Makes it a warning.
    pub fn warn(&mut self) -> &mut Self {
        self.warning = true;
        self
    }

    /// Covers what stands at its place and behind it in the line: it is a secret.
    pub(crate) fn cover(&mut self) {
        let before = self.column.saturating_sub(1);
        self.source =
            self.source.chars().enumerate().map(|(at, c)| if at < before { c } else { '*' }).collect();
    }

    /// The look of rustc, without a line break at the end.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let level = if self.warning { Level::WARNING } else { Level::ERROR };
        let message = one_line(&self.message);
        let title = level.primary_title(message).id(self.code);
        let hint = self.hint.as_deref().map(|hint| Level::HELP.with_name("hint").message(one_line(hint)));
        let group = if self.line == 0 {
            title.element(annotate_snippets::Origin::path(&*self.file))
        } else {
            let (line, range) = self.drawn();
            let label = self.label.as_deref().map(one_line);
            let annotation = AnnotationKind::Primary.span(range).label(label);
            title
                .element(Snippet::source(line).line_start(self.line).path(&*self.file).annotation(annotation))
        };
        let group = match hint {
            Some(hint) => group.element(hint),
            None => group,
        };
        renderer.render(&[group])
    }

    /// The source line as it is shown, and the bytes of it that are meant: tabs become one space, what stands between
    /// `://` and `@` is somebody's password.
    fn drawn(&self) -> (String, std::ops::Range<usize>) {
        let line: String = mask(&self.source).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let at = |characters: usize| line.char_indices().nth(characters).map_or(line.len(), |(at, _)| at);
        let start = at(self.column.saturating_sub(1));
        let end = at(self.column.saturating_sub(1) + self.len.max(1));
        (line.clone(), start..end.max(start))
    }

    /// One object. What is about a whole file is at its first character, since an editor knows no line 0.
    pub fn to_json(&self) -> Json {
        json!({
            "level": if self.warning { "warning" } else { "error" },
            "code": self.code,
            "message": self.message,
            "label": self.label,
            "file": self.file,
            "line": self.line.max(1),
            "column": self.column.max(1),
            "length": self.len,
            "hint": self.hint,
        })
    }
}

/// Several, in the order of their places.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    /// In the order of their places, each once.
    pub fn new(mut all: Vec<Diagnostic>) -> Self {
        all.sort();
        all.dedup();
        Self(all)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them is a mistake, and not only a warning.
    pub fn has_mistakes(&self) -> bool {
        self.0.iter().any(|diagnostic| !diagnostic.warning)
    }

    /// Mistakes and warnings apart.
    pub fn split(self) -> (Self, Self) {
        let (warnings, mistakes) = self.0.into_iter().partition(|diagnostic| diagnostic.warning);
        (Self(mistakes), Self(warnings))
    }

    /// All of them in the look of rustc, with an empty line between two.
    pub fn render(&self, color: bool) -> String {
        self.0.iter().map(|diagnostic| diagnostic.render(color) + "\n").collect::<Vec<_>>().join("\n")
    }

    /// A list of objects.
    pub fn to_json(&self) -> Json {
        self.0.iter().map(Diagnostic::to_json).collect()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Stars for what stands between `://` and `@` after a colon, as many as there were characters.
fn mask(line: &str) -> String {
    let mut masked = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(scheme) = rest.find("://") {
        let (before, after) = rest.split_at(scheme + 3);
        masked.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || "/\"',}".contains(c)).unwrap_or(after.len());
        let (authority, tail) = after.split_at(end);
        match authority.rfind('@').and_then(|at| Some((authority.find(':').filter(|colon| *colon < at)?, at)))
        {
            Some((colon, at)) => {
                masked.push_str(&authority[..=colon]);
                masked.extend(authority[colon + 1..at].chars().map(|_| '*'));
                masked.push_str(&authority[at..]);
            }
            None => masked.push_str(authority),
        }
        rest = tail;
    }
    masked + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_an_address_is_not_drawn() {
        assert_eq!(
            mask("url: postgres://me:pässword@host:5432/db # x"),
            "url: postgres://me:********@host:5432/db # x"
        );
        assert_eq!(mask("a: http://host:80/x, b: sqlite://w.db"), "a: http://host:80/x, b: sqlite://w.db");
    }

    #[test]
    fn the_picture_has_the_place_the_line_a_caret_and_a_hint() {
        let mut one = Diagnostic::of_file("E0102", "a.yml", "unknown key `titel`");
        (one.line, one.column, one.len, one.source) = (3, 1, 5, "titel: x".to_owned());
        one.did_you_mean(Some("title"));
        let expected = "error[E0102]: unknown key `titel`\n --> a.yml:3:1\n  |\n3 | titel: x\n  | ^^^^^\n  |\n  = hint: did you mean `title`?";
        assert_eq!(one.render(false), expected);
        assert!(one.render(true).contains("\u{1b}["));
        assert_eq!(Diagnostic::of_file("E0101", "a.yml", "no").render(false), "error[E0101]: no\n--> a.yml");
    }
}
