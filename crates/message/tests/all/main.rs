//! The room from outside: templates in, mail out.

mod helper;
mod explore;
mod messages;
