//! A person as the warehouse knows them, read in one snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::address::{AddressError, EmailAddress};
use crate::id::ProfileNumber;
use crate::value::Value;

/// One row of the profiles' query.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Our number for the person.
    pub number: ProfileNumber,
    /// The warehouse's id, in its canonical text.
    pub id: String,
    /// All columns but `id`.
    pub attributes: BTreeMap<String, Value>,
    /// The row of the account that `account_id` names, `id` among its columns, shared by its people. Empty: there is
    /// none, or nothing that is decided or written asks for it.
    pub account: Arc<BTreeMap<String, Value>>,
}

impl Profile {
    /// A column; missing where there is none.
    pub fn attribute(&self, name: &str) -> &Value {
        self.attributes.get(name).unwrap_or(&Value::Missing)
    }

    /// A column of the account; missing where there is none, or no account.
    pub fn account_attribute(&self, name: &str) -> &Value {
        self.account.get(name).unwrap_or(&Value::Missing)
    }

    /// The column `account_id` as the id of an account is written; `None` where it is missing.
    pub fn account_id(&self) -> Option<String> {
        let id = self.attribute("account_id");
        (!id.is_missing()).then(|| id.to_string())
    }

    /// The column `email`: `None` where it is missing.
    pub fn email(&self) -> Option<Result<EmailAddress, AddressError>> {
        self.attribute("email").as_text().map(EmailAddress::parse)
    }

    /// The column `timezone`, where it names a zone of the IANA database.
    pub fn timezone(&self) -> Option<TimeZone> {
        TimeZone::get(self.attribute("timezone").as_text()?.trim()).ok()
    }

    /// The column `locale`, or the default.
    pub fn locale<'a>(&'a self, default: &'a str) -> &'a str {
        self.attribute("locale").as_text().unwrap_or(default)
    }
}
