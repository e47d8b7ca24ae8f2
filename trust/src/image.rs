//! Signatures of OCI images and artifacts as cosign makes them, judged with one key; the formats and where they are laid
//! down: `autonomy_schema::image`.
//!
//! A signature is checked before what it is over is parsed. What it says is the digest of a manifest and nothing else:
//! neither the name of an image nor a time. Several signatures, and how many are needed, are the caller's.

use autonomy_schema::bundle::MEDIA_TYPE;
use autonomy_schema::image::{
    Envelope, ImageBundle, MAX_BYTES, PAYLOAD_TYPE, PREDICATE_TYPE, SIMPLE_SIGNING_TYPE, STATEMENT_TYPE, SimpleSigning,
    Statement, pae,
};
use autonomy_schema::root::Role;
use autonomy_schema::{Code, Reason, Reasons, Sha256};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use crate::bundle::{self, MEDIA_TYPE_OLD_SPELLING, SignatureLine, shown};
use crate::detached::MAX_DETACHED_BYTES;
use crate::key::{Message, PublicKey};
use crate::rules;
use crate::threshold::Demand;
use crate::verified::Context;

/// Most signatures of one manifest that are looked at; with the keys of a root, some hundred checks.
const MAX_SIGNATURES: usize = 128;

/// A signature of an image, in either layout.
#[derive(Debug, Clone, Copy)]
pub enum ImageSignature<'a> {
    /// A simple signing payload with its signature in base64.
    Simple {
        /// The payload.
        payload: &'a [u8],
        /// The signature.
        signature: &'a str,
    },
    /// A Sigstore bundle.
    Bundle(&'a [u8]),
}

impl ImageSignature<'_> {
    fn verify(&self, manifest: &[u8], key: &PublicKey) -> Result<(), Reason> {
        match self {
            Self::Simple { payload, signature } => verify_simple_signing(payload, signature, Sha256::of(manifest), key),
            Self::Bundle(bundle) => verify_bundle(bundle, manifest, key),
        }
    }
}

/// The keys of role `artifact` that signed the manifest, if they reach its threshold and the root has not expired.
pub fn verify_image(
    manifest: &[u8],
    signatures: &[ImageSignature<'_>],
    context: &Context<'_>,
) -> Result<Vec<Sha256>, Reasons> {
    bounded(signatures)?;
    let revoked = rules::revoked_keys(context, None);
    let (what, code, root) = ("image", Code::BelowThreshold, context.root);
    let demand = Demand { what, code, root, any_of: &[Role::Artifact], revoked: &revoked };
    let signed = |id: &Sha256| {
        let key = root.keys().get(id);
        key.is_some_and(|key| signatures.iter().any(|signature| signature.verify(manifest, key).is_ok()))
    };
    let signers = demand.allowed().into_iter().filter(signed).collect();
    let document = root.document();
    let expired = rules::expired(&format!("trust root version {}", document.version), document.expires_at, context);
    match (demand.count(&signers), expired) {
        (Ok(counted), None) => Ok(counted.keys.into_iter().collect()),
        (counted, expired) => {
            let reasons: Vec<Reason> = counted.err().into_iter().chain(expired).collect();
            Err(Reasons::new(reasons).unwrap_or_else(|| bad("the signatures cannot be judged").into()))
        }
    }
}

/// Whether one of the signatures is `key`'s for the manifest; else why each is not.
pub fn verify_image_by(manifest: &[u8], signatures: &[ImageSignature<'_>], key: &PublicKey) -> Result<(), Reasons> {
    bounded(signatures)?;
    let mut reasons = Vec::new();
    for signature in signatures {
        match signature.verify(manifest, key) {
            Ok(()) => return Ok(()),
            Err(reason) => reasons.push(reason),
        }
    }
    Err(Reasons::new(reasons).unwrap_or_else(|| not_signed(key).into()))
}

fn bounded(signatures: &[ImageSignature<'_>]) -> Result<(), Reason> {
    if signatures.len() <= MAX_SIGNATURES {
        return Ok(());
    }
    let message = format!("the image has {} signatures; {MAX_SIGNATURES} are looked at", signatures.len());
    Err(Reason::new(Code::LimitExceeded, message))
}

/// Whether `signature_base64` is `key`'s over the simple signing `payload`, and this is about the manifest with
/// `manifest_digest`. The payload's `docker-reference` is not judged, as cosign does not judge it: a mirror has another.
pub fn verify_simple_signing(
    payload: &[u8],
    signature_base64: &str,
    manifest_digest: Sha256,
    key: &PublicKey,
) -> Result<(), Reason> {
    capped("payload", payload, MAX_BYTES)?;
    check_signature(key, payload, signature_base64)?;
    let critical = SimpleSigning::parse(payload)?.critical;
    expect("payload's type", &critical.signature_type, SIMPLE_SIGNING_TYPE)?;
    if critical.image.docker_manifest_digest != manifest_digest {
        return Err(other_image(manifest_digest));
    }
    Ok(())
}

/// Whether the Sigstore bundle v0.3 holds `key`'s signature for `manifest`: a statement about its digest, or a signature
/// over its own bytes.
pub fn verify_bundle(bundle: &[u8], manifest: &[u8], key: &PublicKey) -> Result<(), Reason> {
    let read = read_bundle(bundle)?;
    if let Some(envelope) = &read.dsse_envelope {
        return verify_envelope(envelope, Sha256::of(manifest), key);
    }
    let message = Message::new(manifest);
    let line = bundle::from_bundle(bundle, message.digest())
        .map_err(|error| Reason::new(Code::BadSignatureLine, format!("the bundle {error}")))?;
    if key.verifies(&message, &line) { Ok(()) } else { Err(not_signed(key)) }
}

/// [`verify_bundle`] for one who has the manifest's digest alone: a signature over the manifest's bytes is refused.
pub fn verify_statement_bundle(bundle: &[u8], manifest_digest: Sha256, key: &PublicKey) -> Result<(), Reason> {
    let read = read_bundle(bundle)?;
    let envelope = read.dsse_envelope.as_ref().ok_or_else(|| bad("the bundle has no dsseEnvelope"))?;
    verify_envelope(envelope, manifest_digest, key)
}

/// A bundle with one of the two contents. Nothing of it is signed but what its signature is over.
fn read_bundle(bundle: &[u8]) -> Result<ImageBundle, Reason> {
    let read = ImageBundle::parse(bundle)?;
    if read.media_type != MEDIA_TYPE && read.media_type != MEDIA_TYPE_OLD_SPELLING {
        return Err(bad(format!(
            "the bundle has the mediaType `{}`; expected `{MEDIA_TYPE}`",
            shown(&read.media_type)
        )));
    }
    match (&read.dsse_envelope, &read.message_signature) {
        (Some(_), None) | (None, Some(_)) => Ok(read),
        (Some(_), Some(_)) => {
            Err(bad("the bundle has a dsseEnvelope and a messageSignature: a bundle has one of the two"))
        }
        (None, None) => Err(bad("the bundle has neither a dsseEnvelope nor a messageSignature")),
    }
}

fn verify_envelope(envelope: &Envelope, manifest_digest: Sha256, key: &PublicKey) -> Result<(), Reason> {
    // DSSE allows several; sigstore's own libraries take a bundle with one alone.
    let [signature] = envelope.signatures.as_slice() else {
        return Err(bad(format!("the envelope has {} signatures; a bundle has one", envelope.signatures.len())));
    };
    let statement = decode("envelope's payload", &envelope.payload)?;
    check_signature(key, &pae(&envelope.payload_type, &statement), &signature.sig)?;
    expect("envelope's payloadType", &envelope.payload_type, PAYLOAD_TYPE)?;
    let statement = Statement::parse(&statement)?;
    expect("statement's _type", &statement.statement_type, STATEMENT_TYPE)?;
    expect("statement's predicateType", &statement.predicate_type, PREDICATE_TYPE)?;
    let wanted = manifest_digest.hex();
    let named = |digest: &String| *digest == wanted;
    if !statement.subject.iter().any(|subject| subject.digest.get(Sha256::ALGORITHM).is_some_and(named)) {
        return Err(other_image(manifest_digest));
    }
    Ok(())
}

/// Whether `base64` is `key`'s signature over `bytes`.
fn check_signature(key: &PublicKey, bytes: &[u8], base64: &str) -> Result<(), Reason> {
    capped("signature", base64.as_bytes(), MAX_DETACHED_BYTES)?;
    let signature = decode("signature", base64)?;
    let line = SignatureLine::read(&signature, None)
        .ok_or_else(|| bad("the signature is neither ECDSA P-256 in DER nor Ed25519"))?;
    if key.verifies(&Message::new(bytes), &line) { Ok(()) } else { Err(not_signed(key)) }
}

/// Base64, wrapped or not as Go reads it, in either alphabet as DSSE demands.
fn decode(what: &str, base64: &str) -> Result<Vec<u8>, Reason> {
    let text: String = base64.chars().filter(|char| !matches!(char, '\r' | '\n')).collect();
    let decoded = STANDARD.decode(&text).or_else(|_not_standard| URL_SAFE.decode(&text));
    decoded.map_err(|_not_base64| bad(format!("the {what} is not base64")))
}

fn capped(what: &str, bytes: &[u8], cap: usize) -> Result<(), Reason> {
    if bytes.len() <= cap {
        return Ok(());
    }
    let message = format!("the {what} has {} bytes; the cap is {cap}", bytes.len());
    Err(Reason::new(Code::DocumentTooLarge, message).with_remedy(REMEDY))
}

/// A signature of another kind proves nothing about this image, whoever made it.
fn expect(what: &str, found: &str, expected: &str) -> Result<(), Reason> {
    if found == expected {
        return Ok(());
    }
    let message = format!("the {what} is `{}`; expected `{expected}`", shown(found));
    Err(Reason::new(Code::RoleMismatch, message).with_remedy(REMEDY))
}

const REMEDY: &str = "take the image's signature again, or sign the image with cosign";

fn other_image(manifest_digest: Sha256) -> Reason {
    let message = format!("the signature is for another image than the one at hand, which is {manifest_digest}");
    Reason::new(Code::DigestMismatch, message).with_remedy(REMEDY)
}

fn not_signed(key: &PublicKey) -> Reason {
    bad(format!("the signature of the image is not that of key {}", key.id()))
}

fn bad(message: impl Into<String>) -> Reason {
    Reason::new(Code::BadSignatureLine, message).with_remedy(REMEDY)
}
