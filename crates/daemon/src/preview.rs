//! One person's message, made as a run would make it, with what every gate says. Nothing is written and nothing is sent.

use connector::Item;
use jiff::Timestamp;
use message::{Letter, Mail, Rendered};
use model::delivery::{Delivery, GateRecord};
use model::enrollment::{Enrollment, Progress};
use model::policy::Traits;
use model::{
    Channel, DeliveryId, DeliveryState, DestinationName, EmailAddress, EnrollmentId, PlaybookName, Reason,
    Refusal, StepId,
};

use crate::daemon::{Daemon, DaemonError, Surroundings};
use crate::links;
use crate::people;
use crate::pump::prepare::{render, send_of, voice};
use crate::uses;

/// Why there is nothing to show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NothingToShow {
    /// No send of that name.
    #[error("no playbook has a send `{0}`: name it as PLAYBOOK.STEP, or by its template")]
    Send(String),
    /// No such person.
    #[error("the warehouse has no profile with this id")]
    Profile,
}

/// A message as the person would get it.
#[derive(Debug, Clone)]
pub struct Previewed {
    /// By which account.
    pub destination: DestinationName,
    /// The message, or why there is none.
    pub message: Result<(Rendered, Mail), Refusal>,
    /// What every gate says now.
    pub gates: Vec<GateRecord>,
    delivery: Delivery,
}

/// Makes the message of a send for a person. `step` is a step's id, or the name of a template.
pub async fn preview(
    daemon: &Daemon,
    playbook: Option<&str>,
    step: &str,
    id: &str,
    now: Timestamp,
) -> Result<Result<Previewed, NothingToShow>, DaemonError> {
    let Some((name, step)) = find(daemon, playbook, step) else {
        return Ok(Err(NothingToShow::Send(step.to_owned())));
    };
    let mut tx = daemon.state.read().await?;
    let known = state::profile::numbers_of(&mut tx, &[id.to_owned()]).await?.into_iter().next().flatten();
    let number = known.unwrap_or(model::ProfileNumber(0));
    let Some(pinned) = daemon.present(&mut tx, &name).await? else {
        return Ok(Err(NothingToShow::Send(name.to_string())));
    };
    let playbook = pinned.version.playbook();
    let surroundings = Surroundings::read(&mut tx, &daemon.project, now).await?;
    let mut view = daemon.source.view(now).await?;
    let accounts = uses::accounts(daemon, [pinned.as_ref()]);
    let ids = [(number, id.to_owned())].into();
    let found = people::profiles(&mut view, &daemon.project.data.profiles, accounts, &ids).await;
    let entry = match &found {
        Ok(_) => entry_of(daemon, &mut view, playbook, id).await,
        Err(_) => Ok(Default::default()),
    };
    view.close().await;
    let Some(profile) = found?.remove(&number) else { return Ok(Err(NothingToShow::Profile)) };
    let mut people = people::People::from([(number, people::Facts::of(daemon, profile))]);
    people::read_state(&mut tx, &daemon.project.policy, &mut people, now).await?;
    let crowd = people::crowd_of(&mut tx, &daemon.project.policy, &people, now).await?;
    drop(tx);
    let facts = people.remove(&number).unwrap_or_default();
    let Some(send) = playbook.sends().into_iter().find(|(id, _)| **id == step).map(|(_, send)| send.clone())
    else {
        return Ok(Err(NothingToShow::Send(step.to_string())));
    };
    let enrollment = Enrollment {
        id: EnrollmentId::known("preview"),
        playbook: name.clone(),
        version: playbook.version.clone(),
        profile: number,
        trigger: "preview".to_owned(),
        entered_at: now,
        holdout: None,
        progress: Progress::Sending { step: step.clone(), since: now },
        goal_reached_at: None,
        outcomes: Default::default(),
        entry: entry?,
    };
    let world = surroundings.world(&daemon.project);
    let gates = engine::gates(&world, &pinned.version, &facts.person(number, &crowd), None, &step, now);
    let delivery = delivery(daemon, &enrollment, &step, &send, now);
    let message = message(daemon, &pinned, &enrollment, &facts, &delivery, now);
    Ok(Ok(Previewed { destination: send.destination, message, gates, delivery }))
}

/// The columns of the person's entry, if the segment has them.
async fn entry_of(
    daemon: &Daemon,
    view: &mut crate::source::View,
    playbook: &model::playbook::Playbook,
    id: &str,
) -> Result<std::collections::BTreeMap<String, model::Value>, DaemonError> {
    let wanted = uses::entry_columns(&daemon.project, playbook);
    let mut entry = std::collections::BTreeMap::new();
    let Some(segment) = daemon.project.segments.get(&playbook.enter).filter(|_| !wanted.is_empty()) else {
        return Ok(entry);
    };
    let Some((base, query)) = crate::stage::refresh::base_query(daemon, segment) else { return Ok(entry) };
    view.segment_pages(base, query, async |page| {
        if let Some((_, values)) = page.rows.iter().find(|(row, _)| row.as_deref() == Some(id)) {
            entry.extend(
                page.columns
                    .iter()
                    .cloned()
                    .zip(values.iter().cloned())
                    .filter(|(name, _)| wanted.contains(name)),
            );
        }
        Ok(())
    })
    .await?;
    Ok(entry)
}

fn find(daemon: &Daemon, playbook: Option<&str>, step: &str) -> Option<(PlaybookName, StepId)> {
    daemon
        .project
        .playbooks
        .values()
        .filter(|found| playbook.is_none_or(|wanted| found.name.as_str() == wanted))
        .flat_map(|found| found.sends().into_iter().map(move |(id, send)| (found, id, send)))
        .find(|(_, id, send)| id.as_str() == step || (playbook.is_none() && send.template.as_str() == step))
        .map(|(found, id, _)| (found.name.clone(), id.clone()))
}

fn delivery(
    daemon: &Daemon,
    enrollment: &Enrollment,
    step: &StepId,
    send: &model::playbook::Send,
    now: Timestamp,
) -> Delivery {
    let purpose = daemon.project.policy.purposes.get(&send.purpose);
    Delivery {
        id: DeliveryId::derive(&daemon.project.settings.project, &enrollment.id, step, 0),
        enrollment: enrollment.id.clone(),
        version: enrollment.version.clone(),
        step: step.clone(),
        profile: enrollment.profile,
        traits: Traits {
            channel: Channel::Email,
            class: purpose.map_or(model::MessageClass::Marketing, |purpose| purpose.class),
            purpose: send.purpose.clone(),
            brand: purpose.map_or_else(|| model::BrandName::known(""), |purpose| purpose.brand.clone()),
            playbook: enrollment.playbook.clone(),
        },
        destination: send.destination.clone(),
        template: send.template.clone(),
        content: None,
        priority: 0,
        state: DeliveryState::Pending,
        reason: Reason::OkAccepted,
        gates: Vec::new(),
        created_at: now,
        decided_at: now,
        due_at: now,
        expires_at: now,
    }
}

fn message(
    daemon: &Daemon,
    pinned: &crate::daemon::Pinned,
    enrollment: &Enrollment,
    facts: &people::Facts,
    delivery: &Delivery,
    now: Timestamp,
) -> Result<(Rendered, Mail), Refusal> {
    let refusal = |reason: Reason, saw: &str| Refusal { reason, saw: saw.to_owned() };
    let playbook = pinned.version.playbook();
    let send = send_of(playbook, delivery).ok_or_else(|| refusal(Reason::FailInternal, "no such step"))?;
    let compiled = pinned
        .compiled
        .get(&send.template)
        .ok_or_else(|| refusal(Reason::FailInternal, "no such template"))?;
    let (purpose, brand) =
        voice(daemon, delivery).ok_or_else(|| refusal(Reason::FailInternal, "no such purpose"))?;
    let links = links::Links::of(daemon, delivery, purpose, brand);
    let rendered = render(daemon, compiled, playbook, send, brand, &links, enrollment, facts, delivery, now)?;
    let to = facts.profile.as_ref().and_then(model::profile::Profile::email);
    let to = to.ok_or_else(|| refusal(Reason::AddressMissing, "no address"))?;
    let to = to.map_err(|error| refusal(Reason::AddressInvalid, error.0))?;
    let mail = compose(daemon, &rendered, delivery, facts, &to, now, false)?;
    Ok((rendered, mail))
}

fn compose(
    daemon: &Daemon,
    rendered: &Rendered,
    delivery: &Delivery,
    facts: &people::Facts,
    to: &EmailAddress,
    now: Timestamp,
    test: bool,
) -> Result<Mail, Refusal> {
    let (purpose, brand) = voice(daemon, delivery)
        .ok_or_else(|| Refusal { reason: Reason::FailInternal, saw: "no such purpose".to_owned() })?;
    let links = links::Links::of(daemon, delivery, purpose, brand);
    message::compose(&Letter {
        rendered,
        from: &brand.from,
        reply_to: brand.reply_to.as_deref(),
        to,
        to_name: facts.profile.as_ref().and_then(|profile| profile.attribute("first_name").as_text()),
        delivery: &delivery.id,
        date: now,
        list_id: links.list_id.as_deref(),
        unsubscribe_url: links.unsubscribe.as_deref(),
        unsubscribe_mailto: links.unsubscribe_mailto.as_deref(),
        feedback_id: links.feedback_id.as_deref(),
        signer: daemon.project.signers.get(&brand.name).map(AsRef::as_ref),
        test,
    })
}

impl Previewed {
    /// The message as a test for a colleague.
    pub fn test_item(&self, daemon: &Daemon, to: &EmailAddress) -> Result<Item, Refusal> {
        let (rendered, _) = self.message.as_ref().map_err(Clone::clone)?;
        let facts = people::Facts::default();
        let mail = compose(daemon, rendered, &self.delivery, &facts, to, self.delivery.created_at, true)?;
        links::item(&self.delivery, 1, mail, &links::Links::default(), self.delivery.created_at)
    }
}
