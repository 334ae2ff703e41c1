//! Tokens in the links of a message: who asks, about which delivery, and for what. Opaque, unforgeable, and derived, so that
//! every attempt at a delivery carries the same ones.
//!
//! A token is base64url of `version, key id, seal (16 bytes), sealed payload`. The seal is HMAC-SHA256 over the purpose and the
//! payload; the payload is covered with a keystream derived from the seal (a synthetic initialisation vector: equal tokens come
//! only from equal claims). Keys for sealing and covering are derived from the given one, apart for each purpose. Deliberately
//! absent: an expiry. A way out of a list must work for as long as somebody may hold the mail.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::{Channel, DeliveryId, ProfileNumber};

/// A secret key, and the number by which tokens name it.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// Told apart by this; unique among the keys in use.
    pub id: u8,
    /// The secret.
    pub bytes: [u8; 32],
}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Key({}, [secret])", self.id)
    }
}

/// What a link is for. A token for one is no token for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To opt out; can only reduce permission.
    Unsubscribe,
    /// To see and change what the person gets.
    Preferences,
}

impl Purpose {
    fn label(self) -> &'static str {
        match self {
            Self::Unsubscribe => "unsubscribe",
            Self::Preferences => "preferences",
        }
    }
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// For what.
    pub purpose: Purpose,
    /// Whose.
    pub profile: ProfileNumber,
    /// The delivery it came with.
    pub delivery: DeliveryId,
    /// By what medium.
    pub channel: Channel,
}

const VERSION: u8 = 1;
const SEAL_BYTES: usize = 16;
/// Version, key id and seal; the payload follows.
const HEAD_BYTES: usize = 2 + SEAL_BYTES;
/// Channel, profile, form of the delivery id; the delivery id follows.
const FIXED_BYTES: usize = 6;
/// A derived delivery id, as its 20 bytes. Any other is kept as text, up to [`DELIVERY_BYTES_MAX`].
const DELIVERY_BYTES: usize = 20;
const DELIVERY_BYTES_MAX: usize = 48;
/// No token is longer (in characters).
const TOKEN_CHARS_MAX: usize = 120;

/// Signs a claim with the newest key, which stands first. Without a key there is no token, and the text is empty.
pub fn issue(keys: &[Key], claim: &Claim) -> String {
    let Some(key) = keys.first() else { return String::new() };
    let mut payload = pack(claim);
    let keys = Derived::of(key, claim.purpose);
    let seal = keys.seal(&payload);
    keys.cover(&seal, &mut payload);
    let mut token = Vec::with_capacity(HEAD_BYTES + payload.len());
    token.extend([VERSION, key.id]);
    token.extend(seal);
    token.extend(payload);
    URL_SAFE_NO_PAD.encode(token)
}

/// The claim of a token, if one of the keys signed it for this purpose.
pub fn verify(keys: &[Key], token: &str, purpose: Purpose) -> Option<Claim> {
    if token.len() > TOKEN_CHARS_MAX {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (head, covered) = bytes.split_at_checked(HEAD_BYTES)?;
    let (&[version, id], seal) = head.split_first_chunk::<2>()?;
    if version != VERSION {
        return None;
    }
    let keys = Derived::of(keys.iter().find(|key| key.id == id)?, purpose);
    let mut payload = covered.to_vec();
    keys.cover(seal, &mut payload);
    verify_slices_are_equal(&keys.seal(&payload), seal).ok()?;
    unpack(&payload, purpose)
}

/// The two keys that one key gives for one purpose.
struct Derived {
    seal: hmac::Key,
    cover: hmac::Key,
}

impl Derived {
    fn of(key: &Key, purpose: Purpose) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, &key.bytes);
        let derive = |use_for: &str| {
            let label =
                format!("drumbeat.token.{VERSION}\u{1f}{use_for}\u{1f}{}\u{1f}{}", purpose.label(), key.id);
            hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&root, label.as_bytes()).as_ref())
        };
        Self { seal: derive("seal"), cover: derive("cover") }
    }

    fn seal(&self, payload: &[u8]) -> [u8; SEAL_BYTES] {
        let tag = hmac::sign(&self.seal, payload);
        let mut seal = [0; SEAL_BYTES];
        seal.copy_from_slice(&tag.as_ref()[..SEAL_BYTES]);
        seal
    }

    /// Covers a payload, or uncovers a covered one.
    fn cover(&self, seal: &[u8], payload: &mut [u8]) {
        for (count, block) in payload.chunks_mut(32).enumerate() {
            let mut context = hmac::Context::with_key(&self.cover);
            context.update(seal);
            context.update(&count.to_be_bytes());
            for (byte, mask) in block.iter_mut().zip(context.sign().as_ref()) {
                *byte ^= mask;
            }
        }
    }
}

fn pack(claim: &Claim) -> Vec<u8> {
    let mut payload = Vec::with_capacity(FIXED_BYTES + DELIVERY_BYTES);
    payload.push(channel_byte(claim.channel));
    payload.extend(claim.profile.0.to_be_bytes());
    match from_base32(claim.delivery.as_str()) {
        Some(bytes) => {
            payload.push(0);
            payload.extend(bytes);
        }
        None => {
            let text = claim.delivery.as_str().as_bytes();
            payload.push(1);
            payload.extend(&text[..text.len().min(DELIVERY_BYTES_MAX)]);
        }
    }
    payload
}

fn unpack(payload: &[u8], purpose: Purpose) -> Option<Claim> {
    let (&[channel, p0, p1, p2, p3, form], delivery) = payload.split_first_chunk::<FIXED_BYTES>()?;
    let delivery = match form {
        0 => to_base32(delivery),
        _ => std::str::from_utf8(delivery).ok()?.to_owned(),
    };
    Some(Claim {
        purpose,
        profile: ProfileNumber(u32::from_be_bytes([p0, p1, p2, p3])),
        delivery: DeliveryId::known(delivery),
        channel: CHANNELS.iter().find(|(byte, _)| *byte == channel)?.1,
    })
}

/// Written into tokens that live for years: never renumbered.
const CHANNELS: [(u8, Channel); 4] =
    [(1, Channel::Email), (2, Channel::Sms), (3, Channel::Push), (4, Channel::Ads)];

fn channel_byte(channel: Channel) -> u8 {
    CHANNELS.iter().find(|(_, known)| *known == channel).map_or(0, |(byte, _)| *byte)
}

const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The 20 bytes of a derived id: 32 letters of lower-case base32, which need no padding.
fn from_base32(text: &str) -> Option<[u8; DELIVERY_BYTES]> {
    let letters: &[u8; 32] = text.as_bytes().try_into().ok()?;
    let mut bytes = [0; DELIVERY_BYTES];
    for (group, out) in letters.chunks_exact(8).zip(bytes.chunks_exact_mut(5)) {
        let mut bits = 0u64;
        for letter in group {
            let value = BASE32.iter().position(|known| known == letter)?;
            bits = (bits << 5) | u64::try_from(value).ok()?;
        }
        out.copy_from_slice(&bits.to_be_bytes()[3..]);
    }
    Some(bytes)
}

fn to_base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(32);
    for group in bytes.chunks(5) {
        let bits = group.iter().fold(0u64, |bits, byte| (bits << 8) | u64::from(*byte));
        let letters = (0..8).rev().map(|at| (bits >> (at * 5)) & 31);
        text.extend(letters.map(|value| char::from(BASE32[usize::try_from(value).unwrap_or_default()])));
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys() -> Vec<Key> {
        vec![Key { id: 7, bytes: [7; 32] }, Key { id: 3, bytes: [3; 32] }]
    }

    fn claim(purpose: Purpose, profile: u32) -> Claim {
        Claim {
            purpose,
            profile: ProfileNumber(profile),
            delivery: DeliveryId::known(model::id::derive("delivery", "acme", &[&profile.to_string()])),
            channel: Channel::Email,
        }
    }

    #[test]
    fn a_token_says_what_was_claimed_and_is_short_and_url_safe() {
        for profile in [0, 1, 77, u32::MAX] {
            for purpose in [Purpose::Unsubscribe, Purpose::Preferences] {
                let claim = claim(purpose, profile);
                let token = issue(&keys(), &claim);
                assert!(token.len() < TOKEN_CHARS_MAX, "{}", token.len());
                assert!(token.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'), "{token}");
                assert_eq!(verify(&keys(), &token, purpose), Some(claim));
            }
        }
    }

    #[test]
    fn a_token_is_the_same_at_every_attempt_and_reads_as_noise() {
        let claim = claim(Purpose::Unsubscribe, 1);
        let token = issue(&keys(), &claim);
        assert_eq!(token, issue(&keys(), &claim));
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        let delivery = from_base32(claim.delivery.as_str()).unwrap();
        assert!(
            !bytes.windows(4).any(|window| window == 1u32.to_be_bytes()),
            "the number of a person is readable"
        );
        assert!(!bytes.windows(8).any(|window| delivery.windows(8).any(|part| part == window)));
        assert!(!token.contains(claim.delivery.as_str()));
    }

    #[test]
    fn a_token_for_one_purpose_is_none_for_another() {
        for profile in 0..200 {
            let token = issue(&keys(), &claim(Purpose::Unsubscribe, profile));
            assert_eq!(verify(&keys(), &token, Purpose::Preferences), None);
            let token = issue(&keys(), &claim(Purpose::Preferences, profile));
            assert_eq!(verify(&keys(), &token, Purpose::Unsubscribe), None);
        }
    }

    #[test]
    fn an_old_key_still_verifies_and_an_unknown_or_another_key_does_not() {
        let claim = claim(Purpose::Unsubscribe, 5);
        let old = issue(&keys()[1..], &claim);
        assert_eq!(verify(&keys(), &old, Purpose::Unsubscribe), Some(claim.clone()));
        assert_eq!(verify(&keys()[..1], &old, Purpose::Unsubscribe), None);
        let forged = [Key { id: 3, bytes: [9; 32] }];
        assert_eq!(verify(&keys(), &issue(&forged, &claim), Purpose::Unsubscribe), None);
        assert_eq!(issue(&[], &claim), "");
    }

    #[test]
    fn none_of_a_hundred_thousand_changed_tokens_is_accepted() {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+/. ";
        let token = issue(&keys(), &claim(Purpose::Unsubscribe, 42));
        let mut tried = 0;
        for seed in 0u64..100_000 {
            let mut changed = token.clone().into_bytes();
            let hash = model::id::bucket(&["token", &seed.to_string()]);
            let at = usize::try_from(hash % changed.len() as u64).unwrap();
            match hash >> 61 {
                0 => changed.truncate(at),
                1 => {
                    changed.insert(at, LETTERS[usize::try_from((hash >> 20) % LETTERS.len() as u64).unwrap()])
                }
                2 => drop(changed.remove(at)),
                3 => changed.swap(at, usize::try_from((hash >> 30) % token.len() as u64).unwrap()),
                _ => changed[at] = LETTERS[usize::try_from((hash >> 20) % LETTERS.len() as u64).unwrap()],
            }
            let changed = String::from_utf8(changed).unwrap();
            if changed == token {
                continue;
            }
            tried += 1;
            assert_eq!(verify(&keys(), &changed, Purpose::Unsubscribe), None, "{changed}");
        }
        assert!(tried > 95_000, "{tried}");
    }

    #[test]
    fn every_bit_of_a_token_counts() {
        let bytes = URL_SAFE_NO_PAD.decode(issue(&keys(), &claim(Purpose::Unsubscribe, 42))).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                verify(&keys(), &URL_SAFE_NO_PAD.encode(flipped), Purpose::Unsubscribe),
                None,
                "bit {bit}"
            );
        }
    }

    proptest! {
        #[test]
        fn nothing_made_up_is_accepted_and_nothing_panics(text in "\\PC{0,140}") {
            prop_assert_eq!(verify(&keys(), &text, Purpose::Unsubscribe), None);
        }

        #[test]
        fn any_delivery_id_survives(text in "[a-z0-9.]{0,40}") {
            let claim = Claim { delivery: DeliveryId::known(text), ..claim(Purpose::Preferences, 9) };
            let token = issue(&keys(), &claim);
            prop_assert!(token.len() < TOKEN_CHARS_MAX);
            prop_assert_eq!(verify(&keys(), &token, Purpose::Preferences), Some(claim));
        }
    }
}
