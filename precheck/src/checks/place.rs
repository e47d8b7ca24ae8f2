//! INV-01, beyond what opening a state root refuses: file systems that are local and still keep nothing.

use autonomy_schema::{Code, Reason};
use autonomy_stateroot::{DiskError, StateRoot};

/// File systems whose content is gone with the next start or the next image (`linux/magic.h`).
const FLEETING: [(u64, &str); 4] = [
    (0x794C_7630, "an overlay, whose upper layer goes with the container or the image"),
    (0x0102_1994, "tmpfs, which is memory"),
    (0x8584_58F6, "ramfs, which is memory"),
    (0x7371_7368, "squashfs, which nobody can write to"),
];

/// Why a node cannot rest on the file system of its state root.
pub(crate) fn place(root: &StateRoot) -> Result<Option<Reason>, DiskError> {
    let found = root.disk().space()?.fs_type;
    let Some((_, what)) = FLEETING.iter().find(|(magic, _)| *magic == found) else { return Ok(None) };
    Ok(Some(Reason::new(Code::StateRootUnsafe, format!("the state root is on {what}"))))
}
