//! PUSH of audiences: what is to be done in them is asked of their destinations, one request at a time an audience.
//!
//! | an entry is | and then |
//! |---|---|
//! | to be removed, since the person said no | it goes first, and no guard holds it |
//! | to be added | if the person still allows it: read under lock, in the transaction before it is handed over |
//! | to be removed, since the person left or is known by something else | last; not before what replaces it is in |
//!
//! In that transaction an entry becomes one that the destination *may* have. A yes or a no ends that; where no answer comes it stays so, is
//! seen, and is asked again, since asking twice does no harm in an audience. A batch of which all are refused is tried in halves, so that one
//! bad row does not keep out the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use connector::{AudienceKind, Change, Changed, Member, Opened, Outcome, Verb};
use engine::may_be_member;
use jiff::Timestamp;
use model::fault::mutant;
use model::id::AddressHash;
use model::policy::Traits;
use model::sync::{AudienceAt, Has, Sync, Todo};
use model::{ProfileNumber, Reason, Refusal, SyncName};
use serde_json::json;
use state::Tx;
use state::audience::{Audience, EntryKey, Put, Said, Work};
use state::audit::Entry;
use tokio::time::Instant;

use crate::daemon::{Carrier, Daemon, DaemonError, Surroundings, halts};
use crate::driver::Driver;
use crate::people::{self, Crowd, Facts, People};
use crate::push::{Halves, Then, halt, is_lost, pause_after};
use crate::report::{PushReport, Pushed};

/// What a sealed member is bound to.
pub(crate) const MEMBER: &str = "audience.member";
/// Entries that are read at once.
const PAGE: u32 = 1_000;
/// The key under which a person's word waits that so many may leave in the next run of a sync.
pub fn acceptance_key(sync: &SyncName) -> String {
    format!("accept.sync.{sync}")
}

/// Looks at who said no, and then asks destinations for all that is to be done and may be tried.
pub(crate) async fn push(daemon: &Daemon, now: Timestamp, pushed: &mut Pushed) -> Result<(), DaemonError> {
    let (audiences, halts) = {
        let mut tx = daemon.state.read().await?;
        let audiences = state::audience::all(&mut tx).await?;
        if audiences.is_empty() {
            return Ok(());
        }
        (audiences, tx.ask(halts()).await?)
    };
    look_at_doubtful(daemon, now).await?;
    for audience in audiences {
        let destination = &audience.at.destination;
        let is_stopped = halts.all || halts.destinations.contains(destination);
        let Some(carrier) = daemon.carriers.get(destination) else { continue };
        let Some(driver) = carrier.names().filter(|driver| driver.audiences().is_some()) else { continue };
        if is_stopped || audience.due_at > now || daemon.halted_destinations(now).contains_key(destination) {
            continue;
        }
        let is_made = matches!(carrier, Carrier::Made(..));
        let traits = traits_of(daemon, &audience.at);
        let mut pusher = Pusher { daemon, driver, is_made, traits, audience, now, pushed: &mut *pushed };
        pusher.run().await?;
    }
    Ok(())
}

/// The sync that keeps an audience; `None`: none does any more.
fn sync_of<'a>(daemon: &'a Daemon, at: &AudienceAt) -> Option<&'a Sync> {
    daemon.project.syncs.values().find(|sync| sync.audience().is_some_and(|audience| audience.at == *at))
}

/// What the rules see of an audience's members; `None`: no sync keeps it any more.
fn traits_of(daemon: &Daemon, at: &AudienceAt) -> Option<Traits> {
    let sync = sync_of(daemon, at)?;
    Some(sync.traits(daemon.project.policy.purposes.get(&sync.audience()?.purpose)?))
}

/// What state knows of these people, who are locked: consent, and suppression of them and of these addresses.
async fn facts(tx: &mut Tx, people: &[(ProfileNumber, Option<AddressHash>)]) -> Result<People, DaemonError> {
    let numbers: Vec<ProfileNumber> = people.iter().map(|(number, _)| *number).collect();
    let addresses: Vec<AddressHash> = people.iter().filter_map(|(_, address)| address.clone()).collect();
    state::outbox::lock_profiles(tx, &numbers).await?;
    state::outbox::lock_addresses(tx, &addresses).await?;
    let mut known: People = people
        .iter()
        .map(|(number, address)| (*number, Facts { address: address.clone(), ..Facts::default() }))
        .collect();
    tx.ask(people::permissions(&numbers, &addresses)).await?.fill(&mut known);
    Ok(known)
}

/// Why a person may not be in an audience any more, by what state knows.
fn refused(
    daemon: &Daemon,
    facts: &Facts,
    number: ProfileNumber,
    audience: (&AudienceAt, &Traits),
    now: Timestamp,
) -> Option<Reason> {
    let surroundings = Surroundings::default();
    let world = surroundings.world(&daemon.project);
    let crowd = Crowd::default();
    let (at, traits) = audience;
    may_be_member(&world, &facts.person(number, &crowd), &at.destination, traits, now)
        .err()
        .map(|refusal| refusal.reason)
}

/// Whoever may have said no since they were last looked at: those who did are to be removed. An audience that no sync keeps any more has no
/// purpose that anybody could have consented to, so who is doubtful in it goes.
async fn look_at_doubtful(daemon: &Daemon, now: Timestamp) -> Result<(), DaemonError> {
    loop {
        let mut tx = daemon.state.read().await?;
        let doubtful = state::audience::doubtful(&mut tx, PAGE).await?;
        if doubtful.is_empty() {
            return Ok(());
        }
        let audiences: BTreeMap<u32, Audience> = state::audience::all(&mut tx)
            .await?
            .into_iter()
            .map(|audience| (audience.number, audience))
            .collect();
        drop(tx);
        let mut tx = daemon.deciding().await?;
        let people: Vec<_> = doubtful.iter().map(|(key, address)| (key.profile, address.clone())).collect();
        let known = facts(&mut tx, &people).await?;
        let mut puts = Vec::new();
        for (key, address) in &doubtful {
            let (Some(audience), Some(facts)) = (audiences.get(&key.audience), known.get(&key.profile))
            else {
                continue;
            };
            let reason = match traits_of(daemon, &audience.at) {
                Some(traits) => refused(daemon, facts, key.profile, (&audience.at, &traits), now),
                None => Some(Reason::ConsentWithdrawn),
            };
            puts.extend(reason.map(|reason| Put {
                key: key.clone(),
                address: address.clone(),
                sealed: Vec::new(),
                todo: Todo::OptOut,
                reason,
            }));
        }
        let keys: Vec<EntryKey> = doubtful.into_iter().map(|(key, _)| key).collect();
        state::audience::put(&mut tx, &puts, now).await?;
        let gone: Vec<EntryKey> = puts.into_iter().map(|put| put.key).collect();
        state::audience::forget(&mut tx, &gone).await?;
        state::audience::looked_at(&mut tx, &keys).await?;
        tx.commit().await?;
    }
}

/// One audience's share.
struct Pusher<'a> {
    daemon: &'a Daemon,
    driver: &'a Arc<Driver>,
    is_made: bool,
    /// What the rules see of its members; `None`: no sync keeps it any more.
    traits: Option<Traits>,
    audience: Audience,
    now: Timestamp,
    pushed: &'a mut Pushed,
}

/// What is handed over in one request: what a person is known by, and all entries it stands for.
#[derive(Clone)]
struct Row {
    member: Member,
    entries: Vec<(EntryKey, Has)>,
}

impl Pusher<'_> {
    async fn run(&mut self) -> Result<(), DaemonError> {
        let Some((kind, _)) = self.driver.audiences() else { return Ok(()) };
        let may_add = self.may_add(&kind).await?;
        loop {
            // Whoever says no meanwhile goes before all others.
            look_at_doubtful(self.daemon, self.now).await?;
            let mut tx = self.daemon.state.read().await?;
            let mut batch = None;
            for (todo, verb) in
                [(Todo::OptOut, Verb::Remove), (Todo::Add, Verb::Add), (Todo::Remove, Verb::Remove)]
            {
                if todo == Todo::Add && !may_add {
                    continue;
                }
                let work = batch_of(&mut tx, self.audience.number, todo, may_add, &kind).await?;
                if !work.is_empty() {
                    batch = Some((todo, verb, work));
                    break;
                }
            }
            drop(tx);
            let Some((todo, verb, work)) = batch else { return Ok(()) };
            if verb == Verb::Remove && self.forget_shared().await? {
                continue;
            }
            if let Some(refusal) = self.driver.may_hand_over().err().filter(|_| !self.is_made) {
                self.halt(refusal);
                return Ok(());
            }
            if self.send(todo, verb, work, &kind).await? == Then::Stop {
                return Ok(());
            }
        }
    }

    /// Whether somebody was to be removed by what another one in the audience is known by, too.
    async fn forget_shared(&self) -> Result<bool, DaemonError> {
        let mut tx = self.daemon.deciding().await?;
        let forgotten = state::audience::forget_shared(&mut tx, self.audience.number).await?;
        tx.commit().await?;
        Ok(forgotten > 0)
    }

    /// Whether anybody may be added: the sync is there, and has enough people.
    async fn may_add(&mut self, kind: &AudienceKind) -> Result<bool, DaemonError> {
        let Some(sync) = sync_of(self.daemon, &self.audience.at) else { return Ok(false) };
        let mut tx = self.daemon.state.read().await?;
        let wanted = state::sync::last_run(&mut tx, &sync.name).await?.map_or(0, |(run, _)| run.wanted);
        if wanted >= kind.people_min {
            return Ok(true);
        }
        let to_add = state::audience::counts(&mut tx, self.audience.number).await?.todo(Todo::Add);
        if to_add > 0 {
            let saw = format!("{wanted} people, and the destination takes no fewer than {}", kind.people_min);
            let refusal = Refusal { reason: Reason::AudienceTooSmall, saw };
            self.pushed.too_small.insert(self.audience.at.clone(), refusal);
        }
        Ok(false)
    }

    /// Hands a batch over: opens it, looks at its people for the last time, asks, in halves where that is needed, and keeps what is said.
    async fn send(
        &mut self,
        todo: Todo,
        verb: Verb,
        work: Vec<Work>,
        kind: &AudienceKind,
    ) -> Result<Then, DaemonError> {
        let remote = match self.audience.remote.clone() {
            Some(remote) => remote,
            None => match self.open().await? {
                Some(remote) => remote,
                None => return Ok(Then::Stop),
            },
        };
        let mut halves = Halves::of(self.rows(work)?);
        while let Some(rows) = halves.next() {
            self.driver.pace().await;
            let Some(rows) = self.look(verb, rows).await? else { continue };
            let (armed, count) = (Instant::now(), rows.len());
            let changed = self.exchange(&remote, verb, &rows, kind, armed).await;
            let (is_refused, is_any_taken) = match &changed {
                Changed::All(Outcome::Rejected { .. }) => (true, false),
                Changed::All(outcome) => (false, matches!(outcome, Outcome::Accepted { .. })),
                Changed::AllBut { refused, .. } => (*refused > 0 && *refused < count as u64, true),
                Changed::Each(_) => (false, true),
            };
            if halves.halve(&rows, is_refused, is_any_taken) {
                continue;
            }
            if self.keep(todo, verb, rows, changed).await? == Then::Stop {
                return Ok(Then::Stop);
            }
        }
        Ok(Then::GoOn)
    }

    /// The audience's id at the destination, found or made.
    async fn open(&mut self) -> Result<Option<String>, DaemonError> {
        let name = self.audience.at.remote_name(&self.daemon.project.settings.project);
        let opened = match self.driver.audiences() {
            Some(_) if self.is_made => Opened::Found { id: name },
            Some((_, audiences)) => {
                self.driver.pace().await;
                self.driver.converse(audiences.open(&name, self.now), None).await
            }
            None => return Ok(None),
        };
        match opened {
            Opened::Found { id } => {
                let mut tx = self.daemon.deciding().await?;
                state::audience::is_called(&mut tx, self.audience.number, &id).await?;
                tx.commit().await?;
                self.audience.remote = Some(id.clone());
                Ok(Some(id))
            }
            Opened::Not(outcome) => {
                let mut tx = self.daemon.deciding().await?;
                self.put_off(&mut tx, &outcome).await?;
                tx.commit().await?;
                Ok(None)
            }
        }
    }

    /// What is handed over, each thing once, whoever is known by it.
    fn rows(&self, work: Vec<Work>) -> Result<Vec<Row>, DaemonError> {
        let mut rows: Vec<Row> = Vec::with_capacity(work.len());
        let mut places: BTreeMap<model::id::IdentityHash, usize> = BTreeMap::new();
        for one in work {
            let entry = (one.key.clone(), one.has);
            if let Some(row) = places.get(&one.key.identity).and_then(|place| rows.get_mut(*place)) {
                row.entries.push(entry);
                continue;
            }
            let plain = self.daemon.keys.open(&one.sealed, MEMBER).map_err(|_| DaemonError::Sealed)?;
            let text = String::from_utf8(plain).map_err(|_| DaemonError::Sealed)?;
            places.insert(one.key.identity, rows.len());
            rows.push(Row { member: Member::known(text), entries: vec![entry] });
        }
        Ok(rows)
    }

    /// The last look, in the transaction after which the destination may have them: who said no is not added. `None`: nobody is left.
    async fn look(&mut self, verb: Verb, rows: Vec<Row>) -> Result<Option<Vec<Row>>, DaemonError> {
        let mut tx = self.daemon.deciding().await?;
        let mut kept = rows;
        if let (Verb::Add, Some(traits), false) = (verb, &self.traits, mutant("member_unlooked")) {
            let numbers: Vec<ProfileNumber> =
                kept.iter().flat_map(|row| row.entries.iter().map(|(key, _)| key.profile)).collect();
            let entries = tx.ask(state::audience::addresses(self.audience.number, &numbers)).await?;
            let known = facts(&mut tx, &entries).await?;
            let (mut puts, mut left) = (Vec::new(), Vec::new());
            for mut row in kept {
                row.entries.retain(|(key, _)| {
                    let facts = known.get(&key.profile);
                    let reason = facts.and_then(|facts| {
                        refused(self.daemon, facts, key.profile, (&self.audience.at, traits), self.now)
                    });
                    puts.extend(reason.map(|reason| Put {
                        key: key.clone(),
                        address: None,
                        sealed: Vec::new(),
                        todo: Todo::OptOut,
                        reason,
                    }));
                    reason.is_none()
                });
                // What two are known by goes in if one of them allows it.
                left.extend((!row.entries.is_empty()).then_some(row));
            }
            kept = left;
            state::audience::put(&mut tx, &puts, self.now).await?;
            let gone: Vec<EntryKey> = puts.into_iter().map(|put| put.key).collect();
            state::audience::forget(&mut tx, &gone).await?;
        }
        let keys: Vec<EntryKey> =
            kept.iter().flat_map(|row| row.entries.iter().map(|(key, _)| key.clone())).collect();
        state::audience::hand_over(&mut tx, &keys).await?;
        model::fault::point("push.before_commit");
        tx.commit().await?;
        model::fault::point("push.after_commit");
        Ok((!kept.is_empty()).then_some(kept))
    }

    async fn exchange(
        &self,
        remote: &str,
        verb: Verb,
        rows: &[Row],
        kind: &AudienceKind,
        armed: Instant,
    ) -> Changed {
        let receipt = remote.to_owned();
        let Some((_, audiences)) = self.driver.audiences().filter(|_| !self.is_made) else {
            return Changed::All(Outcome::Accepted { receipt });
        };
        let members: Vec<Member> = rows.iter().map(|row| row.member.clone()).collect();
        debug_assert!(members.len() <= kind.members_max, "no more than the destination takes at once");
        let mut parts = vec![remote, verb.as_str()];
        parts.extend(rows.iter().flat_map(|row| row.entries.first()).map(|(key, _)| key.identity.as_str()));
        let key = format!("{:016x}", model::id::bucket(&parts));
        let change = Change { audience: remote.to_owned(), verb, members: members.into(), key, at: self.now };
        self.driver.converse(audiences.change(&change), Some(armed)).await
    }

    /// Keeps what the destination said of each.
    async fn keep(
        &mut self,
        todo: Todo,
        verb: Verb,
        rows: Vec<Row>,
        changed: Changed,
    ) -> Result<Then, DaemonError> {
        let (outcomes, counted): (Vec<Outcome>, u64) = match changed {
            Changed::All(outcome) => (vec![outcome; rows.len()], 0),
            Changed::Each(outcomes) if outcomes.len() == rows.len() => (outcomes, 0),
            Changed::Each(_) => {
                let detail = "the connector did not say what became of each".to_owned();
                (vec![Outcome::InDoubt { detail }; rows.len()], 0)
            }
            Changed::AllBut { refused, .. } if refused >= rows.len() as u64 => {
                let detail = "the provider counts it among those it refuses".to_owned();
                let outcome = Outcome::Rejected { reason: Reason::FailRemote4xx, bounce: None, detail };
                (vec![outcome; rows.len()], 0)
            }
            // So few that looking for them costs too much: the provider has the others.
            Changed::AllBut { refused, receipt } => {
                (vec![Outcome::Accepted { receipt }; rows.len()], refused)
            }
        };
        let (mut said, mut stop, mut told) = (Vec::new(), None, PushReport::default());
        for (row, outcome) in rows.iter().zip(&outcomes) {
            for (key, had) in &row.entries {
                said.push((key.clone(), count(&mut told, verb, outcome, *had)));
            }
            let is_over = !matches!(outcome, Outcome::Accepted { .. } | Outcome::Rejected { .. });
            if is_over && stop.is_none() {
                stop = Some(outcome.clone());
            }
        }
        if self.is_made {
            let planned = self.pushed.planned.entry(self.audience.at.clone()).or_default();
            planned.entry(verb).or_default().extend(said.iter().map(|(key, _)| key.profile.0));
        }
        model::fault::point("push.before_settle");
        let mut tx = self.daemon.deciding().await?;
        state::audience::settle(&mut tx, todo, &said, self.now).await?;
        let body = json!({
            "destination": self.audience.at.destination.as_str(), "audience": self.audience.at.name.as_str(), "do": verb.as_str(),
            "why": if todo == Todo::OptOut { "opt_out" } else { "sync" }, "accepted": told.added + told.removed, "rejected": told.rejected + counted,
            "unknown": told.unknown, "not_taken": told.not_taken,
            "profiles": said.iter().map(|(key, _)| key.profile.0).collect::<Vec<_>>(),
        });
        state::audit::append(&mut tx, &[Entry { kind: "audience_push", at: self.now, body }]);
        match &stop {
            Some(outcome) => self.put_off(&mut tx, outcome).await?,
            None if self.audience.failures > 0 => {
                self.audience.failures = 0;
                state::audience::try_at(&mut tx, self.audience.number, self.now, 0).await?;
            }
            None => {}
        }
        tx.commit().await?;
        told.rejected += counted;
        self.pushed.audiences.entry(self.audience.at.clone()).or_default().add(&told);
        if told.rejected > 0 {
            let why = outcomes.iter().find_map(|outcome| match outcome {
                Outcome::Rejected { detail, .. } => Some(detail.clone()),
                _ => None,
            });
            tracing::warn!(
                destination = %self.audience.at.destination, audience = %self.audience.at.name, rejected = told.rejected,
                "Destination `{}` refuses to {} {} of audience `{}`: {}.", self.audience.at.destination, verb.as_str(), told.rejected,
                self.audience.at.name, why.unwrap_or_else(|| "it counts them".to_owned())
            );
        }
        Ok(if stop.is_some() { Then::Stop } else { Then::GoOn })
    }

    /// Nothing is tried for a while: as long as the destination says, or longer with each failure.
    async fn put_off(&mut self, tx: &mut Tx, outcome: &Outcome) -> Result<(), DaemonError> {
        if let Outcome::Halt { reason, detail } = outcome {
            self.halt(Refusal { reason: *reason, saw: detail.clone() });
            return Ok(());
        }
        self.audience.failures += 1;
        let (pause, Refusal { saw: why, .. }) = pause_after(outcome, self.audience.failures);
        tracing::warn!(
            destination = %self.audience.at.destination, audience = %self.audience.at.name,
            "Audience `{}` at `{}` is tried again in {}s: {why}.", self.audience.at.name, self.audience.at.destination, pause.as_secs()
        );
        self.pushed.put_off.insert(self.audience.at.clone(), why);
        let due_at = self.now.checked_add(pause).unwrap_or(self.now);
        state::audience::try_at(tx, self.audience.number, due_at, self.audience.failures).await?;
        Ok(())
    }

    fn halt(&mut self, refusal: Refusal) {
        halt(self.daemon, &self.audience.at.destination, refusal, self.pushed, self.now);
    }
}

/// As much of what is to be done as the destination takes at once.
async fn batch_of(
    tx: &mut Tx,
    audience: u32,
    todo: Todo,
    is_added_to: bool,
    kind: &AudienceKind,
) -> Result<Vec<Work>, DaemonError> {
    let mut batch: Vec<Work> = Vec::new();
    let mut bytes = 0;
    while batch.len() < kind.members_max {
        let limit = u32::try_from(kind.members_max - batch.len()).unwrap_or(PAGE).min(PAGE);
        let last = batch.last().map(|work| work.key.clone());
        let page = state::audience::work(tx, audience, todo, is_added_to, last.as_ref(), limit).await?;
        let is_last = page.len() < limit as usize;
        for work in page {
            bytes += work.sealed.len();
            // Sealing adds a few bytes to each, never takes any away.
            if bytes > kind.bytes_max && !batch.is_empty() {
                return Ok(batch);
            }
            batch.push(work);
        }
        if is_last {
            break;
        }
    }
    Ok(batch)
}

/// What follows for an entry from what a destination said, of which it `had` said so before; and one more in the count.
fn count(told: &mut PushReport, verb: Verb, outcome: &Outcome, had: Has) -> Said {
    match (outcome, verb) {
        (Outcome::Accepted { .. }, Verb::Add) => {
            told.added += 1;
            Said::In
        }
        (Outcome::Accepted { .. }, Verb::Remove) => {
            told.removed += 1;
            Said::Out
        }
        (Outcome::Rejected { reason, .. }, _) => {
            told.rejected += 1;
            Said::Refused(had, *reason)
        }
        (outcome, _) if is_lost(outcome) => {
            told.unknown += 1;
            Said::Nothing(Has::Maybe)
        }
        _ => {
            told.not_taken += 1;
            Said::Nothing(had)
        }
    }
}
