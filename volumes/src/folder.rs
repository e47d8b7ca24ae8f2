//! The folder that holds the volumes: every call is relative to its open handle, and no link is followed.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::shape;

/// An open folder.
pub(crate) struct Folder(OwnedFd);

/// What is at the place of a volume.
pub(crate) enum Found {
    /// A regular file and its size.
    File(File, u64),
    /// Nothing.
    Nothing,
    /// A file that the medium cannot open or tell anything of.
    Unreadable,
    /// A link, folder, pipe, socket or device.
    NotAFile,
}

impl Folder {
    pub(crate) fn open(path: &Path) -> io::Result<Folder> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Folder(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Keeps other writers away for as long as the folder is open; `false` if there is one. File systems without
    /// locks are written to without.
    pub(crate) fn lock(&self) -> bool {
        rustix::fs::flock(&self.0, FlockOperation::NonBlockingLockExclusive) != Err(Errno::WOULDBLOCK)
    }

    /// Whether anything has this name.
    pub(crate) fn has(&self, name: &str) -> io::Result<bool> {
        match rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a volume to read.
    pub(crate) fn find(&self, volume: u16) -> io::Result<Found> {
        // NONBLOCK: the opening of a pipe would wait for its writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.0, shape::name(volume), flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return Ok(Found::Nothing),
            Err(Errno::LOOP | Errno::NXIO) => return Ok(Found::NotAFile),
            Err(Errno::IO | Errno::NODATA | Errno::UCLEAN | Errno::BADMSG) => return Ok(Found::Unreadable),
            Err(error) => return Err(error.into()),
        };
        Ok(match file.metadata() {
            Ok(metadata) if metadata.is_file() => Found::File(file, metadata.len()),
            Ok(_) => Found::NotAFile,
            Err(_unreadable) => Found::Unreadable,
        })
    }

    /// Makes a new file.
    pub(crate) fn create(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.0, name, flags, Mode::from_raw_mode(0o644))?.into())
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.0, from, &self.0, to)?)
    }

    /// Removes a file, if it is there.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.0, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.0)?)
    }
}
