//! The control socket: one question in a line of JSON, one answer in a line of JSON, then the connection ends.
//!
//! It lies in the state root with mode 0600, and only the daemon's own user and root are heard.

mod ask;
mod serve;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use autonomy_schema::{Blake3, Name, Reason};
use serde::{Deserialize, Serialize};

pub use ask::ask;
pub use serve::Control;

/// A path to the socket that is short enough for one (108 bytes), however long that of the state root is. It leads through
/// the open folder, and as far as that is open.
fn short_path(state_root: &Path) -> io::Result<(File, PathBuf)> {
    let socket = Path::new(SOCKET);
    let folder = File::open(state_root.join(socket.parent().unwrap_or(socket)))?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    Ok((folder, path.join(socket.file_name().unwrap_or_default())))
}

/// Where the socket lies in a state root.
pub const SOCKET: &str = "edge/edged.sock";
/// Longest question in bytes.
const MAX_QUESTION: usize = 4 << 10;
/// Longest answer in bytes: ten thousand rows with their errors.
const MAX_ANSWER: u64 = 16 << 20;

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verb", deny_unknown_fields)]
pub enum Question {
    /// How things stand.
    Status,
    /// Dead letters, all of them that fit the answer.
    DeadLetters(Which),
    /// Take dead letters off the list; their counts stand.
    Purge(Which),
    /// Segments of sets that are being received.
    Segments,
    /// Read certificates and configuration again.
    Reload,
    /// Take no new work, and end.
    Drain,
}

/// Which rows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// Those of this set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Blake3>,
    /// Those for this peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Name>,
    /// `manifest`, or one segment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    /// It could not be done.
    Refused {
        /// Why.
        reasons: Vec<Reason>,
    },
    /// What was asked for.
    Done {
        /// The value.
        ok: serde_json::Value,
    },
}
