//! One generation, looked at whole: its signatures, its closed list of files, every byte.

use autonomy_schema::facts::Drift;
use autonomy_schema::lock::Lock;
use autonomy_schema::{Code, Name, Reason, Reasons, RelPath, Sha256, StateManifest, document, set};
use autonomy_stateroot::{StatCache, StateRoot, drift_of, layout, read_capped};
use autonomy_trust::{Purpose, Signed, Verified, verify_lock, verify_manifest};

use crate::judge::{Loaded, Options};

/// A generation whose documents hold. Its files may still differ.
pub(crate) struct Examined {
    pub(crate) manifest: Verified<StateManifest>,
    /// What differs from the manifest; empty when it is whole.
    pub(crate) drift: Vec<Drift>,
}

/// The signed documents of a generation.
pub(crate) struct Documents {
    pub(crate) manifest: Verified<StateManifest>,
    pub(crate) lock: Verified<Lock>,
}

/// Verifies the documents of a generation for a purpose.
pub(crate) fn documents(
    root: &StateRoot,
    loaded: &Loaded,
    generation: &Name,
    purpose: Purpose,
    options: &Options<'_>,
) -> Result<Documents, Reasons> {
    let read = |name: &'static str, cap: u64| -> Result<Vec<u8>, Reasons> {
        let path = layout::in_generation(generation, &RelPath::fixed(name));
        let bytes = read_capped(root.disk(), &path, cap).map_err(|error| error.to_reason())?;
        bytes.ok_or_else(|| Reason::new(Code::CorruptState, format!("`{path}` is missing")).into())
    };
    let (manifest, signatures) = (
        read(set::MANIFEST, document::MAX_DOCUMENT_BYTES as u64)?,
        read(set::MANIFEST_SIGNATURES, set::MAX_SIGNATURES_BYTES)?,
    );
    let context = loaded.context(options.clock, purpose);
    let manifest = verify_manifest(Signed { bytes: &manifest, signatures: &signatures }, &context)?;
    let (lock, signatures) =
        (read(set::LOCK, document::MAX_DOCUMENT_BYTES as u64)?, read(set::LOCK_SIGNATURES, set::MAX_SIGNATURES_BYTES)?);
    let lock = verify_lock(Signed { bytes: &lock, signatures: &signatures }, &manifest, &context)?;
    named(generation, &manifest)?;
    Ok(Documents { manifest, lock })
}

/// Verifies the documents of a generation for a purpose, and compares every file with them. Files that the cache does not
/// know are read.
pub(crate) fn examine(
    root: &StateRoot,
    loaded: &Loaded,
    generation: &Name,
    purpose: Purpose,
    (options, cache): (&Options<'_>, &StatCache),
) -> Result<Examined, Reasons> {
    let Documents { manifest, lock: _ } = documents(root, loaded, generation, purpose, options)?;
    let drift = drift_of(root, generation, manifest.document(), cache);
    let drift = drift.map_err(|error| Reasons::from(error.to_reason()))?;
    Ok(Examined { manifest, drift })
}

/// A generation's name says which manifest it holds.
fn named(generation: &Name, manifest: &Verified<StateManifest>) -> Result<(), Reasons> {
    let prefix = format!("{}-{}-", manifest.document().metadata.serial, manifest.fingerprint().short());
    if generation.as_str().strip_prefix(&prefix).is_some_and(|number| number.parse::<u64>().is_ok()) {
        return Ok(());
    }
    let message = format!("`{}` holds another manifest: {}", layout::generation(generation), manifest.fingerprint());
    Err(Reason::new(Code::CorruptState, message).into())
}

/// The policy bundle of a generation, when it is the one that its manifest pins.
pub(crate) fn policy(root: &StateRoot, generation: &Name, pinned: Sha256) -> Option<Vec<u8>> {
    let path = layout::in_generation(generation, &RelPath::fixed(set::POLICY));
    let bytes = read_capped(root.disk(), &path, set::MAX_POLICY_BYTES).ok()??;
    (Sha256::of(&bytes) == pinned).then_some(bytes)
}

/// One difference, in a few words.
pub(crate) fn differs(drift: &Drift) -> String {
    let found = if drift.actual.is_empty() { String::new() } else { format!(", found {}", drift.actual) };
    format!("`{}`: {}{found}", drift.path, drift.kind.as_str())
}
