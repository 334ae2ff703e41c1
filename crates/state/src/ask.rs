//! Questions that are asked together, and changes that are made together: one statement, one turn.
//!
//! A statement costs what it does and a turn to where it is done: in SQLite another thread, which costs more than most
//! statements here, in Postgres another machine. So a [`Question`] is a value, and several are asked at once; and changes
//! of which nobody asks how many rows they touched wait in their transaction for the next question, or for its end.
//!
//! This is an audited place where SQL is not a constant. What is put together here are constants of this room, side by
//! side and with their parameters numbered on; values are always bound.

#![expect(clippy::disallowed_types, reason = "the audited place for SQL that is put together: see above")]

use serde::de::DeserializeOwned;
use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};

use crate::StateError;
use crate::db::Bind;
use crate::dialect::Sql;

/// A statement with its values.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) operation: &'static str,
    pub(crate) sql: Sql,
    pub(crate) binds: Vec<Bind>,
}

/// What the databases answered, in the order of the questions.
type Texts = std::vec::IntoIter<String>;

/// How an answer is read.
type Read<T> = Box<dyn FnOnce(&mut Texts) -> Result<T, StateError> + Send>;

/// Something to be read, once it is asked (see [`crate::Tx::ask`]).
pub struct Question<T> {
    statements: Vec<Statement>,
    read: Read<T>,
}

impl<T: 'static> Question<T> {
    /// A `page!`, and what is made of its rows.
    pub(crate) fn new<R: DeserializeOwned + 'static>(
        operation: &'static str,
        sql: &Sql,
        binds: Vec<Bind>,
        read: impl FnOnce(Vec<R>) -> Result<T, StateError> + Send + 'static,
    ) -> Self {
        let read = move |texts: &mut Texts| {
            let text = texts.next().ok_or(StateError::Corrupt { what: "an answer" })?;
            read(serde_json::from_str(&text).map_err(|_| StateError::Corrupt { what: "a row" })?)
        };
        Self { statements: vec![Statement { operation, sql: *sql, binds }], read: Box::new(read) }
    }

    /// The same, and something made of the answer.
    pub fn map<U>(self, make: impl FnOnce(T) -> Result<U, StateError> + Send + 'static) -> Question<U> {
        let read = self.read;
        Question { statements: self.statements, read: Box::new(move |texts| make(read(texts)?)) }
    }

    /// This and another, asked at once.
    pub fn and<U: 'static>(mut self, other: Question<U>) -> Question<(T, U)> {
        self.statements.extend(other.statements);
        let (first, second) = (self.read, other.read);
        Question {
            statements: self.statements,
            read: Box::new(move |texts| Ok((first(texts)?, second(texts)?))),
        }
    }

    pub(crate) fn split(self) -> (Vec<Statement>, impl FnOnce(Vec<String>) -> Result<T, StateError>) {
        let read = self.read;
        (self.statements, move |texts: Vec<String>| read(&mut texts.into_iter()))
    }
}

impl<T> std::fmt::Debug for Question<T> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Question").field("statements", &self.statements).finish_non_exhaustive()
    }
}

/// Texts and values of some statements, one after the other, with their parameters numbered on.
#[derive(Default)]
pub(crate) struct Joined {
    text: String,
    pub(crate) binds: Vec<Bind>,
}

impl Joined {
    /// `UPDATE …; UPDATE …;`
    pub(crate) fn changes<'a>(&mut self, statements: impl IntoIterator<Item = (&'a str, Vec<Bind>)>) {
        for (text, binds) in statements {
            self.push(text, binds);
            self.text.push_str(";\n");
        }
    }

    /// `SELECT (SELECT …), (SELECT …)`
    pub(crate) fn questions<'a>(&mut self, statements: impl IntoIterator<Item = (&'a str, Vec<Bind>)>) {
        let mut before = "SELECT (";
        for (text, binds) in statements {
            self.text.push_str(before);
            self.push(text, binds);
            before = "), (";
        }
        self.text.push(')');
    }

    /// The text. It takes values of its own nowhere but through its parameters.
    pub(crate) fn sql(&mut self) -> SqlStr {
        AssertSqlSafe(std::mem::take(&mut self.text)).into_sql_str()
    }

    fn push(&mut self, text: &str, binds: Vec<Bind>) {
        let offset = self.binds.len();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            let digits = after.bytes().take_while(u8::is_ascii_digit).count();
            let (number, behind) = after.split_at(digits);
            self.text.push_str(before);
            self.text.push('$');
            match number.parse::<usize>() {
                Ok(number) => self.text.push_str(&(number + offset).to_string()),
                Err(_) => self.text.push_str(number),
            }
            rest = behind;
        }
        self.text.push_str(rest);
        self.binds.extend(binds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::binds;

    #[test]
    fn parameters_are_numbered_on() {
        let mut joined = Joined::default();
        joined.changes([("UPDATE a SET b = $2 WHERE c = $1", binds![1_i64, 2_i64])]);
        joined.questions([("SELECT $1", binds![3_i64]), ("SELECT $12, '$.x'", binds![4_i64])]);
        assert_eq!(
            joined.sql().as_str(),
            "UPDATE a SET b = $2 WHERE c = $1;\nSELECT (SELECT $3), (SELECT $15, '$.x')"
        );
        assert_eq!(joined.binds.len(), 4);
    }
}
