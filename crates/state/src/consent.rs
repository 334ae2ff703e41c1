//! Consent: an append-only ledger and its fold. How events fold is `model::consent::fold`'s to say.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::ProfileNumber;
use model::consent::{ConsentEvent, ConsentOrigin, ConsentState, ConsentStatus, Consents};

use crate::ask::Question;
use crate::audience;
use crate::db::binds;
use crate::dialect::{Rows, Sql, each, page};
use crate::journal::{ConsentLine, Line};
use crate::outbox::lock_profiles;
use crate::row;
use crate::{StateError, Tx};

pub use crate::suppression::{list, suppress, suppressions, unsuppress};

/// Longest source and evidence that are kept, in bytes.
const TEXT_BYTES_MAX: usize = 1000;

/// A person's channel and purpose, as they are kept.
type Key = (u32, String, String);

/// Adds an event and folds it, with the person locked. `false`: the same event was there before, and nothing
/// changed.
pub async fn record(tx: &mut Tx, event: &ConsentEvent) -> Result<bool, StateError> {
    lock_profiles(tx, &[event.profile]).await?;
    let event = kept(event)?;
    if insert(tx, &[&event]).await? == 0 {
        return Ok(false);
    }
    let before = tx.ask(folds(&[event.profile])).await?;
    let key = key_of(&event);
    if let Some(after) = fold(before.get(&key), &event) {
        put_folds(tx, [(&key, &after)]).await?;
    }
    doubt_those_who_said_no(tx, &[&event]);
    if tx.is_journaled() {
        let who = tx.who(event.profile).await?;
        tx.journal(Line::Consent(Box::new(ConsentLine {
            who,
            channel: row::channel_word(event.channel).to_owned(),
            purpose: row::purpose_word(event.purpose.as_ref()).to_owned(),
            status: event.status.as_str().to_owned(),
            changed_at_ms: row::ms(event.changed_at),
            at_ms: row::ms(event.recorded_at),
            source: event.source,
            evidence: event.evidence,
        })));
    }
    Ok(true)
}

/// Adds those events of a page (at most 1,000) that change what holds; returns how many. The others are left
/// out of the ledger too: an import repeats all it ever said.
pub async fn import(tx: &mut Tx, events: &[ConsentEvent]) -> Result<u64, StateError> {
    let events = events.iter().map(kept).collect::<Result<Vec<_>, _>>()?;
    let numbers: Vec<ProfileNumber> = events.iter().map(|event| event.profile).collect();
    let (changing, _) = changes(&events, tx.ask(folds(&numbers)).await?);
    if changing.is_empty() {
        return Ok(0);
    }
    // Only those that change something are locked, and looked at again: a person may have said no just now.
    let mut numbers: Vec<ProfileNumber> = changing.iter().map(|event| event.profile).collect();
    numbers.sort_unstable();
    lock_profiles(tx, &numbers).await?;
    let suspects: Vec<ConsentEvent> =
        events.iter().filter(|event| numbers.binary_search(&event.profile).is_ok()).cloned().collect();
    let (changing, after) = changes(&suspects, tx.ask(folds(&numbers)).await?);
    insert(tx, &changing).await?;
    put_folds(tx, &after).await?;
    doubt_those_who_said_no(tx, &changing);
    Ok(row::count(i64::try_from(changing.len()).unwrap_or(i64::MAX)))
}

/// Whoever takes something back is looked at again wherever a destination knows them.
fn doubt_those_who_said_no(tx: &mut Tx, events: &[&ConsentEvent]) {
    let numbers: Vec<ProfileNumber> = events
        .iter()
        .filter(|event| event.status != ConsentStatus::Granted)
        .map(|event| event.profile)
        .collect();
    if !numbers.is_empty() {
        audience::doubt_profiles(tx, &numbers);
    }
}

/// The event as it can be kept: whole milliseconds, bounded texts.
fn kept(event: &ConsentEvent) -> Result<ConsentEvent, StateError> {
    if event.status == ConsentStatus::Absent {
        return Err(StateError::Broken { what: "nobody can say that they said nothing" });
    }
    let milliseconds = |time: Timestamp| row::time(row::ms(time));
    Ok(ConsentEvent {
        changed_at: milliseconds(event.changed_at)?,
        recorded_at: milliseconds(event.recorded_at)?,
        source: row::bounded(&event.source, TEXT_BYTES_MAX).to_owned(),
        evidence: event.evidence.as_deref().map(|evidence| row::bounded(evidence, TEXT_BYTES_MAX).to_owned()),
        ..event.clone()
    })
}

fn key_of(event: &ConsentEvent) -> Key {
    let purpose = row::purpose_word(event.purpose.as_ref()).to_owned();
    (event.profile.0, row::channel_word(event.channel).to_owned(), purpose)
}

fn fold(before: Option<&ConsentState>, event: &ConsentEvent) -> Option<ConsentState> {
    if model::fault::mutant("consent_plain") {
        // The mutant lets any later row win, whoever told it.
        let later = before.is_none_or(|before| event.changed_at >= before.changed_at);
        let after = ConsentState { status: event.status, changed_at: event.changed_at, origin: event.origin };
        return if later { Some(after) } else { before.cloned() };
    }
    model::consent::fold(before, event)
}

/// The events that change a fold, in order, and the folds that changed.
fn changes(
    events: &[ConsentEvent],
    mut folds: BTreeMap<Key, ConsentState>,
) -> (Vec<&ConsentEvent>, BTreeMap<Key, ConsentState>) {
    let (mut changing, mut after) = (Vec::new(), BTreeMap::new());
    for event in events {
        let key = key_of(event);
        let before = folds.get(&key);
        let folded = fold(before, event);
        if let Some(folded) = folded.filter(|folded| before != Some(folded)) {
            changing.push(event);
            after.insert(key.clone(), folded.clone());
            folds.insert(key, folded);
        }
    }
    (changing, after)
}

async fn insert(tx: &mut Tx, events: &[&ConsentEvent]) -> Result<u64, StateError> {
    let mut rows = Rows::new();
    for event in events {
        rows.row()
            .integer(i64::from(event.profile.0))
            .text(row::channel_word(event.channel))
            .text(row::purpose_word(event.purpose.as_ref()))
            .text(event.status.as_str())
            .integer(row::ms(event.changed_at))
            .integer(row::ms(event.recorded_at))
            .text(event.origin.as_str())
            .text(&event.source)
            .maybe_text(event.evidence.as_deref());
    }
    const SQL: Sql = each!(
        "INSERT INTO consent_event (profile, channel, purpose, status, changed_at_ms, recorded_at_ms, origin, source, evidence)
        SELECT CAST(each.value ->> 0 AS BIGINT), each.value ->> 1, each.value ->> 2, each.value ->> 3,
            CAST(each.value ->> 4 AS BIGINT), CAST(each.value ->> 5 AS BIGINT), each.value ->> 6, each.value ->> 7,
            each.value ->> 8 FROM",
        "WHERE true ON CONFLICT (profile, channel, purpose, status, changed_at_ms, origin, source) DO NOTHING"
    );
    tx.execute("keep consent events", &SQL, binds![rows.finish()]).await
}

async fn put_folds<'a>(
    tx: &mut Tx,
    folds: impl IntoIterator<Item = (&'a Key, &'a ConsentState)>,
) -> Result<(), StateError> {
    let mut rows = Rows::new();
    for ((profile, channel, purpose), state) in folds {
        rows.row()
            .integer(i64::from(*profile))
            .text(channel)
            .text(purpose)
            .text(state.status.as_str())
            .integer(row::ms(state.changed_at))
            .text(state.origin.as_str());
    }
    const SQL: Sql = each!(
        "INSERT INTO consent (profile, channel, purpose, status, changed_at_ms, origin)
        SELECT CAST(each.value ->> 0 AS BIGINT), each.value ->> 1, each.value ->> 2, each.value ->> 3,
            CAST(each.value ->> 4 AS BIGINT), each.value ->> 5 FROM",
        "WHERE true ON CONFLICT (profile, channel, purpose) DO UPDATE SET
            status = excluded.status, changed_at_ms = excluded.changed_at_ms, origin = excluded.origin"
    );
    tx.execute("keep consents", &SQL, binds![rows.finish()]).await?;
    Ok(())
}

type FoldRow = (u32, String, String, String, i64, String);

fn folds(numbers: &[ProfileNumber]) -> Question<BTreeMap<Key, ConsentState>> {
    const SQL: Sql = page!(
        "profile, channel, purpose, status, changed_at_ms, origin",
        "SELECT profile, channel, purpose, status, changed_at_ms, origin FROM",
        each,
        "CROSS JOIN consent WHERE consent.profile = CAST(each.value ->> 0 AS BIGINT)"
    );
    Question::new("read consents", &SQL, binds![row::numbers(numbers)], |rows: Vec<FoldRow>| {
        rows.into_iter()
            .map(|(profile, channel, purpose, status, changed_at, origin)| {
                let state = ConsentState {
                    status: row::word(ConsentStatus::parse(&status), "a consent's status")?,
                    changed_at: row::time(changed_at)?,
                    origin: row::word(ConsentOrigin::parse(&origin), "a consent's origin")?,
                };
                Ok(((profile, channel, purpose), state))
            })
            .collect()
    })
}

/// What holds for these people? Who has no entry never said anything.
pub fn of_profiles(numbers: &[ProfileNumber]) -> Question<BTreeMap<ProfileNumber, Consents>> {
    folds(numbers).map(|folds| {
        let mut consents: BTreeMap<ProfileNumber, Consents> = BTreeMap::new();
        for ((profile, channel, purpose), state) in folds {
            let states = &mut consents.entry(ProfileNumber(profile)).or_default().states;
            states.push((row::channel(&channel)?, row::purpose(&purpose), state));
        }
        Ok(consents)
    })
}

type EventRow = (String, String, String, i64, i64, String, String, Option<String>);

/// All events of a person, in the order they were recorded.
pub async fn history(tx: &mut Tx, number: ProfileNumber) -> Result<Vec<ConsentEvent>, StateError> {
    let sql = Sql::same(
        "SELECT channel, purpose, status, changed_at_ms, recorded_at_ms, origin, source, evidence FROM consent_event
        WHERE profile = $1 ORDER BY number",
    );
    let rows: Vec<EventRow> = tx.rows("read consent events", &sql, binds![i64::from(number.0)]).await?;
    rows.into_iter()
        .map(|(channel, purpose, status, changed_at, recorded_at, origin, source, evidence)| {
            Ok(ConsentEvent {
                profile: number,
                channel: row::channel(&channel)?,
                purpose: row::purpose(&purpose),
                status: row::word(ConsentStatus::parse(&status), "a consent's status")?,
                changed_at: row::time(changed_at)?,
                recorded_at: row::time(recorded_at)?,
                origin: row::word(ConsentOrigin::parse(&origin), "a consent's origin")?,
                source,
                evidence,
            })
        })
        .collect()
}
