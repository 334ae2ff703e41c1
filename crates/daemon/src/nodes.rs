//! Life among other nodes: joining, telling the rest that one lives, burying the dead and taking over what they had in hand, leaving. See
//! `state::node` for what a node may.

use std::convert::Infallible;

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
use crate::lateness;
use crate::metrics::Metrics;
use crate::run::{AFTER_FAILURE, pause};

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
    /// What is to be said of messages that are overdue, since nobody ran for long.
    pub overdue: Option<String>,
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
    let (mut failed_over, mut overdue) = (None, None);
    if which != TakeOver::Dead {
        failed_over = recognise(daemon, &mut tx, now).await?;
        overdue = lateness::after_a_gap(daemon, &mut tx, now).await?;
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
    Ok(LeftBehind { buried, orphans, poison: poison.iter().map(told).collect(), failed_over, overdue })
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
                 messages that went out since would go again. `drumbeat reconcile` puts in what the journals know; then lift this"
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

/// Joins the nodes, unless it has, and takes over from the dead, as soon as the database can be reached. `false`: told to stop.
pub(crate) async fn settle_in(
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
pub(crate) enum Lived {
    /// The process is told to stop.
    Told,
    /// The others believe it dead, or could.
    Buried,
}

/// Tells the other nodes that this one lives, and buries those that do not. Ends the loops when it is told to, or buried, and goes on
/// until they have ended.
pub(crate) async fn living(
    daemon: &Daemon,
    clock: Clock,
    metrics: &Metrics,
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
        look_at_clock(daemon, metrics, lease / 3).await;
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

/// A clock that differs from the database's by more than this is said.
const SKEW_MAX_MS: i64 = 2_000;

/// Compares this machine's clock with Postgres': campaign time is the machine's, and the nodes should agree on it. Nothing that is promised
/// depends on it.
async fn look_at_clock(daemon: &Daemon, metrics: &Metrics, at_most: std::time::Duration) {
    if !daemon.state.is_postgres() {
        return;
    }
    let asked = async {
        let mut tx = daemon.state.read().await?;
        daemon.state.lease_now(&mut tx).await
    };
    let Ok(Ok(database)) = tokio::time::timeout(at_most, asked).await else { return };
    let skew = Clock::system().now().as_millisecond().saturating_sub(database);
    if skew.abs() > SKEW_MAX_MS && metrics.skew_ms().abs() <= SKEW_MAX_MS {
        tracing::warn!(
            skew_ms = skew,
            "This machine's clock and the database's differ by {skew} ms: schedules and quiet hours follow this machine's."
        );
    }
    metrics.skewed(skew);
}

fn log_left_behind(LeftBehind { buried, orphans, poison, failed_over, overdue }: &LeftBehind) {
    if let Some(overdue) = overdue {
        tracing::error!("{overdue}.");
    }
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
