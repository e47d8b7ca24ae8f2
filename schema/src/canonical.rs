//! Canonical JSON (RFC 8785) with integers alone, and fingerprints over it.

use serde::Serialize;
use serde_json::Value;

use crate::digest::Blake3;

/// The largest integer that canonical JSON keeps exact (RFC 8785 §3.2.2.3, I-JSON): 2^53 - 1.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// A value cannot be written as canonical JSON.
#[derive(Debug, thiserror::Error)]
#[error("cannot write canonical JSON")]
pub struct CanonicalError(#[source] serde_json::Error);

/// The canonical bytes of `value`: keys sorted, no white space, no trailing newline.
pub fn to_bytes<T: Serialize>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    serde_json_canonicalizer::to_vec(value).map_err(CanonicalError)
}

/// The BLAKE3 over the canonical bytes of `value`.
pub fn fingerprint<T: Serialize>(value: &T) -> Result<Blake3, CanonicalError> {
    Ok(Blake3::of(&to_bytes(value)?))
}

/// Whether `bytes` are the canonical form of `value`, which was parsed from them.
pub fn is_canonical(value: &Value, bytes: &[u8]) -> bool {
    to_bytes(value).is_ok_and(|canonical| canonical == bytes)
}
