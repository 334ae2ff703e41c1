//! Counters for Prometheus, in its text form. Labels come from closed sets only: never a person.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use model::sync::{Has, RecordTodo, Todo};

use crate::daemon::{Daemon, lock};
use crate::report::{Pumped, Ticked};

/// What the daemon counts while it runs.
#[derive(Debug, Default)]
pub struct Metrics {
    ready: AtomicBool,
    leads: AtomicBool,
    skew_ms: AtomicI64,
    counters: Mutex<BTreeMap<(&'static str, String), u64>>,
}

/// Name, kind and help of all that is counted or measured.
const HELP: &[(&str, &str, &str)] = &[
    (
        "drumbeat_audience_entries",
        "gauge",
        "Entries of audiences, by whether their destination has them: no, maybe, yes.",
    ),
    ("drumbeat_audience_todo", "gauge", "Entries of audiences that something is to be done about, by what."),
    ("drumbeat_build_info", "gauge", "The version that runs."),
    ("drumbeat_clock_jumps_total", "counter", "How often the clock was set while the daemon ran."),
    ("drumbeat_decisions_total", "counter", "Decisions by what they were and why."),
    ("drumbeat_deliveries_in_doubt", "gauge", "Deliveries that nobody can be sure of."),
    ("drumbeat_deliveries_total", "counter", "Results of deliveries."),
    ("drumbeat_destination_halted", "gauge", "Destinations that cannot be used, by reason."),
    ("drumbeat_halted", "gauge", "What a person, or a failover of Postgres, has halted."),
    (
        "drumbeat_last_look_refusals_total",
        "counter",
        "Messages stopped by the last look or by their content, by reason.",
    ),
    ("drumbeat_leads", "gauge", "Whether this is the node that decides: 1 or 0."),
    ("drumbeat_node_clock_skew_seconds", "gauge", "By how much this machine's clock is ahead of Postgres'."),
    ("drumbeat_queue", "gauge", "Deliveries not yet settled, by destination and state."),
    (
        "drumbeat_rate_waiting",
        "gauge",
        "Messages that are due and wait for a turn of these rates, by destination: see `throttle` of brands and `recipients`.",
    ),
    (
        "drumbeat_record_entries",
        "gauge",
        "Records that syncs keep, by whether their destination has what was written: no, maybe, yes.",
    ),
    ("drumbeat_record_todo", "gauge", "Records that something is to be done about, by what."),
    ("drumbeat_segment_members", "gauge", "Members of each segment."),
    ("drumbeat_segment_runs_total", "counter", "Runs of segments, by result."),
];

impl Metrics {
    /// Says whether the loops run.
    pub fn ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::SeqCst);
    }

    /// Whether the loops run.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst)
    }

    /// Says whether this is the node that decides.
    pub fn leads(&self, leads: bool) {
        self.leads.store(leads, Ordering::SeqCst);
    }

    /// By how much this machine's clock is ahead of the database's, in milliseconds.
    pub(crate) fn skew_ms(&self) -> i64 {
        self.skew_ms.load(Ordering::SeqCst)
    }

    /// Keeps by how much it is.
    pub(crate) fn skewed(&self, skew_ms: i64) {
        self.skew_ms.store(skew_ms, Ordering::SeqCst);
    }

    /// Counts a jump of the clock.
    pub fn jumped(&self) {
        self.add("drumbeat_clock_jumps_total", String::new(), 1);
    }

    fn add(&self, name: &'static str, labels: String, count: u64) {
        if count > 0 {
            *lock(&self.counters).entry((name, labels)).or_default() += count;
        }
    }

    /// Counts what a tick did.
    pub fn ticked(&self, ticked: &Ticked) {
        for segment in &ticked.segments {
            let result = if segment.held.is_some() { "held" } else { "good" };
            self.add(
                "drumbeat_segment_runs_total",
                format!("segment=\"{}\",result=\"{result}\"", segment.name),
                1,
            );
        }
        let decisions = &ticked.decisions;
        let kind = |kind: &str, reason: &str| format!("decision=\"{kind}\",reason=\"{reason}\"");
        self.add("drumbeat_decisions_total", kind("touch", ""), decisions.touch);
        self.add("drumbeat_decisions_total", kind("withheld", ""), decisions.withheld);
        for (name, by_reason) in
            [("defer", &decisions.defer), ("skip", &decisions.skip), ("suppress", &decisions.suppress)]
        {
            for (reason, count) in by_reason {
                self.add("drumbeat_decisions_total", kind(name, reason.as_str()), *count);
            }
        }
    }

    /// Counts what a pump did.
    pub fn pumped(&self, pumped: &Pumped) {
        let results = [
            ("accepted", pumped.accepted),
            ("rejected", pumped.rejected),
            ("in_doubt", pumped.in_doubt),
            ("retried", pumped.retried),
        ];
        for (result, count) in results {
            self.add("drumbeat_deliveries_total", format!("result=\"{result}\""), count);
        }
        for (reason, count) in &pumped.refused {
            self.add("drumbeat_last_look_refusals_total", format!("reason=\"{reason}\""), *count);
        }
    }

    /// All of it, and what state knows, in Prometheus' text form.
    pub async fn render(&self, daemon: &Daemon, now: Timestamp) -> Result<String, state::StateError> {
        let mut lines: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
        for ((name, labels), count) in &*lock(&self.counters) {
            lines.entry(name).or_default().push(format!("{name}{{{labels}}} {count}"));
        }
        let version = env!("CARGO_PKG_VERSION");
        lines
            .entry("drumbeat_build_info")
            .or_default()
            .push(format!("drumbeat_build_info{{version=\"{version}\"}} 1"));
        let leads = u8::from(self.leads.load(Ordering::SeqCst));
        lines.entry("drumbeat_leads").or_default().push(format!("drumbeat_leads {leads}"));
        if daemon.state.is_postgres() {
            let skew = SignedDuration::from_millis(self.skew_ms()).as_secs_f64();
            let line = format!("drumbeat_node_clock_skew_seconds {skew}");
            lines.entry("drumbeat_node_clock_skew_seconds").or_default().push(line);
        }
        for (destination, (refusal, _)) in daemon.halted_destinations(now) {
            let line = format!(
                "drumbeat_destination_halted{{destination=\"{destination}\",reason=\"{}\"}} 1",
                refusal.reason
            );
            lines.entry("drumbeat_destination_halted").or_default().push(line);
        }
        let mut tx = daemon.state.read().await?;
        for halt in tx.ask(state::control::halts()).await? {
            let line = format!("drumbeat_halted{{scope=\"{}\"}} 1", halt.scope);
            lines.entry("drumbeat_halted").or_default().push(line);
        }
        let mut in_doubt = 0;
        for ((destination, state), count) in state::outbox::queue(&mut tx).await? {
            if state == model::DeliveryState::InDoubt {
                in_doubt += count;
            }
            let state = state.as_str();
            let line = format!("drumbeat_queue{{destination=\"{destination}\",state=\"{state}\"}} {count}");
            lines.entry("drumbeat_queue").or_default().push(line);
        }
        for ((destination, lane), count) in state::outbox::waiting(&mut tx, now).await? {
            let line =
                format!("drumbeat_rate_waiting{{destination=\"{destination}\",rates=\"{lane}\"}} {count}");
            lines.entry("drumbeat_rate_waiting").or_default().push(line);
        }
        lines
            .entry("drumbeat_deliveries_in_doubt")
            .or_default()
            .push(format!("drumbeat_deliveries_in_doubt {in_doubt}"));
        for name in daemon.project.segments.keys() {
            if let Some(last) = state::segment::last_run(&mut tx, name).await? {
                let line = format!("drumbeat_segment_members{{segment=\"{name}\"}} {}", last.members);
                lines.entry("drumbeat_segment_members").or_default().push(line);
            }
        }
        for audience in state::audience::all(&mut tx).await? {
            let counts = state::audience::counts(&mut tx, audience.number).await?;
            let at = format!("destination=\"{}\",audience=\"{}\"", audience.at.destination, audience.at.name);
            for (word, has) in Has::ALL {
                let line = format!("drumbeat_audience_entries{{{at},has=\"{word}\"}} {}", counts.has(*has));
                lines.entry("drumbeat_audience_entries").or_default().push(line);
            }
            for (word, todo) in Todo::ALL.iter().filter(|(_, todo)| *todo != Todo::Nothing) {
                let line = format!("drumbeat_audience_todo{{{at},todo=\"{word}\"}} {}", counts.todo(*todo));
                lines.entry("drumbeat_audience_todo").or_default().push(line);
            }
        }
        for set in state::record::all(&mut tx).await? {
            let counts = state::record::counts(&mut tx, set.number).await?;
            let at = format!("destination=\"{}\",sync=\"{}\"", set.at.destination, set.sync);
            for (word, has) in Has::ALL {
                let line = format!("drumbeat_record_entries{{{at},has=\"{word}\"}} {}", counts.has(*has));
                lines.entry("drumbeat_record_entries").or_default().push(line);
            }
            for (word, todo) in RecordTodo::ALL.iter().filter(|(_, todo)| *todo != RecordTodo::Nothing) {
                let line = format!("drumbeat_record_todo{{{at},todo=\"{word}\"}} {}", counts.todo(*todo));
                lines.entry("drumbeat_record_todo").or_default().push(line);
            }
        }
        let mut text = String::new();
        for (name, kind, help) in HELP {
            if let Some(lines) = lines.get(name) {
                text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{}\n", lines.join("\n")));
            }
        }
        Ok(text)
    }
}
