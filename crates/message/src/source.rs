//! The files of a project's templates: their names, which of them a reader's language takes, and what belongs to one template.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::machinery::{Token, tokenize};
use model::TemplateName;

use crate::locale;
use crate::mistake::Mistake;
use model::suggest::nearest;

/// All template files of a project, by file name (`win_back_nudge.de.mjml`, `_layout.mjml`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources(pub BTreeMap<String, String>);

/// What a file is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Mjml,
    Html,
    Markdown,
    Text,
}

impl Kind {
    const ALL: [(&'static str, Self); 4] =
        [("mjml", Self::Mjml), ("html", Self::Html), ("md", Self::Markdown), ("txt", Self::Text)];

    fn parse(ending: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == ending).map(|(_, kind)| *kind)
    }

    /// As a file name ends.
    pub(crate) fn ending(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(ending, _)| ending)
    }
}

/// A file's name, taken apart: `win_back_nudge.de.mjml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileName<'a> {
    pub(crate) stem: &'a str,
    /// In its normal form; empty for the file without.
    pub(crate) locale: String,
    pub(crate) kind: Kind,
}

impl<'a> FileName<'a> {
    pub(crate) fn parse(name: &'a str) -> Option<Self> {
        let mut parts = name.split('.');
        let (stem, second, third) = (parts.next()?, parts.next()?, parts.next());
        let (locale, ending) = match third {
            Some(ending) if locale::is_locale(second) => (locale::normal(second), ending),
            Some(_) => return None,
            None => (String::new(), second),
        };
        let fits = parts.next().is_none() && model::name::is_name(stem.strip_prefix('_').unwrap_or(stem));
        fits.then_some(Self { stem, locale, kind: Kind::parse(ending)? })
    }

    /// Whether it is a layout or a part, and no message of its own.
    pub(crate) fn is_part(&self) -> bool {
        self.stem.starts_with('_')
    }
}

impl Sources {
    /// The templates: what does not begin with `_`.
    pub fn templates(&self) -> Vec<TemplateName> {
        let stems: BTreeSet<&str> =
            self.named().filter(|(file, _)| !file.is_part()).map(|(file, _)| file.stem).collect();
        stems.into_iter().map(TemplateName::known).collect()
    }

    /// What one template is made of: its files in all languages, and the layouts and parts they extend and include. What a
    /// version pins. Compiled alone, it gives the same template.
    pub fn reached_from(&self, name: &TemplateName) -> Self {
        let mut reached = BTreeSet::new();
        let mut waiting: Vec<&str> =
            self.named().filter(|(file, _)| file.stem == name.as_str()).map(|(_, whole)| whole).collect();
        while let Some(whole) = waiting.pop() {
            let Some((whole, text)) = self.0.get_key_value(whole) else { continue };
            if reached.insert(whole.as_str()) {
                for wanted in references(text) {
                    waiting.extend(self.candidates(&wanted));
                }
            }
        }
        Self(
            reached
                .into_iter()
                .filter_map(|whole| self.0.get_key_value(whole))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect(),
        )
    }

    /// Files that no template can use, because of their names.
    pub fn strays(&self) -> Vec<Mistake> {
        let stray = |whole: &&String| FileName::parse(whole).is_none();
        self.0
            .keys()
            .filter(stray)
            .map(|whole| {
                Mistake::of_file("T0101", whole, "this is not the name of a template")
                    .hint("`NAME.mjml`, `.html`, `.md` or `.txt`, with a language as in `NAME.de.mjml`; a layout or part begins with `_`")
            })
            .collect()
    }

    /// The file a reader of this locale gets (in its normal form).
    pub(crate) fn find(&self, stem: &str, kind: Kind, reader: &str) -> Option<&str> {
        locale::chain(reader).into_iter().find_map(|wanted| {
            let found = self
                .named()
                .find(|(file, _)| file.stem == stem && file.kind == kind && file.locale == wanted);
            found.map(|(_, whole)| whole)
        })
    }

    /// The file that `{% extends %}` or `{% include %}` means, for a reader of this locale. A name with a language means that file.
    pub(crate) fn refer(&self, wanted: &str, reader: &str) -> Option<&str> {
        let file = FileName::parse(wanted)?;
        if file.locale.is_empty() {
            self.find(file.stem, file.kind, reader)
        } else {
            self.find(file.stem, file.kind, &file.locale)
        }
    }

    /// The layout or part that was meant by a name there is not.
    pub(crate) fn nearest_part(&self, wanted: &str) -> Option<&str> {
        nearest(wanted, self.0.keys().map(String::as_str).filter(|whole| whole.starts_with('_')))
    }

    /// All languages of what a reference names.
    fn candidates(&self, wanted: &str) -> Vec<&str> {
        let Some(wanted) = FileName::parse(wanted) else { return Vec::new() };
        let same = |file: &FileName<'_>| file.stem == wanted.stem && file.kind == wanted.kind;
        self.named().filter(|(file, _)| same(file)).map(|(_, whole)| whole).collect()
    }

    /// The files whose names fit, taken apart and whole.
    pub(crate) fn named(&self) -> impl Iterator<Item = (FileName<'_>, &str)> {
        self.0.keys().filter_map(|whole| Some((FileName::parse(whole)?, whole.as_str())))
    }
}

/// The texts in `{% extends %}`, `{% include %}` and `{% import %}` tags, as far as the file can be read.
fn references(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut opened, mut referring) = (false, false);
    for token in tokenize(text, false, minijinja::syntax::SyntaxConfig::default()) {
        match token {
            Ok((Token::BlockStart, _)) => opened = true,
            Ok((Token::BlockEnd, _)) => referring = false,
            Ok((Token::Ident(word), _)) if opened => {
                referring = matches!(word, "extends" | "include" | "import" | "from");
                opened = false;
            }
            Ok((Token::Str(text), _)) if referring => found.push(text.to_owned()),
            Ok((Token::String(text), _)) if referring => found.push(text.into_string()),
            Ok(_) => opened = false,
            Err(_) => break,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources() -> Sources {
        let files = [
            ("nudge.mjml", "{% extends '_layout.mjml' %}"),
            ("nudge.de.mjml", "{% extends \"_layout.mjml\" %}{% block b %}{{ 'include' }}{% endblock %}"),
            ("nudge.txt", "{% include '_sign.txt' %}"),
            ("_layout.mjml", "{% include \"_footer.mjml\" %}"),
            ("_layout.de.mjml", ""),
            ("_footer.mjml", ""),
            ("_footer.de-at.mjml", ""),
            ("_sign.txt", ""),
            ("_other.mjml", ""),
            ("tips.md", ""),
            ("README", ""),
            ("Bad-Name.mjml", ""),
        ];
        Sources(files.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect())
    }

    #[test]
    fn templates_are_what_does_not_begin_with_an_underscore() {
        let names: Vec<String> = sources().templates().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["nudge", "tips"]);
        assert_eq!(
            sources().strays().iter().map(|mistake| mistake.file.as_str()).collect::<Vec<_>>(),
            ["Bad-Name.mjml", "README"]
        );
    }

    #[test]
    fn a_version_pins_every_language_of_all_it_reaches_and_nothing_else() {
        let reached = sources().reached_from(&TemplateName::known("nudge"));
        let names: Vec<&str> = reached.0.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "_footer.de-at.mjml",
                "_footer.mjml",
                "_layout.de.mjml",
                "_layout.mjml",
                "_sign.txt",
                "nudge.de.mjml",
                "nudge.mjml",
                "nudge.txt"
            ]
        );
    }

    #[test]
    fn a_reader_gets_the_locale_then_the_language_then_the_file_without() {
        let sources = sources();
        for (reader, expected) in
            [("de-at", "_footer.de-at.mjml"), ("de", "_footer.mjml"), ("en", "_footer.mjml")]
        {
            assert_eq!(sources.refer("_footer.mjml", reader), Some(expected));
        }
        assert_eq!(sources.refer("_layout.mjml", "de-at"), Some("_layout.de.mjml"));
        assert_eq!(sources.refer("_layout.de.mjml", "en"), Some("_layout.de.mjml"));
        assert_eq!(sources.refer("_laoyut.mjml", "en"), None);
        assert_eq!(sources.nearest_part("_laoyut.mjml"), Some("_layout.mjml"));
    }
}
