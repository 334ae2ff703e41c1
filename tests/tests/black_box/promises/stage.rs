//! What a run plays on: a project in a folder of its own, and its state, in a file or in a database of its own.

use crate::postgres::Cluster;
use crate::support::{DATA, Folder, POLICY, SEGMENT, SETTINGS, TEMPLATE, warehouse_sql};

pub const CONNECTIONS: u64 = 4;

/// Where state is.
pub enum Store {
    Sqlite,
    Postgres(Box<Cluster>),
}

impl Store {
    pub fn sqlite() -> Option<Self> {
        Some(Self::Sqlite)
    }

    /// `None`: there is no Postgres, which is said.
    pub fn postgres() -> Option<Self> {
        let cluster = Cluster::start()?;
        cluster.psql("postgres", "create database template_state;");
        project(&cluster.url("template_state"), 1, 0).run(&["migrate"]).code(0);
        Some(Self::Postgres(Box::new(cluster)))
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres(_) => "Postgres",
        }
    }
}

pub struct Stage<'a> {
    pub folder: Folder,
    /// A database to be dropped.
    database: Option<(&'a Cluster, String)>,
}

/// A project whose mail goes to that port.
fn project(state: &str, port: u16, people: usize) -> Folder {
    let folder = Folder::empty();
    let settings = SETTINGS.replace("sqlite://state.db", &format!("\"{state}\""));
    let mail =
        format!("{{connector: smtp, host: 127.0.0.1, port: {port}, tls: none, connections: {CONNECTIONS}}}");
    folder
        .write("drumbeat.yml", &format!("{settings}destinations:\n  mail: {mail}\n"))
        .write("data.yml", DATA)
        .write("policy.yml", POLICY)
        .write("segments/everybody.yml", SEGMENT)
        .write(
            "playbooks/hello.yml",
            "title: Hello\nowner: o@shop.test\nwhy: \"Test.\"\nenter: segment.everybody\nbackfill: all\npurpose: offers\n\
             steps:\n  - {id: hello, send: hello}\n",
        )
        .write("templates/hello.mjml", TEMPLATE);
    folder.sql("warehouse.db", &warehouse_sql(people));
    folder
}

impl<'a> Stage<'a> {
    pub fn set(store: &'a Store, seed: u64, port: u16, people: usize) -> Self {
        match store {
            Store::Sqlite => Self { folder: project("sqlite://state.db", port, people), database: None },
            Store::Postgres(cluster) => {
                let name = format!("state_{seed}");
                cluster.psql("postgres", &format!("create database {name} template template_state;"));
                Self { folder: project(&cluster.url(&name), port, people), database: Some((cluster, name)) }
            }
        }
    }
}

impl Stage<'_> {
    /// Messages go to a receiver of webhooks instead.
    pub fn to_hook(&self, port: u16) {
        let settings = self.folder.read("drumbeat.yml");
        let before = settings.lines().find(|line| line.starts_with("  mail: ")).unwrap();
        let hook = format!(
            "  mail: {{connector: webhook, url: \"http://127.0.0.1:{port}/\", secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw, connections: {CONNECTIONS}}}"
        );
        self.folder.write("drumbeat.yml", &settings.replace(before, &hook));
    }

    pub fn is_postgres(&self) -> bool {
        self.database.is_some()
    }

    /// Where its database in Postgres is.
    pub fn url(&self) -> String {
        self.database.as_ref().map_or_else(String::new, |(cluster, name)| cluster.url(name))
    }

    /// The port of its Postgres.
    pub fn port(&self) -> u16 {
        self.database.as_ref().map_or(0, |(cluster, _)| cluster.port)
    }

    /// Asks its database in Postgres.
    pub fn psql(&self, sql: &str) -> String {
        self.database.as_ref().map_or_else(String::new, |(cluster, name)| cluster.psql(name, sql))
    }

    /// Asks its state, wherever it is.
    pub fn ask(&self, sql: &str) -> String {
        if self.database.is_some() { self.psql(sql) } else { self.folder.sql("state.db", sql) }
    }

    /// Its Postgres loses whatever it had only in memory, and starts again.
    pub fn crash_postgres(&self) {
        if let Some((cluster, _)) = &self.database {
            cluster.crash();
        }
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        if let Some((cluster, name)) = &self.database {
            cluster.psql("postgres", &format!("drop database if exists {name} with (force);"));
        }
    }
}
