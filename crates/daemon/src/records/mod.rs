//! PUSH of records: they are read at their destination, and what is to change is written.
//!
//! | an entry is | what is read | then |
//! |---|---|---|
//! | to be written | nothing there, or a record | the fields that differ are written; not those that somebody else wrote |
//! | to be emptied, or undone | a record | the fields that are still ours are emptied, or made what they were |
//! | anything | several records with its key | it is refused: nobody knows which is meant |
//!
//! Before anything is handed over it is noted what may stand there from then on. A lost answer is no harm: the record is read again, and what
//! stands in it by our doing is known. A batch of which all are refused is tried in halves.

mod dry_run;

use std::sync::Arc;

use connector::{Described, Found, Looked, Object, Outcome, RecordKind, Row, Write, Written, Wrote};
use engine::record::{
    FieldValues, Present, RecordPast, RowPlan, adopt, hand_over, plan_record, plan_undo, taken,
};
use jiff::{SignedDuration, Timestamp};
use model::fault::mutant;
use model::sync::{Has, OnEdit, RecordSync, RecordTodo};
use model::{Reason, Refusal};
use serde::{Deserialize, Serialize};
use serde_json::json;
use state::audit::Entry;
use state::record::{RecordKey, RecordSet, Settled, Work};
use tokio::time::Instant;

use crate::daemon::{Carrier, Daemon, DaemonError, halts};
use crate::driver::Driver;
use crate::push::{Halves, Then, halt, is_lost, pause_after};
use crate::report::{Pushed, RecordReport};

pub use dry_run::{Foreseen, dry_run};

/// What a sealed record is bound to.
const RECORD: &str = "record";
/// What was made a moment ago may not be found yet, where a provider finds records by an index. So long nothing is made again.
const FOUND_AFTER: SignedDuration = SignedDuration::from_mins(2);

/// What is to stand in a record, as it is kept sealed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Content {
    /// The value of its key.
    pub key: String,
    /// The fields.
    pub fields: FieldValues,
    /// The account's id, where it is an account's.
    pub account: Option<String>,
}

impl Content {
    /// The same for what is to be written in the same way.
    pub(crate) fn to_text(&self, on_edit: OnEdit) -> String {
        json!([self.key, self.fields, on_edit.as_str()]).to_string()
    }
}

/// Seals something of a record.
pub(crate) fn seal(daemon: &Daemon, plain: &impl Serialize) -> Result<Vec<u8>, DaemonError> {
    let plain = serde_json::to_vec(plain).map_err(|_| DaemonError::Sealed)?;
    Ok(daemon.keys.seal(&plain, RECORD)?)
}

/// Opens what is to stand in a record.
pub fn open(daemon: &Daemon, sealed: &[u8]) -> Result<Content, DaemonError> {
    opened(daemon, sealed)
}

fn opened<T: for<'a> Deserialize<'a>>(daemon: &Daemon, sealed: &[u8]) -> Result<T, DaemonError> {
    let plain = daemon.keys.open(sealed, RECORD).map_err(|_| DaemonError::Sealed)?;
    serde_json::from_slice(&plain).map_err(|_| DaemonError::Sealed)
}

/// Asks destinations for all that is to be done in records and may be tried.
pub(crate) async fn push(daemon: &Daemon, now: Timestamp, pushed: &mut Pushed) -> Result<(), DaemonError> {
    let (sets, halts) = {
        let mut tx = daemon.state.read().await?;
        let sets = state::record::all(&mut tx).await?;
        if sets.is_empty() {
            return Ok(());
        }
        (sets, tx.ask(halts()).await?)
    };
    for set in sets {
        let destination = &set.at.destination;
        let is_stopped = halts.all || halts.destinations.contains(destination);
        let Some(carrier) = daemon.carriers.get(destination) else { continue };
        let Some(driver) = carrier.names() else { continue };
        let Some((kind, _)) = driver.records() else { continue };
        if matches!(carrier, Carrier::Made(..)) {
            foresee(daemon, &set, pushed).await?;
            continue;
        }
        if is_stopped || set.due_at > now || daemon.halted_destinations(now).contains_key(destination) {
            continue;
        }
        let keeps = keeps(daemon, &set);
        let (is_unique, rows) = (false, kind.rows_max);
        Pusher { daemon, driver, kind, keeps, set, is_unique, rows, now, pushed: &mut *pushed }.run().await?;
    }
    Ok(())
}

/// What the sync that keeps a set says of it; `None`: none does any more, and nothing new is written.
fn keeps<'a>(daemon: &'a Daemon, set: &RecordSet) -> Option<&'a RecordSync> {
    daemon.project.syncs.get(&set.sync)?.record().filter(|record| record.at == set.at)
}

/// What a plan says: nothing is asked of a destination, so it cannot know what stands there already.
async fn foresee(daemon: &Daemon, set: &RecordSet, pushed: &mut Pushed) -> Result<(), DaemonError> {
    let mut tx = daemon.state.read().await?;
    let counts = state::record::counts(&mut tx, set.number).await?;
    let (to_write, to_undo) =
        (counts.todo(RecordTodo::Write), counts.todo(RecordTodo::Clear) + counts.todo(RecordTodo::Revert));
    if to_write + to_undo > 0 {
        let report = RecordReport { to_write, to_undo, ..RecordReport::default() };
        pushed.records.insert(set.sync.clone(), report);
    }
    Ok(())
}

/// One set's share.
struct Pusher<'a> {
    daemon: &'a Daemon,
    driver: &'a Arc<Driver>,
    kind: RecordKind,
    keeps: Option<&'a RecordSync>,
    set: RecordSet,
    is_unique: bool,
    /// So many at once: less where a destination cannot read as many.
    rows: usize,
    now: Timestamp,
    pushed: &'a mut Pushed,
}

/// One record under way.
#[derive(Clone)]
struct Line {
    work: Work,
    content: Content,
    past: RecordPast,
    found: Option<Found>,
    /// Whether there is more than one such record.
    several: bool,
    plan: RowPlan,
    /// Whether something stands there as it is wanted that was not ours before.
    adopts: bool,
}

/// What a record comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComesTo {
    /// It is made.
    Made,
    /// It is there, and written.
    Written,
    /// It is as it is to be, as far as we may change it.
    Nothing,
    /// There are several with its key.
    Ambiguous,
}

impl Line {
    fn comes_to(&self, todo: RecordTodo) -> ComesTo {
        match &self.found {
            _ if self.several => ComesTo::Ambiguous,
            // A record of nothing but its key is made, too.
            None if todo == RecordTodo::Write => ComesTo::Made,
            _ if self.plan.write.is_empty() => ComesTo::Nothing,
            Some(_) => ComesTo::Written,
            None => ComesTo::Made,
        }
    }

    /// What stands in the record, where that can be read.
    fn present(&self, reads: bool) -> Present<'_> {
        match (&self.found, reads) {
            (_, false) => Present::Unknown,
            (Some(found), true) => Present::Fields(&found.fields),
            (None, true) => Present::Nothing,
        }
    }

    fn settled(&self, has: Has, todo: RecordTodo, reason: Reason) -> Settled {
        Settled {
            key: self.work.key.clone(),
            digest: self.work.digest.clone(),
            past: None,
            remote: self.found.as_ref().map(|found| found.id.clone()),
            has,
            kept: self.plan.kept.len() as u64,
            todo,
            reason,
        }
    }
}

impl Pusher<'_> {
    async fn run(&mut self) -> Result<(), DaemonError> {
        let mut is_described = false;
        loop {
            let mut tx = self.daemon.state.read().await?;
            let mut batch = None;
            for todo in [RecordTodo::Revert, RecordTodo::Clear, RecordTodo::Write] {
                if todo == RecordTodo::Write && (self.keeps.is_none() || self.set.reverted_at.is_some()) {
                    continue;
                }
                let work = state::record::work(&mut tx, self.set.number, todo, self.rows).await?;
                if !work.is_empty() {
                    batch = Some((todo, work));
                    break;
                }
            }
            drop(tx);
            let Some((todo, work)) = batch else { return Ok(()) };
            if let Err(refusal) = self.driver.may_hand_over() {
                halt(self.daemon, &self.set.at.destination, refusal, self.pushed, self.now);
                return Ok(());
            }
            if !is_described && self.describe().await? == Then::Stop {
                return Ok(());
            }
            is_described = true;
            if self.batch(todo, work).await? == Then::Stop {
                return Ok(());
            }
        }
    }

    fn object(&self) -> Object {
        let fields = self.keeps.map(|keeps| keeps.fields.clone()).unwrap_or_default();
        Object { name: self.set.at.object.clone(), key: self.set.at.key.clone(), fields }
    }

    /// Learns whether the object and its fields are there.
    async fn describe(&mut self) -> Result<Then, DaemonError> {
        let Some((_, records)) = self.driver.records() else { return Ok(Then::Stop) };
        self.driver.pace().await;
        let described = self.driver.converse(records.describe(&self.object(), self.now), None).await;
        match described {
            Described::Object { is_unique, unusable } if unusable.is_empty() => {
                self.is_unique = is_unique;
                Ok(Then::GoOn)
            }
            Described::Object { unusable, .. } => {
                let fields: Vec<String> =
                    unusable.iter().map(|(field, why)| format!("`{field}` {why}")).collect();
                let saw = format!("{}: {}", self.set.at.object, fields.join(", "));
                self.put_off(SignedDuration::from_mins(15), Refusal { reason: Reason::SchemaDrift, saw })
                    .await?;
                Ok(Then::Stop)
            }
            Described::Not(outcome) => self.stop_after(&outcome, SignedDuration::ZERO).await,
        }
    }

    /// Reads what is there, writes what differs, and keeps what comes of it.
    async fn batch(&mut self, todo: RecordTodo, work: Vec<Work>) -> Result<Then, DaemonError> {
        let count = work.len();
        let lines = match self.look(todo, work).await? {
            Ok(lines) => lines,
            Err(outcome) if self.reads_fewer_after(&outcome, count) => return Ok(Then::GoOn),
            Err(outcome) => return self.stop_after(&outcome, SignedDuration::ZERO).await,
        };
        let (mut settled, mut report) = (Vec::new(), RecordReport::default());
        let (mut there, mut not_there) = (Vec::new(), Vec::new());
        for line in lines {
            match line.comes_to(todo) {
                ComesTo::Ambiguous => {
                    report.rejected += 1;
                    settled.push(line.settled(line.work.has, RecordTodo::Rejected, Reason::DuplicateRecord));
                }
                ComesTo::Nothing => {
                    report.same += 1;
                    report.kept += u64::from(!line.plan.kept.is_empty());
                    let has = if todo == RecordTodo::Write { Has::Yes } else { Has::No };
                    let reason =
                        if line.plan.kept.is_empty() { Reason::OkApplied } else { Reason::HumanEditWins };
                    let past = line.adopts.then(|| seal(self.daemon, &line.past)).transpose()?;
                    settled.push(Settled { past, ..line.settled(has, RecordTodo::Nothing, reason) });
                }
                ComesTo::Written => there.push(line),
                ComesTo::Made => not_there.push(line),
            }
        }
        self.keep(todo, &settled, &report).await?;
        for group in [there, not_there] {
            if !group.is_empty() && self.send(todo, group).await? == Then::Stop {
                return Ok(Then::Stop);
            }
        }
        Ok(Then::GoOn)
    }

    /// Whether fewer are read from now on: so many have more to say than an answer holds.
    fn reads_fewer_after(&mut self, outcome: &Outcome, count: usize) -> bool {
        let is_too_much = matches!(outcome, Outcome::Rejected { .. }) && count > 1;
        if is_too_much {
            self.rows = count / 2;
        }
        is_too_much
    }

    /// What is there of each, and what follows. `Err`: it cannot be read now.
    async fn look(
        &self,
        todo: RecordTodo,
        work: Vec<Work>,
    ) -> Result<Result<Vec<Line>, Outcome>, DaemonError> {
        let mut lines = Vec::with_capacity(work.len());
        for work in work {
            let content: Content = opened(self.daemon, &work.sealed)?;
            let past = match work.past.is_empty() {
                true => RecordPast::new(),
                false => opened(self.daemon, &work.past)?,
            };
            lines.push(Line {
                work,
                content,
                past,
                found: None,
                several: false,
                plan: RowPlan::default(),
                adopts: false,
            });
        }
        if self.kind.reads {
            let found = match self.read(&lines).await {
                Looked::Found(found) if found.len() == lines.len() => found,
                Looked::Found(_) => {
                    let detail = "the connector did not say what it found of each".to_owned();
                    return Ok(Err(Outcome::InDoubt { detail }));
                }
                Looked::Not(outcome) => return Ok(Err(outcome)),
            };
            for (line, mut found) in lines.iter_mut().zip(found) {
                line.several = found.len() > 1;
                line.found = found.pop().filter(|_| !line.several);
            }
        }
        for line in &mut lines {
            let present = line.present(self.kind.reads);
            let plan = match todo {
                _ if line.several => RowPlan::default(),
                RecordTodo::Write => {
                    let on_edit = self.keeps.map_or(OnEdit::Keep, |keeps| keeps.on_edit);
                    plan_record(&line.content.fields, &line.past, present, on_edit)
                }
                _ => plan_undo(&line.past, present, todo == RecordTodo::Clear),
            };
            let mut past = line.past.clone();
            line.adopts = todo == RecordTodo::Write && adopt(&mut past, &line.content.fields, present);
            (line.plan, line.past) = (plan, past);
        }
        Ok(Ok(lines))
    }

    async fn read(&self, lines: &[Line]) -> Looked {
        let Some((_, records)) = self.driver.records() else { return Looked::Not(Outcome::NotArmed) };
        let keys: Vec<String> = lines.iter().map(|line| line.content.key.clone()).collect();
        let mut object = self.object();
        // What is undone may have been written by an earlier version of the file.
        let pasts = lines.iter().flat_map(|line| line.past.keys());
        object.fields.extend(pasts.cloned());
        object.fields.sort();
        object.fields.dedup();
        self.driver.pace().await;
        self.driver.converse(records.read(&object, self.is_unique, &keys, self.now), None).await
    }

    /// Hands a group over: notes what may stand there from then on, writes, in halves where that is needed, and keeps what is said.
    async fn send(&mut self, todo: RecordTodo, group: Vec<Line>) -> Result<Then, DaemonError> {
        let mut halves = Halves::of(group);
        while let Some(lines) = halves.next() {
            self.driver.pace().await;
            let lines = self.note(todo, lines).await?;
            if lines.is_empty() {
                continue;
            }
            let wrote = self.write(&lines, Instant::now()).await;
            let is_refused = matches!(wrote, Wrote::All(Outcome::Rejected { .. }));
            let is_any_taken = matches!(wrote, Wrote::Each(_) | Wrote::All(Outcome::Accepted { .. }));
            if halves.halve(&lines, is_refused, is_any_taken) {
                continue;
            }
            if self.settle(todo, lines, wrote).await? == Then::Stop {
                return Ok(Then::Stop);
            }
        }
        Ok(Then::GoOn)
    }

    /// Notes, in the transaction before it is handed over, what may stand in records from then on. What was erased, or is to be something else by
    /// now, is not handed over.
    async fn note(&self, todo: RecordTodo, mut lines: Vec<Line>) -> Result<Vec<Line>, DaemonError> {
        let mut entries: Vec<(RecordKey, String, Vec<u8>)> = Vec::with_capacity(lines.len());
        for line in &mut lines {
            let mut past = line.past.clone();
            hand_over(&mut past, &line.plan.write, line.present(self.kind.reads));
            line.past = past;
            entries.push((line.work.key.clone(), line.work.digest.clone(), seal(self.daemon, &line.past)?));
        }
        let mut tx = self.daemon.deciding().await?;
        let still = state::record::hand_over(&mut tx, self.set.number, todo, &entries).await?;
        model::fault::point("push.before_commit");
        tx.commit().await?;
        model::fault::point("push.after_commit");
        lines.retain(|line| still.contains(&line.work.key));
        Ok(lines)
    }

    async fn write(&self, lines: &[Line], armed: Instant) -> Wrote {
        let Some((_, records)) = self.driver.records() else { return Wrote::All(Outcome::NotArmed) };
        // Not of the content alone: what is written, changed and written again is another write.
        let trace = |line: &Line| {
            let (set, of) = (self.set.number.to_string(), line.work.key.of.to_text());
            let since = line.work.since.as_millisecond().to_string();
            let key = line.work.key.key.as_str();
            format!("{:016x}", model::id::bucket(&[&set, &of, key, &line.work.digest, &since]))
        };
        let rows: Vec<Row> = lines
            .iter()
            .map(|line| Row {
                key: line.content.key.clone(),
                id: line.found.as_ref().map(|found| found.id.clone()),
                fields: line.plan.write.clone(),
                trace: trace(line),
            })
            .collect();
        let traces: Vec<&str> = rows.iter().map(|row| row.trace.as_str()).collect();
        let key = format!("{:016x}", model::id::bucket(&traces));
        let write =
            Write { object: self.object(), is_unique: self.is_unique, rows: rows.into(), key, at: self.now };
        self.driver.converse(records.write(&write), Some(armed)).await
    }

    /// Keeps what the destination said of each.
    async fn settle(
        &mut self,
        todo: RecordTodo,
        lines: Vec<Line>,
        wrote: Wrote,
    ) -> Result<Then, DaemonError> {
        let all: Vec<Written> = match wrote {
            Wrote::All(outcome) => vec![Written::from(outcome); lines.len()],
            Wrote::Each(all) if all.len() == lines.len() => all,
            Wrote::Each(_) => {
                let detail = "the connector did not say what became of each".to_owned();
                vec![Written::from(Outcome::InDoubt { detail }); lines.len()]
            }
        };
        let (mut settled, mut stop, mut report) = (Vec::new(), None, RecordReport::default());
        let mut why = None;
        for (line, written) in lines.iter().zip(&all) {
            let had = line.work.has;
            report.kept += u64::from(!line.plan.kept.is_empty());
            let one = match &written.outcome {
                Outcome::Accepted { receipt } => {
                    let mut past = line.past.clone();
                    taken(&mut past, &line.plan.write, &written.fields);
                    let is_undone = todo != RecordTodo::Write;
                    match (is_undone, line.found.is_some() || !self.kind.reads) {
                        (true, _) => report.undone += 1,
                        (false, true) => report.written += 1,
                        (false, false) => report.made += 1,
                    }
                    let has = if is_undone { Has::No } else { Has::Yes };
                    let settled = line.settled(has, RecordTodo::Nothing, Reason::OkApplied);
                    let told = (self.kind.reads && !receipt.is_empty()).then(|| receipt.clone());
                    let remote = told.or(settled.remote);
                    Settled { past: Some(seal(self.daemon, &past)?), remote, ..settled }
                }
                Outcome::Rejected { reason, detail, .. } => {
                    report.rejected += 1;
                    why.get_or_insert_with(|| detail.clone());
                    line.settled(had, RecordTodo::Rejected, *reason)
                }
                outcome => {
                    let is_lost = is_lost(outcome);
                    report.unknown += u64::from(is_lost);
                    report.not_taken += u64::from(!is_lost);
                    stop = stop.or_else(|| Some((outcome.clone(), is_lost && line.found.is_none())));
                    line.settled(if is_lost { Has::Maybe } else { had }, todo, Reason::OkDue)
                }
            };
            settled.push(one);
        }
        model::fault::point("push.before_settle");
        self.keep(todo, &settled, &report).await?;
        if report.rejected > 0 {
            tracing::warn!(
                destination = %self.set.at.destination, sync = %self.set.sync, rejected = report.rejected,
                "Destination `{}` refuses {} records of sync `{}`: {}.", self.set.at.destination, report.rejected, self.set.sync,
                why.unwrap_or_default()
            );
        }
        match stop {
            Some((outcome, may_be_made)) => {
                let may_be_made = may_be_made && !self.is_unique && !mutant("made_again_at_once");
                self.stop_after(&outcome, if may_be_made { FOUND_AFTER } else { SignedDuration::ZERO }).await
            }
            None if self.set.failures > 0 => {
                self.set.failures = 0;
                let mut tx = self.daemon.deciding().await?;
                state::record::try_at(&mut tx, self.set.number, self.now, 0).await?;
                tx.commit().await?;
                Ok(Then::GoOn)
            }
            None => Ok(Then::GoOn),
        }
    }

    async fn keep(
        &mut self,
        todo: RecordTodo,
        settled: &[Settled],
        report: &RecordReport,
    ) -> Result<(), DaemonError> {
        if settled.is_empty() {
            return Ok(());
        }
        let mut tx = self.daemon.deciding().await?;
        state::record::settle(&mut tx, self.set.number, todo, settled, self.now).await?;
        let body = json!({
            "destination": self.set.at.destination.as_str(), "sync": self.set.sync.as_str(), "object": self.set.at.object, "do": todo.as_str(),
            "made": report.made, "written": report.written, "same": report.same, "undone": report.undone, "kept": report.kept,
            "rejected": report.rejected, "unknown": report.unknown, "not_taken": report.not_taken,
            "records": settled.iter().map(|one| one.remote.as_deref()).collect::<Vec<_>>(),
        });
        state::audit::append(&mut tx, &[Entry { kind: "record_push", at: self.now, body }]);
        tx.commit().await?;
        self.pushed.records.entry(self.set.sync.clone()).or_default().add(report);
        Ok(())
    }

    /// What is not an answer to what was asked: nothing is tried for a while, and not before `at_least`.
    async fn stop_after(&mut self, outcome: &Outcome, at_least: SignedDuration) -> Result<Then, DaemonError> {
        let (pause, refusal) = pause_after(outcome, self.set.failures + 1);
        if matches!(outcome, Outcome::Halt { .. }) {
            halt(self.daemon, &self.set.at.destination, refusal, self.pushed, self.now);
        } else {
            self.put_off(pause.max(at_least), refusal).await?;
        }
        Ok(Then::Stop)
    }

    async fn put_off(&mut self, pause: SignedDuration, refusal: Refusal) -> Result<(), DaemonError> {
        self.set.failures += 1;
        tracing::warn!(
            destination = %self.set.at.destination, sync = %self.set.sync, reason = refusal.reason.as_str(),
            "The records of sync `{}` at `{}` are tried again in {}s: {}.", self.set.sync, self.set.at.destination, pause.as_secs(), refusal.saw
        );
        self.pushed.records_put_off.insert(self.set.sync.clone(), refusal);
        let due_at = self.now.checked_add(pause).unwrap_or(self.now);
        let mut tx = self.daemon.deciding().await?;
        state::record::try_at(&mut tx, self.set.number, due_at, self.set.failures).await?;
        tx.commit().await?;
        Ok(())
    }
}
