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
    hubspot,
    linkedin_ads,
    mailgun,
    meta_ads,
    object_storage,
    pipedrive,
    postmark,
    resend,
    salesforce,
    sendgrid,
    ses,
    smtp,
    tiktok_ads,
    webhook,
}

mod aws_sign;
mod crm;
mod identifiers;
mod oauth;
mod over_http;

#[cfg(test)]
mod suite;
#[cfg(test)]
mod tests;
