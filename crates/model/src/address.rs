//! Email addresses: parsed once at the edge, then carried as a type.

use std::fmt;

/// An email address that may be written into an envelope and a header (RFC 5321 4.1.2, without quoted local parts,
/// source routes, comments and address literals). The original spelling of the local part is kept for the envelope.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EmailAddress {
    local: String,
    domain: String,
}

/// Why a text is not an address. It does not repeat the text, since errors are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressError(pub &'static str);

impl fmt::Display for AddressError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0)
    }
}

impl std::error::Error for AddressError {}

impl EmailAddress {
    /// Parses an address; white space around it is dropped, a domain outside ASCII becomes its A-labels.
    ///
    /// ```
    /// let address = model::EmailAddress::parse(" Ana@Exämple.test ").unwrap();
    /// assert_eq!(address.as_string(), "Ana@xn--exmple-cua.test");
    /// assert_eq!(address.normalised(), "ana@xn--exmple-cua.test");
    /// assert!(model::EmailAddress::parse("ana@example.test\r\nBcc: eve@example.test").is_err());
    /// ```
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        if text.len() > 254 {
            return Err(AddressError("longer than 254 characters"));
        }
        let (local, domain) = text.rsplit_once('@').ok_or(AddressError("no `@`"))?;
        if local.is_empty() || local.len() > 64 {
            return Err(AddressError("the part before `@` must have 1 to 64 characters"));
        }
        let atom = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
        if !local.split('.').all(|part| !part.is_empty() && part.chars().all(atom)) {
            return Err(AddressError(
                "the part before `@` has a character that is not allowed, or a dot out of place",
            ));
        }
        let domain = idna::domain_to_ascii_strict(domain)
            .map_err(|_| AddressError("the domain is not a host name"))?;
        let label = |label: &str| !label.is_empty() && label.len() <= 63;
        if !domain.contains('.') || !domain.split('.').all(label) || domain.len() > 253 {
            return Err(AddressError("the domain must be a full one, such as `example.com`"));
        }
        Ok(Self { local: local.to_owned(), domain })
    }

    /// The address as it goes into the envelope.
    pub fn as_string(&self) -> String {
        format!("{}@{}", self.local, self.domain)
    }

    /// The form used to compare addresses, and nothing else: all in lower case.
    pub fn normalised(&self) -> String {
        format!("{}@{}", self.local.to_lowercase(), self.domain)
    }

    /// The part before `@`.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The domain, in lower-case ASCII.
    pub fn domain(&self) -> &str {
        &self.domain
    }
}

/// An address names a person: it does not show itself in a log.
impl fmt::Debug for EmailAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("[address]")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_address_is_refused() {
        for wrong in [
            "",
            "ana",
            "@example.test",
            "ana@",
            "a@b@c.test@",
            "ana@example",
            "a..b@example.test",
            ".a@example.test",
            "ana bob@example.test",
            "ana@exa mple.test",
            "ana@example.test>",
            "ana\0@example.test",
            "\"a\nb\"@example.test",
            "ana@[127.0.0.1]",
            "ana@-example.test",
            "ana@example..test",
            "<ana@example.test>",
            "a,b@example.test",
        ] {
            assert!(EmailAddress::parse(wrong).is_err(), "{wrong:?}");
        }
        assert!(EmailAddress::parse(&format!("{}@example.test", "a".repeat(65))).is_err());
    }

    #[test]
    fn an_address_does_not_show_itself() {
        assert_eq!(format!("{:?}", EmailAddress::parse("ana@example.test").unwrap()), "[address]");
    }

    proptest! {
        #[test]
        fn no_address_holds_a_line_break_or_a_bracket(text in ".{0,40}@.{0,40}") {
            if let Ok(address) = EmailAddress::parse(&text) {
                let written = address.as_string();
                prop_assert!(!written.contains(['\r', '\n', '\0', '<', '>', ' ', ',']));
            }
        }
    }
}
