//! Values as the warehouse and the project's files hold them.

use std::fmt;

use jiff::{Timestamp, civil::Date};

/// A typed value of an attribute, a column or a condition.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// NULL, or nothing there at all.
    Missing,
    /// True or false.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Number(f64),
    /// Text.
    Text(String),
    /// A calendar date, in nobody's zone.
    Date(Date),
    /// An instant.
    Time(Timestamp),
    /// JSON, opaque but for templates.
    Json(serde_json::Value),
}

/// The type a column is declared to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// Text.
    Text,
    /// Whole numbers.
    Integer,
    /// Numbers.
    Number,
    /// True or false; databases without a boolean hold 0 and 1.
    Boolean,
    /// A calendar date.
    Date,
    /// An instant.
    Time,
    /// JSON.
    Json,
}

impl Value {
    /// NULL and empty text are both "not there".
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Missing => true,
            Self::Text(text) => text.is_empty(),
            Self::Json(json) => json.is_null(),
            Self::Boolean(_) | Self::Integer(_) | Self::Number(_) | Self::Date(_) | Self::Time(_) => false,
        }
    }

    /// The value as text, if it is text and not empty.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// The value as a number, if it is one.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            #[expect(
                clippy::cast_precision_loss,
                reason = "comparison of an attribute with a bound, not arithmetic"
            )]
            Self::Integer(integer) => Some(*integer as f64),
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The value as an instant: a time, or text in RFC 3339.
    pub fn as_time(&self) -> Option<Timestamp> {
        match self {
            Self::Time(time) => Some(*time),
            Self::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// Whether two values are the same in a condition: numbers by amount, times by instant, the rest by its text.
    pub fn same_as(&self, other: &Self) -> bool {
        if self.is_missing() || other.is_missing() {
            return false;
        }
        if let (Some(left), Some(right)) = (self.as_number(), other.as_number()) {
            return left == right;
        }
        match (self, other) {
            (Self::Time(time), other) | (other, Self::Time(time)) => other.as_time() == Some(*time),
            (Self::Boolean(left), Self::Integer(right)) | (Self::Integer(right), Self::Boolean(left)) => {
                i64::from(*left) == *right
            }
            (left, right) => left.to_string() == right.to_string(),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => Ok(()),
            Self::Boolean(boolean) => boolean.fmt(out),
            Self::Integer(integer) => integer.fmt(out),
            Self::Number(number) => number.fmt(out),
            Self::Text(text) => out.write_str(text),
            Self::Date(date) => date.fmt(out),
            Self::Time(time) => time.fmt(out),
            Self::Json(json) => json.fmt(out),
        }
    }
}

impl ValueType {
    /// All types, with their names in a project's files.
    pub const ALL: &[(&str, Self)] = &[
        ("text", Self::Text),
        ("integer", Self::Integer),
        ("number", Self::Number),
        ("boolean", Self::Boolean),
        ("date", Self::Date),
        ("time", Self::Time),
        ("json", Self::Json),
    ];

    /// The type of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(name, _)| *name == text).map(|(_, kind)| *kind)
    }
}
