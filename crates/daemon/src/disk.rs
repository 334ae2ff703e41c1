//! The disk of an SQLite state. When it is almost full nothing more is decided or handed over, so that answers and opt-outs can still be
//! written; and in production a file that holds space for them is let go when there is none left.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use model::fault::mutant;
use model::{Reason, Refusal};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use tokio::time::Instant;

use crate::daemon::lock;

/// Less than this is too little, on a disk that is larger than ten gigabytes,
const FREE_MIN: u64 = 512 << 20;
/// and on a smaller one less than this part of it.
const FREE_PART: u64 = 20;
/// What is held for answers and opt-outs: some hundred thousand of them.
const BALLAST: u64 = 64 << 20;
/// It is looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The disk that the state's file lies on.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    /// The file that holds space, in production.
    ballast: Option<PathBuf>,
    seen: Mutex<Option<(Instant, Option<Refusal>)>>,
    /// The file system cannot.
    cannot_hold: AtomicBool,
}

impl Disk {
    /// The disk of a folder; `holds_space`: keeps a file there that is let go in need.
    pub fn of(folder: &Path, holds_space: bool) -> Self {
        let ballast = holds_space.then(|| folder.join(".drumbeat-ballast"));
        Self {
            folder: folder.to_owned(),
            ballast,
            seen: Mutex::default(),
            cannot_hold: AtomicBool::new(false),
        }
    }

    /// Why nothing more may be decided or handed over, if it is almost full.
    pub fn is_low(&self) -> Option<Refusal> {
        let mut seen = lock(&self.seen);
        if let Some((at, low)) = &*seen
            && at.elapsed() < LOOK_EVERY
        {
            return low.clone();
        }
        let low = self.look();
        if low.is_some() && !matches!(&*seen, Some((_, Some(_)))) {
            tracing::error!(
                "The disk of the state is almost full: nothing more is decided or handed over until there is room."
            );
        }
        *seen = Some((Instant::now(), low.clone()));
        low
    }

    fn look(&self) -> Option<Refusal> {
        // A disk that cannot be asked is said to be full by whoever writes to it.
        let disk = statvfs(&self.folder).ok().filter(|_| !mutant("disk_unseen"))?;
        let (free, size) = (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize);
        let least = FREE_MIN.min(size / FREE_PART);
        if let Some(ballast) = &self.ballast {
            self.hold(ballast, free, least);
        }
        (free < least).then(|| Refusal {
            reason: Reason::DiskLow,
            saw: format!("{} MiB are free on the disk of the state, {} are needed", free >> 20, least >> 20),
        })
    }

    /// Lets the ballast go when there is next to nothing, and takes it up again when there is plenty.
    fn hold(&self, ballast: &Path, free: u64, least: u64) {
        let is_there = ballast.exists();
        if is_there && free < least / 8 {
            tracing::error!(
                "The disk of the state is full: the space that was held for answers and opt-outs is let go."
            );
            drop(std::fs::remove_file(ballast));
        } else if !is_there && !self.cannot_hold.load(Ordering::SeqCst) && free > 2 * least + BALLAST {
            let held = std::fs::File::create(ballast).map_err(|error| error.to_string()).and_then(|file| {
                fallocate(&file, FallocateFlags::empty(), 0, BALLAST).map_err(|error| error.to_string())
            });
            if let Err(error) = held {
                if !self.cannot_hold.swap(true, Ordering::SeqCst) {
                    tracing::warn!(error, "No space could be held for answers and opt-outs.");
                }
                drop(std::fs::remove_file(ballast));
            }
        }
    }
}
