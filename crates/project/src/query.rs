//! The users' queries: `sql`, or `sql_file` beside the file it is in, and what is declared about their columns.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use model::query::{Column, Query};
use model::value::ValueType;
use serde_json::{Value as Json, json};

use crate::Project;
use crate::diagnostic::Diagnostic;
use crate::read::{Cx, Given, Read, SqlPlace, record};
use crate::schema::Schemas;
use crate::source::{Files, Span};
use crate::yaml::{Kind, Node, origin};

/// Largest file that is read, in bytes.
pub(crate) const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A query's text.
#[derive(Debug, Clone)]
pub(crate) struct Sql {
    text: String,
    place: SqlPlace,
}

impl Read for Sql {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let Kind::Scalar { text, style } = &node.kind else {
            cx.wrong_kind(node, "a query");
            return None;
        };
        if text.trim().is_empty() || node.is_null() {
            cx.mistake("E0301", node.place(), "the query is empty");
            return None;
        }
        let sql = Self { text: text.clone(), place: SqlPlace { span: node.span, style: Some(*style) } };
        sql.check(cx);
        Some(sql)
    }

    fn schema(_schemas: &mut Schemas) -> Json {
        json!({"type": "string"})
    }
}

impl Sql {
    /// Reports what can be seen without the database: not one SELECT, the database's clock, an unknown parameter.
    fn check(&self, cx: &mut Cx<'_>) {
        for mistake in model::sql::mistakes(&self.text) {
            let from = offset_in_file(&cx.files, self.place, &self.text, mistake.at);
            let to =
                offset_in_file(&cx.files, self.place, &self.text, mistake.at + mistake.len.saturating_sub(1))
                    + 1;
            let span = Span::new(self.place.span.file, from, to);
            let reported = cx.mistake("E0301", span, mistake.message);
            if let Some(hint) = mistake.hint {
                reported.hint(hint);
            }
        }
    }
}

/// A query in a file of its own.
#[derive(Debug, Clone)]
pub(crate) struct SqlFile(Sql);

impl Read for SqlFile {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let path = cx.text(node, "a path")?;
        let beside = cx
            .files
            .path(node.span.file)
            .rsplit_once('/')
            .map_or(String::new(), |(folder, _)| folder.to_owned());
        let Some(relative) = inside(&beside, &path.text) else {
            cx.mistake("E0105", node.place(), "the file lies outside the project")
                .hint("write a path that begins beside this file");
            return None;
        };
        let text = match read_text(&cx.dir.join(&relative)) {
            Ok(text) => text,
            Err(why) => {
                cx.mistake("E0101", node.place(), format!("cannot read `{relative}`")).label(why);
                return None;
            }
        };
        if text.trim().is_empty() {
            cx.mistake("E0301", node.place(), format!("the query in `{relative}` is empty"));
            return None;
        }
        let file = cx.files.find(&relative).unwrap_or_else(|| cx.files.add(relative, text.clone()));
        let sql = Sql { place: SqlPlace { span: Span::new(file, 0, text.len()), style: None }, text };
        sql.check(cx);
        Some(Self(sql))
    }

    fn schema(_schemas: &mut Schemas) -> Json {
        json!({"type": "string"})
    }
}

/// A path from the project's folder, if it does not lead out of it.
fn inside(beside: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = beside.split('/').filter(|part| !part.is_empty()).collect();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            Component::ParentDir => {
                parts.pop()?;
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

/// The text of a file of at most [`MAX_FILE_BYTES`]; otherwise what is wrong with it.
pub(crate) fn read_text(path: &Path) -> Result<String, String> {
    let metadata = std::fs::metadata(path).map_err(|error| why(&error))?;
    if !metadata.is_file() {
        return Err("it is not a file".to_owned());
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err("it is larger than 1 MiB".to_owned());
    }
    let bytes = std::fs::read(path).map_err(|error| why(&error))?;
    let text = String::from_utf8(bytes)
        .map_err(|error| format!("it is not UTF-8, from byte {} on", error.utf8_error().valid_up_to()))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Why a file cannot be read, in a few words.
pub(crate) fn why(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        kind => kind.to_string(),
    }
}

record! {
    /// What is declared about a column.
    pub(crate) struct RawColumn ("a type, or a map with `type`") {
        /// text, integer, number, boolean, date, time or json; undeclared: the database's own.
        "type" kind: Option<ValueType>,
        /// The values it may have; a condition that names another is a mistake.
        "values" values: Option<Vec<String>>,
        /// What people call it.
        "title" title: Option<String>,
        /// Whether it says something about the person.
        "personal" personal: Option<bool>,
    }
}

/// A column's declaration, or, short, its type.
#[derive(Debug, Clone)]
pub(crate) struct ColumnOrType(Column);

impl Read for ColumnOrType {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        if matches!(node.kind, Kind::Scalar { .. }) {
            return ValueType::read(node, cx)
                .map(|kind| Self(Column { kind: Some(kind), ..Column::default() }));
        }
        let raw = RawColumn::read(node, cx)?;
        Some(Self(Column {
            kind: raw.kind,
            values: raw.values.unwrap_or_default(),
            title: raw.title,
            personal: raw.personal,
        }))
    }

    fn schema(schemas: &mut Schemas) -> Json {
        let (kind, column) = (<ValueType as Read>::schema(schemas), RawColumn::schema(schemas));
        json!({"anyOf": [kind, column]})
    }
}

/// Where a column is declared.
#[derive(Debug, Clone)]
pub(crate) struct Declared {
    /// The `place` of its query.
    pub(crate) query: String,
    /// Its name.
    pub(crate) column: String,
    /// Where.
    pub(crate) span: Span,
}

/// Declarations by column.
#[derive(Debug, Clone, Default)]
pub(crate) struct Columns(BTreeMap<String, (Column, Span)>);

impl Read for Columns {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let Kind::Map(entries) = &node.kind else {
            cx.wrong_kind(node, "a map from columns to types");
            return None;
        };
        let mut columns = BTreeMap::new();
        for (key, value) in entries {
            if let Some(column) = ColumnOrType::read(value, cx) {
                columns.insert(key.text.clone(), (column.0, key.span));
            }
        }
        Some(Self(columns))
    }

    fn schema(schemas: &mut Schemas) -> Json {
        let column = ColumnOrType::schema(schemas);
        json!({"type": "object", "additionalProperties": column})
    }
}

/// The query of the two keys, of which exactly one must be there. `at` is shown where it is not so.
pub(crate) fn query(
    sql: Given<Sql>,
    file: Given<SqlFile>,
    columns: Option<Columns>,
    at: Span,
    cx: &mut Cx<'_>,
) -> Option<Query> {
    if let (Given::Right(_, _), Given::Right(_, second)) = (&sql, &file) {
        cx.mistake("E0108", *second, "`sql` and `sql_file` do not go together").hint("keep one of them");
        return None;
    }
    let sql = match (sql, file) {
        (Given::Right(sql, _), Given::Absent) | (Given::Absent, Given::Right(SqlFile(sql), _)) => sql,
        (Given::Absent, Given::Absent) if ["sql", "sql_file"].iter().any(|key| cx.is_misspelt(at, key)) => {
            return None;
        }
        (Given::Absent, Given::Absent) => {
            cx.mistake("E0103", at, "the key `sql` (or `sql_file`) is missing");
            return None;
        }
        _ => return None,
    };
    let first = offset_in_file(&cx.files, sql.place, &sql.text, 0);
    let place = cx.files.place(Span::new(sql.place.span.file, first, first));
    cx.queries.insert(place.clone(), sql.place);
    let mut declared = BTreeMap::new();
    for (name, (column, span)) in columns.unwrap_or_default().0 {
        cx.declared.push(Declared { query: place.clone(), column: name.clone(), span });
        declared.insert(name, column);
    }
    Some(Query { sql: sql.text, columns: declared, place })
}

/// Where in its file a byte of a query stands.
fn offset_in_file(files: &Files, place: SqlPlace, text: &str, at: usize) -> usize {
    match place.style {
        None => at,
        Some(style) => origin(files.text(place.span.file), place.span, style, text, at),
    }
}

/// What the database said about a query, shown where it stands; `offset_in_sql` is in bytes from the query's beginning.
pub fn query_mistake(
    project: &Project,
    query: &Query,
    offset_in_sql: Option<usize>,
    message: &str,
) -> Diagnostic {
    let Some(place) = project.queries.get(&query.place) else {
        return Diagnostic::of_file("E0302", query.place.clone(), message);
    };
    let from = offset_in_file(&project.files, *place, &query.sql, offset_in_sql.unwrap_or(0));
    let word = query.sql.get(offset_in_sql.unwrap_or(0)..).map_or(1, |rest| {
        let name = |c: char| c.is_alphanumeric() || c == '_';
        rest.find(|c| !name(c)).unwrap_or(rest.len()).max(1)
    });
    project.files.diagnostic("E0302", Span::new(place.span.file, from, from + word), message)
}
