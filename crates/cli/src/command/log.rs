//! `log`: the message log, printed or exported: each row as it is now, or, with `--history`, each change of it.

use std::num::NonZeroUsize;

use model::{DeliveryState, DestinationName, Reason};
use serde_json::{Value, json};
use state::delivery::{Filter, LoggedDelivery};
use state::{State, Tx};

use super::history;
use crate::args::{Log, Output, Which};
use crate::context::{Context, known_playbook, known_profile};
use crate::failure::{Failure, code};
use crate::print::{Rows, csv, say, thousands};

/// The columns of the log, in order.
pub(crate) const COLUMNS: &[&str] = &[
    "delivery",
    "profile",
    "playbook",
    "version",
    "step",
    "channel",
    "destination",
    "purpose",
    "template",
    "state",
    "reason",
    "saw",
    "created_at",
    "decided_at",
    "due_at",
    "expires_at",
    "settled_at",
    "attempts",
    "receipt",
];
/// What a person's screen has room for.
const NARROW: &[&str] = &["decided_at", "profile", "playbook", "step", "state", "reason", "delivery"];
/// Rows read at once.
const PAGE: u32 = 1_000;
/// Rows a table shows unless told otherwise.
const TABLE_ROWS: usize = 50;

/// A row of the log as data.
pub(crate) type Shown = serde_json::Map<String, Value>;

/// Prints or exports the log.
pub(crate) async fn log(context: &Context, args: &Log) -> Result<u8, Failure> {
    let project = context.project()?;
    let state = context.state(&project).await?;
    let wanted = Wanted { filter: filter(args, &project, &state).await?, history: args.history };
    let at_most = args.limit.map(NonZeroUsize::get);
    if let Some(file) = &args.export {
        return export(&state, &wanted, at_most, file).await;
    }
    let table = context.printer.format() == Output::Table;
    let limit = at_most.unwrap_or(if table { TABLE_ROWS } else { usize::MAX });
    let mut rows = Rows::new(if table { wanted.narrow() } else { wanted.columns() });
    let mut more = false;
    each(
        &state,
        &wanted,
        limit,
        |row| {
            rows.rows.push(row);
            Ok(())
        },
        &mut more,
    )
    .await?;
    context.printer.rows(&rows, "nothing in the log fits")?;
    if more && table {
        say(&format!(
            "(the newest {}; `--limit`, `--output ndjson` or `--export FILE.csv` for more)",
            thousands(limit as u64)
        ));
    }
    Ok(code::DONE)
}

/// What of the log is wanted.
struct Wanted {
    filter: Filter,
    /// Each change of a row, and not only what it is now.
    history: bool,
}

impl Wanted {
    fn columns(&self) -> &'static [&'static str] {
        if self.history { history::COLUMNS } else { COLUMNS }
    }

    fn narrow(&self) -> &'static [&'static str] {
        if self.history { history::NARROW } else { NARROW }
    }
}

async fn filter(args: &Log, project: &project::Project, state: &State) -> Result<Filter, Failure> {
    let shown = |word: &String| {
        DeliveryState::parse(word).ok_or_else(|| {
            Failure::new(format!("`{word}` is no state")).hint(
                "states are: pending deferred accepted rejected in_doubt withheld suppressed skipped expired cancelled",
            )
        })
    };
    Ok(Filter {
        state: args.state.as_ref().map(shown).transpose()?,
        reason: args.reason.as_deref().map(reason).transpose()?,
        ..which(&args.which, project, state).await?
    })
}

/// A reason code that was typed.
pub(crate) fn reason(code: &str) -> Result<Reason, Failure> {
    Reason::parse(code).ok_or_else(|| {
        Failure::new(format!("`{code}` is no reason")).hint("such as `consent.absent` or `cap.channel`")
    })
}

/// The rows that were asked for, in whatever state.
pub(crate) async fn which(
    args: &Which,
    project: &project::Project,
    state: &State,
) -> Result<Filter, Failure> {
    let mut tx = state.read().await?;
    let profile = match &args.profile {
        Some(id) => Some(known_profile(&mut tx, id).await?),
        None => None,
    };
    let destination = args.destination.as_ref();
    Ok(Filter {
        profile,
        playbook: args.playbook.as_ref().map(|name| known_playbook(project, name)).transpose()?,
        destination: destination.map(|name| DestinationName::known(name.trim_start_matches("destination."))),
        since: args.since,
        until: args.until,
        ..Filter::default()
    })
}

/// Calls `take` for each row that fits, newest first, up to a limit.
async fn each(
    state: &State,
    wanted: &Wanted,
    limit: usize,
    mut take: impl FnMut(Shown) -> Result<(), Failure>,
    more: &mut bool,
) -> Result<usize, Failure> {
    if wanted.history {
        let mut changes = history::changes(state, &wanted.filter).await?;
        *more = changes.len() > limit;
        changes.truncate(limit);
        let taken = changes.len();
        changes.into_iter().try_for_each(take)?;
        return Ok(taken);
    }
    let mut tx = state.read().await?;
    let mut after = None;
    let mut taken = 0;
    loop {
        let found = state::delivery::find(&mut tx, &wanted.filter, after.as_ref(), PAGE).await?;
        let Some(last) = found.last() else { return Ok(taken) };
        after = Some(last.cursor());
        let ids = ids(&mut tx, &found).await?;
        for row in found {
            if taken == limit {
                *more = true;
                return Ok(taken);
            }
            taken += 1;
            let id = ids.get(&row.delivery.profile).cloned();
            take(object(&row, id))?;
        }
    }
}

/// The ids of the rows' people.
pub(crate) async fn ids(
    tx: &mut Tx,
    rows: &[LoggedDelivery],
) -> Result<std::collections::BTreeMap<model::ProfileNumber, String>, Failure> {
    let mut numbers: Vec<_> = rows.iter().map(|row| row.delivery.profile).collect();
    numbers.sort();
    numbers.dedup();
    Ok(state::profile::ids_of(tx, &numbers).await?)
}

/// A row of the log as data. An erased person is a number that leads to nobody.
pub(crate) fn object(row: &LoggedDelivery, id: Option<String>) -> Shown {
    let delivery = &row.delivery;
    let saw = delivery
        .gates
        .iter()
        .find(|record| record.reason == Some(delivery.reason))
        .map_or(Value::Null, |record| json!(record.saw));
    let values = [
        json!(delivery.id.as_str()),
        json!(id.unwrap_or_else(|| format!("erased:{}", delivery.profile))),
        json!(delivery.traits.playbook.as_str()),
        json!(delivery.version),
        json!(delivery.step.as_str()),
        json!(delivery.traits.channel.as_str()),
        json!(delivery.destination.as_str()),
        json!(delivery.traits.purpose.as_str()),
        json!(delivery.template.as_str()),
        json!(delivery.state.shown()),
        json!(delivery.reason.as_str()),
        saw,
        json!(delivery.created_at.to_string()),
        json!(delivery.decided_at.to_string()),
        json!(delivery.due_at.to_string()),
        json!(delivery.expires_at.to_string()),
        json!(row.settled_at.map(|at| at.to_string())),
        json!(row.attempts),
        json!(row.receipt),
    ];
    COLUMNS.iter().map(|name| (*name).to_owned()).zip(values).collect()
}

async fn export(
    state: &State,
    wanted: &Wanted,
    limit: Option<usize>,
    file: &std::path::Path,
) -> Result<u8, Failure> {
    let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_owned();
    if !matches!(ending.as_str(), "csv" | "jsonl" | "ndjson") {
        return Err(Failure::new(format!("cannot export to {}", file.display()))
            .hint("the file ends in .csv or .jsonl"));
    }
    // Written beside and moved at the end: who finds the file finds all of it.
    let folder =
        file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(std::path::Path::new("."));
    let mut made = tempfile::NamedTempFile::new_in(folder)?;
    let mut more = false;
    let taken = if ending == "csv" {
        let mut rows = Rows::new(wanted.columns());
        let taken = each(
            state,
            wanted,
            limit.unwrap_or(usize::MAX),
            |row| {
                rows.rows.push(row);
                Ok(())
            },
            &mut more,
        )
        .await?;
        csv(&rows, made.as_file_mut())?;
        taken
    } else {
        let out = made.as_file_mut();
        each(
            state,
            wanted,
            limit.unwrap_or(usize::MAX),
            |row| {
                use std::io::Write as _;
                writeln!(out, "{}", Value::Object(row))?;
                Ok(())
            },
            &mut more,
        )
        .await?
    };
    made.as_file().sync_all()?;
    made.persist(file).map_err(|error| Failure::from(error.error))?;
    say(&format!("{} rows in {}", thousands(taken as u64), file.display()));
    Ok(code::DONE)
}
