//! What a playbook uses, and so what is read or kept for it: columns of the entry, and the person's account.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use message::Compiled;
use model::TemplateName;
use model::condition::{Condition, ValueOf};
use model::playbook::{Action, Playbook, Wait};
use model::query::Query;
use project::Project;

use crate::daemon::{Daemon, Pinned};

/// The `entry.*` columns that anything in the playbook names.
pub(crate) fn entry_columns(project: &Project, playbook: &Playbook) -> BTreeSet<String> {
    let mut columns: BTreeSet<String> = values(playbook)
        .into_iter()
        .filter_map(|value| match value {
            ValueOf::Entry(column) => Some(column),
            ValueOf::Profile(_) | ValueOf::Account(_) => None,
        })
        .collect();
    for (_, send) in playbook.sends() {
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
    columns
}

/// The query of the accounts, if these versions or the policy ask for a value of the person's account.
pub(crate) fn accounts<'a, 'v>(
    daemon: &'a Daemon,
    versions: impl IntoIterator<Item = &'v Pinned>,
) -> Option<&'a Query> {
    let query = daemon.project.data.accounts.as_ref()?;
    let mut rules = daemon.project.policy.quiet_hours.iter().filter_map(|rule| rule.filter.as_ref());
    let asked =
        rules.any(Condition::reads_account) || versions.into_iter().any(|version| version.reads_account);
    asked.then_some(query)
}

/// Whether a playbook, or a template it sends, asks for a value of the person's account.
pub(crate) fn reads_account(playbook: &Playbook, compiled: &BTreeMap<TemplateName, Arc<Compiled>>) -> bool {
    let sends = playbook.sends();
    let mut templates = sends.iter().filter_map(|(_, send)| compiled.get(&send.template));
    values(playbook).iter().any(|value| matches!(value, ValueOf::Account(_)))
        || templates.any(|template| template.account().is_some())
}

/// The values that a playbook's conditions and waits name.
fn values(playbook: &Playbook) -> Vec<ValueOf> {
    let mut values: Vec<ValueOf> = playbook.conditions().into_iter().flat_map(Condition::values).collect();
    playbook.walk(&mut |step| {
        if let Action::Wait(Wait::To { value, .. }) = &step.action {
            values.push(value.clone());
        }
    });
    values
}
