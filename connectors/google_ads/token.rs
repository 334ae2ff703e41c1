//! How a service account gets in: by a statement under its signature, against which Google hands out a token.

use std::fmt;

use connector::{Exchange, HttpRequest, Outcome, Request, ask_first, settled};
use jiff::Timestamp;
use model::Reason;
use serde_json::json;

use super::KIND;
use crate::oauth::{BY_STATEMENT, Signer, token, token_request};

/// What the token is for.
const SCOPE: &str = "https://www.googleapis.com/auth/datamanager";
/// A statement is good for so many seconds; Google takes none that would be for longer.
const GOOD_FOR: i64 = 3_600;

/// A service account, and where it gets its tokens.
pub(super) struct ServiceAccount {
    email: String,
    signer: Signer,
    url: String,
}

impl fmt::Debug for ServiceAccount {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "ServiceAccount({})", self.url)
    }
}

impl ServiceAccount {
    pub(super) fn new(email: String, signer: Signer, url: String) -> Self {
        Self { email, signer, url }
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
        ask_first(Request::Http(request), |reply| match token(KIND.idempotency, &reply) {
            Ok(token) => then(&token),
            Err(outcome) => settled(outcome.into()),
        })
    }

    fn request(&self, at: Timestamp) -> Option<HttpRequest> {
        let statement = self.statement(at)?;
        Some(token_request(self.url.clone(), &[("grant_type", BY_STATEMENT), ("assertion", &statement)]))
    }

    fn statement(&self, at: Timestamp) -> Option<String> {
        self.signer.statement(at, |at| {
            json!({ "iss": self.email, "scope": SCOPE, "aud": self.url, "iat": at, "exp": at + GOOD_FOR })
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::oauth::tests::verified;

    #[test]
    fn a_statement_is_signed_as_its_header_says_and_short_lived() {
        let example: Value = serde_json::from_str(KIND.example).unwrap();
        let signer = Signer::of(example["private_key"].as_str().unwrap()).unwrap();
        let account = ServiceAccount::new("a@b.test".to_owned(), signer, "https://t.test/token".to_owned());
        let statement = account.statement("2026-03-02T09:00:00Z".parse().unwrap()).unwrap();
        assert_eq!(
            verified(&account.signer, &statement),
            json!({ "iss": "a@b.test", "scope": SCOPE, "aud": "https://t.test/token", "iat": 1_772_442_000, "exp": 1_772_445_600 })
        );
    }
}
