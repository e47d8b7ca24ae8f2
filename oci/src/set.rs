//! A set as an OCI artifact: one layer per file, its path below the set as the layer's title; and packs of segments.

use std::collections::BTreeMap;

use autonomy_schema::{Blake3, Code, Reason, RelPath};

use crate::pack::PACK_TYPE;
use crate::spec::{Descriptor, Manifest};

/// Artifact type of a set.
pub const SET_TYPE: &str = "application/vnd.autonomy.set.v1";
/// Artifact type of what changes whom nodes trust: trust roots and the revocation list.
pub const TRUST_TYPE: &str = "application/vnd.autonomy.trust.v1";
/// Its tag.
pub const TRUST_TAG: &str = "trust";
/// Media type of a file of a set.
pub const FILE_TYPE: &str = "application/vnd.autonomy.set.file.v1";

/// What a set that leaves artifacts out says of whom it was made for: fingerprints of manifests, separated by spaces. It
/// informs; what the receiver has decides.
pub const BASES: &str = "vnd.autonomy.set.bases";

/// Most of them that are told.
const MAX_BASES: usize = 20;

/// What the layers of a set are.
#[derive(Debug)]
pub(crate) struct Layers {
    /// The files, by path.
    pub(crate) files: BTreeMap<String, Descriptor>,
    /// The packs.
    pub(crate) packs: Vec<Descriptor>,
    /// Manifests that the set builds on.
    pub(crate) bases: Option<Vec<Blake3>>,
}

/// Sorts the layers of a set.
pub(crate) fn layers(manifest: &Manifest, kind: &str) -> Result<Layers, Reason> {
    if manifest.kind() != kind {
        let message = format!("the manifest is of type `{}`, and not `{kind}`", manifest.kind());
        return Err(Reason::new(Code::BadValue, message));
    }
    let bases = manifest.annotations.get(BASES);
    let bases = bases.map(|text| text.split(' ').filter_map(|base| base.parse().ok()).take(MAX_BASES).collect());
    let mut found = Layers { files: BTreeMap::new(), packs: Vec::new(), bases };
    for layer in &manifest.layers {
        if layer.media_type == PACK_TYPE {
            found.packs.push(layer.clone());
            continue;
        }
        let Some(title) = layer.title() else {
            return Err(Reason::new(Code::BadValue, format!("the layer {} of the set has no title", layer.digest)));
        };
        let path = title.parse::<RelPath>().map_err(|error| error.to_reason())?;
        if found.files.insert(path.to_string(), layer.clone()).is_some() {
            return Err(Reason::new(Code::BadValue, format!("the set has `{path}` twice")));
        }
    }
    Ok(found)
}
