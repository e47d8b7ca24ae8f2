//! How far a set is, as `PUT` and `GET /v1/manifests/{fp}` answer it.

use std::io::BufReader;

use autonomy_schema::receipt::Receipt;
use autonomy_schema::segments::Entries;
use autonomy_schema::{Blake3, Name, StateManifest, Time, document};
use autonomy_stateroot::DiskError;
use serde::{Deserialize, Serialize};

use super::judge::broken;
use super::payload::Key;
use super::{Listed, Store, StoreError};

/// Most segments that one answer names.
pub const MAX_MISSING: u64 = 16_384;

/// Most receipts of one answer.
pub const MAX_RECEIPTS: usize = 64;

/// How far a set is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Which.
    pub manifest: Blake3,
    /// Whether it is whole.
    pub state: SetState,
    /// What lacks, by name of artifact.
    pub missing: Vec<Artifact>,
    /// There are more than these: send them, then ask again.
    pub more: bool,
    /// Receipts for the manifest, this node's own first.
    pub receipts: Vec<SignedReceipt>,
}

/// Whether a set is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SetState {
    /// Segments lack.
    Receiving,
    /// The whole set is durable here.
    Stored,
}

/// What lacks of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Its name.
    pub artifact: Name,
    /// Ranges of segment numbers in its index: first, and one behind the last.
    pub segments: Vec<(u64, u64)>,
}

/// A receipt and its signature lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedReceipt {
    /// The document: canonical JSON.
    pub document: String,
    /// Its signature lines.
    pub signatures: String,
}

impl Store {
    /// What lacks of a set under way, by the names of its artifacts.
    pub(super) fn receiving(&self, manifest: Blake3, document: &StateManifest) -> Progress {
        let mut artifacts: Vec<_> = document.spec.artifacts.iter().collect();
        artifacts.sort_by(|a, b| a.name.cmp(&b.name));
        let (mut missing, mut left, mut more) = (Vec::new(), MAX_MISSING, false);
        for artifact in artifacts {
            let payload = Key::of(artifact).and_then(|(key, _)| self.payloads.get(&key));
            let Some((segments, is_cut)) = payload.map(|payload| payload.missing(left)) else { continue };
            left -= segments.iter().map(|(first, end)| end - first).sum::<u64>();
            more |= is_cut;
            if !segments.is_empty() {
                missing.push(Artifact { artifact: artifact.name.clone(), segments });
            }
        }
        Progress { manifest, state: SetState::Receiving, missing, more, receipts: Vec::new() }
    }

    /// That a set is whole here, and who says so.
    pub(super) fn stored(&self, manifest: Blake3, clock: Time) -> Result<Progress, StoreError> {
        let mut receipts = self.receipts(manifest)?;
        // The power may have gone between the set and its receipt.
        if receipts.iter().all(|(is_foreign, _)| *is_foreign) && self.sign(manifest, None, clock).is_ok() {
            receipts = self.receipts(manifest)?;
        }
        // The order of a sort is kept among equals: by the names of the files.
        receipts.sort_by_key(|(is_foreign, _)| *is_foreign);
        let receipts = receipts.into_iter().map(|(_, receipt)| receipt).take(MAX_RECEIPTS).collect();
        Ok(Progress { manifest, state: SetState::Stored, missing: Vec::new(), more: false, receipts })
    }

    /// The receipts for a manifest, each with whether another node signed it.
    fn receipts(&self, manifest: Blake3) -> Result<Vec<(bool, SignedReceipt)>, StoreError> {
        let own = self.root.node().map_err(broken)?.node_id;
        let mut receipts = Vec::new();
        for kept in self.root.kept_receipts("").map_err(broken)? {
            let Ok(receipt) = document::parse::<Receipt>(&kept.bytes) else { continue };
            let (Ok(document), Ok(signatures)) = (String::from_utf8(kept.bytes), String::from_utf8(kept.signatures))
            else {
                continue;
            };
            if receipt.manifest == manifest {
                receipts.push((receipt.node_id != own, SignedReceipt { document, signatures }));
            }
        }
        Ok(receipts)
    }

    /// Every segment of the sets under way.
    pub(super) fn listed(&self) -> Result<Vec<Listed>, StoreError> {
        let mut found = Vec::new();
        for (manifest, set) in self.sets.iter().filter(|(_, set)| !set.is_transit) {
            for artifact in &set.manifest.spec.artifacts {
                let Some((key, _)) = Key::of(artifact) else { continue };
                let (Some(index), Some(payload)) = (self.index_of(key), self.payloads.get(&key)) else { continue };
                for (number, segment) in (0_u32..).zip(Entries::of(BufReader::new(self.root.disk().open(&index)?))) {
                    let segment = segment.map_err(|source| DiskError::new("read", &index, source))?;
                    found.push(Listed {
                        manifest: *manifest,
                        artifact: artifact.name.clone(),
                        segment: segment.id,
                        number: u64::from(number),
                        length: segment.length,
                        present: payload.has(number),
                    });
                }
            }
        }
        Ok(found)
    }
}
