//! How a service account gets in: a statement under its signature (RFC 7523), against which Google hands out a token.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use connector::http::{HeaderText, outcome};
use connector::{Exchange, HttpRequest, Method, Outcome, Reply, Request, Schedule, ask_first, settled};
use jiff::Timestamp;
use model::Reason;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use super::KIND;
use crate::over_http::{percent, secret_mistake, text_at};

/// What the token is for.
const SCOPE: &str = "https://www.googleapis.com/auth/datamanager";
/// A statement is good for so many seconds; Google takes none that would be for longer.
const GOOD_FOR: i64 = 3_600;

/// A service account, and where it gets its tokens.
pub(super) struct ServiceAccount {
    email: String,
    key: KeyPair,
    url: String,
    /// The statement that was made last, and of when it is. To sign takes longer than all else here; and the changes of an audience are of one time.
    last: Mutex<Option<(i64, String)>>,
}

impl fmt::Debug for ServiceAccount {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "ServiceAccount({})", self.url)
    }
}

/// A key as it stands in its file, with line breaks or with `\n` for them, as JSON writes them and environments keep them.
pub(super) fn read_key(pem: &str) -> Option<KeyPair> {
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem.replace("\\n", "\n").as_bytes()).ok()?;
    KeyPair::from_pkcs8(der.secret_pkcs8_der()).ok()
}

impl ServiceAccount {
    pub(super) fn new(email: String, key: KeyPair, url: String) -> Self {
        Self { email, key, url, last: Mutex::default() }
    }

    /// The conversation that gets a token, and goes on with it.
    pub(super) fn with_token<D: From<Outcome> + Clone + Send + 'static>(
        &self,
        at: Timestamp,
        then: impl FnOnce(&str) -> Box<dyn Exchange<D>> + Send + 'static,
    ) -> Box<dyn Exchange<D>> {
        let Some(request) = self.request(at) else {
            let detail = "the setting `private_key` does not sign".to_owned();
            return settled(Outcome::Halt { reason: Reason::FailAuth, detail }.into());
        };
        ask_first(Request::Http(request), |reply| match token(&reply) {
            Ok(token) => then(&token),
            Err(outcome) => settled(outcome.into()),
        })
    }

    fn request(&self, at: Timestamp) -> Option<HttpRequest> {
        let form = format!(
            "grant_type={}&assertion={}",
            percent("urn:ietf:params:oauth:grant-type:jwt-bearer"),
            self.statement(at)?
        );
        let headers = [("accept", "application/json"), ("content-type", "application/x-www-form-urlencoded")];
        Some(HttpRequest {
            method: Method::Post,
            url: self.url.clone(),
            headers: headers.map(|(name, text)| (name, HeaderText::Plain(text.to_owned()))).to_vec(),
            body: Arc::from(form.into_bytes()),
        })
    }

    /// The same for the same time: this way of signing draws nothing.
    fn statement(&self, at: Timestamp) -> Option<String> {
        let at = at.as_second();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_none_or(|(of, _)| *of != at) {
            *last = self.signed(at).map(|statement| (at, statement));
        }
        last.as_ref().map(|(_, statement)| statement.clone())
    }

    fn signed(&self, at: i64) -> Option<String> {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!(
            "{}.{}",
            part(&json!({ "alg": "RS256", "typ": "JWT" })),
            part(
                &json!({ "iss": self.email, "scope": SCOPE, "aud": self.url, "iat": at, "exp": at + GOOD_FOR })
            )
        );
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).ok()?;
        Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// The token in an answer, or why there is none. Its errors are those of RFC 6749, section 5.2.
fn token(reply: &Reply) -> Result<String, Outcome> {
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
    match outcome(KIND.idempotency, reply, |_| None, message) {
        // What is refused is the account or its key, so nobody gets in with it.
        Outcome::Rejected { detail, .. } => Err(Outcome::Halt { reason: Reason::FailAuth, detail }),
        outcome => Err(outcome),
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;

    fn key() -> String {
        let example: Value = serde_json::from_str(KIND.example).unwrap();
        example["private_key"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_statement_is_signed_as_its_header_says_and_short_lived() {
        let key = read_key(&key()).unwrap();
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref().to_vec());
        let account = ServiceAccount::new("a@b.test".to_owned(), key, "https://t.test/token".to_owned());
        let statement = account.statement("2026-03-02T09:00:00Z".parse().unwrap()).unwrap();
        let (signed, signature) = statement.rsplit_once('.').unwrap();
        public.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
        let (_, claims) = signed.split_once('.').unwrap();
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        assert_eq!(
            claims,
            json!({ "iss": "a@b.test", "scope": SCOPE, "aud": "https://t.test/token", "iat": 1_772_442_000, "exp": 1_772_445_600 })
        );
    }

    #[test]
    fn a_key_may_have_lost_its_line_breaks_to_json() {
        assert!(read_key(&key().replace('\n', "\\n")).is_some());
        for wrong in ["", "x", &key()[..700], &key().replace("PRIVATE", "PUBLIC")] {
            assert!(read_key(wrong).is_none());
        }
    }
}
