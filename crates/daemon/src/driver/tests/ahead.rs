//! The next message on a connection is begun behind the dot of this one.

use super::*;

fn script(replies: &[(&'static str, &'static str)]) -> Script {
    Script { extensions: &["PIPELINING", "8BITMIME"], replies: replies.to_vec(), ..Script::default() }
}

/// Three requests to one server: to Ana, to Ben, to Cid.
fn three(fake: &Fake) -> [SmtpRequest; 3] {
    ["ana@example.test", "ben@example.test", "cid@example.test"]
        .map(|rcpt| SmtpRequest { rcpt_to: EmailAddress::parse(rcpt).unwrap(), ..request(fake) })
}

/// One transaction, with the one that follows it.
async fn call(smtp: &Smtp, fake: &Fake, request: &SmtpRequest, next: Option<&SmtpRequest>) -> Reply {
    let arm = async || {
        fake.note("armed");
        true
    };
    smtp.call(request, arm, || next.cloned()).await.unwrap()
}

fn taken(reply: &Reply) -> bool {
    smtp_reply(SmtpPhase::Body, 250)(reply)
}

#[tokio::test]
async fn a_message_is_begun_behind_the_one_before_and_armed_after_its_own_354() {
    let fake = Fake::start(script(&[])).await;
    let (smtp, [ana, ben, _]) = (smtp(LIMITS), three(&fake));
    assert!(taken(&call(&smtp, &fake, &ana, Some(&ben)).await));
    fake.until("354", 2).await;
    assert_eq!(fake.count("armed"), 1, "begun, and not armed");
    assert!(taken(&call(&smtp, &fake, &ben, None).await));
    let expected = [
        "MAIL FROM:<return@acme.test>",
        "RCPT TO:<ana@example.test>",
        "DATA",
        "354",
        "armed",
        "first body byte",
        "end",
        "MAIL FROM:<return@acme.test>",
        "RCPT TO:<ben@example.test>",
        "DATA",
        "354",
        "armed",
        "first body byte",
        "end",
    ];
    assert_eq!(fake.events()[2..], expected);
    assert_eq!(fake.messages(), [ana.body.to_vec(), ben.body.to_vec()]);
}

#[tokio::test]
async fn what_becomes_of_one_says_nothing_of_the_other() {
    // The next one is refused: as ever, and the connection goes on.
    let fake = Fake::start(script(&[("RCPT TO:<ben", "550 5.1.1 unknown")])).await;
    let (smtp_, [ana, ben, cid]) = (smtp(LIMITS), three(&fake));
    assert!(taken(&call(&smtp_, &fake, &ana, Some(&ben)).await));
    let reply = call(&smtp_, &fake, &ben, Some(&cid)).await;
    assert!(smtp_reply(SmtpPhase::Rcpt, 550)(&reply), "{reply:?}");
    assert!(taken(&call(&smtp_, &fake, &cid, None).await));
    assert_eq!((fake.messages().len(), fake.count("armed")), (2, 2), "{:?}", fake.events());
    // This one is refused at its end: the next one goes.
    let fake = Fake::start(Script { after_body: Some("554 5.7.1 spam"), ..script(&[]) }).await;
    let (smtp_, [ana, ben, _]) = (smtp(LIMITS), three(&fake));
    for (one, next) in [(&ana, Some(&ben)), (&ben, None)] {
        let reply = call(&smtp_, &fake, one, next).await;
        assert!(smtp_reply(SmtpPhase::Body, 554)(&reply), "{reply:?}");
    }
    assert_eq!((fake.count("connect"), fake.messages().len()), (1, 2));
}

#[tokio::test]
async fn a_server_that_leaves_takes_what_was_begun_with_it_and_no_more() {
    let fake = Fake::start(Script { after_body: Some("421 4.3.2 shutting down"), ..script(&[]) }).await;
    let (smtp, [ana, ben, _]) = (smtp(LIMITS), three(&fake));
    for (one, next) in [(&ana, Some(&ben)), (&ben, None)] {
        let reply = call(&smtp, &fake, one, next).await;
        assert!(smtp_reply(SmtpPhase::Body, 421)(&reply), "{reply:?}");
    }
    assert_eq!((fake.count("connect"), fake.count("armed"), fake.messages().len()), (2, 2, 2));
    let fake = Fake::start(Script { cut: Cut::AfterBody, ..script(&[]) }).await;
    let [ana, ben, _] = three(&fake);
    let reply = call(&smtp, &fake, &ana, Some(&ben)).await;
    assert!(
        matches!(reply, Reply::Failed { handed_over: true, kind: Failure::Closed, .. }),
        "nobody knows of the first: {reply:?}"
    );
    assert_eq!((fake.count("armed"), fake.messages().len()), (1, 1), "and the second was not handed over");
}

#[tokio::test]
async fn a_connection_on_which_a_message_was_begun_carries_no_other() {
    let fake = Fake::start(script(&[])).await;
    let (smtp, [ana, ben, cid]) = (smtp(LIMITS), three(&fake));
    assert!(taken(&call(&smtp, &fake, &ana, Some(&ben)).await));
    assert!(taken(&call(&smtp, &fake, &cid, None).await));
    assert_eq!(fake.count("connect"), 2);
    assert!(taken(&call(&smtp, &fake, &ben, None).await));
    assert_eq!((fake.count("connect"), fake.messages().len()), (2, 3), "{:?}", fake.events());
    // Without a word: it would be a line of the message.
    assert!(taken(&call(&smtp, &fake, &ana, Some(&ben)).await));
    smtp.close().await;
    fake.until("closed", 2).await;
    assert_eq!((fake.count("QUIT"), fake.messages().len()), (1, 4), "{:?}", fake.events());
}

#[tokio::test]
async fn nothing_is_begun_where_it_could_not_end() {
    // Neither with a server that takes one command at a time, nor as more than a connection carries.
    for (extensions, carries) in [(&["8BITMIME"][..], 100), (&["PIPELINING"][..], 1)] {
        let fake = Fake::start(Script { extensions, ..Script::default() }).await;
        let (smtp, mut requests) = (smtp(LIMITS), three(&fake));
        for request in &mut requests {
            request.server.messages_per_connection = carries;
        }
        let [ana, ben, _] = requests;
        assert!(taken(&call(&smtp, &fake, &ana, Some(&ben)).await));
        smtp.close().await;
        fake.until("closed", 1).await;
        assert_eq!((fake.count("DATA"), fake.count("QUIT")), (1, 1), "{:?}", fake.events());
    }
}
