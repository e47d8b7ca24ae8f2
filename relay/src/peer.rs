//! A peer: its connection, what is on its way to it, and how much may be.

use autonomy_schema::Blake3;
use autonomy_schema::segments::MAX_SEGMENT;

use crate::bucket::Bucket;
use crate::pack;
use crate::words::{MAX_PACKS, PeerQuota};

/// The connection to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// Nobody needed it.
    Idle,
    /// The next dial is due at that tick.
    Down { due: u64 },
    /// A dial is under way.
    Dialing,
    /// Connected.
    Up,
}

/// An offer or a question on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) manifest: Blake3,
    /// With the documents of the set, so an attempt.
    pub(crate) offer: bool,
}

/// A pack on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parcel {
    pub(crate) manifest: Blake3,
    pub(crate) ids: Vec<Blake3>,
}

#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) link: Link,
    /// Dials in a row that led to nothing.
    pub(crate) failures: u64,
    /// Something was answered on this connection.
    pub(crate) answered: bool,
    pub(crate) paused_until: u64,
    pub(crate) question: Option<Question>,
    pub(crate) parcels: Vec<Parcel>,
    pub(crate) bucket: Bucket,
    quota: PeerQuota,
    /// The most that it let through at once: as large as its own bucket, as far as we know.
    deepest: u64,
}

impl Peer {
    pub(crate) fn new() -> Self {
        Self {
            link: Link::Idle,
            failures: 0,
            answered: false,
            paused_until: 0,
            question: None,
            parcels: Vec::new(),
            bucket: Bucket::new(0, u64::MAX),
            quota: PeerQuota { bytes_per_second: 0, available_bytes: 0 },
            deepest: 0,
        }
    }

    /// Whether something may go to it now.
    pub(crate) fn is_open(&self, now: u64) -> bool {
        self.link == Link::Up && now >= self.paused_until
    }

    /// Whether a pack more may be on its way.
    pub(crate) fn takes_packs(&self) -> bool {
        self.parcels.len() < MAX_PACKS
    }

    /// Whether something of the set is on its way.
    pub(crate) fn carries(&self, manifest: Blake3) -> bool {
        self.parcels.iter().any(|parcel| parcel.manifest == manifest)
    }

    /// Takes the pack off the list that holds `id`; the oldest of the set without one.
    pub(crate) fn landed(&mut self, manifest: Blake3, id: Option<&Blake3>) -> Option<Parcel> {
        let at = self
            .parcels
            .iter()
            .position(|parcel| parcel.manifest == manifest && id.is_none_or(|id| parcel.ids.contains(id)))?;
        Some(self.parcels.remove(at))
    }

    /// What the peer announces from now on.
    pub(crate) fn announce(&mut self, now: u64, quota: PeerQuota, own: u64) {
        if quota.bytes_per_second != self.quota.bytes_per_second {
            self.deepest = 0;
        }
        self.quota = quota;
        self.deepest = self.deepest.max(quota.available_bytes);
        self.pace(now, own);
        if quota.bytes_per_second > 0 {
            self.bucket.lower(now, quota.available_bytes);
        }
    }

    /// The rate is the lower of our own and of nine tenths of the peer's, so that its bucket is never the first to be empty.
    /// At once goes what the peer has room for, and of our own a second's worth; a segment always fits.
    pub(crate) fn pace(&mut self, now: u64, own: u64) {
        let segment = pack::framed(MAX_SEGMENT);
        let announced = self.quota.bytes_per_second;
        let theirs =
            (announced > 0).then(|| ((announced / 10 * 9 + announced % 10 * 9 / 10).max(1), self.deepest.max(segment)));
        let ours = (own > 0).then(|| (own, own.max(segment)));
        let (rate, burst) = match (theirs, ours) {
            (None, None) => (0, u64::MAX),
            (Some(one), None) | (None, Some(one)) => one,
            (Some(theirs), Some(ours)) => (theirs.0.min(ours.0), theirs.1.min(ours.1)),
        };
        self.bucket.limit(now, rate, burst);
    }
}
