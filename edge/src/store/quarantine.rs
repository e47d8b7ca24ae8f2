//! Bodies of sets that did not verify: the newest of them, for people to look at. They are never forwarded.

use autonomy_schema::{Blake3, RelPath};
use autonomy_stateroot::{DiskError, Stat, StateRoot, SyncTarget, durable, layout};

/// Most bodies that are kept.
const MAX_KEPT: usize = 16;
/// Most bytes that they have in all.
const MAX_BYTES: u64 = 64 << 20;
/// How their names begin.
const PREFIX: &str = "received-";

/// Moves a body there. The same manifest again takes the place of the body before it.
pub(super) fn keep(root: &StateRoot, body: &RelPath, claimed: Blake3) -> Result<(), DiskError> {
    let disk = root.disk();
    durable::ensure_dir(disk, &layout::quarantine())?;
    disk.rename(body, &durable::child(&layout::quarantine(), &format!("{PREFIX}{}.tar", claimed.hex()))?)?;
    let kept = bodies(root)?;
    let (mut count, mut bytes) = (0, 0);
    for (path, stat) in kept.into_iter().rev() {
        (count, bytes) = (count + 1, bytes + stat.size);
        if count > MAX_KEPT || bytes > MAX_BYTES {
            disk.remove(&path)?;
        }
    }
    disk.sync(SyncTarget::Dir(Some(&layout::quarantine())))
}

/// What is kept, the oldest first.
pub(super) fn bodies(root: &StateRoot) -> Result<Vec<(RelPath, Stat)>, DiskError> {
    let listed = match root.disk().list_stat(Some(&layout::quarantine())) {
        Ok(listed) => listed,
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for (name, stat) in listed.into_iter().filter(|(name, _)| name.starts_with(PREFIX)) {
        found.push((durable::child(&layout::quarantine(), &name)?, stat));
    }
    found.sort_by_key(|(path, stat)| (stat.identity.mtime_ns, path.to_string()));
    Ok(found)
}
