//! The record of the WAL.

use autonomy_schema::{Blake3, Time};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Which records leave the node first when the way out is narrow; in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Something failed.
    Error,
    /// A policy decided.
    Decision,
    /// A phase of an apply, a start, a stop.
    Lifecycle,
    /// Everything else.
    Rest,
}

/// What a caller wants to keep. It holds no secret: only presence, digests and names.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// A dotted name, such as `apply.phase`.
    pub kind: String,
    /// How urgent it is.
    pub priority: Priority,
    /// When it happened.
    pub time: Time,
    /// The details.
    pub body: Value,
}

/// A record as it lies on the disk (`docs/formats/wal.md`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stored {
    /// From 1, without gaps.
    pub seq: u64,
    /// As in [`Record`].
    pub kind: String,
    /// As in [`Record`].
    pub priority: Priority,
    /// As in [`Record`].
    pub time: Time,
    /// BLAKE3 of the line before, without its newline; `null` at 1.
    pub prev: Option<Blake3>,
    /// As in [`Record`].
    pub body: Value,
}
