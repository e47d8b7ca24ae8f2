//! A set from a registry into a folder. What the registry lists is compared with what the set's manifest pins before more
//! than that manifest has come, so that nothing larger or other comes.

use std::path::Path;

use autonomy_oci::{PulledSet, RemoteSet, Strays};
use autonomy_schema::manifest::Payload;
use autonomy_schema::{Code, Mode, Reason, Reasons, RelPath, StateManifest, document, set};
use autonomy_stateroot::{Content, Known, Pins, pinned_contents};

use autonomy_sets::{Extent, Files, compare};

/// Pulls a set. Who signed it is for [`crate::verify_set`] to say.
pub fn pull(remote: &RemoteSet, to: &Path, strays: Strays, progress: &dyn Fn(u64, u64)) -> Result<PulledSet, Reasons> {
    let listed = remote.files();
    remote.pull(to, strays, &|manifest| fits(manifest, &listed), progress)
}

/// Whether the list is the closed one of the manifest, and no file is larger than pinned.
fn fits(manifest: &[u8], listed: &Files) -> Result<(), Reasons> {
    let manifest: StateManifest = document::parse(manifest)?;
    let mut reasons = Vec::new();
    // In a registry, a tree is one blob: its files are named by an index that has not come yet.
    let mut known = Known { files: pinned_contents(&manifest)?, unknown: Vec::new() };
    let mut caps = set::files(&manifest);
    for artifact in &manifest.spec.artifacts {
        if let Some(tree) = artifact.tree() {
            let path = set::payload(artifact).parse::<RelPath>().map_err(|error| error.to_reason())?;
            let Payload { size, digest, blake3, .. } = tree.payload;
            caps.insert(path.to_string(), size);
            let pins = Pins { size, sha256: Some(digest), blake3, mode: Mode::FILE };
            known.files.push(Content { path, pins });
        }
    }
    compare(&manifest, &known, Extent::Whole, listed, &mut reasons);
    for name in listed.keys().filter(|name| set::is_root_file(name)) {
        let signatures = name.ends_with(set::SIGNATURES_SUFFIX);
        let cap = if signatures { set::MAX_SIGNATURES_BYTES } else { document::MAX_DOCUMENT_BYTES as u64 };
        caps.insert(name.clone(), cap);
    }
    for (name, file) in listed {
        if let Some(cap) = caps.get(name).filter(|cap| file.size > **cap) {
            let message =
                format!("the registry lists `{name}` with {} bytes, of which {cap} would be right", file.size);
            reasons.push(Reason::new(Code::SizeMismatch, message));
        }
    }
    Reasons::check(reasons)
}
