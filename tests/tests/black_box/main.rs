//! The binary as a process: what a newcomer types, what a crash leaves, what recipients and auditors find.

mod commands;
mod crash;
mod demo;
mod mail;
mod mistakes;
mod postgres;
mod support;
mod way_out;
