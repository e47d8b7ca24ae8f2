//! The lock of a manifest: pinned bytes, role `artifact`, and the same agent and policy.

use autonomy_schema::lock::{Lock, LockedInputs, LockedPolicy};
use autonomy_schema::{Code, Document as _, Reasons, Sha256, canonical};
use autonomy_trust::{Signed, Verified, verify_lock};
use serde_json::{Value, json};

use crate::support::{Key, World, artifact_keys, codes, lines, manifest_keys};

fn lock(agent: &[u8], policy: &[u8]) -> Lock {
    let policy = LockedPolicy { digest: Sha256::of(policy), semver: "1.4.2".parse().expect("a version") };
    let inputs = LockedInputs { prompt_hash: Sha256::of(b""), tool_inputs_hash: Sha256::of(b"") };
    Lock::new(Sha256::of(agent), policy, inputs).expect("a lock")
}

/// A world whose manifest pins `bytes` as its lock, with `lock`'s fingerprint.
fn world(lock: &Lock, bytes: &[u8]) -> World {
    let mut world = World::new();
    let spec = &mut world.manifest["spec"];
    spec["lock"] = json!({
        "path": "autonomy.lock.json", "size": bytes.len(), "digest": Sha256::of(bytes),
        "fingerprint": lock.behavioral_fingerprint,
    });
    spec["release"]["targetLockFingerprint"] = json!(lock.behavioral_fingerprint);
    spec["artifacts"][0]["digest"] = json!(Sha256::of(b"the agent"));
    spec["policy"]["digest"] = json!(Sha256::of(b"the policy"));
    world
}

fn check(world: &World, bytes: &[u8], signers: &[Key]) -> Result<Verified<Lock>, Reasons> {
    let manifest = world.verify().expect("the manifest is in order");
    let signatures = lines(signers, bytes);
    world.with_context(|context| verify_lock(Signed { bytes, signatures: &signatures }, &manifest, context))
}

fn honest() -> (Lock, Vec<u8>) {
    let lock = lock(b"the agent", b"the policy");
    let bytes = lock.to_canonical().expect("canonical");
    (lock, bytes)
}

#[test]
fn one_artifact_key_suffices() {
    let (lock, bytes) = honest();
    let world = world(&lock, &bytes);
    for key in artifact_keys() {
        let verified = check(&world, &bytes, std::slice::from_ref(&key)).expect("signed");
        assert_eq!(verified.document(), &lock);
        assert_eq!(verified.signers(), [key.id()]);
    }
}

#[test]
fn manifest_keys_cannot_sign_a_lock() {
    let (lock, bytes) = honest();
    assert_eq!(codes(check(&world(&lock, &bytes), &bytes, &manifest_keys())), [Code::BelowThreshold]);
}

#[test]
fn a_lock_that_is_not_the_pinned_one_is_refused() {
    let (lock, bytes) = honest();
    let world = world(&lock, &bytes);
    let other = self::lock(b"the agent", b"another one").to_canonical().expect("canonical");
    assert_eq!(codes(check(&world, &other, &artifact_keys())), [Code::DigestMismatch], "mix and match, well signed");
    let mut longer = bytes.clone();
    longer.push(b' ');
    assert_eq!(codes(check(&world, &longer, &artifact_keys())), [Code::SizeMismatch]);
    let mut flipped = bytes.clone();
    flipped[40] ^= 1;
    let manifest = world.verify().expect("in order");
    let signatures = lines(&artifact_keys()[..1], &bytes);
    let signed = Signed { bytes: &flipped, signatures: &signatures };
    let refused = world.with_context(|context| verify_lock(signed, &manifest, context));
    assert_eq!(codes(refused), [Code::BadSignatureLine, Code::BelowThreshold, Code::DigestMismatch]);
}

#[test]
fn a_lock_of_another_agent_or_policy_is_refused() {
    for (agent, policy, count) in
        [(&b"another"[..], &b"the policy"[..], 1), (b"the agent", b"another", 1), (b"another", b"another", 2)]
    {
        let lock = lock(agent, policy);
        let bytes = lock.to_canonical().expect("canonical");
        let codes = codes(check(&world(&lock, &bytes), &bytes, &artifact_keys()));
        assert_eq!(codes, vec![Code::DigestMismatch; count]);
    }
}

#[test]
fn a_lock_without_its_agent_is_refused() {
    let (lock, bytes) = honest();
    let mut world = world(&lock, &bytes);
    world.manifest["spec"]["artifacts"][0]["name"] = json!("runner");
    assert_eq!(codes(check(&world, &bytes, &artifact_keys())), [Code::DigestMismatch]);
}

#[test]
fn a_lock_whose_fingerprint_lies_is_refused() {
    let (lock, bytes) = honest();
    // The manifest pins bytes whose own fingerprint field does not fit their content.
    let mut value: Value = serde_json::from_slice(&bytes).expect("JSON");
    value["inputs"]["prompt_hash"] = json!(Sha256::of(b"another prompt"));
    let lying = canonical::to_bytes(&value).expect("canonical");
    assert_eq!(codes(check(&world(&lock, &lying), &lying, &artifact_keys())), [Code::DigestMismatch]);
    // A sound lock, but not of the fingerprint that the release promises.
    let other = self::lock(b"the agent", b"another");
    assert_eq!(codes(check(&world(&other, &bytes), &bytes, &artifact_keys())), [Code::DigestMismatch]);
}

#[test]
fn a_revoked_artifact_key_counts_for_nothing() {
    let (lock, bytes) = honest();
    let mut world = world(&lock, &bytes);
    world.floors.revoked.keys = vec![artifact_keys()[0].id()];
    assert_eq!(codes(check(&world, &bytes, &artifact_keys()[..1])), [Code::Revoked]);
    assert!(check(&world, &bytes, &artifact_keys()).is_ok());
    // The list that the manifest brings binds its own lock.
    world.floors.revoked.keys.clear();
    world.manifest["spec"]["revoked"] = json!({"number": 5, "keys": [artifact_keys()[0].id()]});
    assert_eq!(codes(check(&world, &bytes, &artifact_keys()[..1])), [Code::Revoked]);
}

#[test]
fn a_manifest_signed_as_lock_is_refused() {
    let (lock, _) = honest();
    let bytes = World::new().bytes();
    assert_eq!(codes(check(&world(&lock, &bytes), &bytes, &artifact_keys())), [Code::RoleMismatch]);
}
