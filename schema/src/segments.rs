//! Content-defined segments of an artifact and their index file.
//!
//! The cut points are part of the format: `FastCDC` v2020 with 4, 16 and 64 KiB, normalization level 1, seed 0.

use std::io::Read;

use fastcdc::v2020::{Normalization, StreamCDC};

use crate::digest::{Blake3, Sha256};

/// Bytes of one index entry: 32 of BLAKE3 and 8 of length, little endian.
pub const ENTRY_BYTES: u64 = ENTRY as u64;
const ENTRY: usize = 40;
/// Smallest segment, save the last.
pub const MIN_SEGMENT: u32 = 4 << 10;
/// Average segment.
pub const AVERAGE_SEGMENT: u32 = 16 << 10;
/// Largest segment; a reader never needs a larger buffer.
pub const MAX_SEGMENT: u32 = 64 << 10;

/// One segment of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// BLAKE3 of its bytes: its name.
    pub id: Blake3,
    /// Length in bytes.
    pub length: u64,
}

/// What one pass over a file tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of the whole.
    pub sha256: Sha256,
    /// BLAKE3 of the whole.
    pub blake3: Blake3,
    /// The index file.
    pub index: Vec<u8>,
}

impl Measured {
    /// Number of segments.
    pub fn count(&self) -> u64 {
        self.index.len() as u64 / ENTRY_BYTES
    }
}

/// The reader failed, or the file is longer than the cap.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// Reading failed.
    #[error("reading failed")]
    Read(#[source] std::io::Error),
    /// More bytes than the caller allows.
    #[error("the file is longer than {0} bytes")]
    TooLong(u64),
}

/// Reads `source` once, to its end or to `cap`, and gives size, digests and segment index. Memory is bounded by
/// the largest segment and the index (1/400 of the size on average).
pub fn measure(source: impl Read, cap: u64) -> Result<Measured, MeasureError> {
    use sha2::Digest as _;
    let capped = source.take(cap.saturating_add(1));
    let chunks = StreamCDC::with_level_and_seed(
        capped,
        MIN_SEGMENT as usize,
        AVERAGE_SEGMENT as usize,
        MAX_SEGMENT as usize,
        Normalization::Level1,
        0,
    );
    let mut sha256 = sha2::Sha256::new();
    let mut whole = blake3::Hasher::new();
    let mut measured = Measured {
        size: 0,
        sha256: Sha256::from_bytes([0; 32]),
        blake3: Blake3::from_bytes([0; 32]),
        index: Vec::new(),
    };
    for chunk in chunks {
        let chunk = chunk.map_err(|error| MeasureError::Read(error.into()))?;
        sha256.update(&chunk.data);
        whole.update(&chunk.data);
        measured.size += chunk.data.len() as u64;
        if measured.size > cap {
            return Err(MeasureError::TooLong(cap));
        }
        measured.index.extend_from_slice(Blake3::of(&chunk.data).as_bytes());
        measured.index.extend_from_slice(&(chunk.data.len() as u64).to_le_bytes());
    }
    measured.sha256 = Sha256::from_bytes(sha256.finalize().into());
    measured.blake3 = Blake3::from_bytes(*whole.finalize().as_bytes());
    Ok(measured)
}

/// An index file contradicts itself or its artifact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// Not a whole number of entries.
    #[error("the index has {0} bytes, which is no multiple of 40")]
    Ragged(usize),
    /// A length of zero, or above [`MAX_SEGMENT`].
    #[error("segment {at} has {length} bytes; expected 1 to 65536")]
    BadLength {
        /// Position of the segment.
        at: usize,
        /// Its claimed length.
        length: u64,
    },
    /// The lengths do not add up to the artifact's size.
    #[error("the segments add up to {sum} bytes, the artifact has {size}")]
    BadSum {
        /// What they add up to.
        sum: u64,
        /// What the manifest says.
        size: u64,
    },
}

/// Parses an index file for an artifact of `size` bytes.
pub fn parse_index(bytes: &[u8], size: u64) -> Result<Vec<Segment>, IndexError> {
    let (entries, rest) = bytes.as_chunks::<ENTRY>();
    if !rest.is_empty() {
        return Err(IndexError::Ragged(bytes.len()));
    }
    let mut sum = 0u64;
    let mut segments = Vec::with_capacity(entries.len());
    for (at, entry) in entries.iter().enumerate() {
        let segment = parse_entry(entry, at)?;
        sum += segment.length;
        segments.push(segment);
    }
    if sum == size { Ok(segments) } else { Err(IndexError::BadSum { sum, size }) }
}

fn parse_entry(entry: &[u8; ENTRY], at: usize) -> Result<Segment, IndexError> {
    let mut id = [0; 32];
    let mut length = [0; 8];
    id.copy_from_slice(&entry[..32]);
    length.copy_from_slice(&entry[32..]);
    let length = u64::from_le_bytes(length);
    if length == 0 || length > u64::from(MAX_SEGMENT) {
        return Err(IndexError::BadLength { at, length });
    }
    Ok(Segment { id: Blake3::from_bytes(id), length })
}

/// The entries of an index that is read while they are used. Whether their lengths add up is the caller's to ask.
#[derive(Debug)]
pub struct Entries<R> {
    index: R,
    at: usize,
}

impl<R: Read> Entries<R> {
    /// The entries of `index`, which is best buffered.
    pub fn of(index: R) -> Self {
        Self { index, at: 0 }
    }
}

impl<R: Read> Iterator for Entries<R> {
    type Item = std::io::Result<Segment>;

    fn next(&mut self) -> Option<Self::Item> {
        use std::io::{Error, ErrorKind};
        let mut entry = [0; ENTRY];
        let mut filled = 0;
        while filled < ENTRY {
            match self.index.read(&mut entry[filled..]) {
                Ok(0) if filled == 0 => return None,
                Ok(0) => return Some(Err(Error::new(ErrorKind::InvalidData, IndexError::Ragged(filled)))),
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Some(Err(error)),
            }
        }
        let segment = parse_entry(&entry, self.at);
        self.at += 1;
        Some(segment.map_err(|error| Error::new(ErrorKind::InvalidData, error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new_derive_key("autonomy test noise").finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn an_index_covers_its_file_and_an_insertion_moves_few_segments() {
        let bytes = noise(1 << 20);
        let measured = measure(&bytes[..], u64::MAX - 1).expect("reads");
        let before = parse_index(&measured.index, measured.size).expect("parses");
        assert_eq!(measured.sha256, Sha256::of(&bytes));
        assert_eq!(measured.blake3, Blake3::of(&bytes));
        let mut edited = bytes.clone();
        edited.splice(500_000..500_000, *b"seventeen bytes!!");
        let edited = measure(&edited[..], u64::MAX - 1).expect("reads");
        let after = parse_index(&edited.index, edited.size).expect("parses");
        let streamed: Vec<_> = Entries::of(&edited.index[..]).map(|entry| entry.expect("reads")).collect();
        assert_eq!(streamed, after);
        let fresh = after.iter().filter(|segment| !before.contains(segment)).count();
        assert!(fresh <= 4, "{fresh} of {} segments moved", after.len());
    }

    #[test]
    fn the_cut_points_are_pinned() {
        // The chunker is part of the format: another version of the crate must cut at the same places.
        let measured = measure(&noise(300_000)[..], u64::MAX - 1).expect("reads");
        assert_eq!(Blake3::of(&measured.index).to_string(), include_str!("segments/pinned.txt").trim());
    }

    #[test]
    fn caps_and_damage_are_told() {
        assert!(matches!(measure(&noise(5000)[..], 4999), Err(MeasureError::TooLong(4999))));
        assert_eq!(measure(&[][..], 0).expect("empty").count(), 0);
        assert_eq!(parse_index(&[0; 39], 0), Err(IndexError::Ragged(39)));
        assert_eq!(parse_index(&[0; 40], 0), Err(IndexError::BadLength { at: 0, length: 0 }));
        assert_eq!(parse_index(&[], 1), Err(IndexError::BadSum { sum: 0, size: 1 }));
        let streamed = |bytes: &[u8]| Entries::of(bytes).map(|entry| entry.map_err(|error| error.to_string())).last();
        assert_eq!(streamed(&[0; 39]), Some(Err(IndexError::Ragged(39).to_string())));
        assert_eq!(streamed(&[0; 40]), Some(Err(IndexError::BadLength { at: 0, length: 0 }.to_string())));
        assert_eq!(streamed(&[]), None);
    }
}
