//! The binary as a process: what a newcomer types, what a crash leaves, what recipients and auditors find.

#![expect(
    clippy::manual_is_multiple_of,
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::let_underscore_must_use,
    unreachable_pub,
    reason = "a test says what it skips, reads what CI requires of it, and fails where something is not as it must be"
)]

mod accounts;
mod audiences;
mod commands;
mod crash;
mod dead_letters;
mod demo;
mod disk;
mod guards;
mod mail;
mod mistakes;
mod postgres;
mod promises;
mod providers;
mod records;
mod restore;
mod services;
mod shop;
mod support;
mod telling;
mod way_out;
mod wire;
