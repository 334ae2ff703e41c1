//! Audiences: what each destination has of each person, as far as it said, and what is to be done about it.
//!
//! An entry is what one person is known by in one audience. It is here before the destination is asked, and until the destination has said that
//! it does not have it: so what was handed over is never forgotten. Who says no while nothing is under way makes entries doubtful in the same
//! transaction, and is looked at first ([`doubtful`]).

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::fault::mutant;
use model::id::{AddressHash, IdentityHash};
use model::sync::{AudienceAt, Entry, Has, Todo};
use model::{AudienceName, DestinationName, ProfileNumber, Reason};
use roaring::RoaringBitmap;

use crate::ask::Question;
use crate::db::binds;
use crate::dialect::{Rows, Sql, each, page};
use crate::row;
use crate::{StateError, Tx};

/// Rows that are read at once where only numbers are.
const NUMBERS_MAX: u32 = 50_000;

/// An audience, and how trying goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audience {
    /// Its number here.
    pub number: u32,
    /// Where, and what it is called.
    pub at: AudienceAt,
    /// What the destination calls it, once it is there.
    pub remote: Option<String>,
    /// Nothing is tried before.
    pub due_at: Timestamp,
    /// Attempts that failed in a row.
    pub failures: u32,
}

/// An entry, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryKey {
    /// In which audience.
    pub audience: u32,
    /// Whose.
    pub profile: ProfileNumber,
    /// What the person is known by.
    pub identity: IdentityHash,
}

/// What is to be done about an entry; one that is not there is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// Which.
    pub key: EntryKey,
    /// The person's address, by which they may be suppressed.
    pub address: Option<AddressHash>,
    /// What the person is known by, sealed; looked at only where there is no such entry yet.
    pub sealed: Vec<u8>,
    /// What.
    pub todo: Todo,
    /// Why.
    pub reason: Reason,
}

/// An entry that something is to be done about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// Which.
    pub key: EntryKey,
    /// The person's address.
    pub address: Option<AddressHash>,
    /// What the person is known by, sealed.
    pub sealed: Vec<u8>,
    /// Whether the destination has it.
    pub has: Has,
}

/// What a destination said of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// It has it now.
    In,
    /// It does not have it any more.
    Out,
    /// It refused, for this reason; what it had before, it has.
    Refused(Has, Reason),
    /// It was not reached, or did not take it; what it had before, it has.
    Nothing(Has),
}

/// How many entries of an audience are in which way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<(Todo, Has), u64>);

impl Counts {
    /// Those with this to do.
    pub fn todo(&self, todo: Todo) -> u64 {
        self.0.iter().filter(|((known, _), _)| *known == todo).map(|(_, count)| count).sum()
    }

    /// Those of which the destination says so.
    pub fn has(&self, has: Has) -> u64 {
        self.0.iter().filter(|((_, known), _)| *known == has).map(|(_, count)| count).sum()
    }
}

type AudienceRow = (i64, String, String, Option<String>, i64, i64);

fn read_audience(found: AudienceRow) -> Result<Audience, StateError> {
    let (number, destination, name, remote, due_at, failures) = found;
    Ok(Audience {
        number: u32::try_from(number).map_err(|_| StateError::Corrupt { what: "an audience" })?,
        at: AudienceAt { destination: DestinationName::known(destination), name: AudienceName::known(name) },
        remote,
        due_at: row::time(due_at)?,
        failures: row::small(failures),
    })
}

/// All audiences there ever were.
pub async fn all(tx: &mut Tx) -> Result<Vec<Audience>, StateError> {
    let sql = Sql::same(
        "SELECT number, destination, name, remote, due_at_ms, failures FROM audience ORDER BY number",
    );
    let rows: Vec<AudienceRow> = tx.rows("read audiences", &sql, vec![]).await?;
    rows.into_iter().map(read_audience).collect()
}

/// An audience by its name, if it was ever compared.
pub async fn find(tx: &mut Tx, at: &AudienceAt) -> Result<Option<Audience>, StateError> {
    Ok(all(tx).await?.into_iter().find(|audience| audience.at == *at))
}

/// An audience by its name, made where there is none.
pub async fn find_or_make(tx: &mut Tx, at: &AudienceAt, now: Timestamp) -> Result<Audience, StateError> {
    if let Some(found) = find(tx, at).await? {
        return Ok(found);
    }
    let sql = Sql::same("UPDATE counter SET value = value + 1 WHERE name = 'audience'");
    tx.execute("number an audience", &sql, vec![]).await?;
    let sql = Sql::same(
        "INSERT INTO audience (number, destination, name, due_at_ms, failures)
        SELECT value, $1, $2, $3, 0 FROM counter WHERE name = 'audience'
        ON CONFLICT (destination, name) DO NOTHING",
    );
    let binds = binds![at.destination.as_str(), at.name.as_str(), row::ms(now)];
    tx.execute("keep an audience", &sql, binds).await?;
    find(tx, at).await?.ok_or(StateError::Corrupt { what: "an audience" })
}

/// Keeps what the destination calls an audience.
pub async fn is_called(tx: &mut Tx, audience: u32, remote: &str) -> Result<(), StateError> {
    let sql = Sql::same("UPDATE audience SET remote = $2 WHERE number = $1");
    tx.execute("keep an audience's id", &sql, binds![i64::from(audience), remote]).await?;
    Ok(())
}

/// Says when an audience may be tried again, and how often it failed in a row.
pub async fn try_at(tx: &mut Tx, audience: u32, due_at: Timestamp, failures: u32) -> Result<(), StateError> {
    let sql = Sql::same("UPDATE audience SET due_at_ms = $2, failures = $3 WHERE number = $1");
    let binds = binds![i64::from(audience), row::ms(due_at), i64::from(failures)];
    tx.execute("pace an audience", &sql, binds).await?;
    Ok(())
}

/// Everybody who has an entry in an audience.
pub async fn people(tx: &mut Tx, audience: u32) -> Result<RoaringBitmap, StateError> {
    const SQL: Sql = page!(
        "profile",
        "SELECT DISTINCT profile FROM audience_entry WHERE audience = $1 AND profile > $2 ORDER BY profile LIMIT $3"
    );
    let mut found = RoaringBitmap::new();
    loop {
        let after = found.max().map_or(-1, i64::from);
        let binds = binds![i64::from(audience), after, NUMBERS_MAX];
        let rows: Vec<(u32,)> = tx.page("read who is in an audience", &SQL, binds).await?;
        let is_last = rows.len() < NUMBERS_MAX as usize;
        found.extend(rows.into_iter().map(|(number,)| number));
        if is_last {
            return Ok(found);
        }
    }
}

type EntryRow = (u32, String, String, String, Option<i64>);

/// What these people are known by in an audience.
pub fn entries(audience: u32, numbers: &[ProfileNumber]) -> Question<BTreeMap<ProfileNumber, Vec<Entry>>> {
    const SQL: Sql = page!(
        "profile, identity, todo, held, acknowledged_at_ms",
        "SELECT profile, identity, todo, held, acknowledged_at_ms FROM",
        each,
        "CROSS JOIN audience_entry
        WHERE audience_entry.audience = $2 AND audience_entry.profile = CAST(each.value ->> 0 AS BIGINT)"
    );
    let binds = binds![row::numbers(numbers), i64::from(audience)];
    Question::new("read entries of an audience", &SQL, binds, |rows: Vec<EntryRow>| {
        let mut entries: BTreeMap<ProfileNumber, Vec<Entry>> = BTreeMap::new();
        for (profile, identity, todo, has, acknowledged_at) in rows {
            entries.entry(ProfileNumber(profile)).or_default().push(Entry {
                identity: IdentityHash::known(identity),
                todo: row::word(Todo::parse(&todo), "what is to be done about an entry")?,
                has: row::word(Has::parse(&has), "an entry")?,
                acknowledged_at: row::maybe_time(acknowledged_at)?,
            });
        }
        Ok(entries)
    })
}

/// People with what they may be suppressed by.
pub type Addressed = Vec<(ProfileNumber, Option<AddressHash>)>;

/// The addresses of the entries of these people.
pub fn addresses(audience: u32, numbers: &[ProfileNumber]) -> Question<Addressed> {
    const SQL: Sql = page!(
        "profile, address",
        "SELECT DISTINCT profile, address FROM",
        each,
        "CROSS JOIN audience_entry
        WHERE audience_entry.audience = $2 AND audience_entry.profile = CAST(each.value ->> 0 AS BIGINT)"
    );
    let binds = binds![row::numbers(numbers), i64::from(audience)];
    Question::new("read addresses of an audience", &SQL, binds, |rows: Vec<(u32, Option<String>)>| {
        Ok(rows
            .into_iter()
            .map(|(profile, address)| (ProfileNumber(profile), address.map(AddressHash::known)))
            .collect())
    })
}

/// An audience that a person is in, or is to be in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// Which.
    pub at: AudienceAt,
    /// What is to be done.
    pub todo: Todo,
    /// Whether the destination has it.
    pub has: Has,
    /// Why.
    pub reason: Reason,
    /// Since when.
    pub since: Timestamp,
}

/// Every audience that a person is in, or is to be in.
pub async fn of_profile(tx: &mut Tx, number: ProfileNumber) -> Result<Vec<Membership>, StateError> {
    let sql = Sql::same(
        "SELECT destination, name, todo, held, reason, since_ms FROM audience_entry
        JOIN audience ON audience.number = audience_entry.audience WHERE profile = $1 ORDER BY destination, name, identity",
    );
    type Found = (String, String, String, String, String, i64);
    let rows: Vec<Found> = tx.rows("read a person's audiences", &sql, binds![i64::from(number.0)]).await?;
    rows.into_iter()
        .map(|(destination, name, todo, has, reason, since)| {
            Ok(Membership {
                at: AudienceAt {
                    destination: DestinationName::known(destination),
                    name: AudienceName::known(name),
                },
                todo: row::word(Todo::parse(&todo), "what is to be done about an entry")?,
                has: row::word(Has::parse(&has), "an entry")?,
                reason: row::reason(&reason)?,
                since: row::time(since)?,
            })
        })
        .collect()
}

/// Says what is to be done about entries, at most 1,000 at a time; whether the destination has them stays as it is.
pub async fn put(tx: &mut Tx, puts: &[Put], now: Timestamp) -> Result<(), StateError> {
    if puts.is_empty() {
        return Ok(());
    }
    let mut rows = Rows::new();
    for put in puts {
        rows.row()
            .integer(i64::from(put.key.audience))
            .integer(i64::from(put.key.profile.0))
            .text(put.key.identity.as_str())
            .maybe_text(put.address.as_ref().map(AddressHash::as_str))
            .text(&row::base64(&put.sealed))
            .text(put.todo.as_str())
            .text(put.reason.as_str());
    }
    const SQL: Sql = each!(
        "INSERT INTO audience_entry (audience, profile, identity, address, sealed, todo, reason, held, since_ms)
        SELECT CAST(each.value ->> 0 AS BIGINT), CAST(each.value ->> 1 AS BIGINT), each.value ->> 2, each.value ->> 3,
            each.value ->> 4, each.value ->> 5, each.value ->> 6, 'no', $2 FROM",
        "WHERE TRUE ON CONFLICT (audience, profile, identity) DO UPDATE SET
            todo = excluded.todo, reason = excluded.reason, since_ms = excluded.since_ms"
    );
    tx.execute("keep entries of an audience", &SQL, binds![rows.finish(), row::ms(now)]).await?;
    Ok(())
}

fn keys(keys: &[EntryKey]) -> String {
    let mut rows = Rows::new();
    for key in keys {
        rows.row()
            .integer(i64::from(key.audience))
            .integer(i64::from(key.profile.0))
            .text(key.identity.as_str());
    }
    rows.finish()
}

/// Forgets entries that the destination does not have.
pub async fn forget(tx: &mut Tx, entries: &[EntryKey]) -> Result<(), StateError> {
    if entries.is_empty() {
        return Ok(());
    }
    const SQL: Sql = each!(
        "DELETE FROM audience_entry WHERE held = 'no' AND (audience, profile, identity) IN (
            SELECT CAST(each.value ->> 0 AS BIGINT), CAST(each.value ->> 1 AS BIGINT), each.value ->> 2 FROM",
        ")"
    );
    tx.execute("forget entries of an audience", &SQL, binds![keys(entries)]).await?;
    Ok(())
}

/// Lets those who leave be removed, once it is known that not too many do.
pub async fn let_leave(tx: &mut Tx, audience: u32) -> Result<u64, StateError> {
    let sql = Sql::same("UPDATE audience_entry SET todo = 'remove' WHERE audience = $1 AND todo = 'leaves'");
    tx.execute("let people leave an audience", &sql, binds![i64::from(audience)]).await
}

/// Takes every entry for one that the destination may have or not: all that are to be in are added again.
pub async fn distrust(tx: &mut Tx, audience: u32, now: Timestamp) -> Result<u64, StateError> {
    let sql = Sql::same(
        "UPDATE audience_entry SET todo = 'add', held = CASE held WHEN 'yes' THEN 'maybe' ELSE held END, since_ms = $2
        WHERE audience = $1 AND todo IN ('nothing', 'add')",
    );
    tx.execute("distrust an audience", &sql, binds![i64::from(audience), row::ms(now)]).await
}

/// How many entries are in which way.
pub async fn counts(tx: &mut Tx, audience: u32) -> Result<Counts, StateError> {
    let sql =
        Sql::same("SELECT todo, held, COUNT(*) FROM audience_entry WHERE audience = $1 GROUP BY todo, held");
    let rows: Vec<(String, String, i64)> =
        tx.rows("count entries of an audience", &sql, binds![i64::from(audience)]).await?;
    let counted = rows
        .into_iter()
        .map(|(todo, has, count)| {
            let todo = row::word(Todo::parse(&todo), "what is to be done about an entry")?;
            Ok(((todo, row::word(Has::parse(&has), "an entry")?), row::count(count)))
        })
        .collect::<Result<_, StateError>>()?;
    Ok(Counts(counted))
}

/// How many people are in an audience, as far as its destination said, and how many of them would leave.
pub async fn leaving(tx: &mut Tx, audience: u32) -> Result<(u64, u64), StateError> {
    let sql = Sql::same(
        "SELECT COUNT(DISTINCT profile), COUNT(DISTINCT CASE WHEN todo = 'leaves' THEN profile END)
        FROM audience_entry WHERE audience = $1 AND held <> 'no'",
    );
    let rows: Vec<(i64, i64)> =
        tx.rows("count who leaves an audience", &sql, binds![i64::from(audience)]).await?;
    let (people, leaving) = rows.first().copied().unwrap_or_default();
    Ok((row::count(people), row::count(leaving)))
}

/// An entry, as people look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Which.
    pub key: EntryKey,
    /// What is to be done.
    pub todo: Todo,
    /// Whether the destination has it.
    pub has: Has,
    /// Why.
    pub reason: Reason,
    /// Since when.
    pub since: Timestamp,
}

type ListedRow = (u32, String, String, String, String, i64);

/// A page of an audience's entries, by person.
pub async fn listed(
    tx: &mut Tx,
    audience: u32,
    after: Option<&EntryKey>,
    limit: u32,
) -> Result<Vec<Listed>, StateError> {
    const SQL: Sql = page!(
        "profile, identity, todo, held, reason, since_ms",
        "SELECT profile, identity, todo, held, reason, since_ms FROM audience_entry
        WHERE audience = $1 AND (profile > $2 OR (profile = $2 AND identity > $3)) ORDER BY profile, identity LIMIT $4"
    );
    let (profile, identity) = after.map_or((-1, ""), |key| (i64::from(key.profile.0), key.identity.as_str()));
    let binds = binds![i64::from(audience), profile, identity, limit];
    let mut rows: Vec<ListedRow> = tx.page("list an audience", &SQL, binds).await?;
    rows.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
    rows.into_iter()
        .map(|(profile, identity, todo, has, reason, since)| {
            Ok(Listed {
                key: EntryKey {
                    audience,
                    profile: ProfileNumber(profile),
                    identity: IdentityHash::known(identity),
                },
                todo: row::word(Todo::parse(&todo), "what is to be done about an entry")?,
                has: row::word(Has::parse(&has), "an entry")?,
                reason: row::reason(&reason)?,
                since: row::time(since)?,
            })
        })
        .collect()
}

type WorkRow = (u32, String, Option<String>, String, String);

/// The next entries with this to do, by person, after `after`. Where anybody is added, a removal waits for what the same person is to be known by
/// instead; what somebody else in the audience is known by, too, is nothing to remove: see [`forget_shared`].
pub async fn work(
    tx: &mut Tx,
    audience: u32,
    todo: Todo,
    is_added_to: bool,
    after: Option<&EntryKey>,
    limit: u32,
) -> Result<Vec<Work>, StateError> {
    const SQL: Sql = page!(
        "profile, identity, address, sealed, held",
        "SELECT profile, identity, address, sealed, held FROM audience_entry AS own
        WHERE audience = $1 AND todo = $2 AND (profile > $3 OR (profile = $3 AND identity > $4))
            AND NOT ($6 > 0 AND todo = 'remove' AND EXISTS (SELECT 1 FROM audience_entry AS new
                WHERE new.audience = own.audience AND new.profile = own.profile AND new.todo = 'add'))
        ORDER BY profile, identity LIMIT $5"
    );
    let (profile, identity) = after.map_or((-1, ""), |key| (i64::from(key.profile.0), key.identity.as_str()));
    let binds = binds![
        i64::from(audience),
        todo.as_str(),
        profile,
        identity,
        limit,
        i64::from(is_added_to && !mutant("old_goes_first"))
    ];
    let mut rows: Vec<WorkRow> = tx.page("read what is to be done in an audience", &SQL, binds).await?;
    rows.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
    rows.into_iter()
        .map(|(profile, identity, address, sealed, has)| {
            Ok(Work {
                key: EntryKey {
                    audience,
                    profile: ProfileNumber(profile),
                    identity: IdentityHash::known(identity),
                },
                address: address.map(AddressHash::known),
                sealed: row::from_base64(&sealed, "a sealed member")?,
                has: row::word(Has::parse(&has), "an entry")?,
            })
        })
        .collect()
}

/// Forgets entries to be removed that somebody else in the audience has, too: the destination knows one by both, and the other stays.
pub async fn forget_shared(tx: &mut Tx, audience: u32) -> Result<u64, StateError> {
    if mutant("shared_removed") {
        return Ok(0);
    }
    // The plus keeps SQLite from looking through the whole audience for each: the identity alone finds it.
    let sql = Sql::same(
        "DELETE FROM audience_entry WHERE audience = $1 AND todo IN ('opt_out', 'remove') AND EXISTS (
            SELECT 1 FROM audience_entry AS other WHERE +other.audience = audience_entry.audience
                AND other.identity = audience_entry.identity AND other.profile <> audience_entry.profile
                AND other.todo IN ('nothing', 'add') AND other.held <> 'no')",
    );
    tx.execute("forget shared entries of an audience", &sql, binds![i64::from(audience)]).await
}

/// Notes that nobody knows what the destination has of these: in the transaction before it is asked to add or remove them.
pub async fn hand_over(tx: &mut Tx, entries: &[EntryKey]) -> Result<(), StateError> {
    if mutant("hand_over_unnoted") {
        return Ok(());
    }
    const SQL: Sql = each!(
        "UPDATE audience_entry SET held = 'maybe' WHERE (audience, profile, identity) IN (
            SELECT CAST(each.value ->> 0 AS BIGINT), CAST(each.value ->> 1 AS BIGINT), each.value ->> 2 FROM",
        ")"
    );
    tx.execute("hand over entries of an audience", &SQL, binds![keys(entries)]).await?;
    Ok(())
}

/// Keeps what the destination said, who was asked to do `asked`. Where something else is to be done about an entry by now, that stays to be
/// done, whatever it said.
pub async fn settle(
    tx: &mut Tx,
    asked: Todo,
    said: &[(EntryKey, Said)],
    now: Timestamp,
) -> Result<(), StateError> {
    let mut rows = Rows::new();
    for (key, said) in said {
        let (has, todo, reason) = match said {
            Said::In => (Has::Yes, Todo::Nothing, Reason::OkApplied),
            // Where that was asked for, it is forgotten below.
            Said::Out => (Has::No, asked, Reason::OkApplied),
            Said::Refused(has, reason) => (*has, Todo::Rejected, *reason),
            Said::Nothing(has) => (*has, asked, Reason::OkDue),
        };
        rows.row()
            .integer(i64::from(key.audience))
            .integer(i64::from(key.profile.0))
            .text(key.identity.as_str())
            .text(has.as_str())
            .text(todo.as_str())
            .text(reason.as_str())
            .maybe_integer(matches!(said, Said::In).then(|| row::ms(now)));
    }
    const KEEP: Sql = each!(
        "UPDATE audience_entry SET held = each.value ->> 3,
            reason = CASE WHEN todo = $2 AND each.value ->> 4 <> $2 THEN each.value ->> 5 ELSE reason END,
            todo = CASE WHEN todo = $2 THEN each.value ->> 4 ELSE todo END,
            acknowledged_at_ms = COALESCE(CAST(each.value ->> 6 AS BIGINT), acknowledged_at_ms)
        FROM",
        "WHERE audience = CAST(each.value ->> 0 AS BIGINT) AND profile = CAST(each.value ->> 1 AS BIGINT)
            AND identity = each.value ->> 2"
    );
    tx.execute("keep what a destination said", &KEEP, binds![rows.finish(), asked.as_str()]).await?;
    const FORGET: Sql = each!(
        "DELETE FROM audience_entry WHERE held = 'no' AND todo IN ('opt_out', 'remove', 'leaves')
            AND (audience, profile, identity) IN (
            SELECT CAST(each.value ->> 0 AS BIGINT), CAST(each.value ->> 1 AS BIGINT), each.value ->> 2 FROM",
        ")"
    );
    let gone: Vec<EntryKey> = said.iter().map(|(key, _)| key.clone()).collect();
    tx.execute("forget entries of an audience", &FORGET, binds![keys(&gone)]).await?;
    Ok(())
}

/// Makes the entries of people doubtful, who may have said no just now; in the transaction in which they did.
pub(crate) fn doubt_profiles(tx: &mut Tx, numbers: &[ProfileNumber]) {
    if mutant("no_unheard") {
        return;
    }
    const SQL: Sql = each!(
        "UPDATE audience_entry SET doubtful = 1 WHERE profile IN (SELECT CAST(each.value ->> 0 AS BIGINT) FROM",
        ")"
    );
    tx.later("doubt entries of audiences", &SQL, binds![row::numbers(numbers)]);
}

/// The same of whoever has an address.
pub(crate) fn doubt_address(tx: &mut Tx, address: &AddressHash) {
    let sql = Sql::same("UPDATE audience_entry SET doubtful = 1 WHERE address = $1");
    tx.later("doubt entries of audiences", &sql, binds![address.as_str()]);
}

type DoubtRow = (u32, u32, String, Option<String>);

/// Entries of at most so many people who may have said no, with their addresses.
pub async fn doubtful(tx: &mut Tx, limit: u32) -> Result<Vec<(EntryKey, Option<AddressHash>)>, StateError> {
    const SQL: Sql = page!(
        "audience, profile, identity, address",
        "SELECT audience, profile, identity, address FROM audience_entry WHERE doubtful > 0 ORDER BY profile LIMIT $1"
    );
    let rows: Vec<DoubtRow> = tx.page("read doubtful entries", &SQL, binds![limit]).await?;
    let key = |audience, profile, identity| EntryKey {
        audience,
        profile: ProfileNumber(profile),
        identity: IdentityHash::known(identity),
    };
    Ok(rows
        .into_iter()
        .map(|(audience, profile, identity, address)| {
            (key(audience, profile, identity), address.map(AddressHash::known))
        })
        .collect())
}

/// They are looked at.
pub async fn looked_at(tx: &mut Tx, entries: &[EntryKey]) -> Result<(), StateError> {
    const SQL: Sql = each!(
        "UPDATE audience_entry SET doubtful = 0 WHERE (audience, profile, identity) IN (
            SELECT CAST(each.value ->> 0 AS BIGINT), CAST(each.value ->> 1 AS BIGINT), each.value ->> 2 FROM",
        ")"
    );
    tx.execute("look at doubtful entries", &SQL, binds![keys(entries)]).await?;
    Ok(())
}
