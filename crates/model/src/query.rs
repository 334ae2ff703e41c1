//! A query on the warehouse, as a project's files hold it.

use std::collections::BTreeMap;

use crate::value::ValueType;

/// One read-only SELECT, with what is declared about its columns. Checked by `warehouse`, bound at each run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query {
    /// The text as written, with `:now` and its kin still in it.
    pub sql: String,
    /// What is declared; an undeclared column has the database's own type.
    pub columns: BTreeMap<String, Column>,
    /// Where it stands, for messages: `segments/at_risk.yml:5`.
    pub place: String,
}

/// What is declared about a column.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Column {
    /// Its type.
    pub kind: Option<ValueType>,
    /// The values it may have; a condition that names another is a mistake.
    pub values: Vec<String>,
    /// What people call it.
    pub title: Option<String>,
    /// Whether it says something about the person; unless declared, it does.
    pub personal: Option<bool>,
}
