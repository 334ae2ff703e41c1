//! What black-box tests share: the built binary, runs of it with their output, daemons, folders.
//!
//! Absent: anything that knows a room. A test here sees what a user sees: files, output, exit codes, the network.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

/// The longest a run may take, or a line be waited for: a test that hangs must fail.
const PATIENCE: Duration = Duration::from_secs(180);

/// The folder of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies below the workspace").to_owned()
}

/// The built `drumbeat`. Built at the first call in a process, unless `DRUMBEAT_BIN` names it.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| std::env::var_os("DRUMBEAT_BIN").map_or_else(build, PathBuf::from))
}

/// Builds it where, and in the profile in which, this test was built.
fn build() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    // TARGET/PROFILE/deps/TEST
    let profile = test.ancestors().nth(2).expect("a test lies in `deps` of its profile's folder");
    let target = profile.parent().expect("a profile's folder lies in the target folder");
    let mut cargo = Command::new("cargo");
    cargo.current_dir(root()).env("CARGO_TARGET_DIR", target).stdin(Stdio::null());
    cargo.args(["build", "--quiet", "--locked", "--package", "cli", "--bin", "drumbeat"]);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.status().expect("cargo runs");
    assert!(status.success(), "`drumbeat` does not build");
    profile.join(format!("drumbeat{}", std::env::consts::EXE_SUFFIX))
}

/// `drumbeat` in a folder, knowing nothing of this machine's own settings for it.
pub fn drumbeat<S: AsRef<OsStr>>(folder: &Path, arguments: &[S]) -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DRUMBEAT_") {
            command.env_remove(name);
        }
    }
    command.current_dir(folder).env("NO_COLOR", "1").args(arguments).stdin(Stdio::null());
    command
}

/// What a run left.
#[derive(Debug)]
pub struct Ran {
    /// How it ended.
    pub status: ExitStatus,
    /// Its data.
    pub stdout: String,
    /// Its talk.
    pub stderr: String,
}

impl Ran {
    /// The exit code; -1 if a signal ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// Itself, having ended with this code.
    ///
    /// # Panics
    /// It ended with another; all that it said is shown.
    #[track_caller]
    pub fn with_code(self, code: i32) -> Self {
        assert!(
            self.code() == code,
            "ended with {}, not {code}\n--- stdout\n{}\n--- stderr\n{}",
            self.status,
            self.stdout,
            self.stderr
        );
        self
    }
}

/// Runs `drumbeat` in a folder to its end.
///
/// # Panics
/// It cannot be started, or takes longer than three minutes.
#[track_caller]
pub fn run<S: AsRef<OsStr>>(folder: &Path, arguments: &[S]) -> Ran {
    finish(&mut drumbeat(folder, arguments))
}

/// Runs a command to its end, with its output taken.
///
/// # Panics
/// It cannot be started, or takes longer than three minutes.
#[track_caller]
pub fn finish(command: &mut Command) -> Ran {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let (stdout, stderr) = (all_of(child.stdout.take()), all_of(child.stderr.take()));
    // Both end when the program does: then there is nothing left to wait for.
    let texts = stdout.recv_timeout(PATIENCE).and_then(|out| Ok((out, stderr.recv_timeout(PATIENCE)?)));
    let Ok((stdout, stderr)) = texts else {
        let _killed = child.kill();
        panic!("{command:?} did not end within {PATIENCE:?}");
    };
    let status = child.wait().expect("a child can be waited for");
    Ran { status, stdout, stderr }
}

/// Everything a pipe brings until it is closed.
fn all_of(pipe: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
        let _nobody_waits = read.map(|_| sender.send(String::from_utf8_lossy(&bytes).into_owned()));
    });
    receiver
}

/// A `drumbeat` that goes on until it is ended; dropped, it is killed.
#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    /// Starts it. Its talk is read; its data goes nowhere.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start<S: AsRef<OsStr>>(folder: &Path, arguments: &[S]) -> Self {
        let mut command = drumbeat(folder, arguments);
        let mut child =
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let stderr = child.stderr.take().expect("its standard error is a pipe");
        let (sender, lines) = channel();
        thread::spawn(move || {
            let lines = BufReader::new(stderr).lines().map_while(Result::ok);
            // An error means that the test is over.
            lines.map(|line| sender.send(line)).take_while(Result::is_ok).count()
        });
        Self { child, lines, seen: Vec::new() }
    }

    /// The next line of its talk that holds a text.
    ///
    /// # Panics
    /// It ends without one, or three minutes pass without a line; what it did say is shown.
    #[track_caller]
    pub fn line_with(&mut self, text: &str) -> String {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.seen.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
        panic!("it never said `{text}`. It said:\n{}", self.seen.join("\n"));
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Panics
    /// It cannot be killed.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// SIGTERM, and how it ended; what it said meanwhile is in the result.
    ///
    /// # Panics
    /// It does not end within three minutes after its last line.
    #[track_caller]
    pub fn terminate(&mut self) -> Ran {
        let asked = Command::new("kill").arg(self.child.id().to_string()).status().expect("`kill` runs");
        assert!(asked.success(), "it was gone already");
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.seen.push(line);
        }
        let status = self.child.wait().expect("a child can be waited for");
        Ran { status, stdout: String::new(), stderr: self.seen.join("\n") }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _gone_already = self.child.wait();
    }
}

/// An empty folder that is gone when the test is.
///
/// # Panics
/// The system cannot make one.
pub fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder can be made")
}

/// A copy of one of the projects under `playbooks/`, without what running it left there.
///
/// # Panics
/// There is none of that name, or it cannot be copied.
pub fn copy_of(project: &str) -> TempDir {
    let copy = folder();
    let from = root().join("playbooks").join(project);
    copy_folder(&from, copy.path()).unwrap_or_else(|error| panic!("cannot copy {}: {error}", from.display()));
    copy
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let shown = name.to_string_lossy();
        if shown.starts_with('.') || shown.starts_with("warehouse.db") || shown == "outbox" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::create_dir(to.join(&name))?;
            copy_folder(&entry.path(), &to.join(&name))?;
        } else {
            fs::copy(entry.path(), to.join(&name))?;
        }
    }
    Ok(())
}

/// A port on loopback that nobody used a moment ago.
///
/// # Panics
/// There is no network.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("a listener has an address").port()
}
