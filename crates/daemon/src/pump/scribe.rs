//! The one task of a pass that writes: last looks and results together, as they come.
//!
//! A transaction costs much the same whatever is in it. So it takes whatever waits when the last one is committed, and while there
//! are connections with a message in hand that have not come to the point of no return, it waits for them, a moment at most: a slow
//! server holds up nobody. Results are written before the last look, which therefore sees them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::armer::{self, Request};
use super::settler::{self, Job};
use crate::clock;
use crate::daemon::{Daemon, DaemonError, Members};

/// How long a transaction waits for more: little beside what a mail server takes, much beside what comes from one nearby.
const PATIENCE: Duration = Duration::from_millis(2);

/// The task.
pub(super) struct Scribe {
    arming: armer::Handle,
    settling: settler::Handle,
    task: JoinHandle<Result<(), DaemonError>>,
}

impl Scribe {
    pub(super) fn start(daemon: Arc<Daemon>, members: Arc<Members>, now: Timestamp) -> Self {
        let (arming, mut requests) = mpsc::channel(armer::BATCH_MAX);
        let (settling, mut jobs) = mpsc::channel(settler::BATCH_MAX);
        let under_way = Arc::new(AtomicUsize::new(0));
        let all = Arc::clone(&under_way);
        let task = tokio::spawn(async move {
            while let Some((requests, jobs)) = next(&mut requests, &mut jobs, &under_way).await {
                write(&daemon, &members, requests, &jobs, now).await?;
            }
            Ok(())
        });
        Self {
            arming: armer::Handle { sender: arming, under_way: all },
            settling: settler::Handle { sender: settling, now },
            task,
        }
    }

    /// A way to ask for the last look.
    pub(super) fn armer(&self) -> armer::Handle {
        self.arming.clone()
    }

    /// A way to hand in results.
    pub(super) fn settler(&self) -> settler::Handle {
        self.settling.clone()
    }

    pub(super) async fn finish(self) -> Result<(), DaemonError> {
        drop((self.arming, self.settling));
        self.task.await.map_err(DaemonError::Task)?
    }
}

/// What waits, once anything does, and what comes soon; `None` when nobody is left to ask.
async fn next(
    requests: &mut mpsc::Receiver<Request>,
    jobs: &mut mpsc::Receiver<Job>,
    under_way: &AtomicUsize,
) -> Option<(Vec<Request>, Vec<Job>)> {
    let (mut asked, mut done) = (Vec::new(), Vec::new());
    take(requests, jobs, &mut asked, &mut done).await;
    if asked.is_empty() && done.is_empty() {
        return None;
    }
    let patience = clock::sleep(PATIENCE);
    tokio::pin!(patience);
    loop {
        let is_full = asked.len() >= armer::BATCH_MAX || done.len() >= settler::BATCH_MAX;
        if is_full || under_way.load(Ordering::SeqCst) <= asked.len() {
            break;
        }
        tokio::select! {
            biased;
            () = take(requests, jobs, &mut asked, &mut done) => {}
            () = &mut patience => break,
        }
    }
    Some((asked, done))
}

/// Takes what waits, once anything does.
async fn take(
    requests: &mut mpsc::Receiver<Request>,
    jobs: &mut mpsc::Receiver<Job>,
    asked: &mut Vec<Request>,
    done: &mut Vec<Job>,
) {
    tokio::select! {
        biased;
        count = requests.recv_many(asked, armer::BATCH_MAX) => {
            if count == 0 {
                jobs.recv_many(done, settler::BATCH_MAX).await;
            }
        }
        count = jobs.recv_many(done, settler::BATCH_MAX) => {
            if count == 0 {
                requests.recv_many(asked, armer::BATCH_MAX).await;
            }
        }
    }
    while asked.len() < armer::BATCH_MAX
        && let Ok(request) = requests.try_recv()
    {
        asked.push(request);
    }
    while done.len() < settler::BATCH_MAX
        && let Ok(job) = jobs.try_recv()
    {
        done.push(job);
    }
}

/// Answers that could not be written are tried again so often: a deadlock, or a connection that broke. They are facts, and writing them
/// twice changes nothing.
const SETTLE_AGAIN: u32 = 3;

async fn write(
    daemon: &Daemon,
    members: &Arc<Members>,
    requests: Vec<Request>,
    jobs: &[Job],
    now: Timestamp,
) -> Result<(), DaemonError> {
    let written = write_once(daemon, members, requests, jobs, now).await;
    for _ in 0..SETTLE_AGAIN {
        if written.is_ok() || jobs.is_empty() {
            break;
        }
        if write_once(daemon, members, Vec::new(), jobs, now).await.is_ok() {
            // What was to be armed is not, or nobody knows: the next pass sees to that.
            return written;
        }
    }
    written
}

async fn write_once(
    daemon: &Daemon,
    members: &Arc<Members>,
    requests: Vec<Request>,
    jobs: &[Job],
    now: Timestamp,
) -> Result<(), DaemonError> {
    let (arming, settling) = (!requests.is_empty(), !jobs.is_empty());
    let mut tx = daemon.state.write().await?;
    armer::lock(&mut tx, &requests, &settler::dead(jobs)).await?;
    if settling {
        settler::write(daemon, &mut tx, jobs, now).await?;
        model::fault::point("settle.before_commit");
    }
    let armed = if arming { armer::arm(daemon, &mut tx, members, &requests, now).await? } else { Vec::new() };
    if arming {
        model::fault::point("arm.before_commit");
    }
    tx.commit().await?;
    daemon.say_if_not_journaled();
    if settling {
        model::fault::point("settle.after_commit");
    }
    armer::answer(requests, &armed);
    Ok(())
}
