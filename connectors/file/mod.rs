//! Mail into files: one `.eml` a message, and one line of JSON a message; audiences and records into files, one line a change. For demos, tests
//! and other programs.
//!
//! Not supported: taking files away again, and sync to disk: what the operating system holds is written when it pleases.

mod exchange;
mod settings;

use std::path::PathBuf;

use connector::{
    AudienceKind, Audiences, Built, Change, Changed, Connector, Described, Exchange, Idempotency, Identifier,
    Item, Kind, Member, Object, Opened, Reach, RecordKind, Records, SettingsMistake, Write, Wrote,
    read_settings, schema_of, settled,
};
use jiff::Timestamp;
use model::Channel;
use model::profile::Profile;
use model::settings::ConnectorSettings;

pub use self::settings::{Format, Settings};
use crate::crm::written_only;
use crate::identifiers;

/// Mail into files.
pub const KIND: Kind = Kind {
    name: "file",
    messages: Some(Channel::Email),
    // The `.eml` of a repeat replaces itself; its line is looked for and left alone.
    idempotency: Idempotency::Natural,
    audiences: Some(AudienceKind {
        identifiers: &[
            Identifier { column: "id", normaliser: "as it is/1", is_hashed: false },
            Identifier { column: "email", normaliser: "lower case/1", is_hashed: false },
        ],
        members_max: 1_000,
        bytes_max: 1024 * 1024,
        people_min: 0,
        renew_after: None,
    }),
    records: Some(RecordKind { rows_max: 1_000, reads: false }),
    summary: "Mail, audiences and records into files, to look at or to hand on.",
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

    fn audiences(&self) -> Option<&dyn Audiences> {
        Some(self)
    }

    fn records(&self) -> Option<&dyn Records> {
        Some(self)
    }

    fn reach(&self) -> Reach {
        Reach::Local
    }

    fn connections(&self) -> usize {
        CONNECTIONS
    }
}

impl Audiences for Files {
    fn member(&self, profile: &Profile) -> Option<Member> {
        identifiers::columns(profile, &identifiers::default_columns())
    }

    fn open(&self, name: &str, _at: Timestamp) -> Box<dyn Exchange<Opened>> {
        settled(Opened::Found { id: name.to_owned() })
    }

    fn change(&self, change: &Change) -> Box<dyn Exchange<Changed>> {
        exchange::change(&self.folder, change)
    }
}

impl Records for Files {
    fn describe(&self, object: &Object, _at: Timestamp) -> Box<dyn Exchange<Described>> {
        settled(written_only(object))
    }

    fn write(&self, write: &Write) -> Box<dyn Exchange<Wrote>> {
        exchange::write(&self.folder, write)
    }
}

fn build(settings: &ConnectorSettings) -> Built {
    let settings: Settings = read_settings(&KIND, settings)?;
    if settings.path.is_empty() || settings.path.contains('\0') {
        return Err(vec![SettingsMistake::new("path", "expected the path of a folder, such as `outbox`")]);
    }
    Ok(Box::new(Files { folder: PathBuf::from(settings.path), format: settings.format }))
}
