//! The clock that a query would read, as the database itself shows it: what the words of the query do not.
//!
//! So a clock that is read in a view, or spelt `lower('NOW')`, is found before anything runs. What stands in a table's
//! columns is not known then, and is taken for a time.
//!
//! Postgres' plan shows its expressions, with everything worked out that does not change. SQLite's `EXPLAIN` lists the instructions that SQLite would execute (<https://sqlite.org/opcode.html>), views included. A function
//! on times is told there by its name, and where each constant argument comes from by the registers.

use model::sql::{CLOCK_HINT, TIME_CALLS, clock_in_plan};

use crate::Kind;
use crate::error::QueryError;
use crate::value::Cell;

/// An instruction, as far as it matters.
#[derive(Debug)]
struct Instruction {
    opcode: String,
    p: [i64; 3],
    p4: String,
}

/// Where a register's value comes from.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    /// A text that stands in the query.
    Text(String),
    /// Put together from nothing but what stands in the query, so that only running it shows what it is.
    Computed,
    /// A number, a parameter, a function on times (which is looked at by itself), or data.
    Other,
}

/// How far a value is followed back.
const STEPS_MAX: usize = 64;

/// The refusal of a query of which the database explains that it reads the clock, if it does.
pub(crate) fn read_by(kind: Kind, explained: &[Vec<Cell>]) -> Option<QueryError> {
    match kind {
        Kind::Sqlite => in_program(explained),
        Kind::Postgres => explained.iter().find_map(|line| match line.first() {
            Some(Cell::Text(line)) => clock_in_plan(line).map(|mistake| refused(mistake.message)),
            _ => None,
        }),
    }
}

fn in_program(rows: &[Vec<Cell>]) -> Option<QueryError> {
    let program: Vec<Instruction> = rows.iter().filter_map(|row| instruction(row)).collect();
    program.iter().enumerate().find_map(|(at, one)| {
        let name = one.function()?;
        if name.starts_with("current_") {
            return Some(refused(format!("`{name}` reads the database's own clock")));
        }
        if !TIME_CALLS.contains(&name) {
            return None;
        }
        // Bit by bit, which arguments are constant; they lie side by side from the second operand on.
        let constant = (0..32).filter(|bit| one.p[0] >> bit & 1 == 1);
        constant.map(|bit| source(&program, at, one.p[1] + bit, STEPS_MAX)).find_map(|source| match source {
            Source::Text(text) if reads_clock(&text) => {
                Some(refused(format!("`{name}('{text}')` reads the database's own clock")))
            }
            Source::Computed => Some(refused(format!(
                "`{name}()` is given a text that is put together from constants, and may read the database's own clock"
            ))),
            Source::Text(_) | Source::Other => None,
        })
    })
}

fn refused(message: String) -> QueryError {
    QueryError::Refused { message, at: None, hint: Some(CLOCK_HINT.to_owned()) }
}

/// <https://sqlite.org/lang_datefunc.html>: the time values and modifiers that ask the machine.
fn reads_clock(text: &str) -> bool {
    matches!(text.trim().to_ascii_lowercase().as_str(), "now" | "subsec" | "subsecond" | "localtime" | "utc")
}

fn instruction(row: &[Cell]) -> Option<Instruction> {
    let text = |at: usize| match row.get(at) {
        Some(Cell::Text(text)) => text.clone(),
        _ => String::new(),
    };
    let number = |at: usize| match row.get(at) {
        Some(Cell::Integer(number)) => *number,
        _ => 0,
    };
    (row.len() > 5).then(|| Instruction {
        opcode: text(1),
        p: [number(2), number(3), number(4)],
        p4: text(5),
    })
}

impl Instruction {
    /// The function it calls: `date` of `date(-1)`.
    fn function(&self) -> Option<&str> {
        let calls = matches!(self.opcode.as_str(), "Function" | "PureFunc");
        calls.then(|| self.p4.split_once('(').map_or(self.p4.as_str(), |(name, _)| name))
    }

    /// The register it writes, where it writes one.
    fn writes(&self) -> Option<i64> {
        let [first, second, third] = self.p;
        match self.opcode.as_str() {
            "String8" | "String" | "Integer" | "Int64" | "Real" | "Null" | "Blob" | "Variable" | "Copy"
            | "SCopy" | "Rowid" => Some(second),
            "Function" | "PureFunc" | "Concat" | "Add" | "Subtract" | "Multiply" | "Divide" | "Remainder"
            | "BitAnd" | "BitOr" | "ShiftLeft" | "ShiftRight" | "Column" => Some(third),
            "Cast" => Some(first),
            _ => None,
        }
    }
}

/// Where the value of a register comes from, for the instruction at `at`. Constants may be made ahead, at the program's end.
fn source(program: &[Instruction], at: usize, register: i64, steps: usize) -> Source {
    let writer = |(_, one): &(usize, &Instruction)| one.writes() == Some(register);
    let before = program.iter().enumerate().take(at).rev().find(writer);
    let Some((at, one)) = before.or_else(|| program.iter().enumerate().skip(at + 1).rev().find(writer))
    else {
        return Source::Other;
    };
    let Some(steps) = steps.checked_sub(1) else { return Source::Other };
    let computed = |registers: &[i64]| {
        let is_data = |register: &i64| is_data(program, at, *register, steps);
        if registers.iter().any(is_data) { Source::Other } else { Source::Computed }
    };
    let [first, second, _] = one.p;
    match one.opcode.as_str() {
        "String8" | "String" => Source::Text(one.p4.clone()),
        "Blob" => Source::Computed,
        "Copy" | "SCopy" => source(program, at, first, steps),
        "Concat" => computed(&[first, second]),
        // Before the cast the register was written by what is cast.
        "Cast" => match source(program, at, first, steps) {
            Source::Text(_) => Source::Computed,
            other => other,
        },
        "Function" | "PureFunc" if one.function().is_some_and(|name| TIME_CALLS.contains(&name)) => {
            Source::Other
        }
        "Function" | "PureFunc" => {
            let constant: Vec<i64> =
                (0..32).filter(|bit| first >> bit & 1 == 1).map(|bit| second + bit).collect();
            computed(&constant)
        }
        _ => Source::Other,
    }
}

/// Whether a register holds a parameter or data, or is made from such. Numbers are neither.
fn is_data(program: &[Instruction], at: usize, register: i64, steps: usize) -> bool {
    let writer = |(_, one): &(usize, &Instruction)| one.writes() == Some(register);
    let before = program.iter().enumerate().take(at).rev().find(writer);
    let found = before.or_else(|| program.iter().enumerate().skip(at + 1).rev().find(writer));
    let is_number =
        found.is_some_and(|(_, one)| matches!(one.opcode.as_str(), "Integer" | "Int64" | "Real" | "Null"));
    !is_number && source(program, at, register, steps) == Source::Other
}
