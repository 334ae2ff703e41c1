//! `check`: every mistake before anything runs.

use std::collections::BTreeMap;

use model::query::Query;
use model::segment::SegmentSource;
use project::{Columns, Diagnostic, Diagnostics, Project, Reading, Typed};
use warehouse::{QueryError, Use, Warehouse};

use crate::args::Check;
use crate::context::Context;
use crate::failure::{Failure, code};
use crate::print::say;

/// What `--env` says for every environment.
const EVERY: &str = "all";

/// Finds every mistake, of files and of queries, and says them in one list.
pub(crate) async fn check(context: &Context, args: &Check) -> Result<u8, Failure> {
    let environments = environments(context)?;
    let mut found: BTreeMap<Diagnostic, Vec<&str>> = BTreeMap::new();
    let mut unasked = Vec::new();
    let mut sizes = None;
    for environment in &environments {
        let checked = one(&context.in_environment(environment.clone()), args).await?;
        let name = environment.as_deref().unwrap_or_default();
        for diagnostic in checked.found.0 {
            found.entry(diagnostic).or_default().push(name);
        }
        unasked.extend(checked.unasked.map(|failure| in_environment(environment.as_deref(), failure)));
        sizes = checked
            .project
            .map(|project| (project.segments.len(), project.playbooks.len(), project.compiled.len()));
    }
    let mistakes = found.keys().filter(|one| !one.warning).count();
    say_found(context, found, environments.len())?;
    if mistakes > 0 {
        for failure in unasked {
            say(&format!("warning: {}, so there may be more mistakes", failure.text));
        }
        return Err(Failure::new(count(mistakes, "mistake")));
    }
    if let Some(last) = unasked.pop() {
        for failure in unasked {
            say(&failure.to_string());
        }
        return Err(last);
    }
    let (segments, playbooks, templates) = sizes.unwrap_or_default();
    let what = format!(
        "{}, {}, {}: no mistakes{}{}",
        count(segments, "segment"),
        count(playbooks, "playbook"),
        count(templates, "template"),
        if args.offline { " in the files; the warehouse was not asked" } else { "" },
        match &environments[..] {
            [_] => String::new(),
            several => format!(" in {}", several.iter().flatten().cloned().collect::<Vec<_>>().join(", ")),
        }
    );
    if !context.printer.for_programs() {
        context.printer.text(&what)?;
    }
    Ok(code::DONE)
}

/// The environments to look at: the one that was chosen, or every one; where there is none, the files as they are.
fn environments(context: &Context) -> Result<Vec<Option<String>>, Failure> {
    if context.environment.as_deref() != Some(EVERY) {
        return Ok(vec![context.environment.clone()]);
    }
    let all = context.in_environment(None).read()?.environments;
    Ok(if all.is_empty() { vec![None] } else { all.into_iter().map(Some).collect() })
}

/// What was found in one environment.
struct Checked {
    project: Option<Project>,
    found: Diagnostics,
    /// Why its warehouse could not be asked.
    unasked: Option<Failure>,
}

async fn one(context: &Context, args: &Check) -> Result<Checked, Failure> {
    let Reading { project, found, .. } = context.read()?;
    let mut found = found.0;
    let mut unasked = None;
    if let (Some(project), false) = (&project, args.offline) {
        match online(project, Advice::Give).await {
            Ok(more) => found.extend(more.0),
            // What is known is said all the same.
            Err(failure) => unasked = Some(failure),
        }
    }
    Ok(Checked { project, found: Diagnostics::new(found), unasked })
}

fn in_environment(name: Option<&str>, failure: Failure) -> Failure {
    match name {
        Some(name) => Failure { text: format!("in environment `{name}`: {}", failure.text), ..failure },
        None => failure,
    }
}

/// Says each mistake once, with the environments it is in where it is not in all that were looked at.
fn say_found(
    context: &Context,
    found: BTreeMap<Diagnostic, Vec<&str>>,
    environments: usize,
) -> Result<(), Failure> {
    if context.printer.for_programs() {
        let json: Vec<serde_json::Value> = found
            .iter()
            .map(|(one, names)| {
                let mut json = one.to_json();
                if environments > 1 {
                    json["environments"] = serde_json::json!(names);
                }
                json
            })
            .collect();
        return context.printer.text(&serde_json::Value::from(json).to_string());
    }
    let labelled = |(mut one, names): (Diagnostic, Vec<&str>)| {
        if names.len() < environments {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            one.message = format!("in environment {}: {}", names.join(", "), one.message);
        }
        one
    };
    let found = Diagnostics(found.into_iter().map(labelled).collect());
    if !found.is_empty() {
        say(&found.render(context.printer.color()));
    }
    Ok(())
}

/// Refuses to go on with a project that has mistakes only the warehouse can tell. Its warnings are `check`'s to say.
pub(crate) async fn refuse_mistakes(context: &Context, project: &Project) -> Result<(), Failure> {
    let (mistakes, _) = online(project, Advice::Spare).await?.split();
    if mistakes.0.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(mistakes.render(context.printer.color()).trim_end()).with_code(code::CONFIGURATION))
    }
}

/// `1 segment`, `2 segments`
fn count(many: usize, of: &str) -> String {
    format!("{many} {of}{}", if many == 1 { "" } else { "s" })
}

/// Whether slow queries and odd times are looked for: that reads data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Advice {
    Give,
    Spare,
}

/// Prepares every query, and checks the names that only the database knows.
async fn online(project: &Project, advice: Advice) -> Result<Diagnostics, Failure> {
    let settings = &project.settings;
    let warehouse = Warehouse::open(&settings.warehouse, &project.dir, &settings.timezone).await?;
    let mut found = Diagnostics::default();
    let people = &project.data.profiles;
    let profiles =
        prepare(project, &warehouse, people, Some(Use::ById("people")), advice, &mut found).await?;
    let accounts = match &project.data.accounts {
        Some(query) => {
            prepare(project, &warehouse, query, Some(Use::ById("accounts")), advice, &mut found).await?
        }
        None => None,
    };
    let mut segments = BTreeMap::new();
    for (name, segment) in &project.segments {
        if let SegmentSource::Sql(query) = &segment.source
            && let Some(columns) =
                prepare(project, &warehouse, query, Some(Use::Segment), advice, &mut found).await?
        {
            segments.insert(name.clone(), columns);
        }
    }
    if let Some(query) = &project.policy.consent {
        let columns =
            prepare(project, &warehouse, query, None, advice, &mut found).await?.unwrap_or_default();
        for needed in ["profile", "channel", "purpose", "status", "changed_at"] {
            if !columns.is_empty() && !columns.iter().any(|(name, _)| name == needed) {
                found.0.push(project::query_mistake(
                    project,
                    query,
                    None,
                    &format!("the consent query has no column `{needed}`"),
                ));
            }
        }
    }
    for fresh in project.data.fresh.values() {
        prepare(project, &warehouse, &fresh.query, None, advice, &mut found).await?;
    }
    // A query that is wrong has been reported; what it would have named is not reported again.
    found.0.extend(project::check_columns(project, &Columns { profiles, accounts, segments }).0);
    Ok(found)
}

/// Prepares a query; its columns, or a mistake that points into the file. Then what would be slow, or compared wrongly.
async fn prepare(
    project: &Project,
    warehouse: &Warehouse,
    query: &Query,
    use_: Option<Use>,
    advice: Advice,
    found: &mut Diagnostics,
) -> Result<Option<Typed>, Failure> {
    // A key that is missing in a file is reported there.
    if query.sql.is_empty() {
        return Ok(None);
    }
    let prepared = match warehouse.prepare(query).await {
        Ok(prepared) => prepared,
        Err(QueryError::Refused { message, at, hint }) => {
            let mut mistake = project::query_mistake(
                project,
                query,
                at,
                &format!("the database refuses the query: {message}"),
            );
            mistake.hint = hint.or(mistake.hint);
            found.0.push(mistake);
            return Ok(None);
        }
        // `project` has reported what is told without the database.
        Err(QueryError::Mistake(_)) => return Ok(None),
        Err(QueryError::Warehouse(error)) => return Err(error.into()),
    };
    let columns: Typed = prepared.columns.into_iter().map(|column| (column.name, column.kind)).collect();
    if advice == Advice::Spare {
        return Ok(Some(columns));
    }
    let mut warn = |message: String, hint: Option<String>| {
        let mut diagnostic = project::query_mistake(project, query, None, &message);
        diagnostic.warning = true;
        diagnostic.hint = hint;
        found.0.push(diagnostic);
    };
    if let Some(use_) = use_ {
        for advice in warehouse.advise(query, use_).await.unwrap_or_default() {
            warn(advice.message, Some(advice.hint));
        }
    }
    let names: Vec<String> = columns.iter().map(|(name, _)| name.clone()).collect();
    for warning in warehouse.sample_times(query, &names).await? {
        warn(warning, None);
    }
    Ok(Some(columns))
}
