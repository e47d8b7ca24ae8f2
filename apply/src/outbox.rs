//! The outbox: what the relay shall send on. An entry is a link to the generation, whose bytes are the signed ones.

use autonomy_schema::{Blake3, Code, Name, Reason, RelPath};
use autonomy_stateroot::{DiskError, StateRoot, durable, layout};

/// Puts a generation into the outbox; a repeat points the entry to the newer generation of the same manifest.
pub(crate) fn put(root: &StateRoot, manifest: Blake3, generation: &Name) -> Result<(), DiskError> {
    let entry = entry(manifest)?;
    durable::point(root.disk(), &entry, &format!("../generations/{generation}"))
}

/// Lets an entry that points to one generation point to another of the same manifest.
pub(crate) fn follow(root: &StateRoot, manifest: Blake3, from: &Name, to: &Name) -> Result<(), DiskError> {
    let target = root.disk().read_link(&entry(manifest)?)?;
    if target.is_some_and(|target| target == format!("../generations/{from}")) {
        put(root, manifest, to)?;
    }
    Ok(())
}

/// Takes a manifest out of the outbox, if it is there.
pub(crate) fn take(root: &StateRoot, manifest: Blake3) -> Result<(), DiskError> {
    let entry = entry(manifest)?;
    if root.disk().stat(&entry)?.is_some() {
        root.disk().remove(&entry)?;
        root.disk().sync(autonomy_stateroot::SyncTarget::Dir(Some(&layout::outbox())))?;
    }
    Ok(())
}

fn entry(manifest: Blake3) -> Result<RelPath, DiskError> {
    let name = manifest.hex().parse::<RelPath>();
    let name = name.map_err(|error| {
        let reason = Reason::new(Code::UnsafePath, error.to_string());
        DiskError::new("name", reason, std::io::ErrorKind::InvalidInput)
    })?;
    Ok(layout::outbox().join(&name))
}
