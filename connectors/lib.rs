//! Every connector of this build. To add one: a folder here, a line below.

use connector::Kind;

/// Declares each module and lists its `KIND`.
macro_rules! connectors {
    ($($name:ident,)*) => {
        $(pub mod $name;)*
        /// All kinds, by name.
        pub static ALL: &[&Kind] = &[$(&$name::KIND,)*];
    };
}

connectors! {
    file,
    google_ads,
    linkedin_ads,
    mailgun,
    meta_ads,
    postmark,
    resend,
    sendgrid,
    ses,
    smtp,
    tiktok_ads,
    webhook,
}

mod identifiers;
mod over_http;

#[cfg(test)]
mod tests;
