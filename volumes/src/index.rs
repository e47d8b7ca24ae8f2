//! The list of members at the beginning of the stream.

use autonomy_schema::{RelPath, canonical};
use serde::{Deserialize, Serialize};

/// Most bytes of an index: it is held in memory.
pub const MAX_INDEX_BYTES: u64 = 16 << 20;
/// Most members of a set: as many as a backup may have.
pub const MAX_MEMBERS: usize = 1_000_000;

/// A member, as the index lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Where it belongs.
    pub path: RelPath,
    /// Its size in bytes.
    pub size: u64,
}

/// A list of members cannot be, or contradicts its header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// A path twice, or the list of a medium is not sorted.
    #[error("`{0}` is listed twice or out of order")]
    Order(RelPath),
    /// A member lies below another one, which is a file.
    #[error("`{0}` lies below a file")]
    BelowFile(RelPath),
    /// Too many members.
    #[error("{0} files are more than 1000000")]
    TooMany(usize),
    /// The list itself is too long.
    #[error("the list of files has {0} bytes, more than 16777216")]
    TooLong(u64),
    /// The sizes have no sum that a header can tell.
    #[error("the sizes add up to more than 2^53-1 bytes")]
    TooLarge,
    /// The sizes do not add up to the stream.
    #[error("the sizes add up to {sum} bytes, the volumes hold {held}")]
    BadSum {
        /// With the index.
        sum: u64,
        /// What the header says.
        held: u64,
    },
    /// Not the bytes that the header pins.
    #[error("the list of files is not the one that the header names")]
    Digest,
    /// Not a list of paths and sizes in canonical JSON.
    #[error("the list of files is not canonical JSON of paths and sizes")]
    Malformed,
}

/// The canonical bytes of a sorted list, and the length of its stream.
pub(crate) fn seal(entries: &[Entry]) -> Result<(Vec<u8>, u64), IndexError> {
    check(entries)?;
    let bytes = canonical::to_bytes(&entries).map_err(|_no_such_number| IndexError::TooLarge)?;
    let length = bytes.len() as u64;
    if length > MAX_INDEX_BYTES {
        return Err(IndexError::TooLong(length));
    }
    let stream = sum(entries, length)?;
    Ok((bytes, stream))
}

/// Parses the index of a stream.
pub(crate) fn parse(bytes: &[u8], stream_bytes: u64) -> Result<Vec<Entry>, IndexError> {
    let entries: Vec<Entry> = serde_json::from_slice(bytes).map_err(|_no_list| IndexError::Malformed)?;
    check(&entries)?;
    if canonical::to_bytes(&entries).ok().as_deref() != Some(bytes) {
        return Err(IndexError::Malformed);
    }
    let sum = sum(&entries, bytes.len() as u64)?;
    if sum == stream_bytes { Ok(entries) } else { Err(IndexError::BadSum { sum, held: stream_bytes }) }
}

fn sum(entries: &[Entry], index_bytes: u64) -> Result<u64, IndexError> {
    entries
        .iter()
        .try_fold(index_bytes, |sum, entry| sum.checked_add(entry.size))
        .filter(|sum| *sum <= canonical::MAX_INTEGER)
        .ok_or(IndexError::TooLarge)
}

fn check(entries: &[Entry]) -> Result<(), IndexError> {
    if entries.len() > MAX_MEMBERS {
        return Err(IndexError::TooMany(entries.len()));
    }
    if let Some(pair) = entries.windows(2).find(|pair| pair[0].path >= pair[1].path) {
        return Err(IndexError::Order(pair[1].path.clone()));
    }
    for entry in entries {
        let mut above = entry.path.parent();
        while let Some(folder) = above {
            if find(entries, &folder).is_some() {
                return Err(IndexError::BelowFile(entry.path.clone()));
            }
            above = folder.parent();
        }
    }
    Ok(())
}

/// The position of a path in a sorted list.
pub(crate) fn find(entries: &[Entry], path: &RelPath) -> Option<usize> {
    entries.binary_search_by(|entry| entry.path.cmp(path)).ok()
}
