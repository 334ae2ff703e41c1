//! A mistake in a template, and where it is.

/// One mistake, or a warning, with its place in a file the user wrote.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// The file's name in `templates/`.
    pub file: String,
    /// From 1; 0 where it is about the whole file.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// In characters, within the line; at least 1 where there is a line.
    pub len: usize,
    /// `T0301`; the README of this room lists them.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// Whether messages can be made all the same.
    pub warning: bool,
}

impl Mistake {
    /// One about `len` bytes from byte `at` of a file with this text.
    pub(crate) fn at(
        code: &'static str,
        file: &str,
        text: &str,
        at: usize,
        len: usize,
        message: impl Into<String>,
    ) -> Self {
        let (line, column) = line_column(text, at);
        let start = floor(text, at);
        let meant = &text[start..floor(text, at.saturating_add(len)).max(start)];
        let first_line = meant.split(['\r', '\n']).next().unwrap_or_default();
        Self { line, column, len: first_line.chars().count().max(1), ..Self::of_file(code, file, message) }
    }

    /// One about a whole file.
    pub(crate) fn of_file(code: &'static str, file: &str, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: 0,
            column: 0,
            len: 0,
            code,
            message: message.into(),
            hint: None,
            warning: false,
        }
    }

    /// Says what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Asks whether another word was meant, if there is one.
    pub(crate) fn did_you_mean(self, word: Option<&str>) -> Self {
        match word {
            Some(word) => self.hint(format!("did you mean `{word}`?")),
            None => self,
        }
    }

    /// Makes it a warning.
    pub(crate) fn warn(mut self) -> Self {
        self.warning = true;
        self
    }
}

/// Line and column (from 1, in characters) of a byte of a text.
pub(crate) fn line_column(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..floor(text, at)];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The last place at or before `at` where a character begins.
pub(crate) fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_told_in_characters() {
        let text = "eins\nzwei äöü {{ drei }}\n";
        let at = text.find("drei").unwrap();
        assert_eq!(line_column(text, at), (2, 13));
        assert_eq!(line_column(text, 0), (1, 1));
        assert_eq!(line_column(text, 9999), (3, 1));
        let mistake = Mistake::at("T0000", "a.txt", text, text.find("äöü").unwrap(), 6, "x");
        assert_eq!((mistake.line, mistake.column, mistake.len), (2, 6, 3));
    }
}
