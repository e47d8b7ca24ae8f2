//! What a node hands on of whom it trusts.

use autonomy_schema::{Reasons, RelPath, Time, document, set};
use autonomy_sets::{KeptSet, load, root_files};
use autonomy_stateroot::{StateRoot, durable, layout, read_capped};
use autonomy_trust::{Purpose, Signed, verify_revocation};

use crate::trust::REVOCATION;

/// What a node hands on of whom it trusts: every root that it keeps, and the revocation list that came by itself, unless a
/// newer one came with a manifest: then that manifest carries it. Gives a warning when the list that is kept is no use.
pub fn node_trust(root: &StateRoot, clock: Time) -> Result<(KeptSet, Option<String>), Reasons> {
    let mut files = root_files(root)?;
    let path = layout::revocation();
    let has_list = durable::exists(root.disk(), &path).map_err(|error| Reasons::from(error.to_reason()))?;
    let refusal = if has_list { kept_list(root, clock).err() } else { None };
    if has_list && refusal.is_none() {
        files.push((REVOCATION.to_owned(), path.clone()));
        files.push((format!("{REVOCATION}{}", set::SIGNATURES_SUFFIX), layout::revocation_signatures()));
    }
    let warning = refusal.map(|reasons| {
        let why: Vec<String> = reasons.as_slice().iter().map(ToString::to_string).collect();
        format!("`{path}` is not handed on: {}", why.join("; "))
    });
    let shown = "the trust of this node".to_owned();
    Ok((KeptSet::of_files(root, shown, files), warning))
}

/// Whether the list that is kept is what the node goes by.
fn kept_list(root: &StateRoot, clock: Time) -> Result<(), Reasons> {
    let read = |path: &RelPath, cap| -> Result<Vec<u8>, Reasons> {
        let bytes = read_capped(root.disk(), path, cap).map_err(|error| error.to_reason())?;
        Ok(bytes.unwrap_or_default())
    };
    let bytes = read(&layout::revocation(), document::MAX_DOCUMENT_BYTES as u64)?;
    let signatures = read(&layout::revocation_signatures(), set::MAX_SIGNATURES_BYTES)?;
    let loaded = load(root)?;
    let context = loaded.context(clock, Purpose::Change);
    verify_revocation(Signed { bytes: &bytes, signatures: &signatures }, &context).map(drop)
}
