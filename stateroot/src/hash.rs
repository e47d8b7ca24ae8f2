//! Hashing what is read, in one pass.

use std::fmt;
use std::io::{self, Read};

use autonomy_schema::{Blake3, RelPath, Sha256};
use sha2::Digest as _;

use crate::disk::{DiskError, Query};
use crate::durable::WRITE_BYTES;

/// Both digests of a file of the state root; at most one byte beyond `size` is read.
pub fn digests(disk: &(impl Query + ?Sized), path: &RelPath, size: u64) -> Result<(Blake3, Sha256), DiskError> {
    Front::default().finish(disk, path, size)
}

/// The digests of a file that is still being written, taken of its front: what is there already need not be read at the end.
#[derive(Default)]
pub struct Front {
    blake3: blake3::Hasher,
    sha256: sha2::Sha256,
    length: u64,
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Front {
    /// How many bytes were hashed.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Hashes on up to `end`, or to the end of the file if that comes before. What was hashed must not change any more.
    pub fn advance(&mut self, disk: &(impl Query + ?Sized), path: &RelPath, end: u64) -> Result<(), DiskError> {
        let left = end.saturating_sub(self.length);
        let mut file = disk.open_at(path, self.length)?.take(left);
        let mut buffer = buffer(left);
        loop {
            match fill(&mut file, &mut buffer).map_err(|source| DiskError::new("read", path, source))? {
                0 => return Ok(()),
                read => {
                    self.blake3.update(&buffer[..read]);
                    self.sha256.update(&buffer[..read]);
                    self.length += read as u64;
                }
            }
        }
    }

    /// Both digests of what was hashed.
    pub fn digests(self) -> (Blake3, Sha256) {
        (Blake3::from_bytes(*self.blake3.finalize().as_bytes()), Sha256::from_bytes(self.sha256.finalize().into()))
    }

    /// Both digests of a file of `size` bytes; one that is longer gives others, and is read one byte further only.
    pub fn finish(
        mut self,
        disk: &(impl Query + ?Sized),
        path: &RelPath,
        size: u64,
    ) -> Result<(Blake3, Sha256), DiskError> {
        self.advance(disk, path, size.saturating_add(1))?;
        Ok(self.digests())
    }
}

/// The hashes that are wanted of a stream.
pub(crate) struct Hashes {
    blake3: Option<blake3::Hasher>,
    sha256: Option<sha2::Sha256>,
}

impl Hashes {
    pub(crate) fn new(blake3: bool, sha256: bool) -> Self {
        Self { blake3: blake3.then(blake3::Hasher::new), sha256: sha256.then(sha2::Sha256::new) }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        if let Some(hasher) = &mut self.blake3 {
            hasher.update(bytes);
        }
        if let Some(hasher) = &mut self.sha256 {
            hasher.update(bytes);
        }
    }

    pub(crate) fn finish(self) -> (Option<Blake3>, Option<Sha256>) {
        let blake3 = self.blake3.map(|hasher| Blake3::from_bytes(*hasher.finalize().as_bytes()));
        (blake3, self.sha256.map(|hasher| Sha256::from_bytes(hasher.finalize().into())))
    }

    /// Hashes a file of `size` bytes; one that grew meanwhile gives other hashes, and is read one byte further only.
    pub(crate) fn of_file(
        mut self,
        disk: &(impl Query + ?Sized),
        path: &RelPath,
        size: u64,
    ) -> Result<(Option<Blake3>, Option<Sha256>), DiskError> {
        let mut file = disk.open(path)?.take(size.saturating_add(1));
        let mut buffer = buffer(size);
        loop {
            match fill(&mut file, &mut buffer).map_err(|source| DiskError::new("read", path, source))? {
                0 => return Ok(self.finish()),
                read => self.update(&buffer[..read]),
            }
        }
    }
}

/// A buffer for a stream of `size` bytes: one byte more, so that a longer stream shows, and bounded.
pub(crate) fn buffer(size: u64) -> Vec<u8> {
    vec![0; usize::try_from(size).map_or(WRITE_BYTES, |size| size.saturating_add(1).min(WRITE_BYTES))]
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
