//! What can go wrong, as an exit code and a text that says what to do.

use std::error::Error;
use std::fmt;

use daemon::DaemonError;
use daemon::open::OpenError;
use daemon::source::SourceError;
use state::StateError;
use warehouse::WarehouseError;

/// Exit codes, as `project-format` promises them.
pub(crate) mod code {
    /// Done.
    pub(crate) const DONE: u8 = 0;
    /// Your input, or something failed and is reported.
    pub(crate) const FAILED: u8 = 1;
    /// Typed wrongly; `clap` ends with the same.
    pub(crate) const USAGE: u8 = 2;
    /// Held: needs a person.
    pub(crate) const HELD: u8 = 3;
    /// Done, but deliveries are in doubt.
    pub(crate) const IN_DOUBT: u8 = 5;
    /// A database or provider is unreachable.
    pub(crate) const UNREACHABLE: u8 = 69;
    /// Configuration or schema.
    pub(crate) const CONFIGURATION: u8 = 78;
}

/// A command that did not do what it was asked to.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) text: String,
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// Your input, or something failed.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { code: code::FAILED, text: text.into(), hint: None }
    }

    /// With another exit code.
    pub(crate) fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    /// And what to do about it.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.text.starts_with("error") {
            write!(out, "{}", self.text)?;
        } else {
            write!(out, "error: {}", self.text)?;
        }
        if let Some(hint) = &self.hint {
            write!(out, "\n  = hint: {hint}")?;
        }
        Ok(())
    }
}

/// An error and what caused it.
pub(crate) fn chain(error: &dyn Error) -> String {
    daemon::stage::refresh::chain(error)
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        let code = match &error {
            StateError::SchemaBehind { .. } | StateError::SchemaAhead { .. } => code::CONFIGURATION,
            _ if error.is_unreachable() => code::UNREACHABLE,
            _ => code::FAILED,
        };
        let hint = match &error {
            StateError::SchemaBehind { .. } => Some("run `drumbeat migrate`".to_owned()),
            _ => None,
        };
        Self { code, text: chain(&error), hint }
    }
}

impl From<WarehouseError> for Failure {
    fn from(error: WarehouseError) -> Self {
        let code = if matches!(error, WarehouseError::Unreachable { .. }) {
            code::UNREACHABLE
        } else {
            code::FAILED
        };
        Self { code, text: chain(&error), hint: None }
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Warehouse(error) => error.into(),
            SourceError::State(error) => error.into(),
            other => Self::new(chain(&other)),
        }
    }
}

impl From<DaemonError> for Failure {
    fn from(error: DaemonError) -> Self {
        match error {
            DaemonError::State(error) => error.into(),
            DaemonError::Source(error) => error.into(),
            other => Self::new(chain(&other)),
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::State(error) => error.into(),
            OpenError::Warehouse(error) => error.into(),
            other => Self::new(chain(&other)).with_code(code::CONFIGURATION),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(chain(&error))
    }
}
