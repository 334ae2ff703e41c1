//! A folder, the binary, and small projects to run it on.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tests::binary;

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// Asserts how it ended.
    #[track_caller]
    pub fn code(self, expected: i32) -> Self {
        assert_eq!(self.code, expected, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// Its output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }

    /// Its output as JSON lines.
    #[track_caller]
    pub fn lines(&self) -> Vec<serde_json::Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A project in a folder of its own.
pub struct Folder {
    pub dir: tempfile::TempDir,
}

impl Folder {
    /// An empty folder.
    pub fn empty() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file.
    pub fn write(&self, file: &str, text: &str) -> &Self {
        let path = self.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    /// Reads a file.
    #[track_caller]
    pub fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    /// A command in the folder.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.current_dir(self.path()).args(args).env_remove("DRUMBEAT_ENV").stdin(Stdio::null());
        command
    }

    /// Runs the binary in the folder.
    pub fn run(&self, args: &[&str]) -> Ran {
        self.command(args).output().unwrap().into()
    }

    /// Runs a statement on an SQLite file of the folder.
    #[track_caller]
    pub fn sql(&self, file: &str, statement: &str) -> String {
        let mut child = Command::new("sqlite3")
            .arg(self.path().join(file))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program sqlite3");
        child.stdin.take().unwrap().write_all(statement.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }
}

/// Where the binary is.
pub fn binary_path() -> std::path::PathBuf {
    binary().into()
}

/// The time most of these tests play at: a Monday morning, nobody asleep in Berlin.
pub const NOW: &str = "2026-03-02T09:00:00Z";

pub const SETTINGS: &str = "version: 1\nproject: shop\ntimezone: Europe/Berlin\nlocales: [en, de]\nstate: sqlite://state.db\n\
warehouse: {url: \"sqlite://warehouse.db\"}\n\
brands:\n  shop: {title: Shop, from: \"Shop <hello@shop.test>\", postal_address: \"Shop, Street 1\", public_url: \"https://mail.shop.test\"}\n";
pub const DATA: &str = "profiles: {sql: \"select customer_id as id, email, timezone, locale, first_name, plan from customers\"}\n";
pub const POLICY: &str = "purposes:\n  offers: {title: Offers, class: marketing}\n  tips: {title: Tips, class: lifecycle}\n\
consent: {sql: \"select customer_id as profile, channel, purpose, status, changed_at, source from consents\"}\n\
caps:\n  day: {channel: email, class: marketing, max: 1, per: 1 calendar day}\n\
quiet_hours:\n  nights: {channel: email, class: marketing, from: \"20:00\", to: \"08:00\"}\n";
pub const SEGMENT: &str = "title: Everybody\nowner: o@shop.test\nwhy: \"Test.\"\nsql: \"select customer_id as id, plan from customers where active = 1\"\n";
pub const PLAYBOOK: &str = "title: Hello\nowner: o@shop.test\nwhy: \"Test.\"\nenter: segment.everybody\nbackfill: all\npurpose: offers\n\
steps:\n  - {id: hello, send: hello}\n  - wait: 2d\n  - {id: again, send: again}\n";
pub const TEMPLATE: &str = "---\nsubject: \"Hello {{ profile.first_name | default('there') }}\"\n---\n<mjml><mj-body><mj-section><mj-column>\
<mj-text>Hello {{ profile.first_name | default('there') }}, plan {{ entry.plan }}.</mj-text>\
<mj-text>{{ postal_address }} <a href=\"{{ unsubscribe_url }}\">Unsubscribe</a></mj-text></mj-column></mj-section></mj-body></mjml>\n";

const ZONES: [&str; 4] = ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Europe/London"];

/// SQL that makes a warehouse of so many people: every 10th without an address, every 7th without consent, every 11th
/// withdrawn, zones going round.
pub fn warehouse_sql(people: usize) -> String {
    let mut sql = String::from(
        "create table customers(customer_id integer primary key, email text, timezone text, locale text, first_name text, plan text, active integer);\n\
         create table consents(customer_id integer, channel text, purpose text, status text, changed_at text, source text);\nbegin;\n",
    );
    for n in 1..=people {
        let email = if n % 10 == 0 { "null".to_owned() } else { format!("'p{n}@example.test'") };
        let zone = ZONES[n % 4];
        sql.push_str(&format!(
            "insert into customers values({n},{email},'{zone}','en','Name{n}','team',1);\n"
        ));
        if n % 7 != 0 {
            let status = if n % 11 == 0 { "withdrawn" } else { "granted" };
            sql.push_str(&format!("insert into consents values({n},'email','offers','{status}','2026-01-01T00:00:00Z','form');\n"));
        }
    }
    sql.push_str("commit;\n");
    sql
}

/// Who should get the first mail at [`NOW`], by plain arithmetic over [`warehouse_sql`]: an address, a grant, and awake.
pub fn reachable(people: usize) -> Vec<usize> {
    // 09:00 UTC: 10:00 in Berlin, 04:00 in New York, 14:30 in Kolkata, 09:00 in London.
    (1..=people)
        .filter(|n| n % 10 != 0 && n % 7 != 0 && n % 11 != 0 && ZONES[n % 4] != "America/New_York")
        .collect()
}

/// A whole project with a warehouse of so many people, writing into files.
pub fn project(people: usize) -> Folder {
    let folder = Folder::empty();
    folder
        .write(
            "drumbeat.yml",
            &format!("{SETTINGS}destinations:\n  mail: {{connector: file, path: outbox}}\n"),
        )
        .write("data.yml", DATA)
        .write("policy.yml", POLICY)
        .write("segments/everybody.yml", SEGMENT)
        .write("playbooks/hello.yml", PLAYBOOK)
        .write("templates/hello.mjml", TEMPLATE)
        .write("templates/again.mjml", &TEMPLATE.replace("Hello", "Again"));
    folder.sql("warehouse.db", &warehouse_sql(people));
    folder
}

/// The messages that the `file` destination took, one a line.
pub fn outbox(folder: &Folder) -> Vec<serde_json::Value> {
    let path = folder.path().join("outbox/log.jsonl");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A port nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until something answers on a port. Bounded, and by looking, not by hoping.
#[track_caller]
pub fn wait_for_port(port: u16) {
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30), "nothing answers on port {port}");
        std::thread::yield_now();
    }
}

/// One HTTP request; status and the whole answer.
#[track_caller]
pub fn http(port: u16, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (status, answer)
}

/// Whether a program is on this machine. Where the environment says `required`, its absence fails the test.
pub fn have(program: &str, required_by: &str) -> bool {
    let found = ["/usr/sbin", "/usr/bin", "/usr/local/bin", "/usr/local/sbin", "/bin", "/sbin"]
        .iter()
        .any(|folder| Path::new(folder).join(program).exists());
    if !found {
        assert_ne!(
            std::env::var(required_by).as_deref(),
            Ok("required"),
            "{program} is required here and not installed"
        );
        eprintln!("skipped: no {program}");
    }
    found
}

/// `smtp-sink`, from postfix, which keeps one file a message.
pub struct Sink {
    child: Child,
    pub port: u16,
    dir: tempfile::TempDir,
}

impl Sink {
    /// `None` where it is not installed, which is said.
    pub fn start(args: &[&str]) -> Option<Self> {
        if !have("smtp-sink", "DRUMBEAT_TEST_SMTP") {
            return None;
        }
        let port = free_port();
        let dir = tempfile::tempdir().unwrap();
        let pattern = format!("{}/m.", dir.path().display());
        let mut command = Command::new("smtp-sink");
        // As root it wants to be told whose name it works in; the folder must be theirs.
        if nobody_needed() {
            command.args(["-u", "nobody"]);
            assert!(Command::new("chown").arg("nobody").arg(dir.path()).status().unwrap().success());
        }
        let child = command
            .args(args)
            .args(["-d", &pattern, &format!("127.0.0.1:{port}"), "100"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let sink = Self { child, port, dir };
        wait_for_port(port);
        Some(sink)
    }

    /// What it took so far.
    pub fn messages(&self) -> Vec<String> {
        let mut files: Vec<_> =
            std::fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
            .iter()
            .map(|file| std::fs::read_to_string(file).unwrap())
            .filter(|text| !text.is_empty())
            .collect()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn nobody_needed() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout.starts_with(b"0")
}
