//! The arm journal: what became irrevocable, and who said no, in files beside the database and not in it. A state that is put back from a copy
//! lacks what happened since; this does not.
//!
//! A line is written and synced after its transaction is committed and before anybody acts on that: before a message's last byte, before an
//! opt-out is answered. Answers of providers are written without waiting; one that is missing is a doubt. A file a day, shared by all processes of
//! a machine; people stand in it by number and keyed hash, never by id or address.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use model::consent::{ConsentEvent, ConsentOrigin, ConsentStatus, Suppression, SuppressionSubject};
use model::delivery::Delivery;
use model::id::{AddressHash, ContentHash, sha256_hex};
use model::policy::{Channel, MessageClass, Traits};
use model::{
    BrandName, DeliveryId, DeliveryState, DestinationName, EnrollmentId, PlaybookName, ProfileNumber,
    PurposeName, Reason, StepId, TemplateName,
};
use serde::{Deserialize, Serialize};

use crate::db::unix_ms;
use crate::{Keys, StateError, Tx, profile, row};

/// A file that nobody has written to for so long is deleted: a state older than that is not put back.
const KEPT: Duration = Duration::from_hours(14 * 24);
/// So many digits of SHA-256 stand before a line: one that was torn or changed is seen.
const CHECK_DIGITS: usize = 8;
const ENDING: &str = "log";

/// Who a line is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Who {
    /// Their number in the state that wrote it. After a restore it may be somebody else's.
    pub number: u32,
    /// The keyed hash of their id; `None`: they were erased already, or the process that wrote it had no keys.
    pub id_hash: Option<String>,
}

/// A message that became irrevocable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArmedLine {
    /// Whose.
    pub who: Who,
    /// The row.
    pub delivery: String,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The hash of the address it went to.
    pub address: String,
    /// Whose way through which version of a playbook, at which step.
    pub enrollment: String,
    /// The version of the playbook.
    pub version: String,
    /// The step.
    pub step: String,
    /// The playbook.
    pub playbook: String,
    /// Channel, class, purpose and brand, as caps see them.
    pub traits: [String; 4],
    /// By which account.
    pub destination: String,
    /// What it said.
    pub template: String,
    /// The same, by its words.
    pub content: Option<String>,
    /// Of the playbook.
    pub priority: u8,
    /// When it was first considered, was due, and would have been too old.
    pub times_ms: [i64; 3],
    /// When it became irrevocable.
    pub at_ms: i64,
}

/// Somebody gave or took back consent here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsentLine {
    /// Who.
    pub who: Who,
    /// `*`: every one.
    pub channel: String,
    /// `*`: every one.
    pub purpose: String,
    /// `granted withdrawn pending`.
    pub status: String,
    /// When they said so.
    pub changed_at_ms: i64,
    /// When it was recorded.
    pub at_ms: i64,
    /// Where.
    pub source: String,
    /// What shows it.
    pub evidence: Option<String>,
}

/// Somebody must never be written to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuppressedLine {
    /// The person;
    pub who: Option<Who>,
    /// or the hash of an address.
    pub address: Option<String>,
    /// `*`: every one.
    pub channel: String,
    /// Why.
    pub reason: String,
    /// Where it came from.
    pub source: String,
    /// Whether transactional messages go all the same.
    pub spares_transactional: bool,
    /// Since when.
    pub at_ms: i64,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Line {
    /// A message became irrevocable.
    Armed(Box<ArmedLine>),
    /// An attempt ended.
    Settled {
        /// Of which row.
        delivery: String,
        /// Which.
        attempt: u32,
        /// `accepted rejected retry in_doubt`.
        outcome: String,
        /// Why.
        reason: String,
        /// The provider's id for it, or its reply.
        receipt: Option<String>,
        /// When.
        at_ms: i64,
    },
    /// Somebody gave or took back consent here.
    Consent(Box<ConsentLine>),
    /// Somebody must never be written to.
    Suppressed(Box<SuppressedLine>),
    /// A suppression was lifted.
    Lifted {
        /// The person;
        who: Option<Who>,
        /// or the hash of an address.
        address: Option<String>,
        /// `*`: the one for every one.
        channel: String,
        /// For which reason it was; `None`: for all of them.
        reason: Option<String>,
    },
    /// Somebody was erased.
    Erased {
        /// The keyed hash of their id.
        id_hash: String,
        /// When.
        at_ms: i64,
    },
    /// Nothing could be written for a while, before this line.
    Hole {
        /// Since the time of the first line that is missing.
        since_ms: i64,
        /// When it was written again.
        at_ms: i64,
    },
}

impl ArmedLine {
    /// What is to be known of an attempt that became irrevocable.
    pub fn of(delivery: &Delivery, who: Who, attempt: u32, address: &AddressHash, at: Timestamp) -> Self {
        let traits = &delivery.traits;
        Self {
            who,
            delivery: delivery.id.as_str().to_owned(),
            attempt,
            address: address.as_str().to_owned(),
            enrollment: delivery.enrollment.as_str().to_owned(),
            version: delivery.version.clone(),
            step: delivery.step.as_str().to_owned(),
            playbook: traits.playbook.as_str().to_owned(),
            traits: [
                traits.channel.as_str().to_owned(),
                traits.class.as_str().to_owned(),
                traits.purpose.as_str().to_owned(),
                traits.brand.as_str().to_owned(),
            ],
            destination: delivery.destination.as_str().to_owned(),
            template: delivery.template.as_str().to_owned(),
            content: delivery.content.as_ref().map(|content| content.as_str().to_owned()),
            priority: delivery.priority,
            times_ms: [delivery.created_at, delivery.due_at, delivery.expires_at].map(row::ms),
            at_ms: row::ms(at),
        }
    }

    /// The row as it was before that attempt; the person has this number now.
    ///
    /// # Errors
    /// [`StateError::Corrupt`]: a word that this binary does not know.
    pub fn delivery(&self, profile: ProfileNumber) -> Result<Delivery, StateError> {
        let [channel, class, purpose, brand] = &self.traits;
        let [created_at, due_at, expires_at] = self.times_ms;
        Ok(Delivery {
            id: DeliveryId::known(&self.delivery),
            enrollment: EnrollmentId::known(&self.enrollment),
            version: self.version.clone(),
            step: StepId::known(&self.step),
            profile,
            traits: Traits {
                channel: row::word(Channel::parse(channel), "a channel in the journal")?,
                class: row::word(MessageClass::parse(class), "a class in the journal")?,
                purpose: PurposeName::known(purpose),
                brand: BrandName::known(brand),
                playbook: PlaybookName::known(&self.playbook),
            },
            destination: DestinationName::known(&self.destination),
            template: TemplateName::known(&self.template),
            content: self.content.as_ref().map(ContentHash::known),
            priority: self.priority,
            state: DeliveryState::Pending,
            reason: Reason::OkDue,
            gates: Vec::new(),
            created_at: row::time(created_at)?,
            decided_at: row::time(created_at)?,
            due_at: row::time(due_at)?,
            expires_at: row::time(expires_at)?,
        })
    }
}

impl ConsentLine {
    /// The event, of whoever has this number now.
    ///
    /// # Errors
    /// [`StateError::Corrupt`]: a word that this binary does not know.
    pub fn event(&self, profile: ProfileNumber) -> Result<ConsentEvent, StateError> {
        Ok(ConsentEvent {
            profile,
            channel: row::channel(&self.channel)?,
            purpose: row::purpose(&self.purpose),
            status: row::word(ConsentStatus::parse(&self.status), "a consent in the journal")?,
            changed_at: row::time(self.changed_at_ms)?,
            recorded_at: row::time(self.at_ms)?,
            origin: ConsentOrigin::Local,
            source: self.source.clone(),
            evidence: self.evidence.clone(),
        })
    }
}

impl SuppressedLine {
    /// The suppression, of this subject.
    ///
    /// # Errors
    /// [`StateError::Corrupt`]: a word that this binary does not know.
    pub fn suppression(&self, subject: SuppressionSubject) -> Result<Suppression, StateError> {
        Ok(Suppression {
            subject,
            channel: row::channel(&self.channel)?,
            reason: row::reason(&self.reason)?,
            since: row::time(self.at_ms)?,
            source: self.source.clone(),
            spares_transactional: self.spares_transactional,
        })
    }
}

impl Line {
    /// When it happened, in milliseconds since 1970; of a suppression that was lifted nobody asks.
    pub fn at_ms(&self) -> i64 {
        match self {
            Self::Lifted { .. } => 0,
            Self::Armed(line) => line.at_ms,
            Self::Consent(line) => line.at_ms,
            Self::Suppressed(line) => line.at_ms,
            Self::Settled { at_ms, .. } | Self::Erased { at_ms, .. } | Self::Hole { at_ms, .. } => *at_ms,
        }
    }

    /// Whether somebody acts upon it as soon as it is written.
    fn is_urgent(&self) -> bool {
        !matches!(self, Self::Settled { .. })
    }
}

/// Where lines go.
pub(crate) struct Journal {
    folder: PathBuf,
    keys: OnceLock<Keys>,
    opened: Mutex<Opened>,
}

#[derive(Default)]
struct Opened {
    day: String,
    file: Option<File>,
    /// The time of the first line that could not be written, and why.
    missing: Option<(i64, String)>,
    is_said: bool,
}

impl Journal {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, keys: OnceLock::new(), opened: Mutex::default() }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Why it cannot be written, the first time that this is asked after.
    pub(crate) fn failure(&self) -> Option<String> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let why = opened.missing.as_ref().map(|(_, why)| why.clone()).filter(|_| !opened.is_said);
        opened.is_said |= why.is_some();
        why.map(|why| format!("{}: {why}", self.folder.display()))
    }

    /// Writes lines, and waits for the disk where one of them is urgent. What cannot be written is missed, and the next line says so: a message
    /// is not stopped by that, since the database has it.
    fn write(&self, lines: &[Line], day: &str) {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(first) = lines.first().map(Line::at_ms) else { return };
        match self.try_write(&mut opened, lines, day) {
            Ok(()) => opened.missing = None,
            Err(error) => {
                opened.file = None;
                let since = opened.missing.as_ref().map_or(first, |(since, _)| *since);
                if opened.missing.is_none() {
                    opened.is_said = false;
                }
                opened.missing = Some((since, error.to_string()));
            }
        }
    }

    fn try_write(&self, opened: &mut Opened, lines: &[Line], day: &str) -> std::io::Result<()> {
        if opened.file.is_none() || opened.day != day {
            opened.file = Some(self.open(day)?);
            day.clone_into(&mut opened.day);
        }
        let Some(file) = &mut opened.file else { return Ok(()) };
        let at_ms = lines.last().map_or(0, Line::at_ms);
        let hole = opened.missing.as_ref().map(|(since_ms, _)| Line::Hole { since_ms: *since_ms, at_ms });
        let mut text = Vec::new();
        for line in hole.iter().chain(lines) {
            // A map of texts and numbers cannot fail to be written.
            let json = serde_json::to_string(line).unwrap_or_default();
            writeln!(text, "{} {json}", check(&json))?;
        }
        // In one piece, at the end, whoever else writes: lines of two processes do not mix.
        file.write_all(&text)?;
        if lines.iter().any(Line::is_urgent) {
            file.sync_data()?;
        }
        Ok(())
    }

    fn open(&self, day: &str) -> std::io::Result<File> {
        std::fs::create_dir_all(&self.folder)?;
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(self.folder.join(format!("{day}.{ENDING}")))?;
        if file.metadata()?.len() > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                // A line was torn: what follows is not to be part of it.
                file.write_all(b"\n")?;
            }
        }
        // That the file is there must survive a power cut, too.
        File::open(&self.folder)?.sync_all()?;
        let written = file.metadata()?.modified()?;
        for old in files(&self.folder) {
            let since = std::fs::metadata(&old).and_then(|there| there.modified());
            if since.is_ok_and(|since| written.duration_since(since).is_ok_and(|age| age > KEPT)) {
                // It is tried again tomorrow.
                let _still_there = std::fs::remove_file(old);
            }
        }
        Ok(file)
    }
}

/// The day of a time, in UTC.
fn day_of(unix_ms: i64) -> String {
    let at = Timestamp::from_millisecond(unix_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    at.to_zoned(TimeZone::UTC).date().to_string()
}

fn check(json: &str) -> String {
    sha256_hex(json.as_bytes()).chars().take(CHECK_DIGITS).collect()
}

fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return BTreeSet::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(|path| path.extension().is_some_and(|ending| ending == ENDING)).collect()
}

/// What was read of a journal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Read {
    /// Lines that were good.
    pub lines: u64,
    /// Lines that were torn or changed.
    pub broken: u64,
}

/// Hands over what a folder's journal says, in the order in which it was written.
///
/// # Errors
/// A file cannot be read.
pub fn read(folder: &Path, mut take: impl FnMut(Line)) -> Result<Read, StateError> {
    let mut read = Read::default();
    for path in files(folder) {
        let failed = |source| StateError::File { operation: "read the journal", path: path.clone(), source };
        for line in BufReader::new(File::open(&path).map_err(failed)?).split(b'\n') {
            let line = line.map_err(failed)?;
            let known = std::str::from_utf8(&line).ok().and_then(|line| line.split_once(' '));
            let good = known.filter(|(digits, json)| check(json) == *digits);
            match good.and_then(|(_, json)| serde_json::from_str(json).ok()) {
                Some(line) => {
                    read.lines += 1;
                    take(line);
                }
                // Before what follows a torn line stands the end of that.
                None if line.is_empty() => {}
                None => read.broken += 1,
            }
        }
    }
    Ok(read)
}

impl Tx {
    /// Whether what happens is kept in a journal.
    pub fn is_journaled(&self) -> bool {
        self.journal.is_some()
    }

    /// Keeps a line, once this is committed.
    pub fn journal(&mut self, line: Line) {
        if self.is_journaled() {
            self.lines.push(line);
        }
    }

    /// From now on people are known by their hash in the journal.
    pub(crate) fn introduce(&self, keys: &Keys) {
        if let Some(journal) = &self.journal {
            // The first ones are the project's: they never change.
            let _known_already = journal.keys.set(keys.clone());
        }
    }

    /// A person, as the journal knows them.
    pub(crate) async fn who(&mut self, number: ProfileNumber) -> Result<Who, StateError> {
        let keys = self.journal.as_ref().and_then(|journal| journal.keys.get().cloned());
        let id = profile::ids_of(self, &[number]).await?.remove(&number);
        let id_hash = keys.zip(id).map(|(keys, id)| keys.id_hash(&id));
        Ok(Who { number: number.0, id_hash })
    }
}

/// Writes what a transaction left, which is committed.
pub(crate) async fn keep(journal: Arc<Journal>, lines: Vec<Line>) {
    // Its panic would be one of this room's own: then the lines are missing, and the database has all of them.
    // The day is the machine's, as its files are: when something happened in the campaign's time, a line says.
    let _written = tokio::task::spawn_blocking(move || journal.write(&lines, &day_of(unix_ms()))).await;
    model::fault::point("journal.after_append");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn erased(at_ms: i64) -> Line {
        Line::Erased { id_hash: format!("h{at_ms}"), at_ms }
    }

    fn all(folder: &Path) -> (Vec<Line>, Read) {
        let mut lines = Vec::new();
        let read = read(folder, |line| lines.push(line)).unwrap();
        (lines, read)
    }

    const DAY: &str = "2026-03-02";

    #[test]
    fn what_is_written_is_read_in_order_over_days_and_processes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("j");
        let (one, other) = (Journal::new(path.clone()), Journal::new(path.clone()));
        one.write(&[erased(1), erased(2)], DAY);
        other.write(&[erased(3)], DAY);
        one.write(&[erased(4)], "2026-03-03");
        other.write(&[erased(5)], "2026-03-03");
        let (lines, read) = all(&path);
        assert_eq!(lines, [1, 2, 3, 4, 5].map(erased));
        assert_eq!(read, Read { lines: 5, broken: 0 });
        assert_eq!(files(&path).len(), 2);
        assert_eq!(all(&folder.path().join("nowhere")).0, []);
        assert_eq!(day_of(1_772_409_600_000), DAY);
    }

    #[test]
    fn a_torn_or_changed_line_is_counted_and_the_others_stand() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::new(folder.path().to_owned());
        journal.write(&[erased(1), erased(2), erased(3)], DAY);
        let path = files(folder.path()).pop_first().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("h2", "h9")).unwrap();
        assert_eq!(all(folder.path()), (vec![erased(1), erased(3)], Read { lines: 2, broken: 1 }));
        std::fs::write(&path, &text[..text.len() - 4]).unwrap();
        Journal::new(folder.path().to_owned()).write(&[erased(4)], DAY);
        let left = vec![erased(1), erased(2), erased(4)];
        assert_eq!(all(folder.path()), (left, Read { lines: 3, broken: 1 }));
    }

    #[test]
    fn what_could_not_be_written_leaves_a_hole_that_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("j");
        std::fs::write(&path, "a file in the folder's place").unwrap();
        let journal = Journal::new(path.clone());
        journal.write(&[erased(1)], DAY);
        journal.write(&[erased(2)], DAY);
        assert!(journal.failure().is_some() && journal.failure().is_none(), "said once");
        std::fs::remove_file(&path).unwrap();
        journal.write(&[erased(3)], DAY);
        assert_eq!(journal.failure(), None);
        assert_eq!(all(&path).0, [Line::Hole { since_ms: 1, at_ms: 3 }, erased(3)]);
    }
}
