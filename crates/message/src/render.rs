//! A compiled template filled in for one person. A refusal says what was missing or wrong, and never what a value was.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use jiff::ToSpan;
use jiff::tz::TimeZone;
use minijinja::value::{Object, Value as Shown};
use minijinja::{Error, ErrorKind};
use model::{Reason, Refusal, Value};

use crate::compile::{Compiled, Needs, Variant};
use crate::date::Language;
use crate::filters::{Fallback, Moment, Reader, Stop};
use crate::mail::{checked, refusal};
use crate::mistake::line_column;
use crate::scope::Scope;
use crate::{locale, names, text};

/// A message for one person. Does not show itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Rendered {
    /// One line, never empty.
    pub subject: String,
    /// What mail programs show beside the subject. It stands hidden in the HTML.
    pub preheader: Option<String>,
    /// `None`: a message of text only.
    pub html: Option<String>,
    /// The text part.
    pub text: String,
    /// The template's own sender.
    pub from: Option<String>,
    /// The template's own address for answers.
    pub reply_to: Option<String>,
    /// The template's own headers, in its order.
    pub headers: Vec<(String, String)>,
    /// Whether a `default` stood in for a value that the person's data lack, in any part. What is asked about with `if` is not meant.
    pub fallback: bool,
}

impl fmt::Debug for Rendered {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let html_bytes = self.html.as_ref().map_or(0, String::len);
        write!(out, "Rendered([{} bytes of text, {html_bytes} of HTML])", self.text.len())
    }
}

/// No part of a message is larger.
const PART_BYTES_MAX: usize = 2 * 1024 * 1024;

impl Compiled {
    /// Fills in one person's values.
    ///
    /// # Errors
    /// `content.var_missing` where the template prints what is not there, `content.author_abort` where it says `skip`,
    /// `content.var_invalid` where a header would hold a line break, `content.too_large`, `content.empty`,
    /// `content.render_error` for all else.
    pub fn render(&self, scope: &Scope<'_>) -> Result<Rendered, Refusal> {
        let variant = self.variant(scope).ok_or_else(|| {
            refusal(
                Reason::RenderError,
                "the message is not written in the reader's language, nor in the default one",
            )
        })?;
        let fallback = Arc::new(Fallback::default());
        let root = self.root(scope).with(names::FALLBACK, Shown::from_dyn_object(Arc::clone(&fallback)));
        let values = Shown::from_object(root.clone());
        let line = |name: &Option<String>, what: &str| -> Result<Option<String>, Refusal> {
            let Some(name) = name else { return Ok(None) };
            let text = self.part(name, &values)?;
            Ok(Some(checked(what, text.trim())?.to_owned()).filter(|line| !line.is_empty()))
        };
        let subject = line(&variant.subject, "the subject")?
            .ok_or_else(|| refusal(Reason::ContentEmpty, "the subject is empty"))?;
        let preheader = line(&variant.preheader, "the preheader")?;
        let from = line(&variant.from, "the sender")?;
        let reply_to = line(&variant.reply_to, "the address for answers")?;
        let mut headers = Vec::with_capacity(variant.headers.len());
        for (name, template) in &variant.headers {
            let value = self.part(template, &values)?;
            headers.push((name.clone(), checked(&format!("the header `{name}`"), value.trim())?.to_owned()));
        }
        let values = match &preheader {
            Some(preheader) => {
                Shown::from_object(root.with(names::PREHEADER, Shown::from(preheader.as_str())))
            }
            None => values,
        };
        let html = variant.html.as_ref().map(|name| self.part(name, &values)).transpose()?;
        let text = self.part(&variant.text, &values)?;
        let text = if variant.derived { text::tidy(&text) } else { text };
        if html.is_none() && text.trim().is_empty() {
            return Err(refusal(Reason::ContentEmpty, "the message has no text"));
        }
        let fallback = fallback.was_used();
        Ok(Rendered { subject, preheader, html, text, from, reply_to, headers, fallback })
    }

    /// The message for the reader: by locale, language, without a language, and at last in the default one.
    fn variant(&self, scope: &Scope<'_>) -> Option<&Variant> {
        let (reader, default) = (locale::normal(scope.locale), locale::normal(scope.default_locale));
        locale::chain(&reader)
            .into_iter()
            .chain(locale::chain(&default))
            .find_map(|wanted| self.variants.get(wanted))
    }

    /// The locale a message is written in: the reader's, or their language, if it is one of ours, else the default.
    fn written_in<'a>(&'a self, scope: &Scope<'a>) -> &'a str {
        let reader = locale::normal(scope.locale);
        let ours = |wanted: &str| {
            let project =
                self.locales.iter().map(String::as_str).find(|known| locale::normal(known) == wanted);
            project.or_else(|| {
                self.variants.keys().map(String::as_str).find(|known| !known.is_empty() && *known == wanted)
            })
        };
        let [whole, language, _] = locale::chain(&reader);
        ours(whole).or_else(|| ours(language)).unwrap_or(if self.locales.is_empty() {
            scope.locale
        } else {
            scope.default_locale
        })
    }

    /// What the templates may name, for one person.
    pub(crate) fn values(&self, scope: &Scope<'_>) -> Shown {
        Shown::from_object(self.root(scope))
    }

    /// What a template gives to a name of its own; undefined where that is missing.
    pub(crate) fn value(&self, name: &str, values: &Shown, variable: &str) -> Result<Shown, Refusal> {
        let state = self
            .environment
            .get_template(name)
            .and_then(|template| Ok(template.render_captured(values.clone())?.state().lookup(variable)));
        state.map(Option::unwrap_or_default).map_err(|error| self.refused(name, &error))
    }

    /// One template, bounded.
    pub(crate) fn part(&self, name: &str, values: &Shown) -> Result<String, Refusal> {
        let mut capped = Capped(Vec::new());
        let rendered = self
            .environment
            .get_template(name)
            .and_then(|template| template.render_captured_to(values.clone(), &mut capped).map(drop));
        rendered.map_err(|error| self.refused(name, &error))?;
        String::from_utf8(capped.0).map_err(|_| refusal(Reason::RenderError, "the message is not text"))
    }

    /// What an error means for the message. Of its text only what cannot hold a value is kept.
    fn refused(&self, name: &str, error: &Error) -> Refusal {
        let place = self.place(name, error);
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
        let mut missing = None;
        while let Some(source) = next {
            if let Some(stop) = source.downcast_ref::<Stop>() {
                return match stop {
                    Stop::Skipped(why) => refusal(Reason::AuthorAbort, &format!("{why}{place}")),
                    Stop::Wrong(what) => refusal(Reason::RenderError, &format!("{what}{place}")),
                };
            }
            if let Some(error) = source.downcast_ref::<Error>() {
                missing = missing.or_else(|| missing_value(error));
                if matches!(error.kind(), ErrorKind::OutOfFuel | ErrorKind::WriteFailure) {
                    return refusal(
                        Reason::ContentTooLarge,
                        &format!("the message is larger, or takes more work, than one may{place}"),
                    );
                }
            }
            next = source.source();
        }
        match missing {
            Some(value) => refusal(Reason::VarMissing, &format!("{value} is missing{place}")),
            None => refusal(Reason::RenderError, &format!("{}{place}", error.kind())),
        }
    }

    /// ` (templates/nudge.mjml:12)`, if it is known.
    fn place(&self, name: &str, error: &Error) -> String {
        let part = self.places.get(name);
        let at = error.range().map(|range| range.start);
        let place = part.zip(at).and_then(|(part, at)| part.place(at));
        match place.and_then(|place| {
            self.files.get(place.file).map(|(file, text)| (file, line_column(text, place.at).0))
        }) {
            Some((file, line)) => format!(" (templates/{file}:{line})"),
            None => {
                let part =
                    name.rsplit('/').next().and_then(|part| part.split('.').next()).unwrap_or_default();
                format!(" (in the {part})")
            }
        }
    }

    /// What the templates may name, as far as they name it.
    fn root(&self, scope: &Scope<'_>) -> Root {
        let mut root = Vec::with_capacity(16);
        let written_in = self.written_in(scope);
        let zone = scope.zone;
        let today = scope.now.to_zoned(zone.clone()).date();
        let reader = Reader { language: Language::of(written_in), zone: zone.clone() };
        root.push((Cow::Borrowed(names::READER), Shown::from_object(reader)));
        root.push((Cow::Borrowed("locale"), Shown::from(written_in)));
        for (name, needs) in self.needs.iter().filter(|(name, _)| *name != "locale") {
            let value = match name.as_str() {
                "profile" => held(needs, scope.profile, Some(scope.profile_id), zone),
                "account" => held(needs, scope.account, None, zone),
                "entry" => held(needs, scope.entry, None, zone),
                "with" => held(needs, scope.with, None, zone),
                "playbook" => texts(&[("name", scope.playbook_name), ("title", scope.playbook_title)]),
                "brand" => texts(&[("title", scope.brand_title)]),
                "step" => there(scope.step).unwrap_or_default(),
                "now" => Shown::from_object(Moment::time(scope.now, zone)),
                "unsubscribe_url" => scope.unsubscribe_url.and_then(there).unwrap_or_default(),
                "preferences_url" => scope.preferences_url.and_then(there).unwrap_or_default(),
                "postal_address" => scope.postal_address.and_then(there).unwrap_or_default(),
                other => {
                    let days = if other == "today" { Some(0) } else { names::days_from_today(other) };
                    let day = days.and_then(|days| today.checked_add(days.days()).ok());
                    day.map(|day| Shown::from_object(Moment::day(day, zone))).unwrap_or_default()
                }
            };
            if !value.is_undefined() {
                root.push((Cow::Owned(name.clone()), value));
            }
        }
        Root(root)
    }
}

/// The values of a holder that are used.
fn held(needs: &Needs, values: &BTreeMap<String, Value>, id: Option<&str>, zone: &TimeZone) -> Shown {
    let one = |name: &String| Some((name.clone(), shown(values.get(name)?, zone)?));
    let used: Vec<(String, Shown)> = if needs.all {
        values.keys().filter_map(one).collect()
    } else {
        needs.names.iter().filter_map(one).collect()
    };
    let id = id.and_then(there).map(|id| ("id".to_owned(), id));
    Shown::from_pairs(used.into_iter().filter(|(name, _)| id.is_none() || name != "id").chain(id.clone()))
}

/// The top of the scope: few names, looked through.
#[derive(Clone)]
struct Root(Vec<(Cow<'static, str>, Shown)>);

impl Root {
    fn with(mut self, name: &'static str, value: Shown) -> Self {
        self.0.push((Cow::Borrowed(name), value));
        self
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("[scope]")
    }
}

impl Object for Root {
    fn get_value(self: &Arc<Self>, key: &Shown) -> Option<Shown> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Shown> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone())
    }
}

/// What was missing, if an error is about that: `` `profile.first_name` ``.
fn missing_value(error: &Error) -> Option<String> {
    let detail = error.detail().unwrap_or_default();
    if let Some(end) = detail.find("` is undefined") {
        let start = detail[..end].rfind('`')?;
        return Some(format!("`{}`", &detail[start + 1..end]));
    }
    (error.kind() == ErrorKind::UndefinedError).then(|| "a value".to_owned())
}

/// A text, unless it is empty.
fn there(text: &str) -> Option<Shown> {
    (!text.is_empty()).then(|| Shown::from(text))
}

/// Texts by name, those that there are.
fn texts(entries: &[(&'static str, &str)]) -> Shown {
    Shown::from_pairs(entries.iter().filter_map(|(name, text)| Some((*name, there(text)?))))
}

/// A value as templates see it; `None` where there is none: NULL and empty text are both undefined.
fn shown(value: &Value, zone: &TimeZone) -> Option<Shown> {
    Some(match value {
        Value::Missing => return None,
        Value::Boolean(boolean) => Shown::from(*boolean),
        Value::Integer(integer) => Shown::from(*integer),
        Value::Number(number) => whole(*number),
        Value::Text(text) => there(text)?,
        Value::Date(date) => Shown::from_object(Moment::day(*date, zone)),
        Value::Time(time) => Shown::from_object(Moment::time(*time, zone)),
        Value::Json(json) => from_json(json)?,
    })
}

/// A number; one without decimals is printed without.
fn whole(number: f64) -> Shown {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "whole, and within what a double holds exactly")]
    if number.fract() == 0.0 && number.abs() < EXACT {
        Shown::from(number as i64)
    } else {
        Shown::from(number)
    }
}

fn from_json(json: &serde_json::Value) -> Option<Shown> {
    Some(match json {
        serde_json::Value::Null => return None,
        serde_json::Value::Bool(boolean) => Shown::from(*boolean),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Shown::from(integer),
            (None, Some(number)) => whole(number),
            (None, None) => return None,
        },
        serde_json::Value::String(text) => there(text)?,
        serde_json::Value::Array(items) => {
            items.iter().map(|item| from_json(item).unwrap_or_default()).collect()
        }
        serde_json::Value::Object(map) => {
            Shown::from_pairs(map.iter().filter_map(|(name, value)| Some((name.clone(), from_json(value)?))))
        }
    })
}

/// Takes no more than a part may hold.
struct Capped(Vec<u8>);

impl io::Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > PART_BYTES_MAX {
            return Err(io::Error::other("too large"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
