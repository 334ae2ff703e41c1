//! What connectors that speak HTTP have in common.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use connector::feedback::{Inbound, NotHeard};
use connector::http::{base_url_mistake, host_and_port};
use connector::{Reach, SettingsMistake};
use model::fault::mutant;
use serde_json::{Value, json};

/// Conversations at the same time, where a setting does not say.
pub(crate) fn connections() -> u16 {
    8
}

/// A provider's API, and how it is spoken to.
#[derive(Debug)]
pub(crate) struct Api {
    /// The beginning of its URLs, without a slash at the end.
    pub(crate) base: String,
    /// Where that leads.
    pub(crate) reach: Reach,
    /// Conversations at the same time.
    pub(crate) connections: usize,
}

impl Api {
    /// That of a provider whose URLs begin with `own`, unless the setting `base_url` says otherwise. What is wrong with the settings is added to
    /// `mistakes`.
    pub(crate) fn of(
        own: &str,
        base_url: Option<&str>,
        connections: u16,
        mistakes: &mut Vec<SettingsMistake>,
    ) -> Option<Self> {
        if let Some(mistake) = base_url.and_then(base_url_mistake) {
            mistakes.push(SettingsMistake::new("base_url", mistake));
        }
        mistakes.extend(connections_mistake(connections));
        let base = base_url.unwrap_or(own).trim_end_matches('/');
        let (host, port) = host_and_port(base)?;
        Some(Self {
            base: base.to_owned(),
            reach: Reach::Network { host, port },
            connections: usize::from(connections),
        })
    }
}

/// What is wrong with a number of conversations.
pub(crate) fn connections_mistake(connections: u16) -> Option<SettingsMistake> {
    let fits = (1..=200).contains(&connections);
    (!fits).then(|| SettingsMistake::new("connections", "expected a whole number from 1 to 200"))
}

/// A secret that goes into a header holds nothing that a header cannot.
pub(crate) fn secret_mistake(key: &str, text: &str) -> Option<SettingsMistake> {
    let fits = !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
    (!fits).then(|| SettingsMistake::new(key, "expected a key without spaces and line breaks"))
}

/// HMAC-SHA256.
pub(crate) fn hmac_sha256(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

/// Base64 as everybody writes it (RFC 4648, section 4).
pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Whether two texts are equal, in a time that does not tell where they differ.
pub(crate) fn is_equal(left: &[u8], right: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(left, right).is_ok() || mutant("forged_heard")
}

/// What Standard Webhooks sign, and how (<https://www.standardwebhooks.com>): whether one of the signatures is by one of these keys.
fn is_standard_webhook(keys: &[Vec<u8>], id: &str, stamp: &str, body: &[u8], signatures: &str) -> bool {
    let signed = [id.as_bytes(), b".", stamp.as_bytes(), b".", body].concat();
    keys.iter().any(|key| {
        let expected = format!("v1,{}", base64(&hmac_sha256(key, &signed)));
        signatures.split(' ').any(|given| is_equal(given.as_bytes(), expected.as_bytes()))
    })
}

/// What somebody tells who signs as Standard Webhooks say, with headers that begin so; and its id.
pub(crate) fn standard_event(
    keys: &[Vec<u8>],
    inbound: &Inbound,
    prefix: &str,
) -> Result<(String, Value), NotHeard> {
    let header = |name: &str| inbound.header(&format!("{prefix}-{name}"));
    let (id, stamp) = (header("id"), header("timestamp"));
    if !is_standard_webhook(keys, id, stamp, &inbound.body, header("signature"))
        || !inbound.is_about_now(stamp)
    {
        return Err(NotHeard::Forged);
    }
    Ok((id.to_owned(), serde_json::from_slice(&inbound.body).map_err(|_| NotHeard::Garbled)?))
}

/// The bytes of a secret of Standard Webhooks: `whsec_` and base64, with padding or without, of 24 to 64 bytes.
pub(crate) fn webhook_key(text: &str) -> Option<Vec<u8>> {
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let bytes =
        GeneralPurpose::new(&alphabet::STANDARD, lenient).decode(text.strip_prefix("whsec_")?).ok()?;
    (24..=64).contains(&bytes.len()).then_some(bytes)
}

/// What is wrong with a secret that [`webhook_key`] cannot read.
pub(crate) const WEBHOOK_KEY: &str =
    "expected `whsec_` and 24 to 64 bytes in base64, such as `openssl rand -base64 32` gives them";

/// A text as it stands in a query or a path (RFC 3986, section 2.3: unreserved characters stay).
pub(crate) fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Headers as objects with a name and a value, under these keys.
pub(crate) fn header_objects(headers: &[(String, String)], name_key: &str, value_key: &str) -> Value {
    headers.iter().map(|(name, value)| json!({ name_key: name, value_key: value })).collect()
}

/// Headers as one object.
pub(crate) fn header_map(headers: &[(String, String)]) -> Value {
    Value::Object(headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect())
}

/// A text in an answer, by the path of keys to it.
pub(crate) fn text_at(body: &Value, path: &str) -> Option<String> {
    body.pointer(path)?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use model::id::hex;

    use super::*;

    #[test]
    fn hmac_is_what_rfc_4231_says() {
        let sign = hex(&hmac_sha256(b"Jefe", b"what do ya want for nothing?"));
        assert_eq!(sign, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn what_is_not_unreserved_is_escaped() {
        assert_eq!(percent("a-b_c.d~e f/@\u{e9}"), "a-b_c.d~e%20f%2F%40%C3%A9");
    }
}
