//! What a template may name.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use model::Value;

/// One person's values, and what surrounds the message.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The person's attributes: `profile.NAME`.
    pub profile: &'a BTreeMap<String, Value>,
    /// The warehouse's id: `profile.id`.
    pub profile_id: &'a str,
    /// The row of the person's account, `id` among its columns: `account.NAME`. Empty: there is none.
    pub account: &'a BTreeMap<String, Value>,
    /// What was true on entering: `entry.NAME`.
    pub entry: &'a BTreeMap<String, Value>,
    /// What the step tells the template: `with.NAME`.
    pub with: &'a BTreeMap<String, Value>,
    /// `playbook.name`.
    pub playbook_name: &'a str,
    /// `playbook.title`.
    pub playbook_title: &'a str,
    /// `step`.
    pub step: &'a str,
    /// `brand.title`.
    pub brand_title: &'a str,
    /// The person's, or the default.
    pub locale: &'a str,
    /// What stands for a locale that nothing is written in.
    pub default_locale: &'a str,
    /// The reader's zone.
    pub zone: &'a TimeZone,
    /// When the message is made.
    pub now: Timestamp,
    /// `unsubscribe_url`.
    pub unsubscribe_url: Option<&'a str>,
    /// `preferences_url`.
    pub preferences_url: Option<&'a str>,
    /// `postal_address`.
    pub postal_address: Option<&'a str>,
}
