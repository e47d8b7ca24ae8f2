//! The lock around one append. It is held for milliseconds, so waiting for it is right, but not for ever.

use std::thread;
use std::time::Duration;

use autonomy_schema::RelPath;
use autonomy_stateroot::disk::{DiskError, LockGuard, LockMode, Query, StateDisk, SyncTarget};
use autonomy_stateroot::durable;

/// Tries and pauses: two seconds in all, a hundred times what an append takes on a slow disk.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// Takes the lock; `None` when another process kept it all the while.
pub(crate) fn hold(disk: &(impl Query + ?Sized), lock: &RelPath) -> Result<Option<Box<dyn LockGuard>>, DiskError> {
    for _ in 1..TRIES {
        if let Some(guard) = disk.try_lock(lock, LockMode::Exclusive)? {
            return Ok(Some(guard));
        }
        thread::sleep(PAUSE);
    }
    disk.try_lock(lock, LockMode::Exclusive)
}

/// Makes the folder; another process may be making it too.
pub(crate) fn make_folder(disk: &dyn StateDisk, folder: &RelPath) -> Result<(), DiskError> {
    match durable::ensure_dir(disk, folder) {
        Err(error) if error.source.kind() == std::io::ErrorKind::AlreadyExists => durable::ensure_dir(disk, folder),
        other => other,
    }
}

/// Makes an empty file durable together with every folder above it. A process may have been killed after it made one
/// of them and before it synced it, so none of them is taken for durable.
pub(crate) fn make_file(disk: &dyn StateDisk, file: &RelPath) -> Result<(), DiskError> {
    disk.set_len(file, 0)?;
    disk.sync(SyncTarget::File(file))?;
    let mut folder = file.parent();
    while let Some(path) = folder {
        disk.sync(SyncTarget::Dir(Some(&path)))?;
        folder = path.parent();
    }
    disk.sync(SyncTarget::Dir(None))
}
