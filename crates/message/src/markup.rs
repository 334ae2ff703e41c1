//! HTML and MJML cut into tags, text and comments, with places. Forgiving as mail programs are: it never fails, and what is no
//! tag is text. Deliberately absent: a tree; who needs one keeps a stack.

use std::ops::Range;

/// A stretch of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    /// Text; also the content of `<style>` and its kin.
    Text(Range<usize>),
    /// `<name attributes>`.
    Start { name: String, attributes: Vec<Attribute>, closed: bool, range: Range<usize> },
    /// `</name>`.
    End { name: String, range: Range<usize> },
    /// `<!-- ... -->`, brackets included.
    Comment(Range<usize>),
    /// `<!doctype ...>`, `<?xml ...?>`.
    Other(Range<usize>),
}

/// One attribute, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attribute {
    /// In lower case.
    pub(crate) name: String,
    /// What stands between the quotes.
    pub(crate) value: Option<Range<usize>>,
}

impl Token {
    pub(crate) fn range(&self) -> Range<usize> {
        match self {
            Self::Text(range) | Self::Comment(range) | Self::Other(range) => range.clone(),
            Self::Start { range, .. } | Self::End { range, .. } => range.clone(),
        }
    }
}

/// Elements whose content is text, whatever it looks like.
pub(crate) fn holds_raw_text(name: &str) -> bool {
    matches!(name, "style" | "script" | "title" | "textarea" | "mj-style" | "mj-title" | "mj-preview")
}

/// Elements without content (HTML 13.1.2).
pub(crate) fn is_void(name: &str) -> bool {
    matches!(
        name,
        "area"
            | "base"
            | "br"
            | "col"
            | "embed"
            | "hr"
            | "img"
            | "input"
            | "link"
            | "meta"
            | "source"
            | "track"
            | "wbr"
    )
}

/// Cuts a document.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut at = 0;
    let mut text_from = 0;
    while let Some(found) = text[at..].find('<') {
        let start = at + found;
        let Some(token) = tag(text, start) else {
            at = start + 1;
            continue;
        };
        if text_from < start {
            tokens.push(Token::Text(text_from..start));
        }
        at = token.range().end;
        text_from = at;
        let raw = match &token {
            Token::Start { name, closed: false, .. } if holds_raw_text(name) => Some(format!("</{name}")),
            _ => None,
        };
        tokens.push(token);
        if let Some(ending) = raw {
            let end = find_ignoring_case(&text[at..], &ending).map_or(text.len(), |found| at + found);
            if at < end {
                tokens.push(Token::Text(at..end));
            }
            (at, text_from) = (end, end);
        }
    }
    if text_from < text.len() {
        tokens.push(Token::Text(text_from..text.len()));
    }
    tokens
}

fn find_ignoring_case(text: &str, ending: &str) -> Option<usize> {
    text.char_indices().map(|(at, _)| at).find(|at| {
        text.as_bytes()
            .get(*at..at + ending.len())
            .is_some_and(|bytes| bytes.eq_ignore_ascii_case(ending.as_bytes()))
    })
}

/// The tag, comment or declaration that begins at `<`; `None` if it is only a sign.
fn tag(text: &str, start: usize) -> Option<Token> {
    let rest = &text[start..];
    if let Some(comment) = rest.strip_prefix("<!--") {
        let end = comment.find("-->").map_or(text.len(), |found| start + 4 + found + 3);
        return Some(Token::Comment(start..end));
    }
    if rest.starts_with("<!") || rest.starts_with("<?") {
        let end = rest.find('>').map_or(text.len(), |found| start + found + 1);
        return Some(Token::Other(start..end));
    }
    let closing = rest.starts_with("</");
    let name_at = start + if closing { 2 } else { 1 };
    if !text[name_at..].starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    let name_end = text[name_at..]
        .find(|c: char| c.is_whitespace() || matches!(c, '/' | '>' | '<'))
        .map_or(text.len(), |found| name_at + found);
    let name = text[name_at..name_end].to_ascii_lowercase();
    let (attributes, closed, end) = attributes(text, name_end);
    Some(if closing {
        Token::End { name, range: start..end }
    } else {
        Token::Start { name, attributes, closed, range: start..end }
    })
}

/// The attributes from `at` on, whether the tag ends in `/>`, and where it ends.
fn attributes(text: &str, mut at: usize) -> (Vec<Attribute>, bool, usize) {
    let mut attributes = Vec::new();
    let bytes = text.as_bytes();
    let mut slash = false;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'>' => return (attributes, slash, at + 1),
            b'<' => return (attributes, slash, at),
            b'/' => {
                slash = true;
                at += 1;
            }
            byte if byte.is_ascii_whitespace() => at += 1,
            _ => {
                slash = false;
                let end = text[at..]
                    .find(|c: char| c.is_whitespace() || matches!(c, '/' | '>' | '=' | '<'))
                    .map_or(text.len(), |found| at + found);
                // A stray `=` is a name of its own.
                let end = if end == at { at + 1 } else { end };
                let name = text[at..end].to_ascii_lowercase();
                let (value, after) = value(text, end);
                attributes.push(Attribute { name, value });
                at = after;
            }
        }
    }
    (attributes, slash, text.len())
}

/// The value after a name that ends at `at`, and where what follows begins.
fn value(text: &str, at: usize) -> (Option<Range<usize>>, usize) {
    let skip =
        |at: usize| text[at..].find(|c: char| !c.is_whitespace()).map_or(text.len(), |found| at + found);
    let sign = skip(at);
    if !text[sign..].starts_with('=') {
        return (None, at);
    }
    let start = skip(sign + 1);
    match text[start..].chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let end = text[start + 1..].find(quote).map_or(text.len(), |found| start + 1 + found);
            (Some(start + 1..end), (end + 1).min(text.len()))
        }
        _ => {
            let end = text[start..]
                .find(|c: char| c.is_whitespace() || c == '>')
                .map_or(text.len(), |found| start + found);
            (Some(start..end), end)
        }
    }
}

/// Text with its entities resolved, as far as mails use them.
pub(crate) fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let entity = rest[1..].find(';').filter(|end| *end <= 10).map(|end| &rest[1..=end]);
        match entity.and_then(resolve) {
            Some(c) => {
                out.push(c);
                rest = &rest[entity.map_or(1, str::len) + 2..];
            }
            None => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

fn resolve(entity: &str) -> Option<char> {
    if let Some(number) = entity.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok()?,
            None => number.parse().ok()?,
        };
        return char::from_u32(code).filter(|c| !c.is_control());
    }
    Some(match entity {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => '\u{a0}',
        "shy" => '\u{ad}',
        "ndash" => '–',
        "mdash" => '—',
        "hellip" => '…',
        "middot" => '·',
        "bull" => '•',
        "copy" => '©',
        "reg" => '®',
        "trade" => '™',
        "euro" => '€',
        "laquo" => '«',
        "raquo" => '»',
        "lsquo" => '‘',
        "rsquo" => '’',
        "ldquo" => '“',
        "rdquo" => '”',
        "bdquo" => '„',
        "rarr" => '→',
        "larr" => '←',
        "times" => '×',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> Vec<String> {
        tokens(text)
            .into_iter()
            .map(|token| match token {
                Token::Text(range) => format!("text {}", &text[range]),
                Token::Start { name, attributes, closed, .. } => {
                    let attributes: Vec<String> = attributes
                        .into_iter()
                        .map(|a| format!("{}={}", a.name, a.value.map_or("-", |range| &text[range])))
                        .collect();
                    format!("{name} [{}]{}", attributes.join(" "), if closed { " /" } else { "" })
                }
                Token::End { name, .. } => format!("/{name}"),
                Token::Comment(range) => format!("comment {}", &text[range]),
                Token::Other(range) => format!("other {}", &text[range]),
            })
            .collect()
    }

    #[test]
    fn a_document_is_cut_into_tags_and_text() {
        assert_eq!(
            shown("<!doctype html><p CLASS='a > b'>1 < 2 &amp; x</P>"),
            ["other <!doctype html>", "p [class=a > b]", "text 1 < 2 &amp; x", "/p"]
        );
        assert_eq!(
            shown("<br/><img src=a.png alt=\"\" hidden>"),
            ["br [] /", "img [src=a.png alt= hidden=-]"]
        );
        assert_eq!(
            shown("a<!-- <b> -->c<!-- d"),
            ["text a", "comment <!-- <b> -->", "text c", "comment <!-- d"]
        );
        assert_eq!(
            shown("<style>a > b { } </b></STYLE>x"),
            ["style []", "text a > b { } </b>", "/style", "text x"]
        );
        assert_eq!(shown("<mj-preview>a <b></mj-preview>"), ["mj-preview []", "text a <b>", "/mj-preview"]);
        assert_eq!(shown("<3 and <- and <"), ["text <3 and <- and <"]);
    }

    #[test]
    fn entities_are_resolved() {
        assert_eq!(unescape("a &amp;lt; &#39;&#x20AC;&nbsp;&unknown; & &"), "a &lt; '€\u{a0}&unknown; & &");
    }

    proptest! {
        #[test]
        fn every_byte_is_in_exactly_one_token(text in "[<>/a!='\" \\-stylemj&ä]{0,60}") {
            let mut at = 0;
            for token in tokens(&text) {
                prop_assert_eq!(token.range().start, at);
                prop_assert!(token.range().end > at);
                at = token.range().end;
            }
            prop_assert_eq!(at, text.len());
        }
    }
}
