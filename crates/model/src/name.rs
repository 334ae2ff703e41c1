//! Names that users give to things: one type a kind of thing, one rule for all of them.

use std::fmt;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameError;

impl fmt::Display for NameError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a name is lower-case words joined by `_`, and starts with a letter")
    }
}

impl std::error::Error for NameError {}

/// Whether a text follows the rule for names: `[a-z][a-z0-9_]*`, at most 64 bytes.
pub fn is_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident,)*) => { $(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The name, if the text follows the rule for names.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                if is_name(text) { Ok(Self(text.to_owned())) } else { Err(NameError) }
            }
            /// A name that was checked before: what we wrote to our own state, or what Drumbeat itself calls a thing.
            pub fn known(text: impl Into<String>) -> Self {
                Self(text.into())
            }
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, out)
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    )* };
}

names! {
    /// An audience at a destination.
    AudienceName,
    /// A brand: who speaks.
    BrandName,
    /// A frequency cap.
    CapName,
    /// A provider's account: a connector with its settings.
    DestinationName,
    /// A freshness: how old a part of the warehouse may be.
    FreshName,
    /// A playbook.
    PlaybookName,
    /// What consent is for.
    PurposeName,
    /// A rule of quiet hours.
    QuietHoursName,
    /// A group of recipients: those whose mailboxes one provider has.
    RecipientsName,
    /// A segment.
    SegmentName,
    /// A sync.
    SyncName,
    /// A template, without language and ending.
    TemplateName,
}

/// A step of a playbook. Steps without an `id` of their own are called after the step before: `nudge.wait`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(String);

impl StepId {
    /// A step's id; the caller has checked the part a user wrote with [`is_name`].
    pub fn known(text: impl Into<String>) -> Self {
        Self(text.into())
    }
    /// The pseudo-step of the row that says why a member of a segment was not enrolled.
    pub fn entry() -> Self {
        Self("entry".to_owned())
    }
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Debug for StepId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, out)
    }
}

impl std::borrow::Borrow<str> for StepId {
    fn borrow(&self) -> &str {
        &self.0
    }
}
