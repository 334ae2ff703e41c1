//! How people are known at Google: as its own libraries write them before they are hashed.

use connector::Member;
use model::profile::Profile;
use serde_json::{Map, Value, json};

use super::settings::Known;
use crate::identifiers::{self, hashed, phone, text};

/// Whom a letter calls so is not called so in the list.
const TITLES: &[&str] = &["mr.", "mrs.", "ms.", "dr."];
/// What follows a family's name and is none of it.
const SUFFIXES: &[&str] = &[
    "jr", "jr.", "sr", "sr.", "2nd", "3rd", "ii", "iii", "iv", "v", "vi", "cpa", "dc", "dds", "vm", "jd",
    "md", "phd",
];

/// A person by what the settings allow; `None`: none of it is there.
pub(super) fn member(profile: &Profile, known: &[Known]) -> Option<Member> {
    let mut found = Map::new();
    let mut put = |name: &str, text: Option<String>| {
        found.extend(text.map(|text| (name.to_owned(), Value::String(text))));
    };
    // In an order of ours: that of the settings would make somebody else of everybody.
    if known.contains(&Known::Email) {
        put("email", email(profile).and_then(|email| hashed(&email)));
    }
    if known.contains(&Known::Phone) {
        put("phone", phone(profile).and_then(|phone| hashed(&phone)));
    }
    // Google takes an address whole or not at all.
    if known.contains(&Known::Address)
        && let Some(parts) = address(profile)
    {
        for (name, part) in ["first_name", "last_name", "country", "postal_code"].into_iter().zip(parts) {
            put(name, Some(part));
        }
    }
    Member::of(found)
}

/// A member as it stands in a request.
pub(super) fn audience_member(member: &Member) -> Value {
    let known = member.identifiers();
    let email = known.get("email").map(|email| json!({ "emailAddress": email }));
    let phone = known.get("phone").map(|phone| json!({ "phoneNumber": phone }));
    let address = known.get("postal_code").map(|postal_code| {
        json!({ "address": {
            "givenName": known.get("first_name"), "familyName": known.get("last_name"),
            "regionCode": known.get("country"), "postalCode": postal_code,
        }})
    });
    let identifiers: Vec<Value> = [email, phone, address].into_iter().flatten().collect();
    json!({ "userData": { "userIdentifiers": identifiers } })
}

/// Google's own mail reads no dots before the `@`, and nothing from a plus on: all spellings of a mailbox are one. Anybody else's may tell them
/// apart.
fn email(profile: &Profile) -> Option<String> {
    let address = identifiers::email(profile)?;
    let (local, domain) = address.rsplit_once('@')?;
    if !["gmail.com", "googlemail.com"].contains(&domain) {
        return Some(address);
    }
    let local = local.split('+').next().unwrap_or_default().replace('.', "");
    (!local.is_empty()).then(|| format!("{local}@{domain}"))
}

/// First name, last name, country and postal code; the names hashed.
fn address(profile: &Profile) -> Option<[String; 4]> {
    Some([
        hashed(&given_name(&text(profile, "first_name")?)?)?,
        hashed(&family_name(&text(profile, "last_name")?)?)?,
        country(profile)?,
        text(profile, "postal_code")?,
    ])
}

fn given_name(text: &str) -> Option<String> {
    let text = text.trim().to_lowercase();
    let (first, rest) = text.split_once(char::is_whitespace).unwrap_or((&text, ""));
    let name = if TITLES.contains(&first) { rest.trim() } else { &text };
    (!name.is_empty()).then(|| name.to_owned())
}

fn family_name(text: &str) -> Option<String> {
    let text = text.trim().to_lowercase();
    let is_between = |c: char| c == ',' || c.is_whitespace();
    let mut name = &*text;
    while let Some((rest, last)) = name.rsplit_once(is_between)
        && SUFFIXES.contains(&last)
    {
        name = rest.trim_end_matches(is_between);
    }
    (!name.is_empty()).then(|| name.to_owned())
}

/// A country by its two letters (ISO 3166-1), in capitals.
fn country(profile: &Profile) -> Option<String> {
    let code = text(profile, "country")?.to_ascii_uppercase();
    (code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase())).then_some(code)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use model::ProfileNumber;

    use super::*;

    fn person(columns: &[(&str, &str)]) -> Profile {
        let attribute =
            |(name, text): &(&str, &str)| ((*name).to_owned(), model::Value::Text((*text).to_owned()));
        Profile {
            number: ProfileNumber(1),
            id: String::new(),
            attributes: columns.iter().map(attribute).collect::<BTreeMap<_, _>>(),
            account: Arc::default(),
        }
    }

    /// A column as it is, as it is normalised, and its hash; empty: there is none.
    type Vector = (&'static str, &'static str, &'static str, &'static str);

    /// What Google's own libraries make of these, and its published sample: column, text, normalised, SHA-256; where it is not hashed there is
    /// none, and where it is refused nothing. Its library for Node takes titles and suffixes off names, and that for Python (0.4.0) leaves
    /// them; here they are taken off. A number without its country is refused here on purpose: none of these is one.
    const VECTORS: &[Vector] = &[
        (
            "email",
            "user.name+NYC@Example.com",
            "user.name+nyc@example.com",
            "f109a2a632fbcea5fc82049f50beed3d8621bf9034399f437fb622222acccdac",
        ),
        (
            "email",
            "jefferson.Loves.hiking@googlemail.com",
            "jeffersonloveshiking@googlemail.com",
            "2824967181c781aced84c32bf8bb51fc6401202eeff88263776f63c99df9314c",
        ),
        (
            "email",
            "Cloudy.SanFrancisco+shopping@gmail.com",
            "cloudysanfrancisco@gmail.com",
            "223ebda6f6889b1494551ba902d9d381daf2f642bae055888e96343d53e9f9c4",
        ),
        (
            "email",
            "Cloudy.SanFrancisco+shopping@googlemail.com",
            "cloudysanfrancisco@googlemail.com",
            "332ed5427d17deb381928a719533e85046d68d7e45553abb805852b7d631fcb7",
        ),
        ("email", "quinn", "", ""),
        ("email", "", "", ""),
        ("email", "  ", "", ""),
        ("email", " ...@gmail.com", "", ""),
        ("email", "a b@example.com", "", ""),
        (
            "email",
            "alexz@example.com",
            "alexz@example.com",
            "509e933019bb285a134a9334b8bb679dff79d0ce023d529af4bd744d47b4fd8a",
        ),
        (
            "email",
            "  alexz@example.com",
            "alexz@example.com",
            "509e933019bb285a134a9334b8bb679dff79d0ce023d529af4bd744d47b4fd8a",
        ),
        (
            "email",
            "  alexz@EXAMPLE.com   ",
            "alexz@example.com",
            "509e933019bb285a134a9334b8bb679dff79d0ce023d529af4bd744d47b4fd8a",
        ),
        (
            "phone",
            "+1 800-555-0100",
            "+18005550100",
            "fb4f73a6ec5fdb7077d564cdd22c3554b43ce49168550c3b12c547b78c517b30",
        ),
        (
            "phone",
            "+441134960987",
            "+441134960987",
            "0fac52d27ec377f8ad2f9de75d1f9bace693237e31868ae6f4616b8bbd0e94fb",
        ),
        (
            "phone",
            "+44-113-496-0987",
            "+441134960987",
            "0fac52d27ec377f8ad2f9de75d1f9bace693237e31868ae6f4616b8bbd0e94fb",
        ),
        ("phone", "++++", "", ""),
        ("phone", "  ", "", ""),
        (
            "first_name",
            " Dr. Alex   ",
            "alex",
            "4135aa9dc1b842a653dea846903ddb95bfb8c5a10c504a7fa16e10bc31d1fdf0",
        ),
        ("first_name", " ", "", ""),
        ("first_name", " Mr. ", "", ""),
        (
            "last_name",
            " Quinn   ",
            "quinn",
            "c512ca0c5c1e71be19f3356821e56732b5fb3ac894b0dbc5846d0b6920106fb3",
        ),
        (
            "last_name",
            "Quinn-Alex",
            "quinn-alex",
            "91581930b788bf2fd4ea63d8783c8c3b4c7ac8575461e033d18ee7def6cd49a9",
        ),
        (
            "last_name",
            " Quinn, Jr.   ",
            "quinn",
            "c512ca0c5c1e71be19f3356821e56732b5fb3ac894b0dbc5846d0b6920106fb3",
        ),
        (
            "last_name",
            " Quinn Sr.  ",
            "quinn",
            "c512ca0c5c1e71be19f3356821e56732b5fb3ac894b0dbc5846d0b6920106fb3",
        ),
        (
            "last_name",
            "quinn, jr. dds",
            "quinn",
            "c512ca0c5c1e71be19f3356821e56732b5fb3ac894b0dbc5846d0b6920106fb3",
        ),
        (
            "last_name",
            "quinn, jr., dds",
            "quinn",
            "c512ca0c5c1e71be19f3356821e56732b5fb3ac894b0dbc5846d0b6920106fb3",
        ),
        (
            "last_name",
            "Boardds",
            "boardds",
            "ed2ce2a4fb1081fcf78fb168f1b7ddd1fa60e5b148b16e58c52ddc668e0b5e8a",
        ),
        (
            "last_name",
            "lacparm",
            "lacparm",
            "6793ef6c5c3f5a5204d862785be3a48410b5b1762c9cc9e852989a5687d01f90",
        ),
        (
            "first_name",
            "  GivenName  ",
            "givenname",
            "128a07bfe2df877c52076e60d7774cf5baaa046c5a6c48daf30ff43ecca2f814",
        ),
        ("country", "  us  ", "US", ""),
        ("country", " uS ", "US", ""),
        ("country", "  ", "", ""),
        ("country", "u", "", ""),
        ("country", " u s ", "", ""),
        ("postal_code", " 94045  ", "94045", ""),
        ("postal_code", "1229-076", "1229-076", ""),
        (
            "email",
            "john@doe.com",
            "john@doe.com",
            "d709f370e52b57b4eb75f04e2b3422c4d41a05148cad8f81776d94a048fb70af",
        ),
        (
            "phone",
            "+551199999999",
            "+551199999999",
            "a58d4dce9db87c65ebb6137f91edb9bbe7f274f5b0d07eea82f756ea70532b9c",
        ),
        ("first_name", "John ", "john", "96d9632f363564cc3032521409cf22a852f2032eec099ed5967c0d000cec607a"),
        ("last_name", " Doe", "doe", "799ef92a11af918e3fb741df42934f3b568ed2d93ac1df74f1b8d41a27932a6f"),
        (
            "email",
            "jane@doe.com",
            "jane@doe.com",
            "7c815580ad3844bcb627c74d24eaf700e1a711d9c23e9beb62ab8d28e8cb7954",
        ),
        (
            "phone",
            "+551199999910",
            "+551199999910",
            "d9303375de7036858c05f5836dd6db59d7f66899d3c8f85fbf09a8b60c79b236",
        ),
        (
            "email",
            "only@email.com",
            "only@email.com",
            "785af30a27e429e1a2dc2f5e589d59f268239db551c3af29821eb0b3f05d40af",
        ),
        (
            "email",
            "ca.us@gmail.com",
            "caus@gmail.com",
            "93d8aed730ac1b81df54d22efa758fc707f9f2763b59769d1f36c9ce9ff160b0",
        ),
        (
            "email",
            "us.ca@doe.com",
            "us.ca@doe.com",
            "5de5320a299a39f8c370f6940b481ce30a46ac835d11632d99220ab0a0993dbf",
        ),
    ];

    #[test]
    fn people_are_known_as_googles_libraries_write_them() {
        for (column, raw, normalised, hash) in VECTORS {
            let profile = person(&[(column, raw)]);
            let text = text(&profile, column);
            let found = match *column {
                "email" => email(&profile),
                "phone" => phone(&profile),
                "first_name" => text.and_then(|text| given_name(&text)),
                "last_name" => text.and_then(|text| family_name(&text)),
                "country" => country(&profile),
                "postal_code" => text,
                _ => panic!("{column}"),
            };
            assert_eq!(found.as_deref(), Some(*normalised).filter(|text| !text.is_empty()), "{raw:?}");
            if !hash.is_empty() {
                assert_eq!(found.and_then(|text| hashed(&text)).as_deref(), Some(*hash), "{raw:?}");
            }
        }
    }

    #[test]
    fn an_address_is_whole_or_not_there() {
        let all = [("first_name", "Ana"), ("last_name", "Li"), ("country", "de"), ("postal_code", "10115")];
        let member_of = |columns: &[(&str, &str)]| member(&person(columns), &[Known::Address]);
        let whole = member_of(&all).unwrap();
        assert_eq!(whole.get("country").as_deref(), Some("DE"));
        for left_out in 0..all.len() {
            let mut some = all.to_vec();
            some.remove(left_out);
            assert_eq!(member_of(&some), None);
        }
        assert_eq!(member(&person(&all), &[Known::Email, Known::Phone]), None, "not what the settings allow");
    }

    #[test]
    fn the_order_of_the_settings_makes_nobody_else() {
        let ana = person(&[("email", "ana@example.test"), ("phone", "+4930901820")]);
        assert_eq!(
            member(&ana, &[Known::Email, Known::Phone]),
            member(&ana, &[Known::Phone, Known::Email, Known::Phone])
        );
    }
}
