//! A page: one look for all of them, without scripts, images or anything fetched from elsewhere.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::words::Words;

const STYLE: &str = "body{margin:0;background:#f6f5f2;color:#1d1d1b;font:1.05rem/1.55 system-ui,sans-serif}\
main{max-width:34rem;margin:12vh auto 3rem;padding:2.2rem;background:#fff;border:1px solid #e2dfd8;border-radius:12px}\
h1{font-size:1.5rem;line-height:1.25;margin:.2rem 0 1rem}.brand{color:#6b675f;margin:0}\
button{font:inherit;padding:.6rem 1.1rem;border-radius:8px;border:1px solid #1d1d1b;background:#1d1d1b;color:#fff;cursor:pointer}\
button.quiet{background:#fff;color:#1d1d1b}button:focus-visible{outline:3px solid #d08a00;outline-offset:2px}\
ul{list-style:none;padding:0;margin:1rem 0}li{display:flex;gap:1rem;align-items:center;justify-content:space-between;\
padding:.7rem 0;border-top:1px solid #eceae4}li small{display:block;color:#6b675f}footer{color:#6b675f;font-size:.85rem;margin-top:2rem}\
@media(prefers-color-scheme:dark){body{background:#161614;color:#eee}main{background:#1f1f1c;border-color:#3a3833}\
button{background:#eee;color:#161614;border-color:#eee}button.quiet{background:transparent;color:#eee}.brand,li small,footer{color:#a8a49a}li{border-color:#3a3833}}\
@media(max-width:40rem){main{margin:0;border:0;border-radius:0;min-height:100vh;box-sizing:border-box}}";

/// What a page shows. `body` is HTML that was escaped where it holds data.
pub(crate) fn page(
    status: StatusCode,
    words: &Words,
    brand: &str,
    address: &str,
    title: &str,
    body: &str,
) -> Response {
    let (brand, address, title) = (escape(brand), escape(address), escape(title));
    let html = format!(
        "<!doctype html>\n<html lang=\"{}\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"robots\" content=\"noindex\"><title>{title}</title><style>{STYLE}</style></head>\
         <body><main><p class=\"brand\">{brand}</p><h1>{title}</h1>{body}<footer>{address}</footer></main></body></html>\n",
        words.language
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        ),
        (HeaderName::from_static("x-robots-tag"), "noindex, nofollow"),
    ];
    let mut response = (status, html).into_response();
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Text as HTML shows it.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_cannot_become_markup() {
        assert_eq!(escape("<b a=\"'&'\">"), "&lt;b a=&quot;&#39;&amp;&#39;&quot;&gt;");
    }
}
