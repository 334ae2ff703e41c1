//! Mail through a real SMTP server, taken from it and read.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use crate::support::{Folder, NOW, SETTINGS, Sink, free_port, project, reachable, wait_for_port};

fn smtp_project(people: usize, port: u16) -> Folder {
    let folder = project(people);
    folder.write("drumbeat.yml", &format!("{SETTINGS}destinations:\n  mail: {{connector: smtp, host: 127.0.0.1, port: {port}, tls: none, connections: 4}}\n"));
    folder
}

fn header<'a>(message: &'a str, name: &str) -> Vec<&'a str> {
    let head = message.split("\n\n").next().unwrap();
    head.lines()
        .filter(|line| line.to_lowercase().starts_with(&format!("{}:", name.to_lowercase())))
        .collect()
}

#[test]
fn every_reachable_person_gets_one_message_with_the_headers_it_needs() {
    let Some(sink) = Sink::start(&[]) else { return };
    let folder = smtp_project(120, sink.port);
    folder.run(&["--now", NOW, "run", "--once"]).code(0);
    let messages = sink.messages();
    assert_eq!(messages.len(), reachable(120).len());
    for message in &messages {
        let message = message.replace("\r\n", "\n");
        for name in [
            "From",
            "To",
            "Subject",
            "Date",
            "Message-ID",
            "MIME-Version",
            "Content-Type",
            "List-Unsubscribe",
            "List-Unsubscribe-Post",
            "List-Id",
            "Feedback-ID",
        ] {
            assert_eq!(header(&message, name).len(), 1, "{name} in:\n{message}");
        }
        assert!(header(&message, "List-Unsubscribe-Post")[0].ends_with("List-Unsubscribe=One-Click"));
        let link = header(&message, "List-Unsubscribe")[0];
        assert!(link.contains("<https://mail.shop.test/u/") && !link.contains("example.test"), "{link}");
        assert!(message.contains("text/plain") && message.contains("text/html"));
        assert!(message.lines().all(|line| line.len() <= 998));
    }
    folder.run(&["--now", NOW, "run", "--once"]).code(0);
    assert_eq!(sink.messages().len(), messages.len(), "a second pass sends nothing");
}

/// The return path of a message, as the server was told, and the address that opts out.
fn comes_back_to(message: &str) -> (String, String) {
    let message = message.replace("\r\n", "\n");
    let path = header(&message, "X-Mail-Args")[0].split(['<', '>']).nth(1).unwrap().to_owned();
    let opts_out = message.split("<mailto:").nth(1).unwrap().split('?').next().unwrap();
    (path, opts_out.replace("\n", "").replace(['\t', ' '], ""))
}

/// A bounce as a mail server writes it.
fn bounce(to: &str) -> String {
    format!(
        "Return-Path: <>\r\nFrom: MAILER-DAEMON@mx.example.test\r\nTo: {to}\r\nSubject: Undelivered\r\nMIME-Version: 1.0\r\n\
        Content-Type: multipart/report; report-type=delivery-status; boundary=B\r\n\r\n--B\r\nContent-Type: text/plain\r\n\r\nNo.\r\n\
        --B\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example.test\r\n\r\nFinal-Recipient: rfc822; x@example.test\r\n\
        Action: failed\r\nStatus: 5.1.1\r\n\r\n--B--\r\n"
    )
}

#[test]
fn what_comes_back_is_believed_by_the_path_it_came_to() {
    let Some(sink) = Sink::start(&[]) else { return };
    let folder = smtp_project(12, sink.port);
    let destination = "tls: none, return_path: \"bounces@mail.shop.test\", mailbox: bounces, connections: 4";
    let settings = folder.read("drumbeat.yml").replace("tls: none, connections: 4", destination);
    folder.write("drumbeat.yml", &settings);
    folder.run(&["check"]).code(0);
    for part in ["new", "cur", "tmp"] {
        std::fs::create_dir_all(folder.path().join("bounces").join(part)).unwrap();
    }
    folder.run(&["--now", NOW, "run", "--once"]).code(0);
    let paths: Vec<(String, String)> = sink.messages().iter().map(|message| comes_back_to(message)).collect();
    assert!(paths.len() >= 4, "{}", paths.len());
    let mut all: Vec<&String> = paths.iter().map(|(path, _)| path).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), paths.len(), "each message has a path of its own");
    for (path, opts_out) in &paths {
        for address in [path, opts_out] {
            let (local, domain) = address.split_once('@').unwrap();
            assert!(
                local.starts_with("bounces+") && local.len() <= 64 && domain == "mail.shop.test",
                "{address}"
            );
        }
    }
    // One came back; somebody guesses another's; one opts out by mail; one tries that with the return path; the last is no mail at all.
    let guessed = {
        let (local, domain) = paths[1].0.split_once('@').unwrap();
        format!("{}0000000000@{domain}", &local[..local.len() - 10])
    };
    let swapped = paths[3].0.replace("bounces+", "bounces+u-");
    let opts_out = |to: &str| format!("From: x@example.test\r\nTo: {to}\r\nSubject: unsubscribe\r\n\r\n");
    folder
        .write("bounces/new/1.a", &bounce(&paths[0].0))
        .write("bounces/new/2.a", &bounce(&guessed))
        .write("bounces/new/3.a:2,", &opts_out(&paths[2].1))
        .write("bounces/new/4.a", &opts_out(&swapped))
        .write("bounces/new/5.a", "\u{0}");
    folder.run(&["--now", "2026-03-02T10:00:00Z", "run", "--once"]).code(0);
    let of = |address: &str| {
        let (tag, _) = address.split_once('+').unwrap().1.split_once('@').unwrap();
        tag.trim_start_matches("u-").split('-').nth(1).unwrap().to_owned()
    };
    let facts = folder
        .sql("state.db", "select kind || ' ' || delivery from fact where kind <> 'delivered' order by kind;");
    let expected = format!("bounced {}\nunsubscribed {}", of(&paths[0].0), of(&paths[2].1));
    assert_eq!(facts.trim(), expected);
    let suppressed = folder.sql("state.db", "select reason from suppression order by reason;");
    assert_eq!(suppressed.trim(), "supp.hard_bounce\nsupp.optout_channel");
    assert_eq!(std::fs::read_dir(folder.path().join("bounces/new")).unwrap().count(), 0);
    assert!(folder.path().join("bounces/cur/3.a:2,S").exists());
    // The same mail again, as a mail server may deliver it twice, counts once.
    folder.write("bounces/new/6.a", &bounce(&paths[0].0));
    folder.run(&["--now", "2026-03-02T10:01:00Z", "run", "--once"]).code(0);
    assert_eq!(folder.sql("state.db", "select count(*) from fact where kind = 'bounced';").trim(), "1");
    folder.run(&["audit", "verify"]).code(0);
}

#[test]
fn hostile_names_cannot_write_headers() {
    let Some(sink) = Sink::start(&[]) else { return };
    let folder = smtp_project(3, sink.port);
    folder.sql(
        "warehouse.db",
        "update customers set first_name = 'Ana' || char(13) || char(10) || 'Bcc: eve@example.test' where customer_id = 2;\n\
         update customers set email = 'x@example.test' || char(13) || char(10) || 'RCPT TO:<eve@example.test>' where customer_id = 3;\n\
         update customers set timezone = 'Europe/Berlin';\n\
         update customers set first_name = '<b>{{ 7*7 }}</b> Zoë' where customer_id = 1;",
    );
    folder.run(&["--now", NOW, "run", "--once"]).code(0);
    let messages = sink.messages();
    for message in &messages {
        let message = message.replace("\r\n", "\n");
        assert!(header(&message, "Bcc").is_empty(), "{message}");
        assert_eq!(header(&message, "X-Rcpt-Args").len(), 1, "{message}");
        assert!(!message.contains("<b>49") && !message.contains("49 Zo"), "data is not rendered: {message}");
    }
    let log = folder.run(&["--output", "ndjson", "log", "--profile", "3"]).code(0).lines();
    assert_eq!(log[0]["reason"], "addr.invalid_syntax");
}

#[test]
fn a_server_that_says_not_now_is_tried_again_later_and_a_refused_person_is_not() {
    let Some(soft) = Sink::start(&["-r", "RCPT"]) else { return };
    let folder = smtp_project(4, soft.port);
    let ran = folder.run(&["--now", NOW, "--output", "json", "run", "--once"]).code(0).json();
    assert_eq!(ran["deliveries"]["accepted"], 0);
    assert!(ran["deliveries"]["pending"].as_u64().unwrap() > 0, "{ran}");
    let Some(hard) = Sink::start(&["-f", "RCPT", "-B", "550 5.1.1 no such user"]) else { return };
    let folder = smtp_project(4, hard.port);
    let ran = folder.run(&["--now", NOW, "--output", "json", "run", "--once"]).code(0).json();
    assert!(ran["deliveries"]["rejected"].as_u64().unwrap() > 0, "{ran}");
    let log = folder.run(&["--output", "ndjson", "log", "--state", "rejected"]).code(0).lines();
    assert_eq!(log[0]["reason"], "fail.smtp_5xx_recipient");
    let listed = folder.run(&["--output", "ndjson", "suppress", "list"]).code(0).lines();
    assert_eq!(listed[0]["reason"], "supp.hard_bounce");
}

#[test]
fn local_delivery_leaves_this_machine_alone() {
    let folder = project(4);
    folder.write(
        "drumbeat.yml",
        &format!(
            "{SETTINGS}destinations:\n  mail: {{connector: smtp, host: mail.example.test, port: 587}}\n"
        ),
    );
    let ran = folder.run(&["--now", NOW, "--output", "json", "run", "--once"]).code(1).json();
    assert_eq!(ran["halted"][0]["reason"], "sys.connector_disabled");
    assert_eq!(ran["deliveries"]["accepted"], 0);
}

/// The strict mail server, which was not written here.
struct Strict {
    child: Child,
    dir: tempfile::TempDir,
    port: u16,
}

impl Strict {
    /// Starts it; with these TXT records by name it looks at signatures, too. `None` where it is not installed, which is said.
    fn start(records: Option<&serde_json::Value>) -> Option<Self> {
        let Ok(python) = std::env::var("DRUMBEAT_AIOSMTPD_PYTHON") else {
            assert_ne!(
                std::env::var("DRUMBEAT_TEST_SMTP").as_deref(),
                Ok("required"),
                "DRUMBEAT_AIOSMTPD_PYTHON is required here"
            );
            eprintln!("skipped: no aiosmtpd (DRUMBEAT_AIOSMTPD_PYTHON)");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let mut request = openssl();
        request.args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
        ]);
        request.args([
            "-addext",
            "subjectAltName=DNS:localhost",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ]);
        run(request.arg("-keyout").arg(&key).arg("-out").arg(&cert));
        let port = free_port();
        let mut server = Command::new(python);
        server
            .arg(tests::root().join("tests/servers/strict_smtp.py"))
            .arg(port.to_string())
            .args([&cert, &key]);
        if let Some(records) = records {
            let file = dir.path().join("records.json");
            std::fs::write(&file, records.to_string()).unwrap();
            server.arg(file);
        }
        let child = server.stdout(Stdio::piped()).spawn().unwrap();
        wait_for_port(port);
        Some(Self { child, dir, port })
    }

    /// The destination that leads to it.
    fn destination(&self) -> String {
        let cert = self.dir.path().join("cert.pem");
        format!(
            "destinations:\n  mail: {{connector: smtp, host: localhost, port: {}, tls: starttls, username: u, password: p, ca: \"{}\", connections: 2}}\n",
            self.port,
            cert.display()
        )
    }

    /// Ends it: what it took.
    fn taken(mut self) -> Vec<serde_json::Value> {
        self.child.kill().unwrap();
        let said = BufReader::new(self.child.stdout.take().unwrap());
        let taken = said.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
        self.child.wait().unwrap();
        taken
    }
}

fn openssl() -> Command {
    Command::new("openssl")
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// STARTTLS, AUTH and replies chosen by address, by a server that was not written here.
#[test]
fn a_strict_server_with_starttls_and_auth_takes_the_mail() {
    let Some(server) = Strict::start(None) else { return };
    let folder = project(20);
    folder.sql("warehouse.db", "update customers set timezone = 'Europe/Berlin'; update customers set email = 'bounce550.' || email where customer_id = 2; update customers set email = 'defer451.' || email where customer_id = 3;");
    folder.write("drumbeat.yml", &format!("{SETTINGS}{}", server.destination()));
    let ran = folder.run(&["--now", NOW, "--output", "json", "run", "--once"]);
    let taken = server.taken();
    let ran = ran.code(0).json();
    let expected =
        (1..=20).filter(|n| n % 10 != 0 && n % 7 != 0 && n % 11 != 0 && *n != 2 && *n != 3).count();
    assert_eq!(ran["deliveries"]["accepted"], expected, "{ran}");
    assert_eq!(ran["deliveries"]["rejected"], 1, "{ran}");
    assert_eq!(taken.len(), expected);
    assert!(taken.iter().all(|mail| mail["tls"] == true));
    // The wrong password holds the destination; no message is blamed.
    folder.write("drumbeat.yml", &folder.read("drumbeat.yml").replace("password: p", "password: wrong"));
    let log = folder.run(&["--output", "ndjson", "log", "--profile", "3"]).code(0).lines();
    assert_eq!(log[0]["state"], "pending");
    assert_eq!(log[0]["reason"], "fail.smtp_4xx");
}

/// Signed here, sent by SMTP, and verified by a program that was not written here, with the record that `doctor` says to publish.
#[test]
fn a_receiver_finds_the_signature_good_and_that_of_a_changed_message_bad() {
    for kind in [["RSA", "-pkeyopt", "rsa_keygen_bits:2048"].as_slice(), ["ED25519"].as_slice()] {
        let folder = project(9);
        run(openssl()
            .args(["genpkey", "-algorithm"])
            .args(kind)
            .arg("-out")
            .arg(folder.path().join("dkim.pem")));
        let settings = SETTINGS.replace(
            "public_url: \"https://mail.shop.test\"}",
            "public_url: \"https://mail.shop.test\", dkim: {domain: shop.test, selector: d1, key: {file: dkim.pem}}}",
        );
        assert_ne!(settings, SETTINGS);
        folder.write(
            "drumbeat.yml",
            &format!("{settings}destinations: {{mail: {{connector: file, path: outbox}}}}\n"),
        );
        let found = folder.run(&["--output", "ndjson", "doctor"]).lines();
        let says = found.iter().find(|row| row["what"] == "dkim of shop").expect("doctor names the record");
        let (name, text) = says["saw"].as_str().unwrap().split_once(" TXT ").unwrap();
        assert_eq!(name, "d1._domainkey.shop.test");
        let Some(server) = Strict::start(Some(&serde_json::json!({ name: text.trim_matches('"') }))) else {
            return;
        };
        folder.write("drumbeat.yml", &format!("{settings}{}", server.destination()));
        // What a mail server or a relay may touch: dots at the beginning of lines, white space at their end, names outside ASCII.
        folder.write(
            "templates/hello.txt",
            ".\n..two  words\t \n{{ postal_address }}\n{{ unsubscribe_url }}\n \nGrüße an {{ profile.first_name | default('alle') }}\n\n\n",
        );
        folder.sql("warehouse.db", "update customers set timezone = 'Europe/Berlin', first_name = 'Zoë, \"the  one\"' where customer_id < 4;");
        folder.run(&["--now", NOW, "run", "--once"]).code(0);
        let taken = server.taken();
        assert!(taken.len() >= 4, "{taken:?}");
        for mail in &taken {
            assert_eq!(
                (&mail["dkim"], &mail["changed"]),
                (&true.into(), &false.into()),
                "{kind:?}: {}",
                mail["mail"]
            );
            let message = mail["mail"].as_str().unwrap().replace("\r\n", "\n");
            assert!(message.starts_with("DKIM-Signature: v=1; a="), "{message}");
            let feedback = header(&message, "Feedback-ID");
            assert!(
                feedback.len() == 1
                    && feedback[0].starts_with("Feedback-ID: hello:hello.hello:marketing:shop-"),
                "{feedback:?}"
            );
        }
    }
}
