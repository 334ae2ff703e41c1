//! Templates to messages: compiled once per version, rendered per person, composed into what a mail server takes.
//!
//! [`compile`] turns the files of one template into a [`Compiled`]: inheritance is resolved, MJML becomes HTML, styles are
//! inlined, the text part is derived, and everything that can be known to be wrong is said, with its place. [`Compiled::render`]
//! fills in one person's values; [`compose`] makes the mail, and [`dkim`]
//! signs it. [`token`] signs the links that a mail carries.
//!
//! Deliberately absent: files, network, clocks, dice and `async`. What is not built yet is refused with "not yet".

mod compile;
mod date;
pub mod dkim;
mod encode;
mod expand;
mod feedback_id;
mod fields;
mod filters;
mod front;
mod html;
mod lint;
mod locale;
mod mail;
mod markdown;
mod markup;
mod mistake;
mod mjml;
mod names;
mod pieces;
mod render;
mod samples;
mod scope;
mod shield;
mod source;
mod text;
pub mod token;

pub use compile::{Compiled, compile};
pub use feedback_id::feedback_id;
pub use fields::{FieldText, Fields};
pub use lint::Used;
pub use mail::{Letter, Mail, compose};
pub use mistake::Mistake;
pub use render::Rendered;
pub use samples::{Column, samples};
pub use scope::Scope;
pub use source::Sources;
