//! Mail that comes back: delivery status notifications (RFC 3464), feedback reports (RFC 5965), and opt-outs by mail (RFC 2369).
//!
//! Anybody may write such mail, so nothing in it is believed but for the tag in the address that it came to: it was in the envelope of one
//! message of ours and in no other, and whoever made it knows it again. A report is looked for in the parts of the mail; an automatic answer
//! is none.

use connector::feedback::{NotHeard, Told, ToldKind, read_echo};
use jiff::Timestamp;
use mail_parser::{Message, MessageParser, MimeHeaders as _};
use model::id::sha256_hex;

/// Headers that name to whom a mail came.
const TO: &[&str] = &["to", "delivered-to", "x-original-to", "envelope-to"];
/// Reports are short; so much of a part is read.
const REPORT_BYTES_MAX: usize = 64 * 1024;

/// What a mail tells of messages of ours. `own` is the return path's local part, without a tag, and its domain.
///
/// # Errors
/// It is no mail.
pub(super) fn told(raw: &[u8], own: (&str, &str), at: Timestamp) -> Result<Vec<Told>, NotHeard> {
    let message = MessageParser::default().parse(raw).ok_or(NotHeard::Garbled)?;
    let event = sha256_hex(raw)[..32].to_owned();
    let to: String = message
        .headers_raw()
        .filter(|(name, _)| TO.iter().any(|known| name.eq_ignore_ascii_case(known)))
        .map(|(_, value)| format!("{value}\n"))
        .collect();
    let tags = tags(&to, own);
    if let Some(tag) = tags.iter().find_map(|tag| tag.strip_prefix("u-")) {
        let kind = (!is_automatic(&message)).then_some(ToldKind::Unsubscribed);
        return Ok(kind.and_then(|kind| one(tag, kind, at, event)).into_iter().collect());
    }
    let Some((kind, report)) = report(&message) else { return Ok(Vec::new()) };
    // A feedback report comes to whoever asked for it, and names the return path within.
    let inside = self::tags(&report, own);
    let found = tags.iter().chain(&inside).find(|tag| !tag.starts_with("u-"));
    Ok(found.and_then(|tag| one(tag, kind, at, event)).into_iter().collect())
}

fn one(tag: &str, kind: ToldKind, at: Timestamp, event: String) -> Option<Told> {
    let (echo, proof) = tag.rsplit_once('-')?;
    Some(Told { about: read_echo(echo)?, proof: Some(proof.to_owned()), kind, at, event })
}

/// The tags of all addresses of ours in a text, in lower case: some servers write addresses so.
fn tags(text: &str, (local, domain): (&str, &str)) -> Vec<String> {
    let text = text.to_ascii_lowercase();
    let (before, after) = (format!("{}+", local.to_ascii_lowercase()), format!("@{domain}"));
    let starts = text.match_indices(&before).map(|(at, _)| &text[at + before.len()..]);
    let is_tag = |tag: &&str| tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    starts.filter_map(|rest| Some(rest.split_once(&after)?.0)).filter(is_tag).map(str::to_owned).collect()
}

/// Whether nobody wrote it (RFC 3834, section 5).
fn is_automatic(message: &Message<'_>) -> bool {
    let said = message.header_raw("Auto-Submitted").unwrap_or_default();
    !said.trim().is_empty() && !said.trim().to_ascii_lowercase().starts_with("no")
}

/// What a report says, and its text with what of the message it brings back.
fn report(message: &Message<'_>) -> Option<(ToldKind, String)> {
    let texts = message.parts.iter().filter_map(|part| {
        let kind = part.content_type()?;
        let name = format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or_default()).to_ascii_lowercase();
        let bytes = part.contents();
        let bytes = &bytes[..bytes.len().min(REPORT_BYTES_MAX)];
        Some((name, String::from_utf8_lossy(bytes).into_owned()))
    });
    let texts: Vec<(String, String)> = texts.collect();
    let of = |wanted: &[&str]| texts.iter().find(|(name, _)| wanted.contains(&name.as_str()));
    if let Some((_, text)) = of(&["message/delivery-status", "message/global-delivery-status"]) {
        return Some((status(text)?, String::new()));
    }
    let (_, text) = of(&["message/feedback-report"])?;
    let field = fields(text).into_iter().find(|(name, _)| name == "feedback-type")?.1;
    // Abuse and fraud are complaints; `not-spam` is none, `auth-failure` is about us, and `virus` about what we sent.
    let is_complaint = ["abuse", "fraud", "opt-out"].contains(&field.to_ascii_lowercase().as_str());
    let whole = message.raw_message();
    let whole = String::from_utf8_lossy(&whole[..whole.len().min(REPORT_BYTES_MAX)]).into_owned();
    is_complaint.then_some((ToldKind::Complained, whole))
}

/// Fields of a report, their names in lower case; folded lines are joined, comments stay.
fn fields(text: &str) -> Vec<(String, String)> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        match (line.starts_with([' ', '\t']), fields.last_mut(), line.split_once(':')) {
            (true, Some((_, value)), _) => {
                value.push(' ');
                value.push_str(line.trim());
            }
            (false, _, Some((name, value))) => {
                fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
            }
            _ => {}
        }
    }
    fields
}

/// What a delivery status says of the recipient: we write to one at a time. The worst, where it says several things.
fn status(text: &str) -> Option<ToldKind> {
    let fields = fields(text);
    let all = |wanted: &'static str| {
        fields.iter().filter(move |(name, _)| name == wanted).map(|(_, value)| value.to_ascii_lowercase())
    };
    let action = |wanted: &[&str]| {
        all("action").any(|said| said.split_whitespace().next().is_some_and(|said| wanted.contains(&said)))
    };
    if action(&["failed"]) {
        return Some(match all("status").any(|said| is_no_such_address(&said)) {
            true => ToldKind::BouncedForGood,
            false => ToldKind::Bounced,
        });
    }
    // Delayed: it is still tried. Relayed and expanded: where it went nobody reports.
    action(&["delivered"]).then_some(ToldKind::Delivered)
}

/// `5.1.1` and what else says that there is nobody (RFC 3463, section 3.2; RFC 7505 for 5.1.10). What is about the sender or our reputation
/// is not about the address.
fn is_no_such_address(status: &str) -> bool {
    let code = status.split_whitespace().next().unwrap_or_default();
    ["5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1"].contains(&code)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TAG: &str = "7-mvzgc43vom2tqmrtha3dkmjsgq2tmnzy-0123456789";

    fn hear(mail: &str) -> Vec<(ToldKind, u32, String)> {
        let all =
            told(mail.replace('\n', "\r\n").as_bytes(), ("bounces", "mail.acme.test"), Timestamp::UNIX_EPOCH);
        let one = |told: Told| {
            assert_eq!(told.about.1.as_str(), "mvzgc43vom2tqmrtha3dkmjsgq2tmnzy");
            (told.kind, told.about.0.0, told.proof.unwrap())
        };
        all.unwrap().into_iter().map(one).collect()
    }

    /// As Postfix writes it.
    fn bounce(to: &str, action: &str, status: &str) -> String {
        format!(
            "Return-Path: <>\nDate: Mon, 2 Mar 2026 10:00:00 +0100 (CET)\nFrom: MAILER-DAEMON@mx.example.test (Mail Delivery System)\n\
Subject: Undelivered Mail Returned to Sender\nTo: {to}\nAuto-Submitted: auto-replied\nMIME-Version: 1.0\n\
Content-Type: multipart/report; report-type=delivery-status;\n\tboundary=\"B1\"\nMessage-Id: <x@mx.example.test>\n\n\
This is a MIME-encapsulated message.\n\n--B1\nContent-Description: Notification\nContent-Type: text/plain; charset=us-ascii\n\n\
I'm sorry to have to inform you that your message could not be delivered.\n\n--B1\nContent-Description: Delivery report\n\
Content-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example.test\nArrival-Date: Mon, 2 Mar 2026 10:00:00 +0100 (CET)\n\n\
Final-Recipient: rfc822; ana@example.test\nOriginal-Recipient: rfc822;ana@example.test\nAction: {action}\nStatus: {status}\n\
Diagnostic-Code: smtp; 550 {status} <ana@example.test>: Recipient address\n    rejected: User unknown\n\n--B1\n\
Content-Description: Undelivered Message Headers\nContent-Type: text/rfc822-headers\n\nReturn-Path: <bounces+{TAG}@mail.acme.test>\n\
List-Unsubscribe: <mailto:bounces+u-{TAG}@mail.acme.test>\nTo: <ana@example.test>\n\n--B1--\n"
        )
    }

    fn ours(tag: &str) -> String {
        format!("bounces+{tag}@mail.acme.test")
    }

    #[test]
    fn a_bounce_is_known_by_the_address_it_came_to_and_judged_by_its_status() {
        for (action, status, kind) in [
            ("failed", "5.1.1", Some(ToldKind::BouncedForGood)),
            ("failed", "5.1.10", Some(ToldKind::BouncedForGood)),
            ("failed (expired)", "5.1.2 (no such domain)", Some(ToldKind::BouncedForGood)),
            ("failed", "5.2.2", Some(ToldKind::Bounced)),
            ("failed", "5.7.1", Some(ToldKind::Bounced)),
            ("failed", "4.4.7", Some(ToldKind::Bounced)),
            ("delayed", "4.4.1", None),
            ("relayed", "2.0.0", None),
            ("delivered", "2.0.0", Some(ToldKind::Delivered)),
        ] {
            let said = hear(&bounce(&ours(TAG), action, status));
            let expected = kind.map(|kind| (kind, 7, "0123456789".to_owned()));
            assert_eq!(said, expected.into_iter().collect::<Vec<_>>(), "{action} {status}");
        }
        assert_eq!(hear(&bounce(&ours(TAG).to_uppercase(), "failed", "5.1.1")).len(), 1, "in capitals");
    }

    #[test]
    fn what_did_not_come_to_a_tag_of_ours_is_nothing() {
        for to in [
            "bounces@mail.acme.test",
            "bounces+7-short-1@mail.acme.test",
            "bounces+x@other.test",
            "bounces+a b@mail.acme.test",
        ] {
            assert_eq!(hear(&bounce(to, "failed", "5.1.1")), [], "{to}");
        }
        assert_eq!(
            hear(
                "To: bounces+x@mail.acme.test\nSubject: I am away\nAuto-Submitted: auto-replied\n\nBack soon.\n"
            ),
            []
        );
        assert_eq!(hear(&format!("To: {}\nSubject: Re: Hello\n\nThank you.\n", ours(TAG))), [], "no report");
    }

    #[test]
    fn a_complaint_names_the_return_path_within() {
        let report = |kind: &str| {
            format!(
                "From: <feedback@provider.test>\nTo: <abuse@acme.test>\nSubject: FW: Hello\nMIME-Version: 1.0\n\
Content-Type: multipart/report; report-type=feedback-report; boundary=\"B2\"\n\n--B2\nContent-Type: text/plain\n\nA report.\n\n--B2\n\
Content-Type: message/feedback-report\n\nFeedback-Type: {kind}\nUser-Agent: Provider/1.0\nVersion: 1\n\
Original-Mail-From: <bounces+{TAG}@mail.acme.test>\n\n--B2\nContent-Type: message/rfc822\n\nFrom: <hello@acme.test>\n\
List-Unsubscribe: <mailto:bounces+u-{TAG}@mail.acme.test>\nSubject: Hello\n\nHi.\n\n--B2--\n"
            )
        };
        assert_eq!(hear(&report("abuse")), [(ToldKind::Complained, 7, "0123456789".to_owned())]);
        assert_eq!(hear(&report("not-spam")), []);
        assert_eq!(hear(&report("auth-failure")), []);
    }

    #[test]
    fn an_opt_out_by_mail_is_one_if_somebody_wrote_it() {
        let mail = |more: &str| {
            format!(
                "From: Ana <ana@example.test>\nTo: {}\nSubject: unsubscribe\n{more}\n\n",
                ours(&format!("u-{TAG}"))
            )
        };
        assert_eq!(hear(&mail("Auto-Submitted: no")), [(ToldKind::Unsubscribed, 7, "0123456789".to_owned())]);
        assert_eq!(hear(&mail("Auto-Submitted: auto-generated")), []);
    }

    proptest! {
        #[test]
        fn any_bytes_are_heard_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..2_000), at in 0..1_200_usize) {
            drop(told(&bytes, ("bounces", "mail.acme.test"), Timestamp::UNIX_EPOCH));
            let mut broken = bounce(&ours(TAG), "failed", "5.1.1").into_bytes();
            let at = at.min(broken.len());
            broken.splice(at..at, bytes);
            drop(told(&broken, ("bounces", "mail.acme.test"), Timestamp::UNIX_EPOCH));
        }
    }
}
