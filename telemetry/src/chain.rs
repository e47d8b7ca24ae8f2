//! What both logs share: a file that only grows, each line bound to the one before it.

use autonomy_schema::{Blake3, RelPath};
use autonomy_stateroot::{DiskError, StateRoot, SyncTarget, durable};

/// The largest log that is opened, in bytes; rotation comes with its issue.
pub(crate) const MAX_LOG_BYTES: u64 = 256 << 20;
/// The largest record in bytes.
pub(crate) const MAX_LINE_BYTES: usize = 1 << 20;

/// The end of a log: where the next record goes, and what it is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// Bytes of intact records.
    pub(crate) offset: u64,
    /// Sequence number of the last record; 0 when there is none.
    pub(crate) seq: u64,
    /// BLAKE3 of its line without the newline.
    pub(crate) prev: Option<Blake3>,
}

impl End {
    /// The end of an empty log.
    pub(crate) const EMPTY: End = End { offset: 0, seq: 0, prev: None };
}

/// Makes the file, empty and durable, if it is absent.
pub(crate) fn create(root: &StateRoot, path: &RelPath) -> Result<(), DiskError> {
    if durable::exists(root.disk(), path)? {
        return Ok(());
    }
    let folder = path.parent();
    if let Some(folder) = &folder {
        durable::ensure_dir(root.disk(), folder)?;
    }
    root.disk().set_len(path, 0)?;
    root.disk().sync(SyncTarget::File(path))?;
    root.disk().sync(SyncTarget::Dir(folder.as_ref()))
}

/// Cuts what lies after the intact records, durably.
pub(crate) fn cut(root: &StateRoot, path: &RelPath, offset: u64) -> Result<(), DiskError> {
    root.disk().set_len(path, offset)?;
    root.disk().sync(SyncTarget::File(path))
}

/// Appends and syncs. After a failure the file may hold a part of it: the next open cuts that.
pub(crate) fn append(root: &StateRoot, path: &RelPath, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
    root.disk().write_at(path, offset, bytes)?;
    root.disk().sync(SyncTarget::File(path))
}
