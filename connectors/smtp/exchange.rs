//! The one call of the conversation, and what its reply means.

use connector::{Exchange, Item, Outcome, Reply, Request, Schedule, SmtpRequest, SmtpServer, Step, once};
use model::Reason;

use super::classify::replied;

pub(super) fn exchange(server: &SmtpServer, item: &Item) -> Box<dyn Exchange> {
    if has_bare_line_break(&item.bytes) {
        return Box::new(Refused);
    }
    let request = SmtpRequest {
        server: server.clone(),
        mail_from: item.mail_from.clone(),
        rcpt_to: item.rcpt_to.clone(),
        body: item.bytes.clone(),
    };
    once(Request::Smtp(request), outcome)
}

fn outcome(reply: Reply) -> Outcome {
    match reply {
        Reply::Smtp { at, code, enhanced, text } => replied(at, code, enhanced, &text),
        Reply::NotArmed => Outcome::NotArmed,
        Reply::Failed { handed_over: true, text, .. } => Outcome::InDoubt { detail: text.to_string() },
        Reply::Failed { handed_over: false, kind, text } => kind.before_hand_over(&text),
        // Neither was asked for.
        Reply::Wrote | Reply::Http(_) => Outcome::Retry {
            reason: Reason::FailInternal,
            after: None,
            schedule: Schedule::Connect,
            slower: false,
            detail: "the driver answered with something else than mail".to_owned(),
        },
    }
}

/// A line break that is not CRLF. Servers disagree on whether it ends a line, so that a message could smuggle in a second
/// one behind a dot on such a line.
fn has_bare_line_break(bytes: &[u8]) -> bool {
    let mut previous = 0;
    for byte in bytes {
        match (previous, *byte) {
            (b'\r', b'\n') => {}
            (b'\r', _) | (_, b'\n') => return true,
            _ => {}
        }
        previous = *byte;
    }
    previous == b'\r'
}

/// The message is not handed over at all.
struct Refused;

impl Exchange for Refused {
    fn next(&mut self, _reply: Option<Reply>) -> Step {
        let detail = "the message has a line break other than CRLF and was not handed over".to_owned();
        Step::Done(Outcome::Rejected { reason: Reason::FailInternal, bounce: None, detail })
    }
}

#[cfg(test)]
mod tests {
    use super::has_bare_line_break;

    #[test]
    fn only_crlf_breaks_a_line() {
        for fine in ["", "a", "a\r\nb", "\r\n.\r\n", "\r\n\r\n"] {
            assert!(!has_bare_line_break(fine.as_bytes()), "{fine:?}");
        }
        for wrong in ["a\nb", "\n", "a\rb", "a\r", "\r\r\n", "\r\n.\n", "\r\n.\r.\r\n"] {
            assert!(has_bare_line_break(wrong.as_bytes()), "{wrong:?}");
        }
    }
}
