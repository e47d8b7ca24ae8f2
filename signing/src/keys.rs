//! Key files: what cosign writes and reads (PEM around JSON around scrypt and secretbox around PKCS#8).

use autonomy_schema::Sha256;
use p256::pkcs8::{Document, SubjectPublicKeyInfoRef};
use sigstore::crypto::signing_key::ecdsa::EllipticCurve;
use sigstore::crypto::signing_key::ecdsa::ec::EcdsaKeys;
use sigstore::crypto::signing_key::ed25519::Ed25519Keys;
use sigstore::crypto::signing_key::{COSIGN_PRIVATE_KEY_PEM_LABEL, SIGSTORE_PRIVATE_KEY_PEM_LABEL};
use sigstore::errors::SigstoreError;
use zeroize::Zeroizing;

/// Longest key file in bytes; cosign's have under 700.
pub(crate) const MAX_KEY_FILE: usize = 16 << 10;
/// The label of a public key's PEM.
const PUBLIC_LABEL: &str = "PUBLIC KEY";

/// Why a key cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Longer than any honest key file.
    #[error("the key file has {0} bytes; at most {MAX_KEY_FILE}")]
    TooLarge(usize),
    /// Not a key file.
    #[error("the file is not a key: {0}")]
    Malformed(&'static str),
    /// A private key without a password around it.
    #[error("the private key is not encrypted; expected `{COSIGN_PRIVATE_KEY_PEM_LABEL}`")]
    NotEncrypted,
    /// The password does not open the file.
    #[error("wrong password for the private key")]
    WrongPassword,
    /// Neither P-256 nor Ed25519.
    #[error("the key is neither ECDSA P-256 nor Ed25519")]
    Algorithm,
    /// The key could not be made or opened for another cause.
    #[error("cannot {action}")]
    Failed {
        /// What was tried.
        action: &'static str,
        /// What the library said.
        #[source]
        source: Box<SigstoreError>,
    },
}

/// For `map_err`: names what was tried.
pub(crate) fn failed(action: &'static str) -> impl FnOnce(SigstoreError) -> KeyError {
    move |source| KeyError::Failed { action, source: Box::new(source) }
}

/// What a key signs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256: what every tool around cosign understands.
    #[default]
    EcdsaP256,
    /// Pure Ed25519.
    Ed25519,
}

/// A new signer's key pair.
pub struct KeyPair {
    /// `ENCRYPTED COSIGN PRIVATE KEY`.
    pub private_pem: Zeroizing<String>,
    /// `PUBLIC KEY`.
    pub public_pem: String,
}

/// A new node's attest key pair. The private half is not encrypted: the node signs unattended.
pub struct AttestPair {
    /// PKCS#8 `PRIVATE KEY`, P-256.
    pub private_pem: Zeroizing<String>,
    /// `PUBLIC KEY`.
    pub public_pem: String,
}

/// Makes a P-256 key pair, its private half encrypted with `password`.
pub fn generate(password: &[u8]) -> Result<KeyPair, KeyError> {
    generate_with(Algorithm::EcdsaP256, password)
}

/// Makes a key pair, its private half encrypted with `password`.
pub fn generate_with(algorithm: Algorithm, password: &[u8]) -> Result<KeyPair, KeyError> {
    let keys = match algorithm {
        Algorithm::EcdsaP256 => Keys::P256(EcdsaKeys::new(EllipticCurve::P256).map_err(failed("make a P-256 key"))?),
        Algorithm::Ed25519 => Keys::Ed25519(Ed25519Keys::new().map_err(failed("make an Ed25519 key"))?),
    };
    let pem = keys.pair().private_key_to_encrypted_pem(password).map_err(failed("encrypt the private key"))?;
    // Stock cosign knows only its own label; the content is the same.
    let private_pem = Zeroizing::new(unix(&pem).replace(SIGSTORE_PRIVATE_KEY_PEM_LABEL, COSIGN_PRIVATE_KEY_PEM_LABEL));
    Ok(KeyPair { private_pem, public_pem: keys.public_pem()? })
}

/// Makes a node's attest key pair.
pub fn generate_attest() -> Result<AttestPair, KeyError> {
    let keys = Keys::P256(EcdsaKeys::new(EllipticCurve::P256).map_err(failed("make an attest key"))?);
    let pem = keys.pair().private_key_to_pem().map_err(failed("write the attest key"))?;
    Ok(AttestPair { private_pem: Zeroizing::new(unix(&pem)), public_pem: keys.public_pem()? })
}

/// The id of a public key in PEM: SHA-256 of its `SubjectPublicKeyInfo` DER.
pub fn public_key_id(pem: &str) -> Result<Sha256, KeyError> {
    if pem.len() > MAX_KEY_FILE {
        return Err(KeyError::TooLarge(pem.len()));
    }
    let (label, document) = Document::from_pem(pem.trim()).map_err(|_not_pem| KeyError::Malformed("it is not PEM"))?;
    if label != PUBLIC_LABEL {
        return Err(KeyError::Malformed("its label is not `PUBLIC KEY`"));
    }
    SubjectPublicKeyInfoRef::try_from(document.as_bytes())
        .map_err(|_not_spki| KeyError::Malformed("it holds no SubjectPublicKeyInfo"))?;
    Ok(Sha256::of(document.as_bytes()))
}

/// PEM with plain newlines, as openssl and cosign write it.
fn unix(pem: &str) -> String {
    pem.replace("\r\n", "\n")
}

/// A private key of either algorithm.
pub(crate) enum Keys {
    P256(EcdsaKeys),
    Ed25519(Ed25519Keys),
}

impl Keys {
    pub(crate) fn pair(&self) -> &dyn sigstore::crypto::signing_key::KeyPair {
        match self {
            Self::P256(keys) => keys,
            Self::Ed25519(keys) => keys,
        }
    }

    pub(crate) fn public_pem(&self) -> Result<String, KeyError> {
        Ok(unix(&self.pair().public_key_to_pem().map_err(failed("write the public key"))?))
    }
}
