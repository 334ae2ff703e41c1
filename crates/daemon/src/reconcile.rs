//! Reconciling: what the journal knows and the state does not is put into it, after a restore or a failover that lost commits. What went out is
//! then known to have gone, or in doubt; opt-outs and erasures since are in force again.
//!
//! People are found by the keyed hash of their id: in a state that is put back a number may be somebody else's by now. Whoever came in since is known
//! again from the warehouse. A way through a playbook that began since, and of which a message went out, ends with it: where else it had been is
//! not known. Doing it twice changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use model::consent::{Suppression, SuppressionSubject};
use model::delivery::Delivery;
use model::enrollment::{Enrollment, Exit, Progress};
use model::fault::mutant;
use model::id::AddressHash;
use model::{DeliveryState, PlaybookName, ProfileNumber, Reason};
use project::Project;
use serde_json::json;
use state::audit::Entry;
use state::delivery::DeliveryKey;
use state::enrollment::Row;
use state::journal::{ArmedLine, ConsentLine, Line, SuppressedLine, Who};
use state::outbox::{Answer, Settlement};
use state::shared::Shared;
use state::{Keys, State, Tx};

use crate::daemon::DaemonError;
use crate::people::units;
use crate::source::{PAGE_ROWS, Source};

/// The journal is read from so long before the last attempt that the state knows of: clocks of nodes differ, and answers come later.
const BEFORE: SignedDuration = SignedDuration::from_hours(24);
/// So many messages are put in in one transaction.
const PAGE: usize = 100;
/// How a way ends of which only its messages are known.
const ENDED: &str = "lost in a restore";
/// Where a decision comes from that was found in the journal.
const WHY: &str = "found in the journal";

/// What was put in.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Reconciled {
    /// Messages that the state knew all about.
    pub known: u64,
    /// Messages that a provider took, and the state did not know of.
    pub accepted: u64,
    /// That one refused.
    pub rejected: u64,
    /// Of which nobody knows what came.
    pub in_doubt: u64,
    /// That were not taken, and go again.
    pub not_taken: u64,
    /// That went to people who are in neither the state nor the warehouse.
    pub to_strangers: u64,
    /// Ways through playbooks that ended by it.
    pub ended: u64,
    /// Consents that were given or taken back.
    pub consents: u64,
    /// Suppressions.
    pub suppressions: u64,
    /// People who were erased.
    pub erased: u64,
    /// Lines of the journal that were torn or changed.
    pub broken: u64,
    /// When it could not be written: what happened then is missing in it.
    pub holes: Vec<(Timestamp, Timestamp)>,
}

/// What the journal says.
#[derive(Default)]
struct Told {
    armed: BTreeMap<String, Vec<ArmedLine>>,
    settled: BTreeMap<(String, u32), Settled>,
    consents: Vec<ConsentLine>,
    suppressed: Vec<SuppressedLine>,
    erased: Vec<(String, i64)>,
}

struct Settled {
    outcome: String,
    reason: String,
    receipt: Option<String>,
    at_ms: i64,
}

/// The room's own words for the outcomes of attempts.
const ACCEPTED: &str = "accepted";
const REJECTED: &str = "rejected";
const NOT_TAKEN: &str = "retry";

/// Puts in what these folders know.
pub async fn reconcile(
    project: &Project,
    state: &State,
    keys: &Keys,
    source: &Source,
    folders: &[PathBuf],
    now: Timestamp,
) -> Result<Reconciled, DaemonError> {
    let last = {
        let mut tx = state.read().await?;
        state::outbox::last_armed(&mut tx).await?
    };
    let since = last.and_then(|last| last.checked_sub(BEFORE).ok()).unwrap_or(Timestamp::MIN);
    let mut done = Reconciled::default();
    let told = listen(folders, since, &mut done)?;
    let mut work = Work { project, state, keys, now, done, numbers: BTreeMap::new() };
    work.recognise(source, &told).await?;
    work.messages(&told).await?;
    work.refusals(&told).await?;
    work.erase(&told.erased).await?;
    Ok(work.done)
}

/// Reads all of it, as far as it may be news.
fn listen(folders: &[PathBuf], since: Timestamp, done: &mut Reconciled) -> Result<Told, DaemonError> {
    let (mut told, since_ms) = (Told::default(), since.as_millisecond());
    for folder in folders {
        let read = state::journal::read(folder, |line| match line {
            Line::Armed(line) if line.at_ms >= since_ms => {
                let all = told.armed.entry(line.delivery.clone()).or_default();
                // Two folders may be copies of one journal.
                if all.iter().all(|known| known.attempt != line.attempt) {
                    all.push(*line);
                }
            }
            Line::Settled { delivery, attempt, outcome, reason, receipt, at_ms } if at_ms >= since_ms => {
                let is_sure = outcome == ACCEPTED || outcome == REJECTED || outcome == NOT_TAKEN;
                let settled = Settled { outcome, reason, receipt, at_ms };
                // What is sure stands, whatever else was said.
                if is_sure || !told.settled.contains_key(&(delivery.clone(), attempt)) {
                    told.settled.insert((delivery, attempt), settled);
                }
            }
            Line::Armed(_) | Line::Settled { .. } => {}
            Line::Consent(line) => told.consents.push(*line),
            Line::Suppressed(line) => told.suppressed.push(*line),
            // The last word of both stands.
            Line::Lifted { who, address, channel, reason } => told.suppressed.retain(|line| {
                let is_it = (&line.who, &line.address, &line.channel) == (&who, &address, &channel);
                !(is_it && reason.as_ref().is_none_or(|reason| *reason == line.reason))
            }),
            Line::Erased { id_hash, at_ms } => told.erased.push((id_hash, at_ms)),
            Line::Hole { since_ms: from, at_ms } => {
                let time = |ms| Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
                if at_ms >= since_ms {
                    done.holes.push((time(from), time(at_ms)));
                }
            }
        })?;
        done.broken += read.broken;
    }
    for attempts in told.armed.values_mut() {
        attempts.sort_by_key(|line| line.attempt);
    }
    Ok(told)
}

struct Work<'a> {
    project: &'a Project,
    state: &'a State,
    keys: &'a Keys,
    now: Timestamp,
    done: Reconciled,
    /// People by the hash of their id.
    numbers: BTreeMap<String, ProfileNumber>,
}

impl Work<'_> {
    /// Erases again who was erased since.
    async fn erase(&mut self, erased: &[(String, i64)]) -> Result<(), DaemonError> {
        if erased.is_empty() {
            return Ok(());
        }
        let hashes: BTreeSet<&str> = erased.iter().map(|(hash, _)| hash.as_str()).collect();
        let mut tx = self.state.write().await?;
        let last = state::profile::last_number(&mut tx).await?;
        let everybody: Vec<ProfileNumber> = (1..=last.0).map(ProfileNumber).collect();
        for page in everybody.chunks(PAGE_ROWS) {
            for (number, id) in state::profile::ids_of(&mut tx, page).await? {
                if !hashes.contains(self.keys.id_hash(&id).as_str()) {
                    continue;
                }
                let suppression = Suppression {
                    subject: SuppressionSubject::Profile(number),
                    channel: None,
                    reason: Reason::Erased,
                    since: self.now,
                    source: WHY.to_owned(),
                    spares_transactional: false,
                };
                state::consent::suppress(&mut tx, &suppression).await?;
                self.done.erased +=
                    u64::from(state::profile::erase(&mut tx, self.keys, number, self.now).await?);
                let body = json!({ "profile": number.0, "why": WHY });
                state::audit::append(&mut tx, &[Entry { kind: "erasure", at: self.now, body }]);
            }
        }
        for (hash, at_ms) in erased {
            let at = Timestamp::from_millisecond(*at_ms).unwrap_or(self.now);
            self.done.erased += u64::from(state::profile::remember_erased(&mut tx, hash, at).await?);
        }
        tx.commit().await?;
        Ok(())
    }

    /// Finds everybody whom the journal names.
    async fn recognise(&mut self, source: &Source, told: &Told) -> Result<(), DaemonError> {
        let armed = told.armed.values().flatten().map(|line| &line.who);
        let consents = told.consents.iter().map(|line| &line.who);
        let suppressed = told.suppressed.iter().filter_map(|line| line.who.as_ref());
        let mut wanted: BTreeMap<&str, ProfileNumber> = BTreeMap::new();
        let mut highest = ProfileNumber(0);
        for Who { number, id_hash } in armed.chain(consents).chain(suppressed) {
            highest = highest.max(ProfileNumber(*number));
            if let Some(hash) = id_hash {
                wanted.insert(hash, ProfileNumber(*number));
            }
        }
        let mut tx = self.state.write().await?;
        state::profile::skip_to(&mut tx, highest).await?;
        let numbers: Vec<ProfileNumber> = wanted.values().copied().collect();
        let mut ids = BTreeMap::new();
        for page in numbers.chunks(PAGE_ROWS) {
            ids.extend(state::profile::ids_of(&mut tx, page).await?);
        }
        tx.commit().await?;
        for (hash, number) in &wanted {
            let is_still = ids.get(number).is_some_and(|id| self.keys.id_hash(id) == **hash);
            if is_still || mutant("number_trusted") {
                self.numbers.insert((*hash).to_owned(), *number);
            }
        }
        let missing: BTreeSet<&str> =
            wanted.into_keys().filter(|hash| !self.numbers.contains_key(*hash)).collect();
        if !missing.is_empty() {
            self.look_for(source, &missing).await?;
        }
        Ok(())
    }

    /// Looks for people in the warehouse.
    async fn look_for(&mut self, source: &Source, missing: &BTreeSet<&str>) -> Result<(), DaemonError> {
        let mut view = source.view(self.now).await?;
        let (state, keys, numbers) = (self.state, self.keys, &mut self.numbers);
        let looked = view
            .profile_pages(&self.project.data.profiles, async |page| {
                let (hashes, ids): (Vec<String>, Vec<String>) = page
                    .into_iter()
                    .map(|(id, _)| (keys.id_hash(&id), id))
                    .filter(|(hash, _)| missing.contains(hash.as_str()))
                    .unzip();
                if ids.is_empty() {
                    return Ok(());
                }
                let mut tx = state.write().await?;
                let found = state::profile::intern(&mut tx, keys, &ids).await?;
                tx.commit().await?;
                numbers
                    .extend(hashes.into_iter().zip(found).filter_map(|(hash, found)| Some((hash, found?))));
                Ok(())
            })
            .await;
        view.close().await;
        Ok(looked?)
    }

    fn number(&self, who: &Who) -> Option<ProfileNumber> {
        self.numbers.get(who.id_hash.as_ref()?).copied()
    }

    /// Puts in what went out.
    async fn messages(&mut self, told: &Told) -> Result<(), DaemonError> {
        let mut seen: BTreeMap<&str, BTreeSet<ProfileNumber>> = BTreeMap::new();
        let all: Vec<&Vec<ArmedLine>> = told.armed.values().collect();
        for page in all.chunks(PAGE) {
            let mut tx = self.state.write().await?;
            let mut changed = Vec::new();
            for attempts in page {
                let Some(first) = attempts.first() else { continue };
                let Some(number) = self.number(&first.who) else {
                    let is_erased =
                        told.erased.iter().any(|(hash, _)| Some(hash) == first.who.id_hash.as_ref());
                    self.done.to_strangers += u64::from(!is_erased);
                    continue;
                };
                if let Some(became) = self.message(&mut tx, number, attempts, told).await? {
                    changed.push(json!({ "delivery": first.delivery, "state": became.as_str() }));
                    seen.entry(&first.playbook).or_default().insert(number);
                } else {
                    self.done.known += 1;
                }
            }
            if !changed.is_empty() {
                let body = json!({ "why": WHY, "deliveries": changed });
                state::audit::append(&mut tx, &[Entry { kind: "reconcile", at: self.now, body }]);
            }
            tx.commit().await?;
        }
        // Whoever got a message was dealt with: the segment is not to let them in again.
        let mut tx = self.state.write().await?;
        for (playbook, people) in seen {
            if let Some(mut kept) = state::playbook::load(&mut tx, &PlaybookName::known(playbook)).await? {
                kept.seen.extend(people.into_iter().map(|number| number.0));
                state::playbook::save(&mut tx, &kept).await?;
            }
        }
        tx.commit().await?;
        Ok(())
    }

    /// Puts in one message; what it is now, if that is news.
    async fn message(
        &mut self,
        tx: &mut Tx,
        number: ProfileNumber,
        attempts: &[ArmedLine],
        told: &Told,
    ) -> Result<Option<DeliveryState>, DaemonError> {
        let Some(last) = attempts.last() else { return Ok(None) };
        let settled = |attempt: u32| told.settled.get(&(last.delivery.clone(), attempt));
        let delivery = last.delivery(number)?;
        let key = DeliveryKey::of(&delivery);
        let known = state::delivery::get_by_key(tx, &key).await?;
        let is_open = known.as_ref().is_some_and(|known| {
            matches!(known.delivery.state, DeliveryState::Armed | DeliveryState::InDoubt)
        });
        if known.as_ref().is_some_and(|known| known.attempts >= last.attempt)
            && !(is_open && settled(last.attempt).is_some())
        {
            return Ok(None);
        }
        self.at_its_step(tx, &delivery, last).await?;
        if known.is_none() {
            state::delivery::decide(tx, std::slice::from_ref(&delivery), self.now).await?;
        }
        let mut became = None;
        for line in attempts {
            let at = Timestamp::from_millisecond(line.at_ms).unwrap_or(self.now);
            let address = AddressHash::known(&line.address);
            state::outbox::rearm(tx, &key, line.attempt, &address, at).await?;
            let (answer, state, at) = self.answer(settled(line.attempt), at);
            let settlement = Settlement {
                delivery: key.clone(),
                attempt: line.attempt,
                result: answer,
                detail: WHY.to_owned(),
            };
            if !state::outbox::settle(tx, &[settlement], at).await?.is_empty() {
                became = Some(state);
            }
            let units = units(&self.project.policy, None, Some(&address));
            let shared = units.into_iter().map(|unit| Shared { unit, delivery: key.clone(), at });
            state::shared::keep(tx, &shared.collect::<Vec<_>>());
        }
        match became {
            Some(DeliveryState::Accepted) => self.done.accepted += 1,
            Some(DeliveryState::Rejected) => self.done.rejected += 1,
            Some(DeliveryState::Pending) => self.done.not_taken += 1,
            Some(_) => self.done.in_doubt += 1,
            None => {}
        }
        Ok(became)
    }

    /// What an attempt came to, and when.
    fn answer(&self, settled: Option<&Settled>, armed_at: Timestamp) -> (Answer, DeliveryState, Timestamp) {
        let Some(settled) = settled else { return (Answer::InDoubt, DeliveryState::InDoubt, armed_at) };
        let at = Timestamp::from_millisecond(settled.at_ms).unwrap_or(armed_at);
        let reason = Reason::parse(&settled.reason);
        let (answer, state) = match settled.outcome.as_str() {
            ACCEPTED => (
                Answer::Accepted { receipt: settled.receipt.clone().unwrap_or_default() },
                DeliveryState::Accepted,
            ),
            REJECTED => {
                (Answer::Rejected { reason: reason.unwrap_or(Reason::FailInternal) }, DeliveryState::Rejected)
            }
            NOT_TAKEN => (
                Answer::Retry { reason: reason.unwrap_or(Reason::FailInternal), due_at: self.now },
                DeliveryState::Pending,
            ),
            _ => (Answer::InDoubt, DeliveryState::InDoubt),
        };
        (answer, state, at)
    }

    /// Brings the way that a message belongs to as far as that message.
    async fn at_its_step(
        &mut self,
        tx: &mut Tx,
        delivery: &Delivery,
        line: &ArmedLine,
    ) -> Result<(), DaemonError> {
        let at = Timestamp::from_millisecond(line.at_ms).unwrap_or(self.now);
        let there = state::enrollment::get(tx, delivery.profile, &delivery.enrollment).await?;
        let enrollment = match there {
            Some(row) if row.enrollment.is_active() => {
                let progress = match row.enrollment.progress {
                    Progress::Sending { step, since } if step == delivery.step => {
                        Progress::Sending { step, since }
                    }
                    _ => Progress::Sending { step: delivery.step.clone(), since: delivery.created_at },
                };
                Enrollment { progress, ..row.enrollment }
            }
            Some(_) => return Ok(()),
            None => {
                self.done.ended += 1;
                self.end_others(tx, delivery).await?;
                Enrollment {
                    id: delivery.enrollment.clone(),
                    playbook: delivery.traits.playbook.clone(),
                    version: delivery.version.clone(),
                    profile: delivery.profile,
                    trigger: WHY.to_owned(),
                    entered_at: delivery.created_at,
                    holdout: None,
                    progress: Progress::Ended { exit: Exit::Word(ENDED.to_owned()), at },
                    goal_reached_at: None,
                    outcomes: BTreeMap::new(),
                    entry: BTreeMap::new(),
                }
            }
        };
        state::enrollment::put(tx, &[(enrollment, None)]).await?;
        Ok(())
    }

    /// A person is under way in a playbook once. Where this state let one in again, not knowing that they were in it, that ends, unsent.
    async fn end_others(&self, tx: &mut Tx, delivery: &Delivery) -> Result<(), DaemonError> {
        let rows = state::enrollment::of_profile(tx, delivery.profile).await?;
        let is_other =
            |row: &&Row| row.enrollment.is_active() && row.enrollment.playbook == delivery.traits.playbook;
        for row in rows.iter().filter(is_other) {
            let way = &row.enrollment;
            let theirs = state::delivery::of_enrollments(tx, &[(way.profile, way.id.clone())]).await?;
            let back: Vec<_> =
                theirs.iter().map(|one| (DeliveryKey::of(one), Reason::CancelOperator)).collect();
            state::delivery::cancel(tx, &back, self.now).await?;
            let progress = Progress::Ended { exit: Exit::Word(ENDED.to_owned()), at: self.now };
            state::enrollment::put(tx, &[(Enrollment { progress, ..way.clone() }, None)]).await?;
        }
        Ok(())
    }

    /// Puts in who said no, and who said yes.
    async fn refusals(&mut self, told: &Told) -> Result<(), DaemonError> {
        let mut tx = self.state.write().await?;
        for line in &told.consents {
            if let Some(number) = self.number(&line.who) {
                let is_new = state::consent::record(&mut tx, &line.event(number)?).await?;
                self.done.consents += u64::from(is_new);
            }
        }
        for line in &told.suppressed {
            let subject = match (&line.who, &line.address) {
                (Some(who), _) => self.number(who).map(SuppressionSubject::Profile),
                (None, Some(address)) => Some(SuppressionSubject::Address(AddressHash::known(address))),
                (None, None) => None,
            };
            if let Some(subject) = subject {
                let is_new = state::consent::suppress(&mut tx, &line.suppression(subject)?).await?;
                self.done.suppressions += u64::from(is_new);
            }
        }
        if self.done.consents + self.done.suppressions > 0 {
            let body =
                json!({ "why": WHY, "consents": self.done.consents, "suppressions": self.done.suppressions });
            state::audit::append(&mut tx, &[Entry { kind: "reconcile", at: self.now, body }]);
        }
        tx.commit().await?;
        Ok(())
    }
}
