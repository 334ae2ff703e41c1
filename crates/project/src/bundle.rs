//! What a version of a playbook is kept as: its file, and the template files it pins, as one JSON text.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::name::{DestinationName, PlaybookName, TemplateName};
use model::playbook::Playbook;
use serde_json::{Value as Json, json};

use crate::load::{Project, version};

use crate::playbook::Surroundings;
use crate::read::{Cx, Mentioned, Named};
use crate::{templates, yaml};

/// A version of a playbook, ready to run.
#[derive(Debug)]
pub struct Pinned {
    /// The playbook: steps, waits, purpose, exit, goal and holdout of the version; priority, limits and guards as they are now.
    pub playbook: Playbook,
    /// The templates of the version.
    pub compiled: BTreeMap<TemplateName, Arc<message::Compiled>>,
}

/// The present version of a playbook as one text, to be kept for as long as people are under way on it. Empty for a
/// playbook that the project does not have.
pub fn bundle(project: &Project, playbook: &PlaybookName) -> String {
    let path = format!("playbooks/{playbook}.yml");
    let (Some(present), Some(file)) = (project.playbooks.get(playbook), project.files.find(&path)) else {
        return String::new();
    };
    let templates: BTreeMap<String, String> =
        templates::pinned_files(present, &project.templates).into_iter().collect();
    let destinations: BTreeMap<&str, &str> =
        present.sends().into_iter().map(|(id, send)| (id.as_str(), send.destination.as_str())).collect();
    json!({"format": 1, "name": playbook.as_str(), "text": project.files.text(file), "templates": templates, "destinations": destinations}).to_string()
}

/// Reads a version back. What is live (destinations, purposes, priority, limits, guards) is that of the project as it is now.
///
/// # Errors
/// Says why the version cannot go on: a purpose it speaks for is gone, or the text is not a bundle.
pub fn from_bundle(project: &Project, bundle: &str) -> Result<Pinned, String> {
    let bundle: Json = serde_json::from_str(bundle).map_err(|error| format!("not a bundle: {error}"))?;
    let text =
        |key: &str| bundle.get(key).and_then(Json::as_str).ok_or_else(|| format!("not a bundle: no `{key}`"));
    if bundle.get("format").and_then(Json::as_u64) != Some(1) {
        return Err("written by a version of Drumbeat that this one does not know".to_owned());
    }
    let name = PlaybookName::parse(text("name")?).map_err(|error| error.to_string())?;
    let strings = |key: &str| -> BTreeMap<String, String> {
        let entries = bundle.get(key).and_then(Json::as_object).into_iter().flatten();
        entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
    };
    let sources = message::Sources(strings("templates"));

    let nothing = |_: &str| None;
    let mut cx = Cx::new(&project.dir, &nothing, &[]);
    for destination in project.settings.destinations.keys() {
        cx.define(Named::Destination, destination.as_str());
    }
    for purpose in project.policy.purposes.keys() {
        cx.define(Named::Purpose, purpose.as_str());
    }
    let file = cx.files.add(format!("playbooks/{name}.yml"), text("text")?.to_owned());
    let around = Surroundings {
        destinations: &project.abilities,
        destinations_known: true,
        preferred: preferred(project, &name, &strings("destinations")),
    };
    let written = yaml::parse(&cx.files, file, &mut cx.mistakes)
        .and_then(|node| crate::playbook::read(name.clone(), &node, &around, &mut cx));
    let gone = cx.mentions.iter().find_map(|mention| match &mention.what {
        Mentioned::Name(kind @ Named::Purpose, name)
            if !cx.defined.get(kind).is_some_and(|names| names.contains(name)) =>
        {
            Some(name.clone())
        }
        _ => None,
    });
    if let Some(purpose) = gone {
        return Err(format!("the purpose `{purpose}` is gone from the project"));
    }
    let written = written
        .filter(|_| cx.mistakes.iter().all(|mistake| mistake.warning))
        .ok_or_else(|| first_mistake(&cx))?;
    let compiled = templates::compile(
        &sources,
        &project.settings.locales,
        std::slice::from_ref(&written),
        None,
        &mut cx,
    );
    let mut playbook = written.playbook;
    if playbook.sends().iter().any(|(_, send)| !compiled.contains_key(&send.template)) {
        return Err(first_mistake(&cx));
    }
    playbook.version = version(&playbook, &written.pinned, &sources);
    playbook.contents = templates::contents(&playbook, &compiled);
    if let Some(present) = project.playbooks.get(&name) {
        (playbook.priority, playbook.per_run) = (present.priority, present.per_run);
        playbook.per_hour = present.per_hour;
        playbook.guards = present.guards.clone();
    }
    Ok(Pinned { playbook, compiled })
}

/// What each step used when the version was kept, or, where that is gone, uses now.
fn preferred(
    project: &Project,
    name: &PlaybookName,
    kept: &BTreeMap<String, String>,
) -> BTreeMap<String, DestinationName> {
    let present: BTreeMap<String, DestinationName> = project
        .playbooks
        .get(name)
        .map(|present| {
            present
                .sends()
                .into_iter()
                .map(|(id, send)| (id.as_str().to_owned(), send.destination.clone()))
                .collect()
        })
        .unwrap_or_default();
    let kept = kept.iter().filter_map(|(id, destination)| {
        let destination = DestinationName::parse(destination).ok()?;
        project.settings.destinations.contains_key(&destination).then(|| (id.clone(), destination))
    });
    present.clone().into_iter().chain(kept).collect()
}

fn first_mistake(cx: &Cx<'_>) -> String {
    let mistake = cx.mistakes.iter().find(|mistake| !mistake.warning);
    mistake.map_or_else(
        || "the version cannot be read".to_owned(),
        |mistake| format!("{}:{}: {}", mistake.file, mistake.line, mistake.message),
    )
}
