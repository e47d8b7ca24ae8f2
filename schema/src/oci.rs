//! The OCI image manifest that `push` uploads for one file: empty config, one layer, no annotations, so that
//! its digest is a pure function of the file (OCI image-spec 1.1, "Guidelines for Artifact Usage").

use serde_json::json;

use crate::canonical::{self, CanonicalError};
use crate::digest::Sha256;

/// Artifact type and layer media type of an agent artifact.
pub const ARTIFACT_TYPE: &str = "application/vnd.autonomy.artifact.v1";
/// Artifact type and layer media type of a policy bundle.
pub const POLICY_TYPE: &str = "application/vnd.autonomy.policy.v1.tar+gzip";
/// Media type of an image manifest (image-spec 1.1).
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of the empty config (image-spec 1.1).
pub const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
/// The empty config of image-spec 1.1: the two bytes `{}`.
pub const EMPTY_CONFIG: &[u8] = b"{}";

/// The manifest bytes for one layer.
pub fn manifest(artifact_type: &str, digest: Sha256, size: u64) -> Result<Vec<u8>, CanonicalError> {
    canonical::to_bytes(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": artifact_type,
        "config": {
            "mediaType": EMPTY_TYPE,
            "digest": Sha256::of(EMPTY_CONFIG),
            "size": EMPTY_CONFIG.len(),
        },
        "layers": [{ "mediaType": artifact_type, "digest": digest, "size": size }],
    }))
}

/// `reference@sha256:…`, with the digest of [`manifest`].
pub fn pinned_reference(
    reference: &str,
    artifact_type: &str,
    digest: Sha256,
    size: u64,
) -> Result<String, CanonicalError> {
    Ok(format!("{reference}@{}", Sha256::of(&manifest(artifact_type, digest, size)?)))
}
