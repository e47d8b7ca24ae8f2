//! Numbers for Prometheus: what the wire counts, and what the daemon tells it.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64};

use autonomy_schema::Name;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// Counters and gauges of `edged`.
pub struct Metrics {
    registry: Registry,
    connections: Level,
    rejected: Family<Reason, Total>,
    requests: Family<Answer, Total>,
    bytes_in: Family<Peer, Total>,
    bytes_out: Family<Peer, Total>,
    packs: Total,
    segments: Family<Status, Total>,
    throttled: Family<Peer, Total>,
    shed: Total,
    attempts: Total,
    dead_letters: Total,
    /// The ceiling of the state root, 0 when there is none.
    pub ceiling_bytes: Level,
    /// What the state root holds.
    pub used_bytes: Level,
    /// Deliveries that are not done.
    pub queue_depth: Level,
}

/// A counter.
type Total = Counter<u64, AtomicU64>;
/// A gauge.
type Level = Gauge<i64, AtomicI64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Status {
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    code: u16,
}

/// Only ids of the fleet's own certificates become labels, so they are as many as the CA issued.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Peer {
    peer: String,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("autonomy_edge");
        macro_rules! register {
            ($kind:ty, $name:literal, $help:literal) => {{
                let metric = <$kind>::default();
                registry.register($name, $help, metric.clone());
                metric
            }};
            ($kind:ty, $name:literal, $help:literal, $unit:expr) => {{
                let metric = <$kind>::default();
                registry.register_with_unit($name, $help, $unit, metric.clone());
                metric
            }};
        }
        let connections = register!(Level, "connections", "Connections of peers that stand");
        let rejected =
            register!(Family<Reason, Total>, "rejected_connections", "Connections that were refused, by why");
        let requests = register!(Family<Answer, Total>, "requests", "Requests, by the code of the answer");
        let bytes_in = register!(Family<Peer, Total>, "received", "Bodies that were received, by peer", Unit::Bytes);
        let bytes_out = register!(Family<Peer, Total>, "sent", "Bodies that were sent, by peer", Unit::Bytes);
        let packs = register!(Total, "packs", "Packs that were received and made durable");
        let segments =
            register!(Family<Status, Total>, "segments", "Segments that were received, by what became of them");
        let throttled = register!(Family<Peer, Total>, "throttled", "Requests over the ingest quota, by peer");
        let shed = register!(Total, "shed", "Requests refused because memory was short");
        let attempts = register!(Total, "attempts", "Attempts to send that were counted");
        let dead_letters = register!(Total, "dead_letters", "Rows that became dead letters");
        let ceiling_bytes = register!(Level, "ceiling", "What the state root may hold, 0 without limit", Unit::Bytes);
        let used_bytes = register!(Level, "used", "What the state root holds", Unit::Bytes);
        let queue_depth = register!(Level, "queue_depth", "Deliveries that are not done");
        Self {
            registry,
            connections,
            rejected,
            requests,
            bytes_in,
            bytes_out,
            packs,
            segments,
            throttled,
            shed,
            attempts,
            dead_letters,
            ceiling_bytes,
            used_bytes,
            queue_depth,
        }
    }
}

impl Metrics {
    /// Everything, in the text format of `OpenMetrics`.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// An attempt to send was counted in the ledger.
    pub fn attempted(&self) {
        self.attempts.inc();
    }

    /// A row became a dead letter.
    pub fn dead_lettered(&self) {
        self.dead_letters.inc();
    }

    pub(super) fn connected(&self, change: i64) {
        self.connections.inc_by(change);
    }

    pub(super) fn rejected(&self, reason: &'static str) {
        self.rejected.get_or_create(&Reason { reason }).inc();
    }

    pub(super) fn answered(&self, code: http::StatusCode) {
        self.requests.get_or_create(&Answer { code: code.as_u16() }).inc();
    }

    pub(super) fn received(&self, peer: &Name, bytes: u64) {
        self.bytes_in.get_or_create(&label(peer)).inc_by(bytes);
    }

    pub(super) fn sent(&self, peer: &Name, bytes: u64) {
        self.bytes_out.get_or_create(&label(peer)).inc_by(bytes);
    }

    pub(super) fn packed(&self) {
        self.packs.inc();
    }

    pub(super) fn segment(&self, status: &'static str) {
        self.segments.get_or_create(&Status { status }).inc();
    }

    /// Bytes that were sent to a peer so far.
    pub fn sent_to(&self, peer: &Name) -> u64 {
        self.bytes_out.get_or_create(&label(peer)).get()
    }

    pub(super) fn throttled(&self, peer: &Name) {
        self.throttled.get_or_create(&label(peer)).inc();
    }

    pub(super) fn shed(&self) {
        self.shed.inc();
    }
}

fn label(peer: &Name) -> Peer {
    Peer { peer: peer.to_string() }
}
