//! Private keys that others may read, and folders that others may enter.

use autonomy_schema::{Code, Reason};
use autonomy_stateroot::{FileKind, StateRoot, layout};

/// Bits of group and others.
const OTHERS: u32 = 0o077;

/// What of the node's secrets is open to others.
pub(crate) fn keys(root: &StateRoot) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for path in [layout::identity(), layout::node_key(), layout::attest_key()] {
        let stat = match root.disk().stat(&path) {
            Ok(Some(stat)) => stat,
            Ok(None) => continue,
            Err(error) => {
                reasons.push(error.to_reason());
                continue;
            }
        };
        if stat.kind == FileKind::Symlink {
            reasons.push(Reason::new(Code::KeyExposed, format!("`{path}` is a symbolic link")));
        } else if stat.mode.bits() & OTHERS != 0 || !stat.is_own {
            let owner = if stat.is_own { "" } else { " and belongs to another user" };
            reasons.push(Reason::new(Code::KeyExposed, format!("`{path}` has mode {}{owner}", stat.mode)));
        }
    }
    reasons
}
