//! Who lives in the world of a seed, and what happens to them, dated: one script for both depths.
//!
//! What happens to a person hangs on the seed and the person's id alone; what an operator does, on the seed alone.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use model::consent::ConsentStatus;
use model::{Channel, PlaybookName, PurposeName, SegmentName, Value};

use crate::dice::Dice;
use crate::rules::{Rules, SEGMENTS, ZONES};

/// How often what happens, in hundredths: the swarm. Each is often zero, so that no fault hides another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// People.
    pub people: usize,
    /// Days played.
    pub days: u64,
    /// People go in and out of segments several times a week.
    pub flapping: u64,
    /// People take their consent back, and some give it again.
    pub withdrawals: u64,
    /// People and addresses are suppressed.
    pub suppressions: u64,
    /// People move to another zone, another address, another plan.
    pub moves: u64,
    /// People vanish from the warehouse, and some return.
    pub vanishing: u64,
    /// Everything, a destination or a playbook is stopped for a while.
    pub stops: u64,
    /// A playbook gets a new version while people are under way.
    pub edits: u64,
    /// The provider says that an address does not exist.
    pub bounces: u64,
    /// It says "not now" before it has seen the message.
    pub retries: u64,
    /// It hangs up, and says so, after it has seen the message.
    pub hang_ups: u64,
    /// It refuses a message it has seen.
    pub refusals: u64,
    /// It takes, or does not take, and never answers.
    pub doubts: u64,
    /// The process dies in a pass.
    pub crashes: u64,
}

impl Options {
    /// The options of a seed: so many people for so many days at most, with everything else drawn.
    pub fn of(dice: Dice, people: usize, days: u64) -> Self {
        let dice = dice.of("options");
        let often = |name: &str, most: u64| {
            let dice = dice.of(name);
            if dice.of("none").chance(35) { 0 } else { dice.of("often").between(1, most) }
        };
        Self {
            people,
            days,
            flapping: often("flapping", 100),
            withdrawals: often("withdrawals", 60),
            suppressions: often("suppressions", 30),
            moves: often("moves", 60),
            vanishing: often("vanishing", 20),
            stops: often("stops", 100),
            edits: often("edits", 100),
            bounces: often("bounces", 15),
            retries: often("retries", 30),
            hang_ups: often("hang_ups", 15),
            refusals: often("refusals", 10),
            doubts: often("doubts", 20),
            crashes: often("crashes", 60),
        }
    }
}

impl Options {
    /// The same people and days, and nothing goes wrong.
    pub fn calm(self) -> Self {
        let Self { people, days, .. } = self;
        Self {
            people,
            days,
            flapping: 0,
            withdrawals: 0,
            suppressions: 0,
            moves: 0,
            vanishing: 0,
            stops: 0,
            edits: 0,
            bounces: 0,
            retries: 0,
            hang_ups: 0,
            refusals: 0,
            doubts: 0,
            crashes: 0,
        }
    }
}

/// One person at the start.
#[derive(Debug, Clone, PartialEq)]
pub struct Human {
    /// The warehouse's id.
    pub id: String,
    /// The row of the warehouse.
    pub attributes: BTreeMap<String, Value>,
    /// Where the person is from the start.
    pub segments: BTreeSet<SegmentName>,
}

/// Something that happens.
#[derive(Debug, Clone, PartialEq)]
pub struct Act {
    /// When.
    pub at: Timestamp,
    /// What.
    pub deed: Deed,
}

/// What happens, in the warehouse or by an operator.
#[derive(Debug, Clone, PartialEq)]
pub enum Deed {
    /// The segment's query has the person from now on.
    Enters(String, SegmentName),
    /// It has not.
    Leaves(String, SegmentName),
    /// A word of consent.
    Says(String, Word),
    /// The person, or the person's present address, is never to be written to again.
    Suppresses(String, Whom),
    /// A column of the warehouse changes.
    Sets(String, &'static str, Value),
    /// The person is gone from the warehouse.
    Vanishes(String),
    /// The person is back.
    Returns(String),
    /// An operator stops something.
    Stops(Stop),
    /// And lets it go on.
    Resumes(Stop),
    /// A playbook's file changes.
    Edits(PlaybookName),
}

/// A word of consent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// `None`: every channel.
    pub channel: Option<Channel>,
    /// `None`: every purpose.
    pub purpose: Option<PurposeName>,
    /// Granted or withdrawn.
    pub status: ConsentStatus,
    /// Recorded here, and not in the warehouse.
    pub local: bool,
}

/// Whom a suppression is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// The person.
    Person,
    /// The person's address; spares what is transactional, as an unsubscribe does.
    Address,
}

/// What an operator can stop.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Everything is halted.
    All,
    /// The destination is halted.
    Destination,
    /// A playbook is paused.
    Playbook(PlaybookName),
}

/// The script of a seed.
#[derive(Debug, Clone)]
pub struct Script {
    /// When it begins.
    pub start: Timestamp,
    /// When the last act may be.
    pub end: Timestamp,
    /// Who is there.
    pub people: Vec<Human>,
    /// What happens, in order of time.
    pub acts: Vec<Act>,
}

/// Starts shortly before a change of clocks in at least one of the zones: the day Apia left out, Sao Paulo at midnight, Berlin.
const STARTS: &[&str] = &[
    "2011-12-26T10:00:00Z",
    "2018-10-30T05:00:00Z",
    "2019-02-12T05:00:00Z",
    "2026-03-05T09:00:00Z",
    "2026-03-25T04:00:00Z",
    "2026-10-20T16:00:00Z",
];

/// Whether the warehouse may say yes, later, to something wider or narrower than what a person said no to here.
const CROSSING_WORDS: bool = true;

const MINUTE: i64 = 60;
const DAY_MINUTES: u64 = 24 * 60;

impl Script {
    /// The script of a seed.
    pub fn of(dice: Dice, rules: &Rules, options: &Options) -> Self {
        let start = dice.of("start").pick(STARTS).parse().unwrap_or(Timestamp::UNIX_EPOCH);
        let span = Span { start, minutes: options.days * DAY_MINUTES };
        let mut people = Vec::new();
        let mut acts = operator(dice.of("operator"), rules, options, span);
        for position in 0..options.people {
            let id = format!("p{position:03}");
            let (human, own) = life(dice.of("people").of(&id), &id, options, span);
            people.push(human);
            acts.extend(own);
        }
        acts.sort_by_key(|act| act.at);
        Self { start, end: span.at(span.minutes), people, acts }
    }
}

/// The time a script covers.
#[derive(Clone, Copy)]
struct Span {
    start: Timestamp,
    minutes: u64,
}

impl Span {
    fn at(self, minute: u64) -> Timestamp {
        let seconds = i64::try_from(minute.min(self.minutes)).unwrap_or(0) * MINUTE;
        self.start.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(self.start)
    }

    fn some(self, dice: Dice) -> Timestamp {
        self.at(dice.below(self.minutes))
    }
}

/// A person, and what happens to the person.
fn life(dice: Dice, id: &str, options: &Options, span: Span) -> (Human, Vec<Act>) {
    let mut acts = Vec::new();
    let mut act = |at: Timestamp, deed: Deed| acts.push(Act { at, deed });
    let mut segments = BTreeSet::new();
    for name in SEGMENTS {
        let (dice, segment) = (dice.of(name), SegmentName::known(*name));
        let mut inside = dice.of("first").chance(if *name == "ticket" { 5 } else { 30 });
        if inside {
            segments.insert(segment.clone());
        }
        let pause =
            if dice.of("flaps").chance(options.flapping) { 4 * DAY_MINUTES } else { 30 * DAY_MINUTES };
        let (mut minute, mut turn) = (dice.of("begin").below(pause), 0);
        while minute < span.minutes && turn < 60 {
            inside = !inside;
            let (id, segment) = (id.to_owned(), segment.clone());
            act(span.at(minute), if inside { Deed::Enters(id, segment) } else { Deed::Leaves(id, segment) });
            minute += 30 + dice.of("turn").nth(turn).below(pause);
            turn += 1;
        }
    }
    for (at, word) in words(dice.of("words"), options, span) {
        act(at, Deed::Says(id.to_owned(), word));
    }
    if dice.of("suppressed").chance(options.suppressions) {
        let whom = if dice.of("whom").chance(50) { Whom::Person } else { Whom::Address };
        act(span.some(dice.of("suppressed at")), Deed::Suppresses(id.to_owned(), whom));
    }
    let plan_at = span.some(dice.of("plan at"));
    act(
        plan_at,
        Deed::Sets(
            id.to_owned(),
            "plan",
            text(dice.of("plan then").pick::<&str>(&["team", "trial", "none"])),
        ),
    );
    if dice.of("moves").chance(options.moves) {
        act(
            span.some(dice.of("moves at")),
            Deed::Sets(id.to_owned(), "timezone", text(dice.of("to").pick::<&str>(ZONES))),
        );
        let address =
            if dice.of("loses").chance(30) { String::new() } else { format!("{id}.new@example.test") };
        act(span.some(dice.of("address at")), Deed::Sets(id.to_owned(), "email", text(&address)));
    }
    if dice.of("vanishes").chance(options.vanishing) {
        let minute = dice.of("vanishes at").below(span.minutes);
        act(span.at(minute), Deed::Vanishes(id.to_owned()));
        act(span.at(minute + dice.of("returns").between(60, 6 * DAY_MINUTES)), Deed::Returns(id.to_owned()));
    }
    (Human { id: id.to_owned(), attributes: attributes(dice, id, span), segments }, acts)
}

fn attributes(dice: Dice, id: &str, span: Span) -> BTreeMap<String, Value> {
    let email = match dice.of("email").below(20) {
        0 => String::new(),
        1 => "not an address".to_owned(),
        _ => format!("{id}@example.test"),
    };
    let zone = if dice.of("no zone").chance(15) { "" } else { *dice.of("zone").pick(ZONES) };
    let country = *dice.of("country").pick(&["DE", "IN", "BR"]);
    let plan = *dice.of("plan").pick(&["trial", "trial", "none", "team"]);
    let trial = if dice.of("no trial").chance(30) {
        Value::Missing
    } else {
        Value::Time(span.some(dice.of("trial")))
    };
    [
        ("email", text(&email)),
        ("timezone", text(zone)),
        ("country", text(country)),
        ("plan", text(plan)),
        ("trial_ends_at", trial),
        ("first_name", text(id)),
    ]
    .map(|(column, value)| (column.to_owned(), value))
    .into()
}

/// What a person says: mostly yes at the start, and some take it back, here or in the warehouse, and some come back.
fn words(dice: Dice, options: &Options, span: Span) -> Vec<(Timestamp, Word)> {
    let mut words = Vec::new();
    let purpose = |dice: Dice| Some(PurposeName::known(*dice.pick(&["offers", "news", "tips"])));
    if dice.of("first").chance(80) {
        let wide = dice.of("wide").chance(60);
        for name in ["offers", "news"] {
            let named = (!wide).then(|| PurposeName::known(name));
            if wide && name != "offers" {
                continue;
            }
            let channel = dice.of(name).of("channel").chance(70).then_some(Channel::Email);
            words.push((
                span.start,
                Word { channel, purpose: named, status: ConsentStatus::Granted, local: false },
            ));
        }
    }
    for turn in 0..4 {
        let dice = dice.of("turn").nth(turn);
        if dice.of("says").chance(options.withdrawals) {
            let status =
                if dice.of("no").chance(65) { ConsentStatus::Withdrawn } else { ConsentStatus::Granted };
            let purpose = if dice.of("all").chance(40) { None } else { purpose(dice.of("purpose")) };
            let word =
                Word { channel: Some(Channel::Email), purpose, status, local: dice.of("local").chance(50) };
            words.push((span.some(dice.of("at")), word));
        }
    }
    if !CROSSING_WORDS {
        uncross(&mut words, span.start);
    }
    words
}

/// Lets nobody say no here, and the warehouse say yes to something wider or narrower later.
fn uncross(words: &mut [(Timestamp, Word)], start: Timestamp) {
    let no = |word: &Word| word.local && word.status == ConsentStatus::Withdrawn;
    let wide_no = words.iter().any(|(_, word)| no(word) && word.purpose.is_none());
    let any_no = words.iter().any(|(_, word)| no(word));
    for (at, word) in words {
        let yes = *at > start && !word.local && word.status == ConsentStatus::Granted;
        if yes && (wide_no || any_no && word.purpose.is_none()) {
            word.status = ConsentStatus::Withdrawn;
        }
    }
}

/// Halts, pauses and edits.
fn operator(dice: Dice, rules: &Rules, options: &Options, span: Span) -> Vec<Act> {
    let mut acts = Vec::new();
    let names: Vec<&PlaybookName> = rules.playbooks.keys().collect();
    for turn in 0..3 {
        let dice = dice.nth(turn);
        if dice.of("stops").chance(options.stops) {
            let (stop, longest) = match dice.of("what").below(4) {
                0 => (Stop::All, 2 * DAY_MINUTES),
                // A halted destination is asked again each minute: not for long.
                1 => (Stop::Destination, 20),
                _ => (Stop::Playbook((*dice.of("which").pick(&names)).clone()), 4 * DAY_MINUTES),
            };
            let begin = dice.of("begin").below(span.minutes);
            let end = begin + dice.of("long").between(2, longest);
            acts.push(Act { at: span.at(begin), deed: Deed::Stops(stop.clone()) });
            acts.push(Act { at: span.at(end), deed: Deed::Resumes(stop) });
        }
        if dice.of("edits").chance(options.edits) {
            let playbook = (*dice.of("edited").pick(&names)).clone();
            acts.push(Act { at: span.some(dice.of("edited at")), deed: Deed::Edits(playbook) });
        }
    }
    acts
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}
