//! Mail into files: one `.eml` a message, and one line of JSON a message. For demos, tests and other programs.
//!
//! Not supported: taking files away again, and sync to disk: what the operating system holds is written when it pleases.

mod exchange;
mod settings;

use std::path::PathBuf;

use connector::{
    Built, Connector, Exchange, Idempotency, Item, Kind, Reach, SettingsMistake, read_settings, schema_of,
};
use model::Channel;
use model::settings::ConnectorSettings;

pub use self::settings::{Format, Settings};

/// Mail into files.
pub const KIND: Kind = Kind {
    name: "file",
    channel: Channel::Email,
    // The `.eml` of a repeat replaces itself; its line is looked for and left alone.
    idempotency: Idempotency::Natural,
    summary: "Mail into files: one .eml and one line of JSON a message, to look at or to hand on.",
    example: settings::EXAMPLE,
    schema: schema_of::<Settings>,
    build,
};

/// Files are written one after the other; more than one conversation lets last looks be taken together.
const CONNECTIONS: usize = 16;

#[derive(Debug)]
struct Files {
    folder: PathBuf,
    format: Format,
}

impl Connector for Files {
    fn exchange(&self, item: &Item) -> Box<dyn Exchange> {
        exchange::exchange(&self.folder, self.format, item)
    }

    fn reach(&self) -> Reach {
        Reach::Local
    }

    fn connections(&self) -> usize {
        CONNECTIONS
    }
}

fn build(settings: &ConnectorSettings) -> Built {
    let settings: Settings = read_settings(&KIND, settings)?;
    if settings.path.is_empty() || settings.path.contains('\0') {
        return Err(vec![SettingsMistake::new("path", "expected the path of a folder, such as `outbox`")]);
    }
    Ok(Box::new(Files { folder: PathBuf::from(settings.path), format: settings.format }))
}
