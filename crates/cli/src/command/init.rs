//! `init`: a new project that passes `check`. With a warehouse it looks at the tables; what it guesses is marked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use daemon::clock::Clock;
use jiff::tz::TimeZone;
use model::Secret;
use model::name::is_name;
use model::query::Query;
use model::settings::{TimeEncoding, WarehouseSettings};
use warehouse::{TableInfo, Warehouse};

use crate::args::{Check, Init};
use crate::context::{Context, known_connectors};
use crate::failure::{Failure, code};
use crate::print::{say, shell_word};

/// Makes a project.
pub(crate) async fn init(context: &Context, args: &Init) -> Result<u8, Failure> {
    let dir = args.dir.clone().unwrap_or_else(|| context.dir.clone());
    for file in ["drumbeat.yml", "data.yml", "policy.yml"] {
        if dir.join(file).exists() {
            return Err(Failure::new(format!("{} has a {file} already", dir.display()))
                .hint("a project is never overwritten"));
        }
    }
    let guess = match &args.warehouse {
        Some(url) => Guess::look(&dir, url).await?,
        None => Guess::nothing(),
    };
    let name = project_name(&dir);
    for (file, text) in files(&name, &guess) {
        let path = dir.join(&file);
        std::fs::create_dir_all(path.parent().unwrap_or(&dir))?;
        std::fs::write(&path, text)?;
    }
    for (kind, schema) in project::schemas(&known_connectors()) {
        let path = dir.join(".drumbeat").join("schema").join(format!("{kind}.json"));
        std::fs::create_dir_all(path.parent().unwrap_or(&dir))?;
        std::fs::write(&path, serde_json::to_string_pretty(&schema).unwrap_or_default())?;
    }
    say(&format!("made a project in {}", dir.display()));
    for note in &guess.notes {
        say(&format!("  guessed: {note}"));
    }
    let here = context.in_folder(dir.clone());
    if args.warehouse.is_none() {
        say(
            "It has no warehouse yet: name it in drumbeat.yml (`warehouse.url`), and the tables in data.yml. Then `drumbeat check`.",
        );
        return Ok(code::DONE);
    }
    let checked = super::check::check(&here, &Check { offline: false }).await?;
    let shown = if dir == Path::new(".") {
        String::new()
    } else {
        format!(" -C {}", shell_word(&dir.to_string_lossy()))
    };
    say(&format!(
        "Worth typing next:\n  drumbeat{shown} plan\n  drumbeat{shown} run --once\n  drumbeat{shown} log"
    ));
    Ok(checked)
}

/// What a run makes is nobody's work: the state with its key, the schemas for editors, messages as files.
pub(crate) const GITIGNORE: &str = ".drumbeat/\noutbox/\n";

fn project_name(dir: &Path) -> String {
    let full = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_path_buf());
    let base = full.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let name: String = base.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let name = name.trim_matches('_').to_owned();
    if is_name(&name) { name } else { "my_project".to_owned() }
}

/// What was made of a warehouse.
struct Guess {
    url: String,
    times: Option<&'static str>,
    profiles: String,
    newcomers: String,
    consent: Option<String>,
    greets_by_name: bool,
    has_time: bool,
    notes: Vec<String>,
}

impl Guess {
    fn nothing() -> Self {
        Self {
            url: "sqlite://warehouse.db".to_owned(),
            times: Some("rfc3339"),
            profiles: "select customer_id as id, email, timezone, locale, first_name from customers"
                .to_owned(),
            newcomers: "select customer_id as id from customers where signed_up_at >= :now_minus_7d"
                .to_owned(),
            consent: None,
            greets_by_name: true,
            has_time: true,
            notes: Vec::new(),
        }
    }

    async fn look(dir: &Path, url: &str) -> Result<Self, Failure> {
        let url = absolute(dir, url)?;
        let settings = WarehouseSettings {
            url: Secret::new(url.clone()),
            schema: None,
            times: TimeEncoding::Rfc3339,
            statement_timeout: jiff::SignedDuration::from_secs(60),
        };
        let here = if dir.exists() { dir.to_path_buf() } else { PathBuf::from(".") };
        let warehouse = Warehouse::open(&settings, &here, &TimeZone::UTC).await?;
        let tables = warehouse.tables().await?;
        let people = people(&tables).ok_or_else(|| {
            let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
            Failure::new("no table has a column for email addresses").hint(format!(
                "the tables are: {}. `drumbeat init` without --warehouse makes a project to fill in by hand",
                names.join(", ")
            ))
        })?;
        let mut notes = Vec::new();
        let id = id_of(people);
        let (columns, greets_by_name) = profile_columns(people, &id);
        notes.push(format!("`{}` holds the people, `{id}` is their id", people.name));
        let since = time_column(people);
        let newcomers = match &since {
            Some(column) => {
                notes.push(format!("`{column}` is when they came"));
                format!(
                    "select {} as id from {} where {} >= :now_minus_7d",
                    quoted(&id),
                    quoted(&people.name),
                    quoted(column)
                )
            }
            None => format!("select {} as id from {}", quoted(&id), quoted(&people.name)),
        };
        let times = match (&since, url.starts_with("sqlite:")) {
            (Some(column), true) => Some(time_encoding(&warehouse, people, column, &mut notes).await?),
            (None, true) => Some("rfc3339"),
            (_, false) => None,
        };
        let consent = consent(&tables);
        match &consent {
            Some(_) => notes.push("consent is in a table of its own".to_owned()),
            None => notes.push("no table of consents: marketing needs one, see policy.yml".to_owned()),
        }
        Ok(Self {
            url: relative(dir, &url),
            times,
            profiles: format!("select {columns} from {}", quoted(&people.name)),
            newcomers,
            consent,
            greets_by_name,
            has_time: since.is_some(),
            notes,
        })
    }
}

/// A path in an `sqlite://` URL is relative to where the command was typed; in the project it is relative to the project.
fn absolute(dir: &Path, url: &str) -> Result<String, Failure> {
    let Some(path) = url.strip_prefix("sqlite://") else { return Ok(url.to_owned()) };
    let path = Path::new(path);
    let full = if path.is_absolute() { path.to_path_buf() } else { std::env::current_dir()?.join(path) };
    let found = std::fs::canonicalize(&full).map_err(|_| {
        Failure::new(format!("there is no file {}", path.display()))
            .hint("the warehouse is opened read-only; it must exist")
    })?;
    let _ = dir;
    Ok(format!("sqlite://{}", found.display()))
}

fn relative(dir: &Path, url: &str) -> String {
    let Some(path) = url.strip_prefix("sqlite://") else { return url.to_owned() };
    let folder = std::fs::canonicalize(dir)
        .or_else(|_| std::env::current_dir().map(|here| here.join(dir)))
        .unwrap_or_default();
    Path::new(path)
        .strip_prefix(&folder)
        .map_or_else(|_| url.to_owned(), |inside| format!("sqlite://{}", inside.display()))
}

fn column<'a>(table: &'a TableInfo, names: &[&str]) -> Option<&'a str> {
    names
        .iter()
        .find_map(|wanted| table.columns.iter().find(|found| found.name.eq_ignore_ascii_case(wanted)))
        .map(|found| found.name.as_str())
}

const EMAIL: &[&str] = &["email", "email_address", "e_mail", "mail", "emailaddress"];
const PEOPLE: &[&str] = &[
    "customers",
    "customer",
    "users",
    "user",
    "profiles",
    "contacts",
    "people",
    "persons",
    "members",
    "subscribers",
    "dim_customers",
    "dim_users",
];

/// The table of people: it has addresses, and the best name.
fn people(tables: &[TableInfo]) -> Option<&TableInfo> {
    let rank = |table: &TableInfo| {
        PEOPLE.iter().position(|name| table.name.eq_ignore_ascii_case(name)).unwrap_or(PEOPLE.len())
    };
    tables
        .iter()
        .filter(|table| column(table, EMAIL).is_some())
        .min_by_key(|table| (rank(table), table.name.clone()))
}

fn id_of(table: &TableInfo) -> String {
    let singular = table.name.trim_start_matches("dim_").trim_end_matches('s').to_owned();
    let own = format!("{singular}_id");
    let names = [
        own.as_str(),
        "id",
        "customer_id",
        "user_id",
        "profile_id",
        "contact_id",
        "person_id",
        "member_id",
        "uuid",
    ];
    let first = table.columns.first().map_or("id", |found| found.name.as_str());
    column(table, &names).unwrap_or(first).to_owned()
}

/// The profile's columns, and whether a first name is among them.
fn profile_columns(table: &TableInfo, id: &str) -> (String, bool) {
    const KNOWN: &[(&str, &[&str])] = &[
        ("email", EMAIL),
        ("phone", &["phone", "phone_number", "mobile"]),
        ("timezone", &["timezone", "time_zone", "tz"]),
        ("locale", &["locale", "language", "lang"]),
        ("country", &["country", "country_code"]),
        ("first_name", &["first_name", "firstname", "given_name", "forename"]),
    ];
    let mut columns = vec![format!("{} as id", quoted(id))];
    let mut taken = vec![id.to_owned()];
    let mut named = false;
    for (as_, names) in KNOWN {
        if let Some(found) = column(table, names) {
            named |= *as_ == "first_name";
            taken.push(found.to_owned());
            columns.push(if found == *as_ { quoted(found) } else { format!("{} as {as_}", quoted(found)) });
        }
    }
    for found in
        table.columns.iter().filter(|found| !taken.contains(&found.name) && is_name(&found.name)).take(10)
    {
        columns.push(quoted(&found.name));
    }
    (columns.join(", "), named)
}

fn time_column(table: &TableInfo) -> Option<String> {
    column(
        table,
        &[
            "signed_up_at",
            "created_at",
            "registered_at",
            "joined_at",
            "signup_date",
            "created",
            "date_joined",
            "inserted_at",
        ],
    )
    .map(ToOwned::to_owned)
}

/// How SQLite holds the times of a column, by looking at one.
async fn time_encoding(
    warehouse: &Warehouse,
    table: &TableInfo,
    column: &str,
    notes: &mut Vec<String>,
) -> Result<&'static str, Failure> {
    let sql = format!(
        "select {0} as at from {1} where {0} is not null limit 1",
        quoted(column),
        quoted(&table.name)
    );
    let query = Query { sql, columns: BTreeMap::new(), place: "the guess at how times are held".to_owned() };
    let mut snapshot = warehouse.snapshot(Clock::system().now()).await?;
    let mut found = None;
    let read = snapshot
        .rows(&query, 1, async |page| {
            found = page.rows.first().and_then(|row| row.first()).map(ToString::to_string);
            Ok::<(), std::convert::Infallible>(())
        })
        .await;
    snapshot.close().await;
    read.map_err(|error| Failure::new(crate::failure::chain(&error)))?;
    let encoding = match found.as_deref() {
        Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) && text.len() >= 12 => "unix_ms",
        Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => "unix",
        Some(text) if text.contains('T') => "rfc3339",
        Some(_) => "sql",
        None => "rfc3339",
    };
    notes.push(format!("times are held as `{encoding}`"));
    Ok(encoding)
}

fn consent(tables: &[TableInfo]) -> Option<String> {
    tables.iter().find_map(|table| {
        let person = column(
            table,
            &["profile", "customer_id", "user_id", "profile_id", "contact_id", "person_id", "member_id"],
        )?;
        let channel = column(table, &["channel"])?;
        let purpose = column(table, &["purpose", "topic", "list"])?;
        let status = column(table, &["status", "state"])?;
        let changed = column(table, &["changed_at", "updated_at", "created_at", "at"])?;
        Some(format!(
            "select {} as profile, {} as channel, {} as purpose, {} as status, {} as changed_at from {}",
            quoted(person),
            quoted(channel),
            quoted(purpose),
            quoted(status),
            quoted(changed),
            quoted(&table.name)
        ))
    })
}

/// A name as SQL takes it: bare where that is safe in both databases.
fn quoted(name: &str) -> String {
    const RESERVED: &[&str] = &[
        "user", "order", "group", "table", "select", "where", "from", "to", "end", "default", "desc", "check",
    ];
    if is_name(name) && !RESERVED.contains(&name) {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

fn files(name: &str, guess: &Guess) -> Vec<(String, String)> {
    let schema = |depth: &str, kind: &str| {
        format!("# yaml-language-server: $schema={depth}.drumbeat/schema/{kind}.json\n")
    };
    let guessed = if guess.notes.is_empty() { "to be filled in" } else { "guessed" };
    let times = guess
        .times
        .map_or(String::new(), |times| format!("  times: {times}                    # {guessed}\n"));
    let drumbeat = format!(
        "{}version: 1\nproject: {name}\ntimezone: UTC                       # where a person has none; schedules run in it\nlocales: [en]\n\
         deliver: local                      # nothing leaves this machine until this says `all`\n\n\
         state: sqlite://.drumbeat/state.db\nwarehouse:\n  url: {}\n{times}\n\
         brands:\n  {name}:\n    title: {name}\n    from: \"{name} <hello@example.test>\"\n    postal_address: \"Your company, your street, your town\"\n    \
         public_url: http://127.0.0.1:7701      # where recipients reach this daemon: unsubscribe and preferences\n\n\
         destinations:\n  mail: {{connector: file, path: outbox}}\n  \
         # mail: {{connector: smtp, host: mail.example.test, port: 587, username: me, password: {{env: SMTP_PASSWORD}}}}\n",
        schema("", "drumbeat"),
        quoted_yaml(&guess.url),
    );
    let data = format!(
        "{}profiles:                           # {guessed}\n  sql: |\n    {}\n",
        schema("", "data"),
        guess.profiles
    );
    let consent = guess.consent.as_ref().map_or(String::new(), |sql| {
        format!("\nconsent:                            # {guessed}\n  sql: |\n    {sql}\n")
    });
    let policy = format!(
        "{}purposes:\n  product: {{title: \"Tips on using {name}\", class: lifecycle}}       # sent unless withdrawn\n  \
         offers:  {{title: \"Offers\", class: marketing}}                        # sent only with consent\n{consent}\n\
         caps:\n  email_day: {{channel: email, class: marketing, max: 1, per: 1 calendar day}}\n  \
         any_week:  {{class: [marketing, lifecycle], max: 4, per: 7d, on_hit: skip}}\n\
         quiet_hours:\n  nights: {{channel: email, class: marketing, from: \"20:00\", to: \"08:00\"}}\n",
        schema("", "policy")
    );
    let (segment, title) =
        if guess.has_time { ("newcomers", "Came in the last week") } else { ("everyone", "Everybody") };
    let segment_file = format!(
        "{}title: {title}\nowner: you@example.test\nwhy: \"Where every project begins.\"\nschedule: 1h\nsql: {}\n",
        schema("../", "segment"),
        guess.newcomers
    );
    // Who came in the last week expects a welcome; who has been there for years does not.
    let backfill = if guess.has_time {
        "backfill: all                       # who is in the segment when this begins is welcomed, too; `none`: only who comes in later"
    } else {
        "backfill: none                      # only who comes in after this began; `all`: everybody who is there already, too"
    };
    let playbook = format!(
        "{}title: Welcome\nowner: you@example.test\nwhy: \"Say hello.\"\nenter: segment.{segment}\n{backfill}\nreenter: never\nexit: {{on_leave: false}}\npurpose: product\nsteps:\n  \
         - {{id: hello, send: welcome}}\n",
        schema("../", "playbook")
    );
    let greeting =
        if guess.greets_by_name { "Hello {{ profile.first_name | default(\"there\") }}" } else { "Hello" };
    let template = format!(
        "---\nsubject: \"Welcome\"\n---\n{{% extends \"_layout.mjml\" %}}{{% block body %}}\n<mj-text>{greeting},</mj-text>\n\
         <mj-text>good to have you.</mj-text>\n{{% endblock %}}\n"
    );
    let layout = "<mjml>\n  <mj-body>\n    <mj-section><mj-column>{% block body %}{% endblock %}</mj-column></mj-section>\n    \
                  <mj-section><mj-column><mj-text font-size=\"12px\">{{ postal_address }} · <a href=\"{{ unsubscribe_url }}\">Unsubscribe</a> · \
                  <a href=\"{{ preferences_url }}\">Choose what you get</a></mj-text></mj-column></mj-section>\n  </mj-body>\n</mjml>\n";
    vec![
        ("drumbeat.yml".to_owned(), drumbeat),
        ("data.yml".to_owned(), data),
        ("policy.yml".to_owned(), policy),
        (format!("segments/{segment}.yml"), segment_file),
        ("playbooks/welcome.yml".to_owned(), playbook),
        ("templates/_layout.mjml".to_owned(), layout.to_owned()),
        ("templates/welcome.mjml".to_owned(), template),
        (".gitignore".to_owned(), GITIGNORE.to_owned()),
    ]
}

fn quoted_yaml(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
