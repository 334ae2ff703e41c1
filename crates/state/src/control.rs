//! Control: what a person has halted.

use jiff::Timestamp;
use model::{DestinationName, PlaybookName};

use crate::ask::Question;
use crate::db::binds;
use crate::dialect::{Sql, page};
use crate::row;
use crate::{StateError, Tx};

/// What is halted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum HaltScope {
    /// Everything.
    All,
    /// What goes to a destination.
    Destination(DestinationName),
    /// What a playbook sends.
    Playbook(PlaybookName),
}

impl std::fmt::Display for HaltScope {
    /// As people name it.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => out.write_str("everything"),
            Self::Destination(name) => write!(out, "destination.{name}"),
            Self::Playbook(name) => write!(out, "playbook.{name}"),
        }
    }
}

impl HaltScope {
    fn key(&self) -> String {
        match self {
            Self::All => "all".to_owned(),
            Self::Destination(name) => format!("destination:{name}"),
            Self::Playbook(name) => format!("playbook:{name}"),
        }
    }

    fn from_key(key: &str) -> Option<Self> {
        match key.split_once(':') {
            None => (key == "all").then_some(Self::All),
            Some(("destination", name)) => Some(Self::Destination(DestinationName::known(name))),
            Some(("playbook", name)) => Some(Self::Playbook(PlaybookName::known(name))),
            Some(_) => None,
        }
    }
}

/// A halt in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halt {
    /// Of what.
    pub scope: HaltScope,
    /// Why.
    pub reason: String,
    /// By whom.
    pub actor: String,
    /// Since when.
    pub at: Timestamp,
}

/// All halts in force.
pub fn halts() -> Question<Vec<Halt>> {
    const SQL: Sql =
        page!("scope, reason, actor, at_ms", "SELECT scope, reason, actor, at_ms FROM halt ORDER BY scope");
    Question::new("read the halts", &SQL, vec![], |rows: Vec<(String, String, String, i64)>| {
        rows.into_iter()
            .map(|(scope, reason, actor, at)| {
                let scope = row::word(HaltScope::from_key(&scope), "a halt")?;
                Ok(Halt { scope, reason, actor, at: row::time(at)? })
            })
            .collect()
    })
}

/// Halts; `false`: it was halted already, and the first reason stays.
pub async fn halt(tx: &mut Tx, halt: &Halt) -> Result<bool, StateError> {
    let sql = Sql::same(
        "INSERT INTO halt (scope, reason, actor, at_ms) VALUES ($1, $2, $3, $4) ON CONFLICT (scope) DO NOTHING",
    );
    let binds = binds![halt.scope.key(), halt.reason.as_str(), halt.actor.as_str(), row::ms(halt.at)];
    Ok(tx.execute("halt", &sql, binds).await? > 0)
}

/// Lifts a halt; `false`: there was none.
pub async fn lift(tx: &mut Tx, scope: &HaltScope) -> Result<bool, StateError> {
    Ok(tx
        .execute("lift a halt", &Sql::same("DELETE FROM halt WHERE scope = $1"), binds![scope.key()])
        .await?
        > 0)
}
