//! The bytes that a mail server gets.

use message::{Letter, Rendered, compose};
use model::{DeliveryId, EmailAddress, Reason};

fn rendered() -> Rendered {
    Rendered {
        subject: "Hello".to_owned(),
        preheader: None,
        html: Some("<p>Hi</p>\n".to_owned()),
        text: "Hi\n".to_owned(),
        from: None,
        reply_to: None,
        headers: Vec::new(),
        fallback: false,
    }
}

fn written(
    rendered: &Rendered,
    change: impl FnOnce(&mut Letter<'_>),
) -> Result<(String, String, String), model::Refusal> {
    let to = EmailAddress::parse("ana@example.test").unwrap();
    let delivery = DeliveryId::known("abcdefghijklmnopqrstuvwxyz234567");
    let mut letter = Letter {
        rendered,
        from: "Acme <hello@acme.test>",
        reply_to: None,
        to: &to,
        to_name: Some("Ana"),
        delivery: &delivery,
        date: "2026-03-03T09:05:07Z".parse().unwrap(),
        list_id: None,
        unsubscribe_url: None,
        unsubscribe_mailto: None,
        feedback_id: None,
        signer: None,
        test: false,
    };
    change(&mut letter);
    let mail = compose(&letter)?;
    assert_eq!(mail, compose(&letter)?, "the same letter gives the same bytes");
    assert!(!format!("{mail:?}").contains("ana"));
    Ok((mail.mail_from, mail.rcpt_to, String::from_utf8(mail.bytes).unwrap()))
}

fn header(mail: &str, name: &str) -> Option<String> {
    let unfolded = mail.split("\r\n\r\n").next()?.replace("\r\n ", " ");
    unfolded.split("\r\n").find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(": ")?.to_owned()))
}

#[test]
fn a_letter_is_written_as_a_mail() {
    let (from, to, mail) = written(&rendered(), |letter| {
        letter.reply_to = Some("help@acme.test");
        letter.list_id = Some("offers.mail.acme.test");
        letter.unsubscribe_url = Some("https://mail.acme.test/u/TOKEN");
    })
    .unwrap();
    assert_eq!((from.as_str(), to.as_str()), ("hello@acme.test", "ana@example.test"));
    let expected = "From: \"Acme\" <hello@acme.test>
To: \"Ana\" <ana@example.test>
Subject: Hello
Date: Tue, 03 Mar 2026 09:05:07 +0000
Message-ID: <abcdefghijklmnopqrstuvwxyz234567@acme.test>
Reply-To: help@acme.test
List-Id: <offers.mail.acme.test>
List-Unsubscribe: <https://mail.acme.test/u/TOKEN>
List-Unsubscribe-Post: List-Unsubscribe=One-Click
MIME-Version: 1.0
Content-Type: multipart/alternative;
 boundary=\"=_abcdefghijklmnopqrstuvwxyz234567\"

--=_abcdefghijklmnopqrstuvwxyz234567
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 7bit

Hi

--=_abcdefghijklmnopqrstuvwxyz234567
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: 7bit

<p>Hi</p>

--=_abcdefghijklmnopqrstuvwxyz234567--
";
    assert_eq!(mail, expected.replace('\n', "\r\n"));
}

#[test]
fn a_message_of_text_only_has_one_part() {
    let (_, _, mail) = written(&Rendered { html: None, ..rendered() }, |_| {}).unwrap();
    assert!(mail.ends_with("MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n\r\nHi\r\n"), "{mail}");
}

#[test]
fn names_and_subjects_outside_ascii_are_encoded() {
    for (subject, encoded) in [
        ("Plain words", "Plain words"),
        ("Grüße", "=?utf-8?B?R3LDvMOfZQ==?="),
        ("=?utf-8?Q?spoof?=", "=?utf-8?B?PT91dGYtOD9RP3Nwb29mPz0=?="),
        ("1,000 \u{a0}€", "=?utf-8?B?MSwwMDAgwqDigqw=?="),
    ] {
        let (_, _, mail) = written(&Rendered { subject: subject.to_owned(), ..rendered() }, |_| {}).unwrap();
        assert_eq!(header(&mail, "Subject").as_deref(), Some(encoded), "{subject}");
    }
    for (name, encoded) in [
        ("Ana", "\"Ana\" <ana@example.test>"),
        ("Ana \"A\" \\ <x@y.test>, Bob", "\"Ana \\\"A\\\" \\\\ <x@y.test>, Bob\" <ana@example.test>"),
        ("Zoë", "=?utf-8?B?Wm/Dqw==?= <ana@example.test>"),
        ("a\r\nBcc: x@y.test", "\"a Bcc: x@y.test\" <ana@example.test>"),
        ("\u{202e}moc", "\"moc\" <ana@example.test>"),
        (" \t ", "ana@example.test"),
        ("=?utf-8?Q?x?=", "=?utf-8?B?PT91dGYtOD9RP3g/PQ==?= <ana@example.test>"),
    ] {
        let (_, _, mail) = written(&rendered(), |letter| letter.to_name = Some(name)).unwrap();
        assert_eq!(header(&mail, "To").as_deref(), Some(encoded), "{name:?}");
    }
    let (from, _, mail) =
        written(&rendered(), |letter| letter.from = "Müller & Söhne <post@müller.test>").unwrap();
    assert_eq!(from, "post@xn--mller-kva.test");
    assert_eq!(
        header(&mail, "From").as_deref(),
        Some("=?utf-8?B?TcO8bGxlciAmIFPDtmhuZQ==?= <post@xn--mller-kva.test>")
    );
}

#[test]
fn long_subjects_fold_and_unfold() {
    let subject = "word ".repeat(60).trim().to_owned();
    let (_, _, mail) = written(&Rendered { subject: subject.clone(), ..rendered() }, |_| {}).unwrap();
    assert_eq!(header(&mail, "Subject"), Some(subject));
    assert!(mail.split("\r\n").all(|line| line.len() <= 78));
    for subject in ["ü".repeat(200), "x".repeat(900), format!("{} y", "x".repeat(300))] {
        let (_, _, mail) = written(&Rendered { subject, ..rendered() }, |_| {}).unwrap();
        assert!(mail.split("\r\n").all(|line| line.len() <= 78), "{mail}");
    }
}

#[test]
fn a_template_may_have_its_own_sender_and_headers() {
    let own = Rendered {
        from: Some("\"Acme, Billing\" <billing@acme.test>".to_owned()),
        reply_to: Some("Help <help@acme.test>".to_owned()),
        headers: vec![("X-Campaign".to_owned(), "spring".to_owned()), ("X-Empty".to_owned(), String::new())],
        ..rendered()
    };
    let (from, _, mail) = written(&own, |letter| letter.test = true).unwrap();
    assert_eq!(from, "billing@acme.test");
    for (name, expected) in [
        ("From", Some("\"Acme, Billing\" <billing@acme.test>")),
        ("Reply-To", Some("\"Help\" <help@acme.test>")),
        ("X-Campaign", Some("spring")),
        ("X-Empty", None),
        ("Subject", Some("[TEST] Hello")),
        ("Message-ID", Some("<abcdefghijklmnopqrstuvwxyz234567@acme.test>")),
    ] {
        assert_eq!(header(&mail, name).as_deref(), expected, "{name}");
    }
}

#[test]
fn what_cannot_be_sent_is_refused() {
    let with = |change: fn(&mut Rendered)| {
        let mut rendered = rendered();
        change(&mut rendered);
        written(&rendered, |_| {}).unwrap_err().reason
    };
    assert_eq!(with(|r| r.subject = " ".to_owned()), Reason::ContentEmpty);
    assert_eq!(with(|r| r.subject = "a\r\nBcc: x@y.test".to_owned()), Reason::VarInvalid);
    assert_eq!(with(|r| r.subject = "a\0b".to_owned()), Reason::VarInvalid);
    assert_eq!(with(|r| r.subject = "x".repeat(999)), Reason::ContentTooLarge);
    assert_eq!(with(|r| r.from = Some("Acme".to_owned())), Reason::SenderInvalid);
    assert_eq!(with(|r| r.from = Some("Acme <a@b.test>\r\nBcc: x@y.test".to_owned())), Reason::SenderInvalid);
    assert_eq!(with(|r| r.reply_to = Some("a@b.test, c@d.test".to_owned())), Reason::ReplyToInvalid);
    assert_eq!(with(|r| r.headers = vec![("X-A".to_owned(), "a\nb".to_owned())]), Reason::VarInvalid);
    for name in [
        "Bcc",
        "to",
        "From",
        "List-Unsubscribe",
        "content-type",
        "MIME-Version",
        "Message-ID",
        "X A",
        "X:A",
        "",
        "Return-Path",
        "DKIM-Signature",
        "X-Ä",
    ] {
        let rendered = Rendered { headers: vec![(name.to_owned(), "x".to_owned())], ..rendered() };
        assert_eq!(written(&rendered, |_| {}).unwrap_err().reason, Reason::RenderError, "{name}");
    }
    for url in ["https://x.test/a b", "https://x.test/>\r\nBcc: x", "https://x.test/ä"] {
        assert_eq!(
            written(&rendered(), |letter| letter.unsubscribe_url = Some(url)).unwrap_err().reason,
            Reason::RenderError,
            "{url}"
        );
    }
    let empty = Rendered { html: None, text: " \n".to_owned(), ..rendered() };
    assert_eq!(written(&empty, |_| {}).unwrap_err().reason, Reason::ContentEmpty);
}

#[test]
fn every_line_of_a_body_ends_in_crlf_and_is_short() {
    for text in [
        "a\nb\r\nc\rd\n",
        &"x".repeat(5000),
        &"ü ".repeat(3000),
        "Schöne Grüße\n.\n..\nFrom me\n",
        "שלום\n",
        "tab\tand trailing \n",
    ] {
        let body = Rendered { text: text.to_owned(), html: Some(format!("<p>{text}</p>")), ..rendered() };
        let (_, _, mail) = written(&body, |_| {}).unwrap();
        assert!(mail.is_ascii());
        for line in mail.split("\r\n") {
            assert!(line.len() <= 998 && !line.contains(['\r', '\n']), "{line:?}");
        }
    }
}
