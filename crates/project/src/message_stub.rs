//! stub
#![allow(missing_docs)]
use std::collections::BTreeMap;
#[derive(Debug, Clone, Default)]
pub struct Sources(pub BTreeMap<String, String>);
#[derive(Debug, Clone)]
pub struct Compiled;
