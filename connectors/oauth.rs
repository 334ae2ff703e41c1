//! How connectors get in by a token of an hour (RFC 6749): the answer that has one, and signed statements for which it is given (RFC 7523).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use connector::http::{HeaderText, outcome};
use connector::{HttpRequest, Idempotency, Method, Outcome, Reply, Schedule};
use jiff::Timestamp;
use model::Reason;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::over_http::{percent, secret_mistake, text_at};

/// What is wrong with a key that [`Signer::of`] cannot read.
pub(crate) const PRIVATE_KEY: &str =
    "expected an RSA key, a text that begins with `-----BEGIN PRIVATE KEY-----`";

/// A key that signs statements (RS256). `Debug` shows nothing of it.
pub(crate) struct Signer {
    key: KeyPair,
    /// The statement that was made last, and of when it is. To sign takes longer than all else here; and what is asked is often of one time.
    last: Mutex<Option<(i64, String)>>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Signer")
    }
}

impl Signer {
    /// That of a key as it stands in its file, with line breaks or with `\n` for them, as JSON writes them and environments keep them.
    pub(crate) fn of(pem: &str) -> Option<Self> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.replace("\\n", "\n").as_bytes()).ok()?;
        Some(Self { key: KeyPair::from_pkcs8(der.secret_pkcs8_der()).ok()?, last: Mutex::default() })
    }

    /// A statement with these claims, which are of the second that they are given, and of nothing else that changes. The same for the same time:
    /// this way of signing draws nothing.
    pub(crate) fn statement(&self, at: Timestamp, claims: impl FnOnce(i64) -> Value) -> Option<String> {
        let at = at.as_second();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_none_or(|(of, _)| *of != at) {
            *last = self.signed(&claims(at)).map(|statement| (at, statement));
        }
        last.as_ref().map(|(_, statement)| statement.clone())
    }

    fn signed(&self, claims: &Value) -> Option<String> {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&json!({ "alg": "RS256", "typ": "JWT" })), part(claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).ok()?;
        Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// A request for a token, with a form.
pub(crate) fn token_request(url: String, form: &[(&str, &str)]) -> HttpRequest {
    let pairs: Vec<String> = form.iter().map(|(name, text)| format!("{name}={}", percent(text))).collect();
    let headers = [("accept", "application/json"), ("content-type", "application/x-www-form-urlencoded")];
    HttpRequest {
        method: Method::Post,
        url,
        headers: headers.map(|(name, text)| (name, HeaderText::Plain(text.to_owned()))).to_vec(),
        body: Arc::from(pairs.join("&").into_bytes()),
    }
}

/// What a token is asked for with a statement (RFC 7523, section 2.1).
pub(crate) const BY_STATEMENT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// The token in an answer, or why there is none. Its errors are those of RFC 6749, section 5.2.
///
/// # Errors
/// What the answer means, if it has no token.
pub(crate) fn token(class: Idempotency, reply: &Reply) -> Result<String, Outcome> {
    if let Reply::Http(reply) = reply
        && (200..300).contains(&reply.status)
    {
        let token = text_at(&reply.json(), "/access_token");
        return token.filter(|token| secret_mistake("", token).is_none()).ok_or_else(|| Outcome::Retry {
            reason: Reason::FailRemote5xx,
            after: None,
            schedule: Schedule::Connect,
            slower: false,
            detail: format!("HTTP {}, and no token in it", reply.status),
        });
    }
    let message = |body: &Value| text_at(body, "/error_description").or_else(|| text_at(body, "/error"));
    match outcome(class, reply, |_| None, message) {
        // What is refused is the account or its key, so nobody gets in with it.
        Outcome::Rejected { detail, .. } => Err(Outcome::Halt { reason: Reason::FailAuth, detail }),
        outcome => Err(outcome),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;

    /// The claims of a statement, whose signature is by this signer's key.
    pub(crate) fn verified(signer: &Signer, statement: &str) -> Value {
        let public = signer.key.public_key().as_ref().to_vec();
        let (signed, signature) = statement.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public)
            .verify(signed.as_bytes(), &signature)
            .unwrap();
        let (_, claims) = signed.split_once('.').unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
    }

    #[test]
    fn a_key_may_have_lost_its_line_breaks_to_json() {
        let example: Value = serde_json::from_str(crate::google_ads::KIND.example).unwrap();
        let key = example["private_key"].as_str().unwrap().to_owned();
        assert!(Signer::of(&key.replace('\n', "\\n")).is_some());
        for wrong in ["", "x", &key[..700], &key.replace("PRIVATE", "PUBLIC")] {
            assert!(Signer::of(wrong).is_none());
        }
    }
}
