//! Reading `.sigstore.jsonl`: each line a Sigstore bundle v0.3 as `cosign sign-blob --bundle` writes it, or a bare
//! base64 signature as `cosign sign-blob` prints it. Nothing here decides trust; it only finds signatures.

use std::collections::BTreeSet;

use autonomy_schema::bundle::{Bundle, DIGEST_ALGORITHM, MEDIA_TYPE};
use autonomy_schema::set::MAX_SIGNATURES_BYTES;
use autonomy_schema::{Code, Reason, Sha256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signature as Ed25519Signature;
use p256::ecdsa::Signature as P256Signature;

/// Most lines that are read: one for each key that a trust root can hold.
pub const MAX_LINES: usize = 256;
/// Longest line in bytes: a bundle has about 400, with transparency log entries about 8 KiB.
pub const MAX_LINE_BYTES: usize = 16 << 10;
/// The media type as bundles before the `.v0.3` spelling carry it.
pub(crate) const MEDIA_TYPE_OLD_SPELLING: &str = "application/vnd.dev.sigstore.bundle+json;version=0.3";

/// Why a line holds no signature over the bytes at hand.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// Longer than [`MAX_LINE_BYTES`].
    #[error("has {0} bytes; at most {MAX_LINE_BYTES}")]
    TooLong(usize),
    /// Neither a JSON object of the right shape nor base64.
    #[error("is not a Sigstore bundle with a messageSignature: {0}")]
    NotABundle(#[source] serde_json::Error),
    /// A bundle of another version.
    #[error("has the mediaType `{0}`; expected `{MEDIA_TYPE}`")]
    MediaType(String),
    /// A bundle with a second payload.
    #[error("has a dsseEnvelope beside its messageSignature: a bundle has one of the two")]
    TwoPayloads,
    /// A message digest that is not SHA-256.
    #[error("has the messageDigest algorithm `{0}`; expected `{DIGEST_ALGORITHM}`")]
    Algorithm(String),
    /// The field is not base64.
    #[error("has a {0} that is not base64")]
    NotBase64(&'static str),
    /// A signature over other bytes.
    #[error("has a messageDigest that is not the SHA-256 of the bytes at hand, which is {0}")]
    OtherBytes(Sha256),
    /// The bytes cannot be a signature by any algorithm that is read.
    #[error("holds neither an ECDSA P-256 signature in DER nor an Ed25519 signature")]
    NotASignature,
}

/// One signature, not yet checked against any key.
#[derive(Debug, Clone)]
pub struct SignatureLine {
    hint: Option<Sha256>,
    p256: Option<P256Signature>,
    ed25519: Option<Ed25519Signature>,
}

impl SignatureLine {
    /// The bytes of a signature as a line holds them, by whichever algorithm; `None` when they are none.
    pub(crate) fn read(signature: &[u8], hint: Option<Sha256>) -> Option<Self> {
        // A DER signature of 64 bytes cannot be told from Ed25519 by its length, so both readings are kept.
        let p256 = P256Signature::from_der(signature).ok();
        let ed25519 = <[u8; 64]>::try_from(signature).ok().map(|bytes| Ed25519Signature::from_bytes(&bytes));
        (p256.is_some() || ed25519.is_some()).then_some(Self { hint, p256, ed25519 })
    }

    /// The key that the line claims to be from: where to look first, never a proof.
    pub fn hint(&self) -> Option<Sha256> {
        self.hint
    }

    pub(crate) fn p256(&self) -> Option<&P256Signature> {
        self.p256.as_ref()
    }

    pub(crate) fn ed25519(&self) -> Option<&Ed25519Signature> {
        self.ed25519.as_ref()
    }
}

/// Reads one line, without its newline, as a signature over bytes whose SHA-256 is `message`.
pub fn parse_line(line: &[u8], message: Sha256) -> Result<SignatureLine, LineError> {
    if line.len() > MAX_LINE_BYTES {
        return Err(LineError::TooLong(line.len()));
    }
    if line.starts_with(b"{") {
        return from_bundle(line, message);
    }
    SignatureLine::read(&decode_bare(line)?, None).ok_or(LineError::NotASignature)
}

fn decode_bare(line: &[u8]) -> Result<Vec<u8>, LineError> {
    STANDARD.decode(line).map_err(|_not_base64| LineError::NotBase64("bare signature"))
}

/// Reads a bundle, on one line or not, as a signature over bytes whose SHA-256 is `message`.
pub(crate) fn from_bundle(line: &[u8], message: Sha256) -> Result<SignatureLine, LineError> {
    let bundle: Bundle = serde_json::from_slice(line).map_err(LineError::NotABundle)?;
    if bundle.media_type != MEDIA_TYPE && bundle.media_type != MEDIA_TYPE_OLD_SPELLING {
        return Err(LineError::MediaType(shown(&bundle.media_type)));
    }
    if bundle.dsse_envelope.is_some() {
        return Err(LineError::TwoPayloads);
    }
    let signature = bundle.message_signature;
    if signature.message_digest.algorithm != DIGEST_ALGORITHM {
        return Err(LineError::Algorithm(shown(&signature.message_digest.algorithm)));
    }
    let digest = STANDARD
        .decode(&signature.message_digest.digest)
        .map_err(|_not_base64| LineError::NotBase64("messageDigest"))?;
    if digest != message.as_bytes() {
        return Err(LineError::OtherBytes(message));
    }
    let bytes = STANDARD.decode(&signature.signature).map_err(|_not_base64| LineError::NotBase64("signature"))?;
    let hint = bundle.verification_material.public_key.and_then(|key| hinted(&key.hint));
    SignatureLine::read(&bytes, hint).ok_or(LineError::NotASignature)
}

/// A hint that is not a key id is no hint; other tools may write what they like there.
fn hinted(hint: &str) -> Option<Sha256> {
    let bytes = STANDARD.decode(hint).ok()?;
    <[u8; 32]>::try_from(bytes.as_slice()).ok().map(Sha256::from_bytes)
}

pub(crate) fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_default).collect()
}

/// Reads all lines. A line that cannot be read is a reason with its number, even when the others would suffice:
/// a set is either whole or refused. Empty lines are skipped.
pub fn parse(signatures: &[u8], message: Sha256) -> (Vec<SignatureLine>, Vec<Reason>) {
    let mut lines = Vec::new();
    let mut reasons = Vec::new();
    if signatures.len() as u64 > MAX_SIGNATURES_BYTES {
        let message = format!("the signatures have {} bytes; the cap is {MAX_SIGNATURES_BYTES}", signatures.len());
        return (lines, vec![Reason::new(Code::DocumentTooLarge, message)]);
    }
    for (at, (line, number)) in filled(signatures).enumerate() {
        if at == MAX_LINES {
            let message = format!("there are more than {MAX_LINES} signature lines");
            reasons.push(Reason::new(Code::LimitExceeded, message).with_remedy("keep one line for each signer"));
            break;
        }
        match parse_line(line, message) {
            Ok(line) => lines.push(line),
            Err(error) => reasons.push(Reason::new(Code::BadSignatureLine, format!("signature line {number} {error}"))),
        }
    }
    (lines, reasons)
}

/// The lines that are not empty, with their numbers in the file, from 1.
fn filled(signatures: &[u8]) -> impl Iterator<Item = (&[u8], usize)> {
    let numbered = signatures.split(|byte| *byte == b'\n').zip(1_usize..);
    numbered.map(|(line, number)| (line.trim_ascii(), number)).filter(|(line, _)| !line.is_empty())
}

/// The file with these lines alone, by their number among those that are not empty, from 0.
pub(crate) fn only(signatures: &[u8], lines: &BTreeSet<usize>) -> Vec<u8> {
    let kept = filled(signatures).enumerate().filter(|(at, _)| lines.contains(at));
    kept.flat_map(|(_, (line, _))| [line, b"\n"].concat()).collect()
}
