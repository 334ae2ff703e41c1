//! What an attempt ends with. A provider's answer is an outcome and not an error.

use jiff::SignedDuration;
use model::Reason;

/// What an attempt ended with. Texts in it are for people and hold neither address nor secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The provider took it.
    Accepted {
        /// What it called it: its reply, or its id.
        receipt: String,
    },
    /// Not taken, and it never will be.
    Rejected {
        /// Why.
        reason: Reason,
        /// What it says of the address; `None`: nothing.
        bounce: Option<Bounce>,
        /// What the provider said.
        detail: String,
    },
    /// Definitely not taken, and worth another attempt.
    Retry {
        /// Why.
        reason: Reason,
        /// Not before so long, if the provider said so.
        after: Option<SignedDuration>,
        /// How attempts are spaced.
        schedule: Schedule,
        /// Whether the provider says that it is used too fast.
        slower: bool,
        /// What the provider said, or what failed.
        detail: String,
    },
    /// Handed over, and no answer came: the provider may have it.
    InDoubt {
        /// How it was lost.
        detail: String,
    },
    /// The last look said no: nothing was handed over.
    NotArmed,
    /// The destination cannot be used until somebody changes something: it is held, and the message goes back as it was.
    /// It may come after arming: what it says is that the provider did not take the message.
    Halt {
        /// Why.
        reason: Reason,
        /// What the provider said, or what to change.
        detail: String,
    },
}

/// What a rejection says of the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bounce {
    /// It does not exist: nobody writes there again.
    Hard,
    /// It exists, and takes nothing at present.
    Soft,
}

/// How attempts are spaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// A mail server said "not now": first after five minutes, since greylisting takes that long, then longer and longer.
    Smtp4xx,
    /// Nobody answered: soon, then less often.
    Connect,
}
