//! The seam to the disk: eight counted verbs that change something ([`Disk`]), and the questions ([`Query`]).
//!
//! Everything that changes a state root goes through [`Disk`], so that a test can stop it at every single verb.
//! Paths are relative to the state root and cannot leave it. What the verbs do not promise: `write_at`, `set_len`,
//! `rename`, `link`, `mkdir`, `remove` and `set_meta` are not durable until a `sync` of the file (data, length, mode)
//! and of the folder (its entries); see [`crate::durable`] for the orders that are.

use std::fmt;
use std::io::{self, Read};

use autonomy_schema::{Code, Mode, Reason, RelPath};

/// What [`Disk::sync`] makes durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncTarget<'a> {
    /// Data, length and mode of a file; not its entry in the folder.
    File(&'a RelPath),
    /// The entries of a folder; `None` is the state root itself.
    Dir(Option<&'a RelPath>),
    /// Everything on the file system.
    Fs,
}

/// What [`Disk::link`] makes. None of them replaces what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link<'a> {
    /// A second name for a file.
    Hard {
        /// The file.
        from: &'a RelPath,
        /// Its new name.
        to: &'a RelPath,
    },
    /// A symbolic link with this text.
    Symbolic {
        /// The text of the link.
        target: &'a str,
        /// Where the link lies.
        at: &'a RelPath,
    },
    /// A copy that shares its blocks, on file systems that can.
    Reflink {
        /// The file.
        from: &'a RelPath,
        /// The copy.
        to: &'a RelPath,
    },
}

/// The verbs that change the state root. Nothing else does, save [`Query::try_lock`], which may create an empty file.
pub trait Disk: Send + Sync {
    /// Writes all of `data` at `offset` of an existing file; a gap reads as zeros.
    fn write_at(&self, path: &RelPath, offset: u64, data: &[u8]) -> Result<(), DiskError>;
    /// Sets the length of a file, and creates it with mode 0600 when it is absent.
    fn set_len(&self, path: &RelPath, len: u64) -> Result<(), DiskError>;
    /// Makes durable. After a failure the target is not trusted again: later verbs on it fail too.
    fn sync(&self, what: SyncTarget<'_>) -> Result<(), DiskError>;
    /// Renames, atomically replacing what is there. Across folders, sync the new folder before the old one.
    fn rename(&self, from: &RelPath, to: &RelPath) -> Result<(), DiskError>;
    /// Makes a link.
    fn link(&self, link: Link<'_>) -> Result<(), DiskError>;
    /// Makes a folder with mode 0700; its parent must exist, it must not.
    fn mkdir(&self, path: &RelPath) -> Result<(), DiskError>;
    /// Removes a file, a symbolic link or an empty folder.
    fn remove(&self, path: &RelPath) -> Result<(), DiskError>;
    /// Sets the permission bits of a file or folder, and makes it the running user's and group's own where it is somebody else's.
    fn set_meta(&self, path: &RelPath, mode: Mode) -> Result<(), DiskError>;
}

/// The questions; they are not counted, and none of them follows a symbolic link.
pub trait Query: Send + Sync {
    /// Opens a regular file for reading; anything else is an error.
    fn open(&self, path: &RelPath) -> Result<Box<dyn Read + Send>, DiskError>;
    /// The same from an offset on; nothing is read when it lies behind the end.
    fn open_at(&self, path: &RelPath, offset: u64) -> Result<Box<dyn Read + Send>, DiskError> {
        let mut file = self.open(path)?;
        crate::source::skip(&mut file, offset).map_err(|source| DiskError::new("read", path, source))?;
        Ok(file)
    }
    /// What lies there; `None` when nothing does.
    fn stat(&self, path: &RelPath) -> Result<Option<Stat>, DiskError>;
    /// The entries of a folder (`None` is the state root itself), sorted by name.
    fn list(&self, dir: Option<&RelPath>) -> Result<Vec<Entry>, DiskError>;
    /// The entries of a folder with what lies there, sorted by name; what vanishes meanwhile is left out.
    fn list_stat(&self, dir: Option<&RelPath>) -> Result<Vec<(String, Stat)>, DiskError>;
    /// The text of a symbolic link, escaped where it is not UTF-8; `None` when nothing lies there. Anything else there
    /// is an error of kind `InvalidInput`.
    fn read_link(&self, path: &RelPath) -> Result<Option<String>, DiskError>;
    /// The space of the file system.
    fn space(&self) -> Result<Space, DiskError>;
    /// Takes a lock that the kernel releases with the guard or the process; `None` when another holds it. The file
    /// is created empty when it is absent.
    fn try_lock(&self, path: &RelPath, mode: LockMode) -> Result<Option<Box<dyn LockGuard>>, DiskError>;
}

/// Both halves of the seam.
pub trait StateDisk: Disk + Query {}

impl<T: Disk + Query> StateDisk for T {}

/// Holds a lock until it is dropped.
pub trait LockGuard: Send + Sync + fmt::Debug {}

/// How a lock is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Alone.
    Exclusive,
    /// Together with others that share.
    Shared,
}

/// What kind of thing lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A device, socket or pipe.
    Other,
}

/// Which file it is, and when it last changed: what the stat cache goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// File system.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
    /// Last change of the content, in nanoseconds since the Unix epoch.
    pub mtime_ns: i64,
    /// Last change of content or meta data, in nanoseconds since the Unix epoch; programs cannot set it.
    pub ctime_ns: i64,
}

/// What lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Its kind.
    pub kind: FileKind,
    /// Permission bits.
    pub mode: Mode,
    /// Length in bytes.
    pub size: u64,
    /// Number of names.
    pub nlink: u64,
    /// Whether it belongs to the user that runs.
    pub is_own: bool,
    /// Whether it belongs to that user's group; a folder may pass its own on to what is made in it.
    pub is_own_group: bool,
    /// Bytes that it takes on the disk.
    pub allocated: u64,
    /// Which file it is.
    pub identity: Identity,
}

/// One entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name. A name that is not UTF-8 is shown with `\x` escapes; the backslash keeps it from being a [`RelPath`].
    pub name: String,
    /// Its kind.
    pub kind: FileKind,
}

/// The space of the file system that holds the state root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// All of it, in bytes.
    pub total: u64,
    /// What this process may still use, in bytes.
    pub free: u64,
    /// The magic number of `statfs(2)`.
    pub fs_type: u64,
}

/// A verb or a question failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} `{path}`")]
pub struct DiskError {
    /// What was tried.
    pub verb: &'static str,
    /// On what, relative to the state root.
    pub path: String,
    /// What the operating system said.
    pub source: io::Error,
}

impl DiskError {
    /// An error of `verb` on `path`.
    pub fn new(verb: &'static str, path: impl fmt::Display, source: impl Into<io::Error>) -> Self {
        Self { verb, path: path.to_string(), source: source.into() }
    }

    /// The error as a reason that names path and cause.
    pub fn to_reason(&self) -> Reason {
        Reason::new(Code::IoError, format!("{self}: {}", self.source))
    }

    /// Whether the disk or the quota is full.
    pub fn is_no_space(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// Whether nothing lies there.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// A capped read failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The file is longer than the cap.
    #[error("`{path}` is longer than {cap} bytes")]
    TooLarge {
        /// The file.
        path: String,
        /// The cap.
        cap: u64,
    },
}

impl ReadError {
    /// The error as a reason.
    pub fn to_reason(&self) -> Reason {
        match self {
            Self::Disk(error) => error.to_reason(),
            Self::TooLarge { .. } => Reason::new(Code::DocumentTooLarge, self.to_string()),
        }
    }
}

/// Reads a whole file of at most `cap` bytes; `None` when it is absent. Not a byte beyond `cap + 1` is read.
pub fn read_capped(disk: &(impl Query + ?Sized), path: &RelPath, cap: u64) -> Result<Option<Vec<u8>>, ReadError> {
    let file = match disk.open(path) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    file.take(cap.saturating_add(1)).read_to_end(&mut bytes).map_err(|source| DiskError::new("read", path, source))?;
    if bytes.len() as u64 > cap {
        return Err(ReadError::TooLarge { path: path.to_string(), cap });
    }
    Ok(Some(bytes))
}

/// How the folder of a question is named in errors.
pub(crate) fn dir_text(dir: Option<&RelPath>) -> &str {
    dir.map_or(".", RelPath::as_str)
}

/// Paths whose sync failed: what the kernel holds of them may differ from what the disk holds, and the next sync
/// would say "done" without writing it (the fsync gate of 2018). Only removing or replacing the path clears it.
#[derive(Debug, Default)]
pub(crate) struct Distrust {
    all: bool,
    paths: std::collections::BTreeSet<String>,
}

impl Distrust {
    /// Records that a sync failed.
    pub(crate) fn record(&mut self, what: SyncTarget<'_>) {
        match what {
            SyncTarget::File(path) => drop(self.paths.insert(path.to_string())),
            SyncTarget::Dir(dir) => drop(self.paths.insert(dir_text(dir).to_owned())),
            SyncTarget::Fs => self.all = true,
        }
    }

    /// Refuses a path whose sync failed before.
    pub(crate) fn check(&self, path: &str) -> io::Result<()> {
        if self.paths.contains(path) {
            return Err(io::Error::other("an earlier sync of it failed, so it is not trusted again"));
        }
        Ok(())
    }

    /// Refuses a sync when that of the whole file system, or of this target, failed before.
    pub(crate) fn check_sync(&self, what: SyncTarget<'_>) -> io::Result<()> {
        if self.all {
            return Err(io::Error::other("an earlier sync of the file system failed, so no later one is trusted"));
        }
        match what {
            SyncTarget::File(path) => self.check(path.as_str()),
            SyncTarget::Dir(dir) => self.check(dir_text(dir)),
            SyncTarget::Fs => Ok(()),
        }
    }

    /// The path is gone or was replaced.
    pub(crate) fn clear(&mut self, path: &RelPath) {
        self.paths.remove(path.as_str());
    }
}
