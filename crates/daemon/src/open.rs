//! Opens what a project's files name: state, warehouse, keys, destinations.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use connector::Kind;
use jiff::Timestamp;
use project::Project;
use state::{Access, Keys, RootKey, State, StateError};
use warehouse::{Warehouse, WarehouseError};

use crate::daemon::{Carrier, Daemon};
use crate::driver::Driver;
use crate::source::Source;

/// Why a project cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The state database.
    #[error(transparent)]
    State(#[from] StateError),
    /// The warehouse.
    #[error(transparent)]
    Warehouse(#[from] WarehouseError),
    /// A production project without its root key.
    #[error(
        "production refuses to start without `keys: {{root: ...}}`: 32 bytes in base64, for example from `openssl rand -base64 32`"
    )]
    NoRootKey,
    /// The file with the root key.
    #[error("cannot read or write the root key in {path}")]
    KeyFile {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A destination whose settings its connector refuses, or whose connector is not in this build.
    #[error("destination `{name}`: {why}")]
    Destination {
        /// Which.
        name: model::DestinationName,
        /// What is wrong.
        why: String,
    },
}

/// Opens everything for a process that decides and delivers.
pub async fn daemon(
    project: Arc<Project>,
    kinds: &[&'static Kind],
    node: &str,
    now: Timestamp,
) -> Result<Daemon, OpenError> {
    let state = to_write(&project).await?;
    // Before anything else is touched: an SQLite state has one node at a time.
    let node = state.join(node).await?;
    let keys = keys(&project, &state, now).await?;
    let source = source(&project).await?;
    let carriers = carriers(&project, kinds)?;
    Ok(Daemon::new(project, state, source, Arc::new(keys), carriers, node).minding_its_disk())
}

/// Opens the state, to be changed; what is done is kept in the journal.
pub async fn to_write(project: &Project) -> Result<State, StateError> {
    let state = State::open(&project.settings.state, &project.dir, Access::Create).await?;
    let folder = match &project.settings.journal {
        Some(folder) => project.dir.join(folder),
        None => {
            let beside = state.folder().map_or_else(|| project.dir.join(".drumbeat"), Path::to_owned);
            beside.join("journal")
        }
    };
    Ok(state.journaling_in(folder))
}

/// Opens the warehouse.
pub async fn source(project: &Project) -> Result<Source, OpenError> {
    let settings = &project.settings;
    let warehouse = Warehouse::open(&settings.warehouse, &project.dir, &settings.timezone).await?;
    Ok(Source::Warehouse(Arc::new(warehouse)))
}

/// Makes the destinations ready; nothing is connected yet.
pub fn carriers(
    project: &Project,
    kinds: &[&'static Kind],
) -> Result<BTreeMap<model::DestinationName, Carrier>, OpenError> {
    let mut carriers = BTreeMap::new();
    for (name, destination) in &project.settings.destinations {
        let error = |why: String| OpenError::Destination { name: name.clone(), why };
        let kind = kinds.iter().find(|kind| kind.name == destination.connector).ok_or_else(|| {
            error(format!("there is no connector `{}` in this build", destination.connector))
        })?;
        let connector = (kind.build)(&destination.settings).map_err(|mistakes| {
            let all: Vec<String> =
                mistakes.iter().map(|mistake| format!("{}: {}", mistake.key, mistake.message)).collect();
            error(all.join("; "))
        })?;
        let driver = Driver::new(
            destination,
            connector,
            kind,
            project.settings.deliver,
            &project.settings.colleagues,
            &project.dir,
        );
        carriers.insert(name.clone(), Carrier::Driver(Arc::new(driver)));
    }
    Ok(carriers)
}

/// Opens the project's keys, made the first time.
pub async fn keys(project: &Project, state: &State, now: Timestamp) -> Result<Keys, OpenError> {
    let root = root_key(project)?;
    let mut tx = state.write().await?;
    let keys = Keys::load_or_create(&mut tx, &root, now).await?;
    tx.commit().await?;
    Ok(keys)
}

/// Opens the project's keys for a process that writes nothing; a new project's are made up and forgotten.
pub async fn keys_read_only(project: &Project, state: &State) -> Result<Option<Keys>, OpenError> {
    let mut tx = state.read().await?;
    let path = key_path(&project.dir);
    if project.settings.root_key.is_none() && !path.exists() {
        return Ok(None);
    }
    Ok(Keys::load(&mut tx, &root_key(project)?).await?)
}

fn key_path(dir: &Path) -> PathBuf {
    dir.join(".drumbeat").join("key")
}

/// The root key: as the project gives it, or outside production the file made once beside the state.
fn root_key(project: &Project) -> Result<RootKey, OpenError> {
    if let Some(given) = &project.settings.root_key {
        return Ok(RootKey::parse(given.reveal())?);
    }
    if project.settings.production {
        return Err(OpenError::NoRootKey);
    }
    let path = key_path(&project.dir);
    let error = |source| OpenError::KeyFile { path: path.clone(), source };
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(RootKey::parse(text.trim())?),
        Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => {
            let root = RootKey::generate()?;
            std::fs::create_dir_all(path.parent().unwrap_or(&project.dir)).map_err(error)?;
            match write_private(&path, &root.reveal()) {
                Ok(()) => Ok(root),
                // Another process was quicker.
                Err(there) if there.kind() == std::io::ErrorKind::AlreadyExists => {
                    let text = std::fs::read_to_string(&path).map_err(error)?;
                    Ok(RootKey::parse(text.trim())?)
                }
                Err(other) => Err(error(other)),
            }
        }
        Err(other) => Err(error(other)),
    }
}

/// Makes a file that only its owner may read, and that was not there before: whole, or not at all.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let made = path.with_added_extension(std::process::id().to_string());
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options.open(&made)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    let linked = std::fs::hard_link(&made, path);
    std::fs::remove_file(&made)?;
    linked
}
