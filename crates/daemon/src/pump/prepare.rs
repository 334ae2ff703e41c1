//! From claimed rows to messages: people read fresh, the last look taken unlocked, the message rendered.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use connector::Item;
use engine::{ArmFacts, LastLook};
use jiff::Timestamp;
use message::{Letter, Rendered, Scope};
use model::delivery::{Delivery, GateRecord, Tally};
use model::enrollment::{Enrollment, Exit, Progress};
use model::fault::mutant;
use model::playbook::{Action, Playbook, Send};
use model::policy::Purpose;
use model::reason::{Gate, ReasonClass};
use model::settings::Brand;
use model::{DeliveryState, EnrollmentId, Lane, PlaybookName, ProfileNumber, RateKey, Reason, Refusal};
use state::delivery::DeliveryKey;
use state::outbox::{Back, Claimed};

use super::{Ready, rates, refuse};
use crate::allowances;
use crate::daemon::{Daemon, DaemonError, Pinned, Surroundings};
use crate::links::Links;
use crate::people::{self, Facts};
use crate::uses;

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// To be handed over.
    pub(super) ready: Vec<Ready>,
    /// Not to be sent (now), by reason; already written.
    pub(super) refused: BTreeMap<Reason, u64>,
}

/// Prepares claimed rows, and writes back those that do not go. Turns of their lanes are taken so far ahead.
pub(super) async fn prepare(
    daemon: &Arc<Daemon>,
    surroundings: &Surroundings,
    rows: Vec<Claimed>,
    ahead: Duration,
    now: Timestamp,
) -> Result<Prepared, DaemonError> {
    let mut numbers: Vec<ProfileNumber> = rows.iter().map(|row| row.delivery.profile).collect();
    numbers.sort();
    numbers.dedup();
    let mut view = daemon.source.view(now).await?;
    let read = read(daemon, &mut view, &rows, &numbers, now).await;
    view.close().await;
    let Read { people, crowd, seen, mut enrollments, versions } = read?;
    let world = surroundings.world(&daemon.project);
    let mut prepared = Prepared::default();
    let (mut backs, mut unmade) = (Vec::new(), BTreeMap::<PlaybookName, Tally>::new());
    let mut looked = Vec::with_capacity(rows.len());
    let mut allowance = seen.allowance.clone();
    for claimed in rows {
        let Some(facts) = people.get(&claimed.delivery.profile) else { continue };
        let enrollment = enrollments.get(&claimed.delivery.enrollment);
        let active = enrollment.is_some_and(under_way);
        let pinned = enrollment.and_then(|enrollment| versions.get(&enrollment.version));
        let window = pinned.and_then(|pinned| pinned.version.window(&claimed.delivery.step)).cloned();
        let arm_facts = ArmFacts {
            enrollment_active: active,
            profile: facts.profile.as_ref(),
            consents: &facts.consents,
            suppressions: &facts.suppressions,
            touches: &facts.touches,
            shared: crowd.shared(facts.account.as_ref(), facts.address.as_ref()),
            standings: &facts.standings,
            window: window.as_ref(),
        };
        let mut look = engine::last_look(&world, &claimed.delivery, &arm_facts, now);
        if look == LastLook::Arm
            && let Err(refusal) = allowance.take(&claimed.delivery, now)
        {
            look = LastLook::Hold { refusal };
        }
        looked.push((claimed, look, window));
    }
    let lanes: Vec<Lane> = looked
        .iter()
        .map(|(claimed, look, _)| match people.get(&claimed.delivery.profile) {
            Some(facts) if *look == LastLook::Arm => {
                rates::lane(daemon, &claimed.delivery, facts.profile.as_ref())
            }
            _ => Lane::default(),
        })
        .collect();
    let turns = rates::take(daemon, &lanes, ahead).await?;
    let mut unused: BTreeMap<RateKey, u32> = BTreeMap::new();
    let goes = looked.iter().zip(&turns);
    let goes = goes.filter(|((_, look, _), turn)| *look == LastLook::Arm && turn.is_ok());
    let goes = goes.map(|((claimed, _, _), _)| claimed);
    let mut canaries = allowances::canaries(daemon, &seen, goes, now).await?;
    for ((claimed, look, window), (lane, turn)) in looked.into_iter().zip(lanes.into_iter().zip(turns)) {
        let Some(facts) = people.get(&claimed.delivery.profile) else { continue };
        let turn = match turn {
            Ok(turn) => turn,
            Err(full) => {
                let refusal = rates::refusal(daemon, &full.key);
                let (reason, gates) = (refusal.reason, gates(refusal, &claimed.delivery));
                let lane = if mutant("lane_forgotten") { Lane::default() } else { lane };
                let back = Back::Turn { lane, reason, gates };
                backs.push((DeliveryKey::of(&claimed.delivery), claimed.fence, back));
                continue;
            }
        };
        let mut give_back = || {
            for key in lane.keys() {
                *unused.entry(key.clone()).or_default() += 1;
            }
        };
        let enrollment = enrollments.remove(&claimed.delivery.enrollment);
        let pinned = enrollment.as_ref().and_then(|enrollment| versions.get(&enrollment.version));
        let look = match first_of_its_version(&mut canaries, &claimed) {
            Err(refusal) if look == LastLook::Arm => LastLook::Hold { refusal },
            _ => look,
        };
        if look == LastLook::Arm && crate::doubts::is_forgotten(daemon, &claimed, now) {
            let saw = "an earlier attempt got no answer, and its key is forgotten by now".to_owned();
            let refusal = Refusal { reason: Reason::OutcomeUnknown, saw };
            refuse(&mut prepared.refused, Reason::OutcomeUnknown);
            give_back();
            let back = Back::Doubt { gates: gates(refusal, &claimed.delivery) };
            backs.push((DeliveryKey::of(&claimed.delivery), claimed.fence, back));
            continue;
        }
        let made = match look {
            LastLook::Arm => match (&enrollment, pinned) {
                // What panics on one message is an error of ours, and no reason to keep the others waiting. Nothing is shared that it could
                // leave half done.
                (Some(enrollment), Some(pinned)) => std::panic::catch_unwind(AssertUnwindSafe(|| {
                    make(daemon, pinned, &claimed.delivery, enrollment, facts, claimed.attempts + 1, now)
                }))
                .unwrap_or_else(|_| {
                    let saw =
                        "the message could not be made: an error of Drumbeat's own, which is in its log";
                    Err(Refusal { reason: Reason::FailInternal, saw: saw.to_owned() })
                }),
                _ => Err(Refusal { reason: Reason::FailInternal, saw: "the enrollment is gone".to_owned() }),
            }
            .map_err(|refusal| content_back(refusal, &claimed.delivery)),
            other => Err(back(other, &claimed)),
        };
        match made {
            Ok(made) => {
                let (item, rendered, address) = made;
                let (profile, account) = (facts.profile.clone(), facts.account.clone());
                let item = Arc::new(item);
                prepared.ready.push(Ready {
                    claimed,
                    item,
                    rendered,
                    address,
                    account,
                    profile,
                    window,
                    lane,
                    turn,
                });
            }
            Err(back) => {
                give_back();
                if let Back::Refused { reason, .. } | Back::Deferred { reason, .. } = &back {
                    refuse(&mut prepared.refused, *reason);
                    // That the template itself says `skip` is no failure.
                    if reason.gate() == Gate::Content && *reason != Reason::AuthorAbort {
                        unmade.entry(claimed.delivery.traits.playbook.clone()).or_default().unmade += 1;
                    }
                }
                backs.push((DeliveryKey::of(&claimed.delivery), claimed.fence, back));
            }
        }
    }
    super::settler::write_back(daemon, &backs, &unmade, &unused, now).await?;
    Ok(prepared)
}

/// What a batch needs.
struct Read {
    people: people::People,
    crowd: people::Crowd,
    seen: allowances::Seen,
    enrollments: BTreeMap<EnrollmentId, Enrollment>,
    versions: BTreeMap<String, Arc<Pinned>>,
}

async fn read(
    daemon: &Daemon,
    view: &mut crate::source::View,
    rows: &[Claimed],
    numbers: &[ProfileNumber],
    now: Timestamp,
) -> Result<Read, DaemonError> {
    let mut tx = daemon.state.read().await?;
    let ids: Vec<(ProfileNumber, EnrollmentId)> =
        rows.iter().map(|row| (row.delivery.profile, row.delivery.enrollment.clone())).collect();
    let under_way = tx.ask(state::enrollment::get_many(&ids)).await?;
    let versions = daemon.versions_of(&mut tx, &under_way).await?;
    let accounts = uses::accounts(daemon, versions.values().map(AsRef::as_ref));
    let people = people::read(daemon, &mut tx, view, accounts, numbers, now).await?;
    let crowd = people::crowd_of(&mut tx, &daemon.project.policy, &people, now).await?;
    let seen = allowances::look(daemon, &mut tx, now).await?;
    let mut enrollments = BTreeMap::new();
    for row in under_way {
        let entry = crate::entry::open(&daemon.keys, row.sealed_entry.as_deref())?;
        enrollments.insert(row.enrollment.id.clone(), Enrollment { entry, ..row.enrollment });
    }
    Ok(Read { people, crowd, seen, enrollments, versions })
}

/// Whether a message is among those that a canary lets go now.
fn first_of_its_version(canaries: &mut BTreeMap<String, u64>, claimed: &Claimed) -> Result<(), Refusal> {
    match canaries.get_mut(&claimed.delivery.version) {
        Some(_) if !allowances::is_in_canary(claimed) => Ok(()),
        None => Ok(()),
        Some(0) => {
            let saw = "the first messages of its version go first".to_owned();
            Err(Refusal { reason: Reason::CanaryWait, saw })
        }
        Some(left) => {
            *left -= 1;
            Ok(())
        }
    }
}

/// Whether an enrollment still wants its messages. One that is through does: what goes now is a doubt that a person sends again.
pub(super) fn under_way(enrollment: &Enrollment) -> bool {
    match &enrollment.progress {
        Progress::Ended { exit, .. } => *exit == Exit::Finished,
        Progress::Waiting { .. } | Progress::Sending { .. } => true,
    }
}

/// What the last look says, as what becomes of the row.
pub(super) fn back(look: LastLook, claimed: &Claimed) -> Back {
    let delivery = &claimed.delivery;
    match look {
        // What was handed over before may have been left behind by its enrollment, which would not wake it: it waits by itself.
        LastLook::Defer { wake_at, .. } if claimed.attempts > 0 => Back::Pending { due_at: wake_at },
        LastLook::Refuse { state, refusal } => refused(state, refusal, delivery),
        LastLook::Defer { wake_at, refusal } => {
            Back::Deferred { due_at: wake_at, reason: refusal.reason, gates: gates(refusal, delivery) }
        }
        // Halted or paused: the row goes back as it was, and is not claimed while that lasts.
        LastLook::Arm | LastLook::Hold { .. } => Back::Pending { due_at: delivery.due_at },
    }
}

/// A row that does not go, and stays as it is.
pub(super) fn refused(state: DeliveryState, refusal: Refusal, delivery: &Delivery) -> Back {
    Back::Refused { state, reason: refusal.reason, gates: gates(refusal, delivery) }
}

/// What every gate said when it was decided, with the later word of the one that refuses now.
pub(super) fn gates(refusal: Refusal, delivery: &Delivery) -> Vec<GateRecord> {
    let gate = refusal.reason.gate();
    let mut gates: Vec<GateRecord> =
        delivery.gates.iter().filter(|record| record.gate != gate).cloned().collect();
    gates.push(GateRecord { gate, reason: Some(refusal.reason), saw: refusal.saw });
    gates
}

/// A message that could not be made: a rule of content says no, or the template failed.
fn content_back(refusal: Refusal, delivery: &Delivery) -> Back {
    let state = if refusal.reason.class() == ReasonClass::Fail {
        DeliveryState::Rejected
    } else {
        DeliveryState::Skipped
    };
    refused(state, refusal, delivery)
}

type Made = (Item, Rendered, model::id::AddressHash);

/// Renders and composes one message.
fn make(
    daemon: &Daemon,
    pinned: &Pinned,
    delivery: &Delivery,
    enrollment: &Enrollment,
    facts: &Facts,
    attempt: u32,
    now: Timestamp,
) -> Result<Made, Refusal> {
    model::fault::poison(&facts.id);
    let playbook = pinned.version.playbook();
    let refusal = |reason, saw: &str| Refusal { reason, saw: saw.to_owned() };
    let missing = |what| refusal(Reason::FailInternal, what);
    let send = send_of(playbook, delivery).ok_or_else(|| missing("the step is not in the version"))?;
    let to = facts.profile.as_ref().and_then(model::profile::Profile::email).and_then(Result::ok);
    let to = to.ok_or_else(|| refusal(Reason::AddressMissing, "no usable address"))?;
    let compiled =
        pinned.compiled.get(&send.template).ok_or_else(|| missing("the template is not in the version"))?;
    let (purpose, brand) = voice(daemon, delivery)
        .ok_or_else(|| missing("the purpose or the brand is gone from the project"))?;
    let links = Links::of(daemon, delivery, purpose, brand);
    let rendered = render(daemon, compiled, playbook, send, brand, &links, enrollment, facts, delivery, now)?;
    let mail = message::compose(&Letter {
        rendered: &rendered,
        from: &brand.from,
        reply_to: brand.reply_to.as_deref(),
        to: &to,
        to_name: facts.profile.as_ref().and_then(|profile| profile.attribute("first_name").as_text()),
        delivery: &delivery.id,
        date: now,
        list_id: links.list_id.as_deref(),
        unsubscribe_url: links.unsubscribe.as_deref(),
        unsubscribe_mailto: links.unsubscribe_mailto.as_deref(),
        feedback_id: links.feedback_id.as_deref(),
        signer: daemon.project.signers.get(&brand.name).map(AsRef::as_ref),
        test: false,
    })?;
    let item = crate::links::item(delivery, attempt, mail, &links, now)?;
    Ok((item, rendered, daemon.keys.address_hash(&to)))
}

/// Renders a message for a person.
#[expect(clippy::too_many_arguments, reason = "all that a template may name")]
pub(crate) fn render(
    daemon: &Daemon,
    compiled: &message::Compiled,
    playbook: &Playbook,
    send: &Send,
    brand: &Brand,
    links: &Links,
    enrollment: &Enrollment,
    facts: &Facts,
    delivery: &Delivery,
    now: Timestamp,
) -> Result<Rendered, Refusal> {
    let settings = &daemon.project.settings;
    let nothing = BTreeMap::new();
    let default_locale = settings.locales.first().map_or("en", String::as_str);
    let profile = facts.profile.as_ref();
    let locale = profile.map_or(default_locale, |profile| profile.locale(default_locale));
    let zone =
        profile.and_then(model::profile::Profile::timezone).unwrap_or_else(|| settings.timezone.clone());
    compiled.render(&Scope {
        profile: profile.map_or(&nothing, |profile| &profile.attributes),
        profile_id: &facts.id,
        account: profile.map_or(&nothing, |profile| &profile.account),
        entry: &enrollment.entry,
        with: &send.with,
        playbook_name: playbook.name.as_str(),
        playbook_title: &playbook.title,
        step: delivery.step.as_str(),
        brand_title: brand.title.get(locale, &settings.locales),
        locale,
        default_locale,
        zone: &zone,
        now,
        unsubscribe_url: links.unsubscribe.as_deref(),
        preferences_url: links.preferences.as_deref(),
        postal_address: brand.postal_address.as_deref(),
    })
}

/// The purpose of a delivery, and who speaks.
pub(crate) fn voice<'a>(daemon: &'a Daemon, delivery: &Delivery) -> Option<(&'a Purpose, &'a Brand)> {
    let purpose = daemon.project.policy.purposes.get(&delivery.traits.purpose)?;
    Some((purpose, daemon.project.settings.brands.get(&purpose.brand)?))
}

/// The send of a delivery's step.
pub(crate) fn send_of<'a>(playbook: &'a Playbook, delivery: &Delivery) -> Option<&'a Send> {
    let mut found = None;
    playbook.walk(&mut |step| {
        if let (true, Action::Send(send)) = (step.id == delivery.step, &step.action) {
            found = Some(send);
        }
    });
    found
}
