//! The stages of a tick, one file each: LISTEN, PULL and SEGMENT, DECIDE and COMMIT.

pub mod compare;
pub mod decide;
pub mod enter;
pub mod listen;
mod records;
pub mod refresh;
