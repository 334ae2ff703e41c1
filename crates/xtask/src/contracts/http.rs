//! HTTP/1.1 to a server on this machine: a request a connection.
//!
//! Absent: TLS, other hosts, redirects, and answers in chunks, which none of these servers gives.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// How long a server may take over one answer: its first may cost it a second, on a machine that may be busy.
const ANSWERING_MAX: Duration = Duration::from_secs(60);

/// What came back.
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Answer {
    /// What a header says, its name in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, text)| text.as_str())
    }
}

/// Sends a request, and waits for its answer.
///
/// # Errors
/// The server is not there, or does not answer as it should.
pub(super) fn send(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Answer> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n");
    for (name, text) in headers {
        head += &format!("{name}: {text}\r\n");
    }
    if !body.is_empty() {
        head += &format!("content-length: {}\r\n", body.len());
    }
    head += "\r\n";
    let mut bytes = Vec::new();
    let mut exchange = || -> std::io::Result<()> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(ANSWERING_MAX))?;
        stream.write_all(&[head.as_bytes(), body].concat())?;
        stream.read_to_end(&mut bytes)?;
        Ok(())
    };
    exchange().with_context(|| format!("{method} {path}"))?;
    parse(&bytes).with_context(|| format!("the answer to {method} {path}"))
}

/// Reads an answer as it came.
///
/// # Errors
/// It is not one, or comes in chunks.
pub(super) fn parse(bytes: &[u8]) -> Result<Answer> {
    let text = std::str::from_utf8(bytes).context("is not text")?;
    let (head, body) = text.split_once("\r\n\r\n").context("has no end of its head")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("has no status")?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, text)| (name.to_ascii_lowercase(), text.trim().to_owned()))
        .collect();
    let answer = Answer { status: status.parse().context("has no status")?, headers, body: body.to_owned() };
    if answer.header("transfer-encoding").is_some() {
        bail!("comes in chunks");
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_status_headers_and_a_body() {
        let answer = parse(b"HTTP/1.1 422 No\r\nSL-Violations: [1:2]\r\nx: y\r\n\r\n{\r\n\r\n}").unwrap();
        assert_eq!(
            (answer.status, answer.header("sl-violations"), answer.body.as_str()),
            (422, Some("[1:2]"), "{\r\n\r\n}")
        );
        assert!(parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\n").is_err());
    }
}
