//! The listening end: connections in, each of a peer that mutual TLS has named, or refused with a word in log and metrics.

mod answer;
mod body;
mod connection;
mod health;
mod manifests;
mod packs;
mod route;
mod segments;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use autonomy_schema::relay::IngestQuota;
use autonomy_schema::{Name, Time};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;

pub use health::{Health, Quota};

use super::limits::{ACCEPT_PAUSE, MAX_CONNECTIONS, MAX_HANDSHAKES, MAX_HANDSHAKES_OF_ADDRESS, POOL_BYTES, Timeouts};
use super::metrics::Metrics;
use super::peers::Peers;
use super::shed::Shed;
use super::tls::{Tls, clock};
use crate::storage::Storage;

/// What the server works with.
#[derive(Debug)]
pub struct Parts {
    /// The node's certificates.
    pub tls: Tls,
    /// Store and ledger.
    pub storage: Storage,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What a peer may send.
    pub quota: IngestQuota,
    /// Whether memory is short.
    pub shed: Shed,
    /// Patience.
    pub timeouts: Timeouts,
    /// Is told of a peer that connected, as far as there is room: it can be dialled now.
    pub seen: mpsc::Sender<Name>,
    /// Is told when a set became whole.
    pub arrived: Arc<Notify>,
}

/// What every connection shares.
#[derive(Debug)]
struct Shared {
    tls: Tls,
    storage: Storage,
    metrics: Arc<Metrics>,
    peers: Arc<Peers>,
    shed: Shed,
    timeouts: Timeouts,
    seen: mpsc::Sender<Name>,
    arrived: Arc<Notify>,
    /// Segments in memory, in bytes.
    pool: Arc<Semaphore>,
    /// Connections that stand.
    slots: Arc<Semaphore>,
    handshakes: Mutex<BTreeMap<IpAddr, usize>>,
    draining: watch::Sender<bool>,
}

impl Shared {
    fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// The time that receipts and sets are judged by.
    fn clock() -> Time {
        clock()
    }

    /// Sets became whole, or may have.
    fn arrived(&self, sets: usize) {
        if sets > 0 {
            self.arrived.notify_one();
        }
    }

    /// A connection that is not served.
    fn reject(&self, address: SocketAddr, peer: Option<&Name>, reason: &'static str) {
        self.metrics.rejected(reason);
        let peer = peer.map(Name::as_str).unwrap_or_default();
        tracing::warn!(event = "edge.peer.rejected", %address, peer, reason, "connection refused");
    }
}

/// Steers a server that runs.
#[derive(Debug, Clone)]
pub struct Steer(Arc<Shared>);

impl Steer {
    /// Other ingest quotas, at once and for all peers.
    pub fn set_quota(&self, quota: IngestQuota) {
        self.0.peers.set_quota(quota);
    }

    /// No new connections or work; what is under way ends, and [`Server::run`] with it.
    pub fn drain(&self) {
        self.0.draining.send_replace(true);
    }
}

/// Listens to peers.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    shared: Arc<Shared>,
}

impl Server {
    /// Takes the address.
    pub async fn bind(address: SocketAddr, parts: Parts) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let shared = Shared {
            tls: parts.tls,
            storage: parts.storage,
            metrics: parts.metrics,
            peers: Arc::new(Peers::new(parts.quota)),
            shed: parts.shed,
            timeouts: parts.timeouts,
            seen: parts.seen,
            arrived: parts.arrived,
            pool: Arc::new(Semaphore::new(POOL_BYTES)),
            slots: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            handshakes: Mutex::default(),
            draining: watch::Sender::new(false),
        };
        Ok(Self { listener, shared: Arc::new(shared) })
    }

    /// Where it listens, with the port that was given for 0.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Steers it while it runs.
    pub fn steer(&self) -> Steer {
        Steer(Arc::clone(&self.shared))
    }

    /// Serves until [`Steer::drain`], and until what is under way then has ended or has had its time.
    pub async fn run(self) {
        let Self { listener, shared } = self;
        let mut draining = shared.draining.subscribe();
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, address)) => begin(&shared, stream, address, &mut connections),
                    Err(error) => {
                        tracing::error!(event = "edge.accept.failed", %error, "no connection can be taken");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_ended) = connections.join_next() => {}
                () = begun(&mut draining) => break,
            }
        }
        drop(listener);
        // Each connection keeps the deadline itself.
        while connections.join_next().await.is_some() {}
    }
}

/// Waits until the drain begins. Its sender lives in `Shared`, so there is no other end.
async fn begun(draining: &mut watch::Receiver<bool>) {
    draining.wait_for(|draining| *draining).await.map(drop).unwrap_or_default();
}

/// Starts what a new connection needs, unless there are too many of its kind.
fn begin(shared: &Arc<Shared>, stream: TcpStream, address: SocketAddr, connections: &mut JoinSet<()>) {
    let Some(pending) = Pending::new(shared, address.ip()) else {
        shared.reject(address, None, "too_many_handshakes");
        return;
    };
    let shared = Arc::clone(shared);
    connections.spawn(async move {
        shared.metrics.connected(1);
        connection::run(&shared, stream, address, pending).await;
        shared.metrics.connected(-1);
    });
}

/// A handshake that is under way.
struct Pending {
    shared: Arc<Shared>,
    address: IpAddr,
}

impl Pending {
    fn new(shared: &Arc<Shared>, address: IpAddr) -> Option<Self> {
        let mut handshakes = shared.handshakes.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = handshakes.values().sum();
        let own = handshakes.entry(address).or_default();
        if all >= MAX_HANDSHAKES || *own >= MAX_HANDSHAKES_OF_ADDRESS {
            return None;
        }
        *own += 1;
        Some(Self { shared: Arc::clone(shared), address })
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut handshakes = self.shared.handshakes.lock().unwrap_or_else(PoisonError::into_inner);
        let left = handshakes.get(&self.address).copied().unwrap_or_default().saturating_sub(1);
        if left == 0 {
            handshakes.remove(&self.address);
        } else {
            handshakes.insert(self.address, left);
        }
    }
}
