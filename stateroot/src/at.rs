//! System calls relative to an open folder. Paths are resolved by `openat2` beneath it and through no symbolic link
//! (Linux 5.6), so that neither a link nor a rename in the middle of it can lead outside.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use autonomy_schema::Mode;
use rustix::fs::{AtFlags, Dir, FileType, OFlags, ResolveFlags, Statx, StatxFlags, StatxTimestamp};
use rustix::io::Errno;

use crate::disk::{FileKind, Identity, Stat};

/// `openat2` gives EAGAIN when something was renamed meanwhile; this often it is tried again.
const MAX_TRIES: u32 = 32;

/// Opens a folder of the machine by any path, following links: the one place where trust in a path begins.
pub(crate) fn open_root(path: &Path, follow: bool) -> io::Result<OwnedFd> {
    let nofollow = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | nofollow;
    Ok(rustix::io::retry_on_intr(|| rustix::fs::open(path, flags, rustix::fs::Mode::empty()))?)
}

/// Opens `path` beneath `dir`.
pub(crate) fn open_beneath(dir: BorrowedFd<'_>, path: &str, flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let mode =
        if flags.contains(OFlags::CREATE) { rustix::fs::Mode::from_raw_mode(mode) } else { rustix::fs::Mode::empty() };
    // With O_NOFOLLOW an O_PATH handle of a link itself is given; for a folder it would turn ELOOP into ENOTDIR.
    let nofollow = if flags.contains(OFlags::DIRECTORY) { OFlags::empty() } else { OFlags::NOFOLLOW };
    for _ in 0..MAX_TRIES {
        match rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC | nofollow, mode, resolve) {
            Err(Errno::INTR | Errno::AGAIN) => {}
            result => return Ok(result?),
        }
    }
    Err(Errno::AGAIN.into())
}

/// Opens a regular file beneath `dir` for reading, and says what it is; nothing else, and never waits for a pipe.
pub(crate) fn open_file(dir: BorrowedFd<'_>, path: &str) -> io::Result<(OwnedFd, Stat)> {
    let fd = open_beneath(dir, path, OFlags::RDONLY | OFlags::NONBLOCK, 0)?;
    let stat = stat_fd(fd.as_fd())?;
    match stat.kind {
        FileKind::File => Ok((fd, stat)),
        FileKind::Dir => Err(Errno::ISDIR.into()),
        FileKind::Symlink | FileKind::Other => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    }
}

/// Opens a folder beneath `dir` (`.` is `dir` itself) for listing and syncing.
pub(crate) fn open_dir(dir: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    open_beneath(dir, path, OFlags::RDONLY | OFlags::DIRECTORY, 0)
}

/// What an open handle is.
pub(crate) fn stat_fd(fd: BorrowedFd<'_>) -> io::Result<Stat> {
    Ok(stat_of(&rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?))
}

/// What lies beneath `dir` at `path`; `None` when nothing does.
pub(crate) fn stat_beneath(dir: BorrowedFd<'_>, path: &str) -> io::Result<Option<Stat>> {
    match open_beneath(dir, path, OFlags::PATH, 0) {
        Ok(fd) => stat_fd(fd.as_fd()).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The user that owns an open handle, and its permission bits.
pub(crate) fn owner(fd: BorrowedFd<'_>) -> io::Result<(u32, u32)> {
    let statx = rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
    Ok((statx.stx_uid, u32::from(statx.stx_mode) & 0o7777))
}

/// The raw names in a folder, without `.` and `..`, in no order.
pub(crate) fn names(dir: OwnedFd) -> io::Result<(Dir, Vec<(CString, FileType)>)> {
    let mut dir = Dir::new(dir)?;
    let mut names = Vec::new();
    while let Some(entry) = dir.read() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push((name.to_owned(), entry.file_type()));
        }
    }
    Ok((dir, names))
}

/// What a name in an open folder is: one system call; `None` when it vanished.
pub(crate) fn stat_name(dir: BorrowedFd<'_>, name: impl rustix::path::Arg) -> io::Result<Option<Stat>> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    match rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS) {
        Ok(statx) => Ok(Some(stat_of(&statx))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A name as text; what is not UTF-8 is escaped, and the backslash keeps it from being a path of ours.
pub(crate) fn name_text(name: &CStr) -> String {
    name.to_str().map_or_else(|_not_utf8| name.to_bytes().escape_ascii().to_string(), str::to_owned)
}

/// The kind that the kernel says.
pub(crate) fn kind_of(kind: FileType) -> FileKind {
    match kind {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Dir,
        FileType::Symlink => FileKind::Symlink,
        FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => {
            FileKind::Other
        }
    }
}

fn stat_of(statx: &Statx) -> Stat {
    let raw_mode = u32::from(statx.stx_mode);
    Stat {
        kind: kind_of(FileType::from_raw_mode(raw_mode)),
        mode: Mode::from_bits(raw_mode),
        size: statx.stx_size,
        nlink: u64::from(statx.stx_nlink),
        is_own: statx.stx_uid == rustix::process::geteuid().as_raw(),
        is_own_group: statx.stx_gid == rustix::process::getegid().as_raw(),
        allocated: statx.stx_blocks.saturating_mul(512),
        identity: Identity {
            dev: (u64::from(statx.stx_dev_major) << 32) | u64::from(statx.stx_dev_minor),
            ino: statx.stx_ino,
            mtime_ns: nanoseconds(&statx.stx_mtime),
            ctime_ns: nanoseconds(&statx.stx_ctime),
        },
    }
}

fn nanoseconds(time: &StatxTimestamp) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(i64::from(time.tv_nsec))
}
