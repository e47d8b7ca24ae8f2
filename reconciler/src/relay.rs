//! What `edged` last said of the relay, in a few numbers. It is what another process wrote, and nothing is decided by it.

use std::collections::BTreeSet;

use autonomy_schema::{Blake3, Code, Reason};
use autonomy_stateroot::{StateRoot, layout, read_capped};
use serde::{Deserialize, Serialize};

/// Largest `edge/status.json`: ten thousand rows of some 400 bytes, and as much again.
const MAX_STATUS_BYTES: u64 = 16 << 20;

/// The relay in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Relaying {
    /// The process that wrote it.
    pub pid: u32,
    /// Peers that it has.
    pub peers: usize,
    /// Those of them that are connected.
    pub connected: usize,
    /// Sets on their way to a peer, each counted once a peer.
    pub unrelayed: usize,
    /// Sets of which something is given up, each counted once a peer.
    pub dead_letters: usize,
    /// Whether the rows were more than the file takes, so that the last two are the least that there are.
    pub truncated: bool,
}

/// The part of `edge/status.json` that is read here.
#[derive(Deserialize)]
struct Written {
    pid: u32,
    #[serde(default)]
    peers: Vec<Peer>,
    #[serde(default)]
    rows: Vec<Row>,
    #[serde(default)]
    truncated: u64,
}

#[derive(Deserialize)]
struct Peer {
    connected: bool,
}

#[derive(Deserialize)]
struct Row {
    manifest: Blake3,
    peer: String,
    state: String,
}

/// Reads it; `None` where there is none.
pub(crate) fn relaying(root: &StateRoot) -> Result<Option<Relaying>, Reason> {
    let path = layout::edge_status();
    let read = read_capped(root.disk(), &path, MAX_STATUS_BYTES).map_err(|error| error.to_reason())?;
    let Some(bytes) = read else { return Ok(None) };
    let written: Written = serde_json::from_slice(&bytes).map_err(|error| {
        Reason::new(Code::CorruptState, format!("`{path}`: {error}"))
            .with_remedy("let `edged` run, which writes it anew")
    })?;
    let parts = |wanted: &dyn Fn(&str) -> bool| -> BTreeSet<(Blake3, &str)> {
        let rows = written.rows.iter().filter(|row| wanted(&row.state));
        rows.map(|row| (row.manifest, row.peer.as_str())).collect()
    };
    let dead = parts(&|state| state == "deadletter");
    let open = parts(&|state| !matches!(state, "acked" | "deadletter"));
    Ok(Some(Relaying {
        pid: written.pid,
        peers: written.peers.len(),
        connected: written.peers.iter().filter(|peer| peer.connected).count(),
        unrelayed: open.len(),
        dead_letters: dead.len(),
        truncated: written.truncated > 0,
    }))
}
