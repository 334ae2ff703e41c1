//! Signatures against the RFCs' own examples, and against a verifier that reads what a receiver would.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ED25519, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, UnparsedPublicKey};
use model::DeliveryId;
use proptest::prelude::*;

use super::*;
use crate::{Letter, Rendered, compose};

/// The keys of RFC 8463 A.1 and A.2, which all the world has; the RSA one is shorter than what signs today.
const RFC_8463_SEED: &str = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
const RFC_8463_ED25519: &str = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
const RFC_8463_RSA: &str = "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB";
const RFC_8463_SHORT: &str = "-----BEGIN RSA PRIVATE KEY-----
MIICXQIBAAKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQi
Y/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqM
KrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB
AoGAH0cxOhFZDgzXWhDhnAJDw5s4roOXN4OhjiXa8W7Y3rhX3FJqmJSPuC8N9vQm
6SVbaLAE4SG5mLMueHlh4KXffEpuLEiNp9Ss3O4YfLiQpbRqE7Tm5SxKjvvQoZZe
zHorimOaChRL2it47iuWxzxSiRMv4c+j70GiWdxXnxe4UoECQQDzJB/0U58W7RZy
6enGVj2kWF732CoWFZWzi1FicudrBFoy63QwcowpoCazKtvZGMNlPWnC7x/6o8Gc
uSe0ga2xAkEA8C7PipPm1/1fTRQvj1o/dDmZp243044ZNyxjg+/OPN0oWCbXIGxy
WvmZbXriOWoSALJTjExEgraHEgnXssuk7QJBALl5ICsYMu6hMxO73gnfNayNgPxd
WFV6Z7ULnKyV7HSVYF0hgYOHjeYe9gaMtiJYoo0zGN+L3AAtNP9huqkWlzECQE1a
licIeVlo1e+qJ6Mgqr0Q7Aa7falZ448ccbSFYEPD6oFxiOl9Y9se9iYHZKKfIcst
o7DUw1/hz2Ck4N5JrgUCQQCyKveNvjzkkd8HjYs0SwM0fPjK16//5qDZ2UiDGnOe
uEzxBDAr518Z8VFbR41in3W4Y3yCDgQlLlcETrS+zYcL
-----END RSA PRIVATE KEY-----";

/// The message of RFC 8463 A.3, and its two signatures.
const RFC_8463_MAIL: &str = "From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
";
const RFC_8463_BY_ED25519: &str = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
";
const RFC_8463_BY_RSA: &str = "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
";

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// A seed of 32 bytes in the frame of PKCS#8 (RFC 8410 7).
fn ed25519(seed: &[u8]) -> String {
    let frame = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    pem("PRIVATE KEY", &[&frame[..], seed].concat())
}

/// An RSA key of the process's own, in PKCS#8: making one takes a while.
fn rsa() -> &'static [u8] {
    static KEY: OnceLock<Vec<u8>> = OnceLock::new();
    KEY.get_or_init(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap().as_der().unwrap().as_ref().to_vec())
}

fn signers() -> [Signer; 2] {
    let seed = STANDARD.decode(RFC_8463_SEED).unwrap();
    [
        Signer::new("acme.test", "d1", &pem("PRIVATE KEY", rsa())).unwrap(),
        Signer::new("acme.test", "d2", &ed25519(&seed)).unwrap(),
    ]
}

fn tags(text: &str) -> BTreeMap<String, String> {
    let squeezed = |text: &str| text.split_ascii_whitespace().collect::<String>();
    text.split(';')
        .filter_map(|tag| tag.split_once('='))
        .map(|(name, value)| (squeezed(name), squeezed(value)))
        .collect()
}

/// Whether the first signature of a mail holds, as a receiver sees it who found this record.
fn verifies(mail: &[u8], record: &str) -> bool {
    let (head, body) = head_and_body(mail);
    let all = fields(head);
    let Some(at) = all.iter().position(|field| field.is("DKIM-Signature")) else { return false };
    let Ok(header) = std::str::from_utf8(all[at].whole) else { return false };
    let (tags, record) = (tags(&header["DKIM-Signature:".len()..]), tags(record));
    let tag = |name: &str| tags.get(name).map_or("", String::as_str);
    if tag("bh") != STANDARD.encode(digest::digest(&digest::SHA256, &relaxed_body(body))) {
        return false;
    }
    // `b=` stands last in all of these.
    let Some(end) = header.rfind(" b=") else { return false };
    let names: Vec<&str> = tag("h").split(':').collect();
    let bytes = signed(&all, &names, &header.as_bytes()[..end + 3]);
    let (Ok(signature), Ok(public)) = (STANDARD.decode(tag("b")), STANDARD.decode(&record["p"])) else {
        return false;
    };
    match (tag("a"), record["k"].as_str()) {
        // What is published is a SubjectPublicKeyInfo.
        ("rsa-sha256", "rsa") => {
            UnparsedPublicKey::new(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, public)
                .verify(&bytes, &signature)
                .is_ok()
        }
        ("ed25519-sha256", "ed25519") => UnparsedPublicKey::new(&ED25519, public)
            .verify(digest::digest(&digest::SHA256, &bytes).as_ref(), &signature)
            .is_ok(),
        _ => false,
    }
}

fn crlf(text: &str) -> String {
    text.replace('\n', "\r\n")
}

/// A mail as a campaign sends it.
fn mail(signer: Option<&Signer>, subject: &str, html: &str, text: &str) -> Vec<u8> {
    let rendered = Rendered {
        subject: subject.to_owned(),
        preheader: None,
        html: Some(html.to_owned()),
        text: text.to_owned(),
        from: None,
        reply_to: None,
        headers: vec![("X-Campaign".to_owned(), "spring".to_owned())],
        fallback: false,
    };
    let letter = Letter {
        rendered: &rendered,
        from: "Müller & Söhne <hello@acme.test>",
        reply_to: Some("help@acme.test"),
        to: &EmailAddress::parse("ana@example.test").unwrap(),
        to_name: Some("Ana"),
        delivery: &DeliveryId::known("abcdefghijklmnopqrstuvwxyz234567"),
        date: "2026-03-03T09:05:07Z".parse().unwrap(),
        list_id: Some("offers.mail.acme.test"),
        unsubscribe_url: Some("https://mail.acme.test/u/TOKEN"),
        unsubscribe_mailto: None,
        feedback_id: Some("win_back:win_back.nudge:marketing:acme-0a1b2c"),
        signer,
        test: false,
    };
    compose(&letter).unwrap().bytes
}

#[test]
fn headers_and_bodies_are_relaxed_as_in_rfc_6376_3_4_5() {
    let mail = b"A: X\r\nB : Y\t\r\n\tZ  \r\n\r\n C \r\nD \t E\r\n\r\n\r\n";
    let (head, body) = head_and_body(mail);
    let relaxed: Vec<Vec<u8>> = fields(head)
        .iter()
        .map(|field| {
            let mut out = Vec::new();
            relaxed_header(field.whole, &mut out);
            out
        })
        .collect();
    assert_eq!(relaxed, [b"a:X".to_vec(), b"b:Y Z".to_vec()]);
    assert_eq!(relaxed_body(body), b" C\r\nD E\r\n");
}

#[test]
fn bodies_end_as_in_rfc_6376_3_4_4() {
    for (body, relaxed) in [
        ("", ""),
        ("\r\n", ""),
        (" \t\r\n\r\n", ""),
        ("x", "x\r\n"),
        ("x\r\n \r\n", "x\r\n"),
        ("x\r\n\t\r\ny \t", "x\r\n\r\ny\r\n"),
        ("\r\n\r\nx  y\r\n", "\r\n\r\nx y\r\n"),
    ] {
        assert_eq!(String::from_utf8(relaxed_body(body.as_bytes())).unwrap(), relaxed, "{body:?}");
    }
    // What RFC 6376 3.4.4 says of the hash of an empty body.
    let empty = digest::digest(&digest::SHA256, &relaxed_body(b""));
    assert_eq!(STANDARD.encode(empty), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
}

#[test]
fn the_mail_of_rfc_8463_has_the_signatures_it_has_there() {
    let (mail, by_ed25519, by_rsa) = (crlf(RFC_8463_MAIL), crlf(RFC_8463_BY_ED25519), crlf(RFC_8463_BY_RSA));
    assert!(verifies(format!("{by_ed25519}{mail}").as_bytes(), RFC_8463_ED25519));
    assert!(verifies(format!("{by_rsa}{mail}").as_bytes(), RFC_8463_RSA));
    let changed = mail.replace("hungry", "angry");
    assert!(!verifies(format!("{by_rsa}{changed}").as_bytes(), RFC_8463_RSA));
    // Ed25519 gives one signature for one text: ours is theirs, byte for byte.
    let signer =
        Signer::new("football.example.com", "brisbane", &ed25519(&STANDARD.decode(RFC_8463_SEED).unwrap()))
            .unwrap();
    assert_eq!(
        (signer.record(), signer.record_name().as_str()),
        (RFC_8463_ED25519, "brisbane._domainkey.football.example.com")
    );
    let (head, _) = head_and_body(mail.as_bytes());
    let (header, theirs) = by_ed25519.trim_end().rsplit_once(" b=").unwrap();
    let header = format!("{header} b=");
    let names = ["from", "to", "subject", "date", "message-id", "from", "subject", "date"];
    let ours = signer.sign(&signed(&fields(head), &names, header.as_bytes())).unwrap();
    assert_eq!(STANDARD.encode(ours), theirs.replace("\r\n ", ""));
}

#[test]
fn every_header_that_drumbeat_writes_is_signed_and_the_sender_twice() {
    for signer in signers() {
        let unsigned = mail(None, "Hello", "<p>Hi</p>", "Hi");
        let mail = mail(Some(&signer), "Hello", "<p>Hi</p>", "Hi");
        assert!(verifies(&mail, signer.record()), "{signer:?}");
        assert!(
            mail.ends_with(&unsigned),
            "the signature stands before what was there, and changes nothing of it"
        );
        let header = String::from_utf8(mail[..mail.len() - unsigned.len()].to_vec()).unwrap();
        assert!(
            header.starts_with("DKIM-Signature: v=1; a=") && header.lines().all(|line| line.len() <= 78),
            "{header}"
        );
        let tags = tags(&header["DKIM-Signature:".len()..]);
        assert_eq!(
            tags["h"],
            "From:From:To:Subject:Date:Message-ID:Reply-To:List-Id:List-Unsubscribe:List-Unsubscribe-Post:Feedback-ID:MIME-Version:Content-Type"
        );
        assert_eq!(
            (tags["d"].as_str(), tags["c"].as_str(), tags["t"].as_str()),
            ("acme.test", "relaxed/relaxed", "1772528707")
        );
        assert!(!tags.contains_key("l") && !tags.contains_key("x"));
        // A second sender above the signed one is what oversigning is for.
        let forged = [b"From: Eve <eve@example.test>\r\n", &mail[..]].concat();
        assert!(!verifies(&forged, signer.record()));
        // What a relay on the way writes breaks nothing.
        let relayed =
            String::from_utf8([b"Received: from a.test by b.test\r\n", &mail[..]].concat()).unwrap();
        let relayed =
            relayed.replace("X-Campaign: spring\r\n", "").replace("Subject: Hello", "subject:\r\n  Hello ");
        assert!(verifies(relayed.as_bytes(), signer.record()));
    }
}

#[test]
fn keys_of_both_kinds_are_read_and_never_shown() {
    let pkcs1 = pem("RSA PRIVATE KEY", &rsa()[26..]);
    let (first, second) = (signers(), Signer::new("acme.test", "d1", &pkcs1).unwrap());
    assert_eq!(first[0].record(), second.record());
    assert!(first[0].record().starts_with("v=DKIM1; k=rsa; p=MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A"));
    assert_eq!(format!("{second:?}"), "Signer(d1._domainkey.acme.test, [secret])");
    // Certificates and the like may stand around it.
    let around = format!("{}\nbegin\n{pkcs1}", pem("CERTIFICATE", b"no certificate"));
    assert!(Signer::new("acme.test", "d1", &around).is_ok());
}

#[test]
fn what_cannot_sign_says_why_and_does_not_repeat_it() {
    let says = |pem: &str| Signer::new("acme.test", "d1", pem).map(|_| ()).unwrap_err().0;
    assert!(says(RFC_8463_SHORT).contains("fewer than 2048 bits"));
    assert!(says(&pem("PUBLIC KEY", b"x")).contains("the private one"));
    assert!(says(&pem("ENCRYPTED PRIVATE KEY", b"x")).contains("password"));
    assert!(says("hunter2").starts_with("a private key in PEM"));
    assert!(says(&pem("PRIVATE KEY", b"x")).contains("neither RSA nor Ed25519"));
    assert!(says(&pem("EC PRIVATE KEY", b"x")).contains("neither RSA nor Ed25519"));
    assert!(says(&pem("PRIVATE KEY", &rsa()[..700])).contains("damaged"));
    for (text, domain) in [
        ("Acme.Test", Some("acme.test")),
        ("müller.test", Some("xn--mller-kva.test")),
        ("acme", None),
        ("acme.test; l=0", None),
        ("acme..test", None),
        ("[192.0.2.1]", None),
        ("a.test\r\nBcc: x", None),
        ("@acme.test", None),
    ] {
        assert_eq!(parse_domain(text).ok().as_deref(), domain, "{text}");
    }
    for (text, fits) in [
        ("d1", true),
        ("2026.mail", true),
        ("", false),
        ("d1;", false),
        ("a_b", false),
        ("-a", false),
        ("a.", false),
    ] {
        assert_eq!(parse_selector(text).is_ok(), fits, "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_is_signed_verifies_and_with_one_byte_changed_does_not(
        subject in "[ -~üß]{0,120}x",
        text in "[a-z \\t\\n.ü]{0,300}x",
        at in 0.0f64..1.0,
        kind in 0usize..2,
    ) {
        let signer = &signers()[kind];
        let mut mail = mail(Some(signer), &subject, &format!("<p>{text}</p>"), &text);
        prop_assert!(verifies(&mail, signer.record()));
        // A letter or digit: of white space some may change, and of headers' names the case.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place in a mail")]
        let mut place = (mail.len() as f64 * at) as usize;
        while place < mail.len() && !mail[place].is_ascii_alphanumeric() {
            place += 1;
        }
        let campaign = mail.windows(18).position(|window| window == b"X-Campaign: spring").unwrap();
        if place < mail.len() && !(campaign..campaign + 18).contains(&place) {
            mail[place] = if mail[place] == b'q' { b'z' } else { b'q' };
            prop_assert!(!verifies(&mail, signer.record()), "{}", place);
        }
    }
}
