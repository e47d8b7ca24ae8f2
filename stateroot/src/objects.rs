//! The object store: whole artifacts, each once, named by BLAKE3 and mode, hard-linked into generations.

use std::io::{self, Read};

use autonomy_schema::{Blake3, Code, Mode, Reason, RelPath, Sha256};
use sha2::Digest as _;

use crate::disk::{DiskError, FileKind, Link, SyncTarget};
use crate::durable::WRITE_BYTES;
use crate::layout;
use crate::root::StateRoot;

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
    /// [`ObjectStore::insert`] syncs the file (not the folder `objects/`).
    PerFile,
    /// The caller syncs the file system once after many, before anything durable refers to them.
    Batched,
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
            Self::Source(source) => Reason::new(Code::IoError, format!("cannot read `{what}`: {source}")),
            Self::Disk(error) => error.to_reason(),
        }
    }
}

/// The object store of a state root.
#[derive(Debug, Clone, Copy)]
pub struct ObjectStore<'a> {
    root: &'a StateRoot,
}

impl<'a> ObjectStore<'a> {
    /// The object store of `root`.
    pub fn new(root: &'a StateRoot) -> Self {
        Self { root }
    }

    /// Where an object lies.
    pub fn path(blake3: Blake3, mode: Mode) -> RelPath {
        layout::object(blake3, mode)
    }

    /// Whether the object is there, by kind, size and mode; its content is not read. That is enough after a power
    /// loss too: a file grows as it is written and never ahead of it, so a torn object is a short one.
    pub fn contains(&self, blake3: Blake3, mode: Mode, size: u64) -> Result<bool, DiskError> {
        let stat = self.root.disk().stat(&layout::object(blake3, mode))?;
        Ok(stat.is_some_and(|stat| stat.kind == FileKind::File && stat.size == size && stat.mode == mode))
    }

    /// Copies `source` into the store, hashing what is copied; `false` when the object was there already, and then
    /// nothing is read. What is not as pinned is not stored. At most one byte beyond the pinned size is read. Two
    /// writers of the same object must not run at once.
    pub fn insert(&self, source: impl Read, pins: &Pins, durability: Durability) -> Result<bool, InsertError> {
        if self.contains(pins.blake3, pins.mode, pins.size)? {
            return Ok(false);
        }
        let disk = self.root.disk();
        let tmp = layout::object_tmp(pins.blake3, pins.mode);
        let stored = self.copy(source, pins, &tmp).and_then(|()| {
            disk.set_meta(&tmp, pins.mode)?;
            if durability == Durability::PerFile {
                disk.sync(SyncTarget::File(&tmp))?;
            }
            Ok(disk.rename(&tmp, &layout::object(pins.blake3, pins.mode))?)
        });
        if let Err(error) = stored {
            // If this fails too, the next insert of the object starts over in the same file.
            let _removed = disk.remove(&tmp);
            return Err(error);
        }
        Ok(true)
    }

    fn copy(self, source: impl Read, pins: &Pins, tmp: &RelPath) -> Result<(), InsertError> {
        let disk = self.root.disk();
        disk.set_len(tmp, 0)?;
        let mut source = source.take(pins.size.saturating_add(1));
        let mut buffer = vec![0; WRITE_BYTES.min(usize::try_from(pins.size).unwrap_or(WRITE_BYTES).saturating_add(1))];
        let mut blake3 = blake3::Hasher::new();
        let mut sha256 = pins.sha256.map(|_| sha2::Sha256::new());
        let mut size = 0;
        loop {
            let read = fill(&mut source, &mut buffer).map_err(InsertError::Source)?;
            if read == 0 {
                break;
            }
            let chunk = &buffer[..read];
            size += read as u64;
            if size > pins.size {
                return Err(InsertError::Size(format!("is longer than the {} bytes that are signed", pins.size)));
            }
            blake3.update(chunk);
            if let Some(sha256) = &mut sha256 {
                sha256.update(chunk);
            }
            disk.write_at(tmp, size - read as u64, chunk)?;
        }
        if size < pins.size {
            return Err(InsertError::Size(format!("has {size} bytes; {} are signed", pins.size)));
        }
        let blake3 = Blake3::from_bytes(*blake3.finalize().as_bytes());
        if blake3 != pins.blake3 {
            return Err(InsertError::Digest(format!("hashes to {blake3}; {} is signed", pins.blake3)));
        }
        let sha256 = sha256.map(|hasher| Sha256::from_bytes(hasher.finalize().into()));
        match (sha256, pins.sha256) {
            (Some(found), Some(signed)) if found != signed => {
                Err(InsertError::Digest(format!("hashes to {found}; {signed} is signed")))
            }
            _ => Ok(()),
        }
    }

    /// Gives the object a second name in a generation. Not durable.
    pub fn link_into(&self, blake3: Blake3, mode: Mode, to: &RelPath) -> Result<(), DiskError> {
        self.root.disk().link(Link::Hard { from: &layout::object(blake3, mode), to })
    }
}

/// Reads until the buffer is full or the source ends.
pub(crate) fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
