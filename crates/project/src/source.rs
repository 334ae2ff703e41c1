//! The files of a project as text, and places in them. Nothing here knows what a file says.

use crate::diagnostic::Diagnostic;

/// A place in a file: bytes from `start` to before `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    /// Which file, by its position in [`Files`].
    pub(crate) file: u32,
    /// First byte.
    pub(crate) start: u32,
    /// The byte after the last.
    pub(crate) end: u32,
}

impl Span {
    /// A place; offsets beyond 4 GiB do not occur, since files are bounded.
    pub(crate) fn new(file: u32, start: usize, end: usize) -> Self {
        let clip = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        Self { file, start: clip(start), end: clip(end.max(start)) }
    }

    /// The beginning of a file.
    pub(crate) fn top(file: u32) -> Self {
        Self { file, start: 0, end: 0 }
    }
}

/// One file.
#[derive(Clone)]
pub(crate) struct File {
    /// From the project's folder, with `/`.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
}

impl std::fmt::Debug for File {
    /// Without the text: a file may hold what should have been a secret.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.path)
    }
}

/// All files that were read, in the order of reading.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files(Vec<File>);

impl Files {
    /// Takes a file in.
    pub(crate) fn add(&mut self, path: String, text: String) -> u32 {
        self.0.push(File { path, text });
        u32::try_from(self.0.len() - 1).unwrap_or(u32::MAX)
    }

    /// The path of a file.
    pub(crate) fn path(&self, file: u32) -> &str {
        self.get(file).map_or("", |file| &file.path)
    }

    /// The text of a file.
    pub(crate) fn text(&self, file: u32) -> &str {
        self.get(file).map_or("", |file| &file.text)
    }

    /// The file of that path, if it was read.
    pub(crate) fn find(&self, path: &str) -> Option<u32> {
        self.0.iter().position(|file| file.path == path).and_then(|at| u32::try_from(at).ok())
    }

    /// `segments/at_risk.yml:5`
    pub(crate) fn place(&self, span: Span) -> String {
        format!("{}:{}", self.path(span.file), self.locate(span).0)
    }

    /// Line and column, both from 1, columns in characters; the length in characters, within the first line; that line.
    pub(crate) fn locate(&self, span: Span) -> (usize, usize, usize, &str) {
        let text = self.text(span.file);
        let start = floor(text, span.start as usize);
        let line_start =
            text.get(..start).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1);
        let line_end =
            text.get(start..).and_then(|rest| rest.find('\n')).map_or(text.len(), |newline| start + newline);
        let line = text.get(line_start..line_end).unwrap_or_default().trim_end_matches('\r');
        let end = floor(text, span.end as usize).clamp(start, (line_start + line.len()).max(start));
        let count = |from: usize, to: usize| text.get(from..to).map_or(0, |part| part.chars().count());
        let number = text.get(..line_start).map_or(0, |before| before.matches('\n').count()) + 1;
        (number, count(line_start, start) + 1, count(start, end), line)
    }

    /// A mistake at a place.
    pub(crate) fn diagnostic(
        &self,
        code: &'static str,
        span: Span,
        message: impl Into<String>,
    ) -> Diagnostic {
        let (line, column, len, source) = self.locate(span);
        Diagnostic {
            code,
            warning: false,
            message: message.into(),
            label: None,
            file: self.path(span.file).to_owned(),
            line,
            column,
            len,
            hint: None,
            source: source.to_owned(),
        }
    }

    fn get(&self, file: u32) -> Option<&File> {
        self.0.get(file as usize)
    }
}

/// The last boundary between characters at or before `at`.
fn floor(text: &str, at: usize) -> usize {
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
    fn columns_are_counted_in_characters_and_places_stay_in_their_line() {
        let mut files = Files::default();
        let file = files.add("a.yml".to_owned(), "ä: 1\r\nböse: zwei\n".to_owned());
        assert_eq!(files.locate(Span::new(file, 4, 5)), (1, 4, 1, "ä: 1"));
        assert_eq!(files.locate(Span::new(file, 14, 99)), (2, 7, 4, "böse: zwei"));
        assert_eq!(files.locate(Span::new(file, 9, 10)), (2, 2, 1, "böse: zwei"), "inside a character");
        assert_eq!(files.locate(Span::new(file, 999, 1000)).0, 3);
        assert_eq!(files.locate(Span::new(7, 3, 4)), (1, 1, 0, ""), "no such file");
    }
}
