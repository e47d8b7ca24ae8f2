//! What the daemon tells of itself: `edge/status.json`, replaced by rename, for everybody who does not ask it.

use autonomy_relay::{Row, RowKey, RowState};
use autonomy_schema::{Blake3, Code, Mode, Name, Reason, RelPath, Time};
use autonomy_stateroot::{DiskError, StateRoot, durable, read_capped};
use serde::{Deserialize, Serialize};

use crate::ledger::Counts;

/// Where it lies in a state root.
pub const STATUS: &str = "edge/status.json";
/// Largest file that is read: [`crate::ledger::MAX_ROWS`] rows with their errors.
const MAX_BYTES: u64 = 16 << 20;

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// This node.
    pub node: Name,
    /// The process.
    pub pid: u32,
    /// When it began.
    pub started: Time,
    /// When this was written.
    pub written: Time,
    /// Whether it takes no new work.
    pub draining: bool,
    /// Where peers connect to.
    pub listen: String,
    /// Where metrics are read.
    pub metrics: String,
    /// The generation whose configuration is in force.
    pub generation: Option<Name>,
    /// The peers that it sends to.
    pub peers: Vec<PeerStatus>,
    /// The sets that are sent on.
    pub deliveries: Vec<DeliveryStatus>,
    /// What is not with its peer, then what is.
    pub rows: Vec<RowStatus>,
    /// Rows that are not listed.
    pub truncated: u64,
    /// How many rows stand how.
    pub counters: Counts,
}

/// A peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its node id.
    pub id: Name,
    /// Where it is dialled.
    pub address: String,
    /// A connection stands.
    pub connected: bool,
    /// It asked to be left alone for a while.
    pub paused: bool,
    /// What was sent to it lately.
    pub measured_bytes_per_second: u64,
    /// What may be sent to it; 0 is unlimited.
    pub limit: u64,
    /// Why it was not reached, or lost, the last time.
    pub last_error: Option<String>,
}

/// A set that is sent on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryStatus {
    /// Fingerprint of its manifest.
    pub manifest: Blake3,
    /// Its stream.
    pub stream: Name,
    /// Its serial.
    pub serial: u64,
    /// As many peers have it as shall.
    pub done: bool,
    /// Who has it.
    pub delivered: Vec<Name>,
}

/// A row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowStatus {
    /// The set.
    pub manifest: Blake3,
    /// `manifest`, or the segment.
    pub segment: String,
    /// The peer.
    pub peer: Name,
    /// Where it stands.
    pub state: RowState,
    /// Attempts that were begun.
    pub attempts: u64,
    /// Why the last one failed.
    pub last_error: Option<String>,
}

impl From<(RowKey, Row)> for RowStatus {
    fn from((key, row): (RowKey, Row)) -> Self {
        Self {
            manifest: key.manifest,
            segment: key.part.to_string(),
            peer: key.peer,
            state: row.state,
            attempts: row.attempts,
            last_error: row.last_error,
        }
    }
}

/// Replaces the file. A status that is lost with the power is no loss.
pub fn publish(root: &StateRoot, status: &Status) -> Result<(), DiskError> {
    let path = RelPath::fixed(STATUS);
    let mut bytes = serde_json::to_vec(status).map_err(|error| DiskError::new("encode", &path, error))?;
    bytes.push(b'\n');
    let tmp = durable::beside(&path)?;
    durable::write_new(root.disk(), &tmp, &bytes, Mode::PRIVATE)?;
    root.disk().rename(&tmp, &path)
}

/// Reads it; `None` where the daemon never ran.
pub fn read(root: &StateRoot) -> Result<Option<Status>, Reason> {
    let path = RelPath::fixed(STATUS);
    let Some(bytes) = read_capped(root.disk(), &path, MAX_BYTES).map_err(|error| error.to_reason())? else {
        return Ok(None);
    };
    let status = serde_json::from_slice(&bytes);
    status.map(Some).map_err(|error| Reason::new(Code::CorruptState, format!("`{path}`: {error}")))
}
