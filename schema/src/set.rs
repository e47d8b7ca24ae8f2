//! What a set is made of (DESIGN §12): the file names, and which of them a manifest calls for.

use std::collections::BTreeMap;

use crate::manifest::StateManifest;
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
/// How the name of a trust root ends; before it is its version.
pub const ROOT_SUFFIX: &str = ".root.json";
/// What the name of a file's signatures adds to its own.
pub const SIGNATURES_SUFFIX: &str = ".sigstore.jsonl";
/// Largest signature file in bytes: 256 signers of 4 KiB each.
pub const MAX_SIGNATURES_BYTES: u64 = 1 << 20;
/// Largest policy bundle in bytes.
pub const MAX_POLICY_BYTES: u64 = 64 << 20;

/// The index file of an artifact, below the set.
pub fn segment_index(artifact: &Name) -> String {
    format!("{SEGMENTS}/{artifact}.idx")
}

/// The index file of a tree, below the set.
pub fn tree_index(artifact: &Name) -> String {
    format!("{TREES}/{artifact}.jsonl")
}

/// Where an artifact lies, below the set: a file, or the folder of a tree.
pub fn artifact(path: &RelPath) -> String {
    format!("{ARTIFACTS}/{path}")
}

/// The files that a set of `manifest` must hold, each with the largest size that may be read of it. The files of trees
/// are named by their indices.
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
        files.extend(entry.segments.map(|segments| (segment_index(&entry.name), segments.size)));
        if let Some(pins) = entry.file() {
            files.insert(artifact(&entry.path), pins.size);
        }
        if let Some(pins) = entry.tree() {
            files.insert(tree_index(&entry.name), pins.index.size);
        }
    }
    files
}

/// Whether a set may hold this file although no manifest names it: a trust root or its signatures.
pub fn is_root_file(path: &str) -> bool {
    let Some(name) = path.strip_prefix(ROOTS).and_then(|rest| rest.strip_prefix('/')) else { return false };
    root_version(name.strip_suffix(SIGNATURES_SUFFIX).unwrap_or(name)).is_some()
}

/// The version that the file name of a trust root says: `3` of `3.root.json`.
pub fn root_version(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(ROOT_SUFFIX)?;
    digits.parse::<u64>().ok().filter(|version| *version > 0 && version.to_string() == digits)
}

/// The file of a trust root of that version, and that of its signatures.
pub fn root_files(version: u64) -> (String, String) {
    let file = format!("{version}{ROOT_SUFFIX}");
    let signatures = format!("{file}{SIGNATURES_SUFFIX}");
    (file, signatures)
}
