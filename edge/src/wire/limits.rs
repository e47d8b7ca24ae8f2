//! What the wire bears, and how long it waits: every number has its reason here.

use std::time::Duration;

/// Connections that stand at once: twice the 64 peers that INV-07 is tested with.
pub(super) const MAX_CONNECTIONS: usize = 128;
/// Handshakes under way at once; a connection is nobody's until it is done.
pub(super) const MAX_HANDSHAKES: usize = 128;
/// Of these from one address: no address takes all of them, and a fleet behind one router still gets in.
pub(super) const MAX_HANDSHAKES_OF_ADDRESS: usize = 64;
/// Connections of one peer: one that sends, one that was cut and is not known to be, and two for people with curl.
pub(super) const MAX_CONNECTIONS_OF_PEER: usize = 4;
/// Bodies of one peer that are read at once; the rest waits unread.
pub(super) const MAX_BODIES_OF_PEER: usize = 2;
/// Packs of one peer that were read and wait for their commit; what became of their segments is in memory.
pub(super) const MAX_COMMITS_OF_PEER: usize = 4;
/// What a question about a set takes of the quota of its peer: less than what an honest one asks for in passing.
pub(super) const QUESTION_BYTES: u64 = 512;
/// Peers that are remembered, connected or not.
pub(super) const MAX_PEERS: usize = 1024;
/// Requests under way on one connection.
pub(super) const MAX_STREAMS: u32 = 16;
/// Bytes that a peer may send on a stream before they are read.
pub(super) const STREAM_WINDOW: u32 = 256 << 10;
/// The same on a connection: with 64 peers 32 MiB, the largest part of INV-07's 96 MiB.
pub(super) const CONNECTION_WINDOW: u32 = 512 << 10;
/// Longest list of headers; ours are below 1 KiB.
pub(super) const MAX_HEADERS: u32 = 16 << 10;
/// Streams that were reset and not yet looked at, before the connection ends (rapid reset).
pub(super) const MAX_PENDING_RESETS: usize = 20;
/// Errors of one connection's streams before it ends.
pub(super) const MAX_ERROR_RESETS: usize = 64;
/// What is sent on a stream before the peer reads it.
pub(super) const SEND_BUFFER: usize = 128 << 10;

/// Segments that are handed to the storage thread at once, in bytes.
pub(super) const BATCH_BYTES: usize = 256 << 10;
/// How long gathered segments wait for the next bytes of a slow body.
pub(super) const BATCH_PATIENCE: Duration = Duration::from_millis(10);
/// Bytes of a set that are handed over at once.
pub(super) const SET_CHUNK: usize = 64 << 10;
/// Segments in memory, of all peers together; who gets none waits, unread (INV-07).
pub(super) const POOL_BYTES: usize = 8 << 20;

/// Longest answer that is read from a peer.
pub(super) const MAX_ANSWER: u64 = 1 << 20;
/// Longest answer to `GET /v1/health`.
pub(super) const MAX_HEALTH: u64 = 16 << 10;
/// Longest `Retry-After` that is believed.
pub(super) const MAX_RETRY_AFTER: u64 = 3600;

/// Bytes of a body that are progress: fewer within [`Timeouts::progress`] end it.
pub(super) const MIN_PROGRESS: u64 = 1 << 10;
/// How long an answer to a peer that floods us is held back: its requests then come no faster.
pub(super) const FLOOD_PAUSE: Duration = Duration::from_millis(250);
/// How long a body that is not read stays open behind its answer.
pub(super) const ANSWER_GRACE: Duration = Duration::from_millis(500);
/// `Retry-After` when memory is short or the daemon stops.
pub(super) const SHED_SECONDS: u64 = 5;
/// Pause after an accept that failed for want of file handles.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// How often a connection is looked at: whether it idles, and whether its peer's certificate still holds.
pub(super) const LOOK_PAUSE: Duration = Duration::from_secs(60);

/// How long the wire waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Until TCP stands.
    pub connect: Duration,
    /// Until mutual TLS stands.
    pub handshake: Duration,
    /// Until the first request on a connection.
    pub first_request: Duration,
    /// Silence after which the peer is asked whether it is there; also the deadline of headers that come in pieces.
    pub ping: Duration,
    /// Until it must have said so.
    pub pong: Duration,
    /// A body, or its reader, makes some progress within it.
    pub progress: Duration,
    /// Until a peer that has a whole request must have answered: a durable commit on a slow medium is within it.
    pub answer: Duration,
    /// A connection without a request ends.
    pub idle: Duration,
    /// What is under way when the daemon stops has this long to end.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            first_request: Duration::from_secs(30),
            ping: Duration::from_secs(30),
            pong: Duration::from_secs(20),
            progress: Duration::from_secs(30),
            answer: Duration::from_secs(120),
            idle: Duration::from_secs(600),
            drain: Duration::from_secs(30),
        }
    }
}
