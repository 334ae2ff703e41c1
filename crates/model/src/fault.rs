//! Deliberate faults: mutants, which a test must catch, and failpoints, at which the process dies.
//!
//! Both exist only where debug assertions do. They are chosen by environment variables, so that one development build
//! runs them all: `DRUMBEAT_MUTANT=name`, and `DRUMBEAT_FAILPOINT=name` or `name:3` (at the third pass). And
//! `DRUMBEAT_POISON=ID` is a person whose message nobody can make and live, `DRUMBEAT_PANIC=ID` one whose message panics; with `DRUMBEAT_HASTE=10` nodes are taken for dead ten times
//! sooner, and with `DRUMBEAT_SKEW=-3600` the machine's clock is an hour slow.

/// Whether the mutant of that name is chosen. Constant `false` in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn mutant(_name: &'static str) -> bool {
    false
}

/// Does nothing in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn point(_name: &'static str) {}

/// Does nothing in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn poison(_who: &str) {}

/// Does nothing in a release build.
#[cfg(not(debug_assertions))]
pub fn watch(_watcher: Option<Watcher>) {}

/// The time itself.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn hastened(time: std::time::Duration) -> std::time::Duration {
    time
}

/// The clock is right.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn skew_seconds() -> i64 {
    0
}

/// Told the name of each failpoint that is passed.
pub type Watcher = Box<dyn FnMut(&'static str)>;

#[cfg(debug_assertions)]
pub use chosen::{hastened, mutant, point, poison, skew_seconds, watch};

#[cfg(debug_assertions)]
#[expect(
    clippy::disallowed_methods,
    reason = "the environment chooses the fault; nothing else does, and release builds have none of this"
)]
mod chosen {
    use std::cell::RefCell;
    use std::env;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    static MUTANT: OnceLock<Option<String>> = OnceLock::new();
    static FAILPOINT: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static POISON: OnceLock<Option<String>> = OnceLock::new();
    static PANIC: OnceLock<Option<String>> = OnceLock::new();
    static HASTE: OnceLock<Option<u32>> = OnceLock::new();
    static SKEW: OnceLock<Option<i64>> = OnceLock::new();
    static PASSES: AtomicU64 = AtomicU64::new(0);

    thread_local! {
        static WATCHER: RefCell<Option<super::Watcher>> = const { RefCell::new(None) };
    }

    /// From now on, `watcher` is told of every failpoint that this thread passes; `None`: nobody is. The simulator, whose whole
    /// process is one thread, ends it by unwinding from there.
    pub fn watch(watcher: Option<super::Watcher>) {
        WATCHER.set(watcher);
    }

    /// Whether the mutant of that name is chosen. Constant `false` in a release build.
    pub fn mutant(name: &'static str) -> bool {
        MUTANT.get_or_init(|| env::var("DRUMBEAT_MUTANT").ok()).as_deref() == Some(name)
    }

    /// A time, as many times shorter as `DRUMBEAT_HASTE` says.
    pub fn hastened(time: Duration) -> Duration {
        let haste = HASTE.get_or_init(|| env::var("DRUMBEAT_HASTE").ok()?.parse().ok());
        time / haste.unwrap_or(1).max(1)
    }

    /// How far the machine's clock is off, as `DRUMBEAT_SKEW` says: positive if it is fast.
    pub fn skew_seconds() -> i64 {
        SKEW.get_or_init(|| env::var("DRUMBEAT_SKEW").ok()?.parse().ok()).unwrap_or(0)
    }

    /// Panics if this is who `DRUMBEAT_PANIC` names. Ends the process at once if this is who `DRUMBEAT_POISON` names: a row that nobody can handle.
    pub fn poison(who: &str) {
        assert!(
            PANIC.get_or_init(|| env::var("DRUMBEAT_PANIC").ok()).as_deref() != Some(who),
            "as DRUMBEAT_PANIC wants it"
        );
        if POISON.get_or_init(|| env::var("DRUMBEAT_POISON").ok()).as_deref() == Some(who) {
            std::process::abort();
        }
    }

    /// Ends the process at once, as a power cut would, if this failpoint is chosen and was passed often enough.
    pub fn point(name: &'static str) {
        WATCHER.with_borrow_mut(|watcher| watcher.iter_mut().for_each(|watcher| watcher(name)));
        let chosen = FAILPOINT.get_or_init(|| {
            let text = env::var("DRUMBEAT_FAILPOINT").ok()?;
            let (name, pass) = text.split_once(':').unwrap_or((&text, "1"));
            Some((name.to_owned(), pass.parse().ok()?))
        });
        if let Some((chosen, pass)) = chosen
            && chosen == name
            && PASSES.fetch_add(1, Ordering::SeqCst) + 1 == *pass
        {
            std::process::abort();
        }
    }
}
