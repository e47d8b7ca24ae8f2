//! The peers that are, or were lately, connected: what each may still send, and how much of us it may hold (INV-13).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use autonomy_relay::Bucket;
use autonomy_schema::Name;
use autonomy_schema::relay::IngestQuota;
use autonomy_schema::segments::MAX_SEGMENT;
use tokio::sync::Semaphore;

use super::limits::{MAX_BODIES_OF_PEER, MAX_COMMITS_OF_PEER, MAX_CONNECTIONS_OF_PEER, MAX_PEERS};

/// All peers.
#[derive(Debug)]
pub(super) struct Peers {
    started: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    quota: IngestQuota,
    known: BTreeMap<Key, Known>,
}

/// The fleet that the certificate says, and the id: a peer of another fleet is nobody of ours.
type Key = (Option<Name>, Name);

#[derive(Debug)]
struct Known {
    connections: usize,
    bucket: Arc<Mutex<Bucket>>,
    bodies: Arc<Semaphore>,
    commits: Arc<Semaphore>,
    questions: Arc<Semaphore>,
}

/// A connection of a peer; dropped, it has ended.
#[derive(Debug)]
pub(super) struct Guest {
    peers: Arc<Peers>,
    key: Key,
    bucket: Arc<Mutex<Bucket>>,
    /// Bodies of this peer that are read at once, over all its connections.
    pub(super) bodies: Arc<Semaphore>,
    /// Packs that wait for their commit.
    pub(super) commits: Arc<Semaphore>,
    /// Its turn to ask, over all its connections.
    pub(super) questions: Arc<Semaphore>,
}

impl Peers {
    pub(super) fn new(quota: IngestQuota) -> Self {
        Self { started: Instant::now(), inner: Mutex::new(Inner { quota, known: BTreeMap::new() }) }
    }

    /// Other limits, for those that are connected too.
    pub(super) fn set_quota(&self, quota: IngestQuota) {
        let now = self.now();
        let mut inner = self.lock();
        for known in inner.known.values() {
            lock(&known.bucket).limit(now, quota.bytes_per_second, burst(&quota));
        }
        inner.quota = quota;
    }

    /// Lets a connection in, or says in a word why not.
    pub(super) fn admit(self: &Arc<Self>, fleet: Option<Name>, id: Name) -> Result<Guest, &'static str> {
        let now = self.now();
        let key = (fleet, id);
        let mut inner = self.lock();
        if !inner.known.contains_key(&key) {
            if inner.known.len() >= MAX_PEERS {
                // Who is gone and has its whole quota again is remembered for nothing.
                inner.known.retain(|_, known| {
                    let bucket = lock(&known.bucket);
                    known.connections > 0 || bucket.available(now) < bucket.burst()
                });
            }
            if inner.known.len() >= MAX_PEERS {
                return Err("too_many_peers");
            }
            let bucket = Bucket::new(inner.quota.bytes_per_second, burst(&inner.quota));
            let known = Known {
                connections: 0,
                bucket: Arc::new(Mutex::new(bucket)),
                bodies: Arc::new(Semaphore::new(MAX_BODIES_OF_PEER)),
                commits: Arc::new(Semaphore::new(MAX_COMMITS_OF_PEER)),
                questions: Arc::new(Semaphore::new(1)),
            };
            inner.known.insert(key.clone(), known);
        }
        let Some(known) = inner.known.get_mut(&key) else { return Err("too_many_peers") };
        if known.connections >= MAX_CONNECTIONS_OF_PEER {
            return Err("too_many_connections_of_peer");
        }
        known.connections += 1;
        let bucket = Arc::clone(&known.bucket);
        let (bodies, commits) = (Arc::clone(&known.bodies), Arc::clone(&known.commits));
        let questions = Arc::clone(&known.questions);
        Ok(Guest { peers: Arc::clone(self), key, bucket, bodies, commits, questions })
    }

    /// Milliseconds since the start.
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A burst below one segment would never let one in.
fn burst(quota: &IngestQuota) -> u64 {
    quota.burst_bytes.max(u64::from(MAX_SEGMENT))
}

fn lock(bucket: &Mutex<Bucket>) -> MutexGuard<'_, Bucket> {
    bucket.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Guest {
    /// The id in the certificate.
    pub(super) fn id(&self) -> &Name {
        &self.key.1
    }

    /// Takes `bytes` from the quota, or as many of them as it can ever hold; tells what was taken, or in how many
    /// milliseconds it could be.
    pub(super) fn take(&self, bytes: u64) -> Result<u64, u64> {
        let mut bucket = lock(&self.bucket);
        let bytes = if bucket.rate() == 0 { bytes } else { bytes.min(bucket.burst()) };
        bucket.take(self.peers.now(), bytes).map(|()| bytes)
    }

    /// Rate, burst, and what may come now. A rate of 0 is unlimited.
    pub(super) fn quota(&self) -> (u64, u64, u64) {
        let bucket = lock(&self.bucket);
        // Without a limit there is no number; this one is exact in JSON everywhere.
        (bucket.rate(), bucket.burst(), bucket.available(self.peers.now()).min((1 << 53) - 1))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Some(known) = self.peers.lock().known.get_mut(&self.key) {
            known.connections = known.connections.saturating_sub(1);
        }
    }
}
