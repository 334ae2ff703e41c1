//! Tokens of SQL, as far as they must be told apart: what is quoted or commented is no word and no parameter.
//!
//! Total: any text becomes tokens that cover all of it but white space and comments. No grammar, no keywords.

use super::Style;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A keyword or a bare name.
    Word,
    /// A name in quotes of some kind.
    QuotedName,
    /// A string.
    Text,
    /// A number, and whatever letters touch it.
    Number,
    /// `:name`.
    Parameter,
    /// A parameter of the database's own: `?`, `?1`, `$1`, `@name`.
    Placeholder,
    /// `;`
    Semicolon,
    /// `::`
    Cast,
    /// Any other character.
    Symbol,
    /// A string, a quoted name or a comment that has no end.
    Unterminated,
}

/// A token: `sql[start..end]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Token {
    pub(super) fn text<'a>(&self, sql: &'a str) -> &'a str {
        sql.get(self.start..self.end).unwrap_or_default()
    }
}

/// The tokens of a text. Without a style the text is read so that it is right for both databases: where they
/// disagree, the reading that suits what stands around it.
pub(super) fn tokens(sql: &str, style: Option<Style>) -> Vec<Token> {
    let mut lexer = Lexer { bytes: sql.as_bytes(), at: 0, style, subscripts: 0, tokens: Vec::new() };
    while lexer.step() {}
    lexer.tokens
}

struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
    style: Option<Style>,
    /// How many subscripts are open: `a[1:n]` holds a slice and no parameter.
    subscripts: usize,
    tokens: Vec<Token>,
}

fn starts_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || !byte.is_ascii()
}

fn continues_word(byte: u8) -> bool {
    starts_word(byte) || byte.is_ascii_digit() || byte == b'$'
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn is(&self, style: Style) -> bool {
        self.style == Some(style)
    }

    fn push(&mut self, kind: Kind, end: usize) {
        self.tokens.push(Token { kind, start: self.at, end });
        self.at = end;
    }

    /// The first place from `from` on whose byte does not fit.
    fn run(&self, from: usize, fits: impl Fn(u8) -> bool) -> usize {
        let rest = self.bytes.get(from..).unwrap_or_default();
        from + rest.iter().position(|byte| !fits(*byte)).unwrap_or(rest.len())
    }

    /// Reads one token, a comment or white space; false at the end.
    fn step(&mut self) -> bool {
        let Some(&byte) = self.bytes.get(self.at) else { return false };
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' | b'\x0c' | b'\x0b' | 0 => self.at += 1,
            b'-' if self.peek(1) == b'-' => self.at = self.run(self.at, |byte| byte != b'\n'),
            b'/' if self.peek(1) == b'*' => self.comment(),
            b'\'' => self.quoted(Kind::Text, self.at, b'\'', false),
            b'"' => self.quoted(Kind::QuotedName, self.at, b'"', false),
            b'`' if self.is_backtick_quote() => self.quoted(Kind::QuotedName, self.at, b'`', false),
            b'[' if self.is_bracket_quote() => {
                let end = self.run(self.at, |byte| byte != b']');
                self.push(Kind::QuotedName, end + 1);
            }
            b'[' | b']' => {
                self.subscripts =
                    if byte == b'[' { self.subscripts + 1 } else { self.subscripts.saturating_sub(1) };
                self.push(Kind::Symbol, self.at + 1);
            }
            b'e' | b'E' if self.peek(1) == b'\'' && !self.is(Style::Sqlite) => {
                self.quoted(Kind::Text, self.at + 1, b'\'', true)
            }
            b';' => self.push(Kind::Semicolon, self.at + 1),
            b':' => self.colon(),
            b'$' => self.dollar(),
            b'?' if self.is_placeholder_mark() => {
                self.push(Kind::Placeholder, self.run(self.at + 1, |byte| byte.is_ascii_digit()))
            }
            b'@' if !self.is(Style::Postgres) && starts_word(self.peek(1)) && !self.follows_operator() => {
                self.push(Kind::Placeholder, self.run(self.at + 1, continues_word));
            }
            _ if byte.is_ascii_digit() => {
                self.push(Kind::Number, self.run(self.at, |byte| continues_word(byte) || byte == b'.'));
            }
            _ if starts_word(byte) => self.push(Kind::Word, self.run(self.at, continues_word)),
            _ => self.push(Kind::Symbol, self.at + 1),
        }
        true
    }

    /// A text between `quote`s that begin at `open`; a quote inside is doubled, or comes after a backslash where those count.
    fn quoted(&mut self, kind: Kind, open: usize, quote: u8, backslash: bool) {
        let mut at = open + 1;
        while let Some(&byte) = self.bytes.get(at) {
            if backslash && byte == b'\\' {
                at += 2;
            } else if byte != quote {
                at += 1;
            } else if self.bytes.get(at + 1) == Some(&quote) {
                at += 2;
            } else {
                return self.push(kind, at + 1);
            }
        }
        self.push(Kind::Unterminated, self.bytes.len());
    }

    /// Comments nest in Postgres and do not in SQLite.
    fn comment(&mut self) {
        let nested = if self.is(Style::Sqlite) { None } else { self.comment_end(true) };
        let flat = if self.is(Style::Postgres) { None } else { self.comment_end(false) };
        match nested.or(flat) {
            Some(end) => self.at = end,
            None => self.push(Kind::Unterminated, self.bytes.len()),
        }
    }

    fn comment_end(&self, nests: bool) -> Option<usize> {
        let (mut at, mut depth) = (self.at + 2, 1usize);
        loop {
            match (self.bytes.get(at)?, self.bytes.get(at + 1)?) {
                (b'*', b'/') if depth == 1 => return Some(at + 2),
                (b'*', b'/') => (at, depth) = (at + 2, depth - 1),
                (b'/', b'*') if nests => (at, depth) = (at + 2, depth + 1),
                _ => at += 1,
            }
        }
    }

    /// `::`, `:=`, `:name`, or the colon of a slice.
    fn colon(&mut self) {
        if self.peek(1) == b':' {
            self.push(Kind::Cast, self.at + 2);
        } else if self.peek(1).is_ascii_alphanumeric() || self.peek(1) == b'_' {
            let end = self
                .run(self.at + 1, |byte| byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii());
            let is_slice = self.subscripts > 0 && {
                let name = self.bytes.get(self.at + 1..end).unwrap_or_default();
                !name.starts_with(b"now") && !name.starts_with(b"today")
            };
            if is_slice { self.push(Kind::Symbol, self.at + 1) } else { self.push(Kind::Parameter, end) }
        } else {
            self.push(Kind::Symbol, self.at + 1);
        }
    }

    /// `$tag$ text $tag$`, or a parameter of the database's own.
    fn dollar(&mut self) {
        if !self.is(Style::Sqlite) {
            let tag_end = self.run(self.at + 1, |byte| continues_word(byte) && byte != b'$');
            if self.bytes.get(tag_end) == Some(&b'$') && !self.peek(1).is_ascii_digit() {
                let tag = self.bytes.get(self.at..=tag_end).unwrap_or_default();
                let rest = self.bytes.get(tag_end + 1..).unwrap_or_default();
                let found = rest.windows(tag.len()).position(|window| window == tag);
                return match found {
                    Some(found) => self.push(Kind::Text, tag_end + 1 + found + tag.len()),
                    None => self.push(Kind::Unterminated, self.bytes.len()),
                };
            }
        }
        let end = self.run(self.at + 1, |byte| continues_word(byte) && byte != b'$');
        self.push(if end > self.at + 1 { Kind::Placeholder } else { Kind::Symbol }, end);
    }

    fn is_backtick_quote(&self) -> bool {
        !self.is(Style::Postgres)
            && (self.is(Style::Sqlite) || self.run(self.at + 1, |byte| byte != b'`') < self.bytes.len())
    }

    /// `[name]` in SQLite; a subscript in Postgres, where it touches what it is taken of.
    fn is_bracket_quote(&self) -> bool {
        let closes = self.run(self.at, |byte| byte != b']') < self.bytes.len();
        let touches = self.at.checked_sub(1).and_then(|before| self.bytes.get(before));
        let is_subscript =
            touches.is_some_and(|byte| continues_word(*byte) || matches!(byte, b']' | b')' | b'"' | b'['));
        closes
            && match self.style {
                Some(Style::Sqlite) => true,
                Some(Style::Postgres) => false,
                None => !is_subscript && self.subscripts == 0,
            }
    }

    /// Whether a `?` stands for a value. In Postgres it is an operator of `jsonb`: `data ? 'key'`, `data ?| array[...]`.
    fn is_placeholder_mark(&self) -> bool {
        match self.style {
            Some(Style::Sqlite) => true,
            Some(Style::Postgres) => false,
            None => {
                let next = self
                    .bytes
                    .get(self.run(self.at + 1, |byte| byte.is_ascii_whitespace()))
                    .copied()
                    .unwrap_or(0);
                !matches!(self.peek(1), b'|' | b'&' | b'#' | b'-')
                    && !matches!(next, b'\'' | b':')
                    && !self.follows_operator()
            }
        }
    }

    /// Whether the character before is one of an operator's, such as the `@` of `@?`.
    fn follows_operator(&self) -> bool {
        self.at
            .checked_sub(1)
            .and_then(|before| self.bytes.get(before))
            .is_some_and(|byte| matches!(byte, b'@' | b'?' | b'#'))
    }
}
