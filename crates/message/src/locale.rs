//! Languages: how a locale is compared, and in what order files for a reader are looked for.

/// A locale as it is compared: lower case, parts joined by `-`.
pub(crate) fn normal(locale: &str) -> String {
    locale.trim().replace('_', "-").to_ascii_lowercase()
}

/// The language of a locale in its normal form.
pub(crate) fn language(normal: &str) -> &str {
    normal.split('-').next().unwrap_or_default()
}

/// What to look for, in order: the locale, its language, and nothing, which is the file without a language.
pub(crate) fn chain(normal: &str) -> [&str; 3] {
    [normal, language(normal), ""]
}

/// Whether a part of a file's name is a locale: `de`, `de_AT`, `de-at`, `zh-hant`.
pub(crate) fn is_locale(text: &str) -> bool {
    let mut parts = text.split(['-', '_']);
    let letters = |part: &str, least: usize, most: usize| {
        (least..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let language = parts.next().unwrap_or_default();
    letters(language, 2, 3)
        && language.bytes().all(|byte| byte.is_ascii_lowercase())
        && parts.all(|part| letters(part, 2, 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locale_is_told_from_another_ending() {
        for (text, expected) in [
            ("de", true),
            ("de_AT", true),
            ("pt-br", true),
            ("zh-Hant", true),
            ("mjml", false),
            ("DE", false),
            ("", false),
            ("d", false),
            ("de-", false),
        ] {
            assert_eq!(is_locale(text), expected, "{text}");
        }
        assert_eq!(chain(&normal("de_AT")), ["de-at", "de", ""]);
    }
}
