//! The engine decides: who enters, what each person gets and when, and why not.
//!
//! Pure: the same input gives the same output, whenever and wherever. There is no input or output here, no clock, no dice,
//! no `async`, no hash map, and no database: time is an argument, what looks random is derived from ids (see [`model::id`]),
//! and a refusal is a value. The daemon reads the input, writes the output, and has no choice left.
//!
//! What is deliberately absent: segments' queries, rendering, pacing and leases; they do not decide about a person.

mod allowance;
mod audience;
mod breaker;
mod condition;
mod enter;
mod gate;
mod guard;
mod invariant;
mod last_look;
pub mod record;
mod retry;
mod run;
pub mod time;
mod version;
mod walk;
mod world;

#[cfg(test)]
mod tests;

pub use allowance::{Allowance, Canary, Hourly, Whose, hour_of};
pub use audience::{Planned, judge_removal, may_be_member, plan_entries};
pub use breaker::{BREAKER_PAUSE, Breaker};
pub use condition::{Subject, holds};
pub use enter::{Entered, enter};
pub use gate::cap::SAME_WORDS;
pub use gate::gates;
pub use guard::{judge_growth, judge_playbook};
pub use invariant::Invariant;
pub use last_look::{ArmFacts, LastLook, last_look};
pub use retry::{Backoff, retry_at};
pub use run::{RunSeen, judge_run};
pub use version::Version;
pub use walk::{Advanced, Cause, advance};
pub use world::{Halts, Memberships, Person, Shared, Standing, Touch, World};
