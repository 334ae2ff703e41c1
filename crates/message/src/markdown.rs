//! Markdown to HTML: CommonMark, with tables and strikethrough. Hidden tags are words or comments to it.

use pulldown_cmark::{Options, Parser, html};

/// The HTML of a text.
pub(crate) fn to_html(text: &str) -> String {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
    let mut out = String::with_capacity(text.len() * 3 / 2);
    html::push_html(&mut out, Parser::new_ext(text, options));
    out
}
