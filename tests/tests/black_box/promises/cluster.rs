//! P5: five nodes on one Postgres, of which some die, some stand still or lose the way to it for three leases, some leave and come, and all
//! lose their connections to the database, which crashes now and then: no message goes twice, none is lost, every doubt is listed, and in the
//! end all is done.

use std::fs::File;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use super::derived;
use super::link::Link;
use super::oracle::{self, Bounds, Found, look};
use super::provider::Provider;
use super::record::{self, Tally};
use super::stage::{CONNECTIONS, Stage, Store};

const PEOPLE: usize = 3_000;
const NODES: usize = 5;
const FAULTS: u64 = 16;
/// Nodes are taken for dead ten times sooner than elsewhere: after 1.5 seconds.
const HASTE: &str = "10";
const LEASE: Duration = Duration::from_millis(1_500);
/// All is done by then, however the nodes were treated.
const PATIENCE: Duration = Duration::from_secs(120);

/// What happens to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// SIGKILL, and another process takes its place.
    Dies,
    /// SIGSTOP, for three leases.
    StandsStill,
    /// Nothing comes through between it and Postgres, for three leases; then everything that was said meanwhile does.
    LosesLink,
    /// SIGTERM, and another process takes its place.
    Leaves,
    /// Postgres ends every session there is.
    Disconnects,
    /// Postgres crashes, and comes back.
    PostgresCrashes,
}

/// The processes.
pub(super) struct Nodes<'a> {
    stage: &'a Stage<'a>,
    begun: Instant,
    children: Vec<Child>,
    /// Each node's line to Postgres.
    links: Vec<Link>,
    /// Who stands still or has no line, and until when.
    still: Vec<(usize, Instant)>,
}

impl<'a> Nodes<'a> {
    pub(super) fn start(stage: &'a Stage<'a>, count: usize) -> Self {
        let settings = stage.folder.read("drumbeat.yml");
        let serve = "serve: {admin: \"127.0.0.1:0\", public: \"127.0.0.1:0\"}\n";
        let url = stage.url();
        let each_its_own =
            settings.replace(&format!("\"{url}\""), &format!("{{env: STATE_URL, default: \"{url}\"}}"));
        assert_ne!(each_its_own, settings);
        stage.folder.write("drumbeat.yml", &format!("{each_its_own}{serve}"));
        let links = (0..count).map(|_| Link::to(stage.port())).collect();
        let mut nodes = Self { stage, begun: Instant::now(), children: Vec::new(), links, still: Vec::new() };
        for node in 0..count {
            let child = nodes.spawn(node);
            nodes.children.push(child);
        }
        nodes
    }

    /// One more process. A state only goes forward, and so each begins at the time that it is for the others.
    fn spawn(&self, node: usize) -> Child {
        let seconds = self.begun.elapsed().as_secs();
        let now = format!("2026-03-02T09:{:02}:{:02}Z", seconds / 60, seconds % 60);
        let mut command = self.stage.folder.command(&["--now", &now, "run"]);
        let log = File::options().create(true).append(true).open(self.stage.folder.path().join("nodes.log"));
        let port = |port: u16| format!(":{port}/");
        command.env(
            "STATE_URL",
            self.stage.url().replace(&port(self.stage.port()), &port(self.links[node].port)),
        );
        command.env("DRUMBEAT_HASTE", HASTE).stderr(log.unwrap());
        command.spawn().unwrap()
    }

    fn signal(&self, node: usize, signal: &str) {
        let id = self.children[node].id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success(), "kill {signal}");
    }

    /// Makes it happen, unless the node stands still; whether it did.
    fn suffer(&mut self, node: usize, fault: Fault) -> bool {
        if self.still.iter().any(|(still, _)| *still == node) {
            return false;
        }
        match fault {
            Fault::Dies => {
                self.children[node].kill().unwrap();
                self.again(node);
            }
            Fault::Leaves => {
                self.signal(node, "-TERM");
                self.again(node);
            }
            Fault::StandsStill => {
                self.signal(node, "-STOP");
                self.still.push((node, Instant::now() + 3 * LEASE));
            }
            Fault::LosesLink => {
                self.links[node].set(false);
                self.still.push((node, Instant::now() + 3 * LEASE));
            }
            Fault::Disconnects => {
                self.stage.psql(
                    "select count(pg_terminate_backend(pid)) from pg_stat_activity
                    where datname = current_database() and application_name = 'drumbeat'",
                );
            }
            Fault::PostgresCrashes => self.stage.crash_postgres(),
        }
        true
    }

    /// Another process takes the place of one that ends.
    fn again(&mut self, node: usize) {
        self.children[node].wait().unwrap();
        let child = self.spawn(node);
        self.children[node] = child;
    }

    /// What a supervisor does: wakes who has stood still for long enough, and starts who has given up.
    fn watch(&mut self) {
        let now = Instant::now();
        let (wake, still) = std::mem::take(&mut self.still).into_iter().partition(|(_, until)| *until <= now);
        self.still = still;
        let wake: Vec<(usize, Instant)> = wake;
        for (node, _) in wake {
            self.signal(node, "-CONT");
            self.links[node].set(true);
        }
        for node in 0..NODES {
            if self.children[node].try_wait().unwrap().is_some() {
                self.again(node);
            }
        }
    }
}

impl Nodes<'_> {
    /// They leave, as they are told to.
    pub(super) fn end(&mut self) {
        for node in 0..self.children.len() {
            self.signal(node, "-TERM");
            let code = self.children[node].wait().unwrap().code();
            assert_eq!(code, Some(0), "SIGTERM: {}", self.stage.folder.read("nodes.log"));
        }
    }
}

impl Drop for Nodes<'_> {
    fn drop(&mut self) {
        for child in &mut self.children {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// One seed: what the oracle found.
fn one(store: &Store, seed: u64, tally: &mut Tally) {
    let provider = Provider::start(seed);
    let stage = Stage::set(store, seed, provider.port, PEOPLE);
    let mut nodes = Nodes::start(&stage, NODES);
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
    while begun.elapsed() < PATIENCE && !(nodes.still.is_empty() && done()) {
        nodes.watch();
        provider.wait(u64::MAX, Duration::from_millis(200));
    }
    let log = || stage.folder.read("nodes.log");
    let mut found = Vec::new();
    if !done() {
        found.push(Found::DoesNotEnd(log()));
    }
    for node in 0..NODES {
        nodes.signal(node, "-TERM");
        let code = nodes.children[node].wait().unwrap().code();
        if code != Some(0) {
            found.push(Found::DoesNotEnd(format!("SIGTERM ends it with {code:?}: {}", log())));
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
    tally.add(suffered, &format!("seed {seed}, {planned:?}"), &found);
}

/// A seed of these takes as long as thirty of the others.
#[test]
fn five_nodes_that_die_and_stand_still_over_postgres() {
    let Some(store) = Store::postgres() else { return };
    let mut tally = Tally::new("P5", store.name());
    for seed in record::seeds().step_by(30) {
        one(&store, seed, &mut tally);
    }
    tally.done();
}

/// P14: three nodes together use a destination no faster than one may.
#[test]
fn nodes_share_the_rate_of_a_destination() {
    const RATE: usize = 100;
    const BURST: usize = 10;
    /// Turns are taken a second ahead: so many may come late, and then together with those after them.
    const AHEAD: usize = RATE;
    let Some(store) = Store::postgres() else { return };
    let provider = Provider::start(1);
    let stage = Stage::set(&store, 1, provider.port, 1_000);
    let settings = stage.folder.read("drumbeat.yml");
    let throttled = format!("tls: none, throttle: {{rate: {RATE}/s, burst: {BURST}}}");
    stage.folder.write("drumbeat.yml", &settings.replace("tls: none", &throttled));
    let nodes = Nodes::start(&stage, 3);
    let begun = Instant::now();
    while provider.times().len() < 450 {
        assert!(begun.elapsed() < PATIENCE, "{}", stage.folder.read("nodes.log"));
        provider.wait(u64::MAX, Duration::from_millis(50));
    }
    drop(nodes);
    let mut times = provider.times();
    times.sort_unstable();
    for (from, start) in times.iter().enumerate() {
        for seconds in 1..=3 {
            let end = *start + Duration::from_secs(seconds);
            let within = times[from..].iter().take_while(|time| **time < end).count();
            let most = RATE * usize::try_from(seconds).unwrap() + BURST + AHEAD;
            assert!(within <= most, "{within} in {seconds} s, {most} at most");
        }
    }
}
