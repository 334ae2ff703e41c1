//! P1 and P2: killed at any point and at any instant, no message goes twice, none is lost, and every doubt is listed. P5 (`cluster`):
//! the same of five nodes on one Postgres. What else is promised and can be tried again and again has a file each.
//!
//! A run is a seed: a project of its own, a provider that counts what it takes and outlives what is killed, some processes that are
//! killed, one that ends by itself, and the oracle, which compares what the provider has with what the log says. How many seeds,
//! and from which: `DRUMBEAT_PROMISES=FROM..TO`. What came of it goes to the file that `DRUMBEAT_PROMISES_RECORD` names.

mod caps;
mod cluster;
mod copies;
mod link;
mod nodes;
mod opt_outs;
mod oracle;
mod provider;
mod rates;
mod record;
mod stage;
mod stops;
mod ticks;

use std::process::Stdio;
use std::time::Duration;

use self::oracle::{Bounds, Found, look};
use self::provider::Provider;
use self::record::{Tally, try_seeds};
use self::stage::{CONNECTIONS, Stage, Store};
use crate::support::NOW;

/// People in the warehouse of P1 and P2.
const PEOPLE: usize = 60;

/// Every failpoint on the way of a mail, and how often a run passes it, at least.
const POINTS: [(&str, u64); 18] = [
    ("segment.before_commit", 1),
    ("segment.after_commit", 1),
    ("enter.before_commit", 1),
    ("enter.after_commit", 1),
    ("page.before_commit", 1),
    ("page.after_commit", 1),
    ("claim.before_commit", 1),
    ("claim.after_commit", 1),
    ("connect.after", CONNECTIONS),
    ("smtp.before_arm", 30),
    ("arm.before_commit", 6),
    ("journal.after_append", 6),
    ("send.before_terminator", 30),
    ("send.after_terminator", 30),
    ("reply.after_read", 30),
    ("settle.before", 30),
    ("settle.before_commit", 6),
    ("settle.after_commit", 6),
];

/// The same on the way of a webhook.
const HOOK_POINTS: [(&str, u64); 14] = [
    ("segment.before_commit", 1),
    ("segment.after_commit", 1),
    ("enter.before_commit", 1),
    ("enter.after_commit", 1),
    ("page.before_commit", 1),
    ("claim.before_commit", 1),
    ("claim.after_commit", 1),
    ("http.before_arm", 30),
    ("arm.before_commit", 6),
    ("http.before_send", 30),
    ("http.after_reply", 30),
    ("settle.before", 30),
    ("settle.before_commit", 6),
    ("settle.after_commit", 6),
];

/// A number that looks drawn and is derived: what a seed means, part by part (SplitMix64).
fn derived(seed: u64, part: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ part.wrapping_mul(0xd1b5_4a32_d192_ed03);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// How a process is to end before its time.
#[derive(Debug, Clone, Copy)]
enum Death {
    /// At a failpoint, at its nth pass.
    At(&'static str, u64),
    /// By SIGKILL, once the provider has heard so many commands.
    Heard(u64),
    /// By SIGKILL, after so many milliseconds.
    After(u64),
}

impl Death {
    fn at_a_point(seed: u64, which: u64) -> Self {
        let place = derived(seed, 10 + which) % POINTS.len() as u64;
        let (point, passes) = POINTS[usize::try_from(place).unwrap()];
        Self::At(point, 1 + derived(seed, 20 + which) % passes)
    }

    fn at_a_point_of_a_hook(seed: u64, which: u64) -> Self {
        let place = derived(seed, 10 + which) % HOOK_POINTS.len() as u64;
        let (point, passes) = HOOK_POINTS[usize::try_from(place).unwrap()];
        Self::At(point, 1 + derived(seed, 20 + which) % passes)
    }

    fn at_an_instant(seed: u64, which: u64) -> Self {
        match derived(seed, 10 + which) % 2 {
            0 => Self::Heard(1 + derived(seed, 20 + which) % 200),
            _ => Self::After(1 + derived(seed, 20 + which) % 250),
        }
    }
}

/// Starts a run, and sees it die; whether it did.
fn kill(stage: &Stage<'_>, provider: &Provider, death: Death) -> bool {
    let mut command = stage.folder.command(&["--now", NOW, "run", "--once"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    if let Death::At(point, pass) = death {
        command.env("DRUMBEAT_FAILPOINT", format!("{point}:{pass}"));
    }
    let mut child = command.spawn().unwrap();
    match death {
        Death::At(..) => {}
        // Whichever comes first: a run that ends before is not waited for in vain.
        Death::Heard(count) => provider.wait(count, Duration::from_millis(400)),
        Death::After(millis) => provider.wait(u64::MAX, Duration::from_millis(millis)),
    }
    if !matches!(death, Death::At(..)) {
        // It may have ended by itself.
        drop(child.kill());
    }
    let code = child.wait().unwrap().code();
    !matches!(code, Some(0 | 5))
}

/// One seed: what the oracle found.
fn one(store: &Store, seed: u64, death: fn(u64, u64) -> Death, tally: &mut Tally) {
    let provider = Provider::start(seed);
    let stage = Stage::set(store, seed, provider.port, PEOPLE);
    let planned: Vec<Death> = (0..1 + derived(seed, 1) % 3).map(|which| death(seed, which)).collect();
    let killed = planned.iter().filter(|death| kill(&stage, &provider, **death)).count() as u64;
    let mut last = stage.folder.run(&["--now", NOW, "run", "--once"]);
    // A Postgres that has not noticed yet that its client is dead keeps its lock for it a moment.
    for _ in 0..100 {
        if !last.err.contains("has this state: stop it first") {
            break;
        }
        provider.wait(u64::MAX, Duration::from_millis(50));
        last = stage.folder.run(&["--now", NOW, "run", "--once"]);
    }
    let told = format!("seed {seed}, {planned:?}, then {} {}{}", last.code, last.out, last.err);
    let bounds = Bounds {
        people: PEOPLE,
        doubts: killed * CONNECTIONS + provider.cut(),
        poison: killed >= 3,
        repeats: false,
    };
    let mut found = if last.code == 0 || last.code == 5 {
        look(&oracle::read(&stage), &provider.took(), bounds)
    } else {
        vec![Found::DoesNotEnd(last.err)]
    };
    if seed % 50 == 0 {
        oracle::must_see_what_is_planted(&oracle::read(&stage), &provider.took(), PEOPLE);
        let verified = stage.folder.run(&["audit", "verify"]);
        if verified.code != 0 {
            found.push(Found::Audit(verified.err));
        }
    }
    tally.add(killed, &told, &found);
}

/// One seed over HTTP, to a provider that knows a message again: nothing has two effects, and in the end nothing is in doubt.
fn one_hook(store: &Store, seed: u64, death: fn(u64, u64) -> Death, tally: &mut Tally) {
    let provider = Provider::hook(seed);
    let stage = Stage::set(store, seed, provider.port, PEOPLE);
    stage.to_hook(provider.port);
    let planned: Vec<Death> = (0..1 + derived(seed, 1) % 3).map(|which| death(seed, which)).collect();
    let killed = planned.iter().filter(|death| kill(&stage, &provider, **death)).count() as u64;
    let mut found = Vec::new();
    // What got no answer is tried again within the hour.
    for hour in ["09", "10", "11"] {
        let now = format!("2026-03-02T{hour}:00:00Z");
        let mut ran = stage.folder.run(&["--now", &now, "run", "--once"]);
        for _ in 0..100 {
            if !ran.err.contains("has this state: stop it first") {
                break;
            }
            provider.wait(u64::MAX, Duration::from_millis(50));
            ran = stage.folder.run(&["--now", &now, "run", "--once"]);
        }
        if ran.code != 0 {
            found.push(Found::DoesNotEnd(format!("{}: {}{}", ran.code, ran.out, ran.err)));
        }
    }
    let bounds = Bounds { people: PEOPLE, doubts: 0, poison: killed >= 3, repeats: true };
    found.extend(look(&oracle::read(&stage), &provider.took(), bounds));
    tally.add(killed, &format!("seed {seed}, {planned:?}"), &found);
}

#[test]
fn killed_at_any_point_over_sqlite() {
    try_seeds("P1", Store::sqlite, 1, |store, seed, tally| one(store, seed, Death::at_a_point, tally));
}

#[test]
fn killed_at_any_point_over_postgres() {
    try_seeds("P1", Store::postgres, 1, |store, seed, tally| one(store, seed, Death::at_a_point, tally));
}

#[test]
fn killed_at_any_instant_over_sqlite() {
    try_seeds("P2", Store::sqlite, 1, |store, seed, tally| one(store, seed, Death::at_an_instant, tally));
}

#[test]
fn killed_at_any_instant_over_postgres() {
    try_seeds("P2", Store::postgres, 1, |store, seed, tally| one(store, seed, Death::at_an_instant, tally));
}

#[test]
fn killed_at_any_point_of_a_hook_over_sqlite() {
    try_seeds("P1 (HTTP)", Store::sqlite, 4, |store, seed, tally| {
        one_hook(store, seed, Death::at_a_point_of_a_hook, tally)
    });
}

#[test]
fn killed_at_any_point_of_a_hook_over_postgres() {
    try_seeds("P1 (HTTP)", Store::postgres, 4, |store, seed, tally| {
        one_hook(store, seed, Death::at_a_point_of_a_hook, tally)
    });
}

#[test]
fn killed_at_any_instant_of_a_hook_over_sqlite() {
    try_seeds("P2 (HTTP)", Store::sqlite, 4, |store, seed, tally| {
        one_hook(store, seed, Death::at_an_instant, tally)
    });
}
