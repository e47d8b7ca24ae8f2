//! The attest key.

use autonomy_schema::Sha256;
use autonomy_schema::bundle::Bundle;
use autonomy_trust::{AttestKey, PublicKey, bundle};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::{EncodePrivateKey as _, LineEnding};

/// RFC 6979, appendix A.2.5: the key, and r and s of the message "sample" with SHA-256.
const SECRET: &str = "sha256:c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721";
const R: &str = "sha256:efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716";
const S: &str = "sha256:f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8";

fn bytes(hex: &str) -> [u8; 32] {
    *hex.parse::<Sha256>().expect("32 bytes").as_bytes()
}

fn key() -> AttestKey {
    let secret = SigningKey::from_slice(&bytes(SECRET)).expect("a scalar");
    AttestKey::from_pem(&secret.to_pkcs8_pem(LineEnding::LF).expect("PEM")).expect("a key")
}

#[test]
fn signing_is_deterministic_and_follows_rfc_6979() {
    let line = key().sign_line(b"sample").expect("signed");
    assert_eq!(line, key().sign_line(b"sample").expect("signed"));
    let bundle: Bundle = serde_json::from_str(&line).expect("a bundle");
    let der = STANDARD.decode(bundle.message_signature.signature).expect("base64");
    let signature = Signature::from_der(&der).expect("DER");
    assert_eq!(signature.to_bytes()[..32], bytes(R));
    assert_eq!(signature.to_bytes()[32..], bytes(S));
}

#[test]
fn the_line_carries_the_key_and_the_digest() {
    let key = key();
    let line = bundle::parse_line(key.sign_line(b"evidence").expect("signed").as_bytes(), Sha256::of(b"evidence"));
    assert_eq!(line.expect("a line").hint(), Some(key.id()));
    assert_eq!(PublicKey::parse_pem(key.public_pem()).map(|public| public.id()), Ok(key.id()));
}

#[test]
fn what_is_no_attest_key_is_refused_and_none_is_shown() {
    for text in ["", "hello", key().public_pem(), &"A".repeat(5000)] {
        assert!(AttestKey::from_pem(text).is_err(), "{text}");
    }
    let shown = format!("{:?}", key());
    assert!(!shown.contains("c9afa9"), "{shown}");
}
