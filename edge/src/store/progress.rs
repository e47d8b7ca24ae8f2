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
/// Most bytes of them: twice that, as JSON in JSON is at worst, is well below what a client reads of an answer.
const MAX_RECEIPT_TEXT: usize = 384 << 10;

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
    pub(super) fn stored(&mut self, manifest: Blake3, clock: Time) -> Result<Progress, StoreError> {
        let (mut receipts, has_own) = self.receipts(manifest)?;
        // The power may have gone between the set and its receipt.
        if !has_own && self.sign(manifest, None, clock).is_ok() {
            receipts = self.receipts(manifest)?.0;
        }
        Ok(Progress { manifest, state: SetState::Stored, missing: Vec::new(), more: false, receipts })
    }

    /// The receipts for a manifest, as many as an answer may hold, this node's own first; and whether there is one of those.
    /// A file is read once to know what it is for.
    fn receipts(&mut self, manifest: Blake3) -> Result<(Vec<SignedReceipt>, bool), StoreError> {
        let own = self.root.node().map_err(broken)?.node_id;
        let files = self.root.receipt_files().map_err(broken)?;
        self.receipted.retain(|file, _| files.contains(file));
        let mut found = Vec::new();
        for file in files {
            if self.receipted.get(&file).is_some_and(|of| *of != Some(manifest)) {
                continue;
            }
            let kept = self.root.kept_receipt(&file);
            let receipt = kept.as_ref().and_then(|kept| document::parse::<Receipt>(&kept.bytes).ok());
            let (node, of) = receipt.map(|receipt| (receipt.node_id, receipt.manifest)).unzip();
            self.receipted.insert(file, of);
            let (Some(kept), Some(node)) = (kept.filter(|_| of == Some(manifest)), node) else { continue };
            let (Ok(document), Ok(signatures)) = (String::from_utf8(kept.bytes), String::from_utf8(kept.signatures))
            else {
                continue;
            };
            found.push((node != own, SignedReceipt { document, signatures }));
        }
        // The order of a sort is kept among equals: by the names of the files.
        found.sort_by_key(|(is_foreign, _)| *is_foreign);
        let has_own = found.first().is_some_and(|(is_foreign, _)| !is_foreign);
        let mut left = MAX_RECEIPT_TEXT;
        let fits = |receipt: &SignedReceipt| {
            let length = receipt.document.len() + receipt.signatures.len();
            let fits = length <= left;
            left -= if fits { length } else { 0 };
            fits
        };
        Ok((found.into_iter().map(|(_, receipt)| receipt).take(MAX_RECEIPTS).filter(fits).collect(), has_own))
    }

    /// Segments of the sets under way, at most `limit`; and how many more there are.
    pub(super) fn listed(&self, limit: usize) -> Result<(Vec<Listed>, u64), StoreError> {
        let (mut found, mut more) = (Vec::new(), 0);
        for (manifest, set) in self.sets.iter().filter(|(_, set)| !set.is_transit) {
            for artifact in &set.manifest.spec.artifacts {
                let Some((key, _)) = Key::of(artifact) else { continue };
                let (Some(index), Some(payload)) = (self.index_of(key), self.payloads.get(&key)) else { continue };
                for (number, segment) in (0_u32..).zip(Entries::of(BufReader::new(self.root.disk().open(&index)?))) {
                    let segment = segment.map_err(|source| DiskError::new("read", &index, source))?;
                    if found.len() >= limit {
                        more += 1;
                        continue;
                    }
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
        Ok((found, more))
    }
}
