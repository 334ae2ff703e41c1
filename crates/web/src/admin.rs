//! Health and metrics: `/livez` (the process answers), `/readyz` (it can work, and why not), `/metrics` (Prometheus).

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;

use crate::Site;

pub(crate) fn routes(site: Arc<Site>) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(site)
}

async fn readyz(State(site): State<Arc<Site>>) -> Response {
    let mut reasons = Vec::new();
    if !site.metrics.is_ready() {
        reasons.push("the loops do not run".to_owned());
    }
    match site.daemon.state.read().await {
        Ok(mut tx) => {
            if let Err(error) = state::meta::get(&mut tx, daemon::run::LAST_TICK).await {
                reasons.push(format!("state: {error}"));
            }
        }
        Err(error) => reasons.push(format!("state: {error}")),
    }
    for (destination, (refusal, until)) in site.daemon.halted_destinations(site.clock.now()) {
        // Said, but no reason to be taken out of service: the rest works.
        tracing::debug!(%destination, reason = refusal.reason.as_str(), %until, "Destination `{destination}` is left alone.");
    }
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({ "ready": reasons.is_empty(), "reasons": reasons });
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

async fn metrics(State(site): State<Arc<Site>>) -> Response {
    match site.metrics.render(&site.daemon, site.clock.now()).await {
        Ok(text) => {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}
