//! Orders of verbs after which something is durable, old or new but never half.
//!
//! Each helper says which half it leaves to its caller. Two processes must not run them on the same path at once:
//! they would share the file beside it. `LOCK` sees to that.

use std::io;

use autonomy_schema::{Mode, RelPath};

use crate::disk::{DiskError, FileKind, Link, Query, StateDisk, SyncTarget};

/// Bytes in one write: large enough for the disk, small enough for memory.
pub(crate) const WRITE_BYTES: usize = 1 << 20;

/// The path beside `path` where its replacement is made: `.<name>.tmp`.
pub fn beside(path: &RelPath) -> Result<RelPath, DiskError> {
    let name = format!(".{}.tmp", path.file_name());
    let text = path.parent().map_or(name.clone(), |parent| format!("{parent}/{name}"));
    text.parse()
        .map_err(|error: autonomy_schema::path::PathError| DiskError::new("replace", path, io::Error::other(error)))
}

/// Replaces the content of `path`, durably: after a power loss it is the old file or the new one, whole. The folder
/// must exist.
pub fn replace(disk: &dyn StateDisk, path: &RelPath, bytes: &[u8], mode: Mode) -> Result<(), DiskError> {
    let tmp = beside(path)?;
    let written = write_new(disk, &tmp, bytes, mode).and_then(|()| disk.sync(SyncTarget::File(&tmp)));
    if let Err(error) = written.and_then(|()| disk.rename(&tmp, path)) {
        // A full disk is not helped by a half file; if this fails too, the next replacement writes over it.
        let _removed = disk.remove(&tmp);
        return Err(error);
    }
    disk.sync(SyncTarget::Dir(path.parent().as_ref()))
}

/// Writes a whole file, replacing its content in place. Not durable: for files that one later
/// [`SyncTarget::Fs`] covers, and that nothing refers to before it.
pub fn write_new(disk: &dyn StateDisk, path: &RelPath, bytes: &[u8], mode: Mode) -> Result<(), DiskError> {
    disk.set_len(path, 0)?;
    let mut offset = 0;
    for chunk in bytes.chunks(WRITE_BYTES) {
        disk.write_at(path, offset, chunk)?;
        offset += chunk.len() as u64;
    }
    disk.set_meta(path, mode)
}

/// Makes the folder `path` and those above it, durably. One that exists already is taken for durable.
pub fn ensure_dir(disk: &dyn StateDisk, path: &RelPath) -> Result<(), DiskError> {
    for made in make_dirs(disk, path)? {
        disk.sync(SyncTarget::Dir(made.parent().as_ref()))?;
    }
    Ok(())
}

/// Makes the folder `path` and those above it; gives those that it made, topmost first. Not durable.
pub fn make_dirs(disk: &dyn StateDisk, path: &RelPath) -> Result<Vec<RelPath>, DiskError> {
    let mut missing = Vec::new();
    let mut at = Some(path.clone());
    while let Some(folder) = at {
        match disk.stat(&folder)? {
            None => {}
            Some(stat) if stat.kind == FileKind::Dir => break,
            Some(_) => return Err(DiskError::new("make folder", &folder, io::ErrorKind::NotADirectory)),
        }
        at = folder.parent();
        missing.push(folder);
    }
    missing.reverse();
    for folder in &missing {
        disk.mkdir(folder)?;
    }
    Ok(missing)
}

/// Points the symbolic link `link` to `target`, durably: after a power loss it has the old text or the new one.
/// What `target` names must be durable before.
pub fn point(disk: &dyn StateDisk, link: &RelPath, target: &str) -> Result<(), DiskError> {
    let tmp = beside(link)?;
    if disk.stat(&tmp)?.is_some() {
        disk.remove(&tmp)?;
    }
    disk.link(Link::Symbolic { target, at: &tmp })?;
    disk.rename(&tmp, link)?;
    disk.sync(SyncTarget::Dir(link.parent().as_ref()))
}

/// Removes `path` and everything below it; an absent one is fine. Not durable: the caller syncs the folder above,
/// if it matters. What is below must have safe names.
pub fn remove_tree(disk: &dyn StateDisk, path: &RelPath) -> Result<(), DiskError> {
    let mut todo = vec![(path.clone(), false)];
    while let Some((at, emptied)) = todo.pop() {
        let Some(stat) = disk.stat(&at)? else { continue };
        if stat.kind != FileKind::Dir || emptied {
            disk.remove(&at)?;
            continue;
        }
        todo.push((at.clone(), true));
        for entry in disk.list(Some(&at))? {
            todo.push((child(&at, &entry.name)?, false));
        }
    }
    Ok(())
}

/// The path of an entry of a folder.
pub fn child(folder: &RelPath, name: &str) -> Result<RelPath, DiskError> {
    name.parse::<RelPath>()
        .map(|name| folder.join(&name))
        .map_err(|error| DiskError::new("name", folder, io::Error::other(error)))
}

/// Reads nothing and changes nothing: whether anything lies at `path`.
pub fn exists(disk: &(impl Query + ?Sized), path: &RelPath) -> Result<bool, DiskError> {
    Ok(disk.stat(path)?.is_some())
}
