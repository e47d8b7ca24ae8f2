//! Who signed: thresholds, distinct keys, roles, hints, lines, revoked keys.

use autonomy_schema::{Code, Sha256};
use autonomy_trust::bundle::{MAX_LINE_BYTES, MAX_LINES};
use p256::ecdsa::Signature;
use p256::elliptic_curve::scalar::IsHigh as _;
use serde_json::{Value, json};

use crate::support::{
    Key, World, artifact_keys, bundle_line, codes, ed25519_key, junk, lines, manifest_keys, offline_keys, p256_key,
    role,
};

use autonomy_schema::root::Role;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

#[test]
fn two_of_three_suffice_whichever_they_are() {
    for (a, b) in [(0, 1), (0, 2), (1, 2), (2, 0)] {
        let mut world = World::new();
        world.signers = vec![manifest_keys()[a].clone(), manifest_keys()[b].clone()];
        let verified = world.verify().expect("two signed");
        let mut expected: Vec<Sha256> = world.signers.iter().map(Key::id).collect();
        expected.sort();
        assert_eq!(verified.signers(), expected);
        assert_eq!(verified.bytes(), world.bytes());
        assert_eq!(verified.fingerprint(), autonomy_schema::Blake3::of(&world.bytes()));
        assert_eq!(verified.document().metadata.serial, 42);
    }
}

#[test]
fn one_signature_of_two_is_below_the_threshold() {
    let mut world = World::new();
    world.signers.truncate(1);
    assert_eq!(world.codes(), [Code::BelowThreshold]);
    world.signers.clear();
    assert_eq!(world.codes(), [Code::BelowThreshold]);
}

#[test]
fn one_key_signing_twice_counts_once() {
    let world = World::new();
    let bytes = world.bytes();
    let key = &manifest_keys()[0];
    let Key::P256(secret) = key else { panic!("the first key is P-256") };
    let signature = Signature::from_der(&key.sign(&bytes)).expect("DER");
    let (r, s) = signature.split_scalars();
    let mirrored = Signature::from_scalars(r.to_bytes(), (-*s).to_bytes()).expect("the other half");
    let other_hint = manifest_keys()[1].id();
    let repeats = [
        vec![key.line(&bytes), key.line(&bytes)],
        vec![key.line(&bytes), key.bare(&bytes)],
        // Two different signatures of the same key, the second passed off as another's.
        vec![key.line(&bytes), bundle_line(mirrored.to_der().as_bytes(), Sha256::of(&bytes), other_hint)],
        vec![STANDARD.encode(signature.to_der().as_bytes()), STANDARD.encode(mirrored.to_der().as_bytes())],
    ];
    for repeat in repeats {
        let result = world.verify_bytes(&bytes, repeat.join("\n").as_bytes());
        assert_eq!(codes(result), [Code::BelowThreshold], "{repeat:?} by {:?}", secret.verifying_key());
    }
}

#[test]
fn high_and_low_s_are_both_accepted() {
    let world = World::new();
    let bytes = world.bytes();
    let [first, second, _] = &manifest_keys()[..] else { panic!("three keys") };
    let signature = Signature::from_der(&first.sign(&bytes)).expect("DER");
    let (r, s) = signature.split_scalars();
    let mirrored = Signature::from_scalars(r.to_bytes(), (-*s).to_bytes()).expect("the other half");
    let halves = [signature, mirrored];
    assert_eq!(halves.iter().filter(|half| bool::from(half.s().is_high())).count(), 1);
    for half in halves {
        let line = bundle_line(half.to_der().as_bytes(), Sha256::of(&bytes), first.id());
        let signatures = format!("{line}\n{}\n", second.line(&bytes));
        assert!(world.verify_bytes(&bytes, signatures.as_bytes()).is_ok());
    }
}

#[test]
fn a_flipped_byte_anywhere_is_refused() {
    let world = World::new();
    let bytes = world.bytes();
    let bundles = lines(&world.signers, &bytes);
    let bare: String = world.signers.iter().map(|key| key.bare(&bytes) + "\n").collect();
    world.with_context(|context| {
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            let verify = |signatures| {
                codes(autonomy_trust::verify_manifest(autonomy_trust::Signed { bytes: &flipped, signatures }, context))
            };
            assert_eq!(
                verify(&bundles),
                [Code::BadSignatureLine, Code::BadSignatureLine, Code::BelowThreshold],
                "{at}"
            );
            if at % 16 == 0 {
                assert_eq!(verify(bare.as_bytes()), [Code::BelowThreshold], "{at}");
            }
        }
    });
}

#[test]
fn a_signature_over_a_part_only_is_refused() {
    let world = World::new();
    let bytes = world.bytes();
    let metadata = autonomy_schema::canonical::to_bytes(&world.manifest["metadata"]).expect("canonical");
    for part in [&bytes[..bytes.len() - 1], &bytes[..100], &metadata, b"", Sha256::of(&bytes).as_bytes()] {
        // As it was signed, and dressed up as if it were over the whole.
        let dressed: Vec<String> =
            world.signers.iter().map(|key| bundle_line(&key.sign(part), Sha256::of(&bytes), key.id())).collect();
        assert_eq!(codes(world.verify_bytes(&bytes, dressed.join("\n").as_bytes())), [Code::BelowThreshold]);
        let honest = lines(&world.signers, part);
        assert!(codes(world.verify_bytes(&bytes, &honest)).contains(&Code::BadSignatureLine));
    }
}

#[test]
fn keys_of_another_role_do_not_count() {
    let mut world = World::new();
    world.signers = artifact_keys();
    assert_eq!(world.codes(), [Code::BelowThreshold]);
    world.signers = vec![p256_key(99), p256_key(98)];
    assert_eq!(world.codes(), [Code::BelowThreshold]);
}

#[test]
fn role_offline_suffices_alone_and_never_adds_up_with_manifest() {
    let mut world = World::new();
    world.signers = offline_keys();
    assert!(world.verify().is_ok());
    world.signers = vec![manifest_keys()[0].clone(), offline_keys()[0].clone()];
    assert_eq!(world.codes(), [Code::BelowThreshold]);
    world.root.roles.remove(&Role::Offline);
    world.signers = offline_keys();
    assert_eq!(world.codes(), [Code::BelowThreshold]);
    world.root.roles.remove(&Role::Manifest);
    assert_eq!(world.codes(), [Code::BelowThreshold]);
}

#[test]
fn a_wrong_hint_does_not_matter() {
    let world = World::new();
    let bytes = world.bytes();
    let digest = Sha256::of(&bytes);
    let [first, second, third] = &manifest_keys()[..] else { panic!("three keys") };
    for hint in [second.id(), third.id(), p256_key(99).id(), Sha256::from_bytes([0; 32])] {
        let line = bundle_line(&first.sign(&bytes), digest, hint);
        let signatures = format!("{line}\n{}", second.line(&bytes));
        assert!(world.verify_bytes(&bytes, signatures.as_bytes()).is_ok(), "{hint}");
    }
    // A right hint over a foreign signature is worth nothing.
    let line = bundle_line(&p256_key(99).sign(&bytes), digest, first.id());
    let signatures = format!("{line}\n{}", second.line(&bytes));
    assert_eq!(codes(world.verify_bytes(&bytes, signatures.as_bytes())), [Code::BelowThreshold]);
}

#[test]
fn what_cosign_writes_beside_the_signature_is_passed_over() {
    let world = World::new();
    let bytes = world.bytes();
    let mut odd: Value = serde_json::from_str(&manifest_keys()[0].line(&bytes)).expect("JSON");
    odd["mediaType"] = json!("application/vnd.dev.sigstore.bundle+json;version=0.3");
    odd["verificationMaterial"] = json!({
        "publicKey": {"hint": "some other tool's hint"},
        "tlogEntries": [{"logIndex": "1", "inclusionProof": {"hashes": ["a"]}}],
        "timestampVerificationData": {"rfc3161Timestamps": [{"signedTimestamp": "MA=="}]},
    });
    let mut bare_material: Value = serde_json::from_str(&manifest_keys()[2].line(&bytes)).expect("JSON");
    bare_material["verificationMaterial"] = json!({});
    let signatures = format!("\r\n{odd}\r\n\n  {bare_material}  \n");
    assert!(world.verify_bytes(&bytes, signatures.as_bytes()).is_ok());
}

#[test]
fn a_garbage_line_refuses_the_whole_and_names_its_number() {
    let world = World::new();
    let bytes = world.bytes();
    let good = manifest_keys()[0].line(&bytes);
    let edited = |pointer: &str, value: Value| {
        let mut bundle: Value = serde_json::from_str(&good).expect("JSON");
        *bundle.pointer_mut(pointer).expect("a field") = value;
        bundle.to_string()
    };
    let garbage = [
        "hello".to_owned(),
        "{}".to_owned(),
        "{".to_owned(),
        "[]".to_owned(),
        "AAAA".to_owned(),
        STANDARD.encode(junk(1, 63)),
        STANDARD.encode(junk(2, 72)),
        "\u{0}\u{0}".to_owned(),
        good.clone() + "x",
        format!("{{\"dsseEnvelope\":{{}},{}", &good[1..]).replace("messageSignature", "other"),
        edited("/mediaType", json!("application/vnd.dev.sigstore.bundle.v0.4+json")),
        edited("/messageSignature/messageDigest/algorithm", json!("SHA2_512")),
        edited("/messageSignature/messageDigest/digest", json!("????")),
        edited("/messageSignature/messageDigest/digest", json!("")),
        edited("/messageSignature/signature", json!("")),
        edited("/messageSignature/signature", json!("not base64")),
        edited("/messageSignature/signature", json!(7)),
        bundle_line(&manifest_keys()[0].sign(&bytes), Sha256::of(b"other bytes"), manifest_keys()[0].id()),
        "A".repeat(MAX_LINE_BYTES + 4),
        format!("{}{}", "[".repeat(3000), "]".repeat(3000)),
    ];
    for line in garbage {
        let mut signatures = lines(&world.signers, &bytes);
        signatures.extend_from_slice(b"\n");
        signatures.extend_from_slice(line.as_bytes());
        let refusal = world.verify_bytes(&bytes, &signatures).expect_err("a garbage line");
        let [reason] = refusal.as_slice() else { panic!("{refusal} for {line}") };
        assert_eq!(reason.code, Code::BadSignatureLine, "{line}");
        assert!(reason.message.starts_with("signature line 4 "), "{reason}");
        assert!(reason.message.len() < 400, "{reason}");
    }
}

#[test]
fn endless_lines_end_at_a_cap() {
    let mut world = World::new();
    let bytes = world.bytes();
    let good = String::from_utf8(lines(&world.signers, &bytes)).expect("text");
    let foreign = p256_key(99).bare(&bytes) + "\n";
    let fits = good.clone() + &foreign.repeat(MAX_LINES - 2);
    assert!(world.verify_bytes(&bytes, fits.as_bytes()).is_ok());
    let one_more = good.clone() + &foreign.repeat(MAX_LINES - 1);
    assert_eq!(codes(world.verify_bytes(&bytes, one_more.as_bytes())), [Code::LimitExceeded]);
    let endless = vec![b'\n'; (1 << 20) + 1];
    assert_eq!(codes(world.verify_bytes(&bytes, &endless)), [Code::BelowThreshold, Code::DocumentTooLarge]);

    // Well-formed junk and many keys: the work ends, and says so.
    let many: Vec<Key> = (100..120).map(ed25519_key).collect();
    world.root.keys.extend(many.iter().map(|key| (key.id(), key.pem())));
    world.root.roles.insert(Role::Manifest, role(&many, 2));
    let junk: String = (0..200).map(|seed| STANDARD.encode(junk(seed, 64)) + "\n").collect();
    assert_eq!(codes(world.verify_bytes(&bytes, junk.as_bytes())), [Code::BelowThreshold, Code::LimitExceeded]);
}

#[test]
fn a_revoked_key_counts_for_nothing() {
    let mut world = World::new();
    world.floors.revoked.keys = vec![manifest_keys()[0].id()];
    assert_eq!(world.codes(), [Code::Revoked]);
    // The spare key makes up for it, and the revoked one is not named as a signer.
    world.signers = manifest_keys();
    let verified = world.verify().expect("two valid keys");
    assert!(!verified.signers().contains(&manifest_keys()[0].id()));
    assert_eq!(verified.signers().len(), 2);
    // Too few even with it is not the revocation's fault.
    world.signers = vec![manifest_keys()[0].clone()];
    assert_eq!(world.codes(), [Code::BelowThreshold]);
}

#[test]
fn a_manifest_that_revokes_a_key_it_needs_is_refused_before_it_is_admitted() {
    let mut world = World::new();
    world.manifest["spec"]["revoked"] = json!({"number": 5, "keys": [manifest_keys()[1].id()]});
    assert_eq!(world.codes(), [Code::Revoked]);
    world.signers = manifest_keys();
    assert_eq!(world.verify().expect("two others").signers().len(), 2);
    // A list whose number is not newer is not taken over, so it does not bind either.
    world.manifest["spec"]["revoked"] = json!({"number": 4, "keys": [manifest_keys()[1].id()]});
    world.signers.pop();
    assert!(world.verify().is_ok());
}

#[test]
fn a_bundle_with_two_payloads_is_refused() {
    let world = World::new();
    let bytes = world.bytes();
    let [first, second, _] = &manifest_keys()[..] else { panic!("three keys") };
    let mut line: serde_json::Value = serde_json::from_str(&first.line(&bytes)).expect("JSON");
    line["dsseEnvelope"] = json!({"payload": "e30=", "payloadType": "text/plain", "signatures": []});
    let signatures = format!("{line}\n{}\n", second.line(&bytes));
    let refused = codes(world.verify_bytes(&bytes, signatures.as_bytes()));
    assert_eq!(refused, [Code::BadSignatureLine, Code::BelowThreshold]);
}
