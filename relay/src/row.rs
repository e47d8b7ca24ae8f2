//! The rows of the ledger: how far one part of a set is with one peer.

use std::fmt;

use autonomy_schema::{Blake3, Name};
use serde::{Deserialize, Serialize};

/// What of a set a row is about. The set itself comes before its segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The set: its documents, without which no segment is accepted.
    Manifest,
    /// A segment of one of its artifacts.
    Segment(Blake3),
}

impl fmt::Display for Part {
    /// `manifest`, or the name of the segment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest => f.write_str("manifest"),
            Self::Segment(id) => fmt::Display::fmt(id, f),
        }
    }
}

/// Where a row stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowState {
    /// It waits for its turn.
    Scheduled,
    /// An attempt was counted, and its answer is not here.
    Inflight,
    /// The peer has it.
    Acked,
    /// The last attempt failed; another will come.
    Failed,
    /// The attempts are used up. There is no way back: a new signed manifest is a new delivery.
    Deadletter,
}

/// Which row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RowKey {
    /// Fingerprint of the manifest.
    pub manifest: Blake3,
    /// What of its set.
    pub part: Part,
    /// The peer.
    pub peer: Name,
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Where it stands.
    pub state: RowState,
    /// Attempts that were begun. It never goes down (INV-12).
    pub attempts: u64,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

/// A row as it must stand in the ledger before the actions that come after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Which row.
    pub key: RowKey,
    /// How it is from now on.
    pub row: Row,
}
