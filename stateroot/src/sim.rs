//! A simulated disk with a volatile and a durable image, for tests that cut the power at every verb.
//!
//! What it models, strictly: data, length and mode of a file are durable after its own sync; the entries of a folder
//! after the folder's own sync; neither brings the other along. The text of a symbolic link is durable with its entry.
//! It also knows the two orders in which real file systems break the strict one ([`Image`]).

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use autonomy_schema::{Mode, RelPath};

use crate::disk::{
    Disk, DiskError, Distrust, Entry, FileKind, Identity, Link, LockGuard, LockMode, Query, Space, Stat, SyncTarget,
    dir_text,
};

mod tree;

use tree::{Body, Inode, Tree, errno};

/// Which half-written state a power loss leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// Only what was synced.
    Synced,
    /// Everything that was executed.
    All,
    /// Every folder entry and mode, but data and length of files only as synced: zero-length files.
    MetadataFirst,
    /// Data of every file, but folder entries only as synced.
    DataFirst,
}

impl Image {
    /// Every image, for tests that try all.
    pub const EACH: [Image; 4] = [Image::Synced, Image::All, Image::MetadataFirst, Image::DataFirst];
}

/// What lies at a path of a [`SimDisk::snapshot`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// A file.
    File {
        /// Permission bits.
        mode: Mode,
        /// Content.
        data: Vec<u8>,
    },
    /// A folder.
    Dir {
        /// Permission bits.
        mode: Mode,
    },
    /// A symbolic link with its text.
    Symlink(String),
}

/// The simulated disk. Clones are handles of the same disk.
#[derive(Debug, Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    live: Tree,
    safe: Tree,
    verbs: u64,
    stop_at: Option<u64>,
    fail_at: Option<(u64, i32)>,
    free: u64,
    fs_type: u64,
    distrust: Distrust,
    locks: BTreeMap<u64, Vec<(u64, LockMode)>>,
    next_lock: u64,
}

/// Free bytes of a new disk.
const DEFAULT_FREE: u64 = 1 << 40;
/// The magic number of ext4, which it says it is.
const EXT4: u64 = 0xEF53;

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::with(Tree::new(), DEFAULT_FREE)
    }

    fn with(tree: Tree, free: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            safe: tree.clone(),
            live: tree,
            verbs: 0,
            stop_at: None,
            fail_at: None,
            free,
            fs_type: EXT4,
            distrust: Distrust::default(),
            locks: BTreeMap::new(),
            next_lock: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many counted verbs were called so far.
    pub fn verbs(&self) -> u64 {
        self.state().verbs
    }

    /// Cuts the power at the `k`-th counted verb from the disk's beginning (from 1): it and all later ones fail.
    pub fn stop_at(&self, k: u64) {
        self.state().stop_at = Some(k);
    }

    /// Lets the `k`-th counted verb alone fail with this `errno`.
    pub fn fail_at(&self, k: u64, errno: i32) {
        self.state().fail_at = Some((k, errno));
    }

    /// How many bytes are free from now on; writes beyond fail with ENOSPC.
    pub fn set_free(&self, bytes: u64) {
        self.state().free = bytes;
    }

    /// Says that it is another file system than ext4, by the magic number of `statfs(2)`.
    pub fn set_fs_type(&self, magic: u64) {
        self.state().fs_type = magic;
    }

    /// A fresh disk with what a power loss now would leave. Locks are gone.
    #[must_use]
    pub fn crash(&self, image: Image) -> SimDisk {
        let state = self.state();
        let tree = state.live.survivors(&state.safe, image);
        let capacity = state.free + state.live.allocated();
        SimDisk::with(tree.clone(), capacity.saturating_sub(tree.allocated()))
    }

    /// Everything on the volatile image, by path.
    pub fn snapshot(&self) -> BTreeMap<String, Seen> {
        self.state().live.snapshot()
    }
}

impl State {
    /// Counts a verb, and refuses it when the test says so.
    fn gate(&mut self) -> io::Result<()> {
        self.verbs += 1;
        self.live.tick += 1_000_000_000;
        if self.stop_at.is_some_and(|k| self.verbs >= k) {
            return Err(io::Error::other("simulated power loss"));
        }
        match self.fail_at {
            Some((k, code)) if k == self.verbs => Err(io::Error::from_raw_os_error(code)),
            Some(_) | None => Ok(()),
        }
    }

    fn change_data(&mut self, ino: u64, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let tick = self.live.tick;
        let Some(Inode { body: Body::File(data), mtime, ctime, .. }) = self.live.nodes.get_mut(&ino) else {
            return Err(errno(rustix::io::Errno::ISDIR));
        };
        let mut changed = Arc::clone(data);
        change(Arc::make_mut(&mut changed));
        let (before, after) = (tree::blocks(data.len()), tree::blocks(changed.len()));
        if after > before && after - before > self.free {
            return Err(errno(rustix::io::Errno::NOSPC));
        }
        self.free = self.free + before - after;
        *data = changed;
        (*mtime, *ctime) = (tick, tick);
        Ok(())
    }

    fn write_at(&mut self, path: &RelPath, offset: u64, data: &[u8]) -> io::Result<()> {
        self.gate()?;
        self.distrust.check(path.as_str())?;
        let ino = self.live.file(path)?;
        let offset = usize::try_from(offset).map_err(|_too_large| errno(rustix::io::Errno::FBIG))?;
        if data.is_empty() {
            return Ok(());
        }
        self.change_data(ino, |bytes| {
            let end = offset + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[offset..end].copy_from_slice(data);
        })
    }

    fn set_len(&mut self, path: &RelPath, len: u64) -> io::Result<()> {
        self.gate()?;
        self.distrust.check(path.as_str())?;
        let len = usize::try_from(len).map_err(|_too_large| errno(rustix::io::Errno::FBIG))?;
        let ino = match self.live.file(path) {
            Err(absent) if absent.kind() == io::ErrorKind::NotFound => {
                self.live.create(path, Body::File(Arc::default()), Mode::PRIVATE)?
            }
            other => other?,
        };
        self.change_data(ino, |bytes| bytes.resize(len, 0))
    }

    fn sync(&mut self, what: SyncTarget<'_>) -> io::Result<()> {
        if let Err(error) = self.gate() {
            self.distrust.record(what);
            return Err(error);
        }
        self.distrust.check_sync(what)?;
        match what {
            SyncTarget::File(path) => {
                let ino = self.live.file(path)?;
                self.safe.keep(&self.live, ino);
            }
            SyncTarget::Dir(dir) => {
                let ino = self.live.dir(dir)?;
                self.safe.keep_entries(&self.live, ino);
            }
            SyncTarget::Fs => self.safe = self.live.clone(),
        }
        Ok(())
    }

    fn rename(&mut self, from: &RelPath, to: &RelPath) -> io::Result<()> {
        self.gate()?;
        self.distrust.check(from.as_str())?;
        self.free += self.live.rename(from, to)?;
        self.distrust.clear(to);
        Ok(())
    }

    fn link(&mut self, link: Link<'_>) -> io::Result<()> {
        self.gate()?;
        match link {
            Link::Hard { from, to } => {
                self.distrust.check(from.as_str())?;
                self.live.hard_link(from, to)
            }
            Link::Symbolic { target, at } => {
                self.live.create(at, Body::Symlink(target.to_owned()), Mode::from_bits(0o777)).map(drop)
            }
            Link::Reflink { from, to } => {
                self.distrust.check(from.as_str())?;
                let source = self.live.file(from)?;
                let Some(body) = self.live.nodes.get(&source).map(|node| node.body.clone()) else {
                    return Err(errno(rustix::io::Errno::NOENT));
                };
                self.live.create(to, body, Mode::PRIVATE).map(drop)
            }
        }
    }

    fn mkdir(&mut self, path: &RelPath) -> io::Result<()> {
        self.gate()?;
        self.live.create(path, Body::Dir(Arc::default()), Mode::from_bits(0o700)).map(drop)
    }

    fn remove(&mut self, path: &RelPath) -> io::Result<()> {
        self.gate()?;
        self.free += self.live.remove(path)?;
        self.distrust.clear(path);
        Ok(())
    }

    fn set_meta(&mut self, path: &RelPath, mode: Mode) -> io::Result<()> {
        self.gate()?;
        let ino = self.live.find(path)?;
        let tick = self.live.tick;
        match self.live.nodes.get_mut(&ino) {
            Some(Inode { body: Body::Symlink(_), .. }) => Err(errno(rustix::io::Errno::LOOP)),
            Some(node) => {
                (node.mode, node.ctime) = (mode, tick);
                Ok(())
            }
            None => Err(errno(rustix::io::Errno::NOENT)),
        }
    }
}

impl Disk for SimDisk {
    fn write_at(&self, path: &RelPath, offset: u64, data: &[u8]) -> Result<(), DiskError> {
        self.state().write_at(path, offset, data).map_err(|source| DiskError::new("write", path, source))
    }

    fn set_len(&self, path: &RelPath, len: u64) -> Result<(), DiskError> {
        self.state().set_len(path, len).map_err(|source| DiskError::new("resize", path, source))
    }

    fn sync(&self, what: SyncTarget<'_>) -> Result<(), DiskError> {
        self.state().sync(what).map_err(|source| match what {
            SyncTarget::File(path) => DiskError::new("sync", path, source),
            SyncTarget::Dir(dir) => DiskError::new("sync folder", dir_text(dir), source),
            SyncTarget::Fs => DiskError::new("sync file system of", ".", source),
        })
    }

    fn rename(&self, from: &RelPath, to: &RelPath) -> Result<(), DiskError> {
        self.state().rename(from, to).map_err(|source| DiskError::new("rename", format!("{from} -> {to}"), source))
    }

    fn link(&self, link: Link<'_>) -> Result<(), DiskError> {
        self.state().link(link).map_err(|source| match link {
            Link::Hard { from, to } => DiskError::new("link", format!("{from} -> {to}"), source),
            Link::Symbolic { at, .. } => DiskError::new("make symbolic link", at, source),
            Link::Reflink { from, to } => DiskError::new("clone", format!("{from} -> {to}"), source),
        })
    }

    fn mkdir(&self, path: &RelPath) -> Result<(), DiskError> {
        self.state().mkdir(path).map_err(|source| DiskError::new("make folder", path, source))
    }

    fn remove(&self, path: &RelPath) -> Result<(), DiskError> {
        self.state().remove(path).map_err(|source| DiskError::new("remove", path, source))
    }

    fn set_meta(&self, path: &RelPath, mode: Mode) -> Result<(), DiskError> {
        self.state().set_meta(path, mode).map_err(|source| DiskError::new("change mode of", path, source))
    }
}

/// Reads the bytes that a file had when it was opened.
struct SimFile {
    data: Arc<Vec<u8>>,
    at: usize,
}

impl Read for SimFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = (&self.data[self.at..]).read(buffer)?;
        self.at += read;
        Ok(read)
    }
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    ino: u64,
    id: u64,
}

impl LockGuard for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        if let Some(holders) = self.disk.state().locks.get_mut(&self.ino) {
            holders.retain(|(id, _)| *id != self.id);
        }
    }
}

impl Query for SimDisk {
    fn open(&self, path: &RelPath) -> Result<Box<dyn Read + Send>, DiskError> {
        let state = self.state();
        let open = || match &state.live.node(state.live.file(path)?)?.body {
            Body::File(data) => Ok(Arc::clone(data)),
            Body::Dir(_) | Body::Symlink(_) => Err(errno(rustix::io::Errno::ISDIR)),
        };
        let data = open().map_err(|source| DiskError::new("open", path, source))?;
        Ok(Box::new(SimFile { data, at: 0 }))
    }

    fn stat(&self, path: &RelPath) -> Result<Option<Stat>, DiskError> {
        let state = self.state();
        match state.live.find(path).and_then(|ino| state.live.stat(ino)) {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(DiskError::new("look at", path, error)),
        }
    }

    fn list(&self, dir: Option<&RelPath>) -> Result<Vec<Entry>, DiskError> {
        let entries = self.list_stat(dir)?;
        Ok(entries.into_iter().map(|(name, stat)| Entry { name, kind: stat.kind }).collect())
    }

    fn list_stat(&self, dir: Option<&RelPath>) -> Result<Vec<(String, Stat)>, DiskError> {
        let state = self.state();
        state.live.entries(dir).map_err(|source| DiskError::new("list", dir_text(dir), source))
    }

    fn read_link(&self, path: &RelPath) -> Result<Option<String>, DiskError> {
        let state = self.state();
        let error = |source| DiskError::new("read link", path, source);
        match state.live.find(path).and_then(|ino| state.live.node(ino)) {
            Ok(Inode { body: Body::Symlink(target), .. }) => Ok(Some(target.clone())),
            Ok(_) => Err(error(errno(rustix::io::Errno::INVAL))),
            Err(absent) if absent.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(other) => Err(error(other)),
        }
    }

    fn space(&self) -> Result<Space, DiskError> {
        let state = self.state();
        Ok(Space { total: state.free + state.live.allocated(), free: state.free, fs_type: state.fs_type })
    }

    fn try_lock(&self, path: &RelPath, mode: LockMode) -> Result<Option<Box<dyn LockGuard>>, DiskError> {
        let mut state = self.state();
        let ino = match state.live.file(path) {
            Err(absent) if absent.kind() == io::ErrorKind::NotFound => {
                state.live.create(path, Body::File(Arc::default()), Mode::PRIVATE)
            }
            other => other,
        };
        let ino = ino.map_err(|source| DiskError::new("lock", path, source))?;
        let id = state.next_lock;
        state.next_lock += 1;
        let holders = state.locks.entry(ino).or_default();
        let refused = match mode {
            LockMode::Exclusive => !holders.is_empty(),
            LockMode::Shared => holders.iter().any(|(_, held)| *held == LockMode::Exclusive),
        };
        if refused {
            return Ok(None);
        }
        holders.push((id, mode));
        drop(state);
        Ok(Some(Box::new(SimLock { disk: self.clone(), ino, id })))
    }
}
