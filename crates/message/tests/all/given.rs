//! A small project's templates, and people to write to.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use message::{Compiled, Mistake, Rendered, Scope, Sources, compile};
use model::{Refusal, TemplateName, Value};

/// Sources of files.
pub(crate) fn sources(files: &[(&str, &str)]) -> Sources {
    Sources(files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
}

/// The project writes in English and German.
pub(crate) fn locales() -> Vec<String> {
    vec!["en".to_owned(), "de".to_owned()]
}

/// Compiles the template `m`.
pub(crate) fn compiled(files: &[(&str, &str)]) -> Result<Compiled, Vec<Mistake>> {
    compile(&sources(files), &TemplateName::known("m"), &locales())
}

/// A text-only message with this text.
pub(crate) fn text_message(text: &str) -> Result<Compiled, Vec<Mistake>> {
    compiled(&[("m.txt", &format!("---\nsubject: s\n---\n{text}"))])
}

/// Values by name.
pub(crate) fn values(entries: &[(&str, Value)]) -> BTreeMap<String, Value> {
    entries.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

/// A text.
pub(crate) fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// A person, and what surrounds the message.
pub(crate) struct Reader {
    pub(crate) profile: BTreeMap<String, Value>,
    pub(crate) account: BTreeMap<String, Value>,
    pub(crate) entry: BTreeMap<String, Value>,
    pub(crate) with: BTreeMap<String, Value>,
    pub(crate) locale: String,
    pub(crate) zone: TimeZone,
    pub(crate) links: bool,
}

impl Reader {
    pub(crate) fn new(profile: &[(&str, Value)]) -> Self {
        Self {
            profile: values(profile),
            account: BTreeMap::new(),
            entry: BTreeMap::new(),
            with: BTreeMap::new(),
            locale: "en".to_owned(),
            zone: TimeZone::get("Europe/Berlin").unwrap(),
            links: true,
        }
    }

    pub(crate) fn of(profile: BTreeMap<String, Value>) -> Self {
        Self { profile, ..Self::new(&[]) }
    }

    pub(crate) fn german(mut self) -> Self {
        self.locale = "de".to_owned();
        self
    }

    pub(crate) fn render(&self, compiled: &Compiled) -> Result<Rendered, Refusal> {
        compiled.render(&self.scope())
    }

    /// What may be named.
    pub(crate) fn scope(&self) -> Scope<'_> {
        Scope {
            profile: &self.profile,
            profile_id: "c-17",
            account: &self.account,
            entry: &self.entry,
            with: &self.with,
            playbook_name: "win_back",
            playbook_title: "Win back",
            step: "nudge",
            brand_title: "Acme",
            locale: &self.locale,
            default_locale: "en",
            zone: &self.zone,
            now: "2026-03-03T22:30:00Z".parse::<Timestamp>().unwrap(),
            unsubscribe_url: self.links.then_some("https://mail.acme.test/u/TOKEN_1-2"),
            preferences_url: self.links.then_some("https://mail.acme.test/p/TOKEN?a=1&b=2"),
            postal_address: self.links.then_some("Acme GmbH, Example Street 1, Berlin"),
        }
    }
}
