//! P5: five nodes on one Postgres, of which some die, some stand still or lose the way to it for three leases, some leave and come, some have
//! clocks that are an hour fast or slow, and all lose their connections to the database, which crashes now and then: no message goes twice,
//! none is lost, every doubt is listed, and in the end all is done.

use std::time::{Duration, Instant};

use super::derived;
use super::nodes::{Fault, Nodes};
use super::oracle::{self, Bounds, Found, look};
use super::provider::Provider;
use super::rates::no_window_has_more;
use super::record::{Tally, try_seeds};
use super::stage::{CONNECTIONS, Stage, Store};

const PEOPLE: usize = 3_000;
const NODES: usize = 5;
const FAULTS: u64 = 16;
/// How far the clocks of nodes are off, in hours: some are right.
const HOURS_OFF: [i64; 4] = [0, 0, 1, -1];
/// All is done by then, however the nodes were treated.
const PATIENCE: Duration = Duration::from_secs(120);

/// One seed: what the oracle found.
fn one(store: &Store, seed: u64, tally: &mut Tally) {
    let provider = Provider::start(seed);
    let stage = Stage::set(store, seed, provider.port, PEOPLE);
    let clocks: Vec<i64> =
        (0..NODES as u64).map(|node| HOURS_OFF[derived(seed, 400 + node) as usize % 4] * 3_600).collect();
    let mut nodes = Nodes::with_clocks(&stage, &clocks);
    let planned: Vec<(usize, Fault)> = (0..FAULTS)
        .map(|which| {
            let node = usize::try_from(derived(seed, 100 + which) % NODES as u64).unwrap();
            let fault = match derived(seed, 200 + which) % 20 {
                0..8 => Fault::Dies,
                8..12 => Fault::StandsStill,
                12..14 => Fault::LosesLink,
                14..17 => Fault::Leaves,
                17..19 => Fault::Disconnects,
                _ => Fault::PostgresCrashes,
            };
            (node, fault)
        })
        .collect();
    let mut suffered = 0;
    for (which, (node, fault)) in planned.iter().enumerate() {
        let pause = 50 + derived(seed, 300 + which as u64) % 500;
        provider.wait(u64::MAX, Duration::from_millis(pause));
        nodes.watch();
        suffered += u64::from(nodes.suffer(*node, *fault));
    }
    // Whatever has no answer yet, or is to be tried again only in minutes.
    let open = "select count(*) from delivery
        where state in ('leased', 'armed') or (state = 'pending' and reason <> 'fail.smtp_4xx')";
    let done =
        || stage.psql("select count(*) from delivery") == PEOPLE.to_string() && stage.psql(open) == "0";
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE && !(nodes.are_up() && done()) {
        nodes.watch();
        provider.wait(u64::MAX, Duration::from_millis(200));
    }
    let mut found = Vec::new();
    if !done() {
        found.push(Found::DoesNotEnd(nodes.log()));
    }
    for node in 0..NODES {
        let (_, code) = nodes.terminate(node);
        if code != Some(0) {
            found.push(Found::DoesNotEnd(format!("SIGTERM ends it with {code:?}: {}", nodes.log())));
        }
    }
    let count =
        |which: &dyn Fn(Fault) -> bool| planned.iter().filter(|(_, fault)| which(*fault)).count() as u64;
    let kills = count(&|fault| fault == Fault::Dies);
    let alone = count(&|fault| matches!(fault, Fault::Dies | Fault::StandsStill | Fault::LosesLink));
    let together =
        count(&|fault| matches!(fault, Fault::Disconnects | Fault::PostgresCrashes)) * NODES as u64;
    let doubts = (alone + together) * CONNECTIONS + provider.cut();
    let bounds = Bounds { people: PEOPLE, doubts, poison: kills >= 3, repeats: false };
    found.extend(look(&oracle::read(&stage), &provider.took(), bounds));
    oracle::must_see_what_is_planted(&oracle::read(&stage), &provider.took(), PEOPLE);
    let verified = stage.folder.run(&["audit", "verify"]);
    if verified.code != 0 {
        found.push(Found::Audit(verified.err));
    }
    tally.add(suffered, &format!("seed {seed}, clocks {clocks:?}, {planned:?}"), &found);
}

/// A seed of these takes as long as thirty of the others.
#[test]
fn five_nodes_that_die_and_stand_still_over_postgres() {
    try_seeds("P5", Store::postgres, 30, one);
}

/// P14: three nodes together use a destination no faster than one may.
#[test]
fn nodes_share_the_rate_of_a_destination() {
    const RATE: usize = 100;
    const BURST: usize = 10;
    let Some(store) = Store::postgres() else { return };
    let provider = Provider::start(1);
    let stage = Stage::set(&store, 1, provider.port, 1_000);
    let settings = stage.folder.read("drumbeat.yml");
    let throttled = format!("tls: none, throttle: {{rate: {RATE}/s, burst: {BURST}}}");
    stage.folder.write("drumbeat.yml", &settings.replace("tls: none", &throttled));
    let nodes = Nodes::start(&stage, 3);
    let begun = Instant::now();
    while provider.taken().len() < 450 {
        assert!(begun.elapsed() < PATIENCE, "{}", stage.folder.read("nodes.log"));
        provider.wait(u64::MAX, Duration::from_millis(50));
    }
    drop(nodes);
    let mut times: Vec<Instant> = provider.taken().iter().map(|taken| taken.ended).collect();
    times.sort_unstable();
    no_window_has_more(&times, RATE, BURST);
}
