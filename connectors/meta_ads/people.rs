//! What a person is known by at Meta (<https://developers.facebook.com/docs/marketing-api/audiences/guides/custom-audiences>).
//!
//! Not done: Unicode's composed form (NFC). A name that holds a combining accent is left out, since its hash would match nobody.

use connector::{Identifier, Member};
use model::profile::Profile;
use serde_json::{Map, Value};

use crate::identifiers::{email, hashed, phone, text};

/// The columns that may leave, with Meta's key for each, in the order of every request.
pub(super) const COLUMNS: &[(&str, &str)] = &[
    ("id", "EXTERN_ID"),
    ("email", "EMAIL"),
    ("phone", "PHONE"),
    ("first_name", "FN"),
    ("last_name", "LN"),
    ("city", "CT"),
    ("state", "ST"),
    ("postal_code", "ZIP"),
    ("country", "COUNTRY"),
];

/// The same, as the kind declares them.
pub(super) const IDENTIFIERS: &[Identifier] = &[
    Identifier { column: "id", normaliser: "as it is/1", is_hashed: false },
    Identifier { column: "email", normaliser: "lower case/1", is_hashed: true },
    Identifier { column: "phone", normaliser: "digits with country/1", is_hashed: true },
    Identifier { column: "first_name", normaliser: "letters/1", is_hashed: true },
    Identifier { column: "last_name", normaliser: "letters/1", is_hashed: true },
    Identifier { column: "city", normaliser: "letters/1", is_hashed: true },
    Identifier { column: "state", normaliser: "letters/1", is_hashed: true },
    Identifier { column: "postal_code", normaliser: "up to the dash/1", is_hashed: true },
    Identifier { column: "country", normaliser: "two letters/1", is_hashed: true },
];

/// Of these there must be one: where somebody lives, and a first name, say of nobody who it is.
const NAMING: &[&str] = &["EXTERN_ID", "EMAIL", "PHONE", "LN"];

/// Meta's keys for columns, in the order of every request; otherwise what is wrong with them.
pub(super) fn allowed(columns: &[String]) -> Result<Vec<&'static str>, String> {
    let is_known = |named: &String| COLUMNS.iter().any(|(column, _)| column == named);
    if columns.is_empty() || !columns.iter().all(is_known) {
        let known: Vec<&str> = COLUMNS.iter().map(|(column, _)| *column).collect();
        return Err(format!("expected a list of some of {}", known.join(", ")));
    }
    let keys = COLUMNS.iter().filter(|(column, _)| columns.iter().any(|named| named == column));
    let keys: Vec<&str> = keys.map(|(_, key)| *key).collect();
    if !keys.iter().any(|key| NAMING.contains(key)) {
        return Err(
            "expected `id`, `email`, `phone` or `last_name` among them: nobody is known without".to_owned()
        );
    }
    Ok(keys)
}

/// What Meta may be told of a person: Meta's keys, with what it is to match.
pub(super) fn member(profile: &Profile, allowed: &[&str]) -> Option<Member> {
    let known = COLUMNS.iter().filter(|(_, key)| allowed.contains(key));
    let cells: Map<String, Value> =
        known.filter_map(|(column, key)| Some(((*key).to_owned(), cell(profile, column)?.into()))).collect();
    let is_somebody = NAMING.iter().any(|key| cells.contains_key(*key));
    if is_somebody { Member::of(cells) } else { None }
}

/// One column as Meta takes it; `None`: nothing, or nothing that could match.
pub(super) fn cell(profile: &Profile, column: &str) -> Option<String> {
    if column == "id" {
        // It goes as it is, so one that is a mail address stays here.
        let id = profile.id.trim();
        return (!id.is_empty() && !id.contains('@')).then(|| id.to_owned());
    }
    let raw = text(profile, column)?;
    // What was hashed before it came to us is not to be normalised.
    if let Some(hash) = hashed(&raw).filter(|hash| hash.eq_ignore_ascii_case(&raw)) {
        return Some(hash);
    }
    let normalised = match column {
        "email" => email(profile)?,
        // E.164 without its plus; a country's code begins with no zero.
        "phone" => phone(profile)?.trim_start_matches('+').to_owned(),
        "postal_code" => postal_code(&raw)?,
        "country" => country(&raw)?,
        _ => letters(&raw)?,
    };
    hashed(&normalised)
}

/// Letters of any script, in lower case: no digits, spaces and punctuation.
fn letters(text: &str) -> Option<String> {
    let is_composed = !text.chars().any(|c| ('\u{300}'..='\u{36f}').contains(&c));
    is_composed.then(|| text.to_lowercase().chars().filter(|c| c.is_alphabetic()).collect())
}

/// What stands before the dash, which in the US is the code without its four digits more. One character is no code.
fn postal_code(text: &str) -> Option<String> {
    let start = text.split('-').next()?;
    let code: String = start.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect();
    (code.chars().count() > 1).then_some(code)
}

/// ISO 3166-1's two letters. A country's name is not one: a guess would be a wrong match.
fn country(text: &str) -> Option<String> {
    let is_code = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_alphabetic());
    is_code.then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn profile(id: &str, columns: &[(&str, &str)]) -> Profile {
        let mut profile = connector::golden::sample_people()[0].clone();
        id.clone_into(&mut profile.id);
        profile.attributes = columns
            .iter()
            .map(|(name, text)| ((*name).to_owned(), model::Value::Text((*text).to_owned())))
            .collect::<BTreeMap<_, _>>();
        profile
    }

    /// What Meta's own libraries and documents say, and what connectors of others that agree with these do: the column, what is in it, what is
    /// hashed and the hash.
    #[test]
    fn people_are_known_as_meta_says() {
        for (column, raw, normalised, sha256) in [
            // Meta's library for Java.
            (
                "first_name",
                "John",
                "john",
                "96d9632f363564cc3032521409cf22a852f2032eec099ed5967c0d000cec607a",
            ),
            (
                "city",
                "London  ",
                "london",
                "6089854c94ca5454b76be6752c562901a985f64c9a946f62976aeab593b83161",
            ),
            (
                "city",
                "Stanley Park 1234",
                "stanleypark",
                "672bffb0f5e4bfa40cda789eac122c0c31711deb4627238c69cbe45af7ec3c94",
            ),
            (
                "city",
                "San Jos\u{e9}",
                "sanjos\u{e9}",
                "fcc7b12e619d7e36782eeba767f24c4fe9dd54a931994e68c515be24bd046b59",
            ),
            (
                "state",
                "California",
                "california",
                "7e8eea5cc60980270c9ceb75ce8c087d48d726110fd3d17921f774eefd8e18d8",
            ),
            (
                "state",
                "Washington, D.C.",
                "washingtondc",
                "911fa18df8b2a4ff2652c32a0efa25516115d6fb0170849a41f38113e5371fe0",
            ),
            ("country", "US", "us", "79adb2a2fce5c6ba215fe5f27f532d4e7edbac4b6a5e09e1ef3a08084a904621"),
            (
                "postal_code",
                "98 121-9431",
                "98121",
                "a77c0363c8e376696caa1c871266c54476d5ac554bfd6eeb4f42f6a8d607e8fe",
            ),
            (
                "postal_code",
                "NR9 5AL",
                "nr95al",
                "1d62287dd0994fc3728f000dea1ee560d7a81120de2a911871adbad59d64701d",
            ),
            (
                "postal_code",
                "641041-ABC-XYZ",
                "641041",
                "e8cc0cf449ebf3dafa66ca56c1b0e975c2b7047f377852c605886f685eaceabf",
            ),
            // Its library for Python, where it does what its documents say.
            (
                "email",
                " Test@Example.COM ",
                "test@example.com",
                "973dfe463ec85785f5f95af5ba3906eedb2d931c24e69824a89ea65dba4e813b",
            ),
            (
                "email",
                "cloudy.sanfrancisco+shopping@gmail.com",
                "cloudy.sanfrancisco+shopping@gmail.com",
                "8dd4a9bf850242873c14976125edabc35096192b784626a5641a7d2de56e3c1e",
            ),
            (
                "email",
                "user.name+nyc@example.com",
                "user.name+nyc@example.com",
                "f109a2a632fbcea5fc82049f50beed3d8621bf9034399f437fb622222acccdac",
            ),
            (
                "phone",
                "+1-555-123-4567",
                "15551234567",
                "d6736136ea896c1bfdc553e0e86e702c70d060d805696ca3e4e9e0961353860a",
            ),
            (
                "last_name",
                "O'Brien",
                "obrien",
                "b4cb6cb33fe4b865868de825023a1e2790dc12ac01ecc8d7c5afe8254071c8ba",
            ),
            (
                "city",
                "San Francisco",
                "sanfrancisco",
                "1a6bd4d9d79dc0a79b53795c70d3349fa9e38968a3fbefbfe8783efb1d2b6aac",
            ),
            ("state", "CA", "ca", "6959097001d10501ac7d54c0bdb8db61420f658f2922cc26e46d536119a31126"),
            (
                "postal_code",
                "94107-1234",
                "94107",
                "c884a209ebe08750a7d13db63bd02233b375bd79786cbe329ab11586cc35dead",
            ),
            // Its documents: letters outside ASCII stay, though its libraries for Python and PHP drop them.
            (
                "first_name",
                "Jos\u{e9}",
                "jos\u{e9}",
                "d994e1d001886fe5b45b1267bd1fa2b752ac50742579bd3dad7b2a2aa0ed6866",
            ),
            // Zeros before the country's code go; its library for Python leaves them.
            (
                "phone",
                "0044 207 123 4567",
                "442071234567",
                "7832ae034a3179d5f2260e4bec5b6b1756ade7bf4ced1f6fc7a8040529fd9e57",
            ),
            // Others, where they agree with these. Some make `ca` of `California`; Meta's own libraries do not.
            (
                "phone",
                "+1 (800) 555-1234",
                "18005551234",
                "655dbe4f7591d8ffe8c86b433ed53aa325b40e1be892167ae2e17118da8279c9",
            ),
            (
                "first_name",
                "  John  ",
                "john",
                "96d9632f363564cc3032521409cf22a852f2032eec099ed5967c0d000cec607a",
            ),
            (
                "first_name",
                "smith",
                "smith",
                "6627835f988e2c5e50533d491163072d3f4f41f5c8b04630150debb3722ca2dd",
            ),
            (
                "city",
                " New York ",
                "newyork",
                "350c754ba4d38897693aa077ef43072a859d23f613443133fecbbd90a3512ca5",
            ),
            (
                "state",
                "Bavaria",
                "bavaria",
                "542e2cb66b44892896ac725b78dca7bb155db1280f9974b5cf07db1d483ba327",
            ),
            (
                "postal_code",
                " 90210-1234",
                "90210",
                "b83c588da0c6931625f42e0948054a3ade722bfd02c27816305742ed7390ac6c",
            ),
            (
                "postal_code",
                "SW1A 1AA",
                "sw1a1aa",
                "830e1d4b9838bab1f5c2acdb23e0b502ff13a9832c4632e8d67a1d43d3b7f614",
            ),
            (
                "postal_code",
                " 94102 ",
                "94102",
                "8137c19c8f35f6b6a1cce99753226e1c7211eaaebd68528b789f973b0be95e31",
            ),
            ("country", "GB", "gb", "0b407281768f0e833afef47ed464b6571d01ca4d53c12ce5c51d1462f4ad6677"),
        ] {
            assert_eq!(hashed(normalised).as_deref(), Some(sha256), "the table: {normalised}");
            let found = cell(&profile("", &[(column, raw)]), column);
            assert_eq!(found.as_deref(), Some(sha256), "{column} {raw:?}");
        }
    }

    #[test]
    fn what_would_match_nobody_or_somebody_else_is_left_out() {
        for (column, raw) in [
            // Meta's library for Java refuses these.
            ("country", "Germany"),
            ("postal_code", "A"),
            ("phone", "12345"),
            ("phone", "123456123456123456123456"),
            ("email", "TEST"),
            // Others hash these: a country's name as if it were a code, and a number that is not E.164 (`+001` is no country's code).
            ("country", "United States"),
            ("phone", "+001-800-555-1234"),
            ("phone", "+0000000000"),
            // All of Meta's libraries make somebody else's number of this one.
            ("phone", "+44 (0)20 7123 4567"),
            ("first_name", "Jose\u{301}"),
            ("first_name", " - "),
            ("city", "1234"),
            ("postal_code", "-1234"),
            ("email", ""),
        ] {
            assert_eq!(cell(&profile("", &[(column, raw)]), column), None, "{column} {raw:?}");
        }
    }

    #[test]
    fn a_hash_stays_and_an_id_goes_in_the_clear_unless_it_is_an_address() {
        let hash = "973DFE463EC85785F5F95AF5BA3906EEDB2D931C24E69824A89EA65DBA4E813B";
        for column in ["email", "phone", "first_name", "postal_code", "country"] {
            let found = cell(&profile("", &[(column, hash)]), column);
            assert_eq!(found, Some(hash.to_lowercase()), "{column}");
        }
        assert_eq!(cell(&profile(" c-7 ", &[]), "id").as_deref(), Some("c-7"));
        assert_eq!(cell(&profile("ana@example.test", &[]), "id"), None);
    }

    #[test]
    fn nothing_leaves_that_is_not_allowed() {
        let ana = &connector::golden::sample_people()[0];
        let keys = |allowed: &[&str]| {
            let known = member(ana, allowed).map(|member| member.identifiers()).unwrap_or_default();
            known.keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(keys(&["PHONE", "EMAIL"]), ["EMAIL", "PHONE"]);
        assert_eq!(keys(&[]), Vec::<String>::new());
        assert_eq!(keys(&["FN", "COUNTRY"]), Vec::<String>::new(), "somebody called Ana in the US is nobody");
        let declared: Vec<&str> = IDENTIFIERS.iter().map(|identifier| identifier.column).collect();
        assert_eq!(declared, COLUMNS.iter().map(|(column, _)| *column).collect::<Vec<_>>());
    }
}
