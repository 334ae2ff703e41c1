//! HTTP: what recipients reach (their way out), and what an operator's tools ask (health and metrics).
//!
//! Two listeners, so that one may face the world and the other never does. Reading changes nothing, whoever reads: a mail
//! scanner, a prefetching browser, a person. Absent: cookies, scripts, redirects, logins.

mod admin;
mod page;
mod public;
mod serve;
mod words;

use std::sync::Arc;

use axum::Router;
use daemon::clock::Clock;
use daemon::metrics::Metrics;
use tokio::net::TcpListener;

pub use serve::{LIMITS, Limits, serve};

/// What the pages need.
#[derive(Debug)]
pub struct Site {
    /// The project and its state.
    pub daemon: Arc<daemon::Daemon>,
    /// The time of what people do here.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} (`serve.{which}`)")]
pub struct ListenError {
    /// `public` or `admin`.
    pub which: &'static str,
    /// As configured.
    pub address: String,
    /// Why.
    #[source]
    pub source: std::io::Error,
}

/// The routes that recipients reach.
pub fn public(site: Arc<Site>) -> Router {
    public::routes(site)
}

/// The routes of health and metrics.
pub fn admin(site: Arc<Site>) -> Router {
    admin::routes(site)
}

/// Opens a listener.
pub async fn listen(which: &'static str, address: &str) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError {
        which,
        address: address.to_owned(),
        source,
    })
}
