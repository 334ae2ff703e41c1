//! A project as files, read by the real reader; the rules of a seed take the place of what its files say.

use std::path::Path;
use std::sync::Arc;

use model::query::Query;
use model::schedule::Schedule;
use model::segment::{Expect, Segment, SegmentSource};
use project::{Can, KnownConnector, Project};

use crate::rules::Rules;

/// The files: the least that passes, with the one template every step sends.
const FILES: &[(&str, &str)] = &[
    (
        "drumbeat.yml",
        "version: 1
project: simulated
timezone: Europe/Berlin
locales: [en]
deliver: local
state: sqlite://state.db
warehouse: {url: sqlite://warehouse.db, times: rfc3339}
brands:
  acme: {title: Acme, from: \"Acme <hello@acme.test>\", postal_address: \"Example Street 1\", public_url: https://mail.acme.test/}
destinations:
  mail: {connector: made}
",
    ),
    ("data.yml", "profiles:\n  sql: select id, email, timezone, first_name from people\n"),
    ("policy.yml", "purposes:\n  offers: {title: Offers, class: marketing}\n"),
    ("segments/people.yml", "title: People\nowner: o@acme.test\nwhy: All.\nsql: select id from people\n"),
    (
        "playbooks/base.yml",
        "title: Base\nowner: o@acme.test\nwhy: Sends the template.\nenter: segment.people\npurpose: offers\nsteps:\n  - {id: note, send: note}\n",
    ),
    (
        "templates/note.md",
        "---\nsubject: A note\n---\nHello {{ profile.first_name | default('there') }}, this is {{ step }} of {{ playbook.title }}.\n\n\
        {% if unsubscribe_url %}{{ postal_address }} [Unsubscribe]({{ unsubscribe_url }}){% endif %}\n",
    ),
];

/// Writes the files and reads them.
///
/// # Errors
/// What cannot be written, or is wrong with the files, as text.
pub(super) fn read(dir: &Path) -> Result<Project, String> {
    for (path, text) in FILES {
        let path = dir.join(path);
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        made.and_then(|()| std::fs::write(&path, text))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let made = KnownConnector {
        name: "made",
        can: Can { messages: Some(model::Channel::Email), audiences: false, records: None },
        check: Box::new(|_| Vec::new()),
        schema: || serde_json::json!({"type": "object"}),
    };
    let loaded = project::load(dir, None, &[made], &|_| None).map_err(|wrong| wrong.render(false))?;
    Ok(loaded.project)
}

/// The project with the rules of a seed.
pub(super) fn ruled(mut project: Project, rules: &Rules) -> Arc<Project> {
    let query = || Query { sql: String::new(), columns: Default::default(), place: "made".to_owned() };
    project.settings.timezone = rules.zone.clone();
    project.policy = model::policy::Policy { consent: Some(query()), ..rules.policy.clone() };
    project.playbooks = rules.playbooks.clone();
    project.segment_order = rules.segments.keys().cloned().collect();
    project.segments = rules
        .segments
        .iter()
        .map(|(name, every)| {
            let segment = Segment {
                name: name.clone(),
                title: name.to_string(),
                owner: "simulator@example.test".to_owned(),
                why: "To be simulated.".to_owned(),
                tags: Vec::new(),
                schedule: Schedule::every(*every),
                source: SegmentSource::Sql(query()),
                expect: Expect::default(),
                definition: format!("{name}-1"),
            };
            (name.clone(), segment)
        })
        .collect();
    Arc::new(project)
}
