//! What the bytes are: kind, canonical form, size, unknown things, and garbage.

use autonomy_schema::document::MAX_DOCUMENT_BYTES;
use autonomy_schema::{Code, canonical};
use autonomy_trust::{Context, PinnedRoot, PublicKey, Signed, bundle, verify_manifest};
use proptest::prelude::*;
use serde_json::json;

use crate::support::{World, codes, lines, manifest_keys, root_keys, signed_root, time, trust_root};

fn signed_bytes(bytes: &[u8]) -> Vec<Code> {
    let world = World::new();
    codes(world.verify_bytes(bytes, &lines(&world.signers, bytes)))
}

#[test]
fn unsigned_bytes_are_never_parsed() {
    // Each would be refused by the parser with its own code; without signatures that code must not show.
    for bytes in [&b"not JSON"[..], b"{\"a\":1,\"a\":2}", b"\xff\xfe", b""] {
        assert_eq!(codes(World::new().verify_bytes(bytes, b"")), [Code::BelowThreshold]);
        assert!(!signed_bytes(bytes).contains(&Code::BelowThreshold));
    }
}

#[test]
fn a_lock_signed_as_manifest_is_refused() {
    let lock = include_bytes!("../../../docs/formats/samples/autonomy.lock.json");
    assert_eq!(signed_bytes(lock), [Code::RoleMismatch]);
    let (root, _) = signed_root(&trust_root(), &root_keys());
    assert_eq!(signed_bytes(&root), [Code::RoleMismatch]);
}

#[test]
fn bytes_that_are_not_canonical_are_refused() {
    let world = World::new();
    let pretty = serde_json::to_vec_pretty(&world.manifest).expect("JSON");
    assert_eq!(signed_bytes(&pretty), [Code::NotCanonical]);
    let mut newline = world.bytes();
    newline.push(b'\n');
    assert_eq!(signed_bytes(&newline), [Code::NotCanonical]);
}

#[test]
fn trailing_bytes_are_refused() {
    let mut bytes = World::new().bytes();
    bytes.extend_from_slice(b"{}");
    assert_eq!(signed_bytes(&bytes), [Code::Syntax]);
    // Behind the back of signatures that were made before.
    let world = World::new();
    let signatures = lines(&world.signers, &world.bytes());
    assert!(codes(world.verify_bytes(&bytes, &signatures)).contains(&Code::BadSignatureLine));
}

#[test]
fn endless_data_is_refused_at_its_cap() {
    let bytes = vec![b' '; MAX_DOCUMENT_BYTES + 1];
    assert_eq!(codes(World::new().verify_bytes(&bytes, b"")), [Code::DocumentTooLarge]);
    let mut at_cap = bytes;
    at_cap.pop();
    assert_eq!(codes(World::new().verify_bytes(&at_cap, b"")), [Code::BelowThreshold]);
}

#[test]
fn an_unknown_critical_field_is_refused() {
    let mut world = World::new();
    world.manifest["apiVersion"] = json!("autonomy/v1.9");
    world.manifest["spec"]["quantum"] = json!(true);
    assert!(world.verify().is_ok(), "a newer minor may say more");
    world.manifest["metadata"]["critical"] = json!(["spec.quantum"]);
    assert_eq!(world.codes(), [Code::UnknownCritical]);
}

#[test]
fn an_unknown_field_or_major_is_refused() {
    let mut world = World::new();
    world.manifest["spec"]["quantum"] = json!(true);
    assert_eq!(world.codes(), [Code::UnknownField]);
    world.manifest["apiVersion"] = json!("autonomy/v2");
    assert_eq!(world.codes(), [Code::UnknownVersion]);
}

#[test]
fn a_path_that_climbs_is_refused_even_when_signed() {
    let mut world = World::new();
    for path in ["../x", "/etc/passwd", "a/../../x"] {
        world.manifest["spec"]["artifacts"][0]["path"] = json!(path);
        assert_eq!(world.codes(), [Code::UnsafePath], "{path}");
    }
}

fn judge_all(bytes: &[u8], signatures: &[u8], root: &PinnedRoot) -> bool {
    let floors = autonomy_schema::floors::Floors::default();
    let context = Context {
        root,
        floors: &floors,
        clock: time("2026-11-21T00:00:00Z"),
        released: time("2026-11-01T00:00:00Z"),
        node: None,
        purpose: autonomy_trust::Purpose::Change,
    };
    let signed = Signed { bytes, signatures };
    verify_manifest(signed, &context).is_ok() || PinnedRoot::first(signed).is_ok() || root.successor(signed).is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        signatures in proptest::collection::vec(any::<u8>(), 0..300),
        text in ".{0,300}",
    ) {
        let (root_bytes, root_signatures) = signed_root(&trust_root(), &root_keys());
        let root = PinnedRoot::pinned(Signed { bytes: &root_bytes, signatures: &root_signatures }).expect("a root");
        prop_assert!(!judge_all(&bytes, &signatures, &root));
        prop_assert!(!judge_all(text.as_bytes(), text.as_bytes(), &root));
        // A key, a line: an answer, never a panic.
        prop_assert!(PublicKey::parse_pem(&text).is_err());
        bundle::parse(&signatures, autonomy_schema::Sha256::of(&bytes));
    }

    #[test]
    fn a_damaged_signature_file_never_verifies_as_more(at in 0_usize..900, with in any::<u8>()) {
        let world = World::new();
        let bytes = world.bytes();
        let mut signatures = lines(&manifest_keys()[..1], &bytes);
        let at = at % signatures.len();
        signatures[at] = with;
        prop_assert!(world.verify_bytes(&bytes, &signatures).is_err());
    }

    #[test]
    fn verification_is_a_function_of_its_input(serial in 0_u64..100, label in "[a-z]{1,8}") {
        let mut world = World::new();
        world.manifest["metadata"]["serial"] = json!(serial);
        world.manifest["spec"]["scope"]["matchLabels"] = json!({ "site": label });
        let told = |world: &World| world.verify().map(|v| v.fingerprint()).map_err(|reasons| reasons.to_string());
        prop_assert_eq!(told(&world), told(&world));
        prop_assert_eq!(canonical::to_bytes(&world.manifest).expect("canonical"), world.bytes());
    }
}
