//! One record as one line of canonical JSON, and every way in which it can be wrong.

use std::fmt;

use autonomy_schema::canonical;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest line, newline included: a decision with its reasons is a few KiB; a reader holds one line in memory.
pub(crate) const MAX_LINE_BYTES: usize = 1 << 20;

/// What is wrong with a record. The text of [`Cause::as_str`] is a contract: `wal inspect` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The length before the line is zero or above the limit.
    BadLength,
    /// The file ends within the record.
    CutShort,
    /// The line is longer than the limit, or does not end in a newline.
    BadLine,
    /// The line is not the canonical JSON of a record with exactly its fields.
    BadRecord,
    /// The record does not carry the number that follows the one before.
    BadSequence,
    /// The record does not name the digest of the one before.
    BrokenChain,
    /// The record does not carry its own digest.
    BadDigest,
    /// The checkpoint is not eight bytes.
    BadCheckpoint,
    /// The file ends before the record that the checkpoint names.
    MissingRecords,
}

impl Cause {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadLength => "bad_length",
            Self::CutShort => "cut_short",
            Self::BadLine => "bad_line",
            Self::BadRecord => "bad_record",
            Self::BadSequence => "bad_sequence",
            Self::BrokenChain => "broken_chain",
            Self::BadDigest => "bad_digest",
            Self::BadCheckpoint => "bad_checkpoint",
            Self::MissingRecords => "missing_records",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The line of `record`, without its newline; `None` when no reader would take it back: too long, nested too deep, or
/// with a number that JSON does not keep.
pub(crate) fn encode<T: Serialize + DeserializeOwned>(record: &T) -> Option<Vec<u8>> {
    let line = canonical::to_bytes(record).ok()?;
    (line.len() < MAX_LINE_BYTES && decode::<T>(&line).is_ok()).then_some(line)
}

/// Reads a line. It must be exactly what [`encode`] writes, so that no byte is without meaning: an absent field, a
/// field twice, a space, all are caught by writing it again.
pub(crate) fn decode<T: Serialize + DeserializeOwned>(line: &[u8]) -> Result<T, Cause> {
    let record: T = serde_json::from_slice(line).map_err(|_unparsable| Cause::BadRecord)?;
    match canonical::to_bytes(&record) {
        Ok(again) if again == line => Ok(record),
        Ok(_) | Err(_) => Err(Cause::BadRecord),
    }
}
