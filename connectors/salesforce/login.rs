//! How Drumbeat comes in: by the secret of an app, or by a statement under a key whose certificate the app has.

use connector::{Exchange, HttpRequest, Outcome, Request, ask_first, settled};
use jiff::Timestamp;
use model::{Reason, Secret};
use serde_json::json;

use super::KIND;
use crate::oauth::{BY_STATEMENT, Signer, token, token_request};
use crate::over_http::base64;

/// A statement is good for so many seconds; Salesforce takes none that would be for longer.
const GOOD_FOR: i64 = 180;

/// What lets Drumbeat in.
#[derive(Debug)]
pub(super) enum Login {
    /// The secret of an app, which says as whom.
    Secret { client_id: String, client_secret: Secret },
    /// A key.
    Key { client_id: String, username: String, audience: String, signer: Signer },
}

impl Login {
    /// The conversation that gets a token, and goes on with it. Salesforce gives no time for how long it is good, so it serves one conversation.
    pub(super) fn with_token<D: From<Outcome> + Clone + Send + 'static>(
        &self,
        base: &str,
        at: Timestamp,
        then: impl FnOnce(&str) -> Box<dyn Exchange<D>> + Send + 'static,
    ) -> Box<dyn Exchange<D>> {
        let Some(request) = self.request(format!("{base}/services/oauth2/token"), at) else {
            let detail = "the setting `private_key` does not sign".to_owned();
            return settled(Outcome::Halt { reason: Reason::FailAuth, detail }.into());
        };
        ask_first(Request::Http(request), |reply| match token(KIND.idempotency, &reply) {
            Ok(token) => then(&token),
            Err(outcome) => settled(outcome.into()),
        })
    }

    fn request(&self, url: String, at: Timestamp) -> Option<HttpRequest> {
        Some(match self {
            Self::Secret { client_id, client_secret } => {
                let basic = base64(format!("{client_id}:{}", client_secret.reveal()).as_bytes());
                token_request(url, &[("grant_type", "client_credentials")])
                    .secret("authorization", format!("Basic {basic}"))
            }
            Self::Key { client_id, username, audience, signer } => {
                let claims =
                    |at| json!({ "iss": client_id, "sub": username, "aud": audience, "exp": at + GOOD_FOR });
                let statement = signer.statement(at, claims)?;
                token_request(url, &[("grant_type", BY_STATEMENT), ("assertion", &statement)])
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::oauth::tests::verified;

    #[test]
    fn a_statement_says_who_comes_in_and_for_three_minutes() {
        let example: Value = serde_json::from_str(KIND.example).unwrap();
        let login = Login::Key {
            client_id: "ck".to_owned(),
            username: "u@acme.test".to_owned(),
            audience: "https://login.salesforce.com".to_owned(),
            signer: Signer::of(example["private_key"].as_str().unwrap()).unwrap(),
        };
        let request = login.request("https://a.test".to_owned(), "2026-03-02T09:00:00Z".parse().unwrap());
        let body = String::from_utf8(request.unwrap().body.to_vec()).unwrap();
        let (grant, statement) = body.split_once("&assertion=").unwrap();
        assert_eq!(grant, "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer");
        let Login::Key { signer, .. } = &login else { panic!("no key") };
        assert_eq!(
            verified(signer, statement),
            json!({ "iss": "ck", "sub": "u@acme.test", "aud": "https://login.salesforce.com", "exp": 1_772_442_180 })
        );
    }
}
