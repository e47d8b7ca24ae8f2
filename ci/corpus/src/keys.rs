//! Keys from their names. Whoever has the name has the key: they are worth nothing, and say so.

use autonomy_schema::{Sha256, bundle};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_secretbox::aead::{Aead as _, KeyInit as _};
use crypto_secretbox::{Nonce, XSalsa20Poly1305};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::signature::hazmat::RandomizedPrehashSigner as _;
use p256::ecdsa::signature::rand_core::{TryCryptoRng, TryRng};
use p256::ecdsa::{DerSignature, Signature};
use p256::pkcs8::{Document, EncodePrivateKey as _, EncodePublicKey as _};
use serde_json::json;
use sha2::Digest as _;

use crate::Made;

/// What every secret of the corpus is derived for.
const PURPOSE: &str = "autonomy hostile corpus: keys that are worth nothing";
/// The password of the key files.
pub(crate) const PASSWORD: &str = "hostile";
/// cosign's scrypt parameters: N is two to the power of this.
const SCRYPT_LOG_N: u8 = 15;

#[derive(Clone)]
enum Secret {
    P256(p256::ecdsa::SigningKey),
    Ed25519(ed25519_dalek::SigningKey),
}

/// A key pair.
#[derive(Clone)]
pub(crate) struct Key {
    name: &'static str,
    secret: Secret,
    spki: Document,
}

impl Key {
    /// The P-256 key of this name.
    pub(crate) fn p256(name: &'static str) -> Made<Self> {
        let key = p256::ecdsa::SigningKey::from_slice(&blake3::derive_key(PURPOSE, name.as_bytes()))?;
        let spki = key.verifying_key().to_public_key_der()?;
        Ok(Self { name, secret: Secret::P256(key), spki })
    }

    /// The Ed25519 key of this name.
    pub(crate) fn ed25519(name: &'static str) -> Made<Self> {
        let key = ed25519_dalek::SigningKey::from_bytes(&blake3::derive_key(PURPOSE, name.as_bytes()));
        let spki = key.verifying_key().to_public_key_der()?;
        Ok(Self { name, secret: Secret::Ed25519(key), spki })
    }

    /// Its name, which is the name of its files.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// SHA-256 of the `SubjectPublicKeyInfo` DER.
    pub(crate) fn id(&self) -> Sha256 {
        Sha256::of(self.spki.as_bytes())
    }

    /// The `SubjectPublicKeyInfo` DER.
    pub(crate) fn spki(&self) -> &[u8] {
        self.spki.as_bytes()
    }

    /// The public half.
    pub(crate) fn public_pem(&self) -> String {
        pem("PUBLIC KEY", self.spki())
    }

    /// The public point of a P-256 key, compressed: a spelling that openssl reads, and that gives another id.
    pub(crate) fn compressed_spki(&self) -> Made<Vec<u8>> {
        // The head of a SubjectPublicKeyInfo of P-256 up to the length of its bit string.
        const HEAD: [u8; 23] = [
            0x30, 0x39, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
            0xce, 0x3d, 0x03, 0x01, 0x07,
        ];
        let point = self.p256_key()?.verifying_key().to_sec1_point(true);
        Ok([&HEAD[..], &[0x03, 0x22, 0x00], point.as_bytes()].concat())
    }

    /// The private half in cosign's encrypted form, as `autonomy sign --key` reads it; salt and nonce come from the
    /// name.
    pub(crate) fn private_pem(&self) -> Made<String> {
        let pkcs8 = match &self.secret {
            Secret::P256(key) => key.to_pkcs8_der()?,
            Secret::Ed25519(key) => key.to_pkcs8_der()?,
        };
        let salt = blake3::derive_key("autonomy hostile corpus: salt", self.name.as_bytes());
        let nonce = blake3::derive_key("autonomy hostile corpus: nonce", self.name.as_bytes());
        let mut sealing = [0; 32];
        scrypt::scrypt(PASSWORD.as_bytes(), &salt, &scrypt::Params::new(SCRYPT_LOG_N, 8, 1)?, &mut sealing)?;
        let nonce = &nonce[..24];
        let cipher = XSalsa20Poly1305::new(&sealing.into());
        let sealed = cipher.encrypt(&Nonce::clone_from_slice(nonce), pkcs8.as_bytes()).map_err(|_sealing| "sealing")?;
        let text = json!({
            "kdf": {
                "name": "scrypt", "params": { "N": 1 << SCRYPT_LOG_N, "r": 8, "p": 1 }, "salt": STANDARD.encode(salt),
            },
            "cipher": { "name": "nacl/secretbox", "nonce": STANDARD.encode(nonce) },
            "ciphertext": STANDARD.encode(sealed),
        });
        Ok(pem("ENCRYPTED COSIGN PRIVATE KEY", text.to_string().as_bytes()))
    }

    /// The signature over `bytes`, always the same (RFC 6979, RFC 8032).
    pub(crate) fn sign(&self, bytes: &[u8]) -> Made<Vec<u8>> {
        match &self.secret {
            Secret::P256(_) => Ok(self.ecdsa(bytes)?.to_der().as_bytes().to_vec()),
            Secret::Ed25519(key) => Ok(key.sign(bytes).to_bytes().to_vec()),
        }
    }

    /// The P-256 signature over `bytes`.
    pub(crate) fn ecdsa(&self, bytes: &[u8]) -> Made<Signature> {
        Ok(self.p256_key()?.sign(bytes))
    }

    /// Another P-256 signature over the same bytes, with another nonce.
    pub(crate) fn ecdsa_again(&self, bytes: &[u8]) -> Made<Signature> {
        Ok(self.p256_key()?.sign_prehash_with_rng(&mut Salt, &sha2::Sha256::digest(bytes))?)
    }

    fn p256_key(&self) -> Made<&p256::ecdsa::SigningKey> {
        match &self.secret {
            Secret::P256(key) => Ok(key),
            Secret::Ed25519(_) => Err("not a P-256 key".into()),
        }
    }

    /// The line that `autonomy sign` and cosign write.
    pub(crate) fn line(&self, bytes: &[u8]) -> Made<String> {
        Ok(line(&self.sign(bytes)?, bytes, self.id()))
    }

    /// The bare base64 signature that `cosign sign-blob` prints.
    pub(crate) fn bare(&self, bytes: &[u8]) -> Made<String> {
        Ok(STANDARD.encode(self.sign(bytes)?))
    }
}

/// What takes the place of randomness where a second nonce is wanted: always the same.
struct Salt;

impl TryRng for Salt {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(0x5a5a_5a5a)
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(0x5a5a_5a5a_5a5a_5a5a)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        bytes.fill(0x5a);
        Ok(())
    }
}

// It is nothing of the kind, and the keys are worth nothing.
impl TryCryptoRng for Salt {}

/// A bundle over `bytes` with this signature, whosever it is.
pub(crate) fn line(signature: &[u8], bytes: &[u8], hint: Sha256) -> String {
    bundle::line(signature, Sha256::of(bytes), hint, |part| STANDARD.encode(part))
}

/// The other signature that holds wherever this one does: (r, n-s).
pub(crate) fn twin(signature: &Signature) -> Made<DerSignature> {
    let (r, s) = signature.split_scalars();
    Ok(Signature::from_scalars(r, -s)?.to_der())
}

/// The one of both twins whose s is high, as openssl writes it half of the time.
pub(crate) fn high_s(signature: &Signature) -> Made<DerSignature> {
    if signature.normalize_s() == *signature { twin(signature) } else { Ok(signature.to_der()) }
}

/// PEM with lines of 64 characters.
pub(crate) fn pem(label: &'static str, bytes: &[u8]) -> String {
    let text = STANDARD.encode(bytes);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
