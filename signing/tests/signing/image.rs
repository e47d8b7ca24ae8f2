//! Signatures of OCI images, judged by `trust` and by stock `openssl`.

use autonomy_trust::{verify_bundle, verify_simple_signing, verify_statement_bundle};

use autonomy_signing::{dsse_bundle, sign_payload, simple_signing_payload};

use super::{Command, PublicKey, SIGNERS, STANDARD, Sha256, Signer, Value};
use base64::Engine as _;

const MANIFEST: &[u8] = br#"{"schemaVersion":2}"#;

fn public(signer: &Signer) -> PublicKey {
    PublicKey::parse_pem(signer.public_pem()).expect("a key")
}

fn openssl_takes(signer: &Signer, bytes: &[u8], signature: &[u8]) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, content) in [("pub.pem", signer.public_pem().as_bytes()), ("bytes", bytes), ("sig", signature)] {
        std::fs::write(folder.path().join(name), content).expect("written");
    }
    let p256 = ["dgst", "-sha256", "-verify", "pub.pem", "-signature", "sig", "bytes"].as_slice();
    let ed25519 = ["pkeyutl", "-verify", "-pubin", "-inkey", "pub.pem", "-rawin", "-sigfile", "sig", "-in", "bytes"];
    [p256, &ed25519].into_iter().any(|arguments| {
        let openssl = Command::new("openssl").args(arguments).current_dir(folder.path()).output();
        openssl.expect("openssl is installed").status.success()
    })
}

#[test]
fn the_payload_is_what_cosign_writes() {
    let digest: Sha256 =
        "sha256:f3cfc9d0dbf931d3db4685ec659b7ac68e2a578219da4aae65427886e649b06b".parse().expect("a digest");
    let published = include_str!("../published/busybox.payload.json");
    let ours = simple_signing_payload("registry-testing.svc.lan/busybox", digest);
    assert_eq!(String::from_utf8(ours).expect("text"), published);
    // As Go's `encoding/json` escapes.
    let odd = String::from_utf8(simple_signing_payload("<a&b>\"\u{2028}\u{e9}\n", digest)).expect("text");
    assert!(odd.contains(r#"{"docker-reference":"\u003ca\u0026b\u003e\"\u2028é\n"}"#), "{odd}");
}

#[test]
fn trust_and_openssl_take_a_signed_payload() {
    let digest = Sha256::of(MANIFEST);
    let payload = simple_signing_payload("harbor.lan/pier/app", digest);
    for signer in SIGNERS.iter() {
        let signature = sign_payload(signer, &payload).expect("signs");
        assert_eq!(verify_simple_signing(&payload, &signature, digest, &public(signer)), Ok(()));
        assert!(verify_simple_signing(&payload, &signature, Sha256::of(b"another"), &public(signer)).is_err());
        let raw = STANDARD.decode(signature).expect("base64");
        assert!(openssl_takes(signer, &payload, &raw));
        assert!(!openssl_takes(signer, &payload[1..], &raw));
    }
    let signature = sign_payload(&SIGNERS[0], &payload).expect("signs");
    assert!(verify_simple_signing(&payload, &signature, digest, &public(&SIGNERS[1])).is_err());
}

#[test]
fn trust_and_openssl_take_a_bundle() {
    let digest = Sha256::of(MANIFEST);
    for signer in SIGNERS.iter() {
        let bundle = dsse_bundle(signer, digest).expect("signs");
        assert_eq!(verify_bundle(&bundle, MANIFEST, &public(signer)), Ok(()));
        assert_eq!(verify_statement_bundle(&bundle, digest, &public(signer)), Ok(()));
        assert!(verify_bundle(&bundle, b"another", &public(signer)).is_err());

        let read: Value = serde_json::from_slice(&bundle).expect("JSON");
        assert_eq!(read["verificationMaterial"]["publicKey"]["hint"], STANDARD.encode(signer.key_id().as_bytes()));
        let envelope = &read["dsseEnvelope"];
        let decoded = |value: &Value| STANDARD.decode(value.as_str().expect("text")).expect("base64");
        let body = decoded(&envelope["payload"]);
        let signature = decoded(&envelope["signatures"][0]["sig"]);
        let pae = [format!("DSSEv1 28 application/vnd.in-toto+json {} ", body.len()).as_bytes(), &body].concat();
        assert!(openssl_takes(signer, &pae, &signature));
        assert!(!openssl_takes(signer, &body, &signature), "not over the body itself");
    }
}

/// Cosign's differ from ours in the white space that Go's protojson strews, and in the signature.
#[test]
fn the_bundle_is_what_cosign_writes() {
    let published = include_bytes!("../published/cosign-3.sigstore.json");
    let digest: Sha256 =
        "sha256:5099b89d7666cc2186cad769ddc262ddc7c335b33f5fe79f9ffe50a01282b23e".parse().expect("a digest");
    let ours = dsse_bundle(&SIGNERS[0], digest).expect("signs");
    let compact = |bundle: &[u8]| {
        let text = String::from_utf8(bundle.to_vec()).expect("text").trim().replace(", \"", ",\"");
        let read: Value = serde_json::from_str(&text).expect("JSON");
        let text_of = |pointer: &str| read.pointer(pointer).and_then(Value::as_str).expect("text").to_owned();
        let payload = text_of("/dsseEnvelope/payload");
        let statement = String::from_utf8(STANDARD.decode(&payload).expect("base64")).expect("text");
        let text = text.replace(&payload, "PAYLOAD").replace(&text_of("/dsseEnvelope/signatures/0/sig"), "SIG");
        (text.replace(&text_of("/verificationMaterial/publicKey/hint"), "HINT"), statement.replace(", \"", ",\""))
    };
    assert_eq!(compact(&ours), compact(published));
}

#[test]
fn a_line_over_the_manifest_is_a_bundle_too() {
    for signer in SIGNERS.iter() {
        let line = signer.sign_line(MANIFEST).expect("signs");
        assert_eq!(verify_bundle(line.as_bytes(), MANIFEST, &public(signer)), Ok(()));
        assert!(verify_bundle(line.as_bytes(), b"another", &public(signer)).is_err());
    }
}
