//! A mail server that counts what it takes. It lives in the test's process, and survives what is killed.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::derived;

/// What it took: how often, by delivery.
pub type Took = BTreeMap<String, u64>;

/// A message that it took.
#[derive(Debug, Clone)]
pub struct Taken {
    pub delivery: String,
    /// When it said that it may be sent: whoever sends it takes a last look after that.
    pub began: Instant,
    /// When it had come.
    pub ended: Instant,
    /// The path of the link that opts out with one click, if there is one.
    pub way_out: Option<String>,
    /// Of the address that it went to.
    pub domain: String,
}

#[derive(Debug, Default)]
struct Book {
    took: Took,
    /// Commands that were heard.
    heard: u64,
    /// Messages that came to their end, whatever was answered.
    ended: u64,
    /// Of these, taken without an answer.
    cut: u64,
    /// Each message that was taken, in order.
    taken: Vec<Taken>,
    /// Nobody comes any more.
    closed: bool,
}

pub struct Provider {
    pub port: u16,
    shared: Arc<(Mutex<Book>, Condvar)>,
}

/// How it treats what comes.
#[derive(Debug, Clone, Copy)]
struct Manner {
    /// What it does with which message.
    seed: u64,
    /// Whether it loses one answer in forty, and puts off as many.
    fails: bool,
    /// How long it takes over a message.
    takes: Duration,
    /// Of whose mailboxes it says that they are written to too fast.
    minds: Option<&'static str>,
}

/// How it speaks on one connection.
type Serve = fn(&TcpStream, Manner, &(Mutex<Book>, Condvar)) -> std::io::Result<()>;

impl Provider {
    /// A mail server.
    pub fn start(seed: u64) -> Self {
        Self::serving(Manner { seed, fails: true, takes: Duration::ZERO, minds: None }, serve)
    }

    /// A mail server that never fails, and takes so long over each message.
    pub fn slow(seed: u64, takes: Duration) -> Self {
        Self::serving(Manner { seed, fails: false, takes, minds: None }, serve)
    }

    /// A mail server that takes every message, but those to gmail.com, of which it says that they come too fast.
    pub fn minding_gmail() -> Self {
        let minds = Some("gmail.com");
        Self::serving(Manner { seed: 1, fails: false, takes: Duration::ZERO, minds }, serve)
    }

    /// A receiver of webhooks, which knows a message again by its id, as it must, and acts on it once.
    pub fn hook(seed: u64) -> Self {
        Self::serving(Manner { seed, fails: true, takes: Duration::ZERO, minds: None }, serve_hooks)
    }

    fn serving(manner: Manner, serve: Serve) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let provider = Self { port: listener.local_addr().unwrap().port(), shared: Arc::default() };
        let shared = Arc::clone(&provider.shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.0.lock().unwrap().closed {
                    return;
                }
                let shared = Arc::clone(&shared);
                // A client that dies in the middle ends its conversation, and nothing else.
                std::thread::spawn(move || drop(serve(&stream, manner, &shared)));
            }
        });
        provider
    }

    /// Waits until so many commands were heard, and no longer than that.
    pub fn wait(&self, heard: u64, at_most: Duration) {
        let (book, changed) = &*self.shared;
        let begun = Instant::now();
        let mut book = book.lock().unwrap();
        while book.heard < heard {
            let Some(left) = at_most.checked_sub(begun.elapsed()) else { return };
            book = changed.wait_timeout(book, left).unwrap().0;
        }
    }

    pub fn took(&self) -> Took {
        self.shared.0.lock().unwrap().took.clone()
    }

    /// Each message that was taken, in order.
    pub fn taken(&self) -> Vec<Taken> {
        self.shared.0.lock().unwrap().taken.clone()
    }

    /// Waits until so many messages were taken, and no longer than that; how many there are.
    pub fn wait_for(&self, count: usize, at_most: Duration) -> usize {
        let (book, changed) = &*self.shared;
        let wanted = |book: &mut Book| book.taken.len() < count;
        let (book, _) = changed.wait_timeout_while(book.lock().unwrap(), at_most, wanted).unwrap();
        book.taken.len()
    }

    /// When each message was taken that was answered so, in order.
    pub fn times(&self) -> Vec<Instant> {
        self.taken().iter().map(|taken| taken.ended).collect()
    }

    /// The same of those that went to this domain.
    pub fn times_at(&self, domain: &str) -> Vec<Instant> {
        self.taken().iter().filter(|taken| taken.domain == domain).map(|taken| taken.ended).collect()
    }

    /// Messages that were taken without an answer.
    pub fn cut(&self) -> u64 {
        self.shared.0.lock().unwrap().cut
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.shared.0.lock().unwrap().closed = true;
        // Wakes whoever waits for the next one.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

/// HTTP/1.1, one request after the other.
fn serve_hooks(stream: &TcpStream, manner: Manner, shared: &(Mutex<Book>, Condvar)) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut line, mut length, mut delivery) = (String::new(), 0, String::new());
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            shared.0.lock().unwrap().heard += 1;
            shared.1.notify_all();
            let lower = line.trim_end().to_lowercase();
            match lower.split_once(": ") {
                Some(("content-length", value)) => length = value.parse().unwrap(),
                Some(("webhook-id", value)) => value.clone_into(&mut delivery),
                _ if lower.is_empty() => break,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let mut book = shared.0.lock().unwrap();
        book.ended += 1;
        let status = match derived(manner.seed, 1_000 + book.ended) % 40 {
            1 => "503 Later",
            outcome => {
                book.took.insert(delivery, 1);
                if outcome == 0 {
                    // Taken, and nobody is told.
                    book.cut += 1;
                    return Ok(());
                }
                "204 Taken"
            }
        };
        drop(book);
        (&mut &*stream).write_all(
            format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n")
                .replace("204 Taken\r\ncontent-length: 0", "204 Taken")
                .as_bytes(),
        )?;
    }
}

fn serve(stream: &TcpStream, manner: Manner, shared: &(Mutex<Book>, Condvar)) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream);
    let say = |text: &str| (&mut &*stream).write_all(format!("{text}\r\n").as_bytes());
    let pipelining = derived(manner.seed, 2) % 2 == 0;
    say("220 counting")?;
    let (mut line, mut domain) = (String::new(), String::new());
    loop {
        line.clear();
        if lines.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if let Some(rcpt) = line.strip_prefix("RCPT TO:<") {
            let after = rcpt.split_once('@').map_or("", |(_, after)| after);
            after.split('>').next().unwrap_or_default().clone_into(&mut domain);
            if manner.minds == Some(domain.as_str()) {
                return say("421 4.7.28 too fast");
            }
        }
        {
            shared.0.lock().unwrap().heard += 1;
            shared.1.notify_all();
        }
        match line.get(..4).unwrap_or_default() {
            "EHLO" if pipelining => say("250-counting\r\n250 PIPELINING")?,
            "EHLO" => say("250 counting")?,
            "DATA" => {
                let began = Instant::now();
                say("354 go ahead")?;
                let Some((delivery, way_out)) = message(&mut lines)? else { return Ok(()) };
                let mut book = shared.0.lock().unwrap();
                book.ended += 1;
                let outcome = if manner.fails { derived(manner.seed, 1_000 + book.ended) % 40 } else { 2 };
                if outcome == 1 {
                    drop(book);
                    say("451 4.3.0 try again later")?;
                    continue;
                }
                *book.took.entry(delivery.clone()).or_default() += 1;
                book.taken.push(Taken {
                    delivery,
                    began,
                    ended: Instant::now(),
                    way_out,
                    domain: domain.clone(),
                });
                shared.1.notify_all();
                if outcome == 0 {
                    // Taken, and nobody is told.
                    book.cut += 1;
                    return Ok(());
                }
                // The others are served meanwhile.
                drop(shared.1.wait_timeout_while(book, manner.takes, |book| !book.closed).unwrap());
                say("250 2.0.0 taken")?;
            }
            "QUIT" => return say("221 bye"),
            _ => say("250 ok")?,
        }
    }
}

/// Reads a message to its end: its delivery, of which the Message-ID tells, and its way out. `None`: it had no end.
fn message(lines: &mut BufReader<&TcpStream>) -> std::io::Result<Option<(String, Option<String>)>> {
    const WAY_OUT: &str = "/u/";
    let (mut delivery, mut way_out, mut line) = (String::new(), None, String::new());
    let mut is_list = false;
    loop {
        line.clear();
        if lines.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if line == ".\r\n" {
            return Ok(Some((delivery, way_out)));
        }
        if let Some(id) = line.strip_prefix("Message-ID: <") {
            id.split('@').next().unwrap_or_default().clone_into(&mut delivery);
        }
        // A header that is long goes on in the next line.
        is_list = line.starts_with("List-Unsubscribe:") || (is_list && line.starts_with([' ', '\t']));
        if let Some(at) = line.find(WAY_OUT).filter(|_| is_list && way_out.is_none()) {
            way_out = line[at..].split('>').next().map(|path| path.trim_end().to_owned());
        }
    }
}
