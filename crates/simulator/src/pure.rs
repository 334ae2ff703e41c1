//! The pure depth: the engine over maps in memory, months in milliseconds. No database, no messages, no tasks.
//!
//! Time jumps from one thing that happens to the next. The turn is that of the daemon (`turn.rs`); what is behind it is as plain as
//! can be, so that a failure here is the engine's or the turn's, and nobody else's.

mod turn;

use std::collections::{BTreeMap, BTreeSet};

use engine::{Halts, Memberships, Version};
use jiff::{SignedDuration, Timestamp};
use model::consent::{ConsentEvent, ConsentOrigin, ConsentState, Suppression, SuppressionSubject};
use model::delivery::Delivery;
use model::enrollment::{Enrollment, Progress};
use model::id::AddressHash;
use model::playbook::{Action, Playbook, Wait};
use model::{
    Channel, DeliveryId, DestinationName, EnrollmentId, PlaybookName, ProfileNumber, PurposeName, Reason,
    SegmentName, Value,
};

use crate::audit::{Auditor, Broken, Log};
use crate::dice::Dice;
use crate::rules::{DESTINATION, Rules};
use crate::script::{Act, Deed, Human, Options, Script, Stop, Whom, Word};
use crate::trace::{Failure, Trace};

/// What is changed about a world whose decisions must stay the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// Nothing.
    Plain,
    /// People are numbered, and worked on, in another order.
    Shuffled,
    /// Somebody else lives in it, too.
    Stranger,
}

/// What came of a world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Played {
    /// What was decided of whom, in lines that hang on no number.
    pub lines: Vec<String>,
    /// How many messages left.
    pub left: u64,
    /// How many rows there are.
    pub rows: usize,
}

/// After the last act, so many days are played in peace.
const QUIET_DAYS: i64 = 16;
/// A world that has not come to its end by then never does.
const STEPS_MAX: usize = 100_000;

/// Plays the world of a seed to its end, under the auditor's eyes.
pub fn play(
    seed: u64,
    people: usize,
    days: u64,
    variant: Variant,
    test: &'static str,
) -> Result<Played, Failure> {
    let dice = Dice::new(seed);
    let rules = Rules::of(dice.of("rules"));
    let options = Options::of(dice, people, days);
    let mut script = Script::of(dice.of("script"), &rules, &options);
    match variant {
        Variant::Plain => {}
        Variant::Shuffled => {
            script.people.sort_by_key(|human| dice.of("shuffle").of(&human.id).below(u64::MAX))
        }
        Variant::Stranger => {
            let more = Options { people: people + 1, ..options.clone() };
            script = Script::of(dice.of("script"), &rules, &more);
            script.people.rotate_right(1);
        }
    }
    let mut pure = Pure::new(dice, &rules, &options, &script);
    match pure.run(&script) {
        Ok(()) => Ok(pure.played()),
        Err(broken) => Err(Failure { seed, broken, test, trace: pure.trace }),
    }
}

/// A row, and when it went.
#[derive(Debug, Clone)]
struct Row {
    delivery: Delivery,
    settled_at: Option<Timestamp>,
}

/// What is kept of a person.
#[derive(Debug, Clone, Default)]
struct Kept {
    consents: BTreeMap<(Option<Channel>, Option<PurposeName>), ConsentState>,
    suppressions: Vec<Suppression>,
    rows: Vec<DeliveryId>,
    /// The latest enrollment in each playbook.
    latest: BTreeMap<PlaybookName, EnrollmentId>,
}

/// A playbook under way.
#[derive(Debug, Clone)]
struct Book {
    playbook: Playbook,
    seen: BTreeSet<u32>,
    activated: bool,
}

/// Memberships as they were last refreshed, with since when.
#[derive(Debug, Default)]
struct Members {
    since: BTreeMap<SegmentName, BTreeMap<u32, Timestamp>>,
    now: Timestamp,
}

impl Memberships for Members {
    fn contains(&self, segment: &SegmentName, profile: ProfileNumber) -> bool {
        self.since.get(segment).is_some_and(|members| members.contains_key(&profile.0))
    }

    fn contains_for(&self, segment: &SegmentName, profile: ProfileNumber, at_least: SignedDuration) -> bool {
        let since = self.since.get(segment).and_then(|members| members.get(&profile.0));
        since.is_some_and(|since| self.now.duration_since(*since) >= at_least)
    }
}

struct Pure<'a> {
    dice: Dice,
    rules: &'a Rules,
    options: &'a Options,
    auditor: Auditor<'a>,
    trace: Trace,
    numbers: BTreeMap<String, u32>,
    ids: BTreeMap<ProfileNumber, String>,
    warehouse: BTreeMap<String, BTreeMap<String, Value>>,
    gone: BTreeMap<String, BTreeMap<String, Value>>,
    unread: Vec<(String, Word, Timestamp)>,
    truth: BTreeMap<SegmentName, BTreeSet<String>>,
    members: Members,
    refreshed: BTreeMap<SegmentName, Timestamp>,
    books: BTreeMap<PlaybookName, Book>,
    versions: BTreeMap<String, Version>,
    kept: BTreeMap<u32, Kept>,
    rows: BTreeMap<DeliveryId, Row>,
    pending: BTreeSet<DeliveryId>,
    enrollments: BTreeMap<EnrollmentId, Enrollment>,
    active: BTreeMap<PlaybookName, BTreeSet<EnrollmentId>>,
    /// Those whose row was settled.
    moved: BTreeSet<EnrollmentId>,
    halts: Halts,
    /// Between a decision and the pump that carries it out.
    lag: SignedDuration,
    /// Rows that were stopped when they were to be handed over, and when they are tried again.
    held: BTreeMap<DeliveryId, Timestamp>,
    changed: (BTreeSet<DeliveryId>, BTreeSet<EnrollmentId>),
    left: u64,
}

impl<'a> Pure<'a> {
    fn new(dice: Dice, rules: &'a Rules, options: &'a Options, script: &Script) -> Self {
        let numbers: BTreeMap<String, u32> =
            (1..).zip(&script.people).map(|(number, human)| (human.id.clone(), number)).collect();
        let book = |playbook: &Playbook| Book {
            playbook: playbook.clone(),
            seen: BTreeSet::new(),
            activated: false,
        };
        let books: BTreeMap<PlaybookName, Book> =
            rules.playbooks.iter().map(|(name, playbook)| (name.clone(), book(playbook))).collect();
        let mut truth: BTreeMap<SegmentName, BTreeSet<String>> = BTreeMap::new();
        for Human { id, segments, .. } in &script.people {
            for segment in segments {
                truth.entry(segment.clone()).or_default().insert(id.clone());
            }
        }
        let mut auditor = Auditor::new(rules);
        for human in &script.people {
            auditor.is_now(&human.id, Some(human.attributes.clone()));
        }
        let mut trace = Trace::default();
        trace.note(script.start, format!("{options:?}"));
        Self {
            ids: numbers.iter().map(|(id, number)| (ProfileNumber(*number), id.clone())).collect(),
            warehouse: script
                .people
                .iter()
                .map(|human| (human.id.clone(), human.attributes.clone()))
                .collect(),
            gone: BTreeMap::new(),
            unread: Vec::new(),
            members: Members::default(),
            refreshed: BTreeMap::new(),
            versions: books
                .values()
                .map(|book| (book.playbook.version.clone(), Version::new(book.playbook.clone())))
                .collect(),
            kept: numbers.values().map(|number| (*number, Kept::default())).collect(),
            rows: BTreeMap::new(),
            pending: BTreeSet::new(),
            enrollments: BTreeMap::new(),
            active: BTreeMap::new(),
            moved: BTreeSet::new(),
            halts: Halts::default(),
            lag: SignedDuration::from_mins(*dice.of("lag").pick(&[0, 0, 7, 95])),
            held: BTreeMap::new(),
            changed: Default::default(),
            left: 0,
            numbers,
            dice,
            rules,
            options,
            auditor,
            trace,
            truth,
            books,
        }
    }

    fn run(&mut self, script: &Script) -> Result<(), Broken> {
        let mut acts = script.acts.iter().peekable();
        let end = later(script.end, SignedDuration::from_hours(24 * QUIET_DAYS));
        let mut now = script.start;
        for _ in 0..STEPS_MAX {
            while let Some(act) = acts.next_if(|act| act.at <= now) {
                self.act(act);
            }
            if now >= script.end {
                self.resume_all();
            }
            self.step(now)?;
            let resumed = script.acts.iter().find(|act| act.at > now && matches!(act.deed, Deed::Resumes(_)));
            let act =
                resumed.map(|act| act.at).into_iter().chain((now < script.end).then_some(script.end)).min();
            now = self.next(now, act);
            if now > end {
                break;
            }
        }
        let log = self.log();
        self.auditor.conserved(&log, now)?;
        self.auditor.drained(&log, now)
    }

    /// When there is something to do again; always after now. What changes in the warehouse is seen when it is read.
    fn next(&self, now: Timestamp, act: Option<Timestamp>) -> Timestamp {
        let waking =
            self.active.values().flatten().filter_map(|id| match &self.enrollments.get(id)?.progress {
                Progress::Waiting { wake_at, .. } => Some(*wake_at),
                Progress::Sending { .. } | Progress::Ended { .. } => None,
            });
        let last = |name| self.refreshed.get(name).copied().unwrap_or(now);
        let schedules = self.rules.segments.iter().map(|(name, every)| later(last(name), *every));
        let pump = self.pending.iter().filter_map(|id| Some(self.goes_at(self.rows.get(id)?)));
        // What is stopped wakes when it goes on again, which is an act.
        let soonest = waking.chain(pump).filter(|at| *at > now).chain(schedules).chain(act).min();
        soonest.unwrap_or(Timestamp::MAX).max(later(now, SignedDuration::from_millis(1)))
    }

    /// When a pending row is handed over.
    fn goes_at(&self, row: &Row) -> Timestamp {
        let due = later(row.delivery.due_at, self.lag);
        self.held.get(&row.delivery.id).map_or(due, |held| due.max(*held))
    }

    fn act(&mut self, act: &Act) {
        self.trace.note(act.at, format!("{:?}", act.deed));
        match &act.deed {
            Deed::Enters(human, segment) => {
                self.truth.entry(segment.clone()).or_default().insert(human.clone());
            }
            Deed::Leaves(human, segment) => {
                self.truth.entry(segment.clone()).or_default().remove(human);
            }
            Deed::Says(human, word) => {
                self.auditor.said(human, word, act.at);
                if word.local {
                    self.record(human, word, act.at, act.at);
                } else {
                    self.unread.push((human.clone(), word.clone(), act.at));
                }
            }
            Deed::Suppresses(human, whom) => self.suppress(human, *whom, act.at),
            Deed::Sets(human, column, value) => {
                let row = self.warehouse.get_mut(human).or_else(|| self.gone.get_mut(human));
                if let Some(row) = row {
                    row.insert((*column).to_owned(), value.clone());
                }
                self.auditor.is_now(human, self.warehouse.get(human).cloned());
            }
            Deed::Vanishes(human) => {
                self.gone.extend(self.warehouse.remove_entry(human));
                self.auditor.is_now(human, None);
            }
            Deed::Returns(human) => {
                self.warehouse.extend(self.gone.remove_entry(human));
                self.auditor.is_now(human, self.warehouse.get(human).cloned());
            }
            Deed::Stops(stop) => {
                self.auditor.stopped(stop);
                match stop {
                    Stop::All => self.halts.all = true,
                    Stop::Destination => {
                        self.halts.destinations.extend([DestinationName::known(DESTINATION)]);
                    }
                    Stop::Playbook(name) => self.halts.playbooks.extend([name.clone()]),
                }
            }
            Deed::Resumes(stop) => self.resume(stop),
            Deed::Edits(playbook) => self.edit(playbook),
        }
    }

    fn resume(&mut self, stop: &Stop) {
        self.held.clear();
        self.auditor.resumed(stop);
        match stop {
            Stop::All => self.halts.all = false,
            Stop::Destination => self.halts.destinations.clear(),
            Stop::Playbook(name) => self.halts.playbooks.retain(|paused| paused != name),
        }
    }

    fn resume_all(&mut self) {
        let playbooks: Vec<Stop> = self.halts.playbooks.iter().cloned().map(Stop::Playbook).collect();
        for stop in [Stop::All, Stop::Destination].iter().chain(&playbooks) {
            self.resume(stop);
        }
    }

    /// A new version: every wait an hour longer. Who is under way stays on the old one.
    fn edit(&mut self, name: &PlaybookName) {
        let Some(book) = self.books.get_mut(name) else { return };
        book.playbook.version.push('+');
        for step in &mut book.playbook.steps {
            if let Action::Wait(Wait::For(long)) = &mut step.action {
                *long += SignedDuration::from_hours(1);
            }
        }
        self.versions.insert(book.playbook.version.clone(), Version::new(book.playbook.clone()));
    }

    /// A word goes into the ledger.
    fn record(&mut self, human: &str, word: &Word, changed_at: Timestamp, now: Timestamp) {
        let Some(number) = self.numbers.get(human).copied() else { return };
        let event = ConsentEvent {
            profile: ProfileNumber(number),
            channel: word.channel,
            purpose: word.purpose.clone(),
            status: word.status,
            changed_at,
            recorded_at: now,
            origin: if word.local { ConsentOrigin::Local } else { ConsentOrigin::Warehouse },
            source: "script".to_owned(),
            evidence: None,
        };
        let consents = &mut self.kept.entry(number).or_default().consents;
        let key = (word.channel, word.purpose.clone());
        if let Some(after) = model::consent::fold(consents.get(&key), &event) {
            consents.insert(key, after);
        }
    }

    fn suppress(&mut self, human: &str, whom: Whom, at: Timestamp) {
        self.auditor.suppressed(human, whom);
        let Some(number) = self.numbers.get(human).copied() else { return };
        let (subject, reason) = match whom {
            Whom::Person => (SuppressionSubject::Profile(ProfileNumber(number)), Reason::Manual),
            Whom::Address => match self.address(human) {
                Some(address) => {
                    (SuppressionSubject::Address(AddressHash::known(address)), Reason::OptoutChannel)
                }
                None => return,
            },
        };
        let suppression = Suppression {
            subject,
            channel: None,
            reason,
            since: at,
            source: "script".to_owned(),
            spares_transactional: whom == Whom::Address,
        };
        self.kept.entry(number).or_default().suppressions.push(suppression);
    }

    /// Addresses stand for their own hashes here.
    fn address(&self, human: &str) -> Option<String> {
        self.warehouse.get(human)?.get("email")?.as_text().map(str::to_owned)
    }

    fn log(&self) -> Log {
        Log {
            rows: self.rows.values().map(|row| row.delivery.clone()).collect(),
            enrollments: self.enrollments.values().cloned().collect(),
            ids: self.ids.clone(),
        }
    }

    fn played(&self) -> Played {
        Played { lines: self.log().lines(), left: self.left, rows: self.rows.len() }
    }
}

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}
