//! A rendered message as bytes for a mail server: headers, envelope, MIME. Every header is checked before it is written, every
//! line ends in CRLF, and nothing is drawn: the same letter gives the same bytes.
//!
//! Deliberately absent: attachments.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use lettre::message::header::ContentType;
use lettre::message::{MultiPart, SinglePart};
use model::mail::{Content, Party};
use model::{DeliveryId, EmailAddress, Reason, Refusal};

use crate::dkim::Signer;
use crate::encode::{self, FOLD_AT, encoded_words, is_plain, unstructured};
use crate::render::Rendered;

/// A rendered message, and to whom it goes.
#[derive(Debug, Clone, Copy)]
pub struct Letter<'a> {
    /// What it says.
    pub rendered: &'a Rendered,
    /// The brand's sender, `Acme <hello@acme.test>`, unless the template has its own.
    pub from: &'a str,
    /// The brand's address for answers, unless the template has its own.
    pub reply_to: Option<&'a str>,
    /// To whom.
    pub to: &'a EmailAddress,
    /// Their name, as the warehouse has it: whatever it holds is safe.
    pub to_name: Option<&'a str>,
    /// Its id, the left part of the Message-ID.
    pub delivery: &'a DeliveryId,
    /// The time in its `Date`.
    pub date: Timestamp,
    /// The list it belongs to (RFC 2919), without brackets: `offers.mail.acme.test`.
    pub list_id: Option<&'a str>,
    /// The one-click address (RFC 8058): also gives `List-Unsubscribe-Post`.
    pub unsubscribe_url: Option<&'a str>,
    /// An address that opts out whoever writes to it (RFC 2369); beside the one-click address, for readers that only write mail.
    pub unsubscribe_mailto: Option<&'a str>,
    /// By what Gmail counts complaints: see [`crate::feedback_id`]. In the bytes alone, since providers that compose the mail
    /// themselves write one of their own, and Gmail heeds one.
    pub feedback_id: Option<&'a str>,
    /// Who signs it (RFC 6376); `None`: nobody, or a server on the way.
    pub signer: Option<&'a Signer>,
    /// A test to a colleague: the subject says so.
    pub test: bool,
}

/// A message as it is handed over. Shows neither address nor content.
#[derive(Clone, PartialEq, Eq)]
pub struct Mail {
    /// Envelope sender.
    pub mail_from: String,
    /// Envelope recipient.
    pub rcpt_to: String,
    /// The message (RFC 5322), lines ending in CRLF, not dot-stuffed.
    pub bytes: Vec<u8>,
    /// The same in its parts.
    pub content: Content,
}

impl fmt::Debug for Mail {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Mail([{} bytes])", self.bytes.len())
    }
}

/// A line of a message is no longer, in octets, without CRLF (RFC 5322 2.1.1); nor is what goes into one header.
pub(crate) const LINE_BYTES_MAX: usize = 998;
/// A name in `To` is cut here (in characters).
const NAME_CHARS_MAX: usize = 100;

/// Composes the mail of a letter.
///
/// # Errors
/// A refusal of gate `content`: an empty subject or message, a header that would hold a line break or is too long, a sender or
/// an address for answers that is none. Of gate `dispatch`: it could not be signed.
pub fn compose(letter: &Letter<'_>) -> Result<Mail, Refusal> {
    let rendered = letter.rendered;
    if rendered.html.is_none() && rendered.text.trim().is_empty() {
        return Err(refusal(Reason::ContentEmpty, "the message has no text"));
    }
    let from = Mailbox::parse(rendered.from.as_deref().unwrap_or(letter.from)).ok_or_else(|| {
        refusal(Reason::SenderInvalid, "`from` is not an address such as `Acme <hello@acme.test>`")
    })?;
    let mut headers = String::with_capacity(1024);
    header(&mut headers, "From", &from.written("From"));
    let to =
        Mailbox { name: letter.to_name.map_or_else(String::new, harmless_name), address: letter.to.clone() };
    header(&mut headers, "To", &to.written("To"));
    let subject = subject(letter)?;
    header(&mut headers, "Subject", &unstructured("Subject", &subject));
    header(&mut headers, "Date", &letter.date.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string());
    header(
        &mut headers,
        "Message-ID",
        &format!("<{}@{}>", checked("the delivery id", letter.delivery.as_str())?, from.address.domain()),
    );
    let reply_to = rendered.reply_to.as_deref().or(letter.reply_to).map(|reply_to| {
        Mailbox::parse(reply_to).ok_or_else(|| {
            refusal(Reason::ReplyToInvalid, "`reply_to` is not an address such as `help@acme.test`")
        })
    });
    let reply_to = reply_to.transpose()?;
    if let Some(reply_to) = &reply_to {
        header(&mut headers, "Reply-To", &reply_to.written("Reply-To"));
    }
    let mut more = Vec::new();
    if let Some(list_id) = letter.list_id {
        more.push(("List-Id".to_owned(), format!("<{}>", bracketed("the list's id", list_id)?)));
    }
    if let Some(url) = letter.unsubscribe_url {
        let mut ways = format!("<{}>", bracketed("the unsubscribe link", url)?);
        if let Some(address) = letter.unsubscribe_mailto {
            let address = bracketed("the address that opts out", address)?;
            ways.push_str(&format!(", <mailto:{address}?subject=unsubscribe>"));
        }
        more.push(("List-Unsubscribe".to_owned(), ways));
        more.push(("List-Unsubscribe-Post".to_owned(), "List-Unsubscribe=One-Click".to_owned()));
    }
    for (name, value) in &more {
        header(&mut headers, name, value);
    }
    for (name, value) in &rendered.headers {
        if let Some(wrong) = header_name_mistake(name) {
            return Err(refusal(Reason::RenderError, &format!("header `{}`: {wrong}", shown(name))));
        }
        let value = checked(&format!("the header `{name}`"), value)?;
        if !value.is_empty() {
            header(&mut headers, name, &unstructured(name, value));
            more.push((name.clone(), value.to_owned()));
        }
    }
    if let Some(feedback_id) = letter.feedback_id {
        header(&mut headers, "Feedback-ID", bracketed("the Feedback-ID", feedback_id)?);
    }
    header(&mut headers, "MIME-Version", "1.0");
    let mut bytes = headers.into_bytes();
    bytes.extend(body(rendered, letter.delivery));
    // Last: whatever is changed after this breaks it.
    if let Some(signer) = letter.signer {
        bytes.splice(..0, signer.signature(&bytes, letter.date)?);
    }
    let content = Content {
        subject,
        html: rendered.html.as_deref().map(Arc::from),
        text: Arc::from(rendered.text.as_str()),
        headers: more,
        reply_to: reply_to.map(Mailbox::party),
        to: to.party(),
        from: from.party(),
    };
    let address = |party: &Party| party.address.as_string();
    Ok(Mail { mail_from: address(&content.from), rcpt_to: address(&content.to), bytes, content })
}

fn subject(letter: &Letter<'_>) -> Result<String, Refusal> {
    let subject = checked("the subject", letter.rendered.subject.trim())?;
    if subject.is_empty() {
        return Err(refusal(Reason::ContentEmpty, "the subject is empty"));
    }
    Ok(if letter.test { format!("[TEST] {subject}") } else { subject.to_owned() })
}

/// The MIME entity: its headers, an empty line, and the body. Text comes first: a reader takes the last part it can show.
fn body(rendered: &Rendered, delivery: &DeliveryId) -> Vec<u8> {
    let plain = SinglePart::builder().header(ContentType::TEXT_PLAIN).body(encode::body(&rendered.text));
    let Some(html) = &rendered.html else {
        let mut bytes = plain.formatted();
        if bytes.ends_with(b"\r\n\r\n") {
            bytes.truncate(bytes.len() - 2);
        }
        return bytes;
    };
    let html = SinglePart::builder().header(ContentType::TEXT_HTML).body(encode::body(html));
    // `=_` occurs in no quoted-printable and no base64 text, and nobody who writes content knows the id.
    let boundary = format!("=_{delivery}");
    MultiPart::builder()
        .kind(lettre::message::MultiPartKind::Alternative)
        .boundary(boundary)
        .singlepart(plain)
        .singlepart(html)
        .formatted()
}

/// A name and an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mailbox {
    name: String,
    pub(crate) address: EmailAddress,
}

impl Mailbox {
    fn party(self) -> Party {
        Party { name: self.name, address: self.address }
    }

    /// `hello@acme.test`, `Acme <hello@acme.test>` or `"Acme, Inc." <hello@acme.test>`. Nothing with a control character.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() > LINE_BYTES_MAX || text.contains(char::is_control) {
            return None;
        }
        let Some(inner) = text.trim_end().strip_suffix('>') else {
            return Some(Self { name: String::new(), address: EmailAddress::parse(text).ok()? });
        };
        let (name, address) = inner.rsplit_once('<')?;
        let name = name.trim();
        let name = match name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(quoted) => quoted.replace("\\\"", "\"").replace("\\\\", "\\"),
            None => name.to_owned(),
        };
        Some(Self { name: harmless_name(&name), address: EmailAddress::parse(address).ok()? })
    }

    /// As it stands in a header of that name, folded.
    fn written(&self, header: &str) -> String {
        let address = self.address.as_string();
        if self.name.is_empty() {
            return address;
        }
        let name = if is_plain(&self.name) {
            format!("\"{}\"", self.name.replace('\\', "\\\\").replace('"', "\\\""))
        } else {
            encoded_words(&self.name, header.len() + 2)
        };
        let used = header.len() + 2 + name.rsplit('\n').next().map_or(0, str::len);
        let fold = if used + address.len() + 3 > FOLD_AT { "\r\n" } else { "" };
        format!("{name}{fold} <{address}>")
    }
}

/// A name without what could steer a header or a screen: control characters become spaces, marks that turn the direction of
/// text are left out, and it ends somewhere.
fn harmless_name(name: &str) -> String {
    let turns =
        |c: &char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
    let kept: String = name
        .chars()
        .filter(|c| !turns(c))
        .map(|c| if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { ' ' } else { c })
        .take(NAME_CHARS_MAX)
        .collect();
    kept.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn header(headers: &mut String, name: &str, value: &str) {
    headers.push_str(name);
    headers.push_str(": ");
    headers.push_str(value);
    headers.push_str("\r\n");
}

/// A text that may stand in a header.
///
/// # Errors
/// It holds a line break or another control character, or is longer than a header may be.
pub(crate) fn checked<'a>(what: &str, text: &'a str) -> Result<&'a str, Refusal> {
    if text.contains(|c: char| c.is_control() && c != '\t') {
        return Err(refusal(
            Reason::VarInvalid,
            &format!("{what} would hold a line break or another control character"),
        ));
    }
    if text.len() > LINE_BYTES_MAX {
        return Err(refusal(
            Reason::ContentTooLarge,
            &format!("{what} is longer than {LINE_BYTES_MAX} octets"),
        ));
    }
    Ok(text)
}

/// A text that may stand between `<` and `>` on one line.
fn bracketed<'a>(what: &str, text: &'a str) -> Result<&'a str, Refusal> {
    if text.bytes().all(|byte| matches!(byte, b'!'..=b'~') && !matches!(byte, b'<' | b'>'))
        && text.len() <= 900
    {
        Ok(text)
    } else {
        Err(refusal(Reason::RenderError, &format!("{what} cannot stand in a header")))
    }
}

/// Why a template may not set a header of that name; `None`: it may.
pub(crate) fn header_name_mistake(name: &str) -> Option<&'static str> {
    const OURS: &[&str] = &[
        "bcc",
        "cc",
        "date",
        "dkim-signature",
        "errors-to",
        "feedback-id",
        "from",
        "in-reply-to",
        "message-id",
        "received",
        "references",
        "reply-to",
        "return-path",
        "sender",
        "subject",
        "to",
    ];
    const OUR_FAMILIES: &[&str] =
        &["arc-", "authentication-", "content-", "dkim-", "list-", "mime-", "received-", "resent-"];
    let lower = name.to_ascii_lowercase();
    let atom = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if name.is_empty() || name.len() > 64 || !name.bytes().all(atom) {
        Some("a name of letters, digits and `-`, at most 64")
    } else if lower == "subject" || lower == "from" || lower == "reply-to" {
        Some("it has its own key in the front matter")
    } else if OURS.contains(&&*lower) || OUR_FAMILIES.iter().any(|family| lower.starts_with(family)) {
        Some("it is written by Drumbeat, or by the mail servers on the way")
    } else {
        None
    }
}

/// A refusal of the gate `content`.
pub(crate) fn refusal(reason: Reason, saw: &str) -> Refusal {
    Refusal { reason, saw: saw.to_owned() }
}

/// A name as an error quotes it.
fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}
