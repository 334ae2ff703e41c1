//! What the pages say, in the languages they speak.

/// One language.
#[derive(Debug)]
pub(crate) struct Words {
    pub(crate) language: &'static str,
    pub(crate) unsubscribe_title: &'static str,
    pub(crate) unsubscribe_text: &'static str,
    pub(crate) unsubscribe_button: &'static str,
    pub(crate) done_title: &'static str,
    pub(crate) done_text: &'static str,
    pub(crate) preferences_title: &'static str,
    pub(crate) preferences_text: &'static str,
    pub(crate) receiving: &'static str,
    pub(crate) stopped: &'static str,
    pub(crate) stop_button: &'static str,
    pub(crate) stop_all_button: &'static str,
    pub(crate) unknown_title: &'static str,
    pub(crate) unknown_text: &'static str,
    pub(crate) later_title: &'static str,
    pub(crate) later_text: &'static str,
}

const ENGLISH: Words = Words {
    language: "en",
    unsubscribe_title: "Unsubscribe",
    unsubscribe_text: "Press the button and we will send you no more of these messages. Messages about your orders or your account are not affected.",
    unsubscribe_button: "Unsubscribe me",
    done_title: "You are unsubscribed",
    done_text: "It is done: from now on we send you no more of these messages. You can close this page.",
    preferences_title: "Your messages",
    preferences_text: "This is what we may send you. You can stop each of it, or all of it.",
    receiving: "you may receive this",
    stopped: "you do not receive this",
    stop_button: "Stop",
    stop_all_button: "Stop all of it",
    unknown_title: "This link is not complete",
    unknown_text: "Please open the link in the message again, or copy it as a whole. Nothing was changed.",
    later_title: "That did not work",
    later_text: "We could not save it just now. Nothing was changed: please try again in a minute.",
};

const GERMAN: Words = Words {
    language: "de",
    unsubscribe_title: "Abmelden",
    unsubscribe_text: "Ein Klick auf den Knopf, und wir senden Ihnen keine dieser Nachrichten mehr. Nachrichten zu Ihren Bestellungen oder Ihrem Konto sind davon nicht betroffen.",
    unsubscribe_button: "Abmelden",
    done_title: "Sie sind abgemeldet",
    done_text: "Erledigt: Ab jetzt senden wir Ihnen keine dieser Nachrichten mehr. Sie können diese Seite schließen.",
    preferences_title: "Ihre Nachrichten",
    preferences_text: "Das dürfen wir Ihnen senden. Sie können jedes davon beenden, oder alles.",
    receiving: "dürfen wir Ihnen senden",
    stopped: "senden wir Ihnen nicht",
    stop_button: "Beenden",
    stop_all_button: "Alles beenden",
    unknown_title: "Dieser Link ist nicht vollständig",
    unknown_text: "Bitte öffnen Sie den Link in der Nachricht noch einmal, oder kopieren Sie ihn ganz. Es wurde nichts geändert.",
    later_title: "Das hat nicht geklappt",
    later_text: "Wir konnten es gerade nicht speichern. Es wurde nichts geändert: Bitte versuchen Sie es in einer Minute noch einmal.",
};

/// The first language of an `Accept-Language` header (RFC 9110 12.5.4) that the pages speak; English otherwise.
pub(crate) fn for_header(accept_language: Option<&str>) -> &'static Words {
    let wanted = accept_language.unwrap_or_default();
    wanted
        .split(',')
        .take(10)
        .filter_map(|part| part.split([';', '-']).next())
        .find_map(|language| match language.trim().to_ascii_lowercase().as_str() {
            "en" => Some(&ENGLISH),
            "de" => Some(&GERMAN),
            _ => None,
        })
        .unwrap_or(&ENGLISH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_language_spoken_here_is_taken() {
        for (header, language) in [
            (None, "en"),
            (Some("fr-FR, de;q=0.8, en;q=0.5"), "de"),
            (Some("en-GB,de"), "en"),
            (Some("xx"), "en"),
        ] {
            assert_eq!(for_header(header).language, language);
        }
    }
}
