//! Projects as strings, written to a folder and loaded: good ones, wrong ones, and arbitrary bytes.

mod good;
mod made;
mod mistakes;
mod overlay;
mod robust;
mod schema;
