//! `segment list`, `segment show` and `segment accept`.

use model::segment::SegmentSource;
use roaring::RoaringBitmap;
use serde_json::json;
use state::Tx;
use state::audit::Entry;

use crate::args::Segment;
use crate::context::{Context, actor, known_segment};
use crate::failure::{Failure, code};
use crate::print::{Rows, say, thousands};

/// Runs of a segment that are shown.
const HISTORY: u32 = 20;

/// Segments: sizes, history, members.
pub(crate) async fn segment(context: &Context, args: &Segment) -> Result<u8, Failure> {
    match args {
        Segment::List => list(context).await,
        Segment::Accept { name, reason } => accept(context, name, reason).await,
        Segment::Show { name, at, sql, members } => {
            let project = context.project()?;
            let name = known_segment(&project, name)?;
            let Some(segment) = project.segments.get(&name) else {
                return Err(Failure::new("no such segment"));
            };
            if *sql {
                return show_sql(context, segment);
            }
            let state = context.state(&project).await?;
            let mut tx = state.read().await?;
            let found = match at {
                Some(at) => state::segment::members_at(&mut tx, &name, *at).await?,
                None => state::segment::current(&mut tx, &name).await?.map(|current| current.members),
            };
            let Some(found) = found else {
                let when = at.map_or("yet".to_owned(), |at| format!("at or before {at}"));
                return Err(Failure::new(format!("segment `{name}` has no good run {when}")));
            };
            if *members || at.is_some() {
                return show_members(context, &mut tx, &found).await;
            }
            say(&format!("{} · {} · {}", segment.title, segment.owner, segment.why));
            say(&format!(
                "{} members; `--members` lists them, `--at TIME` goes back",
                thousands(found.len())
            ));
            let mut rows = Rows::new(&[
                "as_of",
                "members",
                "entered",
                "left",
                "rows",
                "duplicates",
                "missing_ids",
                "held",
            ]);
            for run in state::segment::history(&mut tx, &name, HISTORY).await? {
                rows.push([
                    json!(run.as_of.to_string()),
                    json!(run.members),
                    json!(run.entered),
                    json!(run.left),
                    json!(run.rows),
                    json!(run.duplicates),
                    json!(run.missing_ids),
                    json!(run.held.map(|held| format!("{} ({})", held.saw, held.reason))),
                ]);
            }
            context.printer.rows(&rows, "no run yet")?;
            Ok(code::DONE)
        }
    }
}

fn show_sql(context: &Context, segment: &model::segment::Segment) -> Result<u8, Failure> {
    match &segment.source {
        SegmentSource::Sql(query) => context.printer.text(&query.sql)?,
        SegmentSource::Where(_) => {
            return Err(Failure::new("this segment is composed of others: it has no query of its own"));
        }
    }
    Ok(code::DONE)
}

async fn list(context: &Context) -> Result<u8, Failure> {
    let project = context.project()?;
    let state = context.state(&project).await?;
    let mut tx = state.read().await?;
    let mut rows = Rows::new(&["segment", "members", "as_of", "schedule", "owner", "held"]);
    for (name, segment) in &project.segments {
        let current = state::segment::current(&mut tx, name).await?;
        let last = state::segment::last_run(&mut tx, name).await?;
        rows.push([
            json!(name.as_str()),
            json!(current.as_ref().map(|current| current.members.len())),
            json!(current.map(|current| current.as_of.to_string())),
            json!(segment.schedule.to_string()),
            json!(segment.owner),
            json!(last.and_then(|last| last.held).map(|held| held.reason.as_str())),
        ]);
    }
    context.printer.rows(&rows, "there are no segments")?;
    Ok(code::DONE)
}

async fn show_members(context: &Context, tx: &mut Tx, members: &RoaringBitmap) -> Result<u8, Failure> {
    let mut rows = Rows::new(&["profile"]);
    let numbers: Vec<model::ProfileNumber> = members.iter().map(model::ProfileNumber).collect();
    for page in numbers.chunks(1_000) {
        let ids = state::profile::ids_of(tx, page).await?;
        for number in page {
            rows.push([json!(ids.get(number).cloned().unwrap_or_else(|| format!("erased:{number}")))]);
        }
    }
    context.printer.rows(&rows, "nobody")?;
    Ok(code::DONE)
}

/// A person's word that a segment may have grown so much.
async fn accept(context: &Context, name: &str, reason: &str) -> Result<u8, Failure> {
    let project = context.project()?;
    let name = known_segment(&project, name)?;
    let state = context.state_to_write(&project).await?;
    let now = context.now();
    let mut tx = state.write().await?;
    state::meta::set(&mut tx, &daemon::guards::acceptance_key(&name), &now.to_string()).await?;
    let body = json!({ "segment": name.as_str(), "why": reason, "actor": actor() });
    state::audit::append(&mut tx, &[Entry { kind: "growth_accepted", at: now, body }]);
    tx.commit().await?;
    say(&format!("the next run of `{name}` may be as large as it is"));
    Ok(code::DONE)
}
