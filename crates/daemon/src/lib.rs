//! Joins the rooms: `tick(now)` decides, `pump(now)` delivers, and the database lies between them.
//!
//! The only clock and the only sleep of the product are here ([`clock`]); ticks and pumps take their time as an argument.

pub mod allowances;
pub mod audiences;
pub mod clock;
pub mod daemon;
pub mod disk;
pub mod doubts;
pub mod driver;
mod entry;
pub mod explain;
pub mod feedback;
pub mod first_run;
pub mod guards;
pub mod lateness;
pub mod links;
pub mod made;
pub mod mailbox;
pub mod metrics;
pub mod nodes;
pub mod open;
pub mod people;
pub mod plan;
pub mod preview;
pub mod pump;
pub mod push;
pub mod reconcile;
pub mod records;
pub mod report;
pub mod run;
pub mod scenario;
pub mod source;
pub mod stage;
pub mod tick;
mod uses;

pub use daemon::{Carrier, Daemon, DaemonError};
