//! HTTP as it happens on the wire, and where it does not go.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use connector::http::HttpRequest;
use connector::{Failure, Method, Reply};
use serde_json::json;

use super::super::egress::Rule;
use super::super::http::Http;
use super::super::{Armed, Limits};
use super::LIMITS;

/// What a server does once it has read a request.
#[derive(Debug, Clone, Copy)]
enum Does {
    Says(&'static str),
    /// Hangs up without a word.
    HangsUp,
    /// Says nothing, and does not hang up.
    Waits,
    /// Sends a body without end.
    Babbles,
    /// Hangs up in the middle of what it announced.
    Breaks,
}

struct Server {
    port: u16,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

fn server(does: Does) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server {
        port: listener.local_addr().unwrap().port(),
        connections: Arc::default(),
        requests: Arc::default(),
    };
    let (connections, requests) = (Arc::clone(&server.connections), Arc::clone(&server.requests));
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            connections.fetch_add(1, Ordering::SeqCst);
            let requests = Arc::clone(&requests);
            std::thread::spawn(move || answer(stream, does, &requests));
        }
    });
    server
}

fn answer(mut stream: TcpStream, does: Does, requests: &AtomicUsize) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line).unwrap_or(0) > 0 && line != "\r\n" {
        let lower = line.to_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    requests.fetch_add(1, Ordering::SeqCst);
    match does {
        Does::Says(text) => drop(stream.write_all(text.as_bytes())),
        Does::HangsUp => {}
        // Until the other side gives up.
        Does::Waits => drop(reader.read(&mut [0])),
        Does::Babbles => {
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n"));
            while stream.write_all(&[b'x'; 65_536]).is_ok() {}
        }
        Does::Breaks => drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"id\"")),
    }
}

fn http(limits: Limits) -> Http {
    Http::new(limits, Rule::ThisMachine)
}

fn request(port: u16) -> HttpRequest {
    HttpRequest::json(
        Method::Post,
        format!("http://127.0.0.1:{port}/a?who=ana@example.test"),
        &json!({ "a": 1 }),
    )
    .secret("authorization", "Bearer hunter2")
}

async fn ask(does: Does, limits: Limits) -> (Reply, Server) {
    let server = server(does);
    let reply = http(limits).call(&request(server.port), Some(async || true)).await.unwrap();
    assert!(!format!("{reply:?}").contains("ana@"), "{reply:?}");
    (reply, server)
}

#[tokio::test]
async fn an_answer_is_told_as_it_was_said() {
    let said = "HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nSet-Cookie: a=b\r\ncontent-length: 2\r\n\r\n{}";
    let (Reply::Http(reply), server) = ask(Does::Says(said), LIMITS).await else { panic!() };
    assert_eq!((reply.status, &*reply.body, reply.is_cut), (429, &b"{}"[..], false));
    assert_eq!((reply.header("retry-after"), reply.header("set-cookie")), (Some("7"), None));
    assert_eq!(server.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn once_it_is_handed_over_silence_is_a_doubt() {
    let short = Limits { answer: Duration::from_millis(300), ..LIMITS };
    for (does, limits, expected) in [
        (Does::HangsUp, LIMITS, Failure::Closed),
        (Does::Breaks, LIMITS, Failure::Closed),
        (Does::Waits, short, Failure::Timeout),
    ] {
        let (reply, server) = ask(does, limits).await;
        let Reply::Failed { handed_over: true, kind, .. } = reply else { panic!("{does:?}: {reply:?}") };
        assert_eq!(kind, expected, "{does:?}");
        // It is not asked again behind anybody's back.
        assert_eq!(server.requests.load(Ordering::SeqCst), 1, "{does:?}");
    }
}

#[tokio::test]
async fn of_a_long_answer_the_beginning_is_read() {
    let (Reply::Http(reply), _server) = ask(Does::Babbles, LIMITS).await else { panic!() };
    assert_eq!((reply.body.len(), reply.is_cut), (connector::http::ANSWER_BYTES_MAX, true));
}

#[tokio::test]
async fn what_is_not_armed_is_not_sent_and_who_is_not_there_got_nothing() {
    let there = server(Does::HangsUp);
    let reply = http(LIMITS).call(&request(there.port), Some(async || false)).await.unwrap();
    assert_eq!((reply, there.connections.load(Ordering::SeqCst)), (Reply::NotArmed, 0));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let reply = http(LIMITS).call(&request(nobody), Some(async || true)).await.unwrap();
    assert!(matches!(reply, Reply::Failed { handed_over: false, kind: Failure::Refused, .. }), "{reply:?}");
    let late = async || Armed::At(tokio::time::Instant::now() - Duration::from_secs(6));
    let reply = http(LIMITS).call(&request(there.port), Some(late)).await.unwrap();
    assert!(
        matches!(reply, Reply::Failed { handed_over: false, kind: Failure::ArmExpired, .. }),
        "{reply:?}"
    );
    assert_eq!(there.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_redirect_is_told_and_not_followed() {
    let elsewhere = server(Does::Says("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let said: &'static str = format!(
            "HTTP/1.1 {status}\r\nLocation: http://127.0.0.1:{}/\r\ncontent-length: 0\r\n\r\n",
            elsewhere.port
        )
        .leak();
        let (Reply::Http(reply), _server) = ask(Does::Says(said), LIMITS).await else { panic!() };
        assert!((300..400).contains(&reply.status));
    }
    assert_eq!(elsewhere.connections.load(Ordering::SeqCst), 0);
}

/// An IPv4 address in spellings that lead to the same: as it is, as one number in three bases, in parts, within IPv6.
fn spellings(address: Ipv4Addr) -> Vec<String> {
    let [a, b, c, d] = address.octets();
    let number = u32::from(address);
    let mut all = vec![
        address.to_string(),
        format!("{number}"),
        format!("0x{number:x}"),
        format!("0{number:o}"),
        format!("{a}.{}", number & 0xff_ffff),
        format!("{a}.{b}.{}", number & 0xffff),
        format!("0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("{a}.{b}.{c}.{d}."),
        format!("[{}]", address.to_ipv6_mapped()),
        format!("[::ffff:{:x}:{:x}]", number >> 16, number & 0xffff),
        // Through translators: SIIT, NAT64 and 6to4.
        format!("[::ffff:0:{a}.{b}.{c}.{d}]"),
        format!("[64:ff9b::{a}.{b}.{c}.{d}]"),
        format!("[2002:{:x}:{:x}::1]", number >> 16, number & 0xffff),
    ];
    all.push(format!("user:pass@{address}"));
    all.push(format!("public.example@{address}"));
    all
}

/// Hosts that are nobody's receiver, in every spelling there is.
fn hostile() -> Vec<String> {
    let v4 = [
        "127.0.0.1",
        "127.255.255.254",
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "100.127.255.255",
        "169.254.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "192.168.255.255",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
    ];
    let mut hosts: Vec<String> = v4.iter().flat_map(|text| spellings(text.parse().unwrap())).collect();
    let v6 = [
        "::",
        "::1",
        "fe80::1",
        "febf::1",
        "fc00::1",
        "fd00::1",
        "fdff:ffff::1",
        "fd00:ec2::254",
        "ff02::1",
        "ff00::",
        "2001:db8::1",
        "3fff::1",
        "100::1",
        "2001::1",
        "64:ff9b:1::1",
        "5f00::1",
        "::127.0.0.1",
        "::10.0.0.1",
        "fec0::1",
    ];
    for text in v6 {
        let address: Ipv6Addr = text.parse().unwrap();
        let long: Vec<String> = address.segments().iter().map(|segment| format!("{segment:04X}")).collect();
        hosts.push(format!("[{text}]"));
        hosts.push(format!("[{}]", long.join(":")));
    }
    let names = [
        "localhost",
        "LOCALHOST",
        "localhost.",
        "user@localhost",
        "\u{ff11}27.0.0.1",
        "\u{2460}27.0.0.1",
        "127\u{3002}0\u{3002}0\u{3002}1",
    ];
    hosts.extend(names.map(str::to_owned));
    hosts
}

#[tokio::test]
async fn nothing_goes_where_nobody_receives_however_it_is_spelled() {
    let here = server(Does::Says("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
    let public = Http::new(LIMITS, Rule::Public);
    let (mut tried, mut armed) = (0, 0);
    for host in hostile() {
        for url in [format!("http://{host}:{}/", here.port), format!("https://{host}/latest/meta-data")] {
            tried += 1;
            let request = HttpRequest::json(Method::Post, url.as_str(), &json!({}));
            let reply = public.call(
                &request,
                Some(async || {
                    armed += 1;
                    true
                }),
            );
            match reply.await {
                Err(refusal) => assert!(!refusal.saw.contains("pass@"), "{url}: {}", refusal.saw),
                // A name that leads nowhere.
                Ok(Reply::Failed { handed_over: false, kind: Failure::Refused, .. }) => {}
                Ok(other) => panic!("{url}: {other:?}"),
            }
        }
    }
    for url in [
        "ftp://example.test/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:25/",
        "data:text/plain,a",
        "javascript:1",
        "http://",
        "//a",
        "",
    ] {
        tried += 1;
        let request = HttpRequest::get(url);
        assert!(public.call(&request, Some(async || true)).await.is_err(), "{url}");
    }
    assert!(tried >= 400, "{tried}");
    assert_eq!(here.connections.load(Ordering::SeqCst), 0, "of {tried}");
    // Only names are armed before they are refused: an address is looked at before.
    assert!(armed <= 8, "{armed}");
}

#[tokio::test]
async fn a_private_receiver_is_reached_where_the_settings_say_so_and_the_clouds_own_services_never() {
    let here = server(Does::Says("HTTP/1.1 204 No Content\r\n\r\n"));
    let private = Http::new(LIMITS, Rule::Private);
    let reply = private.call(&request(here.port), Some(async || true)).await.unwrap();
    assert!(matches!(&reply, Reply::Http(reply) if reply.status == 204), "{reply:?}");
    for host in [
        "169.254.169.254",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "0.0.0.0",
        "[::ffff:169.254.169.254]",
        "255.255.255.255",
    ] {
        let request = HttpRequest::json(Method::Post, format!("https://{host}/"), &json!({}));
        assert!(private.call(&request, Some(async || true)).await.is_err(), "{host}");
    }
}
