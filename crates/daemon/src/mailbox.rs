//! Mailboxes: mail that comes back into the folders (maildirs) of destinations, heard as what a provider tells over HTTP is, and put aside once it
//! is written. Who reads a mail twice hears it once.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use connector::feedback::Inbound;
use jiff::Timestamp;
use model::DestinationName;

use crate::daemon::{Carrier, Daemon, DaemonError};
use crate::feedback::{Heard, hear};

/// Mail that is read at once from one mailbox.
const AT_ONCE: usize = 200;
/// Of a mail, so much is read.
const MAIL_BYTES_MAX: u64 = 1 << 20;

/// Reads what arrived; gives what kept it from being read, for people.
pub async fn read_all(daemon: &Daemon, now: Timestamp) -> Result<Vec<String>, DaemonError> {
    let mut wrong = Vec::new();
    for (destination, carrier) in &daemon.carriers {
        let Carrier::Driver(driver) = carrier else { continue };
        let Some(folder) = driver.mailbox() else { continue };
        let listed = folder.clone();
        let names = blocking(move || arrived(&listed)).await?;
        let names = match names {
            Ok(names) => names,
            Err(error) => {
                wrong.push(format!(
                    "the mailbox {} of `{destination}` cannot be read: {error}",
                    folder.display()
                ));
                continue;
            }
        };
        for name in names {
            if let Err(error) = read_one(daemon, destination, &folder, &name, now).await? {
                wrong.push(format!(
                    "a mail in the mailbox {} of `{destination}` cannot be read, or put aside: {error}",
                    folder.display()
                ));
                break;
            }
        }
    }
    Ok(wrong)
}

async fn read_one(
    daemon: &Daemon,
    destination: &DestinationName,
    folder: &Path,
    name: &str,
    now: Timestamp,
) -> Result<io::Result<()>, DaemonError> {
    let path = folder.join("new").join(name);
    let body = match blocking(move || beginning_of(&path)).await? {
        Ok(body) => body,
        // Another node was faster.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(())),
        Err(error) => return Ok(Err(error)),
    };
    let inbound = Inbound { headers: std::collections::BTreeMap::new(), body, at: now };
    match hear(daemon, destination, &inbound, now).await? {
        Heard::Told { told, new } => {
            tracing::debug!(%destination, told, new, "Read a mail that came back to `{destination}`.");
        }
        // What is no mail, or nothing to us, is not looked at again.
        Heard::Nobody | Heard::Forged | Heard::Garbled | Heard::NotNow => {}
    }
    model::fault::point("mailbox.before_aside");
    let (from, to) = (folder.join("new").join(name), folder.join("cur").join(seen(name)));
    blocking(move || fs::create_dir_all(to.parent().unwrap_or(&to)).and_then(|()| fs::rename(from, &to)))
        .await
}

/// The name of a mail that was read: `S`, as every maildir has it.
fn seen(name: &str) -> String {
    format!("{}:2,S", name.split(':').next().unwrap_or(name))
}

/// The names of what arrived, oldest first, as far as names say so.
fn arrived(folder: &Path) -> io::Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(folder.join("new"))?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
            let name = entry.file_name().into_string().ok()?;
            (is_file && !name.starts_with('.')).then_some(name)
        })
        .collect();
    names.sort();
    names.truncate(AT_ONCE);
    Ok(names)
}

fn beginning_of(path: &PathBuf) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAIL_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

async fn blocking<T: Send + 'static>(
    does: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<io::Result<T>, DaemonError> {
    tokio::task::spawn_blocking(does).await.map_err(DaemonError::Task)
}
