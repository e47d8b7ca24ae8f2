//! The real disk: [`Disk`] and [`Query`] on an open folder of a local Linux file system.
//!
//! The folder is held open, so that nobody can put another one in its place. Two kinds of handles are kept for a
//! moment, as staging ten thousand files would otherwise open every folder and file again and again: the file that
//! is being written (until its sync, or a rename, link or removal of anything) and a few folders (until the next
//! sync of a folder or of the file system). Neither outlives one durable step, within which our folders stay put.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use autonomy_schema::{Mode, RelPath};
use rustix::fs::{AtFlags, FlockOperation, OFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::at;
use crate::disk::{
    Disk, DiskError, Distrust, Entry, Link, LockGuard, LockMode, Query, Space, Stat, SyncTarget, dir_text,
};

/// How many folders are kept open at once: objects, two levels of a generation, one to spare.
const KEPT_FOLDERS: usize = 4;

/// A folder of the machine as a disk.
#[derive(Debug)]
pub struct RealDisk {
    root: Arc<OwnedFd>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    file: Option<(RelPath, Arc<OwnedFd>)>,
    folders: Vec<(String, Arc<OwnedFd>)>,
    distrust: Distrust,
}

impl RealDisk {
    /// Opens the folder at `path`, which must not be a symbolic link itself. Whether it is a safe place is asked by
    /// [`crate::place::check`].
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        let root = at::open_root(path, false).map_err(|source| DiskError::new("open", path.display(), source))?;
        Ok(Self { root: Arc::new(root), kept: Mutex::default() })
    }

    /// The open folder.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handle for writing: the kept one, or a new one that is kept from now on.
    fn writer(&self, path: &RelPath, create: bool) -> io::Result<Arc<OwnedFd>> {
        {
            let kept = self.kept();
            kept.distrust.check(path.as_str())?;
            if let Some((at, fd)) = &kept.file
                && at == path
            {
                return Ok(Arc::clone(fd));
            }
        }
        let create = if create { OFlags::CREATE } else { OFlags::empty() };
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | create;
        let fd = Arc::new(at::open_beneath(self.fd(), path.as_str(), flags, Mode::PRIVATE.bits())?);
        self.kept().file = Some((path.clone(), Arc::clone(&fd)));
        Ok(fd)
    }

    /// The kept handle for writing, if it is that of `path`.
    fn kept_writer(&self, path: &RelPath) -> Option<Arc<OwnedFd>> {
        self.kept().file.as_ref().filter(|(at, _)| at == path).map(|(_, fd)| Arc::clone(fd))
    }

    /// The folder of `path`, if it is kept open, and the last component.
    fn kept_parent<'p>(&self, path: &'p RelPath) -> Result<(Arc<OwnedFd>, &'p str), &'p str> {
        let Some((folder, name)) = path.as_str().rsplit_once('/') else {
            return Ok((Arc::clone(&self.root), path.as_str()));
        };
        let mut kept = self.kept();
        let position = kept.folders.iter().position(|(at, _)| at == folder).ok_or(folder)?;
        kept.folders[..=position].rotate_right(1);
        Ok((Arc::clone(&kept.folders[0].1), name))
    }

    /// The folder of `path`, open and kept from now on, and the last component.
    fn parent<'p>(&self, path: &'p RelPath) -> io::Result<(Arc<OwnedFd>, &'p str)> {
        let folder = match self.kept_parent(path) {
            Ok(found) => return Ok(found),
            Err(folder) => folder,
        };
        let fd = Arc::new(at::open_beneath(self.fd(), folder, OFlags::PATH | OFlags::DIRECTORY, 0)?);
        let mut kept = self.kept();
        kept.folders.truncate(KEPT_FOLDERS - 1);
        kept.folders.insert(0, (folder.to_owned(), Arc::clone(&fd)));
        Ok((fd, path.file_name()))
    }

    /// Lets go of handles that a rename or removal of `path` makes stale.
    fn forget(&self, path: &RelPath) {
        let mut kept = self.kept();
        kept.file = None;
        kept.folders.retain(|(folder, _)| {
            folder.strip_prefix(path.as_str()).is_none_or(|rest| !rest.is_empty() && !rest.starts_with('/'))
        });
    }

    fn do_sync(&self, what: SyncTarget<'_>) -> io::Result<()> {
        self.kept().distrust.check_sync(what)?;
        let result = match what {
            SyncTarget::File(path) => {
                let fd = match self.kept_writer(path) {
                    Some(fd) => fd,
                    None => Arc::new(self.open_to_sync(path)?),
                };
                self.kept().file = None;
                retry_on_intr(|| rustix::fs::fsync(&fd))
            }
            SyncTarget::Dir(None) => retry_on_intr(|| rustix::fs::fsync(&self.root)),
            SyncTarget::Dir(Some(dir)) => {
                let fd = at::open_dir(self.fd(), dir.as_str())?;
                retry_on_intr(|| rustix::fs::fsync(&fd))
            }
            SyncTarget::Fs => retry_on_intr(|| rustix::fs::syncfs(&self.root)),
        };
        let mut kept = self.kept();
        if !matches!(what, SyncTarget::File(_)) {
            kept.folders.clear();
        }
        if result.is_err() {
            kept.distrust.record(what);
        }
        Ok(result?)
    }

    /// A file that its owner may not read can still be synced through a handle for writing.
    fn open_to_sync(&self, path: &RelPath) -> io::Result<OwnedFd> {
        match at::open_file(self.fd(), path.as_str()) {
            Ok((fd, _)) => Ok(fd),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                at::open_beneath(self.fd(), path.as_str(), OFlags::WRONLY | OFlags::NONBLOCK, 0)
            }
            Err(error) => Err(error),
        }
    }

    fn do_rename(&self, from: &RelPath, to: &RelPath) -> io::Result<()> {
        self.kept().distrust.check(from.as_str())?;
        let (from_dir, from_name) = self.parent(from)?;
        let (to_dir, to_name) = self.parent(to)?;
        self.forget(from);
        self.forget(to);
        retry_on_intr(|| rustix::fs::renameat(&from_dir, from_name, &to_dir, to_name))?;
        self.kept().distrust.clear(to);
        Ok(())
    }

    fn do_link(&self, link: Link<'_>) -> io::Result<()> {
        self.kept().file = None;
        match link {
            Link::Hard { from, to } => {
                self.kept().distrust.check(from.as_str())?;
                let (from_dir, from_name) = self.parent(from)?;
                let (to_dir, to_name) = self.parent(to)?;
                Ok(retry_on_intr(|| rustix::fs::linkat(&from_dir, from_name, &to_dir, to_name, AtFlags::empty()))?)
            }
            Link::Symbolic { target, at } => {
                let (dir, name) = self.parent(at)?;
                Ok(retry_on_intr(|| rustix::fs::symlinkat(target, &dir, name))?)
            }
            Link::Reflink { from, to } => {
                self.kept().distrust.check(from.as_str())?;
                let (source, _) = at::open_file(self.fd(), from.as_str())?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
                let copy = at::open_beneath(self.fd(), to.as_str(), flags, Mode::PRIVATE.bits())?;
                retry_on_intr(|| rustix::fs::ioctl_ficlone(&copy, &source)).map_err(|error| {
                    // The empty file that could not become a copy must not stay; if it does, the next try says so.
                    let _removed = self.do_remove(to);
                    error.into()
                })
            }
        }
    }

    fn do_remove(&self, path: &RelPath) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        self.forget(path);
        let removed = match retry_on_intr(|| rustix::fs::unlinkat(&dir, name, AtFlags::empty())) {
            Err(Errno::ISDIR) => retry_on_intr(|| rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR)),
            other => other,
        };
        removed?;
        self.kept().distrust.clear(path);
        Ok(())
    }

    fn do_set_meta(&self, path: &RelPath, mode: Mode) -> io::Result<()> {
        let bits = rustix::fs::Mode::from_raw_mode(mode.bits());
        if let Some(fd) = self.kept_writer(path) {
            let stat = at::stat_fd(fd.as_fd())?;
            if !(stat.is_own && stat.is_own_group) {
                let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
                retry_on_intr(|| rustix::fs::fchown(&fd, Some(user), Some(group)))?;
            }
            return Ok(retry_on_intr(|| rustix::fs::fchmod(&fd, bits))?);
        }
        // A file without read permission cannot be opened to change just that; its O_PATH handle is reached by /proc.
        let fd = at::open_beneath(self.fd(), path.as_str(), OFlags::PATH, 0)?;
        let stat = at::stat_fd(fd.as_fd())?;
        if stat.kind == crate::disk::FileKind::Symlink {
            return Err(Errno::LOOP.into());
        }
        if !(stat.is_own && stat.is_own_group) {
            let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
            retry_on_intr(|| rustix::fs::chownat(&fd, c"", Some(user), Some(group), AtFlags::EMPTY_PATH))?;
        }
        let handle = format!("/proc/self/fd/{}", fd.as_raw_fd());
        Ok(retry_on_intr(|| rustix::fs::chmod(&handle, bits))?)
    }
}

impl Disk for RealDisk {
    fn write_at(&self, path: &RelPath, offset: u64, data: &[u8]) -> Result<(), DiskError> {
        let error = |source| DiskError::new("write", path, source);
        let fd = self.writer(path, false).map_err(error)?;
        let (mut offset, mut rest) = (offset, data);
        while !rest.is_empty() {
            match rustix::io::pwrite(&fd, rest, offset) {
                Ok(0) => return Err(error(io::ErrorKind::WriteZero.into())),
                Ok(written) => {
                    rest = &rest[written..];
                    offset += written as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(error(errno.into())),
            }
        }
        Ok(())
    }

    fn set_len(&self, path: &RelPath, len: u64) -> Result<(), DiskError> {
        let error = |source: io::Error| DiskError::new("resize", path, source);
        let fd = self.writer(path, true).map_err(error)?;
        retry_on_intr(|| rustix::fs::ftruncate(&fd, len)).map_err(|errno| error(errno.into()))
    }

    fn sync(&self, what: SyncTarget<'_>) -> Result<(), DiskError> {
        self.do_sync(what).map_err(|source| match what {
            SyncTarget::File(path) => DiskError::new("sync", path, source),
            SyncTarget::Dir(dir) => DiskError::new("sync folder", dir_text(dir), source),
            SyncTarget::Fs => DiskError::new("sync file system of", ".", source),
        })
    }

    fn rename(&self, from: &RelPath, to: &RelPath) -> Result<(), DiskError> {
        self.do_rename(from, to).map_err(|source| DiskError::new("rename", format!("{from} -> {to}"), source))
    }

    fn link(&self, link: Link<'_>) -> Result<(), DiskError> {
        self.do_link(link).map_err(|source| match link {
            Link::Hard { from, to } => DiskError::new("link", format!("{from} -> {to}"), source),
            Link::Symbolic { at, .. } => DiskError::new("make symbolic link", at, source),
            Link::Reflink { from, to } => DiskError::new("clone", format!("{from} -> {to}"), source),
        })
    }

    fn mkdir(&self, path: &RelPath) -> Result<(), DiskError> {
        let error = |source: io::Error| DiskError::new("make folder", path, source);
        let (dir, name) = self.parent(path).map_err(error)?;
        let mode = rustix::fs::Mode::from_raw_mode(0o700);
        retry_on_intr(|| rustix::fs::mkdirat(&dir, name, mode)).map_err(|errno| error(errno.into()))
    }

    fn remove(&self, path: &RelPath) -> Result<(), DiskError> {
        self.do_remove(path).map_err(|source| DiskError::new("remove", path, source))
    }

    fn set_meta(&self, path: &RelPath, mode: Mode) -> Result<(), DiskError> {
        self.do_set_meta(path, mode).map_err(|source| DiskError::new("change mode of", path, source))
    }
}

#[derive(Debug)]
struct RealLock {
    _fd: OwnedFd,
}

impl LockGuard for RealLock {}

impl Query for RealDisk {
    fn open(&self, path: &RelPath) -> Result<Box<dyn Read + Send>, DiskError> {
        let (fd, _) = at::open_file(self.fd(), path.as_str()).map_err(|source| DiskError::new("open", path, source))?;
        Ok(Box::new(File::from(fd)))
    }

    fn open_at(&self, path: &RelPath, offset: u64) -> Result<Box<dyn Read + Send>, DiskError> {
        let (fd, _) = at::open_file(self.fd(), path.as_str()).map_err(|source| DiskError::new("open", path, source))?;
        let mut file = File::from(fd);
        file.seek(SeekFrom::Start(offset)).map_err(|source| DiskError::new("seek in", path, source))?;
        Ok(Box::new(file))
    }

    fn stat(&self, path: &RelPath) -> Result<Option<Stat>, DiskError> {
        // A question uses a kept folder but keeps none: only a verb does, and with it comes a sync that lets go.
        let stat = match self.kept_parent(path) {
            Ok((folder, name)) => at::stat_name(folder.as_fd(), name),
            Err(_not_kept) => at::stat_beneath(self.fd(), path.as_str()),
        };
        stat.map_err(|source| DiskError::new("look at", path, source))
    }

    fn list(&self, dir: Option<&RelPath>) -> Result<Vec<Entry>, DiskError> {
        let list = || -> io::Result<Vec<Entry>> {
            let (dir, names) = at::names(at::open_dir(self.fd(), dir_text(dir))?)?;
            let mut entries = Vec::with_capacity(names.len());
            for (name, kind) in names {
                // Some file systems do not say the kind in the listing.
                let kind = if kind == rustix::fs::FileType::Unknown {
                    let Some(stat) = at::stat_name(dir.fd()?, name.as_c_str())? else { continue };
                    stat.kind
                } else {
                    at::kind_of(kind)
                };
                entries.push(Entry { name: at::name_text(&name), kind });
            }
            entries.sort();
            Ok(entries)
        };
        list().map_err(|source| DiskError::new("list", dir_text(dir), source))
    }

    fn list_stat(&self, dir: Option<&RelPath>) -> Result<Vec<(String, Stat)>, DiskError> {
        let list = || -> io::Result<Vec<(String, Stat)>> {
            let (dir, names) = at::names(at::open_dir(self.fd(), dir_text(dir))?)?;
            let mut entries = Vec::with_capacity(names.len());
            for (name, _) in names {
                if let Some(stat) = at::stat_name(dir.fd()?, name.as_c_str())? {
                    entries.push((at::name_text(&name), stat));
                }
            }
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Ok(entries)
        };
        list().map_err(|source| DiskError::new("list", dir_text(dir), source))
    }

    fn read_link(&self, path: &RelPath) -> Result<Option<String>, DiskError> {
        let error = |source: io::Error| DiskError::new("read link", path, source);
        let fd = match at::open_beneath(self.fd(), path.as_str(), OFlags::PATH, 0) {
            Ok(fd) => fd,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(error(source)),
        };
        if at::stat_fd(fd.as_fd()).map_err(error)?.kind != crate::disk::FileKind::Symlink {
            return Err(error(Errno::INVAL.into()));
        }
        let text = rustix::fs::readlinkat(&fd, c"", Vec::new()).map_err(|errno| error(errno.into()))?;
        Ok(Some(at::name_text(&text)))
    }

    fn space(&self) -> Result<Space, DiskError> {
        let vfs = rustix::fs::fstatvfs(&self.root).map_err(|errno| DiskError::new("ask the space of", ".", errno))?;
        let fs_type = fs_magic(self.fd()).map_err(|source| DiskError::new("ask the space of", ".", source))?;
        Ok(Space {
            total: vfs.f_blocks.saturating_mul(vfs.f_frsize),
            free: vfs.f_bavail.saturating_mul(vfs.f_frsize),
            fs_type,
        })
    }

    fn try_lock(&self, path: &RelPath, mode: LockMode) -> Result<Option<Box<dyn LockGuard>>, DiskError> {
        let error = |source: io::Error| DiskError::new("lock", path, source);
        // An existing lock file is opened for reading, so that asking works on a read-only file system too.
        let fd = match at::open_beneath(self.fd(), path.as_str(), OFlags::RDONLY | OFlags::NONBLOCK, 0) {
            Err(absent) if absent.kind() == io::ErrorKind::NotFound => {
                let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NONBLOCK;
                at::open_beneath(self.fd(), path.as_str(), flags, Mode::PRIVATE.bits())
            }
            other => other,
        }
        .map_err(error)?;
        let operation = match mode {
            LockMode::Exclusive => FlockOperation::NonBlockingLockExclusive,
            LockMode::Shared => FlockOperation::NonBlockingLockShared,
        };
        match retry_on_intr(|| rustix::fs::flock(&fd, operation)) {
            Ok(()) => Ok(Some(Box::new(RealLock { _fd: fd }))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(error(errno.into())),
        }
    }
}

/// The magic number of the file system. The kernel's field is signed on some machines and 32 bits wide on others;
/// the number itself always has 32 bits.
pub(crate) fn fs_magic(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let raw = rustix::fs::fstatfs(fd)?.f_type;
    let bytes = raw.to_le_bytes();
    Ok(u64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])))
}
