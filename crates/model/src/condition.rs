//! Conditions: one language for segments, branches, waits, goals and exits.

use jiff::SignedDuration;

use crate::consent::ConsentStatus;
use crate::name::{PlaybookName, PurposeName, SegmentName, StepId};
use crate::policy::Channel;
use crate::value::Value;

/// Whether something is so for one person.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// All must hold; none holds trivially.
    All(Vec<Condition>),
    /// At least one must hold.
    Any(Vec<Condition>),
    /// It must not hold. A missing value fails the inner test, and so holds here.
    Not(Box<Condition>),
    /// A value of the profile: `profile.plan`.
    Profile {
        /// The column of the profiles' query.
        attribute: String,
        /// All of which must hold.
        tests: Vec<ValueTest>,
    },
    /// A value of the person's account: `account.arr`.
    Account {
        /// The column of the accounts' query.
        attribute: String,
        /// All of which must hold.
        tests: Vec<ValueTest>,
    },
    /// A value kept from the time of entering: `entry.last_seen`.
    Entry {
        /// The column of the segment's query.
        column: String,
        /// All of which must hold.
        tests: Vec<ValueTest>,
    },
    /// Membership of a segment.
    Segment {
        /// Which.
        name: SegmentName,
        /// How.
        test: SegmentTest,
    },
    /// The consent for a channel and purpose is one of these.
    Consent {
        /// Channel.
        channel: Channel,
        /// Purpose.
        purpose: PurposeName,
        /// One of.
        any_of: Vec<ConsentStatus>,
    },
    /// Where the person stands in a playbook.
    Playbook {
        /// Which.
        name: PlaybookName,
        /// One of.
        any_of: Vec<PlaybookStanding>,
    },
    /// How an earlier step of the same playbook came out.
    Step {
        /// Which.
        id: StepId,
        /// One of.
        any_of: Vec<StepOutcome>,
    },
}

/// One test of a value.
#[derive(Debug, Clone, PartialEq)]
pub enum ValueTest {
    /// Equal to one of these.
    OneOf(Vec<Value>),
    /// The inner tests do not all hold; a missing value passes.
    Not(Vec<ValueTest>),
    /// Greater than.
    Over(f64),
    /// Less than.
    Under(f64),
    /// Greater or equal.
    AtLeast(f64),
    /// Less or equal.
    AtMost(f64),
    /// The text contains this.
    Has(String),
    /// The text starts with this.
    Starts(String),
    /// The text ends with this.
    Ends(String),
    /// The time is before.
    Before(jiff::Timestamp),
    /// The time is after.
    After(jiff::Timestamp),
    /// The time lies in the last so long, now included.
    InLast(SignedDuration),
    /// The time lies in the next so long, now included.
    InNext(SignedDuration),
    /// The time lies longer ago than this.
    OlderThan(SignedDuration),
    /// Whether the value is missing: NULL or empty text.
    Missing(bool),
    /// Equal to another value of the same person.
    SameAs(ValueOf),
}

/// A value named in a test or a wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueOf {
    /// `profile.X`
    Profile(String),
    /// `account.X`
    Account(String),
    /// `entry.X`
    Entry(String),
}

/// A test of membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentTest {
    /// In it.
    Member,
    /// Not in it.
    NotMember,
    /// In it at least that long, without a break that a run has seen.
    MemberFor(SignedDuration),
}

/// Where a person stands in a playbook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PlaybookStanding {
    /// Under way.
    Active,
    /// Ended by its goal, the last time.
    ReachedGoal,
    /// Ended in any way, the last time.
    Finished,
    /// Never enrolled.
    Never,
}

/// How a step came out, as conditions name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepOutcome {
    /// The provider took the message (or may have: a doubt counts as accepted).
    Accepted,
    /// Nothing was sent: skipped, suppressed, expired, cancelled, rejected.
    Skipped,
    /// The provider said that the address does not work.
    Bounced,
    /// Held out.
    Withheld,
    /// What a wait waited for came to be.
    Met,
    /// What a wait waited for did not come to be.
    TimedOut,
}

macro_rules! words {
    ($kind:ident { $($variant:ident = $word:literal,)* }) => {
        impl $kind {
            /// All of them, with their words in files.
            pub const ALL: &[(&str, Self)] = &[$(($word, Self::$variant),)*];
            /// The one with that word.
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().find(|(known, _)| *known == word).map(|(_, value)| *value)
            }
            /// Its word.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}
pub(crate) use words;

words! { PlaybookStanding { Active = "active", ReachedGoal = "reached_goal", Finished = "finished", Never = "never", } }
words! { StepOutcome {
    Accepted = "accepted", Skipped = "skipped", Bounced = "bounced", Withheld = "withheld", Met = "met", TimedOut = "timed_out",
} }

impl Condition {
    /// Calls `visit` for this condition and all inside it.
    pub fn walk<'a>(&'a self, visit: &mut impl FnMut(&'a Self)) {
        visit(self);
        match self {
            Self::All(inner) | Self::Any(inner) => inner.iter().for_each(|condition| condition.walk(visit)),
            Self::Not(inner) => inner.walk(visit),
            Self::Profile { .. }
            | Self::Account { .. }
            | Self::Entry { .. }
            | Self::Segment { .. }
            | Self::Consent { .. }
            | Self::Playbook { .. }
            | Self::Step { .. } => {}
        }
    }

    /// The values it names: those it tests, and those it compares them with.
    pub fn values(&self) -> Vec<ValueOf> {
        let mut named = Vec::new();
        self.walk(&mut |condition| {
            let (value, tests) = match condition {
                Self::Profile { attribute, tests } => (ValueOf::Profile(attribute.clone()), tests),
                Self::Account { attribute, tests } => (ValueOf::Account(attribute.clone()), tests),
                Self::Entry { column, tests } => (ValueOf::Entry(column.clone()), tests),
                _ => return,
            };
            named.push(value);
            compared_with(tests, &mut named);
        });
        named
    }

    /// Whether it names a value of the person's account, which is read only where it is asked for.
    pub fn reads_account(&self) -> bool {
        self.values().iter().any(|value| matches!(value, ValueOf::Account(_)))
    }

    /// The segments it names, with the longest stay it asks for.
    pub fn segments(&self) -> Vec<(&SegmentName, SegmentTest)> {
        let mut named = Vec::new();
        self.walk(&mut |condition| {
            if let Self::Segment { name, test } = condition {
                named.push((name, *test));
            }
        });
        named
    }
}

/// The values that tests name in `same_as`.
fn compared_with(tests: &[ValueTest], named: &mut Vec<ValueOf>) {
    for test in tests {
        match test {
            ValueTest::SameAs(value) => named.push(value.clone()),
            ValueTest::Not(inner) => compared_with(inner, named),
            _ => {}
        }
    }
}
