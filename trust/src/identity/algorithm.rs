//! The algorithms of certificates that can be judged here: ECDSA on P-256 and P-384 with SHA-2, and Ed25519.
//!
//! Deliberately absent: RSA (no implementation without a source of randomness in its closure), SHA-1, RSA-PSS.

use autonomy_schema::root::MAX_KEY_PEM;
use ed25519_dalek::pkcs8::DecodePrivateKey as _;
use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use p256::pkcs8::{DecodePublicKey as _, Document, SecretDocument};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION, OID_PKCS1_RSASSAPSS,
    OID_PKCS1_SHA1WITHRSA, OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA,
    OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512, OID_SIG_ED25519,
};
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

/// What is supported, for messages.
pub(super) const SUPPORTED: &str = "ECDSA on P-256 or P-384 with SHA-2, and Ed25519";

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
    Ed25519(ed25519_dalek::VerifyingKey),
}

/// Why a private key cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrivateKeyError {
    #[error("is not PEM with the label `PRIVATE KEY` or `EC PRIVATE KEY`")]
    NotPem,
    #[error("is encrypted; a node starts unattended, so its key is not")]
    Encrypted,
    #[error("is no P-256, P-384 or Ed25519 key")]
    Algorithm,
}

impl Key {
    /// The key of a certificate; the error names the algorithm.
    pub(super) fn of(spki: &SubjectPublicKeyInfo<'_>) -> Result<Self, String> {
        Self::from_der(spki.raw).ok_or_else(|| {
            let oid = &spki.algorithm.algorithm;
            if *oid == OID_PKCS1_RSAENCRYPTION {
                return "RSA".to_owned();
            }
            let curve = spki.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
            match curve {
                Some(curve)
                    if *oid == OID_KEY_TYPE_EC_PUBLIC_KEY && curve != OID_EC_P256 && curve != OID_NIST_EC_P384 =>
                {
                    format!("the curve {}", curve.to_id_string())
                }
                _ => format!("algorithm {}, or a damaged key", oid.to_id_string()),
            }
        })
    }

    fn from_der(der: &[u8]) -> Option<Self> {
        if let Ok(key) = p256::ecdsa::VerifyingKey::from_public_key_der(der) {
            return Some(Self::P256(key));
        }
        if let Ok(key) = p384::ecdsa::VerifyingKey::from_public_key_der(der) {
            return Some(Self::P384(key));
        }
        let key = ed25519_dalek::VerifyingKey::from_public_key_der(der).ok()?;
        (!key.is_weak()).then_some(Self::Ed25519(key))
    }

    /// The name of the algorithm.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::P256(_) => "ECDSA P-256",
            Self::P384(_) => "ECDSA P-384",
            Self::Ed25519(_) => "Ed25519",
        }
    }

    /// Whether `signature` is this key's over `message`; the error names an algorithm that is not supported.
    pub(super) fn verifies(
        &self,
        algorithm: &AlgorithmIdentifier<'_>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<bool, String> {
        let oid = &algorithm.algorithm;
        if *oid == OID_SIG_ED25519 {
            let Self::Ed25519(key) = self else { return Ok(false) };
            let Ok(signature) = ed25519_dalek::Signature::from_slice(signature) else { return Ok(false) };
            return Ok(key.verify_strict(message, &signature).is_ok());
        }
        let digest = if *oid == OID_SIG_ECDSA_WITH_SHA256 {
            Sha256::digest(message).to_vec()
        } else if *oid == OID_SIG_ECDSA_WITH_SHA384 {
            Sha384::digest(message).to_vec()
        } else if *oid == OID_SIG_ECDSA_WITH_SHA512 {
            Sha512::digest(message).to_vec()
        } else {
            return Err(unsupported(algorithm));
        };
        Ok(match self {
            Self::P256(key) => p256::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify_prehash(&digest, &signature).is_ok()),
            Self::P384(key) => p384::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify_prehash(&digest, &signature).is_ok()),
            Self::Ed25519(_) => false,
        })
    }
}

/// The public half of a private key in PEM.
pub(super) fn private_pem(pem: &[u8]) -> Result<Key, PrivateKeyError> {
    const SEC1: &str = "EC PRIVATE KEY";
    let text = std::str::from_utf8(pem).map_err(|_binary| PrivateKeyError::NotPem)?;
    // openssl ecparam writes the curve in a block before the key.
    let start = text.find("-----BEGIN EC PRIVATE KEY-----").unwrap_or_default();
    let (label, document) =
        SecretDocument::from_pem(text[start..].trim()).map_err(|_not_pem| PrivateKeyError::NotPem)?;
    let der = document.as_bytes();
    match label {
        SEC1 => {
            if let Ok(key) = p256::SecretKey::from_sec1_der(der) {
                return Ok(Key::P256(key.public_key().into()));
            }
            let key = p384::SecretKey::from_sec1_der(der).map_err(|_other| PrivateKeyError::Algorithm)?;
            Ok(Key::P384(key.public_key().into()))
        }
        "PRIVATE KEY" => {
            if let Ok(key) = p256::SecretKey::from_pkcs8_der(der) {
                return Ok(Key::P256(key.public_key().into()));
            }
            if let Ok(key) = p384::SecretKey::from_pkcs8_der(der) {
                return Ok(Key::P384(key.public_key().into()));
            }
            let key = ed25519_dalek::SigningKey::from_pkcs8_der(der).map_err(|_other| PrivateKeyError::Algorithm)?;
            Ok(Key::Ed25519(key.verifying_key()))
        }
        "ENCRYPTED PRIVATE KEY" => Err(PrivateKeyError::Encrypted),
        "RSA PRIVATE KEY" => Err(PrivateKeyError::Algorithm),
        _ => Err(PrivateKeyError::NotPem),
    }
}

/// A public key in PEM.
pub(super) fn public_pem(pem: &[u8]) -> Option<Key> {
    let text = std::str::from_utf8(pem).ok().filter(|text| text.len() <= MAX_KEY_PEM)?;
    let (label, document) = Document::from_pem(text.trim()).ok()?;
    (label == "PUBLIC KEY").then(|| Key::from_der(document.as_bytes())).flatten()
}

fn unsupported(algorithm: &AlgorithmIdentifier<'_>) -> String {
    let oid = &algorithm.algorithm;
    let known = [
        (OID_PKCS1_SHA1WITHRSA, "RSA with SHA-1"),
        (OID_PKCS1_SHA256WITHRSA, "RSA with SHA-256"),
        (OID_PKCS1_SHA384WITHRSA, "RSA with SHA-384"),
        (OID_PKCS1_SHA512WITHRSA, "RSA with SHA-512"),
        (OID_PKCS1_RSASSAPSS, "RSA-PSS"),
    ];
    known
        .iter()
        .find(|(known, _)| known == oid)
        .map_or_else(|| format!("algorithm {}", oid.to_id_string()), |(_, name)| (*name).to_owned())
}
