//! A Postgres of one's own, to keep state in: as it comes, durable, and gone with its handle.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

use crate::{cost, process};

/// The shell waits for its standard input to close, which the kernel does however this process ends.
const START: &str = r#"
set -eu
mkdir -m 700 "$1"
trap '"$2/pg_ctl" -D "$1/data" -m fast stop >/dev/null 2>&1 || true; rm -rf "$1"' EXIT
"$2/initdb" -D "$1/data" -A trust -U postgres -E UTF8 --locale=C --no-sync >"$1/log" 2>&1
"$2/pg_ctl" -D "$1/data" -w -l "$1/log" -o "-p $3 -c listen_addresses=127.0.0.1 -c unix_socket_directories=" start >>"$1/log" 2>&1
head -n 1 "$1/data/postmaster.pid"
cat >/dev/null
"#;

pub(super) struct Server {
    bin: PathBuf,
    port: u16,
    /// The server's process.
    pid: u32,
    shell: Child,
}

impl Server {
    pub(super) fn start() -> Result<Self> {
        let bin = bin().context("Postgres is missing")?;
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.context("cannot find a free port")?.port();
        let folder = std::env::temp_dir().join(format!("drumbeat-bench-{}", std::process::id()));
        // Postgres refuses to run as root.
        let mut command = if process::output(Command::new("id").arg("-u"))?.trim() == "0" {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--", "sh"]);
            command
        } else {
            Command::new("sh")
        };
        command.args(["-c", START, "sh"]).arg(folder).arg(&bin).arg(port.to_string()).current_dir("/");
        let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        let told = shell.stdout.take().context("the shell has an output")?;
        BufReader::new(told).read_line(&mut line).context("cannot hear from Postgres")?;
        let pid = line.trim().parse().context("Postgres is there and does not start")?;
        Ok(Self { bin, port, pid, shell })
    }

    /// A new, empty database; its URL.
    pub(super) fn database(&self, name: &str) -> Result<String> {
        let port = self.port.to_string();
        let from = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres"];
        process::run(Command::new(self.bin.join("createdb")).args(from).args(["-T", "template0", name]))?;
        Ok(format!("postgres://postgres@127.0.0.1:{port}/{name}"))
    }

    /// CPU-seconds of all its processes since it started, those that have ended included.
    pub(super) fn cpu(&self) -> Result<f64> {
        let mut seconds = cost::seconds_with_children(self.pid)?;
        for entry in fs::read_dir("/proc").context("cannot list /proc")? {
            let Ok(pid) = entry?.file_name().to_string_lossy().parse::<u32>() else { continue };
            // One that ends meanwhile is counted with its parent's the next time.
            if cost::parent(pid) == Some(self.pid) {
                seconds += cost::seconds(pid).unwrap_or_default();
            }
        }
        Ok(seconds)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _gone_already = self.shell.wait();
    }
}

fn bin() -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.flatten().map(|entry| entry.path().join("bin")).collect())
        .unwrap_or_default();
    versions.sort();
    let on_path = process::find("initdb").and_then(|initdb| initdb.parent().map(PathBuf::from));
    let has_all = |folder: &PathBuf| {
        ["initdb", "pg_ctl", "createdb"].iter().all(|program| folder.join(program).is_file())
    };
    versions.into_iter().rev().chain(on_path).find(has_all)
}
