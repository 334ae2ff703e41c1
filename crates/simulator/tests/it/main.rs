//! The simulator's tests: worlds of many seeds, relations between runs, and the mutants that they must catch.
//!
//! `DRUMBEAT_SEED=42` plays one seed, `DRUMBEAT_SEEDS=16` so many.

#![expect(clippy::unwrap_used, reason = "a test fails where something is not as it must be")]

mod composed;
mod directed;
mod mutants;
mod pure;
mod seeds;
