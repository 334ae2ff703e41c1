//! `demo`: a living example with a generated warehouse, run for real into files.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use model::id::bucket;
use serde_json::{Value, json};
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};

use crate::args::Demo;
use crate::context::Context;
use crate::failure::{Failure, code};
use crate::print::{say, shell_word};

macro_rules! saas {
    ($($file:literal)*) => { &[$(($file, include_str!(concat!("../../../../playbooks/saas/", $file))),)*] };
}

/// The files of `playbooks/saas`.
const FILES: &[(&str, &str)] = saas! {
    "README.md" "data.yml" "drumbeat.yml" "policy.yml"
    "playbooks/show_more.yml" "playbooks/vip_thanks.yml" "playbooks/welcome.yml" "playbooks/win_back.yml"
    "segments/at_risk.yml" "segments/at_risk_high_value.yml" "segments/high_value.yml" "segments/newcomers.yml" "segments/steady.yml"
    "templates/_footer.de.mjml" "templates/_footer.mjml" "templates/_layout.mjml" "templates/tips.mjml" "templates/vip_thanks.mjml"
    "templates/welcome.de.mjml" "templates/welcome.mjml" "templates/win_back_nudge.de.mjml" "templates/win_back_nudge.mjml"
    "templates/win_back_offer.mjml"
    "tests/welcome.yml" "tests/win_back.yml"
};

/// People in the generated warehouse.
const PEOPLE: u64 = 5_000;

/// Makes the example and runs it once; in a folder that has it already, runs it again.
pub(crate) async fn demo(context: &Context, args: &Demo) -> Result<u8, Failure> {
    let dir = &args.dir;
    let warehouse = dir.join("warehouse.db");
    if warehouse.exists() {
        say(&format!("{} is there already: running it once more", dir.display()));
    } else {
        if dir.exists() && std::fs::read_dir(dir)?.next().is_some() {
            return Err(Failure::new(format!("{} is not empty", dir.display()))
                .hint("name a folder that does not exist yet: `drumbeat demo NAME`"));
        }
        for (file, text) in FILES.iter().chain([&(".gitignore", super::init::GITIGNORE)]) {
            let path = dir.join(file);
            std::fs::create_dir_all(path.parent().unwrap_or(dir))?;
            std::fs::write(path, text)?;
        }
        // Made beside and moved, so that an interrupted demo begins anew.
        let made = dir.join("warehouse.db.new");
        if made.exists() {
            std::fs::remove_file(&made)?;
        }
        generate(&made, context.now()).await?;
        std::fs::rename(&made, &warehouse)?;
        say(&format!(
            "made {}: a project, and a warehouse of {PEOPLE} people who do not exist",
            dir.display()
        ));
    }
    let here = context.in_folder(dir.clone());
    let project = here.project()?;
    let daemon = std::sync::Arc::new(here.daemon(project).await?);
    let exit = super::run::once(&here, &daemon).await?;
    if !here.printer.for_programs() {
        let shown = shell_word(&dir.to_string_lossy());
        let somebody = first_sent(&daemon).await?.unwrap_or_else(|| "1".to_owned());
        say(&format!(
            "\nThe messages are in {}/outbox. Worth typing next:\n\
             \x20 drumbeat -C {shown} explain --profile {somebody} --playbook win_back\n\
             \x20 drumbeat -C {shown} log --state suppressed\n\
             \x20 drumbeat -C {shown} test",
            dir.display()
        ));
    }
    Ok(if exit == code::HELD { code::HELD } else { code::DONE })
}

/// Somebody of the win-back, for the example.
async fn first_sent(daemon: &daemon::Daemon) -> Result<Option<String>, Failure> {
    let mut tx = daemon.state.read().await?;
    let filter = state::delivery::Filter {
        playbook: Some(model::PlaybookName::known("win_back")),
        state: Some(model::DeliveryState::Deferred),
        ..Default::default()
    };
    let mut found = state::delivery::find(&mut tx, &filter, None, 1).await?;
    if found.is_empty() {
        let filter = state::delivery::Filter { playbook: filter.playbook, ..Default::default() };
        found = state::delivery::find(&mut tx, &filter, None, 1).await?;
    }
    let Some(row) = found.first() else { return Ok(None) };
    let number = row.delivery.profile;
    Ok(state::profile::ids_of(&mut tx, &[number]).await?.remove(&number))
}

const ZONES: &[(&str, &str, &str)] = &[
    ("Europe/Berlin", "DE", "de"),
    ("Europe/Berlin", "DE", "de-DE"),
    ("Europe/Vienna", "AT", "de-AT"),
    ("Europe/London", "GB", "en-GB"),
    ("Europe/Lisbon", "PT", "en"),
    ("America/New_York", "US", "en-US"),
    ("America/Los_Angeles", "US", "en-US"),
    ("America/Sao_Paulo", "BR", "en"),
    ("Asia/Kolkata", "IN", "en-IN"),
    ("Australia/Sydney", "AU", "en-AU"),
];
const NAMES: &[&str] = &[
    "Ana", "Ben", "Chloé", "Dario", "Elif", "Finn", "Greta", "Hugo", "Iris", "Jonas", "Kira", "Lars", "Mina",
    "Noor", "Ole", "Paula", "Quinn", "Rosa", "Sven", "Tariq", "Uma", "Vera", "Wim", "Xenia", "Yara", "Zoë",
];

/// One number below `below`, the same for the same person and question for ever.
fn draw(person: u64, question: &str, below: u64) -> u64 {
    bucket(&["drumbeat demo", question, &person.to_string()]) % below
}

/// Makes the warehouse: the same people every time, their past counted back from the day of `now`.
async fn generate(path: &Path, now: Timestamp) -> Result<(), Failure> {
    let today = Timestamp::from_second(now.as_second().div_euclid(86_400) * 86_400).unwrap_or(now);
    let failed = |error: sqlx::Error| Failure::new(format!("cannot make the warehouse: {error}"));
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Off)
        .synchronous(SqliteSynchronous::Off);
    let mut connection = SqliteConnection::connect_with(&options).await.map_err(failed)?;
    for statement in [
        "CREATE TABLE customers (customer_id INTEGER PRIMARY KEY, email TEXT, first_name TEXT, timezone TEXT, locale TEXT, \
         country TEXT, plan TEXT NOT NULL, mrr REAL NOT NULL, signed_up_at TEXT NOT NULL)",
        "CREATE TABLE sessions (session_id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL, at TEXT NOT NULL)",
        "CREATE TABLE consents (customer_id INTEGER NOT NULL, channel TEXT NOT NULL, purpose TEXT NOT NULL, status TEXT NOT NULL, \
         changed_at TEXT NOT NULL, source TEXT NOT NULL)",
    ] {
        sqlx::query(statement).execute(&mut connection).await.map_err(failed)?;
    }
    let (mut customers, mut sessions, mut consents) = (Vec::new(), Vec::new(), Vec::new());
    for person in 1..=PEOPLE {
        add_person(person, today, now, &mut customers, &mut sessions, &mut consents);
    }
    let mut tx = connection.begin().await.map_err(failed)?;
    for (insert, rows) in [
        (
            "INSERT INTO customers SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7, \
             value->>8 FROM json_each($1)",
            customers,
        ),
        ("INSERT INTO sessions (customer_id, at) SELECT value->>0, value->>1 FROM json_each($1)", sessions),
        (
            "INSERT INTO consents SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5 FROM json_each($1)",
            consents,
        ),
    ] {
        for page in rows.chunks(10_000) {
            sqlx::query(insert)
                .bind(Value::from(page.to_vec()).to_string())
                .execute(&mut *tx)
                .await
                .map_err(failed)?;
        }
    }
    for index in [
        "CREATE INDEX session_customer ON sessions (customer_id, at)",
        "CREATE INDEX session_at ON sessions (at, customer_id)",
        "ANALYZE",
    ] {
        sqlx::query(index).execute(&mut *tx).await.map_err(failed)?;
    }
    tx.commit().await.map_err(failed)?;
    connection.close().await.map_err(failed)?;
    Ok(())
}

fn add_person(
    person: u64,
    today: Timestamp,
    now: Timestamp,
    customers: &mut Vec<Value>,
    sessions: &mut Vec<Value>,
    consents: &mut Vec<Value>,
) {
    let pick =
        |question: &str, below: usize| usize::try_from(draw(person, question, below as u64)).unwrap_or(0);
    let ago = |days: u64, question: &str| {
        let seconds = i64::try_from(days * 86_400 + draw(person, question, 86_400)).unwrap_or(0);
        today.checked_sub(SignedDuration::from_secs(seconds)).unwrap_or(today).to_string()
    };
    let (zone, country, locale) = ZONES[pick("zone", ZONES.len())];
    let name = NAMES[pick("name", NAMES.len())];
    let plain: String = name.to_lowercase().chars().filter(char::is_ascii_alphabetic).collect();
    let email = match draw(person, "email", 100) {
        0..=3 => Value::Null,
        4 => json!(format!("{plain}.{person}@")),
        _ => json!(format!("{plain}.{person}@example.test")),
    };
    let plan = ["trial", "team", "team", "team", "business"][pick("plan", 5)];
    let mrr = match plan {
        "trial" => 0,
        "team" => 19 + draw(person, "mrr", 60),
        _ => 80 + draw(person, "mrr", 200),
    };
    // Few are new, most have been here a while.
    let days =
        if draw(person, "new", 100) < 6 { draw(person, "age", 7) } else { 7 + draw(person, "age", 900) };
    let optional = |question: &str, share: u64, value: &str| {
        if draw(person, question, 100) < share { Value::Null } else { json!(value) }
    };
    customers.push(json!([
        person,
        email,
        optional("no name", 10, name),
        optional("no zone", 5, zone),
        optional("no locale", 15, locale),
        country,
        plan,
        mrr,
        ago(days, "signed up")
    ]));
    // How they use it: every day, now and then, or not any more.
    let (every, quiet_since) = match draw(person, "use", 100) {
        0..=34 => (2, 0),
        35..=69 => (6, 0),
        70..=89 => (5, 14 + draw(person, "quiet", 60)),
        _ => (0, 0),
    };
    if every > 0 {
        let mut day = quiet_since + draw(person, "phase", every);
        while day < days.min(90) {
            let at = ago(day, &format!("session {day}"));
            if at.as_str() < now.to_string().as_str() {
                sessions.push(json!([person, at]));
            }
            day += every;
        }
    }
    let status = match draw(person, "consent", 100) {
        0..=69 => Some("granted"),
        70..=77 => Some("withdrawn"),
        78..=80 => Some("pending"),
        _ => None,
    };
    if let Some(status) = status {
        consents.push(json!([
            person,
            "email",
            "offers",
            status,
            ago(draw(person, "since", days.max(1)), "said"),
            "sign-up form"
        ]));
    }
    if draw(person, "no tips", 100) < 5 {
        consents.push(json!([
            person,
            "email",
            "product",
            "withdrawn",
            ago(draw(person, "tips", days.max(1)), "tips"),
            "settings"
        ]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_has_every_file_of_the_saas_project() {
        // A test runs in its crate's folder.
        let root = Path::new("../../playbooks/saas").to_owned();
        let mut files = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
                // What a run leaves behind is no file of the project.
                if name.starts_with(".drumbeat")
                    || name.starts_with("outbox")
                    || name.starts_with("warehouse.db")
                {
                    continue;
                }
                if path.is_dir() { folders.push(path) } else { files.push(name) }
            }
        }
        files.sort();
        let mut embedded: Vec<String> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        embedded.sort();
        assert_eq!(files, embedded);
    }

    #[test]
    fn the_same_person_is_the_same_every_time() {
        let today: Timestamp = "2026-03-02T00:00:00Z".parse().unwrap();
        let made = || {
            let (mut customers, mut sessions, mut consents) = (Vec::new(), Vec::new(), Vec::new());
            add_person(7, today, today, &mut customers, &mut sessions, &mut consents);
            (customers, sessions, consents)
        };
        assert_eq!(made(), made());
    }
}
