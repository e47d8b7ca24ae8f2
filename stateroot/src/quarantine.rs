//! What was damaged is kept for people to look at.

use autonomy_schema::RelPath;

use crate::disk::{DiskError, StateDisk, SyncTarget};
use crate::{durable, layout};

/// Moves a file, folder or link into `quarantine/`, durably, under its own name or, when that is taken, `<name>.2` and so
/// on. Gives its new place.
pub fn set_aside(disk: &dyn StateDisk, path: &RelPath) -> Result<RelPath, DiskError> {
    let quarantine = layout::quarantine();
    durable::ensure_dir(disk, &quarantine)?;
    let mut place = durable::child(&quarantine, path.file_name())?;
    let mut number = 1_u64;
    while durable::exists(disk, &place)? {
        number += 1;
        place = durable::child(&quarantine, &format!("{}.{number}", path.file_name()))?;
    }
    disk.rename(path, &place)?;
    disk.sync(SyncTarget::Dir(Some(&quarantine)))?;
    disk.sync(SyncTarget::Dir(path.parent().as_ref()))?;
    Ok(place)
}
