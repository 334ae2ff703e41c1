//! The front matter of a message: a small YAML map between two lines of `---`.

use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle};

use crate::mail::header_name_mistake;
use crate::mistake::Mistake;
use model::suggest::nearest;

/// A value of the front matter: a template of one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    /// What it says.
    pub(crate) text: String,
    /// Where it begins in the file.
    pub(crate) at: usize,
    /// Whether its bytes stand in the file one by one.
    pub(crate) exact: bool,
}

/// What stands before a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Front {
    pub(crate) subject: Option<Field>,
    pub(crate) preheader: Option<Field>,
    pub(crate) from: Option<Field>,
    pub(crate) reply_to: Option<Field>,
    /// By name, in the order of the file.
    pub(crate) headers: Vec<(String, Field)>,
    /// Where the front matter stands, if there is any.
    pub(crate) range: Option<Range<usize>>,
    /// Where the message begins.
    pub(crate) body_at: usize,
}

const KEYS: &[&str] = &["subject", "preheader", "from", "reply_to", "headers"];
const DEPTH_MAX: usize = 4;

/// Where the front matter of a text stands, between its `---` lines, and where the rest begins. `None`: there is none.
fn find(text: &str) -> Option<Result<(Range<usize>, usize), usize>> {
    let start = text.strip_prefix('\u{feff}').map_or(0, |rest| text.len() - rest.len());
    let mut at = start;
    let mut opened = None;
    for line in text[start..].split_inclusive('\n') {
        let is_mark = line.trim_end() == "---";
        match opened {
            None if is_mark => opened = Some(at + line.len()),
            None => return None,
            Some(from) if is_mark => return Some(Ok((from..at, at + line.len()))),
            Some(_) => {}
        }
        at += line.len();
    }
    opened.map(|_| Err(start))
}

/// Reads the front matter of a file. What is wrong goes to `mistakes`; what can be read is read all the same.
pub(crate) fn read(file: &str, text: &str, mistakes: &mut Vec<Mistake>) -> Front {
    let mut front = Front::default();
    let (range, body_at) = match find(text) {
        None => return front,
        Some(Err(at)) => {
            let mistake = Mistake::at("T0202", file, text, at, 3, "the front matter does not end");
            mistakes.push(mistake.hint("a line `---` ends it"));
            return front;
        }
        Some(Ok(found)) => found,
    };
    front.body_at = body_at;
    front.range = Some(range.clone());
    let options = granit_parser::options! { flow_nesting_limit: DEPTH_MAX, block_nesting_limit: DEPTH_MAX, emit_comments: false, emit_unresolved_aliases: true, disallow_directives: true };
    let mut reader = Reader {
        file,
        text,
        from: range.start,
        front,
        mistakes,
        depth: 0,
        key: None,
        seen: Vec::new(),
        in_headers: false,
    };
    for event in Parser::new_from_str_with_options(&text[range.clone()], options) {
        match event {
            Ok((event, span)) => {
                let offset = |marker: granit_parser::Marker| range.start + marker.byte_offset().unwrap_or(0);
                reader.take(event, offset(span.start)..offset(span.end));
            }
            Err(error) => {
                let at = range.start + error.marker().byte_offset().unwrap_or(0);
                let message = format!("the front matter is not YAML: {}", error.info());
                let mistake = Mistake::at("T0202", file, text, at.min(range.end), 1, message);
                reader.mistakes.push(mistake.hint("put the text between quotes: `subject: \"...\"`"));
                break;
            }
        }
    }
    reader.front
}

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    from: usize,
    front: Front,
    mistakes: &'a mut Vec<Mistake>,
    depth: usize,
    /// The key whose value is waited for.
    key: Option<(String, Range<usize>)>,
    seen: Vec<(bool, String)>,
    in_headers: bool,
}

impl Reader<'_> {
    fn mistake(
        &mut self,
        code: &'static str,
        range: &Range<usize>,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        let mut mistake = Mistake::at(code, self.file, self.text, range.start, range.len(), message);
        mistake.hint = hint;
        self.mistakes.push(mistake);
    }

    fn take(&mut self, event: Event<'_>, range: Range<usize>) {
        if event.anchor_id().is_some_and(|id| id != 0) || event.tag().is_some() {
            self.mistake("T0202", &range, "anchors and tags are not read here", None);
        }
        match event {
            Event::Scalar(text, style, ..) => self.scalar(text.into_owned(), style, range),
            Event::MappingStart(..) => {
                self.depth += 1;
                match (self.depth, self.key.take()) {
                    (1, _) => {}
                    (2, Some((key, _))) if key == "headers" => self.in_headers = true,
                    (_, key) => self.not_here("a map", &key.map_or(range, |(_, place)| place)),
                }
            }
            Event::MappingEnd => {
                self.depth = self.depth.saturating_sub(1);
                self.in_headers = false;
            }
            Event::SequenceStart(..) => {
                let place = self.key.take().map_or(range, |(_, place)| place);
                self.not_here("a list", &place);
                self.depth += 1;
            }
            Event::SequenceEnd => self.depth = self.depth.saturating_sub(1),
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                self.key = None;
                self.mistake("T0202", &range, "aliases are not read here", None);
            }
            _ => {}
        }
    }

    fn not_here(&mut self, what: &str, place: &Range<usize>) {
        self.mistake(
            "T0202",
            place,
            format!("{what} has no place here"),
            Some(format!("the front matter is a map of {}", KEYS.join(", "))),
        );
    }

    fn scalar(&mut self, text: String, style: ScalarStyle, range: Range<usize>) {
        if self.depth == 0 {
            if !text.is_empty() {
                self.mistake(
                    "T0202",
                    &range,
                    "the front matter is a map",
                    Some("`subject: \"...\"`".to_owned()),
                );
            }
            return;
        }
        let Some((key, place)) = self.key.take() else {
            self.new_key(text, range);
            return;
        };
        let field = self.field(text, style, &range);
        if self.in_headers {
            if let Some(why) = header_name_mistake(&key) {
                self.mistake(
                    "T0202",
                    &place,
                    format!("a template cannot set the header `{key}`"),
                    Some(why.to_owned()),
                );
            } else if let Some(field) = field {
                self.front.headers.push((key, field));
            }
            return;
        }
        let slot = match key.as_str() {
            "subject" => &mut self.front.subject,
            "preheader" => &mut self.front.preheader,
            "from" => &mut self.front.from,
            "reply_to" => &mut self.front.reply_to,
            "headers" if field.is_none() => return,
            "headers" => {
                self.mistake(
                    "T0202",
                    &place,
                    "`headers` is a map",
                    Some("`headers: {X-Campaign: \"...\"}`".to_owned()),
                );
                return;
            }
            "attach" => {
                self.mistake("T0204", &place, "`attach` is not built yet", None);
                return;
            }
            _ => return,
        };
        *slot = field;
    }

    fn new_key(&mut self, text: String, range: Range<usize>) {
        let known = self.in_headers || KEYS.contains(&text.as_str()) || text == "attach";
        if !known && self.depth == 1 {
            let hint = nearest(&text, KEYS.iter().copied()).map(|word| format!("did you mean `{word}`?"));
            let hint = hint.or_else(|| Some(format!("there are {}", KEYS.join(", "))));
            self.mistake("T0202", &range, format!("the front matter has no key `{text}`"), hint);
        }
        let same = if self.in_headers { text.to_ascii_lowercase() } else { text.clone() };
        if self.seen.contains(&(self.in_headers, same.clone())) {
            self.mistake("T0202", &range, format!("the key `{text}` is there twice"), None);
        }
        self.seen.push((self.in_headers, same));
        self.key = Some((text, range));
    }

    /// A value with its place; `None` where nothing is said.
    fn field(&self, text: String, style: ScalarStyle, range: &Range<usize>) -> Option<Field> {
        if text.trim().is_empty() || (style == ScalarStyle::Plain && matches!(text.as_str(), "~" | "null")) {
            return None;
        }
        let quoted = matches!(style, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted);
        let at = (range.start + usize::from(quoted)).max(self.from);
        let exact = self.text.get(at..at + text.len()) == Some(text.as_str());
        Some(Field { text, at, exact })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Line, column, message, hint.
    type Said = (usize, usize, String, Option<String>);

    fn read_all(text: &str) -> (Front, Vec<Said>) {
        let mut mistakes = Vec::new();
        let front = read("a.md", text, &mut mistakes);
        (front, mistakes.into_iter().map(|m| (m.line, m.column, m.message, m.hint)).collect())
    }

    #[test]
    fn the_front_matter_is_read_with_places() {
        let text = "---\nsubject: \"Hello {{ profile.first_name }}\"\npreheader: plain words\nreply_to: 'help@acme.test'\nheaders:\n  X-Campaign: \"{{ playbook.name }}\"\n---\nBody\n";
        let (front, mistakes) = read_all(text);
        assert_eq!(mistakes, []);
        let subject = front.subject.unwrap();
        assert!(subject.exact);
        assert_eq!(&text[subject.at..subject.at + 5], "Hello");
        assert_eq!(front.preheader.unwrap().text, "plain words");
        assert_eq!(front.headers[0].0, "X-Campaign");
        assert_eq!(&text[front.body_at..], "Body\n");
    }

    #[test]
    fn a_file_without_front_matter_is_all_body() {
        for text in ["", "Body", "-- \nBody", "<mjml>---\n</mjml>"] {
            let (front, mistakes) = read_all(text);
            assert_eq!((front.body_at, front.range, mistakes.len()), (0, None, 0), "{text}");
        }
        let (front, mistakes) = read_all("---\n---\nBody");
        assert_eq!((front.body_at, front.subject, mistakes.len()), (8, None, 0));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, line, column, message, hint) in [
            (
                "---\nsubject: x\nsujbect: y\n---\n",
                3,
                1,
                "the front matter has no key `sujbect`",
                Some("did you mean `subject`?"),
            ),
            ("---\nsubject: x\nsubject: y\n---\n", 3, 1, "the key `subject` is there twice", None),
            ("---\nattach: x.pdf\n---\n", 2, 1, "`attach` is not built yet", None),
            (
                "---\nheaders: {bcc: x@y.test}\n---\n",
                2,
                11,
                "a template cannot set the header `bcc`",
                Some("it is written by Drumbeat, or by the mail servers on the way"),
            ),
            (
                "---\nsubject: [a]\n---\n",
                2,
                1,
                "a list has no place here",
                Some("the front matter is a map of subject, preheader, from, reply_to, headers"),
            ),
            ("---\nsubject: x\n", 1, 1, "the front matter does not end", Some("a line `---` ends it")),
            ("---\njust words\n---\n", 2, 1, "the front matter is a map", Some("`subject: \"...\"`")),
        ] {
            let (_, mistakes) = read_all(text);
            assert_eq!(mistakes, [(line, column, message.to_owned(), hint.map(str::to_owned))], "{text}");
        }
        let (_, mistakes) = read_all("---\nsubject: {{ profile.first_name }}, hello\n---\n");
        assert!(!mistakes.is_empty());
        assert_eq!(mistakes[0].0, 2);
    }
}
