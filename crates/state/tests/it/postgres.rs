//! A private Postgres for tests: one cluster a test process, one database a test, all of it gone when the
//! process has ended.
//!
//! Looks for `initdb` in the PATH and below `/usr/lib/postgresql`; where there is none, tests of Postgres are
//! skipped and say so, or fail if `DRUMBEAT_TEST_POSTGRES=required`. The cluster is started by a shell that
//! waits for its standard input to close, which the kernel does however this process ends; it then stops the
//! server and removes the folder.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

const START: &str = r#"
set -eu
mkdir -m 700 "$1"
trap '"$2/pg_ctl" -D "$1/data" -m immediate stop >/dev/null 2>&1 || true; rm -rf "$1"' EXIT
"$2/initdb" -D "$1/data" -A trust -U postgres -E UTF8 --locale=C --no-sync >"$1/log" 2>&1
"$2/pg_ctl" -D "$1/data" -w -l "$1/log" -o "-p $3 -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off -c max_connections=300" start >>"$1/log" 2>&1
echo ready
cat >/dev/null
"#;

struct Server {
    bin: PathBuf,
    port: u16,
    /// Its standard input is open as long as this process lives.
    _shell: Child,
}

static SERVER: OnceLock<Option<Server>> = OnceLock::new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// The URL of a new, empty database; `None` where there is no Postgres.
pub(crate) fn new_database() -> Option<String> {
    let server = SERVER.get_or_init(start).as_ref()?;
    let name = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
    let port = server.port.to_string();
    let done = Command::new(server.bin.join("createdb"))
        .args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-T", "template0", &name])
        .status()
        .expect("createdb runs");
    assert!(done.success(), "createdb failed");
    Some(format!("postgres://postgres@127.0.0.1:{port}/{name}"))
}

fn start() -> Option<Server> {
    let Some(bin) = bin() else {
        assert!(!is_required(), "DRUMBEAT_TEST_POSTGRES=required, and there is no initdb");
        // Past the harness, which would keep it to itself.
        writeln!(std::io::stderr(), "skipped: no Postgres").ok();
        return None;
    };
    let folder = std::env::temp_dir().join(format!("drumbeat-postgres-{}", std::process::id()));
    // The port is free now; should somebody else take it, the next one is tried.
    for _ in 0..5 {
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let mut shell = unprivileged()
            .args(["sh", "-c", START, "sh"])
            .args([folder.as_os_str(), bin.as_os_str(), port.to_string().as_ref()])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell runs");
        let mut line = String::new();
        BufReader::new(shell.stdout.take().expect("it is a pipe"))
            .read_line(&mut line)
            .expect("the shell talks");
        if line == "ready\n" {
            return Some(Server { bin, port, _shell: shell });
        }
        shell.wait().expect("the shell ends");
    }
    panic!("Postgres is there and does not start");
}

/// Postgres refuses to run as root.
fn unprivileged() -> Command {
    let id = Command::new("id").arg("-u").output().expect("id runs");
    if id.stdout == b"0\n" {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]);
        command
    } else {
        Command::new("env")
    }
}

fn bin() -> Option<PathBuf> {
    let has_all =
        |folder: &Path| ["initdb", "pg_ctl", "createdb"].iter().all(|program| folder.join(program).is_file());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .collect();
    versions.sort();
    versions.into_iter().rev().chain(std::env::split_paths(&path)).find(|folder| has_all(folder))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the machine that must have a Postgres says so in its environment"
)]
fn is_required() -> bool {
    std::env::var("DRUMBEAT_TEST_POSTGRES").is_ok_and(|value| value == "required")
}
