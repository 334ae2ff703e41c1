//! The simulator's tests: worlds of many seeds, relations between runs, and the mutants that they must catch.
//!
//! `DRUMBEAT_SEED=42` plays one seed, `DRUMBEAT_SEEDS=16` so many.

mod composed;
mod pure;
mod seeds;
