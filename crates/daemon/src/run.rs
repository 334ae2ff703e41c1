//! The two loops: one pass that ends (`run --once`), and the daemon that does not.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use model::fault::mutant;
use model::{DeliveryState, Reason};
use state::control::{Halt, HaltScope};
use state::delivery::DeliveryKey;
use state::node::Buried;
use state::{Node, StateError, Tx};
use tokio::sync::watch;
use tokio::time::Instant;

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
    let LeftBehind { orphans, poison, .. } = take_over(daemon, TakeOver::All, as_of).await?;
    if !daemon.leads().await? {
        return Err(StateError::AlreadyRunning.into());
    }
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
            let worked = pumped.claimed > 0 || pumped.waits;
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

/// What nodes that are no more left behind.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct LeftBehind {
    /// Who they were.
    pub buried: Buried,
    /// Rows that are in doubt.
    pub orphans: u64,
    /// What is to be said of rows that their processes, and others before them, died with.
    pub poison: Vec<String>,
    /// Why everything is halted from now on, if Postgres failed over.
    pub failed_over: Option<String>,
}

/// Which nodes are taken over from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakeOver {
    /// On joining: whoever is not among the living, whenever that was noticed.
    All,
    /// The same, on joining anew: where a node lost its session others may have lost theirs, and nobody died of that.
    Anew,
    /// Later on: those who are found dead now.
    Dead,
}

/// Buries the dead: their leases are void, and what they had armed is in doubt.
pub async fn take_over(daemon: &Daemon, which: TakeOver, now: Timestamp) -> Result<LeftBehind, DaemonError> {
    let node = daemon.node();
    let mut tx = daemon.state.write().await?;
    let mut failed_over = None;
    if which != TakeOver::Dead {
        failed_over = recognise(daemon, &mut tx, now).await?;
        state::tally::drop_old(&mut tx, now).await?;
    }
    let lease_now = daemon.state.lease_now(&mut tx).await?;
    let mut buried = state::node::bury(&mut tx, &node, lease_now).await?;
    if which == TakeOver::Dead && buried.is_empty() {
        tx.rollback().await?;
        return Ok(LeftBehind::default());
    }
    if which == TakeOver::Anew {
        buried.stalled.append(&mut buried.died);
    }
    state::outbox::hold_orphans(&mut tx).await?;
    // Nobody dies of a row that stands still with it.
    state::outbox::release(&mut tx, &buried.stalled).await?;
    let poison = state::outbox::void_leases(&mut tx, now).await?;
    for key in &poison {
        let body = serde_json::json!({
            "delivery": key.id.as_str(), "state": DeliveryState::Rejected.as_str(), "reason": Reason::FailPoison.as_str(),
        });
        state::audit::append(&mut tx, &[state::audit::Entry { kind: "poison", at: now, body }]);
    }
    // Of the others only: what this node has armed is under way.
    let orphans = crate::pump::doubt(&mut tx, None, now).await?;
    tx.commit().await?;
    let told = |key: &DeliveryKey| {
        format!(
            "delivery {} is not sent: {} processes died with it in hand; see `drumbeat log --state rejected`",
            key.id,
            state::outbox::DEATHS_MAX
        )
    };
    Ok(LeftBehind { buried, orphans, poison: poison.iter().map(told).collect(), failed_over })
}

/// The key of the line of history that this state was on at the last start.
const IDENTITY: &str = "postgres_identity";

/// Stops everything if this is not the line of history that the last start was on: Postgres failed over, or was restored from a copy.
/// Messages may have gone out of which this state knows nothing, and would go again. A person looks, and lifts the halt.
async fn recognise(daemon: &Daemon, tx: &mut Tx, now: Timestamp) -> Result<Option<String>, DaemonError> {
    let Some(identity) = daemon.state.identity() else { return Ok(None) };
    let mut told = None;
    match state::meta::get(tx, IDENTITY).await? {
        Some(known) if known == identity => return Ok(None),
        None => {}
        Some(_) if mutant("failover_unseen") => {}
        Some(known) => {
            let reason = format!(
                "Postgres failed over or was restored (from {known} to {identity}): what it had committed last may be lost, and \
                 messages that went out since would go again. Compare the log with the provider's, then lift this"
            );
            let body = serde_json::json!({ "scope": "everything", "why": reason, "actor": "drumbeat" });
            // Whoever lifts a halt that was there before must read of this, too.
            let before =
                tx.ask(state::control::halts()).await?.into_iter().find(|halt| halt.scope == HaltScope::All);
            state::control::lift(tx, &HaltScope::All).await?;
            let reason_now = match before {
                Some(before) => {
                    format!("{reason}. Before that, {} halted it: {}", before.actor, before.reason)
                }
                None => reason.clone(),
            };
            let halt =
                Halt { scope: HaltScope::All, reason: reason_now, actor: "drumbeat".to_owned(), at: now };
            state::control::halt(tx, &halt).await?;
            state::audit::append(tx, &[state::audit::Entry { kind: "halt", at: now, body }]);
            told = Some(reason);
        }
    }
    state::meta::set(tx, IDENTITY, identity).await?;
    Ok(told)
}

/// Gives back what is in hand, and ends the node, as one that ends by itself does.
pub async fn leave(daemon: &Daemon) -> Result<(), DaemonError> {
    end(daemon, &daemon.node()).await
}

async fn end(daemon: &Daemon, node: &Node) -> Result<(), DaemonError> {
    let mut tx = daemon.state.write().await?;
    state::outbox::release(&mut tx, &[node.id().to_owned()]).await?;
    state::node::leave(&mut tx, node).await?;
    tx.commit().await?;
    Ok(())
}

/// Tells the other nodes that this one lives, as long as a pass runs.
///
/// # Errors
/// [`StateError::Buried`]: they believe it dead, and so the pass is of no use any more.
pub async fn keep_alive(daemon: &Daemon) -> StateError {
    let (lease, node) = (state::node::lease(), daemon.node());
    loop {
        clock::sleep(lease / 3).await;
        if let Ok(Err(error)) = tokio::time::timeout(lease / 3, node.beat()).await {
            return error;
        }
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
/// The log's tree grows so often.
const SEAL_EVERY: Duration = Duration::from_secs(1);
/// A failed pass is tried again after so long.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

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
            )
        };
        let (ticked, pumped, sealed) = tokio::select! {
            done = work => done,
            // It does not end by itself: as long as something is handed over, the others are to know that we live.
            never = living(&daemon, clock, stop.clone(), end, &mut lived) => match never {},
        };
        metrics.ready(false);
        ticked.and(pumped).and(sealed)?;
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

/// Joins the nodes, unless it has, and takes over from the dead, as soon as the database can be reached. `false`: told to stop.
async fn settle_in(
    daemon: &Daemon,
    clock: Clock,
    name: &str,
    mut is_joined: bool,
    mut stop: watch::Receiver<bool>,
) -> Result<bool, DaemonError> {
    loop {
        let settled = async {
            if is_joined {
                return take_over(daemon, TakeOver::All, clock.now()).await;
            }
            let before = daemon.node();
            daemon.becomes(daemon.state.join(name).await?);
            end(daemon, &before).await?;
            take_over(daemon, TakeOver::Anew, clock.now()).await
        };
        match settled.await {
            Ok(left) => {
                log_left_behind(&left);
                return Ok(true);
            }
            Err(error @ DaemonError::State(StateError::FailedOver)) => return Err(error),
            Err(error) => {
                tracing::error!(error = %crate::stage::refresh::chain(&error), "Joining the nodes failed; it is tried again.");
            }
        }
        is_joined = false;
        if pause(AFTER_FAILURE, &mut stop).await {
            return Ok(false);
        }
    }
}

/// Why the loops end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lived {
    /// The process is told to stop.
    Told,
    /// The others believe it dead, or could.
    Buried,
}

/// Tells the other nodes that this one lives, and buries those that do not. Ends the loops when it is told to, or buried, and goes on
/// until they have ended.
async fn living(
    daemon: &Daemon,
    clock: Clock,
    mut stop: watch::Receiver<bool>,
    end: &watch::Sender<bool>,
    lived: &mut Lived,
) -> Infallible {
    let (lease, node) = (state::node::lease(), daemon.node());
    let mut seen = Instant::now();
    loop {
        let told = *end.borrow() || pause(lease / 3, &mut stop).await;
        if told && !end.send_replace(true) {
            continue;
        }
        if told {
            clock::sleep(lease / 3).await;
        }
        match tokio::time::timeout(lease / 3, node.beat()).await {
            Ok(Ok(())) => seen = Instant::now(),
            Err(_) if seen.elapsed() <= lease => continue,
            Ok(Err(_)) | Err(_) => {
                *lived = Lived::Buried;
                end.send_replace(true);
                // Nobody is to be told anything any more.
                std::future::pending::<()>().await;
            }
        }
        let burial = take_over(daemon, TakeOver::Dead, clock.now());
        match tokio::time::timeout(lease / 3, burial).await {
            Ok(Ok(left)) => log_left_behind(&left),
            Ok(Err(error)) => {
                tracing::warn!(error = %crate::stage::refresh::chain(&error), "Whether other nodes are dead could not be asked; it is tried again.");
            }
            Err(_) => {}
        }
    }
}

fn log_left_behind(LeftBehind { buried, orphans, poison, failed_over }: &LeftBehind) {
    if let Some(why) = failed_over {
        tracing::error!("Everything is halted: {why}.");
    }
    for node in &buried.died {
        tracing::warn!(node, "Node {node} has died; what it had in hand is taken over.");
    }
    for node in &buried.stalled {
        tracing::warn!(node, "Node {node} was not seen for too long; what it had in hand is taken over.");
    }
    for told in poison {
        tracing::error!("{told}");
    }
    if *orphans > 0 {
        tracing::warn!(
            orphans,
            "{orphans} deliveries are in doubt: who had handed them over ended before the answer. See `drumbeat in-doubt list`."
        );
    }
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
    daemon: &Arc<Daemon>,
    clock: Clock,
    metrics: &Metrics,
    mut stop: watch::Receiver<bool>,
) -> Result<(), DaemonError> {
    let mut failures = 0;
    loop {
        let now = clock.now();
        let wait = match decide(daemon, now).await {
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
async fn decide(daemon: &Daemon, now: Timestamp) -> Result<Option<Ticked>, DaemonError> {
    if !daemon.leads().await? {
        return Ok(None);
    }
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
    let mut failures = 0;
    loop {
        let now = clock.now();
        let wait = match pump(daemon, now, now).await {
            Ok(pumped) => {
                failures = 0;
                log_pump(&pumped);
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
