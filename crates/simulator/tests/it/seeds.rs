//! Which seeds a test plays, and on how many threads.

use std::fmt::Display;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Plays seeds `0..many` (or what the environment says) and fails with the failure of the lowest seed that fails.
pub(crate) fn each<E: Display + Send>(many: u64, play: impl Fn(u64) -> Result<(), E> + Sync) {
    if let Some(seed) = number("DRUMBEAT_SEED") {
        if let Err(failure) = play(seed) {
            panic!("\n{failure}");
        }
        return;
    }
    let many = number("DRUMBEAT_SEEDS").unwrap_or(many);
    let next = AtomicU64::new(0);
    let first: Mutex<Option<(u64, E)>> = Mutex::new(None);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= many || first.lock().unwrap().is_some() {
                        return;
                    }
                    if let Err(failure) = play(seed) {
                        let mut first = first.lock().unwrap();
                        if first.as_ref().is_none_or(|(known, _)| seed < *known) {
                            *first = Some((seed, failure));
                        }
                    }
                }
            });
        }
    });
    if let Some((_, failure)) = first.into_inner().unwrap() {
        panic!("\n{failure}");
    }
}

#[expect(clippy::disallowed_methods, reason = "a test that is run again by hand, or by the test of mutants")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
