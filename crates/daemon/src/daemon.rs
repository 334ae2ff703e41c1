//! What a daemon holds: the project, its state, where people come from, and how to reach destinations.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::{BREAKER_PAUSE, Breaker, Halts, Memberships, Version, World};
use jiff::{SignedDuration, Timestamp};
use message::Compiled;
use model::condition::SegmentTest;
use model::fault::mutant;
use model::playbook::Playbook;
use model::{
    DestinationName, PlaybookName, ProfileNumber, RateKey, Reason, Refusal, SegmentName, TemplateName,
};
use project::Project;
use roaring::RoaringBitmap;
use state::enrollment::Row;
use state::{Keys, Node, Question, State, StateError, Tx};

use crate::disk::Disk;
use crate::driver::Driver;
use crate::made::MadeProvider;
use crate::pump::rates::{self, Limit};
use crate::source::{Source, SourceError};

/// How a destination is reached.
#[derive(Debug, Clone)]
pub enum Carrier {
    /// Over the network, or into files.
    Driver(Arc<Driver>),
    /// A provider in memory; and the driver whose audiences are compared, and not changed.
    Made(Arc<dyn MadeProvider>, Option<Arc<Driver>>),
}

impl Carrier {
    /// Who knows what people are known by in audiences.
    pub fn names(&self) -> Option<&Arc<Driver>> {
        match self {
            Self::Driver(driver) => Some(driver),
            Self::Made(_, driver) => driver.as_ref(),
        }
    }
}

/// Why a pass could not be finished. What was committed stays; the next pass goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The state database failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// The warehouse failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A version that people are under way on cannot be read back.
    #[error("cannot read version {version} of playbook `{playbook}`: {why}")]
    Version {
        /// Which.
        version: String,
        /// Of which.
        playbook: PlaybookName,
        /// What is wrong with it.
        why: String,
    },
    /// A task ended before its work did.
    #[error("a task of the daemon ended before its work did")]
    Task(#[source] tokio::task::JoinError),
    /// An entry that was kept sealed cannot be opened.
    #[error("cannot open the sealed entry of an enrollment: the root key is not the one it was sealed with")]
    Sealed,
}

/// One version of a playbook, ready to decide and to render.
#[derive(Debug)]
pub struct Pinned {
    /// For the engine.
    pub version: Version,
    /// For messages.
    pub compiled: BTreeMap<TemplateName, Arc<Compiled>>,
    /// Whether it asks for a value of the person's account.
    pub reads_account: bool,
}

impl Pinned {
    fn new(playbook: Playbook, compiled: BTreeMap<TemplateName, Arc<Compiled>>) -> Self {
        let reads_account = crate::uses::reads_account(&playbook, &compiled);
        Self { version: Version::new(playbook), compiled, reads_account }
    }
}

/// What a daemon holds.
#[derive(Debug)]
pub struct Daemon {
    /// The project's files, checked.
    pub project: Arc<Project>,
    /// The state database.
    pub state: State,
    /// Where people come from.
    pub source: Source,
    /// The project's keys.
    pub keys: Arc<Keys>,
    /// How destinations are reached.
    pub carriers: BTreeMap<DestinationName, Carrier>,
    node: Mutex<Arc<Node>>,
    versions: Mutex<BTreeMap<String, Arc<Pinned>>>,
    halted: Mutex<BTreeMap<DestinationName, (Refusal, Timestamp)>>,
    breakers: Mutex<BTreeMap<DestinationName, Breaker>>,
    said: Mutex<BTreeSet<(PlaybookName, Reason)>>,
    held_runs: Mutex<BTreeSet<(PlaybookName, String)>>,
    disk: Option<Disk>,
    pub(crate) rates: BTreeMap<RateKey, Limit>,
}

/// A destination that refused our credentials, or may not be used from here, is left alone for so long.
const HALT_PAUSE: SignedDuration = SignedDuration::from_mins(5);

impl Daemon {
    /// Joins the parts.
    pub fn new(
        project: Arc<Project>,
        state: State,
        source: Source,
        keys: Arc<Keys>,
        carriers: BTreeMap<DestinationName, Carrier>,
        node: Node,
    ) -> Self {
        Self {
            rates: rates::of(&project.settings),
            project,
            state,
            source,
            keys,
            carriers,
            node: Mutex::new(Arc::new(node)),
            versions: Mutex::default(),
            halted: Mutex::default(),
            breakers: Mutex::default(),
            said: Mutex::default(),
            held_runs: Mutex::default(),
            disk: None,
        }
    }

    /// The same, which stops when the state's disk is almost full.
    #[must_use]
    pub fn minding_its_disk(mut self) -> Self {
        self.disk = self.state.folder().map(|folder| Disk::of(folder, self.project.settings.production));
        self
    }

    /// Why nothing more may be decided or handed over, if the disk of the state is almost full.
    pub fn disk_is_low(&self) -> Option<Refusal> {
        self.disk.as_ref()?.is_low()
    }

    /// Says that what goes out is not kept outside of the state, each time that this begins to be so.
    pub(crate) fn say_if_not_journaled(&self) {
        if let Some(why) = self.state.journal_failure() {
            tracing::error!(
                "The journal cannot be written ({why}): should the state be lost, nobody knows what goes out from now on."
            );
        }
    }

    /// Who we are, among those who deliver on this state.
    pub fn node(&self) -> Arc<Node> {
        Arc::clone(&lock(&self.node))
    }

    /// Becomes another one.
    pub fn becomes(&self, node: Node) {
        *lock(&self.node) = Arc::new(node);
    }

    /// Whether we are the node that decides.
    pub async fn leads(&self) -> Result<bool, StateError> {
        let mut tx = self.state.read().await?;
        state::node::leads(&mut tx, &self.node()).await
    }

    /// A transaction of who decides: of a tick.
    pub async fn deciding(&self) -> Result<Tx, StateError> {
        self.state.write_leading(&self.node()).await
    }

    /// The present version of a playbook of the project.
    pub async fn present(
        &self,
        tx: &mut Tx,
        playbook: &PlaybookName,
    ) -> Result<Option<Arc<Pinned>>, DaemonError> {
        let Some(found) = self.project.playbooks.get(playbook) else { return Ok(None) };
        let version = found.version.clone();
        self.pinned(tx, playbook, &version).await.map(Some)
    }

    /// A version of a playbook: the present one from the files, an older one from what state kept of it.
    pub async fn pinned(
        &self,
        tx: &mut Tx,
        playbook: &PlaybookName,
        version: &str,
    ) -> Result<Arc<Pinned>, DaemonError> {
        if let Some(pinned) = lock(&self.versions).get(version) {
            return Ok(Arc::clone(pinned));
        }
        let pinned = match self.project.playbooks.get(playbook).filter(|present| present.version == version) {
            Some(present) => Pinned::new(present.clone(), self.project.compiled.clone()),
            None => {
                let error = |why: String| DaemonError::Version {
                    version: version.to_owned(),
                    playbook: playbook.clone(),
                    why,
                };
                let bundle = state::playbook::version(tx, playbook, version)
                    .await?
                    .ok_or_else(|| error("it is not in the state".to_owned()))?;
                let read = project::from_bundle(&self.project, &bundle).map_err(error)?;
                Pinned::new(read.playbook, read.compiled)
            }
        };
        let pinned = Arc::new(pinned);
        lock(&self.versions).insert(version.to_owned(), Arc::clone(&pinned));
        Ok(pinned)
    }

    /// The versions that these enrollments are on, by id.
    pub async fn versions_of(
        &self,
        tx: &mut Tx,
        rows: &[Row],
    ) -> Result<BTreeMap<String, Arc<Pinned>>, DaemonError> {
        let mut versions = BTreeMap::new();
        for Row { enrollment, .. } in rows {
            if let Entry::Vacant(version) = versions.entry(enrollment.version.clone()) {
                let pinned = self.pinned(tx, &enrollment.playbook, version.key()).await?;
                version.insert(pinned);
            }
        }
        Ok(versions)
    }

    /// Leaves a destination alone for a while; how long.
    pub fn halt_destination(
        &self,
        destination: &DestinationName,
        refusal: Refusal,
        now: Timestamp,
    ) -> SignedDuration {
        self.leave_alone(destination, refusal, HALT_PAUSE, now);
        HALT_PAUSE
    }

    fn leave_alone(
        &self,
        destination: &DestinationName,
        refusal: Refusal,
        pause: SignedDuration,
        now: Timestamp,
    ) {
        let until = now.checked_add(pause).unwrap_or(now);
        lock(&self.halted).insert(destination.clone(), (refusal, until));
    }

    /// One more try at a destination: whether it failed for a cause that has nothing to do with the message. Where most do, it is left alone
    /// for a while. `Some`: that begins now.
    pub fn tried(&self, destination: &DestinationName, failed: bool, now: Timestamp) -> Option<Refusal> {
        // What was under way when it was left alone says nothing new.
        if self.halted_destinations(now).contains_key(destination) || mutant("breaker_shut") {
            return None;
        }
        let opens = lock(&self.breakers).entry(destination.clone()).or_default().tried(failed);
        let (many, of) = opens?;
        let refusal =
            Refusal { reason: Reason::BreakerOpen, saw: format!("{many} of the last {of} tries failed") };
        self.leave_alone(destination, refusal.clone(), BREAKER_PAUSE, now);
        Some(refusal)
    }

    /// How many rows may be tried at a destination at once; `None`: any number.
    pub fn probes(&self, destination: &DestinationName) -> Option<u32> {
        lock(&self.breakers).get(destination).and_then(Breaker::allows)
    }

    /// The destinations that are left alone now, and why.
    pub fn halted_destinations(&self, now: Timestamp) -> BTreeMap<DestinationName, (Refusal, Timestamp)> {
        let mut halted = lock(&self.halted);
        halted.retain(|_, (_, until)| *until > now);
        halted.clone()
    }

    /// Whether this is said of a playbook for the first time by this process.
    pub fn says_first(&self, playbook: &PlaybookName, reason: Reason) -> bool {
        lock(&self.said).insert((playbook.clone(), reason))
    }

    /// Remembers that a run was held for a playbook, so that it is said once and not at every tick.
    pub fn remember_hold(&self, playbook: &PlaybookName, run_id: &str) {
        lock(&self.held_runs).insert((playbook.clone(), run_id.to_owned()));
    }

    /// Whether a run was held for a playbook before, by this process.
    pub fn was_held(&self, playbook: &PlaybookName, run_id: &str) -> bool {
        lock(&self.held_runs).contains(&(playbook.clone(), run_id.to_owned()))
    }

    /// Playbooks in the order in which they decide: highest priority first, then by name.
    pub fn playbooks_by_priority(&self) -> Vec<&Playbook> {
        let mut playbooks: Vec<_> = self.project.playbooks.values().collect();
        playbooks.sort_by(|left, right| {
            right.priority.cmp(&left.priority).then_with(|| left.name.cmp(&right.name))
        });
        playbooks
    }
}

/// Memberships as they are now, with the stays that conditions ask for.
#[derive(Debug, Default)]
pub struct Members {
    /// Who is in each segment.
    pub now: BTreeMap<SegmentName, RoaringBitmap>,
    /// Who has been in it for so long.
    pub stays: BTreeMap<(SegmentName, SignedDuration), RoaringBitmap>,
}

impl Memberships for Members {
    fn contains(&self, segment: &SegmentName, profile: ProfileNumber) -> bool {
        self.now.get(segment).is_some_and(|members| members.contains(profile.0))
    }

    fn contains_for(&self, segment: &SegmentName, profile: ProfileNumber, at_least: SignedDuration) -> bool {
        self.stays.get(&(segment.clone(), at_least)).is_some_and(|members| members.contains(profile.0))
    }
}

/// The world of one pass: what is the same for everybody.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// Memberships.
    pub members: Arc<Members>,
    /// Halts and pauses.
    pub halts: Halts,
}

impl Surroundings {
    /// Reads memberships, and the stays that anything in the project asks for.
    pub async fn read(tx: &mut Tx, project: &Project, now: Timestamp) -> Result<Self, StateError> {
        let mut members = Members::default();
        for name in project.segments.keys() {
            if let Some(current) = state::segment::current(tx, name).await? {
                members.now.insert(name.clone(), current.members);
            }
        }
        for (name, at_least) in stays_asked_for(project) {
            let stay = state::segment::members_for(tx, &name, at_least, now).await?;
            members.stays.insert((name, at_least), stay);
        }
        Ok(Self { members: Arc::new(members), halts: tx.ask(halts()).await? })
    }

    /// The engine's view of it.
    pub fn world<'a>(&'a self, project: &'a Project) -> World<'a> {
        World {
            project: &project.settings.project,
            zone: &project.settings.timezone,
            policy: &project.policy,
            memberships: self.members.as_ref(),
            halts: &self.halts,
        }
    }
}

/// What is halted, and which playbooks are paused?
pub fn halts() -> Question<Halts> {
    state::control::halts().and(state::playbook::paused()).map(|(halted, paused)| {
        let mut halts = Halts::default();
        for halt in halted {
            match halt.scope {
                state::control::HaltScope::All => halts.all = true,
                state::control::HaltScope::Destination(name) => {
                    halts.destinations.insert(name);
                }
                state::control::HaltScope::Playbook(name) => {
                    halts.playbooks.insert(name);
                }
            }
        }
        halts.playbooks.extend(paused);
        Ok(halts)
    })
}

fn stays_asked_for(project: &Project) -> Vec<(SegmentName, SignedDuration)> {
    let playbooks = project.playbooks.values().flat_map(Playbook::conditions);
    let segments = project.segments.values().filter_map(|segment| match &segment.source {
        model::segment::SegmentSource::Where(condition) => Some(condition),
        model::segment::SegmentSource::Sql(_) => None,
    });
    let mut stays: Vec<_> = playbooks
        .chain(segments)
        .flat_map(model::condition::Condition::segments)
        .filter_map(|(name, test)| match test {
            SegmentTest::MemberFor(at_least) => Some((name.clone(), at_least)),
            SegmentTest::Member | SegmentTest::NotMember => None,
        })
        .collect();
    stays.sort();
    stays.dedup();
    stays
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
