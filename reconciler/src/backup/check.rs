//! Whether a generation is what signed documents say: on a node, and in an archive, by the same code.

use std::collections::BTreeMap;

use autonomy_schema::floors::Floors;
use autonomy_schema::version::released_at;
use autonomy_schema::{Code, Name, Reason, Reasons, StateManifest, Time};
use autonomy_stateroot::{StatCache, StateRoot, drift_of};
use autonomy_trust::{Context, PinnedRoot, Purpose, Verified};

use crate::generation::{Wrong, signed_lock, signed_manifest};

/// Generations that are whole, with their manifests.
pub(super) type Generations = BTreeMap<Name, Verified<StateManifest>>;

/// As many differences of one generation are told.
const MAX_SHOWN: usize = 5;

/// An archive with such a generation is no archive of ours.
const WRONG: Wrong = Wrong { missing: Code::MissingFile, misnamed: Code::DigestMismatch };

/// The manifest of a generation, when a threshold signed it and the folder is named after it.
pub(super) fn manifest(
    root: &StateRoot,
    generation: &Name,
    trust: &PinnedRoot,
) -> Result<Verified<StateManifest>, Reasons> {
    let floors = Floors::default();
    signed_manifest(root, generation, &context(trust, &floors), WRONG).map_err(|reasons| of(generation, reasons))
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
    let floors = Floors::default();
    let lock = signed_lock(root, generation, &manifest, &context(trust, &floors), WRONG);
    lock.map_err(|reasons| of(generation, reasons))?;
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

/// The reasons, saying which generation they are about.
fn of(generation: &Name, reasons: Reasons) -> Reasons {
    let named = reasons
        .as_slice()
        .iter()
        .cloned()
        .map(|reason| Reason { message: format!("generation `{generation}`: {}", reason.message), ..reason });
    Reasons::new(named.collect()).unwrap_or(reasons)
}
