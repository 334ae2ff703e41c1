//! References: `{env: NAME}`, `{file: PATH}`, `{credential: NAME}` in the place of a single value of a root file.
//! Nothing here shows what was looked up.

use std::path::PathBuf;

use crate::read::{Cx, Text};
use crate::yaml::{Kind, Node};

/// Largest secret that is read from a file, in bytes.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// Whether a map stands for a value that is to be looked up.
pub(crate) fn is_reference(node: &Node) -> bool {
    let single = |node: &Node| matches!(node.kind, Kind::Scalar { .. });
    let keys: Vec<&str> = node.entries().iter().map(|(key, _)| key.text.as_str()).collect();
    node.entries().iter().all(|(_, value)| single(value))
        && matches!(keys[..], ["env"] | ["env", "default"] | ["default", "env"] | ["file"] | ["credential"])
}

/// Looks a reference up. `None`: it is not there, and that is reported.
pub(crate) fn look_up(node: &Node, cx: &mut Cx<'_>) -> Option<Text> {
    let (key, target) = node.entries().iter().find(|(key, _)| key.text != "default")?;
    let name = target.text().filter(|_| !target.is_null()).unwrap_or_default().to_owned();
    if name.is_empty() {
        cx.wrong_kind(target, "a name");
        return None;
    }
    let (found, from) = match key.text.as_str() {
        "env" => {
            let from = format!("the environment variable `{name}`");
            let default = node.get("default").and_then(Node::text).map(str::to_owned);
            match (cx.lookup)(&name).filter(|value| !value.is_empty()) {
                Some(value) => (Ok(value), from),
                // What a file itself says is no secret.
                None => match default {
                    Some(default) => {
                        return Some(Text { text: default, plain: true, from: None, span: node.place() });
                    }
                    None => (Err("it is not set".to_owned()), from),
                },
            }
        }
        "file" => (read_secret(cx.dir.join(&name)), format!("the file `{name}`")),
        _ => {
            let from = format!("the credential `{name}`");
            let safe = !name.contains(['/', '\\']) && name != "..";
            match (cx.lookup)("CREDENTIALS_DIRECTORY").filter(|_| safe) {
                Some(folder) => (read_secret(PathBuf::from(folder).join(&name)), from),
                None if safe => (
                    Err("`CREDENTIALS_DIRECTORY` is not set: the service has no credentials".to_owned()),
                    from,
                ),
                None => (Err("that is not a credential's name".to_owned()), from),
            }
        }
    };
    match found {
        Ok(text) => {
            cx.secrets.push(text.clone());
            Some(Text { text, plain: true, from: Some(from), span: target.span })
        }
        Err(why) => {
            let mistake = cx.mistake("E0110", target.span, format!("cannot read {from}"));
            mistake.label(why);
            None
        }
    }
}

/// A file's text without the line break at its end.
fn read_secret(path: PathBuf) -> Result<String, String> {
    let metadata = std::fs::metadata(&path).map_err(|error| crate::query::why(&error))?;
    if metadata.len() > MAX_SECRET_BYTES {
        return Err("it is larger than 64 KiB".to_owned());
    }
    let text = std::fs::read_to_string(&path).map_err(|error| crate::query::why(&error))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err("it is empty".to_owned()),
        text => Ok(text.to_owned()),
    }
}
