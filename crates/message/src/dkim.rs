//! DKIM signatures (RFC 6376, as RFC 8301 and RFC 8463 amend it) over the bytes of a composed mail, relaxed in headers and body.
//!
//! Our own, and small: a library would bring a second RSA, which is slower and leaks time, or a resolver. The arithmetic is
//! aws-lc's. Deliberately absent: `l=`, which lets anybody write on below what was signed (RFC 6376 8.2); `x=`; `simple`, which a
//! server that folds a header anew breaks; rsa-sha1; DNS; and verifying, but in the tests.

use std::fmt;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use aws_lc_rs::{digest, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use model::fault::mutant;
use model::{EmailAddress, Reason, Refusal};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;

use crate::encode::FOLD_AT;
use crate::mail::refusal;

/// The headers that are signed where they are there (RFC 6376 5.4.1): those that Drumbeat writes. Not those of a template's own,
/// since a relay may take out what is meant for it, such as `X-SES-CONFIGURATION-SET`.
const COVERED: &[&str] = &[
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "Reply-To",
    "List-Id",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "Feedback-ID",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
];

/// Signed once more than it is there, so that nobody can add a second sender above the one that was signed (RFC 6376 8.15).
const OVERSIGNED: &str = "From";

/// Why something cannot sign. Never repeats what was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignerMistake(pub &'static str);

impl fmt::Display for SignerMistake {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0)
    }
}

impl std::error::Error for SignerMistake {}

/// Who signs: a domain, a selector (RFC 6376 3.1) and a key. `Debug` does not show the key.
pub struct Signer {
    domain: String,
    selector: String,
    key: Key,
    record: String,
}

enum Key {
    Rsa(Box<RsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

impl fmt::Debug for Signer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Signer({}, [secret])", self.record_name())
    }
}

impl Signer {
    /// Takes a key in PEM: RSA of 2048 to 8192 bits (PKCS#8 or PKCS#1; RFC 8301 3.2), or Ed25519 (PKCS#8; RFC 8463).
    ///
    /// # Errors
    /// The domain, the selector or the key is none.
    pub fn new(domain: &str, selector: &str, pem: &str) -> Result<Self, SignerMistake> {
        let domain = parse_domain(domain)?;
        let selector = parse_selector(selector)?;
        let (key, record) = parse_key(pem)?;
        Ok(Self { domain, selector, key, record })
    }

    /// The domain that answers for the mail, as it travels.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Under which name receivers look for the public key (RFC 6376 3.6.2.1).
    pub fn record_name(&self) -> String {
        format!("{}._domainkey.{}", self.selector, self.domain)
    }

    /// The TXT record with the public key, as it is published there (RFC 6376 3.6.1, RFC 8463 4).
    pub fn record(&self) -> &str {
        &self.record
    }

    /// The header that signs a mail, with its CRLF: it belongs before the first byte. `at` is when it was made (`t=`).
    pub(crate) fn signature(&self, mail: &[u8], at: Timestamp) -> Result<Vec<u8>, Refusal> {
        let (head, body) = head_and_body(mail);
        let fields = fields(head);
        let names = covered_names(&fields);
        let body_hash = STANDARD.encode(digest::digest(&digest::SHA256, &relaxed_body(body)));
        let algorithm = match &self.key {
            Key::Rsa(_) => "rsa-sha256",
            Key::Ed25519(_) => "ed25519-sha256",
        };
        let (domain, selector, time) = (&self.domain, &self.selector, at.as_second().max(0));
        let mut header = format!(
            "DKIM-Signature: v=1; a={algorithm}; c=relaxed/relaxed;\r\n d={domain}; s={selector};\r\n t={time};\r\n {};\r\n bh={body_hash};\r\n b=",
            folded_names(&names)
        );
        let signature = self.sign(&signed(&fields, &names, header.as_bytes()))?;
        // Folding is no part of what is signed: a verifier takes the value of `b=` out with all white space in it (RFC 6376 3.5).
        for (number, line) in STANDARD.encode(signature).as_bytes().chunks(FOLD_AT - 4).enumerate() {
            if number > 0 {
                header.push_str("\r\n ");
            }
            header.extend(line.iter().copied().map(char::from));
        }
        header.push_str("\r\n");
        Ok(header.into_bytes())
    }

    /// RSASSA-PKCS1-v1_5 over SHA-256 (RFC 6376 3.3.1), or PureEdDSA over the SHA-256 (RFC 8463 3). Neither draws anything.
    fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
        let signed = match &self.key {
            Key::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                // The library takes a source of dice for the sake of another library's callers, and does not ask it.
                key.sign(&RSA_PKCS1_SHA256, &rand::SystemRandom::new(), bytes, &mut signature)
                    .map(|()| signature)
            }
            Key::Ed25519(key) => key
                .try_sign(digest::digest(&digest::SHA256, bytes).as_ref())
                .map(|signature| signature.as_ref().to_vec()),
        };
        signed.map_err(|_| refusal(Reason::FailInternal, "the message could not be signed"))
    }
}

/// A domain as it travels: in lower case, outside ASCII as A-labels (RFC 8616 2).
///
/// # Errors
/// It is no domain.
pub fn parse_domain(text: &str) -> Result<String, SignerMistake> {
    let address = EmailAddress::parse(&format!("dkim@{text}"));
    // An address literal such as `[192.0.2.1]` is the domain of an address, and of no record.
    let is_name = |domain: &str| domain.contains('.') && is_labels(domain);
    address
        .map(|address| address.domain().to_ascii_lowercase())
        .ok()
        .filter(|domain| is_name(domain))
        .ok_or(SignerMistake("a domain such as `acme.test`"))
}

/// A selector: labels of a domain's name (RFC 6376 3.1).
///
/// # Errors
/// It is none.
pub fn parse_selector(text: &str) -> Result<String, SignerMistake> {
    if is_labels(text) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(SignerMistake("letters, digits and `-`, such as `d1`; parts are joined by `.`"))
    }
}

fn is_labels(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 180 && text.split('.').all(is_label)
}

/// The key, and its record.
fn parse_key(pem: &str) -> Result<(Key, String), SignerMistake> {
    let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| {
        let says = |what: &str| pem.contains(&format!("-----BEGIN {what}"));
        SignerMistake(if says("ENCRYPTED PRIVATE KEY") {
            "it is locked with a password; what is given here must be open: `openssl pkey -in locked.pem -out open.pem`"
        } else if says("PUBLIC KEY") || says("RSA PUBLIC KEY") {
            "that is the public key; what signs is the private one"
        } else {
            "a private key in PEM: it begins with `-----BEGIN PRIVATE KEY-----`"
        })
    })?;
    let ed25519 = match &der {
        PrivateKeyDer::Pkcs8(der) => Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).ok(),
        _ => None,
    };
    if let Some(key) = ed25519 {
        let public = STANDARD.encode(key.public_key());
        return Ok((Key::Ed25519(Box::new(key)), format!("v=DKIM1; k=ed25519; p={public}")));
    }
    let rsa = match &der {
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        _ => return Err(OTHER_KIND),
    };
    let key = rsa.map_err(|error| match error.to_string().as_str() {
        "TooSmall" => {
            SignerMistake("RSA of fewer than 2048 bits, which receivers do not take: make a longer one")
        }
        "TooLarge" => {
            SignerMistake("RSA of more than 8192 bits, which receivers do not take: 2048 bits will do")
        }
        _ => OTHER_KIND,
    })?;
    let public = key.public_key().as_der().map_err(|_| OTHER_KIND)?;
    let record = format!("v=DKIM1; k=rsa; p={}", STANDARD.encode(public.as_ref()));
    Ok((Key::Rsa(Box::new(key)), record))
}

const OTHER_KIND: SignerMistake =
    SignerMistake("neither RSA nor Ed25519, or damaged: `openssl genrsa -out dkim.pem 2048` makes one");

/// A header field as it stands: its name, and all of it without the CRLF at its end.
struct Field<'a> {
    name: &'a [u8],
    whole: &'a [u8],
}

impl Field<'_> {
    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// The headers with the CRLF of the last one, and what comes after the empty line.
fn head_and_body(mail: &[u8]) -> (&[u8], &[u8]) {
    match mail.windows(4).position(|window| window == b"\r\n\r\n") {
        Some(at) => (&mail[..at + 2], &mail[at + 4..]),
        None => (mail, b""),
    }
}

fn fields(head: &[u8]) -> Vec<Field<'_>> {
    let mut fields = Vec::with_capacity(16);
    let mut begin = 0;
    while begin < head.len() {
        let mut end = begin;
        loop {
            let found = head[end..].windows(2).position(|window| window == b"\r\n");
            end = found.map_or(head.len(), |at| end + at);
            // A line that begins with white space goes on with the one before (RFC 5322 2.2.3).
            if !matches!(head.get(end + 2), Some(b' ' | b'\t')) {
                break;
            }
            end += 2;
        }
        let whole = &head[begin..end];
        let colon = whole.iter().position(|byte| *byte == b':').unwrap_or(whole.len());
        fields.push(Field { name: whole[..colon].trim_ascii_end(), whole });
        begin = end + 2;
    }
    fields
}

/// What `h=` lists.
fn covered_names(fields: &[Field<'_>]) -> Vec<&'static str> {
    let mut names = vec![OVERSIGNED];
    for name in
        COVERED.iter().filter(|name| !(mutant("dkim_unsigned_header") && **name == "List-Unsubscribe"))
    {
        names.extend(fields.iter().filter(|field| field.is(name)).map(|_| *name));
    }
    names
}

/// `h=`, folded after colons.
fn folded_names(names: &[&str]) -> String {
    let mut written = "h=".to_owned();
    let mut used = written.len();
    for (number, name) in names.iter().enumerate() {
        if number > 0 {
            written.push(':');
            used += 1;
        }
        if used + name.len() + 1 > FOLD_AT {
            written.push_str("\r\n ");
            used = 0;
        }
        written.push_str(name);
        used += name.len();
    }
    written
}

/// What the signature is over (RFC 6376 3.7): each field that `h=` names, the lowest of several first, nothing for one that is
/// not there; then the signature's own, without a value of `b=` and without CRLF.
fn signed(fields: &[Field<'_>], names: &[&str], signature: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(2_048);
    for (number, name) in names.iter().enumerate() {
        let earlier = names[..number].iter().filter(|other| other.eq_ignore_ascii_case(name)).count();
        if let Some(field) = fields.iter().rev().filter(|field| field.is(name)).nth(earlier) {
            relaxed_header(field.whole, &mut out);
            out.extend_from_slice(b"\r\n");
        }
    }
    relaxed_header(signature, &mut out);
    out
}

/// RFC 6376 3.4.2: the name in lower case, unfolded, each run of white space one space, none at the ends.
fn relaxed_header(field: &[u8], out: &mut Vec<u8>) {
    let colon = field.iter().position(|byte| *byte == b':').unwrap_or(field.len());
    let (name, value) = field.split_at(colon);
    out.extend(name.trim_ascii_end().iter().map(u8::to_ascii_lowercase));
    out.push(b':');
    // What is left of a line's end when it is unfolded is white space beside white space.
    join_words(value.get(1..).unwrap_or_default(), |byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'), out);
}

/// RFC 6376 3.4.4: each run of white space one space, none at the end of a line, no empty lines at the end.
fn relaxed_body(body: &[u8]) -> Vec<u8> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let mut out = Vec::with_capacity(body.len() + 2);
    let mut empty = 0;
    // Every line of ours ends in CRLF; one at the end that does not gets it.
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r\n").unwrap_or(line);
        if line.iter().all(is_space) {
            empty += 1;
            continue;
        }
        for _ in 0..std::mem::take(&mut empty) {
            out.extend_from_slice(b"\r\n");
        }
        if line.first().is_some_and(is_space) {
            out.push(b' ');
        }
        join_words(line, is_space, &mut out);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// The words of a text with one space between them.
fn join_words(text: &[u8], is_space: impl Fn(&u8) -> bool, out: &mut Vec<u8>) {
    for (number, word) in text.split(is_space).filter(|word| !word.is_empty()).enumerate() {
        if number > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(word);
    }
}

#[cfg(test)]
mod tests;
