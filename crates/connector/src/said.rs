//! What a provider said, fit to be kept and shown: bounded, in one line, without addresses.

use std::fmt;

use model::EmailAddress;

/// The most characters kept of what a provider says.
pub const SAID_CHARS_MAX: usize = 300;

/// The most that is looked at: providers have been seen to answer with whole web pages.
const READ_CHARS_MAX: usize = 8 * SAID_CHARS_MAX;

/// A provider's words. Made only by [`Said::of`] and [`Said::about`], so that an address cannot slip through.
///
/// ```
/// let said = connector::Said::of("5.1.1 <ana@example.test>: User\r\nunknown");
/// assert_eq!(said.as_str(), "5.1.1 [address] User unknown");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Said(String);

impl Said {
    /// Keeps what may be kept of a text: the first [`SAID_CHARS_MAX`] characters, control characters and runs of white
    /// space as one space, and `[address]` for each word with an `@` in it.
    pub fn of(text: &str) -> Self {
        Self::without(text, |_| false)
    }

    /// As [`Said::of`], and without the local part of this address where it stands as a word of its own.
    pub fn about(text: &str, address: &EmailAddress) -> Self {
        let local = address.local().to_lowercase();
        Self::without(text, |word| word.to_lowercase() == local)
    }

    fn without(text: &str, is_private: impl Fn(&str) -> bool) -> Self {
        let start: String =
            text.chars().take(READ_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let mut kept = String::new();
        for word in start.split_whitespace() {
            if !kept.is_empty() {
                kept.push(' ');
            }
            // The fullwidth and small forms of `@` are how some servers write addresses "safely".
            let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
            if word.contains(['@', '\u{ff20}', '\u{fe6b}'])
                || word.to_lowercase().contains("%40")
                || is_private(bare)
            {
                kept.push_str("[address]");
            } else {
                kept.push_str(word);
            }
        }
        Self(kept.chars().take(SAID_CHARS_MAX).collect())
    }

    /// The words.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Said {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_do_not_survive_in_any_spelling() {
        let ana = EmailAddress::parse("ana.maria@example.test").unwrap();
        for text in [
            "5.1.1 <ana.maria@example.test>: unknown",
            "mailbox ana.maria unknown",
            "user \"Ana.Maria\" is over quota",
            "see https://help.test/?u=ana.maria%40example.test",
            "unknown:ana.maria@example.test;try later",
        ] {
            let said = Said::about(text, &ana);
            assert!(!said.as_str().to_lowercase().contains("ana.maria"), "{said}");
            assert!(said.as_str().contains("[address]"), "{said}");
        }
    }

    proptest! {
        #[test]
        fn it_is_one_bounded_line_without_an_at_sign(text in "(?s).{0,2000}") {
            let said = Said::of(&text);
            prop_assert!(said.as_str().chars().count() <= SAID_CHARS_MAX);
            prop_assert!(!said.as_str().contains('@') && !said.as_str().chars().any(char::is_control));
        }
    }
}
