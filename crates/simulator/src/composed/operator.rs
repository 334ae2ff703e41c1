//! What happens to the composed world between passes: the warehouse changes, people say no, operators stop things and close doubts.

use std::collections::BTreeMap;
use std::sync::Arc;

use daemon::DaemonError;
use daemon::made::MadeConsent;
use jiff::Timestamp;
use model::consent::{ConsentEvent, ConsentOrigin, Suppression, SuppressionSubject};
use model::{DeliveryId, DestinationName, EmailAddress, PlaybookName, ProfileNumber, Reason};
use state::control::{Halt, HaltScope};
use state::outbox::As;
use state::playbook::Status;
use state::{StateError, Tx};

use super::{Composed, broken};
use crate::audit::Broken;
use crate::rules::DESTINATION;
use crate::script::{Act, Deed, Stop, Whom, Word};

/// Of the doubts that the provider does not have, so many of a hundred are sent again.
const RESENDS: u64 = 60;

impl Composed<'_> {
    /// Something happens; or it waits to come between the next decision and its pump.
    pub(super) fn act(&mut self, act: &Act, now: Timestamp) -> Result<(), Broken> {
        let between = matches!(
            &act.deed,
            Deed::Says(_, Word { local: true, .. }) | Deed::Suppresses(..) | Deed::Stops(_)
        );
        if between && self.dice.of("between").of(&format!("{:?}", act)).chance(60) {
            self.held_back.push((act.at, act.deed.clone()));
            return Ok(());
        }
        self.do_it(act.at, &act.deed, now)
    }

    pub(super) fn do_it(&mut self, at: Timestamp, deed: &Deed, now: Timestamp) -> Result<(), Broken> {
        self.trace.note(at, format!("{deed:?}"));
        let world = Arc::clone(&self.outside.world);
        match deed {
            Deed::Enters(human, segment) => {
                world
                    .lock()
                    .segments
                    .entry(segment.clone())
                    .or_default()
                    .insert(human.clone(), BTreeMap::new());
            }
            Deed::Leaves(human, segment) => {
                world.lock().segments.entry(segment.clone()).or_default().remove(human);
            }
            Deed::Says(human, word) => self.says(human, word, at, now)?,
            Deed::Suppresses(human, whom) => self.suppresses(human, *whom, at, now)?,
            Deed::Sets(human, column, value) => {
                let mut inner = world.lock();
                let row = inner.profiles.get_mut(human).or_else(|| self.gone.get_mut(human));
                if let Some(row) = row {
                    row.insert((*column).to_owned(), value.clone());
                }
                self.auditor.is_now(human, inner.profiles.get(human).cloned());
            }
            Deed::Vanishes(human) => {
                self.gone.extend(world.lock().profiles.remove_entry(human));
                self.auditor.is_now(human, None);
            }
            Deed::Returns(human) => {
                let mut inner = world.lock();
                inner.profiles.extend(self.gone.remove_entry(human));
                self.auditor.is_now(human, inner.profiles.get(human).cloned());
            }
            Deed::Stops(stop) => {
                if self.stop(stop, now)? {
                    self.auditor.stopped(stop);
                }
            }
            Deed::Resumes(stop) => self.resume(stop, now)?,
            // Files do not change here; the process is stopped and started in good order, as for an upgrade.
            Deed::Edits(_) => self.restart(now)?,
        }
        Ok(())
    }

    fn says(&mut self, human: &str, word: &Word, at: Timestamp, now: Timestamp) -> Result<(), Broken> {
        self.auditor.said(human, word, at);
        if !word.local {
            self.outside.world.lock().consents.push(MadeConsent {
                profile: human.to_owned(),
                channel: word.channel,
                purpose: word.purpose.clone(),
                status: word.status,
                changed_at: at,
            });
            return Ok(());
        }
        let Some(number) = self.number(human, now)? else { return Ok(()) };
        let event = ConsentEvent {
            profile: number,
            channel: word.channel,
            purpose: word.purpose.clone(),
            status: word.status,
            changed_at: at,
            recorded_at: now.max(at),
            origin: ConsentOrigin::Local,
            source: "script".to_owned(),
            evidence: None,
        };
        self.write(now, async |tx| state::consent::record(tx, &event).await).map(|_| ())
    }

    fn suppresses(&mut self, human: &str, whom: Whom, at: Timestamp, now: Timestamp) -> Result<(), Broken> {
        self.auditor.suppressed(human, whom);
        let email = self
            .outside
            .world
            .lock()
            .profiles
            .get(human)
            .and_then(|row| row.get("email")?.as_text().map(str::to_owned));
        let subject = match whom {
            Whom::Person => self.number(human, now)?.map(SuppressionSubject::Profile),
            Whom::Address => {
                let address = email.and_then(|email| EmailAddress::parse(&email).ok());
                address.map(|address| {
                    SuppressionSubject::Address(self.machine().daemon.keys.address_hash(&address))
                })
            }
        };
        let Some(subject) = subject else { return Ok(()) };
        let suppression = Suppression {
            subject,
            channel: None,
            reason: if whom == Whom::Person { Reason::Manual } else { Reason::OptoutChannel },
            since: at,
            source: "script".to_owned(),
            spares_transactional: whom == Whom::Address,
        };
        self.write(now, async |tx| state::consent::suppress(tx, &suppression).await).map(|_| ())
    }

    fn number(&self, human: &str, now: Timestamp) -> Result<Option<ProfileNumber>, Broken> {
        let keys = Arc::clone(&self.machine().daemon.keys);
        let ids = [human.to_owned()];
        let numbers = self.write(now, async |tx| state::profile::intern(tx, &keys, &ids).await)?;
        Ok(numbers.into_iter().next().flatten())
    }

    /// Whether it is stopped now: a playbook that never ran cannot be paused.
    fn stop(&self, stop: &Stop, now: Timestamp) -> Result<bool, Broken> {
        match scope(stop) {
            Ok(scope) => {
                let halt = Halt { scope, reason: "script".to_owned(), actor: "operator".to_owned(), at: now };
                self.write(now, async |tx| state::control::halt(tx, &halt).await).map(|_| true)
            }
            Err(playbook) => self.set_status(playbook, Status::Paused, now),
        }
    }

    fn resume(&mut self, stop: &Stop, now: Timestamp) -> Result<(), Broken> {
        self.held_back.retain(|(_, deed)| *deed != Deed::Stops(stop.clone()));
        match scope(stop) {
            Ok(scope) => drop(self.write(now, async |tx| state::control::lift(tx, &scope).await)?),
            Err(playbook) => drop(self.set_status(playbook, Status::Active, now)?),
        }
        self.auditor.resumed(stop);
        Ok(())
    }

    pub(super) fn resume_all(&mut self, now: Timestamp) -> Result<(), Broken> {
        let playbooks: Vec<Stop> = self.rules.playbooks.keys().cloned().map(Stop::Playbook).collect();
        [Stop::All, Stop::Destination].iter().chain(&playbooks).try_for_each(|stop| self.resume(stop, now))
    }

    fn set_status(&self, playbook: &PlaybookName, status: Status, now: Timestamp) -> Result<bool, Broken> {
        self.write(now, async |tx| state::playbook::set_status(tx, playbook, status).await)
    }

    /// A person asks the provider about every doubt, and closes it as it is.
    pub(super) fn close_doubts(&mut self, now: Timestamp) -> Result<(), Broken> {
        let doubts = self.write(now, async |tx| state::outbox::in_doubt(tx, 1_000).await)?;
        let mut answers: Vec<(DeliveryId, As)> = Vec::new();
        for doubt in doubts {
            let id = doubt.delivery.id;
            let has = self.auditor.provider_has(&id);
            let again =
                if self.dice.of("again").of(id.as_str()).chance(RESENDS) { As::Resend } else { As::Rejected };
            answers.push((id, if has { As::Accepted } else { again }));
        }
        self.played.doubts += answers.len() as u64;
        self.write(now, async |tx| {
            for (id, answer) in &answers {
                state::outbox::resolve(tx, id, *answer, "operator", "asked the provider", now).await?;
            }
            Ok(())
        })?;
        if !answers.is_empty() {
            self.trace.note(now, format!("closed {} doubts", answers.len()));
        }
        Ok(())
    }

    fn write<T>(
        &self,
        now: Timestamp,
        work: impl AsyncFnOnce(&mut Tx) -> Result<T, StateError>,
    ) -> Result<T, Broken> {
        let daemon = Arc::clone(&self.machine().daemon);
        let done = self.machine().block_on(async {
            let mut tx = daemon.state.write().await?;
            let done = work(&mut tx).await?;
            tx.commit().await?;
            Ok::<_, DaemonError>(done)
        });
        done.map_err(|error| broken(now, &error))
    }
}

/// What is halted; a playbook is paused instead.
fn scope(stop: &Stop) -> Result<HaltScope, &PlaybookName> {
    match stop {
        Stop::All => Ok(HaltScope::All),
        Stop::Destination => Ok(HaltScope::Destination(DestinationName::known(DESTINATION))),
        Stop::Playbook(name) => Err(name),
    }
}
