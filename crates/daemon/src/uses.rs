//! What a playbook uses: the columns of its entry that a template or a condition names.

use std::collections::BTreeSet;

use model::condition::{Condition, ValueOf, ValueTest};
use model::playbook::{Action, Playbook, Wait};
use project::Project;

/// The `entry.*` columns that anything in the playbook names.
pub(crate) fn entry_columns(project: &Project, playbook: &Playbook) -> BTreeSet<String> {
    let mut columns = BTreeSet::new();
    for condition in playbook.conditions() {
        condition.walk(&mut |condition| match condition {
            Condition::Entry { column, tests } => {
                columns.insert(column.clone());
                same_as(tests, &mut columns);
            }
            Condition::Profile { tests, .. } => same_as(tests, &mut columns),
            Condition::All(_)
            | Condition::Any(_)
            | Condition::Not(_)
            | Condition::Segment { .. }
            | Condition::Consent { .. }
            | Condition::Playbook { .. }
            | Condition::Step { .. } => {}
        });
    }
    playbook.walk(&mut |step| match &step.action {
        Action::Wait(Wait::To { value: ValueOf::Entry(column), .. }) => {
            columns.insert(column.clone());
        }
        Action::Send(send) => {
            if let Some(compiled) = project.compiled.get(&send.template) {
                columns.extend(
                    compiled
                        .used()
                        .iter()
                        .filter(|used| used.root == "entry")
                        .filter_map(|used| used.name.clone()),
                );
            }
        }
        Action::Wait(_) | Action::Branch(_) | Action::Exit(_) => {}
    });
    columns
}

fn same_as(tests: &[ValueTest], columns: &mut BTreeSet<String>) {
    for test in tests {
        match test {
            ValueTest::SameAs(ValueOf::Entry(column)) => {
                columns.insert(column.clone());
            }
            ValueTest::Not(inner) => same_as(inner, columns),
            _ => {}
        }
    }
}
