//! From a folder to a project: reads every file, collects every mistake, and only then says yes or no.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::name::{BrandName, DestinationName, PlaybookName, SegmentName, SyncName, TemplateName};
use model::playbook::Playbook;
use model::policy::Policy;
use model::segment::{Segment, SegmentSource};
use model::settings::{Data, Settings};
use model::sync::Sync;

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::playbook::{Surroundings, Written};
use crate::query::{Declared, read_text};
use crate::read::{Cx, Mention, Mentioned, Named, Read as _, RootKeys, SqlPlace};
use crate::root::Root;
use crate::scenario::Scenario;
use crate::settings::Destinations;
use crate::source::{Files, Span};
use crate::sync::{RecordTexts, Syncs};
use crate::yaml::{Kind, Node};
use model::suggest::nearest;

use crate::{Can, KnownConnector, columns, overlay, templates, yaml};

/// Most files that are read from one folder.
const MAX_FILES: usize = 10_000;

/// A project's files as typed values.
#[derive(Clone)]
pub struct Project {
    /// Its folder.
    pub dir: PathBuf,
    /// The environment that was laid over, if one was chosen.
    pub environment: Option<String>,
    /// All environments it has, by name.
    pub environments: Vec<String>,
    /// Where it runs.
    pub settings: Settings,
    /// What the warehouse holds.
    pub data: Data,
    /// What is allowed.
    pub policy: Policy,
    /// Who.
    pub segments: BTreeMap<SegmentName, Segment>,
    /// The segments' names, each after those it asks about.
    pub segment_order: Vec<SegmentName>,
    /// What happens.
    pub playbooks: BTreeMap<PlaybookName, Playbook>,
    /// Which audiences and records are kept equal to whom.
    pub syncs: BTreeMap<SyncName, Sync>,
    /// What makes the records of those that keep records.
    pub record_texts: BTreeMap<SyncName, RecordTexts>,
    /// The files of templates, layouts and parts.
    pub templates: message::Sources,
    /// The templates that playbooks send, compiled.
    pub compiled: BTreeMap<TemplateName, Arc<message::Compiled>>,
    /// Who signs the mail of a brand; of the others nobody does.
    pub signers: BTreeMap<BrandName, Arc<message::dkim::Signer>>,
    /// Scenarios, by file.
    pub scenarios: Vec<Scenario>,
    pub(crate) files: Files,
    pub(crate) queries: BTreeMap<String, SqlPlace>,
    pub(crate) mentions: Vec<Mention>,
    pub(crate) declared: Vec<Declared>,
    pub(crate) abilities: Vec<(DestinationName, Can)>,
    /// The columns each segment names in `expect: {not_null: ...}`, with their places.
    pub(crate) not_null: BTreeMap<SegmentName, Vec<(String, Span)>>,
}

impl std::fmt::Debug for Project {
    /// Without its files' text: a file may hold what should have been a secret.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Project")
            .field("dir", &self.dir)
            .field("environment", &self.environment)
            .field("segments", &self.segments.keys())
            .field("playbooks", &self.playbooks.keys())
            .finish_non_exhaustive()
    }
}

/// A project, and what may be improved in it.
#[derive(Debug)]
pub struct Loaded {
    /// The project.
    pub project: Project,
    /// Warnings.
    pub warnings: Diagnostics,
}

/// What could be read of a project, and all that is to be said of it so far.
#[derive(Debug)]
pub struct Reading {
    /// The project. Where there are mistakes, what could be read of it: to be checked further, so that all mistakes are
    /// said at once, and never to be run. `None` where not even its warehouse is known.
    pub project: Option<Project>,
    /// All environments it has, by name.
    pub environments: Vec<String>,
    /// Mistakes and warnings.
    pub found: Diagnostics,
}

/// Reads the project in a folder, with an environment laid over it. `lookup` answers for environment variables.
///
/// # Errors
/// All mistakes there are (warnings among them), not only the first.
pub fn load(
    dir: &Path,
    environment: Option<&str>,
    connectors: &[KnownConnector],
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Diagnostics> {
    let Reading { project, found, .. } = read(dir, environment, connectors, lookup);
    match project {
        Some(project) if !found.has_mistakes() => Ok(Loaded { project, warnings: found }),
        _ => Err(found),
    }
}

/// The same as [`load`], for who looks for mistakes and goes on from what could be read.
pub fn read(
    dir: &Path,
    environment: Option<&str>,
    connectors: &[KnownConnector],
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Reading {
    let mut cx = Cx::new(dir, lookup, connectors);
    let (read, environments) = read_files(&mut cx, environment);
    let found = finish(&mut cx);
    let project = read.map(|project| Project {
        files: cx.files,
        queries: cx.queries,
        mentions: cx.mentions,
        declared: cx.declared,
        ..project
    });
    Reading { project, environments, found }
}

/// All diagnostics, with nothing in them that was looked up.
fn finish(cx: &mut Cx<'_>) -> Diagnostics {
    let secrets: BTreeSet<&str> =
        cx.secrets.iter().map(String::as_str).filter(|secret| secret.len() >= 4).collect();
    let scrub = |text: &mut String| {
        for secret in &secrets {
            if text.contains(secret) {
                *text = text.replace(secret, "[secret]");
            }
        }
    };
    let mut all = std::mem::take(&mut cx.mistakes);
    for diagnostic in &mut all {
        scrub(&mut diagnostic.message);
        diagnostic.label.iter_mut().for_each(scrub);
        diagnostic.hint.iter_mut().for_each(scrub);
    }
    Diagnostics::new(all)
}

fn read_files(cx: &mut Cx<'_>, environment: Option<&str>) -> (Option<Project>, Vec<String>) {
    let (root, root_is_whole) = read_root(cx);
    cx.root = Some(RootKeys { span: root.span, whole: root_is_whole });
    let environments: Vec<String> = root
        .get("environments")
        .map(|node| node.entries().iter().map(|(key, _)| key.text.clone()).collect())
        .unwrap_or_default();
    let project = read_with(cx, root, root_is_whole, environment, &environments);
    (project, environments)
}

/// The rest, once it is known which environment is laid over the root files' keys.
fn read_with(
    cx: &mut Cx<'_>,
    root: Node,
    root_is_whole: bool,
    environment: Option<&str>,
    environments: &[String],
) -> Option<Project> {
    let root = lay_over(root, environment, environments, root_is_whole, cx);
    let segment_files = folder("segments", Named::Segment, cx);
    let playbook_files = folder("playbooks", Named::Playbook, cx);
    let sync_files = folder("syncs", Named::Sync, cx);
    let scenario_files = folder("tests", Named::Environment, cx);
    let sources = templates::read(cx);
    for later in ["scores", "lists", "offers"] {
        for (path, _) in list(&cx.dir.join(later), cx) {
            cx.push(Diagnostic::of_file(
                "E0901",
                format!("{later}/{path}"),
                format!("not yet: {later} are not built yet"),
            ));
        }
    }

    let rooted = read_settings(&root, cx);
    let segments = read_segments(&segment_files, cx);
    let around = Surroundings {
        destinations: &rooted.abilities,
        destinations_known: root_is_whole && rooted.destinations_known,
        preferred: BTreeMap::new(),
    };
    let playbooks = read_playbooks(&playbook_files, &around, cx);
    let Syncs { all: syncs, texts: record_texts } =
        crate::sync::read_all(&sync_files, &rooted.abilities, rooted.policy.as_ref(), cx);
    let types = crate::scenario_file::Types {
        profiles: rooted.data.as_ref().map(|data| &data.profiles.columns),
        accounts: rooted.data.as_ref().and_then(|data| Some(&data.accounts.as_ref()?.columns)),
    };
    let mut scenarios = Vec::new();
    for (name, node) in &scenario_files {
        scenarios.extend(crate::scenario_file::read(&format!("tests/{name}.yml"), node, types, cx));
    }

    look_up_names(root_is_whole, cx);
    look_up_steps(cx);
    if let Some(data) = &rooted.data {
        columns::check_values(data, &segments, &playbooks, cx);
    }
    let segment_order = order(&segments, cx);
    let not_null = not_null(&segment_files);
    let locales = rooted.settings.as_ref().map(|settings| settings.locales.clone()).unwrap_or_default();
    let compiled = templates::compile(&sources, &locales, &playbooks, rooted.policy.as_ref(), cx);
    if root_is_whole && root.get("accounts").is_none() {
        refuse_accounts(&compiled, cx);
    }
    let mut pinned = BTreeMap::new();
    for Written { mut playbook, pinned: text, .. } in playbooks {
        playbook.version = version(&playbook, &text, &sources);
        playbook.contents = templates::contents(&playbook, &compiled);
        pinned.insert(playbook.name.clone(), playbook);
    }
    Some(Project {
        dir: cx.dir.to_owned(),
        environment: environment.map(str::to_owned),
        environments: environments.to_vec(),
        settings: rooted.settings?,
        data: rooted.data?,
        policy: rooted.policy?,
        segments,
        segment_order,
        playbooks: pinned,
        syncs,
        record_texts,
        templates: sources,
        compiled,
        signers: rooted.signers,
        scenarios,
        files: Files::default(),
        queries: BTreeMap::new(),
        mentions: Vec::new(),
        declared: Vec::new(),
        abilities: rooted.abilities,
        not_null,
    })
}

/// The id of what a version pins: the playbook's own part, and the text of every template file it uses.
pub(crate) fn version(playbook: &Playbook, pinned: &str, sources: &message::Sources) -> String {
    let mut parts = vec![playbook.name.as_str().to_owned(), pinned.to_owned()];
    for (path, text) in templates::pinned_files(playbook, sources) {
        parts.extend([path, text]);
    }
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    model::id::derive("version", "", &parts)
}

/// The keys of all root files in one tree. False: a file could not be read, so that keys may be missing.
fn read_root(cx: &mut Cx<'_>) -> (Node, bool) {
    let dir = cx.dir.to_owned();
    let paths = list(&dir, cx);
    if paths.is_empty() {
        cx.push(Diagnostic::of_file("E0101", "drumbeat.yml", "there is no project here"))
            .hint("make one with `drumbeat init`, or say where it is with `-C DIR`");
        return (Node::empty(u32::MAX), false);
    }
    let mut whole = true;
    let mut entries: Vec<(yaml::Key, Node)> = Vec::new();
    for (path, full) in paths {
        let Some(node) = read_file(&path, &full, cx) else {
            whole = false;
            continue;
        };
        let Kind::Map(read) = node.kind else {
            cx.wrong_kind(&node, "a map of settings");
            whole = false;
            continue;
        };
        for (key, value) in read {
            match entries.iter().find(|(known, _)| known.text == key.text) {
                Some((first, _)) => {
                    let first = cx.files.place(first.span);
                    let message = format!("the key `{}` is there twice", key.text);
                    cx.mistake("E0106", key.span, message)
                        .label(format!("the first is at {first}"))
                        .hint("each key of the root files stands in one of them");
                }
                None => entries.push((key, value)),
            }
        }
    }
    let span = entries.first().map_or(Span::top(0), |(key, _)| key.span);
    (Node { kind: Kind::Map(entries), span, key: None }, whole)
}

fn lay_over(
    mut root: Node,
    environment: Option<&str>,
    environments: &[String],
    root_is_whole: bool,
    cx: &mut Cx<'_>,
) -> Node {
    let Some(name) = environment else { return root };
    match root.get("environments").and_then(|all| all.get(name)).cloned() {
        Some(over) if matches!(over.kind, Kind::Map(_)) => overlay::lay_over(&mut root, &over),
        // Not a map: said when `environments` is read. Nothing: nothing to lay over.
        Some(_) => {}
        // It may stand in a file that could not be read.
        None if !root_is_whole => {}
        None => {
            let at =
                root.entries().iter().find(|(key, _)| key.text == "environments").map(|(key, _)| key.span);
            let message = format!("there is no environment `{name}`");
            let mistake = match at {
                Some(at) => cx.mistake("E0201", at, message),
                None => cx.push(Diagnostic::of_file("E0201", "drumbeat.yml", message)),
            };
            match (nearest(name, environments.iter().map(String::as_str)), environments) {
                (Some(meant), _) => mistake.did_you_mean(Some(meant)),
                (None, []) => mistake.hint("this project has no environments"),
                (None, all) => mistake.hint(format!("there are: {}", all.join(", "))),
            };
        }
    }
    root
}

/// What the root files come to; what could not be read is `None`.
#[derive(Default)]
struct Rooted {
    settings: Option<Settings>,
    data: Option<Data>,
    policy: Option<Policy>,
    signers: BTreeMap<BrandName, Arc<message::dkim::Signer>>,
    abilities: Vec<(DestinationName, Can)>,
    destinations_known: bool,
}

fn read_settings(node: &Node, cx: &mut Cx<'_>) -> Rooted {
    cx.references = true;
    let rooted = match Root::read(node, cx) {
        Some(mut root) => {
            let Destinations { read, abilities, complete } =
                crate::settings::destinations(&root.destinations.take().unwrap_or_default(), cx);
            let settings = crate::settings::settings(&root, read, cx);
            let whole = cx.root.is_none_or(|root| root.whole);
            if whole
                && settings.as_ref().is_some_and(|settings| settings.production)
                && node.get("keys").is_none()
            {
                let at = node.get("production").map_or(node.span, Node::place);
                cx.mistake("E0103", at, "production needs `keys: {root: ...}`")
                    .hint("32 bytes in base64: `keys: {root: {env: DRUMBEAT_KEY}}`");
            }
            let signers = crate::dkim::signers(&root, cx);
            let policy = Some(crate::policy::policy(&mut root, cx));
            let data = Some(crate::settings::data(root, cx));
            Rooted { settings, data, policy, signers, abilities, destinations_known: complete }
        }
        None => Rooted::default(),
    };
    cx.references = false;
    rooted
}

/// The `.yml` files of a folder as `(file name, full path)`, in the order of their names; hidden ones are left alone.
fn list(dir: &Path, cx: &mut Cx<'_>) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(dir) else { return found };
    let home = dir.strip_prefix(cx.dir).unwrap_or(Path::new("")).to_string_lossy().replace('\\', "/");
    for entry in entries.flatten().take(MAX_FILES) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || entry.path().is_dir() {
            continue;
        }
        if name.ends_with(".yml") {
            found.push((name, entry.path()));
        } else if name.ends_with(".yaml")
            && (!home.is_empty() || ["drumbeat.yaml", "data.yaml", "policy.yaml"].contains(&name.as_str()))
        {
            let path = if home.is_empty() { name } else { format!("{home}/{name}") };
            cx.push(Diagnostic::of_file("E0101", path, "this file is not read")).hint("call it `.yml`");
        }
    }
    found.sort();
    found
}

/// How deep files are looked for that lie where none is read.
const STRAY_DEPTH: usize = 4;

/// Warns of files that would be read if they did not lie in a folder of their folder: nobody is to wonder why they do nothing.
pub(crate) fn warn_of_strays(folder: &str, endings: &[&str], cx: &mut Cx<'_>) {
    fn visit(path: &str, depth: usize, endings: &[&str], cx: &Cx<'_>, found: &mut Vec<String>) {
        let Ok(entries) = std::fs::read_dir(cx.dir.join(path)) else { return };
        for entry in entries.flatten().take(MAX_FILES) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let inner = format!("{path}/{name}");
            if name.starts_with('.') {
                continue;
            }
            if entry.path().is_dir() {
                if depth < STRAY_DEPTH {
                    visit(&inner, depth + 1, endings, cx, found);
                }
            } else if depth > 0 && endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(inner);
            }
        }
    }
    let mut found = Vec::new();
    visit(folder, 0, endings, cx, &mut found);
    for path in found {
        cx.push(Diagnostic::of_file("E0101", path, "this file is not read"))
            .warn()
            .hint(format!("files of {folder}/ lie in it, and not in folders of it"));
    }
}

/// Reads one file into a tree.
fn read_file(path: &str, full: &Path, cx: &mut Cx<'_>) -> Option<Node> {
    match read_text(full) {
        Ok(text) => {
            let file = cx.files.add(path.to_owned(), text);
            yaml::parse(&cx.files, file, &mut cx.mistakes)
        }
        Err(why) => {
            cx.push(Diagnostic::of_file("E0101", path, format!("cannot read this file: {why}")));
            None
        }
    }
}

/// The files of a folder by name, each a tree. The name is known even where the file is wrong.
fn folder(folder: &str, kind: Named, cx: &mut Cx<'_>) -> Vec<(String, Node)> {
    let mut nodes = Vec::new();
    warn_of_strays(folder, &[".yml", ".yaml"], cx);
    for (file_name, full) in list(&cx.dir.join(folder), cx) {
        let name = file_name.trim_end_matches(".yml").to_owned();
        let path = format!("{folder}/{file_name}");
        if name.starts_with('_') {
            cx.push(Diagnostic::of_file("E0901", path, "not yet: files to extend are not built yet"));
            continue;
        }
        if !model::name::is_name(&name) {
            let mistake = cx.push(Diagnostic::of_file("E0105", path, format!("`{name}` is not a name")));
            mistake.hint(model::name::NameError.to_string());
            continue;
        }
        if kind != Named::Environment {
            cx.define(kind, &name);
        }
        nodes.extend(read_file(&path, &full, cx).map(|node| (name, node)));
    }
    nodes
}

fn read_segments(files: &[(String, Node)], cx: &mut Cx<'_>) -> BTreeMap<SegmentName, Segment> {
    let mut segments = BTreeMap::new();
    for (name, node) in files {
        let name = SegmentName::known(name.as_str());
        if let Some(segment) = crate::segment::read(name.clone(), node, cx) {
            segments.insert(name, segment);
        }
    }
    segments
}

fn read_playbooks(files: &[(String, Node)], around: &Surroundings<'_>, cx: &mut Cx<'_>) -> Vec<Written> {
    files
        .iter()
        .filter_map(|(name, node)| {
            crate::playbook::read(PlaybookName::known(name.as_str()), node, around, cx)
        })
        .collect()
}

/// Everything that is named is there.
fn look_up_names(root_is_whole: bool, cx: &mut Cx<'_>) {
    for mention in cx.mentions.clone() {
        let Mentioned::Name(kind, name) = mention.what else { continue };
        let in_root = matches!(kind, Named::Brand | Named::Destination | Named::Fresh | Named::Purpose);
        if cx.defined.get(&kind).is_some_and(|names| names.contains(&name)) || (in_root && !root_is_whole) {
            continue;
        }
        let meant = nearest(&name, cx.names(kind)).map(str::to_owned);
        let mistake = cx.mistake("E0201", mention.span, format!("there is no {} `{name}`", kind.word()));
        match meant {
            Some(meant) => mistake.did_you_mean(Some(&meant)),
            None => mistake.hint(kind.home(&name)),
        };
    }
}

/// The project has no accounts: that somebody asks for one is a mistake, said once, where it is asked first.
fn refuse_accounts(compiled: &BTreeMap<TemplateName, Arc<message::Compiled>>, cx: &mut Cx<'_>) {
    const CODE: &str = "E0103";
    const MESSAGE: &str = "`account` is asked for, and the key `accounts` is missing";
    let asked = cx.mentions.iter().find(|mention| matches!(mention.what, Mentioned::Account(_)));
    let used = compiled.values().find_map(|template| template.account());
    let mistake = match (asked.map(|mention| mention.span), used) {
        (Some(span), _) => cx.mistake(CODE, span, MESSAGE),
        (None, Some(used)) => {
            let place = (used.file.as_str(), used.line, used.column, used.len);
            let diagnostic = templates::at(&cx.files, CODE, MESSAGE, place);
            cx.push(diagnostic)
        }
        (None, None) => return,
    };
    mistake.hint(
        "say in data.yml what they are: `accounts: {sql: \"select account_id as id, name from accounts\"}`",
    );
}

/// The steps that scenarios name are there; `entry` is the row of who was not let in.
fn look_up_steps(cx: &mut Cx<'_>) {
    for (playbook, step, span) in std::mem::take(&mut cx.named_steps) {
        let Some(ids) = cx.step_ids.get(&playbook) else { continue };
        if step != model::StepId::entry().as_str() && !ids.contains(&step) {
            let meant = nearest(&step, ids.iter().map(String::as_str)).map(str::to_owned);
            cx.mistake("E0201", span, format!("the playbook `{playbook}` has no step `{step}`"))
                .did_you_mean(meant.as_deref());
        }
    }
}

/// The segments, each after those it asks about; cycles are reported.
fn order(segments: &BTreeMap<SegmentName, Segment>, cx: &mut Cx<'_>) -> Vec<SegmentName> {
    fn visit(
        name: &SegmentName,
        segments: &BTreeMap<SegmentName, Segment>,
        way: &mut Vec<SegmentName>,
        done: &mut Vec<SegmentName>,
        cycles: &mut Vec<Vec<SegmentName>>,
    ) {
        if done.iter().any(|known| known == name) {
            return;
        }
        if let Some(at) = way.iter().position(|on_way| on_way == name) {
            cycles.push(way[at..].to_vec());
            return;
        }
        let Some(segment) = segments.get(name) else { return };
        way.push(name.clone());
        if let SegmentSource::Where(condition) = &segment.source {
            for (asked, _) in condition.segments() {
                visit(asked, segments, way, done, cycles);
            }
        }
        way.pop();
        done.push(name.clone());
    }
    let (mut done, mut cycles) = (Vec::new(), Vec::new());
    for name in segments.keys() {
        visit(name, segments, &mut Vec::new(), &mut done, &mut cycles);
    }
    for cycle in cycles {
        let Some(first) = cycle.first() else { continue };
        let path = format!("segments/{first}.yml");
        let next = cycle.get(1).unwrap_or(first);
        let file = cx.files.find(&path);
        let at = cx.mentions.iter().find(|mention| {
            Some(mention.span.file) == file
                && matches!(&mention.what, Mentioned::Name(Named::Segment, name) if name == next.as_str())
        });
        let Some(at) = at.map(|mention| mention.span) else { continue };
        let chain =
            cycle.iter().chain([first]).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" -> ");
        cx.mistake("E0202", at, "segments ask about each other in a circle").label(chain);
    }
    done
}

fn not_null(files: &[(String, Node)]) -> BTreeMap<SegmentName, Vec<(String, Span)>> {
    files
        .iter()
        .filter_map(|(name, node)| {
            let list = node.get("expect")?.get("not_null")?;
            let items = match &list.kind {
                Kind::List(items) => &items[..],
                Kind::Map(_) | Kind::Scalar { .. } => std::slice::from_ref(list),
            };
            let columns =
                items.iter().filter_map(|item| Some((item.text()?.to_owned(), item.span))).collect();
            Some((SegmentName::known(name.as_str()), columns))
        })
        .collect()
}
