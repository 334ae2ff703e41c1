//! Enrollments: people's ways through playbooks. One that ended is never begun again, and of a person one at
//! most is under way in a playbook.
//!
//! `look_at_ms` says when DECIDE is to look: the wake time of who waits; of who is sending, the time at which
//! the delivery was due, written by the outbox once it is settled.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::condition::StepOutcome;
use model::enrollment::{Enrollment, Exit, HoldoutKind, Progress};
use model::{EnrollmentId, PlaybookName, ProfileNumber, StepId};
use serde::Deserialize;

use crate::ask::Question;
use crate::db::binds;
use crate::dialect::{Rows, Sql, each, page};
use crate::row;
use crate::{StateError, Tx};

/// An enrollment as it is kept: `enrollment.entry` is empty, its content is in `sealed_entry`.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The enrollment.
    pub enrollment: Enrollment,
    /// Its entry, sealed.
    pub sealed_entry: Option<Vec<u8>>,
    /// When it is to be looked at; `None`: not before something happens.
    pub look_at: Option<Timestamp>,
}

/// Where a person stands in a playbook: their latest enrollment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Who.
    pub profile: ProfileNumber,
    /// In which.
    pub playbook: PlaybookName,
    /// Whether it is under way.
    pub active: bool,
    /// Whether the goal was reached.
    pub reached_goal: bool,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// Where a page of due enrollments ended.
pub type DueCursor = (Timestamp, ProfileNumber);

/// The columns of a row, in the order in which they are read and written.
macro_rules! columns {
    () => {
        "profile, id, playbook, version, entered_by, entered_at_ms, holdout, state, step, since_ms, look_at_ms, exit, ended_at_ms, \
        goal_reached_at_ms, outcomes, sealed_entry"
    };
}

#[derive(Deserialize)]
struct Read {
    profile: u32,
    id: String,
    playbook: String,
    version: String,
    entered_by: String,
    entered_at_ms: i64,
    holdout: Option<String>,
    state: String,
    step: Option<String>,
    since_ms: Option<i64>,
    look_at_ms: Option<i64>,
    exit: Option<String>,
    ended_at_ms: Option<i64>,
    goal_reached_at_ms: Option<i64>,
    outcomes: String,
    sealed_entry: Option<String>,
}

impl Read {
    fn row(self) -> Result<Row, StateError> {
        let corrupt = StateError::Corrupt { what: "an enrollment" };
        let step = self.step.map(StepId::known);
        let progress = match (self.state.as_str(), step, self.since_ms, self.look_at_ms, self.ended_at_ms) {
            ("waiting", Some(step), Some(since), Some(wake_at), _) => {
                Progress::Waiting { step, since: row::time(since)?, wake_at: row::time(wake_at)? }
            }
            ("sending", Some(step), Some(since), _, _) => {
                Progress::Sending { step, since: row::time(since)? }
            }
            ("ended", _, _, _, Some(at)) => {
                Progress::Ended { exit: Exit::parse(&self.exit.ok_or(corrupt)?), at: row::time(at)? }
            }
            _ => return Err(corrupt),
        };
        let outcomes: BTreeMap<String, String> = serde_json::from_str(&self.outcomes)
            .map_err(|_| StateError::Corrupt { what: "an enrollment" })?;
        let outcomes = outcomes
            .into_iter()
            .map(|(step, word)| {
                Ok((StepId::known(step), row::word(StepOutcome::parse(&word), "a step's outcome")?))
            })
            .collect::<Result<_, StateError>>()?;
        Ok(Row {
            look_at: row::maybe_time(self.look_at_ms)?,
            sealed_entry: self
                .sealed_entry
                .map(|sealed| row::from_base64(&sealed, "a sealed entry"))
                .transpose()?,
            enrollment: Enrollment {
                id: EnrollmentId::known(self.id),
                playbook: PlaybookName::known(self.playbook),
                version: self.version,
                profile: ProfileNumber(self.profile),
                trigger: self.entered_by,
                entered_at: row::time(self.entered_at_ms)?,
                holdout: self
                    .holdout
                    .map(|word| row::word(HoldoutKind::parse(&word), "a holdout"))
                    .transpose()?,
                progress,
                goal_reached_at: row::maybe_time(self.goal_reached_at_ms)?,
                outcomes,
                entry: BTreeMap::new(),
            },
        })
    }
}

fn read_all(rows: Vec<Read>) -> Result<Vec<Row>, StateError> {
    rows.into_iter().map(Read::row).collect()
}

fn write(rows: &mut Rows, enrollment: &Enrollment, sealed: Option<&[u8]>) {
    let (state, step, since, look_at, exit, ended_at) = match &enrollment.progress {
        Progress::Waiting { step, since, wake_at } => {
            ("waiting", Some(step), Some(*since), Some(*wake_at), None, None)
        }
        Progress::Sending { step, since } => ("sending", Some(step), Some(*since), None, None, None),
        Progress::Ended { exit, at } => ("ended", None, None, None, Some(exit.as_str()), Some(*at)),
    };
    let outcomes: BTreeMap<&str, &str> =
        enrollment.outcomes.iter().map(|(step, outcome)| (step.as_str(), outcome.as_str())).collect();
    // A map of texts cannot fail to be written.
    let outcomes = serde_json::to_string(&outcomes).unwrap_or_else(|_| "{}".to_owned());
    rows.row()
        .integer(i64::from(enrollment.profile.0))
        .text(enrollment.id.as_str())
        .text(enrollment.playbook.as_str())
        .text(&enrollment.version)
        .text(&enrollment.trigger)
        .integer(row::ms(enrollment.entered_at))
        .maybe_text(enrollment.holdout.map(HoldoutKind::as_str))
        .text(state)
        .maybe_text(step.map(StepId::as_str))
        .maybe_integer(since.map(row::ms))
        .maybe_integer(look_at.map(row::ms))
        .maybe_text(exit)
        .maybe_integer(ended_at.map(row::ms))
        .maybe_integer(enrollment.goal_reached_at.map(row::ms))
        .json(&outcomes)
        .maybe_text(sealed.filter(|_| enrollment.is_active()).map(row::base64).as_deref());
}

/// Inserts or updates by person and id, at most 1,000 at a time; returns how many took effect.
///
/// An ended one is not begun again. `None` keeps the sealed entry that is there; an end drops it.
///
/// # Errors
/// If a person would be under way twice in one playbook.
pub async fn put(tx: &mut Tx, enrollments: &[(Enrollment, Option<Vec<u8>>)]) -> Result<u64, StateError> {
    let mut rows = Rows::new();
    for (enrollment, sealed) in enrollments {
        write(&mut rows, enrollment, sealed.as_deref());
    }
    const SQL: Sql = each!(
        concat!(
            "INSERT INTO enrollment (", columns!(), ")
            SELECT CAST(each.value ->> 0 AS BIGINT), each.value ->> 1, each.value ->> 2, each.value ->> 3, each.value ->> 4,
                CAST(each.value ->> 5 AS BIGINT), each.value ->> 6, each.value ->> 7, each.value ->> 8,
                CAST(each.value ->> 9 AS BIGINT), CAST(each.value ->> 10 AS BIGINT), each.value ->> 11,
                CAST(each.value ->> 12 AS BIGINT), CAST(each.value ->> 13 AS BIGINT), each.value ->> 14, each.value ->> 15
            FROM"
        ),
        "WHERE true ON CONFLICT (profile, id) DO UPDATE SET
            state = excluded.state, step = excluded.step, since_ms = excluded.since_ms, look_at_ms = excluded.look_at_ms,
            exit = excluded.exit, ended_at_ms = excluded.ended_at_ms, goal_reached_at_ms = excluded.goal_reached_at_ms,
            outcomes = excluded.outcomes,
            sealed_entry = CASE WHEN excluded.state = 'ended' THEN NULL
                ELSE COALESCE(excluded.sealed_entry, enrollment.sealed_entry) END
        WHERE enrollment.state <> 'ended' OR excluded.state = 'ended'"
    );
    tx.execute("keep enrollments", &SQL, binds![rows.finish()]).await
}

/// Those of a playbook to be looked at, by time and number, after a cursor: the look-at time and number of
/// the last row.
pub async fn due(
    tx: &mut Tx,
    playbook: &PlaybookName,
    now: Timestamp,
    limit: u32,
    after: Option<DueCursor>,
) -> Result<Vec<Row>, StateError> {
    const SQL: Sql = page!(
        columns!(),
        concat!(
            "SELECT ",
            columns!(),
            " FROM enrollment WHERE playbook = $1 AND look_at_ms IS NOT NULL AND look_at_ms <= $2
            AND (look_at_ms, profile) > ($3, $4) ORDER BY look_at_ms, profile LIMIT $5"
        )
    );
    let (after_ms, after_number) =
        after.map_or((i64::MIN, 0), |(at, number)| (row::ms(at), i64::from(number.0)));
    let binds = binds![playbook.as_str(), row::ms(now), after_ms, after_number, limit];
    let mut rows = read_all(tx.page("read due enrollments", &SQL, binds).await?)?;
    rows.sort_by_key(|row| (row.look_at, row.enrollment.profile));
    Ok(rows)
}

/// Those of a playbook that are under way, by number.
pub async fn active(
    tx: &mut Tx,
    playbook: &PlaybookName,
    after: Option<ProfileNumber>,
    limit: u32,
) -> Result<Vec<Row>, StateError> {
    const SQL: Sql = page!(
        columns!(),
        concat!(
            "SELECT ",
            columns!(),
            " FROM enrollment WHERE playbook = $1 AND state <> 'ended' AND profile > $2
            ORDER BY profile LIMIT $3"
        )
    );
    let after = after.map_or(-1, |number| i64::from(number.0));
    let mut rows =
        read_all(tx.page("read active enrollments", &SQL, binds![playbook.as_str(), after, limit]).await?)?;
    rows.sort_by_key(|row| row.enrollment.profile);
    Ok(rows)
}

/// Those of these people that are under way in a playbook, by number.
pub async fn of_profiles_active(
    tx: &mut Tx,
    playbook: &PlaybookName,
    numbers: &[ProfileNumber],
) -> Result<Vec<Row>, StateError> {
    const SQL: Sql = page!(
        columns!(),
        concat!("SELECT ", columns!(), " FROM"),
        each,
        "CROSS JOIN enrollment WHERE enrollment.playbook = $2 AND enrollment.state <> 'ended'
            AND enrollment.profile = CAST(each.value ->> 0 AS BIGINT)"
    );
    let binds = binds![row::numbers(numbers), playbook.as_str()];
    let mut rows = read_all(tx.page("read active enrollments", &SQL, binds).await?)?;
    rows.sort_by_key(|row| row.enrollment.profile);
    Ok(rows)
}

type StandingRow = (u32, String, String, Option<i64>, Option<i64>, i64, String);

/// Where these people stand in every playbook they were ever in, by person and playbook.
pub fn standings(numbers: &[ProfileNumber]) -> Question<Vec<Standing>> {
    const SQL: Sql = page!(
        "profile, playbook, state, goal_reached_at_ms, ended_at_ms, entered_at_ms, id",
        "SELECT profile, playbook, state, goal_reached_at_ms, ended_at_ms, entered_at_ms, id FROM",
        each,
        "CROSS JOIN enrollment WHERE enrollment.profile = CAST(each.value ->> 0 AS BIGINT)"
    );
    Question::new("read standings", &SQL, binds![row::numbers(numbers)], latest)
}

fn latest(rows: Vec<StandingRow>) -> Result<Vec<Standing>, StateError> {
    let mut latest: BTreeMap<(u32, String), StandingRow> = BTreeMap::new();
    for row in rows {
        let key = (row.0, row.1.clone());
        // An active one is the latest, even if two began at the same time.
        let age = |row: &StandingRow| (row.2 != "ended", row.5, row.4, row.6.clone());
        if latest.get(&key).is_none_or(|known| age(known) < age(&row)) {
            latest.insert(key, row);
        }
    }
    latest
        .into_values()
        .map(|(profile, playbook, state, goal, ended_at, _, _)| {
            Ok(Standing {
                profile: ProfileNumber(profile),
                playbook: PlaybookName::known(playbook),
                active: state != "ended",
                reached_goal: goal.is_some(),
                ended_at: row::maybe_time(ended_at)?,
            })
        })
        .collect()
}

/// One enrollment.
pub async fn get(tx: &mut Tx, profile: ProfileNumber, id: &EnrollmentId) -> Result<Option<Row>, StateError> {
    Ok(tx.ask(get_many(&[(profile, id.clone())])).await?.into_iter().next())
}

/// These enrollments, by number.
pub fn get_many(ids: &[(ProfileNumber, EnrollmentId)]) -> Question<Vec<Row>> {
    const SQL: Sql = page!(
        columns!(),
        concat!("SELECT ", columns!(), " FROM"),
        each,
        "CROSS JOIN enrollment WHERE enrollment.profile = CAST(each.value ->> 0 AS BIGINT) AND enrollment.id = each.value ->> 1"
    );
    Question::new("read enrollments", &SQL, binds![keys(ids)], |rows| {
        let mut rows = read_all(rows)?;
        rows.sort_by(|one, other| {
            (one.enrollment.profile, &one.enrollment.id)
                .cmp(&(other.enrollment.profile, &other.enrollment.id))
        });
        Ok(rows)
    })
}

/// The keys of enrollments as rows, each once.
pub(crate) fn keys(ids: &[(ProfileNumber, EnrollmentId)]) -> String {
    let mut sorted: Vec<_> = ids.iter().collect();
    sorted.sort_unstable();
    sorted.dedup();
    let mut rows = Rows::new();
    for (profile, id) in sorted {
        rows.row().integer(i64::from(profile.0)).text(id.as_str());
    }
    rows.finish()
}

/// All of a person, oldest first.
pub async fn of_profile(tx: &mut Tx, number: ProfileNumber) -> Result<Vec<Row>, StateError> {
    const SQL: Sql = page!(columns!(), concat!("SELECT ", columns!(), " FROM enrollment WHERE profile = $1"));
    let mut rows =
        read_all(tx.page("read a person's enrollments", &SQL, binds![i64::from(number.0)]).await?)?;
    rows.sort_by(|one, other| {
        (one.enrollment.entered_at, &one.enrollment.id)
            .cmp(&(other.enrollment.entered_at, &other.enrollment.id))
    });
    Ok(rows)
}

/// Marks enrollments whose delivery moved, to be looked at from a time on: rows of (profile, id, time).
pub(crate) fn look_at(tx: &mut Tx, rows: Rows) {
    const SQL: Sql = each!(
        "UPDATE enrollment SET look_at_ms = CAST(each.value ->> 2 AS BIGINT) FROM",
        "WHERE enrollment.profile = CAST(each.value ->> 0 AS BIGINT) AND enrollment.id = each.value ->> 1
            AND enrollment.state = 'sending'"
    );
    tx.later("mark enrollments", &SQL, binds![rows.finish()]);
}
