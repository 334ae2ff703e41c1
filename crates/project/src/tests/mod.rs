//! Projects as strings, written to a folder and loaded: good ones, wrong ones, and arbitrary bytes.

mod columns;
mod elsewhere;
mod good;
mod in_root_files;
mod made;
mod mistakes;
mod overlay;
mod rates;
mod robust;
mod schema;
mod syncs;
mod templates;
