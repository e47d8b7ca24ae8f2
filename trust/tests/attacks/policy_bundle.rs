//! A policy bundle that comes by itself: role `policy` alone, whatever is in it.

use autonomy_schema::document::MAX_DOCUMENT_BYTES;
use autonomy_schema::root::{Role, RoleKeys};
use autonomy_schema::{Code, Reasons, Sha256};
use autonomy_trust::{Purpose, Signed, verify_policy_bundle};

use crate::support::{Key, World, artifact_keys, codes, lines, manifest_keys, p256_key, root_keys, time};

const BUNDLE: &[u8] = b"bytes that nobody parses";

fn policy_keys() -> Vec<Key> {
    vec![p256_key(61), p256_key(62)]
}

/// A world whose root has role `policy`, 2 of 2.
fn world() -> World {
    let mut world = World::new();
    let keys = policy_keys();
    world.root.keys.extend(keys.iter().map(|key| (key.id(), key.pem())));
    world.root.roles.insert(Role::Policy, RoleKeys { keys: keys.iter().map(Key::id).collect(), threshold: 2 });
    world
}

fn verify(world: &World, bytes: &[u8], signatures: &[u8]) -> Result<Vec<Sha256>, Reasons> {
    world.with_context(|context| verify_policy_bundle(Signed { bytes, signatures }, context))
}

#[test]
fn a_threshold_of_role_policy_and_nobody_else() {
    let world = world();
    let mut ids: Vec<Sha256> = policy_keys().iter().map(Key::id).collect();
    ids.sort();
    assert_eq!(verify(&world, BUNDLE, &lines(&policy_keys(), BUNDLE)).expect("signed"), ids);
    for signers in [policy_keys()[..1].to_vec(), manifest_keys(), artifact_keys(), root_keys(), Vec::new()] {
        assert_eq!(codes(verify(&world, BUNDLE, &lines(&signers, BUNDLE))), [Code::BelowThreshold]);
    }
    let twice = [lines(&policy_keys()[..1], BUNDLE), lines(&policy_keys()[..1], BUNDLE)].concat();
    assert!(codes(verify(&world, BUNDLE, &twice)).contains(&Code::BelowThreshold), "one key counts once");
    assert!(!codes(verify(&world, b"other bytes", &lines(&policy_keys(), BUNDLE))).is_empty());
}

#[test]
fn a_root_without_the_role_lets_nobody_sign() {
    assert_eq!(codes(verify(&World::new(), BUNDLE, &lines(&policy_keys(), BUNDLE))), [Code::BelowThreshold]);
}

#[test]
fn a_bundle_may_be_larger_than_a_document() {
    let large = vec![7; MAX_DOCUMENT_BYTES + 1];
    assert!(verify(&world(), &large, &lines(&policy_keys(), &large)).is_ok());
}

#[test]
fn a_revoked_key_counts_no_more_and_an_expired_root_changes_nothing() {
    let mut revoked = world();
    revoked.floors.revoked.keys = vec![policy_keys()[0].id()].into_iter().collect();
    for purpose in [Purpose::Change, Purpose::Rollback] {
        revoked.purpose = purpose;
        assert_eq!(codes(verify(&revoked, BUNDLE, &lines(&policy_keys(), BUNDLE))), [Code::Revoked]);
    }
    let mut late = world();
    late.clock = time("2028-01-01T00:00:00Z");
    assert_eq!(codes(verify(&late, BUNDLE, &lines(&policy_keys(), BUNDLE))), [Code::Expired]);
    late.purpose = Purpose::Rollback;
    assert!(verify(&late, BUNDLE, &lines(&policy_keys(), BUNDLE)).is_ok(), "what the node has goes on");
}
