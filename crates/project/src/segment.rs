//! segments/NAME.yml.

use jiff::SignedDuration;
use model::condition::Condition;
use model::duration::Share;
use model::name::{FreshName, SegmentName};
use model::schedule::Schedule;
use model::segment::{Expect, Quantity, Segment, SegmentSource};
use serde_json::{Value as Json, json};

use crate::query::{Columns, Sql, SqlFile, query};
use crate::read::{Cx, Given, Needed, Read, record};
use crate::schema::Schemas;
use crate::source::Span;
use crate::values::Some1;
use crate::yaml::Node;

record! {
    /// Who: a state that people are in.
    pub(crate) struct RawSegment ("a segment") {
        /// What people call it.
        "title" title: Needed<String>,
        /// Whose it is.
        "owner" owner: Needed<String>,
        /// What it is for.
        "why" why: Needed<String>,
        /// Words to find it by.
        "tags" tags: Option<Some1<String>>,
        /// When it is refreshed: `15m`, `0 6 * * mon-fri`; 1h unless given.
        "schedule" schedule: Option<Schedule>,
        /// First column id, one row a person; the other columns become `entry.*`.
        "sql" sql: Given<Sql>,
        /// Instead of `sql`: a file beside this one.
        "sql_file" sql_file: Given<SqlFile>,
        /// What is declared about its columns.
        "columns" columns: Given<Columns>,
        /// Instead of `sql`: by other segments, profiles and consent.
        "where" condition: Given<Condition>,
        /// What a run must keep to be believed.
        "expect" expect: Option<RawExpect>,
    }
    not_yet { "stay", "sensitive", "extends" }
}

record! {
    /// Quality gates: a run that breaks one holds, and the last good membership stays in force.
    pub(crate) struct RawExpect ("a map of quality gates") {
        /// How many people.
        "rows" rows: Option<RawRows>,
        /// How many come and go.
        "change" change: Option<RawChange>,
        /// Columns that must have a value in each row.
        "not_null" not_null: Option<Some1<String>>,
        /// Parts of the warehouse that must be fresh.
        "fresh" fresh: Option<Some1<FreshName>>,
    }
}

record! {
    /// How many people: counts, or shares of all profiles.
    pub(crate) struct RawRows ("a map with `min` and `max`") {
        /// At least.
        "min" min: Option<RawQuantity>,
        /// At most.
        "max" max: Option<RawQuantity>,
    }
}

record! {
    /// Members in plus out, against the last run.
    pub(crate) struct RawChange ("a map with `max`") {
        /// At most.
        "max" max: RawQuantity,
    }
}

/// A count or a share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawQuantity(Quantity);

impl Read for RawQuantity {
    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        cx.parsed(node, "a number of people", |text| match text.parse() {
            Ok(count) => Ok(Self(Quantity::Count(count))),
            Err(_) => Share::parse(text)
                .map(|share| Self(Quantity::Share(share)))
                .map_err(|_| "a count, or a share such as `20%`"),
        })
    }

    fn schema(schemas: &mut Schemas) -> Json {
        let share = <Share as Read>::schema(schemas);
        json!({"anyOf": [{"type": "integer", "minimum": 0}, share]})
    }
}

/// Reads a segment's file.
pub(crate) fn read(name: SegmentName, node: &Node, cx: &mut Cx<'_>) -> Option<Segment> {
    let top = top(node);
    let raw = RawSegment::read(node, cx)?;
    let columns_at = match &raw.columns {
        Given::Right(_, at) => Some(*at),
        Given::Absent | Given::Wrong => None,
    };
    let columns = match raw.columns {
        Given::Right(columns, _) => Some(columns),
        Given::Absent | Given::Wrong => None,
    };
    let source = match raw.condition {
        Given::Absent => SegmentSource::Sql(query(raw.sql, raw.sql_file, columns, top, cx)?),
        Given::Wrong => return None,
        Given::Right(condition, at) => {
            if raw.sql.is_there() || raw.sql_file.is_there() {
                cx.mistake("E0108", at, "`where` and `sql` do not go together")
                    .hint("ask for the segment of the query in `where`, from a file of its own");
                return None;
            }
            if let Some(at) = columns_at {
                cx.mistake("E0108", at, "`columns` belongs to `sql`")
                    .hint("with `where` a segment has the columns of the first segment it names");
            }
            SegmentSource::Where(condition)
        }
    };
    let definition = definition(&name, &source, node);
    Some(Segment {
        name,
        title: raw.title.0.unwrap_or_default(),
        owner: raw.owner.0.unwrap_or_default(),
        why: raw.why.0.unwrap_or_default(),
        tags: raw.tags.unwrap_or_default().0,
        schedule: raw.schedule.unwrap_or_else(|| Schedule::every(SignedDuration::from_hours(1))),
        source,
        expect: raw.expect.map(expect).unwrap_or_default(),
        definition,
    })
}

/// Where to show what is wrong with a whole file: its first key.
pub(crate) fn top(node: &Node) -> Span {
    node.entries().first().map_or(node.span, |(key, _)| key.span)
}

fn expect(raw: RawExpect) -> Expect {
    let quantity = |raw: Option<RawQuantity>| raw.map(|raw| raw.0);
    let (rows_min, rows_max) = raw.rows.map_or((None, None), |rows| (quantity(rows.min), quantity(rows.max)));
    Expect {
        rows_min,
        rows_max,
        change_max: quantity(raw.change.map(|change| change.max)),
        not_null: raw.not_null.unwrap_or_default().0,
        fresh: raw.fresh.unwrap_or_default().0,
    }
}

/// Hash of what decides who is in it, and of which values it has.
fn definition(name: &SegmentName, source: &SegmentSource, node: &Node) -> String {
    let what = match source {
        SegmentSource::Sql(query) => query.sql.trim().to_owned(),
        SegmentSource::Where(_) => node.get("where").map(canonical).unwrap_or_default(),
    };
    let columns = node.get("columns").map(canonical).unwrap_or_default();
    model::id::derive("definition", "", &[name.as_str(), &what, &columns])
}

/// A tree as text in which the order of keys, quotes and comments make no difference.
pub(crate) fn canonical(node: &Node) -> String {
    fn sorted(json: Json) -> Json {
        match json {
            Json::Object(object) => {
                let mut entries: Vec<(String, Json)> =
                    object.into_iter().map(|(key, value)| (key, sorted(value))).collect();
                entries.sort_by(|left, right| left.0.cmp(&right.0));
                entries.into_iter().collect()
            }
            Json::Array(items) => items.into_iter().map(sorted).collect(),
            other => other,
        }
    }
    sorted(crate::values::to_json(node)).to_string()
}
