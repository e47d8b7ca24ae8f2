//! The object store: whole artifacts, each once, named by BLAKE3 and mode, hard-linked into generations.

use std::io::{self, Read};

use autonomy_schema::{Blake3, Code, Mode, Reason, RelPath, Sha256};

use crate::cache::StatCache;
use crate::disk::{DiskError, FileKind, Identity, Link, Stat, SyncTarget};
use crate::hash::{self, Hashes};
use crate::layout::{self, Writer};
use crate::root::StateRoot;
use crate::source::read_failed;

/// What the signed manifest says of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pins {
    /// Size in bytes.
    pub size: u64,
    /// SHA-256, where the manifest pins one.
    pub sha256: Option<Sha256>,
    /// BLAKE3.
    pub blake3: Blake3,
    /// Permission bits.
    pub mode: Mode,
}

/// Who makes an object durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// [`ObjectStore::place`] syncs the file (not the folder `objects/`).
    PerFile,
    /// The caller syncs the file system once after many, before anything durable refers to them.
    Batched,
}

/// How an object came into a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// It was not there, and was written.
    Written,
    /// It was there and sound, and was linked.
    Reused,
    /// It was there with other content, and was written anew; generations that link the old one keep that.
    Healed,
}

/// An object was not stored.
#[derive(Debug, thiserror::Error)]
pub enum InsertError {
    /// The source is longer or shorter than pinned.
    #[error("{0}")]
    Size(String),
    /// The bytes do not hash to what is pinned.
    #[error("{0}")]
    Digest(String),
    /// The source could not be read.
    #[error("cannot read the source")]
    Source(#[source] io::Error),
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl InsertError {
    /// The error as a reason against `what`, the name of the source.
    pub fn to_reason(&self, what: &str) -> Reason {
        match self {
            Self::Size(message) => Reason::new(Code::SizeMismatch, format!("`{what}` {message}")),
            Self::Digest(message) => Reason::new(Code::DigestMismatch, format!("`{what}` {message}")),
            Self::Source(source) => read_failed(what, source),
            Self::Disk(error) => error.to_reason(),
        }
    }
}

/// The object store of a state root.
#[derive(Debug, Clone, Copy)]
pub struct ObjectStore<'a> {
    root: &'a StateRoot,
    writer: Writer,
}

impl<'a> ObjectStore<'a> {
    /// The object store of `root`.
    pub fn new(root: &'a StateRoot) -> Self {
        Self { root, writer: Writer::Mission }
    }

    /// The same, written to by somebody else.
    #[must_use]
    pub fn for_writer(self, writer: Writer) -> Self {
        Self { writer, ..self }
    }

    /// Copies `source` into the store, over what is there, hashing what is copied. What is not as pinned is not stored. At
    /// most one byte beyond the pinned size is read. Two of the same [`Writer`] must not write the same object at once.
    fn write(self, source: impl Read, pins: &Pins, durability: Durability) -> Result<(), InsertError> {
        let disk = self.root.disk();
        let tmp = layout::object_tmp(pins.blake3, pins.mode, self.writer);
        let stored = self.copy(source, pins, &tmp).and_then(|()| {
            disk.set_meta(&tmp, pins.mode)?;
            if durability == Durability::PerFile {
                disk.sync(SyncTarget::File(&tmp))?;
            }
            Ok(disk.rename(&tmp, &layout::object(pins.blake3, pins.mode))?)
        });
        if stored.is_err() {
            // If this fails too, the next insert of the object starts over in the same file.
            let _removed = disk.remove(&tmp);
        }
        stored
    }

    fn copy(self, source: impl Read, pins: &Pins, tmp: &RelPath) -> Result<(), InsertError> {
        let disk = self.root.disk();
        disk.set_len(tmp, 0)?;
        let mut source = source.take(pins.size.saturating_add(1));
        let mut buffer = hash::buffer(pins.size);
        let mut hashes = Hashes::new(true, pins.sha256.is_some());
        let mut size = 0;
        loop {
            let read = hash::fill(&mut source, &mut buffer).map_err(InsertError::Source)?;
            if read == 0 {
                break;
            }
            let offset = size;
            size += read as u64;
            if size > pins.size {
                return Err(InsertError::Size(format!("is longer than the {} bytes that are signed", pins.size)));
            }
            hashes.update(&buffer[..read]);
            disk.write_at(tmp, offset, &buffer[..read])?;
        }
        if size < pins.size {
            return Err(InsertError::Size(format!("has {size} bytes; {} are signed", pins.size)));
        }
        match hashes.finish() {
            (Some(found), _) if found != pins.blake3 => {
                Err(InsertError::Digest(format!("hashes to {found}; {} is signed", pins.blake3)))
            }
            (_, Some(found)) if pins.sha256.is_some_and(|signed| signed != found) => {
                let signed = pins.sha256.map(|signed| signed.to_string()).unwrap_or_default();
                Err(InsertError::Digest(format!("hashes to {found}; {signed} is signed")))
            }
            _ => Ok(()),
        }
    }

    /// Whether the store holds an object, and what it holds is what its name says. What `cache` does not know is read.
    pub fn holds(&self, pins: &Pins, cache: &StatCache) -> Result<bool, DiskError> {
        let object = layout::object(pins.blake3, pins.mode);
        match self.root.disk().stat(&object)? {
            Some(stat) if fits(&stat, pins) => self.is_sound(&object, &stat, pins, Durability::Batched, cache),
            Some(_) | None => Ok(false),
        }
    }

    /// Sees to it that the store holds an object: one that is there and sound stays, otherwise, and when there is none,
    /// it is written from `open`. The entry in the folder `objects/` waits for the caller's sync.
    pub fn keep<R: Read, E: From<InsertError>>(
        &self,
        open: impl FnOnce() -> Result<R, E>,
        pins: &Pins,
        durability: Durability,
        cache: &StatCache,
    ) -> Result<Placed, E> {
        let object = layout::object(pins.blake3, pins.mode);
        let placed = match self.root.disk().stat(&object).map_err(InsertError::from)? {
            Some(stat) if fits(&stat, pins) => {
                let sound = self.is_sound(&object, &stat, pins, durability, cache).map_err(InsertError::from)?;
                if sound { Placed::Reused } else { Placed::Healed }
            }
            Some(_) | None => Placed::Written,
        };
        if placed != Placed::Reused {
            self.write(open()?, pins, durability)?;
        }
        Ok(placed)
    }

    /// Puts an artifact into a generation: links the object there, and remembers its identity in `cache`, as the link
    /// changed it. An object that is there already is used when the cache knows its content or its content hashes
    /// right; otherwise, and when there is none, it is written from `open`. Not durable: the link and, when batched,
    /// the object wait for the caller's sync.
    pub fn place<R: Read, E: From<InsertError>>(
        &self,
        open: impl FnOnce() -> Result<R, E>,
        pins: &Pins,
        to: &RelPath,
        durability: Durability,
        cache: &mut StatCache,
    ) -> Result<Placed, E> {
        let disk = self.root.disk();
        let object = layout::object(pins.blake3, pins.mode);
        let before = disk.stat(&object).map_err(InsertError::from)?;
        let placed = self.keep(open, pins, durability, cache)?;
        disk.link(Link::Hard { from: &object, to }).map_err(InsertError::from)?;
        let after = disk.stat(to).map_err(InsertError::from)?;
        let unchanged = |after: &Stat| {
            placed != Placed::Reused || before.is_some_and(|before| same_content(&before.identity, &after.identity))
        };
        if let (Some(after), Some(sha256)) = (after.filter(unchanged), pins.sha256) {
            cache.put(after.identity, after.size, pins.blake3, sha256);
        }
        Ok(placed)
    }

    /// Whether an object holds what its name says; what is used of it is durable, as if it had been written now.
    fn is_sound(
        self,
        path: &RelPath,
        stat: &Stat,
        pins: &Pins,
        durability: Durability,
        cache: &StatCache,
    ) -> Result<bool, DiskError> {
        if let Some((blake3, _)) = cache.get(&stat.identity, stat.size) {
            return Ok(blake3 == pins.blake3);
        }
        let (blake3, _) = Hashes::new(true, false).of_file(self.root.disk(), path, stat.size)?;
        let sound = blake3 == Some(pins.blake3);
        if sound && durability == Durability::PerFile {
            // It may be what a batched staging left when it was killed before its one sync.
            self.root.disk().sync(SyncTarget::File(path))?;
        }
        Ok(sound)
    }
}

/// Whether an object is what its name says as far as `lstat` tells. A file grows as it is written and never ahead of it,
/// so an object that a power loss tore is a short one.
fn fits(stat: &Stat, pins: &Pins) -> bool {
    stat.kind == FileKind::File && stat.size == pins.size && stat.mode == pins.mode
}

/// Whether nothing but a link came between two looks at a file.
fn same_content(before: &Identity, after: &Identity) -> bool {
    (before.dev, before.ino, before.mtime_ns) == (after.dev, after.ino, after.mtime_ns)
}
