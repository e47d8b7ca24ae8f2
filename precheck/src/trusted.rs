//! What the node runs, verified: the manifest of a generation becomes `Verified` again.

use autonomy_schema::document::MAX_DOCUMENT_BYTES;
use autonomy_schema::set::MAX_SIGNATURES_BYTES;
use autonomy_schema::version::released_at;
use autonomy_schema::{Code, Name, Reason, Reasons, RelPath, StateManifest, set};
use autonomy_sets::roots::pinned_root;
use autonomy_stateroot::{StateRoot, layout, read_capped};
use autonomy_trust::{Context, Purpose, Signed, Verified, verify_manifest};

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
