//! The commands, one file each.

pub(crate) mod audit;
pub(crate) mod check;
pub(crate) mod connector;
pub(crate) mod consent;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod halt;
pub(crate) mod history;
pub(crate) mod in_doubt;
pub(crate) mod init;
pub(crate) mod log;
pub(crate) mod maintain;
pub(crate) mod playbook;
pub(crate) mod preview;
pub(crate) mod profile;
mod pushed;
pub(crate) mod records;
pub(crate) mod redrive;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod segment;
pub(crate) mod service;
pub(crate) mod suppress;
pub(crate) mod sync;
pub(crate) mod test;
