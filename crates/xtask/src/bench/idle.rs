//! Standing by: `drumbeat run` with so many people known, all of them in a segment that a playbook watches, over a minute in which nothing is due.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::measure::{self, Goal, mebibytes, round};
use crate::{cost, process};

const MEBIBYTES: f64 = 256.0;
const PERCENT: f64 = 1.0;
const NOW: &str = "2026-03-02T09:00:00Z";
/// The segment is refreshed on New Year's Day.
const LATER: &str = "2026-03-02T10:00:00Z";
const SECONDS: f64 = 60.0;

pub(super) fn run(items: u64) -> Result<Value> {
    let binary = measure::release_binary()?;
    let project = process::target_dir()?.join("bench/idle");
    let (admin, public) = (free_port()?, free_port()?);
    make(&project, items, admin, public)?;
    println!("{items} people");
    let (first, report, peak_of_first) = measure::pass_watched(&binary, &project, NOW)?;
    let members = report.pointer("/segments/0/members").and_then(Value::as_u64);
    if members != Some(items) {
        bail!("{items} people were to be known, and the report says: {report}");
    }
    let daemon = Daemon::start(&binary, &project, admin)?;
    let pid = daemon.0.id();
    let (began, before) = (Instant::now(), cost::seconds(pid)?);
    process::run(Command::new("sleep").arg(SECONDS.to_string()))?;
    let (wall, cpu) = (began.elapsed().as_secs_f64(), cost::seconds(pid)? - before);
    let memory = |key: &str| measure::memory(pid, key).map(mebibytes).context("the daemon is gone");
    let (resident, peak) = (memory("VmRSS")?, memory("VmHWM")?);
    let percent = cpu / wall * 100.0;
    Ok(json!({
        "people": items,
        "resident_mebibytes": round(resident),
        "peak_mebibytes": round(peak),
        "percent_of_a_core": round(percent),
        "seconds": round(wall),
        "first_pass": first.figures(items),
        "peak_mebibytes_of_first_pass": round(mebibytes(peak_of_first)),
        "goals": [
            Goal::AtMost(MEBIBYTES).of("MiB resident", resident),
            Goal::AtMost(PERCENT).of("percent of a core", percent),
        ],
    }))
}

/// The daemon; dropped, it ends.
struct Daemon(Child);

impl Daemon {
    /// Starts it, and returns when it says that its loops run.
    fn start(binary: &Path, project: &Path, admin: u16) -> Result<Self> {
        const PATIENCE: Duration = Duration::from_secs(60);
        let mut command = measure::drumbeat(binary, project);
        command.args(["--now", LATER, "run"]).stdout(Stdio::null()).stderr(Stdio::null());
        let daemon = Self(command.spawn().context("cannot start the daemon")?);
        let began = Instant::now();
        while !is_ready(admin) {
            if PATIENCE < began.elapsed() {
                bail!("the daemon is not ready");
            }
            std::thread::yield_now();
        }
        Ok(daemon)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _gone_already = self.0.kill();
        let _gone_already = self.0.wait();
    }
}

fn is_ready(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

fn free_port() -> Result<u16> {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    Ok(free.context("cannot find a free port")?.port())
}

fn make(folder: &Path, people: u64, admin: u16, public: u16) -> Result<()> {
    let files = [
        (
            "drumbeat.yml",
            format!(
                "version: 1\nproject: bench\ntimezone: Europe/Berlin\nlocales: [en]\ndeliver: local\nstate: sqlite://.drumbeat/state.db\n\
                 warehouse: {{url: \"sqlite://warehouse.db\", statement_timeout: 10m}}\nbrands:\n  shop: {{title: Shop, from: \"Shop <shop@shop.test>\", \
                 postal_address: \"Shop, Street 1\", public_url: \"http://127.0.0.1:{public}\"}}\ndestinations:\n  mail: {{connector: file, path: outbox}}\n\
                 serve: {{admin: \"127.0.0.1:{admin}\", public: \"127.0.0.1:{public}\"}}\n"
            ),
        ),
        ("data.yml", "profiles: {sql: \"select customer_id as id, email from customers\"}\n".to_owned()),
        ("policy.yml", "purposes:\n  offers: {title: Offers, class: marketing}\n".to_owned()),
        (
            "segments/everybody.yml",
            "title: Everybody\nowner: bench@shop.test\nwhy: \"Measured.\"\nschedule: \"0 3 1 1 *\"\n\
             sql: select customer_id as id from customers\n"
                .to_owned(),
        ),
        (
            "playbooks/hello.yml",
            "title: Hello\nowner: bench@shop.test\nwhy: \"Measured.\"\nenter: segment.everybody\npurpose: offers\n\
             steps:\n  - {id: hello, send: hello}\n"
                .to_owned(),
        ),
        (
            "templates/hello.html",
            "---\nsubject: Hello\n---\n<p>Hello. {{ postal_address }} <a href=\"{{ unsubscribe_url }}\">Unsubscribe</a></p>\n".to_owned(),
        ),
    ];
    measure::project(folder, &files)?;
    let rows = format!(
        "pragma journal_mode = off; pragma synchronous = off;
         begin;
         create table customers (customer_id integer primary key, email text);
         insert into customers select value, 'customer.' || value || '@example.test' from generate_series(1, {people});
         commit;"
    );
    measure::sqlite(&folder.join("warehouse.db"), &rows)
}
