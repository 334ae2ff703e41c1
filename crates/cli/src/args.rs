//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::Timestamp;

/// Campaigns from warehouse segments: decides who hears what and when, delivers it, and can say why.
#[derive(Debug, Parser)]
#[command(name = "drumbeat", version, about, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// The project's folder.
    #[arg(short = 'C', long = "project", global = true, value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
    /// The environment laid over the project's files.
    #[arg(long, global = true, value_name = "NAME", env = "DRUMBEAT_ENV")]
    pub(crate) env: Option<String>,
    /// Campaign time, where time matters (RFC 3339); refused in production.
    #[arg(long, global = true, value_name = "TIME")]
    pub(crate) now: Option<Timestamp>,
    /// How data is printed: a table on a terminal by default.
    #[arg(long, global = true, value_name = "FORMAT")]
    pub(crate) output: Option<Output>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// One JSON value.
    Json,
    /// One JSON object a line.
    Ndjson,
    /// Comma-separated, safe to open in a spreadsheet.
    Csv,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a new project; with a warehouse it looks at the tables, and passes `check`.
    Init(Init),
    /// Make a living example with a generated warehouse of 5,000 people, and run it.
    Demo(Demo),
    /// Find every mistake before anything runs: files, names, templates, queries; `--env all` in every environment.
    Check(Check),
    /// Show what the next run would do; nothing is written, nothing is sent.
    Plan,
    /// Run the daemon, or one pass with `--once`.
    Run(Run),
    /// Show the message as a person would get it, and why they would not.
    Preview(Preview),
    /// Send a message to a colleague, uncounted.
    SendTest(SendTest),
    /// Play the project's scenarios on virtual time.
    Test(Test),
    /// Why somebody got a message, or did not, or not yet: every gate with the values it saw.
    Explain(Explain),
    /// Segments: sizes, history, members.
    #[command(subcommand)]
    Segment(Segment),
    /// Audiences and records that are kept equal to the warehouse: sizes, what is to be done, what is held.
    #[command(subcommand)]
    Sync(SyncCommand),
    /// Records that syncs wrote into a CRM: undo what was written.
    #[command(subcommand)]
    Record(RecordCommand),
    /// The message log.
    Log(Log),
    /// Deliveries that nobody can be sure of.
    #[command(subcommand)]
    InDoubt(InDoubt),
    /// Send again what was rejected for a cause that is over.
    Redrive(Redrive),
    /// The consent ledger.
    #[command(subcommand)]
    Consent(Consent),
    /// The suppression list: addresses and people never to write to.
    #[command(subcommand)]
    Suppress(Suppress),
    /// Proof that the log was not changed.
    #[command(subcommand)]
    Audit(Audit),
    /// Stop everything, a destination or a playbook, within a second.
    Halt(Halt),
    /// Playbooks: activate, pause, resume, archive.
    #[command(subcommand)]
    Playbook(Playbook),
    /// A person's rights: export what is known, or erase it.
    #[command(subcommand)]
    Profile(Profile),
    /// What this build can speak with: list, describe, test.
    #[command(subcommand)]
    Connector(ConnectorCommand),
    /// Print the JSON Schemas of the project's files.
    Schema {
        /// One of them, such as `playbook` or `connector.smtp`.
        kind: Option<String>,
    },
    /// Look at everything outside that must be right.
    Doctor,
    /// Copy the state database (SQLite) into a new file, with a manifest beside it; or check such a copy.
    Backup {
        /// The file to make, or to check.
        to: PathBuf,
        /// Check it: against its manifest, whether the database in it is whole, and its audit log.
        #[arg(long)]
        verify: bool,
    },
    /// Put a backup in the place of the state (SQLite): what is there is put aside, and everything is halted until a person lifts it.
    Restore {
        /// The backup.
        from: PathBuf,
    },
    /// Put into the state what its journal knows and it does not: messages, opt-outs and erasures since the backup that was put back.
    Reconcile {
        /// Journals of other machines, besides the one beside the state: folders.
        #[arg(long, value_name = "FOLDER")]
        journal: Vec<PathBuf>,
    },
    /// Bring the state database's schema up to date (Postgres; SQLite does it by itself).
    Migrate,
    /// Print a completion script for a shell.
    Completion {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the version.
    Version,
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The folder to make; the current one by default.
    pub(crate) dir: Option<PathBuf>,
    /// The warehouse: `sqlite://PATH` or `postgres://...`.
    #[arg(long, value_name = "URL")]
    pub(crate) warehouse: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// The folder to make.
    #[arg(default_value = "drumbeat-demo")]
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Look at the files only, not at the warehouse.
    #[arg(long)]
    pub(crate) offline: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// One pass: refresh what is due, decide, deliver until nothing is due.
    #[arg(long)]
    pub(crate) once: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Preview {
    /// `PLAYBOOK.STEP`, or a template.
    pub(crate) what: String,
    /// The warehouse's id of the person.
    #[arg(long, value_name = "ID")]
    pub(crate) profile: String,
    /// Write the HTML part to a file, to look at it.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct SendTest {
    /// `PLAYBOOK.STEP`.
    pub(crate) what: String,
    /// The warehouse's id of the person whose message it is.
    #[arg(long, value_name = "ID")]
    pub(crate) profile: String,
    /// The colleague who gets it; must fit `colleagues`.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) to: String,
}

#[derive(Debug, Args)]
pub(crate) struct Test {
    /// Only the scenarios whose file name contains this.
    pub(crate) filter: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The warehouse's id of the person.
    #[arg(long, value_name = "ID", required_unless_present = "delivery")]
    pub(crate) profile: Option<String>,
    /// Only this playbook.
    #[arg(long, value_name = "NAME")]
    pub(crate) playbook: Option<String>,
    /// The person of this delivery.
    #[arg(long, value_name = "ID")]
    pub(crate) delivery: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Segment {
    /// All segments with their sizes.
    List,
    /// One segment: history and members.
    Show {
        /// Its name.
        name: String,
        /// Who was in it at this time.
        #[arg(long, value_name = "TIME")]
        at: Option<Timestamp>,
        /// Print the query with its parameters, instead.
        #[arg(long)]
        sql: bool,
        /// List the members.
        #[arg(long)]
        members: bool,
    },
    /// Let the next run be as large as it is, whatever the guard says.
    Accept {
        /// Its name.
        name: String,
        /// Why it may.
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SyncCommand {
    /// All syncs: what is to be there, what is, and what is to be done.
    List,
    /// One sync.
    Show {
        /// Its name.
        name: String,
        /// List everybody in it, and who is to be; of records, each of them.
        #[arg(long)]
        people: bool,
    },
    /// What a sync of records would write now: read at its destination, before and after, and nothing written.
    Diff {
        /// Its name.
        name: String,
        /// So many records at most.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Let those be removed, or emptied, whom the guard holds: as many as there are now, once.
    Accept {
        /// Its name.
        name: String,
        /// Why they may go.
        #[arg(long)]
        reason: String,
    },
    /// Add everybody again, and remove whoever is to be out, when the destination has lost what it had; of records: read all, and write what
    /// differs, also after `record revert`.
    Resync {
        /// Its name.
        name: String,
        /// Why.
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RecordCommand {
    /// Make the fields that a sync wrote what they were before, where nobody else has written them since. The sync stands still afterwards.
    Revert {
        /// The sync's name.
        name: String,
        /// Why.
        #[arg(long)]
        reason: String,
    },
}

/// Which rows of the log.
#[derive(Debug, Default, Args)]
pub(crate) struct Which {
    /// Of this person.
    #[arg(long, value_name = "ID")]
    pub(crate) profile: Option<String>,
    /// Of this playbook.
    #[arg(long, value_name = "NAME")]
    pub(crate) playbook: Option<String>,
    /// To this destination.
    #[arg(long, value_name = "NAME")]
    pub(crate) destination: Option<String>,
    /// Changed at or after.
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Timestamp>,
    /// Changed before.
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<Timestamp>,
}

impl Which {
    /// Whether nothing is chosen.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { profile, playbook, destination, since, until } = self;
        profile.is_none() && playbook.is_none() && destination.is_none() && since.is_none() && until.is_none()
    }
}

#[derive(Debug, Args)]
pub(crate) struct Log {
    #[command(flatten)]
    pub(crate) which: Which,
    /// In this state, such as `accepted`.
    #[arg(long)]
    pub(crate) state: Option<String>,
    /// For this reason, such as `consent.absent`.
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// Write it to FILE.csv or FILE.jsonl.
    #[arg(long, value_name = "FILE")]
    pub(crate) export: Option<PathBuf>,
    /// At most so many rows; a table shows 50 by default, everything else all.
    #[arg(long)]
    pub(crate) limit: Option<std::num::NonZeroUsize>,
    /// Every change of a row, and not only what it is now; `--state`, `--reason` and times then choose changes.
    #[arg(long)]
    pub(crate) history: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Redrive {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Rejected for this reason, such as `fail.retries_exhausted`.
    #[arg(long, value_name = "CODE")]
    pub(crate) reason: Option<String>,
    /// How long they may wait to be sent from now on.
    #[arg(long = "for", value_name = "DURATION", default_value = "1d")]
    pub(crate) shelf: String,
    /// Why it will work this time.
    #[arg(long)]
    pub(crate) why: String,
    /// Only say which.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum InDoubt {
    /// List them, with what is known.
    List,
    /// Show one, with every attempt and what was heard of it.
    Show {
        /// The delivery.
        delivery: String,
    },
    /// Close one, or all that fit.
    Resolve {
        /// The delivery; without one, those that the options choose.
        delivery: Option<String>,
        #[command(flatten)]
        which: Which,
        /// As what.
        #[arg(long = "as", value_name = "HOW")]
        how: Resolution,
        /// Why you are sure.
        #[arg(long)]
        reason: String,
        /// Who else has looked: needed for more than 100 at once.
        #[arg(long, value_name = "PERSON")]
        second: Option<String>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Resolution {
    /// It arrived.
    Accepted,
    /// It did not, and is not sent again.
    NotAccepted,
    /// It did not, and is sent again.
    Resend,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Consent {
    /// What holds for a person, and how it came about.
    Show {
        /// The warehouse's id.
        profile: String,
    },
    /// Record that a person said yes.
    Grant(ConsentChange),
    /// Record that a person said no.
    Withdraw(ConsentChange),
    /// Import a CSV file with the columns profile, channel, purpose, status, changed_at and, if you like, source and evidence.
    Import {
        /// The file.
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ConsentChange {
    /// The warehouse's id.
    pub(crate) profile: String,
    /// The channel, or `*`.
    #[arg(long, default_value = "email")]
    pub(crate) channel: String,
    /// The purpose, or `*`.
    #[arg(long)]
    pub(crate) purpose: String,
    /// Where it was said.
    #[arg(long)]
    pub(crate) source: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Suppress {
    /// Add an address or a person.
    Add(SuppressOne),
    /// Take one off the list.
    Remove(SuppressOne),
    /// The list; addresses are shown as the hashes that are kept.
    List,
    /// Import addresses, one a line.
    Import {
        /// The file.
        file: PathBuf,
        /// Where the list comes from.
        #[arg(long, default_value = "import")]
        source: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SuppressOne {
    /// An address.
    #[arg(required_unless_present = "profile", conflicts_with = "profile")]
    pub(crate) address: Option<String>,
    /// Or a person, by the warehouse's id.
    #[arg(long, value_name = "ID")]
    pub(crate) profile: Option<String>,
    /// Why.
    #[arg(long)]
    pub(crate) reason: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Check every entry, hash and signature; name the first that is wrong.
    Verify {
        /// The log's public key, as `audit key` printed it elsewhere; by default the one in the state.
        #[arg(long)]
        key: Option<String>,
    },
    /// Print all entries, one JSON object a line.
    Export,
    /// Print the last signed checkpoint.
    Checkpoint,
    /// Print the public key that checks checkpoints.
    Key,
}

#[derive(Debug, Args)]
pub(crate) struct Halt {
    /// `destination.NAME` or `playbook.NAME`; everything by default.
    #[arg(long)]
    pub(crate) scope: Option<String>,
    /// Why. A halt needs it.
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// Let it go on.
    #[arg(long)]
    pub(crate) lift: bool,
    /// Show what is halted.
    #[arg(long, conflicts_with = "lift")]
    pub(crate) list: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConnectorCommand {
    /// All connectors, and what becomes of what is in doubt.
    List,
    /// One connector's settings.
    Describe {
        /// Its name.
        name: String,
    },
    /// Play every sequence of answers through one, and say what breaks the contract; with `--url`, try a running service that speaks the
    /// protocol of `webhook`.
    Test(ConnectorTest),
}

#[derive(Debug, Args)]
pub(crate) struct ConnectorTest {
    /// Its name.
    pub(crate) name: String,
    /// Of `webhook`: where a service takes events. It is sent made-up people, right and forged, and what it answers is judged.
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// What the service knows that events are signed with: `whsec_...`
    #[arg(long, env = "DRUMBEAT_WEBHOOK_SECRET", hide_env_values = true)]
    pub(crate) secret: Option<String>,
    /// Try this only, of a service that takes no more; may be given more than once.
    #[arg(long, value_enum, requires = "url")]
    pub(crate) only: Vec<ServicePart>,
}

/// What a service of one's own may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ServicePart {
    /// Mail.
    Messages,
    /// Who comes into an audience and leaves it.
    Audiences,
    /// Fields of companies and people.
    Records,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Playbook {
    /// All playbooks with their numbers.
    List,
    /// One playbook: its people, step by step.
    Show {
        /// Its name.
        name: String,
    },
    /// Begin: needed in production, where a file alone does nothing.
    Activate {
        /// Its name.
        name: String,
    },
    /// Let the first run of a version go that waits for a second person's word (production).
    Approve {
        /// Its name.
        name: String,
        /// Who else has looked: not whoever types this.
        #[arg(long, value_name = "PERSON")]
        second: String,
    },
    /// Stop deciding and sending; nobody is lost.
    Pause {
        /// Its name.
        name: String,
    },
    /// Go on after a pause.
    Resume {
        /// Its name.
        name: String,
    },
    /// Let nobody in any more.
    Archive {
        /// Its name.
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Profile {
    /// Print everything that is known of a person, as JSON.
    Export {
        /// The warehouse's id.
        profile: String,
    },
    /// Forget a person for good: the log keeps a number that leads to nobody, and a later refresh does not bring them back.
    Erase {
        /// The warehouse's id.
        profile: String,
        /// Why.
        #[arg(long)]
        reason: String,
    },
}
