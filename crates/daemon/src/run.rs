//! The two loops: one pass that ends (`run --once`), and the daemon that does not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use engine::Whose;
use jiff::Timestamp;
use model::Refusal;
use model::fault::mutant;
use state::StateError;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::{self, Clock};
use crate::daemon::{Daemon, DaemonError};
use crate::doubts::{self, Settled};
use crate::lateness::{self, Jumps};
use crate::mailbox;
use crate::metrics::Metrics;
use crate::nodes::{LeftBehind, Lived, TakeOver, leave, living, settle_in, take_over};
use crate::pump::pump;
use crate::push::push;
use crate::report::{Pumped, Pushed, Ticked};
use crate::tick::{Refresh, tick};

/// What a whole pass did.
#[derive(Debug, Clone, Default)]
pub struct Passed {
    /// When it began: the time its segments are as of.
    pub as_of: Timestamp,
    /// What was decided.
    pub ticked: Ticked,
    /// What was delivered.
    pub pumped: Pumped,
    /// What became of audiences.
    pub pushed: Pushed,
    /// Rows that a crash of an earlier run left in doubt, found on the way in.
    pub orphans: u64,
}

/// Told of what goes on, by a pass that takes long.
pub trait Progress: Send + Sync {
    /// A tick is done.
    fn ticked(&self, ticked: &Ticked);
    /// Some messages have been handed over.
    fn pumped(&self, so_far: &Pumped);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn ticked(&self, _ticked: &Ticked) {}
    fn pumped(&self, _so_far: &Pumped) {}
}

/// A claim that nobody settles within so many turns is a defect; the pass ends and says so rather than turn for ever.
const TURNS_MAX: usize = 100_000;

/// One pass: refresh every segment that never ran or was due since it did, decide, deliver until nothing is due.
///
/// Everything is decided as of one time, that at which it begins, so that a plan of that moment foretells it, however long the
/// providers take: what comes to be due meanwhile is the next pass's. Whether a message may still go is judged by the clock that `now` reads,
/// at the last look: quiet hours that begin meanwhile, an opt-out that comes, and a cap that counts what went meanwhile.
pub async fn run_once(
    daemon: &Arc<Daemon>,
    as_of: Timestamp,
    now: impl Fn() -> Timestamp,
    progress: &dyn Progress,
) -> Result<Passed, DaemonError> {
    let LeftBehind { orphans, poison, overdue, .. } = take_over(daemon, TakeOver::All, as_of).await?;
    if !daemon.leads().await? {
        return Err(StateError::AlreadyRunning.into());
    }
    if daemon.disk_is_low().is_none() {
        remember_tick(daemon, as_of).await?;
    }
    let mut passed = Passed { as_of, orphans, ..Passed::default() };
    passed.ticked.warnings.extend(poison.into_iter().chain(overdue));
    passed.ticked.warnings.extend(mailbox::read_all(daemon, as_of).await?);
    doubts::begin(daemon, as_of).await?;
    doubts::settle(daemon, as_of).await?;
    let mut refresh = Refresh::Due;
    for _ in 0..TURNS_MAX {
        // Follow-up turns look at those whose messages were settled; segments are refreshed once.
        let due_by = if mutant("pass_moves_on") { now() } else { as_of };
        let ticked = tick(daemon, refresh, due_by).await?;
        refresh = Refresh::None;
        progress.ticked(&ticked);
        let mut idle = ticked.moved == 0 && ticked.decisions.total() == 0;
        merge(&mut passed.ticked, ticked);
        loop {
            let pumped = pump(daemon, due_by, now()).await?;
            let worked = pumped.claimed > 0 || pumped.waits;
            idle &= !worked;
            passed.pumped.add(pumped);
            progress.pumped(&passed.pumped);
            if !worked {
                break;
            }
        }
        passed.pushed.add(push(daemon, now()).await?);
        if idle {
            break;
        }
    }
    state::audit::seal(&daemon.state, &daemon.keys, &daemon.project.settings.project).await?;
    Ok(passed)
}

fn merge(all: &mut Ticked, one: Ticked) {
    all.segments.extend(one.segments);
    all.syncs.extend(one.syncs);
    all.holds.extend(one.holds);
    all.warnings.extend(one.warnings);
    all.moved += one.moved;
    all.next = one.next;
    all.decisions.merge(&one.decisions);
    for (playbook, decisions) in one.by_playbook {
        all.by_playbook.entry(playbook).or_default().merge(&decisions);
    }
}

/// The key of the time of the last tick.
pub const LAST_TICK: &str = "last_tick_ms";

async fn remember_tick(daemon: &Daemon, now: Timestamp) -> Result<(), DaemonError> {
    let mut tx = daemon.deciding().await?;
    state::meta::set(&mut tx, LAST_TICK, &now.as_millisecond().to_string()).await?;
    tx.commit().await?;
    Ok(())
}

/// The time of the last tick in this state.
pub async fn last_tick(daemon: &Daemon) -> Result<Option<Timestamp>, DaemonError> {
    let mut tx = daemon.state.read().await?;
    let text = state::meta::get(&mut tx, LAST_TICK).await?;
    Ok(text.and_then(|text| Timestamp::from_millisecond(text.parse().ok()?).ok()))
}

/// Passes that may fail in a row before the daemon gives up and leaves it to its supervisor.
const FAILURES_MAX: u32 = 3;
/// A loop looks at least so often, whatever it believes to be next: a person may have changed something.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Mailboxes are looked into so often.
const MAIL_EVERY: Duration = Duration::from_secs(5);
/// The log's tree grows so often.
const SEAL_EVERY: Duration = Duration::from_secs(1);
/// Doubts are looked at so often.
const DOUBTS_EVERY: Duration = Duration::from_secs(10);
/// A failed pass is tried again after so long.
pub(crate) const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// The daemon: delivers, and ticks while it is the node that decides, until told to stop; then finishes what is handed over and
/// returns. Should the others bury it meanwhile, it finishes what is handed over and joins anew.
pub async fn serve(
    daemon: Arc<Daemon>,
    clock: Clock,
    metrics: Arc<Metrics>,
    name: &str,
    stop: watch::Receiver<bool>,
) -> Result<(), DaemonError> {
    let mut is_joined = true;
    while settle_in(&daemon, clock, name, is_joined, stop.clone()).await? {
        metrics.ready(true);
        let (end, ended) = watch::channel(false);
        let end = &end;
        // One that gives up takes the others with it: half a daemon is none.
        let giving_up = async |done: Result<(), DaemonError>| {
            if done.is_err() {
                end.send_replace(true);
            }
            done
        };
        // Side by side in one task: deciding yields at every page, and what is handed over has tasks of its own.
        let mut lived = Lived::Told;
        let work = async {
            tokio::join!(
                async { giving_up(ticking(&daemon, clock, &metrics, ended.clone()).await).await },
                async { giving_up(pumping(&daemon, clock, &metrics, ended.clone()).await).await },
                sealing(&daemon, ended.clone()),
                doubting(&daemon, clock, ended.clone()),
                async { giving_up(pushing(&daemon, clock, ended.clone()).await).await },
                reading(&daemon, clock, ended.clone()),
            )
        };
        let (ticked, pumped, sealed, doubted, pushed, ()) = tokio::select! {
            done = work => done,
            // It does not end by itself: as long as something is handed over, the others are to know that we live.
            never = living(&daemon, clock, &metrics, stop.clone(), end, &mut lived) => match never {},
        };
        metrics.ready(false);
        ticked.and(pumped).and(sealed).and(doubted).and(pushed)?;
        match lived {
            Lived::Told => {
                state::audit::seal(&daemon.state, &daemon.keys, &daemon.project.settings.project).await?;
                return leave(&daemon).await;
            }
            Lived::Buried => {
                tracing::warn!(
                    "The other nodes believe this one dead: its connection broke, or it stood still. It joins anew."
                );
                is_joined = false;
            }
        }
    }
    Ok(())
}

/// Waits so long, or until told to stop; true: told.
pub(crate) async fn pause(duration: Duration, stop: &mut watch::Receiver<bool>) -> bool {
    if *stop.borrow() {
        return true;
    }
    tokio::select! {
        () = clock::sleep(duration) => *stop.borrow(),
        changed = stop.changed() => changed.is_err() || *stop.borrow(),
    }
}

async fn ticking(
    daemon: &Arc<Daemon>,
    clock: Clock,
    metrics: &Metrics,
    mut stop: watch::Receiver<bool>,
) -> Result<(), DaemonError> {
    let (mut failures, mut alive) = (0, None);
    loop {
        let now = clock.now();
        let wait = match decide(daemon, &mut alive, now).await {
            Ok(None) | Err(DaemonError::State(StateError::NotLeading)) => {
                metrics.leads(false);
                LOOK_EVERY
            }
            Ok(Some(ticked)) => {
                metrics.leads(true);
                failures = 0;
                log_tick(&ticked);
                metrics.ticked(&ticked);
                ticked.next.map_or(LOOK_EVERY, |next| clock.until(next)).min(LOOK_EVERY)
            }
            Err(error) => fail(&mut failures, "A tick", error)?,
        };
        if pause(wait, &mut stop).await {
            return Ok(());
        }
    }
}

/// A tick, if it is this node that decides.
async fn decide(
    daemon: &Daemon,
    alive: &mut Option<Timestamp>,
    now: Timestamp,
) -> Result<Option<Ticked>, DaemonError> {
    if !daemon.leads().await? {
        return Ok(None);
    }
    *alive = lateness::alive(daemon, *alive, now).await?;
    let ticked = tick(daemon, Refresh::Due, now).await?;
    if !ticked.segments.is_empty() {
        remember_tick(daemon, now).await?;
    }
    Ok(Some(ticked))
}

async fn pumping(
    daemon: &Arc<Daemon>,
    clock: Clock,
    metrics: &Metrics,
    mut stop: watch::Receiver<bool>,
) -> Result<(), DaemonError> {
    let (mut failures, mut waiting) = (0, BTreeMap::new());
    let mut jumps = Jumps::from(clock.now(), Instant::now());
    loop {
        let now = clock.now();
        if let Some(jumped) = jumps.look(now, Instant::now()) {
            metrics.jumped();
            if let Err(error) = lateness::after_a_jump(daemon, jumped, now).await {
                let wait = fail(&mut failures, "Looking at what a jump of the clock made overdue", error)?;
                jumps = Jumps::from(now.checked_sub(jumped).unwrap_or(now), Instant::now());
                if pause(wait, &mut stop).await {
                    return Ok(());
                }
                continue;
            }
        }
        let wait = match pump(daemon, now, now).await {
            Ok(pumped) => {
                failures = 0;
                log_pump(&pumped, &waiting);
                waiting.clone_from(&pumped.waiting);
                metrics.pumped(&pumped);
                if pumped.claimed > 0 || pumped.waits { Duration::ZERO } else { LOOK_EVERY }
            }
            // What it was about to claim is the others' now; whoever tells them that we live finds that out, too.
            Err(DaemonError::State(StateError::Buried)) => LOOK_EVERY,
            Err(error) => fail(&mut failures, "A pump", error)?,
        };
        if pause(wait, &mut stop).await {
            return Ok(());
        }
    }
}

async fn sealing(daemon: &Daemon, mut stop: watch::Receiver<bool>) -> Result<(), DaemonError> {
    loop {
        let sealed = async {
            if daemon.leads().await? {
                state::audit::seal(&daemon.state, &daemon.keys, &daemon.project.settings.project).await?;
            }
            Ok::<(), StateError>(())
        };
        if let Err(error) = sealed.await {
            tracing::error!(error = %crate::stage::refresh::chain(&error), "The audit log could not be sealed; it is tried again.");
        }
        if pause(SEAL_EVERY, &mut stop).await {
            return Ok(());
        }
    }
}

/// Audiences and records have a loop of their own: a destination that is slow keeps no message waiting.
async fn pushing(daemon: &Daemon, clock: Clock, mut stop: watch::Receiver<bool>) -> Result<(), DaemonError> {
    let mut failures = 0;
    loop {
        let wait = match async {
            if !daemon.leads().await? {
                return Ok(Pushed::default());
            }
            push(daemon, clock.now()).await
        }
        .await
        {
            Ok(pushed) => {
                failures = 0;
                log_push(&pushed);
                LOOK_EVERY
            }
            Err(DaemonError::State(StateError::NotLeading)) => LOOK_EVERY,
            Err(error) => fail(&mut failures, "A push of audiences and records", error)?,
        };
        if pause(wait, &mut stop).await {
            return Ok(());
        }
    }
}

fn log_push(pushed: &Pushed) {
    for (at, report) in &pushed.audiences {
        tracing::info!(
            destination = %at.destination, audience = %at.name, added = report.added, removed = report.removed,
            rejected = report.rejected, unknown = report.unknown,
            "Audience `{}` at `{}`: {} added, {} removed, {} refused, {} unknown.", at.name, at.destination, report.added,
            report.removed, report.rejected, report.unknown
        );
    }
    for (sync, report) in &pushed.records {
        tracing::info!(
            sync = %sync, made = report.made, written = report.written, same = report.same, undone = report.undone, kept = report.kept,
            rejected = report.rejected, unknown = report.unknown,
            "Records of sync `{sync}`: {} made, {} written, {} as they are to be, {} undone, {} refused, {} unknown.", report.made,
            report.written, report.same, report.undone, report.rejected, report.unknown
        );
    }
}

/// Mail that comes back has a loop of its own. What cannot be read is said once, and tried again.
async fn reading(daemon: &Daemon, clock: Clock, mut stop: watch::Receiver<bool>) {
    let mut said = BTreeSet::new();
    loop {
        match mailbox::read_all(daemon, clock.now()).await {
            Ok(wrong) => {
                for one in wrong.iter().filter(|one| !said.contains(*one)) {
                    tracing::error!("{one}.");
                }
                said = wrong.into_iter().collect();
            }
            Err(error) => {
                tracing::warn!(error = %crate::stage::refresh::chain(&error), "Mail that came back could not be heard; it is read again.");
            }
        }
        if pause(MAIL_EVERY, &mut stop).await {
            return;
        }
    }
}

/// Doubts have a loop of their own: a provider that is asked may take its time.
async fn doubting(daemon: &Daemon, clock: Clock, mut stop: watch::Receiver<bool>) -> Result<(), DaemonError> {
    let mut has_begun = false;
    loop {
        let settled = async {
            if !daemon.leads().await? {
                return Ok(Settled::default());
            }
            if !has_begun {
                doubts::begin(daemon, clock.now()).await?;
                has_begun = true;
            }
            doubts::settle(daemon, clock.now()).await
        };
        match settled.await {
            Ok(Settled { found, again, twice, assumed }) if found + again + twice + assumed > 0 => {
                tracing::info!(
                    found,
                    again,
                    twice,
                    assumed,
                    "Of deliveries in doubt the provider has {found}, {again} are sent again, {twice} more although they may have arrived, and {assumed} are taken for accepted."
                );
            }
            Ok(_) | Err(DaemonError::State(StateError::NotLeading)) => {}
            Err(error) => {
                tracing::warn!(error = %crate::stage::refresh::chain(&error), "Doubts could not be looked at; it is tried again.");
            }
        }
        if pause(DOUBTS_EVERY, &mut stop).await {
            return Ok(());
        }
    }
}

fn fail(failures: &mut u32, what: &str, error: DaemonError) -> Result<Duration, DaemonError> {
    *failures += 1;
    tracing::error!(error = %crate::stage::refresh::chain(&error), failures, "{what} failed ({failures} in a row); what was committed stays.");
    let is_over = *failures >= FAILURES_MAX || matches!(error, DaemonError::State(StateError::FailedOver));
    if is_over { Err(error) } else { Ok(AFTER_FAILURE) }
}

fn log_tick(ticked: &Ticked) {
    for segment in &ticked.segments {
        match &segment.held {
            Some(held) => tracing::error!(
                segment = %segment.name, reason = held.reason.as_str(),
                "Held a run of segment `{}`: {}; its {} members stay.", segment.name, held.saw, segment.members
            ),
            None => tracing::info!(
                segment = %segment.name, members = segment.members, entered = segment.entered, left = segment.left,
                "Refreshed segment `{}`: {} members, {} came in, {} left.", segment.name, segment.members, segment.entered, segment.left
            ),
        }
    }
    for sync in &ticked.syncs {
        match &sync.held {
            Some(held) => tracing::error!(
                sync = %sync.sync, reason = held.reason.as_str(),
                "Sync `{}` holds those who leave, but for who opted out: {}; `drumbeat sync accept {}` lets them go.", sync.sync, held.saw, sync.sync
            ),
            None => {
                tracing::info!(sync = %sync.sync, wanted = sync.wanted, "Compared sync `{}`: {} are to be in {}.", sync.sync, sync.wanted, sync.at)
            }
        }
    }
    for hold in &ticked.holds {
        tracing::error!(playbook = %hold.playbook, reason = hold.refusal.reason.as_str(), "Held playbook `{}`: {}.", hold.playbook, hold.refusal.saw);
    }
    for warning in &ticked.warnings {
        tracing::warn!("{warning}");
    }
    let total = ticked.decisions.total();
    if total > 0 {
        tracing::info!(
            decisions = total,
            touches = ticked.decisions.touch,
            "Decided {total} touches, {} of them to go.",
            ticked.decisions.touch
        );
    }
}

fn log_pump(pumped: &Pumped, known_to_wait: &BTreeMap<Whose, Refusal>) {
    for (whose, refusal) in pumped.waiting.iter().filter(|(whose, _)| !known_to_wait.contains_key(whose)) {
        tracing::warn!(reason = refusal.reason.as_str(), "More of {whose} waits: {}.", refusal.saw);
    }
    if pumped.claimed > 0 {
        tracing::info!(
            accepted = pumped.accepted,
            rejected = pumped.rejected,
            in_doubt = pumped.in_doubt,
            retried = pumped.retried,
            "Delivered: {} accepted, {} rejected, {} to be tried again, {} in doubt.",
            pumped.accepted,
            pumped.rejected,
            pumped.retried,
            pumped.in_doubt
        );
    }
}
