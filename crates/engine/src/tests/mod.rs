//! Tests of the whole engine, on people and playbooks made up here. Each file is about one promise.

mod allowances;
mod audiences;
mod caps;
mod civil;
mod conditions;
mod entering;
mod gates;
mod journeys;
mod made;
mod records;
mod relations;
mod runs;
