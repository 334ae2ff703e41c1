//! Deliveries: the one row a candidate has, as it is decided, counted and shown. What the outbox does with it
//! is in [`crate::outbox`].
//!
//! Rows lie by person. A page of people is then a page of the table and of its indexes, instead of a thousand
//! scattered ones, which is what makes a million decisions cheap to commit; the price is that a row is found
//! by (person, id), not by id alone.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use model::delivery::Delivery;
use model::id::ContentHash;
use model::policy::{MessageClass, Traits};
use model::{DeliveryId, DeliveryState, DestinationName, EnrollmentId, PlaybookName, ProfileNumber, Reason};
use serde::Deserialize;

use crate::ask::Question;
use crate::db::{Bind, binds};
use crate::dialect::{Rows, Sql, each, page};
use crate::outbox::hold;
use crate::row;
use crate::{StateError, Tx};

pub(crate) mod read;

use read::{LoggedRead, columns, logged_columns, playbook_goes_on};

/// How a row is found: rows lie by person, so that a page of people is a page of the table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeliveryKey {
    /// Whose.
    pub profile: ProfileNumber,
    /// Which.
    pub id: DeliveryId,
}

impl DeliveryKey {
    /// Of a delivery.
    pub fn of(delivery: &Delivery) -> Self {
        Self { profile: delivery.profile, id: delivery.id.clone() }
    }
}

/// A touch that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touch {
    /// Whose.
    pub profile: ProfileNumber,
    /// Which.
    pub delivery: DeliveryId,
    /// Settled or armed at, else due at.
    pub at: Timestamp,
    /// What caps look at.
    pub traits: Traits,
    /// Where it is.
    pub state: DeliveryState,
    /// What it says.
    pub content: Option<ContentHash>,
}

/// Which deliveries. Nothing given: all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this person.
    pub profile: Option<ProfileNumber>,
    /// Of this playbook.
    pub playbook: Option<PlaybookName>,
    /// Of this enrollment.
    pub enrollment: Option<EnrollmentId>,
    /// To this destination.
    pub destination: Option<DestinationName>,
    /// In this state, as shown (`pending` covers leased and armed).
    pub state: Option<DeliveryState>,
    /// For this reason.
    pub reason: Option<Reason>,
    /// Last changed at or after.
    pub since: Option<Timestamp>,
    /// Last changed before.
    pub until: Option<Timestamp>,
}

/// Where a page of the log ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogCursor {
    /// Of the last row.
    pub created_at: Timestamp,
    /// Of the last row.
    pub key: DeliveryKey,
}

/// A row of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedDelivery {
    /// The row as decided.
    pub delivery: Delivery,
    /// When it became irrevocable.
    pub armed_at: Option<Timestamp>,
    /// When it was settled by the provider's answer (or the lack of one), or taken back.
    pub settled_at: Option<Timestamp>,
    /// The provider's id for it.
    pub receipt: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
}

impl LoggedDelivery {
    /// Where to go on after this row.
    pub fn cursor(&self) -> LogCursor {
        LogCursor { created_at: self.delivery.created_at, key: DeliveryKey::of(&self.delivery) }
    }
}

/// The order in which rows are claimed: transactional first, then the higher priority.
fn claim_rank(delivery: &Delivery) -> i64 {
    let class = match delivery.traits.class {
        MessageClass::Transactional => 0,
        MessageClass::Marketing | MessageClass::Lifecycle => 1000,
    };
    class + i64::from(u8::MAX - delivery.priority)
}

fn write(rows: &mut Rows, delivery: &Delivery, now: Timestamp) {
    let traits = &delivery.traits;
    rows.row()
        .integer(i64::from(delivery.profile.0))
        .text(delivery.id.as_str())
        .text(delivery.enrollment.as_str())
        .text(&delivery.version)
        .text(delivery.step.as_str())
        .text(traits.channel.as_str())
        .text(traits.class.as_str())
        .text(traits.purpose.as_str())
        .text(traits.brand.as_str())
        .text(traits.playbook.as_str())
        .text(delivery.destination.as_str())
        .text(delivery.template.as_str())
        .integer(i64::from(delivery.priority))
        .text(delivery.state.as_str())
        .text(delivery.reason.as_str())
        .json(&read::write_gates(&delivery.gates))
        .integer(row::ms(delivery.created_at))
        .integer(row::ms(delivery.decided_at))
        .integer(row::ms(delivery.due_at))
        .integer(row::ms(delivery.expires_at))
        .maybe_text(delivery.content.as_ref().map(ContentHash::as_str))
        .maybe_integer(delivery.state.is_settled().then(|| row::ms(now)))
        .integer(claim_rank(delivery));
}

/// Writes decisions, at most 1,000 at a time: new rows, and rows that are deferred. Any other row stays as it
/// is. Returns how many took effect.
///
/// # Errors
/// [`StateError::Broken`] for a state that is not DECIDE's to give: leased, armed, accepted, rejected, in doubt.
pub async fn decide(tx: &mut Tx, deliveries: &[Delivery], now: Timestamp) -> Result<u64, StateError> {
    use DeliveryState::{Accepted, Armed, InDoubt, Leased, Rejected};
    let mut rows = Rows::new();
    for delivery in deliveries {
        if matches!(delivery.state, Leased | Armed | Accepted | Rejected | InDoubt) {
            return Err(StateError::Broken { what: "only the outbox leases, arms and settles" });
        }
        write(&mut rows, delivery, now);
    }
    macro_rules! upsert {
        ($only:expr) => {
            each!(
                concat!(
                    "INSERT INTO delivery (", columns!(), ", settled_at_ms, claim_rank)
                    SELECT CAST(each.value ->> 0 AS BIGINT), each.value ->> 1, each.value ->> 2, each.value ->> 3,
                        each.value ->> 4, each.value ->> 5, each.value ->> 6, each.value ->> 7, each.value ->> 8,
                        each.value ->> 9, each.value ->> 10, each.value ->> 11, CAST(each.value ->> 12 AS BIGINT),
                        each.value ->> 13, each.value ->> 14, each.value ->> 15, CAST(each.value ->> 16 AS BIGINT),
                        CAST(each.value ->> 17 AS BIGINT), CAST(each.value ->> 18 AS BIGINT),
                        CAST(each.value ->> 19 AS BIGINT), each.value ->> 20, CAST(each.value ->> 21 AS BIGINT),
                        CAST(each.value ->> 22 AS BIGINT)
                    FROM"
                ),
                concat!(
                    "WHERE true ON CONFLICT (profile, id) DO UPDATE SET
                        channel = excluded.channel, class = excluded.class, purpose = excluded.purpose, brand = excluded.brand,
                        destination = excluded.destination, template = excluded.template, content = excluded.content, priority = excluded.priority,
                        claim_rank = excluded.claim_rank, state = excluded.state, reason = excluded.reason,
                        gates = excluded.gates, decided_at_ms = excluded.decided_at_ms, due_at_ms = excluded.due_at_ms,
                        expires_at_ms = excluded.expires_at_ms, settled_at_ms = excluded.settled_at_ms
                    WHERE ", $only
                )
            )
        };
    }
    const SQL: Sql = upsert!("delivery.state = 'deferred'");
    const OVERWRITES: Sql = upsert!("true");
    let sql = if model::fault::mutant("decide_overwrites") { &OVERWRITES } else { &SQL };
    tx.execute("keep decisions", sql, binds![rows.finish()]).await
}

pub(crate) type TouchRow = (u32, String, i64, String, String, String, String, String, String, Option<String>);

/// What counts against these people's caps when something is decided, since a time. The caller leaves out
/// what does not count when arming.
pub fn touches(numbers: &[ProfileNumber], since: Timestamp) -> Question<Vec<Touch>> {
    const SQL: Sql = page!(
        "profile, id, at_ms, channel, class, purpose, brand, playbook, state, content",
        "SELECT delivery.profile, delivery.id, COALESCE(settled_at_ms, armed_at_ms, due_at_ms) AS at_ms,
            channel, class, purpose, brand, playbook, state, content FROM",
        each,
        "CROSS JOIN delivery WHERE delivery.profile = CAST(each.value ->> 0 AS BIGINT)
        AND state IN ('pending', 'leased', 'armed', 'accepted', 'in_doubt', 'withheld')
            AND COALESCE(settled_at_ms, armed_at_ms, due_at_ms) >= $2"
    );
    Question::new("read touches", &SQL, binds![row::numbers(numbers), row::ms(since)], read_touches)
}

fn read_touches(rows: Vec<TouchRow>) -> Result<Vec<Touch>, StateError> {
    let mut touches = rows.into_iter().map(read_touch).collect::<Result<Vec<_>, _>>()?;
    touches.sort_by(|one, other| {
        (one.profile, one.at, &one.delivery).cmp(&(other.profile, other.at, &other.delivery))
    });
    Ok(touches)
}

pub(crate) fn read_touch(
    (profile, id, at, channel, class, purpose, brand, playbook, state, content): TouchRow,
) -> Result<Touch, StateError> {
    Ok(Touch {
        profile: ProfileNumber(profile),
        delivery: DeliveryId::known(id),
        at: row::time(at)?,
        traits: read::traits(&channel, &class, purpose, brand, playbook)?,
        state: row::word(DeliveryState::parse(&state), "a delivery's state")?,
        content: content.map(ContentHash::known),
    })
}

/// The rows of these enrollments, by person, creation and id.
pub async fn of_enrollments(
    tx: &mut Tx,
    enrollments: &[(ProfileNumber, EnrollmentId)],
) -> Result<Vec<Delivery>, StateError> {
    const SQL: Sql = page!(
        columns!(),
        concat!("SELECT ", columns!(), " FROM"),
        each,
        "CROSS JOIN delivery WHERE delivery.profile = CAST(each.value ->> 0 AS BIGINT) AND delivery.enrollment = each.value ->> 1"
    );
    let rows: Vec<read::Read> =
        tx.page("read enrollments' deliveries", &SQL, binds![crate::enrollment::keys(enrollments)]).await?;
    let mut deliveries = rows.into_iter().map(read::Read::delivery).collect::<Result<Vec<_>, _>>()?;
    deliveries.sort_by(|one, other| {
        (one.profile, one.created_at, &one.id).cmp(&(other.profile, other.created_at, &other.id))
    });
    Ok(deliveries)
}

/// Keys as rows, sorted, each once: locks are taken in this order.
pub(crate) fn keys<'a>(keys: impl IntoIterator<Item = &'a DeliveryKey>) -> String {
    let mut sorted: Vec<&DeliveryKey> = keys.into_iter().collect();
    sorted.sort_unstable();
    sorted.dedup();
    let mut rows = Rows::new();
    for key in sorted {
        rows.row().integer(i64::from(key.profile.0)).text(key.id.as_str());
    }
    rows.finish()
}

/// Takes back what is pending, deferred or leased; returns those that were. What is armed is past recall.
pub async fn cancel(
    tx: &mut Tx,
    deliveries: &[(DeliveryKey, Reason)],
    now: Timestamp,
) -> Result<Vec<DeliveryKey>, StateError> {
    let held = hold(tx, deliveries.iter().map(|(key, _)| key)).await?;
    let recallable =
        |state| matches!(state, DeliveryState::Pending | DeliveryState::Deferred | DeliveryState::Leased);
    let open: BTreeSet<DeliveryKey> =
        held.into_iter().filter(|row| recallable(row.state)).map(|row| row.key).collect();
    let mut rows = Rows::new();
    for (key, reason) in deliveries.iter().filter(|(key, _)| open.contains(key)) {
        rows.row().integer(i64::from(key.profile.0)).text(key.id.as_str()).text(reason.as_str());
    }
    const CANCEL: Sql = each!(
        "UPDATE delivery SET state = 'cancelled', reason = each.value ->> 2, settled_at_ms = $2, lease_until = NULL FROM",
        "WHERE delivery.profile = CAST(each.value ->> 0 AS BIGINT) AND delivery.id = each.value ->> 1"
    );
    tx.execute("cancel deliveries", &CANCEL, binds![rows.finish(), row::ms(now)]).await?;
    Ok(open.into_iter().collect())
}

/// One row, by its key.
pub async fn get_by_key(tx: &mut Tx, key: &DeliveryKey) -> Result<Option<LoggedDelivery>, StateError> {
    const SQL: Sql = page!(
        logged_columns!(),
        concat!("SELECT ", logged_columns!(), " FROM delivery WHERE profile = $1 AND id = $2")
    );
    let rows: Vec<LoggedRead> =
        tx.page("read a delivery", &SQL, binds![i64::from(key.profile.0), key.id.as_str()]).await?;
    rows.into_iter().next().map(LoggedRead::logged).transpose()
}

/// One row, by id alone: all keys are looked through, for a person who asks. What the program carries about names the profile, too.
pub async fn get(tx: &mut Tx, id: &DeliveryId) -> Result<Option<LoggedDelivery>, StateError> {
    let sql = Sql::same("SELECT profile FROM delivery WHERE id = $1 LIMIT 1");
    let profiles: Vec<(i64,)> = tx.rows("look up a delivery", &sql, binds![id.as_str()]).await?;
    match profiles.first() {
        Some((profile,)) => {
            get_by_key(tx, &DeliveryKey { profile: row::number(*profile)?, id: id.clone() }).await
        }
        None => Ok(None),
    }
}

/// What a [`Filter`] says, in SQL, of the parameters from `$1`; but for the person, who decides which index
/// is used.
macro_rules! filtered {
    () => {
        "($1 IS NULL OR playbook = $1) AND ($2 IS NULL OR enrollment = $2) AND ($3 IS NULL OR destination = $3)
        AND ($4 IS NULL OR state = $4 OR ($4 = 'pending' AND state IN ('leased', 'armed')))
        AND ($5 IS NULL OR reason = $5)
        AND COALESCE(settled_at_ms, armed_at_ms, decided_at_ms) >= $6
        AND COALESCE(settled_at_ms, armed_at_ms, decided_at_ms) < $7"
    };
}

impl Filter {
    fn binds(&self) -> Vec<Bind> {
        let text = |text: Option<&str>| text.map(str::to_owned);
        binds![
            text(self.playbook.as_ref().map(PlaybookName::as_str)),
            text(self.enrollment.as_ref().map(EnrollmentId::as_str)),
            text(self.destination.as_ref().map(DestinationName::as_str)),
            text(self.state.map(DeliveryState::shown)),
            text(self.reason.map(Reason::as_str)),
            self.since.map_or(i64::MIN, row::ms),
            self.until.map_or(i64::MAX, row::ms),
        ]
    }
}

/// Calls `take` for each that fits, newest first, page by page.
pub async fn each(
    tx: &mut Tx,
    filter: &Filter,
    mut take: impl FnMut(LoggedDelivery),
) -> Result<(), StateError> {
    let mut after = None;
    loop {
        let rows = find(tx, filter, after.as_ref(), 1_000).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = Some(last.cursor());
        rows.into_iter().for_each(&mut take);
    }
}

/// A page of the log, newest first; what is added meanwhile does not disturb the pages that follow.
pub async fn find(
    tx: &mut Tx,
    filter: &Filter,
    after: Option<&LogCursor>,
    limit: u32,
) -> Result<Vec<LoggedDelivery>, StateError> {
    macro_rules! newest {
        ($whose:expr) => {
            page!(
                logged_columns!(),
                concat!(
                    "SELECT ",
                    logged_columns!(),
                    " FROM delivery WHERE ",
                    $whose,
                    filtered!(),
                    " AND (created_at_ms, profile, id) < ($8, $9, $10)
                    ORDER BY created_at_ms DESC, profile DESC, id DESC LIMIT $11"
                )
            )
        };
    }
    const OF_ALL: Sql = newest!("");
    const OF_ONE: Sql = newest!("profile = $12 AND ");
    let mut binds = filter.binds();
    match after {
        Some(LogCursor { created_at, key }) => {
            binds.extend(binds![row::ms(*created_at), i64::from(key.profile.0), key.id.as_str()]);
        }
        None => binds.extend(binds![i64::MAX, 0_i64, ""]),
    }
    binds.push(Bind::from(limit));
    let sql = match filter.profile {
        Some(number) => {
            binds.push(Bind::from(i64::from(number.0)));
            &OF_ONE
        }
        None => &OF_ALL,
    };
    let rows: Vec<LoggedRead> = tx.page("read the log", sql, binds).await?;
    let mut logged = rows.into_iter().map(LoggedRead::logged).collect::<Result<Vec<_>, _>>()?;
    logged.sort_by(|one, other| {
        let key = |logged: &LoggedDelivery| (logged.delivery.created_at, DeliveryKey::of(&logged.delivery));
        key(other).cmp(&key(one))
    });
    Ok(logged)
}

#[derive(Deserialize)]
struct Counted {
    state: String,
    reason: String,
    many: u64,
}

/// How many rows, by state and reason.
pub async fn counts(
    tx: &mut Tx,
    filter: &Filter,
) -> Result<BTreeMap<(DeliveryState, Reason), u64>, StateError> {
    macro_rules! counted {
        ($whose:expr) => {
            page!(
                "state, reason, many",
                concat!(
                    "SELECT state, reason, COUNT(*) AS many FROM delivery WHERE ",
                    $whose,
                    filtered!(),
                    " GROUP BY state, reason"
                )
            )
        };
    }
    const OF_ALL: Sql = counted!("");
    const OF_ONE: Sql = counted!("profile = $8 AND ");
    let mut binds = filter.binds();
    let sql = match filter.profile {
        Some(number) => {
            binds.push(Bind::from(i64::from(number.0)));
            &OF_ONE
        }
        None => &OF_ALL,
    };
    let rows: Vec<Counted> = tx.page("count deliveries", sql, binds).await?;
    rows.into_iter()
        .map(|counted| {
            let state = row::word(DeliveryState::parse(&counted.state), "a delivery's state")?;
            Ok(((state, row::reason(&counted.reason)?), counted.many))
        })
        .collect()
}

/// The earliest time at which a pending row is due or an enrollment of an active playbook is to be looked at;
/// `now` if something is due already. A deferred row wakes with its enrollment, and what a paused or halted
/// playbook has waiting is due when it goes on.
pub async fn next_due(tx: &mut Tx, now: Timestamp) -> Result<Option<Timestamp>, StateError> {
    // One due row is found at once; only where there is none, all of the (few) pending ones are looked at.
    let due = Sql::same(concat!(
        "SELECT due_at_ms FROM delivery WHERE state = 'pending' AND due_at_ms <= $1 AND ",
        playbook_goes_on!(),
        " LIMIT 1"
    ));
    let due: Vec<(i64,)> = tx.rows("look for due deliveries", &due, binds![row::ms(now)]).await?;
    if !due.is_empty() {
        return Ok(Some(now));
    }
    let pending = Sql::same(concat!(
        "SELECT MIN(due_at_ms) FROM delivery WHERE state = 'pending' AND ",
        playbook_goes_on!()
    ));
    let pending: Vec<(Option<i64>,)> = tx.rows("look for due deliveries", &pending, vec![]).await?;
    let wakes = Sql::same(
        "SELECT (SELECT MIN(enrollment.look_at_ms) FROM enrollment
            WHERE enrollment.playbook = playbook.name AND enrollment.look_at_ms IS NOT NULL)
        FROM playbook WHERE status = 'active'",
    );
    let wakes: Vec<(Option<i64>,)> = tx.rows("look for due enrollments", &wakes, vec![]).await?;
    let earliest = pending.into_iter().chain(wakes).filter_map(|(at,)| at).min();
    Ok(row::maybe_time(earliest)?.map(|at| at.max(now)))
}
