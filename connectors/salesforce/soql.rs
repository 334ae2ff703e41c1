//! Questions in Salesforce's language (SOQL), each in a URL.

use crate::over_http::percent;

/// Characters of a URL, at most: Salesforce takes 16,384, and something may stand between us.
const URL_MAX: usize = 14_000;
/// Questions in one conversation, at most.
const QUESTIONS_MAX: usize = 12;

/// Whether a text is a name of a field or of an object: it stands in a question as it is.
pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A text in quotes. What would end it, or mean something else, has a backslash before it.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('\'');
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

/// The URLs that ask for the records with these keys: as few as may be, each short enough. `None`: they would be too many.
pub(super) fn questions(
    start: &str,
    object: &str,
    fields: &[&str],
    key: &str,
    keys: &[String],
) -> Option<Vec<String>> {
    let select = format!("SELECT {} FROM {object} WHERE {key} IN (", fields.join(","));
    let head = format!("{start}?q={}", percent(&select));
    let (comma, end) = (percent(","), percent(")"));
    let mut urls: Vec<String> = Vec::new();
    let mut url = head.clone();
    for one in keys {
        let one = percent(&quoted(one));
        if url.len() > head.len() && url.len() + comma.len() + one.len() + end.len() > URL_MAX {
            urls.push(std::mem::replace(&mut url, head.clone()) + &end);
        }
        if url.len() > head.len() {
            url.push_str(&comma);
        }
        url.push_str(&one);
    }
    urls.push(url + &end);
    let fits = urls.len() <= QUESTIONS_MAX && urls.iter().all(|url| url.len() <= URL_MAX);
    fits.then_some(urls)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What Salesforce reads in quotes; `None`: it would read on after them.
    fn read(quoted: &str) -> Option<String> {
        let mut chars = quoted.strip_prefix('\'')?.chars();
        let mut out = String::new();
        loop {
            match chars.next()? {
                '\'' => return chars.next().is_none().then_some(out),
                '\\' => out.push(match chars.next()? {
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    c @ ('\\' | '\'') => c,
                    _ => return None,
                }),
                c => out.push(c),
            }
        }
    }

    #[test]
    fn quotes_hold_what_they_are_to_hold() {
        for (text, expected) in [
            ("O'Brien", r"'O\'Brien'"),
            (r"a\b", r"'a\\b'"),
            (r"\' OR Id != '", r"'\\\' OR Id != \''"),
            ("Z\u{fc}rich\n", "'Z\u{fc}rich\\n'"),
            ("", "''"),
            ("\u{2019}\u{ff07}", "'\u{2019}\u{ff07}'"),
        ] {
            assert_eq!(quoted(text), expected);
        }
    }

    proptest! {
        #[test]
        fn what_is_quoted_is_read_as_it_was(text in r#"(?s)([\\'"nrtbf\n\r\t]|.){0,40}"#) {
            prop_assert_eq!(read(&quoted(&text)), Some(text));
        }

        #[test]
        fn every_key_is_asked_for_once_and_no_url_is_too_long(keys in proptest::collection::vec("[a-z'\u{e9}]{0,200}", 1..100)) {
            let urls = questions("https://a.test/query/", "Contact", &["Id", "Email"], "Email", &keys).unwrap();
            prop_assert!(urls.iter().all(|url| url.len() <= URL_MAX));
            let asked: usize = urls.iter().map(|url| 1 + url.split("%28").nth(1).unwrap().matches("%2C").count()).sum();
            prop_assert_eq!(asked, keys.len());
        }
    }

    #[test]
    fn what_is_too_long_is_not_asked() {
        let long = vec!["\u{1f600}".repeat(2_000)];
        assert_eq!(questions("https://a.test", "Contact", &["Id"], "Email", &long), None);
        assert!(!is_name("Id FROM User") && !is_name("") && !is_name("1a") && is_name("Plan__c"));
    }
}
