//! Between rows and the model: times, words and sealed bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use model::policy::Channel;
use model::{ProfileNumber, PurposeName, Reason};
use roaring::RoaringBitmap;

use crate::StateError;
use crate::dialect::Rows;

/// What stands for every channel or purpose.
pub(crate) const ANY: &str = "*";

/// Whole milliseconds; what is finer is not kept.
pub(crate) fn ms(time: Timestamp) -> i64 {
    time.as_millisecond()
}

pub(crate) fn time(ms: i64) -> Result<Timestamp, StateError> {
    Timestamp::from_millisecond(ms).map_err(|_| StateError::Corrupt { what: "a time" })
}

pub(crate) fn maybe_time(ms: Option<i64>) -> Result<Option<Timestamp>, StateError> {
    ms.map(time).transpose()
}

/// A word of a closed list, or an error that names the list.
pub(crate) fn word<T>(read: Option<T>, what: &'static str) -> Result<T, StateError> {
    read.ok_or(StateError::Corrupt { what })
}

pub(crate) fn reason(code: &str) -> Result<Reason, StateError> {
    word(Reason::parse(code), "a reason")
}

pub(crate) fn number(number: i64) -> Result<ProfileNumber, StateError> {
    u32::try_from(number).map(ProfileNumber).map_err(|_| StateError::Corrupt { what: "a profile's number" })
}

/// A count; what is below nothing is nothing.
pub(crate) fn count(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

/// A small count, such as of attempts.
pub(crate) fn small(count: i64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

pub(crate) fn channel_word(channel: Option<Channel>) -> &'static str {
    channel.map_or(ANY, Channel::as_str)
}

pub(crate) fn channel(text: &str) -> Result<Option<Channel>, StateError> {
    if text == ANY { Ok(None) } else { word(Channel::parse(text), "a channel").map(Some) }
}

pub(crate) fn purpose_word(purpose: Option<&PurposeName>) -> &str {
    purpose.map_or(ANY, PurposeName::as_str)
}

pub(crate) fn purpose(text: &str) -> Option<PurposeName> {
    (text != ANY).then(|| PurposeName::known(text))
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(crate) fn from_base64(text: &str, what: &'static str) -> Result<Vec<u8>, StateError> {
    STANDARD.decode(text).map_err(|_| StateError::Corrupt { what })
}

/// Roaring's portable format.
pub(crate) fn bits(bitmap: &RoaringBitmap) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(bitmap.serialized_size());
    // Writing to a Vec cannot fail.
    bitmap.serialize_into(&mut bytes).ok();
    bytes
}

pub(crate) fn bitmap(bytes: &[u8]) -> Result<RoaringBitmap, StateError> {
    RoaringBitmap::deserialize_from(bytes).map_err(|_| StateError::Corrupt { what: "a membership" })
}

/// The rows of a list of people, each once, in order: locks are taken in this order.
pub(crate) fn numbers(numbers: &[ProfileNumber]) -> String {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut rows = Rows::new();
    for number in sorted {
        rows.row().integer(i64::from(number.0));
    }
    rows.finish()
}

/// Outside text, cut to what a column may hold, at a character.
pub(crate) fn bounded(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
