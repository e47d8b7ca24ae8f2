//! What a set is made of (DESIGN §12): the file names, and which of them a manifest calls for.

use std::collections::BTreeMap;

use crate::manifest::{ArtifactType, StateManifest};
use crate::path::{Name, RelPath};

/// The manifest.
pub const MANIFEST: &str = "manifest.json";
/// Its signatures.
pub const MANIFEST_SIGNATURES: &str = "manifest.json.sigstore.jsonl";
/// The lock.
pub const LOCK: &str = "autonomy.lock.json";
/// Its signatures.
pub const LOCK_SIGNATURES: &str = "autonomy.lock.json.sigstore.jsonl";
/// The policy bundle.
pub const POLICY: &str = "policy.tar.gz";
/// The folder of segment indices.
pub const SEGMENTS: &str = "segments";
/// The folder of tree indices.
pub const TREES: &str = "trees";
/// The folder of artifacts.
pub const ARTIFACTS: &str = "artifacts";
/// The folder of trust roots, which a set may carry.
pub const ROOTS: &str = "roots";
/// Largest signature file in bytes: 256 signers of 4 KiB each.
pub const MAX_SIGNATURES_BYTES: u64 = 1 << 20;
/// Largest policy bundle in bytes.
pub const MAX_POLICY_BYTES: u64 = 64 << 20;

/// The index file of an artifact, below the set.
pub fn segment_index(artifact: &Name) -> String {
    format!("{SEGMENTS}/{artifact}.idx")
}

/// Where an artifact lies, below the set.
pub fn artifact(path: &RelPath) -> String {
    format!("{ARTIFACTS}/{path}")
}

/// The files that a set of `manifest` must hold, each with the largest size that may be read of it.
pub fn files(manifest: &StateManifest) -> BTreeMap<String, u64> {
    let spec = &manifest.spec;
    let mut files = BTreeMap::from([
        (MANIFEST.to_owned(), crate::document::MAX_DOCUMENT_BYTES as u64),
        (MANIFEST_SIGNATURES.to_owned(), MAX_SIGNATURES_BYTES),
        (LOCK.to_owned(), spec.lock.size),
        (LOCK_SIGNATURES.to_owned(), MAX_SIGNATURES_BYTES),
        (POLICY.to_owned(), spec.policy.size),
    ]);
    for entry in &spec.artifacts {
        if let Some(pins) = entry.file() {
            files.insert(segment_index(&entry.name), pins.segments.size);
            files.insert(artifact(&entry.path), pins.size);
        } else if let (ArtifactType::Tree, Some(index)) = (entry.kind, entry.index) {
            files.insert(format!("{TREES}/{}.jsonl", entry.name), index.size);
        }
    }
    files
}

/// Whether a set may hold this file although no manifest names it: a trust root or its signatures.
pub fn is_root_file(path: &str) -> bool {
    let Some(name) = path.strip_prefix("roots/") else { return false };
    let number = name.strip_suffix(".root.json").or_else(|| name.strip_suffix(".root.json.sigstore.jsonl"));
    number.is_some_and(|n| n.parse::<u64>().is_ok_and(|parsed| parsed > 0 && parsed.to_string() == n))
}
