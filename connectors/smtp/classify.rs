//! What a mail server's reply means: the enhanced status before the basic code, and in doubt about blame, nobody's.

use connector::{Bounce, Outcome, Said, Schedule, SmtpPhase};
use model::Reason;

type Enhanced = Option<(u8, u16, u16)>;

/// Words by which servers without enhanced status say that it is not the address they mind.
const POLICY_WORDS: &[&str] = &[
    "spam",
    "block",
    "blacklist",
    "denylist",
    "dnsbl",
    "rbl",
    "policy",
    "reputation",
    "relay",
    "spf",
    "dkim",
    "dmarc",
    "banned",
    "rejected due to",
    "not authorized",
    "not authorised",
    "not permitted",
    "access denied",
    "too many",
];

/// What a reply means. Anything that is no answer, once the message is handed over, leaves it in doubt.
pub(super) fn replied(at: SmtpPhase, code: u16, enhanced: Enhanced, text: &Said) -> Outcome {
    let detail = format!("{}: {code} {text}", at.command()).trim_end().to_owned();
    let said_later = enhanced.is_some_and(|(class, _, _)| class == 4);
    match (at, code) {
        (SmtpPhase::Body, 200..300) => {
            Outcome::Accepted { receipt: format!("{code} {text}").trim_end().to_owned() }
        }
        // RFC 5321 4.2.1: the server closes the channel. In practice: too many connections, or too much on them.
        (_, 421) => Outcome::Retry {
            reason: Reason::FailSmtp4xx,
            after: None,
            schedule: Schedule::Smtp4xx,
            slower: true,
            detail,
        },
        (_, 400..500) => later(Reason::FailSmtp4xx, Schedule::Smtp4xx, detail),
        // A code and a status that disagree: to wait is the answer that harms nobody.
        (_, 500..600) if said_later => later(Reason::FailSmtp4xx, Schedule::Smtp4xx, detail),
        (_, 500..600) => refused(at, code, enhanced, text, detail),
        (SmtpPhase::Body, _) => Outcome::InDoubt { detail },
        (_, _) => later(Reason::FailRemote5xx, Schedule::Connect, detail),
    }
}

fn later(reason: Reason, schedule: Schedule, detail: String) -> Outcome {
    Outcome::Retry { reason, after: None, schedule, slower: false, detail }
}

/// A refusal for good (5yz).
fn refused(at: SmtpPhase, code: u16, enhanced: Enhanced, text: &Said, detail: String) -> Outcome {
    let reject = |reason, bounce, detail| Outcome::Rejected { reason, bounce, detail };
    let halt = |reason, detail| Outcome::Halt { reason, detail };
    match (at, code) {
        // Not this message is refused, but we are.
        (SmtpPhase::Connect | SmtpPhase::Tls | SmtpPhase::Auth, _) | (_, 530 | 534 | 535 | 538) => {
            return halt(Reason::FailAuth, detail);
        }
        _ => {}
    }
    match enhanced.map_or((0, 0), |(_, subject, detail)| (subject, detail)) {
        (7, 8) => halt(Reason::FailAuth, detail),
        // Sender authentication (RFC 7372 and the big mailbox providers): the domain is to be repaired, not the list.
        (7, 9 | 20..=26 | 515) => halt(Reason::FailSmtpSender, detail),
        (7, _) => reject(Reason::FailSmtpPolicy, None, detail),
        // Before RCPT no recipient is known, so that "address" can only mean the sender's.
        (1, _) if at == SmtpPhase::Mail => halt(Reason::FailSmtpSender, detail),
        (1, 7 | 8) => halt(Reason::FailSmtpSender, detail),
        (1, 1 | 2 | 3 | 6 | 10) => reject(Reason::FailSmtpRecipient, Some(Bounce::Hard), detail),
        (1, _) => reject(Reason::FailSmtpRecipient, None, detail),
        (2, 1) => reject(Reason::FailSmtpRecipient, Some(Bounce::Hard), detail),
        (2, 2) => reject(Reason::FailSmtpRecipient, Some(Bounce::Soft), detail),
        (2, 3) | (3, 4) => reject(Reason::ContentTooLarge, None, detail),
        (2, _) => reject(Reason::FailSmtpRecipient, None, detail),
        // Office 365 says so of mailboxes that do not exist.
        (4, 1) if code == 550 && text.as_str().to_lowercase().contains("access denied") => {
            reject(Reason::FailSmtpRecipient, Some(Bounce::Hard), detail)
        }
        (6, _) => reject(Reason::FailSmtpPolicy, None, detail),
        (0, 0) if enhanced.is_none() => refused_without_status(at, code, text, detail),
        (_, _) => reject(Reason::FailRemote4xx, None, detail),
    }
}

/// A refusal for good by a server that gives the basic code only.
fn refused_without_status(at: SmtpPhase, code: u16, text: &Said, detail: String) -> Outcome {
    let text = text.as_str().to_lowercase();
    let is_policy = POLICY_WORDS.iter().any(|word| text.contains(word));
    let (reason, bounce) = match (at, code) {
        (SmtpPhase::Mail, 552) => (Reason::ContentTooLarge, None),
        (SmtpPhase::Mail, 550 | 551 | 553 | 554) => {
            return Outcome::Halt { reason: Reason::FailSmtpSender, detail };
        }
        (SmtpPhase::Rcpt, 550 | 551 | 553 | 556) if !is_policy => {
            (Reason::FailSmtpRecipient, Some(Bounce::Hard))
        }
        (SmtpPhase::Rcpt | SmtpPhase::Body, 552) => (Reason::FailSmtpRecipient, Some(Bounce::Soft)),
        (_, 550..=556) => (Reason::FailSmtpPolicy, None),
        (_, _) => (Reason::FailRemote4xx, None),
    };
    Outcome::Rejected { reason, bounce, detail }
}

#[cfg(test)]
mod tests {
    use connector::Reply;
    use proptest::prelude::*;

    use super::*;

    fn outcome(at: SmtpPhase, code: u16, text: &str) -> Outcome {
        match Reply::smtp(at, code, Said::of(text)) {
            Reply::Smtp { at, code, enhanced, text } => replied(at, code, enhanced, &text),
            other => panic!("{other:?}"),
        }
    }

    /// `rcpt 550 5.1.1 text` -> `rejected REASON BOUNCE`, `retry REASON`, `halt REASON`, `accepted`, `in doubt`.
    fn check(reply: &str, expected: &str) {
        let mut words = reply.splitn(3, ' ');
        let phase = words.next().unwrap();
        let at = SmtpPhase::ALL.iter().find(|(name, _)| *name == phase).unwrap().1;
        let code = words.next().unwrap().parse().unwrap();
        let got = match outcome(at, code, words.next().unwrap_or_default()) {
            Outcome::Accepted { .. } => "accepted".to_owned(),
            Outcome::Rejected { reason, bounce, .. } => {
                let bounce =
                    bounce.map_or("", |bounce| if bounce == Bounce::Hard { " hard" } else { " soft" });
                format!("rejected {}{bounce}", reason.as_str())
            }
            Outcome::Retry { reason, schedule: Schedule::Smtp4xx, .. } => {
                format!("retry {}", reason.as_str())
            }
            Outcome::Retry { reason, .. } => format!("reconnect {}", reason.as_str()),
            Outcome::InDoubt { .. } => "in doubt".to_owned(),
            Outcome::NotArmed => "not armed".to_owned(),
            Outcome::Halt { reason, .. } => format!("halt {}", reason.as_str()),
        };
        assert_eq!(got, expected, "{reply}");
    }

    #[test]
    fn an_address_that_does_not_exist_is_a_hard_bounce() {
        for reply in [
            "rcpt 550 5.1.1 unknown",
            "rcpt 550 5.1.2 no such domain",
            "rcpt 553 5.1.3 syntax",
            "rcpt 551 5.1.6 moved",
            "rcpt 556 5.1.10 null MX",
            "rcpt 550 no such user here",
            "rcpt 551 user not local",
            "rcpt 553 mailbox name not allowed",
            "rcpt 550 5.2.1 disabled",
            "body 550 5.1.1 unknown",
            "rcpt 550 5.4.1 Recipient address rejected: Access denied",
        ] {
            check(reply, "rejected fail.smtp_5xx_recipient hard");
        }
    }

    #[test]
    fn a_full_mailbox_is_a_soft_bounce() {
        for reply in ["rcpt 552 5.2.2 full", "rcpt 552 mailbox full", "body 552 5.2.2 full", "body 552 quota"]
        {
            check(reply, "rejected fail.smtp_5xx_recipient soft");
        }
    }

    #[test]
    fn a_policy_block_never_blames_the_person() {
        for reply in [
            "rcpt 550 5.7.1 blocked",
            "rcpt 554 5.7.1 spam",
            "body 554 5.7.1 spam",
            "body 550 looks like spam",
            "rcpt 554 no",
            "rcpt 550 blocked using list.test",
            "rcpt 550 relay not permitted",
            "body 550 content refused",
            "body 554 5.6.0 odd",
        ] {
            check(reply, "rejected fail.smtp_5xx_policy");
        }
        check("rcpt 550 5.1.0 rejected", "rejected fail.smtp_5xx_recipient");
        check("rcpt 550 5.0.0 rejected", "rejected fail.remote_4xx");
    }

    #[test]
    fn what_concerns_every_message_halts_the_destination() {
        for reply in [
            "auth 535 5.7.8 wrong",
            "auth 534 5.7.9 too weak",
            "mail 530 5.7.0 authenticate first",
            "tls 502 no",
            "connect 554 5.7.1 you are blocked",
            "connect 521 no mail here",
            "rcpt 538 encrypt",
            "mail 550 5.7.8 wrong",
        ] {
            check(reply, "halt fail.auth");
        }
        for reply in [
            "body 550 5.7.26 unauthenticated",
            "body 550 5.7.515 level",
            "rcpt 550 5.7.9 no",
            "body 550 5.7.20 dkim",
            "mail 553 sender not owned",
            "mail 550 5.1.1 sender unknown",
            "rcpt 550 5.1.8 bad sender domain",
        ] {
            check(reply, "halt fail.smtp_5xx_auth");
        }
    }

    #[test]
    fn not_now_is_tried_again_later() {
        for reply in [
            "rcpt 450 4.2.0 greylisted",
            "rcpt 451 try later",
            "rcpt 452 4.5.3 too many",
            "body 421 closing",
            "connect 421 busy",
            "auth 454 4.7.0 temporary",
            "tls 454 not now",
            "mail 454 Throttling failure",
            "rcpt 451 5.1.1 odd",
            "rcpt 550 4.2.1 odd",
        ] {
            check(reply, "retry fail.smtp_4xx");
        }
        check("data 250 what", "reconnect fail.remote_5xx");
        check("mail 0", "reconnect fail.remote_5xx");
    }

    #[test]
    fn only_a_plain_yes_after_the_body_is_acceptance() {
        check("body 250 2.0.0 queued", "accepted");
        check("body 252 perhaps", "accepted");
        check("body 354 go ahead", "in doubt");
        check("body 199 what", "in doubt");
        check("body 0", "in doubt");
    }

    #[test]
    fn a_message_that_is_too_large_is_the_message_s_fault() {
        for reply in [
            "mail 552 5.3.4 too big",
            "body 552 5.3.4 too big",
            "mail 552 too big",
            "rcpt 552 5.2.3 too long",
        ] {
            check(reply, "rejected content.too_large");
        }
    }

    proptest! {
        #[test]
        fn a_hard_bounce_needs_a_refusal_for_good_of_the_recipient(phase in 0usize..7, code in 0u16..1000, text in ".{0,40}") {
            let at = SmtpPhase::ALL[phase].1;
            if let Outcome::Rejected { bounce: Some(_), .. } = outcome(at, code, &text) {
                prop_assert!((500..600).contains(&code));
                prop_assert!(matches!(at, SmtpPhase::Rcpt | SmtpPhase::Data | SmtpPhase::Body));
            }
        }
    }
}
