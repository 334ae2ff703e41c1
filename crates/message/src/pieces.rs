//! A file cut into text and tags, each with its place.

use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;

use crate::mistake::Mistake;

/// Where something stands: a file of the closure, by its number, and a byte in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) file: usize,
    pub(crate) at: usize,
    pub(crate) len: usize,
}

/// A stretch of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece<'s> {
    /// Text, as it is; spaces that `{%-` takes away are gone.
    Text { place: Place, text: &'s str },
    /// `{{ ... }}`: what stands between the brackets.
    Print { place: Place, inner: &'s str },
    /// `{% WORD ... %}`: the word, and all that stands between the brackets.
    Tag { place: Place, word: &'s str, inner: &'s str },
    /// `{{ ... }}` that is run and prints nothing.
    Silent { place: Place, inner: &'s str },
    /// A tag that no file holds.
    Made(&'static str),
    /// What is written in another language than what surrounds it.
    Foreign { kind: crate::source::Kind, pieces: Vec<Piece<'s>> },
}

impl Piece<'_> {
    /// Where it stands.
    pub(crate) fn place(&self) -> Option<Place> {
        match self {
            Self::Text { place, .. }
            | Self::Print { place, .. }
            | Self::Silent { place, .. }
            | Self::Tag { place, .. } => Some(*place),
            Self::Made(_) => None,
            Self::Foreign { pieces, .. } => pieces.iter().find_map(Self::place),
        }
    }
}

/// Cuts the part of a file from byte `from` on. The text has been parsed before; what cannot be cut is said all the same.
pub(crate) fn cut<'s>(
    file: usize,
    name: &str,
    text: &'s str,
    range: std::ops::Range<usize>,
) -> Result<Vec<Piece<'s>>, Mistake> {
    let from = range.start;
    let source = &text[range];
    let mut pieces = Vec::new();
    let mut open: Option<(usize, usize, Option<&'s str>)> = None;
    for token in tokenize(source, false, SyntaxConfig::default()) {
        let (token, span) = token.map_err(|error| syntax(name, text, from, &error))?;
        let (start, end) = (span.start_offset as usize, span.end_offset as usize);
        match token {
            Token::TemplateData(data) => {
                pieces.push(Piece::Text {
                    place: Place { file, at: from + start, len: data.len() },
                    text: data,
                });
            }
            Token::VariableStart | Token::BlockStart => open = Some((start, end, None)),
            Token::VariableEnd | Token::BlockEnd => {
                let Some((opened, inside, word)) = open.take() else { continue };
                let place = Place { file, at: from + opened, len: end - opened };
                let inner = source[inside..start].trim();
                pieces.push(match token {
                    Token::VariableEnd => Piece::Print { place, inner },
                    _ => Piece::Tag { place, word: word.unwrap_or_default(), inner },
                });
            }
            Token::Ident(ident) => {
                if let Some((_, _, word @ None)) = &mut open {
                    *word = Some(ident);
                }
            }
            _ => {
                if let Some((_, _, word @ None)) = &mut open {
                    *word = Some("");
                }
            }
        }
    }
    Ok(pieces)
}

/// What the engine says of a text that it cannot read, with the place in the whole file.
pub(crate) fn syntax(name: &str, text: &str, from: usize, error: &minijinja::Error) -> Mistake {
    let range = error.range().unwrap_or_default();
    let detail = error.detail().unwrap_or("this cannot be read");
    Mistake::at("T0201", name, text, from + range.start, range.len().max(1), detail.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_tags_keep_their_places() {
        let text = "---\n---\nä {{- x }} {# no #}{% if a > 1 %}{% raw %}{{ no }}{% endraw %}{%- endif -%} z";
        let pieces = cut(3, "a.txt", text, 8..text.len()).unwrap();
        let shown: Vec<String> = pieces
            .iter()
            .map(|piece| {
                let place = piece.place().unwrap();
                assert_eq!(place.file, 3);
                match piece {
                    Piece::Text { text: piece, .. } => {
                        assert_eq!(&text[place.at..place.at + place.len], *piece);
                        format!("text {piece:?}")
                    }
                    Piece::Print { inner, .. } => format!("print {inner}"),
                    Piece::Tag { word, inner, .. } => format!("{word}: {inner}"),
                    Piece::Silent { .. } | Piece::Made(_) | Piece::Foreign { .. } => String::new(),
                }
            })
            .collect();
        assert_eq!(
            shown,
            [
                "text \"ä\"",
                "print x",
                "text \" \"",
                "if: if a > 1",
                "text \"{{ no }}\"",
                "endif: endif",
                "text \"z\""
            ]
        );
    }
}
