//! Project files: from a folder to typed values of `model`, with every mistake at its place.
//!
//! Knows `model`, and `message` to check templates. No clock, no database, no network; the environment is asked through a
//! function that the caller hands in. What only a database knows is checked by [`check_columns`], with the columns it said.

mod bundle;
mod columns;
mod condition;
mod diagnostic;
mod dkim;
mod doubt;
mod load;
mod overlay;
mod playbook;
mod policy;
mod query;
mod rates;
mod read;
mod reference;
mod root;
mod scenario;
mod scenario_file;
mod schema;
mod segment;
mod settings;
mod source;
mod steps;
mod sync;
mod templates;
mod values;
mod yaml;

use model::Channel;
use model::settings::ConnectorSettings;

pub use bundle::{Pinned, bundle, from_bundle};
pub use columns::{Columns, Typed, check_columns};
pub use diagnostic::{Diagnostic, Diagnostics};
pub use load::{Loaded, Project, Reading, load, read};
pub use query::query_mistake;
pub use scenario::{Act, Expected, ExpectedRow, Given, GivenConsent, Scenario, Subject, Then};
pub use schema::schemas;
pub use sync::RecordTexts;

/// What the caller knows of a connector.
pub struct KnownConnector {
    /// Its name in files.
    pub name: &'static str,
    /// What it can do.
    pub can: Can,
    /// All mistakes in its settings, each with the key it is about (empty: all of it). No message repeats a value.
    pub check: CheckSettings,
    /// The JSON Schema of its settings.
    pub schema: fn() -> serde_json::Value,
}

/// What a destination can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Can {
    /// The medium of its messages, if it carries any.
    pub messages: Option<Channel>,
    /// Whether it has audiences.
    pub audiences: bool,
    /// Whether it has records; and if so, whether they can be read.
    pub records: Option<bool>,
}

/// Finds the mistakes in a connector's settings: key and message.
pub type CheckSettings = Box<dyn Fn(&ConnectorSettings) -> Vec<(String, String)>>;

impl std::fmt::Debug for KnownConnector {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name)
    }
}

#[cfg(test)]
mod tests;
