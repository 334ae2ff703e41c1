//! A mail server in the test's own process: says what it is told to say, and keeps what it was given.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// What the server does instead of what it would do.
#[derive(Debug, Clone, Default)]
pub(super) struct Script {
    /// Said instead of the greeting.
    pub(super) greeting: Option<&'static str>,
    /// Lines after the first of the reply to EHLO.
    pub(super) extensions: &'static [&'static str],
    /// The first command that begins so gets this reply, once each.
    pub(super) replies: Vec<(&'static str, &'static str)>,
    /// Said after a message.
    pub(super) after_body: Option<&'static str>,
    /// Where it hangs up.
    pub(super) cut: Cut,
    /// Reads the message, and never answers.
    pub(super) mute: bool,
}

/// Where the server hangs up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Cut {
    #[default]
    Nowhere,
    /// Instead of a reply to DATA.
    AtData,
    /// With a reset, having said 354 and read nothing more.
    After354,
    /// Having read the whole message.
    AfterBody,
    /// Having taken and answered one message, without a word.
    AfterReply,
}

#[derive(Debug, Default)]
pub(super) struct Seen {
    /// In order: `connect`, each command, `354`, `first body byte`, `end`, `closed`; tests add what they do.
    pub(super) events: Vec<String>,
    /// Messages that ended with a dot, as they are without dot-stuffing.
    pub(super) messages: Vec<Vec<u8>>,
}

#[derive(Debug, Clone)]
pub(super) struct Fake {
    pub(super) port: u16,
    seen: Arc<Mutex<Seen>>,
    changed: Arc<Notify>,
}

impl Fake {
    pub(super) async fn start(script: Script) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let fake = Self {
            port: listener.local_addr().unwrap().port(),
            seen: Arc::default(),
            changed: Arc::default(),
        };
        let served = fake.clone();
        tokio::spawn(async move {
            let script = Arc::new(Mutex::new(script));
            while let Ok((stream, _)) = listener.accept().await {
                let (fake, script) = (served.clone(), Arc::clone(&script));
                tokio::spawn(async move {
                    fake.note("connect");
                    // A broken line is one of the things under test.
                    drop(fake.serve(stream, &script).await);
                    fake.note("closed");
                });
            }
        });
        fake
    }

    pub(super) fn note(&self, event: &str) {
        self.seen.lock().unwrap().events.push(event.to_owned());
        self.changed.notify_waiters();
    }

    pub(super) fn events(&self) -> Vec<String> {
        self.seen.lock().unwrap().events.clone()
    }

    pub(super) fn messages(&self) -> Vec<Vec<u8>> {
        self.seen.lock().unwrap().messages.clone()
    }

    pub(super) fn count(&self, event: &str) -> usize {
        self.events().iter().filter(|seen| *seen == event).count()
    }

    /// Waits until the event was seen so often.
    pub(super) async fn until(&self, event: &str, times: usize) {
        tokio::time::timeout(Duration::from_secs(10), async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if self.count(event) >= times {
                    return;
                }
                changed.await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("no {event} among {:?}", self.events()));
    }

    async fn serve(&self, stream: TcpStream, script: &Mutex<Script>) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        let (greeting, extensions) = {
            let script = script.lock().unwrap();
            (script.greeting.unwrap_or("220 fake ready"), script.extensions)
        };
        say(&mut stream, greeting).await?;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let command = line.trim_end().to_owned();
            self.note(&command);
            let told = {
                let mut script = script.lock().unwrap();
                let found = script.replies.iter().position(|(start, _)| command.starts_with(start));
                found.map(|found| script.replies.remove(found).1)
            };
            let cut = script.lock().unwrap().cut;
            if let Some(told) = told {
                say(&mut stream, told).await?;
                continue;
            }
            match command.split([' ', ':']).next().unwrap_or_default() {
                "EHLO" => {
                    let lines: Vec<&str> = [&["fake"], extensions].concat();
                    let last = lines.len() - 1;
                    let text: Vec<String> = lines
                        .iter()
                        .enumerate()
                        .map(|(at, line)| format!("250{}{line}", if at == last { ' ' } else { '-' }))
                        .collect();
                    say(&mut stream, &text.join("\r\n")).await?;
                }
                "DATA" if cut == Cut::AtData => return Ok(()),
                "DATA" => {
                    say(&mut stream, "354 go ahead").await?;
                    self.note("354");
                    if cut == Cut::After354 {
                        // Closing with unread bytes resets the connection, so wait for some and read none.
                        stream.get_ref().readable().await?;
                        return Ok(());
                    }
                    self.take_message(&mut stream).await?;
                    let (mute, after) = {
                        let script = script.lock().unwrap();
                        (script.mute, script.after_body.unwrap_or("250 2.0.0 queued"))
                    };
                    if cut == Cut::AfterBody {
                        return Ok(());
                    }
                    if mute {
                        // Until the client gives up.
                        stream.read_u8().await?;
                    }
                    say(&mut stream, after).await?;
                    if cut == Cut::AfterReply {
                        return Ok(());
                    }
                }
                "QUIT" => return say(&mut stream, "221 bye").await,
                _ => say(&mut stream, "250 ok").await?,
            }
        }
    }

    async fn take_message(&self, stream: &mut BufReader<TcpStream>) -> std::io::Result<()> {
        let mut message = Vec::new();
        let mut line = Vec::new();
        while stream.read_until(b'\n', &mut line).await? > 0 {
            if message.is_empty() {
                self.note("first body byte");
            }
            if line == b".\r\n" {
                self.seen.lock().unwrap().messages.push(message);
                self.note("end");
                return Ok(());
            }
            message.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
            line.clear();
        }
        Err(std::io::ErrorKind::UnexpectedEof.into())
    }
}

async fn say(stream: &mut BufReader<TcpStream>, text: &str) -> std::io::Result<()> {
    stream.get_mut().write_all(format!("{text}\r\n").as_bytes()).await
}
