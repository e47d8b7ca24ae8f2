//! The archive as a disk that cannot be written: what reads a state root reads a backup with the same code.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use autonomy_schema::{Blake3, Mode, RelPath, Sha256};
use autonomy_stateroot::{
    Disk, DiskError, Entry, FileKind, Identity, Link, LockGuard, LockMode, Query, Space, Stat, StatCache, SyncTarget,
};

/// A regular file of the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Body {
    /// Where its content begins in the archive.
    pub(super) offset: u64,
    /// Its length.
    pub(super) size: u64,
    /// Its digests, as they were when the archive was looked through.
    pub(super) digests: (Blake3, Sha256),
    /// Its permission bits.
    pub(super) mode: Mode,
}

/// Something in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// A file; two names of one file have equal bodies.
    File(Body),
    /// A folder.
    Folder(Mode),
    /// A symbolic link.
    Symlink(String),
}

/// The archive, opened.
#[derive(Debug)]
pub(super) struct Medium {
    file: Arc<File>,
    nodes: BTreeMap<RelPath, Node>,
}

impl Medium {
    pub(super) fn new(file: Arc<File>, nodes: BTreeMap<RelPath, Node>) -> Self {
        Self { file, nodes }
    }

    /// Everything, sorted by path, so folders before what is in them.
    pub(super) fn nodes(&self) -> &BTreeMap<RelPath, Node> {
        &self.nodes
    }

    /// What lies at a path.
    pub(super) fn node(&self, path: &RelPath) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// A file's content; what was changed since the archive was looked through is for the reader to find.
    pub(super) fn content(&self, body: &Body) -> Content {
        Content { file: Arc::clone(&self.file), at: body.offset, left: body.size }
    }

    /// The digests of every file, for those who would read it again.
    pub(super) fn known(&self) -> StatCache {
        let mut cache = StatCache::default();
        for node in self.nodes.values() {
            if let Node::File(body) = node {
                cache.put(identity(body), body.size, body.digests.0, body.digests.1);
            }
        }
        cache
    }

    fn stat_of(node: &Node) -> Stat {
        let (kind, mode, size, identity) = match node {
            Node::File(body) => (FileKind::File, body.mode, body.size, identity(body)),
            Node::Folder(mode) => (FileKind::Dir, *mode, 0, NOWHERE),
            Node::Symlink(text) => (FileKind::Symlink, Mode::from_bits(0o777), text.len() as u64, NOWHERE),
        };
        Stat { kind, mode, size, nlink: 1, is_own: true, is_own_group: true, allocated: 0, identity }
    }
}

/// Folders and links have no identity that anybody asks for.
const NOWHERE: Identity = Identity { dev: 0, ino: 0, mtime_ns: 0, ctime_ns: 0 };

/// A file is told from others by where it begins; an empty one shares its place, and its content, with the next.
fn identity(body: &Body) -> Identity {
    Identity { ino: body.offset, ..NOWHERE }
}

/// Reads a file of the archive.
pub(super) struct Content {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

fn absent(verb: &'static str, path: impl std::fmt::Display) -> DiskError {
    DiskError::new(verb, path, io::ErrorKind::NotFound)
}

fn wrong(verb: &'static str, path: impl std::fmt::Display) -> DiskError {
    DiskError::new(verb, path, io::ErrorKind::InvalidInput)
}

fn read_only<T>(verb: &'static str, path: impl std::fmt::Display) -> Result<T, DiskError> {
    Err(DiskError::new(verb, path, io::ErrorKind::ReadOnlyFilesystem))
}

impl Query for Medium {
    fn open(&self, path: &RelPath) -> Result<Box<dyn Read + Send>, DiskError> {
        match self.nodes.get(path) {
            Some(Node::File(body)) => Ok(Box::new(self.content(body))),
            Some(Node::Folder(_) | Node::Symlink(_)) => Err(wrong("open", path)),
            None => Err(absent("open", path)),
        }
    }

    fn stat(&self, path: &RelPath) -> Result<Option<Stat>, DiskError> {
        Ok(self.nodes.get(path).map(Self::stat_of))
    }

    fn list(&self, dir: Option<&RelPath>) -> Result<Vec<Entry>, DiskError> {
        let entries = self.list_stat(dir)?;
        Ok(entries.into_iter().map(|(name, stat)| Entry { name, kind: stat.kind }).collect())
    }

    fn list_stat(&self, dir: Option<&RelPath>) -> Result<Vec<(String, Stat)>, DiskError> {
        let Some(dir) = dir else {
            let top = self.nodes.iter().filter(|(path, _)| path.parent().is_none());
            return Ok(top.map(|(path, node)| (path.to_string(), Self::stat_of(node))).collect());
        };
        match self.nodes.get(dir) {
            Some(Node::Folder(_)) => {}
            Some(Node::File(_) | Node::Symlink(_)) => return Err(wrong("list", dir)),
            None => return Err(absent("list", dir)),
        }
        // What lies below `a` is not all that is sorted after it (`a.b` comes before `a/b`), but nothing of it is before.
        let below = self.nodes.range(dir.clone()..).take_while(|(path, _)| path.as_str().starts_with(dir.as_str()));
        let entries = below.filter_map(|(path, node)| {
            let name = path.as_str().strip_prefix(dir.as_str())?.strip_prefix('/')?;
            (!name.contains('/')).then(|| (name.to_owned(), Self::stat_of(node)))
        });
        Ok(entries.collect())
    }

    fn read_link(&self, path: &RelPath) -> Result<Option<String>, DiskError> {
        match self.nodes.get(path) {
            Some(Node::Symlink(text)) => Ok(Some(text.clone())),
            Some(Node::File(_) | Node::Folder(_)) => Err(wrong("read link", path)),
            None => Ok(None),
        }
    }

    fn space(&self) -> Result<Space, DiskError> {
        Ok(Space { total: 0, free: 0, fs_type: 0 })
    }

    fn try_lock(&self, path: &RelPath, _mode: LockMode) -> Result<Option<Box<dyn LockGuard>>, DiskError> {
        read_only("lock", path)
    }
}

impl Disk for Medium {
    fn write_at(&self, path: &RelPath, _offset: u64, _data: &[u8]) -> Result<(), DiskError> {
        read_only("write", path)
    }

    fn set_len(&self, path: &RelPath, _len: u64) -> Result<(), DiskError> {
        read_only("resize", path)
    }

    fn sync(&self, _what: SyncTarget<'_>) -> Result<(), DiskError> {
        read_only("sync", ".")
    }

    fn rename(&self, from: &RelPath, _to: &RelPath) -> Result<(), DiskError> {
        read_only("rename", from)
    }

    fn link(&self, _link: Link<'_>) -> Result<(), DiskError> {
        read_only("link", ".")
    }

    fn mkdir(&self, path: &RelPath) -> Result<(), DiskError> {
        read_only("make folder", path)
    }

    fn remove(&self, path: &RelPath) -> Result<(), DiskError> {
        read_only("remove", path)
    }

    fn set_meta(&self, path: &RelPath, _mode: Mode) -> Result<(), DiskError> {
        read_only("change mode of", path)
    }
}
