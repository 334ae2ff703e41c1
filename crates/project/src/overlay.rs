//! Laying one tree over another: maps merge, anything else replaces, `null` removes; a destination with another connector
//! replaces whole.

use crate::reference::is_reference;
use crate::yaml::{Kind, Node};

/// Lays `over` over `base`, the keys of the root files. Places stay those of the files that the values came from.
pub(crate) fn lay_over(base: &mut Node, over: &Node) {
    merge(base, over, &mut Vec::new());
}

fn merge(base: &mut Node, over: &Node, path: &mut Vec<String>) {
    if !merges(base, over, path) {
        *base = over.clone();
        return;
    }
    let Kind::Map(entries) = &mut base.kind else { return };
    for (key, value) in over.entries() {
        let found = entries.iter().position(|(known, _)| known.text == key.text);
        match found {
            Some(at) if value.is_null() => {
                entries.remove(at);
            }
            Some(at) => {
                path.push(key.text.clone());
                if let Some((_, below)) = entries.get_mut(at) {
                    merge(below, value, path);
                }
                path.pop();
            }
            None if value.is_null() => {}
            None => entries.push((key.clone(), value.clone())),
        }
    }
}

/// Whether the two merge, and the upper does not replace the lower.
fn merges(base: &Node, over: &Node, path: &[String]) -> bool {
    let both_maps = matches!((&base.kind, &over.kind), (Kind::Map(_), Kind::Map(_)));
    let a_reference = is_reference(base) || is_reference(over);
    let connector = |node: &Node| node.get("connector").and_then(Node::text).map(str::to_owned);
    let is_destination = matches!(path, [first, _] if first == "destinations");
    let another =
        is_destination && connector(over).is_some_and(|new| connector(base).is_some_and(|old| new != old));
    both_maps && !a_reference && !another
}
