//! One person, one playbook, one message: a small composed world in which a test says itself what happens between the passes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use daemon::DaemonError;
use daemon::made::{Inner, MadeConsent, MadeWorld};
use daemon::tick::Refresh;
use jiff::{SignedDuration, Timestamp};
use model::consent::{ConsentEvent, ConsentOrigin, ConsentStatus};
use model::playbook::{Action, Backfill, ExitRule, Playbook, Reenter, Send, Step, Wait};
use model::policy::{Localized, OwnGuards, Policy, Purpose};
use model::{
    BrandName, Channel, DestinationName, MessageClass, PlaybookName, ProfileNumber, PurposeName, Secret,
    SegmentName, StepId, TemplateName, Value,
};
use state::delivery::{Filter, LoggedDelivery};
use state::{Access, State, StateError, Tx};
use tempfile::TempDir;

use super::machine::{Machine, Outside, Pass};
use super::provider::{Handed, Listener, Provider};
use super::{base, chain, folder, project};
use crate::dice::Dice;
use crate::rules::{BRAND, DESTINATION, Rules, TEMPLATE, zone};
use crate::script::Options;

/// The person.
const ANA: &str = "ana";

/// See the module. Every failure is told as text: these worlds have no faults of their own.
pub struct Bench {
    dir: TempDir,
    outside: Outside,
    machine: Option<Machine>,
}

impl Bench {
    /// Ana is in the segment, said yes in the warehouse at the start, and gets one marketing message.
    pub fn new(start: Timestamp) -> Result<Self, String> {
        Self::following(start, &[])
    }

    /// As [`Bench::following`], in production, where guards hold. A person has activated the playbook.
    pub fn in_production(start: Timestamp, waits: &[SignedDuration]) -> Result<Self, String> {
        let bench = Self::made(start, waits, true)?;
        let key = daemon::stage::enter::activation_key(&PlaybookName::known("hello"));
        bench.write(async |tx| state::meta::set(tx, &key, "activated").await)?;
        Ok(bench)
    }

    /// The same, and another message after each of these waits.
    pub fn following(start: Timestamp, waits: &[SignedDuration]) -> Result<Self, String> {
        Self::made(start, waits, false)
    }

    fn made(start: Timestamp, waits: &[SignedDuration], production: bool) -> Result<Self, String> {
        let dir = folder().map_err(|error| error.to_string())?;
        let mut inner = Inner::default();
        let ana = [("email", "ana@example.test"), ("first_name", "Ana")];
        let ana = ana.map(|(column, value)| (column.to_owned(), Value::Text(value.to_owned())));
        inner.profiles.insert(ANA.to_owned(), ana.into());
        inner.segments.insert(SegmentName::known("people"), [(ANA.to_owned(), BTreeMap::new())].into());
        let calm = Options::of(Dice::new(0), 1, 1).calm();
        let outside = Outside {
            project: {
                let mut project = project::ruled(base()?, &rules(waits));
                Arc::make_mut(&mut project).settings.production = production;
                project
            },
            world: Arc::new(MadeWorld::new(inner)),
            provider: Arc::new(Provider::of(Dice::new(0), calm)),
        };
        let mut bench = Self { dir, outside, machine: None };
        bench.warehouse_says(ConsentStatus::Granted, start);
        bench.restart(start)?;
        Ok(bench)
    }

    /// A process ends, if there is one, and another begins.
    pub fn restart(&mut self, now: Timestamp) -> Result<(), String> {
        self.machine = None;
        self.machine =
            Some(Machine::start(&self.outside, self.dir.path(), now).map_err(|error| chain(&error))?);
        Ok(())
    }

    /// Begins a second process beside the first; what becomes of it.
    pub fn second(&self, now: Timestamp) -> Result<(), DaemonError> {
        Machine::start(&self.outside, self.dir.path(), now).map(|_| ())
    }

    /// One tick.
    pub fn tick(&self, now: Timestamp) -> Result<(), String> {
        match self.machine()?.tick(Refresh::Due, now) {
            Ok(Pass::Done(_)) => Ok(()),
            Ok(Pass::Died) => Err("the tick died".to_owned()),
            Err(error) => Err(chain(&error)),
        }
    }

    /// One pump; how many rows it claimed.
    pub fn pump(&self, now: Timestamp) -> Result<u64, String> {
        self.outside.provider.is_now(now);
        match self.machine()?.pump(now) {
            Ok(Pass::Done(claimed)) => Ok(claimed),
            Ok(Pass::Died) => Err("the pump died".to_owned()),
            Err(error) => Err(chain(&error)),
        }
    }

    /// One whole pass, as `run --once` makes it, with a clock that shows what `now` says whenever it is read.
    pub fn run_once(&self, now: impl Fn() -> Timestamp) -> Result<(), String> {
        match self.machine()?.run_once(now) {
            Ok(Pass::Done(_)) => Ok(()),
            Ok(Pass::Died) => Err("the pass died".to_owned()),
            Err(error) => Err(chain(&error)),
        }
    }

    /// The warehouse has a row about Ana's consent to the purpose.
    pub fn warehouse_says(&self, status: ConsentStatus, at: Timestamp) {
        let (channel, purpose) = (Some(Channel::Email), Some(PurposeName::known("offers")));
        let row = MadeConsent { profile: ANA.to_owned(), channel, purpose, status, changed_at: at };
        self.outside.world.lock().consents.push(row);
    }

    /// So many more people are in the segment, to none of whom anybody may write.
    pub fn crowd(&self, many: u32) {
        let mut world = self.outside.world.lock();
        let members = world.segments.entry(SegmentName::known("people")).or_default();
        members.extend((0..many).map(|n| (format!("stranger {n}"), BTreeMap::new())));
    }

    /// How many are in the segment, as far as the state believes.
    pub fn members(&self) -> Result<u64, String> {
        let name = SegmentName::known("people");
        let current = self.write(async |tx| state::segment::current(tx, &name).await)?;
        Ok(current.map_or(0, |current| current.members.len()))
    }

    /// Somebody listens to the provider.
    pub fn listen(&self, listener: Listener) {
        self.outside.provider.listen(listener);
    }

    /// What was handed over since this was last asked.
    pub fn handed(&self) -> Vec<Handed> {
        self.outside.provider.news().0
    }

    /// The log.
    pub fn rows(&self) -> Result<Vec<LoggedDelivery>, String> {
        self.write(async |tx| state::delivery::find(tx, &Filter::default(), None, 1_000).await)
    }

    /// Does something to the state, in a transaction of its own, in the process.
    pub fn write<T>(&self, work: impl AsyncFnOnce(&mut Tx) -> Result<T, StateError>) -> Result<T, String> {
        let machine = self.machine()?;
        let daemon = Arc::clone(&machine.daemon);
        machine.block_on(commit(&daemon.state, work)).map_err(|error| chain(&error))
    }

    /// The folder, for [`elsewhere`].
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn machine(&self) -> Result<&Machine, String> {
        self.machine.as_ref().ok_or_else(|| "no process".to_owned())
    }
}

/// Does something to a state from another thread with a connection of its own, as `web` and the command line do, and returns when
/// it is committed.
pub fn elsewhere<T: std::marker::Send>(
    dir: &Path,
    work: impl AsyncFnOnce(&mut Tx) -> Result<T, StateError> + std::marker::Send,
) -> Result<T, String> {
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| error.to_string())?;
            let done = runtime.block_on(async {
                let state = State::open(&Secret::new("sqlite://state.db"), dir, Access::ReadWrite).await?;
                commit(&state, work).await
            });
            done.map_err(|error| chain(&error))
        });
        other.join().unwrap_or_else(|_| Err("the other thread died".to_owned()))
    })
}

async fn commit<T>(
    state: &State,
    work: impl AsyncFnOnce(&mut Tx) -> Result<T, StateError>,
) -> Result<T, StateError> {
    let mut tx = state.write().await?;
    let done = work(&mut tx).await?;
    tx.commit().await?;
    Ok(done)
}

/// Ana says no, here.
pub fn no(profile: ProfileNumber, at: Timestamp) -> ConsentEvent {
    ConsentEvent {
        profile,
        channel: Some(Channel::Email),
        purpose: Some(PurposeName::known("offers")),
        status: ConsentStatus::Withdrawn,
        changed_at: at,
        recorded_at: at,
        origin: ConsentOrigin::Local,
        source: "link".to_owned(),
        evidence: None,
    }
}

fn rules(waits: &[SignedDuration]) -> Rules {
    let purpose = PurposeName::known("offers");
    let offers = Purpose {
        name: purpose.clone(),
        title: Localized::default(),
        class: MessageClass::Marketing,
        brand: BrandName::known(BRAND),
    };
    let send = Send {
        template: TemplateName::known(TEMPLATE),
        destination: DestinationName::known(DESTINATION),
        purpose: purpose.clone(),
        with: BTreeMap::new(),
        expires: None,
        window: None,
    };
    let hello = Step { id: StepId::known("hello"), condition: None, action: Action::Send(send) };
    let mut steps = vec![hello.clone()];
    for (position, wait) in waits.iter().enumerate() {
        let id = |what: &str| StepId::known(format!("{what}_{position}"));
        let wait = Action::Wait(Wait::For(*wait));
        steps.push(Step { id: id("wait"), condition: None, action: wait });
        steps.push(Step { id: id("hello"), ..hello.clone() });
    }
    let playbook = Playbook {
        name: PlaybookName::known("hello"),
        title: "Hello".to_owned(),
        owner: "simulator@example.test".to_owned(),
        why: "To be simulated.".to_owned(),
        tags: Vec::new(),
        version: "hello-1".to_owned(),
        enter: SegmentName::known("people"),
        filter: None,
        backfill: Backfill::All,
        reenter: Reenter::Never,
        exit: ExitRule { on_leave: true, when: None },
        goal: None,
        purpose: purpose.clone(),
        priority: 50,
        holdout: None,
        per_run: None,
        per_hour: None,
        guards: OwnGuards::default(),
        window: None,
        expires: SignedDuration::from_hours(72),
        steps,
        contents: BTreeMap::new(),
    };
    Rules {
        zone: zone("Europe/Berlin"),
        policy: Policy { purposes: [(purpose, offers)].into(), ..Policy::default() },
        playbooks: [(playbook.name.clone(), playbook)].into(),
        segments: [(SegmentName::known("people"), SignedDuration::from_hours(1))].into(),
    }
}
