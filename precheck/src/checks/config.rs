//! What configures the relay daemon: `edge.toml` of the active generation and the operator's own `edge/local.toml`.

use autonomy_schema::{Code, Name, Reason, RelPath, StateManifest, relay};
use autonomy_stateroot::{FileKind, StateRoot, layout, read_capped};

/// Largest configuration in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// What is wrong with them.
pub(crate) fn config(root: &StateRoot, active: Option<(&Name, &StateManifest)>) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if let Some((generation, manifest)) = active {
        let path = layout::in_generation(generation, &RelPath::fixed("edge.toml"));
        let wanted = manifest.spec.relay.edge_toml();
        match read_capped(root.disk(), &path, MAX_BYTES) {
            Ok(Some(bytes)) if bytes == wanted.as_bytes() => {}
            Ok(found) => {
                let how = if found.is_some() { "is not what" } else { "is missing, and not what" };
                let message = format!("`{path}` {how} `spec.relay` of the active manifest says");
                let reason = Reason::new(Code::CorruptState, message);
                reasons.push(
                    reason.with_remedy("apply the active manifest again: a fresh generation takes this one's place"),
                );
            }
            Err(error) => reasons.push(error.to_reason()),
        }
    }
    reasons.extend(local(root));
    reasons
}

fn local(root: &StateRoot) -> Option<Reason> {
    let path = layout::edge_local();
    let invalid = |why: String| {
        let reason = Reason::new(Code::BadValue, format!("`{path}`: {why}"));
        Some(reason.with_remedy("mend the file or remove it; `edgectl` and a text editor may write it"))
    };
    match root.disk().stat(&path) {
        Ok(None) => return None,
        Ok(Some(stat)) if stat.kind != FileKind::File => return invalid("it is no regular file".to_owned()),
        Ok(Some(_)) => {}
        Err(error) => return Some(error.to_reason()),
    }
    match read_capped(root.disk(), &path, MAX_BYTES) {
        Ok(bytes) => match String::from_utf8(bytes.unwrap_or_default()) {
            Ok(text) => relay::local_keys(&text).err().and_then(invalid),
            Err(_not_utf8) => invalid("it is not UTF-8".to_owned()),
        },
        Err(error) => Some(error.to_reason()),
    }
}

/// Whether the node takes part in a relay, so that it needs certificates.
pub fn takes_part(root: &StateRoot, active: Option<&StateManifest>) -> bool {
    let has_peers = active.is_some_and(|manifest| !manifest.spec.relay.peers.is_empty());
    has_peers || root.disk().stat(&layout::edge_local()).is_ok_and(|stat| stat.is_some())
}
