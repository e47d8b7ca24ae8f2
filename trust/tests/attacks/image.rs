//! Signatures of OCI images: what proves nothing about the image at hand.

use autonomy_schema::image::MAX_BYTES;
use autonomy_schema::root::Role;
use autonomy_schema::{Code, Reason, Sha256, bundle};
use autonomy_trust::{
    ImageSignature, PublicKey, verify_bundle, verify_image, verify_image_by, verify_simple_signing,
    verify_statement_bundle,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{Key, World, artifact_keys, codes, ed25519_key, manifest_keys, p256_key, role, root_keys, time};

const MANIFEST: &[u8] = br#"{"schemaVersion":2}"#;
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

fn public(key: &Key) -> PublicKey {
    PublicKey::parse_pem(&key.pem()).expect("a key")
}

fn code(result: Result<(), Reason>) -> Option<Code> {
    result.err().map(|reason| reason.code)
}

fn digest() -> Sha256 {
    Sha256::of(MANIFEST)
}

fn payload() -> String {
    let digest = digest();
    format!(
        r#"{{"critical":{{"identity":{{"docker-reference":"r.io/a"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}},"optional":null}}"#
    )
}

/// What a verifier says of `payload` when `key` did sign it.
fn signed(key: &Key, payload: &str) -> Option<Code> {
    let signature = STANDARD.encode(key.sign(payload.as_bytes()));
    code(verify_simple_signing(payload.as_bytes(), &signature, digest(), &public(key)))
}

fn statement() -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": digest().hex()}, "annotations": {}}],
        "predicateType": "https://sigstore.dev/cosign/sign/v1", "predicate": {},
    })
}

fn pae(payload_type: &str, body: &str) -> Vec<u8> {
    format!("DSSEv1 {} {payload_type} {} {body}", payload_type.len(), body.len()).into_bytes()
}

fn envelope(payload_type: &str, body: &str, signature: &[u8]) -> Value {
    json!({
        "mediaType": bundle::MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": "other"}, "tlogEntries": []},
        "dsseEnvelope": {"payload": STANDARD.encode(body), "payloadType": payload_type,
            "signatures": [{"sig": STANDARD.encode(signature), "keyid": "other"}]},
    })
}

fn judged(bundle: &Value, key: &Key) -> Option<Code> {
    let bundle = bundle.to_string();
    let whole = code(verify_bundle(bundle.as_bytes(), MANIFEST, &public(key)));
    assert_eq!(code(verify_statement_bundle(bundle.as_bytes(), digest(), &public(key))), whole);
    whole
}

/// What a verifier says of a statement when `key` did sign it.
fn stated(key: &Key, body: &str) -> Option<Code> {
    judged(&envelope(PAYLOAD_TYPE, body, &key.sign(&pae(PAYLOAD_TYPE, body))), key)
}

#[test]
fn an_honest_payload_is_taken() {
    for key in [p256_key(1), ed25519_key(1)] {
        assert_eq!(signed(&key, &payload()), None);
        // White space and annotations are the signer's, numbers of any kind among them.
        assert_eq!(signed(&key, &payload().replace("null", r#" {"a": 1.5, "b": [18446744073709551615]} "#)), None);
        // Wrapped, as Go reads it.
        let wrapped = STANDARD.encode(key.sign(payload().as_bytes())).replacen('=', "\r\n=", 1) + "\n";
        assert_eq!(code(verify_simple_signing(payload().as_bytes(), &wrapped, digest(), &public(&key))), None);
    }
}

#[test]
fn a_payload_of_another_key_or_other_bytes_is_refused() {
    for (key, other) in [(p256_key(1), p256_key(2)), (ed25519_key(1), ed25519_key(2)), (p256_key(1), ed25519_key(1))] {
        let payload = payload();
        let verify = |payload: &str, signature: &str| {
            code(verify_simple_signing(payload.as_bytes(), signature, digest(), &public(&key)))
        };
        let good = STANDARD.encode(key.sign(payload.as_bytes()));
        assert_eq!(verify(&payload, &good), None);
        let refused = Some(Code::BadSignatureLine);
        assert_eq!(verify(&payload, &STANDARD.encode(other.sign(payload.as_bytes()))), refused);
        assert_eq!(verify(&payload, &STANDARD.encode(key.sign(b"other bytes"))), refused);
        assert_eq!(verify(&payload, &STANDARD.encode(key.sign(MANIFEST))), refused, "over the manifest itself");
        assert_eq!(verify(&payload.replace("r.io/a", "r.io/b"), &good), refused);
        assert_eq!(verify(&format!("{payload}\n"), &good), refused);
        for none in ["", "?", "AAAA", &good[1..], &format!("{good}=")] {
            assert_eq!(verify(&payload, none), refused, "{none}");
        }
        assert_eq!(verify(&payload, &"A".repeat(1025)), Some(Code::DocumentTooLarge));
    }
}

#[test]
fn a_signed_payload_that_is_not_for_this_image_is_refused() {
    let key = p256_key(1);
    let with = |from: &str, to: &str| signed(&key, &payload().replace(from, to));
    let other = Sha256::of(b"another");
    assert_eq!(with(&digest().to_string(), &other.to_string()), Some(Code::DigestMismatch));
    assert_eq!(with(&digest().hex(), &digest().hex().to_uppercase()), Some(Code::BadDigest));
    for name in ["atomic container signature", "Cosign container image signature", "", PAYLOAD_TYPE] {
        assert_eq!(with("cosign container image signature", name), Some(Code::RoleMismatch), "{name}");
    }
    assert_eq!(with(r#""optional":null"#, r#""optional":{"a":{"b":1,"b":2}}"#), Some(Code::DuplicateKey));
    let image = format!(r#""image":{{"docker-manifest-digest":"{}"}}"#, digest());
    let twice = format!(r#"{image},"image":{{"docker-manifest-digest":"{other}"}}"#);
    assert_eq!(with(&image, &twice), Some(Code::DuplicateKey));
    let escaped = format!(r#"{image},"im\u0061ge":{{"docker-manifest-digest":"{other}"}}"#);
    assert_eq!(with(&image, &escaped), Some(Code::DuplicateKey), "the same key in another spelling");
    // Go takes keys in any case, so these would be two digests to cosign.
    let cased = image.replace("image", "Image");
    assert_eq!(with(&image, &format!("{image},{cased}")), Some(Code::UnknownField));
    assert_eq!(with(&format!("{image},"), ""), Some(Code::MissingField));
    assert_eq!(signed(&key, "[]"), Some(Code::WrongType));
    assert_eq!(signed(&key, &"[".repeat(1000)), Some(Code::LimitExceeded));
    for none in ["", "{", "null x"] {
        assert!(matches!(signed(&key, none), Some(Code::Syntax)), "{none}");
    }
}

#[test]
fn what_is_not_signed_is_not_parsed() {
    let key = public(&p256_key(1));
    let stranger = p256_key(2);
    for bytes in ["{", "[]", r#"{"a":1,"a":2}"#, &payload()] {
        let signature = STANDARD.encode(stranger.sign(bytes.as_bytes()));
        let said = code(verify_simple_signing(bytes.as_bytes(), &signature, digest(), &key));
        assert_eq!(said, Some(Code::BadSignatureLine), "{bytes}");
        let bundle = envelope(PAYLOAD_TYPE, bytes, &stranger.sign(&pae(PAYLOAD_TYPE, bytes)));
        assert_eq!(judged(&bundle, &p256_key(1)), Some(Code::BadSignatureLine), "{bytes}");
    }
}

#[test]
fn a_payload_or_bundle_ends_at_a_cap() {
    let key = p256_key(1);
    let filled = |length: usize| payload() + &" ".repeat(length - payload().len());
    assert_eq!(signed(&key, &filled(MAX_BYTES)), None);
    assert_eq!(signed(&key, &filled(MAX_BYTES + 1)), Some(Code::DocumentTooLarge));
    let body = statement().to_string();
    let bundle = envelope(PAYLOAD_TYPE, &body, &key.sign(&pae(PAYLOAD_TYPE, &body))).to_string();
    let filled = |length: usize| bundle.clone() + &" ".repeat(length - bundle.len());
    assert_eq!(code(verify_bundle(filled(MAX_BYTES).as_bytes(), MANIFEST, &public(&key))), None);
    let long = filled(MAX_BYTES + 1);
    assert_eq!(code(verify_bundle(long.as_bytes(), MANIFEST, &public(&key))), Some(Code::DocumentTooLarge));
}

#[test]
fn an_envelope_is_taken_by_its_pre_authentication_encoding_alone() {
    for key in [p256_key(1), ed25519_key(1)] {
        let body = statement().to_string();
        assert_eq!(stated(&key, &body), None);
        let refused = Some(Code::BadSignatureLine);
        let wrong: [Vec<u8>; 5] = [
            body.clone().into_bytes(),
            STANDARD.encode(&body).into_bytes(),
            pae(PAYLOAD_TYPE, &STANDARD.encode(&body)),
            pae("", &body),
            format!("DSSEv1 {PAYLOAD_TYPE} {body}").into_bytes(),
        ];
        for bytes in wrong {
            assert_eq!(judged(&envelope(PAYLOAD_TYPE, &body, &key.sign(&bytes)), &key), refused);
        }
        let good = key.sign(&pae(PAYLOAD_TYPE, &body));
        assert_eq!(judged(&envelope("text/plain", &body, &good), &key), refused, "the type is signed too");
        assert_eq!(judged(&envelope(PAYLOAD_TYPE, &format!("{body} "), &good), &key), refused);
        for other in [p256_key(2), ed25519_key(2)] {
            assert_eq!(judged(&envelope(PAYLOAD_TYPE, &body, &good), &other), refused);
        }
        // The other alphabet, which DSSE has a verifier take.
        let mut other_alphabet = envelope(PAYLOAD_TYPE, &body, &good);
        other_alphabet["dsseEnvelope"]["signatures"][0]["sig"] = json!(URL_SAFE.encode(&good));
        assert_eq!(judged(&other_alphabet, &key), None);
    }
}

#[test]
fn a_signed_statement_of_another_kind_or_image_is_refused() {
    let key = p256_key(1);
    let body = statement().to_string();
    for other in ["application/vnd.in-toto", "application/json", "application/vnd.in-toto+JSON"] {
        let bundle = envelope(other, &body, &key.sign(&pae(other, &body)));
        assert_eq!(judged(&bundle, &key), Some(Code::RoleMismatch), "{other}");
    }
    let with = |pointer: &str, value: Value| {
        let mut statement = statement();
        *statement.pointer_mut(pointer).expect("a field") = value;
        stated(&key, &statement.to_string())
    };
    assert_eq!(with("/_type", json!("https://in-toto.io/Statement/v0.1")), Some(Code::RoleMismatch));
    assert_eq!(with("/predicateType", json!("https://slsa.dev/provenance/v1")), Some(Code::RoleMismatch));
    let other = Sha256::of(b"another").hex();
    let mismatch = Some(Code::DigestMismatch);
    assert_eq!(with("/subject/0/digest/sha256", json!(other)), mismatch);
    assert_eq!(with("/subject/0/digest", json!({"sha512": digest().hex()})), mismatch);
    assert_eq!(with("/subject", json!([])), mismatch);
    // One of several subjects is enough.
    let both = json!([{"digest": {"sha256": other}}, {"name": "a", "digest": {"sha256": digest().hex()}}]);
    assert_eq!(with("/subject", both), None);
    assert_eq!(stated(&key, &body.replacen('{', r#"{"_type":"x","#, 1)), Some(Code::DuplicateKey));
    assert_eq!(stated(&key, "{"), Some(Code::Syntax));
}

#[test]
fn a_bundle_of_another_shape_is_refused() {
    let key = p256_key(1);
    let body = statement().to_string();
    let good = envelope(PAYLOAD_TYPE, &body, &key.sign(&pae(PAYLOAD_TYPE, &body)));
    let with = |pointer: &str, value: Value| {
        let mut bundle = good.clone();
        *bundle.pointer_mut(pointer).expect("a field") = value;
        judged(&bundle, &key)
    };
    let refused = Some(Code::BadSignatureLine);
    assert_eq!(with("/mediaType", json!("application/vnd.dev.sigstore.bundle.v0.4+json")), refused);
    assert_eq!(with("/mediaType", json!("application/vnd.dev.sigstore.bundle+json;version=0.3")), None);
    let signature = good["dsseEnvelope"]["signatures"][0].clone();
    assert_eq!(with("/dsseEnvelope/signatures", json!([])), refused);
    assert_eq!(with("/dsseEnvelope/signatures", json!([signature, signature])), refused);
    assert_eq!(with("/dsseEnvelope/payload", json!("?")), refused);
    assert_eq!(with("/dsseEnvelope", Value::Null), refused);
    assert_eq!(with("/dsseEnvelope", json!({})), Some(Code::MissingField));
    let mut both = good.clone();
    both["messageSignature"] =
        serde_json::from_str::<Value>(&key.line(MANIFEST)).expect("a line")["messageSignature"].clone();
    assert_eq!(judged(&both, &key), refused);
    let twice = good.to_string().replacen('{', r#"{"mediaType":"x","#, 1);
    assert_eq!(code(verify_bundle(twice.as_bytes(), MANIFEST, &public(&key))), Some(Code::DuplicateKey));
}

#[test]
fn a_signature_over_the_manifest_needs_the_manifest() {
    for key in [p256_key(1), ed25519_key(1)] {
        let line = key.line(MANIFEST);
        let verify = |bundle: &str, manifest: &[u8]| code(verify_bundle(bundle.as_bytes(), manifest, &public(&key)));
        assert_eq!(verify(&line, MANIFEST), None);
        let refused = Some(Code::BadSignatureLine);
        assert_eq!(verify(&line, b"another"), refused);
        assert_eq!(verify(&p256_key(2).line(MANIFEST), MANIFEST), refused);
        // Over the digest that the bundle names, and not over the bytes.
        let hashed = key.line(MANIFEST).replace(&STANDARD.encode(key.sign(MANIFEST)), &STANDARD.encode(key.sign(b"x")));
        assert_eq!(verify(&hashed, MANIFEST), refused);
        assert_eq!(code(verify_statement_bundle(line.as_bytes(), digest(), &public(&key))), refused);
        // A bare signature is a line of a signature file and no bundle.
        assert_eq!(verify(&STANDARD.encode(key.sign(MANIFEST)), MANIFEST), Some(Code::Syntax));
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in ".{0,100}") {
        let key = public(&p256_key(1));
        prop_assert!(verify_simple_signing(&bytes, &text, digest(), &key).is_err());
        prop_assert!(verify_bundle(&bytes, MANIFEST, &key).is_err());
        prop_assert!(stated(&p256_key(1), &text).is_some());
    }

    #[test]
    fn no_changed_bundle_is_for_another_image(at in 0_usize..900, with in any::<u8>()) {
        let key = p256_key(1);
        let body = statement().to_string();
        let mut bundle = envelope(PAYLOAD_TYPE, &body, &key.sign(&pae(PAYLOAD_TYPE, &body))).to_string().into_bytes();
        let at = at % bundle.len();
        bundle[at] = with;
        prop_assert!(verify_bundle(&bundle, b"another", &public(&key)).is_err());
    }
}

/// The signatures of keys over the honest payload, and of one as a bundle.
fn simple(key: &Key) -> (String, String) {
    (payload(), STANDARD.encode(key.sign(payload().as_bytes())))
}

#[test]
fn a_threshold_of_role_artifact_signs_an_image_and_nobody_else() {
    let mut world = World::new();
    let (first, second) = (artifact_keys()[0].clone(), artifact_keys()[1].clone());
    let judged = |world: &World, signers: &[&Key]| {
        let made: Vec<(String, String)> = signers.iter().map(|key| simple(key)).collect();
        let signatures =
            made.iter().map(|(payload, signature)| ImageSignature::Simple { payload: payload.as_bytes(), signature });
        let signatures: Vec<ImageSignature<'_>> = signatures.collect();
        world.with_context(|context| verify_image(MANIFEST, &signatures, context))
    };
    assert_eq!(judged(&world, &[&first]).expect("one is enough"), [first.id()]);
    assert_eq!(codes(judged(&world, &[])), [Code::BelowThreshold]);
    assert_eq!(codes(judged(&world, &[&manifest_keys()[0], &root_keys()[0]])), [Code::BelowThreshold], "other roles");
    // Twice the same key is one key; a bundle of another one is the second.
    world.root.roles.insert(Role::Artifact, role(&artifact_keys(), 2));
    assert_eq!(codes(judged(&world, &[&first, &first])), [Code::BelowThreshold]);
    let both = judged(&world, &[&first, &second]).expect("both");
    assert_eq!(both.len(), 2);
    let body = statement().to_string();
    let bundle = envelope(PAYLOAD_TYPE, &body, &second.sign(&pae(PAYLOAD_TYPE, &body))).to_string();
    let (payload, signature) = simple(&first);
    let mixed = [
        ImageSignature::Simple { payload: payload.as_bytes(), signature: &signature },
        ImageSignature::Bundle(bundle.as_bytes()),
    ];
    let verify = |world: &World, manifest: &[u8]| world.with_context(|context| verify_image(manifest, &mixed, context));
    assert_eq!(verify(&world, MANIFEST).expect("both").len(), 2);
    assert_eq!(codes(verify(&world, b"{}")), [Code::BelowThreshold], "of another manifest");
    world.floors.revoked.keys = [second.id()].into();
    assert_eq!(codes(verify(&world, MANIFEST)), [Code::Revoked]);
    world.floors.revoked.keys.clear();
    world.clock = time("2029-01-01T00:00:00Z");
    assert_eq!(codes(verify(&world, MANIFEST)), [Code::Expired]);
}

#[test]
fn no_more_signatures_are_looked_at_than_anybody_needs() {
    let world = World::new();
    let many = vec![ImageSignature::Bundle(b"{}"); 129];
    assert_eq!(codes(world.with_context(|context| verify_image(MANIFEST, &many, context))), [Code::LimitExceeded]);
    assert_eq!(codes(verify_image_by(MANIFEST, &many, &public(&p256_key(1)))), [Code::LimitExceeded]);
    assert_eq!(codes(verify_image_by(MANIFEST, &[], &public(&p256_key(1)))), [Code::BadSignatureLine]);
}
