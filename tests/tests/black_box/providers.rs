//! Providers that are spoken to over HTTP: what goes over the wire, and what becomes of it. The servers are the test's own, and count.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::{Folder, PLAYBOOK, POLICY, SETTINGS, TEMPLATE, project, reachable};

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub line: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// What is answered: status and body; `None`: hangs up.
type Answer = Option<(u16, Value)>;
type Answers = dyn Fn(&Asked, usize) -> Answer + Send + Sync;

pub struct Server {
    pub port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub fn start(answers: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self { port: listener.local_addr().unwrap().port(), asked: Arc::default() };
        let (asked, answers): (_, Arc<Answers>) = (Arc::clone(&server.asked), Arc::new(answers));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (asked, answers) = (Arc::clone(&asked), Arc::clone(&answers));
                std::thread::spawn(move || drop(serve(&stream, &asked, &*answers)));
            }
        });
        server
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    fn posts(&self) -> Vec<Asked> {
        self.asked().into_iter().filter(|asked| asked.line.starts_with("POST ")).collect()
    }
}

fn serve(stream: &TcpStream, all: &Mutex<Vec<Asked>>, answers: &Answers) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut line, mut headers) = (String::new(), BTreeMap::new());
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let first = line.trim_end().to_owned();
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        let mut body = vec![0; headers.get("content-length").map_or(0, |length| length.parse().unwrap())];
        reader.read_exact(&mut body)?;
        let asked = Asked { line: first, headers, body: String::from_utf8(body).unwrap() };
        let count = {
            let mut all = all.lock().unwrap();
            all.push(asked.clone());
            all.len()
        };
        let Some((status, answer)) = answers(&asked, count) else { return Ok(()) };
        let text = answer.to_string();
        let head = format!(
            "HTTP/1.1 {status} So\r\ncontent-type: application/json\r\nx-message-id: id-{count}\r\ncontent-length: {}\r\n\r\n",
            text.len()
        );
        (&mut &*stream).write_all(format!("{head}{text}").as_bytes())?;
    }
}

/// People whose mail goes that way.
fn sending(people: usize, destination: &str) -> Folder {
    let folder = project(people);
    folder
        .write("drumbeat.yml", &format!("{SETTINGS}destinations:\n  mail: {destination}\n"))
        .write("policy.yml", POLICY);
    folder
}

fn run(folder: &Folder, now: &str) -> (i32, Value) {
    let ran = folder.run(&["--now", now, "--output", "json", "run", "--once"]);
    assert!([0, 1, 5].contains(&ran.code), "{} {}", ran.code, ran.err);
    (ran.code, ran.json())
}

/// A person says that a delivery in doubt shall go again.
fn resend(folder: &Folder, doubt: &str, now: &str) {
    let how = ["in-doubt", "resolve", doubt, "--as", "resend", "--reason", "they have none"];
    folder.run(&[&["--now", now][..], &how[..]].concat()).code(0);
}

fn states(folder: &Folder) -> BTreeMap<String, usize> {
    let mut states = BTreeMap::new();
    for row in folder.run(&["--output", "ndjson", "log"]).code(0).lines() {
        *states.entry(row["state"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    states
}

/// It says yes to everything.
fn yes(_: &Asked, count: usize) -> Option<(u16, Value)> {
    let id = format!("id-{count}");
    Some((200, json!({ "id": id, "MessageID": id, "MessageId": id, "ErrorCode": 0 })))
}

#[test]
fn each_provider_gets_what_it_asks_for_once_a_person() {
    let expected = reachable(40).len();
    for (connector, more) in [
        ("resend", "token: re_1"),
        ("postmark", "token: pm_1, message_stream: broadcast"),
        ("sendgrid", "token: SG.1"),
        ("mailgun", "token: key-1, domain: mg.shop.test"),
        ("ses", "region: eu-central-1, access_key_id: AKID, secret_access_key: s3cr3t"),
    ] {
        let server = Server::start(yes);
        let base = format!("http://127.0.0.1:{}", server.port);
        let folder = sending(40, &format!("{{connector: {connector}, {more}, base_url: \"{base}\"}}"));
        folder.run(&["check"]).code(0);
        let (code, ran) = run(&folder, crate::support::NOW);
        assert_eq!((code, &ran["deliveries"]["accepted"]), (0, &expected.into()), "{connector}: {ran}");
        let posts = server.posts();
        assert_eq!(posts.len(), expected, "{connector}");
        let log = folder.run(&["--output", "ndjson", "log", "--state", "accepted"]).code(0).lines();
        for row in log {
            let delivery = row["delivery"].as_str().unwrap();
            let with = |asked: &&Asked| {
                asked.body.contains(delivery)
                    || asked.headers.get("idempotency-key").is_some_and(|key| key == delivery)
            };
            assert_eq!(posts.iter().filter(with).count(), 1, "{connector}: {delivery}");
            assert!(row["receipt"].as_str().unwrap().starts_with("id-"), "{connector}: {row}");
        }
        // What is secret is shown nowhere.
        let everything =
            folder.run(&["--output", "ndjson", "audit", "export"]).code(0).out + &folder.run(&["log"]).out;
        for secret in ["re_1", "pm_1", "SG.1", "key-1", "s3cr3t"] {
            assert!(!everything.contains(secret), "{connector} shows {secret}");
        }
    }
}

/// Class A: the answer is lost, and the same goes again under the same key.
#[test]
fn a_lost_answer_goes_again_under_its_key_where_the_provider_knows_it() {
    let server = Server::start(|_, count| (count > 3).then(|| (200, json!({ "id": format!("id-{count}") }))));
    let base = format!("http://127.0.0.1:{}", server.port);
    let folder =
        sending(12, &format!("{{connector: resend, token: re_1, connections: 1, base_url: \"{base}\"}}"));
    let expected = reachable(12).len();
    let (code, ran) = run(&folder, "2026-03-02T09:00:00Z");
    assert_eq!(
        (code, &ran["deliveries"]["in_doubt"], &ran["deliveries"]["pending"]),
        (0, &0.into(), &3.into()),
        "{ran}"
    );
    run(&folder, "2026-03-02T10:00:00Z");
    assert_eq!(states(&folder).get("accepted"), Some(&expected));
    let mut keys: BTreeMap<String, usize> = BTreeMap::new();
    for asked in server.posts() {
        *keys.entry(asked.headers["idempotency-key"].clone()).or_default() += 1;
    }
    assert_eq!((keys.len(), keys.values().filter(|count| **count == 2).count()), (expected, 3));
}

/// Class A, when the key is forgotten: what would be a second message does not go.
#[test]
fn what_got_no_answer_does_not_go_again_once_its_key_is_forgotten() {
    let server = Server::start(|_, count| (count > 1).then(|| (200, json!({ "id": format!("id-{count}") }))));
    let base = format!("http://127.0.0.1:{}", server.port);
    let folder =
        sending(12, &format!("{{connector: resend, token: re_1, connections: 1, base_url: \"{base}\"}}"));
    run(&folder, "2026-03-02T09:00:00Z");
    let first = server.posts()[0].headers["idempotency-key"].clone();
    // Nothing ran for a day.
    assert_eq!(run(&folder, "2026-03-03T09:30:00Z").0, 5);
    assert_eq!(server.posts().iter().filter(|asked| asked.headers["idempotency-key"] == first).count(), 1);
    run(&folder, "2026-03-03T09:31:00Z");
    let rows = folder.run(&["--output", "ndjson", "log", "--reason", "ok.assumed"]).code(0).lines();
    assert_eq!((rows.len(), rows[0]["delivery"].as_str()), (1, Some(&*first)));
}

/// Where a policy leaves all doubts to a person, they are; and what the person says is done, whatever the provider has forgotten.
#[test]
fn a_person_may_send_again_what_no_key_protects_any_more() {
    let server = Server::start(|_, count| (count > 1).then(|| (200, json!({ "id": format!("id-{count}") }))));
    let base = format!("http://127.0.0.1:{}", server.port);
    let folder =
        sending(12, &format!("{{connector: resend, token: re_1, connections: 1, base_url: \"{base}\"}}"));
    folder.write("policy.yml", &format!("{POLICY}in_doubt: {{marketing: wait}}\n"));
    run(&folder, "2026-03-02T09:00:00Z");
    let first = server.posts()[0].headers["idempotency-key"].clone();
    let posts = || server.posts().iter().filter(|asked| asked.headers["idempotency-key"] == first).count();
    for now in ["2026-03-03T09:30:00Z", "2026-03-03T12:30:00Z", "2026-03-03T12:40:00Z"] {
        assert_eq!((run(&folder, now).0, posts()), (5, 1), "{now}");
    }
    resend(&folder, &first, "2026-03-03T12:50:00Z");
    run(&folder, "2026-03-03T12:50:00Z");
    assert_eq!(posts(), 2);
    folder.run(&["in-doubt", "list"]).code(0);
}

/// What is in doubt from before a destination was connected as it is now is not sent again by what the present provider knows.
#[test]
fn a_doubt_of_another_provider_is_not_sent_again() {
    let ses =
        Server::start(|_, count| (count > 1).then(|| (200, json!({ "MessageId": format!("id-{count}") }))));
    let keys = "region: eu-central-1, access_key_id: AKID, secret_access_key: s, connections: 1";
    let folder =
        sending(12, &format!("{{connector: ses, {keys}, base_url: \"http://127.0.0.1:{}\"}}", ses.port));
    assert_eq!(run(&folder, "2026-03-02T09:00:00Z").0, 5);
    let other = Server::start(yes);
    let mail = format!(
        "destinations:\n  mail: {{connector: resend, token: re_1, base_url: \"http://127.0.0.1:{}\"}}\n",
        other.port
    );
    folder.write("drumbeat.yml", &format!("{SETTINGS}{mail}"));
    assert_eq!(run(&folder, "2026-03-02T09:10:00Z").0, 5);
    assert_eq!((other.posts().len(), states(&folder).get("in_doubt")), (0, Some(&1)));
}

/// Class B: the provider is asked what it has, when it can know; twice "none" is a no.
#[test]
fn a_lost_answer_is_asked_for_where_the_provider_can_be_asked() {
    for (has, total) in [("has it", 1), ("has none", 0)] {
        let server = Server::start(move |asked, count| {
            let echo =
                asked.line.split("metadata_delivery=").nth(1).map(|rest| rest.split([' ', '&']).next());
            match echo.flatten() {
                Some(echo) if total == 1 => {
                    let message = json!({ "MessageID": "found", "Metadata": { "delivery": echo } });
                    Some((200, json!({ "TotalCount": 1, "Messages": [message] })))
                }
                Some(_) => Some((200, json!({ "TotalCount": 0, "Messages": [] }))),
                None => {
                    (count > 1).then(|| (200, json!({ "ErrorCode": 0, "MessageID": format!("id-{count}") })))
                }
            }
        });
        let base = format!("http://127.0.0.1:{}", server.port);
        let folder =
            sending(12, &format!("{{connector: postmark, token: t, connections: 1, base_url: \"{base}\"}}"));
        let expected = reachable(12).len();
        assert_eq!(run(&folder, "2026-03-02T09:00:00Z").0, 5, "{has}");
        assert_eq!(run(&folder, "2026-03-02T09:01:00Z").0, 5, "{has}: too early to ask");
        let asks = || server.asked().iter().filter(|asked| asked.line.starts_with("GET ")).count();
        assert_eq!(asks(), 0);
        let (code, _) = run(&folder, "2026-03-02T09:03:00Z");
        assert_eq!((code, asks()), (if total == 1 { 0 } else { 5 }, 1), "{has}");
        run(&folder, "2026-03-02T09:05:00Z");
        assert_eq!(states(&folder).get("accepted"), Some(&expected), "{has}");
        assert_eq!(
            server.posts().len(),
            expected + usize::from(total == 0),
            "{has}: sent again only if it has none"
        );
    }
}

/// Class E and D: never again by itself.
#[test]
fn a_lost_answer_stays_a_doubt_where_nobody_can_be_asked() {
    let server =
        Server::start(|_, count| (count > 1).then(|| (200, json!({ "MessageId": format!("id-{count}") }))));
    let base = format!("http://127.0.0.1:{}", server.port);
    let ses =
        "connector: ses, region: eu-central-1, access_key_id: AKID, secret_access_key: s, connections: 1";
    let folder = sending(12, &format!("{{{ses}, base_url: \"{base}\"}}"));
    let expected = reachable(12).len();
    for now in ["2026-03-02T09:00:00Z", "2026-03-02T10:00:00Z", "2026-03-03T08:59:00Z"] {
        assert_eq!(run(&folder, now).0, 5, "{now}");
    }
    // After a day without an echo it is taken for accepted, and says so.
    run(&folder, "2026-03-03T09:01:00Z");
    let rows = folder.run(&["--output", "ndjson", "log", "--reason", "ok.assumed"]).code(0).lines();
    assert_eq!(rows.len(), 1);
    let first = server
        .posts()
        .iter()
        .filter(|asked| asked.body.contains(rows[0]["delivery"].as_str().unwrap()))
        .count();
    assert_eq!(first, 1, "of {expected}");
}

/// Class E, where the policy would rather have it twice than not at all: once more, and then a person decides.
#[test]
fn what_somebody_wants_rather_twice_goes_again_once() {
    let to_one = |asked: &Asked| asked.body.contains("p1@example.test");
    let server = Server::start(move |asked, count| if to_one(asked) { None } else { yes(asked, count) });
    let ses =
        "connector: ses, region: eu-central-1, access_key_id: AKID, secret_access_key: s, connections: 1";
    let folder = sending(12, &format!("{{{ses}, base_url: \"http://127.0.0.1:{}\"}}", server.port));
    folder
        .write(
            "policy.yml",
            &format!(
                "{}in_doubt: {{transactional: {{resend: 15m}}}}\n",
                POLICY.replace(
                    "purposes:\n",
                    "purposes:\n  receipts: {title: Receipts, class: transactional}\n"
                )
            ),
        )
        .write("playbooks/hello.yml", &PLAYBOOK.replace("purpose: offers", "purpose: receipts"));
    for template in ["templates/hello.mjml", "templates/again.mjml"] {
        folder.write(template, &TEMPLATE.replace("<a href=\"{{ unsubscribe_url }}\">Unsubscribe</a>", ""));
    }
    let to_them = || server.posts().iter().filter(|asked| to_one(asked)).count();
    for (now, expected) in [
        ("2026-03-02T09:00:00Z", 1),
        ("2026-03-02T09:14:00Z", 1),
        ("2026-03-02T09:16:00Z", 2),
        ("2026-03-02T09:40:00Z", 2),
        ("2026-03-03T09:40:00Z", 2),
    ] {
        assert_eq!((run(&folder, now).0, to_them()), (5, expected), "{now}");
    }
    let audit = folder.run(&["--output", "ndjson", "audit", "export"]).code(0).out;
    assert_eq!(audit.matches("sent again, perhaps for the second time").count(), 1);
    let doubts = folder.run(&["--output", "ndjson", "in-doubt", "list"]).code(5).lines();
    let doubt = doubts[0]["delivery"].as_str().unwrap();
    let attempts = folder.run(&["--output", "ndjson", "in-doubt", "show", doubt]).code(5).lines();
    let outcomes: Vec<&str> = attempts.iter().map(|attempt| attempt["outcome"].as_str().unwrap()).collect();
    assert_eq!((doubts.len(), outcomes), (1, vec!["resent", "in_doubt"]));
    // A person may, as often as they like.
    resend(&folder, doubt, "2026-03-03T09:50:00Z");
    assert_eq!((run(&folder, "2026-03-03T09:50:00Z").0, to_them()), (5, 3));
}

/// A webhook is signed as the standard says, and nothing goes to another machine outside production.
#[test]
fn a_webhook_is_signed_and_stays_on_this_machine() {
    let server = Server::start(yes);
    let hook = |url: &str| {
        format!("{{connector: webhook, url: \"{url}\", secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw}}")
    };
    let folder = sending(12, &hook(&format!("http://127.0.0.1:{}/x", server.port)));
    assert_eq!(run(&folder, crate::support::NOW).0, 0);
    for asked in server.posts() {
        let body: Value = serde_json::from_str(&asked.body).unwrap();
        assert_eq!(body["type"], "message.email");
        assert_eq!(body["data"]["delivery"], asked.headers["webhook-id"].as_str());
        assert!(
            asked.headers["webhook-signature"].starts_with("v1,") && asked.line == "POST /x HTTP/1.1",
            "{asked:?}"
        );
        assert!(
            body["data"]["headers"]["List-Unsubscribe"]
                .as_str()
                .unwrap()
                .starts_with("<https://mail.shop.test/u/")
        );
    }
    let away = sending(12, &hook("https://hooks.example.test/x"));
    let (code, ran) = run(&away, crate::support::NOW);
    assert_eq!((code, &ran["halted"][0]["reason"]), (1, &"sys.connector_disabled".into()), "{ran}");
}

/// One POST with a header; the status.
fn post(port: u16, path: &str, header: &str, body: &str) -> u16 {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

/// What a provider tells is believed if it is the provider, counts once, and changes what happens next.
#[test]
fn what_a_provider_tells_later_counts_once_and_keeps_from_writing_again() {
    let server = Server::start(yes);
    let base = format!("http://127.0.0.1:{}", server.port);
    let (admin, public) = (crate::support::free_port(), crate::support::free_port());
    let folder = sending(
        30,
        &format!(
            "{{connector: postmark, token: t, webhook_username: pm, webhook_password: secret, base_url: \"{base}\"}}"
        ),
    );
    let settings = folder.read("drumbeat.yml");
    folder.write(
        "drumbeat.yml",
        &format!("{settings}serve: {{admin: \"127.0.0.1:{admin}\", public: \"127.0.0.1:{public}\"}}\n"),
    );
    assert_eq!(run(&folder, crate::support::NOW).0, 0);
    let log = folder.run(&["--output", "ndjson", "log", "--state", "accepted"]).code(0).lines();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    // As they went: what comes back is what stands in the message.
    let echo_of = |row: &Value| {
        let sent =
            server.posts().into_iter().find(|asked| asked.body.contains(&text(row, "delivery"))).unwrap();
        let sent: Value = serde_json::from_str(&sent.body).unwrap();
        text(&sent["Metadata"], "delivery")
    };
    let mut child = folder.command(&["--now", "2026-03-02T09:30:00Z", "run"]).spawn().unwrap();
    crate::support::wait_for_port(public);
    let good = "Authorization: Basic cG06c2VjcmV0";
    let event = |row: &Value, kind: &str, more: &str| {
        format!(
            r#"{{"RecordType":"{kind}","MessageID":"m","ID":{},"Metadata":{{"delivery":"{}"}}{more}}}"#,
            text(row, "profile"),
            echo_of(row)
        )
    };
    let bounce = event(&log[0], "Bounce", r#","Type":"HardBounce","BouncedAt":"2026-03-02T09:20:00Z""#);
    assert_eq!(post(public, "/in/mail", "Authorization: Basic cG06Zm9yZ2Vk", &bounce), 401);
    assert_eq!(post(public, "/in/mail", "X: y", &bounce), 401);
    assert_eq!(post(public, "/in/other", good, &bounce), 404);
    assert_eq!(post(public, "/in/mail", good, "{"), 400);
    for body in [
        bounce.clone(),
        bounce,
        event(&log[1], "SpamComplaint", ""),
        event(
            &log[2],
            "SubscriptionChange",
            r#","SuppressSending":true,"SuppressionReason":"ManualSuppression""#,
        ),
        event(&log[3], "Delivery", r#","DeliveredAt":"2026-03-02T09:10:00Z""#),
        event(&log[4], "Bounce", r#","Type":"Transient""#),
        r#"{"RecordType":"Delivery","Metadata":{"delivery":"7-mvzgc43vom2tqmrtha3dkmjsgq2tmnzy"}}"#
            .to_owned(),
        r#"{"RecordType":"Delivery"}"#.to_owned(),
    ] {
        assert_eq!(post(public, "/in/mail", good, &body), 200, "{body}");
    }
    assert!(std::process::Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    child.wait().unwrap();
    let facts =
        folder.sql("state.db", "select kind || ' ' || count(*) from fact group by kind order by kind;");
    assert_eq!(facts, "bounced 2\ncomplained 1\ndelivered 1\nunsubscribed 1");
    // Two days later the next step: not to those three.
    run(&folder, "2026-03-04T09:30:00Z");
    let again = folder.run(&["--output", "ndjson", "log"]).code(0).lines();
    let next = |profile: &str| {
        let row = again.iter().find(|row| row["step"] == "again" && row["profile"] == profile).unwrap();
        (text(row, "state"), text(row, "reason"))
    };
    for (row, reason) in
        [(&log[0], "supp.hard_bounce"), (&log[1], "supp.complaint"), (&log[2], "supp.optout_channel")]
    {
        assert_eq!(next(&text(row, "profile")), ("suppressed".to_owned(), reason.to_owned()));
    }
    for row in &log[3..] {
        assert_eq!(next(&text(row, "profile")).0, "accepted");
    }
}
