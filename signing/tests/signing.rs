//! Key files and lines, judged by `trust` and by stock `openssl`.
#![expect(clippy::expect_used, reason = "a failed helper fails its test")]

#[path = "signing/image.rs"]
mod image;

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use autonomy_schema::bundle::Bundle;
use autonomy_schema::root::TrustRoot;
use autonomy_schema::{Document as _, Sha256};
use autonomy_signing::{
    Algorithm, KeyError, KeyPair, Signer, add_line, generate, generate_attest, generate_with, public_key_id,
};
use autonomy_trust::{AttestKey, PinnedRoot, PublicKey, Signed};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

const PASSWORD: &[u8] = b"correct horse";

/// Opening a key is slow by design, so the tests share three: P-256, P-256, Ed25519.
static SIGNERS: LazyLock<Vec<Signer>> = LazyLock::new(|| {
    [Algorithm::EcdsaP256, Algorithm::EcdsaP256, Algorithm::Ed25519]
        .into_iter()
        .map(|algorithm| {
            let pair = generate_with(algorithm, PASSWORD).expect("a key");
            let signer = Signer::from_encrypted_pem(&pair.private_pem, PASSWORD).expect("opens");
            assert_eq!(signer.public_pem(), pair.public_pem);
            signer
        })
        .collect()
});

/// A trust root that names the three signers as root keys, two of which must sign.
fn root() -> Vec<u8> {
    let ids: Vec<Sha256> = SIGNERS.iter().map(Signer::key_id).collect();
    let keys: serde_json::Map<String, Value> =
        SIGNERS.iter().map(|signer| (signer.key_id().to_string(), json!(signer.public_pem()))).collect();
    let root: TrustRoot = serde_json::from_value(json!({
        "apiVersion": "autonomy/v1", "kind": "TrustRoot", "version": 1, "expiresAt": "2030-01-01T00:00:00Z",
        "keys": keys, "roles": {"root": {"keys": ids, "threshold": 2}},
    }))
    .expect("a root");
    root.to_canonical().expect("canonical")
}

fn sign(bytes: &[u8], signers: &[&Signer]) -> Vec<u8> {
    signers
        .iter()
        .fold(Vec::new(), |file, signer| add_line(&file, &signer.sign_line(bytes).expect("signs"), signer.key_id()))
}

fn count(file: &[u8]) -> usize {
    std::str::from_utf8(file).expect("text").lines().count()
}

fn signature_of(line: &str) -> Vec<u8> {
    let bundle: Bundle = serde_json::from_str(line).expect("a bundle");
    STANDARD.decode(bundle.message_signature.signature).expect("base64")
}

fn openssl(folder: &Path, arguments: &[&str]) -> bool {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output().expect("openssl is installed");
    output.status.success()
}

#[test]
fn trust_accepts_what_is_signed_here() {
    let bytes = root();
    let [first, second, third] = &SIGNERS[..] else { panic!("three signers") };
    for (a, b) in [(first, second), (second, third), (third, first)] {
        let signatures = sign(&bytes, &[a, b]);
        assert!(PinnedRoot::first(Signed { bytes: &bytes, signatures: &signatures }).is_ok());
        let once = sign(&bytes, &[a]);
        assert!(PinnedRoot::first(Signed { bytes: &bytes, signatures: &once }).is_err());
        let mut other = bytes.clone();
        other[10] ^= 1;
        assert!(PinnedRoot::first(Signed { bytes: &other, signatures: &signatures }).is_err());
    }
}

#[test]
fn key_ids_agree_with_trust() {
    for signer in SIGNERS.iter() {
        let public = PublicKey::parse_pem(signer.public_pem()).expect("a key");
        assert_eq!(public.id(), signer.key_id());
        assert_eq!(public_key_id(signer.public_pem()).expect("a key"), signer.key_id());
    }
    for text in ["", "hello", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
        assert!(matches!(public_key_id(text), Err(KeyError::Malformed(_))), "{text}");
    }
}

#[test]
fn openssl_alone_verifies_a_p256_signature() {
    let folder = tempfile::tempdir().expect("a folder");
    let manifest = include_bytes!("../../docs/formats/samples/manifest.json");
    let signer = &SIGNERS[0];
    let line = signer.sign_line(manifest).expect("signs");
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).expect("written");
    write("manifest.json", manifest);
    write("pub.pem", signer.public_pem().as_bytes());
    write("sig", &signature_of(&line));
    let verify = ["dgst", "-sha256", "-verify", "pub.pem", "-signature", "sig", "manifest.json"];
    assert!(openssl(folder.path(), &verify));
    write("pub.pem", SIGNERS[1].public_pem().as_bytes());
    assert!(!openssl(folder.path(), &verify), "another key");
    write("pub.pem", signer.public_pem().as_bytes());
    write("manifest.json", &manifest[1..]);
    assert!(!openssl(folder.path(), &verify), "other bytes");
}

#[test]
fn openssl_alone_verifies_an_ed25519_signature() {
    let folder = tempfile::tempdir().expect("a folder");
    let manifest = include_bytes!("../../docs/formats/samples/manifest.json");
    let signer = &SIGNERS[2];
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).expect("written");
    write("manifest.json", manifest);
    write("pub.pem", signer.public_pem().as_bytes());
    write("sig", &signature_of(&signer.sign_line(manifest).expect("signs")));
    let verify =
        ["pkeyutl", "-verify", "-pubin", "-inkey", "pub.pem", "-rawin", "-sigfile", "sig", "-in", "manifest.json"];
    assert!(openssl(folder.path(), &verify));
    write("manifest.json", &manifest[1..]);
    assert!(!openssl(folder.path(), &verify), "other bytes");
}

/// What an operator signs with openssl, as a bare line, is accepted.
#[test]
fn trust_accepts_what_openssl_signs() {
    let folder = tempfile::tempdir().expect("a folder");
    let read = |name: &str| std::fs::read(folder.path().join(name)).expect("read");
    assert!(openssl(folder.path(), &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "key.pem"]));
    assert!(openssl(folder.path(), &["ec", "-in", "key.pem", "-pubout", "-out", "pub.pem"]));
    let pem = String::from_utf8(read("pub.pem")).expect("text");
    let id = PublicKey::parse_pem(&pem).expect("a key").id();
    let root = json!({
        "apiVersion": "autonomy/v1", "kind": "TrustRoot", "version": 1, "expiresAt": "2030-01-01T00:00:00Z",
        "keys": {id.to_string(): pem}, "roles": {"root": {"keys": [id], "threshold": 1}},
        "maxSerialStep": 1000, "maxTimeStep": "365d",
    });
    let bytes = autonomy_schema::canonical::to_bytes(&root).expect("canonical");
    std::fs::write(folder.path().join("root.json"), &bytes).expect("written");
    // Half of these have a high S.
    for _ in 0..8 {
        assert!(openssl(folder.path(), &["dgst", "-sha256", "-sign", "key.pem", "-out", "sig", "root.json"]));
        let line = STANDARD.encode(read("sig"));
        let signed = Signed { bytes: &bytes, signatures: line.as_bytes() };
        assert!(PinnedRoot::first(signed).is_ok(), "{line}");
    }
}

#[test]
fn both_key_file_labels_load() {
    let KeyPair { private_pem, public_pem } = generate(PASSWORD).expect("a key");
    assert!(private_pem.starts_with("-----BEGIN ENCRYPTED COSIGN PRIVATE KEY-----\n"), "what stock cosign reads");
    assert!(private_pem.ends_with("-----END ENCRYPTED COSIGN PRIVATE KEY-----\n"));
    assert!(public_pem.starts_with("-----BEGIN PUBLIC KEY-----\n") && !public_pem.contains('\r'));
    let sigstore = private_pem.replace("COSIGN", "SIGSTORE");
    let crlf = private_pem.replace('\n', "\r\n");
    for text in [private_pem.as_str(), &sigstore, &crlf, &format!("\n{}\n\n", private_pem.as_str())] {
        let signer = Signer::from_encrypted_pem(text, PASSWORD).expect("opens");
        assert_eq!(signer.public_pem(), public_pem);
    }
}

/// A key that cosign 2 made with an empty password would look the same: the password may be empty.
#[test]
fn an_empty_password_is_a_password() {
    let pair = generate(b"").expect("a key");
    assert!(Signer::from_encrypted_pem(&pair.private_pem, b"").is_ok());
    assert!(matches!(Signer::from_encrypted_pem(&pair.private_pem, b"x"), Err(KeyError::WrongPassword)));
}

#[test]
fn a_wrong_password_is_named() {
    let pair = generate(PASSWORD).expect("a key");
    for wrong in [&b""[..], b"correct hors", b"correct horse\n"] {
        let error = Signer::from_encrypted_pem(&pair.private_pem, wrong).expect_err("wrong");
        assert!(matches!(error, KeyError::WrongPassword), "{error:?}");
        assert_eq!(error.to_string(), "wrong password for the private key");
    }
}

#[test]
fn damaged_key_files_are_refused() {
    let pair = generate(PASSWORD).expect("a key");
    let body: String = pair.private_pem.lines().filter(|line| !line.starts_with('-')).collect();
    let sealed: Value = serde_json::from_slice(&STANDARD.decode(body).expect("base64")).expect("JSON");
    let with = |pointer: &str, value: Value| {
        let mut sealed = sealed.clone();
        *sealed.pointer_mut(pointer).expect("a field") = value;
        let body = STANDARD.encode(sealed.to_string());
        let rows: Vec<&str> = (0..body.len()).step_by(64).map(|at| &body[at..body.len().min(at + 64)]).collect();
        let label = "ENCRYPTED COSIGN PRIVATE KEY";
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", rows.join("\n"))
    };
    assert!(Signer::from_encrypted_pem(&with("/cipher/name", json!("nacl/secretbox")), PASSWORD).is_ok());
    let attest = generate_attest().expect("a key");
    let damaged = [
        String::new(),
        "hello".to_owned(),
        pair.public_pem.clone(),
        attest.private_pem.to_string(),
        pair.private_pem[..pair.private_pem.len() / 2].to_owned(),
        with("/cipher/nonce", json!("")),
        with("/cipher/nonce", json!(STANDARD.encode([0; 23]))),
        with("/cipher/nonce", json!(7)),
        with("/cipher/name", json!("none")),
        with("/kdf/name", json!("none")),
        with("/kdf/params/N", json!(1 << 30)),
        with("/kdf/params/N", json!(0)),
        with("/kdf/params/r", json!(1_000_000)),
        with("/kdf/salt", json!("???")),
        with("/ciphertext", json!("")),
        "A".repeat(20_000),
    ];
    for text in damaged {
        let error = Signer::from_encrypted_pem(&text, PASSWORD).expect_err("damaged");
        assert!(!error.to_string().is_empty(), "{text}");
    }
    let not_encrypted = Signer::from_encrypted_pem(&attest.private_pem, b"");
    assert!(matches!(not_encrypted, Err(KeyError::NotEncrypted)));
}

#[test]
fn the_order_of_signing_does_not_matter() {
    let bytes = b"some bytes";
    let lines: Vec<(String, Sha256)> =
        SIGNERS.iter().map(|signer| (signer.sign_line(bytes).expect("signs"), signer.key_id())).collect();
    let build =
        |order: [usize; 3]| order.iter().fold(Vec::new(), |file, at| add_line(&file, &lines[*at].0, lines[*at].1));
    let file = build([0, 1, 2]);
    for order in [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        assert_eq!(build(order), file);
    }
    assert_eq!(count(&file), 3);
    assert!(file.ends_with(b"\n"));
}

#[test]
fn signing_again_replaces_the_own_line_and_drops_lines_over_other_bytes() {
    let [first, second, _] = &SIGNERS[..] else { panic!("three signers") };
    let file = sign(b"draft", &[first, second, first]);
    assert_eq!(count(&file), 2);
    // The bytes changed: what was signed before would have the file refused.
    let again = add_line(&file, &first.sign_line(b"final").expect("signs"), first.key_id());
    assert_eq!(count(&again), 1);
    // Lines that cannot be told apart by key are kept.
    let bare = STANDARD.encode(signature_of(&second.sign_line(b"final").expect("signs")));
    let mixed = [bare.as_bytes(), b"\r\n\n", &again].concat();
    let mixed = add_line(&mixed, &first.sign_line(b"final").expect("signs"), first.key_id());
    let text = String::from_utf8(mixed).expect("text");
    assert_eq!(text.lines().count(), 2);
    assert_eq!(text.lines().last(), Some(bare.as_str()));
}

#[test]
fn an_attest_pair_serves_trust() {
    let pair = generate_attest().expect("a key");
    assert!(pair.private_pem.starts_with("-----BEGIN PRIVATE KEY-----\n"));
    let key = AttestKey::from_pem(&pair.private_pem).expect("usable");
    assert_eq!(key.public_pem(), pair.public_pem);
    assert_eq!(key.id(), public_key_id(&pair.public_pem).expect("a key"));
    let line = key.sign_line(b"evidence").expect("signs");
    assert_eq!(line, key.sign_line(b"evidence").expect("signs"));

    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).expect("written");
    write("evidence", b"evidence");
    write("pub.pem", pair.public_pem.as_bytes());
    write("sig", &signature_of(&line));
    assert!(openssl(folder.path(), &["dgst", "-sha256", "-verify", "pub.pem", "-signature", "sig", "evidence"]));
}

#[test]
fn no_private_key_is_ever_shown() {
    let pair = generate(PASSWORD).expect("a key");
    let signer = Signer::from_encrypted_pem(&pair.private_pem, PASSWORD).expect("opens");
    assert_eq!(format!("{signer:?}"), format!("Signer {{ id: {:?}, .. }}", signer.key_id()));
    assert_ne!(generate(PASSWORD).expect("a key").public_pem, pair.public_pem);
}
