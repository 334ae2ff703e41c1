//! HTTP under a conversation: the one client that goes out, guarded. A request that arms is preceded by the last look; from its first byte
//! on, no answer is a doubt.
//!
//! The name is resolved once, every address is checked, and the connection goes to one of those. Redirects are not followed, proxies of the
//! environment are not used, and of an answer the beginning is read.

use std::error::Error as _;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use connector::http::{ANSWER_BYTES_MAX, HEADERS_KEPT, HttpReply, HttpRequest, Method};
use connector::{Failure, Reply, Said};
use model::{Reason, Refusal};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};

use super::egress::{Rule, forbidden};
use super::{Armed, Limits};

/// What a destination speaks HTTP with.
pub(super) struct Http {
    limits: Limits,
    rule: Rule,
    client: Mutex<Option<Client>>,
}

impl Http {
    pub(super) fn new(limits: Limits, rule: Rule) -> Self {
        Self { limits, rule, client: Mutex::default() }
    }

    /// One request. `arm` is there for the one that arms: it is asked before anything is sent.
    pub(super) async fn call<A: Into<Armed>>(
        &self,
        request: &HttpRequest,
        arm: Option<impl AsyncFnOnce() -> A>,
    ) -> Result<Reply, Refusal> {
        let refuse = |saw| Refusal { reason: Reason::SysConnectorDisabled, saw };
        let url = Url::parse(&request.url).map_err(|_| refuse("its web address is none".to_owned()))?;
        if !matches!(url.scheme(), "https" | "http") || url.cannot_be_a_base() {
            return Err(refuse("only `https` and `http` are spoken".to_owned()));
        }
        // An address that is written out is not resolved, and so is looked at here, in the one form that all its spellings have.
        let host = url.host_str().unwrap_or_default();
        if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>()
            && let Some(why) = forbidden(self.rule, address)
        {
            return Err(refuse(format!("{host} is {why}, where messages do not go")));
        }
        let built = match self.build(request, url) {
            Ok(built) => built,
            Err(text) => return Ok(failed(false, Failure::Io, &text)),
        };
        let is_armed = arm.is_some();
        if let Some(arm) = arm {
            model::fault::point("http.before_arm");
            match arm().await.into() {
                Armed::At(at) if at.elapsed() > self.limits.arm => {
                    let text = "the right to hand over ran out before it was used";
                    return Ok(failed(false, Failure::ArmExpired, text));
                }
                Armed::At(_) => {}
                Armed::No => return Ok(Reply::NotArmed),
            }
            model::fault::point("http.before_send");
        }
        let (client, request) = built;
        let answer = match client.execute(request).await {
            Ok(answer) => answer,
            Err(error) => return refused(&error).map_or_else(|| Ok(lost(&error, is_armed)), Err),
        };
        let read = read(answer).await;
        if is_armed {
            model::fault::point("http.after_reply");
        }
        Ok(match read {
            Ok(reply) => Reply::Http(reply),
            Err(error) => lost(&error, is_armed),
        })
    }

    fn build(&self, request: &HttpRequest, url: Url) -> Result<(Client, reqwest::Request), String> {
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
            Method::Patch => reqwest::Method::PATCH,
            Method::Delete => reqwest::Method::DELETE,
        };
        let client = self.client()?;
        let mut built = reqwest::Request::new(method, url);
        for (name, text) in &request.headers {
            let mut value = HeaderValue::from_str(text.reveal())
                .map_err(|_| format!("the header `{name}` holds what no header may"))?;
            value.set_sensitive(true);
            built.headers_mut().insert(HeaderName::from_static(name), value);
        }
        if !request.body.is_empty() {
            *built.body_mut() = Some(request.body.to_vec().into());
        }
        Ok((client, built))
    }

    fn client(&self) -> Result<Client, String> {
        let mut kept = crate::daemon::lock(&self.client);
        if let Some(client) = &*kept {
            return Ok(client.clone());
        }
        let client = Client::builder()
            .user_agent(concat!("drumbeat/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .no_proxy()
            .referer(false)
            // It comes after arming: an opt-out is overtaken by no more than this.
            .connect_timeout(self.limits.connect.min(self.limits.arm))
            .timeout(self.limits.answer)
            .pool_idle_timeout(self.limits.idle)
            .tcp_nodelay(true)
            .dns_resolver(Arc::new(Guard { rule: self.rule }))
            .build()
            .map_err(|error| format!("cannot speak HTTP: {error}"))?;
        Ok(kept.insert(client).clone())
    }
}

/// Resolves names, and gives no address where one of them is forbidden.
struct Guard {
    rule: Rule,
}

/// Why a name is not gone to.
#[derive(Debug)]
struct Forbidden(String);

impl fmt::Display for Forbidden {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Forbidden {}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let rule = self.rule;
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            for address in &addresses {
                if let Some(why) = forbidden(rule, address.ip()) {
                    return Err(Forbidden(format!("{host} leads to {why}, where messages do not go")).into());
                }
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// The guard's refusal, if that is what an error comes from.
fn refused(error: &reqwest::Error) -> Option<Refusal> {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(forbidden) = inner.downcast_ref::<Forbidden>() {
            return Some(Refusal { reason: Reason::SysConnectorDisabled, saw: forbidden.0.clone() });
        }
        source = inner.source();
    }
    None
}

/// No answer. Before a connection stands nothing was sent; afterwards nobody knows.
fn lost(error: &reqwest::Error, is_armed: bool) -> Reply {
    let kind = if error.is_timeout() {
        Failure::Timeout
    } else if error.is_connect() {
        Failure::Refused
    } else {
        Failure::Closed
    };
    // The chain, without the address: a query may name people.
    let mut text = String::new();
    let mut source = error.source();
    while let Some(inner) = source {
        text = inner.to_string();
        source = inner.source();
    }
    let what = if error.is_connect() { "the provider cannot be reached" } else { "no answer came" };
    failed(is_armed && !error.is_connect(), kind, &format!("{what}: {text}"))
}

fn failed(handed_over: bool, kind: Failure, text: &str) -> Reply {
    Reply::Failed { handed_over, kind, text: Said::of(text) }
}

async fn read(mut answer: reqwest::Response) -> Result<HttpReply, reqwest::Error> {
    let status = answer.status().as_u16();
    let headers = HEADERS_KEPT
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), answer.headers().get(*name)?.to_str().ok()?.to_owned())))
        .collect();
    let (mut body, mut is_cut) = (Vec::new(), false);
    while let Some(chunk) = answer.chunk().await? {
        let room = ANSWER_BYTES_MAX - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            is_cut = true;
            break;
        }
    }
    Ok(HttpReply { status, headers, body: Arc::from(body), is_cut })
}
