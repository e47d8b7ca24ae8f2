//! What cosign signs for an OCI image or artifact, in both of its layouts; these types only name the parts.
//!
//! - **Simple signing** (cosign 1 and 2): a payload of its own, the signature beside it as an annotation of the layer
//!   (sigstore/cosign `specs/SIGNATURE_SPEC.md`; containers/image `docs/containers-signature.5.md`; written by
//!   sigstore/sigstore `pkg/signature/payload/payload.go`).
//! - **Bundle** (cosign 3): a Sigstore bundle v0.3 as a referrer of the image (sigstore/cosign `specs/BUNDLE_SPEC.md`),
//!   whose DSSE envelope (secure-systems-lab/dsse `protocol.md`, `envelope.md`) holds an in-toto Statement v1 about the
//!   manifest's digest.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bundle::VerificationMaterial;
use crate::digest::Sha256;
use crate::document::{coded, refuse_duplicate_keys};
use crate::reason::{Code, Reason};

/// Largest payload or bundle in bytes: a payload has about 240, a bundle with transparency log entries about 12 KiB.
pub const MAX_BYTES: usize = 64 << 10;
/// The media type of the layer that is a simple signing payload.
pub const SIMPLE_SIGNING_MEDIA_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation of that layer that holds the signature in base64.
pub const SIGNATURE_ANNOTATION: &str = "dev.cosignproject.cosign/signature";
/// The `critical.type` of cosign's simple signing payloads.
pub const SIMPLE_SIGNING_TYPE: &str = "cosign container image signature";
/// The payload type of an envelope around an in-toto statement.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// The `_type` of the statement.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// The `predicateType` by which cosign's signatures differ from attestations about the same image.
pub const PREDICATE_TYPE: &str = "https://sigstore.dev/cosign/sign/v1";

/// A simple signing payload. Unknown fields are refused as containers/image refuses them; `optional` may hold anything.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimpleSigning {
    /// What a verifier must understand whole.
    pub critical: Critical,
    /// Annotations of the signer; cosign writes `null` for none.
    #[serde(default)]
    pub optional: Option<Value>,
}

/// The part of a payload that a verifier must understand.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Critical {
    /// Under which name.
    pub identity: Identity,
    /// What is signed.
    pub image: Image,
    /// [`SIMPLE_SIGNING_TYPE`].
    #[serde(rename = "type")]
    pub signature_type: String,
}

/// The name under which an image was signed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Repository without tag; cosign ignores it, as an image keeps its signature when it is mirrored.
    #[serde(rename = "docker-reference")]
    pub docker_reference: String,
}

/// The signed image.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// SHA-256 of the manifest.
    #[serde(rename = "docker-manifest-digest")]
    pub docker_manifest_digest: Sha256,
}

/// A Sigstore bundle with either kind of content. Log entries and time stamps are ignored, as in [`crate::bundle`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageBundle {
    /// [`crate::bundle::MEDIA_TYPE`].
    pub media_type: String,
    /// Which key, for look-up only.
    #[serde(default)]
    pub verification_material: VerificationMaterial,
    /// A signed statement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dsse_envelope: Option<Envelope>,
    /// A signature over the manifest's own bytes: then the bundle is a [`crate::bundle::Bundle`].
    #[serde(default, skip_serializing)]
    pub message_signature: Option<IgnoredAny>,
}

/// A DSSE envelope.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// Base64 of the statement.
    pub payload: String,
    /// [`PAYLOAD_TYPE`].
    pub payload_type: String,
    /// Over [`pae`] of type and payload.
    pub signatures: Vec<EnvelopeSignature>,
}

/// One signature of an envelope. Its `keyid` is a hint that nobody signed, and is not read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EnvelopeSignature {
    /// Base64 of the signature.
    pub sig: String,
}

/// An in-toto statement, as far as a signature needs it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement {
    /// [`STATEMENT_TYPE`].
    #[serde(rename = "_type")]
    pub statement_type: String,
    /// What it is about.
    pub subject: Vec<Subject>,
    /// [`PREDICATE_TYPE`].
    pub predicate_type: String,
    /// Empty for a signature.
    #[serde(default)]
    pub predicate: Value,
}

/// One thing that a statement is about.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Subject {
    /// Lower-case hex by algorithm, such as `sha256`.
    #[serde(default)]
    pub digest: BTreeMap<String, String>,
    /// Annotations of the signer.
    #[serde(default)]
    pub annotations: Value,
}

impl SimpleSigning {
    /// Reads a payload whose signature holds.
    pub fn parse(payload: &[u8]) -> Result<Self, Reason> {
        parse("simple signing payload", payload)
    }
}

impl ImageBundle {
    /// Reads a bundle.
    pub fn parse(bundle: &[u8]) -> Result<Self, Reason> {
        parse("bundle", bundle)
    }
}

impl Statement {
    /// Reads a statement whose signature holds.
    pub fn parse(statement: &[u8]) -> Result<Self, Reason> {
        parse("in-toto statement", statement)
    }
}

/// The bytes that a DSSE v1 signature is over: type and body with their lengths, so that neither can run into the other.
pub fn pae(payload_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), body.len());
    [head.as_bytes(), body].concat()
}

/// Size, UTF-8, duplicate keys at any depth, then types.
fn parse<'a, T: Deserialize<'a>>(what: &str, bytes: &'a [u8]) -> Result<T, Reason> {
    if bytes.len() > MAX_BYTES {
        let message = format!("the {what} has {} bytes; the cap is {MAX_BYTES}", bytes.len());
        return Err(
            Reason::new(Code::DocumentTooLarge, message).with_remedy("take the signature again from its source")
        );
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|_not_utf8| Reason::new(Code::NotUtf8, format!("the {what} is not UTF-8")))?;
    let placed = |reason: Reason| Reason { message: format!("the {what}: {}", reason.message), ..reason };
    refuse_duplicate_keys(text).map_err(placed)?;
    serde_json::from_str(text).map_err(|error| placed(coded(&error.to_string(), Code::WrongType)))
}
