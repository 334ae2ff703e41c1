//! The machine a daemon runs on: it opens the state, makes passes, and dies where the seed says.
//!
//! A process is one thread with one runtime. It dies by unwinding from a failpoint; then the runtime goes, with every task and
//! transaction that was under way in it, and a new process opens the same file and takes over.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use daemon::made::MadeWorld;
use daemon::nodes::{TakeOver, take_over};
use daemon::report::Ticked;
use daemon::run::{Passed, Silent, run_once};
use daemon::source::Source;
use daemon::tick::{Refresh, tick};
use daemon::{Carrier, Daemon, DaemonError};
use jiff::Timestamp;
use model::{DestinationName, Secret};
use project::Project;
use state::{Access, Keys, RootKey, State, StateError};
use tokio::runtime::Runtime;

use super::provider::Provider;
use crate::rules::DESTINATION;

/// Where a process may die.
pub(super) const POINTS: &[&str] = &[
    "segment.before_commit",
    "segment.after_commit",
    "enter.before_commit",
    "enter.after_commit",
    "page.before_commit",
    "page.after_commit",
    "claim.before_commit",
    "claim.after_commit",
    "arm.before_commit",
    "arm.after_commit",
    "settle.before",
    "settle.before_commit",
    "settle.after_commit",
];

/// Of these, those at which what else was under way does not hang on the scheduling of threads.
pub(super) const STEADY_POINTS: usize = 11;

/// Where and when a process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Death {
    /// At which point.
    pub(super) point: &'static str,
    /// At the how-manieth pass of it, from 1.
    pub(super) pass: u64,
}

/// What came of a pass.
pub(super) enum Pass<T> {
    /// It went to its end.
    Done(T),
    /// The process died in it.
    Died,
}

/// The outside of a process, which stays when it dies.
pub(super) struct Outside {
    pub(super) project: Arc<Project>,
    pub(super) world: Arc<MadeWorld>,
    pub(super) provider: Arc<Provider>,
}

/// One process.
pub(super) struct Machine {
    pub(super) daemon: Arc<Daemon>,
    runtime: Runtime,
}

/// Any key will do, so long as it is the same after a restart.
const ROOT_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

impl Machine {
    /// Starts a process on the state in a folder, and takes over what an earlier one left.
    pub(super) fn start(outside: &Outside, dir: &Path, now: Timestamp) -> Result<Self, DaemonError> {
        let failed = |source| StateError::File { operation: "make a runtime", path: dir.to_owned(), source };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let daemon = runtime.block_on(async {
            let state = State::open(&Secret::new("sqlite://state.db"), dir, Access::Create).await?;
            let node = state.join("simulator").await?;
            let mut tx = state.write().await?;
            let keys = Keys::load_or_create(&mut tx, &RootKey::parse(ROOT_KEY)?, now).await?;
            tx.commit().await?;
            let carrier = Carrier::Made(outside.provider.clone(), None);
            let daemon = Arc::new(Daemon::new(
                Arc::clone(&outside.project),
                state,
                Source::Made(Arc::clone(&outside.world)),
                Arc::new(keys),
                BTreeMap::from([(DestinationName::known(DESTINATION), carrier)]),
                node,
            ));
            take_over(&daemon, TakeOver::All, now).await?;
            Ok::<_, DaemonError>(daemon)
        })?;
        outside.provider.process_is(true);
        Ok(Self { daemon, runtime })
    }

    /// Does something with the state.
    pub(super) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// One tick.
    pub(super) fn tick(&self, refresh: Refresh, now: Timestamp) -> Result<Pass<Ticked>, DaemonError> {
        let daemon = Arc::clone(&self.daemon);
        self.pass(async move { tick(&daemon, refresh, now).await })
    }

    /// One pump; how many rows it claimed.
    pub(super) fn pump(&self, now: Timestamp) -> Result<Pass<u64>, DaemonError> {
        let daemon = Arc::clone(&self.daemon);
        self.pass(async move { Ok(daemon::pump::pump(&daemon, now, now).await?.claimed) })
    }

    /// One whole pass with a clock that shows another time whenever it is read.
    pub(super) fn run_once(&self, now: impl Fn() -> Timestamp) -> Result<Pass<Passed>, DaemonError> {
        let daemon = Arc::clone(&self.daemon);
        self.pass(async move { run_once(&daemon, now(), now, &Silent).await })
    }

    fn pass<T>(&self, work: impl Future<Output = Result<T, DaemonError>>) -> Result<Pass<T>, DaemonError> {
        // What the unwinding leaves behind is thrown away with the runtime.
        let ended = catch_unwind(AssertUnwindSafe(|| self.runtime.block_on(work)));
        match ended {
            Err(death) if death.is::<Ended>() => Ok(Pass::Died),
            Err(defect) => resume_unwind(defect),
            // A task died: the pass around it noticed.
            Ok(Err(DaemonError::Task(_))) => Ok(Pass::Died),
            Ok(Err(error)) => Err(error),
            Ok(Ok(done)) => Ok(Pass::Done(done)),
        }
    }
}

/// What a process that dies unwinds with.
struct Ended;

/// Lets the process of this thread die there; `true` in what is returned: it has.
pub(super) fn doom(death: Death, provider: Arc<Provider>) -> Arc<AtomicBool> {
    let died = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&died);
    let mut passes = 0;
    let watcher = move |point: &'static str| {
        if point != death.point || seen.load(Ordering::SeqCst) {
            return;
        }
        passes += 1;
        if passes == death.pass {
            seen.store(true, Ordering::SeqCst);
            provider.process_is(false);
            resume_unwind(Box::new(Ended));
        }
    };
    model::fault::watch(Some(Box::new(watcher)));
    died
}

/// Nobody dies any more.
pub(super) fn spare() {
    model::fault::watch(None);
}
