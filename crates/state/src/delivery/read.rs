//! A delivery's row, read and written: its columns, and the JSON of its gates.

use model::delivery::{Delivery, GateRecord};
use model::id::ContentHash;
use model::policy::{Channel, MessageClass, Traits};
use model::reason::Gate;
use model::{
    BrandName, DeliveryId, DeliveryState, DestinationName, EnrollmentId, PlaybookName, ProfileNumber,
    PurposeName, Reason, StepId, TemplateName,
};
use serde::Deserialize;

use super::LoggedDelivery;
use crate::StateError;
use crate::dialect::write_json_text;
use crate::row;

/// The columns of a row as it was decided, in the order in which they are read and written.
macro_rules! columns {
    () => {
        "profile, id, enrollment, version, step, channel, class, purpose, brand, playbook, destination, template, priority, \
        state, reason, gates, created_at_ms, decided_at_ms, due_at_ms, expires_at_ms, content"
    };
}

/// The same, and what became of it.
macro_rules! logged_columns {
    () => {
        "profile, id, enrollment, version, step, channel, class, purpose, brand, playbook, destination, template, priority, \
        state, reason, gates, created_at_ms, decided_at_ms, due_at_ms, expires_at_ms, content, armed_at_ms, settled_at_ms, receipt, \
        attempts"
    };
}

/// The same, and the lease.
macro_rules! leased_columns {
    () => {
        "profile, id, enrollment, version, step, channel, class, purpose, brand, playbook, destination, template, priority, \
        state, reason, gates, created_at_ms, decided_at_ms, due_at_ms, expires_at_ms, content, fence, lease_count, attempts, claim_rank"
    };
}

/// What holds of a row whose playbook is neither paused nor halted. A halt's scope is written as
/// [`crate::control::HaltScope`] writes it.
macro_rules! playbook_goes_on {
    () => {
        "playbook NOT IN (SELECT name FROM playbook WHERE status = 'paused') \
        AND 'playbook:' || playbook NOT IN (SELECT scope FROM halt)"
    };
}

pub(crate) use {columns, leased_columns, logged_columns, playbook_goes_on};

/// A row that is read: the columns as decided, and some more. Read from an array, so the fields stand in the
/// order of the columns.
macro_rules! read_row {
    ($(#[$doc:meta])* $name:ident { $($more:ident: $kind:ty,)* }) => {
        $(#[$doc])*
        #[derive(Deserialize)]
        pub(crate) struct $name {
            profile: u32,
            id: String,
            enrollment: String,
            version: String,
            step: String,
            channel: String,
            class: String,
            purpose: String,
            brand: String,
            playbook: String,
            destination: String,
            template: String,
            priority: u8,
            state: String,
            reason: String,
            gates: String,
            created_at_ms: i64,
            decided_at_ms: i64,
            due_at_ms: i64,
            expires_at_ms: i64,
            content: Option<String>,
            $($more: $kind,)*
        }

        impl $name {
            /// The delivery, and what else was read.
            pub(crate) fn split(self) -> Result<(Delivery, ($($kind,)*)), StateError> {
                let delivery = Delivery {
                    id: DeliveryId::known(self.id),
                    enrollment: EnrollmentId::known(self.enrollment),
                    version: self.version,
                    step: StepId::known(self.step),
                    profile: ProfileNumber(self.profile),
                    traits: traits(&self.channel, &self.class, self.purpose, self.brand, self.playbook)?,
                    destination: DestinationName::known(self.destination),
                    template: TemplateName::known(self.template),
                    content: self.content.map(ContentHash::known),
                    priority: self.priority,
                    state: row::word(DeliveryState::parse(&self.state), "a delivery's state")?,
                    reason: row::reason(&self.reason)?,
                    gates: read_gates(&self.gates)?,
                    created_at: row::time(self.created_at_ms)?,
                    decided_at: row::time(self.decided_at_ms)?,
                    due_at: row::time(self.due_at_ms)?,
                    expires_at: row::time(self.expires_at_ms)?,
                };
                Ok((delivery, ($(self.$more,)*)))
            }
        }
    };
}

read_row! {
    /// With [`columns!`].
    Read {}
}
read_row! {
    /// With [`logged_columns!`].
    LoggedRead { armed_at_ms: Option<i64>, settled_at_ms: Option<i64>, receipt: Option<String>, attempts: u32, }
}
read_row! {
    /// With [`leased_columns!`].
    LeasedRead { fence: i64, lease_count: u32, attempts: u32, claim_rank: i64, }
}

impl Read {
    pub(crate) fn delivery(self) -> Result<Delivery, StateError> {
        Ok(self.split()?.0)
    }
}

impl LoggedRead {
    pub(crate) fn logged(self) -> Result<LoggedDelivery, StateError> {
        let (delivery, (armed_at, settled_at, receipt, attempts)) = self.split()?;
        let (armed_at, settled_at) = (row::maybe_time(armed_at)?, row::maybe_time(settled_at)?);
        Ok(LoggedDelivery { delivery, armed_at, settled_at, receipt, attempts })
    }
}

pub(crate) fn traits(
    channel: &str,
    class: &str,
    purpose: String,
    brand: String,
    playbook: String,
) -> Result<Traits, StateError> {
    Ok(Traits {
        channel: row::word(Channel::parse(channel), "a channel")?,
        class: row::word(MessageClass::parse(class), "a message's class")?,
        purpose: PurposeName::known(purpose),
        brand: BrandName::known(brand),
        playbook: PlaybookName::known(playbook),
    })
}

/// `[["cap","cap.person","what it saw"],["time",null,"10:00"]]`.
pub(crate) fn write_gates(gates: &[GateRecord]) -> String {
    let mut text = String::with_capacity(2 + gates.len() * 40);
    text.push('[');
    for (place, gate) in gates.iter().enumerate() {
        text.push_str(if place == 0 { "[" } else { ",[" });
        write_json_text(&mut text, gate.gate.as_str());
        text.push(',');
        match gate.reason {
            Some(reason) => write_json_text(&mut text, reason.as_str()),
            None => text.push_str("null"),
        }
        text.push(',');
        write_json_text(&mut text, &gate.saw);
        text.push(']');
    }
    text.push(']');
    text
}

fn read_gates(text: &str) -> Result<Vec<GateRecord>, StateError> {
    let rows: Vec<(String, Option<String>, String)> =
        serde_json::from_str(text).map_err(|_| StateError::Corrupt { what: "the gates of a delivery" })?;
    rows.into_iter()
        .map(|(gate, reason, saw)| {
            let reason: Option<Reason> = reason.map(|code| row::reason(&code)).transpose()?;
            Ok(GateRecord { gate: row::word(gate_of(&gate), "a gate")?, reason, saw })
        })
        .collect()
}

fn gate_of(word: &str) -> Option<Gate> {
    [
        Gate::System,
        Gate::Identity,
        Gate::Suppression,
        Gate::Consent,
        Gate::Currency,
        Gate::Cap,
        Gate::Time,
        Gate::Holdout,
        Gate::Content,
        Gate::Dispatch,
    ]
    .into_iter()
    .find(|gate| gate.as_str() == word)
}
