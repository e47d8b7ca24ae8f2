//! Floors: what a node has seen and will not go below. Raised durably before activation, never lowered.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Blake3;
use crate::document::Document;
use crate::manifest::{Revoked, is_default};
use crate::path::Name;
use crate::root::TrustRoot;
use crate::time::Time;
use crate::version::{ApiVersion, Kind};

/// `trust/floors.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Floors {
    /// `autonomy/v1`.
    pub api_version: ApiVersion,
    /// `Floors`.
    pub kind: Kind,
    /// Whether a generation was ever promoted to last known good. Until then the node is in first activation.
    pub promoted: bool,
    /// The stream that the node follows, from its first activation on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<Name>,
    /// Highest serial per stream, and the manifest that had it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub streams: BTreeMap<Name, StreamFloor>,
    /// The newest revocation list.
    #[serde(default, skip_serializing_if = "is_default")]
    pub revoked: Revoked,
    /// The newest admitted `issuedAt`; never from the clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_mark: Option<Time>,
    /// Highest trust root version seen.
    pub root_version: u64,
    /// Highest boot epoch seen.
    #[serde(default, skip_serializing_if = "is_default")]
    pub boot_epoch: u64,
}

/// The floor of one stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamFloor {
    /// Highest serial.
    pub serial: u64,
    /// Fingerprint of the manifest that had it.
    pub manifest: Blake3,
}

impl Default for Floors {
    fn default() -> Self {
        Self {
            api_version: ApiVersion::default(),
            kind: Kind::Floors,
            promoted: false,
            stream: None,
            streams: BTreeMap::new(),
            revoked: Revoked::default(),
            time_mark: None,
            root_version: 0,
            boot_epoch: 0,
        }
    }
}

impl Floors {
    /// These floors after a manifest was admitted; no value is ever lowered.
    #[must_use]
    pub fn raised_by(&self, manifest: &crate::manifest::StateManifest, fingerprint: Blake3) -> Self {
        let metadata = &manifest.metadata;
        let mut floors = self.proven_by(&metadata.name, metadata.serial, fingerprint);
        floors = floors.revoking(&manifest.spec.revoked);
        floors.time_mark = floors.time_mark.max(Some(metadata.issued_at));
        floors
    }

    /// These floors and, at the least, what a manifest proves that was admitted here. `reset` is the earliest time to which a
    /// trust root of this node brought the mark down: no manifest proves a mark above it, as it may be the very one that
    /// had lifted it too far.
    #[must_use]
    pub fn witnessed_by(
        &self,
        manifest: &crate::manifest::StateManifest,
        fingerprint: Blake3,
        reset: Option<Time>,
    ) -> Self {
        let issued = manifest.metadata.issued_at;
        let mark = self.time_mark.max(Some(reset.map_or(issued, |reset| issued.min(reset))));
        Self { time_mark: mark, ..self.raised_by(manifest, fingerprint) }
    }

    /// These floors and, at the least, what a generation that is active here proves that the node has seen. Floors that
    /// somebody lowered in between admit nothing older.
    #[must_use]
    pub fn proven_by(&self, stream: &Name, serial: u64, fingerprint: Blake3) -> Self {
        let mut floors = self.clone();
        let floor = floors.streams.entry(stream.clone()).or_insert(StreamFloor { serial, manifest: fingerprint });
        if serial > floor.serial {
            *floor = StreamFloor { serial, manifest: fingerprint };
        }
        floors
    }

    /// The higher of both, value by value: floors that come back from a backup lower nothing, and lose nothing that they
    /// hold. On one serial with two manifests, and on one revocation number with two lists, these floors stay.
    #[must_use]
    pub fn merged(&self, other: &Floors) -> Self {
        let mut floors = self.clone();
        for (stream, floor) in &other.streams {
            floors = floors.proven_by(stream, floor.serial, floor.manifest);
        }
        floors = floors.revoking(&other.revoked);
        floors.promoted |= other.promoted;
        floors.stream = floors.stream.or_else(|| other.stream.clone());
        floors.time_mark = floors.time_mark.max(other.time_mark);
        floors.root_version = floors.root_version.max(other.root_version);
        floors.boot_epoch = floors.boot_epoch.max(other.boot_epoch);
        floors
    }

    /// These floors under a newer trust root: its version, and its reset of a poisoned time mark, the only way by which
    /// the mark ever comes down. Nothing under a root that was seen before, so that a reset happens once.
    #[must_use]
    pub fn under(&self, root: &TrustRoot) -> Self {
        let mut floors = self.clone();
        if root.version > self.root_version {
            floors.root_version = root.version;
            floors.time_mark = match (floors.time_mark, root.reset_time_mark) {
                (Some(mark), Some(reset)) => Some(mark.min(reset)),
                (mark, _) => mark,
            };
        }
        floors
    }

    /// These floors after a revocation list came by itself; a list that is not newer changes nothing.
    #[must_use]
    pub fn revoking(&self, list: &Revoked) -> Self {
        let mut floors = self.clone();
        if list.number > floors.revoked.number {
            floors.revoked = list.clone();
        }
        floors
    }

    /// These floors after a generation of `stream` became the last known good one. The first one decides which stream
    /// the node follows.
    #[must_use]
    pub fn promoted_by(&self, stream: &Name) -> Self {
        let mut floors = self.clone();
        floors.promoted = true;
        floors.stream.get_or_insert_with(|| stream.clone());
        floors
    }
}

impl Document for Floors {
    const KIND: Kind = Kind::Floors;
}
