//! `run`, `run --once` and `plan`.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use daemon::metrics::Metrics;
use daemon::nodes::{keep_alive, leave};
use daemon::plan::Plan;
use daemon::report::{Pumped, Ticked};
use daemon::run::{Passed, Progress, run_once, serve};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use model::fault::mutant;
use model::playbook::{Backfill, Playbook};
use model::{PlaybookName, Reason};
use project::Project;
use serde_json::{Value, json};
use state::State;
use state::control::Halt;
use tokio::sync::watch;
use web::Site;

use super::pushed;
use crate::args::Run;
use crate::context::Context;
use crate::failure::{Failure, code};
use crate::print::{say, thousands};

/// Runs the daemon, or one pass.
pub(crate) async fn run(context: &Context, args: &Run) -> Result<u8, Failure> {
    let project = context.project()?;
    super::check::refuse_mistakes(context, &project).await?;
    let daemon = Arc::new(context.daemon(project).await?);
    if args.once { once(context, &daemon).await } else { forever(context, daemon).await }
}

/// One pass, with a spinner where somebody looks on.
pub(crate) async fn once(context: &Context, daemon: &Arc<daemon::Daemon>) -> Result<u8, Failure> {
    let progress = Spinner::start();
    let clock = context.clock();
    let passed = tokio::select! {
        passed = run_once(daemon, context.now(), || clock.now(), &progress) => passed,
        buried = keep_alive(daemon) => Err(buried.into()),
    };
    progress.bar.finish_and_clear();
    let left = leave(daemon).await;
    let passed = passed?;
    left?;
    let stopped = stopped(&daemon.state).await?;
    let json = with_stopped(summary(daemon, &passed).await?, &stopped);
    context.printer.object(&json, || people_summary(&daemon.project, &passed))?;
    for warning in &passed.ticked.warnings {
        say(&format!("warning: {warning}"));
    }
    for trip in passed.pumped.trips.iter().filter(|trip| !trip.holds) {
        say(&format!(
            "warning: playbook `{}`: {} ({}); in production it would be halted",
            trip.playbook, trip.refusal.saw, trip.refusal.reason
        ));
    }
    say_stopped(&stopped);
    Ok(exit_code(&passed, in_doubt(&json)))
}

/// What people have stopped.
struct Stopped {
    halts: Vec<Halt>,
    paused: Vec<PlaybookName>,
}

async fn stopped(state: &State) -> Result<Stopped, Failure> {
    let mut tx = state.read().await?;
    let (halts, paused) = tx.ask(state::control::halts().and(state::playbook::paused())).await?;
    Ok(Stopped { halts, paused })
}

/// A pass in which nothing happens because somebody stopped it is not to look like one in which there was nothing to do.
fn say_stopped(stopped: &Stopped) {
    for halt in &stopped.halts {
        say(&format!(
            "warning: {} is halted since {} by {}: {}; `{}` lets it go on",
            halt.scope,
            halt.at,
            halt.actor,
            halt.reason,
            super::halt::lifting(&halt.scope)
        ));
    }
    for playbook in &stopped.paused {
        say(&format!(
            "warning: playbook `{playbook}` is paused; `drumbeat playbook resume {playbook}` lets it go on"
        ));
    }
}

/// The same for programs.
fn with_stopped(mut json: Value, stopped: &Stopped) -> Value {
    let halt = |halt: &Halt| {
        json!({
            "scope": halt.scope.to_string(), "since": halt.at.to_string(), "actor": halt.actor, "reason": halt.reason,
            "lifted_by": super::halt::lifting(&halt.scope),
        })
    };
    json["halts"] = stopped.halts.iter().map(halt).collect();
    json["paused"] = stopped.paused.iter().map(|name| json!(name.as_str())).collect();
    json
}

fn in_doubt(json: &Value) -> u64 {
    json["deliveries"]["in_doubt"].as_u64().unwrap_or(0)
}

fn exit_code(passed: &Passed, in_doubt: u64) -> u8 {
    let held = passed.ticked.segments.iter().any(|segment| segment.held.is_some())
        || !passed.ticked.holds.is_empty()
        || passed.ticked.syncs.iter().any(|sync| sync.held.is_some())
        || passed.pumped.trips.iter().any(|trip| trip.holds);
    if held {
        code::HELD
    } else if !passed.pumped.halted.is_empty()
        || !passed.pushed.halted.is_empty()
        || !passed.pushed.put_off.is_empty()
        || !passed.pushed.records_put_off.is_empty()
    {
        code::FAILED
    } else if in_doubt > 0 {
        code::IN_DOUBT
    } else {
        code::DONE
    }
}

/// The daemon.
async fn forever(context: &Context, daemon: Arc<daemon::Daemon>) -> Result<u8, Failure> {
    start_logging();
    let clock = context.clock();
    let metrics = Arc::new(Metrics::default());
    let site = Arc::new(Site { daemon: Arc::clone(&daemon), clock, metrics: Arc::clone(&metrics) });
    let settings = &daemon.project.settings;
    let refused =
        |error: web::ListenError| Failure::new(crate::failure::chain(&error)).with_code(code::CONFIGURATION);
    let admin = web::listen("admin", &settings.serve_admin).await.map_err(refused)?;
    let public = web::listen("public", &settings.serve_public).await.map_err(refused)?;
    let (stop, stopped) = watch::channel(false);
    let admin = tokio::spawn(web::serve(admin, web::admin(Arc::clone(&site)), web::LIMITS, stopped.clone()));
    let public = tokio::spawn(web::serve(public, web::public(site), web::LIMITS, stopped.clone()));
    tracing::info!(
        project = settings.project,
        admin = settings.serve_admin,
        public = settings.serve_public,
        "Drumbeat runs project `{}`: health and metrics on {}, recipients' pages on {}.",
        settings.project,
        settings.serve_admin,
        settings.serve_public
    );
    tokio::spawn(async move {
        let name = signalled().await;
        if mutant("drain_cut") {
            #[expect(clippy::exit, reason = "it is what must not be done")]
            std::process::exit(0);
        }
        tracing::info!("{name}: no more is claimed; what is handed over is finished.");
        if stop.send(true).is_err() {
            return;
        }
        // A second signal does not wait. What was armed is in doubt then, and listed.
        let name = signalled().await;
        tracing::warn!("{name} again: ending at once.");
        std::process::abort();
    });
    let served = serve(Arc::clone(&daemon), clock, metrics, &crate::context::node_name(), stopped).await;
    for listener in [admin, public] {
        // Pages under way are finished, but nobody is waited for longer than a moment.
        if let Ok(Ok(Err(error))) = tokio::time::timeout(Duration::from_secs(3), listener).await {
            tracing::error!(%error, "A listener failed.");
        }
    }
    served?;
    tracing::info!("Stopped.");
    Ok(code::DONE)
}

async fn signalled() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = tokio::signal::ctrl_c() => "SIGINT",
        },
        Err(_) => {
            drop(tokio::signal::ctrl_c().await);
            "SIGINT"
        }
    }
}

/// Logs on stderr: sentences for people, JSON where `DRUMBEAT_LOG_FORMAT=json` says so; `DRUMBEAT_LOG` filters.
fn start_logging() {
    let filter = crate::context::variable("DRUMBEAT_LOG").unwrap_or_else(|| "info".to_owned());
    // `lettre` and `sqlx` would log what they carry; of a broken connection we tell ourselves.
    let filter = tracing_subscriber::EnvFilter::new(format!("{filter},lettre=off,sqlx=error"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if crate::context::variable("DRUMBEAT_LOG_FORMAT").as_deref() == Some("json") {
        builder.json().init();
    } else {
        builder.with_target(false).with_ansi(std::io::stderr().is_terminal()).init();
    }
}

/// What the next run would do.
pub(crate) async fn plan(context: &Context) -> Result<u8, Failure> {
    let project = context.project()?;
    super::check::refuse_mistakes(context, &project).await?;
    let now = context.now();
    let (daemon, scratch) = context.foreseeing(project, now).await?;
    let plan = daemon::plan::plan(&daemon, scratch, now).await?;
    let stopped = stopped(&daemon.state).await?;
    let json = with_stopped(plan_json(&plan), &stopped);
    context.printer.object(&json, || people_plan(&daemon.project, &plan))?;
    for warning in &plan.passed.ticked.warnings {
        say(&format!("warning: {warning}"));
    }
    say_stopped(&stopped);
    Ok(match exit_code(&plan.passed, 0) {
        code::HELD => code::HELD,
        _ => code::DONE,
    })
}

fn plan_json(plan: &Plan) -> Value {
    let mut json = passed_json(&plan.passed, &BTreeMap::new());
    let hours: Vec<Value> = plan
        .hours
        .iter()
        .map(|((playbook, hour), count)| json!({ "playbook": playbook.as_str(), "hour": hour.to_string(), "messages": count }))
        .collect();
    json["hours"] = Value::Array(hours);
    pushed::name(&mut json, plan);
    json
}

/// The object of `run --once --output json`.
pub(crate) async fn summary(daemon: &daemon::Daemon, passed: &Passed) -> Result<Value, Failure> {
    let mut tx = daemon.state.read().await?;
    let mut queue = BTreeMap::new();
    for ((_, state), count) in state::outbox::queue(&mut tx).await? {
        *queue.entry(state.shown()).or_insert(0) += count;
    }
    Ok(passed_json(passed, &queue))
}

fn passed_json(passed: &Passed, queue: &BTreeMap<&'static str, u64>) -> Value {
    let by_reason = |counts: &BTreeMap<Reason, u64>| {
        counts
            .iter()
            .map(|(reason, count)| (reason.as_str().to_owned(), json!(count)))
            .collect::<serde_json::Map<_, _>>()
    };
    let decisions = &passed.ticked.decisions;
    let segments: Vec<Value> = passed
        .ticked
        .segments
        .iter()
        .map(|segment| {
            json!({
                "name": segment.name.as_str(), "members": segment.members, "entered": segment.entered, "left": segment.left,
                "duplicates": segment.duplicates, "missing_ids": segment.missing_ids,
                "held": segment.held.as_ref().map(|held| json!({ "reason": held.reason.as_str(), "saw": held.saw })),
            })
        })
        .collect();
    let playbooks: Vec<Value> = passed
        .ticked
        .by_playbook
        .iter()
        .map(|(name, decisions)| {
            json!({
                "name": name.as_str(), "not_entered": decisions.not_entered, "touch": decisions.touch, "withheld": decisions.withheld,
                "defer": by_reason(&decisions.defer), "skip": by_reason(&decisions.skip), "suppress": by_reason(&decisions.suppress),
            })
        })
        .collect();
    let held: Vec<Value> = passed
        .ticked
        .holds
        .iter()
        .map(|hold| json!({ "playbook": hold.playbook.as_str(), "reason": hold.refusal.reason.as_str(), "saw": hold.refusal.saw }))
        .collect();
    let guards: Vec<Value> = passed
        .pumped
        .trips
        .iter()
        .map(|trip| {
            json!({
                "playbook": trip.playbook.as_str(), "reason": trip.refusal.reason.as_str(), "saw": trip.refusal.saw,
                "holds": trip.holds,
            })
        })
        .collect();
    let halted: Vec<Value> = passed
        .pumped
        .halted
        .iter()
        .chain(&passed.pushed.halted)
        .map(|(name, refusal)| json!({ "destination": name.as_str(), "reason": refusal.reason.as_str(), "saw": refusal.saw }))
        .collect();
    let waiting: Vec<Value> = passed
        .pumped
        .waiting
        .iter()
        .map(|(whose, refusal)| json!({ "whose": whose.to_string().replace('`', ""), "reason": refusal.reason.as_str(), "saw": refusal.saw }))
        .collect();
    json!({
        "as_of": passed.as_of.to_string(),
        "segments": segments,
        "decisions": {
            "touch": decisions.touch, "withheld": decisions.withheld, "defer": by_reason(&decisions.defer),
            "skip": by_reason(&decisions.skip), "suppress": by_reason(&decisions.suppress),
        },
        "deliveries": {
            "accepted": passed.pumped.accepted, "rejected": passed.pumped.rejected,
            "in_doubt": queue.get("in_doubt").copied().unwrap_or(0), "pending": queue.get("pending").copied().unwrap_or(0),
            "expired": passed.pumped.refused.get(&Reason::StepExpired).copied().unwrap_or(0),
            "refused": by_reason(&passed.pumped.refused),
        },
        "playbooks": playbooks,
        "held": held,
        "halted": halted,
        "guards": guards,
        "waiting": waiting,
        "audiences": pushed::json(passed), "records": pushed::records_json(passed),
    })
}

fn people_summary(project: &Project, passed: &Passed) -> String {
    let mut text = people_segments(passed);
    text.push_str(&people_decisions(project, passed, "decided"));
    let pumped = &passed.pumped;
    text.push_str(&format!("\ndelivered\n  {:>9}  accepted\n", thousands(pumped.accepted)));
    for (count, what) in [
        (pumped.rejected, "rejected by the provider"),
        (pumped.retried, "to be tried again"),
        (pumped.in_doubt + passed.orphans, "in doubt: see `drumbeat in-doubt list`"),
    ] {
        if count > 0 {
            text.push_str(&format!("  {:>9}  {what}\n", thousands(count)));
        }
    }
    for (reason, count) in &pumped.refused {
        text.push_str(&format!(
            "  {:>9}  not sent after all: {} ({reason})\n",
            thousands(*count),
            reason.meaning()
        ));
    }
    text.push_str(&pushed::for_people(passed, ["added", "removed"]));
    for (destination, refusal) in pumped.halted.iter().chain(&passed.pushed.halted) {
        text.push_str(&format!(
            "\ndestination `{destination}` cannot be used: {} ({})\n",
            refusal.saw, refusal.reason
        ));
    }
    for (whose, refusal) in &pumped.waiting {
        text.push_str(&format!("\nmore of {whose} waits: {} ({})\n", refusal.saw, refusal.reason));
    }
    if let Some(next) = passed.ticked.next {
        text.push_str(&format!("\nnext at {next}\n"));
    }
    text
}

fn people_segments(passed: &Passed) -> String {
    let mut text = format!("as of {}\n", passed.as_of);
    if passed.ticked.segments.is_empty() {
        text.push_str("\nno segment is due\n");
    } else {
        text.push_str("\nsegments                          members    came in       left\n");
    }
    for segment in &passed.ticked.segments {
        let name = segment.name.as_str();
        let (members, entered, left) =
            (thousands(segment.members), thousands(segment.entered), thousands(segment.left));
        text.push_str(&format!("  {name:<29}{members:>10} {entered:>10} {left:>10}\n"));
        if let Some(held) = &segment.held {
            text.push_str(&format!(
                "    held: {} ({}); the last good membership stays\n",
                held.saw, held.reason
            ));
        }
        if segment.duplicates > 0 || segment.missing_ids > 0 {
            text.push_str(&format!(
                "    {} rows with an id seen before, {} without one: left out\n",
                thousands(segment.duplicates),
                thousands(segment.missing_ids)
            ));
        }
    }
    text
}

fn people_decisions(project: &Project, passed: &Passed, word: &str) -> String {
    let mut text = String::new();
    for (playbook, decisions) in &passed.ticked.by_playbook {
        if let Some(playbook) = project.playbooks.get(playbook) {
            text.push_str(&people_not_entered(playbook, decisions.not_entered));
        }
        if decisions.total() == 0 {
            continue;
        }
        text.push_str(&format!("\n{word} for playbook `{playbook}`: {}\n", thousands(decisions.total())));
        let mut line = |count: u64, what: String| {
            if count > 0 {
                text.push_str(&format!("  {:>9}  {what}\n", thousands(count)));
            }
        };
        line(decisions.touch, "to go".to_owned());
        line(decisions.withheld, "held out".to_owned());
        for (group, by_reason) in
            [("later", &decisions.defer), ("no", &decisions.skip), ("never", &decisions.suppress)]
        {
            for (reason, count) in by_reason {
                line(*count, format!("{group}: {} ({reason})", reason.meaning()));
            }
        }
    }
    for hold in &passed.ticked.holds {
        text.push_str(&format!(
            "\nheld: playbook `{}`: {} ({})\n",
            hold.playbook, hold.refusal.saw, hold.refusal.reason
        ));
    }
    text
}

/// Who was there before a playbook began, and hears nothing of it: otherwise a first run looks as if it did nothing.
fn people_not_entered(playbook: &Playbook, count: u64) -> String {
    if count == 0 {
        return String::new();
    }
    let (members, were, are) = if count == 1 { ("member", "was", "is") } else { ("members", "were", "are") };
    let why = match playbook.backfill {
        Backfill::None => "`backfill: none`",
        Backfill::Since(_) | Backfill::All => "its `backfill` does not reach back that far",
    };
    format!(
        "\n{} {members} of `{}` {were} there before playbook `{name}` began and {are} not entered: {why}; \
         `backfill: all` in playbooks/{name}.yml, written before its first run, lets them in\n",
        thousands(count),
        playbook.enter,
        name = playbook.name,
    )
}

fn people_plan(project: &Project, plan: &Plan) -> String {
    let mut text = people_segments(&plan.passed);
    text.push_str(&people_decisions(project, &plan.passed, "would decide"));
    for (reason, count) in &plan.passed.pumped.refused {
        text.push_str(&format!(
            "  {:>9}  not sent after all: {} ({reason})\n",
            thousands(*count),
            reason.meaning()
        ));
    }
    text.push_str(&pushed::for_people(&plan.passed, ["would be added", "would be removed"]));
    text.push_str(&pushed::names(plan));
    if !plan.hours.is_empty() {
        text.push_str("\nmessages by hour\n");
        let most = plan.hours.values().max().copied().unwrap_or(1).max(1);
        for ((playbook, hour), count) in &plan.hours {
            let bar = "#".repeat(usize::try_from(count * 30 / most).unwrap_or(30).max(1));
            let hour = hour.strftime("%Y-%m-%d %H:00Z").to_string();
            text.push_str(&format!("  {hour}  {:<24}{:>9}  {bar}\n", playbook.as_str(), thousands(*count)));
        }
    }
    text.push_str("\nnothing was written, nothing was sent\n");
    text
}

/// A spinner on a terminal, silence elsewhere.
struct Spinner {
    bar: ProgressBar,
}

impl Spinner {
    fn start() -> Self {
        let bar =
            if std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        bar.set_message("reading the warehouse");
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar }
    }
}

impl Progress for Spinner {
    fn ticked(&self, ticked: &Ticked) {
        self.bar.set_message(format!("decided {}", thousands(ticked.decisions.total())));
    }

    fn pumped(&self, so_far: &Pumped) {
        self.bar.set_message(format!("delivered {}", thousands(so_far.accepted)));
    }
}
