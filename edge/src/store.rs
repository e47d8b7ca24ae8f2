//! What is received: documents of sets, then the segments that they name, until a set is whole.
//!
//! Blocking, for the one storage thread.

mod error;
mod progress;

pub use error::StoreError;
pub use progress::{Artifact, MAX_MISSING, MAX_RECEIPTS, Progress, SetState, SignedReceipt};

use std::collections::BTreeSet;

use autonomy_schema::{Blake3, Name, Reasons, Time};
use autonomy_stateroot::StateRoot;

/// Largest body of a set in bytes.
pub const MAX_SET_BYTES: u64 = 64 << 20;

/// What the state root may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Over the whole state root; 0 is unlimited (INV-04).
    pub ceiling_bytes: u64,
    /// Share of the ceiling at which eviction begins, 1 to 100.
    pub eviction_percent: u64,
}

/// A segment that came, whose bytes the caller hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// BLAKE3 of the bytes.
    pub id: Blake3,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// What became of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It was written.
    Stored,
    /// It is here already.
    Duplicate,
    /// No accepted manifest names it.
    NotNamed,
}

/// A set was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// It was not here before.
    pub first: bool,
}

/// The body of a set while it comes; dropped, it is forgotten.
#[derive(Debug)]
pub struct Incoming {
    size: u64,
}

/// A segment of a set under way, for `edgectl segments list`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Listed {
    /// The manifest that names it.
    pub manifest: Blake3,
    /// The artifact.
    pub artifact: Name,
    /// Which it is.
    pub segment: Blake3,
    /// Its number in the index of the artifact.
    pub number: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Whether it is here.
    pub present: bool,
}

/// What must not be collected.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pinned {
    /// Manifests whose sets are under way or in transit.
    pub manifests: BTreeSet<Blake3>,
    /// Objects that they are made of.
    pub objects: BTreeSet<Blake3>,
}

/// What is received, on the disk of one node.
#[derive(Debug)]
pub struct Store {
    root: StateRoot,
    limits: Limits,
}

impl Store {
    /// Opens what was received before, and finds out what of it is whole.
    pub fn open(root: StateRoot, limits: Limits) -> Result<Self, Reasons> {
        Ok(Self { root, limits })
    }

    /// Other limits from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// What of the node's own sets is not relayed yet: eviction leaves it alone.
    pub fn set_unrelayed(&mut self, _manifests: BTreeSet<Blake3>) {}

    /// Begins the body of a set.
    pub fn begin_set(&mut self) -> Result<Incoming, StoreError> {
        Err(self.closed())
    }

    /// Takes the next bytes of the body.
    pub fn write_set(&mut self, incoming: &mut Incoming, bytes: &[u8]) -> Result<(), StoreError> {
        incoming.size += bytes.len() as u64;
        Err(self.closed())
    }

    /// Verifies the set. What does not verify goes into quarantine.
    pub fn accept_set(
        &mut self,
        incoming: Incoming,
        fingerprint: Blake3,
        from: &Name,
        clock: Time,
    ) -> Result<Accepted, StoreError> {
        drop((incoming, fingerprint, from, clock));
        Err(self.closed())
    }

    /// How far a set is; `None` for one that is not known.
    pub fn progress(&mut self, _fingerprint: Blake3, _clock: Time) -> Result<Option<Progress>, StoreError> {
        Err(self.closed())
    }

    /// Writes segments, whose hashes the caller checked; durable with the next [`Store::commit`].
    pub fn put(&mut self, batch: Vec<Segment>) -> Result<Vec<Put>, StoreError> {
        drop(batch);
        Err(self.closed())
    }

    /// Makes durable what was put, and completes the sets that became whole: gives their manifests.
    pub fn commit(&mut self, from: &Name, clock: Time) -> Result<Vec<Blake3>, StoreError> {
        drop((from, clock));
        Err(self.closed())
    }

    /// Forgets a set in transit that is handed on, or has ended.
    pub fn withdraw(&mut self, _fingerprint: Blake3) -> Result<(), StoreError> {
        Err(self.closed())
    }

    /// Whether an accepted manifest names a segment.
    pub fn is_named(&self, _id: &Blake3) -> bool {
        false
    }

    /// Bytes that the state root takes.
    pub fn used_bytes(&self) -> u64 {
        self.limits.ceiling_bytes
    }

    /// What must not be collected.
    pub fn pins(&self) -> Pinned {
        Pinned::default()
    }

    /// Sets in transit, which are for other nodes.
    pub fn transit(&self) -> Vec<Blake3> {
        Vec::new()
    }

    /// The segments of sets under way.
    pub fn segments(&self) -> Result<Vec<Listed>, StoreError> {
        Err(self.closed())
    }

    fn closed(&self) -> StoreError {
        StoreError::Disk(autonomy_schema::Reason::new(autonomy_schema::Code::NotBuilt, format!("{:?}", self.root)))
    }
}
