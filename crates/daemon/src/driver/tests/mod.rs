//! Delivery against a mail server on loopback that does as it is told.

mod ahead;
mod fake;
mod http;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use connector::golden::sample_item;
use connector::{
    Call, Connector, Exchange, Failure, Item, Outcome, Reach, Reply, Request, SmtpPhase, SmtpRequest,
    SmtpServer, Step, Tls, once,
};
use model::recipients::Recipients;
use model::settings::{ConnectorSettings, Deliver, Destination};
use model::{DestinationName, EmailAddress, Reason, Secret};
use tokio::time::Instant;

use self::fake::{Cut, Fake, Script};
use super::smtp::Smtp;
use super::{Armed, Driver, Limits};

/// Short where a test waits for it, long where it must not matter.
const LIMITS: Limits = Limits {
    connect: Duration::from_secs(10),
    command: Duration::from_secs(10),
    body: Duration::from_secs(10),
    answer: Duration::from_secs(10),
    arm: Duration::from_secs(5),
    idle: Duration::from_secs(60),
};

fn smtp(limits: Limits) -> Smtp {
    Smtp::new(limits, true, Path::new("/nowhere"))
}

fn request(fake: &Fake) -> SmtpRequest {
    let item = sample_item();
    SmtpRequest {
        server: SmtpServer {
            host: "127.0.0.1".to_owned(),
            port: fake.port,
            tls: Tls::None,
            credentials: None,
            hello: Some("tests.example.test".to_owned()),
            ca: None,
            messages_per_connection: 100,
        },
        mail_from: item.mail_from,
        rcpt_to: item.rcpt_to,
        body: item.bytes,
    }
}

/// One transaction with a new server; gives the reply, the server, and how often was armed.
async fn one(script: Script) -> (Reply, Fake, usize) {
    let fake = Fake::start(script).await;
    let arms = AtomicUsize::new(0);
    let noted = fake.clone();
    let arm = async || {
        arms.fetch_add(1, Ordering::SeqCst);
        noted.note("armed");
        true
    };
    let reply = smtp(LIMITS).call(&request(&fake), arm, || None).await.unwrap();
    (reply, fake, arms.into_inner())
}

fn smtp_reply(at: SmtpPhase, code: u16) -> impl Fn(&Reply) -> bool {
    move |reply| matches!(reply, Reply::Smtp { at: found, code: said, .. } if *found == at && *said == code)
}

fn lost(handed_over: bool, kind: Failure) -> impl Fn(&Reply) -> bool {
    move |reply| matches!(reply, Reply::Failed { handed_over: found, kind: what, .. } if *found == handed_over && *what == kind)
}

/// Plays a script, and checks the reply, how often was armed, and how many messages the server has.
async fn check(script: Script, expected: impl Fn(&Reply) -> bool, arms: usize, messages: usize) {
    let told = format!("{script:?}");
    let (reply, fake, armed) = one(script).await;
    assert!(expected(&reply), "{told}\n{reply:?}\n{:?}", fake.events());
    assert_eq!((armed, fake.messages().len()), (arms, messages), "{told}\n{:?}", fake.events());
}

fn told(command: &'static str, reply: &'static str) -> Script {
    Script { replies: vec![(command, reply)], ..Script::default() }
}

#[tokio::test]
async fn what_the_server_takes_is_accepted_byte_for_byte() {
    let (reply, fake, armed) = one(Script::default()).await;
    assert!(smtp_reply(SmtpPhase::Body, 250)(&reply), "{reply:?}");
    assert_eq!(armed, 1);
    assert_eq!(fake.messages(), [sample_item().bytes.to_vec()]);
}

#[tokio::test]
async fn the_last_look_comes_after_354_and_before_any_byte_of_the_message() {
    let (_, fake, _) = one(Script::default()).await;
    let events = fake.events();
    let at = |event: &str| events.iter().position(|seen| seen == event).unwrap();
    assert!(
        at("DATA") < at("354") && at("354") < at("armed") && at("armed") < at("first body byte"),
        "{events:?}"
    );
}

#[tokio::test]
async fn a_server_that_takes_several_commands_at_once_gets_them_so() {
    let offers = |replies: &[(&'static str, &'static str)]| Script {
        extensions: &["PIPELINING", "8BITMIME"],
        replies: replies.to_vec(),
        ..Script::default()
    };
    check(offers(&[]), smtp_reply(SmtpPhase::Body, 250), 1, 1).await;
    let no_data = ("DATA", "554 5.5.1 no valid recipients");
    check(
        offers(&[("MAIL", "451 4.7.1 not now"), ("RCPT", "503 5.5.1 MAIL first"), no_data]),
        smtp_reply(SmtpPhase::Mail, 451),
        0,
        0,
    )
    .await;
    check(offers(&[("RCPT", "550 5.1.1 unknown"), no_data]), smtp_reply(SmtpPhase::Rcpt, 550), 0, 0).await;
    check(offers(&[no_data]), smtp_reply(SmtpPhase::Data, 554), 0, 0).await;
    check(offers(&[("DATA", "250 what")]), smtp_reply(SmtpPhase::Data, 250), 0, 0).await;
    check(Script { cut: Cut::AtData, ..offers(&[]) }, lost(false, Failure::Closed), 0, 0).await;
    check(
        Script { cut: Cut::AtData, ..offers(&[("RCPT", "550 5.1.1 unknown")]) },
        smtp_reply(SmtpPhase::Rcpt, 550),
        0,
        0,
    )
    .await;
}

#[tokio::test]
async fn what_follows_a_refusal_in_a_group_is_read_before_the_next_message() {
    // One server says 554 to DATA after the refused recipient, and keeps its connection; the other says 354, and is hung up on.
    for (after, connections) in [(("DATA", "554 5.5.1 no valid recipients"), 1), (("NOOP", ""), 2)] {
        let replies = vec![("RCPT", "550 5.1.1 unknown"), after];
        let fake = Fake::start(Script { extensions: &["PIPELINING"], replies, ..Script::default() }).await;
        let (smtp, request) = (smtp(LIMITS), request(&fake));
        let refused = smtp.call(&request, async || true, || None).await.unwrap();
        assert!(smtp_reply(SmtpPhase::Rcpt, 550)(&refused), "{refused:?}");
        let taken = smtp.call(&request, async || true, || None).await.unwrap();
        assert!(smtp_reply(SmtpPhase::Body, 250)(&taken), "{taken:?}\n{:?}", fake.events());
        assert_eq!((fake.count("connect"), fake.messages().len()), (connections, 1), "{:?}", fake.events());
    }
}

#[tokio::test]
async fn a_refusal_before_the_message_does_not_arm() {
    check(told("MAIL", "451 4.7.1 not now"), smtp_reply(SmtpPhase::Mail, 451), 0, 0).await;
    check(told("RCPT", "550 5.1.1 unknown"), smtp_reply(SmtpPhase::Rcpt, 550), 0, 0).await;
    check(told("RCPT", "421 4.3.2 closing"), smtp_reply(SmtpPhase::Rcpt, 421), 0, 0).await;
    check(told("DATA", "554 5.5.1 no valid recipients"), smtp_reply(SmtpPhase::Data, 554), 0, 0).await;
    check(told("DATA", "250 what"), smtp_reply(SmtpPhase::Data, 250), 0, 0).await;
    check(told("EHLO", "554 go away"), smtp_reply(SmtpPhase::Connect, 554), 0, 0).await;
    let greeting = Script { greeting: Some("421 4.3.2 busy"), ..Script::default() };
    check(greeting, smtp_reply(SmtpPhase::Connect, 421), 0, 0).await;
    let other = Script { greeting: Some("HTTP/1.1 400 Bad Request"), ..Script::default() };
    check(other, lost(false, Failure::Io), 0, 0).await;
}

#[tokio::test]
async fn a_refusal_after_the_message_is_an_answer() {
    for (text, code) in
        [("451 4.3.0 try later", 451), ("554 5.7.1 spam", 554), ("421 4.3.2 shutting down", 421)]
    {
        let script = Script { after_body: Some(text), ..Script::default() };
        check(script, smtp_reply(SmtpPhase::Body, code), 1, 1).await;
    }
}

#[tokio::test]
async fn what_was_said_is_told_without_the_address() {
    let (reply, _, _) =
        one(told("RCPT", "550-5.1.1 <ana@example.test>: mailbox\r\n550 5.1.1 Ana is unknown")).await;
    let Reply::Smtp { enhanced, text, .. } = &reply else { panic!("{reply:?}") };
    assert_eq!(*enhanced, Some((5, 1, 1)));
    assert_eq!(text.as_str(), "5.1.1 [address] mailbox [address] is unknown");
}

#[tokio::test]
async fn a_cut_before_the_message_is_handed_over_is_no_acceptance() {
    let script = Script { cut: Cut::AtData, ..Script::default() };
    check(script, lost(false, Failure::Closed), 0, 0).await;
}

#[tokio::test]
async fn a_cut_after_the_message_leaves_it_in_doubt() {
    let script = Script { cut: Cut::AfterBody, ..Script::default() };
    check(script, lost(true, Failure::Closed), 1, 1).await;
}

#[tokio::test]
async fn a_cut_in_the_middle_of_a_large_message_is_no_acceptance() {
    // Larger than what the two kernels hold between them, so that its end cannot have left.
    let fake = Fake::start(Script { cut: Cut::After354, ..Script::default() }).await;
    let mut request = request(&fake);
    request.body = Arc::from("0123456789abcdef\r\n".repeat(2_000_000).into_bytes());
    let reply = smtp(LIMITS).call(&request, async || true, || None).await.unwrap();
    assert!(lost(false, Failure::Closed)(&reply), "{reply:?}");
    assert!(fake.messages().is_empty());
}

#[tokio::test]
async fn no_answer_in_time_after_the_message_leaves_it_in_doubt() {
    let fake = Fake::start(Script { mute: true, ..Script::default() }).await;
    let limits = Limits { body: Duration::from_millis(300), ..LIMITS };
    let reply = smtp(limits).call(&request(&fake), async || true, || None).await.unwrap();
    assert!(lost(true, Failure::Timeout)(&reply), "{reply:?}");
    assert_eq!(fake.messages().len(), 1);
}

#[tokio::test]
async fn nobody_there_is_a_refused_connection() {
    let fake = Fake::start(Script::default()).await;
    let mut request = request(&fake);
    // Bound and released: nobody listens there now.
    request.server.port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let reply = smtp(LIMITS).call(&request, async || true, || None).await.unwrap();
    assert!(lost(false, Failure::Refused)(&reply), "{reply:?}");
}

#[tokio::test]
async fn a_last_look_that_says_no_hands_over_nothing_and_hangs_up() {
    let fake = Fake::start(Script::default()).await;
    let smtp = smtp(LIMITS);
    assert_eq!(smtp.call(&request(&fake), async || false, || None).await, Ok(Reply::NotArmed));
    fake.until("closed", 1).await;
    assert_eq!((fake.count("first body byte"), fake.count("QUIT"), fake.messages().len()), (0, 0, 0));
}

#[tokio::test]
async fn a_last_look_that_is_too_long_ago_hands_over_nothing() {
    let fake = Fake::start(Script::default()).await;
    let long_ago = Instant::now().checked_sub(Duration::from_secs(6)).unwrap();
    let reply = smtp(LIMITS).call(&request(&fake), async || Armed::At(long_ago), || None).await.unwrap();
    assert!(lost(false, Failure::ArmExpired)(&reply), "{reply:?}");
    fake.until("closed", 1).await;
    assert_eq!((fake.count("first body byte"), fake.messages().len()), (0, 0));
}

#[tokio::test]
async fn messages_share_a_connection_until_it_has_carried_enough() {
    let fake = Fake::start(Script::default()).await;
    let smtp = smtp(LIMITS);
    let mut request = request(&fake);
    request.server.messages_per_connection = 2;
    for _ in 0..4 {
        let reply = smtp.call(&request, async || true, || None).await.unwrap();
        assert!(smtp_reply(SmtpPhase::Body, 250)(&reply), "{reply:?}");
    }
    assert_eq!((fake.count("connect"), fake.count("QUIT"), fake.messages().len()), (2, 2, 4));
}

#[tokio::test]
async fn a_refused_recipient_costs_neither_the_connection_nor_the_next_message() {
    let fake = Fake::start(told("RCPT", "550 5.1.1 unknown")).await;
    let smtp = smtp(LIMITS);
    let first = smtp.call(&request(&fake), async || true, || None).await.unwrap();
    let second = smtp.call(&request(&fake), async || true, || None).await.unwrap();
    assert!(
        smtp_reply(SmtpPhase::Rcpt, 550)(&first) && smtp_reply(SmtpPhase::Body, 250)(&second),
        "{first:?} {second:?}"
    );
    assert_eq!((fake.count("connect"), fake.count("RSET"), fake.messages().len()), (1, 1, 1));
}

#[tokio::test]
async fn a_server_that_does_not_take_back_a_transaction_gets_a_new_connection() {
    let script =
        Script { replies: vec![("RCPT", "550 5.1.1 unknown"), ("RSET", "502 what")], ..Script::default() };
    let fake = Fake::start(script).await;
    let smtp = smtp(LIMITS);
    smtp.call(&request(&fake), async || true, || None).await.unwrap();
    let second = smtp.call(&request(&fake), async || true, || None).await.unwrap();
    assert!(smtp_reply(SmtpPhase::Body, 250)(&second), "{second:?}");
    assert_eq!((fake.count("connect"), fake.messages().len()), (2, 1));
}

#[tokio::test]
async fn a_connection_that_the_server_closed_meanwhile_is_replaced() {
    let fake = Fake::start(Script { cut: Cut::AfterReply, ..Script::default() }).await;
    let smtp = smtp(LIMITS);
    for sent in 1..=3 {
        let reply = smtp.call(&request(&fake), async || true, || None).await.unwrap();
        assert!(smtp_reply(SmtpPhase::Body, 250)(&reply), "{reply:?}");
        fake.until("closed", sent).await;
    }
    assert_eq!((fake.count("connect"), fake.messages().len()), (3, 3));
}

#[tokio::test]
async fn a_server_that_answers_ahead_is_not_believed() {
    let fake = Fake::start(told("DATA", "354 go ahead\r\n250 2.0.0 queued already")).await;
    let reply = smtp(LIMITS).call(&request(&fake), async || true, || None).await.unwrap();
    assert!(lost(false, Failure::Io)(&reply), "{reply:?}");
    assert!(fake.messages().is_empty());
}

#[tokio::test]
async fn dots_at_the_beginning_of_lines_arrive_as_they_were() {
    let fake = Fake::start(Script::default()).await;
    let smtp = smtp(LIMITS);
    let bodies = ["..\r\n.\r\n.a\r\n..b\r\n", ".", "a\r\n.\r\n", "\r\n", "a\r\n\r\n\r\n"];
    for body in bodies {
        let mut request = request(&fake);
        request.body = Arc::from(body.as_bytes());
        let reply = smtp.call(&request, async || true, || None).await.unwrap();
        assert!(smtp_reply(SmtpPhase::Body, 250)(&reply), "{body:?}: {reply:?}");
    }
    let received: Vec<String> =
        fake.messages().into_iter().map(|bytes| String::from_utf8(bytes).unwrap()).collect();
    let expected: Vec<String> =
        bodies.iter().map(|body| format!("{}\r\n", body.strip_suffix("\r\n").unwrap_or(body))).collect();
    assert_eq!(received, expected);
}

#[tokio::test]
async fn a_message_of_many_bytes_arrives_whole() {
    let fake = Fake::start(Script::default()).await;
    let mut request = request(&fake);
    request.body = Arc::from("0123456789abcdef\r\n".repeat(200_000).into_bytes());
    let reply = smtp(LIMITS).call(&request, async || true, || None).await.unwrap();
    assert!(smtp_reply(SmtpPhase::Body, 250)(&reply), "{reply:?}");
    assert_eq!(fake.messages(), [request.body.to_vec()]);
}

#[tokio::test]
async fn what_is_outside_ascii_needs_a_server_that_takes_it() {
    let ask = async |extensions: &'static [&'static str]| {
        let fake = Fake::start(Script { extensions, ..Script::default() }).await;
        let mut request = request(&fake);
        request.rcpt_to = EmailAddress::parse("jörg@example.test").unwrap();
        request.body = Arc::from("Grüße\r\n".as_bytes());
        (smtp(LIMITS).call(&request, async || true, || None).await.unwrap(), fake.events())
    };
    let (reply, _) = ask(&[]).await;
    assert!(lost(false, Failure::NotInternational)(&reply), "{reply:?}");
    let (reply, events) = ask(&["SMTPUTF8", "8BITMIME"]).await;
    assert!(smtp_reply(SmtpPhase::Body, 250)(&reply), "{reply:?}");
    assert!(events.contains(&"MAIL FROM:<return@acme.test> SMTPUTF8 BODY=8BITMIME".to_owned()), "{events:?}");
}

#[tokio::test]
async fn the_password_is_sent_once_and_a_refused_one_ends_the_attempt() {
    for (reply, expected) in [(None, SmtpPhase::Body), (Some("535 5.7.8 wrong"), SmtpPhase::Auth)] {
        let replies =
            reply.map(|reply| ("AUTH", reply)).or(Some(("AUTH", "235 welcome"))).into_iter().collect();
        let fake =
            Fake::start(Script { extensions: &["AUTH PLAIN LOGIN"], replies, ..Script::default() }).await;
        let smtp = smtp(LIMITS);
        let mut request = request(&fake);
        request.server.credentials = Some(("u".to_owned(), Secret::new("p")));
        let first = smtp.call(&request, async || true, || None).await.unwrap();
        assert!(matches!(first, Reply::Smtp { at, .. } if at == expected), "{first:?}");
        assert_eq!(fake.count("AUTH PLAIN AHUAcA=="), 1);
    }
}

#[tokio::test]
async fn a_server_without_login_or_encryption_is_not_spoken_to_without() {
    let fake = Fake::start(Script::default()).await;
    let mut request = request(&fake);
    request.server.credentials = Some(("u".to_owned(), Secret::new("p")));
    let reply = smtp(LIMITS).call(&request, async || true, || None).await.unwrap();
    assert!(lost(false, Failure::NoAuth)(&reply), "{reply:?}");
    request.server.tls = Tls::Starttls;
    let reply = smtp(LIMITS).call(&request, async || true, || None).await.unwrap();
    assert!(lost(false, Failure::Tls)(&reply), "{reply:?}");
    assert_eq!((fake.count("MAIL FROM:<return@acme.test>"), fake.messages().len()), (0, 0));
}

#[tokio::test]
async fn words_slipped_in_behind_starttls_end_the_connection() {
    let script = Script {
        extensions: &["STARTTLS"],
        replies: vec![("STARTTLS", "220 go ahead\r\n250 you are logged in")],
        ..Script::default()
    };
    let fake = Fake::start(script).await;
    let mut request = request(&fake);
    request.server.tls = Tls::Starttls;
    let reply = smtp(LIMITS).call(&request, async || true, || None).await.unwrap();
    assert!(lost(false, Failure::Tls)(&reply), "{reply:?}");
}

/// A connector that hands over by SMTP and says as outcome what it was told.
#[derive(Debug)]
struct Echo {
    server: SmtpServer,
    arms: bool,
}

impl Connector for Echo {
    fn exchange(&self, item: &Item) -> Box<dyn Exchange> {
        let request = Request::Smtp(SmtpRequest {
            server: self.server.clone(),
            mail_from: item.mail_from.clone(),
            rcpt_to: item.rcpt_to.clone(),
            body: item.bytes.clone(),
        });
        if !self.arms {
            return Box::new(WithoutLook(Some(request)));
        }
        once(request, |reply| match reply {
            Reply::Smtp { at: SmtpPhase::Body, code: 250, text, .. } => {
                Outcome::Accepted { receipt: text.to_string() }
            }
            Reply::NotArmed => Outcome::NotArmed,
            other => Outcome::InDoubt { detail: format!("{other:?}") },
        })
    }

    fn reach(&self) -> Reach {
        Reach::Network { host: self.server.host.clone(), port: self.server.port }
    }

    fn connections(&self) -> usize {
        4
    }
}

/// A connector that is broken: its call does not arm.
struct WithoutLook(Option<Request>);

impl Exchange for WithoutLook {
    fn next(&mut self, _reply: Option<Reply>) -> Step {
        match self.0.take() {
            Some(request) => Step::Call(Call { arms: false, request }),
            None => Step::Done(Outcome::Accepted { receipt: String::new() }),
        }
    }
}

/// What [`Echo`] would be, were it registered.
const KIND: connector::Kind = connector::Kind {
    name: "echo",
    messages: Some(model::Channel::Email),
    idempotency: connector::Idempotency::Nothing,
    audiences: None,
    records: None,
    summary: "What the test makes of it.",
    example: "{}",
    schema: || serde_json::json!({}),
    build: |_| Err(Vec::new()),
};

fn driver(server: SmtpServer, deliver: Deliver, arms: bool) -> Driver {
    let destination = Destination {
        name: DestinationName::known("mail"),
        connector: "echo".to_owned(),
        settings: ConnectorSettings(serde_json::Map::new()),
        throttle: None,
        recipients: Recipients::default(),
        timeout: None,
    };
    Driver::new(
        &destination,
        Box::new(Echo { server, arms }),
        &KIND,
        deliver,
        &["*@acme.test".to_owned()],
        Path::new("/nowhere"),
    )
}

#[tokio::test]
async fn a_delivery_goes_from_its_item_to_its_outcome() {
    let fake = Fake::start(Script::default()).await;
    let driver = Arc::new(driver(request(&fake).server, Deliver::Local, true));
    let shared = Arc::clone(&driver);
    // As a task, since that is how it is used: it must be `Send`.
    let task = tokio::spawn(async move {
        let (item, asked) = (sample_item(), AtomicUsize::new(0));
        let arm = async || {
            tokio::task::yield_now().await;
            asked.fetch_add(1, Ordering::SeqCst) == 0
        };
        shared.deliver(&item, arm, || None).await
    });
    assert_eq!(task.await.unwrap(), Outcome::Accepted { receipt: "2.0.0 queued".to_owned() });
    assert_eq!(driver.deliver(&sample_item(), async || false, || None).await, Outcome::NotArmed);
    driver.close().await;
    fake.until("closed", 1).await;
    assert_eq!(fake.messages().len(), 1);
}

#[tokio::test]
async fn deliver_local_speaks_to_nobody_but_this_machine() {
    let fake = Fake::start(Script::default()).await;
    for (host, port) in
        [("127.0.0.1", 25), ("127.0.0.1", 587), ("smtp.example.test", 1025), ("203.0.113.7", 2525)]
    {
        let server = SmtpServer { host: host.to_owned(), port, ..request(&fake).server };
        let armed = AtomicUsize::new(0);
        let arm = async || {
            armed.fetch_add(1, Ordering::SeqCst);
            true
        };
        let outcome = driver(server, Deliver::Local, true).deliver(&sample_item(), arm, || None).await;
        let Outcome::Halt { reason: Reason::SysConnectorDisabled, detail } = outcome else {
            panic!("{outcome:?}")
        };
        assert!(detail.contains(&format!("{host}:{port}")) && detail.contains("deliver:"), "{detail}");
        assert_eq!(armed.into_inner(), 0);
    }
}

#[tokio::test]
async fn a_connector_that_hands_over_without_the_last_look_is_stopped() {
    let fake = Fake::start(Script::default()).await;
    let outcome = driver(request(&fake).server, Deliver::Local, false)
        .deliver(&sample_item(), async || true, || None)
        .await;
    assert!(matches!(outcome, Outcome::Halt { reason: Reason::FailInternal, .. }), "{outcome:?}");
    assert!(fake.events().is_empty());
}

#[tokio::test]
async fn no_turn_waits_for_a_delayed_acknowledgement() {
    // With Nagle's algorithm, or body and dot in two writes, it would be 22 messages a second, nine seconds in all.
    let fake = Fake::start(Script::default()).await;
    let smtp = smtp(LIMITS);
    let request = request(&fake);
    let begun = Instant::now();
    for _ in 0..200 {
        smtp.call(&request, async || true, || None).await.unwrap();
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(fake.messages().len(), 200);
}
