//! Key files, signatures and bundles that others published (`tests/published/README.md`), read by us.
#![expect(clippy::expect_used, reason = "a failed helper fails its test")]

use std::path::Path;
use std::process::Command;

use autonomy_schema::floors::Floors;
use autonomy_schema::{Code, Sha256, canonical};
use autonomy_signing::{Algorithm, KeyError, Signer, add_line, generate_with};
use autonomy_trust::{
    AttestKey, Context, PinnedRoot, PublicKey, Purpose, Signed, bundle, verify_bundle, verify_manifest,
    verify_simple_signing, verify_statement_bundle,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

fn published(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/published").join(name)).expect("a fixture")
}

fn text(name: &str) -> String {
    String::from_utf8(published(name)).expect("text")
}

/// A pretty bundle as the one line that it would be in a `.sigstore.jsonl`.
fn line(name: &str) -> String {
    serde_json::from_slice::<Value>(&published(name)).expect("JSON").to_string()
}

fn public(name: &str) -> PublicKey {
    PublicKey::parse_pem(&text(name)).expect("a key")
}

/// Whom a node takes as the signers of `bytes`: a root that lets `key` alone sign manifests judges them.
fn judge(key: &PublicKey, bytes: &[u8], signatures: &str) -> Vec<Code> {
    let attest = autonomy_signing::generate_attest().expect("a key");
    let attest = AttestKey::from_pem(&attest.private_pem).expect("a key");
    let root = canonical::to_bytes(&json!({
        "apiVersion": "autonomy/v1", "kind": "TrustRoot", "version": 1, "expiresAt": "2030-01-01T00:00:00Z",
        "keys": {attest.id().to_string(): attest.public_pem(), key.id().to_string(): key.pem()},
        "roles": {"root": {"keys": [attest.id()], "threshold": 1}, "manifest": {"keys": [key.id()], "threshold": 1}},
        "maxSerialStep": 1000, "maxTimeStep": "365d",
    }));
    let root = root.expect("canonical");
    let own = attest.sign_line(&root).expect("signs");
    let root = PinnedRoot::first(Signed { bytes: &root, signatures: own.as_bytes() }).expect("a root");
    let clock = "2026-11-21T00:00:00Z".parse().expect("a time");
    let floors = Floors::default();
    let context =
        Context { root: &root, floors: &floors, clock, released: clock, node: None, purpose: Purpose::Recover };
    let signed = Signed { bytes, signatures: signatures.as_bytes() };
    let reasons = verify_manifest(signed, &context).expect_err("no published file is a manifest");
    reasons.into_vec().into_iter().map(|reason| reason.code).collect()
}

/// The signatures hold, and what they sign is then read, and is no manifest.
const HOLDS: [Code; 1] = [Code::Syntax];

#[test]
fn published_key_files_open_and_openssl_takes_what_they_sign() {
    for (file, password) in
        [("p256-cosign.key", "123"), ("p256-sigstore-65536.key", ""), ("ed25519-sigstore.key", "123")]
    {
        assert!(matches!(Signer::from_encrypted_pem(&text(file), b"wrong"), Err(KeyError::WrongPassword)), "{file}");
        let opened = Signer::from_encrypted_pem(&text(file), password.as_bytes()).expect(file);
        let key = PublicKey::parse_pem(opened.public_pem()).expect("a key");
        assert_eq!(key.id(), opened.key_id());
        let line = opened.sign_line(b"a document").expect("signs");
        let bundle: Value = serde_json::from_str(&line).expect("a bundle");
        let signature = bundle["messageSignature"]["signature"].as_str().expect("a signature");
        assert_eq!(key.detached_line(b"a document", signature.as_bytes()), Ok(line), "{file}");
        assert!(
            openssl_takes(opened.public_pem(), b"a document", &STANDARD.decode(signature).expect("base64")),
            "{file}"
        );
    }
}

fn openssl_takes(pem: &str, bytes: &[u8], signature: &[u8]) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, content) in [("pub.pem", pem.as_bytes()), ("document", bytes), ("sig", signature)] {
        std::fs::write(folder.path().join(name), content).expect("written");
    }
    let p256 = ["dgst", "-sha256", "-verify", "pub.pem", "-signature", "sig", "document"].as_slice();
    let ed25519 = ["pkeyutl", "-verify", "-pubin", "-inkey", "pub.pem", "-rawin", "-sigfile", "sig", "-in", "document"];
    [p256, &ed25519].into_iter().any(|arguments| {
        let openssl = Command::new("openssl").args(arguments).current_dir(folder.path()).output();
        openssl.expect("openssl is installed").status.success()
    })
}

/// What we write has the parameters that cosign 1 and 2 both read, whatever the algorithm.
#[test]
fn our_key_files_have_the_shape_of_the_published_ones() {
    let sealed = |pem: &str| -> Value {
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        serde_json::from_slice(&STANDARD.decode(body).expect("base64")).expect("JSON")
    };
    let shape = |pem: &str| {
        let mut sealed = sealed(pem);
        for secret in ["/kdf/salt", "/cipher/nonce", "/ciphertext"] {
            let value = sealed.pointer_mut(secret).expect("a field");
            *value = json!(STANDARD.decode(value.as_str().expect("text")).expect("base64").len());
        }
        sealed
    };
    let theirs = text("p256-cosign.key");
    let ours = generate_with(Algorithm::EcdsaP256, b"x").expect("a key").private_pem;
    assert_eq!(shape(&ours), shape(&theirs));
    assert_eq!(ours.lines().next(), theirs.lines().next());
    assert_eq!(sealed(&text("p256-sigstore-65536.key"))["kdf"]["params"]["N"], 65536);
}

#[test]
fn a_published_raw_signature_is_a_signer_line() {
    let (bytes, key) = (published("a.txt"), public("a.txt.good.pub"));
    let signature = text("a.txt.good.sig");
    assert_eq!(judge(&key, &bytes, &signature), HOLDS);
    assert!(key.detached_line(&bytes, signature.as_bytes()).is_ok());
    assert_eq!(judge(&public("managed-key.pub"), &bytes, &signature), [Code::BelowThreshold]);
    assert_eq!(judge(&key, &bytes[1..], &signature), [Code::BelowThreshold]);
}

#[test]
fn a_published_bundle_with_a_public_key_is_a_signer_line() {
    let (bytes, key) = (published("a.txt"), public("managed-key.pub"));
    let bundle = text("managed-key.sigstore.json");
    let hint = bundle::parse_line(bundle.as_bytes(), Sha256::of(&bytes)).expect("a line").hint();
    assert_eq!(hint, Some(key.id()), "cosign's hint is our key id");
    assert_eq!(judge(&key, &bytes, &bundle), HOLDS);
    // The raw signature of another signer beside it, and the line of our own key put in by us.
    let signer = Signer::from_encrypted_pem(&text("p256-cosign.key"), b"123").expect("a key");
    let file = add_line(
        format!("{}{bundle}\n", text("a.txt.good.sig")).as_bytes(),
        &signer.sign_line(&bytes).expect("signs"),
        signer.key_id(),
    );
    let file = String::from_utf8(file).expect("text");
    assert_eq!(file.lines().count(), 3);
    assert_eq!(judge(&key, &bytes, &file), HOLDS);
    assert_eq!(judge(&public("a.txt.good.pub"), &bytes, &bundle), [Code::BelowThreshold]);
}

#[test]
fn published_bundles_that_do_not_fit_are_refused_as_lines() {
    let bytes = published("a.txt");
    let good = line("managed-key.sigstore.json");
    let refused = [Code::BadSignatureLine, Code::BelowThreshold];
    // Over other bytes: the digest tells.
    assert_eq!(judge(&public("timestamped.pub"), &bytes, &line("timestamped.sigstore.json")), refused);
    assert_eq!(judge(&public("managed-key.pub"), &bytes[1..], &good), refused);
    // A DSSE envelope signs something else than the bytes, also where it is about them.
    assert_eq!(judge(&public("dsse.pub"), &bytes, &line("dsse.sigstore.json")), refused);
    // One bad line refuses the file although the other would suffice.
    let mixed = format!("{good}\n{}\n", line("dsse.sigstore.json"));
    assert_eq!(judge(&public("managed-key.pub"), &bytes, &mixed), [Code::BadSignatureLine]);
    // A bundle that spans lines is none.
    assert!(
        judge(&public("timestamped.pub"), &bytes, &text("timestamped.sigstore.json")).contains(&Code::BadSignatureLine)
    );
}

/// Time stamps and log entries are passed over: a node without a network cannot judge them.
#[test]
fn a_time_stamp_does_not_stand_in_the_way() {
    let key = public("timestamped.pub");
    let bundle: Value = serde_json::from_slice(&published("timestamped.sigstore.json")).expect("JSON");
    let digest = bundle["messageSignature"]["messageDigest"]["digest"].as_str().expect("a digest");
    let digest: [u8; 32] = STANDARD.decode(digest).expect("base64").try_into().expect("32 bytes");
    let line = bundle::parse_line(bundle.to_string().as_bytes(), Sha256::from_bytes(digest)).expect("a line");
    assert_eq!(line.hint(), Some(key.id()));
}

/// A simple signing payload, as sigstore's own tests have it.
#[test]
fn a_published_simple_signing_payload_is_a_signature_of_its_image() {
    let (payload, signature, key) = (published("busybox.payload.json"), text("busybox.sig"), public("busybox.pub"));
    let digest = "sha256:f3cfc9d0dbf931d3db4685ec659b7ac68e2a578219da4aae65427886e649b06b".parse().expect("a digest");
    assert_eq!(verify_simple_signing(&payload, &signature, digest, &key), Ok(()));
    let codes = [
        verify_simple_signing(&payload, &signature, Sha256::of(b""), &key),
        verify_simple_signing(&payload, &signature, digest, &public("cosign-3.pub")),
        verify_simple_signing(&payload[1..], &signature, digest, &key),
    ]
    .map(|result| result.expect_err("refused").code);
    assert_eq!(codes, [Code::DigestMismatch, Code::BadSignatureLine, Code::BadSignatureLine]);
}

/// A signature that cosign 3 attached to an image.
#[test]
fn a_published_bundle_of_cosign_3_is_a_signature_of_its_image() {
    let (bundle, key) = (published("cosign-3.sigstore.json"), public("cosign-3.pub"));
    let digest = "sha256:5099b89d7666cc2186cad769ddc262ddc7c335b33f5fe79f9ffe50a01282b23e".parse().expect("a digest");
    assert_eq!(verify_statement_bundle(&bundle, digest, &key), Ok(()));
    let other_image = verify_statement_bundle(&bundle, Sha256::of(b""), &key).expect_err("refused");
    assert_eq!(other_image.code, Code::DigestMismatch);
    let other_key = verify_statement_bundle(&bundle, digest, &public("busybox.pub")).expect_err("refused");
    assert_eq!(other_key.code, Code::BadSignatureLine);
    // The envelope of an attestation holds as well, and is no signature of an image.
    let (attestation, key) = (published("dsse.sigstore.json"), public("dsse.pub"));
    let said = verify_bundle(&attestation, &published("a.txt"), &key).expect_err("refused");
    assert_eq!(said.code, Code::RoleMismatch, "{said}");
}
