//! The stream under a conversation: one write a turn, a count of what was handed over, and one reply for each command.
//!
//! The conversation above flushes after every part; what it writes is held until it waits for the reply, so that body and
//! final dot leave in one go. Anything a server says out of turn is kept from the conversation: before STARTTLS it could be
//! an attacker's, afterwards it could pass for the reply to a message that was not sent yet.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::client::TlsStream;

/// A buffer that grew beyond this for one large message is not kept.
const KEPT_BYTES_MAX: usize = 256 * 1024;

/// A greeting for a conversation whose real one was said before TLS.
const GREETING_AGAIN: &[u8] = b"220 again\r\n";

/// What lies below: a connection in the clear or under TLS.
pub(super) trait Line: AsyncRead + AsyncWrite + Send + Sync + Unpin + fmt::Debug + 'static {
    /// The other end.
    fn peer(&self) -> io::Result<SocketAddr>;
}

impl Line for TcpStream {
    fn peer(&self) -> io::Result<SocketAddr> {
        self.peer_addr()
    }
}

impl Line for TlsStream<TcpStream> {
    fn peer(&self) -> io::Result<SocketAddr> {
        self.get_ref().0.peer_addr()
    }
}

/// How much of a message was handed over: to the kernel, or to TLS, which is as if to the kernel. And what lettre has no word
/// for: what the server was heard to offer, and what goes with a message.
#[derive(Debug, Default)]
pub(super) struct Progress {
    bytes: AtomicU64,
    of_message: AtomicBool,
    pipelining: AtomicBool,
    behind: Mutex<String>,
}

impl Progress {
    /// From here on, it is the message that is counted.
    pub(super) fn message_begins(&self) {
        self.bytes.store(0, Ordering::SeqCst);
        self.of_message.store(true, Ordering::SeqCst);
    }

    /// Commands that are to leave in one go with the message, right behind its final dot (RFC 2920, section 3.1).
    pub(super) fn send_behind(&self, commands: &str) {
        commands.clone_into(&mut self.behind());
    }

    fn behind(&self) -> MutexGuard<'_, String> {
        self.behind.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the server takes several commands at once (RFC 2920).
    pub(super) fn pipelining(&self) -> bool {
        self.pipelining.load(Ordering::SeqCst)
    }

    /// The message is over; gives how many bytes, dots and what goes behind it included, were handed over.
    pub(super) fn message_ends(&self) -> u64 {
        self.of_message.store(false, Ordering::SeqCst);
        self.bytes.load(Ordering::SeqCst)
    }
}

/// The stream.
#[derive(Debug)]
pub(super) struct Wire<L: Line> {
    /// Gone only while it is being given back.
    line: Option<L>,
    progress: Arc<Progress>,
    outgoing: Vec<u8>,
    /// Commands in it behind a message.
    behind: u32,
    sent: usize,
    flushing: bool,
    greeting: &'static [u8],
    turns: Turns,
    out_of_turn: bool,
    lender: Option<oneshot::Sender<L>>,
}

impl<L: Line> Wire<L> {
    /// A stream whose server greets first.
    pub(super) fn greeted(line: L, progress: Arc<Progress>) -> Self {
        Self {
            line: Some(line),
            progress,
            outgoing: Vec::new(),
            behind: 0,
            sent: 0,
            flushing: false,
            greeting: &[],
            turns: Turns { awaited: 1, ..Turns::default() },
            out_of_turn: false,
            lender: None,
        }
    }

    /// A stream whose server has greeted already.
    pub(super) fn greeted_before(line: L, progress: Arc<Progress>) -> Self {
        let mut wire = Self::greeted(line, progress);
        wire.greeting = GREETING_AGAIN;
        wire.turns = Turns::default();
        wire
    }

    /// As [`Wire::greeted`], and what lies below comes back when the stream is dropped, unless something was left unread.
    pub(super) fn lent(line: L, progress: Arc<Progress>) -> (Self, oneshot::Receiver<L>) {
        let (lender, back) = oneshot::channel();
        let mut wire = Self::greeted(line, progress);
        wire.lender = Some(lender);
        (wire, back)
    }

    fn line(&mut self) -> io::Result<Pin<&mut L>> {
        self.line.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Writes what is held.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let of_message = self.progress.of_message.load(Ordering::SeqCst);
        if of_message {
            let behind = std::mem::take(&mut *self.progress.behind());
            self.outgoing.extend_from_slice(behind.as_bytes());
            self.behind += lines(behind.as_bytes());
        }
        while self.sent < self.outgoing.len() {
            let line = self.line.as_mut().ok_or(io::ErrorKind::NotConnected)?;
            let written = ready!(Pin::new(line).poll_write(context, &self.outgoing[self.sent..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
            self.progress.bytes.fetch_add(written as u64, Ordering::SeqCst);
            self.flushing = true;
        }
        if self.flushing {
            ready!(self.line()?.poll_flush(context))?;
            self.flushing = false;
            // A message is one turn, of as many lines as it has; a command is a line.
            let due = if of_message { 1 + std::mem::take(&mut self.behind) } else { lines(&self.outgoing) };
            self.turns.awaited += due;
            self.sent = 0;
            self.outgoing.clear();
            self.outgoing.shrink_to(KEPT_BYTES_MAX);
            if of_message {
                model::fault::point("send.after_terminator");
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// How many commands these are.
fn lines(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.iter().filter(|byte| **byte == b'\n').count()).unwrap_or(u32::MAX)
}

/// Gives back what lies below, if it was lent and nothing that was said is lost with us.
impl<L: Line> Drop for Wire<L> {
    fn drop(&mut self) {
        if let (Some(lender), Some(line)) = (self.lender.take(), self.line.take())
            && !self.out_of_turn
            && self.outgoing.is_empty()
        {
            // Nobody waits for it any more: then it is closed.
            drop(lender.send(line));
        }
    }
}

impl<L: Line> AsyncRead for Wire<L> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.out_of_turn {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the server spoke out of turn",
            )));
        }
        if !this.greeting.is_empty() {
            let (now, later) = this.greeting.split_at(this.greeting.len().min(buffer.remaining()));
            buffer.put_slice(now);
            this.greeting = later;
            return Poll::Ready(Ok(()));
        }
        ready!(this.poll_send(context))?;
        let before = buffer.filled().len();
        ready!(this.line()?.poll_read(context, buffer))?;
        let heard = buffer.filled().len() - before;
        let in_turn = this.turns.hear(&buffer.filled()[before..]);
        if this.turns.pipelining {
            this.progress.pipelining.store(true, Ordering::SeqCst);
        }
        if in_turn < heard {
            this.out_of_turn = true;
            buffer.set_filled(before + in_turn);
            if in_turn == 0 {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the server spoke out of turn",
                )));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<L: Line> AsyncWrite for Wire<L> {
    fn poll_write(self: Pin<&mut Self>, _context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().outgoing.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Later, when the reply is waited for: more of the same turn may follow.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(context))?;
        this.line()?.poll_shutdown(context)
    }
}

impl<L: Line> AsyncTokioStream for Wire<L> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.line.as_ref().ok_or(io::ErrorKind::NotConnected)?.peer()
    }
}

/// Whose turn it is to speak.
#[derive(Debug, Default)]
struct Turns {
    /// Replies that are due.
    awaited: u32,
    /// Where in its line the next byte stands.
    column: usize,
    /// Whether the present line says that the reply goes on: `250-`.
    goes_on: bool,
    /// The beginning of the present line, without its code.
    text: Vec<u8>,
    /// Whether a line of a reply said `PIPELINING`.
    pipelining: bool,
}

/// What a server says that takes several commands at once (RFC 2920, section 2), in a line of its reply to EHLO.
const PIPELINING: &[u8] = b"PIPELINING";

impl Turns {
    /// Takes in what was heard, and gives how much of it was due.
    fn hear(&mut self, bytes: &[u8]) -> usize {
        for (position, byte) in bytes.iter().enumerate() {
            if self.awaited == 0 {
                return position;
            }
            if self.column == 3 {
                self.goes_on = *byte == b'-';
            }
            if self.column > 3 && self.text.len() < PIPELINING.len() + 2 {
                self.text.push(*byte);
            }
            self.column += 1;
            if *byte == b'\n' {
                self.pipelining |= self.text.trim_ascii_end().eq_ignore_ascii_case(PIPELINING);
                self.text.clear();
                self.awaited -= u32::from(!self.goes_on);
                self.column = 0;
                self.goes_on = false;
            }
        }
        bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_offers_is_heard_in_a_line_of_its_own() {
        for (said, offers) in [
            ("250-mail\r\n250-PIPELINING\r\n250 8BITMIME\r\n", true),
            ("250-mail\r\n250 pipelining\r\n", true),
            ("250 mail\r\n", false),
            ("250-PIPELINING is off\r\n250 NOPIPELINING\r\n", false),
        ] {
            for piece in [1, 3, said.len()] {
                let mut turns = Turns { awaited: 1, ..Turns::default() };
                for bytes in said.as_bytes().chunks(piece) {
                    turns.hear(bytes);
                }
                assert_eq!(turns.pipelining, offers, "{said:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn what_was_not_asked_for_is_not_heard() {
        for (awaited, said, heard) in [
            (1, "250 ok\r\n", 8),
            (1, "250-a\r\n250-b\r\n250 c\r\n", 21),
            (1, "250 ok\r\n250 me too\r\n", 8),
            (2, "250 ok\r\n250 me too\r\n", 20),
            (0, "421 bye\r\n", 0),
            (1, "250\r\nx", 5),
            (1, "\r\nx", 2),
        ] {
            for piece in 1..=said.len() {
                let mut turns = Turns { awaited, ..Turns::default() };
                let mut total = 0;
                for bytes in said.as_bytes().chunks(piece) {
                    let in_turn = turns.hear(bytes);
                    total += in_turn;
                    if in_turn < bytes.len() {
                        break;
                    }
                }
                assert_eq!(total, heard, "{said:?} in pieces of {piece}");
            }
        }
    }
}
