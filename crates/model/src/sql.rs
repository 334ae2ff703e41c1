//! A small lexer for the users' queries: enough to find parameters, a second statement, and the database's clock.
//!
//! It knows words, quotes and comments, and no grammar: whether a query is right SQL is the database's to say, when
//! it prepares it. Nothing here runs a query.

mod token;
mod words;

use jiff::SignedDuration;

use crate::duration::{format_duration, parse_duration};
use crate::suggest::edits;
use token::{Kind, Token, tokens};

pub use words::{CLOCK_HINT, TIME_CALLS};

/// Something in a query that must not be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlMistake {
    /// Where, in bytes from the beginning of the query.
    pub at: usize,
    /// How long it is, in bytes.
    pub len: usize,
    /// `sql.empty sql.statement sql.writes sql.clock sql.random sql.side_effect sql.parameter sql.placeholder sql.unterminated`
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl std::fmt::Display for SqlMistake {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for SqlMistake {}

/// Whose SQL it is. They disagree on brackets, backticks, dollars, nested comments and `?`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// SQLite's.
    Sqlite,
    /// Postgres'.
    Postgres,
}

/// A value Drumbeat binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parameter {
    /// `:now`, `:now_minus_14d`, `:now_plus_3d`: an instant.
    Now {
        /// From the run's time; negative is before.
        offset: SignedDuration,
    },
    /// `:today`, `:today_minus_7d`: a date in the project's zone.
    Today {
        /// From the midnight that began the day, by a clock that no zone shifts; negative is before.
        offset: SignedDuration,
    },
}

impl Parameter {
    /// The parameter of that name, written without its colon.
    pub fn parse(name: &str) -> Option<Self> {
        let (is_now, rest) = match (name.strip_prefix("now"), name.strip_prefix("today")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return None,
        };
        let offset = if rest.is_empty() {
            SignedDuration::ZERO
        } else if let Some(text) = rest.strip_prefix("_minus_") {
            -parse_duration(text).ok()?
        } else {
            parse_duration(rest.strip_prefix("_plus_")?).ok()?
        };
        Some(if is_now { Self::Now { offset } } else { Self::Today { offset } })
    }

    /// Its name with the colon, as a user would write it.
    pub fn name(self) -> String {
        let (word, offset) = match self {
            Self::Now { offset } => (":now", offset),
            Self::Today { offset } => (":today", offset),
        };
        match offset {
            SignedDuration::ZERO => word.to_owned(),
            offset if offset.is_negative() => format!("{word}_minus_{}", format_duration(-offset)),
            offset => format!("{word}_plus_{}", format_duration(offset)),
        }
    }
}

/// A query with numbers in the place of its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// The text; `$1` stands for `parameters[0]`.
    pub sql: String,
    /// Each once, in the order of first use.
    pub parameters: Vec<Parameter>,
    /// What was replaced: where it begins and ends in `sql`, and where it began and ended in the user's text.
    replaced: Vec<[usize; 4]>,
}

impl Bound {
    /// Where in the user's text the byte `at` of `sql` comes from.
    pub fn origin(&self, at: usize) -> usize {
        let (mut bound_end, mut user_end) = (0, 0);
        for [bound_from, bound_to, user_from, user_to] in &self.replaced {
            if at < *bound_from {
                break;
            }
            if at < *bound_to {
                return *user_from;
            }
            (bound_end, user_end) = (*bound_to, *user_to);
        }
        user_end + (at - bound_end)
    }
}

/// Numbers the parameters of a query. What is quoted or commented stays as it is, and so does a query without
/// parameters; a `;` at the end is dropped, so that the query may stand in parentheses.
///
/// Of the mistakes it finds only those that stand in its way; [`mistakes`] finds them all.
pub fn bind(sql: &str, style: Style) -> Result<Bound, SqlMistake> {
    let mut bound =
        Bound { sql: String::with_capacity(sql.len()), parameters: Vec::new(), replaced: Vec::new() };
    let mut copied = 0;
    for token in tokens(sql, Some(style)) {
        let text = token.text(sql);
        let replacement = match token.kind {
            Kind::Parameter => {
                let parameter = Parameter::parse(text.trim_start_matches(':'))
                    .ok_or_else(|| unknown_parameter(text, token))?;
                let known = bound.parameters.iter().position(|known| *known == parameter);
                let number = known.unwrap_or_else(|| {
                    bound.parameters.push(parameter);
                    bound.parameters.len() - 1
                });
                format!("${}", number + 1)
            }
            Kind::Semicolon => String::new(),
            Kind::Placeholder => return Err(placeholder(text, token)),
            Kind::Unterminated => return Err(unterminated(text, token)),
            Kind::Word | Kind::QuotedName | Kind::Text | Kind::Number | Kind::Cast | Kind::Symbol => continue,
        };
        bound.sql.push_str(sql.get(copied..token.start).unwrap_or_default());
        let from = bound.sql.len();
        bound.sql.push_str(&replacement);
        bound.replaced.push([from, bound.sql.len(), token.start, token.end]);
        copied = token.end;
    }
    bound.sql.push_str(sql.get(copied..).unwrap_or_default());
    if let Some(mistake) = second_statement(sql, &tokens(sql, Some(style))) {
        return Err(mistake);
    }
    Ok(bound)
}

/// Everything wrong with a query that can be told without a database, in order of place.
pub fn mistakes(sql: &str) -> Vec<SqlMistake> {
    let tokens = tokens(sql, None);
    let mut found = Vec::new();
    for token in &tokens {
        let text = token.text(sql);
        match token.kind {
            Kind::Unterminated => found.push(unterminated(text, *token)),
            Kind::Placeholder => found.push(placeholder(text, *token)),
            Kind::Parameter if Parameter::parse(text.trim_start_matches(':')).is_none() => {
                found.push(unknown_parameter(text, *token));
            }
            _ => {}
        }
    }
    found.extend(first_word(sql, &tokens));
    found.extend(second_statement(sql, &tokens));
    found.extend(words::mistakes(sql, &tokens));
    found.extend(offset_arithmetic(sql, &tokens));
    found.sort_by_key(|mistake| mistake.at);
    found
}

/// The clock in an expression as a database writes it in its plan of a query: where a view reads it, or a text that was
/// put together turns out to be `'now'`.
pub fn clock_in_plan(expression: &str) -> Option<SqlMistake> {
    let tokens = tokens(expression, Some(Style::Postgres));
    words::mistakes(expression, &tokens).into_iter().find(|mistake| mistake.code == "sql.clock")
}

fn mistake(token: Token, code: &'static str, message: String, hint: Option<String>) -> SqlMistake {
    SqlMistake { at: token.start, len: token.end - token.start, code, message, hint }
}

const ONE_SELECT: &str = "a query is one SELECT that reads and changes nothing";

fn first_word(sql: &str, tokens: &[Token]) -> Option<SqlMistake> {
    let Some(first) = tokens.first() else {
        return Some(SqlMistake {
            at: 0,
            len: sql.len(),
            code: "sql.empty",
            message: "the query is empty".to_owned(),
            hint: Some(ONE_SELECT.to_owned()),
        });
    };
    let text = first.text(sql);
    let reads =
        first.kind == Kind::Word && ["select", "with"].iter().any(|word| text.eq_ignore_ascii_case(word));
    if reads || first.kind == Kind::Unterminated {
        return None;
    }
    if first.kind == Kind::Word && words::is_command(text) {
        let message = format!("`{text}` does not read");
        return Some(mistake(*first, "sql.writes", message, Some(ONE_SELECT.to_owned())));
    }
    let message = "the query must begin with SELECT or WITH".to_owned();
    Some(mistake(*first, "sql.statement", message, Some(ONE_SELECT.to_owned())))
}

/// Anything after a `;`.
fn second_statement(sql: &str, tokens: &[Token]) -> Option<SqlMistake> {
    let end = tokens.iter().position(|token| token.kind == Kind::Semicolon)?;
    let next = tokens.get(end..)?.iter().find(|token| token.kind != Kind::Semicolon)?;
    let message = format!("a second statement begins here: `{}`", shortened(next.text(sql)));
    Some(mistake(*next, "sql.statement", message, Some(ONE_SELECT.to_owned())))
}

/// `:now-14d`, which no database reads as a duration.
fn offset_arithmetic<'a>(sql: &'a str, tokens: &'a [Token]) -> impl Iterator<Item = SqlMistake> + 'a {
    tokens.windows(3).filter_map(move |window| {
        let [parameter, sign, amount] = window else { return None };
        let word = match sign.text(sql) {
            "-" => "minus",
            "+" => "plus",
            _ => return None,
        };
        let (name, amount_text) = (parameter.text(sql), amount.text(sql));
        let is_offset = parameter.kind == Kind::Parameter
            && matches!(name, ":now" | ":today")
            && amount.kind == Kind::Number
            && parse_duration(amount_text).is_ok();
        is_offset.then(|| SqlMistake {
            at: parameter.start,
            len: amount.end - parameter.start,
            code: "sql.parameter",
            message: format!("`{amount_text}` is no number that SQL knows"),
            hint: Some(format!("write `{name}_{word}_{amount_text}`")),
        })
    })
}

fn unterminated(text: &str, token: Token) -> SqlMistake {
    let (what, end) = match text.as_bytes().first() {
        Some(b'/') => ("comment", "*/"),
        Some(b'"') => ("quoted name", "\""),
        Some(b'`') => ("quoted name", "`"),
        Some(b'$') => ("dollar-quoted string", "the same tag"),
        _ => ("string", "'"),
    };
    // Only its first mark is pointed at: the rest is the remainder of the query.
    let len = (token.end - token.start).min(if what == "comment" { 2 } else { 1 });
    SqlMistake {
        at: token.start,
        len,
        code: "sql.unterminated",
        message: format!("this {what} has no end"),
        hint: Some(format!("it ends with `{end}`")),
    }
}

fn placeholder(text: &str, token: Token) -> SqlMistake {
    let message = format!("`{}` is a parameter that nobody gives a value", shortened(text));
    let hint = "Drumbeat binds `:now`, `:today` and their kin: `:now_minus_14d`, `:today_plus_3d`".to_owned();
    mistake(token, "sql.placeholder", message, Some(hint))
}

fn unknown_parameter(text: &str, token: Token) -> SqlMistake {
    let message = format!("there is no parameter `{}`", shortened(text));
    let hint = suggestion(text.trim_start_matches(':')).map_or_else(
        || {
            "known are `:now`, `:today`, and both with an offset: `:now_minus_14d`, `:today_plus_3d`"
                .to_owned()
        },
        |name| format!("did you mean `:{name}`?"),
    );
    mistake(token, "sql.parameter", message, Some(hint))
}

/// What was meant by a name that is nearly one of ours.
fn suggestion(name: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    let (base, rest) = lower.split_once('_').unwrap_or((&lower, ""));
    let base =
        ["now", "today"].into_iter().find(|known| *known == base || edits(known, base) <= known.len() / 2)?;
    if rest.is_empty() {
        return Some(base.to_owned());
    }
    let (sign, amount) = rest.split_once('_').unwrap_or((rest, ""));
    let sign = ["minus", "plus"].into_iter().find(|known| *known == sign || edits(known, sign) <= 2)?;
    let digits_end = amount.find(|c: char| !c.is_ascii_digit()).unwrap_or(amount.len());
    let (digits, unit) = amount.split_at(digits_end);
    let unit = match unit.trim_start_matches('_') {
        "s" | "sec" | "second" | "seconds" => "s",
        "min" | "minute" | "minutes" | "m" => "m",
        "hour" | "hours" | "h" => "h",
        "week" | "weeks" | "w" => "w",
        "day" | "days" | "d" | "" => "d",
        _ => return None,
    };
    let amount = format!("{}{unit}", if digits.is_empty() { "14" } else { digits });
    parse_duration(&amount).ok()?;
    Some(format!("{base}_{sign}_{amount}"))
}

/// A token as a message quotes it.
fn shortened(text: &str) -> String {
    if text.chars().count() <= 40 {
        text.to_owned()
    } else {
        format!("{}...", text.chars().take(40).collect::<String>())
    }
}

#[cfg(test)]
mod tests;
