//! Scenarios: a project's own tests, played on virtual time by the same tick and pump, over a made-up world.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use connector::{Bounce, Item, Outcome};
use jiff::{SignedDuration, Timestamp};
use message::Rendered;
use model::consent::{ConsentEvent, ConsentOrigin, ConsentStatus};
use model::enrollment::Progress;
use model::playbook::Backfill;
use model::query::Query;
use model::schedule::Schedule;
use model::segment::SegmentSource;
use model::{DeliveryId, ProfileNumber, Reason, SegmentName, StepId, Value};
use project::{Act, Expected, ExpectedRow, Project, Scenario, Subject};
use state::delivery::{Filter, LoggedDelivery};
use state::{Keys, RootKey, State};

use crate::daemon::{Carrier, Daemon, DaemonError, lock};
use crate::made::{Inner, MadeConsent, MadeProvider, MadeWorld};
use crate::pump::pump;
use crate::source::{RowsById, Source, SourceError};
use crate::tick::{Refresh, tick};

/// What came of a scenario: nothing, if it is as expected; otherwise what is not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// One text a difference, for people.
    pub differences: Vec<String>,
}

/// Times played at most: a scenario that goes on and on is cut off, and says so.
const TIMES_MAX: usize = 5_000;
/// The longest a scenario plays.
const PLAYED_MAX: SignedDuration = SignedDuration::from_hours(24 * 800);

/// What happened to somebody, in the order in which it did.
#[derive(Debug, Clone)]
struct Happened {
    at: Timestamp,
    row: Option<LoggedDelivery>,
    exit: Option<String>,
}

/// Plays one scenario of a playbook.
pub async fn play(project: &Project, scenario: &Scenario) -> Result<Verdict, DaemonError> {
    let Subject::Playbook(_) = &scenario.subject else { return Ok(Verdict::default()) };
    let world = Arc::new(MadeWorld::new(given(scenario)));
    let provider = Arc::new(Provider::default());
    let state = State::scratch(None).await?;
    let keys = {
        let mut tx = state.write().await?;
        let keys = Keys::load_or_create(&mut tx, &RootKey::generate()?, scenario.start).await?;
        tx.commit().await?;
        keys
    };
    let project = Arc::new(rehearsal(project, scenario));
    let carriers = project
        .settings
        .destinations
        .keys()
        .map(|name| (name.clone(), Carrier::Made(provider.clone(), None)))
        .collect();
    let source = Source::Made(Arc::clone(&world));
    let daemon = Arc::new(Daemon::new(
        project,
        state,
        source,
        Arc::new(keys),
        carriers,
        state::Node::alone("scenario"),
    ));
    let finished = run(&daemon, scenario, &world, &provider).await?;
    let mut verdict = compare(&daemon, scenario, &provider).await?;
    if !finished {
        verdict.differences.push("it was still going on after two years and was cut off".to_owned());
    }
    Ok(verdict)
}

/// The project as the scenario wants it: this playbook alone, its people entering at the start, every tick seeing every change.
fn rehearsal(project: &Project, scenario: &Scenario) -> Project {
    let mut project = project.clone();
    let Subject::Playbook(name) = &scenario.subject else { return project };
    project.playbooks.retain(|other, _| other == name);
    let named = named_segments(scenario);
    for (segment_name, segment) in &mut project.segments {
        segment.schedule = Schedule::every(SignedDuration::from_secs(1));
        segment.expect = Default::default();
        if named.contains(segment_name) {
            segment.source = SegmentSource::Sql(Query {
                sql: String::new(),
                columns: BTreeMap::new(),
                place: scenario.file.clone(),
            });
        }
    }
    for playbook in project.playbooks.values_mut() {
        playbook.backfill = Backfill::All;
        if !scenario.with_policy {
            playbook.holdout = None;
            (playbook.per_run, playbook.per_hour) = (None, None);
        }
    }
    if !scenario.with_policy {
        project.policy.holdout = None;
    }
    // The ledger is fed by the scenario, whether or not the project has a consent query.
    project.policy.consent.get_or_insert(Query {
        sql: String::new(),
        columns: BTreeMap::new(),
        place: scenario.file.clone(),
    });
    project
}

/// The segments whose members the scenario says; the others are composed of these, or empty.
fn named_segments(scenario: &Scenario) -> BTreeSet<SegmentName> {
    let acts = scenario.then.iter().filter_map(|then| match &then.act {
        Act::Enters(segment) | Act::Leaves(segment) => Some(segment.clone()),
        Act::Grants(_) | Act::Withdraws(_) | Act::Bounces(_) | Act::Set(_) => None,
    });
    scenario.given.segments.keys().cloned().chain(acts).collect()
}

fn given(scenario: &Scenario) -> Inner {
    let mut inner = Inner::default();
    let by_id = |rows: &[BTreeMap<String, Value>]| -> RowsById {
        let rows = rows.iter().cloned();
        rows.filter_map(|mut row| Some((row.remove("id")?.to_string(), row))).collect()
    };
    inner.profiles = by_id(&scenario.given.profiles);
    inner.accounts = by_id(&scenario.given.accounts);
    for (segment, ids) in &scenario.given.segments {
        let rows = ids.iter().map(|id| (id.clone(), BTreeMap::new())).collect();
        inner.segments.insert(segment.clone(), rows);
    }
    inner.consents = scenario
        .given
        .consent
        .iter()
        .map(|one| MadeConsent {
            profile: one.profile.clone(),
            channel: one.channel,
            purpose: one.purpose.clone(),
            status: one.status,
            changed_at: scenario.start,
        })
        .collect();
    inner
}

/// Plays from one time at which something happens to the next; false: cut off.
async fn run(
    daemon: &Arc<Daemon>,
    scenario: &Scenario,
    world: &MadeWorld,
    provider: &Provider,
) -> Result<bool, DaemonError> {
    let mut now = scenario.start;
    let end = scenario.start.checked_add(PLAYED_MAX).unwrap_or(Timestamp::MAX);
    let mut acts = scenario.then.iter().collect::<Vec<_>>();
    acts.sort_by_key(|then| then.at);
    let mut acts = acts.into_iter().peekable();
    for _ in 0..TIMES_MAX {
        while let Some(then) = acts.next_if(|then| then.at <= now) {
            act(daemon, world, provider, &then.profile, &then.act, now).await?;
        }
        settle(daemon, now).await?;
        let mut tx = daemon.state.read().await?;
        let due = state::delivery::next_due(&mut tx, now).await?.filter(|due| *due > now);
        let next = acts.peek().map(|then| then.at).into_iter().chain(due).min();
        match next {
            None => return Ok(true),
            Some(next) if next > end => return Ok(false),
            Some(next) => now = next,
        }
    }
    Ok(false)
}

/// Ticks and pumps at one time until nothing moves any more.
async fn settle(daemon: &Arc<Daemon>, now: Timestamp) -> Result<(), DaemonError> {
    let mut refresh = Refresh::Due;
    loop {
        let ticked = tick(daemon, refresh, now).await?;
        refresh = Refresh::None;
        let pumped = pump(daemon, now, now).await?;
        if ticked.moved == 0 && pumped.claimed == 0 {
            return Ok(());
        }
    }
}

async fn act(
    daemon: &Daemon,
    world: &MadeWorld,
    provider: &Provider,
    profile: &str,
    act: &Act,
    now: Timestamp,
) -> Result<(), DaemonError> {
    match act {
        Act::Enters(segment) => {
            world
                .lock()
                .segments
                .entry(segment.clone())
                .or_default()
                .insert(profile.to_owned(), BTreeMap::new());
        }
        Act::Leaves(segment) => {
            world.lock().segments.entry(segment.clone()).or_default().remove(profile);
        }
        Act::Set(columns) => {
            world.lock().profiles.entry(profile.to_owned()).or_default().extend(columns.clone());
        }
        Act::Grants(purpose) | Act::Withdraws(purpose) => {
            let status =
                if matches!(act, Act::Grants(_)) { ConsentStatus::Granted } else { ConsentStatus::Withdrawn };
            let mut tx = daemon.state.write().await?;
            let Some(number) = number(daemon, &mut tx, profile).await? else { return Ok(()) };
            let event = ConsentEvent {
                profile: number,
                channel: None,
                purpose: Some(purpose.clone()),
                status,
                changed_at: now,
                recorded_at: now,
                origin: ConsentOrigin::Local,
                source: "scenario".to_owned(),
                evidence: None,
            };
            state::consent::record(&mut tx, &event).await?;
            tx.commit().await?;
        }
        Act::Bounces(step) => {
            let mut tx = daemon.state.write().await?;
            if let Some(number) = number(daemon, &mut tx, profile).await? {
                tx.commit().await?;
                lock(&provider.bounces).insert((number, step.clone()));
            }
        }
    }
    Ok(())
}

async fn number(daemon: &Daemon, tx: &mut state::Tx, id: &str) -> Result<Option<ProfileNumber>, DaemonError> {
    let numbers = state::profile::intern(tx, &daemon.keys, &[id.to_owned()]).await?;
    Ok(numbers.into_iter().next().flatten())
}

/// Takes what it is given, but for the bounces a scenario asks for.
#[derive(Debug, Default)]
struct Provider {
    bounces: Mutex<BTreeSet<(ProfileNumber, StepId)>>,
    taken: Mutex<BTreeMap<DeliveryId, Rendered>>,
}

impl MadeProvider for Provider {
    fn envelope(&self, item: &Item) -> Option<Outcome> {
        lock(&self.bounces).contains(&(item.profile, item.step.clone())).then(|| Outcome::Rejected {
            reason: Reason::FailSmtpRecipient,
            bounce: Some(Bounce::Hard),
            detail: "the scenario says that it bounces".to_owned(),
        })
    }

    fn take(&self, item: &Item, rendered: &Rendered) -> Outcome {
        lock(&self.taken).insert(item.delivery.clone(), rendered.clone());
        Outcome::Accepted { receipt: "scenario".to_owned() }
    }
}

async fn compare(daemon: &Daemon, scenario: &Scenario, provider: &Provider) -> Result<Verdict, DaemonError> {
    let Expected::Rows(expected) = &scenario.expect else { return Ok(Verdict::default()) };
    let mut verdict = Verdict::default();
    let ids: BTreeSet<String> = scenario
        .given
        .profiles
        .iter()
        .filter_map(|profile| profile.get("id"))
        .map(Value::to_string)
        .chain(expected.iter().map(|row| row.profile.clone()))
        .collect();
    for id in ids {
        let happened = story(daemon, &id).await?;
        let wanted: Vec<&ExpectedRow> = expected.iter().filter(|row| row.profile == id).collect();
        for (position, row) in wanted.iter().enumerate() {
            let Some(found) = happened.get(position) else {
                verdict.differences.push(format!(
                    "{}: {id}: expected {}, but nothing more happened",
                    row.place,
                    tell_expected(row)
                ));
                continue;
            };
            if let Some(difference) = differs(row, found, provider) {
                verdict.differences.push(format!(
                    "{}: {id}: {difference}\n    expected {}\n    happened {}",
                    row.place,
                    tell_expected(row),
                    tell(found)
                ));
            }
        }
        for extra in happened.iter().skip(wanted.len()) {
            verdict.differences.push(format!(
                "{}: {id}: happened, and is not expected: {}",
                scenario.file,
                tell(extra)
            ));
        }
    }
    Ok(verdict)
}

/// What happened to somebody: rows of the log and exits, by time; at the same time in the order of the steps, the exit last.
async fn story(daemon: &Daemon, id: &str) -> Result<Vec<Happened>, DaemonError> {
    let mut tx = daemon.state.read().await?;
    let Some(number) =
        state::profile::numbers_of(&mut tx, &[id.to_owned()]).await?.into_iter().next().flatten()
    else {
        return Ok(Vec::new());
    };
    let order = step_order(daemon);
    let filter = Filter { profile: Some(number), ..Filter::default() };
    let mut happened: Vec<Happened> = state::delivery::find(&mut tx, &filter, None, 10_000)
        .await?
        .into_iter()
        .map(|row| Happened {
            at: row.settled_at.unwrap_or(row.delivery.decided_at),
            row: Some(row),
            exit: None,
        })
        .collect();
    for row in state::enrollment::of_profile(&mut tx, number).await? {
        if let Progress::Ended { exit, at } = &row.enrollment.progress {
            happened.push(Happened { at: *at, row: None, exit: Some(exit.as_str().to_owned()) });
        }
    }
    happened.sort_by_key(|one| {
        let step =
            one.row.as_ref().map_or(usize::MAX, |row| order.get(&row.delivery.step).copied().unwrap_or(0));
        (one.at, step)
    });
    Ok(happened)
}

fn step_order(daemon: &Daemon) -> BTreeMap<StepId, usize> {
    let mut order = BTreeMap::new();
    for playbook in daemon.project.playbooks.values() {
        playbook.walk(&mut |step| {
            let position = order.len() + 1;
            order.insert(step.id.clone(), position);
        });
    }
    order
}

fn differs(expected: &ExpectedRow, found: &Happened, provider: &Provider) -> Option<String> {
    if let Some(at) = expected.at.filter(|at| *at != found.at) {
        return Some(format!("at {at} was expected, {} it was", found.at));
    }
    if expected.exit != found.exit {
        return Some("another end was expected".to_owned());
    }
    let delivery = found.row.as_ref().map(|row| &row.delivery);
    if expected.step.is_some() && expected.step.as_ref() != delivery.map(|delivery| &delivery.step) {
        return Some("another step was expected".to_owned());
    }
    if let Some(state) =
        expected.state.filter(|state| Some(state.shown()) != delivery.map(|delivery| delivery.state.shown()))
    {
        return Some(format!("state `{}` was expected", state.shown()));
    }
    if let Some(reason) =
        expected.reason.filter(|reason| Some(*reason) != delivery.map(|delivery| delivery.reason))
    {
        return Some(format!("reason `{reason}` was expected"));
    }
    if expected.template.is_some()
        && expected.template.as_ref() != delivery.map(|delivery| &delivery.template)
    {
        return Some("another template was expected".to_owned());
    }
    let taken = lock(&provider.taken);
    let rendered = delivery.and_then(|delivery| taken.get(&delivery.id));
    if let Some(subject) = &expected.subject
        && rendered.map(|rendered| &rendered.subject) != Some(subject)
    {
        let was = rendered
            .map_or("nothing was sent".to_owned(), |rendered| format!("it was `{}`", rendered.subject));
        return Some(format!("the subject `{subject}` was expected, {was}"));
    }
    if let Some(part) = &expected.contains
        && !rendered.is_some_and(|rendered| {
            rendered.text.contains(part.as_str())
                || rendered.html.as_ref().is_some_and(|html| html.contains(part.as_str()))
        })
    {
        return Some(format!("the message does not contain `{part}`"));
    }
    None
}

fn tell_expected(row: &ExpectedRow) -> String {
    let mut parts = Vec::new();
    parts.extend(row.at.map(|at| format!("at {at}")));
    parts.extend(row.step.as_ref().map(|step| format!("step `{step}`")));
    parts.extend(row.state.map(|state| state.shown().to_owned()));
    parts.extend(row.reason.map(|reason| format!("({reason})")));
    parts.extend(row.exit.as_ref().map(|exit| format!("exit {exit}")));
    parts.join(" ")
}

fn tell(happened: &Happened) -> String {
    match (&happened.row, &happened.exit) {
        (Some(row), _) => {
            let delivery = &row.delivery;
            format!(
                "at {} step `{}` {} ({})",
                happened.at,
                delivery.step,
                delivery.state.shown(),
                delivery.reason
            )
        }
        (None, Some(exit)) => format!("at {} exit {exit}", happened.at),
        (None, None) => format!("at {}", happened.at),
    }
}

/// Runs a segment's query on given rows; what is wrong with the members it finds.
pub async fn play_segment(
    project: &Project,
    scenario: &Scenario,
    warehouse: warehouse::Warehouse,
) -> Result<Verdict, DaemonError> {
    let (Subject::Segment(name), Expected::Members(expected)) = (&scenario.subject, &scenario.expect) else {
        return Ok(Verdict::default());
    };
    let query = match project.segments.get(name).map(|segment| (&segment.source, segment)) {
        Some((SegmentSource::Sql(query), segment)) => (query, segment),
        _ => return Ok(Verdict { differences: vec![format!("segment `{name}` has no query of its own")] }),
    };
    let mut view = Source::Warehouse(Arc::new(warehouse)).view(scenario.start).await?;
    let mut members = BTreeSet::new();
    let pulled = view
        .segment_pages(query.1, query.0, async |page| {
            members.extend(page.rows.into_iter().filter_map(|(id, _)| id));
            Ok(())
        })
        .await;
    view.close().await;
    match pulled {
        Ok(()) => {}
        Err(SourceError::Warehouse(error)) => {
            let text = crate::stage::refresh::chain(&error);
            return Ok(Verdict { differences: vec![format!("the query failed: {text}")] });
        }
        Err(error) => return Err(error.into()),
    }
    let expected: BTreeSet<String> = expected.iter().cloned().collect();
    let list = |ids: Vec<&String>| ids.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let mut verdict = Verdict::default();
    let missing: Vec<&String> = expected.difference(&members).collect();
    if !missing.is_empty() {
        verdict.differences.push(format!("not in it, and expected: {}", list(missing)));
    }
    let extra: Vec<&String> = members.difference(&expected).collect();
    if !extra.is_empty() {
        verdict.differences.push(format!("in it, and not expected: {}", list(extra)));
    }
    Ok(verdict)
}
