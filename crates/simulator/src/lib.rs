//! Seeded worlds: campaigns played for months in milliseconds, and judged by a second opinion.
//!
//! A seed gives rules, people, and what happens to them ([`rules`], [`script`]). Two depths play the same script: [`pure`], the
//! engine over maps in memory; [`composed`], the real `tick` and `pump` over a real SQLite file, with a provider that misbehaves and
//! a process that dies. The [`audit`]or is told only what was done and what left, and judges by its own, naive arithmetic.
//!
//! Deliberately absent: a clock, dice that advance, the network, and the product's `simulate` command.

pub mod audit;
pub mod composed;
pub mod dice;
pub mod pure;
pub mod rules;
pub mod script;
pub mod trace;
