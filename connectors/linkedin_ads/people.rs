//! How people are known at LinkedIn: by the hash of an address, by their names, or by both.

use connector::{Member, Verb};
use model::profile::Profile;
use serde_json::{Map, Value, json};

use super::settings::Known;
use crate::identifiers::{email, hashed, text};

/// What is not hashed: the column, how LinkedIn calls it, and how many characters it takes.
const IN_THE_CLEAR: &[(Known, &str, &str, usize)] = &[
    (Known::FirstName, "first_name", "firstName", 35),
    (Known::LastName, "last_name", "lastName", 35),
    (Known::Title, "title", "title", 50),
    (Known::Company, "company", "company", 50),
    (Known::Country, "country", "country", 2),
];

/// A person by what the settings allow; `None`: nothing that is enough.
pub(super) fn member(profile: &Profile, known: &[Known]) -> Option<Member> {
    let mut found = Map::new();
    if known.contains(&Known::Email)
        && let Some(hash) = email(profile).and_then(|email| hashed(&email))
    {
        found.insert("email".to_owned(), hash.into());
    }
    for (one, column, _, chars_max) in IN_THE_CLEAR {
        // What is too long is left out: half a name is somebody else's.
        if known.contains(one)
            && let Some(text) = text(profile, column).filter(|text| text.chars().count() <= *chars_max)
        {
            let text = if *one == Known::Country { country(&text) } else { Some(text) };
            found.extend(text.map(|text| ((*column).to_owned(), Value::String(text))));
        }
    }
    // What somebody does, and where, is said of many.
    let is_enough =
        found.contains_key("email") || found.contains_key("first_name") && found.contains_key("last_name");
    is_enough.then(|| Member::of(found)).flatten()
}

/// A country by its two letters (ISO 3166-1), in capitals.
fn country(text: &str) -> Option<String> {
    let code = text.to_ascii_uppercase();
    (code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase())).then_some(code)
}

/// A member as it stands in a request.
pub(super) fn element(member: &Member, verb: Verb) -> Value {
    let known = member.identifiers();
    let action = match verb {
        Verb::Add => "ADD",
        Verb::Remove => "REMOVE",
    };
    let mut element = json!({ "action": action });
    if let Some(hash) = known.get("email") {
        element["userIds"] = json!([{ "idType": "SHA256_EMAIL", "idValue": hash }]);
    }
    for (_, column, name, _) in IN_THE_CLEAR {
        if let Some(text) = known.get(*column) {
            element[*name] = text.clone();
        }
    }
    element
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::ProfileNumber;

    use super::*;

    const ALL: &[Known] =
        &[Known::Email, Known::FirstName, Known::LastName, Known::Title, Known::Company, Known::Country];

    fn member_of(columns: &[(&str, &str)], known: &[Known]) -> Option<Map<String, Value>> {
        let attribute =
            |(name, text): &(&str, &str)| ((*name).to_owned(), model::Value::Text((*text).to_owned()));
        let profile = Profile {
            number: ProfileNumber(1),
            id: String::new(),
            attributes: columns.iter().map(attribute).collect(),
            account: Arc::default(),
        };
        member(&profile, known).map(|member| member.identifiers())
    }

    /// LinkedIn publishes no vectors of its own. Dots and plus signs stay: nothing it says takes them out.
    #[test]
    fn an_address_is_lower_case_and_hashed() {
        for (raw, hash) in [
            (" Test@Example.COM ", "973dfe463ec85785f5f95af5ba3906eedb2d931c24e69824a89ea65dba4e813b"),
            (
                "cloudy.sanfrancisco+shopping@gmail.com",
                "8dd4a9bf850242873c14976125edabc35096192b784626a5641a7d2de56e3c1e",
            ),
        ] {
            assert_eq!(member_of(&[("email", raw)], ALL).unwrap()["email"], hash, "{raw}");
        }
        for nobody in ["", "  ", "quinn", "a b@example.com"] {
            assert_eq!(member_of(&[("email", nobody)], ALL), None, "{nobody:?}");
        }
    }

    #[test]
    fn without_an_address_both_names_are_needed() {
        let (first, last, title) = (("first_name", "Ana"), ("last_name", "Li"), ("title", "Engineer"));
        assert_eq!(member_of(&[first, title], ALL), None);
        assert_eq!(member_of(&[first, last, title], ALL).map(|known| known.len()), Some(3));
        assert_eq!(member_of(&[first, last], &[Known::Email]), None, "not what the settings allow");
    }

    #[test]
    fn what_is_too_long_or_no_country_is_left_out() {
        let long = "x".repeat(36);
        for (column, text, kept) in [
            ("first_name", long.as_str(), None),
            ("title", long.as_str(), Some(long.as_str())),
            ("country", "us", Some("US")),
            ("country", "Germany", None),
            ("country", "u1", None),
        ] {
            let known = member_of(&[("email", "a@b.test"), (column, text)], ALL).unwrap();
            assert_eq!(known.get(column).and_then(Value::as_str), kept, "{column}: {text}");
        }
    }
}
