//! Whether a generation is what signed documents say: on a node, and in an archive, by the same code.

use std::collections::BTreeMap;

use autonomy_schema::document::MAX_DOCUMENT_BYTES;
use autonomy_schema::floors::Floors;
use autonomy_schema::version::released_at;
use autonomy_schema::{Code, Name, Reason, Reasons, RelPath, StateManifest, Time, set};
use autonomy_stateroot::{StatCache, StateRoot, drift_of, layout, read_capped};
use autonomy_trust::{Context, PinnedRoot, Purpose, Signed, Verified, verify_lock, verify_manifest};

/// Generations that are whole, with their manifests.
pub(super) type Generations = BTreeMap<Name, Verified<StateManifest>>;

/// As many differences of one generation are told.
const MAX_SHOWN: usize = 5;

/// The manifest of a generation, when a threshold signed it and the folder is named after it.
pub(super) fn manifest(
    root: &StateRoot,
    generation: &Name,
    trust: &PinnedRoot,
) -> Result<Verified<StateManifest>, Reasons> {
    let floors = Floors::default();
    let verified = verify_manifest(
        Signed {
            bytes: &read(root, generation, set::MANIFEST, MAX_DOCUMENT_BYTES as u64)?,
            signatures: &read(root, generation, set::MANIFEST_SIGNATURES, set::MAX_SIGNATURES_BYTES)?,
        },
        &context(trust, &floors),
    )
    .map_err(|reasons| of(generation, reasons))?;
    let prefix = format!("{}-{}-", verified.document().metadata.serial, verified.fingerprint().short());
    if generation.as_str().starts_with(&prefix) {
        return Ok(verified);
    }
    let message = format!("generation `{generation}` holds the manifest of a generation `{prefix}<n>`");
    Err(Reason::new(Code::DigestMismatch, message).into())
}

/// The same, when also its lock is signed and every file is as pinned. Files that `cache` does not know are read.
pub(super) fn whole(
    root: &StateRoot,
    generation: &Name,
    trust: &PinnedRoot,
    cache: &StatCache,
) -> Result<Verified<StateManifest>, Reasons> {
    let manifest = manifest(root, generation, trust)?;
    let drift = drift_of(root, generation, manifest.document(), cache).map_err(|error| error.to_reason())?;
    let shown = drift.iter().take(MAX_SHOWN).map(|drift| {
        let message = format!("generation `{generation}`: `{}` is not as its manifest pins it", drift.path);
        Reason::new(Code::DigestMismatch, message)
    });
    Reasons::check(shown.collect())?;
    let lock = Signed {
        bytes: &read(root, generation, set::LOCK, MAX_DOCUMENT_BYTES as u64)?,
        signatures: &read(root, generation, set::LOCK_SIGNATURES, set::MAX_SIGNATURES_BYTES)?,
    };
    let floors = Floors::default();
    verify_lock(lock, &manifest, &context(trust, &floors)).map_err(|reasons| of(generation, reasons))?;
    Ok(manifest)
}

/// The node admitted these bytes before, so neither time nor floors bind them again: signatures and digests do.
fn context<'a>(trust: &'a PinnedRoot, floors: &'a Floors) -> Context<'a> {
    Context {
        root: trust,
        floors,
        clock: Time::from_unix(0),
        released: released_at(),
        node: None,
        purpose: Purpose::Recover,
    }
}

fn read(root: &StateRoot, generation: &Name, name: &'static str, cap: u64) -> Result<Vec<u8>, Reasons> {
    let path = layout::in_generation(generation, &RelPath::fixed(name));
    let bytes = read_capped(root.disk(), &path, cap).map_err(|error| error.to_reason())?;
    bytes.ok_or_else(|| Reason::new(Code::MissingFile, format!("`{path}` is missing")).into())
}

/// The reasons, saying which generation they are about.
fn of(generation: &Name, reasons: Reasons) -> Reasons {
    let named = reasons
        .as_slice()
        .iter()
        .cloned()
        .map(|reason| Reason { message: format!("generation `{generation}`: {}", reason.message), ..reason });
    Reasons::new(named.collect()).unwrap_or(reasons)
}
