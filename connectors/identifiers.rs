//! How people are known at ad platforms: what all of them begin with. What one platform does otherwise is in its own folder.

use connector::{Change, Member, Verb};
use model::id::sha256_hex;
use model::profile::Profile;

/// A mail address, trimmed and in lower case, its domain in ASCII; `None`: none that mail could go to.
pub(crate) fn email(profile: &Profile) -> Option<String> {
    profile.email()?.ok().map(|address| address.normalised())
}

/// A phone number as E.164 writes it: `+`, the country's code, and the number; at most 15 digits (ITU-T E.164, section 6). Spaces, dots,
/// dashes, slashes and brackets are left out. `None`: it does not begin with `+` or `00`, so that nobody knows its country; or it holds a
/// `(0)`, which is dialled within a country only, and would make it somebody else's number.
pub(crate) fn e164(text: &str) -> Option<String> {
    let text = text.trim();
    let rest = text.strip_prefix('+').or_else(|| text.strip_prefix("00"))?;
    if rest.replace(' ', "").contains("(0)") {
        return None;
    }
    let digits: String = rest.chars().filter(|c| !" .-/()\u{a0}".contains(*c)).collect();
    let is_number = (8..=15).contains(&digits.len())
        && digits.chars().all(|c| c.is_ascii_digit())
        && !digits.starts_with('0');
    is_number.then(|| format!("+{digits}"))
}

/// The column `phone`, as [`e164`] writes it.
pub(crate) fn phone(profile: &Profile) -> Option<String> {
    e164(profile.attribute("phone").as_text()?)
}

/// A column, trimmed; `None` where there is nothing in it.
pub(crate) fn text(profile: &Profile, column: &str) -> Option<String> {
    profile.attribute(column).as_text().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// What a service of one's own is told: the id, and these columns as they are. `None`: the person has no id.
pub(crate) fn columns(profile: &Profile, columns: &[String]) -> Option<Member> {
    if profile.id.is_empty() {
        return None;
    }
    let column = |name: &String| match name.as_str() {
        "email" => Some((name.clone(), email(profile)?.into())),
        other => Some((name.clone(), text(profile, other)?.into())),
    };
    let id = ("id".to_owned(), profile.id.clone().into());
    Member::of(std::iter::once(id).chain(columns.iter().filter_map(column)).collect())
}

/// The columns where a setting does not say.
pub(crate) fn default_columns() -> Vec<String> {
    vec!["email".to_owned()]
}

/// What the rows of a change are made of, in order: the keys of `all` that are allowed; and where people are removed, those that they were added
/// by, too. Who came under settings before these could be removed by nothing else.
pub(crate) fn schema(
    all: &[(&str, &'static str)],
    allowed: &[&'static str],
    change: &Change,
) -> Vec<&'static str> {
    let is_removal = change.verb == Verb::Remove;
    let was_added_by =
        |key: &str| is_removal && change.members.iter().any(|member| member.get(key).is_some());
    all.iter().map(|(_, key)| *key).filter(|key| allowed.contains(key) || was_added_by(key)).collect()
}

/// SHA-256 in lower-case hexadecimal. What is hashed already (64 digits of hexadecimal) stays as it is. Nothing is never hashed: its hash
/// would be everybody's who has nothing.
pub(crate) fn hashed(text: &str) -> Option<String> {
    let is_hash = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match text {
        "" => None,
        hash if is_hash => Some(hash.to_ascii_lowercase()),
        text => Some(sha256_hex(text.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_known_with_its_country_only() {
        for (text, expected) in [
            ("+49 30 901820", Some("+4930901820")),
            ("0044 20 7123 4567", Some("+442071234567")),
            ("+1 (555) 123-4567", Some("+15551234567")),
            ("+44 (0)20 7123 4567", None),
            ("+44 ( 0 ) 20 7123 4567", None),
            ("020 7123 4567", None),
            ("+0000000000", None),
            ("+12345678901234567", None),
            ("+49 30 90x820", None),
            ("+1234567", None),
            ("++++", None),
            ("", None),
        ] {
            assert_eq!(e164(text), expected.map(str::to_owned), "{text}");
        }
    }

    #[test]
    fn nothing_is_not_hashed_and_a_hash_is_not_hashed_again() {
        assert_eq!(hashed(""), None);
        let hash = hashed("test@example.com").unwrap();
        assert_eq!(hash, "973dfe463ec85785f5f95af5ba3906eedb2d931c24e69824a89ea65dba4e813b");
        assert_eq!(hashed(&hash.to_uppercase()), Some(hash));
    }
}
