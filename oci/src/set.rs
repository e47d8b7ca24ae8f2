//! A set as an OCI artifact: one layer per file, its path below the set as the layer's title.

use std::collections::BTreeMap;

use autonomy_schema::{Code, Reason, RelPath};

use crate::spec::{Descriptor, MAX_MANIFEST_BYTES, Manifest};

/// Artifact type of a set.
pub const SET_TYPE: &str = "application/vnd.autonomy.set.v1";
/// Media type of a file of a set.
pub const FILE_TYPE: &str = "application/vnd.autonomy.set.file.v1";

/// The files of a set, by path.
pub(crate) fn files(manifest: &Manifest) -> Result<BTreeMap<String, Descriptor>, Reason> {
    if manifest.kind() != SET_TYPE {
        let message = format!("the manifest is of type `{}`, not a set (`{SET_TYPE}`)", manifest.kind());
        return Err(Reason::new(Code::BadValue, message));
    }
    let mut files = BTreeMap::new();
    for layer in &manifest.layers {
        let Some(title) = layer.title() else {
            return Err(Reason::new(Code::BadValue, format!("the layer {} of the set has no title", layer.digest)));
        };
        let path = title.parse::<RelPath>().map_err(|error| error.to_reason())?;
        if files.insert(path.to_string(), layer.clone()).is_some() {
            return Err(Reason::new(Code::BadValue, format!("the set has `{path}` twice")));
        }
    }
    Ok(files)
}

/// The bytes of an OCI manifest that registries take.
pub(crate) fn manifest(artifact_type: &str, layers: Vec<Descriptor>) -> Result<Vec<u8>, Reason> {
    let count = layers.len();
    let bytes = Manifest::artifact(artifact_type, layers).to_bytes();
    let bytes = bytes.map_err(|error| Reason::new(Code::BadValue, error.to_string()))?;
    if bytes.len() as u64 <= MAX_MANIFEST_BYTES {
        return Ok(bytes);
    }
    let size = bytes.len();
    let message = format!("the OCI manifest of {count} files has {size} bytes; registries take {MAX_MANIFEST_BYTES}");
    Err(Reason::new(Code::LimitExceeded, message))
}
