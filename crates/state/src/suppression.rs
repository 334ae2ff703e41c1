//! Suppression: who must never be written to, by person and by the keyed hash of an address. A subject may be
//! suppressed for several reasons at once; lifting one leaves the others.

use model::consent::{Suppression, SuppressionSubject};
use model::id::AddressHash;
use model::policy::Channel;
use model::{ProfileNumber, Reason};

use crate::ask::Question;
use crate::audience;
use crate::db::binds;
use crate::dialect::{Rows, Sql, page};
use crate::journal::{Line, SuppressedLine, Who};
use crate::outbox::{lock_addresses, lock_profiles};
use crate::row;
use crate::{StateError, Tx};

const PROFILE: &str = "profile";
const ADDRESS: &str = "address";
const SOURCE_BYTES_MAX: usize = 1000;

fn subject_words(subject: &SuppressionSubject) -> (&'static str, String) {
    match subject {
        SuppressionSubject::Profile(number) => (PROFILE, number.to_string()),
        SuppressionSubject::Address(hash) => (ADDRESS, hash.as_str().to_owned()),
    }
}

/// A subject, as the journal knows it.
async fn journaled(
    tx: &mut Tx,
    subject: &SuppressionSubject,
) -> Result<(Option<Who>, Option<String>), StateError> {
    Ok(match subject {
        SuppressionSubject::Profile(number) => (Some(tx.who(*number).await?), None),
        SuppressionSubject::Address(hash) => (None, Some(hash.as_str().to_owned())),
    })
}

/// Suppresses; `false`: it was so already, for that reason and as strictly. The person or address is locked
/// first.
pub async fn suppress(tx: &mut Tx, suppression: &Suppression) -> Result<bool, StateError> {
    match &suppression.subject {
        SuppressionSubject::Profile(number) => lock_profiles(tx, &[*number]).await?,
        SuppressionSubject::Address(hash) => lock_addresses(tx, std::slice::from_ref(hash)).await?,
    }
    let (kind, subject) = subject_words(&suppression.subject);
    let sql = Sql::same(
        "INSERT INTO suppression (kind, subject, channel, reason, since_ms, source, spares_transactional)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (kind, subject, channel, reason) DO UPDATE SET spares_transactional = 0
        WHERE suppression.spares_transactional > excluded.spares_transactional",
    );
    let binds = binds![
        kind,
        subject,
        row::channel_word(suppression.channel),
        suppression.reason.as_str(),
        row::ms(suppression.since),
        row::bounded(&suppression.source, SOURCE_BYTES_MAX),
        i64::from(suppression.spares_transactional),
    ];
    let is_new = tx.execute("suppress", &sql, binds).await? > 0;
    match &suppression.subject {
        SuppressionSubject::Profile(number) => audience::doubt_profiles(tx, &[*number]),
        SuppressionSubject::Address(hash) => audience::doubt_address(tx, hash),
    }
    if is_new && tx.is_journaled() {
        let (who, address) = journaled(tx, &suppression.subject).await?;
        tx.journal(Line::Suppressed(Box::new(SuppressedLine {
            who,
            address,
            channel: row::channel_word(suppression.channel).to_owned(),
            reason: suppression.reason.as_str().to_owned(),
            source: row::bounded(&suppression.source, SOURCE_BYTES_MAX).to_owned(),
            spares_transactional: suppression.spares_transactional,
            at_ms: row::ms(suppression.since),
        })));
    }
    Ok(is_new)
}

/// Lifts a suppression of a subject on a channel: for one reason, or (`None`) all of them. `false`: there was
/// none.
pub async fn unsuppress(
    tx: &mut Tx,
    subject: &SuppressionSubject,
    channel: Option<Channel>,
    reason: Option<Reason>,
) -> Result<bool, StateError> {
    if tx.is_journaled() {
        let (who, address) = journaled(tx, subject).await?;
        let channel = row::channel_word(channel).to_owned();
        tx.journal(Line::Lifted {
            who,
            address,
            channel,
            reason: reason.map(|reason| reason.as_str().to_owned()),
        });
    }
    let (kind, subject) = subject_words(subject);
    let sql = Sql::same(
        "DELETE FROM suppression WHERE kind = $1 AND subject = $2 AND channel = $3 AND ($4 IS NULL OR reason = $4)",
    );
    let binds =
        binds![kind, subject, row::channel_word(channel), reason.map(|reason| reason.as_str().to_owned())];
    Ok(tx.execute("lift a suppression", &sql, binds).await? > 0)
}

type SuppressionRow = (String, String, String, String, i64, String, i64);

fn read(row: SuppressionRow) -> Result<Suppression, StateError> {
    let (kind, subject, channel, reason, since, source, spares_transactional) = row;
    let subject = match kind.as_str() {
        PROFILE => {
            SuppressionSubject::Profile(ProfileNumber(row::word(subject.parse().ok(), "a suppression")?))
        }
        ADDRESS => SuppressionSubject::Address(AddressHash::known(subject)),
        _ => return Err(StateError::Corrupt { what: "a suppression" }),
    };
    Ok(Suppression {
        subject,
        channel: row::channel(&channel)?,
        reason: row::reason(&reason)?,
        since: row::time(since)?,
        source,
        spares_transactional: spares_transactional != 0,
    })
}

/// What holds for these people and addresses, in order of subject.
pub fn suppressions(numbers: &[ProfileNumber], addresses: &[AddressHash]) -> Question<Vec<Suppression>> {
    const SQL: Sql = page!(
        "kind, subject, channel, reason, since_ms, source, spares_transactional",
        "SELECT DISTINCT kind, subject, channel, reason, since_ms, source, spares_transactional FROM",
        each,
        "CROSS JOIN suppression WHERE suppression.kind = each.value ->> 0 AND suppression.subject = each.value ->> 1"
    );
    let mut rows = Rows::new();
    for number in numbers {
        rows.row().text(PROFILE).text(&number.to_string());
    }
    for hash in addresses {
        rows.row().text(ADDRESS).text(hash.as_str());
    }
    Question::new("read suppressions", &SQL, binds![rows.finish()], |found: Vec<SuppressionRow>| {
        let mut suppressions = found.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        suppressions.sort_by(|one, other| {
            (&one.subject, one.channel, one.reason).cmp(&(&other.subject, other.channel, other.reason))
        });
        Ok(suppressions)
    })
}

/// A page of the list: what holds for the next `limit` subjects after one.
pub async fn list(
    tx: &mut Tx,
    limit: u32,
    after: Option<&SuppressionSubject>,
) -> Result<Vec<Suppression>, StateError> {
    const SQL: Sql = page!(
        "kind, subject, channel, reason, since_ms, source, spares_transactional",
        "SELECT kind, subject, channel, reason, since_ms, source, spares_transactional FROM suppression
        WHERE (kind, subject) IN (SELECT kind, subject FROM suppression WHERE (kind, subject) > ($1, $2)
            GROUP BY kind, subject ORDER BY kind, subject LIMIT $3)
        ORDER BY kind, subject, channel, reason"
    );
    let (kind, subject) = after.map_or(("", String::new()), subject_words);
    let mut rows: Vec<SuppressionRow> =
        tx.page("list suppressions", &SQL, binds![kind, subject, limit]).await?;
    rows.sort_by(|one, other| {
        (&one.0, &one.1, &one.2, &one.3).cmp(&(&other.0, &other.1, &other.2, &other.3))
    });
    rows.into_iter().map(read).collect()
}
