//! The text part of a message, derived from its HTML when it is compiled: tags are still hidden in it, and stay where they are.
//!
//! Our own, and not a library's: libraries put hidden tags elsewhere (out of tables, into footnotes outside of their loop).

use crate::markup::{self, Attribute, Token, is_void, unescape};
use crate::shield::Shield;

/// Derives the text of HTML with hidden tags.
pub(crate) fn derive(html: &str, shield: &Shield) -> String {
    let mut writer = Writer {
        html,
        shield,
        out: String::new(),
        breaks: Breaks::None,
        cell: false,
        tables: Vec::new(),
        hidden: None,
        open: Vec::new(),
        links: Vec::new(),
    };
    for token in markup::tokens(html) {
        writer.token(token);
    }
    tidy(&writer.out)
}

/// Trims lines, and leaves at most one empty line between two others.
pub(crate) fn tidy(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut empty = 0;
    for line in text.lines().map(str::trim_end) {
        if line.is_empty() {
            empty += 1;
            continue;
        }
        if !out.is_empty() {
            out.push_str(if empty > 0 { "\n\n" } else { "\n" });
        }
        empty = 0;
        out.push_str(line);
    }
    if !out.is_empty() {
        out.push('\n');
    }
    out
}

/// What separates what comes from what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Breaks {
    None,
    Space,
    Line,
    Paragraph,
}

struct Link {
    /// The address; empty where there is none to show.
    href: String,
    /// Where the text of the link begins.
    from: usize,
}

struct Writer<'a> {
    html: &'a str,
    shield: &'a Shield,
    out: String,
    breaks: Breaks,
    /// A cell was written in this row.
    cell: bool,
    /// For each open table, whether it only places what is in it.
    tables: Vec<bool>,
    /// In something nobody sees: how many elements were open before it.
    hidden: Option<usize>,
    open: Vec<String>,
    links: Vec<Link>,
}

impl Writer<'_> {
    fn token(&mut self, token: Token) {
        match token {
            Token::Text(range) => {
                if self.hidden.is_none() {
                    let text = unescape(&self.html[range]);
                    self.text(&text);
                }
            }
            Token::Start { name, attributes, closed, .. } => {
                let void = is_void(&name);
                if self.hidden.is_none() {
                    self.start(&name, &attributes);
                    if !void && !closed && self.is_unseen(&name, &attributes) {
                        self.hidden = Some(self.open.len());
                    }
                }
                if !void && !closed {
                    self.open.push(name);
                }
            }
            Token::End { name, .. } => {
                let Some(at) = self.open.iter().rposition(|open| *open == name) else { return };
                self.open.truncate(at);
                match self.hidden {
                    Some(depth) if at <= depth => self.hidden = None,
                    Some(_) => {}
                    None => self.end(&name),
                }
            }
            Token::Comment(range) => {
                let comment = &self.html[range];
                let words = self.shield.find(comment);
                let alone = words.first().is_some_and(|word| {
                    comment.trim_start_matches("<!--").trim_end_matches("-->") == &comment[word.clone()]
                });
                // A hidden statement, or those around what a comment for one mail program surrounds. Other comments are not text.
                if self.hidden.is_none() && (alone || comment.starts_with("<!--[if")) {
                    for word in words
                        .into_iter()
                        .map(|word| &comment[word])
                        .filter(|word| self.shield.is_statement(word))
                    {
                        self.statement(word);
                    }
                }
            }
            Token::Other(_) => {}
        }
    }

    fn is_unseen(&self, name: &str, attributes: &[Attribute]) -> bool {
        let style =
            self.attribute(attributes, "style").unwrap_or_default().replace(' ', "").to_ascii_lowercase();
        matches!(name, "head" | "style" | "script" | "title" | "template")
            || style.contains("display:none")
            || style.contains("mso-hide:all")
    }

    fn attribute(&self, attributes: &[Attribute], name: &str) -> Option<String> {
        let attribute = attributes.iter().find(|attribute| attribute.name == name)?;
        Some(unescape(&self.html[attribute.value.clone()?]))
    }

    fn start(&mut self, name: &str, attributes: &[Attribute]) {
        match name {
            "br" => self.separate(Breaks::Line),
            "hr" => {
                self.separate(Breaks::Paragraph);
                self.write("----");
                self.separate(Breaks::Paragraph);
            }
            "img" => {
                let alt = self.attribute(attributes, "alt").unwrap_or_default();
                // A single sign is an icon's.
                if alt.trim().chars().count() > 1 {
                    self.write(alt.trim());
                }
            }
            "li" => {
                self.separate(Breaks::Line);
                self.write("- ");
            }
            "a" => {
                let href = self
                    .attribute(attributes, "href")
                    .filter(|href| !href.starts_with('#'))
                    .unwrap_or_default();
                self.flush();
                self.links.push(Link { href: href.trim().to_owned(), from: self.out.len() });
            }
            "table" => {
                self.separate(Breaks::Paragraph);
                self.tables
                    .push(self.attribute(attributes, "role").is_some_and(|role| role == "presentation"));
            }
            "tr" => {
                self.separate(self.row());
                self.cell = false;
            }
            "td" | "th" if self.tables.last() == Some(&true) => self.separate(Breaks::Line),
            "td" | "th" => {
                if self.cell {
                    self.flush();
                    self.out.push_str("  ");
                }
                self.cell = true;
            }
            _ => self.separate(around(name)),
        }
    }

    fn end(&mut self, name: &str) {
        match name {
            "a" => self.end_link(),
            "td" | "th" => {}
            "tr" => self.separate(self.row()),
            "table" => {
                self.tables.pop();
                self.separate(Breaks::Paragraph);
            }
            "li" => self.separate(Breaks::Line),
            _ => self.separate(around(name)),
        }
    }

    /// What separates the rows of the innermost table: in MJML each row is a block of its own.
    fn row(&self) -> Breaks {
        if self.tables.last() == Some(&true) { Breaks::Paragraph } else { Breaks::Line }
    }

    fn end_link(&mut self) {
        let Some(link) = self.links.pop() else { return };
        let label = self.out.get(link.from..).unwrap_or_default().trim();
        let address =
            link.href.strip_prefix("mailto:").or(link.href.strip_prefix("tel:")).unwrap_or(&link.href);
        if address.is_empty() || label == address {
            return;
        }
        if label.is_empty() {
            self.write(&link.href.clone());
        } else {
            self.out.truncate(self.out.trim_end().len());
            self.out.push_str(" <");
            self.out.push_str(address);
            self.out.push('>');
        }
    }

    /// Text, its white space collapsed.
    fn text(&mut self, text: &str) {
        if self.open.iter().any(|open| open == "pre") {
            self.flush();
            self.out.push_str(text);
            return;
        }
        for (position, word) in text.split([' ', '\t', '\n', '\r', '\u{c}']).enumerate() {
            if position > 0 {
                self.separate(Breaks::Space);
            }
            if word.is_empty() {
                continue;
            }
            // A hidden statement as a word of its own prints nothing: what separates its neighbours stands before it.
            if self.shield.find(word).first() == Some(&(0..word.len())) && self.shield.is_statement(word) {
                self.statement(word);
            } else {
                self.write(word);
            }
        }
    }

    fn separate(&mut self, breaks: Breaks) {
        self.breaks = self.breaks.max(breaks);
    }

    fn write(&mut self, text: &str) {
        self.flush();
        self.out.push_str(text);
    }

    /// A hidden statement. What comes after it begins where it began, as it may print nothing.
    fn statement(&mut self, word: &str) {
        self.flush();
        self.out.push_str(word);
    }

    /// Writes the separation that waits.
    fn flush(&mut self) {
        let breaks = std::mem::replace(&mut self.breaks, Breaks::None);
        let printed = self.printed();
        let wanted = match breaks {
            Breaks::None => return,
            Breaks::Space if printed.is_empty() || printed.ends_with(['\n', ' ']) => return,
            Breaks::Space => " ",
            Breaks::Line if printed.is_empty() || printed.ends_with('\n') => return,
            Breaks::Line => "\n",
            Breaks::Paragraph if printed.is_empty() || printed.ends_with("\n\n") => return,
            Breaks::Paragraph if printed.ends_with('\n') => "\n",
            Breaks::Paragraph => "\n\n",
        };
        self.out.push_str(wanted);
    }

    /// What has been written, without the hidden statements at its end.
    fn printed(&self) -> &str {
        let mut printed = self.out.as_str();
        while let Some(last) = self
            .shield
            .find_last(printed)
            .filter(|last| last.end == printed.len() && self.shield.is_statement(&printed[last.clone()]))
        {
            printed = &printed[..last.start];
        }
        printed
    }
}

/// What separates an element from its surroundings.
fn around(name: &str) -> Breaks {
    match name {
        "p" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "ul" | "ol" | "table" | "blockquote" | "pre"
        | "section" | "article" => Breaks::Paragraph,
        "div" | "body" | "header" | "footer" | "main" | "nav" | "dl" | "dt" | "dd" | "center" | "figure"
        | "figcaption" => Breaks::Line,
        _ => Breaks::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(html: &str) -> String {
        derive(html, &Shield::new(&[]))
    }

    #[test]
    fn text_is_what_a_reader_would_see() {
        for (html, expected) in [
            ("<p>One\n  two</p><p>three</p>", "One two\n\nthree\n"),
            ("<h1>Title</h1><div>a<br>b</div><div>c</div>", "Title\n\na\nb\nc\n"),
            (
                "see <a href=\"https://x.test/?a=1&amp;b=2\">our <b>tips</b></a>, now",
                "see our tips <https://x.test/?a=1&b=2>, now\n",
            ),
            ("<a href=\"https://x.test\">https://x.test</a>", "https://x.test\n"),
            ("<a href=\"mailto:help@x.test\">help@x.test</a>", "help@x.test\n"),
            ("<a href=\"https://x.test\"><img src=\"a.png\" alt=\"Shop\"></a>", "Shop <https://x.test>\n"),
            ("<ul><li>one</li><li>two</li></ul>after", "- one\n- two\n\nafter\n"),
            (
                "<table><tr><th>Qty</th><th>What</th></tr><tr><td>2</td><td>Tea</td></tr></table>",
                "Qty  What\n2  Tea\n",
            ),
            (
                "<head><title>t</title><style>a{}</style></head><div style=\"display: none\">no<p>no</p></div>yes",
                "yes\n",
            ),
            ("a&nbsp;&amp; &lt;b&gt; <!-- no --><!--[if mso]>no<![endif]-->", "a\u{a0}& <b>\n"),
            ("", ""),
        ] {
            assert_eq!(plain(html), expected, "{html}");
        }
    }
}
