//! What both databases must do. Each function gets a state of its own.

pub(crate) mod audiences;
pub(crate) mod consents;
pub(crate) mod deliveries;
pub(crate) mod enrollments;
pub(crate) mod logs;
pub(crate) mod nodes;
pub(crate) mod outbox;
pub(crate) mod people;
pub(crate) mod playbooks;
pub(crate) mod rates;
pub(crate) mod records;
pub(crate) mod segments;
