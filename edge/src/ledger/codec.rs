//! Keys and rows as bytes. A key sorts by manifest, then the set before its segments, then peer.

use autonomy_relay::{Part, Row, RowKey, RowState};
use autonomy_schema::Blake3;

/// A manifest, and a segment or not.
const DIGEST: usize = 32;
/// Longest error that is kept, in bytes; the rest of it is cut off.
const MAX_ERROR: usize = 512;
/// Added to the state of a row that was purged.
const PURGED: u8 = 0x80;

/// States by their byte.
const STATES: [RowState; 5] =
    [RowState::Scheduled, RowState::Inflight, RowState::Acked, RowState::Failed, RowState::Deadletter];

/// A row as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) row: Row,
    /// Somebody took note of the dead letter; it is shown no more, and counts on.
    pub(super) purged: bool,
}

/// manifest, 0 or 1 and the segment, the name of the peer.
pub(super) fn key(key: &RowKey) -> Vec<u8> {
    let mut bytes = key.manifest.as_bytes().to_vec();
    match &key.part {
        Part::Manifest => bytes.push(0),
        Part::Segment(id) => {
            bytes.push(1);
            bytes.extend_from_slice(id.as_bytes());
        }
    }
    bytes.extend_from_slice(key.peer.as_str().as_bytes());
    bytes
}

pub(super) fn read_key(bytes: &[u8]) -> Option<RowKey> {
    let (manifest, rest) = bytes.split_first_chunk::<DIGEST>()?;
    let (part, rest) = match rest.split_first()? {
        (0, rest) => (Part::Manifest, rest),
        (1, rest) => {
            let (id, rest) = rest.split_first_chunk::<DIGEST>()?;
            (Part::Segment(Blake3::from_bytes(*id)), rest)
        }
        _ => return None,
    };
    let peer = std::str::from_utf8(rest).ok()?.parse().ok()?;
    Some(RowKey { manifest: Blake3::from_bytes(*manifest), part, peer })
}

/// The first and the last key that rows of a set, or of any, can have.
pub(super) fn range(manifest: Option<Blake3>) -> (Vec<u8>, Vec<u8>) {
    let Some(manifest) = manifest else { return (Vec::new(), vec![u8::MAX; DIGEST + 1]) };
    let first = manifest.as_bytes().to_vec();
    // Behind a manifest stands 0 or 1.
    let last = [first.as_slice(), &[2]].concat();
    (first, last)
}

/// The same for the set itself.
pub(super) fn range_of_manifest(manifest: Blake3) -> (Vec<u8>, Vec<u8>) {
    let part = |part| [manifest.as_bytes().as_slice(), &[part]].concat();
    (part(0), part(1))
}

/// The set that a key is of.
pub(super) fn manifest_of(key: &[u8]) -> Option<Blake3> {
    key.first_chunk::<DIGEST>().map(|manifest| Blake3::from_bytes(*manifest))
}

/// State, attempts in little endian, and the error.
pub(super) fn row(row: &Row, purged: bool) -> Vec<u8> {
    let state = STATES.iter().position(|state| *state == row.state).unwrap_or_default();
    let mut bytes = vec![u8::try_from(state).unwrap_or_default() | if purged { PURGED } else { 0 }];
    bytes.extend_from_slice(&row.attempts.to_le_bytes());
    let error = row.last_error.as_deref().unwrap_or_default();
    let end = (0..=error.len().min(MAX_ERROR)).rev().find(|at| error.is_char_boundary(*at)).unwrap_or_default();
    bytes.extend_from_slice(&error.as_bytes()[..end]);
    bytes
}

pub(super) fn read_row(bytes: &[u8]) -> Option<Kept> {
    let (state, rest) = bytes.split_first()?;
    let (attempts, error) = rest.split_first_chunk::<8>()?;
    let state = *STATES.get(usize::from(state & !PURGED))?;
    let purged = bytes[0] & PURGED != 0;
    let error = std::str::from_utf8(error).ok()?;
    let last_error = (!error.is_empty()).then(|| error.to_owned());
    Some(Kept { row: Row { state, attempts: u64::from_le_bytes(*attempts), last_error }, purged })
}
