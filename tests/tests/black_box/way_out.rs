//! The links in a mail: reading changes nothing, one click opts out, before the answer.

use std::process::Child;

use crate::support::{Folder, NOW, free_port, http, outbox, project, wait_for_port};

struct Daemon {
    child: Child,
    public: u16,
    admin: u16,
}

impl Daemon {
    fn start(folder: &Folder) -> Self {
        let (public, admin) = (free_port(), free_port());
        let settings = folder.read("drumbeat.yml");
        let settings: String = settings
            .lines()
            .filter(|line| !line.starts_with("serve:"))
            .map(|line| format!("{line}\n"))
            .collect();
        folder.write(
            "drumbeat.yml",
            &format!("{settings}serve: {{admin: \"127.0.0.1:{admin}\", public: \"127.0.0.1:{public}\"}}\n"),
        );
        let mut command = folder.command(&["--now", NOW, "run"]);
        command.stderr(std::fs::File::create(folder.path().join("daemon.log")).unwrap());
        let child = command.spawn().unwrap();
        wait_for_port(public);
        wait_for_port(admin);
        Self { child, public, admin }
    }

    fn stop(mut self) -> i32 {
        let told = std::process::Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(told.success());
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The path of a link in somebody's mail.
fn link(folder: &Folder, profile: &str, kind: &str) -> String {
    let log = folder
        .run(&["--output", "ndjson", "log", "--profile", profile, "--state", "accepted"])
        .code(0)
        .lines();
    let id = log[0]["delivery"].as_str().unwrap();
    let mail = folder.read(&format!("outbox/{id}.eml"));
    let mail = mail.replace("=\r\n", "").replace("=3D", "=");
    let at = mail
        .find(&format!("https://mail.shop.test/{kind}/"))
        .unwrap_or_else(|| panic!("no {kind} link in {mail}"));
    let rest = &mail[at + "https://mail.shop.test".len()..];
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "/_-.".contains(c))).unwrap();
    rest[..end].to_owned()
}

fn withdrawn(folder: &Folder, profile: &str) -> bool {
    let told = folder.run(&["--output", "ndjson", "consent", "show", profile]).code(0).lines();
    told.iter().any(|event| event["status"] == "withdrawn" && event["origin"] == "local")
}

#[test]
fn one_click_opts_out_and_reading_does_not() {
    let folder = project(30);
    folder.run(&["--now", NOW, "run", "--once"]).code(0);
    let path = link(&folder, "2", "u");
    let daemon = Daemon::start(&folder);
    for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"] {
        http(daemon.public, method, &path, "");
        assert!(!withdrawn(&folder, "2"), "{method} changed something");
    }
    let (status, page) = http(daemon.public, "GET", &path, "");
    assert_eq!(status, 200);
    assert!(page.contains("method=\"post\"") && !page.contains("<script"), "{page}");
    assert!(page.to_lowercase().contains("cache-control: no-store"), "{page}");
    let (status, answer) = http(daemon.public, "POST", &path, "List-Unsubscribe=One-Click");
    assert_eq!(status, 200);
    assert!(
        !answer.to_lowercase().contains("set-cookie") && !answer.to_lowercase().contains("location:"),
        "{answer}"
    );
    assert!(withdrawn(&folder, "2"), "committed before the answer");
    assert_eq!(
        http(daemon.public, "POST", &path, "List-Unsubscribe=One-Click").0,
        200,
        "a repeat is the same success"
    );
    let events = folder.run(&["--output", "ndjson", "consent", "show", "2"]).code(0).lines();
    assert_eq!(
        events.iter().filter(|event| event["origin"] == "local").count(),
        1,
        "and is not written twice"
    );
    let other = link(&folder, "6", "u");
    assert_eq!(http(daemon.public, "POST", &other, "confirm=1").0, 200);
    assert!(withdrawn(&folder, "6"));
    let forged = format!("{}x", &other[..other.len() - 1]);
    let before = folder.sql("state.db", "select count(*) from consent_event;");
    assert_eq!(http(daemon.public, "POST", &forged, "List-Unsubscribe=One-Click").0, 404);
    assert_eq!(folder.sql("state.db", "select count(*) from consent_event;"), before);
    assert_eq!(http(daemon.admin, "GET", "/livez", "").0, 200);
    assert_eq!(http(daemon.admin, "GET", "/readyz", "").0, 200);
    let (status, metrics) = http(daemon.admin, "GET", "/metrics", "");
    assert_eq!(status, 200);
    assert!(metrics.contains("drumbeat_segment_members{segment=\"everybody\"} 30"), "{metrics}");
    assert_eq!(http(daemon.public, "GET", "/metrics", "").0, 404, "operators' pages are not for recipients");
    let second = folder.run(&["run", "--once"]).code(1);
    assert!(second.err.contains("another"), "{}", second.err);
    assert_eq!(daemon.stop(), 0, "SIGTERM drains: {}", folder.read("daemon.log"));
    let log = folder.read("daemon.log");
    assert!(!log.contains("@example.test"), "a person is named in the log: {log}");
    folder.run(&["audit", "verify"]).code(0);
    // Nothing more goes to who opted out: the second step, two days later.
    let sent = outbox(&folder).len();
    folder.run(&["--now", "2026-03-04T13:30:00Z", "run", "--once"]).code(0);
    assert!(outbox(&folder).len() > sent);
    for id in ["2", "6"] {
        let rows = folder.run(&["--output", "ndjson", "log", "--profile", id]).code(0).lines();
        let again = rows.iter().find(|row| row["step"] == "again").unwrap();
        assert_eq!(again["state"], "suppressed", "{again}");
    }
}

#[test]
fn the_daemon_delivers_by_itself_and_logs_sentences() {
    let folder = project(25);
    let daemon = Daemon::start(&folder);
    let begun = std::time::Instant::now();
    let expected = crate::support::reachable(25).len();
    while outbox(&folder).len() < expected {
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{}", folder.read("daemon.log"));
        std::thread::yield_now();
    }
    assert_eq!(daemon.stop(), 0);
    let log = folder.read("daemon.log");
    assert!(log.contains("Refreshed segment `everybody`: 25 members"), "{log}");
    folder.run(&["--output", "ndjson", "in-doubt", "list"]).code(0);
    assert_eq!(outbox(&folder).len(), expected);
}
