//! The same on Postgres: as the warehouse, and as the state.

use std::path::PathBuf;
use std::process::Command;

use crate::support::{Folder, NOW, SETTINGS, free_port, outbox, project, reachable, warehouse_sql};

/// A private cluster, gone with the test.
pub struct Cluster {
    bin: PathBuf,
    dir: tempfile::TempDir,
    port: u16,
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
        let cluster = Self { bin, dir, port: free_port() };
        if root() {
            assert!(
                Command::new("chown").arg("postgres").arg(cluster.dir.path()).status().unwrap().success()
            );
        }
        let data = cluster.dir.path().join("data");
        let data = data.to_str().unwrap();
        cluster.program("initdb", &["-D", data, "-A", "trust", "-U", "postgres", "--no-sync"]);
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off",
            cluster.port
        );
        cluster.program("pg_ctl", &["-D", data, "-w", "-l", &format!("{data}/log"), "-o", &options, "start"]);
        Some(cluster)
    }

    fn program(&self, name: &str, args: &[&str]) {
        let path = self.bin.join(name);
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
        let data = self.dir.path().join("data");
        self.program("pg_ctl", &["-D", data.to_str().unwrap(), "-w", "-m", "immediate", "restart"]);
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
        let data = self.dir.path().join("data");
        self.program("pg_ctl", &["-D", data.to_str().unwrap(), "-m", "immediate", "stop"]);
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
