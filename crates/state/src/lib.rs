//! Remembers: what Drumbeat knows from one moment to the next, in SQLite or Postgres, from one SQL text.
//!
//! Everything is a function that takes a transaction first; callers compose transactions from these verbs.
//! This room does not know why a row is written. Deliberately absent: a clock (times are arguments), the
//! warehouse, the engine, retries of a transaction, and a repository object.

pub mod allowance;
mod ask;
pub mod audience;
pub mod audit;
pub mod backup;
pub mod consent;
pub mod control;
mod db;
pub mod delivery;
mod dialect;
pub mod enrollment;
pub mod entering;
mod error;
pub mod fact;
pub mod journal;
pub mod keys;
mod merkle;
pub mod meta;
mod migrate;
pub mod node;
pub mod outbox;
pub mod playbook;
mod postgres;
pub mod profile;
pub mod rate;
pub mod record;
mod row;
mod scratch;
pub mod segment;
pub mod shared;
mod sqlite_tx;
pub mod suppression;
pub mod sync;
pub mod tally;

pub use ask::Question;
pub use db::{Access, State, Tx};
pub use error::StateError;
pub use keys::{Keys, RootKey};
pub use node::Node;
