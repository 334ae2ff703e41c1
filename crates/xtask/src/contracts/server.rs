//! A server that was not written here: started on a port that it chooses itself, and gone when it is dropped.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, PipeReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// How long a server may take to listen. Half a dozen start at once, on a machine that may be busy.
const STARTING_MAX: Duration = Duration::from_secs(90);
/// Of what it says, so many last lines are kept, for the case that it does not start.
const LINES_KEPT: usize = 20;

/// A server's process, and what it says.
pub(super) struct Server {
    name: &'static str,
    child: Child,
    port: mpsc::Receiver<u16>,
    said: Arc<Mutex<VecDeque<String>>>,
}

impl Server {
    /// Starts one, and does not wait for it. It is to say its address after `marker` when it listens.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn start(name: &'static str, mut command: Command, marker: &'static str) -> Result<Self> {
        let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
        command.stdin(Stdio::null()).stdout(writer.try_clone().context("cannot copy a pipe")?).stderr(writer);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        // The command holds our ends of the pipe: without them it ends when the server does.
        drop(command);
        let (found, port) = mpsc::channel();
        let said = Arc::default();
        let kept = Arc::clone(&said);
        thread::spawn(move || listen(reader, marker, &found, &kept));
        Ok(Self { name, child, port, said })
    }

    /// Its port, when it listens.
    ///
    /// # Errors
    /// It ended, or took too long; with what it said.
    pub(super) fn port(&self) -> Result<u16> {
        let why = match self.port.recv_timeout(STARTING_MAX) {
            Ok(port) => return Ok(port),
            Err(mpsc::RecvTimeoutError::Timeout) => "does not listen",
            Err(mpsc::RecvTimeoutError::Disconnected) => "ended",
        };
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let said: Vec<&str> = said.iter().map(String::as_str).collect();
        bail!("{} {why}:\n{}", self.name, said.join("\n"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        if self.child.kill().is_ok() {
            self.child.wait().ok();
        }
    }
}

/// Reads to the end, so that the server never waits for us to read.
fn listen(reader: PipeReader, marker: &str, found: &mpsc::Sender<u16>, kept: &Mutex<VecDeque<String>>) {
    for line in BufReader::new(reader).lines().map_while(Result::ok) {
        if let Some(port) = port_in(&line, marker) {
            found.send(port).ok();
        }
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == LINES_KEPT {
            kept.pop_front();
        }
        kept.push_back(line);
    }
}

/// The port of `MARKERhttp://127.0.0.1:PORT`.
fn port_in(line: &str, marker: &str) -> Option<u16> {
    let (_, after) = line.split_once(marker)?;
    let port = after.trim_start().strip_prefix("http://127.0.0.1:")?;
    let end = port.find(|c: char| !c.is_ascii_digit()).unwrap_or(port.len());
    port.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Server {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Server::start("it", command, "at").unwrap()
    }

    #[test]
    fn a_server_says_its_port_among_other_things() {
        let server = shell("echo hello; echo 'now at http://127.0.0.1:4711\u{1b}[0m' >&2; exec sleep 600");
        assert_eq!(server.port().unwrap(), 4711);
    }

    #[test]
    fn one_that_ends_is_quoted() {
        let error = shell("echo no such file; exit 3").port().unwrap_err().to_string();
        assert_eq!(error, "it ended:\nno such file");
    }
}
