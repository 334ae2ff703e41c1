//! The first run of a version of a playbook: where it lets in more than `guards.first_run`, it waits in production for the word of a second
//! person. That word is about this version and so many people, and is good for a week.

use jiff::{SignedDuration, Timestamp};
use model::{PlaybookName, Reason, Refusal};
use state::{StateError, Tx};

use crate::daemon::Daemon;

/// A word is good for so long.
const GOOD_FOR: SignedDuration = SignedDuration::from_hours(7 * 24);

/// That so many may enter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// The version.
    pub version: String,
    /// As many people, at most.
    pub ceiling: u64,
    /// When it was given, in milliseconds.
    pub at_ms: i64,
}

impl Approval {
    /// For so many, and a tenth more: segments move while people think.
    pub fn of(version: &str, people: u64, at: Timestamp) -> Self {
        Self {
            version: version.to_owned(),
            ceiling: people.saturating_add(people / 10),
            at_ms: at.as_millisecond(),
        }
    }

    /// As it is kept.
    fn text(&self) -> String {
        format!("{} {} {}", self.version, self.ceiling, self.at_ms)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (version, ceiling, at_ms) = (words.next()?.to_owned(), words.next()?, words.next()?);
        Some(Self { version, ceiling: ceiling.parse().ok()?, at_ms: at_ms.parse().ok()? })
    }

    fn covers(&self, version: &str, people: u64, now: Timestamp) -> bool {
        let age = now.as_millisecond().saturating_sub(self.at_ms);
        self.version == version && people <= self.ceiling && i128::from(age) <= GOOD_FOR.as_millis()
    }
}

fn unproven_key(playbook: &PlaybookName) -> String {
    format!("unproven.{playbook}")
}

fn approval_key(playbook: &PlaybookName) -> String {
    format!("approved.{playbook}")
}

/// A version begins that nobody has entered yet.
pub(crate) async fn begins(tx: &mut Tx, playbook: &PlaybookName, version: &str) -> Result<(), StateError> {
    state::meta::set(tx, &unproven_key(playbook), version).await
}

/// A run of it is through that let in so many. It is known once as many entered as may without a word, or a person gave it.
pub(crate) async fn is_through(
    daemon: &Daemon,
    tx: &mut Tx,
    playbook: &PlaybookName,
    people: u64,
) -> Result<(), StateError> {
    let (key, approval) = (unproven_key(playbook), approval_key(playbook));
    let Some(text) = state::meta::get(tx, &key).await? else { return Ok(()) };
    let (version, before) = text.split_once(' ').unwrap_or((&text, "0"));
    let entered = before.parse::<u64>().unwrap_or(0).saturating_add(people);
    if entered >= daemon.project.policy.guards.first_run || state::meta::get(tx, &approval).await?.is_some() {
        state::meta::remove(tx, &key).await?;
        return state::meta::remove(tx, &approval).await;
    }
    state::meta::set(tx, &key, &format!("{version} {entered}")).await
}

/// Keeps a second person's word.
pub async fn approve(tx: &mut Tx, playbook: &PlaybookName, approval: &Approval) -> Result<(), StateError> {
    state::meta::set(tx, &approval_key(playbook), &approval.text()).await
}

/// What a hold of a run was judged on: once there is another word, it is judged again.
pub(crate) async fn judged_on(
    daemon: &Daemon,
    tx: &mut Tx,
    playbook: &PlaybookName,
    run_id: &str,
) -> Result<String, StateError> {
    if !daemon.project.settings.production {
        return Ok(run_id.to_owned());
    }
    let word = state::meta::get(tx, &approval_key(playbook)).await?.unwrap_or_default();
    Ok(format!("{run_id} {word}"))
}

/// Whether so many may enter now. `None`: no version of it waits for its first run.
pub async fn judge(
    daemon: &Daemon,
    tx: &mut Tx,
    playbook: &PlaybookName,
    people: u64,
    now: Timestamp,
) -> Result<Option<Refusal>, StateError> {
    let most = daemon.project.policy.guards.first_run;
    if !daemon.project.settings.production || people <= most {
        return Ok(None);
    }
    let Some(unproven) = state::meta::get(tx, &unproven_key(playbook)).await? else { return Ok(None) };
    let version = unproven.split(' ').next().unwrap_or_default().to_owned();
    if let Some(text) = state::meta::get(tx, &approval_key(playbook)).await?
        && Approval::parse(&text).is_some_and(|approval| approval.covers(&version, people, now))
    {
        return Ok(None);
    }
    let saw = format!(
        "{people} would enter at the first run of this version, the guard `first_run` is {most}; \
         `drumbeat playbook approve {playbook} --second PERSON` lets them"
    );
    Ok(Some(Refusal { reason: Reason::ApprovalMissing, saw }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_about_one_version_and_so_many_people_and_grows_old() {
        let at: Timestamp = "2026-03-02T09:00:00Z".parse().unwrap();
        let approval = Approval::of("v1", 1_000, at);
        assert_eq!(Approval::parse(&approval.text()), Some(approval.clone()));
        assert!(
            approval.covers("v1", 1_100, at)
                && !approval.covers("v1", 1_101, at)
                && !approval.covers("v2", 1, at)
        );
        assert!(
            approval.covers("v1", 1, at + GOOD_FOR)
                && !approval.covers("v1", 1, at + GOOD_FOR + SignedDuration::from_millis(1))
        );
    }
}
