//! "Did you mean": the nearest of the words that would have been right.

/// How many letters must be added, dropped, changed or swapped with their neighbour to make one word of the
/// other.
pub use strsim::osa_distance as edits;

/// The nearest candidate by [`edits`], whatever its case, if it is near enough to have been meant: one edit in
/// a word of two letters, two in one of five, three in a longer one. A word of over 64 letters was not meant to
/// be any.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = match word.chars().count() {
        0..=2 => 1,
        3..=5 => 2,
        6..=64 => 3,
        _ => return None,
    };
    let lower = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (edits(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(edits, candidate)| *edits <= allowed && *edits < candidate.chars().count())
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_seen_and_another_word_is_not() {
        let known = ["title", "owner", "why", "tags", "schedule", "subject", "reply_to", "headers"];
        for (written, meant) in [
            ("titel", Some("title")),
            ("Owner", Some("owner")),
            ("shcedule", Some("schedule")),
            ("sujbect", Some("subject")),
            ("header", Some("headers")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, known), meant, "{written}");
        }
        assert_eq!(nearest("form", ["Orders", "FROM"]), Some("FROM"));
        assert_eq!(nearest(&"a".repeat(65), ["a"]), None);
    }
}
