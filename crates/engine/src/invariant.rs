//! What always holds. A broken one is a bug of Drumbeat's own: it panics, in release builds too, before anything is written.

use std::fmt;

/// The beliefs that the engine relies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invariant {
    /// What waits or is deferred wakes after now.
    TimeMoves,
    /// A row that is not deferred is never decided anew.
    DecidedOnce,
    /// One delivery for each step of an enrollment.
    TouchOnce,
    /// A walk only goes forward, and so ends.
    WalkEnds,
}

impl Invariant {
    /// What it says.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::TimeMoves => "what waits or is deferred wakes after now",
            Self::DecidedOnce => "a row that is not deferred is never decided anew",
            Self::TouchOnce => "one delivery for each step of an enrollment",
            Self::WalkEnds => "a walk only goes forward, and so ends",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self:?}: {}", self.meaning())
    }
}

/// Panics where an invariant does not hold: `invariant!(TimeMoves, now < wake_at, step)`.
macro_rules! invariant {
    ($name:ident, $holds:expr, $subject:expr) => {
        assert!($holds, "broken invariant {}, at {}", $crate::invariant::Invariant::$name, $subject)
    };
}
pub(crate) use invariant;
