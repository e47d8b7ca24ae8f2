//! One line of a `.sigstore.jsonl` file: a Sigstore bundle v0.3 with a `messageSignature`, as
//! `cosign sign-blob --key --bundle` writes it (sigstore/protobuf-specs, `sigstore_bundle.proto`).

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;

/// The media type of the bundles that are written.
pub const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The only message digest algorithm that is used.
pub const DIGEST_ALGORITHM: &str = "SHA2_256";

/// The parts of a bundle that matter for a pinned key; transparency log entries and time stamps are ignored, as a
/// node without a network cannot use them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bundle {
    /// `application/vnd.dev.sigstore.bundle.v0.3+json`.
    pub media_type: String,
    /// Which key, for look-up only.
    #[serde(default)]
    pub verification_material: VerificationMaterial,
    /// The signature.
    pub message_signature: MessageSignature,
    /// The other kind of payload. The format allows one of the two, so a bundle with both says two things.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dsse_envelope: Option<serde_json::Value>,
}

/// What a verifier would need; with pinned keys only the hint.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerificationMaterial {
    /// The key's hint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<PublicKeyHint>,
}

/// The hint of a key.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PublicKeyHint {
    /// Cosign writes base64 of the SHA-256 of the key's SPKI DER.
    #[serde(default)]
    pub hint: String,
}

/// A signature over raw bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageSignature {
    /// The digest of the signed bytes.
    pub message_digest: MessageDigest,
    /// Base64 of the signature.
    pub signature: String,
}

/// A digest with its algorithm.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MessageDigest {
    /// `SHA2_256`.
    pub algorithm: String,
    /// Base64 of the digest.
    pub digest: String,
}

/// The line for a signature: JSON without a newline. `encode` is base64 with padding (RFC 4648 §4).
pub fn line(signature: &[u8], message: Sha256, key: Sha256, encode: impl Fn(&[u8]) -> String) -> String {
    let bundle = Bundle {
        media_type: MEDIA_TYPE.to_owned(),
        verification_material: VerificationMaterial {
            public_key: Some(PublicKeyHint { hint: encode(key.as_bytes()) }),
        },
        message_signature: MessageSignature {
            message_digest: MessageDigest {
                algorithm: DIGEST_ALGORITHM.to_owned(),
                digest: encode(message.as_bytes()),
            },
            signature: encode(signature),
        },
        dsse_envelope: None,
    };
    // Strings alone: serialisation cannot fail.
    serde_json::to_string(&bundle).unwrap_or_default()
}
