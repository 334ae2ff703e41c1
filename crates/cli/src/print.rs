//! Data on stdout, talk on stderr. The only place that prints.

use std::io::{IsTerminal as _, Write as _};

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Map, Value};

use crate::args::Output;
use crate::failure::Failure;

/// Prints in the format that was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    format: Output,
    color: bool,
}

/// Rows to be printed: names of columns, and one object a row.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) columns: Vec<&'static str>,
    pub(crate) rows: Vec<Map<String, Value>>,
}

impl Rows {
    /// Rows with these columns.
    pub(crate) fn new(columns: &[&'static str]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row: the values in the order of the columns.
    pub(crate) fn push(&mut self, values: impl IntoIterator<Item = Value>) {
        self.rows.push(self.columns.iter().map(|name| (*name).to_owned()).zip(values).collect());
    }
}

impl Printer {
    /// A table where somebody looks on, JSON lines elsewhere, unless told otherwise.
    pub(crate) fn new(wanted: Option<Output>, no_color: bool) -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self { format: wanted.unwrap_or(Output::Table), color: terminal && !no_color }
    }

    /// The format.
    pub(crate) fn format(self) -> Output {
        self.format
    }

    /// Whether colours are wanted.
    pub(crate) fn color(self) -> bool {
        self.color
    }

    /// Whether it is read by a program.
    pub(crate) fn for_programs(self) -> bool {
        self.format != Output::Table
    }

    /// Text on stdout, as it is.
    pub(crate) fn text(self, text: &str) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", text.trim_end_matches('\n')).or_else(closed)?;
        Ok(())
    }

    /// One JSON object, or what a person reads in its place.
    pub(crate) fn object(self, value: &Value, people: impl FnOnce() -> String) -> Result<(), Failure> {
        match self.format {
            Output::Table => self.text(&people()),
            Output::Json => self.text(&serde_json::to_string_pretty(value).unwrap_or_default()),
            // Nothing that is an object gets here as CSV: that is refused before it begins.
            Output::Ndjson | Output::Csv => self.text(&value.to_string()),
        }
    }

    /// Rows.
    pub(crate) fn rows(self, rows: &Rows, nothing: &str) -> Result<(), Failure> {
        match self.format {
            Output::Table if rows.rows.is_empty() => {
                say(nothing);
                Ok(())
            }
            Output::Table => self.text(&table(rows)),
            Output::Json => {
                let all = Value::Array(rows.rows.iter().cloned().map(Value::Object).collect());
                self.text(&serde_json::to_string_pretty(&all).unwrap_or_default())
            }
            Output::Ndjson => {
                let mut out = std::io::stdout().lock();
                for row in &rows.rows {
                    let line = serde_json::to_string(row).unwrap_or_default();
                    if let Err(error) = writeln!(out, "{line}") {
                        return closed(error).map_err(Failure::from);
                    }
                }
                Ok(())
            }
            Output::Csv => {
                let mut out = std::io::stdout().lock();
                csv(rows, &mut out)
            }
        }
    }
}

/// Who reads a pipe may stop reading: that is no failure.
fn closed(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
}

/// Rows as CSV (RFC 4180). A cell that a spreadsheet would take for a formula gets a `'` before it.
pub(crate) fn csv(rows: &Rows, out: &mut dyn std::io::Write) -> Result<(), Failure> {
    let mut writer = csv::Writer::from_writer(out);
    let mut write = || -> Result<(), csv::Error> {
        writer.write_record(&rows.columns)?;
        for row in &rows.rows {
            let cells =
                rows.columns.iter().map(|name| neutral(&cell(row.get(*name).unwrap_or(&Value::Null))));
            writer.write_record(cells)?;
        }
        Ok(writer.flush()?)
    };
    write().map_err(std::io::Error::from).or_else(closed).map_err(Failure::from)
}

fn neutral(text: &str) -> String {
    let numeric = text.parse::<f64>().is_ok();
    if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\0']) && !numeric {
        format!("'{text}")
    } else {
        text.to_owned()
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn table(rows: &Rows) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if !std::io::stdout().is_terminal() {
        // Nobody's width: a line a row, however long.
        table.set_content_arrangement(ContentArrangement::Disabled);
    }
    table.set_header(rows.columns.iter().map(|name| name.replace('_', " ")));
    for row in &rows.rows {
        table.add_row(
            rows.columns.iter().map(|name| printable(&cell(row.get(*name).unwrap_or(&Value::Null)))),
        );
    }
    table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Text that cannot move the cursor or change colours.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A word as a shell takes it: in quotes where it must be.
pub(crate) fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+=,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// Talk, on stderr.
#[expect(clippy::print_stderr, reason = "the one place that talks")]
pub(crate) fn say(text: &str) {
    if !text.is_empty() {
        eprintln!("{text}");
    }
}

/// A number as people read it: 12,345.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_cannot_become_a_formula() {
        for (text, expected) in
            [("=1+1", "'=1+1"), ("@x", "'@x"), ("-5", "-5"), ("+49 30", "'+49 30"), ("plain", "plain")]
        {
            assert_eq!(neutral(text), expected);
        }
    }

    #[test]
    fn a_word_with_a_space_stays_one_word_in_a_shell() {
        for (text, word) in
            [("a/b_c.d", "a/b_c.d"), ("my project", "'my project'"), ("it's", "'it'\\''s'"), ("", "''")]
        {
            assert_eq!(shell_word(text), word);
        }
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(number), text);
        }
    }
}
