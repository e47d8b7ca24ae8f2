//! How things stand, for the status, and dead letters for the log.

use std::time::Instant;

use autonomy_relay::{Row, RowKey, RowState};

use super::watch::clock;
use super::{Driver, DriverError};
use crate::ledger::{LedgerError, MAX_ROWS};
use crate::status::{self, DeliveryStatus, PeerStatus, RowStatus, Status};

/// Over how many seconds the bandwidth is measured.
const SECONDS: usize = 10;
/// After a status was published, so many times as long as that took it is not published again.
const PUBLISH_SHARE: u32 = 20;

pub(super) fn dead_letter(key: &RowKey) {
    let (manifest, part, peer) = (key.manifest, key.part, &key.peer);
    tracing::error!(event = "edge.deadletter", %manifest, segment = %part, %peer, "the attempts are used up");
}

impl Driver {
    /// Keeps what was sent by now.
    pub(super) fn sample(&mut self) {
        let now = self.now();
        for (id, peer) in &mut self.peers {
            let before = peer.sent;
            peer.sent = self.tools.metrics.sent_to(id);
            // While nothing moves, and nothing moved lately, the status need not be written again.
            let moves = peer.sent != before || peer.samples.front().is_some_and(|(_, sent)| *sent != peer.sent);
            self.has_changed |= moves;
            peer.samples.push_back((now, peer.sent));
            while peer.samples.len() > SECONDS + 1 {
                peer.samples.pop_front();
            }
        }
    }

    /// Everything, as it is now.
    pub(super) async fn status(&mut self) -> Result<Result<Status, LedgerError>, DriverError> {
        let overview = match self.tools.storage.call(|stores| stores.ledger.overview(MAX_ROWS)).await? {
            Ok(overview) => overview,
            Err(error) => return Ok(Err(error)),
        };
        let now = self.now();
        let own = self.settings.relay.bandwidth.bytes_per_second;
        let peers = self.peers.iter().map(|(id, peer)| PeerStatus {
            id: id.clone(),
            address: peer.address.clone(),
            connected: peer.link.is_some(),
            paused: peer.paused_until > now,
            measured_bytes_per_second: measured(&peer.samples),
            limit: limit(own, peer.allowed),
            last_error: peer.last_error.clone(),
        });
        let sent = self.sets.iter().filter(|(_, known)| known.source.is_some());
        let deliveries = sent.map(|(manifest, known)| DeliveryStatus {
            manifest: *manifest,
            stream: known.stream.clone(),
            serial: known.serial,
            done: self.machine.is_done(*manifest),
            delivered: known.delivered.keys().cloned().collect(),
        });
        let waiting = self
            .machine
            .scheduled()
            .into_iter()
            .map(|key| RowStatus::from((key, Row { state: RowState::Scheduled, attempts: 0, last_error: None })));
        let mut rows: Vec<RowStatus> = waiting.chain(overview.rows.into_iter().map(RowStatus::from)).collect();
        let left_out = rows.len().saturating_sub(MAX_ROWS);
        rows.truncate(MAX_ROWS);
        let face = &self.tools.face;
        Ok(Ok(Status {
            node: face.node.clone(),
            pid: std::process::id(),
            started: face.started,
            written: clock(),
            draining: self.draining.is_some(),
            listen: face.listen.clone(),
            metrics: face.metrics.clone(),
            generation: self.settings.generation.clone(),
            peers: peers.collect(),
            deliveries: deliveries.collect(),
            rows,
            truncated: overview.truncated + left_out as u64,
            counters: overview.counts,
        }))
    }

    /// Writes the status for those who do not ask.
    pub(super) async fn publish(&mut self) -> Result<(), DriverError> {
        let begun = Instant::now();
        self.has_changed = false;
        let status = match self.status().await? {
            Ok(status) => status,
            Err(error) => {
                tracing::error!(event = "edge.status.failed", %error, "the status is not published");
                return Ok(());
            }
        };
        let root = self.tools.root.clone();
        if let Err(error) = self.tools.storage.call(move |_| status::publish(&root, &status)).await? {
            tracing::error!(
                event = "edge.status.failed",
                error = error.to_reason().message,
                "the status is not published"
            );
        }
        // However large it is, telling takes a small part of the time.
        self.publish_from = Instant::now() + begun.elapsed() * PUBLISH_SHARE;
        Ok(())
    }
}

/// Bytes a second between the first and the last sample.
fn measured(samples: &std::collections::VecDeque<(u64, u64)>) -> u64 {
    let (Some((begun, before)), Some((now, sent))) = (samples.front(), samples.back()) else { return 0 };
    let milliseconds = now.saturating_sub(*begun).max(1);
    sent.saturating_sub(*before).saturating_mul(1000) / milliseconds
}

/// The limit in force: the own one, and 90 % of what the peer lets in; 0 is none.
fn limit(own: u64, allowed: u64) -> u64 {
    let allowed = allowed / 10 * 9;
    match (own, allowed) {
        (0, limit) | (limit, 0) => limit,
        (own, allowed) => own.min(allowed),
    }
}
