//! The relay section of the manifest, and `edge.toml`, which is a pure function of it.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
mod edge_toml;
mod local;

pub use local::{LOCAL_KEYS, Local, local_keys, with_bandwidth};

use crate::manifest::is_default;
use crate::path::Name;
use crate::reason::{Code, Reason};
use crate::time::Duration;

/// When a relayed manifest counts as delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SuccessCondition {
    /// One peer has it.
    #[default]
    OnePeer,
    /// Every peer has it.
    AllPeers,
}

impl SuccessCondition {
    fn as_str(self) -> &'static str {
        match self {
            Self::OnePeer => "one_peer",
            Self::AllPeers => "all_peers",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::OnePeer, Self::AllPeers].into_iter().find(|condition| condition.as_str() == name)
    }
}

/// How a manifest travels on. Every field has a default, and render pins all of them once one is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Relay {
    /// When the delivery is done.
    pub success_condition: SuccessCondition,
    /// Who gets it.
    #[serde(skip_serializing_if = "is_default")]
    pub peers: Vec<Peer>,
    /// Attempts per row before it is a dead letter.
    pub max_retry_count: u64,
    /// First back-off.
    pub backoff_base: Duration,
    /// The span in which attempts lie; at least `backoffBase * maxRetryCount`.
    pub window: Duration,
    /// What this node sends at most.
    pub bandwidth: Bandwidth,
    /// What one peer may send to this node.
    pub ingest_quota: IngestQuota,
    /// What the state root may hold.
    pub storage: Storage,
}

/// A peer of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// Its node id, as its certificate says it.
    pub id: Name,
    /// `host:port`.
    pub address: String,
}

/// Limits on sending; 0 is unlimited.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Bandwidth {
    /// Bytes a second.
    pub bytes_per_second: u64,
    /// Bytes a day.
    pub daily_quota_bytes: u64,
}

/// Limits on receiving from one peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct IngestQuota {
    /// Bytes a second; 0 is unlimited.
    pub bytes_per_second: u64,
    /// Bytes at once.
    pub burst_bytes: u64,
}

/// Limits on the state root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Storage {
    /// The ceiling over the whole state root (INV-04); 0 is unlimited.
    pub disk_ceiling_bytes: u64,
    /// Share of the ceiling at which eviction starts.
    pub eviction_percent: u64,
}

impl Default for Relay {
    fn default() -> Self {
        Self {
            success_condition: SuccessCondition::OnePeer,
            peers: Vec::new(),
            max_retry_count: 5,
            backoff_base: Duration::from_millis(30_000),
            window: Duration::from_millis(600_000),
            bandwidth: Bandwidth::default(),
            ingest_quota: IngestQuota::default(),
            storage: Storage::default(),
        }
    }
}

impl Default for IngestQuota {
    fn default() -> Self {
        Self { bytes_per_second: 10 << 20, burst_bytes: 64 << 20 }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self { disk_ceiling_bytes: 0, eviction_percent: 90 }
    }
}

impl Relay {
    pub(crate) fn validate(&self) -> Vec<Reason> {
        let mut reasons = Vec::new();
        let mut bad = |message: String| reasons.push(Reason::new(Code::BadValue, message));
        let needed = self.backoff_base.times(self.max_retry_count);
        if self.window < needed {
            bad(format!(
                "`spec.relay.window` {} is shorter than backoffBase * maxRetryCount = {needed}; later attempts would never come",
                self.window
            ));
        }
        if self.storage.eviction_percent == 0 || self.storage.eviction_percent > 100 {
            bad(format!(
                "`spec.relay.storage.evictionPercent` is {}; expected 1 to 100",
                self.storage.eviction_percent
            ));
        }
        let mut ids = BTreeSet::new();
        for (at, peer) in self.peers.iter().enumerate() {
            let port = peer
                .address
                .rsplit_once(':')
                .filter(|(host, _)| !host.is_empty())
                .and_then(|(_, port)| port.parse::<u16>().ok());
            if port.is_none_or(|port| port == 0) || peer.address.chars().any(|c| c.is_whitespace() || c.is_control()) {
                bad(format!(
                    "`spec.relay.peers.{at}.address` is `{}`; expected `host:port`",
                    peer.address.escape_default()
                ));
            }
            if !ids.insert(&peer.id) {
                bad(format!("`spec.relay.peers.{at}.id` names `{}` a second time", peer.id));
            }
        }
        reasons
    }
}
