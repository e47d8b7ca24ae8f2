//! How far a set is, as `PUT` and `GET /v1/manifests/{fp}` answer it.

use autonomy_schema::{Blake3, Name};
use serde::{Deserialize, Serialize};

/// Most segments that one answer names.
pub const MAX_MISSING: u64 = 16_384;

/// Most receipts of one answer.
pub const MAX_RECEIPTS: usize = 64;

/// How far a set is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Which.
    pub manifest: Blake3,
    /// Whether it is whole.
    pub state: SetState,
    /// What lacks, by name of artifact.
    pub missing: Vec<Artifact>,
    /// There are more than these: send them, then ask again.
    pub more: bool,
    /// Receipts for the manifest, this node's own first.
    pub receipts: Vec<SignedReceipt>,
}

/// Whether a set is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SetState {
    /// Segments lack.
    Receiving,
    /// The whole set is durable here.
    Stored,
}

/// What lacks of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Its name.
    pub artifact: Name,
    /// Ranges of segment numbers in its index: first, and one behind the last.
    pub segments: Vec<(u64, u64)>,
}

/// A receipt and its signature lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedReceipt {
    /// The document: canonical JSON.
    pub document: String,
    /// Its signature lines.
    pub signatures: String,
}
