//! Canonical JSON of every kind.

use std::fmt::Debug;

use autonomy_schema::backup::Backup;
use autonomy_schema::document::{Document, parse};
use autonomy_schema::evidence::Evidence;
use autonomy_schema::facts::Facts;
use autonomy_schema::floors::Floors;
use autonomy_schema::journal::Journal;
use autonomy_schema::lock::Lock;
use autonomy_schema::node::Node;
use autonomy_schema::os::OsFingerprint;
use autonomy_schema::plan_doc::PlanDoc;
use autonomy_schema::policy_override::PolicyOverride;
use autonomy_schema::receipt::Receipt;
use autonomy_schema::revocation::Revocation;
use autonomy_schema::{StateManifest, relay, segments, set};

use crate::{signed, told};

/// Reads a document. What is read can be written, and is read again as the same.
pub(crate) fn document<T: Document + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    match parse::<T>(bytes) {
        Ok(document) => {
            let written = document.to_canonical().expect("what was read can be written");
            let again = parse::<T>(&written).unwrap_or_else(|reasons| panic!("not read again: {reasons}"));
            assert_eq!(again, document);
            assert_eq!(again.to_canonical().expect("twice"), written);
            Some(document)
        }
        Err(reasons) => {
            told::refusal(&reasons, bytes.len());
            None
        }
    }
}

/// A manifest, and what is derived from it.
pub(crate) fn manifest(bytes: &[u8]) -> bool {
    let Some(manifest) = document::<StateManifest>(bytes) else { return false };
    let edge = manifest.spec.relay.edge_toml();
    // Its keys are none of an operator's; it must be TOML all the same.
    assert_ne!(relay::local_keys(&edge), relay::local_keys("="), "{edge}");
    for file in set::files(&manifest).keys() {
        assert!(file.parse::<autonomy_schema::RelPath>().is_ok(), "a set would hold `{file}`");
    }
    signed::manifest(bytes);
    true
}

/// A lock by itself, and as the lock of a manifest that pins these very bytes.
pub(crate) fn lock(bytes: &[u8]) -> bool {
    let read = document::<Lock>(bytes);
    if let Some(lock) = &read {
        signed::lock(bytes, lock);
    }
    read.is_some()
}

/// What lies in a state root, a plan, a backup, the papers of operators; and a segment index.
pub(crate) fn state(bytes: &[u8]) -> bool {
    let read = [
        document::<Floors>(bytes).is_some(),
        document::<Journal>(bytes).is_some(),
        document::<Node>(bytes).is_some(),
        document::<Facts>(bytes).is_some_and(|facts| facts.bound.named().is_ok() && facts.bound.fingerprint().is_ok()),
        document::<PlanDoc>(bytes).is_some(),
        document::<Receipt>(bytes).is_some(),
        document::<OsFingerprint>(bytes).is_some(),
        document::<Evidence>(bytes).is_some(),
        document::<Revocation>(bytes).inspect(|list| signed::revocation(bytes, list)).is_some(),
        document::<PolicyOverride>(bytes).inspect(|paper| signed::policy_override(bytes, paper)).is_some(),
        document::<Backup>(bytes).is_some_and(|backup| backup.seal().is_ok()),
        index(bytes),
    ];
    read.contains(&true)
}

/// Size of the artifact, 8 bytes, then its index.
fn index(bytes: &[u8]) -> bool {
    let Some((size, entries)) = bytes.split_first_chunk::<8>() else { return false };
    let size = u64::from_le_bytes(*size);
    let Ok(segments) = segments::parse_index(entries, size) else { return false };
    assert_eq!(segments.iter().map(|segment| segment.length).sum::<u64>(), size);
    let written = segments.iter().flat_map(|segment| {
        segment.id.as_bytes().iter().copied().chain(segment.length.to_le_bytes()).collect::<Vec<_>>()
    });
    assert!(written.eq(entries.iter().copied()));
    true
}
