//! `test`: the project's scenarios, on virtual time.

use std::collections::BTreeSet;

use daemon::scenario::{Verdict, play, play_segment};
use model::settings::WarehouseSettings;
use model::{Secret, Value};
use project::{Project, Scenario, Subject};
use serde_json::json;
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use warehouse::Warehouse;

use crate::args::Test;
use crate::context::Context;
use crate::failure::{Failure, code};
use crate::print::Rows;

/// Plays the scenarios.
pub(crate) async fn test(context: &Context, args: &Test) -> Result<u8, Failure> {
    let project = context.project()?;
    let wanted: Vec<&Scenario> = project
        .scenarios
        .iter()
        .filter(|scenario| args.filter.as_ref().is_none_or(|part| scenario.file.contains(part.as_str())))
        .collect();
    let mut failed = 0;
    let mut rows = Rows::new(&["file", "title", "passed", "differences"]);
    let mut text = String::new();
    for scenario in &wanted {
        let verdict = match &scenario.subject {
            Subject::Playbook(_) => play(&project, scenario).await?,
            Subject::Segment(_) => on_rows(&project, scenario).await?,
        };
        let passed = verdict.differences.is_empty();
        failed += usize::from(!passed);
        text.push_str(&format!(
            "{} {}  {}\n",
            if passed { "ok    " } else { "FAILED" },
            scenario.file,
            scenario.title
        ));
        for difference in &verdict.differences {
            text.push_str(&format!("  {difference}\n"));
        }
        rows.push([json!(scenario.file), json!(scenario.title), json!(passed), json!(verdict.differences)]);
    }
    if context.printer.for_programs() {
        context.printer.rows(&rows, "")?;
    } else {
        text.push_str(&format!(
            "{} scenarios: {} passed, {failed} failed",
            wanted.len(),
            wanted.len() - failed
        ));
        context.printer.text(&text)?;
    }
    Ok(if failed == 0 { code::DONE } else { code::FAILED })
}

/// Makes the given tables in an SQLite file of their own, and runs the real query on them.
async fn on_rows(project: &Project, scenario: &Scenario) -> Result<Verdict, Failure> {
    if !project.settings.warehouse.url.reveal().starts_with("sqlite:") {
        let why = "the given rows are put into SQLite, and this project's queries are written for Postgres: not yet".to_owned();
        return Ok(Verdict { differences: vec![why] });
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("given.db");
    let failed = |error: sqlx::Error| {
        Failure::new(format!("{}: cannot make the given tables: {error}", scenario.file))
    };
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let mut connection = SqliteConnection::connect_with(&options).await.map_err(failed)?;
    for (table, rows) in &scenario.given.tables {
        let columns: BTreeSet<&String> = rows.iter().flat_map(std::collections::BTreeMap::keys).collect();
        if !model::name::is_name(table) || !columns.iter().all(|column| model::name::is_name(column)) {
            return Err(Failure::new(format!(
                "{}: tables and columns are named in lower-case words joined by `_`",
                scenario.file
            )));
        }
        let names = columns.iter().map(|column| format!("\"{column}\"")).collect::<Vec<_>>().join(", ");
        let places = (1..=columns.len()).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ");
        // Names of given tables and columns were checked just above; values are bound.
        let safe = |sql: String| sqlx::AssertSqlSafe(sql);
        let insert = format!("INSERT INTO \"{table}\" ({names}) VALUES ({places})");
        sqlx::query(safe(format!("CREATE TABLE \"{table}\" ({names})")))
            .execute(&mut connection)
            .await
            .map_err(failed)?;
        for row in rows {
            let mut query = sqlx::query(safe(insert.clone()));
            for column in &columns {
                query = match row.get(*column).unwrap_or(&Value::Missing) {
                    Value::Missing => query.bind(None::<String>),
                    Value::Boolean(boolean) => query.bind(i64::from(*boolean)),
                    Value::Integer(integer) => query.bind(*integer),
                    Value::Number(number) => query.bind(*number),
                    other => query.bind(other.to_string()),
                };
            }
            query.execute(&mut connection).await.map_err(failed)?;
        }
    }
    connection.close().await.map_err(failed)?;
    let settings = WarehouseSettings {
        url: Secret::new(format!("sqlite://{}", path.display())),
        ..project.settings.warehouse.clone()
    };
    let warehouse = Warehouse::open(&settings, folder.path(), &project.settings.timezone).await?;
    Ok(play_segment(project, scenario, warehouse).await?)
}
