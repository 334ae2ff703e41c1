//! Facts: what providers and links tell us later. Product events are not here; they live in the warehouse.

use jiff::Timestamp;
use model::{DeliveryId, ProfileNumber};

use crate::db::binds;
use crate::dialect::Sql;
use crate::row;
use crate::{StateError, Tx};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactKind {
    /// It arrived.
    Delivered,
    /// It came back.
    Bounced,
    /// It was reported as spam.
    Complained,
    /// The person opted out.
    Unsubscribed,
    /// It was opened, as far as anybody can know.
    Opened,
    /// A link in it was followed.
    Clicked,
}

impl FactKind {
    const ALL: &[(&str, Self)] = &[
        ("delivered", Self::Delivered),
        ("bounced", Self::Bounced),
        ("complained", Self::Complained),
        ("unsubscribed", Self::Unsubscribed),
        ("opened", Self::Opened),
        ("clicked", Self::Clicked),
    ];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(word, _)| word)
    }

    /// The kind with that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == word).map(|(_, kind)| *kind)
    }
}

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// About whom.
    pub profile: ProfileNumber,
    /// What.
    pub kind: FactKind,
    /// When.
    pub at: Timestamp,
    /// About which message.
    pub delivery: Option<DeliveryId>,
    /// Who told us.
    pub source: String,
    /// Its id there: told twice, it is one fact.
    pub source_id: String,
}

/// Adds a fact; `false`: it was there.
pub async fn add(tx: &mut Tx, fact: &Fact) -> Result<bool, StateError> {
    let sql = Sql::same(
        "INSERT INTO fact (source, source_id, profile, kind, at_ms, delivery) VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (source, source_id) DO NOTHING",
    );
    let binds = binds![
        fact.source.as_str(),
        fact.source_id.as_str(),
        i64::from(fact.profile.0),
        fact.kind.as_str(),
        row::ms(fact.at),
        fact.delivery.as_ref().map(|id| id.as_str().to_owned()),
    ];
    Ok(tx.execute("keep a fact", &sql, binds).await? > 0)
}

type FactRow = (String, i64, Option<String>, String, String);

/// The latest facts of a person, newest first.
pub async fn of_profile(tx: &mut Tx, number: ProfileNumber, limit: u32) -> Result<Vec<Fact>, StateError> {
    let sql = Sql::same(
        "SELECT kind, at_ms, delivery, source, source_id FROM fact WHERE profile = $1
        ORDER BY at_ms DESC, source, source_id LIMIT $2",
    );
    let rows: Vec<FactRow> = tx.rows("read facts", &sql, binds![i64::from(number.0), limit]).await?;
    rows.into_iter()
        .map(|(kind, at, delivery, source, source_id)| {
            Ok(Fact {
                profile: number,
                kind: row::word(FactKind::parse(&kind), "a fact")?,
                at: row::time(at)?,
                delivery: delivery.map(DeliveryId::known),
                source,
                source_id,
            })
        })
        .collect()
}
