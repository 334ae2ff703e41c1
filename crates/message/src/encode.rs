//! How text is written for mail servers: headers folded and in encoded words (RFC 5322, RFC 2047), bodies in the plainest
//! encoding that keeps them (RFC 2045). Our own, since a library built without optimisation would take longer than all the rest.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lettre::message::Body;
use lettre::message::header::ContentTransferEncoding;

use crate::mail::LINE_BYTES_MAX;

/// Where a header is folded if it can be.
pub(crate) const FOLD_AT: usize = 76;
/// Characters of a line in encoded words besides the base64: `=?utf-8?B?`, `?=` and the space before.
const ENCODED_WORD_FRAME: usize = 13;

/// Free text as it stands in a header, folded: as it is where that is safe, else in encoded words.
pub(crate) fn unstructured(name: &str, text: &str) -> String {
    if !is_plain(text) || text.split(' ').any(|word| word.len() > FOLD_AT) {
        return encoded_words(text, name.len() + 2);
    }
    let mut written = String::with_capacity(text.len() + 16);
    let mut used = name.len() + 2;
    for (position, word) in text.split(' ').enumerate() {
        if position > 0 {
            // Folding before a space leaves the text as it is; a line of spaces alone would end the headers for some readers.
            if used + 1 + word.len() > FOLD_AT && !word.is_empty() {
                written.push_str("\r\n");
                used = 0;
            }
            written.push(' ');
            used += 1;
        }
        written.push_str(word);
        used += word.len();
    }
    written
}

/// Printable ASCII that no reader takes for an encoded word.
pub(crate) fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~')) && !text.contains("=?")
}

/// RFC 2047, base64, one word a line, none longer than 76. `used`: what the first line holds already.
pub(crate) fn encoded_words(text: &str, used: usize) -> String {
    let mut written = String::with_capacity(text.len() * 2);
    let mut rest = text;
    while !rest.is_empty() {
        let before = if written.is_empty() { used } else { 0 };
        let room = FOLD_AT.saturating_sub(before + ENCODED_WORD_FRAME) / 4 * 3;
        let mut end = rest.len().min(room.max(6));
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let (word, after) = rest.split_at(end);
        if !written.is_empty() {
            written.push_str("\r\n ");
        }
        // Writing to a string cannot fail.
        write!(written, "=?utf-8?B?{}?=", STANDARD.encode(word)).unwrap_or_default();
        rest = after;
    }
    written
}

/// The body of a part: as it is where it is short lines of ASCII, else quoted-printable, or base64 where most of it is not ASCII.
pub(crate) fn body(text: &str) -> Body {
    let text = crlf(text);
    let bytes = text.as_bytes();
    let is_short = || text.split("\r\n").all(|line| line.len() <= LINE_BYTES_MAX);
    let safe = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n');
    let coded = bytes.iter().filter(|byte| !safe(byte)).count();
    if coded == 0 && is_short() {
        Body::dangerous_pre_encoded(text.into_bytes(), ContentTransferEncoding::SevenBit)
    } else if coded <= bytes.len() / 3 {
        Body::dangerous_pre_encoded(quoted_printable(&text), ContentTransferEncoding::QuotedPrintable)
    } else {
        Body::dangerous_pre_encoded(base64_lines(bytes), ContentTransferEncoding::Base64)
    }
}

/// RFC 2045 6.7. Line breaks are CRLF already.
fn quoted_printable(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 8);
    for (number, line) in text.split("\r\n").enumerate() {
        if number > 0 {
            out.extend_from_slice(b"\r\n");
        }
        quoted_line(&mut out, line.as_bytes());
    }
    out
}

fn quoted_line(out: &mut Vec<u8>, line: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let (mut written, mut used) = (0, 0);
    for (at, &byte) in line.iter().enumerate() {
        let ends_line = at + 1 == line.len();
        let plain = matches!(byte, b'!'..=b'<' | b'>'..=b'~') || (matches!(byte, b' ' | b'\t') && !ends_line);
        let width = if plain { 1 } else { 3 };
        // The last place of a line is for the sign of a break that is none.
        if used + width > FOLD_AT - usize::from(!ends_line) {
            out.extend_from_slice(&line[written..at]);
            out.extend_from_slice(b"=\r\n");
            (written, used) = (at, 0);
        }
        if !plain {
            out.extend_from_slice(&line[written..at]);
            out.extend_from_slice(&[b'=', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            written = at + 1;
        }
        used += width;
    }
    out.extend_from_slice(&line[written..]);
}

/// RFC 2045 6.8.
fn base64_lines(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() * 3 / 2);
    for line in bytes.chunks(57) {
        out.extend_from_slice(STANDARD.encode(line).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Lines ending in CRLF, whatever they ended in.
fn crlf(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 32);
    let mut rest = text;
    while let Some(at) = rest.find(['\r', '\n']) {
        out.push_str(&rest[..at]);
        out.push_str("\r\n");
        rest = if rest[at..].starts_with("\r\n") { &rest[at + 2..] } else { &rest[at + 1..] };
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(coded: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = coded;
        while let Some((&byte, after)) = rest.split_first() {
            if rest.starts_with(b"=\r\n") {
                rest = &rest[3..];
            } else if byte == b'=' {
                out.push(u8::from_str_radix(std::str::from_utf8(&rest[1..3]).unwrap(), 16).unwrap());
                rest = &rest[3..];
            } else {
                out.push(byte);
                rest = after;
            }
        }
        out
    }

    #[test]
    fn a_body_is_written_in_the_plainest_encoding_that_keeps_it() {
        for (text, encoding) in [
            ("Hello\n", ContentTransferEncoding::SevenBit),
            ("Grüße aus Köln\n", ContentTransferEncoding::QuotedPrintable),
            (&*"x".repeat(999), ContentTransferEncoding::QuotedPrintable),
            ("שלום עולם", ContentTransferEncoding::Base64),
            ("nul \0", ContentTransferEncoding::QuotedPrintable),
        ] {
            assert_eq!(body(text).encoding(), encoding, "{text:?}");
        }
    }

    #[test]
    fn quoted_printable_is_that_of_rfc_2045() {
        let coded = quoted_printable("a=b ü \r\nend \t");
        assert_eq!(String::from_utf8(coded).unwrap(), "a=3Db =C3=BC=20\r\nend =09");
        let coded = String::from_utf8(quoted_printable(&"x".repeat(77))).unwrap();
        assert_eq!(coded, format!("{}=\r\nxx", "x".repeat(75)));
        assert_eq!(quoted_printable(&"x".repeat(76)).len(), 76);
    }

    proptest! {
        #[test]
        fn what_is_encoded_can_be_read_and_its_lines_are_short(text in "[a-z =ü\\t\\n\u{1f4a9}.]{0,300}") {
            let text = crlf(&text);
            let coded = quoted_printable(&text);
            prop_assert_eq!(decode(&coded), text.as_bytes());
            let coded = String::from_utf8(coded).unwrap();
            prop_assert!(coded.split("\r\n").all(|line| line.len() <= 76 && !line.ends_with([' ', '\t'])), "{}", coded);
        }

        #[test]
        fn encoded_words_can_be_read(text in "\\PC{1,200}", used in 0usize..70) {
            let written = encoded_words(&text, used);
            let read: Vec<u8> = written
                .split("\r\n ")
                .flat_map(|word| STANDARD.decode(word.strip_prefix("=?utf-8?B?").unwrap().strip_suffix("?=").unwrap()).unwrap())
                .collect();
            prop_assert_eq!(String::from_utf8(read).unwrap(), text);
        }
    }
}
