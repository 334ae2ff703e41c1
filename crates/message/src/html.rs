//! A document with hidden tags as HTML for mail programs: converted, styles inlined, ready for its tags to come back.
//!
//! Deliberately absent: anything fetched. Stylesheets elsewhere stay links.

use std::collections::BTreeSet;

use css_inline::InlineOptions;

use crate::expand::{Document, File};
use crate::markdown;
use crate::markup::{self, Token};
use crate::mistake::Mistake;
use crate::mjml;
use crate::names::PREHEADER;
use crate::shield::Shield;
use crate::source::Kind;

/// A message without a layout.
const BARE_BEFORE: &str = "<!doctype html><html><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"></head>\
<body style=\"margin:0;padding:24px;font-family:Helvetica,Arial,sans-serif;font-size:16px;line-height:1.5;color:#222222;background-color:#ffffff\"><div style=\"max-width:600px;margin:0 auto\">";
const BARE_AFTER: &str = "</div></body></html>";

/// Elements are not nested deeper: who reads and writes HTML works by recursion.
const DEPTH_MAX: usize = 256;

/// Converts a document; its tags are still hidden. `None`: it has mistakes.
pub(crate) fn convert(
    document: &Document<'_>,
    shield: &mut Shield,
    files: &[File<'_>],
    mistakes: &mut BTreeSet<Mistake>,
) -> Option<String> {
    let before = mistakes.iter().filter(|mistake| !mistake.warning).count();
    let shielded = shield.hide(&document.pieces, document.kind, files, mistakes);
    if mistakes.iter().filter(|mistake| !mistake.warning).count() > before {
        return None;
    }
    let (html, own_styles) = match document.kind {
        Kind::Mjml => (mjml::convert(&shielded, shield, files, mistakes)?, Some(styles(&shielded.text))),
        Kind::Markdown => (format!("{BARE_BEFORE}{}{BARE_AFTER}", markdown::to_html(&shielded.text)), None),
        Kind::Html if shielded.text.to_ascii_lowercase().contains("<body") => (shielded.text, None),
        Kind::Html => (format!("{BARE_BEFORE}{}{BARE_AFTER}", shielded.text), None),
        Kind::Text => return None,
    };
    if depth(&html) > DEPTH_MAX {
        let file = files.first().map_or("", |file| file.name);
        mistakes.insert(Mistake::of_file("T0210", file, "elements are nested too deeply, or are not closed"));
        return None;
    }
    let html = inlined(&html, own_styles).map_err(|error| {
        let file = files.first().map_or("", |file| file.name);
        mistakes.insert(Mistake::of_file("T0304", file, format!("the styles cannot be read: {error}")));
    });
    let lang = format!("lang=\"{}\"", shield.made("{{ locale }}".to_owned()));
    Some(html.ok()?.replacen("lang=\"und\"", &lang, 2))
}

/// How deeply elements are nested.
fn depth(html: &str) -> usize {
    let mut open: Vec<String> = Vec::new();
    let mut deepest = 0;
    for token in markup::tokens(html) {
        match token {
            Token::Start { name, closed: false, .. } if !markup::is_void(&name) => {
                // These end where the next one begins.
                let ends = matches!(name.as_str(), "p" | "li" | "tr" | "td" | "th" | "dt" | "dd");
                if !ends || open.last() != Some(&name) {
                    open.push(name);
                }
                deepest = deepest.max(open.len());
            }
            Token::End { name, .. } => {
                if let Some(at) = open.iter().rposition(|open| *open == name) {
                    open.truncate(at);
                }
            }
            Token::Start { .. } | Token::Text(_) | Token::Comment(_) | Token::Other(_) => {}
        }
    }
    deepest
}

/// Puts rules into the elements they are for. Rules that cannot be (`:hover`, `@media`) stay where they are, for the readers that
/// know them. `own`: only these, and not the resets that MJML adds for single mail programs.
fn inlined(html: &str, own: Option<String>) -> Result<String, css_inline::InlineError> {
    let options =
        InlineOptions::default().load_remote_stylesheets(false).keep_style_tags(true).keep_link_tags(true);
    match own {
        Some(own) if own.trim().is_empty() => Ok(html.to_owned()),
        Some(own) => options.inline_style_tags(false).extra_css(Some(own.into())).build().inline(html),
        None => options.build().inline(html),
    }
}

/// What stands in `<mj-style>`.
fn styles(mjml: &str) -> String {
    let mut inside = false;
    let mut css = String::new();
    for token in markup::tokens(mjml) {
        match token {
            Token::Start { name, .. } => inside = name == "mj-style",
            Token::Text(range) if inside => css.push_str(&mjml[range]),
            Token::Text(_) | Token::End { .. } | Token::Comment(_) | Token::Other(_) => inside = false,
        }
    }
    css
}

/// Puts the preheader first in the body, where mail programs look for it and nobody sees it. The tags are still hidden.
pub(crate) fn with_preheader(html: &str, shield: &mut Shield) -> String {
    let lower = html.to_ascii_lowercase();
    let body = lower.find("<body").and_then(|body| Some(body + lower[body..].find('>')? + 1));
    let word = shield.made(format!(
        "{{% if {PREHEADER} %}}<div style=\"display:none;max-height:0;max-width:0;overflow:hidden;opacity:0;font-size:1px;line-height:1px;color:#ffffff;mso-hide:all\">{{{{ {PREHEADER} }}}}</div>{{% endif %}}"
    ));
    let at = body.unwrap_or_default();
    format!("{}{word}{}", &html[..at], &html[at..])
}
