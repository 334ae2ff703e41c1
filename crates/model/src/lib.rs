//! The vocabulary of Drumbeat: what a person, a playbook, a decision and an outcome are.
//!
//! Everything here is data with total functions over it. There is no input or output, no clock and no dice:
//! time is always an argument. All other rooms know this one; it knows none of them.

pub mod address;
pub mod condition;
pub mod consent;
pub mod delivery;
pub mod duration;
pub mod enrollment;
pub mod fault;
pub mod id;
pub mod mail;
pub mod name;
pub mod playbook;
pub mod policy;
pub mod profile;
pub mod query;
pub mod rate;
pub mod reason;
pub mod recipients;
pub mod schedule;
pub mod secret;
pub mod segment;
pub mod settings;
pub mod sql;
pub mod suggest;
pub mod sync;
pub mod value;

pub use address::EmailAddress;
pub use delivery::{DeliveryState, Refusal};
pub use id::{DeliveryId, EnrollmentId, ProfileNumber};
pub use name::{
    AudienceName, BrandName, CapName, DestinationName, FreshName, PlaybookName, PurposeName, QuietHoursName,
    RecipientsName, SegmentName, StepId, SyncName, TemplateName,
};
pub use policy::{Channel, MessageClass};
pub use rate::{Lane, RateKey};
pub use reason::{Gate, Reason};
pub use secret::Secret;
pub use value::Value;
