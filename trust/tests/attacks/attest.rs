//! The attest key, and the receipts that it signs.

use std::collections::BTreeMap;

use autonomy_schema::bundle::Bundle;
use autonomy_schema::receipt::{Receipt, ReceiptResult};
use autonomy_schema::version::{ApiVersion, Kind};
use autonomy_schema::{Blake3, Code, Document as _, Name, Sha256, Time};
use autonomy_trust::{AttestKey, PublicKey, Receipted, Signed, bundle, verify_receipt};
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

/// A receipt of `node-a`, and the key that is known of it.
fn receipt() -> (Vec<u8>, BTreeMap<Name, PublicKey>) {
    let receipt = Receipt {
        api_version: ApiVersion::default(),
        kind: Kind::Receipt,
        node_id: Name::fixed("node-a"),
        manifest: Blake3::of(b"manifest"),
        result: ReceiptResult::Stored,
        from: None,
        boot_epoch: 0,
        counter: 1,
        time: Time::from_unix(1_795_600_000),
    };
    let public = PublicKey::parse_pem(key().public_pem()).expect("key");
    (receipt.to_canonical().expect("canonical"), BTreeMap::from([(Name::fixed("node-a"), public)]))
}

fn judged(bytes: &[u8], signatures: &str, nodes: &BTreeMap<Name, PublicKey>) -> Result<Receipted, Vec<Code>> {
    let signed = Signed { bytes, signatures: signatures.as_bytes() };
    verify_receipt(signed, nodes).map_err(|reasons| reasons.as_slice().iter().map(|reason| reason.code).collect())
}

#[test]
fn a_receipt_counts_by_the_key_of_its_node_alone() {
    let (bytes, nodes) = receipt();
    let line = key().sign_line(&bytes).expect("signed");
    assert!(matches!(judged(&bytes, &line, &nodes), Ok(Receipted::Verified(_))));
    // Who is not known is not believed, and not refused.
    assert!(matches!(judged(&bytes, &line, &BTreeMap::new()), Ok(Receipted::Unverified(_))));
    // The hint is for looking up, and no more: without it, and with a wrong one, the signature is what counts.
    let bundle: Bundle = serde_json::from_str(&line).expect("a bundle");
    assert!(matches!(judged(&bytes, &bundle.message_signature.signature, &nodes), Ok(Receipted::Verified(_))));
    let hinted =
        line.replace(&STANDARD.encode(key().id().as_bytes()), &STANDARD.encode(Sha256::of(b"other").as_bytes()));
    assert_ne!(hinted, line);
    assert!(matches!(judged(&bytes, &hinted, &nodes), Ok(Receipted::Verified(_))));
}

#[test]
fn receipts_that_are_forged_are_refused_for_what_is_wrong() {
    let (bytes, nodes) = receipt();
    let line = key().sign_line(&bytes).expect("signed");
    let signed = |bytes: &[u8]| key().sign_line(bytes).expect("signed");
    let text = String::from_utf8(bytes.clone()).expect("UTF-8");
    let other = text.replace("node-a", "node-b");
    let renamed: BTreeMap<Name, PublicKey> = nodes.values().map(|key| (Name::fixed("node-b"), key.clone())).collect();
    let stranger = SigningKey::from_slice(&[7; 32]).expect("a scalar").to_pkcs8_pem(LineEnding::LF).expect("PEM");
    let stranger = AttestKey::from_pem(&stranger).expect("a key").sign_line(&bytes).expect("signed");
    for (what, bytes, signatures, nodes, code) in [
        ("other bytes", text.replace("stored", "active"), line.clone(), &nodes, Code::BadSignatureLine),
        ("no signature", text.clone(), String::new(), &nodes, Code::BadSignatureLine),
        ("two signatures", text.clone(), format!("{line}\n{stranger}"), &nodes, Code::BadSignatureLine),
        ("a stranger's", text.clone(), stranger.clone(), &nodes, Code::BelowThreshold),
        ("in another's name", other.clone(), signed(other.as_bytes()), &nodes, Code::ScopeMismatch),
        ("under another's name", text.clone(), line.clone(), &renamed, Code::ScopeMismatch),
        ("not canonical", format!("{text} "), signed(format!("{text} ").as_bytes()), &nodes, Code::NotCanonical),
        ("too large", " ".repeat(20 << 10), signed(" ".repeat(20 << 10).as_bytes()), &nodes, Code::DocumentTooLarge),
    ] {
        assert_eq!(judged(bytes.as_bytes(), &signatures, nodes), Err(vec![code]), "{what}");
    }
}
