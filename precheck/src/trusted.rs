//! Whom the node trusts, and what it runs, verified: the one place where what lies in a state root becomes `Verified` again.

use autonomy_schema::document::MAX_DOCUMENT_BYTES;
use autonomy_schema::set::MAX_SIGNATURES_BYTES;
use autonomy_schema::version::released_at;
use autonomy_schema::{Code, Name, Reason, Reasons, RelPath, StateManifest, set};
use autonomy_stateroot::trust::RootBytes;
use autonomy_stateroot::{StateRoot, layout, read_capped};
use autonomy_trust::{Context, PinnedRoot, Purpose, Signed, Verified, verify_manifest};

/// The pinned trust root, with the earlier ones that are kept as far as they vouch for each other.
pub fn pinned_root(root: &StateRoot) -> Result<PinnedRoot, Reasons> {
    let mut refusal = None;
    let mut pinned = None;
    for copy in root.trust_root_bytes()? {
        match PinnedRoot::pinned(signed(&copy)) {
            Ok(found) => {
                pinned = Some(found);
                break;
            }
            Err(reasons) => refusal = refusal.or(Some(reasons)),
        }
    }
    let missing = || Reasons::from(Reason::new(Code::CorruptState, "the trust root is missing"));
    let mut pinned = pinned.ok_or_else(|| refusal.unwrap_or_else(missing))?;
    // A kept root that is damaged vouches for nothing; what was admitted under it is then below its threshold.
    extend(&mut pinned, |version| root.kept_root(version));
    Ok(pinned)
}

/// Adds roots before the oldest known one, as long as there are some and they lead to it; gives those that it added, with
/// their versions.
pub fn extend(root: &mut PinnedRoot, find: impl Fn(u64) -> Option<RootBytes>) -> Vec<(u64, RootBytes)> {
    let mut added = Vec::new();
    let mut oldest = root.earlier().last().unwrap_or(root).document().version;
    while let Some(found) = oldest.checked_sub(1).and_then(&find) {
        if root.preceded_by(signed(&found)).is_err() {
            break;
        }
        oldest -= 1;
        added.push((oldest, found));
    }
    added
}

/// A root as it is verified.
pub fn signed(root: &RootBytes) -> Signed<'_> {
    Signed { bytes: &root.bytes, signatures: &root.signatures }
}

/// The manifest of a generation that this node admitted, for carrying on with it: whoever signed it must have been trusted
/// then, and neither its age nor its serial matters.
pub fn admitted(root: &StateRoot, generation: &Name) -> Result<Verified<StateManifest>, Reasons> {
    let read = |name: &'static str, cap| {
        let path = layout::in_generation(generation, &RelPath::fixed(name));
        let bytes = read_capped(root.disk(), &path, cap).map_err(|error| error.to_reason())?;
        bytes.ok_or_else(|| Reason::new(Code::CorruptState, format!("`{path}` is missing")))
    };
    let bytes = read(set::MANIFEST, MAX_DOCUMENT_BYTES as u64)?;
    let signatures = read(set::MANIFEST_SIGNATURES, MAX_SIGNATURES_BYTES)?;
    let pinned = pinned_root(root)?;
    let floors = root.floors()?.unwrap_or_default();
    let node = root.node()?;
    let released = released_at();
    let context = Context {
        root: &pinned,
        floors: &floors,
        clock: released,
        released,
        node: Some(&node),
        purpose: Purpose::Recover,
    };
    verify_manifest(Signed { bytes: &bytes, signatures: &signatures }, &context)
}
