//! Columns that conditions and templates name: are they there, have they the type, may they have that value?
//!
//! Only the database knows what columns a query has. The caller asks it, and hands the answer in.

use std::collections::BTreeMap;

use model::SegmentName;
use model::condition::ValueTest;
use model::playbook::Playbook;
use model::policy::CapUnit;
use model::query::Query;
use model::segment::{Segment, SegmentSource};
use model::settings::{Data, TimeEncoding};
use model::value::ValueType;

use crate::Project;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::playbook::Written;
use crate::read::{Column, Cx, Mentioned};
use crate::source::Span;
use model::suggest::nearest;

/// What the database said of the columns of the project's queries: all of them, in their order, `id` among them, with
/// their types where it knows them.
#[derive(Debug, Clone, Default)]
pub struct Columns {
    /// Of the profiles; `None` where their query is wrong, which was reported: nothing is said of their columns then.
    pub profiles: Option<Typed>,
    /// Of the accounts, in the same way; `None` also where the project has none.
    pub accounts: Option<Typed>,
    /// Of segments with a query that is right; composed segments have those of the first segment they name.
    pub segments: BTreeMap<SegmentName, Typed>,
}

/// Columns in their order, with their types where the database knows them.
pub type Typed = Vec<(String, Option<ValueType>)>;

/// What the queries that are read by id are called in messages.
pub(crate) const PROFILES: &str = "the profiles' query";
pub(crate) const ACCOUNTS: &str = "the accounts' query";

/// Columns of profiles that Drumbeat itself reads, as text.
const KNOWN: &[&str] = &["email", "phone", "timezone", "locale", "country"];

/// Where a segment's columns come from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Base<'a> {
    /// From this segment's query: itself, or the first that is named, and so on.
    Query(&'a Segment, &'a Query),
    /// From nowhere: it asks for no segment.
    None,
    /// Nobody can say: a segment on the way is not there or is wrong, which is reported elsewhere.
    Unknown,
}

/// Where a segment's columns come from.
pub(crate) fn base<'a>(segments: &'a BTreeMap<SegmentName, Segment>, name: &SegmentName) -> Base<'a> {
    let mut name = name;
    // Bounded: a circle is a mistake, and reported elsewhere.
    for _ in 0..=segments.len() {
        let Some(segment) = segments.get(name) else { return Base::Unknown };
        match &segment.source {
            SegmentSource::Sql(query) => return Base::Query(segment, query),
            SegmentSource::Where(condition) => match condition.segments().first() {
                Some((first, _)) => name = first,
                None => return Base::None,
            },
        }
    }
    Base::Unknown
}

/// Values that conditions compare declared columns with are among those that are declared.
pub(crate) fn check_values(
    data: &Data,
    segments: &BTreeMap<SegmentName, Segment>,
    playbooks: &[Written],
    cx: &mut Cx<'_>,
) {
    for mention in cx.mentions.clone() {
        let (column, query) = match &mention.what {
            Mentioned::Profile(column) => (column, Some(&data.profiles)),
            Mentioned::Account(column) => (column, data.accounts.as_ref()),
            Mentioned::Entry(column) => {
                let path = cx.files.path(mention.span.file);
                let playbook = playbooks
                    .iter()
                    .find(|written| path == format!("playbooks/{}.yml", written.playbook.name));
                let query = playbook.and_then(|written| match base(segments, &written.playbook.enter) {
                    Base::Query(_, query) => Some(query),
                    Base::None | Base::Unknown => None,
                });
                (column, query)
            }
            Mentioned::Name(..) => continue,
        };
        let Some(declared) = query
            .and_then(|query| query.columns.get(&column.name))
            .filter(|declared| !declared.values.is_empty())
        else {
            continue;
        };
        for (value, span) in column.values.iter().filter(|(value, _)| !declared.values.contains(value)) {
            let meant = nearest(value, declared.values.iter().map(String::as_str));
            let message = format!("`{}` never has the value `{value}`", column.name);
            let mistake = cx.mistake("E0306", *span, message);
            match meant {
                Some(meant) => mistake.did_you_mean(Some(meant)),
                None => mistake.hint(format!("declared are: {}", declared.values.join(", "))),
            };
        }
    }
}

/// Checks what the files say against what the database said: columns that are not there or of another type. Then every
/// template is rendered for people that are made up: one with everything, one with nothing, one who means harm.
pub fn check_columns(project: &Project, columns: &Columns) -> Diagnostics {
    let mut found = Vec::new();
    check_queries(project, columns, &mut found);
    check_mentions(project, columns, &mut found);
    check_not_null(project, columns, &mut found);
    crate::templates::check(project, columns, &mut found);
    Diagnostics::new(found)
}

fn check_queries(project: &Project, columns: &Columns, found: &mut Vec<Diagnostic>) {
    if let Some(profiles) = &columns.profiles {
        check_profiles(project, profiles, found);
    }
    if let (Some(query), Some(accounts)) = (&project.data.accounts, &columns.accounts) {
        check_by_id(project, query, accounts, ACCOUNTS, found);
    }
    for (name, segment) in &project.segments {
        let (SegmentSource::Sql(query), Some(of)) = (&segment.source, columns.segments.get(name)) else {
            continue;
        };
        check_query(project, query, of, found);
        if of.first().is_none_or(|(first, _)| first != "id") {
            let mut mistake =
                crate::query_mistake(project, query, None, "the first column of a segment is `id`");
            if let Some((first, _)) = of.first() {
                mistake.hint(format!("the first column is `{first}`: `select ... as id`"));
            }
            found.push(Diagnostic { code: "E0303", ..mistake });
        }
    }
}

/// Whether anything names a value of the person's account.
fn asks_for_accounts(project: &Project) -> bool {
    project.mentions.iter().any(|mention| matches!(mention.what, Mentioned::Account(_)))
        || project.compiled.values().any(|template| template.account().is_some())
        || project.policy.counts_by(CapUnit::Account)
}

fn check_profiles(project: &Project, columns: &Typed, found: &mut Vec<Diagnostic>) {
    let profiles = &project.data.profiles;
    check_by_id(project, profiles, columns, PROFILES, found);
    if asks_for_accounts(project) && !has(columns, "account_id") {
        let message = format!("{PROFILES} has no column `account_id`, and `account` is asked for");
        let mut mistake = crate::query_mistake(project, profiles, None, &message);
        mistake.hint("a person's account is found by it: `select customer_id as id, account_id, ...`");
        found.push(Diagnostic { code: "E0304", ..mistake });
    }
    for (name, kind) in columns {
        if KNOWN.contains(&name.as_str()) && kind.is_some_and(|kind| kind != ValueType::Text) {
            let message = format!("the column `{name}` must be text");
            found.push(Diagnostic {
                code: "E0305",
                ..crate::query_mistake(project, profiles, None, &message)
            });
        }
    }
}

/// As [`check_query`], and there is an `id`, by which rows are read.
fn check_by_id(
    project: &Project,
    query: &Query,
    columns: &[(String, Option<ValueType>)],
    what: &str,
    found: &mut Vec<Diagnostic>,
) {
    check_query(project, query, columns, found);
    if !has(columns, "id") {
        let message = format!("{what} has no column `id`");
        found.push(Diagnostic { code: "E0303", ..crate::query_mistake(project, query, None, &message) });
    }
}

/// No column twice, and what is declared is there.
fn check_query(
    project: &Project,
    query: &Query,
    columns: &[(String, Option<ValueType>)],
    found: &mut Vec<Diagnostic>,
) {
    for (position, (name, _)) in columns.iter().enumerate() {
        if columns.iter().take(position).any(|(earlier, _)| earlier == name) {
            let message = format!("the query has two columns `{name}`");
            found.push(Diagnostic { code: "E0303", ..crate::query_mistake(project, query, None, &message) });
        }
    }
    for declared in project
        .declared
        .iter()
        .filter(|declared| declared.query == query.place && !has(columns, &declared.column))
    {
        found.push(unknown(project, declared.span, &declared.column, "the query", columns));
    }
}

fn check_mentions(project: &Project, columns: &Columns, found: &mut Vec<Diagnostic>) {
    for mention in &project.mentions {
        match &mention.what {
            Mentioned::Name(..) => {}
            Mentioned::Profile(column) => {
                if let Some(profiles) = &columns.profiles {
                    check_column(project, mention.span, column, profiles, PROFILES, found);
                }
            }
            Mentioned::Account(column) => {
                if let Some(accounts) = &columns.accounts {
                    check_column(project, mention.span, column, accounts, ACCOUNTS, found);
                }
            }
            Mentioned::Entry(column) => {
                let path = project.files.path(mention.span.file);
                let playbook = project
                    .playbooks
                    .values()
                    .find(|playbook| path == format!("playbooks/{}.yml", playbook.name));
                if let Some((of, what)) =
                    playbook.and_then(|playbook| entry_columns(project, columns, playbook))
                {
                    check_column(project, mention.span, column, &of, &what, found);
                }
            }
        }
    }
}

/// The columns of what lets people into a playbook; `None` if nobody said what they are.
pub(crate) fn entry_columns(
    project: &Project,
    columns: &Columns,
    playbook: &Playbook,
) -> Option<(Typed, String)> {
    let what = format!("the segment `{}`", playbook.enter);
    match base(&project.segments, &playbook.enter) {
        Base::Query(base, _) => {
            let of = columns.segments.get(&playbook.enter).or_else(|| columns.segments.get(&base.name))?;
            // `id` says who it is, and is not kept with the entry.
            Some((of.iter().filter(|(name, _)| name != "id").cloned().collect(), what))
        }
        Base::None => Some((Vec::new(), what)),
        Base::Unknown => None,
    }
}

fn check_column(
    project: &Project,
    span: Span,
    column: &Column,
    columns: &[(String, Option<ValueType>)],
    what: &str,
    found: &mut Vec<Diagnostic>,
) {
    let Some((_, kind)) = columns.iter().find(|(name, _)| *name == column.name) else {
        found.push(unknown(project, span, &column.name, what, columns));
        return;
    };
    let Some(kind) = kind else { return };
    for wants in column.tests.iter().filter_map(wanted) {
        if !fits(*kind, wants, project.settings.warehouse.times) {
            let name = ValueType::ALL.iter().find(|(_, known)| known == kind).map_or("", |(name, _)| *name);
            let mut mistake = project.files.diagnostic(
                "E0305",
                span,
                format!("`{}` is {name}, and is asked for {wants}", column.name),
            );
            if wants == TIME {
                mistake.hint(format!("if it holds times, say so: `columns: {{{}: time}}`", column.name));
            }
            found.push(mistake);
            return;
        }
    }
}

const TIME: &str = "a time";
const NUMBER: &str = "a number";
const TEXT: &str = "a text";

/// What a test makes sense for; `None`: for anything.
fn wanted(test: &ValueTest) -> Option<&'static str> {
    match test {
        ValueTest::Over(_) | ValueTest::Under(_) | ValueTest::AtLeast(_) | ValueTest::AtMost(_) => {
            Some(NUMBER)
        }
        ValueTest::Has(_) | ValueTest::Starts(_) | ValueTest::Ends(_) => Some(TEXT),
        ValueTest::Before(_)
        | ValueTest::After(_)
        | ValueTest::InLast(_)
        | ValueTest::InNext(_)
        | ValueTest::OlderThan(_) => Some(TIME),
        ValueTest::Not(inner) => inner.iter().find_map(wanted),
        ValueTest::OneOf(_) | ValueTest::Missing(_) | ValueTest::SameAs(_) => None,
    }
}

fn fits(kind: ValueType, wants: &str, times: TimeEncoding) -> bool {
    match wants {
        NUMBER => matches!(kind, ValueType::Integer | ValueType::Number),
        TEXT => kind == ValueType::Text,
        // A text in RFC 3339 is read as a time even where nobody declared it.
        _ => kind == ValueType::Time || (kind == ValueType::Text && times == TimeEncoding::Rfc3339),
    }
}

fn check_not_null(project: &Project, columns: &Columns, found: &mut Vec<Diagnostic>) {
    for (segment, named) in &project.not_null {
        let Base::Query(base, _) = base(&project.segments, segment) else { continue };
        let Some(of) = columns.segments.get(segment).or_else(|| columns.segments.get(&base.name)) else {
            continue;
        };
        for (column, span) in named.iter().filter(|(column, _)| !has(of, column)) {
            found.push(unknown(project, *span, column, &format!("the segment `{segment}`"), of));
        }
    }
}

pub(crate) fn has(columns: &[(String, Option<ValueType>)], name: &str) -> bool {
    columns.iter().any(|(known, _)| known == name)
}

/// A column that is not there.
pub(crate) fn unknown(
    project: &Project,
    span: Span,
    name: &str,
    what: &str,
    columns: &[(String, Option<ValueType>)],
) -> Diagnostic {
    let mut mistake = project.files.diagnostic("E0304", span, format!("{what} has no column `{name}`"));
    let known: Vec<&str> =
        columns.iter().map(|(name, _)| name.as_str()).filter(|known| *known != "id").collect();
    match nearest(name, known.iter().copied()) {
        Some(meant) => mistake.did_you_mean(Some(meant)),
        None if known.is_empty() => mistake.hint("it has no columns but `id`"),
        None => mistake.hint(format!("it has: {}", known.join(", "))),
    };
    mistake
}
