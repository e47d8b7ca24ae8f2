//! The wire over real sockets: a listening node, peers with every kind of certificate, and peers that do not behave.

mod answers;
mod curl;
mod frames;
mod hostile;
mod identity;
mod quota;
mod reload;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use autonomy_edge::ledger::Ledger;
use autonomy_edge::storage::{Storage, Stores};
use autonomy_edge::store::{Limits, Store};
use autonomy_edge::wire::{Client, Connection, Metrics, Parts, Server, Shed, Steer, Timeouts, Tls, WireError};
use autonomy_relay::pack;
use autonomy_schema::relay::IngestQuota;
use autonomy_schema::{Blake3, Name};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::world::{Machine, Signed, World, name};

/// No limit.
const UNLIMITED: IngestQuota = IngestQuota { bytes_per_second: 0, burst_bytes: 0 };

/// Waits that a test can wait for.
fn quick() -> Timeouts {
    Timeouts {
        connect: Duration::from_secs(5),
        handshake: Duration::from_secs(2),
        first_request: Duration::from_secs(2),
        ping: Duration::from_secs(1),
        pong: Duration::from_secs(1),
        progress: Duration::from_secs(2),
        answer: Duration::from_secs(20),
        idle: Duration::from_secs(60),
        drain: Duration::from_secs(10),
    }
}

/// A node that listens.
struct Station {
    id: Name,
    address: SocketAddr,
    steer: Steer,
    tls: Tls,
    metrics: Arc<Metrics>,
    seen: mpsc::Receiver<Name>,
    running: JoinHandle<()>,
}

impl Station {
    async fn open(id: &str, machine: &Machine) -> Self {
        Self::with(id, machine, UNLIMITED, quick(), 0).await
    }

    async fn with(id: &str, machine: &Machine, quota: IngestQuota, timeouts: Timeouts, envelope: u64) -> Self {
        let root = machine.root();
        let ledger = Ledger::open(&root).expect("ledger");
        let store = Store::open(root.clone(), Limits { ceiling_bytes: 0, eviction_percent: 90 }).expect("store");
        let (storage, _thread) = Storage::start(Stores { store, ledger }).expect("thread");
        let (tell, seen) = mpsc::channel(16);
        let tls = Tls::open(root).expect("certificates");
        let metrics = Arc::new(Metrics::default());
        let parts = Parts {
            tls: tls.clone(),
            storage,
            metrics: Arc::clone(&metrics),
            quota,
            shed: Shed::new(Path::new("/"), envelope),
            timeouts,
            seen: tell,
            arrived: std::sync::Arc::default(),
        };
        let server = Server::bind("127.0.0.1:0".parse().expect("address"), parts).await.expect("binds");
        let (address, steer) = (server.address().expect("address"), server.steer());
        let running = tokio::spawn(server.run());
        Self { id: name(id), address, steer, tls, metrics, seen, running }
    }

    async fn called_by(&self, machine: &Machine) -> Result<Connection, WireError> {
        self.called(machine, quick()).await
    }

    async fn called(&self, machine: &Machine, timeouts: Timeouts) -> Result<Connection, WireError> {
        let tls = Tls::open(machine.root()).expect("certificates");
        let client = Client::new(tls, Arc::new(Metrics::default()), timeouts);
        client.connect(&self.id, &self.address.to_string()).await
    }

    /// Waits until a line of the metrics says this.
    async fn counts(&self, line: &str) {
        for _ in 0..600 {
            if self.metrics.text().expect("text").lines().any(|found| found == line) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let text = self.metrics.text().expect("text");
        assert!(text.lines().any(|found| found == line), "`{line}` is not in\n{text}");
    }

    async fn rejects(&self, reason: &str, times: u32) {
        self.counts(&format!("autonomy_edge_rejected_connections_total{{reason=\"{reason}\"}} {times}")).await;
    }

    /// It still does what it is there for.
    async fn still_serves(&self, machine: &Machine) {
        let connection = self.called_by(machine).await.expect("connects");
        assert_eq!(connection.health().await.expect("health").node, self.id);
    }
}

/// A channel that gives these bytes in pieces.
fn chunks(bytes: &[u8]) -> mpsc::Receiver<Bytes> {
    let (give, take) = mpsc::channel(4);
    let pieces: Vec<Bytes> = bytes.chunks(16 << 10).map(Bytes::copy_from_slice).collect();
    tokio::spawn(async move {
        for piece in pieces {
            if give.send(piece).await.is_err() {
                return;
            }
        }
    });
    take
}

fn pack_of(segments: &[&[u8]]) -> (Vec<Blake3>, Vec<u8>) {
    let mut packed = Vec::new();
    let mut ids = Vec::new();
    for segment in segments {
        let id = Blake3::of(segment);
        packed.extend(pack::head(&id, u32::try_from(segment.len()).expect("length")));
        packed.extend_from_slice(segment);
        ids.push(id);
    }
    (ids, packed)
}

pub(crate) async fn offer(connection: &Connection, set: &Signed) -> Result<autonomy_edge::store::Progress, WireError> {
    connection.offer(set.fingerprint, set.tar.len() as u64, chunks(&set.tar)).await
}

pub(crate) async fn send(
    connection: &Connection,
    segments: &[&[u8]],
) -> Result<Vec<autonomy_edge::wire::Taken>, WireError> {
    let (ids, packed) = pack_of(segments);
    connection.send_pack(&ids, packed.len() as u64, chunks(&packed)).await
}

/// A world with a node that listens, and one that calls.
async fn two() -> (World, Station, Machine) {
    let world = World::new();
    let (b, a) = (world.machine("node-b"), world.machine("node-a"));
    let station = Station::open("node-b", &b).await;
    (world, station, a)
}
