//! A message in its parts, for providers that compose the mail themselves.

use std::fmt;
use std::sync::Arc;

use crate::address::EmailAddress;

/// A name and an address. `Debug` shows neither.
#[derive(Clone, PartialEq, Eq)]
pub struct Party {
    /// How they are called; may be empty.
    pub name: String,
    /// Where they are reached.
    pub address: EmailAddress,
}

impl fmt::Debug for Party {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Party")
    }
}

impl fmt::Display for Party {
    /// `Acme <hello@acme.test>`, as providers take it in one text: a name with anything special in it in quotes.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address.as_string();
        if self.name.is_empty() {
            return out.write_str(&address);
        }
        let plain = |c: char| c.is_alphanumeric() || c == ' ' || c == '-' || c == '\'';
        if self.name.chars().all(plain) {
            return write!(out, "{} <{address}>", self.name);
        }
        let quoted = self.name.replace('\\', "\\\\").replace('"', "\\\"");
        write!(out, "\"{quoted}\" <{address}>")
    }
}

/// What a mail says, in its parts. Nothing in it holds a line break but the texts. `Debug` shows sizes.
#[derive(Clone, PartialEq, Eq)]
pub struct Content {
    /// Who speaks.
    pub from: Party,
    /// Who is answered.
    pub reply_to: Option<Party>,
    /// To whom.
    pub to: Party,
    /// As people read it.
    pub subject: String,
    /// `None`: a message of text only.
    pub html: Option<Arc<str>>,
    /// The text part.
    pub text: Arc<str>,
    /// Headers besides those that the parts above make: name and value, as they read, in order.
    pub headers: Vec<(String, String)>,
}

impl fmt::Debug for Content {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let html = self.html.as_ref().map_or(0, |html| html.len());
        write!(out, "Content([{} bytes of text, {html} of HTML])", self.text.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_anything_special_is_quoted() {
        let shown = |name: &str| {
            let address = EmailAddress::parse("hello@acme.test").unwrap();
            Party { name: name.to_owned(), address }.to_string()
        };
        assert_eq!(shown(""), "hello@acme.test");
        assert_eq!(shown("Zoë O'Hara"), "Zoë O'Hara <hello@acme.test>");
        assert_eq!(shown("Acme, \"Inc.\""), "\"Acme, \\\"Inc.\\\"\" <hello@acme.test>");
    }
}
