//! Values of a record's fields: constants, and small templates that are filled in for one person or account.
//!
//! A field that is one tag and nothing else, `{{ account.arr }}`, keeps the kind of its value: a number stays a number. What is not there
//! empties such a field. A text around a tag is a text, and where something in it is missing it is none.

use std::collections::BTreeMap;

use model::{Reason, Refusal};
use serde_json::{Number, Value as Json};

use crate::compile::Compiled;
use crate::filters::Moment;
use crate::lint::{self, Text, Used};
use crate::mail::refusal;
use crate::mistake::Mistake;
use crate::scope::Scope;

/// Where the value of a field that is one tag stands, once its template ran.
const VALUE: &str = "drumbeat_value";
/// The longest text a field may come to, in bytes.
const FIELD_BYTES_MAX: usize = 64 * 1024;

/// What a field is to hold, as it is written.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldText {
    /// The same for all.
    Constant(Json),
    /// A template.
    Template(String),
}

/// Fields of a record, ready to be filled in.
#[derive(Debug, Clone)]
pub struct Fields {
    fields: Vec<(String, Kind)>,
    compiled: Compiled,
}

#[derive(Debug, Clone)]
enum Kind {
    Constant(Json),
    /// One tag, and nothing else.
    Value(String),
    Text(String),
}

impl Fields {
    /// Reads all of them. `roots` are what may be named in them, besides `now` and `today`.
    ///
    /// # Errors
    /// All mistakes, each with the name of its field; lines and columns are those in its text.
    pub fn compile(fields: &[(String, FieldText)], roots: &[&str]) -> Result<Self, Vec<(String, Mistake)>> {
        let mut compiled = Compiled::nothing();
        let (mut kinds, mut wrong) = (Vec::new(), Vec::new());
        for (position, (name, text)) in fields.iter().enumerate() {
            let kind = match text {
                FieldText::Constant(value) => Kind::Constant(value.clone()),
                FieldText::Template(text) => {
                    let mut mistakes = Vec::new();
                    check(name, text, roots, &mut compiled.used, &mut mistakes);
                    let template = format!("{position}/{name}.text");
                    let (source, kind) = match one_tag(text) {
                        Some(inner) => {
                            (format!("{{% set {VALUE} = {inner} %}}"), Kind::Value(template.clone()))
                        }
                        None => (text.clone(), Kind::Text(template.clone())),
                    };
                    if mistakes.is_empty()
                        && let Err(error) = compiled.environment.add_template_owned(template, source)
                    {
                        let detail = error.detail().unwrap_or("it cannot be read").to_owned();
                        mistakes.push(Mistake::at("T0201", name, text, 0, text.len(), detail));
                    }
                    wrong.extend(mistakes.into_iter().map(|mistake| (name.clone(), mistake)));
                    kind
                }
            };
            kinds.push((name.clone(), kind));
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        compiled.gather_needs();
        Ok(Self { fields: kinds, compiled })
    }

    /// What they name, each with the field it stands in as its file.
    pub fn used(&self) -> &[Used] {
        self.compiled.used()
    }

    /// The value of each; `Null` where there is none.
    ///
    /// # Errors
    /// `content.var_missing` where a text lacks something in its middle, `content.var_invalid` where a value is a list or a map,
    /// `content.too_large`, `content.author_abort`, `content.render_error`; each says which field.
    pub fn render(&self, scope: &Scope<'_>) -> Result<BTreeMap<String, Json>, Refusal> {
        let values = self.compiled.values(scope);
        let mut all = BTreeMap::new();
        for (name, kind) in &self.fields {
            let of_field =
                |refused: Refusal| Refusal { saw: format!("{} (in the {name})", refused.saw), ..refused };
            let value = match kind {
                Kind::Constant(value) => value.clone(),
                Kind::Text(template) => {
                    let text = self.compiled.part(template, &values)?;
                    Json::from(bounded(text.trim()).map_err(of_field)?)
                }
                Kind::Value(template) => {
                    let value = self.compiled.value(template, &values, VALUE)?;
                    plain(&value).map_err(of_field)?
                }
            };
            let value = if value.as_str() == Some("") { Json::Null } else { value };
            all.insert(name.clone(), value);
        }
        Ok(all)
    }
}

/// What stands between `{{` and `}}`, where there is nothing else.
fn one_tag(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let inner = inner.strip_prefix('-').unwrap_or(inner);
    let inner = inner.strip_suffix('-').unwrap_or(inner);
    (!inner.contains("{{") && !inner.contains("}}") && !inner.contains("%}")).then_some(inner)
}

/// Looks through one text: syntax, names, and whether it names what it may.
fn check(field: &str, text: &str, roots: &[&str], used: &mut Vec<Used>, wrong: &mut Vec<Mistake>) {
    let whole = Text { file: field, whole: text, text, from: 0, exact: true };
    let found = lint::look(whole);
    wrong.extend(found.mistakes.iter().cloned());
    let mut named = Vec::new();
    found.judge(whole, &found.assigned, &mut named, wrong);
    for one in &named {
        let root = one.root.as_str();
        let is_time = root == "now" || root == "today" || crate::names::days_from_today(root).is_some();
        if !is_time && !roots.contains(&root) {
            let known = roots.join("`, `");
            let mut mistake =
                Mistake::at("T0203", field, text, 0, text.len(), format!("there is no `{root}` here"));
            mistake.hint = Some(format!("a record is made of `{known}`, `now` and `today`"));
            (mistake.line, mistake.column, mistake.len) = (one.line, one.column, one.len);
            wrong.push(mistake);
        }
    }
    used.extend(named);
}

/// A text that is not too long.
fn bounded(text: &str) -> Result<&str, Refusal> {
    match text.len() <= FIELD_BYTES_MAX {
        true => Ok(text),
        false => Err(refusal(Reason::ContentTooLarge, "it is longer than 64 KiB")),
    }
}

/// A value as it is written: dates and times as texts (RFC 3339, times in UTC).
fn plain(value: &minijinja::Value) -> Result<Json, Refusal> {
    if value.downcast_object_ref::<Moment>().is_some() {
        return Ok(Json::from(value.to_string()));
    }
    use minijinja::value::ValueKind;
    Ok(match value.kind() {
        ValueKind::Undefined | ValueKind::None => Json::Null,
        ValueKind::Bool => Json::Bool(value.is_true()),
        ValueKind::Number => match (value.as_i64(), f64::try_from(value.clone()).ok()) {
            (Some(integer), _) if value.is_integer() => Json::from(integer),
            (_, Some(number)) => Number::from_f64(number).map_or(Json::Null, Json::Number),
            (_, None) => Json::Null,
        },
        ValueKind::String => Json::from(bounded(value.as_str().unwrap_or_default())?),
        _ => {
            let what = "a list or a map is no value of a field: join it, as in `| join(\"; \")`";
            return Err(refusal(Reason::VarInvalid, what));
        }
    })
}

impl Compiled {
    /// A template of no files.
    fn nothing() -> Self {
        Self {
            environment: crate::compile::environment(),
            variants: BTreeMap::new(),
            locales: Vec::new(),
            used: Vec::new(),
            needs: BTreeMap::new(),
            places: BTreeMap::new(),
            files: Vec::new(),
            digest: String::new(),
            words: String::new(),
            warnings: Vec::new(),
        }
    }
}
