//! The index of an artifact of type `tree` (DESIGN §4): `trees/<artifact>.jsonl`, one file a line.
//!
//! A line is canonical JSON (RFC 8785) and a newline; lines are sorted by the bytes of the path, so one tree has one index.
//! The payload of a tree is its files one after the other in this order: that is what the manifest's `size`, `digest`,
//! `blake3` and `segments` of a tree speak of. Empty folders, links and owners are not part of a tree.

use std::io::{self, BufRead, BufReader, Read};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::canonical::{self, CanonicalError};
use crate::digest::{Blake3, Sha256};
use crate::manifest::TreeIndexRef;
use crate::path::{Mode, RelPath};
use crate::reason::{Code, Reason};

/// Most files of a tree.
pub const MAX_FILES: usize = 200_000;
/// Most bytes of the indices of all trees of a manifest together.
pub const MAX_INDEX_BYTES: u64 = 128 << 20;
/// Most bytes of a line: twice the longest path, as JSON escapes quotation marks, and the rest.
const MAX_LINE_BYTES: u64 = 4 << 10;

/// One file of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TreeEntry {
    /// BLAKE3 of its bytes.
    pub blake3: Blake3,
    /// Permission bits.
    pub mode: Mode,
    /// Path below the tree.
    pub path: RelPath,
    /// Size in bytes.
    pub size: u64,
}

/// An index is not what its manifest pins, or contradicts itself.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// Reading failed.
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    /// A line is wrong.
    #[error("line {line}: {why}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// Another digest.
    #[error("it is {found}, the manifest pins {pinned}")]
    Digest {
        /// What it is.
        found: Sha256,
        /// What is right.
        pinned: Sha256,
    },
    /// The sizes of the files do not add up.
    #[error("the files add up to {sum} bytes, the manifest pins {size}")]
    Sum {
        /// What they add up to.
        sum: u64,
        /// What is right.
        size: u64,
    },
}

impl TreeError {
    /// The error as a reason; `name` is the index file.
    pub fn to_reason(&self, name: &str) -> Reason {
        let code = match self {
            Self::Read(_) => Code::IoError,
            Self::Line { .. } => Code::BadValue,
            Self::Digest { .. } => Code::DigestMismatch,
            Self::Sum { .. } => Code::SizeMismatch,
        };
        Reason::new(code, format!("`{name}`: {self}"))
    }
}

/// The line of a file, with its newline.
pub fn line(entry: &TreeEntry) -> Result<Vec<u8>, CanonicalError> {
    let mut bytes = canonical::to_bytes(entry)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads the index of a tree whose payload has `size` bytes. It is read as a stream: what is held is the entries alone.
/// Nothing is given unless all of it is as pinned.
pub fn parse(source: impl Read, pinned: TreeIndexRef, size: u64) -> Result<Vec<TreeEntry>, TreeError> {
    let mut reader = BufReader::new(Hashing::new(source.take(pinned.size.saturating_add(1))));
    let mut parser = Parser::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        parser.line(&line).map_err(|why| TreeError::Line { line: parser.entries.len() + 1, why })?;
    }
    let found = reader.into_inner().finish();
    if found != pinned.digest {
        return Err(TreeError::Digest { found, pinned: pinned.digest });
    }
    if let Some((line, why)) = parser.collision() {
        return Err(TreeError::Line { line, why });
    }
    if parser.sum != size {
        return Err(TreeError::Sum { sum: parser.sum, size });
    }
    Ok(parser.entries)
}

/// A reader that hashes what it hands out.
struct Hashing<R> {
    from: R,
    hash: sha2::Sha256,
}

impl<R: Read> Hashing<R> {
    fn new(from: R) -> Self {
        Self { from, hash: sha2::Sha256::default() }
    }

    fn finish(self) -> Sha256 {
        Sha256::from_bytes(self.hash.finalize().into())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}

#[derive(Default)]
struct Parser {
    entries: Vec<TreeEntry>,
    sum: u64,
}

impl Parser {
    fn line(&mut self, line: &[u8]) -> Result<(), String> {
        if line.last() != Some(&b'\n') {
            return Err(format!("it has no newline within {MAX_LINE_BYTES} bytes"));
        }
        let entry: TreeEntry = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        if self::line(&entry).ok().as_deref() != Some(line) {
            return Err("it is not canonical JSON".to_owned());
        }
        if self.entries.len() == MAX_FILES {
            return Err(format!("a tree has at most {MAX_FILES} files"));
        }
        let path = entry.path.as_str();
        if self.entries.last().is_some_and(|before| before.path.as_str() >= path) {
            return Err(format!("`{path}` is not after the path before it"));
        }
        let sum = self.sum.checked_add(entry.size).filter(|sum| *sum <= canonical::MAX_INTEGER);
        self.sum = sum.ok_or_else(|| format!("the sizes add up to more than {}", canonical::MAX_INTEGER))?;
        self.entries.push(entry);
        Ok(())
    }

    /// The first path that would be the same as another on a file system that does not tell case, or that is a file in the
    /// place of a folder. One folded copy of each path is all that is held.
    fn collision(&self) -> Option<(usize, String)> {
        let folded = |(at, entry): (usize, &TreeEntry)| (entry.path.as_str().to_lowercase(), at);
        let mut folded: Vec<(String, usize)> = self.entries.iter().enumerate().map(folded).collect();
        // As if a slash were the first of all characters, so that what is in a folder follows its name at once.
        folded.sort_by(|(a, _), (b, _)| {
            let slash_first = |byte: u8| if byte == b'/' { 0 } else { byte };
            a.bytes().map(slash_first).cmp(b.bytes().map(slash_first))
        });
        folded.windows(2).find_map(|pair| {
            let [(before, _), (path, at)] = pair else { return None };
            let shown = &self.entries.get(*at)?.path;
            if before == path {
                return Some((at + 1, format!("`{shown}` differs only in case from another path")));
            }
            let inside = path.strip_prefix(before.as_str()).is_some_and(|rest| rest.starts_with('/'));
            inside.then(|| (at + 1, format!("`{shown}` is in a folder that has the name of a file")))
        })
    }
}
