//! One generation, looked at whole: its signatures, its closed list of files, every byte.

use autonomy_schema::facts::Drift;
use autonomy_schema::generation as names;
use autonomy_schema::lock::Lock;
use autonomy_schema::{Code, Name, Reason, Reasons, RelPath, Sha256, StateManifest, document, set};
use autonomy_stateroot::{StatCache, StateRoot, drift_of, layout, read_capped};
use autonomy_trust::{Context, Purpose, Signed, Verified, verify_lock, verify_manifest};

use crate::judge::Options;
use autonomy_sets::Loaded;

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

/// What is wrong with a generation that lacks a file, or whose name is another manifest's. On a node that is damage, in an
/// archive it is a wrong archive.
#[derive(Clone, Copy)]
pub(crate) struct Wrong {
    pub(crate) missing: Code,
    pub(crate) misnamed: Code,
}

const DAMAGE: Wrong = Wrong { missing: Code::CorruptState, misnamed: Code::CorruptState };

/// A file of a generation, within its cap.
fn read(root: &StateRoot, generation: &Name, name: &'static str, cap: u64, wrong: Wrong) -> Result<Vec<u8>, Reasons> {
    let path = layout::in_generation(generation, &RelPath::fixed(name));
    let bytes = read_capped(root.disk(), &path, cap).map_err(|error| error.to_reason())?;
    bytes.ok_or_else(|| Reason::new(wrong.missing, format!("`{path}` is missing")).into())
}

/// The manifest of a generation, when it is signed and the folder is named after it.
pub(crate) fn signed_manifest(
    root: &StateRoot,
    generation: &Name,
    context: &Context<'_>,
    wrong: Wrong,
) -> Result<Verified<StateManifest>, Reasons> {
    let bytes = read(root, generation, set::MANIFEST, document::MAX_DOCUMENT_BYTES as u64, wrong)?;
    let signatures = read(root, generation, set::MANIFEST_SIGNATURES, set::MAX_SIGNATURES_BYTES, wrong)?;
    let manifest = verify_manifest(Signed { bytes: &bytes, signatures: &signatures }, context)?;
    let serial = manifest.document().metadata.serial;
    if names::is_of(generation, serial, manifest.fingerprint()) {
        return Ok(manifest);
    }
    let other = names::prefix(serial, manifest.fingerprint());
    let message = format!("`{}` holds the manifest of a generation `{other}<n>`", layout::generation(generation));
    Err(Reason::new(wrong.misnamed, message).into())
}

/// The lock of a generation, when it is signed and the one that the manifest pins.
pub(crate) fn signed_lock(
    root: &StateRoot,
    generation: &Name,
    manifest: &Verified<StateManifest>,
    context: &Context<'_>,
    wrong: Wrong,
) -> Result<Verified<Lock>, Reasons> {
    let bytes = read(root, generation, set::LOCK, document::MAX_DOCUMENT_BYTES as u64, wrong)?;
    let signatures = read(root, generation, set::LOCK_SIGNATURES, set::MAX_SIGNATURES_BYTES, wrong)?;
    verify_lock(Signed { bytes: &bytes, signatures: &signatures }, manifest, context)
}

/// Verifies the documents of a generation for a purpose.
pub(crate) fn documents(
    root: &StateRoot,
    loaded: &Loaded,
    generation: &Name,
    purpose: Purpose,
    options: &Options<'_>,
) -> Result<Documents, Reasons> {
    let context = loaded.context(options.clock, purpose);
    let manifest = signed_manifest(root, generation, &context, DAMAGE)?;
    let lock = signed_lock(root, generation, &manifest, &context, DAMAGE)?;
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
