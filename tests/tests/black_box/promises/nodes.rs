//! Daemons that share a state, and what befalls them.

use std::fs::File;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use super::link::Link;
use super::stage::Stage;
use crate::support::free_port;

/// Nodes are taken for dead ten times sooner than elsewhere: after 1.5 seconds.
const HASTE: &str = "10";
pub const LEASE: Duration = Duration::from_millis(1_500);
/// A process answers by then, or has ended.
const PATIENCE: Duration = Duration::from_secs(30);

/// What happens to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
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
pub struct Nodes<'a> {
    stage: &'a Stage<'a>,
    begun: Instant,
    children: Vec<Child>,
    /// Where each answers recipients.
    ports: Vec<u16>,
    /// How far each machine's clock is off, in seconds.
    clocks: Vec<i64>,
    /// Each node's line to Postgres.
    links: Vec<Link>,
    /// Who stands still or has no line, and until when.
    still: Vec<(usize, Instant)>,
}

impl<'a> Nodes<'a> {
    /// So many, whose clocks are right.
    pub fn start(stage: &'a Stage<'a>, count: usize) -> Self {
        Self::with_clocks(stage, &vec![0; count])
    }

    /// One a clock, each so many seconds off.
    pub fn with_clocks(stage: &'a Stage<'a>, clocks: &[i64]) -> Self {
        let settings = stage.folder.read("drumbeat.yml");
        let serve = "serve: {admin: \"127.0.0.1:0\", public: {env: PUBLIC, default: \"127.0.0.1:0\"}}\n";
        let url = stage.url();
        let each_its_own = if stage.is_postgres() {
            settings.replace(&format!("\"{url}\""), &format!("{{env: STATE_URL, default: \"{url}\"}}"))
        } else {
            settings.clone()
        };
        assert_eq!(each_its_own != settings, stage.is_postgres());
        stage.folder.write("drumbeat.yml", &format!("{each_its_own}{serve}"));
        let links = clocks.iter().filter(|_| stage.is_postgres()).map(|_| Link::to(stage.port())).collect();
        let mut nodes = Self {
            stage,
            begun: Instant::now(),
            children: Vec::new(),
            ports: vec![0; clocks.len()],
            clocks: clocks.to_vec(),
            links,
            still: Vec::new(),
        };
        for node in 0..clocks.len() {
            let child = nodes.spawn(node);
            nodes.children.push(child);
        }
        nodes
    }

    pub fn count(&self) -> usize {
        self.children.len()
    }

    /// The time that the fastest clock shows: a state only goes forward, and so it is what is told to whoever begins.
    pub fn now(&self) -> String {
        let seconds = self.begun.elapsed().as_secs() + self.fastest().unsigned_abs();
        format!("2026-03-02T{:02}:{:02}:{:02}Z", 9 + seconds / 3_600, seconds / 60 % 60, seconds % 60)
    }

    fn fastest(&self) -> i64 {
        self.clocks.iter().copied().max().unwrap_or(0).max(0)
    }

    /// What they said.
    pub fn log(&self) -> String {
        self.stage.folder.read("nodes.log")
    }

    /// One more process.
    fn spawn(&mut self, node: usize) -> Child {
        let mut command = self.stage.folder.command(&["--now", &self.now(), "run"]);
        let log = File::options().create(true).append(true).open(self.stage.folder.path().join("nodes.log"));
        if let Some(link) = self.links.get(node) {
            let port = |port: u16| format!(":{port}/");
            let url = self.stage.url().replace(&port(self.stage.port()), &port(link.port));
            command.env("STATE_URL", url);
        }
        self.ports[node] = free_port();
        command.env("PUBLIC", format!("127.0.0.1:{}", self.ports[node]));
        command.env("DRUMBEAT_SKEW", (self.clocks[node] - self.fastest()).to_string());
        command.env("DRUMBEAT_HASTE", HASTE).stderr(log.unwrap());
        command.spawn().unwrap()
    }

    pub fn signal(&self, node: usize, signal: &str) {
        let id = self.children[node].id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success(), "kill {signal}");
    }

    /// Where a node answers recipients, once it does. One that could not begin, as its port was taken meanwhile, begins again.
    pub fn public(&mut self, node: usize) -> u16 {
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.ports[node])).is_err() {
            assert!(begun.elapsed() < PATIENCE, "{}", self.log());
            if self.children[node].try_wait().unwrap().is_some() {
                self.again(node);
            }
            std::thread::yield_now();
        }
        self.ports[node]
    }

    /// Waits until every node answers, and so ends as it should when it is told to.
    pub fn all_answer(&mut self) {
        for node in 0..self.count() {
            self.public(node);
        }
    }

    /// SIGKILL, at once.
    pub fn kill(&mut self, node: usize) {
        self.children[node].kill().unwrap();
    }

    /// SIGTERM; after how long it had ended, and how.
    pub fn terminate(&mut self, node: usize) -> (Duration, Option<i32>) {
        let begun = Instant::now();
        self.signal(node, "-TERM");
        let code = self.children[node].wait().unwrap().code();
        (begun.elapsed(), code)
    }

    /// Makes it happen, unless the node stands still; whether it did.
    pub fn suffer(&mut self, node: usize, fault: Fault) -> bool {
        if self.still.iter().any(|(still, _)| *still == node) {
            return false;
        }
        match fault {
            Fault::Dies => {
                self.kill(node);
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
    pub fn again(&mut self, node: usize) {
        self.children[node].wait().unwrap();
        let child = self.spawn(node);
        self.children[node] = child;
    }

    /// What a supervisor does: wakes who has stood still for long enough, and starts who has given up.
    pub fn watch(&mut self) {
        let now = Instant::now();
        let (wake, still) = std::mem::take(&mut self.still).into_iter().partition(|(_, until)| *until <= now);
        self.still = still;
        let wake: Vec<(usize, Instant)> = wake;
        for (node, _) in wake {
            self.signal(node, "-CONT");
            self.links[node].set(true);
        }
        for node in 0..self.count() {
            if self.children[node].try_wait().unwrap().is_some() {
                self.again(node);
            }
        }
    }

    /// Whether none of them stands still.
    pub fn are_up(&self) -> bool {
        self.still.is_empty()
    }
}

impl Nodes<'_> {
    /// They leave, as they are told to.
    pub fn end(&mut self) {
        for node in 0..self.count() {
            let (_, code) = self.terminate(node);
            assert_eq!(code, Some(0), "SIGTERM: {}", self.log());
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
