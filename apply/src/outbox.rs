//! The outbox: what the relay shall send on. An entry is a link to the generation, whose bytes are the signed ones.

use autonomy_schema::{Blake3, Name};
use autonomy_stateroot::{DiskError, StateRoot, durable, layout};

/// Puts a generation into the outbox; a repeat points the entry to the newer generation of the same manifest.
pub(crate) fn put(root: &StateRoot, manifest: Blake3, generation: &Name) -> Result<(), DiskError> {
    let entry = layout::outbox_entry(manifest);
    durable::point(root.disk(), &entry, &layout::outbox_link(generation))
}

/// Lets an entry that points to one generation point to another of the same manifest.
pub(crate) fn follow(root: &StateRoot, manifest: Blake3, from: &Name, to: &Name) -> Result<(), DiskError> {
    let target = root.disk().read_link(&layout::outbox_entry(manifest))?;
    if target.is_some_and(|target| target == layout::outbox_link(from)) {
        put(root, manifest, to)?;
    }
    Ok(())
}

/// Takes a manifest out of the outbox, if it is there.
pub(crate) fn take(root: &StateRoot, manifest: Blake3) -> Result<(), DiskError> {
    let entry = layout::outbox_entry(manifest);
    if root.disk().stat(&entry)?.is_some() {
        root.disk().remove(&entry)?;
        root.disk().sync(autonomy_stateroot::SyncTarget::Dir(Some(&layout::outbox())))?;
    }
    Ok(())
}
