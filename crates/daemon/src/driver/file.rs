//! Files: whole ones replaced at once, lines appended once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use connector::{Failure, FilePut, FileRequest, Reply, Said};

use super::{Armed, Limits};

/// Writes the files of one destination.
pub(super) struct Files {
    limits: Limits,
    project_dir: PathBuf,
    /// Lines are appended one at a time.
    appending: Arc<Mutex<()>>,
}

impl Files {
    pub(super) fn new(limits: Limits, project_dir: &Path) -> Self {
        Self { limits, project_dir: project_dir.to_owned(), appending: Arc::default() }
    }

    /// A path of the settings.
    pub(super) fn absolute(&self, path: &Path) -> PathBuf {
        self.project_dir.join(path)
    }

    pub(super) async fn call<A: Into<Armed>>(
        &self,
        request: &FileRequest,
        arm: impl AsyncFnOnce() -> A,
    ) -> Reply {
        match arm().await.into() {
            Armed::No => return Reply::NotArmed,
            Armed::At(at) if at.elapsed() > self.limits.arm => {
                return failed(false, Failure::ArmExpired, "too long between the last look and writing");
            }
            Armed::At(_) => {}
        }
        let folder = self.project_dir.join(&request.folder);
        let (puts, appending) = (request.puts.clone(), Arc::clone(&self.appending));
        let written = tokio::task::spawn_blocking(move || write(&folder, &puts, &appending)).await;
        written.unwrap_or_else(|_| failed(true, Failure::Io, "the write was broken off"))
    }
}

fn failed(handed_over: bool, kind: Failure, text: &str) -> Reply {
    Reply::Failed { handed_over, kind, text: Said::of(text) }
}

fn write(folder: &Path, puts: &[FilePut], appending: &Mutex<()>) -> Reply {
    if let Err(error) = fs::create_dir_all(folder) {
        return failed(
            false,
            kind_of(&error),
            &format!("cannot make the folder {}: {error}", folder.display()),
        );
    }
    for (done, put) in puts.iter().enumerate() {
        let (name, result) = match put {
            FilePut::Whole { name, bytes } => (name, write_whole(folder, name, bytes)),
            FilePut::Line { name, line, unless_begins } => {
                // Somebody panicked while appending: the file itself is as good as after a crash.
                let _one_at_a_time = appending.lock().unwrap_or_else(PoisonError::into_inner);
                (name, append(folder, name, line, unless_begins.as_deref()))
            }
        };
        if let Err(error) = result {
            return failed(
                done > 0,
                kind_of(&error),
                &format!("cannot write {}: {error}", folder.join(name).display()),
            );
        }
    }
    Reply::Wrote
}

fn kind_of(error: &io::Error) -> Failure {
    match error.kind() {
        ErrorKind::PermissionDenied
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::NotADirectory
        | ErrorKind::AlreadyExists => Failure::Refused,
        _ => Failure::Io,
    }
}

/// A connector names files, not paths.
fn checked(folder: &Path, name: &str) -> io::Result<PathBuf> {
    let path = Path::new(name);
    if path.file_name().is_some_and(|file_name| file_name == path.as_os_str()) {
        Ok(folder.join(name))
    } else {
        Err(io::Error::new(ErrorKind::InvalidInput, "not a plain file name"))
    }
}

/// Beside it first, then in its place: nobody sees half a file.
fn write_whole(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let path = checked(folder, name)?;
    let beside = folder.join(format!(".{name}.part"));
    fs::write(&beside, bytes)?;
    fs::rename(&beside, &path)
}

fn append(folder: &Path, name: &str, line: &str, unless_begins: Option<&str>) -> io::Result<()> {
    let path = checked(folder, name)?;
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
    if let Some(start) = unless_begins
        && has_line(&file, start)?
    {
        return Ok(());
    }
    let length = file.metadata()?.len();
    // A line that a crash cut short ends here, so that ours is a line of its own.
    let break_before = if length > 0 && last_byte(&mut file)? != b'\n' { "\n" } else { "" };
    file.write_all(format!("{break_before}{line}\n").as_bytes()).inspect_err(|_| {
        // Best effort: what the disk did not take whole is taken back.
        drop(file.set_len(length));
    })
}

fn has_line(file: &File, start: &str) -> io::Result<bool> {
    let mut reader = BufReader::new(file);
    reader.seek(SeekFrom::Start(0))?;
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        // A line without an end was cut short by a crash, and does not count.
        if line.starts_with(start.as_bytes()) && line.ends_with(b"\n") {
            return Ok(true);
        }
        line.clear();
    }
    Ok(false)
}

fn last_byte(file: &mut File) -> io::Result<u8> {
    file.seek(SeekFrom::End(-1))?;
    let mut byte = [0];
    file.read_exact(&mut byte)?;
    Ok(byte[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str, unless_begins: Option<&str>) -> FilePut {
        FilePut::Line {
            name: "log.jsonl".to_owned(),
            line: text.to_owned(),
            unless_begins: unless_begins.map(str::to_owned),
        }
    }

    fn whole(name: &str, text: &str) -> FilePut {
        FilePut::Whole { name: name.to_owned(), bytes: Arc::from(text.as_bytes()) }
    }

    #[test]
    fn a_repeat_replaces_the_file_and_leaves_the_line_alone() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        let lock = Mutex::default();
        for (text, unless) in [("one", None), ("two", Some("{\"id\":1,"))] {
            let puts = [whole("x.eml", text), line(&format!("{{\"id\":1,\"text\":\"{text}\"}}"), unless)];
            assert_eq!(write(&inner, &puts, &lock), Reply::Wrote);
        }
        assert_eq!(fs::read_to_string(inner.join("x.eml")).unwrap(), "two");
        assert_eq!(fs::read_to_string(inner.join("log.jsonl")).unwrap(), "{\"id\":1,\"text\":\"one\"}\n");
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 2);
    }

    #[test]
    fn a_line_cut_short_by_a_crash_is_ended_and_written_again() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("log.jsonl"), "{\"id\":0}\n{\"id\":1,\"te").unwrap();
        assert_eq!(
            write(folder.path(), &[line("{\"id\":1,\"text\":1}", Some("{\"id\":1,"))], &Mutex::default()),
            Reply::Wrote
        );
        let text = fs::read_to_string(folder.path().join("log.jsonl")).unwrap();
        assert_eq!(text, "{\"id\":0}\n{\"id\":1,\"te\n{\"id\":1,\"text\":1}\n");
    }

    #[test]
    fn a_connector_cannot_leave_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["../x", "/tmp/x", "a/b", "", ".", ".."] {
            let reply = write(folder.path(), &[whole(name, "x")], &Mutex::default());
            assert!(
                matches!(reply, Reply::Failed { handed_over: false, kind: Failure::Io, .. }),
                "{name}: {reply:?}"
            );
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_a_refusal() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "x").unwrap();
        let reply = write(&folder.path().join("file/inner"), &[whole("x", "x")], &Mutex::default());
        assert!(
            matches!(reply, Reply::Failed { handed_over: false, kind: Failure::Refused, .. }),
            "{reply:?}"
        );
    }
}
