//! The node's attest key: signs receipts and evidence, deterministically (RFC 6979), so that no crate on a node's
//! path to activation needs a source of randomness.

use autonomy_schema::Sha256;
use autonomy_schema::bundle;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::{DecodePrivateKey as _, EncodePublicKey as _, LineEnding};

use crate::key::key_id;

/// Longest private key in PEM, in bytes; a P-256 key has under 300.
const MAX_PRIVATE_PEM: usize = 4096;

/// Why an attest key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AttestError {
    /// The file is not an attest key.
    #[error("the attest key is not PKCS#8 PEM of an ECDSA P-256 key")]
    NotAKey,
    /// The signature could not be made.
    #[error("cannot sign with the attest key")]
    Sign(#[source] p256::ecdsa::Error),
}

/// A P-256 private key. It is wiped when dropped, and never shown.
pub struct AttestKey {
    key: SigningKey,
    id: Sha256,
    public_pem: String,
}

impl AttestKey {
    /// Reads PKCS#8 PEM, unencrypted.
    pub fn from_pem(pem: &str) -> Result<Self, AttestError> {
        if pem.len() > MAX_PRIVATE_PEM {
            return Err(AttestError::NotAKey);
        }
        let key = SigningKey::from_pkcs8_pem(pem.trim()).map_err(|_not_a_key| AttestError::NotAKey)?;
        let public = key.verifying_key().to_public_key_der().map_err(|_not_a_key| AttestError::NotAKey)?;
        let public_pem = public.to_pem("PUBLIC KEY", LineEnding::LF).map_err(|_not_a_key| AttestError::NotAKey)?;
        Ok(Self { id: key_id(public.as_bytes()), key, public_pem })
    }

    /// The id of the public half.
    pub fn id(&self) -> Sha256 {
        self.id
    }

    /// The public half in PEM.
    pub fn public_pem(&self) -> &str {
        &self.public_pem
    }

    /// A signature line over `bytes`: a Sigstore bundle v0.3, the same for the same bytes.
    pub fn sign_line(&self, bytes: &[u8]) -> Result<String, AttestError> {
        let signature: DerSignature = self.key.try_sign(bytes).map_err(AttestError::Sign)?;
        Ok(bundle::line(signature.as_bytes(), Sha256::of(bytes), self.id, |part| STANDARD.encode(part)))
    }
}

impl std::fmt::Debug for AttestKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AttestKey").field("id", &self.id).finish_non_exhaustive()
    }
}
