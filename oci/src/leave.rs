//! Leaving small files on a medium: whole or not at all, and never through a link that somebody put there.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use autonomy_volumes::shape;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::layout::{MARKER, RECEIPTS_FOLDER};
use crate::writer::{WriteError, medium};

/// Leaves files below `receipts/` of a medium, in their order; one that lies there with the same bytes stays.
pub fn leave_receipts<'a>(to: &Path, files: impl IntoIterator<Item = (String, &'a [u8])>) -> Result<(), WriteError> {
    let folder = to.join(RECEIPTS_FOLDER);
    let open = |at: &OwnedFd, name: &str| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(at, name, flags, Mode::empty())
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::open(to, flags, Mode::empty()).map_err(|error| medium("open", to, error.into()))?;
    if !holds_layout(&top) {
        return Err(medium("find the layout in", to, io::ErrorKind::NotFound.into()));
    }
    let receipts = match open(&top, RECEIPTS_FOLDER) {
        Err(Errno::NOENT) => {
            let made = rustix::fs::mkdirat(&top, RECEIPTS_FOLDER, Mode::from_raw_mode(0o755));
            made.and_then(|()| rustix::fs::fsync(&top)).map_err(|error| medium("make", &folder, error.into()))?;
            open(&top, RECEIPTS_FOLDER)
        }
        opened => opened,
    };
    let receipts = receipts.map_err(|error| medium("open", &folder, error.into()))?;
    for (name, bytes) in files {
        put(&receipts, &name, bytes).map_err(|error| medium("write", &folder.join(&name), error))?;
    }
    rustix::fs::fsync(&receipts).map_err(|error| medium("sync", &folder, error.into()))
}

/// Whether a layout lies in the folder: where a stick was pulled out, what it was mounted on is still there.
fn holds_layout(folder: &OwnedFd) -> bool {
    let has = |name: &str| rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
    has(MARKER) || (0..shape::MAX_VOLUMES).map(shape::name).any(|name| has(&name))
}

fn put(folder: &OwnedFd, name: &str, bytes: &[u8]) -> io::Result<()> {
    if holds(folder, name, bytes) {
        return Ok(());
    }
    let part = format!("{name}.part");
    match rustix::fs::unlinkat(folder, &part, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file: File = rustix::fs::openat(folder, &part, flags, Mode::from_raw_mode(0o644))?.into();
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    drop(file);
    written.and_then(|()| Ok(rustix::fs::renameat(folder, &part, folder, name)?)).inspect_err(|_error| {
        // A full medium is not helped by a half file; if this fails too, the next try removes it.
        let _removed = rustix::fs::unlinkat(folder, &part, AtFlags::empty());
    })
}

fn holds(folder: &OwnedFd, name: &str, bytes: &[u8]) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(found) = rustix::fs::openat(folder.as_fd(), name, flags, Mode::empty()) else { return false };
    let mut content = Vec::with_capacity(bytes.len());
    let read = File::from(found).take(bytes.len() as u64 + 1).read_to_end(&mut content);
    read.is_ok() && content == bytes
}
