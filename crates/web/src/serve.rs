//! Serving with bounds. Whoever reaches a listener may be slow, or mean to be: nobody gets more than so much of its time, its
//! memory and its connections.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse as _;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// What a client may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest wait for a whole request line with its headers, from the connection or the last answer on.
    pub head: Duration,
    /// Longest wait for a whole body, from the headers on.
    pub body: Duration,
    /// Most bytes of request line and headers.
    pub head_bytes: usize,
    /// Most bytes of a body: a form's, or a mail program's.
    pub body_bytes: usize,
    /// Most connections at once; who comes later waits in the system's queue.
    pub connections: usize,
}

/// What is enough for a browser on a bad line, and for the mail programs of a large sending.
pub const LIMITS: Limits = Limits {
    head: Duration::from_secs(10),
    body: Duration::from_secs(10),
    head_bytes: 16 * 1024,
    body_bytes: 16 * 1024,
    connections: 512,
};

/// Most bytes of what a provider tells in one request: SendGrid's are up to 768 kB.
const FEEDBACK_BYTES_MAX: usize = 1 << 20;
/// So many such requests are read and written at the same time; who comes then tells it again.
static FEEDBACK_TURNS: Semaphore = Semaphore::const_new(64);

/// How long nothing is accepted after the system refused a connection: it is out of something, which passes.
const PAUSE: Duration = Duration::from_secs(1);

/// Serves until told to stop; requests under way are finished.
pub async fn serve(
    listener: TcpListener,
    routes: Router,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let routes = routes.layer(from_fn(move |request, next| with_bounded_body(limits, request, next)));
    let free = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = stopped(&mut stop) => break,
            accepted = accept(&listener, &free) => accepted,
        };
        match accepted {
            Ok((stream, permit)) => {
                let served = one(stream, routes.clone(), limits, stop.clone());
                connections.spawn(async move {
                    served.await;
                    drop(permit);
                });
            }
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "A connection could not be accepted.");
                if tokio::time::timeout(PAUSE, stopped(&mut stop)).await.is_ok() {
                    break;
                }
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// Whether a connection was gone before it was accepted, which says nothing about the next.
fn is_of_the_client(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// The next connection, once there is room for it.
async fn accept(
    listener: &TcpListener,
    free: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(free).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

/// One connection to its end. What goes wrong on it is the client's matter, and its own affair.
async fn one(stream: TcpStream, routes: Router, limits: Limits, mut stop: watch::Receiver<bool>) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(limits.head_bytes)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "A connection ended early.");
    }
}

/// The request with its body read, as far as it came and may go. What does not come in time or is too long counts as empty: an
/// opt-out is honoured whatever its body says, and the connection ends with the answer.
async fn with_bounded_body(limits: Limits, request: Request, next: Next) -> axum::response::Response {
    let (parts, body) = request.into_parts();
    // Providers tell many things at once; few of them are heard at the same time.
    let is_feedback = parts.uri.path().starts_with("/in/");
    let turn = is_feedback.then(|| FEEDBACK_TURNS.try_acquire());
    if matches!(turn, Some(Err(_))) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let most = if is_feedback { FEEDBACK_BYTES_MAX } else { limits.body_bytes };
    let read = tokio::time::timeout(limits.body, to_bytes(body, most)).await;
    let body = match read {
        Ok(Ok(body)) => body,
        // What a provider tells counts as a whole or not at all: it tells it again.
        Err(_) if is_feedback => return StatusCode::REQUEST_TIMEOUT.into_response(),
        Ok(Err(_)) if is_feedback => return StatusCode::PAYLOAD_TOO_LARGE.into_response(),
        _ => Default::default(),
    };
    next.run(Request::from_parts(parts, Body::from(body))).await
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    while !*stop.borrow() {
        if stop.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::body::Bytes;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// So short that a test which waits for them does not notice.
    const SHORT: Limits = Limits {
        head: Duration::from_millis(100),
        body: Duration::from_millis(100),
        head_bytes: 8 * 1024,
        body_bytes: 10,
        connections: 2,
    };
    /// So long that a test which waits for them fails.
    const LONG: Duration = Duration::from_secs(60);

    /// A server that says what body it got, its address, and what stops it.
    async fn served(limits: Limits) -> (SocketAddr, watch::Sender<bool>, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let routes = Router::new()
            .route("/", get(async || "here").post(async |body: Bytes| format!("got {} bytes", body.len())));
        let running = tokio::spawn(async move { serve(listener, routes, limits, stopped).await.unwrap() });
        (address, stop, running)
    }

    /// Sends this and reads until the other side closes, which it must do by itself.
    async fn answer(address: SocketAddr, sent: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(LONG / 2, stream.read_to_end(&mut answer)).await;
        // A reset is a close, too.
        drop(read.expect("the connection stays open"));
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn who_does_not_finish_a_request_is_not_waited_for() {
        let (address, _stop, _running) = served(Limits { body: LONG, ..SHORT }).await;
        for half in ["", "GET", "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "] {
            let answer = answer(address, half).await;
            assert!(!answer.contains("here"), "{half:?}: {answer}");
        }
        // Nor for a second request after an answer.
        assert!(answer(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.ends_with("here"));
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_or_is_too_long_counts_as_empty() {
        let (address, _stop, _running) = served(Limits { head: LONG, ..SHORT }).await;
        let post = |length: usize, body: &str| {
            format!(
                "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
            )
        };
        for (sent, got) in [
            (post(5, "stop="), "got 5 bytes"),
            (post(9, "st"), "got 0 bytes"),
            (post(11, "stop=offers"), "got 0 bytes"),
        ] {
            let answer = answer(address, &sent).await;
            assert!(answer.ends_with(got), "{sent}: {answer}");
        }
    }

    #[tokio::test]
    async fn headers_are_bounded() {
        let (address, _stop, _running) = served(Limits { head: LONG, ..SHORT }).await;
        let long = "x".repeat(SHORT.head_bytes * 2);
        let answer = answer(address, &format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {long}\r\n\r\n")).await;
        assert!(!answer.contains("here"), "{answer}");
    }

    #[tokio::test]
    async fn who_comes_when_all_connections_are_taken_is_served_when_one_is_free() {
        let (address, _stop, _running) = served(SHORT).await;
        let _taken = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        let third = answer(address, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert!(third.ends_with("here"), "{third}");
    }

    #[tokio::test]
    async fn connections_are_bounded() {
        let (address, _stop, _running) = served(Limits { head: LONG, connections: 1, ..SHORT }).await;
        let mut taken = TcpStream::connect(address).await.unwrap();
        taken.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        taken.read_exact(&mut first).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        second.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let early = tokio::time::timeout(SHORT.body, second.read_exact(&mut first)).await;
        assert!(early.is_err(), "a second connection was served beside the only one");
        drop(taken);
        second.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
    }

    #[tokio::test]
    async fn a_stop_ends_connections_that_do_nothing() {
        let (address, stop, running) = served(Limits { head: LONG, ..SHORT }).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        idle.read_exact(&mut first).await.unwrap();
        stop.send(true).unwrap();
        tokio::time::timeout(LONG / 2, running).await.expect("it stops").unwrap();
    }
}
