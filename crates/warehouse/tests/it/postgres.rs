//! A Postgres of the tests' own: one cluster a test binary, a database a test, gone when the process is.
//!
//! Without Postgres on this machine its tests say so and pass; with `DRUMBEAT_TEST_POSTGRES=required` they fail.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use sqlx::{ConnectOptions, Connection, PgConnection};

/// Runs until its input ends, which it does with the process of the tests, however that ends.
const SCRIPT: &str = r#"
    dir=$(mktemp -d) || exit 1
    export PATH="$2:$PATH"
    initdb -D "$dir/data" -U drumbeat -A trust --no-sync --no-locale -E UTF8 >"$dir/log" 2>&1 || { cat "$dir/log" >&2; exit 1; }
    postgres -D "$dir/data" -c listen_addresses=127.0.0.1 -c port="$1" -c unix_socket_directories= -c fsync=off \
        -c full_page_writes=off -c synchronous_commit=off >"$dir/log" 2>&1 &
    server=$!
    for _ in $(seq 200); do pg_isready -q -h 127.0.0.1 -p "$1" && break; sleep 0.05; done
    echo ready
    read -r _
    kill -INT "$server"
    wait "$server"
    rm -rf "$dir"
"#;

struct Cluster {
    _shell: Child,
    port: u16,
}

#[expect(clippy::disallowed_methods, reason = "which Postgres the tests use is the environment's to say")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The folder of Postgres' programs.
fn programs() -> Option<PathBuf> {
    let path = variable("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    folders.extend(installed.map(|version| version.path().join("bin")));
    let folder = folders.into_iter().find(|folder| folder.join("initdb").exists())?;
    // A link leads to the folder that holds all of them.
    folder.join("initdb").canonicalize().ok()?.parent().map(PathBuf::from)
}

fn start() -> Option<Cluster> {
    let programs = programs()?;
    let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
    // Postgres does not run as root.
    let is_root = Command::new("id").arg("-u").output().ok()?.stdout == b"0\n";
    let mut command = if is_root { Command::new("runuser") } else { Command::new("sh") };
    if is_root {
        command.args(["-u", "postgres", "--", "sh"]);
    }
    command.args(["-c", SCRIPT, "sh", &port.to_string()]).arg(programs);
    let mut shell = command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
    let mut line = String::new();
    BufReader::new(shell.stdout.take()?).read_line(&mut line).ok()?;
    (line == "ready\n").then_some(Cluster { _shell: shell, port })
}

/// A new database, made by `create` (`create database NAME`) and filled by `setup`, and a connection that may write. None:
/// no Postgres here.
pub(crate) async fn database(create: &'static str, setup: &'static str) -> Option<(String, PgConnection)> {
    static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
    let Some(cluster) = CLUSTER.get_or_init(start) else {
        assert_ne!(
            variable("DRUMBEAT_TEST_POSTGRES").as_deref(),
            Some("required"),
            "no Postgres could be started"
        );
        eprintln!("skipped: no Postgres");
        return None;
    };
    let name = create.rsplit(' ').next().unwrap();
    let url = |name: &str| format!("postgres://drumbeat@127.0.0.1:{}/{name}", cluster.port);
    let mut admin = PgConnection::connect(&url("postgres")).await.unwrap();
    sqlx::raw_sql(create).execute(&mut admin).await.unwrap();
    let options: sqlx::postgres::PgConnectOptions = url(name).parse().unwrap();
    let mut writer = options.disable_statement_logging().connect().await.unwrap();
    sqlx::raw_sql(setup).execute(&mut writer).await.unwrap();
    Some((url(name), writer))
}
