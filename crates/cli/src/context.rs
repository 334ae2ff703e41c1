//! What every command needs: the project, its state, the time, and how to print.

use std::path::PathBuf;
use std::sync::Arc;

use daemon::Daemon;
use daemon::clock::Clock;
use jiff::Timestamp;
use model::{PlaybookName, ProfileNumber, SegmentName};
use project::{Can, KnownConnector, Project, Reading};
use state::{Access, Keys, State, Tx};

use crate::args::Cli;
use crate::failure::{Failure, code};
use crate::print::{Printer, say};

/// What every command needs.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) dir: PathBuf,
    pub(crate) environment: Option<String>,
    pub(crate) printer: Printer,
    now: Option<Timestamp>,
}

/// A variable of the environment.
#[expect(
    clippy::disallowed_methods,
    reason = "the command line and the secrets of a project's files are read from the environment"
)]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl Context {
    pub(crate) fn new(cli: &Cli) -> Self {
        let no_color = variable("NO_COLOR").is_some_and(|value| !value.is_empty())
            || variable("TERM").as_deref() == Some("dumb");
        Self {
            dir: cli.dir.clone(),
            environment: cli.env.clone().filter(|name| !name.is_empty()),
            printer: Printer::new(cli.output, no_color),
            now: cli.now,
        }
    }

    /// The same for another folder.
    pub(crate) fn in_folder(&self, dir: PathBuf) -> Self {
        Self { dir, ..self.clone() }
    }

    /// The same in another environment, or in none.
    pub(crate) fn in_environment(&self, environment: Option<String>) -> Self {
        Self { environment, ..self.clone() }
    }

    /// The project, checked; its warnings are said.
    pub(crate) fn project(&self) -> Result<Arc<Project>, Failure> {
        let Reading { project, found, .. } = self.read()?;
        let text = found.render(self.printer.color());
        match project {
            Some(project) if !found.has_mistakes() => {
                say(&text);
                Ok(Arc::new(project))
            }
            _ => Err(Failure::new(text.trim_end()).with_code(code::CONFIGURATION)),
        }
    }

    /// What could be read of the project, with all that is to be said of it.
    pub(crate) fn read(&self) -> Result<Reading, Failure> {
        if !self.dir.is_dir() {
            return Err(Failure::new(format!("there is no folder {}", self.dir.display()))
                .with_code(code::CONFIGURATION));
        }
        let reading = project::read(&self.dir, self.environment.as_deref(), &known_connectors(), &variable);
        let production = reading.project.as_ref().is_some_and(|project| project.settings.production);
        if self.now.is_some() && production {
            return Err(Failure::new("`--now` is refused in production").with_code(code::CONFIGURATION));
        }
        Ok(reading)
    }

    /// Campaign time: shifted where `--now` says so.
    pub(crate) fn clock(&self) -> Clock {
        self.now.map_or_else(Clock::system, Clock::showing)
    }

    /// The time of this command: to the millisecond what `--now` says, so that saying it again is the same time again.
    pub(crate) fn now(&self) -> Timestamp {
        self.now.unwrap_or_else(|| Clock::system().now())
    }

    /// The state, to be read; with a clear word where there is none yet.
    pub(crate) async fn state(&self, project: &Project) -> Result<State, Failure> {
        match State::open(&project.settings.state, &project.dir, Access::ReadOnly).await {
            Err(error) if error.is_missing() => {
                Err(Failure::new("there is no state yet: nothing has run")
                    .hint("`drumbeat run --once` makes it"))
            }
            opened => Ok(opened?),
        }
    }

    /// The state, to be changed by a person's act.
    pub(crate) async fn state_to_write(&self, project: &Project) -> Result<State, Failure> {
        let state = daemon::open::to_write(project).await?;
        self.refuse_going_back(&state).await?;
        Ok(state)
    }

    /// The keys, made where there are none.
    pub(crate) async fn keys(&self, project: &Project, state: &State) -> Result<Keys, Failure> {
        Ok(daemon::open::keys(project, state, self.now()).await?)
    }

    /// Everything, for a process that decides and delivers.
    pub(crate) async fn daemon(&self, project: Arc<Project>) -> Result<Daemon, Failure> {
        let daemon = daemon::open::daemon(project, connectors::ALL, &node_name(), self.now()).await?;
        self.refuse_going_back(&daemon.state).await?;
        Ok(daemon)
    }

    /// Everything, for a process that only looks: nothing can be sent, and nothing is written.
    pub(crate) async fn looking(&self, project: Arc<Project>) -> Result<Daemon, Failure> {
        let state = self.state(&project).await?;
        let keys = daemon::open::keys_read_only(&project, &state)
            .await?
            .ok_or_else(|| Failure::new("this state has no keys yet: nothing has run"))?;
        let source = daemon::open::source(&project).await?;
        Ok(Daemon::new(
            project,
            state,
            source,
            Arc::new(keys),
            Default::default(),
            state::Node::alone("looking"),
        ))
    }

    /// Everything, for a process that shows a message: before the first run, on a state that is made up and forgotten.
    pub(crate) async fn previewing(&self, project: Arc<Project>) -> Result<Daemon, Failure> {
        match self.state(&project).await {
            Ok(_) => self.looking(project).await,
            Err(_) => {
                let scratch = State::scratch(None).await?;
                let keys = forgotten_keys(&scratch, self.now()).await?;
                let source = daemon::open::source(&project).await?;
                Ok(Daemon::new(
                    project,
                    scratch,
                    source,
                    Arc::new(keys),
                    Default::default(),
                    state::Node::alone("looking"),
                ))
            }
        }
    }

    /// A daemon that foretells: with a copy of the state that is thrown away, which is given besides.
    pub(crate) async fn foreseeing(
        &self,
        project: Arc<Project>,
        now: Timestamp,
    ) -> Result<(Daemon, State), Failure> {
        let source = daemon::open::source(&project).await?;
        let opened = State::open(&project.settings.state, &project.dir, Access::ReadOnly).await;
        let (state, keys) = match opened {
            Ok(state) => {
                let keys = daemon::open::keys_read_only(&project, &state).await?;
                (Some(state), keys)
            }
            Err(error) if error.is_missing() => (None, None),
            Err(error) => return Err(error.into()),
        };
        let scratch = State::scratch(state.as_ref()).await?;
        let keys = match keys {
            Some(keys) => keys,
            None => forgotten_keys(&scratch, now).await?,
        };
        let carriers = daemon::open::carriers(&project, connectors::ALL)?;
        let daemon = Daemon::new(
            project,
            scratch.clone(),
            source,
            Arc::new(keys),
            carriers,
            state::Node::alone("plan"),
        );
        Ok((daemon, scratch))
    }

    /// Says where nobody in the warehouse has an id that was typed. What was asked is done all the same: an opt-out is never
    /// refused, and a person may be gone from the warehouse already. A warehouse that cannot be asked is no reason to fail either.
    pub(crate) async fn warn_of_stranger(&self, project: &Project, id: &str) {
        let found = async {
            let mut view = daemon::open::source(project).await?.view(self.now()).await?;
            let found = view.profiles(&project.data.profiles, std::slice::from_ref(&id.to_owned())).await;
            view.close().await;
            Ok::<bool, Failure>(found?.contains_key(id))
        };
        let id = crate::print::printable(id);
        match found.await {
            Ok(true) => {}
            Ok(false) => say(&format!(
                "warning: nobody in the warehouse has the id `{id}`; ids are those of the profiles query"
            )),
            Err(failure) => say(&format!(
                "warning: whether somebody in the warehouse has the id `{id}` could not be asked: {}",
                failure.text
            )),
        }
    }

    async fn refuse_going_back(&self, state: &State) -> Result<(), Failure> {
        let Some(now) = self.now else { return Ok(()) };
        let mut tx = state.read().await?;
        let last = state::meta::get(&mut tx, daemon::run::LAST_TICK).await?;
        let last = last.and_then(|text| Timestamp::from_millisecond(text.parse().ok()?).ok());
        match last {
            // The daemon's clock goes on from the time it was told: the same `--now` again is not earlier.
            Some(last) if now.as_second() < last.as_second() => {
                Err(Failure::new(format!("`--now {now}` lies before the last run in this state, which was at {last}"))
                    .hint("a state only goes forward; use another one (`state:` in drumbeat.yml) to play at an earlier time"))
            }
            _ => Ok(()),
        }
    }
}

/// Keys where nothing ran yet: they are forgotten with the state that is made up.
async fn forgotten_keys(scratch: &State, now: Timestamp) -> Result<Keys, Failure> {
    let mut tx = scratch.write().await?;
    let keys = Keys::load_or_create(&mut tx, &state::RootKey::generate()?, now).await?;
    tx.commit().await?;
    Ok(keys)
}

/// The connectors of this build, as the project room wants them.
pub(crate) fn known_connectors() -> Vec<KnownConnector> {
    connectors::ALL
        .iter()
        .map(|kind| KnownConnector {
            name: kind.name,
            can: Can {
                messages: kind.messages,
                audiences: kind.audiences.is_some(),
                records: kind.records.map(|records| records.reads),
            },
            schema: kind.schema,
            check: Box::new(|settings| match (kind.build)(settings) {
                Ok(_) => Vec::new(),
                Err(mistakes) => mistakes.into_iter().map(|mistake| (mistake.key, mistake.message)).collect(),
            }),
        })
        .collect()
}

/// The person of an id, who must have been seen.
pub(crate) async fn known_profile(tx: &mut Tx, id: &str) -> Result<ProfileNumber, Failure> {
    let found = state::profile::numbers_of(tx, &[id.to_owned()]).await?.into_iter().next().flatten();
    found.ok_or_else(|| {
        Failure::new(format!("nobody with the id `{}` was ever seen", crate::print::printable(id)))
            .hint("ids are those of the warehouse's profiles query; a person is seen when a segment or the consent query names them")
    })
}

/// A playbook of the project.
pub(crate) fn known_playbook(project: &Project, name: &str) -> Result<PlaybookName, Failure> {
    let bare = name.strip_prefix("playbook.").unwrap_or(name);
    project.playbooks.keys().find(|known| known.as_str() == bare).cloned().ok_or_else(|| {
        let names: Vec<&str> = project.playbooks.keys().map(PlaybookName::as_str).collect();
        Failure::new(format!("there is no playbook `{bare}`"))
            .hint(format!("there are: {}", names.join(", ")))
    })
}

/// A segment of the project.
pub(crate) fn known_segment(project: &Project, name: &str) -> Result<SegmentName, Failure> {
    let bare = name.strip_prefix("segment.").unwrap_or(name);
    project.segments.keys().find(|known| known.as_str() == bare).cloned().ok_or_else(|| {
        let names: Vec<&str> = project.segments.keys().map(SegmentName::as_str).collect();
        Failure::new(format!("there is no segment `{bare}`")).hint(format!("there are: {}", names.join(", ")))
    })
}

/// A sync of the project.
pub(crate) fn known_sync<'a>(project: &'a Project, name: &str) -> Result<&'a model::sync::Sync, Failure> {
    let bare = name.strip_prefix("sync.").unwrap_or(name);
    project.syncs.values().find(|known| known.name.as_str() == bare).ok_or_else(|| {
        let names: Vec<&str> = project.syncs.keys().map(model::SyncName::as_str).collect();
        Failure::new(format!("there is no sync `{bare}`")).hint(match &names[..] {
            [] => "syncs are files in syncs/".to_owned(),
            names => format!("there are: {}", names.join(", ")),
        })
    })
}

/// Who types: for the log of operators' acts.
pub(crate) fn actor() -> String {
    variable("DRUMBEAT_ACTOR")
        .or_else(|| variable("USER"))
        .or_else(|| variable("LOGNAME"))
        .unwrap_or_else(|| "operator".to_owned())
}

/// What this process is called among those who deliver on a state.
pub(crate) fn node_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "node".to_owned(), |name| name.trim().to_owned());
    format!("{host}-{}", std::process::id())
}
