//! Feedback-ID: by what Gmail counts complaints, for who verifies a domain with its Postmaster Tools.

use aws_lc_rs::digest;

/// Characters of a project's name in the sender's id.
const NAME_CHARS_MAX: usize = 8;

/// `playbook:playbook.step:class:sender`. Gmail counts each of the four by itself, wherever it stands: so none of them may be the
/// same as another, a step is named with its playbook, and a playbook that is called like a class says what it is.
pub fn feedback_id(project: &str, playbook: &str, step: &str, class: &str) -> String {
    let (playbook, step, class) = (harmless(playbook), harmless(step), harmless(class));
    let first = if playbook == class { format!("playbook.{playbook}") } else { playbook.clone() };
    format!("{first}:{playbook}.{step}:{class}:{}", sender_id(project))
}

/// Who sends, in 6 to 15 characters, as Gmail wants 5 to 15: the beginning of the project's name, and what tells it from others
/// that begin alike. The same for as long as the project has its name.
fn sender_id(project: &str) -> String {
    let hash = digest::digest(&digest::SHA256, project.as_bytes());
    let mark: String = hash.as_ref().iter().take(3).map(|byte| format!("{byte:02x}")).collect();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = project.chars().take(NAME_CHARS_MAX).map(plain).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { mark } else { format!("{name}-{mark}") }
}

/// Without what would end a field or the header.
fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '-' })
        .take(200)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_says_what_and_who_and_no_field_twice() {
        let shown = feedback_id("acme", "win_back", "nudge", "marketing");
        assert_eq!(shown, format!("win_back:win_back.nudge:marketing:{}", sender_id("acme")));
        assert!(sender_id("acme").starts_with("acme-"));
        assert!(
            feedback_id("acme", "marketing", "nudge", "marketing")
                .starts_with("playbook.marketing:marketing.nudge:marketing:")
        );
        assert_ne!(sender_id("acme.shop.de"), sender_id("acme.shop.at"));
    }

    proptest! {
        #[test]
        fn whatever_things_are_called(project in "\\PC{1,70}", playbook in "\\PC{1,70}", step in "\\PC{1,70}") {
            let shown = feedback_id(&project, &playbook, &step, "lifecycle");
            let mut fields: Vec<&str> = shown.split(':').collect();
            prop_assert_eq!(fields.len(), 4);
            prop_assert!((5..=15).contains(&fields[3].len()));
            prop_assert!(shown.len() < 900 && shown.bytes().all(|byte| matches!(byte, b'!'..=b'~')));
            fields.sort_unstable();
            fields.dedup();
            prop_assert_eq!(fields.len(), 4);
        }
    }
}
