//! The same on Postgres: as the warehouse, and as the state.

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{
    Folder, NOW, SETTINGS, free_port, http, outbox, project, reachable, wait_for_port, warehouse_sql,
};

/// A private cluster, gone with the test.
pub struct Cluster {
    bin: PathBuf,
    dir: tempfile::TempDir,
    pub port: u16,
    /// Where the server that runs has its data.
    data: RefCell<String>,
}

impl Cluster {
    /// `None` where Postgres is not installed, which is said.
    pub fn start() -> Option<Self> {
        let Some(bin) = find() else {
            assert_ne!(
                std::env::var("DRUMBEAT_TEST_POSTGRES").as_deref(),
                Ok("required"),
                "Postgres is required here and not installed"
            );
            eprintln!("skipped: no Postgres");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let data = RefCell::new(dir.path().join("data").to_str().unwrap().to_owned());
        let cluster = Self { bin, dir, port: free_port(), data };
        if root() {
            assert!(
                Command::new("chown").arg("postgres").arg(cluster.dir.path()).status().unwrap().success()
            );
        }
        let data = cluster.data();
        cluster.program("initdb", &["-D", &data, "-A", "trust", "-U", "postgres", "--no-sync"]);
        cluster.start_server();
        Some(cluster)
    }

    fn data(&self) -> String {
        self.data.borrow().clone()
    }

    fn start_server(&self) {
        let (data, port) = (self.data(), self.port);
        let options =
            format!("-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off");
        self.program("pg_ctl", &["-D", &data, "-w", "-l", &format!("{data}/log"), "-o", &options, "start"]);
    }

    fn program(&self, name: &str, args: &[&str]) {
        let path = if name == "touch" { name.into() } else { self.bin.join(name) };
        let mut command = if root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(&path);
            command
        } else {
            Command::new(&path)
        };
        let output = command
            .args(args)
            .current_dir("/")
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(output.success(), "{name}");
    }

    /// Ends it as a crash does, and starts it again.
    pub fn crash(&self) {
        self.program("pg_ctl", &["-D", &self.data(), "-w", "-m", "immediate", "restart"]);
    }

    /// A standby as of now, which hears of nothing that comes later.
    pub fn stand_by(&self) -> String {
        let standby = self.dir.path().join("standby").to_str().unwrap().to_owned();
        let port = self.port.to_string();
        let from = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres"];
        self.program("pg_basebackup", &[&from[..], &["-D", &standby, "-X", "fetch", "-c", "fast"]].concat());
        self.program("touch", &[&format!("{standby}/standby.signal")]);
        standby
    }

    /// The server crashes, and the standby takes its place and its address.
    pub fn fail_over(&self, standby: String) {
        self.program("pg_ctl", &["-D", &self.data(), "-m", "immediate", "stop"]);
        *self.data.borrow_mut() = standby;
        self.start_server();
        self.program("pg_ctl", &["-D", &self.data(), "-w", "promote"]);
    }

    /// Where one of its databases is.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs statements on one of its databases.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        use std::io::Write as _;
        let mut child = Command::new("psql")
            .args(["-qAt", "-v", "ON_ERROR_STOP=1", &self.url(database)])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.program("pg_ctl", &["-D", &self.data(), "-m", "immediate", "stop"]);
    }
}

fn root() -> bool {
    Command::new("id").arg("-u").output().unwrap().stdout.starts_with(b"0")
}

fn find() -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).collect())
        .unwrap_or_default();
    folders.sort();
    folders.into_iter().rev().find(|folder| folder.join("initdb").exists())
}

#[test]
fn warehouse_and_state_in_postgres_do_what_sqlite_does() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.psql("postgres", "create database warehouse; create database state;");
    cluster.psql("warehouse", &format!("create schema app; set search_path = app; {}", warehouse_sql(200)));
    cluster.psql(
        "warehouse",
        "alter table app.consents alter column changed_at type timestamptz using changed_at::timestamptz;",
    );
    let folder = project(1);
    let settings = SETTINGS
        .replace("state: sqlite://state.db", &format!("state: \"{}\"", cluster.url("state")))
        .replace(
            "warehouse: {url: \"sqlite://warehouse.db\"}",
            &format!("warehouse: {{url: \"{}\", schema: app}}", cluster.url("warehouse")),
        );
    folder.write(
        "drumbeat.yml",
        &format!("{settings}destinations:\n  mail: {{connector: file, path: outbox}}\n"),
    );
    folder.run(&["check"]).code(0);
    let behind = folder.run(&["--now", NOW, "run", "--once"]).code(78);
    assert!(behind.err.contains("drumbeat migrate"), "{}", behind.err);
    folder.run(&["migrate"]).code(0);
    let plan = folder.run(&["--now", NOW, "--output", "json", "plan"]).code(0).json();
    let ran = folder.run(&["--now", NOW, "--output", "json", "run", "--once"]).code(0).json();
    assert_eq!(plan["decisions"], ran["decisions"]);
    assert_eq!(ran["deliveries"]["accepted"], reachable(200).len());
    assert_eq!(outbox(&folder).len(), reachable(200).len());
    let again = folder.run(&["--now", NOW, "--output", "json", "run", "--once"]).code(0).json();
    assert_eq!(again["deliveries"]["accepted"], 0);
    assert_eq!(folder.run(&["--output", "ndjson", "log"]).code(0).lines().len(), 200);
    folder.run(&["--now", NOW, "explain", "--profile", "7"]).code(0);
    killed(&folder, &cluster);
    folder.run(&["audit", "verify"]).code(0);
    cluster.psql("state", "alter table audit_batch disable trigger all; update audit_batch set payload = replace(payload, '\"outcome\":\"accepted\"', '\"outcome\":\"rejected\"') where number = (select max(number) from audit_batch where payload like '%\"outcome\":\"accepted\"%');");
    folder.run(&["audit", "verify"]).code(1);
}

/// A project whose state is in a database of that cluster, and the port of its daemon's admin pages.
fn project_on(cluster: &Cluster, people: usize) -> (Folder, u16) {
    cluster.psql("postgres", "create database state;");
    let folder = project(people);
    let state = format!("state: \"{}\"", cluster.url("state"));
    let settings = folder.read("drumbeat.yml").replace("state: sqlite://state.db", &state);
    let admin = free_port();
    let serve = format!("serve: {{admin: \"127.0.0.1:{admin}\", public: \"127.0.0.1:0\"}}\n");
    folder.write("drumbeat.yml", &format!("{settings}{serve}"));
    folder.run(&["migrate"]).code(0);
    (folder, admin)
}

/// P6: what was committed last is gone, and messages that went out meanwhile would go again.
#[test]
fn a_failover_that_lost_commits_stops_everything() {
    let Some(cluster) = Cluster::start() else { return };
    let (folder, admin) = project_on(&cluster, 100);
    folder.run(&["--now", "2026-03-01T23:00:00Z", "run", "--once"]).code(0);
    let standby = cluster.stand_by();
    folder.run(&["--now", NOW, "run", "--once"]).code(0);
    let sent = outbox(&folder).len();
    assert!(sent > 50, "{sent}");
    let log = folder.path().join("daemon.log");
    let mut command = folder.command(&["--now", NOW, "run"]);
    command.env("DRUMBEAT_HASTE", "10").stderr(std::fs::File::create(&log).unwrap());
    let mut daemon = command.spawn().unwrap();
    wait_for_port(admin);
    let begun = Instant::now();
    while http(admin, "GET", "/readyz", "").0 != 200 {
        assert!(begun.elapsed() < Duration::from_secs(30), "{}", folder.read("daemon.log"));
    }
    cluster.fail_over(standby);
    assert_eq!(daemon.wait().unwrap().code(), Some(1), "{}", folder.read("daemon.log"));
    assert!(folder.read("daemon.log").contains("Postgres failed over"), "{}", folder.read("daemon.log"));
    let held = folder.run(&["--now", NOW, "run", "--once"]);
    assert!(held.err.contains("everything is halted"), "{}{}", held.out, held.err);
    assert!(held.err.contains("`drumbeat reconcile`"), "{}", held.err);
    assert_eq!(outbox(&folder).len(), sent, "sent again");
    // The journal outlived the server.
    let told = folder.run(&["--now", NOW, "--output", "json", "reconcile"]).code(0).json();
    let count = |name: &str| usize::try_from(told[name].as_u64().unwrap()).unwrap();
    assert!(count("accepted") > 20, "{told}");
    assert_eq!(count("accepted") + count("known"), sent, "{told}");
    folder.run(&["--now", NOW, "halt", "--lift", "--reason", "reconciled"]).code(0);
    folder.run(&["--now", NOW, "run", "--once"]).code(0);
    assert_eq!(outbox(&folder).len(), sent, "sent again");
    folder.run(&["audit", "verify"]).code(0);
}

/// Killed at the second step, two days later, and again.
fn killed(folder: &Folder, _cluster: &Cluster) {
    let later = "2026-03-04T09:30:00Z";
    for point in ["claim.after_commit", "arm.before_commit", "settle.before:3", "settle.after_commit"] {
        let mut command = folder.command(&["--now", later, "run", "--once"]);
        command.env("DRUMBEAT_FAILPOINT", point);
        command.output().unwrap();
    }
    let last = folder.run(&["--now", later, "run", "--once"]);
    assert!(last.code == 0 || last.code == 5, "{}", last.err);
    let lines = outbox(folder);
    let mut ids: Vec<&str> = lines.iter().map(|line| line["delivery"].as_str().unwrap()).collect();
    ids.sort_unstable();
    let all = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), all, "sent twice");
}
