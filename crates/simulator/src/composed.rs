//! The composed depth: the real `tick` and `pump` over a real SQLite file, with a provider that misbehaves, operators, and a process
//! that dies in the middle of what it does.
//!
//! First with faults, then in peace: what is left over must come to its end. Days here, not months: each pass is a real one.

pub mod bench;
mod machine;
mod operator;
mod project;
mod provider;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use ::project::Project;
use daemon::DaemonError;
use daemon::made::{Inner, MadeWorld};
use daemon::tick::Refresh;
use jiff::{SignedDuration, Timestamp};
use model::delivery::Delivery;
use model::enrollment::Enrollment;
use model::{DeliveryId, DeliveryState, ProfileNumber, SegmentName, Value};
use state::delivery::Filter;
use tempfile::TempDir;

use self::machine::{Death, Machine, Outside, POINTS, Pass, STEADY_POINTS, doom, spare};
use self::provider::Provider;
use crate::audit::{Auditor, Broken, Left, Log, Promise};
use crate::dice::Dice;
use crate::rules::Rules;
use crate::script::{Deed, Options, Script};
use crate::trace::{Failure, Trace};

pub use self::provider::{Handed, Listener, Moment};

/// What is special about a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Faults {
    /// Everything the seed draws.
    Drawn,
    /// The process dies often, and at any point.
    ManyCrashes,
    /// Only what does not hang on the scheduling of threads, and no doubt but by a crash: for runs that are compared.
    Steady,
    /// The same, and the process never dies.
    SteadyAlive,
}

/// What came of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Played {
    /// What was decided of whom, in lines that hang on no number.
    pub lines: Vec<String>,
    /// Where every row is at the end.
    pub states: BTreeMap<String, DeliveryState>,
    /// The audit log, sorted, since batches may be cut otherwise.
    pub audit: Vec<String>,
    /// How many messages left.
    pub left: u64,
    /// How often the process died.
    pub crashes: u64,
    /// How many rows were in doubt at any time.
    pub doubts: u64,
}

/// After the last act, so many days are played in peace.
const QUIET_DAYS: i64 = 5;
const STEPS_MAX: usize = 2_000;
/// At one time, so many turns at most.
const TURNS_MAX: usize = 8;
/// What is stopped is looked at again after so long.
const HELD: SignedDuration = SignedDuration::from_hours(5);

/// Plays the world of a seed to its end, under the auditor's eyes.
pub fn play(
    seed: u64,
    people: usize,
    days: u64,
    faults: Faults,
    test: &'static str,
) -> Result<Played, Failure> {
    let dice = Dice::new(seed).of("composed");
    let rules = Rules::of(dice.of("rules"));
    let mut options = Options::of(dice, people, days);
    match faults {
        Faults::Drawn => {}
        Faults::ManyCrashes => options.crashes = 70,
        Faults::Steady | Faults::SteadyAlive => {
            (options.refusals, options.hang_ups, options.doubts) = (0, 0, 0);
            options.crashes = if faults == Faults::Steady { 40 } else { 0 };
        }
    }
    let script = Script::of(dice.of("script"), &rules, &options);
    let mut trace = Trace::default();
    trace.note(script.start, format!("{options:?}"));
    let dir = folder();
    let outcome = dir.map_err(|error| error.to_string()).and_then(|dir| {
        let outside = outside(dice, &rules, &options, &script)?;
        let machine = Machine::start(&outside, dir.path(), script.start).map_err(|error| chain(&error))?;
        let composed = Composed {
            dice,
            rules: &rules,
            options: &options,
            faults,
            outside,
            dir: dir.path(),
            machine: Some(machine),
            auditor: Auditor::new(&rules),
            trace: &mut trace,
            gone: BTreeMap::new(),
            held_back: Vec::new(),
            deaths: 0,
            played: Played::default(),
        };
        Ok(composed.run(&script))
    });
    spare();
    let broken = match outcome {
        Ok(Ok(played)) => return Ok(played),
        Ok(Err(broken)) => broken,
        Err(saw) => Broken { promise: Promise::PassEnds, at: script.start, saw },
    };
    Err(Failure { seed, broken, test, trace })
}

/// A folder for a state: in memory, where there is one. What a power cut leaves is not played here.
fn folder() -> std::io::Result<TempDir> {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }
}

/// The files are read once; every run puts its own rules in.
fn base() -> Result<Project, String> {
    static BASE: OnceLock<Result<Project, String>> = OnceLock::new();
    let read = || {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        project::read(dir.path())
    };
    BASE.get_or_init(read).clone()
}

fn outside(dice: Dice, rules: &Rules, options: &Options, script: &Script) -> Result<Outside, String> {
    let mut inner = Inner::default();
    for human in &script.people {
        inner.profiles.insert(human.id.clone(), human.attributes.clone());
        for segment in &human.segments {
            inner.segments.entry(segment.clone()).or_default().insert(human.id.clone(), BTreeMap::new());
        }
    }
    Ok(Outside {
        project: project::ruled(base()?, rules),
        world: Arc::new(MadeWorld::new(inner)),
        provider: Arc::new(Provider::of(dice, options.clone())),
    })
}

struct Composed<'a> {
    dice: Dice,
    rules: &'a Rules,
    options: &'a Options,
    faults: Faults,
    outside: Outside,
    dir: &'a Path,
    /// `None` only while one process has died and the next has not begun.
    machine: Option<Machine>,
    auditor: Auditor<'a>,
    trace: &'a mut Trace,
    gone: BTreeMap<String, BTreeMap<String, Value>>,
    /// Words and suppressions that come between a decision and its pump.
    held_back: Vec<(Timestamp, Deed)>,
    deaths: u64,
    played: Played,
}

impl Composed<'_> {
    fn run(mut self, script: &Script) -> Result<Played, Broken> {
        for human in &script.people {
            self.auditor.is_now(&human.id, Some(human.attributes.clone()));
        }
        let mut acts = script.acts.iter().peekable();
        let end = script.end.checked_add(SignedDuration::from_hours(24 * QUIET_DAYS)).unwrap_or(script.end);
        let mut now = script.start;
        for step in 0..STEPS_MAX {
            let faulty = now < script.end;
            while let Some(act) = acts.next_if(|act| act.at <= now) {
                self.act(act, now)?;
            }
            if !faulty {
                self.outside.provider.heal();
                self.resume_all(now)?;
            }
            let next = self.step(step, faulty, now)?;
            let wakes = script
                .acts
                .iter()
                .filter(|act| act.at > now && matches!(act.deed, Deed::Resumes(_) | Deed::Edits(_)));
            let wakes = wakes.map(|act| act.at).min().into_iter().chain(faulty.then_some(script.end));
            now = next.into_iter().chain(wakes).min().unwrap_or(end);
            if now >= end {
                break;
            }
        }
        let log = self.log(now)?;
        self.auditor.conserved(&log, now)?;
        self.auditor.drained(&log, now)?;
        self.played.lines = log.lines();
        self.played.states = log.states();
        self.played.audit = self.audit_log(now)?;
        Ok(self.played)
    }

    /// Ticks and pumps until nothing moves; when to come again.
    fn step(&mut self, step: usize, faulty: bool, now: Timestamp) -> Result<Option<Timestamp>, Broken> {
        self.outside.provider.is_now(now);
        let mut refresh = Refresh::Due;
        let mut next = None;
        for turn in 0..TURNS_MAX {
            let dice = self.dice.of("turn").nth(step).nth(turn);
            let died = match self.death(dice).filter(|_| faulty) {
                Some(death) => Some((death, doom(death, Arc::clone(&self.outside.provider)))),
                None => None,
            };
            let idle = self.turn(refresh, now, &mut next)?;
            spare();
            refresh = Refresh::None;
            if let Some((death, _)) = died.filter(|(_, died)| died.load(Ordering::SeqCst)) {
                self.trace.note(now, format!("the process died at {} #{}", death.point, death.pass));
                self.restart(now)?;
                refresh = Refresh::Due;
            }
            if idle {
                break;
            }
        }
        self.audit(now)?;
        let drawn = matches!(self.faults, Faults::Drawn | Faults::ManyCrashes);
        if faulty && drawn && self.dice.of("doubts are closed").nth(step).chance(10) {
            self.close_doubts(now)?;
        }
        let later = now.checked_add(HELD).unwrap_or(now);
        Ok(next.map(|next: Timestamp| if next > now { next } else { later }))
    }

    fn death(&self, dice: Dice) -> Option<Death> {
        let points: &[&'static str] =
            if self.faults == Faults::Steady { &POINTS[..STEADY_POINTS] } else { POINTS };
        let death =
            Death { point: dice.of("point").pick::<&str>(points), pass: dice.of("pass").between(1, 3) };
        dice.of("dies").chance(self.options.crashes).then_some(death)
    }

    /// One tick and one pump; whether nothing was left to do.
    fn turn(
        &mut self,
        refresh: Refresh,
        now: Timestamp,
        next: &mut Option<Timestamp>,
    ) -> Result<bool, Broken> {
        let failed = |error: DaemonError| Broken { promise: Promise::PassEnds, at: now, saw: chain(&error) };
        let ticked = match self.machine().tick(refresh, now).map_err(failed)? {
            Pass::Done(ticked) => ticked,
            Pass::Died => return Ok(false),
        };
        if ticked.segments.is_empty() {
            self.auditor.looked_again();
        } else {
            self.auditor.warehouse_was_read();
            self.looked(true, now)?;
        }
        *next = ticked.next;
        for (at, deed) in std::mem::take(&mut self.held_back) {
            self.do_it(at, &deed, now)?;
        }
        match self.machine().pump(now).map_err(failed)? {
            Pass::Done(claimed) => Ok(ticked.moved == 0 && claimed == 0),
            Pass::Died => Ok(false),
        }
    }

    fn machine(&self) -> &Machine {
        self.machine.as_ref().unwrap_or_else(|| unreachable!("one process is always there"))
    }

    /// The next process begins where the last one ended.
    fn restart(&mut self, now: Timestamp) -> Result<(), Broken> {
        self.machine = None;
        self.deaths += 1;
        self.played.crashes += 1;
        let failed = |error: DaemonError| Broken { promise: Promise::PassEnds, at: now, saw: chain(&error) };
        self.machine = Some(Machine::start(&self.outside, self.dir, now).map_err(failed)?);
        self.looked(false, now)
    }

    /// Tells the auditor by which memberships people were let in, or may have been.
    fn looked(&mut self, whole: bool, now: Timestamp) -> Result<(), Broken> {
        let ids = self.ids(now)?;
        let names: Vec<SegmentName> = self.rules.segments.keys().cloned().collect();
        let daemon = Arc::clone(&self.machine().daemon);
        let read = self.machine().block_on(async {
            let mut tx = daemon.state.read().await?;
            let mut members = BTreeMap::new();
            for name in names {
                if let Some(current) = state::segment::current(&mut tx, &name).await? {
                    let inside =
                        current.members.iter().filter_map(|number| ids.get(&ProfileNumber(number)).cloned());
                    members.insert(name, inside.collect());
                }
            }
            Ok::<_, DaemonError>(members)
        });
        let read: BTreeMap<SegmentName, BTreeSet<String>> = read.map_err(|error| broken(now, &error))?;
        self.auditor.looked(read, whole);
        Ok(())
    }

    /// The auditor reads what left and what is written.
    fn audit(&mut self, now: Timestamp) -> Result<(), Broken> {
        let log = self.log(now)?;
        let (handed, bounced) = self.outside.provider.news();
        for enrollment in &log.enrollments {
            let whose = log.ids.get(&enrollment.profile).map_or("", String::as_str);
            self.auditor.enrolled(whose, enrollment)?;
        }
        let rows: BTreeMap<&DeliveryId, &Delivery> = log.rows.iter().map(|row| (&row.id, row)).collect();
        for handed in handed {
            let human = log.ids.get(&handed.profile).cloned().unwrap_or_default();
            self.trace.note(
                handed.at,
                format!("{human} {} {}: handed over, kept: {}", handed.playbook, handed.step, handed.kept),
            );
            let Some(row) = rows.get(&handed.delivery) else {
                let saw = format!("{human} got {} of {}, which is in no row", handed.step, handed.playbook);
                return Err(Broken { promise: Promise::ReasonGiven, at: handed.at, saw });
            };
            self.played.left += 1;
            self.auditor.left(&Left {
                at: handed.at,
                enrollment: row.enrollment.clone(),
                human,
                delivery: handed.delivery,
                playbook: handed.playbook,
                step: handed.step,
                address: handed.address,
                kept: handed.kept,
            })?;
        }
        for address in bounced {
            self.trace.note(now, "an address bounced");
            self.auditor.bounced(&address);
        }
        self.auditor.read(&log, now)
    }

    fn ids(&self, now: Timestamp) -> Result<BTreeMap<ProfileNumber, String>, Broken> {
        let ids: Vec<String> = (0..self.options.people).map(|position| format!("p{position:03}")).collect();
        let daemon = Arc::clone(&self.machine().daemon);
        let numbers = self.machine().block_on(async {
            let mut tx = daemon.state.read().await?;
            state::profile::numbers_of(&mut tx, &ids).await
        });
        let numbers = numbers.map_err(|error| broken(now, &error))?;
        Ok(numbers.into_iter().zip(ids).filter_map(|(number, id)| Some((number?, id))).collect())
    }

    fn log(&self, now: Timestamp) -> Result<Log, Broken> {
        let ids = self.ids(now)?;
        let daemon = Arc::clone(&self.machine().daemon);
        let numbers: Vec<ProfileNumber> = ids.keys().copied().collect();
        let read = self.machine().block_on(async {
            let mut tx = daemon.state.read().await?;
            let (mut rows, mut after): (Vec<Delivery>, _) = (Vec::new(), None);
            loop {
                let page = state::delivery::find(&mut tx, &Filter::default(), after.as_ref(), 1_000).await?;
                let Some(last) = page.last() else { break };
                after = Some(last.cursor());
                rows.extend(page.into_iter().map(|row| row.delivery));
            }
            let mut enrollments: Vec<Enrollment> = Vec::new();
            for number in numbers {
                let own = state::enrollment::of_profile(&mut tx, number).await?;
                enrollments.extend(own.into_iter().map(|row| row.enrollment));
            }
            Ok::<_, DaemonError>((rows, enrollments))
        });
        let (rows, enrollments) = read.map_err(|error| broken(now, &error))?;
        Ok(Log { rows, enrollments, ids })
    }

    fn audit_log(&self, now: Timestamp) -> Result<Vec<String>, Broken> {
        let daemon = Arc::clone(&self.machine().daemon);
        let read = self.machine().block_on(async {
            let mut tx = daemon.state.read().await?;
            let (mut lines, mut after) = (Vec::new(), -1);
            loop {
                let page = state::audit::entries(&mut tx, after, 1_000).await?;
                let Some(last) = page.last() else { break };
                after = last.batch;
                lines.extend(page.into_iter().map(|entry| entry.json));
            }
            Ok::<_, DaemonError>(lines)
        });
        let mut lines = read.map_err(|error| broken(now, &error))?;
        lines.sort();
        Ok(lines)
    }
}

fn broken(at: Timestamp, error: &dyn std::error::Error) -> Broken {
    Broken { promise: Promise::PassEnds, at, saw: chain(error) }
}

/// An error and what is behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(&format!(": {inner}"));
        source = inner.source();
    }
    text
}
