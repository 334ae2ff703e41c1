//! The two loops: one pass that ends (`run --once`), and the daemon that does not.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use model::fault::mutant;
use model::{DeliveryState, Reason};
use state::delivery::DeliveryKey;
use tokio::sync::watch;

use crate::clock::{self, Clock};
use crate::daemon::{Daemon, DaemonError};
use crate::metrics::Metrics;
use crate::pump::pump;
use crate::report::{Pumped, Ticked};
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
    let LeftBehind { orphans, poison } = take_over(daemon, as_of).await?;
    remember_tick(daemon, as_of).await?;
    let mut passed = Passed { as_of, orphans, ..Passed::default() };
    passed.ticked.warnings.extend(poison);
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
            let worked = pumped.claimed > 0;
            idle &= !worked;
            passed.pumped.add(pumped);
            progress.pumped(&passed.pumped);
            if !worked {
                break;
            }
        }
        if idle {
            break;
        }
    }
    state::audit::seal(&daemon.state, &daemon.keys, &daemon.project.settings.project).await?;
    Ok(passed)
}

fn merge(all: &mut Ticked, one: Ticked) {
    all.segments.extend(one.segments);
    all.holds.extend(one.holds);
    all.warnings.extend(one.warnings);
    all.moved += one.moved;
    all.next = one.next;
    all.decisions.merge(&one.decisions);
    for (playbook, decisions) in one.by_playbook {
        all.by_playbook.entry(playbook).or_default().merge(&decisions);
    }
}

/// What a process that ended left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftBehind {
    /// Rows that are in doubt.
    pub orphans: u64,
    /// What is to be said of rows that it, and others before it, died with.
    pub poison: Vec<String>,
}

/// Takes over from an earlier process, whose lock we now hold: its leases are void, and what it had armed is in doubt.
pub async fn take_over(daemon: &Daemon, now: Timestamp) -> Result<LeftBehind, DaemonError> {
    let mut tx = daemon.state.write().await?;
    let poison = state::outbox::void_leases(&mut tx, now).await?;
    for key in &poison {
        let body = serde_json::json!({
            "delivery": key.id.as_str(), "state": DeliveryState::Rejected.as_str(), "reason": Reason::FailPoison.as_str(),
        });
        state::audit::append(&mut tx, &[state::audit::Entry { kind: "poison", at: now, body }]);
    }
    let orphans = state::outbox::armed_without_owner(&mut tx, now).await?.len() as u64;
    if orphans > 0 {
        let body = serde_json::json!({ "rows": orphans, "why": "armed by a process that ended before it knew the answer" });
        state::audit::append(&mut tx, &[state::audit::Entry { kind: "in_doubt", at: now, body }]);
    }
    tx.commit().await?;
    let told = |key: &DeliveryKey| {
        format!(
            "delivery {} is not sent: {} processes died with it in hand; see `drumbeat log --state rejected`",
            key.id,
            state::outbox::DEATHS_MAX
        )
    };
    Ok(LeftBehind { orphans, poison: poison.iter().map(told).collect() })
}

/// The key of the time of the last tick.
pub const LAST_TICK: &str = "last_tick_ms";

async fn remember_tick(daemon: &Daemon, now: Timestamp) -> Result<(), DaemonError> {
    let mut tx = daemon.state.write().await?;
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
/// The log's tree grows so often.
const SEAL_EVERY: Duration = Duration::from_secs(1);
/// A failed pass is tried again after so long.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// The daemon: ticks and pumps until told to stop, then finishes what is handed over and returns.
pub async fn serve(
    daemon: Arc<Daemon>,
    clock: Clock,
    metrics: Arc<Metrics>,
    stop: watch::Receiver<bool>,
) -> Result<(), DaemonError> {
    let LeftBehind { orphans, poison } = take_over(&daemon, clock.now()).await?;
    for told in poison {
        tracing::error!("{told}");
    }
    if orphans > 0 {
        tracing::warn!(
            orphans,
            "{orphans} deliveries are in doubt: an earlier run ended before it knew the answer. See `drumbeat in-doubt list`."
        );
    }
    metrics.ready(true);
    // Side by side in one task: deciding yields at every page, and what is handed over has tasks of its own.
    let (ticked, pumped, sealed) = tokio::join!(
        ticking(Arc::clone(&daemon), clock, Arc::clone(&metrics), stop.clone()),
        pumping(Arc::clone(&daemon), clock, Arc::clone(&metrics), stop.clone()),
        sealing(Arc::clone(&daemon), stop),
    );
    metrics.ready(false);
    ticked.and(pumped).and(sealed)?;
    state::audit::seal(&daemon.state, &daemon.keys, &daemon.project.settings.project).await?;
    Ok(())
}

/// Waits so long, or until told to stop; true: told.
async fn pause(duration: Duration, stop: &mut watch::Receiver<bool>) -> bool {
    if *stop.borrow() {
        return true;
    }
    tokio::select! {
        () = clock::sleep(duration) => *stop.borrow(),
        changed = stop.changed() => changed.is_err() || *stop.borrow(),
    }
}

async fn ticking(
    daemon: Arc<Daemon>,
    clock: Clock,
    metrics: Arc<Metrics>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), DaemonError> {
    let mut failures = 0;
    loop {
        let now = clock.now();
        let wait = match tick(&daemon, Refresh::Due, now).await {
            Ok(ticked) => {
                failures = 0;
                log_tick(&ticked);
                metrics.ticked(&ticked);
                if !ticked.segments.is_empty() {
                    remember_tick(&daemon, now).await?;
                }
                ticked.next.map_or(LOOK_EVERY, |next| clock.until(next)).min(LOOK_EVERY)
            }
            Err(error) => fail(&mut failures, "A tick", error)?,
        };
        if pause(wait, &mut stop).await {
            return Ok(());
        }
    }
}

async fn pumping(
    daemon: Arc<Daemon>,
    clock: Clock,
    metrics: Arc<Metrics>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), DaemonError> {
    let mut failures = 0;
    loop {
        let now = clock.now();
        let wait = match pump(&daemon, now, now).await {
            Ok(pumped) => {
                failures = 0;
                log_pump(&pumped);
                metrics.pumped(&pumped);
                if pumped.claimed > 0 { Duration::ZERO } else { LOOK_EVERY }
            }
            Err(error) => fail(&mut failures, "A pump", error)?,
        };
        if pause(wait, &mut stop).await {
            return Ok(());
        }
    }
}

async fn sealing(daemon: Arc<Daemon>, mut stop: watch::Receiver<bool>) -> Result<(), DaemonError> {
    loop {
        if let Err(error) =
            state::audit::seal(&daemon.state, &daemon.keys, &daemon.project.settings.project).await
        {
            tracing::error!(error = %crate::stage::refresh::chain(&error), "The audit log could not be sealed; it is tried again.");
        }
        if pause(SEAL_EVERY, &mut stop).await {
            return Ok(());
        }
    }
}

fn fail(failures: &mut u32, what: &str, error: DaemonError) -> Result<Duration, DaemonError> {
    *failures += 1;
    tracing::error!(error = %crate::stage::refresh::chain(&error), failures, "{what} failed ({failures} in a row); what was committed stays.");
    if *failures >= FAILURES_MAX { Err(error) } else { Ok(AFTER_FAILURE) }
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

fn log_pump(pumped: &Pumped) {
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
