//! The words a template may use, and those that are known but not built yet.

/// What a template may name, besides its own variables and `today_plus_4d`.
pub(crate) const ROOTS: &[&str] = &[
    "profile",
    "account",
    "entry",
    "playbook",
    "step",
    "brand",
    "with",
    "locale",
    "now",
    "today",
    "unsubscribe_url",
    "preferences_url",
    "postal_address",
];

/// Roots that hold values by name, and are not values.
pub(crate) const HOLDERS: &[&str] = &["profile", "account", "entry", "playbook", "brand", "with"];

/// What the smaller holders hold.
pub(crate) const HELD: &[(&str, &[&str])] = &[("brand", &["title"]), ("playbook", &["name", "title"])];

/// Known, and refused.
pub(crate) const LATER: &[&str] =
    &["owner", "score", "lookup", "list", "row", "confirm_url", "offer", "experiment"];

/// Functions.
pub(crate) const FUNCTIONS: &[&str] = &["skip", "range", "dict", "namespace"];

/// Filters: minijinja's, without those that only make sense to its own developers, and ours.
pub(crate) const FILTERS: &[&str] = &[
    "abs",
    "attr",
    "batch",
    "bool",
    "capitalize",
    "chain",
    "count",
    "d",
    "date",
    "default",
    "dictsort",
    "e",
    "escape",
    "first",
    "float",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "money",
    "number",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "unique",
    "upper",
    "urlencode",
    "zip",
];

/// Tests: `is NAME`.
pub(crate) const TESTS: &[&str] = &[
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "equalto",
    "escaped",
    "even",
    "false",
    "filter",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "int",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "safe",
    "sameas",
    "sequence",
    "startingwith",
    "string",
    "test",
    "true",
    "undefined",
    "upper",
];

/// Names with a meaning inside a loop, a macro or a block.
pub(crate) const ENGINE: &[&str] = &["loop", "caller", "super", "self"];

/// Prefix of the names that the room itself puts into the scope.
pub(crate) const OWN_PREFIX: &str = "__drumbeat_";
/// The reader: language and zone, for filters.
pub(crate) const READER: &str = "__drumbeat_reader";
/// Where it is noted that a default stood in for a value.
pub(crate) const FALLBACK: &str = "__drumbeat_fallback";
/// The rendered preheader.
pub(crate) const PREHEADER: &str = "__drumbeat_preheader";

/// What is known of the reader: where it is missing, it is missing in their data.
const OF_THE_READER: [&str; 3] = ["profile", "account", "entry"];

/// Whether a default for a part of this root is the template's or the project's own setting, and does not depend on who reads.
pub(crate) fn is_the_same_for_all(root: &str) -> bool {
    is_root(root) && !OF_THE_READER.contains(&root)
}

/// Filters that are written `default` and `d`, where [`is_the_same_for_all`]; as long, so that places in the text stay what they are.
pub(crate) const PRESETS: [(&str, &str); 2] = [("default", "preset_"), ("d", "p")];

/// Days from today of `today_plus_4d` and `today_minus_2w`; `None` if it is not such a name.
pub(crate) fn days_from_today(name: &str) -> Option<i32> {
    let rest = name.strip_prefix("today_")?;
    let (sign, amount) = match rest.split_once('_')? {
        ("plus", amount) => (1, amount),
        ("minus", amount) => (-1, amount),
        _ => return None,
    };
    let (digits, unit_days) = match amount.strip_suffix('d') {
        Some(digits) => (digits, 1),
        None => (amount.strip_suffix('w')?, 7),
    };
    let amount: i32 = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
    (amount <= 36_500 / unit_days).then_some(sign * amount * unit_days)
}

/// Whether it is a name a template may use without setting it.
pub(crate) fn is_root(name: &str) -> bool {
    ROOTS.contains(&name) || days_from_today(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_from_today_are_read_from_the_name() {
        for (name, days) in [
            ("today_plus_4d", Some(4)),
            ("today_minus_30d", Some(-30)),
            ("today_plus_2w", Some(14)),
            ("today_plus_4h", None),
            ("today_plus_d", None),
            ("today_plus_+4d", None),
            ("today_plus_99999999999d", None),
            ("today_plus_40000d", None),
            ("today", None),
        ] {
            assert_eq!(days_from_today(name), days, "{name}");
        }
    }
}
