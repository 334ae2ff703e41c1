//! Ids, all of them derived: doing a thing twice gives the same id, and a unique key makes it once.

use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest, Sha256};

use crate::name::{PlaybookName, StepId};
use crate::value::Value;

/// A person inside: the row number of the table `profile`, never reused. The warehouse's id stays in that table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProfileNumber(pub u32);

impl fmt::Display for ProfileNumber {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// One person's run through one playbook.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnrollmentId(String);

/// One touch for one destination: one row of the outbox. The provider's idempotency key, and the left part of the Message-ID.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(String);

/// Hash of an address under a project's secret key: how suppression knows an address without keeping it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressHash(String);

/// What several people may share, and a cap may count by: an account, or an address. Hashed under the same key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitHash(String);

impl From<&AddressHash> for UnitHash {
    fn from(address: &AddressHash) -> Self {
        Self(address.0.clone())
    }
}

macro_rules! texts {
    ($($name:ident)*) => { $(
        impl $name {
            /// An id read back from where it was kept.
            pub fn known(text: impl Into<String>) -> Self {
                Self(text.into())
            }
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }
    )* };
}

/// What a person is known by at a destination, hashed under the same key: whether it is still the same, without looking at it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityHash(String);

/// Hash of what a message says to everybody: the text of its template, and what its step tells it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash(String);

texts! { EnrollmentId DeliveryId AddressHash UnitHash IdentityHash ContentHash }

impl ContentHash {
    /// Of the words of a template (a hash of them) and of what the step tells it. 80 bits: it is compared with the few messages of one person.
    pub fn derive(words: &str, with: &BTreeMap<String, Value>) -> Self {
        let told: Vec<String> = with.values().map(Value::to_string).collect();
        let mut parts = vec!["drumbeat.1", "content", words];
        for (name, value) in with.keys().zip(&told) {
            parts.extend([name.as_str(), value.as_str()]);
        }
        Self(base32(&stable_hash(&parts)[..10]))
    }
}

impl EnrollmentId {
    /// The id of the enrollment that `trigger` (the segment run) began for a person.
    pub fn derive(project: &str, playbook: &PlaybookName, profile: ProfileNumber, trigger: &str) -> Self {
        Self(derive("enrollment", project, &[playbook.as_str(), &profile.to_string(), trigger]))
    }
}

impl DeliveryId {
    /// The id of the touch at one step; `occurrence` counts repetitions of the step within one enrollment.
    pub fn derive(project: &str, enrollment: &EnrollmentId, step: &StepId, occurrence: u32) -> Self {
        Self(derive("delivery", project, &[enrollment.as_str(), step.as_str(), &occurrence.to_string()]))
    }
}

/// The id of the run of a segment's definition at a time.
pub fn segment_run_id(project: &str, segment: &str, definition: &str, as_of: jiff::Timestamp) -> String {
    derive("segment_run", project, &[segment, definition, &as_of.as_millisecond().to_string()])
}

/// Lower-case base32 without padding (RFC 4648) of the first 20 bytes of
/// SHA-256(`drumbeat.1` U+001F kind U+001F project U+001F part ...): 32 letters.
pub fn derive(kind: &str, project: &str, parts: &[&str]) -> String {
    base32(&stable_hash(&[&["drumbeat.1", kind, project], parts].concat())[..20])
}

/// SHA-256 over the parts joined by U+001F, the unit separator.
pub fn stable_hash(parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for (position, part) in parts.iter().enumerate() {
        if position > 0 {
            hash.update([0x1f]);
        }
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

/// A number spread evenly over all of `u64`, the same for the same parts for ever: the first eight bytes, big-endian.
pub fn bucket(parts: &[&str]) -> u64 {
    let hash = stable_hash(parts);
    u64::from_be_bytes([hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7]])
}

/// SHA-256 in lower-case hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

fn base32(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut held, mut held_bits) = (0u16, 0u8);
    for byte in bytes {
        held = (held << 8) | u16::from(*byte);
        held_bits += 8;
        while held_bits >= 5 {
            held_bits -= 5;
            text.push(char::from(LETTERS[usize::from((held >> held_bits) & 31)]));
        }
        held &= (1 << held_bits) - 1;
    }
    if held_bits > 0 {
        text.push(char::from(LETTERS[usize::from((held << (5 - held_bits)) & 31)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_equal_the_published_vectors() {
        assert_eq!(bucket(&["gcg:2026Q1", "user-1"]), 8_045_329_198_251_005_146);
        assert_eq!(bucket(&["gcg:2026Q1", "user-2"]), 1_017_477_483_996_674_214);
        assert_eq!(bucket(&["exp:welcome-v3", "user-1"]), 8_314_071_947_894_631_222);
    }

    #[test]
    fn base32_is_that_of_rfc_4648_in_lower_case_without_padding() {
        for (plain, coded) in
            [("", ""), ("f", "my"), ("fo", "mzxq"), ("foo", "mzxw6"), ("foobar", "mzxw6ytboi")]
        {
            assert_eq!(base32(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn a_delivery_id_has_32_letters_and_depends_on_each_part() {
        let enrollment =
            EnrollmentId::derive("acme", &PlaybookName::known("win_back"), ProfileNumber(7), "run");
        let one = DeliveryId::derive("acme", &enrollment, &StepId::known("nudge"), 0);
        assert_eq!(one.as_str().len(), 32);
        assert_ne!(one, DeliveryId::derive("acme", &enrollment, &StepId::known("nudge"), 1));
        assert_ne!(one, DeliveryId::derive("other", &enrollment, &StepId::known("nudge"), 0));
        assert_ne!(one, DeliveryId::derive("acme", &enrollment, &StepId::known("offer"), 0));
    }
}
