//! From the files of a template to what renders it: everything that can be known to be wrong is said here, and everything that
//! is the same for all people is done here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use model::TemplateName;

use crate::expand::{Document, File, expand};
use crate::filters::{self, HEADER_ESCAPE};
use crate::front::{self, Field, Front};
use crate::lint::{self, Found, Text, Used};
use crate::mistake::Mistake;
use crate::pieces::{self, Piece};
use crate::shield::{Restored, Shield, join, prepend};
use crate::source::{FileName, Kind, Sources};
use crate::{html, locale, names, text};

/// A template, ready to be filled in. Cheap to share, not to copy.
#[derive(Clone)]
pub struct Compiled {
    pub(crate) environment: Environment<'static>,
    /// By locale in its normal form; the empty one is for all others.
    pub(crate) variants: BTreeMap<String, Variant>,
    /// The locales the project writes in.
    pub(crate) locales: Vec<String>,
    pub(crate) used: Vec<Used>,
    /// The roots that are used, each with the names that are used of it.
    pub(crate) needs: BTreeMap<String, Needs>,
    /// Where the tags of each template in the environment were written, by the template's name.
    pub(crate) places: BTreeMap<String, Restored>,
    pub(crate) files: Vec<(String, String)>,
    pub(crate) digest: String,
    pub(crate) words: String,
    pub(crate) warnings: Vec<Mistake>,
}

impl fmt::Debug for Compiled {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: Vec<&str> = self.files.iter().map(|(name, _)| name.as_str()).collect();
        out.debug_struct("Compiled")
            .field("files", &files)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// What a template uses of a root.
#[derive(Debug, Clone, Default)]
pub(crate) struct Needs {
    pub(crate) names: BTreeSet<String>,
    /// A name is computed: any may be asked for.
    pub(crate) all: bool,
}

/// The message for one locale: names of templates in the environment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Variant {
    pub(crate) subject: Option<String>,
    pub(crate) preheader: Option<String>,
    pub(crate) from: Option<String>,
    pub(crate) reply_to: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) html: Option<String>,
    pub(crate) text: String,
    /// The text was derived, and is tidied when it is rendered.
    pub(crate) derived: bool,
    /// Names that every part prints where a reader sees them.
    prints: BTreeSet<&'static str>,
    /// The locale of the file itself.
    own: String,
}

/// What a message is asked about, of what it prints.
const ASKED: [&str; 2] = ["unsubscribe_url", "postal_address"];
/// Work and memory of one part of a message, in minijinja's measure: instructions, and 64 bytes of data each.
const FUEL: u64 = 250_000;
const RECURSION_MAX: usize = 100;
/// A file is not larger, in bytes: positions in it are 32 bits, and nobody reads such a mail.
const FILE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Compiles a template. `locales` are those the project writes in, the default first.
///
/// # Errors
/// All mistakes at once, each with its place. Warnings alone are no error: see [`Compiled::warnings`].
pub fn compile(sources: &Sources, name: &TemplateName, locales: &[String]) -> Result<Compiled, Vec<Mistake>> {
    let closure = sources.reached_from(name);
    if closure.0.is_empty() {
        let file = format!("{name}.mjml");
        let mistake = Mistake::of_file("T0102", &file, format!("there is no template `{name}`"));
        return Err(vec![mistake.hint("add templates/NAME.mjml, .html, .md or .txt")]);
    }
    let mut compiler = Compiler { mistakes: BTreeSet::new(), used: Vec::new() };
    let files = compiler.read(&closure);
    if compiler.failed() {
        return Err(compiler.mistakes.into_iter().collect());
    }
    // References that were made in a hurry are looked for in all files, so that the hint can name what is there.
    let variants = compiler.variants(&files, &closure, sources, name);
    if variants.is_empty() && !compiler.failed() {
        compiler.mistakes.insert(Mistake::of_file(
            "T0102",
            files.first().map_or("", |file| file.name),
            "there is no message in these files",
        ));
    }
    let mut compiled = Compiled {
        environment: environment(),
        needs: BTreeMap::new(),
        variants: BTreeMap::new(),
        locales: locales.to_vec(),
        used: std::mem::take(&mut compiler.used),
        places: BTreeMap::new(),
        files: files.iter().map(|file| (file.name.to_owned(), file.text.to_owned())).collect(),
        digest: digest(closure.0.iter().map(|(name, text)| (name.as_str(), text.as_str()))),
        words: digest(closure.0.iter().map(|(file, text)| (ending(file, name), text.as_str()))),
        warnings: Vec::new(),
    };
    compiled.gather_needs();
    for (reader, made) in variants {
        let variant = compiled.add(&reader, made, &files, &mut compiler.mistakes);
        compiled.variants.insert(reader, variant);
    }
    if compiler.failed() {
        return Err(compiler.mistakes.into_iter().collect());
    }
    compiled.warnings = compiler.mistakes.into_iter().collect();
    Ok(compiled)
}

/// The texts of the parts of one variant, before they are templates.
#[derive(Default)]
struct Made {
    own: String,
    front: Vec<(Part, Restored)>,
    html: Option<Restored>,
    text: Restored,
    derived: bool,
    prints: BTreeSet<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Subject,
    Preheader,
    From,
    ReplyTo,
    Header(String),
}

struct Compiler {
    mistakes: BTreeSet<Mistake>,
    used: Vec<Used>,
}

impl Compiler {
    fn failed(&self) -> bool {
        self.mistakes.iter().any(|mistake| !mistake.warning)
    }

    /// Reads and checks all files.
    fn read<'s>(&mut self, closure: &'s Sources) -> Vec<File<'s>> {
        let mut files = Vec::new();
        let mut checked: Vec<(Text<'s>, Found)> = Vec::new();
        let mut fronts: Vec<(&str, &str, Field)> = Vec::new();
        for (name, text) in &closure.0 {
            let Some(parsed) = FileName::parse(name) else { continue };
            if text.len() > FILE_BYTES_MAX {
                self.mistakes.insert(Mistake::of_file("T0210", name, "the file is larger than 4 MiB"));
                continue;
            }
            let mut wrong = Vec::new();
            let front = front::read(name, text, &mut wrong);
            if let Some(range) = front.range.clone().filter(|range| parsed.is_part() && !range.is_empty()) {
                let mistake =
                    Mistake::at("T0202", name, text, range.start, 1, "a layout or part has no front matter");
                wrong.push(mistake.hint("it belongs to the messages"));
            }
            self.mistakes.extend(wrong);
            let body = Text {
                file: name,
                whole: text,
                text: &text[front.body_at..],
                from: front.body_at,
                exact: true,
            };
            let found = lint::look(body);
            let readable = found.mistakes.iter().all(|mistake| mistake.code != "T0201");
            checked.push((body, found));
            let number = files.len();
            let pieces = if readable {
                pieces::cut(number, name, text, front.body_at..text.len())
            } else {
                Ok(Vec::new())
            };
            let pieces = pieces.unwrap_or_else(|mistake| {
                self.mistakes.insert(mistake);
                Vec::new()
            });
            fronts.extend(fields(&front).into_iter().map(|(_, field)| (name.as_str(), text.as_str(), field)));
            files.push(File { name, text, parsed, front, pieces });
        }
        self.judge(&checked, &fronts);
        files
    }

    /// Judges names, knowing what all files give values to.
    fn judge(&mut self, bodies: &[(Text<'_>, Found)], fronts: &[(&str, &str, Field)]) {
        let assigned: BTreeSet<String> =
            bodies.iter().flat_map(|(_, found)| found.assigned.iter().cloned()).collect();
        let mut wrong = Vec::new();
        for (text, found) in bodies {
            found.judge(*text, &assigned, &mut self.used, &mut wrong);
            wrong.extend(found.mistakes.iter().cloned());
        }
        for (file, whole, field) in fronts {
            let text = Text { file, whole, text: &field.text, from: field.at, exact: field.exact };
            let found = lint::look(text);
            found.judge(text, &found.assigned, &mut self.used, &mut wrong);
            wrong.extend(found.mistakes.iter().cloned());
            match pieces::cut(0, file, &field.text, 0..field.text.len()) {
                Ok(cut)
                    if cut.iter().any(|piece| {
                        matches!(piece, Piece::Tag { word: "extends" | "include" | "block", .. })
                    }) =>
                {
                    wrong.push(Mistake::at(
                        "T0206",
                        file,
                        whole,
                        field.at,
                        1,
                        "the front matter includes nothing",
                    ));
                }
                _ => {}
            }
        }
        self.used.sort();
        self.mistakes.extend(wrong);
    }

    /// The message for each locale that any of the files is written in.
    fn variants(
        &mut self,
        files: &[File<'_>],
        closure: &Sources,
        sources: &Sources,
        name: &TemplateName,
    ) -> BTreeMap<String, Made> {
        let readers: BTreeSet<&str> =
            files.iter().map(|file| file.parsed.locale.as_str()).chain([""]).collect();
        let mut variants = BTreeMap::new();
        for reader in readers {
            let Some((mail, plain)) = self.chosen(files, name.as_str(), reader) else { continue };
            let mut made = Made { own: files[mail].parsed.locale.clone(), ..Made::default() };
            self.front(&files[mail], &mut made);
            self.body(files, closure, sources, (mail, plain), reader, &mut made);
            variants.insert(reader.to_owned(), made);
        }
        variants
    }

    /// The file of the message for a reader, and the file of its text part if it has one of its own in the same language.
    fn chosen(&mut self, files: &[File<'_>], stem: &str, reader: &str) -> Option<(usize, Option<usize>)> {
        let at = |wanted: &str, text: bool| -> Vec<usize> {
            let fits = |file: &File<'_>| {
                file.parsed.stem == stem
                    && file.parsed.locale == wanted
                    && (file.parsed.kind == Kind::Text) == text
            };
            files.iter().enumerate().filter(|(_, file)| fits(file)).map(|(number, _)| number).collect()
        };
        for wanted in locale::chain(reader) {
            let mails = at(wanted, false);
            if let [first, second, ..] = mails.as_slice() {
                let message =
                    format!("{} is the same message as {}", files[*second].name, files[*first].name);
                self.mistakes.insert(
                    Mistake::of_file("T0103", files[*second].name, message).hint("keep one of the two"),
                );
            }
            if let Some(mail) = mails.first() {
                return Some((*mail, at(wanted, true).first().copied()));
            }
        }
        locale::chain(reader)
            .into_iter()
            .find_map(|wanted| at(wanted, true).first().copied())
            .map(|plain| (plain, None))
    }

    /// The templates of the front matter.
    fn front(&mut self, file: &File<'_>, made: &mut Made) {
        if file.front.subject.is_none() {
            let mistake = Mistake::at("T0202", file.name, file.text, 0, 1, "the message has no subject");
            self.mistakes
                .insert(mistake.hint(
                    "begin the file with front matter: a line `---`, `subject: \"...\"`, a line `---`",
                ));
        }
        for (part, field) in fields(&file.front) {
            let Ok(mut cut) = pieces::cut(0, file.name, &field.text, 0..field.text.len()) else { continue };
            let lines: Vec<String> = cut
                .iter()
                .map(|piece| {
                    if let Piece::Text { text, .. } = piece {
                        text.replace(['\r', '\n'], " ")
                    } else {
                        String::new()
                    }
                })
                .collect();
            for (piece, line) in cut.iter_mut().zip(&lines) {
                if let Piece::Text { text, .. } = piece {
                    *text = line;
                }
            }
            let mut template = join(&cut);
            // All of a value is said to stand where it begins.
            template.places.clear();
            made.front.push((part, template));
        }
    }

    /// The HTML and the text.
    fn body(
        &mut self,
        files: &[File<'_>],
        closure: &Sources,
        sources: &Sources,
        chosen: (usize, Option<usize>),
        reader: &str,
        made: &mut Made,
    ) {
        let (mail, plain) = chosen;
        let document = |number: usize, mistakes: &mut BTreeSet<Mistake>| {
            let mut wrong = BTreeSet::new();
            let document = expand(files, closure, number, reader, &mut wrong);
            mistakes.extend(wrong.into_iter().map(|mistake| with_all_files(mistake, sources)));
            document
        };
        let own = document(mail, &mut self.mistakes);
        let given = plain.and_then(|plain| document(plain, &mut self.mistakes));
        let Some(own) = own else { return };
        if own.kind == Kind::Text {
            made.text = prepend(&own.prelude, join(&own.pieces));
            made.prints = printed(&made.text.text);
            return;
        }
        let Some((html, derived)) =
            self.html(&own, files, made.front.iter().any(|(part, _)| *part == Part::Preheader))
        else {
            return;
        };
        made.prints = printed(&derived.text);
        made.html = Some(prepend(&own.prelude, html));
        match given {
            Some(Document { kind: Kind::Text, prelude, pieces }) => {
                made.text = prepend(&prelude, join(&pieces));
                let shown = printed(&made.text.text);
                made.prints.retain(|name| shown.contains(name));
            }
            _ => {
                made.text = prepend(&own.prelude, derived);
                made.derived = true;
            }
        }
    }

    /// The template of the HTML, and that of the text derived from it.
    fn html(
        &mut self,
        document: &Document<'_>,
        files: &[File<'_>],
        preheader: bool,
    ) -> Option<(Restored, Restored)> {
        let mut shield = Shield::new(files);
        let html = html::convert(document, &mut shield, files, &mut self.mistakes)?;
        let derived = text::derive(&html, &shield);
        let html_with = if preheader { html::with_preheader(&html, &mut shield) } else { html };
        let html = shield.restore(&html_with, files, &mut self.mistakes, true);
        Some((html, shield.restore(&derived, files, &mut BTreeSet::new(), false)))
    }
}

/// A layout that is missing in the closure may only have been misspelt: what was meant is looked for in the whole project.
fn with_all_files(mistake: Mistake, sources: &Sources) -> Mistake {
    let wanted = mistake.message.strip_prefix("there is no file templates/").map(str::to_owned);
    match wanted.and_then(|wanted| sources.nearest_part(&wanted).map(str::to_owned)) {
        Some(near) => mistake.did_you_mean(Some(&near)),
        None => mistake,
    }
}

fn fields(front: &Front) -> Vec<(Part, Field)> {
    let single = [
        (Part::Subject, &front.subject),
        (Part::Preheader, &front.preheader),
        (Part::From, &front.from),
        (Part::ReplyTo, &front.reply_to),
    ];
    let headers = front.headers.iter().map(|(name, field)| (Part::Header(name.clone()), field.clone()));
    single.into_iter().filter_map(|(part, field)| Some((part, field.clone()?))).chain(headers).collect()
}

/// Which of the names that are asked about a template prints.
fn printed(template: &str) -> BTreeSet<&'static str> {
    let found = lint::look(Text { file: "", whole: template, text: template, from: 0, exact: true });
    ASKED.into_iter().filter(|name| found.prints(name)).collect()
}

/// What is left of the name of a template's own file without the template's name: `.de.mjml`. Layouts and parts keep theirs.
fn ending<'f>(file: &'f str, template: &TemplateName) -> &'f str {
    file.strip_prefix(template.as_str()).filter(|rest| rest.starts_with('.')).unwrap_or(file)
}

fn digest<'f>(files: impl Iterator<Item = (&'f str, &'f str)>) -> String {
    let mut all = String::new();
    for (name, text) in files {
        all.push_str(&format!("{}\u{1f}{}\u{1f}{name}\u{1f}{text}\u{1e}", name.len(), text.len()));
    }
    model::id::sha256_hex(all.as_bytes())
}

/// The engine as every template has it.
pub(crate) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    // Errors then know which value was missing, and where. They are never shown as a whole.
    environment.set_debug(true);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(RECURSION_MAX);
    environment.set_auto_escape_callback(|name| match name.rsplit('.').next() {
        Some("html") => AutoEscape::Html,
        Some("header") => AutoEscape::Custom(HEADER_ESCAPE.into()),
        _ => AutoEscape::None,
    });
    environment.set_formatter(filters::write);
    environment.remove_global("debug");
    environment.remove_filter("pprint");
    environment.add_filter("date", filters::date);
    environment.add_filter("number", filters::number);
    environment.add_filter("money", filters::money);
    for (written, preset) in names::PRESETS {
        environment.add_filter(written, filters::default);
        environment.add_filter(preset, filters::preset);
    }
    environment.add_function("skip", filters::skip);
    environment
}

impl Compiled {
    /// Notes what is used of each root, so that nothing else is handed to the engine.
    pub(crate) fn gather_needs(&mut self) {
        for used in &self.used {
            let of_root = self.needs.entry(used.root.clone()).or_default();
            match &used.name {
                Some(name) => drop(of_root.names.insert(name.clone())),
                None => of_root.all = true,
            }
        }
    }

    /// What the template names, in the order of files and lines.
    pub fn used(&self) -> &[Used] {
        &self.used
    }

    /// Where it first names something of the person's account, if it does.
    pub fn account(&self) -> Option<&Used> {
        self.used.iter().find(|used| used.root == "account")
    }

    /// Those of the locales in which nothing is written. The file without a language is in the first of them.
    pub fn missing_locales(&self, locales: &[String]) -> Vec<String> {
        let own: BTreeSet<&str> = self.variants.values().map(|variant| variant.own.as_str()).collect();
        let written = |(position, wanted): &(usize, &String)| {
            let wanted = locale::normal(wanted);
            own.contains(wanted.as_str())
                || own.contains(locale::language(&wanted))
                || (*position == 0 && own.contains(""))
        };
        locales
            .iter()
            .enumerate()
            .filter(|wanted| !written(wanted))
            .map(|(_, wanted)| wanted.clone())
            .collect()
    }

    /// Content hash (SHA-256, hex) of all files the template is made of.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Hash of what the template says, whatever it is called: a copy under another name has the same.
    pub fn words(&self) -> &str {
        &self.words
    }

    /// Whether the message prints `unsubscribe_url` where a reader sees it: in every language, as HTML and as text.
    pub fn uses_unsubscribe(&self) -> bool {
        self.prints("unsubscribe_url")
    }

    /// Whether the message prints `postal_address` where a reader sees it: in every language, as HTML and as text.
    pub fn uses_postal_address(&self) -> bool {
        self.prints("postal_address")
    }

    /// What is doubtful, and stops nothing.
    pub fn warnings(&self) -> &[Mistake] {
        &self.warnings
    }

    fn prints(&self, name: &str) -> bool {
        self.variants.values().all(|variant| variant.prints.contains(name))
    }

    /// Adds the templates of one locale.
    fn add(
        &mut self,
        reader: &str,
        made: Made,
        files: &[File<'_>],
        mistakes: &mut BTreeSet<Mistake>,
    ) -> Variant {
        let mut variant =
            Variant { derived: made.derived, prints: made.prints, own: made.own, ..Variant::default() };
        for (part, template) in made.front {
            let (kind, escape) = match &part {
                Part::Subject => ("subject".to_owned(), "header"),
                Part::Preheader => ("preheader".to_owned(), "header"),
                Part::From => ("from".to_owned(), "header"),
                Part::ReplyTo => ("reply_to".to_owned(), "header"),
                Part::Header(name) => (format!("headers/{name}"), "header"),
            };
            let name = self.template(format!("{reader}/{kind}.{escape}"), template, files, mistakes);
            match part {
                Part::Subject => variant.subject = Some(name),
                Part::Preheader => variant.preheader = Some(name),
                Part::From => variant.from = Some(name),
                Part::ReplyTo => variant.reply_to = Some(name),
                Part::Header(header) => variant.headers.push((header, name)),
            }
        }
        if let Some(html) = made.html {
            variant.html = Some(self.template(format!("{reader}/body.html"), html, files, mistakes));
        }
        variant.text = self.template(format!("{reader}/body.text"), made.text, files, mistakes);
        variant
    }

    fn template(
        &mut self,
        name: String,
        mut template: Restored,
        files: &[File<'_>],
        mistakes: &mut BTreeSet<Mistake>,
    ) -> String {
        lint::tell_presets_apart(&mut template.text);
        let failed = mistakes.iter().any(|mistake| !mistake.warning);
        if let Err(error) = self.environment.add_template_owned(name.clone(), template.text.clone())
            && !failed
        {
            // All files could be read alone: joined, or converted, they cannot.
            let at = error.range().map_or(0, |range| range.start);
            let detail = error.detail().unwrap_or("it cannot be read");
            let message = format!("joined with its layout and parts, the template cannot be read: {detail}");
            let mistake = match template.place(at) {
                Some(place) => Mistake::at(
                    "T0303",
                    files[place.file].name,
                    files[place.file].text,
                    place.at,
                    place.len,
                    message,
                ),
                None => Mistake::of_file("T0303", files.first().map_or("", |file| file.name), message),
            };
            mistakes.insert(mistake);
        }
        self.places.insert(name.clone(), template);
        name
    }
}
