//! The way out. `GET /u/TOKEN` shows a page and changes nothing; `POST /u/TOKEN` opts out: by a mail program (RFC 8058) or by
//! the page's button. `GET /p/TOKEN` shows what the person may get, `POST /p/TOKEN` stops one or all of it.
//!
//! An opt-out is committed before the answer; repeating it is the same success. A valid POST is honoured whatever its body says.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use connector::feedback::Inbound;
use daemon::feedback::Heard;
use message::token::{self, Claim};
use model::consent::{ConsentEvent, ConsentOrigin, ConsentStatus, Suppression, SuppressionSubject};
use model::delivery::Tally;
use model::policy::Purpose;
use model::settings::Brand;
use model::{DestinationName, MessageClass, PurposeName, Reason};
use serde_json::json;
use state::StateError;
use state::audit::Entry;
use state::delivery::DeliveryKey;

use crate::Site;
use crate::page::{escape, page};
use crate::words::{self, Words};

pub(crate) fn routes(site: Arc<Site>) -> Router {
    Router::new()
        .route("/u/{token}", get(show_unsubscribe).post(unsubscribe))
        .route("/p/{token}", get(show_preferences).post(change_preferences))
        .route("/in/{destination}", post(feedback))
        .fallback(async |State(site): State<Arc<Site>>, headers: HeaderMap| unknown(&site, spoken(&headers)))
        .with_state(site)
}

fn spoken(headers: &HeaderMap) -> &'static Words {
    words::for_header(headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()))
}

fn claim(site: &Site, token: &str, purpose: token::Purpose) -> Option<Claim> {
    token::verify(&daemon::links::token_keys(&site.daemon.keys), token, purpose)
}

/// What a provider tells. Answered once it is written: whoever gets no 2xx tells it again.
async fn feedback(
    State(site): State<Arc<Site>>,
    Path(destination): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let Ok(destination) = DestinationName::parse(&destination) else { return StatusCode::NOT_FOUND };
    let now = site.clock.now();
    let text = |(name, value): (&header::HeaderName, &header::HeaderValue)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    };
    let inbound =
        Inbound { headers: headers.iter().filter_map(text).collect(), body: body.to_vec(), at: now };
    match daemon::feedback::hear(&site.daemon, &destination, &inbound, now).await {
        Ok(Heard::Told { .. }) => StatusCode::OK,
        Ok(Heard::Nobody) => StatusCode::NOT_FOUND,
        Ok(Heard::Forged) => {
            tracing::warn!(%destination, "Somebody told something of `{destination}` who is not its provider, or not now.");
            StatusCode::UNAUTHORIZED
        }
        Ok(Heard::Garbled) => StatusCode::BAD_REQUEST,
        Ok(Heard::NotNow) => StatusCode::SERVICE_UNAVAILABLE,
        Err(error) => {
            tracing::error!(%destination, %error, "What `{destination}` told could not be written; it is asked to tell it again.");
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

async fn show_unsubscribe(
    State(site): State<Arc<Site>>,
    Path(token): Path<String>,
    headers: HeaderMap,
) -> Response {
    let words = spoken(&headers);
    let Some(claim) = claim(&site, &token, token::Purpose::Unsubscribe) else { return unknown(&site, words) };
    let body = format!(
        "<p>{}</p><form method=\"post\"><input type=\"hidden\" name=\"confirm\" value=\"1\"><button>{}</button></form>",
        words.unsubscribe_text, words.unsubscribe_button
    );
    let voice = voice(&site, &claim).await;
    page(StatusCode::OK, words, &voice.0, &voice.1, words.unsubscribe_title, &body)
}

async fn unsubscribe(
    State(site): State<Arc<Site>>,
    Path(token): Path<String>,
    headers: HeaderMap,
    said: Bytes,
) -> Response {
    let words = spoken(&headers);
    let Some(claim) = claim(&site, &token, token::Purpose::Unsubscribe) else { return unknown(&site, words) };
    let source = if said.starts_with(b"confirm=") { "page" } else { "one_click" };
    done(&site, words, &claim, opt_out(&site, &claim, None, source).await).await
}

async fn done(site: &Site, words: &Words, claim: &Claim, written: Result<(), StateError>) -> Response {
    let voice = voice(site, claim).await;
    match written {
        Ok(()) => page(
            StatusCode::OK,
            words,
            &voice.0,
            &voice.1,
            words.done_title,
            &format!("<p>{}</p>", words.done_text),
        ),
        Err(error) => {
            tracing::error!(delivery = %claim.delivery, %error, "An opt-out could not be written; the person was told to try again.");
            let text = format!("<p>{}</p>", words.later_text);
            page(StatusCode::SERVICE_UNAVAILABLE, words, &voice.0, &voice.1, words.later_title, &text)
        }
    }
}

async fn show_preferences(
    State(site): State<Arc<Site>>,
    Path(token): Path<String>,
    headers: HeaderMap,
) -> Response {
    let words = spoken(&headers);
    let Some(claim) = claim(&site, &token, token::Purpose::Preferences) else { return unknown(&site, words) };
    preferences(&site, words, &claim).await
}

async fn preferences(site: &Site, words: &Words, claim: &Claim) -> Response {
    let voice = voice(site, claim).await;
    let held = async {
        let mut tx = site.daemon.state.read().await?;
        tx.ask(state::consent::of_profiles(&[claim.profile])).await
    };
    let Ok(mut held) = held.await else {
        let text = format!("<p>{}</p>", words.later_text);
        return page(StatusCode::SERVICE_UNAVAILABLE, words, &voice.0, &voice.1, words.later_title, &text);
    };
    let consents = held.remove(&claim.profile).unwrap_or_default();
    let mut rows = String::new();
    for purpose in listed(site) {
        let may = allowed(site, purpose, claim, consents.status_of(claim.channel, &purpose.name));
        let title = escape(purpose.title.get(words.language, &site.daemon.project.settings.locales));
        let (state, button) = if may {
            let button = format!(
                "<form method=\"post\"><button class=\"quiet\" name=\"stop\" value=\"{}\">{}</button></form>",
                purpose.name, words.stop_button
            );
            (words.receiving, button)
        } else {
            (words.stopped, String::new())
        };
        rows.push_str(&format!("<li><span>{title}<small>{state}</small></span>{button}</li>"));
    }
    let body = format!(
        "<p>{}</p><ul>{rows}</ul><form method=\"post\"><button name=\"stop\" value=\"*\">{}</button></form>",
        words.preferences_text, words.stop_all_button
    );
    page(StatusCode::OK, words, &voice.0, &voice.1, words.preferences_title, &body)
}

/// What the page lists: all purposes but transactional ones, which are not asked about.
fn listed(site: &Site) -> impl Iterator<Item = &Purpose> {
    site.daemon
        .project
        .policy
        .purposes
        .values()
        .filter(|purpose| purpose.class != MessageClass::Transactional)
}

fn allowed(site: &Site, purpose: &Purpose, claim: &Claim, status: ConsentStatus) -> bool {
    use model::policy::Permission;
    let permission = match purpose.class {
        MessageClass::Marketing => {
            site.daemon.project.policy.permission.get(&claim.channel).copied().unwrap_or(Permission::OptIn)
        }
        MessageClass::Lifecycle | MessageClass::Transactional => Permission::OptOut,
    };
    match permission {
        Permission::OptIn => status == ConsentStatus::Granted,
        Permission::OptOut => status != ConsentStatus::Withdrawn,
        Permission::Never => false,
    }
}

async fn change_preferences(
    State(site): State<Arc<Site>>,
    Path(token): Path<String>,
    headers: HeaderMap,
    said: Bytes,
) -> Response {
    let words = spoken(&headers);
    let Some(claim) = claim(&site, &token, token::Purpose::Preferences) else { return unknown(&site, words) };
    let said = String::from_utf8_lossy(&said).into_owned();
    let wanted = said.split('&').find_map(|pair| pair.strip_prefix("stop=")).unwrap_or_default();
    let purpose =
        listed(&site).find(|purpose| purpose.name.as_str() == wanted).map(|purpose| purpose.name.clone());
    match purpose {
        Some(purpose) => match opt_out(&site, &claim, Some(purpose), "preferences").await {
            Ok(()) => preferences(&site, words, &claim).await,
            error => done(&site, words, &claim, error).await,
        },
        // `*`, `%2A`, or anything that is no purpose: towards less, never towards more.
        None => {
            let written = opt_out(&site, &claim, None, "preferences").await;
            done(&site, words, &claim, written).await
        }
    }
}

/// Withdraws a purpose, or all of the channel; the latter for the address too, whoever has it. Committed when it returns.
async fn opt_out(
    site: &Site,
    claim: &Claim,
    purpose: Option<PurposeName>,
    source: &str,
) -> Result<(), StateError> {
    let now = site.clock.now();
    let mut tx = site.daemon.state.write().await?;
    let all = purpose.is_none();
    let event = ConsentEvent {
        profile: claim.profile,
        channel: Some(claim.channel),
        purpose: purpose.clone(),
        status: ConsentStatus::Withdrawn,
        changed_at: now,
        recorded_at: now,
        origin: ConsentOrigin::Local,
        source: format!("{source}:{}", claim.delivery),
        evidence: None,
    };
    // Said before, it is so already: no second event, the same success.
    let held = tx
        .ask(state::consent::of_profiles(&[claim.profile]))
        .await?
        .remove(&claim.profile)
        .unwrap_or_default();
    let already = |purpose: &PurposeName| {
        held.state_of(claim.channel, purpose).is_some_and(|state| {
            state.status == ConsentStatus::Withdrawn && state.origin == ConsentOrigin::Local
        })
    };
    let repeated = match &purpose {
        Some(purpose) => already(purpose),
        None => listed(site).all(|purpose| already(&purpose.name)) && listed(site).next().is_some(),
    };
    if !repeated {
        state::consent::record(&mut tx, &event).await?;
        let said = purpose.as_ref().map_or("*", PurposeName::as_str);
        let body = json!({
            "profile": claim.profile.0, "channel": claim.channel.as_str(), "purpose": said, "status": "withdrawn",
            "source": source, "delivery": claim.delivery.as_str(),
        });
        state::audit::append(&mut tx, &[Entry { kind: "consent", at: now, body }]);
    }
    if let (true, Some(address)) = (all, state::outbox::address_of(&mut tx, &key_of(claim)).await?) {
        let suppression = Suppression {
            subject: SuppressionSubject::Address(address),
            channel: Some(claim.channel),
            reason: Reason::OptoutChannel,
            since: now,
            source: source.to_owned(),
            spares_transactional: true,
        };
        state::consent::suppress(&mut tx, &suppression).await?;
    }
    // Last: who arms counts after the address is locked, too.
    if let (false, Some(row)) = (repeated, state::delivery::get_by_key(&mut tx, &key_of(claim)).await?) {
        let counts = Tally { unsubscribed: 1, ..Tally::default() };
        let tally = BTreeMap::from([(row.delivery.traits.playbook, counts)]);
        state::tally::add(&mut tx, &site.daemon.node(), &tally, now);
    }
    if model::fault::mutant("answered_first") {
        tokio::spawn(async move {
            daemon::clock::sleep(std::time::Duration::from_millis(100)).await;
            tx.commit().await
        });
        return Ok(());
    }
    model::fault::point("optout.before_commit");
    tx.commit().await?;
    model::fault::point("optout.after_commit");
    Ok(())
}

fn key_of(claim: &Claim) -> DeliveryKey {
    DeliveryKey { profile: claim.profile, id: claim.delivery.clone() }
}

/// Who speaks in the message a token came with: title and postal address of the brand.
async fn voice(site: &Site, claim: &Claim) -> (String, String) {
    let settings = &site.daemon.project.settings;
    let found: Option<&Brand> = async {
        let mut tx = site.daemon.state.read().await.ok()?;
        let row = state::delivery::get_by_key(&mut tx, &key_of(claim)).await.ok()??;
        settings.brands.get(&row.delivery.traits.brand)
    }
    .await
    .or_else(|| settings.brands.values().next());
    found.map_or_else(Default::default, |brand| {
        let title = brand.title.get("", &settings.locales).to_owned();
        (title, brand.postal_address.clone().unwrap_or_default())
    })
}

fn unknown(site: &Site, words: &Words) -> Response {
    let settings = &site.daemon.project.settings;
    let brand = settings.brands.values().next();
    let title = brand.map_or("", |brand| brand.title.get(words.language, &settings.locales));
    let text = format!("<p>{}</p>", words.unknown_text);
    page(StatusCode::NOT_FOUND, words, title, "", words.unknown_title, &text)
}
