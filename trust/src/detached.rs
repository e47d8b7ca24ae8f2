//! A signature that was made elsewhere, by a token, a key service or openssl: checked, then put into a line.

use autonomy_schema::{Sha256, bundle};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::Signature as P256Signature;

use crate::bundle::SignatureLine;
use crate::key::{Message, PublicKey};

/// Longest signature file in bytes: base64 of the longest signature has 96, wrapped or not.
pub const MAX_DETACHED_BYTES: usize = 1024;

/// Why bytes are not a signature that may be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DetachedError {
    /// Longer than [`MAX_DETACHED_BYTES`].
    #[error("the signature has {0} bytes; at most {MAX_DETACHED_BYTES}")]
    TooLarge(usize),
    /// No reading of the bytes is a signature at all.
    #[error("the file is no signature: neither DER nor 64 bytes, raw or in base64")]
    NotASignature,
    /// It does not verify.
    #[error("the signature is not that of key {key} over these bytes")]
    Wrong {
        /// The key that was named.
        key: Sha256,
    },
}

impl PublicKey {
    /// The line for `.sigstore.jsonl`, without its newline, that holds `signature`, if it is this key's over `bytes`.
    ///
    /// Read are DER or `r ‖ s` (what a token's `CKM_ECDSA` gives) for P-256 and 64 bytes for Ed25519, each raw or in
    /// base64. The readings need no telling apart: the one that verifies is the signature, and P-256 is written as DER.
    pub fn detached_line(&self, bytes: &[u8], signature: &[u8]) -> Result<String, DetachedError> {
        if signature.len() > MAX_DETACHED_BYTES {
            return Err(DetachedError::TooLarge(signature.len()));
        }
        let message = Message::new(bytes);
        let mut failure = DetachedError::NotASignature;
        for reading in readings(signature) {
            let Some(line) = SignatureLine::read(&reading, None) else { continue };
            if self.verifies(&message, &line) {
                return Ok(bundle::line(&reading, message.digest(), self.id(), |part| STANDARD.encode(part)));
            }
            failure = DetachedError::Wrong { key: self.id() };
        }
        Err(failure)
    }
}

/// What a signature file may mean, in the forms that a line holds.
fn readings(file: &[u8]) -> Vec<Vec<u8>> {
    let text: Vec<u8> = file.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let mut readings = vec![file.to_vec()];
    readings.extend(STANDARD.decode(text));
    let fixed: Vec<_> = readings.iter().filter_map(|bytes| P256Signature::from_slice(bytes).ok()).collect();
    readings.extend(fixed.iter().map(|signature| signature.to_der().as_bytes().to_vec()));
    readings
}
