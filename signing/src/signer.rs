//! A signer: an opened private key.

use autonomy_schema::{Sha256, bundle};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::pkcs8::der::pem;
use serde::Deserialize;
use sigstore::crypto::signing_key::ecdsa::ec::{EcdsaKeys, EcdsaSigner};
use sigstore::crypto::signing_key::ed25519::{Ed25519Keys, Ed25519Signer};
use sigstore::crypto::signing_key::{
    COSIGN_PRIVATE_KEY_PEM_LABEL, PRIVATE_KEY_PEM_LABEL, SIGSTORE_PRIVATE_KEY_PEM_LABEL, Signer as _,
};
use sigstore::errors::SigstoreError;

use crate::keys::{KeyError, Keys, MAX_KEY_FILE, failed};

/// Length of a secretbox nonce; the library panics on any other.
const NONCE_BYTES: usize = 24;

/// A signature could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot sign with key {key}")]
pub struct SignError {
    key: Sha256,
    #[source]
    source: Box<SigstoreError>,
}

/// An opened private key. It is wiped when dropped, and never shown.
pub struct Signer {
    signing: Signing,
    id: Sha256,
    public_pem: String,
}

enum Signing {
    P256(EcdsaSigner),
    Ed25519(Ed25519Signer),
}

impl Signer {
    /// Opens an encrypted key file of cosign or sigstore with `password`.
    pub fn from_encrypted_pem(pem: &str, password: &[u8]) -> Result<Self, KeyError> {
        check_shape(pem)?;
        let keys = match EcdsaKeys::from_encrypted_pem(pem.as_bytes(), password) {
            Ok(keys) => Keys::P256(keys),
            // The library reports a failed opening with the variant for sealing.
            Err(SigstoreError::PrivateKeyEncryptError(_)) => return Err(KeyError::WrongPassword),
            Err(not_ecdsa) => match Ed25519Keys::from_encrypted_pem(pem.as_bytes(), password) {
                Ok(keys) => Keys::Ed25519(keys),
                Err(_not_ed25519) => return Err(failed("open the private key")(not_ecdsa)),
            },
        };
        Self::new(&keys)
    }

    fn new(keys: &Keys) -> Result<Self, KeyError> {
        let spki = keys.pair().public_key_to_der().map_err(failed("read the public key"))?;
        let signing = match keys {
            Keys::P256(keys) => {
                let signer = EcdsaSigner::from_ecdsa_keys(keys).map_err(|_other_curve| KeyError::Algorithm)?;
                Signing::P256(signer)
            }
            Keys::Ed25519(keys) => {
                Signing::Ed25519(Ed25519Signer::from_ed25519_keys(keys).map_err(failed("use the private key"))?)
            }
        };
        Ok(Self { signing, id: Sha256::of(&spki), public_pem: keys.public_pem()? })
    }

    /// The id of the public half.
    pub fn key_id(&self) -> Sha256 {
        self.id
    }

    /// The public half in PEM.
    pub fn public_pem(&self) -> &str {
        &self.public_pem
    }

    /// A line for `.sigstore.jsonl`, without its newline: a Sigstore bundle v0.3 over `bytes`. ECDSA signatures
    /// differ from one call to the next; [`crate::add_line`] keeps one of each key.
    pub fn sign_line(&self, bytes: &[u8]) -> Result<String, SignError> {
        Ok(bundle::line(&self.sign(bytes)?, Sha256::of(bytes), self.id, |part| STANDARD.encode(part)))
    }

    /// The signature alone: DER for P-256, 64 bytes for Ed25519.
    pub(crate) fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, SignError> {
        let signature = match &self.signing {
            Signing::P256(signer) => signer.sign(bytes),
            Signing::Ed25519(signer) => signer.sign(bytes),
        };
        signature.map_err(|source| SignError { key: self.id, source: Box::new(source) })
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Checks what the library takes for granted, so that a damaged file is a named error.
fn check_shape(text: &str) -> Result<(), KeyError> {
    #[derive(Deserialize)]
    struct Sealed {
        cipher: Cipher,
    }
    #[derive(Deserialize)]
    struct Cipher {
        nonce: String,
    }
    if text.len() > MAX_KEY_FILE {
        return Err(KeyError::TooLarge(text.len()));
    }
    let (label, sealed) =
        pem::decode_vec(text.trim().as_bytes()).map_err(|_not_pem| KeyError::Malformed("it is not PEM"))?;
    match label {
        COSIGN_PRIVATE_KEY_PEM_LABEL | SIGSTORE_PRIVATE_KEY_PEM_LABEL => {}
        PRIVATE_KEY_PEM_LABEL => return Err(KeyError::NotEncrypted),
        _ => return Err(KeyError::Malformed("its label is not that of an encrypted private key")),
    }
    let sealed: Sealed = serde_json::from_slice(&sealed)
        .map_err(|_not_sealed| KeyError::Malformed("it holds no scrypt and secretbox data"))?;
    match STANDARD.decode(sealed.cipher.nonce) {
        Ok(nonce) if nonce.len() == NONCE_BYTES => Ok(()),
        _ => Err(KeyError::Malformed("its nonce has the wrong length")),
    }
}
