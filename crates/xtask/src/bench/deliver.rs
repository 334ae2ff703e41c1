//! Delivery: a project whose whole audience gets one message through SMTP on loopback, with all gates, arming and audit, against
//! `smtp-source -d` sending messages of the same size into the same `smtp-sink` over as many connections. With state in SQLite, and in Postgres.
//!
//! What is measured is a whole run, and what of it comes after deciding: the whole less a run of the same project whose destination
//! is halted, which starts, refreshes and decides, and hands over nothing.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::measure::{self, Goal, Took, round};
use super::postgres::Server;
use crate::process;

/// The size of a message, in bytes, headers included.
const MESSAGE_BYTES: usize = 4_096;
/// As many as a destination has if nothing is said, and many.
const CONNECTIONS: [u32; 2] = [8, 64];
/// A Monday morning in Berlin, where everybody here lives: nobody is asleep.
pub(super) const NOW: &str = "2026-03-02T09:00:00Z";

/// State in a file in the project's folder.
pub(super) const SQLITE: &str = "sqlite://.drumbeat/state.db";

/// What is delivered, and with what.
struct Work<'a> {
    binary: &'a Path,
    project: &'a Path,
    source: &'a Path,
    sink: SocketAddr,
    items: u64,
    bytes: usize,
    filler: usize,
}

pub(super) fn run(items: u64) -> Result<Value> {
    let (source, sink) = (program("smtp-source")?, program("smtp-sink")?);
    let binary = measure::release_binary()?;
    let folder = process::target_dir()?.join("bench/deliver");
    let filler = MESSAGE_BYTES.saturating_sub(message_bytes(&binary, &folder, 0)?);
    let bytes = message_bytes(&binary, &folder, filler)?;
    let (sink, postgres) = (Sink::start(&sink)?, Server::start()?);
    let project = folder.join("project");
    let work = Work {
        binary: &binary,
        project: &project,
        source: &source,
        sink: sink.address,
        items,
        bytes,
        filler,
    };
    let (mut over, mut goals) = (Vec::new(), Vec::new());
    for (state, server, goal) in [("SQLite", None, 0.5), ("Postgres", Some(&postgres), 0.4)] {
        for connections in CONNECTIONS {
            println!("{items} messages of {bytes} bytes over {connections} connections, state in {state}");
            let (ratio, figures) = work.measure(connections, state, server)?;
            let what = format!("ratio to smtp-source, state in {state}, {connections} connections");
            goals.push(Goal::AtLeast(goal).of(&what, ratio));
            over.push(figures);
        }
    }
    Ok(json!({ "items": items, "bytes": bytes, "over": over, "goals": goals }))
}

impl Work<'_> {
    /// How fast, as a share of the limit; and everything.
    fn measure(&self, connections: u32, state: &str, server: Option<&Server>) -> Result<(f64, Value)> {
        let items = self.items;
        let before = self.limit(connections)?;
        self.make(connections, server.map(|server| server.database(&format!("deciding_{connections}"))))?;
        let halt = ["halt", "--scope", "destination.mail", "--reason", "to measure what comes before"];
        process::output(measure::drumbeat(self.binary, self.project).args(halt))?;
        let (deciding, deciding_postgres, _) = self.pass(server)?;
        self.make(connections, server.map(|server| server.database(&format!("delivering_{connections}"))))?;
        let (whole, whole_postgres, report) = self.pass(server)?;
        let accepted = report.pointer("/deliveries/accepted").and_then(Value::as_u64);
        if accepted != Some(items) {
            bail!("{items} messages were to be accepted, and the report says: {report}");
        }
        let after = self.limit(connections)?;
        // The machine may have been busy during one of the two.
        let best = if before.wall < after.wall { before } else { after };
        let delivering = whole - deciding;
        let ratio = best.wall / delivering.wall;
        let mut figures = json!({
            "state": state,
            "connections": connections,
            "per_second": round(measure::per(items) / delivering.wall),
            "ratio_to_smtp_source": round(ratio),
            "ratio_of_the_whole_run": round(best.wall / whole.wall),
            "delivering": delivering.figures(items),
            "whole_run": whole.figures(items),
            "smtp_source": best.figures(items),
        });
        if server.is_some() {
            let cpu = whole_postgres - deciding_postgres;
            figures["cpu_us_per_item_of_postgres"] = json!(round(cpu * 1e6 / measure::per(items)));
        }
        Ok((ratio, figures))
    }

    fn limit(&self, connections: u32) -> Result<Took> {
        let mut command = Command::new(self.source);
        let (connections, items, bytes) =
            (connections.to_string(), self.items.to_string(), self.bytes.to_string());
        command.args(["-d", "-s", &connections, "-m", &items, "-l", &bytes]);
        command.args(["-f", "bench@shop.test", "-t", "customer@example.test", &self.sink.to_string()]);
        measure::took(&mut command)
    }

    /// The project, and its state where that is not made by itself.
    fn make(&self, connections: u32, database: Option<Result<String>>) -> Result<()> {
        let database = database.transpose()?;
        let mail = format!(
            "{{connector: smtp, host: 127.0.0.1, port: {}, tls: none, connections: {connections}, messages_per_connection: 1000000}}",
            self.sink.port()
        );
        let state = database.as_deref().unwrap_or(SQLITE);
        make(self.project, self.items, &mail, self.filler, state)?;
        if database.is_some() {
            process::output(measure::drumbeat(self.binary, self.project).arg("migrate"))?;
        }
        Ok(())
    }

    /// A pass; what it took, what Postgres took for it, and what it reports.
    fn pass(&self, server: Option<&Server>) -> Result<(Took, f64, Value)> {
        let cpu = || server.map_or(Ok(0.0), Server::cpu);
        let before = cpu()?;
        let (took, report) = measure::pass(self.binary, self.project, NOW)?;
        Ok((took, cpu()? - before, report))
    }
}

fn program(name: &str) -> Result<std::path::PathBuf> {
    process::find(name).with_context(|| format!("{name} is missing: it comes with Postfix"))
}

/// How large the message to one person becomes with so much text added, as the file connector writes it.
fn message_bytes(binary: &Path, folder: &Path, filler: usize) -> Result<usize> {
    let project = folder.join("probe");
    make(&project, 1, "{connector: file, path: outbox, format: eml}", filler, SQLITE)?;
    measure::pass(binary, &project, NOW)?;
    let outbox = project.join("outbox");
    let mut written = fs::read_dir(&outbox).with_context(|| format!("cannot list {}", outbox.display()))?;
    let message = written.next().context("the probe wrote no message")??;
    Ok(usize::try_from(message.metadata()?.len())?)
}

/// A project with so many people, all of them reachable, and one message for each.
pub(super) fn make(folder: &Path, people: u64, mail: &str, filler: usize, state: &str) -> Result<()> {
    // Lines that need no encoding; what is added appears once, in the HTML part, for the text is given.
    let filler = "a line that is there to be long\n".repeat(filler / 32);
    let files = [
        (
            "drumbeat.yml",
            format!(
                "version: 1\nproject: bench\ntimezone: Europe/Berlin\nlocales: [en]\ndeliver: local\nstate: \"{state}\"\n\
                 warehouse: {{url: \"sqlite://warehouse.db\"}}\nbrands:\n  shop: {{title: Shop, from: \"Shop <shop@shop.test>\", \
                 postal_address: \"Shop, Street 1\", public_url: \"http://127.0.0.1:7701\"}}\ndestinations:\n  mail: {mail}\n"
            ),
        ),
        ("data.yml", "profiles: {sql: \"select customer_id as id, email, timezone, first_name from customers\"}\n".to_owned()),
        (
            "policy.yml",
            "purposes:\n  offers: {title: Offers, class: marketing}\n\
             consent: {sql: \"select customer_id as profile, channel, purpose, status, changed_at, source from consents\"}\n\
             caps:\n  day: {channel: email, class: marketing, max: 1, per: 1 calendar day}\n\
             quiet_hours:\n  nights: {channel: email, class: marketing, from: \"20:00\", to: \"08:00\"}\n"
                .to_owned(),
        ),
        (
            "segments/everybody.yml",
            "title: Everybody\nowner: bench@shop.test\nwhy: \"Measured.\"\nsql: select customer_id as id from customers\n".to_owned(),
        ),
        (
            "playbooks/hello.yml",
            "title: Hello\nowner: bench@shop.test\nwhy: \"Measured.\"\nenter: segment.everybody\nbackfill: all\npurpose: offers\n\
             steps:\n  - {id: hello, send: hello}\n"
                .to_owned(),
        ),
        (
            "templates/hello.html",
            format!(
                "---\nsubject: \"Hello {{{{ profile.first_name }}}}\"\n---\n<html><body><p>Hello {{{{ profile.first_name }}}},</p>\n\
                 <p>{filler}</p>\n<p>{{{{ postal_address }}}} <a href=\"{{{{ unsubscribe_url }}}}\">Unsubscribe</a></p></body></html>\n"
            ),
        ),
        (
            "templates/hello.txt",
            "Hello {{ profile.first_name }},\n\n{{ postal_address }}\n{{ unsubscribe_url }}\n".to_owned(),
        ),
    ];
    measure::project(folder, &files)?;
    let rows = format!(
        "begin;
         create table customers (customer_id integer primary key, email text, timezone text, first_name text);
         create table consents (customer_id integer, channel text, purpose text, status text, changed_at text, source text);
         insert into customers select value, 'customer.' || value || '@example.test', 'Europe/Berlin', 'Ana' from generate_series(1, {people});
         insert into consents select customer_id, 'email', 'offers', 'granted', '2026-01-01T00:00:00Z', 'bench' from customers;
         create index consents_of_customer on consents (customer_id);
         commit;"
    );
    measure::sqlite(&folder.join("warehouse.db"), &rows)
}

/// A mail server that takes everything and keeps nothing; dropped, it ends.
struct Sink {
    child: Child,
    address: SocketAddr,
}

impl Sink {
    fn start(program: &Path) -> Result<Self> {
        const PATIENCE: Duration = Duration::from_secs(10);
        let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = address.context("cannot find a free port")?;
        let mut command = Command::new(program);
        if process::output(Command::new("id").arg("-u"))?.trim() == "0" {
            // As root it wants to be told whom to become.
            command.args(["-u", "nobody"]);
        }
        command.args([&address.to_string(), "1000"]).stdin(Stdio::null()).stdout(Stdio::null());
        let sink = Self { child: command.spawn().context("cannot start smtp-sink")?, address };
        let began = Instant::now();
        while TcpStream::connect_timeout(&address, PATIENCE).is_err() {
            if PATIENCE < began.elapsed() {
                bail!("smtp-sink does not answer on {address}");
            }
            std::thread::yield_now();
        }
        Ok(sink)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _gone_already = self.child.wait();
    }
}
