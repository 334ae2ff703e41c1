//! A made-up world: people, segments and a provider that live in memory.
//!
//! Scenarios, the plan and the simulator use it in place of a warehouse and of connectors, so that the same `tick` and `pump`
//! play a year in seconds, or foretell a run without sending anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use connector::{Item, Outcome};
use message::Rendered;
use model::consent::ConsentStatus;
use model::{Channel, PurposeName, SegmentName, Value};

use crate::source::RowsById;

/// A row of a made-up consent query.
#[derive(Debug, Clone)]
pub struct MadeConsent {
    /// The person's id.
    pub profile: String,
    /// `None` is all.
    pub channel: Option<Channel>,
    /// `None` is all.
    pub purpose: Option<PurposeName>,
    /// What it became.
    pub status: ConsentStatus,
    /// When.
    pub changed_at: jiff::Timestamp,
}

/// People and segments in memory, to be changed between ticks.
#[derive(Debug, Default)]
pub struct MadeWorld {
    inner: Mutex<Inner>,
}

/// What a [`MadeWorld`] holds.
#[derive(Debug, Default, Clone)]
pub struct Inner {
    /// Attributes by id.
    pub profiles: RowsById,
    /// Columns of accounts by id.
    pub accounts: RowsById,
    /// The rows of each segment that is not composed: columns by id.
    pub segments: BTreeMap<SegmentName, BTreeMap<String, BTreeMap<String, Value>>>,
    /// The rows of the consent query.
    pub consents: Vec<MadeConsent>,
    /// Segments whose query fails.
    pub failing: BTreeSet<SegmentName>,
}

impl MadeWorld {
    /// A world that holds this.
    pub fn new(inner: Inner) -> Self {
        Self { inner: Mutex::new(inner) }
    }

    /// What it holds now, to be read or changed.
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A provider in memory. Called when a message would be handed over.
pub trait MadeProvider: Send + Sync + fmt::Debug {
    /// Before arming: what the provider says to the envelope. `Some` ends the attempt without handing anything over.
    fn envelope(&self, item: &Item) -> Option<Outcome>;
    /// After arming: what becomes of the message. From here on the provider may have it.
    fn take(&self, item: &Item, rendered: &Rendered) -> Outcome;
}

/// Takes everything, and keeps it if so asked.
#[derive(Debug, Default)]
pub struct Accepting {
    keep: bool,
    taken: Mutex<Vec<(Item, Rendered)>>,
}

impl Accepting {
    /// Takes everything and forgets it.
    pub fn counting() -> Self {
        Self::default()
    }

    /// Takes everything and keeps it.
    pub fn keeping() -> Self {
        Self { keep: true, taken: Mutex::default() }
    }

    /// What it has kept so far.
    pub fn taken(&self) -> Vec<(Item, Rendered)> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl MadeProvider for Accepting {
    fn envelope(&self, _item: &Item) -> Option<Outcome> {
        None
    }

    fn take(&self, item: &Item, rendered: &Rendered) -> Outcome {
        if self.keep {
            self.taken.lock().unwrap_or_else(PoisonError::into_inner).push((item.clone(), rendered.clone()));
        }
        Outcome::Accepted { receipt: "made".to_owned() }
    }
}
