//! Templates.
use crate::message_stub as message;
use std::collections::BTreeMap;
use std::sync::Arc;
use model::name::TemplateName;
use model::playbook::Playbook;
use model::policy::Policy;
use crate::playbook::Written;
use crate::read::{Cx, Named};

pub(crate) fn read(cx: &mut Cx<'_>) -> message::Sources {
    let mut s = message::Sources::default();
    if let Ok(d) = std::fs::read_dir(cx.dir.join("templates")) {
        for e in d.flatten() {
            let n = e.file_name().to_string_lossy().into_owned();
            let t = std::fs::read_to_string(e.path()).unwrap_or_default();
            cx.define(Named::Template, n.split('.').next().unwrap_or_default());
            s.0.insert(n, t);
        }
    }
    s
}
pub(crate) fn compile(_s: &message::Sources, _p: &[Written], _policy: Option<&Policy>, _cx: &mut Cx<'_>) -> BTreeMap<TemplateName, Arc<message::Compiled>> { BTreeMap::new() }
pub(crate) fn pinned_files(_p: &Playbook, s: &message::Sources) -> Vec<(String, String)> { s.0.clone().into_iter().collect() }
pub(crate) fn sources(m: BTreeMap<String, String>) -> message::Sources { message::Sources(m) }
pub(crate) fn check(_p: &crate::Project, _c: &crate::columns::Columns, _f: &mut Vec<crate::Diagnostic>) {}
