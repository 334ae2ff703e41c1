//! Reason codes: stable strings, never renamed. Each decision and outcome carries one.

use std::fmt;

/// What a reason means for the touch it is given for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReasonClass {
    /// The provider took it.
    Accepted,
    /// It must not be sent: law, permission or the address; no operator may override it.
    Suppress,
    /// A rule said no.
    Skip,
    /// Withheld by the design of an experiment.
    Control,
    /// Taken back before it went.
    Cancel,
    /// Not now.
    Defer,
    /// Stopped for everybody until a person or a later run releases it.
    Hold,
    /// It failed.
    Fail,
}

/// The checks a touch passes, in the order in which they decide. All of them are asked and recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gate {
    /// Halted, paused.
    System,
    /// The person exists and has a usable address.
    Identity,
    /// Nobody said "never".
    Suppression,
    /// There is permission for the channel and purpose.
    Consent,
    /// It is still wanted: not expired, not left, not reached.
    Currency,
    /// Not too often.
    Cap,
    /// Not at night, and in its window.
    Time,
    /// Not held out. Last, so that both arms are counted at the same point.
    Holdout,
    /// The message could be made.
    Content,
    /// The provider took it.
    Dispatch,
}

impl Gate {
    /// Its word in logs and explanations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Identity => "identity",
            Self::Suppression => "suppression",
            Self::Consent => "consent",
            Self::Currency => "currency",
            Self::Cap => "cap",
            Self::Time => "time",
            Self::Holdout => "holdout",
            Self::Content => "content",
            Self::Dispatch => "dispatch",
        }
    }
}

macro_rules! reasons {
    ($($variant:ident = $code:literal $class:ident $gate:ident $meaning:literal;)*) => {
        /// Why something was done, or not.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $(#[doc = $meaning] $variant,)* }

        impl Reason {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];
            /// The stable code.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }
            /// The reason with that code.
            pub fn parse(code: &str) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }
            /// What it means for the touch.
            pub fn class(self) -> ReasonClass {
                match self { $(Self::$variant => ReasonClass::$class,)* }
            }
            /// The check that gives it.
            pub fn gate(self) -> Gate {
                match self { $(Self::$variant => Gate::$gate,)* }
            }
            /// What it says to a person.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }
        }
    };
}

reasons! {
    SysKillSwitch = "sys.kill_switch" Hold System "a halt is in force";
    SysPlaybookPaused = "sys.playbook_paused" Hold System "the playbook is paused";
    SysPlaybookStopped = "sys.playbook_stopped" Cancel System "the playbook is archived, or its file is gone";
    SysConnectorDisabled = "sys.connector_disabled" Hold System "the destination may not be used from here: see `deliver`";
    DiskLow = "sys.disk_low" Hold System "the disk of the state is almost full";
    SubjectMissing = "id.subject_missing" Skip Identity "the person is gone from the warehouse";
    AddressMissing = "addr.missing" Skip Identity "no address for the channel";
    AddressInvalid = "addr.invalid_syntax" Skip Identity "the address cannot be an address";
    OptoutGlobal = "supp.optout_global" Suppress Suppression "opted out of everything";
    OptoutChannel = "supp.optout_channel" Suppress Suppression "opted out of the channel";
    Complaint = "supp.complaint" Suppress Suppression "complained about a message";
    HardBounce = "supp.hard_bounce" Suppress Suppression "the address does not exist";
    Manual = "supp.manual" Suppress Suppression "on the suppression list";
    ListImport = "supp.list_import" Suppress Suppression "on an imported suppression list";
    Erased = "supp.erased" Suppress Suppression "erased";
    ConsentAbsent = "consent.absent" Suppress Consent "no consent for the purpose";
    ConsentWithdrawn = "consent.withdrawn" Suppress Consent "consent was withdrawn";
    ConsentPending = "addr.unverified" Suppress Consent "consent is not confirmed yet";
    ConsentChannelNever = "consent.wrong_channel" Suppress Consent "the policy never allows this channel for marketing";
    SegmentLeft = "seg.left" Skip Currency "left the segment";
    StepFilter = "seg.filter_failed" Skip Currency "the step's `if` does not hold";
    EntryFilter = "seg.flow_filter_failed" Skip Currency "the playbook's `where` does not hold";
    EntryNotAgain = "entry.not_eligible_again" Skip Currency "may not enter again (yet)";
    EntryActive = "entry.already_active" Skip Currency "is still under way in the playbook";
    GoalReached = "exit.goal_reached" Cancel Currency "the goal was reached";
    CriteriaMet = "exit.criteria_met" Cancel Currency "the exit condition holds";
    NoStep = "step.none" Skip Currency "went through without a message: no step was for them";
    StepExpired = "step.ttl_expired" Skip Currency "older than the step's shelf life";
    GlobalHoldout = "exp.global_holdout" Control Holdout "in the global holdout";
    PlaybookHoldout = "exp.playbook_holdout" Control Holdout "in the playbook's holdout";
    CapPerson = "cap.person" Skip Cap "too many messages already";
    CapChannel = "cap.channel" Skip Cap "too many messages on the channel already";
    CapAccount = "cap.account" Skip Cap "too many messages to the account already";
    CapAddress = "cap.address" Skip Cap "too many messages to the address already, which several people share";
    CapSameContent = "cap.same_content" Skip Cap "the person got the same words less than a day ago, or is to get them";
    CapDeferred = "cap.deferred" Defer Cap "waits until a cap has room";
    CapWaitExpired = "cap.wait_expired" Skip Cap "a cap had no room in time";
    QuietHours = "time.quiet_policy" Defer Time "quiet hours";
    SendWindow = "time.send_window" Defer Time "outside the send window";
    WindowExceedsTtl = "time.window_exceeds_ttl" Skip Time "may only go after it has expired";
    RenderError = "content.render_error" Fail Content "the template failed";
    VarMissing = "content.var_missing" Skip Content "a value the template prints is missing";
    VarInvalid = "content.var_invalid" Skip Content "a value does not fit where the template prints it";
    AuthorAbort = "content.author_abort" Skip Content "the template said `skip`";
    ContentEmpty = "content.empty" Fail Content "nothing to send";
    ContentTooLarge = "content.too_large" Fail Content "larger than a message may be";
    SenderInvalid = "content.sender_invalid" Fail Content "the sender is not an address";
    ReplyToInvalid = "content.reply_to_invalid" Fail Content "the address for answers is not one";
    OkDue = "ok.due" Defer Dispatch "every gate let it pass; it goes when its turn comes";
    OkAccepted = "ok.accepted" Accepted Dispatch "the provider took it";
    OkAssumed = "ok.assumed" Accepted Dispatch "no answer came; a person, or time, closed the doubt as accepted";
    OutcomeUnknown = "fail.outcome_unknown" Fail Dispatch "handed over, and no answer came: nobody knows";
    FailConnect = "fail.connect" Fail Dispatch "the provider could not be reached";
    FailTimeout = "fail.timeout_before_handoff" Fail Dispatch "the provider did not answer in time; nothing was handed over";
    FailAuth = "fail.auth" Hold Dispatch "the provider refuses our credentials or our way to connect";
    FailRemote4xx = "fail.remote_4xx" Fail Dispatch "the provider refuses the request";
    FailRemote5xx = "fail.remote_5xx" Fail Dispatch "the provider has an error";
    Remote429 = "rate.remote_429" Defer Dispatch "the provider says that it is used too fast";
    LocalBucket = "rate.local_bucket" Defer Dispatch "the sending domain is used as fast as it may be; it goes when there is a turn";
    ProviderGroup = "rate.provider_group" Defer Dispatch "the recipient's provider is written to as fast as it may be; it goes when there is a turn";
    FailSmtp4xx = "fail.smtp_4xx" Defer Dispatch "the mail server says: not now";
    FailSmtpExpired = "fail.smtp_expired" Fail Dispatch "the mail server said `not now` until it was too late";
    FailSmtpRecipient = "fail.smtp_5xx_recipient" Fail Dispatch "the mail server refuses the address";
    FailSmtpPolicy = "fail.smtp_5xx_policy" Fail Dispatch "the mail server refuses the message";
    FailSmtpSender = "fail.smtp_5xx_auth" Hold Dispatch "the mail server refuses the sender's domain";
    FailRetries = "fail.retries_exhausted" Fail Dispatch "all attempts failed";
    FailPoison = "fail.poison" Fail Dispatch "a process died with it in hand, again and again";
    FailInternal = "fail.internal" Fail Dispatch "an error of Drumbeat's own";
    GuardBounces = "guard.hard_bounce_rate" Hold System "too many addresses do not exist";
    GuardComplaints = "guard.complaint_rate" Hold System "too many people report it as spam";
    GuardOptOuts = "guard.unsub_rate" Hold System "too many people opt out";
    GuardFailures = "guard.failed_rate" Hold System "too many messages are refused, or cannot be made";
    GuardFallbacks = "guard.fallback_rate" Hold System "too many messages say something in place of what is missing";
    GuardDoubts = "guard.in_doubt_level" Hold System "too many messages are in doubt";
    CanaryWait = "guard.canary_wait" Defer System "the first messages of a version are out; the others wait for what becomes of them";
    HourlyBudget = "guard.hourly_budget" Hold System "the project has sent as many messages this hour as it may";
    PlaybookHour = "cap.playbook_volume" Hold System "the playbook has sent as many messages this hour as it may";
    BreakerOpen = "guard.breaker_open" Defer System "the destination fails too often; it is tried again in a minute";
    CancelOperator = "cancel.operator" Cancel System "a person took it back";
    ApprovalMissing = "approval.missing" Hold System "the first run of a version lets in so many that it waits for a second person";
    PerRunExceeded = "approval.audience_exceeds" Hold System "more would enter than `limits.per_run` allows";
    SegmentQueryFailed = "seg.query_failed" Hold System "the segment's query failed";
    SegmentAnomaly = "seg.anomaly_hold" Hold System "the run breaks an expectation of the segment";
    SegmentEmpty = "seg.empty_source" Hold System "no rows, where there were some before";
    MassRemoval = "seg.mass_removal" Hold System "so many would be removed from an audience at once that it waits for a person's word";
    AudienceTooSmall = "ads.audience_too_small" Skip Dispatch "an audience of so few would point at single people";
    AdsOptout = "consent.ads_optout" Suppress Consent "opted out of the use of their data for ads";
    OkApplied = "ok.applied" Accepted Dispatch "the destination took the change";
    HumanEditWins = "crm.human_edit_wins" Skip Dispatch "there is something in it that Drumbeat did not write, and `on_edit` is `keep`";
    DuplicateRecord = "crm.duplicate_record" Skip Dispatch "several records have this key, or several rows would write the same one";
    SchemaDrift = "fail.schema_drift" Hold Dispatch "a field is not there, or cannot be written";
    SegmentStale = "seg.stale" Hold System "the warehouse is older than the segment allows";
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_read_back() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(*reason));
        }
    }

    #[test]
    fn holdout_is_the_last_gate_that_decides() {
        assert!(Gate::Holdout > Gate::Time && Gate::Time > Gate::Cap && Gate::Cap > Gate::Consent);
    }
}
