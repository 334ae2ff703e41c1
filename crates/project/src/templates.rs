//! Templates: compiled for the playbooks that send them, and rendered for people who are made up.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use message::{Compiled, Mistake, Scope, Sources};
use model::id::ContentHash;
use model::name::{StepId, TemplateName};
use model::playbook::{Playbook, Send};
use model::policy::{MessageClass, Policy};
use model::value::ValueType;
use model::{Reason, Refusal, Value};

use crate::Project;
use crate::columns::{ACCOUNTS, Base, Columns, PROFILES, Typed, base, entry_columns, has};
use crate::diagnostic::Diagnostic;
use crate::playbook::Written;
use crate::query::read_text;
use crate::read::{Cx, Named};
use crate::source::{Files, Span};
use model::suggest::nearest;

/// The folder of templates.
const FOLDER: &str = "templates";

/// Reads the files of templates, layouts and parts; hidden files and folders are left alone.
pub(crate) fn read(cx: &mut Cx<'_>) -> Sources {
    crate::load::warn_of_strays(FOLDER, &[".mjml", ".html", ".md", ".txt"], cx);
    let mut sources = Sources::default();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(cx.dir.join(FOLDER)).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && !entry.path().is_dir() {
            names.push(name);
        }
    }
    names.sort();
    for name in names {
        let path = format!("{FOLDER}/{name}");
        match read_text(&cx.dir.join(&path)) {
            Ok(text) => {
                cx.files.add(path, text.clone());
                sources.0.insert(name, text);
            }
            Err(why) => {
                // The name is known, so that nobody says that there is no such template.
                cx.define(Named::Template, name.split('.').next().unwrap_or_default());
                cx.push(Diagnostic::of_file("E0101", path, format!("cannot read this file: {why}")));
            }
        }
    }
    for name in sources.templates() {
        cx.define(Named::Template, name.as_str());
    }
    for stray in sources.strays() {
        let diagnostic = diagnostic(&cx.files, &stray);
        cx.push(diagnostic);
    }
    sources
}

/// A mistake of a template as a diagnostic, with its source line.
fn diagnostic(files: &Files, mistake: &Mistake) -> Diagnostic {
    Diagnostic {
        code: mistake.code,
        warning: mistake.warning,
        hint: mistake.hint.clone(),
        ..at(files, "", &mistake.message, (&mistake.file, mistake.line, mistake.column, mistake.len))
    }
}

/// A diagnostic at a line and column of a template's file.
pub(crate) fn at(
    files: &Files,
    code: &'static str,
    message: &str,
    (file, line, column, len): (&str, usize, usize, usize),
) -> Diagnostic {
    let path = format!("{FOLDER}/{file}");
    let source = files
        .find(&path)
        .and_then(|file| files.text(file).lines().nth(line.checked_sub(1)?))
        .unwrap_or_default();
    Diagnostic { line, column, len, source: source.to_owned(), ..Diagnostic::of_file(code, path, message) }
}

/// Compiles every template. With a policy, what the class of a message asks for is checked at the sends.
pub(crate) fn compile(
    sources: &Sources,
    locales: &[String],
    playbooks: &[Written],
    policy: Option<&Policy>,
    cx: &mut Cx<'_>,
) -> BTreeMap<TemplateName, Arc<Compiled>> {
    let mut compiled = BTreeMap::new();
    for name in sources.templates() {
        let made = message::compile(sources, &name, locales);
        for mistake in made.as_ref().map_or_else(Vec::as_slice, Compiled::warnings) {
            let diagnostic = diagnostic(&cx.files, mistake);
            cx.push(diagnostic);
        }
        compiled.extend(made.ok().map(|made| (name, Arc::new(made))));
    }
    for written in playbooks {
        for (id, send) in written.playbook.sends() {
            let span = written.sends.iter().find(|(known, _)| known == id).map(|(_, span)| span);
            let (Some(template), Some(span)) = (compiled.get(&send.template), span) else { continue };
            if let Some(class) =
                policy.and_then(|policy| policy.purposes.get(&send.purpose)).map(|purpose| purpose.class)
            {
                check_class(template, send, class, *span, cx);
                check_with(template, send, *span, cx);
            }
        }
    }
    compiled
}

/// What each send of a playbook says, as far as its template could be compiled.
pub(crate) fn contents(
    playbook: &Playbook,
    compiled: &BTreeMap<TemplateName, Arc<Compiled>>,
) -> BTreeMap<StepId, ContentHash> {
    let sends = playbook.sends().into_iter();
    let of = |(id, send): (&StepId, &Send)| {
        Some((id.clone(), ContentHash::derive(compiled.get(&send.template)?.words(), &send.with)))
    };
    sends.filter_map(of).collect()
}

/// What advertises says who it is and how to be rid of it.
fn check_class(template: &Compiled, send: &Send, class: MessageClass, span: Span, cx: &mut Cx<'_>) {
    if class == MessageClass::Transactional {
        return;
    }
    for (needed, prints) in
        [("unsubscribe_url", template.uses_unsubscribe()), ("postal_address", template.uses_postal_address())]
    {
        if !prints {
            let message = format!(
                "the template `{}` does not print `{needed}` in every language and part",
                send.template
            );
            let hint = format!(
                "a message of class {} must: write `{{{{ {needed} }}}}` into it, or into its layout",
                class.as_str()
            );
            cx.mistake("E0502", span, message).hint(hint);
        }
    }
}

/// What a template prints of `with`, the step tells it.
fn check_with(template: &Compiled, send: &Send, span: Span, cx: &mut Cx<'_>) {
    let mut said = Vec::new();
    for used in template.used().iter().filter(|used| used.root == "with" && !used.guarded) {
        let Some(name) =
            used.name.as_ref().filter(|name| !send.with.contains_key(*name) && !said.contains(name))
        else {
            continue;
        };
        let meant = nearest(name, send.with.keys().map(String::as_str));
        let message =
            format!("the template `{}` prints `with.{name}`, and this step does not tell it", send.template);
        let mistake = cx.mistake("E0403", span, message);
        match meant {
            Some(meant) => mistake.hint(format!("the step tells it `{meant}`")),
            None => mistake.hint(format!("write `send: {{template: {}, with: {{{name}: ...}}}}`, or `with.{name} | default(...)` in the template", send.template)),
        };
        said.push(name);
    }
}

/// The files that a version of a playbook pins, in the order of their names: all its sends reach.
pub(crate) fn pinned_files(playbook: &Playbook, sources: &Sources) -> Vec<(String, String)> {
    let mut files = BTreeMap::new();
    for (_, send) in playbook.sends() {
        files.extend(sources.reached_from(&send.template).0);
    }
    files.into_iter().collect()
}

/// What the database said, against what templates name; then every message is made for people who are made up.
pub(crate) fn check(project: &Project, columns: &Columns, found: &mut Vec<Diagnostic>) {
    let mut sent = BTreeMap::new();
    for playbook in project.playbooks.values() {
        for (id, send) in playbook.sends() {
            let Some(template) = project.compiled.get(&send.template) else { continue };
            sent.insert(&send.template, template);
            let known = found.len();
            check_columns(project, columns, playbook, template, found);
            // What lacks a column lacks it for everybody: that is said once.
            if found.len() > known {
                continue;
            }
            if let Some(trial) = Trial::of(project, columns, playbook, (id.as_str(), send), template) {
                trial.run(found);
            }
        }
    }
    for (name, template) in sent {
        for locale in template.missing_locales(&project.settings.locales) {
            let file = template_file(project, name);
            let mut warning = Diagnostic::of_file(
                "E0404",
                file,
                format!("the template `{name}` is not written in `{locale}`"),
            );
            warning.hint("who reads that gets another language").warn();
            found.push(warning);
        }
    }
}

/// The first file of a template.
fn template_file(project: &Project, name: &TemplateName) -> String {
    let first = project.templates.0.keys().find(|file| file.split('.').next() == Some(name.as_str()));
    format!("{FOLDER}/{}", first.map_or(name.as_str(), String::as_str))
}

/// Columns that a template names are there.
fn check_columns(
    project: &Project,
    columns: &Columns,
    playbook: &Playbook,
    template: &Compiled,
    found: &mut Vec<Diagnostic>,
) {
    let entry = entry_columns(project, columns, playbook);
    for used in template.used() {
        let Some(name) = &used.name else { continue };
        let known: Option<(&Typed, &str)> = match used.root.as_str() {
            "profile" => columns.profiles.as_ref().map(|of| (of, PROFILES)),
            "account" => columns.accounts.as_ref().map(|of| (of, ACCOUNTS)),
            "entry" => entry.as_ref().map(|(of, what)| (of, what.as_str())),
            _ => None,
        };
        let Some((of, what)) = known else { continue };
        if has(of, name) {
            continue;
        }
        let place = (used.file.as_str(), used.line, used.column, used.len);
        let mut mistake = at(&project.files, "E0304", &format!("{what} has no column `{name}`"), place);
        match nearest(name, of.iter().map(|(known, _)| known.as_str())) {
            Some(meant) => mistake.did_you_mean(Some(&format!("{}.{meant}", used.root))),
            None => mistake.hint(format!("the playbook `{}` sends it", playbook.name)),
        };
        found.push(mistake);
    }
}

/// Somebody who is made up.
struct MadeUp {
    profile: BTreeMap<String, Value>,
    account: BTreeMap<String, Value>,
    entry: BTreeMap<String, Value>,
}

/// One send, tried on people who are made up.
struct Trial<'a> {
    project: &'a Project,
    playbook: &'a Playbook,
    send: &'a Send,
    step: &'a str,
    template: &'a Compiled,
    profiles: &'a Typed,
    /// `None`: the project has no accounts.
    accounts: Option<&'a Typed>,
    entry: Typed,
}

impl<'a> Trial<'a> {
    /// `None` where something that the message is made of is not known, because it is wrong: that is reported, and what the
    /// message would lack is not reported again.
    fn of(
        project: &'a Project,
        columns: &'a Columns,
        playbook: &'a Playbook,
        (step, send): (&'a str, &'a Send),
        template: &'a Compiled,
    ) -> Option<Self> {
        let purpose = project.policy.purposes.get(&send.purpose)?;
        let brand = project.settings.brands.get(&purpose.brand)?;
        if purpose.class != MessageClass::Transactional
            && (brand.public_url.is_none() || brand.postal_address.is_none())
        {
            return None;
        }
        let profiles = columns.profiles.as_ref()?;
        let accounts = columns.accounts.as_ref();
        if project.data.accounts.is_some() && accounts.is_none() {
            return None;
        }
        let (entry, _) = entry_columns(project, columns, playbook)?;
        Some(Self { project, playbook, send, step, template, profiles, accounts, entry })
    }

    fn run(&self, found: &mut Vec<Diagnostic>) {
        let data = &self.project.data;
        let profile = self.sample_columns(self.profiles, &data.profiles.columns);
        let account = data.accounts.as_ref().zip(self.accounts).map(|(accounts, of)| {
            let mut columns = self.sample_columns(of, &accounts.columns);
            columns.push(("id".to_owned(), Some(ValueType::Text), Vec::new()));
            columns
        });
        let entry = match base(&self.project.segments, &self.playbook.enter) {
            Base::Query(_, query) => self.sample_columns(&self.entry, &query.columns),
            Base::None | Base::Unknown => Vec::new(),
        };
        let profiles = message::samples(&profile).into_iter();
        let accounts = message::samples(&account.unwrap_or_default()).into_iter();
        let entries = message::samples(&entry).into_iter();
        let settings = &self.project.settings;
        let default = settings.locales.first().map_or("en", String::as_str);
        for (((who, profile), (_, account)), (_, entry)) in profiles.zip(accounts).zip(entries) {
            let person = MadeUp { profile, account, entry };
            for locale in &settings.locales {
                if let Err(refusal) = self.render(&person, locale, default) {
                    found.extend(self.judge(who, &refusal));
                }
            }
        }
    }

    /// Columns but `id`, with what is declared of them.
    fn sample_columns(
        &self,
        columns: &Typed,
        declared: &BTreeMap<String, model::query::Column>,
    ) -> Vec<message::Column> {
        let columns = columns.iter().filter(|(name, _)| name != "id");
        let column = |(name, kind): &(String, Option<ValueType>)| {
            let declared = declared.get(name);
            let kind = declared.and_then(|declared| declared.kind).or(*kind);
            (name.clone(), kind, declared.map(|declared| declared.values.clone()).unwrap_or_default())
        };
        columns.map(column).collect()
    }

    fn render(&self, person: &MadeUp, locale: &str, default: &str) -> Result<(), Refusal> {
        let (settings, policy) = (&self.project.settings, &self.project.policy);
        let purpose = policy.purposes.get(&self.send.purpose);
        let brand = purpose.and_then(|purpose| settings.brands.get(&purpose.brand));
        let public = brand
            .and_then(|brand| brand.public_url.as_deref())
            .filter(|_| purpose.is_some_and(|purpose| purpose.class != MessageClass::Transactional));
        let link = |page: &str| public.map(|base| format!("{base}/{page}/token"));
        let (unsubscribe, preferences) = (link("u"), link("p"));
        let scope = Scope {
            profile: &person.profile,
            profile_id: "1",
            account: &person.account,
            entry: &person.entry,
            with: &self.send.with,
            playbook_name: self.playbook.name.as_str(),
            playbook_title: &self.playbook.title,
            step: self.step,
            brand_title: brand.map_or("", |brand| brand.title.get(locale, &settings.locales)),
            locale,
            default_locale: default,
            zone: &settings.timezone,
            now: MADE_UP_NOW,
            unsubscribe_url: unsubscribe.as_deref(),
            preferences_url: preferences.as_deref(),
            postal_address: brand.and_then(|brand| brand.postal_address.as_deref()),
        };
        self.template.render(&scope).map(drop)
    }

    /// What it means that a message is not made: for somebody of whom nothing is known it may be meant so.
    fn judge(&self, who: &str, refusal: &Refusal) -> Option<Diagnostic> {
        let template = &self.send.template;
        let warns = match (who, refusal.reason) {
            (_, Reason::AuthorAbort) | ("hostile", Reason::VarInvalid | Reason::VarMissing) => return None,
            ("empty", Reason::VarMissing | Reason::ContentEmpty) => true,
            _ => false,
        };
        let whom = match who {
            "full" => "somebody of whom everything is known",
            "empty" => "somebody of whom nothing is known",
            _ => "somebody who means harm",
        };
        let (why, place) = split_place(&refusal.saw);
        let code = if warns { "E0402" } else { "E0401" };
        let message = format!("the template `{template}` gives no message for {whom}: {why}");
        let mut diagnostic = match place {
            Some((file, line)) => self.line(code, &message, file, line),
            None => Diagnostic::of_file(code, template_file(self.project, template), message),
        };
        match refusal.reason {
            Reason::VarMissing if warns => {
                diagnostic
                    .hint("they will not get it; if they should, give the value a `default(...)`")
                    .warn();
            }
            Reason::VarMissing
                if ["unsubscribe_url", "preferences_url"].iter().any(|link| why.contains(link)) =>
            {
                diagnostic.hint("transactional messages have no such link: ask with `{% if ... %}`, or use another layout");
            }
            _ => {}
        }
        if warns {
            diagnostic.warn();
        }
        Some(diagnostic)
    }

    /// A diagnostic about a whole line of a template.
    fn line(&self, code: &'static str, message: &str, file: &str, line: usize) -> Diagnostic {
        let mut diagnostic = at(&self.project.files, code, message, (file, line, 1, 1));
        let indent = diagnostic.source.chars().take_while(|c| c.is_whitespace()).count();
        diagnostic.column = indent + 1;
        diagnostic.len = diagnostic.source.trim().chars().count();
        diagnostic
    }
}

/// When messages for people who are made up are made: 2026-03-03, a Tuesday.
const MADE_UP_NOW: Timestamp = Timestamp::constant(1_772_528_400, 0);

/// What a refusal saw, and the file and line it names in brackets at its end.
fn split_place(saw: &str) -> (&str, Option<(&str, usize)>) {
    let Some((why, place)) = saw.rsplit_once(" (templates/") else { return (saw, None) };
    let place = place.strip_suffix(')').and_then(|place| place.rsplit_once(':'));
    match place.and_then(|(file, line)| Some((file, line.parse().ok()?))) {
        Some(place) => (why, Some(place)),
        None => (saw, None),
    }
}
