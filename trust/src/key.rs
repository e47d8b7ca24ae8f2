//! Public keys: P-256 and Ed25519, and the one identity that each of them has.

use autonomy_schema::Sha256;
use autonomy_schema::root::MAX_KEY_PEM;
use ed25519_dalek::VerifyingKey as Ed25519Key;
use p256::ecdsa::VerifyingKey as P256Key;
use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use p256::pkcs8::{DecodePublicKey as _, Document, EncodePublicKey as _, LineEnding};

use crate::bundle::SignatureLine;

/// The label of a public key's PEM (RFC 7468 §13).
const LABEL: &str = "PUBLIC KEY";

/// Why a text is not a public key that can be pinned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Longer than any honest key.
    #[error("the key has {0} bytes; at most {MAX_KEY_PEM}")]
    TooLarge(usize),
    /// Not PEM with the label `PUBLIC KEY`.
    #[error("the text is not PEM with the label `PUBLIC KEY`")]
    NotPem,
    /// Another algorithm, or broken DER.
    #[error("the key is neither ECDSA P-256 nor Ed25519")]
    Algorithm,
    /// The same key in another spelling, which would have a second key id.
    #[error(
        "the key's SubjectPublicKeyInfo is not in the one form that openssl writes (uncompressed point, named curve)"
    )]
    NotCanonical,
    /// An Ed25519 point of small order, for which signatures prove nothing.
    #[error("the key is a weak Ed25519 point")]
    Weak,
}

/// The id of a key: SHA-256 of its `SubjectPublicKeyInfo` DER.
pub fn key_id(spki_der: &[u8]) -> Sha256 {
    Sha256::of(spki_der)
}

/// A public key with its id. There is one value per key: other spellings of the same key are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    algorithm: Algorithm,
    id: Sha256,
    pem: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Algorithm {
    P256(P256Key),
    Ed25519(Ed25519Key),
}

impl PublicKey {
    /// Reads a PEM `PUBLIC KEY`.
    pub fn parse_pem(pem: &str) -> Result<Self, KeyError> {
        if pem.len() > MAX_KEY_PEM {
            return Err(KeyError::TooLarge(pem.len()));
        }
        let (label, document) = Document::from_pem(pem.trim()).map_err(|_not_pem| KeyError::NotPem)?;
        if label != LABEL {
            return Err(KeyError::NotPem);
        }
        Self::from_spki(document.as_bytes())
    }

    fn from_spki(der: &[u8]) -> Result<Self, KeyError> {
        let (algorithm, canonical) = if let Ok(key) = P256Key::from_public_key_der(der) {
            (Algorithm::P256(key), key.to_public_key_der())
        } else {
            let key = Ed25519Key::from_public_key_der(der).map_err(|_other_algorithm| KeyError::Algorithm)?;
            if key.is_weak() {
                return Err(KeyError::Weak);
            }
            // A y coordinate above the field's prime would be a second spelling of the same point.
            if key.to_edwards().compress().as_bytes() != key.as_bytes() {
                return Err(KeyError::NotCanonical);
            }
            (Algorithm::Ed25519(key), key.to_public_key_der())
        };
        let canonical = canonical.map_err(|_not_encodable| KeyError::Algorithm)?;
        if canonical.as_bytes() != der {
            return Err(KeyError::NotCanonical);
        }
        let pem = canonical.to_pem(LABEL, LineEnding::LF).map_err(|_not_encodable| KeyError::Algorithm)?;
        Ok(Self { algorithm, id: key_id(der), pem })
    }

    /// SHA-256 of the `SubjectPublicKeyInfo` DER.
    pub fn id(&self) -> Sha256 {
        self.id
    }

    /// The PEM, in the one form that is written.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Whether `line` is this key's signature over `message`.
    pub(crate) fn verifies(&self, message: &Message<'_>, line: &SignatureLine) -> bool {
        match &self.algorithm {
            // High S is accepted: openssl and cosign make it, and a threshold counts keys, not signatures.
            Algorithm::P256(key) => {
                line.p256().is_some_and(|signature| key.verify_prehash(message.digest.as_bytes(), signature).is_ok())
            }
            Algorithm::Ed25519(key) => {
                line.ed25519().is_some_and(|signature| key.verify_strict(message.bytes, signature).is_ok())
            }
        }
    }
}

/// The signed bytes, hashed once however many signatures there are.
pub(crate) struct Message<'a> {
    bytes: &'a [u8],
    digest: Sha256,
}

impl<'a> Message<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, digest: Sha256::of(bytes) }
    }

    pub(crate) fn digest(&self) -> Sha256 {
        self.digest
    }
}
