//! What goes into the machine and what comes out. The program around it turns sockets, disks and clocks into these words.
//!
//! As JSON they are a recording: fed into another machine it gives the same outputs (INV-11).

use autonomy_schema::relay::SuccessCondition;
use autonomy_schema::{Blake3, Name};
use serde::{Deserialize, Serialize};

use crate::row::{Change, Row, RowKey};

/// Segments that one answer of a peer may name, and that the machine holds for one set and peer.
pub const MAX_WANTED: usize = 16_384;
/// Packs on their way to one peer: one is written while the other is made durable there.
pub const MAX_PACKS: usize = 2;

/// How to relay. Limits of 0 are no limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// When a delivery is done.
    pub success: SuccessCondition,
    /// Attempts per row, at least one; then it is a dead letter.
    pub max_attempts: u64,
    /// Ticks between two attempts at least.
    pub backoff: u64,
    /// Ticks in which the attempts of a row lie, and between two dials at most.
    pub window: u64,
    /// Who gets it; in any order. Their rank is that of their names.
    pub peers: Vec<Name>,
    /// What is sent to one peer at most.
    pub bytes_per_second: u64,
    /// What is sent to all peers in a day at most.
    pub daily_bytes: u64,
}

/// A set that is to travel on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Fingerprint of its manifest.
    pub manifest: Blake3,
    /// Its stream: only the newest serial of one travels.
    pub stream: Name,
    /// Its serial.
    pub serial: u64,
    /// Bytes of its documents, which an offer sends.
    pub documents: u64,
}

/// A segment that a peer lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Its name.
    pub id: Blake3,
    /// Its length in bytes.
    pub length: u32,
}

/// What a peer lets this node send, as `GET /v1/health` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerQuota {
    /// Bytes a second; 0 is no limit.
    pub bytes_per_second: u64,
    /// Bytes at once, now.
    pub available_bytes: u64,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// The configuration, at the start and whenever it changes. Waiting dials become due at once.
    Configure(Config),
    /// A set is to be relayed. A second time is no news.
    Deliver(Delivery),
    /// It is not to be relayed any more: expired, superseded, gone from the outbox.
    Withdraw(Blake3),
    /// Rows of the ledger. At the start: of what is to be relayed, save segments that are acked. Later, right before
    /// [`Input::Answered`]: those of the segments that it wants, if the ledger has any (a peer may want again what it had).
    Restore(Vec<(RowKey, Row)>),
    /// Bytes that count against the daily quota so far; 0 on a new day.
    SentToday(u64),
    /// Mutual TLS is up and the peer's health was read.
    Reached {
        /// Which peer.
        peer: Name,
        /// What it lets us send.
        quota: PeerQuota,
    },
    /// A dial failed. That is no attempt.
    Unreachable {
        /// Which peer.
        peer: Name,
        /// Why.
        error: String,
    },
    /// The peer connected to us, so it can be dialled now.
    Seen {
        /// Which peer.
        peer: Name,
    },
    /// The connection ended; what was under way on it has failed, whether or not that is told one by one.
    Lost {
        /// Which peer.
        peer: Name,
        /// Why.
        error: String,
    },
    /// What the peer says of a set, after [`Output::Offer`] or [`Output::Ask`].
    Answered {
        /// Which peer.
        peer: Name,
        /// Which set.
        manifest: Blake3,
        /// What it lacks, in the order of the set; at most [`MAX_WANTED`].
        wanted: Vec<Wanted>,
        /// It lacks more than that.
        more: bool,
        /// It has the whole set, durably.
        stored: bool,
    },
    /// An offer was refused, or its answer did not come.
    OfferFailed {
        /// Which peer.
        peer: Name,
        /// Which set.
        manifest: Blake3,
        /// Why.
        error: String,
    },
    /// The peer does not know the set, or did not answer.
    AskFailed {
        /// Which peer.
        peer: Name,
        /// Which set.
        manifest: Blake3,
        /// Why.
        error: String,
        /// The peer answered that it does not know the set: it is to be offered again.
        unknown: bool,
    },
    /// A pack was answered, segment by segment.
    PackDone {
        /// Which peer.
        peer: Name,
        /// Which set.
        manifest: Blake3,
        /// For each segment: it is there, or why not.
        results: Vec<(Blake3, Result<(), String>)>,
    },
    /// A pack was not answered, or refused as a whole.
    PackFailed {
        /// Which peer.
        peer: Name,
        /// Which set.
        manifest: Blake3,
        /// What was in it.
        ids: Vec<Blake3>,
        /// Why.
        error: String,
    },
    /// 429 or 503: nothing goes to the peer for so many ticks. Comes besides the failure of what was under way.
    Throttled {
        /// Which peer.
        peer: Name,
        /// How long.
        ticks: u64,
    },
    /// Time has passed.
    Tick,
}

/// What to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// Make these rows durable before anything that comes after it is done. At most one a step, and the first.
    Record(Vec<Change>),
    /// Connect, read the peer's health.
    Dial {
        /// Which peer.
        peer: Name,
    },
    /// Ask what the peer has of a set that it accepted.
    Ask {
        /// Which peer.
        peer: Name,
        /// Which set.
        manifest: Blake3,
    },
    /// Send the documents of a set.
    Offer {
        /// Which peer.
        peer: Name,
        /// Which set.
        manifest: Blake3,
        /// Bytes of the documents.
        bytes: u64,
    },
    /// Send a pack.
    Send {
        /// Which peer.
        peer: Name,
        /// Which set.
        manifest: Blake3,
        /// What is in it, in this order.
        ids: Vec<Blake3>,
        /// Bytes of the pack.
        bytes: u64,
    },
    /// A row has become a dead letter.
    DeadLetter(RowKey),
    /// The peer has the whole set.
    Delivered {
        /// Which peer.
        peer: Name,
        /// Which set.
        manifest: Blake3,
    },
    /// As many peers have it as the success condition demands.
    Done {
        /// Which set.
        manifest: Blake3,
    },
    /// Close the connection: nothing is left to do there.
    Hangup {
        /// Which peer.
        peer: Name,
    },
}
