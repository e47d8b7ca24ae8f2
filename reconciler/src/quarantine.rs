//! Two manifests with one serial: somebody signed twice. The first lies in its generation, the second is kept here,
//! as evidence, and never used.

use std::io::Read as _;

use autonomy_schema::{Blake3, Mode, RelPath, document, set};
use autonomy_stateroot::{DiskError, SetSource, StateRoot, durable, layout};

/// Keeps manifest and signatures of a refused set below `quarantine/<fingerprint>/`.
pub(crate) fn keep(root: &StateRoot, source: &dyn SetSource) -> Result<(), DiskError> {
    let read = |name: &'static str, cap: u64| -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        source.open(&RelPath::fixed(name)).ok()?.take(cap).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    };
    // The refusal was about bytes that were read and verified a moment ago; if they are gone, nothing is left to keep.
    let Some(manifest) = read(set::MANIFEST, document::MAX_DOCUMENT_BYTES as u64) else { return Ok(()) };
    let signatures = read(set::MANIFEST_SIGNATURES, set::MAX_SIGNATURES_BYTES).unwrap_or_default();
    let name = Blake3::of(&manifest).hex();
    let Ok(name) = name.parse::<RelPath>() else { return Ok(()) };
    let folder = layout::quarantine().join(&name);
    let file = folder.join(&RelPath::fixed(set::MANIFEST));
    if durable::exists(root.disk(), &file)? {
        return Ok(());
    }
    durable::ensure_dir(root.disk(), &folder)?;
    durable::replace(root.disk(), &folder.join(&RelPath::fixed(set::MANIFEST_SIGNATURES)), &signatures, Mode::PRIVATE)?;
    durable::replace(root.disk(), &file, &manifest, Mode::PRIVATE)
}
