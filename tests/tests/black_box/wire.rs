//! Bad wires: for each destination over HTTP every way in which an answer can fail to come, with the real binary. What may have been taken is not
//! sent again but where that does no harm, what was not is, and nothing is believed that was not said.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value;

use crate::support::{Folder, POLICY, SETTINGS, project};

/// What becomes of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The connection ends once the request is read.
    HangsUp,
    /// Nothing comes until nobody waits any more.
    Silent,
    /// The answer ends in the middle of what it announced.
    Partial,
    /// A yes that is not in the provider's language.
    Garbage,
    /// A yes of three megabytes that say nothing.
    Huge,
    /// "Too fast", and for how long.
    TooFast,
    /// "Too fast".
    TooFastWithoutATime,
    /// A server's error.
    Broken,
    /// "Later", and when.
    Later,
    /// The connection ends while TLS is being set up.
    TlsCut,
}

use Fault::*;

impl Fault {
    const ALL: &[Self] =
        &[HangsUp, Silent, Partial, Garbage, Huge, TooFast, TooFastWithoutATime, Broken, Later, TlsCut];

    /// Whether the provider may have taken it.
    fn leaves_a_doubt(self) -> bool {
        matches!(self, HangsUp | Silent | Partial | Garbage | Huge | Broken)
    }
}

/// A provider on a bad wire, which says yes to everything once that is over.
struct Wire {
    port: u16,
    is_good: Arc<AtomicBool>,
    posts: Arc<AtomicUsize>,
}

impl Wire {
    fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let wire = Self { port, is_good: Arc::default(), posts: Arc::default() };
        let (is_good, posts) = (Arc::clone(&wire.is_good), Arc::clone(&wire.posts));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (is_good, posts) = (Arc::clone(&is_good), Arc::clone(&posts));
                std::thread::spawn(move || {
                    let fault = (!is_good.load(Ordering::SeqCst)).then_some(fault);
                    drop(serve(&stream, fault, &posts));
                });
            }
        });
        wire
    }

    /// Requests that hand something over.
    fn posts(&self) -> usize {
        self.posts.load(Ordering::SeqCst)
    }
}

fn serve(stream: &TcpStream, fault: Option<Fault>, posts: &AtomicUsize) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    if fault == Some(TlsCut) {
        reader.read_exact(&mut [0; 5])?;
        return Ok(());
    }
    let (mut line, mut length) = (String::new(), 0);
    reader.read_line(&mut line)?;
    let first = line.trim_end().to_owned();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    // A question is none: Postmark is asked what it has.
    if first.starts_with("POST ") {
        posts.fetch_add(1, Ordering::SeqCst);
    }
    let head = |status: &str, more: &str, length: usize| {
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n{more}content-length: {length}\r\n\r\n"
        )
    };
    let mut out = stream;
    match fault {
        None => {
            let yes = r#"{"id": "id-1", "MessageID": "id-1", "MessageId": "id-1", "ErrorCode": 0, "TotalCount": 0, "Messages": []}"#;
            out.write_all(format!("{}{yes}", head("200 OK", "x-message-id: id-1\r\n", yes.len())).as_bytes())
        }
        Some(HangsUp | TlsCut) => Ok(()),
        Some(Silent) => {
            // Until the other side has had enough.
            drop(reader.read(&mut [0; 1]));
            Ok(())
        }
        Some(Partial) => out.write_all(format!("{}{{\"id\"", head("200 OK", "", 500)).as_bytes()),
        Some(Garbage) => out.write_all(format!("{}<html>", head("200 OK", "", 6)).as_bytes()),
        Some(Huge) => {
            out.write_all(head("200 OK", "", 3 << 20).as_bytes())?;
            out.write_all(&vec![b' '; 3 << 20])
        }
        Some(TooFast) => out.write_all(head("429 Too Many", "retry-after: 7\r\n", 0).as_bytes()),
        Some(TooFastWithoutATime) => out.write_all(head("429 Too Many", "", 0).as_bytes()),
        Some(Broken) => out.write_all(head("500 Oh", "", 0).as_bytes()),
        Some(Later) => out.write_all(head("503 Later", "retry-after: 7\r\n", 0).as_bytes()),
    }
}

/// Somebody whose mail goes that way.
fn sending(destination: &str) -> Folder {
    // The first is asleep; the second gets the message.
    let folder = project(2);
    folder
        .write("drumbeat.yml", &format!("{SETTINGS}destinations:\n  mail: {destination}\n"))
        .write("policy.yml", POLICY);
    folder
}

/// The state of the one message there is.
fn state(folder: &Folder) -> String {
    let rows = folder.run(&["--output", "ndjson", "log"]).code(0).lines();
    let row = rows.iter().find(|row| row["profile"] == "2").unwrap();
    row["state"].as_str().unwrap().to_owned()
}

/// Connector, its settings, the key of its address, and whether a message may be repeated without harm.
const MESSAGES: &[(&str, &str, &str, bool)] = &[
    ("resend", "token: re_1", "base_url", true),
    ("postmark", "token: pm_1, message_stream: broadcast", "base_url", false),
    ("sendgrid", "token: SG.1", "base_url", false),
    ("mailgun", "token: key-1, domain: mg.shop.test", "base_url", false),
    ("ses", "region: eu-central-1, access_key_id: AKID, secret_access_key: s3cr3t", "base_url", false),
    ("webhook", "secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "url", true),
];

#[test]
fn a_message_on_a_bad_wire_is_sent_again_only_where_that_does_no_harm() {
    for (connector, settings, key, may_repeat) in MESSAGES {
        for fault in Fault::ALL {
            let wire = Wire::start(*fault);
            let scheme = if *fault == TlsCut { "https" } else { "http" };
            let address = format!("{scheme}://127.0.0.1:{}", wire.port);
            let folder = sending(&format!(
                "{{connector: {connector}, {settings}, {key}: \"{address}\", timeout: 1s}}"
            ));
            let first = folder.run(&["--now", crate::support::NOW, "--output", "json", "run", "--once"]);
            let handed_over = wire.posts();
            assert!(handed_over <= 1, "{connector} {fault:?}: {handed_over} requests at once");
            // A service of one's own may say yes as it likes, and SendGrid says it without a body.
            let is_yes = ["webhook", "sendgrid"].contains(connector) && matches!(fault, Garbage | Huge);
            let expected = match (is_yes, fault.leaves_a_doubt() && !may_repeat) {
                (true, _) => "accepted",
                (false, true) => "in_doubt",
                (false, false) => "pending",
            };
            assert_eq!(state(&folder), expected, "{connector} {fault:?}: {}", first.err);
            assert!(!first.err.contains("example.test") && !first.out.contains("p2@"), "{}", first.err);
            // The wire is good again.
            wire.is_good.store(true, Ordering::SeqCst);
            if *fault == TlsCut {
                continue;
            }
            folder.run(&["--now", "2026-03-02T09:10:00Z", "run", "--once"]);
            let sent_again = wire.posts() - handed_over;
            assert_eq!(sent_again, usize::from(expected == "pending"), "{connector} {fault:?}");
            let then = state(&folder);
            assert_eq!(then == "accepted", expected != "in_doubt", "{connector} {fault:?}: {then}");
        }
    }
}

/// Connector, settings, and the sync that it keeps.
const SYNCS: &[(&str, &str, bool)] = &[
    ("meta_ads", "token: EAAB1, ad_account: \"77\"", true),
    ("linkedin_ads", "token: AQX, account: \"123\", source_platform: PARTNER", true),
    ("tiktok_ads", "token: t, advertiser: \"7000\"", true),
    ("hubspot", "token: pat-1", false),
    ("pipedrive", "token: t", false),
];

#[test]
fn an_audience_or_a_record_on_a_bad_wire_is_tried_again_and_nothing_is_believed() {
    for (connector, settings, is_audience) in SYNCS {
        for fault in Fault::ALL {
            let wire = Wire::start(*fault);
            let scheme = if *fault == TlsCut { "https" } else { "http" };
            let base = format!("{scheme}://127.0.0.1:{}", wire.port);
            let folder = sending("{connector: file, path: outbox}");
            let more = format!(
                "destinations:\n  there: {{connector: {connector}, {settings}, base_url: \"{base}\", timeout: 1s}}\n  mail:"
            );
            folder
                .write("drumbeat.yml", &folder.read("drumbeat.yml").replace("destinations:\n  mail:", &more));
            let keeps = match is_audience {
                true => "purpose: offers\naudience: {destination: there, name: all}\n",
                false => {
                    "record: {destination: there, object: contact, match: {email: \"{{ profile.email }}\"}, fields: {name: \"{{ profile.first_name }}\"}}\n"
                }
            };
            let head = "title: All\nowner: o@shop.test\nwhy: \"Test.\"\nfrom: profiles\n";
            folder.write("syncs/all.yml", &format!("{head}{keeps}"));
            crowd(&folder);
            let ran = folder.run(&["--now", crate::support::NOW, "--output", "json", "run", "--once"]);
            let json = ran.json();
            let told = &json[if *is_audience { "audiences" } else { "records" }][0];
            let count = |key: &str| told[key].as_u64().unwrap_or_default();
            let believed = count("added") + count("made") + count("written") + count("same");
            assert_eq!(believed, 0, "{connector} {fault:?}: {told}");
            assert_eq!(ran.code, 1, "{connector} {fault:?}: {told} {}", ran.err);
            assert!(!ran.err.contains("@example.test"), "{connector} {fault:?}: {}", ran.err);
            let shown: Value = folder.run(&["--output", "json", "sync", "show", "all"]).code(0).json();
            assert_eq!(shown["in"], 0, "{connector} {fault:?}: {shown}");
        }
    }
}

/// So many people who consent to ads that every platform would take them.
fn crowd(folder: &Folder) {
    let mut sql = "begin;\n".to_owned();
    for n in 1_002..=2_050 {
        sql.push_str(&format!(
            "insert into customers (customer_id, email, first_name, active) values ({n}, 'w{n}@example.test', 'W', 0);\n\
             insert into consents (customer_id, channel, purpose, status, changed_at, source) values ({n}, 'ads', 'offers', 'granted', '2026-01-01T00:00:00Z', 'form');\n"
        ));
    }
    folder.sql("warehouse.db", &(sql + "commit;"));
}
